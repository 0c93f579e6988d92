//! A session whose settings another connection does not take: it is told so, statement by
//! statement and at no server's expense, until it does without them.

use sortie_testkit::{Batch, Frame, Wire};

use crate::stage::{Endpoint, Setup, Stage};
use crate::support::among_others;

const PID: &str = "SELECT pg_backend_pid()";
const WHO: &str = "SELECT current_user";

/// One connection for everybody: whoever comes next finds what the last one has left there.
async fn rig(stage: &Stage) -> (Endpoint, Wire, Wire) {
    let setup = Setup { mode: "pipe", connections_max: 1, ..Setup::default() };
    let sortie = stage.endpoint(setup).await;
    let (wire, other) =
        (Wire::connect(sortie.listen()).await, Wire::connect(sortie.listen()).await);
    (sortie, wire, other)
}

async fn script(stage: &Stage, sql: &str) {
    stage.cluster.primary(0).script_in("postgres", sql).await;
}

/// The session is `lent`, which nobody else can be any more.
async fn be_somebody(stage: &Stage, wire: &mut Wire, other: &mut Wire) -> Option<String> {
    script(stage, "GRANT lent TO tester").await;
    wire.rows("SET work_mem = '3MB'").await;
    wire.rows("SET ROLE lent").await;
    assert_eq!(wire.rows(WHO).await[0][0].as_deref(), Some("lent"));
    script(stage, "REVOKE lent FROM tester").await;
    other.rows(PID).await[0][0].clone()
}

fn extended(sql: &str) -> Batch {
    Batch::new().statement(sql, &[]).sync()
}

fn sqlstate(frames: &[Frame]) -> Option<String> {
    frames.iter().find_map(Frame::report).map(|report| report.sqlstate)
}

#[tokio::test]
async fn costs_no_connection_and_is_left_again() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    script(&stage, "CREATE ROLE lent; CREATE ROLE spare; GRANT spare TO tester").await;
    let (sortie, mut wire, mut other) = rig(&stage).await;
    let cures =
        ["RESET ROLE", "reset role", "DISCARD ALL", "SET ROLE spare", "SET SESSION ROLE none"];
    for (at, cure) in cures.into_iter().enumerate() {
        let pid = be_somebody(&stage, &mut wire, &mut other).await;
        for _ in 0..5 {
            let refused = wire.refusal(WHO).await;
            assert_eq!(refused.sqlstate, "42501", "{refused:?}");
            assert!(refused.detail.contains("RESET role"), "{refused:?}");
            assert_eq!(sqlstate(&wire.ask(&extended(WHO)).await).as_deref(), Some("42501"));
        }
        assert_eq!(other.rows(PID).await[0][0], pid, "a connection was closed for that");
        // What does not change it is refused, and nothing runs behind a cure that fails.
        for text in
            ["RESET ALL", "SET work_mem = '1MB'", "BEGIN; SELECT 1", "SET ROLE nobody_at_all"]
        {
            let frames = wire.ask(&Batch::new().query(text)).await;
            assert!(sqlstate(&frames).is_some(), "{text}");
            let refused = wire.refusal(WHO).await;
            assert_eq!(refused.sqlstate, "42501", "{text}: {refused:?}");
        }
        let mut two = Batch::new().query("SET ROLE nobody_at_all").query(WHO);
        wire.send(two.bytes()).await;
        assert_eq!(sqlstate(&wire.until_ready().await).as_deref(), Some("22023"));
        assert_eq!(sqlstate(&wire.until_ready().await).as_deref(), Some("42501"));
        two = if at % 2 == 0 { Batch::new().query(cure) } else { extended(cure) };
        // In one write with what comes next.
        wire.send(two.query(WHO).bytes()).await;
        let frames = wire.until_ready().await;
        assert_eq!(sqlstate(&frames), None, "{cure}: {frames:?}");
        let frames = wire.until_ready().await;
        let who = frames.iter().find_map(Frame::row).unwrap_or_else(|| panic!("{frames:?}"));
        let is = if cure.contains("spare") { "spare" } else { "tester" };
        assert_eq!(who[0].as_deref(), Some(is), "{cure}");
        let memory = if cure == "DISCARD ALL" { "4MB" } else { "3MB" };
        for _ in 0..2 {
            assert_eq!(other.rows(PID).await[0][0], pid, "{cure}");
            assert_eq!(wire.rows(WHO).await[0][0].as_deref(), Some(is), "{cure}");
            let set = wire.rows("SELECT current_setting('work_mem')").await;
            assert_eq!(set[0][0].as_deref(), Some(memory), "{cure}");
        }
        wire.rows("DISCARD ALL").await;
    }
    drop((wire, other));
    sortie.stop().await;
    script(&stage, "DROP ROLE lent; DROP ROLE spare").await;
}

#[tokio::test]
async fn goes_on_by_itself_when_it_can_be_set_again() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    script(&stage, "CREATE ROLE lent").await;
    let (sortie, mut wire, mut other) = rig(&stage).await;
    let pid = be_somebody(&stage, &mut wire, &mut other).await;
    assert_eq!(wire.refusal(WHO).await.sqlstate, "42501");
    // An end of what is not begun harms nobody.
    wire.rows("ROLLBACK").await;
    assert_eq!(wire.refusal(WHO).await.sqlstate, "42501");
    // What was refused has not been run, and a batch is passed over to its Sync.
    let batch = Batch::new().parse("late", WHO, &[]).bind("", "late", (0, &[]), 0).execute("");
    assert_eq!(sqlstate(&wire.ask(&batch.sync()).await).as_deref(), Some("42501"));
    script(&stage, "GRANT lent TO tester").await;
    assert_eq!(wire.rows(WHO).await[0][0].as_deref(), Some("lent"));
    let batch = Batch::new().bind("", "late", (0, &[]), 0).execute("").sync();
    assert_eq!(sqlstate(&wire.ask(&batch).await).as_deref(), Some("26000"));
    assert_eq!(other.rows(PID).await[0][0], pid);
    assert_eq!(other.rows(WHO).await[0][0].as_deref(), Some("tester"));
    drop((wire, other));
    sortie.stop().await;
    script(&stage, "REVOKE lent FROM tester; DROP ROLE lent").await;
}
