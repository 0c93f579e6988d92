//! The bars: a herd behind a load that hangs, keys that are not copied.

use std::borrow::Borrow;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use sortie::{Call, FlightError, SingleFlight, WhenStuck};
use tokio::time::{Instant, sleep};

use super::support::{Flights, Goes, KEY, Loads, check_quiet, ms_of, since};

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_behind_a_load_that_never_ends_are_answered_by_its_successor() {
    let flights = Flights::builder().soft_age(ms_of(100)).build();
    let loads = Loads::script([Goes::Hangs, Goes::After(20)]);
    let begun = Instant::now();
    let mut callers = Vec::new();
    for _ in 0..1_000 {
        callers.push(loads.call(&flights).await);
    }
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), 2);
    }
    assert_eq!((since(begun), loads.begun()), (120, 2));
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!((stats.followers, stats.successors, stats.superseded), (999, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn at_a_second_hang_they_have_their_deadlines_and_new_ones_are_busy() {
    let flights = Flights::builder().soft_age(ms_of(100)).when_stuck(WhenStuck::Busy).build();
    let loads = Loads::script([Goes::Hangs]);
    let mut callers = Vec::new();
    for _ in 0..1_000 {
        let call = Call::new().deadline(Instant::now() + ms_of(500));
        let (flights, load) = (flights.clone(), loads.load());
        let call = async move { flights.run_with(KEY.into(), call, move |_| load()).await.err() };
        callers.push(tokio::runtime::Handle::current().spawn(call));
    }
    sleep(ms_of(300)).await;
    let refused = loads.call(&flights).await.await.unwrap();
    assert!(matches!(refused, Err(FlightError::Busy)));
    for caller in callers {
        assert!(matches!(caller.await.unwrap(), Some(FlightError::TimedOut)));
    }
    assert_eq!(loads.begun(), 2);
    check_quiet(&flights, &loads).await;
}

#[derive(Eq, Hash, PartialEq)]
struct Asked([u8; 3]);

static COPIES: AtomicUsize = AtomicUsize::new(0);

#[derive(Eq, Hash, PartialEq)]
struct Kept(Asked);

impl Borrow<Asked> for Kept {
    fn borrow(&self) -> &Asked {
        &self.0
    }
}

impl ToOwned for Asked {
    type Owned = Kept;

    fn to_owned(&self) -> Kept {
        COPIES.fetch_add(1, SeqCst);
        Kept(Asked(self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn a_borrowed_key_is_copied_by_its_leader_and_by_nobody_else() {
    let flights = SingleFlight::<Kept, u8, ()>::new();
    let key = Asked(*b"key");
    let call = || {
        flights.run_by(&key, Call::new(), |_| async {
            sleep(ms_of(10)).await;
            Ok(1)
        })
    };
    let answers = futures::future::join_all((0..50).map(|_| call())).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(COPIES.load(SeqCst), 1);
    let flights = SingleFlight::<String, u8, ()>::new();
    let (one, two) = tokio::join!(
        flights.run_by("key", Call::new(), |_| async { Ok(1) }),
        flights.run("key".to_owned(), || async { Ok(2) }),
    );
    assert_eq!((one.unwrap().value, two.unwrap()), (1, 2));
}
