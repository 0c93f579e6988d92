//! Reads of many keys do for each what a read of one does; and a lease is held by a load, or by
//! nobody.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use sortie::{
    Cache, Cached, Fill, FlightError, How, Loaded, Lookup, MemoryCache, MemoryLease, MemoryWait,
    Position, Read, ReadThrough, SingleFlight, Tag, Why,
};
use tokio::time::{Instant, advance, sleep};

const LOAD: Duration = Duration::from_millis(50);

/// Rows that count their loads, one key and many keys apart, and fail on request.
#[derive(Clone, Default)]
struct Rows {
    loads: Arc<AtomicUsize>,
    singles: Arc<AtomicUsize>,
    batches: Arc<Mutex<Vec<Vec<u64>>>>,
    fails: Arc<AtomicBool>,
}

impl Rows {
    fn through<C>(&self, cache: C) -> ReadThrough<u64, usize, io::Error, C>
    where
        C: Cache<u64, usize> + 'static,
    {
        let (one, many) = (self.clone(), self.clone());
        let load = move |_key: u64| {
            one.singles.fetch_add(1, Relaxed);
            one.clone().load()
        };
        let batch = move |mut keys: Vec<u64>| {
            keys.sort_unstable();
            many.batches.lock().push(keys.clone());
            let load = many.clone().load();
            async move {
                let value = load.await?;
                Ok(keys.into_iter().map(|key| (key, Loaded::from(value))).collect())
            }
        };
        ReadThrough::new(cache, load).batched(batch)
    }

    /// Gives the number of the load.
    async fn load(self) -> io::Result<usize> {
        let (load, fails) = (self.loads.fetch_add(1, Relaxed) + 1, self.fails.load(Relaxed));
        sleep(LOAD).await;
        if fails { Err(io::Error::other("down")) } else { Ok(load) }
    }

    fn batches(&self) -> Vec<Vec<u64>> {
        self.batches.lock().clone()
    }

    fn singles(&self) -> usize {
        self.singles.load(Relaxed)
    }
}

fn aged(soft: u64, hard: u64) -> MemoryCache<u64, usize> {
    let builder = MemoryCache::builder(100).jitter(0.0);
    builder.soft_ttl(Duration::from_secs(soft)).hard_ttl(Duration::from_secs(hard)).build()
}

/// Takes the lease of a key, as another process would that then gives it back.
async fn lease_of(cache: &MemoryCache<u64, usize>, key: u64) -> MemoryLease<u64, usize> {
    match cache.get(&key).await {
        Lookup::Miss(lease) => lease,
        _ => panic!("nobody else has it"),
    }
}

type Answers = Vec<Result<sortie::Answer<usize>, FlightError<io::Error>>>;

fn hows(answers: &Answers) -> Vec<How> {
    answers.iter().map(|answer| answer.as_ref().expect("an answer").how).collect()
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_for_the_next_load_keeps_no_lease_from_the_one_that_runs() {
    for many in [false, true] {
        let (rows, cache) = (Rows::default(), MemoryCache::new(100));
        let through = rows.through(cache.clone());
        let held = lease_of(&cache, 1).await;
        let mut waits = Box::pin(through.get(&1));
        assert!(waits.as_mut().now_or_never().is_none(), "its flight waits for the lease");
        sleep(Duration::from_millis(1)).await;
        // Of no concern to the key; but no flight from before it is joined after it.
        through.invalidate_tag(Tag::named("others"), None).await;
        let began = Instant::now();
        drop(held);
        // Before the flight sees that, this caller has the lease.
        if many {
            assert!(through.get_many([1]).await[0].is_ok());
        } else {
            through.get(&1).await.unwrap();
        }
        waits.await.unwrap();
        assert!(began.elapsed() <= LOAD * 3, "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_of_many_keys_that_joins_a_flight_keeps_no_lease_from_it() {
    let (rows, cache) = (Rows::default(), MemoryCache::new(100));
    let through = rows.through(cache.clone());
    let held = lease_of(&cache, 1).await;
    let mut waits = Box::pin(through.get(&1));
    assert!(waits.as_mut().now_or_never().is_none(), "its flight waits for the lease");
    let began = Instant::now();
    drop(held);
    let answers = through.get_many([1, 2]).await;
    assert!(answers.iter().all(Result::is_ok));
    waits.await.unwrap();
    assert!(began.elapsed() <= LOAD * 3, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn many_stale_keys_are_refreshed_by_one_load() {
    let rows = Rows::default();
    let through = rows.through(aged(1, 600));
    through.get_many(1..=40).await;
    advance(Duration::from_secs(1)).await;
    let began = Instant::now();
    let answers = through.get_many(1..=40).await;
    assert!(hows(&answers).iter().all(|how| *how == How::Stale(Why::Refreshing)));
    assert_eq!(began.elapsed(), Duration::ZERO);
    sleep(LOAD + Duration::from_millis(1)).await;
    let keys: Vec<u64> = (1..=40).collect();
    assert_eq!((rows.batches(), rows.singles()), (vec![keys.clone(), keys], 0));
    let answers = through.get_many(1..=40).await;
    assert!(answers.iter().all(|it| it.as_ref().is_ok_and(|it| it.value == 2)), "stored");
    assert_eq!(hows(&answers), [How::Hit; 40]);
}

#[tokio::test(start_paused = true)]
async fn for_many_keys_too_an_old_value_is_better_than_an_error() {
    let rows = Rows::default();
    let through = rows.through(aged(1, 2)).stale_if_error(Duration::from_secs(60));
    through.get_many([1, 2]).await;
    advance(Duration::from_secs(3)).await;
    rows.fails.store(true, Relaxed);
    let answers = through.get_many([1, 2, 3]).await;
    assert!(matches!(answers[2], Err(FlightError::Failed(_))), "there is none");
    assert_eq!(hows(&answers.into_iter().take(2).collect()), [How::Stale(Why::Failed); 2]);
    // It is tried again, but not by everybody.
    for _ in 0..20 {
        assert_eq!(hows(&through.get_many([1, 2]).await), [How::Stale(Why::Failing); 2]);
    }
    assert_eq!(rows.batches().len(), 2);
    rows.fails.store(false, Relaxed);
    advance(Duration::from_millis(101)).await;
    assert_eq!(hows(&through.get_many([1, 2]).await), [How::Loaded; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_load_of_many_keys_that_is_tried_again_is_stored() {
    let rows = Rows::default();
    let flights = SingleFlight::builder().retries(1, LOAD, |_error| true).build();
    let through = rows.through(MemoryCache::new(100)).with_flights(flights);
    rows.fails.store(true, Relaxed);
    let recovers = async {
        sleep(LOAD / 2).await;
        rows.fails.store(false, Relaxed);
    };
    let (answers, ()) = futures::join!(through.get_many([1, 2, 3]), recovers);
    assert_eq!(hows(&answers), [How::Loaded; 3]);
    assert_eq!(rows.batches(), [[1, 2, 3], [1, 2, 3]]);
    assert_eq!(hows(&through.get_many([1, 2, 3]).await), [How::Hit; 3]);
}

/// A cache that can't say whether the lease of one key is the only one.
#[derive(Clone)]
struct Unsure(MemoryCache<u64, usize>, u64);

impl Cache<u64, usize> for Unsure {
    type Lease = (u64, MemoryLease<u64, usize>);
    type Wait = MemoryWait;

    async fn get(&self, key: &u64) -> Lookup<usize, Self::Lease, MemoryWait> {
        match self.0.get(key).await {
            Lookup::Hit(cached) => Lookup::Hit(cached),
            Lookup::Miss(lease) => Lookup::Miss((*key, lease)),
            Lookup::Pending(wait) => Lookup::Pending(wait),
            _ => panic!("nothing ages here"),
        }
    }

    async fn fill(&self, (_, lease): Self::Lease, loaded: Loaded<usize>) -> Fill {
        self.0.fill(lease, loaded).await
    }

    async fn invalidate(&self, key: &u64) {
        self.0.invalidate(key).await;
    }

    async fn invalidate_at(&self, key: &u64, position: &Position) {
        self.0.invalidate_at(key, position).await;
    }

    fn is_exclusive(&self, (key, _): &Self::Lease) -> bool {
        *key != self.1
    }

    fn held_since(&self, wait: &MemoryWait) -> Option<Instant> {
        self.0.held_since(wait)
    }

    async fn last(&self, key: &u64) -> Option<Cached<usize>> {
        self.0.last(key).await
    }
}

#[tokio::test(start_paused = true)]
async fn one_unsure_lease_lets_no_other_key_join_what_was_invalidated() {
    let (rows, cache) = (Rows::default(), MemoryCache::new(100));
    let through = rows.through(Unsure(cache.clone(), 2));
    let late = async {
        sleep(LOAD / 2).await;
        cache.invalidate(&1).await; // By somebody who does not know of the flights here.
        through.get_many([1, 2]).await
    };
    let (early, late) = futures::join!(through.get(&1), late);
    assert_eq!(early.unwrap(), 1);
    assert!(late[0].as_ref().unwrap().value > 1, "{late:?}");
    assert_eq!(rows.loads.load(Relaxed), 3, "{:?}", rows.batches());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_gives_way_at_a_limit_and_begins_no_load() {
    for many in [false, true] {
        let rows = Rows::default();
        let flights = SingleFlight::builder().flights_max(1.try_into().unwrap()).build();
        let through = rows.through(aged(1, 600)).with_flights(flights);
        through.get(&1).await.unwrap();
        advance(Duration::from_secs(1)).await;
        let mut other = Box::pin(through.get(&2));
        assert!(other.as_mut().now_or_never().is_none(), "it is the one flight");
        let loads = rows.loads.load(Relaxed);
        let how = if many {
            hows(&through.get_many([1]).await)[0]
        } else {
            through.get_with(&1, Read::new()).await.unwrap().how
        };
        assert_eq!((how, rows.loads.load(Relaxed)), (How::Stale(Why::Refreshing), loads));
        other.await.unwrap();
        // The lease was given back: the next one refreshes it.
        assert!(matches!(through.get_with(&1, Read::new()).await.unwrap().how, How::Stale(_)));
        assert_eq!(rows.loads.load(Relaxed), loads + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waited_for_another_s_load_is_told_so() {
    let (rows, cache) = (Rows::default(), MemoryCache::new(100));
    let through = rows.through(cache.clone());
    let held = lease_of(&cache, 1).await;
    let other = async {
        sleep(LOAD).await;
        assert_eq!(cache.fill(held, 7.into()).await, Fill::Stored);
    };
    let (answer, ()) = futures::join!(through.get_with(&1, Read::new()), other);
    let answer = answer.unwrap();
    assert_eq!((answer.value, answer.how, rows.singles()), (7, How::Joined, 0));
}

#[tokio::test(start_paused = true)]
async fn a_load_for_one_caller_alone_ends_too_and_its_panic_is_an_error() {
    let flight_max = Duration::from_secs(1);
    let flights = SingleFlight::builder().flight_max(flight_max).build();
    let through = ReadThrough::new(MemoryCache::new(100), |key: u64| async move {
        assert!(key != 2, "the load panics");
        sleep(Duration::from_secs(3_600)).await;
        Ok::<_, io::Error>(7)
    });
    let through = through.with_flights(flights);
    let began = Instant::now();
    let answer = through.get_with(&1, Read::new().bypass()).await;
    assert!(matches!(answer, Err(FlightError::TimedOut)), "{answer:?}");
    assert_eq!(began.elapsed(), flight_max);
    let answer = through.get_with(&2, Read::new().bypass()).await;
    assert!(matches!(answer, Err(FlightError::Panicked { .. })), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_wishes_holds_for_each_of_many_keys() {
    let rows = Rows::default();
    let through = rows.through(MemoryCache::new(100));
    through.get_many([1, 2]).await;
    advance(Duration::from_secs(10)).await;
    through.get_many([3]).await;
    // What is old enough stays, and what is not is loaded with what is missing, by one load.
    let young = Read::new().max_age(Duration::from_secs(5));
    let answers = through.get_many_with([1, 2, 3, 4], young).await;
    assert_eq!(hows(&answers), [How::Loaded, How::Loaded, How::Hit, How::Loaded]);
    let ages = answers.iter().map(|answer| answer.as_ref().unwrap().age().unwrap());
    assert!(ages.max() <= Some(Duration::from_secs(5)));
    assert_eq!(rows.batches(), [vec![1, 2], vec![3], vec![1, 2, 4]]);
    let again = through.get_many([1, 2, 4]).await;
    assert_eq!(hows(&again), [How::Hit; 3], "the young ones took the old ones' places");
    // Nothing that began before the call, and shared with whoever asks for it meanwhile.
    let (fresh, one) = tokio::join!(
        through.get_many_with([1, 2], Read::new().fresh()),
        through.get_with(&1, Read::new().max_age(Duration::ZERO)),
    );
    assert_eq!(hows(&fresh), [How::Loaded; 2]);
    assert_eq!(one.unwrap().how, How::Joined);
    assert_eq!(rows.batches().len(), 4);
    assert_eq!(rows.singles(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_for_many_keys_is_told_of_each_that_is_late() {
    let rows = Rows::default();
    let through = rows.through(MemoryCache::new(100));
    through.get_many([1]).await;
    let soon = Read::new().deadline(Instant::now() + LOAD / 2);
    let answers = through.get_many_with([1, 2, 3], soon).await;
    assert!(matches!(answers[0], Ok(ref answer) if answer.how == How::Hit));
    assert!(matches!(answers[1..], [Err(FlightError::TimedOut), Err(FlightError::TimedOut)]));
}

#[tokio::test(start_paused = true)]
async fn many_keys_past_everything_are_loaded_for_the_caller_alone() {
    let rows = Rows::default();
    let through = rows.through(MemoryCache::new(100));
    through.get_many([1]).await;
    let answers = through.get_many_with([1, 2], Read::new().bypass()).await;
    assert_eq!(hows(&answers), [How::Loaded; 2]);
    assert_eq!((rows.singles(), rows.batches().len()), (2, 1));
    assert_eq!(hows(&through.get_many([1, 2]).await), [How::Hit, How::Loaded], "nothing changed");
}
