//! Loads that last too long: soft age, successor, `flight_max`, the caller's own deadline.

use std::time::Duration;

use sortie::{Call, FlightError, Idle, Join, WhenStuck};
use tokio::time::{Instant, advance, sleep};

use super::support::{Answer, Flights, Goes, KEY, Loads, check_quiet, ms_of, settle, since, start};

fn aged(soft_ms: u64) -> Flights {
    Flights::builder().soft_age(ms_of(soft_ms)).flight_max(ms_of(10_000)).build()
}

fn timed_out(answer: &Answer) -> bool {
    matches!(answer, Err(FlightError::TimedOut))
}

#[tokio::test(start_paused = true)]
async fn callers_behind_a_hanging_load_are_answered_by_two_loads_in_all() {
    for join in [Join::Running, Join::Fresh] {
        let soft = ms_of(1000);
        let flights = Flights::builder().join(join).soft_age(soft).build();
        let loads = Loads::script([Goes::Hangs, Goes::After(50)]);
        let begun = Instant::now();
        let mut callers = Vec::new();
        for _ in 0..200 {
            callers.push(loads.call(&flights).await);
        }
        for caller in callers {
            assert_eq!(caller.await.unwrap().unwrap(), 2, "{join:?}");
        }
        assert_eq!(since(begun), 1050, "soft age plus one normal load");
        assert_eq!(loads.begun(), 2);
        let stats = check_quiet(&flights, &loads).await;
        assert_eq!((stats.superseded, stats.landed), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_soft_age_is_five_seconds() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs, Goes::Ready]));
    let begun = Instant::now();
    assert_eq!(loads.call(&flights).await.await.unwrap().unwrap(), 2);
    assert_eq!(since(begun), 5000);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_flight_takes_no_new_callers() {
    let (flights, loads) = (aged(100), Loads::script([Goes::After(400), Goes::After(150)]));
    let old = loads.call(&flights).await;
    sleep(ms_of(110)).await;
    assert_eq!(loads.begun(), 2, "the successor starts by itself");
    let new = loads.call(&flights).await;
    assert_eq!(loads.begun(), 2, "and takes the new callers");
    assert_eq!(new.await.unwrap().unwrap(), 2);
    assert_eq!(old.await.unwrap().unwrap(), 2);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn the_old_answer_goes_only_to_those_who_may_have_it() {
    let (flights, loads) = (aged(100), Loads::script([Goes::After(150), Goes::After(90)]));
    let old = loads.call(&flights).await;
    sleep(ms_of(120)).await;
    let new = loads.call(&flights).await;
    let begun = Instant::now();
    assert_eq!(old.await.unwrap().unwrap(), 1);
    assert_eq!(since(begun), 30);
    assert_eq!(new.await.unwrap().unwrap(), 2);
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!((stats.landed, stats.successors), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_fresh_caller_takes_the_old_answer_if_that_load_began_after_it() {
    let flights = Flights::builder().join(Join::Fresh).soft_age(ms_of(300)).build();
    let loads = Loads::script([Goes::After(100), Goes::After(350), Goes::Hangs]);
    let first = loads.call(&flights).await;
    let fresh = loads.call(&flights).await;
    assert_eq!(first.await.unwrap().unwrap(), 1);
    assert_eq!(fresh.await.unwrap().unwrap(), 2);
    assert_eq!(loads.begun(), 3, "a successor stood by");
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_successor_that_fails_does_not_take_the_running_load_from_its_callers() {
    let (flights, loads) = (aged(100), Loads::script([Goes::After(300), Goes::FailsAfter(50)]));
    let old = loads.call(&flights).await;
    sleep(ms_of(110)).await;
    let new = loads.call(&flights).await;
    let error = new.await.unwrap().unwrap_err();
    assert!(matches!(&error, FlightError::Failed(e) if **e == "load 2 failed"), "{error:?}");
    assert_eq!(old.await.unwrap().unwrap(), 1);
    assert_eq!(loads.begun(), 2, "no second successor by itself");
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_load_that_fails_leaves_its_callers_to_the_successor() {
    let (flights, loads) = (aged(100), Loads::script([Goes::FailsAfter(110), Goes::After(50)]));
    let old = loads.call(&flights).await;
    assert_eq!(old.await.unwrap().unwrap(), 2);
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!((stats.failed, stats.landed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn when_both_fail_the_last_failure_goes_to_all() {
    let script = [Goes::FailsAfter(110), Goes::FailsAfter(50)];
    let (flights, loads) = (aged(100), Loads::script(script));
    let old = loads.call(&flights).await;
    let error = old.await.unwrap().unwrap_err();
    assert!(matches!(&error, FlightError::Failed(e) if **e == "load 2 failed"), "{error:?}");
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_successor_a_new_caller_leads_another() {
    let script = [Goes::Hangs, Goes::FailsAfter(10), Goes::After(10)];
    let (flights, loads) = (aged(100), Loads::script(script));
    let old = loads.call(&flights).await;
    sleep(ms_of(200)).await;
    assert_eq!(loads.call(&flights).await.await.unwrap().unwrap(), 3);
    assert_eq!(old.await.unwrap().unwrap(), 3, "and it answers those who waited, too");
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn when_both_hang_callers_wait_to_their_deadline() {
    let (flights, loads) = (aged(100), Loads::script([Goes::Hangs]));
    let old = loads.call(&flights).await;
    sleep(ms_of(300)).await;
    for join in [Join::Running, Join::Fresh] {
        let begun = Instant::now();
        let call = Call::new().join(join).deadline(begun + ms_of(70));
        let load = loads.load();
        let late = flights.run_with(KEY.into(), call, move |_| load()).await;
        assert!(matches!(late, Err(FlightError::TimedOut)));
        assert_eq!(since(begun), 70);
    }
    assert_eq!(loads.begun(), 2, "never more than two flights of a key");
    old.abort();
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn when_both_hang_callers_are_busy_by_choice() {
    let flights = Flights::builder().soft_age(ms_of(100)).when_stuck(WhenStuck::Busy).build();
    let loads = Loads::script([Goes::Hangs]);
    let old = loads.call(&flights).await;
    sleep(ms_of(300)).await;
    let refused = loads.call(&flights).await.await.unwrap();
    assert!(matches!(refused, Err(FlightError::Busy)));
    assert_eq!(flights.stats().busy, 1);
    old.abort();
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn when_both_hang_the_first_to_answer_answers_running_callers() {
    let (flights, loads) = (aged(100), Loads::script([Goes::After(400), Goes::Hangs]));
    let old = loads.call(&flights).await;
    sleep(ms_of(300)).await;
    let stuck = loads.call(&flights).await;
    assert_eq!(old.await.unwrap().unwrap(), 1);
    assert_eq!(stuck.await.unwrap().unwrap(), 1);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn flight_max_ends_a_flight_for_everybody() {
    let flights = Flights::builder().soft_age(Duration::MAX).flight_max(ms_of(500)).build();
    let loads = Loads::script([Goes::Hangs]);
    let begun = Instant::now();
    let callers = [loads.call(&flights).await, loads.call(&flights).await];
    for caller in callers {
        assert!(timed_out(&caller.await.unwrap()));
    }
    assert_eq!(since(begun), 500);
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!(stats.timed_out, 1);
}

#[tokio::test(start_paused = true)]
async fn flight_max_is_told_to_its_callers_although_the_successor_still_runs() {
    let flights = Flights::builder().soft_age(ms_of(100)).flight_max(ms_of(500)).build();
    let loads = Loads::script([Goes::Hangs]);
    let begun = Instant::now();
    assert!(timed_out(&loads.call(&flights).await.await.unwrap()));
    assert_eq!((since(begun), loads.begun()), (500, 2));
    check_quiet(&flights, &loads).await;
}

/// Loads that always fail later than their soft age would hand their callers on for ever.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_more_than_two_loads() {
    let (flights, loads) = (aged(100), Loads::script([Goes::FailsAfter(120)]));
    let begun = Instant::now();
    let first = loads.call(&flights).await;
    sleep(ms_of(110)).await;
    let second = loads.call(&flights).await;
    assert!(first.await.unwrap().is_err());
    assert_eq!(
        (since(begun), loads.begun()),
        (220, 3),
        "its own load and the successor have failed"
    );
    assert!(second.await.unwrap().is_err());
    assert_eq!(since(begun), 320, "the successor and the successor's own");
    check_quiet(&flights, &loads).await;
}

/// Waiters could not time out.
#[tokio::test(start_paused = true)]
async fn vitess_18272_a_callers_deadline_is_its_own() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(200)]));
    let patient = loads.call(&flights).await;
    let begun = Instant::now();
    let call = Call::new().deadline(begun + ms_of(60));
    let load = loads.load();
    let late = flights.run_with(KEY.into(), call, move |_| load()).await;
    assert!(matches!(late, Err(FlightError::TimedOut)));
    assert_eq!(since(begun), 60);
    assert_eq!(patient.await.unwrap().unwrap(), 1);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_begins_nothing() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Ready]));
    let load = loads.load();
    let call = Call::new().deadline(Instant::now());
    let late = flights.run_with(KEY.into(), call, move |_| load()).await;
    assert!(matches!(late, Err(FlightError::TimedOut)));
    assert_eq!(check_quiet(&flights, &loads).await.expired, 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_is_told_when_it_began_and_when_it_ends() {
    let flights = Flights::builder().flight_max(ms_of(700)).build();
    let begun = Instant::now();
    let landed = flights
        .run_with(KEY.into(), Call::new(), move |cx| async move {
            assert_eq!(cx.began(), begun);
            assert_eq!(cx.deadline(), Some(begun + ms_of(700)));
            sleep(ms_of(5)).await;
            Ok(7)
        })
        .await
        .unwrap();
    assert_eq!((landed.value, landed.began), (7, begun));
}

#[tokio::test(start_paused = true)]
async fn a_late_load_that_nobody_waits_for_gets_no_successor() {
    let flights = Flights::builder().soft_age(ms_of(100)).idle(Idle::Detach).build();
    let loads = Loads::script([Goes::After(1000)]);
    let caller = loads.call(&flights).await;
    caller.abort();
    advance(ms_of(500)).await;
    settle().await;
    assert_eq!(loads.begun(), 1);
    sleep(ms_of(600)).await;
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn waiting_fresh_callers_are_the_successors() {
    let flights = Flights::builder().join(Join::Fresh).soft_age(ms_of(100)).build();
    let loads = Loads::script([Goes::Hangs, Goes::After(10)]);
    let old = loads.call(&flights).await;
    let (again, load) = (flights.clone(), loads.load());
    let fresh = start(async move { again.run(KEY.into(), load).await }).await;
    assert_eq!(fresh.await.unwrap().unwrap(), 2);
    assert_eq!(old.await.unwrap().unwrap(), 2);
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!((stats.nexts, stats.successors), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_ends_as_it_grows_old_gets_no_successor() {
    let ages = Flights::builder().soft_age(ms_of(100)).flight_max(ms_of(100));
    let flights = ages.idle(Idle::Linger(ms_of(500))).build();
    let loads = Loads::script([Goes::Hangs, Goes::After(10)]);
    let hung = loads.call(&flights).await.await.unwrap();
    assert!(matches!(hung, Err(FlightError::TimedOut)));
    assert_eq!(loads.call(&flights).await.await.unwrap().unwrap(), 2);
    assert_eq!(check_quiet(&flights, &loads).await.successors, 0);
}
