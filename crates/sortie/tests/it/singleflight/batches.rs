//! One load for many keys: each key has a flight of its own.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use sortie::{AtLimit, Call, FlightCx, FlightError, Idle, Join, Landed, Role, SingleFlight};
use tokio::time::{Instant, sleep, timeout};

use super::support::{ms_of, settle, since, start};

type Flights = SingleFlight<u64, u64, String>;
type Answers = Vec<Result<Landed<u64>, FlightError<String>>>;
type Rows = Result<Vec<(u64, Result<u64, String>)>, String>;

/// What loads were asked for, in order, and who of them still lives.
#[derive(Clone, Default)]
struct Db {
    asked: Arc<Mutex<Vec<Vec<u64>>>>,
    alive: Arc<()>,
}

impl Db {
    fn asked(&self) -> Vec<Vec<u64>> {
        self.asked.lock().unwrap().clone()
    }

    fn alive(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }

    /// Load `n` takes as long as `latency(n)` says. A row is ten times its key; keys over 900 are
    /// not there, and 666 is broken.
    fn load(
        &self,
        latency: impl Fn(usize) -> u64 + Send + Sync + 'static,
    ) -> impl Fn(Vec<u64>, FlightCx) -> BoxFuture<'static, Rows> + Clone + Send + Sync + 'static
    {
        let (asked, alive, latency) = (self.asked.clone(), self.alive.clone(), Arc::new(latency));
        let alive = Arc::downgrade(&alive);
        move |keys, _cx| {
            let mut asked = asked.lock().unwrap();
            asked.push(keys.clone());
            let (ms, alive) = (latency(asked.len()), alive.upgrade());
            Box::pin(async move {
                if ms > 0 {
                    sleep(ms_of(ms)).await;
                }
                drop(alive);
                let row = |key| (key, if key == 666 { Err("broken".into()) } else { Ok(key * 10) });
                Ok(keys.into_iter().filter(|key| *key < 900).map(row).collect())
            })
        }
    }
}

fn values(answers: &Answers) -> Vec<Option<u64>> {
    answers.iter().map(|it| it.as_ref().ok().map(|landed| landed.value)).collect()
}

/// Nothing is in flight, and nothing lives.
async fn check_quiet(flights: &Flights, db: &Db) {
    settle().await;
    let stats = flights.stats();
    assert_eq!((stats.in_flight_flights, stats.in_flight_waiters), (0, 0), "{stats:?}");
    assert_eq!(db.alive(), 0, "a load leaked");
}

#[tokio::test(start_paused = true)]
async fn one_load_answers_all_keys_in_their_order() {
    for latency in [0, 20] {
        let (flights, db) = (Flights::new(), Db::default());
        let load = db.load(move |_| latency);
        let answers = flights.run_many([3, 1, 2, 1], Call::new(), load).await;
        assert_eq!(values(&answers), [Some(30), Some(10), Some(20), Some(10)]);
        assert_eq!(db.asked(), [[3, 1, 2]], "each key once");
        check_quiet(&flights, &db).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_ready_load_costs_no_task() {
    let (flights, db) = (Flights::new(), Db::default());
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let tasks = alive();
    flights.run_many([1, 2], Call::new(), db.load(|_| 0)).await;
    assert_eq!(alive(), tasks);
    let (again, load) = (flights.clone(), db.load(|_| 10));
    let many = start(async move { again.run_many(0..100, Call::new(), load).await }).await;
    assert_eq!(alive(), tasks + 2, "the caller, and one task for a hundred flights");
    many.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_is_not_found_and_a_partial_failure_fails_its_key_alone() {
    for latency in [0, 5] {
        let (flights, db) = (Flights::new(), Db::default());
        let load = db.load(move |_| latency);
        let answers = flights.run_many([1, 901, 666, 2], Call::new(), load).await;
        assert_eq!(values(&answers), [Some(10), None, None, Some(20)]);
        assert!(matches!(answers[1], Err(FlightError::NotFound)));
        assert!(matches!(&answers[2], Err(FlightError::Failed(why)) if **why == "broken"));
        assert_eq!((flights.stats().landed, flights.stats().failed), (3, 1));
        check_quiet(&flights, &db).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_or_panics_fails_every_key_it_was_given() {
    let flights = Flights::new();
    let fails = |_keys, _cx| async {
        sleep(ms_of(1)).await;
        Err("all".to_owned())
    };
    for answer in flights.run_many([1, 2], Call::new(), fails).await {
        assert!(matches!(answer, Err(FlightError::Failed(why)) if *why == "all"));
    }
    for pause in [0, 1] {
        let panics = move |_keys, _cx| async move {
            if pause > 0 {
                sleep(ms_of(pause)).await;
            }
            panic!("it panics")
        };
        for answer in flights.run_many([1, 2], Call::new(), panics).await {
            assert!(matches!(answer, Err(FlightError::Panicked { .. })));
        }
    }
    assert_eq!((flights.stats().failed, flights.stats().panicked), (2, 4));
    assert_eq!(flights.stats().in_flight_flights, 0);
}

#[tokio::test(start_paused = true)]
async fn single_callers_and_other_batches_share_key_by_key() {
    let (flights, db) = (Flights::new(), Db::default());
    let call = |keys: Vec<u64>| {
        let (flights, load) = (flights.clone(), db.load(|_| 50));
        start(async move { flights.run_many(keys, Call::new(), load).await })
    };
    let load = db.load(|_| 50);
    let single = |key| {
        let (flights, load) = (flights.clone(), load.clone());
        start(async move {
            let one = move |cx| {
                let rows = load(vec![key], cx);
                async move { rows.await?.remove(0).1 }
            };
            flights.run_with(key, Call::new(), one).await.unwrap()
        })
    };
    let alone = single(5).await;
    let first = call(vec![1, 2, 5]).await;
    let second = call(vec![2, 3, 1]).await;
    let joins = single(3).await;
    assert_eq!(values(&first.await.unwrap()), [Some(10), Some(20), Some(50)]);
    assert_eq!(values(&second.await.unwrap()), [Some(20), Some(30), Some(10)]);
    assert_eq!((joins.await.unwrap().role, alone.await.unwrap().value), (Role::Follower, 50));
    assert_eq!(db.asked(), [vec![5], vec![1, 2], vec![3]]);
    assert_eq!(db.alive(), 0);
}

/// Each leads what the other joins: whoever waited before it began its own would wait for ever.
#[tokio::test(start_paused = true)]
async fn two_batches_that_join_each_other_both_end() {
    let (flights, db) = (Flights::new(), Db::default());
    let load = db.load(|_| 10);
    let (one, two) = tokio::join!(
        flights.run_many([1, 2, 3], Call::new(), load.clone()),
        flights.run_many([4, 3, 2, 5], Call::new(), load),
    );
    assert_eq!((values(&one).len(), values(&two)[3]), (3, Some(50)));
    assert_eq!(db.asked(), [vec![1, 2, 3], vec![4, 5]]);
    check_quiet(&flights, &db).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_is_given_no_more_keys_than_batch_max() {
    let three = NonZeroUsize::new(3).unwrap();
    let (flights, db) = (Flights::builder().batch_max(three).build(), Db::default());
    let (begun, load) = (Instant::now(), db.load(|_| 10));
    let answers = flights.run_many(0..7, Call::new(), load).await;
    assert_eq!(values(&answers), (0..7).map(|key| Some(key * 10)).collect::<Vec<_>>());
    assert_eq!(db.asked(), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
    assert_eq!(since(begun), 10, "at the same time");
    check_quiet(&flights, &db).await;
}

#[tokio::test(start_paused = true)]
async fn the_load_ends_with_the_last_of_its_keys() {
    let (flights, db) = (Flights::new(), Db::default());
    let (again, load) = (flights.clone(), db.load(|_| 100));
    let many = start(async move { again.run_many([1, 2], Call::new(), load).await }).await;
    let (again, load) = (flights.clone(), db.load(|_| 100));
    let joins = start(async move { again.run_many([2], Call::new(), load).await }).await;
    many.abort();
    settle().await;
    assert_eq!((flights.stats().aborted, db.alive()), (1, 1), "one key is still wanted");
    joins.abort();
    check_quiet(&flights, &db).await;
    assert_eq!((flights.stats().aborted, db.asked().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lingering_load_of_many_keys_is_bounded_too() {
    let flights = Flights::builder().idle(Idle::Linger(ms_of(30))).build();
    let db = Db::default();
    let (again, load) = (flights.clone(), db.load(|_| 1000));
    let many = start(async move { again.run_many([1, 2], Call::new(), load).await }).await;
    many.abort();
    settle().await;
    assert_eq!(db.alive(), 1);
    sleep(ms_of(31)).await;
    check_quiet(&flights, &db).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait_for_what_is_late_only() {
    let (flights, db) = (Flights::new(), Db::default());
    let (again, slow) = (flights.clone(), db.load(|_| 100));
    let slow = start(async move { again.run_many([1], Call::new(), slow).await }).await;
    let call = Call::new().deadline(Instant::now() + ms_of(40));
    let answers = flights.run_many([1, 2], call, db.load(|_| 10)).await;
    assert!(matches!(answers[0], Err(FlightError::TimedOut)));
    assert_eq!(answers[1].as_ref().unwrap().value, 20);
    slow.await.unwrap();
    let past = Call::new().deadline(Instant::now());
    let answers = flights.run_many([1, 2], past, db.load(|_| 10)).await;
    assert!(answers.iter().all(|it| matches!(it, Err(FlightError::TimedOut))));
    assert_eq!((db.asked().len(), flights.stats().expired), (2, 2));
    check_quiet(&flights, &db).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_hangs_is_relieved_by_one_load_for_all_its_keys() {
    let (flights, db) = (Flights::builder().soft_age(ms_of(100)).build(), Db::default());
    let load = db.load(|number| if number == 1 { 1_000_000 } else { 10 });
    let begun = Instant::now();
    let answers = flights.run_many([1, 2, 3], Call::new(), load).await;
    assert_eq!(values(&answers), [Some(10), Some(20), Some(30)]);
    assert_eq!((since(begun), db.asked()), (110, vec![vec![1, 2, 3]; 2]));
    assert_eq!((flights.stats().successors, flights.stats().superseded), (3, 3));
    check_quiet(&flights, &db).await;
}

#[tokio::test(start_paused = true)]
async fn flight_max_ends_every_key_of_a_load() {
    let ages = Flights::builder().soft_age(std::time::Duration::MAX).flight_max(ms_of(50));
    let (flights, db) = (ages.build(), Db::default());
    let answers = flights.run_many([1, 2], Call::new(), db.load(|_| 1000)).await;
    assert!(answers.iter().all(|it| matches!(it, Err(FlightError::TimedOut))));
    assert_eq!(flights.stats().timed_out, 2);
    check_quiet(&flights, &db).await;
}

/// A successor that began in the moment of the end got no task, and whoever joined it hung.
#[tokio::test(start_paused = true)]
async fn a_load_of_many_keys_that_ends_as_it_grows_old_leaves_nothing_behind() {
    let ages = Flights::builder().soft_age(ms_of(100)).flight_max(ms_of(100));
    let (flights, db) = (ages.idle(Idle::Linger(ms_of(500))).build(), Db::default());
    let load = db.load(|number| if number == 1 { 1_000_000 } else { 10 });
    let answers = flights.run_many([1, 2], Call::new(), load.clone()).await;
    assert!(answers.iter().all(|it| matches!(it, Err(FlightError::TimedOut))));
    let later = flights.run_many([1, 2], Call::new(), load);
    let later = timeout(ms_of(50), later).await.expect("the keys work at once");
    assert_eq!(values(&later), [Some(10), Some(20)]);
    assert_eq!((flights.stats().successors, flights.stats().timed_out), (0, 2));
    check_quiet(&flights, &db).await;
}

#[tokio::test(start_paused = true)]
async fn forgetting_one_key_of_a_load_leaves_the_others() {
    let (flights, db) = (Flights::new(), Db::default());
    let call = || {
        let (flights, load) = (flights.clone(), db.load(|_| 20));
        start(async move { flights.run_many([1, 2], Call::new(), load).await })
    };
    let before = call().await;
    flights.forget(&2);
    let after = call().await;
    before.await.unwrap();
    after.await.unwrap();
    assert_eq!(db.asked(), [vec![1, 2], vec![2]]);
    check_quiet(&flights, &db).await;
}

#[tokio::test(start_paused = true)]
async fn fresh_batches_wait_key_by_key() {
    let (flights, db) = (Flights::new(), Db::default());
    let call = |join| {
        let (flights, load) = (flights.clone(), db.load(|_| 20));
        start(async move { flights.run_many([1, 2], Call::new().join(join), load).await })
    };
    let first = call(Join::Running).await;
    let fresh = [call(Join::Fresh).await, call(Join::Fresh).await];
    first.await.unwrap();
    for answers in fresh {
        assert_eq!(values(&answers.await.unwrap()), [Some(10), Some(20)]);
    }
    let asked: Vec<BTreeSet<_>> = db.asked().into_iter().map(BTreeSet::from_iter).collect();
    assert_eq!(asked.len(), 3, "{asked:?}: one load for each key that was waited for");
    check_quiet(&flights, &db).await;
}

#[tokio::test(start_paused = true)]
async fn past_a_limit_the_keys_that_met_it_run_alone_together() {
    let two = NonZeroUsize::new(2).unwrap();
    for at_limit in [AtLimit::Solo, AtLimit::Busy] {
        let flights = Flights::builder().flights_max(two).at_limit(at_limit).build();
        let db = Db::default();
        let answers = flights.run_many(1..=4, Call::new(), db.load(|_| 20)).await;
        let expected = match at_limit {
            AtLimit::Solo => [Some(10), Some(20), Some(30), Some(40)],
            _ => [Some(10), Some(20), None, None],
        };
        assert_eq!(values(&answers), expected);
        assert_eq!(db.asked()[0], [1, 2]);
        check_quiet(&flights, &db).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_asks_for_one_of_its_own_keys_is_told() {
    let flights = Flights::new();
    let inner = flights.clone();
    let load = move |_keys, _cx| {
        let inner = inner.clone();
        async move {
            sleep(ms_of(1)).await;
            let again = |_keys, _cx| async { Ok(Vec::new()) };
            match inner.run_many([2], Call::new(), again).await.remove(0) {
                Err(FlightError::Reentrant) => Err("told".to_owned()),
                other => panic!("{other:?}"),
            }
        }
    };
    for answer in flights.run_many([1, 2], Call::new(), load).await {
        assert!(matches!(answer, Err(FlightError::Failed(why)) if *why == "told"));
    }
}

#[test]
fn a_runtime_that_shuts_down_ends_every_key() {
    let flights = Flights::new();
    let inner = flights.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let (entered, hangs) = (runtime.enter(), |_keys, _cx| std::future::pending());
    let mut call = Box::pin(inner.run_many([1, 2], Call::new(), hangs));
    let polled = futures::executor::block_on(async { futures::poll!(call.as_mut()) });
    assert!(polled.is_pending());
    drop(entered);
    runtime.shutdown_background();
    for answer in futures::executor::block_on(call) {
        assert!(matches!(answer, Err(FlightError::Aborted)));
    }
    assert_eq!(flights.stats().in_flight_flights, 0);
}
