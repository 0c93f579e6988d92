//! What a read-through offers beyond a plain read: wishes, answers, errors survived, many keys.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use sortie::observe::{Event, Observer};
use sortie::{
    Fill, FlightError, How, Loaded, MemoryCache, Position, Read, ReadThrough, ShardId, Sweep, Tag,
    WalPoint, Why,
};
use tokio::time::{Instant, advance, sleep};

const LOAD: Duration = Duration::from_millis(50);
const USERS: Tag = Tag::named("users");
const OTHERS: Tag = Tag::named("others");

/// A row that counts how often it is loaded, and fails, hangs or panics on request.
#[derive(Clone, Default)]
struct Row {
    loads: Arc<AtomicUsize>,
    fails: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
}

impl Row {
    fn through(&self, cache: MemoryCache<u64, u64>) -> ReadThrough<u64, u64, io::Error> {
        let row = self.clone();
        ReadThrough::positioned(cache, move |_key: u64| {
            let row = row.clone();
            async move {
                let load = row.loads.fetch_add(1, Relaxed) as u64 + 1;
                let (fails, hangs) = (row.fails.load(Relaxed), row.hangs.load(Relaxed));
                sleep(if hangs { Duration::from_secs(3_600) } else { LOAD }).await;
                assert!(!row.panics.load(Relaxed), "the load panics");
                if fails {
                    Err(io::Error::other("down"))
                } else {
                    Ok(Loaded::from(load).tagged(USERS))
                }
            }
        })
    }

    fn loads(&self) -> usize {
        self.loads.load(Relaxed)
    }
}

fn aged(soft: u64, hard: u64) -> MemoryCache<u64, u64> {
    let builder = MemoryCache::builder(10).jitter(0.0);
    builder.soft_ttl(Duration::from_secs(soft)).hard_ttl(Duration::from_secs(hard)).build()
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_how_it_was_come_by_how_old_it_is_and_as_of_when() {
    let at = Position::of([(ShardId::new(0), WalPoint { system: 7, timeline: 1, lsn: 5 })]);
    let position = at.clone();
    let through = ReadThrough::positioned(MemoryCache::new(10), move |_key: u64| {
        let position = position.clone();
        async move {
            sleep(LOAD).await;
            Ok::<_, io::Error>(Loaded::at(7, position))
        }
    });
    let ask = || through.get_with(&1, Read::new());
    let (one, two) = futures::join!(ask(), ask());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.how, two.how), (How::Loaded, How::Joined));
    assert_eq!((one.as_of.as_ref(), one.age()), (Some(&at), Some(LOAD)));
    advance(Duration::from_secs(1)).await;
    let hit = ask().await.unwrap();
    assert_eq!((hit.value, hit.how, hit.as_of), (7, How::Hit, Some(at)));
    assert_eq!(hit.began.map(|began| began.elapsed()), Some(LOAD + Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_want_a_younger_value_than_the_cache_has() {
    let row = Row::default();
    let through = row.through(MemoryCache::new(10));
    through.get(&1).await.unwrap();
    advance(Duration::from_secs(10)).await;
    let young = Read::new().max_age(Duration::from_secs(11));
    assert_eq!(through.get_with(&1, young).await.unwrap().value, 1);
    let younger = Read::new().max_age(Duration::from_secs(5));
    let answer = through.get_with(&1, younger).await.unwrap();
    assert_eq!((answer.value, answer.how), (2, How::Loaded));
    assert_eq!(through.get_with(&1, Read::new()).await.unwrap().how, How::Hit);
    assert_eq!(through.get(&1).await.unwrap(), 2, "it took the old one's place");
    let fresh = || through.get_with(&1, Read::new().fresh());
    let both = futures::join!(fresh(), fresh());
    assert_eq!((both.0.unwrap().value, both.1.unwrap().value, row.loads()), (3, 3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_fresh_read_takes_no_load_that_began_before_it() {
    let row = Row::default();
    let through = row.through(MemoryCache::new(10));
    let early = through.get(&1);
    let late = async {
        sleep(LOAD / 2).await;
        let arrived = Instant::now();
        let answer = through.get_with(&1, Read::new().fresh()).await.unwrap();
        assert!(answer.began.is_some_and(|began| began >= arrived));
        answer.value
    };
    let (early, late) = futures::join!(early, late);
    assert_eq!((early.unwrap(), late), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_bypasses_everything_changes_nothing() {
    let row = Row::default();
    let through = row.through(MemoryCache::new(10));
    through.get(&1).await.unwrap();
    let alone = through.get_with(&1, Read::new().bypass()).await.unwrap();
    assert_eq!((alone.value, alone.how), (2, How::Loaded));
    assert_eq!(through.get(&1).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_value_is_better_than_an_error_if_its_owner_says_so() {
    let row = Row::default();
    let through = row.through(aged(1, 2)).stale_if_error(Duration::from_secs(60));
    through.get(&1).await.unwrap();
    advance(Duration::from_secs(3)).await;
    row.fails.store(true, Relaxed);
    let answer = through.get_with(&1, Read::new()).await.unwrap();
    assert_eq!((answer.value, answer.how), (1, How::Stale(Why::Failed)));
    // It is tried again, but not by everybody.
    for _ in 0..20 {
        let answer = through.get_with(&1, Read::new()).await.unwrap();
        assert_eq!(answer.how, How::Stale(Why::Failing));
    }
    assert_eq!(row.loads(), 2);
    advance(Duration::from_millis(101)).await;
    assert_eq!(through.get_with(&1, Read::new()).await.unwrap().how, How::Stale(Why::Failed));
    advance(Duration::from_millis(150)).await;
    assert_eq!(through.get_with(&1, Read::new()).await.unwrap().how, How::Stale(Why::Failing));
    row.fails.store(false, Relaxed);
    advance(Duration::from_millis(60)).await;
    let answer = through.get_with(&1, Read::new()).await.unwrap();
    assert_eq!((answer.value, answer.how), (4, How::Loaded));
    row.fails.store(true, Relaxed);
    advance(Duration::from_secs(61)).await;
    assert!(matches!(through.get(&1).await, Err(FlightError::Failed(_))), "too old");
}

#[tokio::test(start_paused = true)]
async fn what_was_invalidated_is_not_given_instead_of_an_error_and_what_expired_is() {
    let row = Row::default();
    let through = row.through(MemoryCache::new(10)).stale_if_error(Duration::from_secs(60));
    through.get(&1).await.unwrap();
    through.get(&2).await.unwrap();
    row.fails.store(true, Relaxed);
    through.expire(&1).await;
    assert_eq!(through.get(&1).await.unwrap(), 1);
    through.invalidate(&1).await;
    assert!(matches!(through.get(&1).await, Err(FlightError::Failed(_))));
    through.expire(&2).await;
    through.invalidate_tag(USERS, None).await;
    assert!(matches!(through.get(&2).await, Err(FlightError::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_hangs_is_answered_with_an_old_value_at_the_deadline() {
    let row = Row::default();
    let through = row.through(aged(1, 2)).stale_if_error(Duration::from_secs(60));
    through.get(&1).await.unwrap();
    advance(Duration::from_secs(3)).await;
    row.hangs.store(true, Relaxed);
    let deadline = Instant::now() + Duration::from_millis(300);
    let answer = through.get_with(&1, Read::new().deadline(deadline)).await.unwrap();
    assert_eq!((answer.value, answer.how), (1, How::Stale(Why::TimedOut)));
    assert_eq!(Instant::now(), deadline);
    let nothing = through.get_with(&2, Read::new().deadline(deadline)).await;
    assert!(matches!(nothing, Err(FlightError::TimedOut)));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_leaves_the_value_and_is_not_tried_by_everybody() {
    for panics in [false, true] {
        let row = Row::default();
        let through = row.through(aged(1, 600));
        through.get(&1).await.unwrap();
        advance(Duration::from_secs(1)).await;
        let fails = if panics { &row.panics } else { &row.fails };
        fails.store(true, Relaxed);
        let answer = through.get_with(&1, Read::new()).await.unwrap();
        assert_eq!((answer.value, answer.how), (1, How::Stale(Why::Refreshing)));
        sleep(LOAD + Duration::from_millis(1)).await;
        for _ in 0..20 {
            let answer = through.get_with(&1, Read::new()).await.unwrap();
            assert_eq!((answer.value, answer.how), (1, How::Stale(Why::Failing)));
        }
        assert_eq!(row.loads(), 2);
        fails.store(false, Relaxed);
        sleep(Duration::from_millis(101)).await;
        through.get(&1).await.unwrap();
        sleep(LOAD + Duration::from_millis(1)).await;
        assert_eq!(through.get(&1).await.unwrap(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn that_there_is_nothing_is_kept_for_a_short_time_and_ends_with_an_insert() {
    let (loads, there) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let load = {
        let (loads, there) = (Arc::clone(&loads), Arc::clone(&there));
        move |_key: u64| {
            loads.fetch_add(1, Relaxed);
            let row = Some(there.load(Relaxed)).filter(|row| *row > 0);
            async move { Ok::<_, io::Error>(row) }
        }
    };
    let cache = MemoryCache::builder(10).jitter(0.0).hard_ttl(Duration::from_secs(600)).build();
    let users = ReadThrough::new(cache, load).negative(Duration::from_secs(2), Option::is_none);
    for _ in 0..5 {
        assert_eq!(users.get(&1).await.unwrap(), None);
    }
    assert_eq!(loads.load(Relaxed), 1);
    there.store(7, Relaxed);
    users.invalidate(&1).await; // Whoever inserts says so.
    assert_eq!(users.get(&1).await.unwrap(), Some(7));
    assert_eq!(users.get(&2).await.unwrap(), Some(7));
    there.store(0, Relaxed);
    users.invalidate(&2).await;
    assert_eq!(users.get(&2).await.unwrap(), None);
    there.store(8, Relaxed); // Nobody says so.
    advance(Duration::from_secs(2)).await;
    assert_eq!(users.get(&2).await.unwrap(), Some(8));
    advance(Duration::from_secs(500)).await;
    assert_eq!(users.get(&1).await.unwrap(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn no_flight_from_before_a_sweep_is_joined_after_it() {
    let row = Row::default();
    let through = row.through(MemoryCache::new(10));
    for sweep in 0..2 {
        let early = through.get(&1);
        let late = async {
            sleep(LOAD / 2).await;
            if sweep == 0 {
                through.invalidate_tag(USERS, None).await;
            } else {
                through.invalidate_all(None).await;
            }
            through.get(&1).await.unwrap()
        };
        let (early, late) = futures::join!(early, late);
        assert_eq!((early.unwrap(), late), (sweep * 2 + 1, sweep * 2 + 2));
        assert_eq!(through.get(&1).await.unwrap(), sweep * 2 + 2);
        through.invalidate(&1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_flight_from_before_a_sweep_by_another_handle_is_joined_after_it() {
    let row = Row::default();
    let cache = MemoryCache::new(10);
    let through = row.through(cache.clone());
    // The second is of no concern to the key: then what was loaded under the lease may be had.
    for (tag, late_load, stored) in [(Some(USERS), 2, 2), (Some(OTHERS), 3, 3), (None, 5, 5)] {
        let late = async {
            sleep(LOAD / 2).await;
            match tag {
                Some(tag) => cache.invalidate_tag(tag, None).await,
                None => cache.invalidate_all(None).await,
            }
            let (first, second) = futures::join!(through.get(&1), async {
                sleep(LOAD / 10).await;
                through.get(&1).await
            });
            assert_eq!(first.unwrap(), late_load, "{tag:?}");
            second.unwrap()
        };
        let (_early, late) = futures::join!(through.get(&1), late);
        assert_eq!(late, late_load, "{tag:?}");
        assert_eq!((through.get(&1).await.unwrap(), row.loads() as u64), (stored, stored));
        through.invalidate(&1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_keys_are_loaded_at_once_and_shared_with_readers_of_one() {
    let calls: Arc<Mutex<Vec<Vec<u64>>>> = Arc::default();
    let many = {
        let calls = Arc::clone(&calls);
        move |keys: Vec<u64>| {
            calls.lock().push(keys.clone());
            async move {
                sleep(LOAD).await;
                let rows = keys.into_iter().filter(|key| *key < 100);
                Ok::<_, io::Error>(rows.map(|key| (key, Loaded::from(key * 10))).collect())
            }
        }
    };
    let singles = Arc::new(AtomicUsize::new(0));
    let one = {
        let singles = Arc::clone(&singles);
        move |key: u64| {
            singles.fetch_add(1, Relaxed);
            async move {
                sleep(LOAD).await;
                Ok(key * 10)
            }
        }
    };
    let through = ReadThrough::new(MemoryCache::new(1_000), one).batched(many);
    through.get(&1).await.unwrap();
    let flying = through.get(&2);
    let batch = async {
        sleep(LOAD / 2).await;
        through.get_many([1, 2, 3, 4, 100]).await
    };
    let joins = async {
        sleep(LOAD).await;
        through.get(&3).await
    };
    let (flying, batch, joins) = futures::join!(flying, batch, joins);
    assert_eq!((flying.unwrap(), joins.unwrap()), (20, 30));
    let hows: Vec<_> =
        batch.iter().map(|found| found.as_ref().ok().map(|it| (it.value, it.how))).collect();
    let (hit, joined, loaded) = (How::Hit, How::Joined, How::Loaded);
    let expected = [(10, hit), (20, joined), (30, loaded), (40, loaded)].map(Some);
    assert_eq!((&hows[..4], hows[4]), (&expected[..], None));
    assert!(matches!(batch[4], Err(FlightError::NotFound)));
    assert_eq!((&*calls.lock(), singles.load(Relaxed)), (&vec![vec![3, 4, 100]], 2));
    assert!(
        through.get_many([1, 2, 3, 4]).await.iter().flatten().all(|it| it.how == hit),
        "stored"
    );
    through.invalidate_many(&[3, 4]).await;
    assert_eq!(through.get_with(&3, Read::new()).await.unwrap().how, How::Loaded);
}

#[tokio::test(start_paused = true)]
async fn without_a_batch_loader_many_keys_are_loaded_one_by_one_at_once() {
    let row = Row::default();
    let through = row.through(MemoryCache::new(1_000));
    let began = Instant::now();
    let found = through.get_many(0..50).await;
    assert!(found.iter().all(Result::is_ok));
    assert_eq!((began.elapsed(), row.loads()), (LOAD, 50));
}

#[derive(Default)]
struct Heard(Mutex<Vec<(&'static str, &'static str)>>);

impl Observer for Heard {
    fn event(&self, event: &Event) {
        match event {
            Event::FillRefused { why, .. } => self.0.lock().push(("refused", why.label())),
            Event::StaleServed { why, .. } => self.0.lock().push(("stale", why.label())),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_hears_of_late_fills_and_of_what_is_served_stale() {
    let (row, heard) = (Row::default(), Arc::new(Heard::default()));
    let through = row.through(aged(1, 600)).observer(Arc::clone(&heard) as Arc<dyn Observer>);
    let early = through.get(&1);
    let late = async {
        sleep(LOAD / 2).await;
        through.invalidate(&1).await;
    };
    futures::join!(early, late).0.unwrap();
    through.get(&1).await.unwrap();
    advance(Duration::from_secs(1)).await;
    through.get(&1).await.unwrap();
    let expected = [("refused", Fill::Revoked.label()), ("stale", Why::Refreshing.label())];
    assert_eq!(*heard.0.lock(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_early_refresh_is_nobody_s_wait() {
    let row = Row::default();
    let ages = MemoryCache::builder(10).jitter(0.0).soft_ttl(Duration::from_secs(10)).early(0.8);
    let through = row.through(ages.build());
    through.get(&1).await.unwrap();
    advance(Duration::from_secs(8)).await;
    let began = Instant::now();
    let all = join_all((0..100).map(|_| through.get_with(&1, Read::new()))).await;
    assert!(all.into_iter().flatten().all(|it| (it.value, it.how) == (1, How::Hit)));
    assert_eq!((began.elapsed(), row.loads()), (Duration::ZERO, 2));
    sleep(LOAD + Duration::from_millis(1)).await;
    assert_eq!(through.get(&1).await.unwrap(), 2);
}
