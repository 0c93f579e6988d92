//! Cancels timed to arrive when their query ends by itself, the next query right behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use super::Bench;

const LANES: usize = 4;
const TRIALS_EACH: u32 = 250;

/// Busy for about 3 ms and not asleep: the end of a sleep is not where cancels are lost.
const QUERY: &str = "SELECT count(*) FROM generate_series(1, 20000)";

/// What runs next on the same connection, as soon as it is free.
const NEXT: &str = "SELECT count(*) FROM generate_series(1, 2000)";

#[tokio::test]
async fn a_cancel_that_comes_too_late_hits_nobody_else() {
    let mut bench = Bench::new().await;
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let (client, recall) = (Arc::new(bench.client().await), bench.recall.clone());
        lanes.spawn(async move {
            let took = natural(&client).await;
            let mut killed = 0;
            for trial in 0..TRIALS_EACH {
                // Around the natural end, a little more of it each time.
                let steps = u32::try_from(lane).unwrap() + trial * 7;
                let age = took * (80 + steps % 30) / 100;
                let holder = Holder(Arc::clone(&client));
                let query =
                    recall.run(holder, |client| async move { client.simple_query(QUERY).await });
                let _in_time = timeout(age, query).await;
                while Arc::strong_count(&client) > 1 {
                    sleep(Duration::from_micros(100)).await;
                }
                killed += u32::from(client.simple_query(NEXT).await.is_err());
            }
            killed
        });
    }
    assert_eq!(lanes.join_all().await, [0; LANES], "next queries that a cancel hit");
    let stats = bench.settled().await;
    assert!(stats.called_back > 100, "most cancels must have been in time to matter: {stats:?}");
}

#[tokio::test]
async fn without_the_quarantine_the_same_cancels_hit_strangers() {
    let mut bench = Bench::new().await;
    let client = bench.client().await;
    let took = natural(&client).await;
    let mut killed = 0;
    for trial in 0..400 {
        let token = client.cancel_token();
        let cancel = async {
            sleep(took * (80 + trial * 7 % 30) / 100).await;
            // Returns when it has been sent: what a client library calls done.
            let _sent = token.cancel_query(NoTls).await;
        };
        let (_own, ()) = tokio::join!(client.simple_query(QUERY), cancel);
        killed += u32::from(client.simple_query(NEXT).await.is_err());
    }
    assert!(killed > 0, "this test can't see what the other one rules out");
}

/// How long the query takes when nobody calls it back: the best of some.
async fn natural(client: &Client) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let began = tokio::time::Instant::now();
        client.simple_query(QUERY).await.unwrap();
        best = best.min(began.elapsed());
    }
    best
}

struct Holder(Arc<Client>);

impl sortie_postgres::clients::Lend for Holder {
    fn client(&self) -> &Client {
        &self.0
    }
}
