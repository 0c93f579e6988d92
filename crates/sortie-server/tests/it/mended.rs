//! Batches that are sent again, and what comes in between.

use std::time::Duration;

use sortie_testkit::{Batch, FaultProxy, Frame, Injection, Postgres, Server, Way, Wire};
use tokio::time::{sleep, timeout};

use crate::missing::{FORGET, mended, query, run, sqlstate, stage, told};
use crate::relay::{count, start};
use crate::support::among_others;
use crate::unbound::set_mode;

/// Longer than anything here takes.
const WITHIN: Duration = Duration::from_secs(20);

/// Statements that clients sent, those that took the pipe, and those that would be shared.
async fn counted(server: &Server) -> [i64; 3] {
    let said = server.metrics().await;
    ["client_statements", "pipe_statements", "observed_statements"]
        .map(|name| count(&said, &format!("sortie_{name}_total"), &[]))
}

#[tokio::test]
async fn what_is_sent_again_is_counted_once() {
    let _others = among_others().await;
    let (postgres, server, _config) = stage().await;
    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    // It takes itself away each time.
    wire.ask(&Batch::new().parse("s", "SELECT 1::forgetful", &[]).sync()).await;
    let before = counted(&server).await;
    for _ in 0..3 {
        assert_eq!(Frame::tags(&wire.ask(&run()).await), "2DCZ");
        assert_eq!(Frame::tags(&wire.ask(&told()).await), "2TDCZ");
    }
    assert_eq!(mended(&server).await, 5);
    let after = counted(&server).await;
    assert_eq!([0, 1, 2].map(|at| after[at] - before[at]), [6, 6, 0]);
    // Where it is noticed what sharing would save.
    set_mode(&server, "observe").await;
    wire.ask(&Batch::new().parse("t", "SELECT a FROM known", &[]).sync()).await;
    let again = || Batch::new().bind("", "t", (0, &[]), 0).execute("").sync();
    wire.ask(&again()).await;
    let before = counted(&server).await;
    for _ in 0..3 {
        wire.ask(&query("SELECT 1::forgetful")).await;
        for _ in 0..2 {
            assert_eq!(Frame::tags(&wire.ask(&again()).await), "2DCZ");
        }
    }
    assert_eq!(mended(&server).await, 8);
    let after = counted(&server).await;
    assert_eq!([0, 1, 2].map(|at| after[at] - before[at]), [9, 9, 6]);
    drop(wire);
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}

/// How many bytes a server says that a statement is not there in.
async fn error_len(postgres: &Postgres) -> usize {
    let mut direct = Wire::connect_as(postgres.listen(), "reader").await;
    let answer = direct.ask(&run()).await;
    assert_eq!((Frame::tags(&answer), sqlstate(&answer)), ("EZ".to_owned(), "26000".to_owned()));
    5 + answer[0].body.len()
}

/// Its connection may go at any byte of what the server says of it.
#[tokio::test]
async fn who_loses_the_connection_with_the_statement_is_told_so() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script(FORGET).await;
    let proxy = FaultProxy::start(postgres.listen()).await;
    proxy.spare("sortie ");
    let url = format!("postgres://reader@{}/postgres", proxy.listen());
    let (server, _config) = start(&[url], 1).await;
    let error = error_len(&postgres).await;
    // Within the error, behind it, and within the end of the batch; and with another one.
    for (nth, bytes) in [error - 9, error, error + 1, error + 5, 0].into_iter().enumerate() {
        let mut wire = Wire::connect_as(server.listen(), "reader").await;
        wire.ask(&Batch::new().parse("s", "SELECT 1, now() IS NULL", &[]).sync()).await;
        wire.ask(&run()).await;
        wire.ask(&query("SELECT 1::forgetful")).await;
        if bytes > 0 {
            proxy.cut_after(Way::Down, bytes);
        } else {
            proxy.inject(Injection::fatal("57P01").before(b'Z'));
        }
        wire.send(run().bytes()).await;
        let answer = timeout(WITHIN, wire.until_ready_or_end()).await.expect("it is told");
        match answer {
            Ok(answer) => {
                assert_eq!(Frame::tags(&answer), "EZ", "{nth}: {answer:?}");
                assert_eq!(sqlstate(&answer), "08006", "{nth}: {answer:?}");
                assert_eq!(Frame::tags(&wire.ask(&run()).await), "2DCZ");
            }
            // What had begun to come can't be ended otherwise.
            Err(answer) => assert_eq!((nth, answer.len()), (0, 0), "{answer:?}"),
        }
        drop(wire);
        server.abandoned().await;
    }
    let counts = proxy.counts();
    assert_eq!((counts.cuts, counts.injected), (4, 1));
    server.stop().await;
    postgres.stop().await;
}

/// The server loses the statement within a transaction, where nothing is sent again.
async fn lose(wire: &mut Wire) {
    wire.ask(&query("BEGIN; SELECT 1")).await;
    wire.ask(&query("SELECT 1::forgetful")).await;
    assert_eq!(sqlstate(&wire.ask(&run()).await), "26000");
    wire.ask(&query("ROLLBACK")).await;
}

/// A session that keeps its connection passes a batch on as it comes.
#[tokio::test]
async fn who_asks_for_columns_asks_for_them_in_whatever_pieces() {
    let _others = among_others().await;
    let (postgres, server, _config) = stage().await;
    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    wire.rows("CREATE TEMP TABLE mine (a int4)").await;
    let parse = Batch::new().parse("s", "SELECT * FROM known", &[]).describe(b'S', "s").sync();
    assert_eq!(Frame::tags(&wire.ask(&parse).await), "1tTZ");
    let batch = told();
    let bind = Batch::new().bind("", "s", (0, &[]), 0).bytes().len();
    for (nth, at) in [0, 3, bind, bind + 2, bind + 6, batch.bytes().len() - 2].iter().enumerate() {
        lose(&mut wire).await;
        postgres.script(&format!("ALTER TABLE known ADD b{nth} int4")).await;
        let (first, rest) = batch.bytes().split_at(*at);
        wire.send(first).await;
        sleep(Duration::from_millis(50)).await;
        wire.send(rest).await;
        let answer = wire.until_ready().await;
        assert_eq!(Frame::tags(&answer), "2TDCZ", "{at}: {answer:?}");
    }
    // Without that question it goes on, too, when the server is told to answer.
    let anew = Batch::new().close(b'S', "s").then(&parse);
    assert_eq!(Frame::tags(&wire.ask(&anew).await), "31tTZ");
    lose(&mut wire).await;
    let bind = Batch::new().bind("", "s", (0, &[]), 0);
    wire.send(bind.bytes()).await;
    sleep(Duration::from_millis(50)).await;
    wire.send(Batch::new().flush().bytes()).await;
    assert_eq!(wire.frame().await.map(|frame| frame.tag), Some(b'2'));
    wire.ask(&Batch::new().sync()).await;
    drop(wire);
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}
