//! What `mode = observe` says of statements is what `mode = share` does with them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sortie_testkit::{Batch, Metrics, Server, Wire, cluster, python, workspace};
use tokio::task::JoinSet;

use crate::drivers::{Herd, Slow, statements};
use crate::lazy::{self, answers, before};
use crate::portions;
use crate::relay::count;
use crate::support::{ROUNDS_MAX, alone, among_others};
use crate::unbound::set_mode;

/// Statements by what became of them, but for those that are about a transaction which no server
/// knows of.
type Kinds = BTreeMap<String, i64>;

/// Kinds of statements since then. One that is shared, fails and is run by a server is one.
fn kinds(begun: &Metrics, ended: &Metrics) -> Kinds {
    let grew =
        |name: &str, labels: &[&str]| count(ended, name, labels) - count(begun, name, labels);
    let mut kinds: Kinds = REASONS
        .iter()
        .map(|reason| {
            let label = format!("reason=\"{reason}\"");
            ((*reason).to_owned(), grew("sortie_pipe_statements_total", &[&label]))
        })
        .collect();
    let shared = grew("sortie_lane_statements_total", &["lane=\"shared\""]);
    let failed = grew("sortie_pipe_statements_total", &["reason=\"error\""]);
    *kinds.get_mut("observe").unwrap() += shared + failed;
    kinds.retain(|_, count| *count > 0);
    kinds
}

const REASONS: [&str; 10] = [
    "observe",
    "transaction",
    "dirty",
    "shape",
    "portions",
    "command",
    "grammar",
    "function",
    "relation",
    "catalog",
];

/// Transactions of all kinds, and what comes outside of them.
fn scripts() -> Vec<Vec<Batch>> {
    let mut scripts = lazy::spared();
    scripts.extend(lazy::needy());
    scripts.extend(portions::shareable());
    scripts.extend(portions::living());
    scripts.extend(repeated());
    scripts
}

/// A statement that is prepared once, and run over and over, each time in a batch of its own.
fn repeated() -> Vec<Vec<Batch>> {
    let parse = |text| Batch::new().parse("s", text, &[]).sync();
    let bind = |portal, value: &[u8]| Batch::new().bind(portal, "s", (0, &[Some(value)]), 0);
    let run = |value| bind("", value).execute("").sync();
    let described = || bind("", b"3").describe(b'P', "").execute("").sync();
    let queries = |texts: &[&str]| texts.iter().map(|it| Batch::new().query(it)).collect();
    let thrice = |batch: Batch| vec![batch.clone(), batch.clone(), batch];
    let shapes = [
        run(b"1"),
        described(),
        bind("", b"1").execute_some("", 1).sync(),
        bind("p", b"1").execute("p").sync(),
        bind("", b"1").execute("").describe(b'P', "").sync(),
        bind("", b"1").describe(b'P', "").describe(b'P', "").execute("").sync(),
        bind("", b"x").execute("").sync(),
        run(b"1").then(&run(b"2")).then(&described()),
        run(b"1").then(&Batch::new().query("BEGIN")).then(&run(b"1")).query("COMMIT"),
    ];
    let mut scripts: Vec<_> = shapes
        .into_iter()
        .map(|batch| [vec![parse(ONE), run(b"1")], thrice(batch), vec![run(b"2")]].concat())
        .collect();
    for text in ["SELECT now() < $1::timestamptz", "SELECT user_id FROM users WHERE name ~ $1"] {
        scripts.push([vec![parse(text)], thrice(run(b"2001-01-01"))].concat());
    }
    // What it is seen with changes.
    for between in
        ["SET work_mem = '5MB'", "BEGIN", "SET sortie.share = off", "CREATE TEMP TABLE x()"]
    {
        let on: Vec<Batch> = queries(&[between]);
        let off: Vec<Batch> = queries(&["DISCARD ALL"]);
        let off = if between == "BEGIN" { queries(&["COMMIT"]) } else { off };
        let runs = || thrice(run(b"1"));
        let again = if between == "BEGIN" { vec![] } else { vec![parse(ONE)] };
        scripts.push([vec![parse(ONE)], runs(), on, runs(), off, again, runs()].concat());
    }
    scripts
}

const ONE: &str = "SELECT user_id, name FROM users WHERE user_id = $1";

#[tokio::test]
async fn what_is_observed_is_what_would_be_shared() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let there = cluster.primary(0).address();
    let (server, _config) = before(format!("postgres://reader@{there}/sortie"), "reader").await;
    let mut shared = Vec::new();
    for script in scripts() {
        let begun = server.metrics().await;
        let said = answers(server.listen(), "postgres", &script).await;
        shared.push((said, kinds(&begun, &server.metrics().await)));
    }
    let ended = server.metrics().await;
    let lazily = count(&ended, "sortie_lazy_transactions_total", &["server=\"none\""]);
    set_mode(&server, "observe").await;
    let mut followed = 0;
    for (nth, (script, (expected, would))) in scripts().iter().zip(&shared).enumerate() {
        let begun = server.metrics().await;
        let said = answers(server.listen(), "postgres", script).await;
        assert_eq!(said, *expected, "{nth}: {script:?}");
        let ended = server.metrics().await;
        let seen = kinds(&begun, &ended);
        if said.iter().any(|frame| frame.tag == b'E') {
            // What comes behind it may have been looked at before it had failed, and how a lazy
            // transaction that has failed ends depends on who has failed it.
            assert!(seen.get("observe") >= would.get("observe"), "{nth}: {seen:?} {would:?}");
        } else {
            assert_eq!(seen, *would, "{nth}: {script:?}");
        }
        followed += count(&ended, "sortie_observed_statements_total", &[])
            - count(&begun, "sortie_observed_statements_total", &[]);
    }
    assert!(followed > 50, "{followed}");
    let label = "reason=\"spared\"";
    let ended = server.metrics().await;
    assert!(count(&ended, "sortie_pipe_statements_total", &[label]) > 30);
    assert_eq!(count(&ended, "sortie_lazy_transactions_total", &["server=\"none\""]), lazily);
    server.abandoned().await;
    server.stop().await;
}

/// As many as have a connection each, in a transaction that a server has begun.
const HERD: Herd = Herd { callers: 40, late: Duration::from_secs(1) };

/// Of those that are saved so many at least are to be foreseen, in percent: on a slow machine they
/// don't all come at the same time.
const FORESEEN_MIN: i64 = 75;

/// What a herd is saved in the mode `share`, and what is said in the mode `observe`.
async fn saved(slow: &Slow, driver: &str) -> (i64, i64) {
    let script = workspace().join("tests/clients/herd.py");
    let client = |server: SocketAddr, folder: &Path| {
        let mut command = Command::new(python());
        command.arg(&script).arg(server.port().to_string()).arg(driver).arg(folder);
        command.env("HERD_WARM", "1");
        command
    };
    set_mode(&slow.server, "share").await;
    let (begun, ended) = slow.herd(HERD, &client).await;
    let saved = i64::from(HERD.callers) - (statements(&ended) - statements(&begun));
    set_mode(&slow.server, "observe").await;
    fill(&slow.server).await;
    let (begun, ended) = slow.herd(HERD, &client).await;
    assert_eq!(statements(&ended), statements(&begun), "nothing is shared");
    let [seen, foreseen] = ["", "saved_"].map(|kind| {
        let name = format!("sortie_observed_{kind}statements_total");
        count(&ended, &name, &[]) - count(&begun, &name, &[])
    });
    println!("{driver}: {saved} of {} saved, {foreseen} of {seen} foreseen", HERD.callers);
    assert_eq!(seen, i64::from(HERD.callers), "{driver}");
    assert!(foreseen < seen, "the first one is saved by nobody");
    (saved, foreseen)
}

#[tokio::test]
async fn a_herd_through_drivers_defaults_would_be_saved_what_it_is_saved() {
    let _alone = alone().await;
    let slow = Slow::with(60).await;
    for driver in ["psycopg", "asyncpg.fetchrow"] {
        let mut best = 0;
        for _ in 0..ROUNDS_MAX {
            let (saved, foreseen) = saved(&slow, driver).await;
            best = best.max(foreseen * 100 / saved.max(1));
            if best >= FORESEEN_MIN {
                break;
            }
        }
        assert!(best >= FORESEEN_MIN, "{driver}: {best} %");
    }
    slow.server.stop().await;
}

/// Has the endpoint open a connection for each of a herd, so that none of them waits for one.
async fn fill(server: &Server) {
    let begin = |mut wire: Wire| async move {
        wire.simple("BEGIN; SELECT 1").await;
        wire
    };
    let wires = connect_as(server.listen(), "reader", HERD.callers).await;
    let all: JoinSet<_> = wires.into_iter().map(begin).collect();
    // All of them have one now.
    for mut wire in all.join_all().await {
        wire.simple("COMMIT").await;
    }
}

/// Opens so many connections at once.
async fn connect_as(server: SocketAddr, user: &'static str, count: u32) -> Vec<Wire> {
    let opening: JoinSet<_> = (0..count).map(|_| Wire::connect_as(server, user)).collect();
    opening.join_all().await
}
