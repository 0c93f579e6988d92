//! What is given up leaves nothing: no entry, no task, no lease, no byte for a key.
//!
//! Each runs in a process of its own, where nobody else's memory comes and goes.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::io;
use std::process::Command;
use std::time::Duration;

use futures::poll;
use sortie::{Cache, Lookup, MemoryCache, ReadThrough, SingleFlight};
use tokio::runtime::{Builder, Handle};
use tokio::time::sleep;

/// Pages of memory that are the process's own.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Runs a test again, alone, and says whether this is that run.
fn is_alone(name: &str) -> bool {
    const CHILD: &str = "SORTIE_LEAKS_ALONE";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let mut alone = Command::new(std::env::current_exe().unwrap());
    let alone = alone.arg(name).args(["--exact", "--test-threads", "1", "--nocapture"]);
    assert!(alone.env(CHILD, "1").status().unwrap().success());
    false
}

/// Polls a call for each key once, and gives it up.
async fn give_up<F: Future>(keys: std::ops::Range<u64>, call: impl Fn(u64) -> F) {
    for key in keys {
        let mut call = Box::pin(call(key));
        assert!(poll!(call.as_mut()).is_pending());
        drop(call);
        if key % 32 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// The runtime drops so many aborted tasks at a time.
async fn until_no_task_lives() {
    for _ in 0..1_000_000 {
        if Handle::current().metrics().num_alive_tasks() == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("aborted tasks stay");
}

#[cfg(target_os = "linux")]
#[test]
fn a_million_keys_given_up_leave_no_entry_no_task_and_no_byte() {
    if !is_alone("leaks::a_million_keys_given_up_leave_no_entry_no_task_and_no_byte") {
        return;
    }
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let flights = SingleFlight::<u64, u64, ()>::new();
        let call = |key| flights.run(key, std::future::pending);
        give_up(0..200_000, call).await;
        until_no_task_lives().await;
        let before = resident();
        give_up(200_000..1_000_000, call).await;
        until_no_task_lives().await;
        let grown = resident().saturating_sub(before);
        let stats = flights.stats();
        assert_eq!((stats.leaders, stats.aborted), (1_000_000, 1_000_000));
        assert_eq!((stats.in_flight_flights, stats.in_flight_waiters), (0, 0));
        // A byte for each key would be 195 pages of 4 KiB.
        assert!(grown < 100, "{grown} pages more after 800,000 keys");
    });
}

/// How many keys are read through a cache and given up. `SORTIE_LEAK_KEYS` makes them more.
fn keys() -> u64 {
    std::env::var("SORTIE_LEAK_KEYS").map_or(40_000, |keys| keys.parse().unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn keys_read_through_a_cache_and_given_up_leave_no_lease_either() {
    if !is_alone("leaks::keys_read_through_a_cache_and_given_up_leave_no_lease_either") {
        return;
    }
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let cache = MemoryCache::<u64, u64>::new(10_000);
        let load = |_key| std::future::pending::<Result<u64, io::Error>>();
        let rows = ReadThrough::new(cache.clone(), load);
        let call = |key| {
            let rows = rows.clone();
            async move { rows.get(&key).await }
        };
        let keys = keys();
        give_up(0..keys / 2, call).await;
        let before = resident();
        give_up(keys / 2..keys, call).await;
        let grown = resident().saturating_sub(before);
        let stats = rows.flights().stats();
        assert_eq!((stats.leaders, stats.in_flight_waiters), (keys, 0), "{stats:?}");
        assert!(stats.in_flight_lingering <= 1_024, "a bounded number may linger: {stats:?}");
        sleep(Duration::from_secs(3_600)).await;
        until_no_task_lives().await;
        let stats = rows.flights().stats();
        assert_eq!((stats.in_flight_flights, stats.aborted), (0, keys), "{stats:?}");
        for key in 0..keys {
            let free = matches!(cache.get(&key).await, Lookup::Miss(_));
            assert!(free, "the lease of {key} stayed");
        }
        eprintln!("{grown} pages more after {} keys", keys / 2);
        // Forty bytes for each of the fewest keys, with room for what warms up; less than two for
        // each of a million.
        assert!(grown < 200, "{grown} pages more after {} keys", keys / 2);
    });
}
