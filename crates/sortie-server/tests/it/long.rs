//! Statements that are longer than anybody reads.

use sortie_testkit::{Batch, Frame, cluster};

use crate::relay::error;
use crate::support::{among_others, before_shards};

#[tokio::test]
async fn a_long_statement_is_not_answered_by_one_shard_for_all() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let (server, _config, mut wire) = before_shards(&cluster).await;
    let text = format!("SELECT count(*) FROM users /*{}*/", "x".repeat(600 << 10));
    let run = |batch: Batch, name| batch.bind("", name, (0, &[]), 0).execute("").sync();
    let alone = Batch::new().query(&text);
    let behind = Batch::new().statement("SET a.b = 1", &[]).statement(&text, &[]).sync();
    let named = run(Batch::new().parse("s", &text, &[]), "s");
    for batch in [alone, behind, named] {
        assert_eq!(error(&wire.ask(&batch).await), "0A000");
        // Nothing of it is taken for the next one.
        assert_eq!(wire.rows("SELECT 1 FROM users WHERE user_id = 1").await.len(), 1);
        wire.rows("DISCARD ALL").await;
    }
    // A long parameter of a statement that all shards would have to answer.
    let value = vec![b'v'; 600 << 10];
    let values = Batch::new().parse("v", "SELECT count(*) FROM users WHERE name <> $1", &[]).sync();
    wire.ask(&values).await;
    let bound = Batch::new().bind("", "v", (0, &[Some(&value)]), 0).execute("").sync();
    assert_eq!(error(&wire.ask(&bound).await), "0A000");
    // The server cuts names: by another one it would find what all shards would have to answer.
    let name = |length: usize| "n".repeat(length);
    wire.ask(&Batch::new().parse(&name(64), "SELECT count(*) FROM users", &[]).sync()).await;
    assert_eq!(error(&wire.ask(&run(Batch::new(), &name(65))).await), "0A000");
    wire.rows("SET sortie.shard = 1").await;
    let answer = wire.ask(&Batch::new().query(&text)).await;
    assert!(answer.iter().any(|frame| Frame::row(frame).is_some()), "it is bound to a shard");
    drop(wire);
    server.stop().await;
}

/// The refusal comes before the client has said all: the rest of it may come along with what it
/// asks next.
#[tokio::test]
async fn what_comes_with_the_end_of_a_refused_statement_is_judged_for_itself() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let (server, _config, mut wire) = before_shards(&cluster).await;
    let text = format!("SELECT count(*) FROM users /*{}*/", "x".repeat(600 << 10));
    let long = Batch::new().query(&text);
    let next = Batch::new().query("SELECT count(*) FROM users");
    for cut in [300 << 10, 500 << 10, long.bytes().len() - 1] {
        let (begin, end) = long.bytes().split_at(cut);
        wire.send(begin).await;
        assert_eq!(error(&wire.until_ready().await), "0A000");
        wire.send(&[end, next.bytes()].concat()).await;
        let answer = wire.until_ready().await;
        assert!(answer.iter().any(|frame| Frame::row(frame).is_some()), "{cut}: {answer:?}");
    }
    drop(wire);
    server.stop().await;
}
