use std::sync::Arc;
use std::time::Duration;

use sortie_postgres::clients::{Recall, RecallError, RecallStats};
use tokio::time::{Instant, sleep};
use tokio_postgres::NoTls;

use super::{Bench, called_back};

const SOON: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_dropped_query_is_cancelled_on_its_server_and_its_client_comes_back_idle() {
    let mut bench = Bench::new().await;
    let client = Arc::new(bench.client().await);
    called_back(&bench.recall, Holder(Arc::clone(&client)), "SELECT pg_sleep(600)", SOON).await;
    let stats = bench.settled().await;
    assert_eq!((stats.called_back, stats.cancelled, stats.closed), (1, 1, 0));
    assert_eq!(bench.active().await, 0);
    assert_eq!(client.query_one("SELECT 7", &[]).await.unwrap().get::<_, i32>(0), 7);
}

#[tokio::test]
async fn queries_that_are_nearly_done_are_waited_for_and_not_cancelled() {
    let mut bench = Bench::new().await;
    let client = Arc::new(bench.client().await);
    for _ in 0..20 {
        let holder = Holder(Arc::clone(&client));
        let query = bench
            .recall
            .run(holder, |client| async move { client.batch_execute("SELECT 1").await });
        tokio::select! {
            biased;
            // Polled once: the task that sends it has not run yet.
            _ = query => panic!("nobody has sent it"),
            () = std::future::ready(()) => {}
        }
        bench.settled().await;
    }
    let stats = bench.recall.stats();
    assert_eq!((stats.called_back, stats.drained + stats.cancelled, stats.closed), (20, 20, 0));
    // On a busy machine one of them may take longer than a cancel costs.
    assert!(stats.drained > 0, "{stats:?}");
}

#[tokio::test]
async fn an_open_transaction_does_not_come_back_with_its_client() {
    let mut bench = Bench::new().await;
    let client = Arc::new(bench.client().await);
    let in_transaction = "BEGIN; SELECT pg_sleep(600)";
    called_back(&bench.recall, Holder(Arc::clone(&client)), in_transaction, SOON).await;
    bench.settled().await;
    let outside = client.batch_execute("SAVEPOINT s").await.unwrap_err();
    assert_eq!(outside.code().unwrap().code(), "25P01", "no transaction is open");
}

#[tokio::test]
async fn answers_and_errors_give_the_client_back_at_once() {
    let mut bench = Bench::new().await;
    let client = Arc::new(bench.client().await);
    let holder = || Holder(Arc::clone(&client));
    let answer = bench.recall.run(holder(), |client| async move {
        client.query_one("SELECT 7", &[]).await?.try_get::<_, i32>(0)
    });
    assert_eq!(answer.await.unwrap(), 7);
    let error = bench
        .recall
        .run(holder(), |client| async move { client.batch_execute("SELECT 1 / 0").await });
    assert_eq!(error.await.unwrap_err().code().unwrap().code(), "22012");
    assert_eq!(bench.recall.stats(), RecallStats::default());
    assert_eq!(Arc::strong_count(&client), 1);
}

#[tokio::test]
async fn past_the_bound_clients_are_closed_and_nothing_is_left() {
    let mut bench = Bench::new().await;
    let recall = Recall::builder(&bench.config).unwrap().quarantined_max(10).build();
    bench.recall = recall;
    for _ in 0..30 {
        let client = bench.client().await;
        // A sleep that ends by itself: a closed client's query runs on.
        called_back(&bench.recall, client, "SELECT pg_sleep(1)", Duration::from_millis(1)).await;
    }
    let stats = bench.settled().await;
    assert_eq!(stats.called_back, 30);
    assert!(stats.closed <= 20, "{stats:?}");
    assert_eq!(stats.closed + stats.cancelled + stats.drained, 30);
    let end = Instant::now() + Duration::from_secs(10);
    while bench.active().await > 0 {
        assert!(Instant::now() < end, "a query is left");
        sleep(SOON).await;
    }
}

#[tokio::test]
async fn a_dead_server_closes_the_client_and_nobody_waits_for_it() {
    let mut bench = Bench::new().await;
    let client = bench.client().await;
    let recall = bench.recall.clone();
    called_back(&recall, client, "SELECT pg_sleep(600)", SOON).await;
    bench.server.stop().await;
    let end = Instant::now() + Duration::from_secs(20);
    while recall.stats().in_flight > 0 {
        assert!(Instant::now() < end);
        sleep(SOON).await;
    }
}

#[tokio::test]
async fn a_loser_of_a_hedge_is_called_back() {
    let mut bench = Bench::new().await;
    let replicas = [bench.client().await, bench.client().await].map(Arc::new);
    let set =
        sortie::ReplicaSet::new(["SELECT pg_sleep(600)", "SELECT 1"].into_iter().zip(replicas));
    let hedge = sortie::Hedge::after(SOON);
    let recall = bench.recall.clone();
    let answer = hedge.run(&set, move |(sql, client)| {
        let recall = recall.clone();
        async move {
            let query = recall.run(Holder(client), move |client| async move {
                client.batch_execute(sql).await.map(|()| sql)
            });
            query.await
        }
    });
    assert_eq!(answer.await.unwrap(), "SELECT 1");
    assert_eq!(bench.settled().await.cancelled, 1);
    assert_eq!(bench.active().await, 0);
}

#[tokio::test]
async fn a_pool_gets_its_client_back_or_makes_another() {
    let bench = Bench::new().await;
    let manager = deadpool_postgres::Manager::new(bench.config.clone(), NoTls);
    let pool = deadpool_postgres::Pool::builder(manager).max_size(2).build().unwrap();
    for _ in 0..5 {
        let client = pool.get().await.unwrap();
        called_back(&bench.recall, client, "SELECT pg_sleep(600)", Duration::from_millis(20)).await;
    }
    let stats = bench.settled().await;
    assert_eq!((stats.called_back, stats.cancelled, stats.closed), (5, 5, 0));
    assert_eq!((pool.status().size, pool.status().available), (2, 2));
}

#[test]
fn a_recall_needs_to_know_its_one_server() {
    let config = |text: &str| text.parse().unwrap();
    assert_eq!(Recall::new(&config("user=x")).unwrap_err(), RecallError::Servers);
    assert_eq!(Recall::new(&config("host=a,b")).unwrap_err(), RecallError::Servers);
    assert!(Recall::new(&config("host=a")).is_ok());
}

/// A client that two hold: the test, and the query it lends it to.
struct Holder(Arc<tokio_postgres::Client>);

impl sortie_postgres::clients::Lend for Holder {
    fn client(&self) -> &tokio_postgres::Client {
        &self.0
    }
}
