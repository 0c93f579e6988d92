//! A session at rest goes on with the connection that it had last, as long as nobody else wants it.

use sortie_testkit::{Batch, Frame, Wire};

use crate::relay::until;
use crate::stage::{Endpoint, Setup, Stage, endpoint};
use crate::support::among_others;

async fn rig(stage: &Stage, connections_max: u32) -> Endpoint {
    let setup = Setup { mode: "pipe", connections_max, ..Setup::default() };
    endpoint(stage.primary(), &[stage.cluster.standby(0, 0).address()], setup).await
}

/// Prepares a statement that says on which server connection it ran, and with which setting.
async fn prepare(wire: &mut Wire) {
    let text = "SELECT pg_backend_pid(), current_setting('work_mem'), $1::text";
    wire.ask(&Batch::new().parse("who", text, &[25]).sync()).await;
}

/// Runs it as drivers do, over and over.
async fn run(wire: &mut Wire, say: &str) -> (String, String) {
    let batch = Batch::new().bind("", "who", (0, &[Some(say.as_bytes())]), 0).execute("").sync();
    let answer = wire.ask(&batch).await;
    let mut rows = answer.iter().filter_map(Frame::row);
    let row = rows.next().unwrap_or_else(|| panic!("{answer:?}"));
    assert!(rows.next().is_none() && row[2].as_deref() == Some(say), "{answer:?}");
    let column = |at: usize| row[at].clone().expect("it is not null");
    (column(0), column(1))
}

#[tokio::test]
async fn two_sessions_take_turns_on_one_connection() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let sortie = rig(&stage, 1).await;
    let (mut one, mut two) =
        (Wire::connect(sortie.listen()).await, Wire::connect(sortie.listen()).await);
    one.rows("SET work_mem = '3MB'").await;
    prepare(&mut one).await;
    two.rows("SET work_mem = '5MB'").await;
    prepare(&mut two).await;
    let mut pids = Vec::new();
    for turn in 0..24 {
        // Some turns are several statements long, so that the connection is had again.
        for _ in 0..=turn % 3 {
            let (wire, memory) = if turn % 2 == 0 { (&mut one, "3MB") } else { (&mut two, "5MB") };
            let (pid, set) = run(wire, "x").await;
            assert_eq!(set, memory);
            pids.push(pid);
        }
    }
    pids.dedup();
    assert_eq!(pids.len(), 1, "nobody had to wait for a connection that lay idle");
    until(&sortie.server, |now| now.sum("sortie_pins_in_flight", &[]) < 0.5).await;
    drop((one, two));
    sortie.stop().await;
}

#[tokio::test]
async fn what_a_batch_depends_on_is_seen_between_two_of_the_same() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let sortie = rig(&stage, 1).await;
    let mut wire = Wire::connect(sortie.listen()).await;
    prepare(&mut wire).await;
    run(&mut wire, "x").await;
    // A setting, which also makes another statement of the same batch.
    wire.rows("SET work_mem = '7MB'").await;
    assert_eq!(run(&mut wire, "x").await.1, "7MB");
    // An error in it, and the batch behind that.
    let bad = Batch::new().bind("", "who", (0, &[Some(b"x"), Some(b"y")]), 0).execute("").sync();
    let answer = wire.ask(&bad).await;
    assert_eq!(answer.iter().filter_map(Frame::report).count(), 1, "{answer:?}");
    run(&mut wire, "x").await;
    // The statement is another one, or is gone.
    wire.rows("DEALLOCATE who").await;
    let gone = Batch::new().bind("", "who", (0, &[Some(b"x")]), 0).execute("").sync();
    let answer = wire.ask(&gone).await;
    let report = answer.iter().find_map(Frame::report).unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(report.sqlstate, "26000");
    prepare(&mut wire).await;
    run(&mut wire, "x").await;
    // Two at once, and one within a transaction.
    let one = || Batch::new().bind("", "who", (0, &[Some(b"x")]), 0).execute("").sync();
    wire.send(one().bytes()).await;
    let answers = [wire.ask(&one()).await, wire.until_ready().await];
    for answer in &answers {
        assert_eq!(answer.iter().filter_map(Frame::row).count(), 1, "{answer:?}");
    }
    wire.rows("BEGIN; SELECT 1").await;
    run(&mut wire, "x").await;
    wire.rows("ROLLBACK").await;
    run(&mut wire, "x").await;
    drop(wire);
    sortie.stop().await;
}
