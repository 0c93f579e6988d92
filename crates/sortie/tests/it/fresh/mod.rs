//! What was loaded before an invalidation is not given after it: random reads of one key and of
//! many, writes, and every kind of invalidation, by this read-through and by somebody else who
//! shares its cache.
//!
//! The model is one number per row, that of its last write. Whoever writes waits until the
//! invalidation has returned; so whoever asks after that must be given at least that number.

mod broken;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sortie::{Answer, Loaded, MemoryCache, Read, ReadThrough, Sweep, Tag};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::broken::{Breaks, Broken};

const KEYS: usize = 5;
const TAGS: [Tag; 2] = [Tag::named("even"), Tag::named("odd")];

type Through<C> = ReadThrough<usize, u64, io::Error, C>;

/// The rows, and how long their loads take.
#[derive(Default)]
struct Rows {
    written: [AtomicU64; KEYS],
    pace: AtomicU64,
    loads: AtomicU64,
}

/// How many reads were answered, and how many of them with what was too old.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    answered: u64,
    stale: u64,
    loads: u64,
}

impl Rows {
    async fn load(self: Arc<Self>, keys: Vec<usize>) -> io::Result<Vec<(usize, Loaded<u64>)>> {
        let pace = self.pace.fetch_add(7, Relaxed) % 11;
        self.loads.fetch_add(keys.len() as u64, Relaxed);
        sleep(Duration::from_millis(pace)).await; // On the way there,
        let row = |key: usize| {
            let value = self.written[key].load(Relaxed);
            (key, Loaded::from(value).tagged(TAGS[key % 2]))
        };
        let rows = keys.into_iter().map(row).collect();
        sleep(Duration::from_millis(pace * 3 % 7)).await; // and on the way back.
        if pace == 3 { Err(io::Error::other("down")) } else { Ok(rows) }
    }

    fn through<C: Sweep<usize, u64> + 'static>(self: &Arc<Self>, cache: C) -> Through<C> {
        let (one, many) = (Arc::clone(self), Arc::clone(self));
        let load = move |key| {
            let rows = Arc::clone(&one).load(vec![key]);
            async move { Ok(rows.await?.remove(0).1) }
        };
        let through = ReadThrough::positioned(cache, load);
        through.batched(move |keys| Arc::clone(&many).load(keys))
    }

    fn write(&self, key: usize) {
        self.written[key].fetch_add(1, Relaxed);
    }

    fn least(&self) -> [u64; KEYS] {
        self.written.each_ref().map(|row| row.load(Relaxed))
    }
}

/// Writes, and invalidates what was written: as the owner of `through`, or of `cache` alone.
async fn write<C>(rows: &Rows, through: &Through<C>, cache: &C, rng: &mut TestRng)
where
    C: Sweep<usize, u64> + 'static,
{
    let (key, ours) = (below(rng, KEYS), below(rng, 2) == 0);
    let parity = key % 2;
    match rng.next_u32() % 8 {
        kind @ 0..5 => {
            rows.write(key);
            match (kind, ours) {
                (0 | 1, true) => through.invalidate(&key).await,
                (0 | 1, false) => cache.invalidate(&key).await,
                (2 | 3, true) => through.expire(&key).await,
                (2 | 3, false) => cache.expire(&key).await,
                _ => through.invalidate_many(&[key, (key + 1) % KEYS]).await,
            }
        }
        5 | 6 => {
            (0..KEYS).filter(|key| key % 2 == parity).for_each(|key| rows.write(key));
            if ours {
                through.invalidate_tag(TAGS[parity], None).await;
            } else {
                cache.invalidate_tag(TAGS[parity], None).await;
            }
        }
        _ => {
            (0..KEYS).for_each(|key| rows.write(key));
            if ours {
                through.invalidate_all(None).await;
            } else {
                cache.invalidate_all(None).await;
            }
        }
    }
}

/// One reader's answers, by key.
async fn read<C>(through: Through<C>, key: usize, kind: u32) -> Vec<(usize, Answer<u64>)>
where
    C: Sweep<usize, u64> + 'static,
{
    let asked = Instant::now();
    let found = match kind {
        0 => {
            let keys = [key, (key + 1) % KEYS, (key + 3) % KEYS];
            keys.into_iter().zip(through.get_many(keys).await).collect()
        }
        1 => vec![(key, through.get_with(&key, Read::new().fresh()).await)],
        _ => vec![(key, through.get_with(&key, Read::new()).await)],
    };
    let answers = found.into_iter().filter_map(|(key, answer)| Some((key, answer.ok()?)));
    let fresh = |(_, answer): &(_, Answer<u64>)| answer.began.is_some_and(|at| at >= asked);
    let answers: Vec<_> = answers.collect();
    assert!(kind != 1 || answers.iter().all(fresh), "{answers:?}");
    answers
}

/// Runs random operations on a few keys.
async fn run<C>(cache: C, operations: usize, rng: &mut TestRng) -> Tally
where
    C: Sweep<usize, u64> + Clone + 'static,
{
    let rows = Arc::<Rows>::default();
    let through = rows.through(cache.clone());
    let (mut readers, mut tally) = (JoinSet::new(), Tally::default());
    for _ in 0..operations {
        match rng.next_u32() % 16 {
            0 | 1 => write(&rows, &through, &cache, rng).await,
            2..8 => sleep(Duration::from_millis(u64::from(rng.next_u32() % 5))).await,
            _ => {
                let (key, kind, least) = (below(rng, KEYS), rng.next_u32() % 8, rows.least());
                let patience = Duration::from_millis(u64::from(rng.next_u32() % 60));
                let through = through.clone();
                readers.spawn(async move {
                    // Some leave before they are answered.
                    let answers = timeout(patience, read(through, key, kind)).await;
                    let answers = answers.unwrap_or_default();
                    let stale = answers.iter().filter(|(key, it)| it.value < least[*key]).count();
                    (answers.len() as u64, stale as u64)
                });
            }
        }
        while let Some(ended) = readers.try_join_next() {
            tally.add(ended.expect("a reader does not panic"));
        }
    }
    readers.join_all().await.into_iter().for_each(|ended| tally.add(ended));
    tally.loads = rows.loads.load(Relaxed);
    tally
}

impl Tally {
    fn add(&mut self, (answered, stale): (u64, u64)) {
        self.answered += answered;
        self.stale += stale;
    }
}

fn below(rng: &mut TestRng, limit: usize) -> usize {
    rng.next_u32() as usize % limit
}

fn rng() -> TestRng {
    TestRng::deterministic_rng(RngAlgorithm::ChaCha)
}

/// `SORTIE_FRESH_OPERATIONS=1000000` is the whole of it. Each broken rule is found in 10,000.
#[tokio::test(start_paused = true)]
async fn no_read_gets_a_value_from_before_an_invalidation() {
    let operations = std::env::var("SORTIE_FRESH_OPERATIONS").ok();
    let operations = operations.and_then(|text| text.parse().ok()).unwrap_or(40_000);
    let tally = run(MemoryCache::new(100), operations, &mut rng()).await;
    assert!(tally.stale == 0 && tally.loads < tally.answered, "{tally:?}");
    let aged = MemoryCache::builder(100)
        .early(0.5)
        .soft_ttl(Duration::from_millis(20))
        .hard_ttl(Duration::from_millis(60))
        .build();
    let tally = run(aged, 20_000, &mut rng()).await;
    assert!(tally.stale == 0 && tally.loads < tally.answered, "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn the_test_above_catches_each_rule_that_is_broken() {
    for breaks in Breaks::ALL {
        let cache = Broken { cache: MemoryCache::new(100), breaks: Some(breaks) };
        let tally = run(cache, 10_000, &mut rng()).await;
        eprintln!("{breaks:?}: {tally:?}");
        assert!(tally.stale > 0, "{breaks:?}: {tally:?}");
    }
    let whole = Broken { cache: MemoryCache::new(100), breaks: None };
    assert_eq!(run(whole, 10_000, &mut rng()).await.stale, 0);
}
