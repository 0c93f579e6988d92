//! The configuration is read again under load: what can change does, nobody loses a connection, and
//! what is wrong changes nothing.

use std::fmt::Write;
use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use sortie_testkit::{Batch, Frame, Server, Wire, program, run};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::stage::Stage;
use crate::support::{BINARY, among_others};
use crate::tls;

/// Longer than anything here takes.
const WITHIN: Duration = Duration::from_secs(60);

/// How often the configuration is read again under load.
const RELOADS: usize = 36;

/// An endpoint, and the folder of its files.
struct Endpoint {
    server: Server,
    folder: TempDir,
    stage: Stage,
}

/// What a file says.
#[derive(Clone, Default)]
struct File {
    top: &'static str,
    cluster: &'static str,
    pool: u32,
    standby: bool,
    users: &'static str,
    more: String,
}

impl File {
    fn new() -> Self {
        Self { pool: 8, standby: true, ..Self::default() }
    }

    fn text(&self, stage: &Stage) -> String {
        let url = |server: SocketAddr| format!("\"postgres://tester@{server}/postgres\"");
        let Self { top, cluster, pool, standby, users, more } = self;
        let mut text = format!("auth = \"trust\"\n{top}\n[clusters.postgres]\n{cluster}\n");
        writeln!(text, "pipe_target = \"primary\"").unwrap();
        writeln!(text, "[clusters.postgres.pool]\nconnections_max = {pool}").unwrap();
        writeln!(text, "{users}\n[[clusters.postgres.shards]]").unwrap();
        writeln!(text, "primary = {}", url(stage.primary())).unwrap();
        if *standby {
            let standby = stage.cluster.standby(0, 0).address();
            writeln!(text, "replicas = [{}]", url(standby)).unwrap();
        }
        text.push_str(more);
        text
    }

    /// The same servers as another cluster.
    fn with_another(mut self, name: &str, stage: &Stage) -> Self {
        let primary = stage.primary();
        self.more = format!(
            "[[clusters.{name}.shards]]\nprimary = \"postgres://tester@{primary}/postgres\"\n"
        );
        self
    }
}

impl Endpoint {
    async fn new(file: &File) -> Self {
        let stage = Stage::take().await;
        let folder = tempfile::tempdir().unwrap();
        tls::certify(&folder);
        let path = folder.path().join("sortie.toml");
        fs::write(&path, file.text(&stage)).unwrap();
        let server = Server::start(BINARY, &["-c", path.to_str().unwrap()]).await;
        Self { server, folder, stage }
    }

    fn listen(&self) -> SocketAddr {
        self.server.listen()
    }

    fn write(&self, text: &str) {
        // As a whole: nobody reads the half of it.
        let (new, path) = (self.folder.path().join("new"), self.folder.path().join("sortie.toml"));
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    async fn reloads(&self, outcome: &str) -> f64 {
        let label = format!("outcome=\"{outcome}\"");
        self.server.metrics().await.sum("sortie_config_reloads_total", &[&label])
    }

    /// Has the file read again by a signal, and waits until that has this outcome.
    async fn hang_up(&self, outcome: &str) {
        let before = self.reloads(outcome).await;
        self.server.signal("HUP");
        let is_done = async || self.reloads(outcome).await > before;
        until(is_done, || format!("not {outcome}:\n{}", self.server.output())).await;
    }

    async fn change(&self, file: &File) {
        self.write(&file.text(&self.stage));
        self.hang_up("applied").await;
    }

    /// Has the file read again by the admin address.
    async fn post(&self) -> (bool, String) {
        let mut stream = TcpStream::connect(self.server.admin()).await.unwrap();
        let request = b"POST /reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.starts_with("HTTP/1.1 200"), body.trim().to_owned())
    }

    async fn stop(self) {
        self.server.abandoned().await;
        self.server.stop().await;
    }
}

async fn until<F: Future<Output = bool>>(is: impl Fn() -> F, otherwise: impl Fn() -> String) {
    let end = Instant::now() + WITHIN;
    while !is().await {
        assert!(Instant::now() < end, "{}", otherwise());
        sleep(Duration::from_millis(20)).await;
    }
}

/// Asks again and again, in both lanes; returns how often.
async fn ask(listen: SocketAddr, kind: usize, stop: watch::Receiver<bool>) -> usize {
    let mut wire = Wire::connect(listen).await;
    let named = Batch::new().parse("s", "SELECT label FROM items WHERE id = $1", &[23]).sync();
    good(&wire.ask(&named).await);
    let bound = Batch::new().bind("", "s", (0, &[Some(b"7")]), 0).execute("").sync();
    let mut count = 0;
    while !*stop.borrow() {
        let batch = match (kind + count) % 5 {
            0 => Batch::new().query("SELECT count(*) FROM items"),
            1 => Batch::new().query("SELECT clock_timestamp(), count(*) FROM items"),
            2 => bound.clone(),
            3 => Batch::new()
                .query("BEGIN")
                .query("SELECT id FROM marks ORDER BY id LIMIT 1 FOR SHARE")
                .query("SELECT count(*) FROM items")
                .query("COMMIT"),
            _ => {
                // Somebody new.
                wire = Wire::connect(listen).await;
                good(&wire.ask(&named).await);
                Batch::new().query("SELECT label FROM items WHERE id = 7")
            }
        };
        good(&wire.ask(&batch).await);
        count += 1;
    }
    count
}

fn good(frames: &[Frame]) {
    let report = frames.iter().find_map(Frame::report);
    assert!(report.is_none(), "{report:?}");
}

#[tokio::test]
async fn under_load_no_connection_is_lost_and_nothing_fails() {
    let _others = among_others().await;
    let tls = "tls = \"allow\"\ntls_certificate = \"server.crt\"\ntls_key = \"server.key\"";
    let plain = File::new();
    let endpoint = Endpoint::new(&plain).await;
    let (stop, stopped) = watch::channel(false);
    let mut asking = JoinSet::new();
    for kind in 0..6 {
        asking.spawn(ask(endpoint.listen(), kind, stopped.clone()));
    }
    let mut pgbench = Command::new(program("pgbench"));
    let port = endpoint.listen().port().to_string();
    pgbench.args(["-n", "-M", "prepared", "-c", "4", "-T", "600", "-h", "127.0.0.1", "-p", &port]);
    let script = endpoint.folder.path().join("script.sql");
    fs::write(&script, "SELECT label FROM items WHERE id = 7;\nSELECT clock_timestamp();\n")
        .unwrap();
    let pidfile = endpoint.folder.path().join("pid");
    pgbench.args(["-U", "tester", "-f", script.to_str().unwrap(), "postgres"]);
    let mut shell = Command::new("bash");
    shell.args(["-c", "\"$@\" & echo $! > \"$PIDFILE\"; wait $!", "bash"]);
    shell.env("PIDFILE", &pidfile).arg(pgbench.get_program()).args(pgbench.get_args());
    let mut benching = JoinSet::new();
    benching.spawn(run(shell));
    for round in 0..RELOADS {
        let file = match round % 6 {
            0 => File { pool: 3, ..plain.clone() },
            1 => File { standby: false, pool: 12, ..plain.clone() },
            2 => File { top: tls, cluster: "hedge = \"20ms\"", ..plain.clone() },
            3 => {
                tls::certify(&endpoint.folder);
                let users = "[clusters.postgres.users.writer]\nmode = \"pipe\"";
                File { top: tls, users, ..plain.clone() }
            }
            4 => plain.clone().with_another("more", &endpoint.stage),
            _ => File { cluster: "mode = \"pipe\"", top: "connections_max = 200", ..plain.clone() },
        };
        endpoint.change(&file).await;
    }
    let pid = fs::read_to_string(&pidfile).unwrap();
    assert!(benching.try_join_next().is_none(), "pgbench has ended before it was told to");
    stop.send_replace(true);
    let mut count = 0;
    while let Some(asked) = asking.join_next().await {
        count += asked.expect("every answer is good");
    }
    assert!(count > RELOADS, "only {count} batches");
    let mut kill = Command::new("bash");
    kill.args(["-c", &format!("kill -TERM {}", pid.trim())]);
    run(kill).await;
    let ran = benching.join_next().await.unwrap().unwrap();
    assert!(!ran.err.contains("aborted") && !ran.err.contains("ERROR"), "{}", ran.err);
    assert!(endpoint.reloads("refused").await < 1.0);
    println!("{count} batches during {RELOADS} reloads");
    endpoint.stop().await;
}

#[tokio::test]
async fn what_is_wrong_changes_nothing_and_is_told_with_its_place_whoever_asks() {
    let _others = among_others().await;
    let endpoint = Endpoint::new(&File::new()).await;
    let mut wire = Wire::connect(endpoint.listen()).await;
    let good = File { pool: 9, ..File::new() }.text(&endpoint.stage);
    let file = endpoint.folder.path().join("sortie.toml").display().to_string();
    let users = "users = \"nobody.txt\"";
    for (text, expected) in [
        (good.replace("pool]", "pool"), format!("{file}:")),
        (good.replace("connections_max", "connection_max"), "did you mean".to_owned()),
        (good.replace("\"trust\"", &format!("\"scram\"\n{users}")), "nobody.txt".to_owned()),
        (format!("tls = \"allow\"\n{good}"), "all three".to_owned()),
    ] {
        endpoint.write(&text);
        endpoint.hang_up("refused").await;
        let (done, said) = endpoint.post().await;
        assert!(!done && said.starts_with("nothing has changed: "), "{said}");
        assert!(said.contains(&expected) && said.contains(&file), "{said}");
        let log = endpoint.server.output();
        let first = format!("{:?}", said.lines().next().unwrap());
        assert!(log.contains(first.trim_matches('"')), "the signal says the same: {log}");
    }
    fs::remove_file(&file).unwrap();
    let (done, said) = endpoint.post().await;
    assert!(!done && said.contains("No such file"), "{said}");
    assert_eq!(wire.rows("SELECT 1").await.len(), 1);

    endpoint.write(&good);
    let told = "cluster postgres: pool.connections_max 8 -> 9";
    assert_eq!(endpoint.post().await, (true, told.to_owned()));
    assert_eq!(endpoint.post().await, (true, "the same as before".to_owned()));
    assert!(endpoint.server.output().contains("pool.connections_max 8 -> 9"));
    drop(wire);
    endpoint.stop().await;
}

/// What a session is told at its end.
async fn farewell(wire: &mut Wire) -> (String, String) {
    let told = tokio::time::timeout(WITHIN, async {
        while let Some(frame) = wire.frame().await {
            if let Some(report) = frame.report() {
                return (report.sqlstate, report.detail);
            }
        }
        panic!("it ends without a word");
    });
    told.await.expect("it ends")
}

#[tokio::test]
async fn a_role_or_cluster_that_is_gone_ends_its_sessions_behind_their_transactions() {
    let _others = among_others().await;
    let other = "[clusters.postgres.users.other]";
    let with = File { users: other, ..File::new() };
    let endpoint = Endpoint::new(&with).await;
    with_role(&endpoint.stage).await;
    let listen = endpoint.listen();
    let mut stays = Wire::connect(listen).await;
    let mut idle = Wire::connect_as(listen, "other").await;
    let mut busy = Wire::connect_as(listen, "other").await;
    busy.simple("BEGIN").await;
    busy.rows("SELECT pg_backend_pid()").await;
    let mut dirty = Wire::connect_as(listen, "other").await;
    dirty.simple("CREATE TEMP TABLE mine (x int)").await;
    endpoint.change(&File::new()).await;
    for wire in [&mut idle, &mut dirty] {
        let (sqlstate, detail) = farewell(wire).await;
        assert_eq!(sqlstate, "57P01");
        assert!(detail.contains("role \"other\""), "{detail}");
    }
    assert_eq!(busy.rows("SELECT 2").await[0][0].as_deref(), Some("2"), "its transaction goes on");
    busy.send(Batch::new().query("COMMIT").bytes()).await;
    assert_eq!(farewell(&mut busy).await.0, "57P01");
    let refused = Wire::try_connect(listen, "other").await.expect_err("it may not come");
    let refused = refused.iter().find_map(Frame::report).unwrap();
    assert!(refused.message.contains("may not start a session"), "{refused:?}");
    assert_eq!(stays.rows("SELECT 3").await.len(), 1);

    // It may come again, and what differs for it holds.
    endpoint.change(&with).await;
    let mut back = Wire::connect_as(listen, "other").await;
    assert_eq!(back.rows("SELECT 4").await.len(), 1);
    endpoint.change(&File::new().with_another("more", &endpoint.stage)).await;
    let mut there = Wire::try_connect_to(listen, "tester", "more").await.unwrap();
    assert_eq!(there.rows("SELECT 5").await.len(), 1);
    endpoint.change(&File::new()).await;
    let (sqlstate, detail) = farewell(&mut there).await;
    assert!(sqlstate == "57P01" && detail.contains("cluster \"more\""), "{detail}");
    drop((stays, back, busy, idle, dirty));
    endpoint.stop().await;
}

async fn with_role(stage: &Stage) {
    let make = "DO $$ BEGIN CREATE ROLE other LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; \
                END $$";
    stage.cluster.primary(0).script_in("postgres", make).await;
}

#[tokio::test]
async fn sessions_go_over_to_what_is_configured_now() {
    let _others = among_others().await;
    let endpoint = Endpoint::new(&File::new()).await;
    let listen = endpoint.listen();
    let mut wire = Wire::connect(listen).await;
    let lane = async |lane: &str| {
        let label = format!("lane=\"{lane}\"");
        endpoint.server.metrics().await.sum("sortie_lane_statements_total", &[&label])
    };
    let mut ask = async |expected: &str| {
        let before = lane(expected).await;
        wire.rows("SELECT label FROM items WHERE id = 7").await;
        let now = lane(expected).await;
        assert!((now - before - 1.0).abs() < 0.5, "{before} to {now} in the {expected} lane");
    };
    ask("shared").await;
    endpoint.change(&File { cluster: "mode = \"pipe\"", ..File::new() }).await;
    ask("pipe").await;
    endpoint.change(&File { standby: false, ..File::new() }).await;
    ask("shared").await;
    // A replica that is gone has no connection any more: neither of reads nor of the watch.
    let standby = endpoint.stage.cluster.standby(0, 0);
    let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tester'";
    let is_left = async || standby.script_in("postgres", count).await.trim() == "0";
    until(is_left, || format!("still there:\n{}", endpoint.server.output())).await;
    endpoint.change(&File::new()).await;
    ask("shared").await;
    endpoint.change(&File { users: "[clusters.postgres.users.x]", ..File::new() }).await;
    ask("shared").await;
    drop(wire);
    endpoint.stop().await;
}

#[tokio::test]
async fn new_connections_see_the_new_certificate() {
    let _others = among_others().await;
    let top = "tls = \"allow\"\ntls_certificate = \"server.crt\"\ntls_key = \"server.key\"";
    let endpoint = Endpoint::new(&File { top, ..File::new() }).await;
    let folder = endpoint.folder.path();
    fs::copy(folder.join("root.crt"), folder.join("first.crt")).unwrap();
    let ask = async |root: &str| {
        let port = endpoint.listen().port();
        let root = folder.join(root);
        let to = format!(
            "host=localhost hostaddr=127.0.0.1 port={port} user=tester dbname=postgres \
             sslmode=verify-full sslrootcert={}",
            root.display(),
        );
        crate::auth::psql(&to, "").await
    };
    assert_eq!(ask("first.crt").await.out.trim(), "tester");
    tls::certify(&endpoint.folder);
    assert_eq!(ask("first.crt").await.out.trim(), "tester", "nobody was told yet");
    endpoint.hang_up("applied").await;
    assert_eq!(ask("root.crt").await.out.trim(), "tester");
    assert!(!ask("first.crt").await.success, "it is another one");
    let key = fs::read(folder.join("other.crt")).unwrap();
    fs::write(folder.join("server.key"), key).unwrap();
    endpoint.hang_up("refused").await;
    assert_eq!(ask("root.crt").await.out.trim(), "tester", "as before");
    endpoint.stop().await;
}
