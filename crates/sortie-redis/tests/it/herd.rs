//! A cold key, and processes that all ask for it.

use std::process::Stdio;
use std::time::Duration;

use sortie::ReadThrough;
use sortie_testkit::Redis;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::{PATIENCE, settings, until};

const PROCESSES: usize = 8;
const CALLERS: usize = 50;
const LOAD: Duration = Duration::from_millis(500);
/// Tells a worker where Redis is.
const URL: &str = "SORTIE_HERD_URL";

/// Not a test by itself: what each process of the others does.
#[tokio::test]
async fn worker() {
    let Ok(url) = std::env::var(URL) else { return };
    let builder = settings("herd").lease(Duration::from_secs(1));
    let cache = builder.open(&url).unwrap();
    until("it is connected", || cache.is_there()).await;
    let client = redis::Client::open(url).unwrap();
    let mut conn = client.get_multiplexed_async_connection().await.unwrap();
    let loads = conn.clone();
    let load = move |_key: u64| {
        let mut conn = loads.clone();
        async move {
            let me = std::process::id();
            let load: i64 = redis::cmd("RPUSH").arg("loads").arg(me).query_async(&mut conn).await?;
            sleep(LOAD).await;
            Ok::<_, redis::RedisError>(u64::try_from(load).unwrap())
        }
    };
    let through = ReadThrough::new(cache, load).pending_max(PATIENCE);
    let _: i64 = redis::cmd("INCR").arg("ready").query_async(&mut conn).await.unwrap();
    while redis::cmd("EXISTS").arg("go").query_async::<i64>(&mut conn).await.unwrap() == 0 {
        sleep(Duration::from_millis(2)).await;
    }
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let through = through.clone();
        callers.spawn(async move { through.get(&7).await.unwrap() });
    }
    let seen = callers.join_all().await;
    assert!(seen.iter().all(|value| *value == seen[0]));
    let _: i64 = redis::cmd("RPUSH").arg("seen").arg(seen[0]).query_async(&mut conn).await.unwrap();
}

/// Starts them all, and says go once they are ready.
async fn herd(redis: &Redis) -> Vec<Child> {
    let program = std::env::current_exe().expect("the test's own program");
    let start = |_| {
        let mut worker = Command::new(&program);
        worker.args(["--exact", "herd::worker", "--nocapture"]).env(URL, redis.url());
        worker
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("a process")
    };
    let workers = (0..PROCESSES).map(start).collect();
    until_it_is(redis, &["GET", "ready"], &PROCESSES.to_string()).await;
    redis.ask(&["SET", "go", "1"]).await;
    workers
}

async fn until_it_is(redis: &Redis, words: &[&str], expected: &str) {
    let waited = timeout(PATIENCE, async {
        while redis.ask(words).await != expected {
            sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{words:?} never became {expected}"));
}

#[tokio::test]
async fn a_cold_key_is_loaded_once_by_all_processes_together() {
    let redis = Redis::start().await;
    for mut worker in herd(&redis).await {
        assert!(timeout(PATIENCE, worker.wait()).await.unwrap().unwrap().success());
    }
    assert_eq!(redis.ask(&["LLEN", "seen"]).await, PROCESSES.to_string());
    assert_eq!(redis.ask(&["LLEN", "loads"]).await, "1");
}

/// Everybody waited for the lock of a process that was no more.
#[tokio::test]
async fn symfony_63592_when_the_process_that_loads_is_killed_one_other_loads() {
    let redis = Redis::start().await;
    let mut workers = herd(&redis).await;
    until_it_is(&redis, &["LLEN", "loads"], "1").await;
    let owner: u32 = redis.ask(&["LINDEX", "loads", "0"]).await.parse().unwrap();
    let place = workers.iter().position(|worker| worker.id() == Some(owner)).unwrap();
    workers.remove(place).kill().await.unwrap(); // SIGKILL.
    for mut worker in workers {
        assert!(timeout(PATIENCE, worker.wait()).await.unwrap().unwrap().success());
    }
    assert_eq!(redis.ask(&["LLEN", "seen"]).await, (PROCESSES - 1).to_string());
    assert_eq!(redis.ask(&["LLEN", "loads"]).await, "2");
}
