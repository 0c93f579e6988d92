//! Commands of the admin database that change something: pauses, kills, the end; and who may.

use std::time::Duration;

use sortie_testkit::{Batch, Frame, Wire};
use tokio::time::{sleep, timeout};

use crate::console::{Place, psql, table, until};
use crate::relay::error;
use crate::support::{among_others, answers, refuses};

/// Longer than anything here takes by itself.
const WITHIN: Duration = Duration::from_secs(20);

/// Long enough for something to happen that should not.
const SOON: Duration = Duration::from_millis(300);

const LISTS: &str = "admin_users = [\"ops\"]\nstats_users = [\"stats\"]";

#[tokio::test]
async fn every_command_is_checked_against_what_its_user_may() {
    let _others = among_others().await;
    let place = Place::with(LISTS, "").await;
    let mut client = place.wire("tester", "bank").await;
    for command in ["PAUSE", "PAUSE bank", "RESUME", "RELOAD", "KILL 1", "KILL bank", "SHUTDOWN"] {
        refuses(&place.asks("stats", command).await, "admin access needed");
    }
    // Nor by the extended protocol, nor behind something that is allowed.
    let mut stats = place.wire("stats", "sortie").await;
    let batch = Batch::new().statement("KILL bank", &[]).sync();
    assert_eq!(error(&stats.ask(&batch).await), "42501");
    assert_eq!(error(&stats.simple("SHOW VERSION; KILL bank").await), "42501");
    assert!(place.asks("stats", "SHOW POOLS").await.success);
    client.rows("SELECT count(*) FROM t").await;
    for user in ["tester", "nobody"] {
        let refused = Wire::try_connect_to(place.server.listen(), user, "sortie").await;
        assert_eq!(error(&refused.unwrap_err()), "28000", "{user}");
    }
    assert!(place.asks("ops", "PAUSE").await.success);
    answers(&place.asks("ops", "RESUME bank").await, "RESUME");
    refuses(&place.asks("ops", "PAUSE nowhere").await, "no such database: nowhere");
    client.rows("SELECT count(*) FROM t").await;
    place.stop().await;
}

#[tokio::test]
async fn a_pause_waits_for_what_is_under_way_and_holds_back_the_rest() {
    let _others = among_others().await;
    let place = Place::with(LISTS, "").await;
    let mut within = place.wire("tester", "bank").await;
    let mut later = place.wire("tester", "bank").await;
    within.rows("BEGIN; SELECT now()").await;
    let mut ops = place.wire("ops", "sortie").await;
    let mut pause = Box::pin(ops.simple("PAUSE bank"));
    assert!(timeout(SOON, &mut pause).await.is_err(), "a transaction is open");
    // Statements of that transaction are not held back.
    within.rows("SELECT count(*), now() FROM t").await;
    let (mut piped, shared) = (place.wire("tester", "bank").await, &mut later);
    let held = async {
        tokio::join!(piped.rows("SELECT now()"), shared.rows("SELECT count(*) FROM t"));
    };
    let mut held = Box::pin(held);
    assert!(timeout(SOON, &mut held).await.is_err(), "the database is paused");
    within.rows("COMMIT").await;
    let paused = timeout(WITHIN, pause).await.unwrap();
    assert_eq!(&paused[0].body[..], b"PAUSE\0", "{paused:?}");
    assert!(timeout(SOON, &mut held).await.is_err(), "the database is paused");
    let databases = table(&ops.simple("SHOW DATABASES").await);
    let paused = databases.iter().find(|row| row["name"] == "bank").unwrap();
    assert_eq!(paused["paused"], "1");
    // Both are on their way; and what looks at the catalogs may have a connection for a moment.
    until(async || {
        let pools = table(&ops.simple("SHOW POOLS").await);
        let bank = pools.iter().find(|row| row["database"] == "bank").unwrap();
        (&*bank["cl_waiting"], &*bank["sv_active"]) == ("2", "0")
    })
    .await;
    // Who comes now can log in, and waits as well.
    let mut new = place.wire("tester", "bank").await;
    let mut asks = Box::pin(new.rows("SELECT now()"));
    assert!(timeout(SOON, &mut asks).await.is_err());
    let resumed = ops.simple("RESUME").await;
    assert_eq!(&resumed[0].body[..], b"RESUME\0");
    timeout(WITHIN, async { tokio::join!(held, asks) }).await.unwrap();
    assert_eq!(error(&ops.simple("RESUME bank").await), "55000");
    place.stop().await;
}

#[tokio::test]
async fn a_paused_cluster_has_no_connection_to_a_server() {
    let _others = among_others().await;
    let place = Place::with(LISTS, "[clusters.bank.pool]\nwarm_min = 2").await;
    let mut observer = Wire::connect_as(place.postgres.listen(), "postgres").await;
    let mut open = async || {
        let rows = observer
            .rows(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tester' \
                 AND application_name <> 'sortie watch'",
            )
            .await;
        rows[0][0].as_deref().unwrap().parse::<u32>().unwrap()
    };
    let mut client = place.wire("tester", "bank").await;
    client.rows("SELECT count(*) FROM t").await;
    until(async || open().await >= 2).await;
    let mut ops = place.wire("ops", "sortie").await;
    ops.simple("PAUSE bank").await;
    until(async || open().await == 0).await;
    // What is prepared ahead is described by a server, and a new client's start as well.
    let described = Batch::new().parse("s", "SELECT a FROM t", &[]).describe(b'S', "s").sync();
    let mut asks = Box::pin(client.ask(&described));
    assert!(timeout(SOON, &mut asks).await.is_err(), "the database is paused");
    let listen = place.server.listen();
    let mut comes = Box::pin(psql(listen, "tester", "bank", &["-c", "SELECT 7"]));
    for _ in 0..10 {
        assert!(timeout(SOON, &mut comes).await.is_err(), "the database is paused");
        assert_eq!(open().await, 0);
    }
    ops.simple("RESUME").await;
    let (described, came) = timeout(WITHIN, async { tokio::join!(asks, comes) }).await.unwrap();
    assert_eq!(Frame::tags(&described), "1tTZ");
    answers(&came, "7");
    until(async || open().await >= 2).await;
    drop((client, ops, observer));
    place.stop().await;
}

#[tokio::test]
async fn a_killed_client_is_told_and_nobody_else_is_hurt() {
    let _others = among_others().await;
    let place = Place::with(LISTS, "").await;
    let mut ops = place.wire("ops", "sortie").await;
    let mut other = place.wire("tester", "bank").await;
    other.rows("BEGIN; SELECT now()").await;
    for text in ["SELECT pg_sleep(60)", "", "BEGIN; SELECT now()"] {
        let mut victim = place.wire("tester", "bank").await;
        let clients = table(&ops.simple("SHOW CLIENTS").await);
        let ids = clients.iter().map(|row| row["id"].parse::<i32>().unwrap());
        let id = ids.max().unwrap();
        if text.starts_with("BEGIN") {
            // Answered first: it has its server before it has the answer.
            victim.rows(text).await;
        } else if !text.is_empty() {
            victim.send(Batch::new().query(text).bytes()).await;
        }
        let dies = victim.until_ready_or_end();
        let kills = async {
            until(async || {
                let clients = table(&ops.simple("SHOW CLIENTS").await);
                let one = clients.iter().find(|row| row["id"] == id.to_string()).unwrap();
                one["link"].is_empty() == text.is_empty()
            })
            .await;
            let killed = ops.simple(&format!("KILL {id}")).await;
            assert_eq!(&killed[0].body[..], b"KILL\0", "{killed:?}");
        };
        let (end, ()) = timeout(WITHIN, async { tokio::join!(dies, kills) }).await.unwrap();
        assert_eq!(error(&end.unwrap_err()), "57P01", "{text}");
    }
    assert_eq!(error(&ops.simple("KILL 123456").await), "42704");
    other.rows("SELECT count(*), now() FROM t").await;
    other.rows("COMMIT").await;
    // What a killed client ran is called back.
    until(async || {
        place.server.metrics().await.sum("sortie_server_connections_in_flight", &[]) < 0.5
    })
    .await;
    place.stop().await;
}

#[tokio::test]
async fn a_killed_database_has_no_sessions_and_is_paused() {
    let _others = among_others().await;
    let place = Place::with(LISTS, "").await;
    let mut victims = Vec::new();
    for _ in 0..3 {
        victims.push(place.wire("tester", "bank").await);
    }
    victims[0].rows("BEGIN; SELECT now()").await;
    let mut ops = place.wire("ops", "sortie").await;
    let killed = ops.simple("KILL bank").await;
    assert_eq!(&killed[0].body[..], b"KILL\0", "{killed:?}");
    for victim in &mut victims {
        assert_eq!(error(&victim.until_ready_or_end().await.unwrap_err()), "57P01");
    }
    let mut new = place.wire("tester", "bank").await;
    let mut asks = Box::pin(new.rows("SELECT now()"));
    assert!(timeout(SOON, &mut asks).await.is_err());
    ops.simple("RESUME bank").await;
    timeout(WITHIN, asks).await.unwrap();
    place.stop().await;
}

#[tokio::test]
async fn a_shutdown_waits_for_transactions_and_now_for_nobody() {
    let _others = among_others().await;
    for now in [false, true] {
        let place = Place::with(LISTS, "").await;
        let mut within = place.wire("tester", "bank").await;
        within.rows("BEGIN; SELECT now()").await;
        let mut ops = place.wire("ops", "sortie").await;
        let said = ops.simple(if now { "SHUTDOWN NOW" } else { "SHUTDOWN" }).await;
        assert_eq!(&said[0].body[..], b"SHUTDOWN\0", "{said:?}");
        if !now {
            sleep(SOON).await;
            within.rows("SELECT count(*), now() FROM t").await;
            within.rows("COMMIT").await;
        }
        assert!(within.until_ready_or_end().await.is_err());
        let mut server = place.server;
        until(async || !server.is_running()).await;
        let end = server.end("TERM").await;
        assert_eq!(end.output.contains("event=\"stopped\" cut=0"), !now, "{}", end.output);
        place.postgres.stop().await;
    }
}
