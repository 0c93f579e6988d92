//! Limits: alone or refused, counted apart, never an empty success.

use std::num::NonZeroUsize;

use futures::poll;
use sortie::{AtLimit, Call, FlightError, Role, SingleFlight, SingleFlightBuilder};

use super::support::{Flights, Goes, KEY, Loads, check_quiet, start};

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

fn build(
    limit: impl FnOnce(
        SingleFlightBuilder<String, usize, String>,
    ) -> SingleFlightBuilder<String, usize, String>,
    at_limit: AtLimit,
) -> Flights {
    limit(Flights::builder()).at_limit(at_limit).build()
}

async fn occupy(flights: &Flights, loads: &Loads, key: &'static str) {
    let (flights, load) = (flights.clone(), loads.load());
    drop(start(async move { flights.run(key.into(), load).await }).await);
}

#[tokio::test(start_paused = true)]
async fn past_flights_max_a_caller_runs_alone() {
    let flights = build(|builder| builder.flights_max(one()), AtLimit::Solo);
    let loads = Loads::script([Goes::After(100)]);
    occupy(&flights, &loads, "other").await;
    let load = loads.load();
    let landed = flights.run_with(KEY.into(), Call::new(), move |_| load()).await.unwrap();
    assert_eq!((landed.value, landed.role), (2, Role::Solo));
    assert_eq!(check_quiet(&flights, &loads).await.solos, 1);
}

#[tokio::test(start_paused = true)]
async fn past_flights_max_a_caller_is_busy_by_choice() {
    let flights = build(|builder| builder.flights_max(one()), AtLimit::Busy);
    let loads = Loads::script([Goes::After(100)]);
    occupy(&flights, &loads, KEY).await;
    let refused = flights.run("other".into(), loads.load()).await;
    assert!(matches!(refused, Err(FlightError::Busy)));
    // The key that flies may still be joined, and the limit is free again once it has landed.
    assert_eq!(flights.run(KEY.into(), loads.load()).await.unwrap(), 1);
    assert_eq!(flights.run("other".into(), loads.load()).await.unwrap(), 2);
    assert_eq!(check_quiet(&flights, &loads).await.busy, 1);
}

/// The first version of its waiter cap returned empty results.
#[tokio::test(start_paused = true)]
async fn vitess_18783_past_waiters_max_a_caller_gets_a_real_answer_or_a_refusal() {
    for at_limit in [AtLimit::Solo, AtLimit::Busy] {
        let flights = build(|builder| builder.waiters_max(one()), at_limit);
        let loads = Loads::script([Goes::After(100)]);
        occupy(&flights, &loads, KEY).await;
        let answer = flights.run(KEY.into(), loads.load()).await;
        match at_limit {
            AtLimit::Solo => assert_eq!(answer.unwrap(), 2),
            _ => assert!(matches!(answer, Err(FlightError::Busy))),
        }
        tokio::time::sleep(super::support::ms_of(200)).await;
        check_quiet(&flights, &loads).await;
    }
}

#[tokio::test(start_paused = true)]
async fn past_shared_bytes_max_a_caller_meets_a_limit_until_they_are_taken() {
    for at_limit in [AtLimit::Solo, AtLimit::Busy] {
        let most = NonZeroUsize::new(1_000).unwrap();
        // Each value weighs 600 of them.
        let limit =
            |builder: SingleFlightBuilder<_, _, _>| builder.shared_bytes_max(most, |_: &usize| 600);
        let flights = build(limit, at_limit);
        let loads = Loads::script([Goes::After(10)]);
        let call = |key: &'static str| Box::pin(flights.run(key.into(), loads.load()));
        let (mut slow, mut other) = (call("slow"), call("other"));
        assert!(poll!(slow.as_mut()).is_pending() && poll!(other.as_mut()).is_pending());
        tokio::time::sleep(super::support::ms_of(20)).await;
        assert_eq!(flights.stats().in_flight_bytes, 1_200, "nobody has taken them");
        // A new load may begin, but not be shared.
        let mut third = call(KEY);
        assert!(poll!(third.as_mut()).is_pending());
        match (at_limit, call(KEY).await) {
            (AtLimit::Solo, answer) => assert_eq!(answer.unwrap(), 4),
            (_, answer) => assert!(matches!(answer, Err(FlightError::Busy))),
        }
        assert_eq!((slow.await.unwrap(), other.await.unwrap(), third.await.unwrap()), (1, 2, 3));
        assert_eq!(flights.stats().in_flight_bytes, 0);
        let (one, two) = futures::join!(call(KEY), call(KEY));
        assert_eq!(one.unwrap(), two.unwrap());
        let stats = check_quiet(&flights, &loads).await;
        assert_eq!((stats.followers, stats.solos + stats.busy), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_solo_load_keeps_to_deadlines_and_contains_its_panic() {
    let flights = build(|builder| builder.flights_max(one()), AtLimit::Solo);
    let busy = Loads::script([Goes::Hangs]);
    occupy(&flights, &busy, "other").await;
    let hang = Loads::script([Goes::Hangs]);
    let load = hang.load();
    let call = Call::new().deadline(tokio::time::Instant::now() + super::support::ms_of(10));
    let late = flights.run_with(KEY.into(), call, move |_| load()).await;
    assert!(matches!(late, Err(FlightError::TimedOut)));
    let panics = Loads::script([Goes::PanicsAfter(5)]);
    let panicked = flights.run(KEY.into(), panics.load()).await;
    assert!(matches!(panicked, Err(FlightError::Panicked { .. })));
    assert_eq!((hang.alive(), panics.alive()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_large_limit_is_met_at_most_one_in_128_early_and_never_exceeded() {
    let most = 20_000;
    let limit = NonZeroUsize::new(most).unwrap();
    let busy = SingleFlight::<usize, (), ()>::builder().flights_max(limit);
    let flights = busy.at_limit(AtLimit::Busy).build();
    for key in 0..most {
        flights.run(key, || async { Ok(()) }).await.unwrap();
    }
    let mut calls = Vec::new();
    for key in 0..2 * most {
        let mut call = Box::pin(flights.run(key, std::future::pending));
        if poll!(call.as_mut()).is_pending() {
            calls.push(call);
        }
    }
    assert!((most - most / 128..=most).contains(&calls.len()), "{} flights", calls.len());
    drop(calls);
    assert_eq!(flights.stats().in_flight_flights, 0);
}
