//! Loads that panic or hang while there is an old value: who tries again, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::future::join_all;
use sortie::{How, MemoryCache, Read, ReadThrough, Why};
use tokio::time::{Instant, advance, sleep};

/// A row that counts how often it is loaded, and hangs or panics on request.
#[derive(Clone, Default)]
struct Row {
    loads: Arc<AtomicUsize>,
    hangs: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
}

impl Row {
    fn through(&self, cache: MemoryCache<u64, usize>) -> ReadThrough<u64, usize, ()> {
        let row = self.clone();
        ReadThrough::new(cache, move |_key: u64| {
            let row = row.clone();
            async move {
                let load = row.loads.fetch_add(1, Relaxed) + 1;
                let (hangs, panics) = (row.hangs.load(Relaxed), row.panics.load(Relaxed));
                sleep(Duration::from_millis(if hangs { 3_600_000 } else { 50 })).await;
                assert!(!panics, "the load panics");
                Ok(load)
            }
        })
    }

    fn loads(&self) -> usize {
        self.loads.load(Relaxed)
    }
}

/// Each caller waited to its deadline, or had the load panic again.
#[tokio::test(start_paused = true)]
async fn a_load_that_hangs_or_panics_is_not_tried_by_everybody() {
    for hangs in [true, false] {
        let row = Row::default();
        let cache = MemoryCache::builder(10).jitter(0.0).hard_ttl(Duration::from_secs(2)).build();
        let through = row.through(cache).stale_if_error(Duration::from_secs(60));
        through.get(&1).await.unwrap();
        advance(Duration::from_secs(3)).await;
        row.hangs.store(hangs, Relaxed);
        row.panics.store(!hangs, Relaxed);
        let first = if hangs { Why::TimedOut } else { Why::Failed };
        for pause in [100, 200] {
            let read = Read::new().deadline(Instant::now() + Duration::from_millis(300));
            // The callers of one flight have met one failure.
            for answer in join_all((0..5).map(|_| through.get_with(&1, read))).await {
                assert_eq!(answer.unwrap().how, How::Stale(first));
            }
            let loads = row.loads();
            advance(Duration::from_millis(pause - 1)).await;
            let answer = through.get_with(&1, read).await.unwrap();
            assert_eq!((answer.how, row.loads()), (How::Stale(Why::Failing), loads));
            advance(Duration::from_millis(2)).await;
        }
        row.hangs.store(false, Relaxed);
        row.panics.store(false, Relaxed);
        let how = through.get_with(&1, Read::new()).await.unwrap().how;
        assert_eq!(how, if hangs { How::Joined } else { How::Loaded }, "it is tried again");
    }
}
