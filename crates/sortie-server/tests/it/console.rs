//! The admin database, with the clients that people use.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use sortie_testkit::{Batch, Frame, Postgres, Ran, Server, Wire, program, python, run, workspace};
use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use crate::support::{BINARY, among_others, answers, refuses};

/// Longer than anything here takes by itself.
const WITHIN: Duration = Duration::from_secs(20);

/// PostgreSQL, and sortie in front of it: `lines` are more of the configuration's first ones.
pub(crate) struct Place {
    pub(crate) postgres: Postgres,
    pub(crate) server: Server,
    _config: NamedTempFile,
}

impl Place {
    pub(crate) async fn with(lines: &str, of_cluster: &str) -> Self {
        let postgres = Postgres::start().await;
        let roles = "CREATE ROLE tester LOGIN; CREATE ROLE ops LOGIN; CREATE TABLE t (a int);\n\
                     INSERT INTO t SELECT generate_series(1, 100); GRANT ALL ON t TO tester;";
        postgres.script(roles).await;
        let url = format!("postgres://tester@{}/postgres", postgres.listen());
        let text = format!(
            "auth = \"trust\"\n{lines}\n[clusters.bank]\npipe_target = \"primary\"\n{of_cluster}\n\
             [[clusters.bank.shards]]\nprimary = \"{url}\"\n"
        );
        let mut config = NamedTempFile::new().unwrap();
        config.write_all(text.as_bytes()).unwrap();
        let path = config.path().display().to_string();
        let server = Server::start(BINARY, &["-c", &path]).await;
        Self { postgres, server, _config: config }
    }

    /// psql in the admin database.
    pub(crate) async fn asks(&self, user: &str, command: &str) -> Ran {
        psql(self.server.listen(), user, "sortie", &["-c", command]).await
    }

    pub(crate) async fn wire(&self, user: &str, database: &str) -> Wire {
        Wire::try_connect_to(self.server.listen(), user, database).await.unwrap()
    }

    /// The rows of a table, by their columns' names.
    pub(crate) async fn rows(&self, what: &str) -> Vec<HashMap<String, String>> {
        let mut wire = self.wire("tester", "sortie").await;
        let frames = wire.simple(&format!("SHOW {what}")).await;
        table(&frames)
    }

    pub(crate) async fn stop(self) {
        self.server.idle().await;
        self.server.stop().await;
        self.postgres.stop().await;
    }
}

/// psql as somebody; rows bare.
pub(crate) async fn psql(
    server: SocketAddr,
    user: &str,
    database: &str,
    arguments: &[&str],
) -> Ran {
    let mut command = Command::new(program("psql"));
    command.args(["-X", "-A", "-t", "-w", "-h", &server.ip().to_string()]);
    command.args(["-p", &server.port().to_string(), "-U", user, "-d", database]);
    command.args(arguments);
    run(command).await
}

/// The columns that an answer describes: names and types.
fn columns(frames: &[Frame]) -> Vec<(String, u32)> {
    let head =
        frames.iter().find(|frame| frame.tag == b'T').unwrap_or_else(|| panic!("{frames:?}"));
    let mut body = &head.body[2..];
    let mut columns = Vec::new();
    while let Some(end) = body.iter().position(|byte| *byte == 0) {
        let name = String::from_utf8(body[..end].to_vec()).unwrap();
        let oid = body[end + 7..end + 11].try_into().unwrap();
        columns.push((name, u32::from_be_bytes(oid)));
        body = &body[end + 19..];
    }
    columns
}

/// An answer's rows, by their columns' names; what is NULL is left out.
pub(crate) fn table(frames: &[Frame]) -> Vec<HashMap<String, String>> {
    let names = columns(frames);
    let rows = frames.iter().filter(|frame| frame.tag == b'D');
    let row = |frame: &Frame| {
        let cells = frame.row().into_iter().flatten().zip(&names);
        cells.filter_map(|(cell, (name, _))| Some((name.clone(), cell?))).collect()
    };
    rows.map(row).collect()
}

/// Waits until that holds.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < WITHIN, "it never is so");
        sleep(Duration::from_millis(20)).await;
    }
}

/// What the pool of `tester` in the cluster has, by its column's name.
async fn pool(place: &Place, column: &str) -> u32 {
    let rows = place.rows("POOLS").await;
    let of = |row: &&HashMap<String, String>| row["database"] == "bank" && row["user"] == "tester";
    rows.iter().find(of).map_or(0, |row| row[column].parse().unwrap())
}

#[tokio::test]
async fn psql_sees_who_is_there_and_what_was_done() {
    let _others = among_others().await;
    let place = Place::with("", "").await;
    let listen = place.server.listen();
    let mut idle = place.wire("tester", "bank").await;
    for _ in 0..3 {
        idle.rows("SELECT count(*), now() FROM t").await;
    }
    let mut busy = place.wire("tester", "bank").await;
    busy.rows("BEGIN; SELECT now()").await;
    let clients = place.rows("CLIENTS").await;
    let ours: Vec<_> = clients.iter().filter(|row| row["database"] == "bank").collect();
    assert_eq!(ours.len(), 2, "{clients:?}");
    for client in &ours {
        assert_eq!((&*client["state"], &*client["user"]), ("active", "tester"));
        assert_eq!(client["addr"], "127.0.0.1");
        assert_eq!(client["local_port"], listen.port().to_string());
        assert!(client["connect_time"].ends_with(" UTC"), "{client:?}");
    }
    let servers = place.rows("SERVERS").await;
    // What looks at the catalogs may have one, too, and is no client.
    let is_ours =
        |row: &&HashMap<String, String>| row["state"] == "active" && !row["link"].is_empty();
    let active: Vec<_> = servers.iter().filter(is_ours).collect();
    assert_eq!(active.len(), 1, "{servers:?}");
    let linked = ours.iter().find(|client| !client["link"].is_empty()).unwrap();
    assert_eq!((&linked["link"], &linked["ptr"]), (&active[0]["ptr"], &active[0]["link"]));
    let process = busy.rows("SELECT pg_backend_pid()").await[0][0].clone().unwrap();
    assert_eq!(active[0]["remote_pid"], process);
    busy.rows("COMMIT").await;

    assert_eq!(pool(&place, "cl_active").await, 2);
    assert_eq!(pool(&place, "cl_waiting").await, 0);
    until(async || pool(&place, "sv_active").await == 0 && pool(&place, "sv_idle").await >= 1)
        .await;
    let stats = place.rows("STATS").await;
    let bank = stats.iter().find(|row| row["database"] == "bank").unwrap();
    let number = |name: &str| bank[name].parse::<u64>().unwrap();
    // What psql calls one query are two statements here, in one transaction.
    assert!((5..=8).contains(&number("total_query_count")), "{bank:?}");
    assert!((4..=5).contains(&number("total_xact_count")), "{bank:?}");
    assert!(number("total_received") > 100 && number("total_sent") > 100, "{bank:?}");
    assert!(number("total_query_time") > 0, "{bank:?}");
    assert!(number("total_xact_time") >= number("total_query_time"), "{bank:?}");
    assert!(number("avg_query_time") > 0 && number("avg_recv") > 0, "{bank:?}");

    drop((idle, busy));
    until(async || pool(&place, "cl_active").await == 0).await;
    let after = place.rows("STATS_TOTALS").await;
    let after = after.iter().find(|row| row["database"] == "bank").unwrap();
    assert!(after["query_count"].parse::<u64>().unwrap() >= number("total_query_count"));
    let help = place.asks("tester", "show help;").await;
    assert!(help.success && help.err.contains("SHOW POOLS"), "{help:?}");
    refuses(&place.asks("tester", "SHOW POLS").await, "Did you mean SHOW POOLS?");
    refuses(&place.asks("tester", "SELECT 1").await, "invalid command 'SELECT 1'");
    answers(
        &place.asks("tester", "SHOW VERSION").await,
        concat!("sortie ", env!("CARGO_PKG_VERSION")),
    );
    place.stop().await;
}

#[tokio::test]
async fn columns_are_pgbouncers() {
    let _others = among_others().await;
    let place = Place::with("", "").await;
    let theirs = crate::pgbouncer::PgBouncer::start(place.postgres.listen(), 5).await;
    let mut wire = place.wire("tester", "sortie").await;
    let mut their = Wire::try_connect_to(theirs.listen(), "tester", "pgbouncer").await.unwrap();
    for what in [
        "POOLS",
        "CLIENTS",
        "SERVERS",
        "STATS",
        "STATS_TOTALS",
        "STATS_AVERAGES",
        "LISTS",
        "MEM",
        "CONFIG",
        "VERSION",
        "DATABASES",
        "USERS",
        "TOTALS",
    ] {
        let ask = format!("SHOW {what};");
        let (ours, theirs) = (wire.simple(&ask).await, their.simple(&ask).await);
        let (names, known) = (columns(&ours), columns(&theirs));
        // Newer ones have more behind these, as has sortie.
        assert!(names.len() >= known.len(), "{what}: {names:?}");
        assert_eq!(names[..known.len()], known, "{what}");
        let tags = [&ours, &theirs].map(|frames| frames.iter().find(|it| it.tag == b'C').cloned());
        assert_eq!(tags[0], tags[1], "{what}");
    }
    let lists = |frames: &[Frame]| {
        let rows = table(frames);
        rows.iter().map(|row| row["list"].clone()).collect::<Vec<_>>()
    };
    let ours = wire.simple("SHOW LISTS").await;
    assert_eq!(lists(&ours), lists(&their.simple("SHOW LISTS").await));
    place.stop().await;
}

/// The queries of `prometheus-community/pgbouncer_exporter`, and the columns that it looks for.
#[tokio::test]
async fn what_an_exporter_asks_for_is_there() {
    let _others = among_others().await;
    let place = Place::with("", "").await;
    let mut client = place.wire("tester", "bank").await;
    client.rows("SELECT count(*) FROM t").await;
    let mut python = Command::new(python());
    python.arg(workspace().join("tests/clients/pgbouncer_exporter.py"));
    python.arg(place.server.listen().port().to_string());
    let ran = run(python).await;
    assert!(ran.success, "{}\n{}", ran.out, ran.err);
    for series in [
        "pgbouncer_up 1",
        "pgbouncer_databases_max_connections{name=\"bank\",host=\"127.0.0.1\"",
        "pgbouncer_stats_totals_queries_pooled_total{database=\"bank\"}",
        "pgbouncer_pools_client_active_connections{database=\"bank\",user=\"tester\"} 1",
        "pgbouncer_used_clients 2",
        "pgbouncer_config_max_client_connections 900",
        "pgbouncer_version_info{version=\"sortie",
    ] {
        assert!(ran.out.contains(series), "{series}:\n{}", ran.out);
    }
    place.stop().await;
}

#[tokio::test]
async fn both_protocols_are_spoken_and_transactions_are_only_answered() {
    let _others = among_others().await;
    let place = Place::with("", "").await;
    let mut wire = place.wire("tester", "sortie").await;
    let prepared = Batch::new().parse("s", "show lists", &[]).describe(b'S', "s").sync();
    let frames = wire.ask(&prepared).await;
    assert_eq!(columns(&frames)[0].0, "list");
    // All columns in the binary format: of the type `int4`, and of `numeric`.
    let frames = wire.ask(&Batch::new().bind("", "s", (0, &[]), 1).execute("").sync()).await;
    let row = frames.iter().find(|frame| frame.tag == b'D').unwrap();
    assert_eq!(&row.body[row.body.len() - 8..], b"\0\0\0\x04\0\0\0\x02", "{row:?}");
    let wrong = wire.ask(&Batch::new().parse("", "SHOW nothing", &[]).execute("").sync()).await;
    assert_eq!(crate::relay::error(&wrong), "42601");
    assert_eq!(crate::relay::error(&wire.simple("RESUME").await), "55000");
    let frames = wire.simple("BEGIN; SHOW VERSION; SHOW LISTS").await;
    assert_eq!(frames.iter().filter(|frame| frame.tag == b'T').count(), 2);
    assert_eq!(frames.last().unwrap().body[..], b"T"[..]);
    wire.simple("SHOW nothing").await;
    let frames = wire.simple("COMMIT").await;
    assert_eq!(&frames[0].body[..], b"ROLLBACK\0");
    assert_eq!(wire.simple(" ; ").await[0].tag, b'I');

    let script = "import sys, psycopg\n\
        to = f'host=127.0.0.1 port={sys.argv[1]} user=tester dbname=sortie'\n\
        for autocommit in (True, False):\n\
        \x20   with psycopg.connect(to, autocommit=autocommit) as c:\n\
        \x20       for binary in (False, True):\n\
        \x20           rows = c.execute('SHOW LISTS', prepare=True, binary=binary).fetchall()\n\
        \x20           print(dict(rows)['databases'])\n\
        \x20           rows = c.execute('SHOW STATS', binary=binary).fetchall()\n\
        \x20           print(rows[1][0], rows[1][1] > 3)\n";
    let mut python = Command::new(python());
    python.args(["-c", script, &place.server.listen().port().to_string()]);
    let ran = run(python).await;
    assert_eq!(
        (ran.success, ran.out.trim()),
        (true, ["2\nsortie True"; 4].join("\n").as_str()),
        "{}",
        ran.err
    );
    place.stop().await;
}
