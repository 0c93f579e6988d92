//! What becomes of the attempts that did not answer.

use std::time::Duration;

use sortie::AttemptKind::{First, Hedge as Hedged};
use sortie::Loss::{Abandoned, Lost};
use tokio::time::timeout;

use super::rig::Rig;
use super::{fail, hang, hedge, ok};

#[tokio::test(start_paused = true)]
async fn losers_are_dropped_then_shown_to_the_reaper_before_the_answer() {
    let rig = Rig::new(hedge(), &[hang(), ok(90), ok(5)]);
    rig.call().await;
    assert_eq!(rig.losers(), [(Lost, 0, First, 25), (Lost, 1, Hedged, 15)]);
    let ledger = rig.assert_at_rest();
    assert_eq!((ledger.lost, ledger.abandoned, ledger.hedge_wins), (2, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_abandons_its_attempts() {
    let rig = Rig::new(hedge(), &[hang(), fail(1), hang()]);
    timeout(Duration::from_millis(30), rig.call()).await.unwrap_err();
    assert_eq!(rig.losers(), [(Abandoned, 0, First, 30), (Abandoned, 2, FAILOVER, 19)]);
    let ledger = rig.assert_at_rest();
    assert_eq!((ledger.requests_abandoned, ledger.abandoned, ledger.failed_over), (1, 2, 1));
}

const FAILOVER: sortie::AttemptKind = sortie::AttemptKind::Failover;

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_polled_asked_nobody() {
    let rig = Rig::new(hedge(), &[ok(1)]);
    drop(sortie::Hedge::clone(&rig.hedge).run(&rig.replicas, |_| std::future::pending()));
    assert_eq!(rig.assert_at_rest().requests, 0);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_run_show_in_the_gauges() {
    let rig = Rig::new(hedge(), &[hang(), hang()]);
    let mut call = std::pin::pin!(rig.call());
    timeout(Duration::from_millis(15), &mut call).await.unwrap_err();
    let ledger = rig.hedge.ledger();
    assert_eq!((ledger.in_flight(), ledger.requests_in_flight()), (2, 1));
    assert_eq!(rig.replicas.in_flight().collect::<Vec<_>>(), [("0", 1), ("1", 1)]);
}

#[tokio::test(start_paused = true)]
async fn the_reaper_learns_which_attempt_it_was() {
    let ids = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&ids);
    let hedge = hedge().reaper(move |loser: sortie::Loser<u64>| {
        seen.lock().unwrap().push(format!("{} on {}", loser.attempt, loser.label));
    });
    let replicas = sortie::ReplicaSet::new([90, 1]).label(|ms| format!("{ms} ms"));
    for _ in 0..3 {
        let slow_first = hedge.run(&replicas, |ms| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok::<_, ()>(())
        });
        slow_first.await.unwrap();
    }
    assert_eq!(*ids.lock().unwrap(), ["0.0 on 90 ms", "2.0 on 90 ms"]);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_classification_still_closes_the_books() {
    let hedge = hedge().classify(|_: &Result<(), ()>| panic!("a bug in the caller's code"));
    let replicas = sortie::ReplicaSet::new([()]);
    let call =
        tokio::task::JoinSet::from_iter([hedge.run(&replicas, async |()| Ok(()))]).join_all();
    drop(tokio::task::JoinSet::from_iter([call]).join_next().await.unwrap().unwrap_err());
    let ledger = hedge.ledger();
    assert_eq!((ledger.in_flight(), ledger.requests_in_flight()), (0, 0));
    assert_eq!(replicas.in_flight().collect::<Vec<_>>(), [("0", 0)]);
}
