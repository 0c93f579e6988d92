//! The pipe lane is honest: what a client gets through sortie is, byte for byte, what it gets
//! from PostgreSQL.

use sortie_testkit::differ::{Mode, Script, Target, differences, mixed, random, scripts};
use sortie_testkit::{Batch, Frame, Wire};

use crate::stage::{Setup, Stage};
use crate::support::{among_others, connect};

/// Scripts under way at the same time.
const AT_ONCE: usize = 6;
/// Those that are cut into pieces mostly sleep.
const CUT_AT_ONCE: usize = 16;
const RANDOM: u64 = 150;
/// Scripts of both lanes in one pipeline.
const MIXED: u64 = 250;
/// Those of them that are cut into pieces.
const CUT_MIXED: u64 = 40;
/// Those of them that the newest PostgreSQL is asked.
const NEWEST_MIXED: u64 = 60;

async fn check(setup: Setup, modes: &[Mode], at_once: usize, scripts: Vec<Script>) {
    let _others = among_others().await;
    check_on(Stage::take().await, setup, modes, at_once, scripts).await;
}

async fn check_on(
    stage: Stage,
    setup: Setup,
    modes: &[Mode],
    at_once: usize,
    scripts: Vec<Script>,
) {
    let endpoint = stage.endpoint(setup.clone()).await;
    let mut servers = [stage.primary(), stage.cluster.standby(0, 0).address()];
    if setup.pipe_target == "replica" {
        // Where the sessions are comes first: what a script does elsewhere is about them.
        servers.reverse();
    }
    let targets = (&Target::endpoint(endpoint.listen(), &servers), &Target::postgres(servers[0]));
    let found = differences(scripts, modes, targets, at_once).await;
    assert!(found.is_empty(), "{} differences:\n{found}", found.matches("\n## ").count() + 1);
    let lanes = endpoint.server.metrics().await;
    let shared = lanes.sum("sortie_lane_statements_total", &["lane=\"shared\""]);
    assert_eq!(shared > 0.5, setup.mode == "share", "{shared} statements were shared");
    endpoint.stop().await;
}

/// What lets scripts come as the roles that see different rows.
const ROLES: &str = "[clusters.postgres.users.tester]\n[clusters.postgres.users.narrow]\n\
                     [clusters.postgres.users.wide]";

fn all() -> Vec<Script> {
    scripts().into_iter().chain((0..RANDOM).map(random)).collect()
}

#[tokio::test]
async fn the_pipe_lane_to_a_primary() {
    let setup = Setup { mode: "pipe", ..Setup::default() };
    check(setup, &[Mode::AsWritten, Mode::Pipelined], AT_ONCE, all()).await;
}

#[tokio::test]
async fn the_pipe_lane_cut_into_pieces() {
    let setup = Setup { mode: "pipe", ..Setup::default() };
    check(setup, &[Mode::EveryByte, Mode::Cut(1)], AT_ONCE, scripts()).await;
}

#[tokio::test]
async fn the_pipe_lane_to_a_standby() {
    let setup = Setup { mode: "pipe", pipe_target: "replica", ..Setup::default() };
    let mut scripts = all();
    scripts.retain(|script| !script.writes());
    check(setup, &[Mode::AsWritten, Mode::Pipelined], AT_ONCE, scripts).await;
}

#[tokio::test]
async fn both_lanes() {
    check(Setup::default(), &[Mode::AsWritten, Mode::Pipelined], AT_ONCE, all()).await;
}

/// Whatever writes goes the same way as in the pipe lane alone, and is cut there.
#[tokio::test]
async fn both_lanes_cut_into_pieces() {
    let setup = Setup { more: ROLES, ..Setup::default() };
    let mut scripts = scripts();
    scripts.extend((0..CUT_MIXED).map(mixed));
    scripts.retain(|script| !script.writes());
    check(setup, &[Mode::EveryByte], CUT_AT_ONCE, scripts).await;
}

#[tokio::test]
async fn both_lanes_to_the_newest_version() {
    let _others = among_others().await;
    let setup = Setup { more: ROLES, ..Setup::default() };
    let mut scripts = scripts();
    scripts.extend((0..NEWEST_MIXED).map(mixed));
    let stage = Stage::take_newest().await;
    assert!(stage.cluster.version() >= 18, "{}", stage.cluster.version());
    check_on(stage, setup, &[Mode::Pipelined], AT_ONCE, scripts).await;
}

#[tokio::test]
async fn a_shared_read_finds_nothing_of_sessions_and_leaves_nothing_to_them() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let setup = Setup { pipe_target: "replica", connections_max: 2, ..Setup::default() };
    let endpoint = stage.endpoint(setup).await;
    let mut sessions = connect(endpoint.listen(), 4).await;
    let read = "SELECT label FROM items WHERE id = 7";
    for session in &mut sessions {
        session.rows("SET search_path = pg_catalog; SELECT now()").await;
    }
    let mut stranger = Wire::connect(endpoint.listen()).await;
    for _ in 0..4 {
        assert_eq!(stranger.rows(read).await, [[Some("item 7".to_owned())]]);
    }
    for session in &mut sessions {
        let bound = session.ask(&Batch::new().bind("", "", (0, &[]), 0).execute("").sync()).await;
        let report = bound.iter().find_map(Frame::report).expect("nothing was parsed here");
        assert_eq!(report.sqlstate, "26000");
        assert_eq!(session.refusal(read).await.sqlstate, "42P01");
    }
    let shared = endpoint.server.metrics().await;
    assert!(shared.sum("sortie_lane_statements_total", &["lane=\"shared\""]) >= 4.0);
    drop((sessions, stranger));
    endpoint.stop().await;
}

#[tokio::test]
async fn both_lanes_among_neighbours() {
    // Fewer connections than clients, so that they go from hand to hand.
    let setup = Setup { connections_max: 3, ..Setup::default() };
    check(setup, &[Mode::Disturbed], 2, all()).await;
}

/// Scripts of both lanes at random, under every parameter that changes how an answer reads, by
/// roles who see different rows. `SORTIE_SCRIPTS=2000` plays more of them than there is time for
/// every day.
#[tokio::test]
async fn both_lanes_in_one_pipeline() {
    let count = std::env::var("SORTIE_SCRIPTS").map_or(MIXED, |count| count.parse().unwrap());
    let setup = Setup { more: ROLES, ..Setup::default() };
    check(setup, &[Mode::AsWritten], AT_ONCE, (0..count).map(mixed).collect()).await;
}
