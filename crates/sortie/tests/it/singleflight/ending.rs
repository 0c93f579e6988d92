//! Flights that are closed or ended by hand.

use sortie::{Call, FlightError, Join};
use tokio::time::sleep;

use super::support::{Flights, Goes, KEY, Loads, check_quiet, ms_of, settle};

/// golang/go#31420: `Forget` removed the flight that had begun after it.
#[tokio::test(start_paused = true)]
async fn a_flight_is_forgotten_by_its_id_and_no_later_one_with_it() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(50)]));
    let load = loads.load();
    let first = flights.run_with(KEY.into(), Call::new(), move |_| load()).await.unwrap().flight;
    assert!(!flights.forget_if(&KEY.into(), first), "it has ended");
    let second = loads.call(&flights).await;
    assert!(!flights.forget_if(&KEY.into(), first), "and a later one is not meant");
    let joins = loads.call(&flights).await;
    assert_eq!((joins.await.unwrap().unwrap(), second.await.unwrap().unwrap()), (2, 2));
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_may_close_its_own_flight() {
    let flights = Flights::new();
    let inner = flights.clone();
    let doubtful = flights.run_with(KEY.into(), Call::new(), move |cx| {
        let inner = inner.clone();
        async move {
            sleep(ms_of(10)).await;
            assert!(inner.forget_if(&KEY.into(), cx.flight()));
            sleep(ms_of(10)).await;
            Ok(1)
        }
    });
    let later = async {
        sleep(ms_of(15)).await;
        flights.run(KEY.into(), || async { Ok(2) }).await
    };
    let (doubtful, later) = tokio::join!(doubtful, later);
    assert_eq!((doubtful.unwrap().value, later.unwrap()), (2, 2), "the later one answers both");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_flight_ends_at_once_and_says_so() {
    let flights = Flights::new();
    let loads = Loads::script([Goes::Hangs, Goes::After(10)]);
    let callers = [loads.call(&flights).await, loads.call(&flights).await];
    let fresh = {
        let (flights, load) = (flights.clone(), loads.load());
        let call = Call::new().join(Join::Fresh);
        super::support::start(async move {
            flights.run_with(KEY.into(), call, move |_| load()).await.map(|landed| landed.value)
        })
        .await
    };
    flights.cancel(&KEY.into());
    settle().await;
    assert_eq!((loads.alive(), loads.begun()), (1, 2), "who waited for the next load has it");
    for caller in callers {
        assert!(matches!(caller.await.unwrap(), Err(FlightError::Aborted)));
    }
    assert_eq!(fresh.await.unwrap().unwrap(), 2);
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!((stats.aborted, stats.nexts), (1, 1));
    flights.cancel(&KEY.into());
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_the_successor_too() {
    let flights = Flights::builder().soft_age(ms_of(20)).build();
    let loads = Loads::script([Goes::Hangs]);
    let caller = loads.call(&flights).await;
    sleep(ms_of(30)).await;
    assert_eq!(loads.alive(), 2);
    flights.cancel(&KEY.into());
    assert!(matches!(caller.await.unwrap(), Err(FlightError::Aborted)));
    assert_eq!(check_quiet(&flights, &loads).await.aborted, 2);
}
