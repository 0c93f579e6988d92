//! What calls allocate, counted on this thread. An exact count is no promise; that it does not grow
//! unseen is.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::convert::Infallible;
use std::hint::black_box;
use std::task::{Context, Waker};

use allocation_counter::measure;
use futures::FutureExt;
use sortie::{MemoryCache, ReadThrough, SingleFlight};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

const ROUNDS: u64 = 100;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

#[test]
fn a_hit_through_read_through_allocates_nothing() {
    let (runtime, cache) = (runtime(), MemoryCache::<String, u64>::new(1_000));
    let rows = ReadThrough::new(cache, |_key: String| async { Ok::<_, Infallible>(7) });
    let keys: Vec<String> = (0..ROUNDS).map(|key| format!("user:{key:08}")).collect();
    let _inside = runtime.enter();
    let read = || {
        for key in &keys {
            assert_eq!(black_box(rows.get(key).now_or_never().unwrap().unwrap()), 7);
        }
    };
    let (misses, hits) = (measure(read), measure(read));
    assert!(misses.count_total >= 2 * ROUNDS, "the counter counts: {misses:?}");
    assert_eq!((hits.count_total, hits.bytes_total), (0, 0));
}

#[test]
fn a_load_that_nobody_shares_costs_one_allocation_ready_or_not() {
    let (runtime, flights) = (runtime(), SingleFlight::<u64, u64, Infallible>::new());
    let _inside = runtime.enter();
    let ready = || {
        for key in 0..ROUNDS {
            let call = flights.run(key, move || async move { Ok(key) });
            assert_eq!(call.now_or_never().unwrap().unwrap(), key);
        }
    };
    let alone = || {
        for key in 0..ROUNDS {
            let load = move || async move {
                yield_now().await;
                Ok(key)
            };
            let mut call = std::pin::pin!(flights.run(key, load));
            let mut task = Context::from_waker(Waker::noop());
            assert!(call.as_mut().poll(&mut task).is_pending());
            assert!(call.as_mut().poll(&mut task).is_ready());
        }
    };
    // The tables have grown, and a watcher watches.
    ready();
    alone();
    assert_eq!(measure(ready).count_total, ROUNDS);
    let alone = measure(alone).count_total;
    // A watcher that looks in between is begun anew.
    assert!((ROUNDS..=ROUNDS + 20).contains(&alone), "{alone} for {ROUNDS} loads");
}
