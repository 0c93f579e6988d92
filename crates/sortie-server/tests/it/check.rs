//! `sortie check` against real servers: what it finds, what it lets pass, and that it ends.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sortie_testkit::{
    Cluster, LabConfig, Node, Ran, cluster, free_port, newest_cluster, program, run,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::support::{BINARY, among_others};

/// The role that may see everything: replication and settings included.
const ALL: &str = "postgres";

/// A configuration of shards, each a primary and replicas, with the sample table.
fn configuration(shards: &[(String, Vec<String>)]) -> String {
    let mut text = "auth = \"trust\"\n[clusters.bank]\ntables.users.key = \"user_id\"\n".to_owned();
    for (primary, replicas) in shards {
        writeln!(
            text,
            "[[clusters.bank.shards]]\nprimary = \"{primary}\"\nreplicas = {replicas:?}"
        )
        .unwrap();
    }
    text
}

fn shard(cluster: &Cluster, shard: usize, role: &str) -> (String, Vec<String>) {
    let urls = cluster.standbys(shard).iter().map(|standby| standby.url(role)).collect();
    (cluster.primary(shard).url(role), urls)
}

async fn check(text: &str, arguments: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sortie.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["check", "-c"]).arg(&file).args(arguments);
    run(command).await
}

#[track_caller]
fn says(ran: &Ran, success: bool, parts: &[&str]) {
    assert_eq!(ran.success, success, "{}{}", ran.out, ran.err);
    for part in parts {
        assert!(ran.out.contains(part), "{part}:\n{}{}", ran.out, ran.err);
    }
}

async fn small() -> Cluster {
    let mut config = LabConfig::default();
    (config.shards, config.rows) = (1, 100);
    Cluster::private(config).await
}

#[tokio::test]
async fn a_sound_cluster_passes() {
    sound(cluster().await).await;
}

#[tokio::test]
async fn a_sound_cluster_of_the_newest_version_passes() {
    sound(newest_cluster().await).await;
}

async fn sound(cluster: Cluster) {
    let _others = among_others().await;
    let text = configuration(&[shard(&cluster, 0, "reader"), shard(&cluster, 1, "reader")]);
    let ran = check(&text, &[]).await;
    println!("{}", ran.out);
    says(&ran, true, &["hedging works", "hashed by user_id, 2000 rows looked at: fits"]);
    assert_eq!(ran.out.matches(" current\n").count(), 4, "{}", ran.out);
    says(&ran, true, &["everything that is needed works: 0 problems, 0 warnings"]);
    let ran = check(&text, &["--json"]).await;
    says(&ran, true, &["\"works\": true", "\"kind\": \"standby\"", "\"reads\": \"current\""]);
}

#[tokio::test]
async fn a_role_that_sees_little_is_told_what_it_lacks() {
    let _others = among_others().await;
    let cluster = small().await;
    cluster.primary(0).script("CREATE ROLE guest LOGIN").await;
    let text = configuration(&[shard(&cluster, 0, "guest")]);
    let ran = check(&text, &[]).await;
    println!("{}", ran.out);
    says(
        &ran,
        false,
        &[
            "GRANT pg_monitor TO guest",
            "whether it may be behind is unknown",
            "public.users on shard 0: this role may not read it",
            "GRANT SELECT ON \"public\".\"users\"",
        ],
    );
}

#[tokio::test]
async fn pools_of_clusters_on_one_server_are_counted_together() {
    let _others = among_others().await;
    let server = cluster().await.primary(0);
    let limit: u32 = server.script("SHOW max_connections").await.trim().parse().unwrap();
    let of = |name: &str| {
        format!(
            "[clusters.{name}]\npool.connections_max = {}\n[[clusters.{name}.shards]]\n\
             primary = \"{}\"\n",
            limit / 2 + 1,
            server.url("reader"),
        )
    };
    let ran = check(&format!("auth = \"trust\"\n{}{}", of("one"), of("two")), &[]).await;
    let (wanted, name) = (limit / 2 * 2 + 2, server.address());
    let together = format!(
        "{name}: pool.connections_max of the clusters one, two together is {wanted}, and the \
         server takes {limit}"
    );
    says(&ran, true, &[&together]);
    assert_eq!(ran.out.matches("connections_max").count(), 1, "{}", ran.out);
}

#[tokio::test]
async fn urls_alone_are_checked_too() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let mut command = Command::new(BINARY);
    command.arg("check");
    for standby in cluster.standbys(0) {
        command.args(["-d", &standby.url("reader")]);
    }
    let ran = run(command).await;
    says(&ran, true, &["cluster sortie, as role reader", "hedging works", "no primary here"]);
}

#[tokio::test]
async fn rows_that_lie_elsewhere_than_the_hash_says_are_a_problem() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let text = configuration(&[shard(&cluster, 1, ALL), shard(&cluster, 0, ALL)]);
    says(
        &check(&text, &[]).await,
        false,
        &[
            "public.users on shard 0: all of 1000 rows belong to shard 1",
            "public.users on shard 1: all of 1000 rows belong to shard 0",
            "not everything works: 2 problems",
        ],
    );
}

#[tokio::test]
async fn what_the_configuration_gets_wrong_is_a_problem() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let nowhere = format!("postgres://{ALL}@127.0.0.1:{}/sortie", free_port());
    let (primary, standbys) = shard(&cluster, 0, ALL);
    let swapped = configuration(&[(standbys[0].clone(), vec![primary.clone(), nowhere])])
        + "[clusters.bank.tables]\nnobody = { key = \"id\" }\nusers.key = \"nothing\"\n";
    let swapped = swapped.replace("tables.users.key = \"user_id\"\n", "");
    says(
        &check(&swapped, &[]).await,
        false,
        &[
            "NO ANSWER",
            "nobody answers there",
            "it is configured as `primary` and is a standby",
            "public.nobody on shard 0: there is no such table",
            "it has no column `nothing`, its key",
        ],
    );
    let twice = configuration(&[(primary.clone(), vec![]), (standbys[0].clone(), vec![])]);
    let twice = twice.replace("replicas = []\n", "");
    says(&check(&twice, &[]).await, false, &["bank.1: it is the same database as shard 0"]);
    let mixed = configuration(&[(primary, vec![cluster.standby(1, 0).url(ALL)])]);
    says(&check(&mixed, &[]).await, false, &["is no copy of", "system identifier"]);
}

#[tokio::test]
async fn standbys_that_may_be_behind_are_named() {
    let _others = among_others().await;
    let cluster = small().await;
    let (primary, lagging) = (cluster.primary(0), cluster.standby(0, 1));
    let text = configuration(&[shard(&cluster, 0, ALL)]);
    let name = |node: &Node| node.address().to_string();
    primary.script("CREATE TABLE one AS SELECT 1 AS x").await;
    primary.set("synchronous_standby_names", "FIRST 1 (standby_1, standby_2)").await;
    let ran = check(&text, &[]).await;
    let (first, second) = (name(&cluster.standby(0, 0)), name(&lagging));
    says(
        &ran,
        true,
        &[
            &format!("{first}: reads may miss an acknowledged write: only while it is cut off"),
            &format!("{second}: reads may miss an acknowledged write: FIRST 1 of 2"),
            "may be behind",
            "'ANY 2 (\"standby_1\", \"standby_2\")'",
        ],
    );
    primary.set("synchronous_standby_names", "").await;
    let ran = check(&text, &[]).await;
    says(&ran, true, &["the primary waits for no standby"]);
    // Lag is seen in bytes and time, and a replay that stands still has a name.
    lagging.pause_replay().await;
    primary.script("CREATE TABLE more AS SELECT generate_series(1, 200000) AS x").await;
    let ran = check(&text, &[]).await;
    println!("{}", ran.out);
    says(&ran, true, &["replay is paused", "MiB, "]);
    lagging.resume_replay().await;
}

#[tokio::test]
async fn who_does_not_answer_or_let_us_in_is_a_problem_within_the_limit() {
    let _others = among_others().await;
    let cluster = small().await;
    let mut text = configuration(&[shard(&cluster, 0, "reader")]);
    text.push_str("[clusters.bank.users.stranger]\nmode = \"pipe\"\n");
    let stopped = cluster.standby(0, 1);
    cluster.primary(0).script("ALTER ROLE reader PASSWORD 'right'").await;
    stopped.pause().await;
    let secret = "local all all trust\nhost all reader all scram-sha-256\nhost all all all trust\n";
    let locked = cluster.standby(0, 0);
    locked.set_hba(secret).await;
    let began = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sortie.toml");
    std::fs::write(&file, &text).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["check", "--timeout", "3s", "-c"]).arg(&file).env("PGPASSWORD", "wrong");
    let ran = run(command).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let (stopped_name, locked_name) = (stopped.address(), locked.address());
    says(
        &ran,
        false,
        &[
            &format!("{stopped_name}: it did not answer everything within 3s"),
            &format!("{locked_name}: can't connect"),
            "password authentication failed",
            "role stranger can't log in",
        ],
    );
    assert!(!ran.out.contains("wrong") && !ran.err.contains("wrong"), "{}{}", ran.out, ran.err);
    stopped.resume().await;
}

#[tokio::test]
async fn tables_that_differ_are_a_problem() {
    let _others = among_others().await;
    let mut config = LabConfig::default();
    (config.replicas, config.rows) = (1, 100);
    let cluster = Cluster::private(config).await;
    for (at, extra) in [(0, ""), (1, ", ('x')")] {
        let script = format!(
            "CREATE TABLE kinds (kind text); INSERT INTO kinds VALUES ('a'){extra}; \
             CREATE TABLE odd (id uuid); ALTER TABLE users ADD COLUMN added_{at} int"
        );
        cluster.primary(at).script(&script).await;
    }
    let text = configuration(&[shard(&cluster, 0, ALL), shard(&cluster, 1, ALL)])
        + "[clusters.bank.tables]\nkinds.reference = true\nodd.key = \"id\"\n";
    let text = text.replace("tables.users.key = \"user_id\"\n", "") + "users.key = \"user_id\"\n";
    says(
        &check(&text, &[]).await,
        false,
        &[
            "public.kinds: a reference table with different numbers of rows",
            "public.odd on shard 0, public.odd on shard 1: its key `id` is of type uuid",
            "public.users: its columns differ",
            "added_0 integer) on shard 0",
        ],
    );
}

/// A process that is ended when dropped.
struct Ended(Child);

/// A pooler in front of one server.
struct Bouncer {
    listen: SocketAddr,
    folder: tempfile::TempDir,
    _process: Ended,
}

impl Bouncer {
    async fn start(server: &Node, mode: &str, pool: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let users = folder.path().join("users");
        std::fs::write(&users, format!("\"{ALL}\" \"\"\n")).unwrap();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {}\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\n\
             default_pool_size = {pool}\nunix_socket_dir =\n",
            server.address().port(),
            listen.port(),
            users.display(),
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).unwrap();
        let mut command = Command::new(program("pgbouncer"));
        if is_root() {
            // It refuses to run as root, and then needs to read its files.
            command.args(["-u", "nobody"]);
            open(folder.path());
        }
        command.arg("-q").arg(&file).stdin(Stdio::null()).stderr(Stdio::null());
        let process = Ended(command.stdout(Stdio::null()).spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(listen).await.is_err() {
            assert!(Instant::now() < end, "PgBouncer does not listen");
            sleep(Duration::from_millis(20)).await;
        }
        Self { listen, folder, _process: process }
    }

    /// What `sortie check` says of it.
    async fn check(&self) -> Ran {
        let mut command = Command::new(BINARY);
        command.args(["check", "-d", &format!("postgres://{ALL}@{}/sortie", self.listen)]);
        run(command).await
    }

    /// Clients that read all the time.
    fn load(&self, clients: &str) -> Ended {
        let script = self.folder.path().join("load.sql");
        std::fs::write(&script, "SELECT balance FROM users WHERE user_id = 1;\n").unwrap();
        let mut command = Command::new(program("pgbench"));
        command.args(["-n", "-c", clients, "-T", "600", "-h", "127.0.0.1", "-U", ALL, "-p"]);
        command.arg(self.listen.port().to_string()).arg("-f").arg(script).arg("sortie");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ended(command.spawn().unwrap())
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn open(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let all = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(folder, all(0o755)).unwrap();
}

#[tokio::test]
async fn a_pooler_in_between_is_noticed() {
    let _others = among_others().await;
    let cluster = cluster().await;
    for (mode, success, expected) in [
        ("session", true, "a pooler or proxy stands in between"),
        ("transaction", false, "a pooler in transaction mode stands in between"),
    ] {
        let bouncer = Bouncer::start(&cluster.standby(0, 0), mode, 20).await;
        let ran = bouncer.check().await;
        println!("{}", ran.out);
        says(&ran, success, &[expected]);
    }
}

/// Others take the server processes that the check's own sessions have just had.
#[tokio::test]
async fn a_busy_pooler_in_between_is_noticed_every_time() {
    let _others = among_others().await;
    let cluster = cluster().await;
    for (pool, clients) in [(20, "2"), (4, "8")] {
        let bouncer = Bouncer::start(&cluster.standby(0, 0), "transaction", pool).await;
        let load = bouncer.load(clients);
        for _ in 0..8 {
            says(&bouncer.check().await, false, &["a pooler in transaction mode stands in"]);
        }
        drop(load);
    }
}
