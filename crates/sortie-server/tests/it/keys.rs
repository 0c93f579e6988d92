//! Clients come as who they are, and go on as that: their keys log in to the servers, and the
//! servers say who they are.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sortie_testkit::{Cluster, LabConfig, Node, Ran, Server, differ, program, run};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::support::{BINARY, among_others, answers, refuses};

const READ: &str = "SELECT label FROM items WHERE id = 7";
const WITHIN: Duration = Duration::from_secs(30);

/// Roles with passwords, for whom the server asks; the cluster's own is trusted.
async fn prepared() -> (Cluster, Node) {
    let mut config = LabConfig::default();
    (config.shards, config.replicas, config.sample) = (1, 0, false);
    let cluster = Cluster::private(config).await;
    let primary = cluster.primary(0);
    primary.script_in("postgres", differ::prepare()).await;
    let roles = "CREATE ROLE keeper LOGIN;
        CREATE ROLE alice LOGIN PASSWORD 'alices'; CREATE ROLE bob LOGIN PASSWORD 'bobs';
        GRANT SELECT ON items TO alice, keeper; REVOKE ALL ON items FROM bob, PUBLIC;
        CREATE SCHEMA ops; GRANT USAGE ON SCHEMA ops TO keeper;
        CREATE FUNCTION ops.find_user(wanted text, OUT name text, OUT secret text)
        RETURNS SETOF record LANGUAGE sql SECURITY DEFINER AS $$
            SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid WHERE rolname = wanted
        $$;
        REVOKE ALL ON FUNCTION ops.find_user FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION ops.find_user TO keeper;";
    primary.script_in("postgres", roles).await;
    let hba = "host all alice,bob all scram-sha-256\nhost all all all trust\nlocal all all trust";
    primary.set_hba(hba).await;
    (cluster, primary)
}

async fn serve(folder: &TempDir, primary: &Node, front: &str, cluster: &str) -> Server {
    let address = primary.address();
    let text = format!(
        "auth = \"scram\"\n{front}\n[clusters.postgres]\n{cluster}\n[[clusters.postgres.shards]]\n\
         primary = \"postgres://keeper@{address}/postgres\"\n"
    );
    let file = folder.path().join("sortie.toml");
    fs::write(&file, text).unwrap();
    Server::start(BINARY, &["-c", file.to_str().unwrap()]).await
}

async fn ask(server: SocketAddr, (role, password): (&str, &str), sql: &str) -> Ran {
    let mut psql = Command::new(program("psql"));
    psql.args(["-X", "-A", "-t", "-w", "-h", "127.0.0.1", "-p", &server.port().to_string()]);
    psql.args(["-U", role, "-d", "postgres", "-c", sql]).env("PGPASSWORD", password);
    run(psql).await
}

fn write(folder: &Path, lines: &str) {
    let file = folder.join("users.txt");
    fs::write(&file, lines).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn of_clients_log_in_to_servers_with_the_same_secret() {
    let _others = among_others().await;
    let (_cluster, primary) = prepared().await;
    let folder = tempfile::tempdir().unwrap();
    let lines = "SELECT format('\"%s\" \"%s\"', rolname, rolpassword) FROM pg_authid \
                 WHERE rolname IN ('alice', 'bob')";
    let theirs = primary.script_in("postgres", lines).await;
    let bobs = theirs.lines().find(|line| line.contains("bob")).unwrap();
    write(folder.path(), &theirs);
    let server = serve(&folder, &primary, "users = \"users.txt\"", "").await;
    // No role but the cluster's own is named: whoever proves who it is may come, as who it is.
    let whoami = "SELECT current_user, session_user";
    answers(&ask(server.listen(), ("alice", "alices"), whoami).await, "alice|alice");
    answers(&ask(server.listen(), ("bob", "bobs"), whoami).await, "bob|bob");
    refuses(
        &ask(server.listen(), ("alice", "bobs"), whoami).await,
        "password authentication failed",
    );
    // In the shared lane as well: grants hold for what is answered there.
    let began = Instant::now();
    let shared =
        async || server.metrics().await.sum("sortie_lane_statements_total", &["lane=\"shared\""]);
    while shared().await < 0.5 {
        answers(&ask(server.listen(), ("alice", "alices"), READ).await, "item 7");
        assert!(began.elapsed() < WITHIN, "nothing is shared");
    }
    refuses(&ask(server.listen(), ("bob", "bobs"), READ).await, "permission denied");
    server.stop().await;
    // Another salt makes other keys: the client is told, and what mends it.
    let mut made = Command::new("bash");
    made.args(["-c", "printf alices | \"$0\" user alice", BINARY]);
    let ours = run(made).await.out;
    write(folder.path(), &format!("{ours}{bobs}\n"));
    let server = serve(&folder, &primary, "users = \"users.txt\"", "").await;
    let refused = ask(server.listen(), ("alice", "alices"), whoami).await;
    refuses(&refused, "password authentication failed for user \"alice\"");
    refuses(&refused, "copy it from pg_authid");
    answers(&ask(server.listen(), ("bob", "bobs"), whoami).await, "bob|bob");
    server.stop().await;
    // Unless the role has a password of its own there.
    fs::write(folder.path().join("alice"), "alices").unwrap();
    let own = "users.alice.password_file = \"alice\"";
    let server = serve(&folder, &primary, "users = \"users.txt\"", own).await;
    answers(&ask(server.listen(), ("alice", "alices"), whoami).await, "alice|alice");
    server.stop().await;
}

#[tokio::test]
async fn of_users_that_no_file_has_are_found_by_a_query() {
    let _others = among_others().await;
    let (_cluster, primary) = prepared().await;
    let folder = tempfile::tempdir().unwrap();
    let query = "auth_query = \"SELECT name, secret FROM ops.find_user($1)\"";
    let server = serve(&folder, &primary, "", query).await;
    let (whoami, listen) = ("SELECT current_user", server.listen());
    answers(&ask(listen, ("alice", "alices"), whoami).await, "alice");
    let failed = "password authentication failed for user";
    for (role, password) in
        [("alice", "bobs"), ("nobody", "x"), ("keeper", "x"), ("x' OR true --", "x")]
    {
        refuses(&ask(listen, (role, password), whoami).await, failed);
    }
    // A new password is heard of after a first refusal.
    primary.script_in("postgres", "ALTER ROLE alice PASSWORD 'new'").await;
    let began = Instant::now();
    loop {
        let ran = ask(listen, ("alice", "new"), whoami).await;
        if ran.success {
            break;
        }
        refuses(&ran, failed);
        assert!(began.elapsed() < WITHIN, "the new password is not heard of");
        sleep(Duration::from_millis(300)).await;
    }
    refuses(&ask(listen, ("alice", "alices"), whoami).await, failed);
    server.stop().await;
}

#[tokio::test]
async fn are_asked_of_nothing_that_a_client_could_have_put_there() {
    let _others = among_others().await;
    let (_cluster, primary) = prepared().await;
    let folder = tempfile::tempdir().unwrap();
    let trap = "CREATE FUNCTION public.find_user(wanted text, OUT name text, OUT secret text)
        RETURNS record LANGUAGE sql AS $$ SELECT wanted, 'trapped' $$;";
    primary.script_in("postgres", trap).await;
    let server =
        serve(&folder, &primary, "", "auth_query = \"SELECT name, secret FROM find_user($1)\"")
            .await;
    let refused = ask(server.listen(), ("alice", "alices"), "SELECT 1").await;
    refuses(&refused, "it can't be found out who may connect");
    assert!(server.output().contains("find_user(text) does not exist"), "{}", server.output());
    server.stop().await;
}
