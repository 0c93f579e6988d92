//! A connection that was given back, and is taken again by who had it last.

use std::thread;
use std::time::Duration;

use sortie_postgres::{Pooled, Residue, Resting};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{LONG, config, place, settled, value};

async fn process(of: &mut Pooled) -> String {
    value(of, "SELECT pg_backend_pid()").await.unwrap()
}

#[tokio::test]
async fn a_connection_is_taken_again_as_it_was_left() {
    let place = place().await;
    let server = place.server(config(1));
    let mut mine = place.checkout(&server).await.unwrap();
    let (id, pid) = (mine.id(), process(&mut mine).await);
    let left = Some(Residue { owner: 7, version: 1 });
    for _ in 0..5 {
        mine.set_residue(left);
        let resting = mine.rest().unwrap();
        let stats = server.stats();
        assert_eq!((resting.id(), stats.idle, stats.in_use), (id, 1, 0));
        mine = resting.again().unwrap();
        assert_eq!((mine.id(), mine.residue()), (id, left));
        assert_eq!(process(&mut mine).await, pid);
        let stats = server.stats();
        assert_eq!((stats.idle, stats.in_use, stats.opened), (0, 1, 1));
        assert!(!server.has_room());
    }
    assert_eq!(server.stats().checkouts + server.stats().queued, 6);
}

#[tokio::test]
async fn it_is_driven_by_the_runtime_that_takes_it_again() {
    let place = place().await;
    let server = place.server(config(1));
    let (runtime, login) = (Builder::new_current_thread().enable_all().build(), &place.login);
    let (runtime, one) = (runtime.unwrap(), server.clone());
    let resting = thread::scope(|scope| {
        let used = scope.spawn(|| {
            runtime.block_on(async {
                let mut mine = one.checkout(login, None, Instant::now() + LONG).await.unwrap();
                process(&mut mine).await;
                mine.rest().unwrap()
            })
        });
        used.join().unwrap()
    });
    // That runtime is there still, and nobody runs it.
    let mut mine = resting.again().unwrap();
    timeout(LONG, process(&mut mine)).await.expect("its events go to where nobody looks");
    runtime.shutdown_background();
}

#[tokio::test]
async fn two_who_rest_alternate_on_one_connection() {
    let place = place().await;
    let server = place.server(config(1));
    drop(place.checkout(&server).await.unwrap());
    let mut resting: [Option<Resting>; 2] = [None, None];
    for turn in 0..20 {
        let at = turn % 2;
        let again = resting[at].take().and_then(Resting::again);
        assert!(again.is_none(), "the other one has had it since");
        let left = Some(Residue { owner: at as u64, version: 1 });
        let mut mine = server.try_checkout(&place.login, None).expect("it lies idle");
        assert_ne!(mine.residue(), left);
        process(&mut mine).await;
        mine.set_residue(left);
        resting[at] = mine.rest();
    }
    assert_eq!(server.stats().opened, 1);
}

#[tokio::test]
async fn two_who_take_each_others_connection_have_one_each_soon() {
    let place = place().await;
    let server = place.server(config(2));
    let left = |owner| Some(Residue { owner, version: 1 });
    let mut one = place.checkout(&server).await.unwrap();
    one.set_residue(left(1));
    let resting = one.rest().unwrap();
    let mut two = server.try_checkout(&place.login, None).expect("nobody waits for another");
    assert_eq!(two.residue(), left(1));
    assert!(resting.again().is_none());
    let opened = async {
        while server.stats().idle == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, opened).await.expect("another one is opened");
    let mut one = server.try_checkout(&place.login, None).unwrap();
    assert_eq!(one.residue(), None);
    for _ in 0..5 {
        for (mine, owner) in [(&mut one, 1), (&mut two, 2)] {
            mine.set_residue(left(owner));
            *mine = mine.rest().unwrap().again().expect("nobody needs it");
            assert_eq!(mine.residue(), left(owner));
        }
    }
    assert_eq!(server.stats().opened, 2);
}

#[tokio::test]
async fn who_waits_has_it_before_who_rests() {
    let place = place().await;
    let server = place.server(config(1));
    let resting = place.checkout(&server).await.unwrap().rest().unwrap();
    let mut mine = resting.again().unwrap();
    let mut waiting = JoinSet::new();
    waiting.spawn({
        let (server, login) = (server.clone(), place.login.clone());
        async move { server.checkout(&login, None, Instant::now() + LONG).await }
    });
    while server.stats().waiting == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let resting = mine.rest().unwrap();
    assert!(resting.again().is_none());
    drop(waiting.join_next().await.unwrap().unwrap().unwrap());
    assert_eq!(settled(&server).await.opened, 1);
}

#[tokio::test]
async fn what_ended_meanwhile_is_not_taken_again() {
    let place = place().await;
    let server = place.server(config(2));
    let (mut mine, other) =
        (place.checkout(&server).await.unwrap(), place.checkout(&server).await.unwrap());
    let pid = process(&mut mine).await;
    let resting = mine.rest().unwrap().again().unwrap().rest().unwrap();
    let mut other = other;
    value(&mut other, format!("SELECT pg_terminate_backend({pid}, 10000)")).await.unwrap();
    // Its end is on the way.
    sleep(Duration::from_millis(50)).await;
    assert!(resting.again().is_none());
    drop(other);
    let stats = settled(&server).await;
    assert_eq!((stats.broken, stats.closed, stats.idle, stats.in_use), (1, 1, 1, 0));
}

#[tokio::test]
async fn what_is_dropped_while_it_is_used_again_is_looked_after() {
    let place = place().await;
    let server = place.server(config(1));
    let resting = place.checkout(&server).await.unwrap().rest().unwrap();
    let mut mine = resting.again().unwrap();
    let query = async { value(&mut mine, "SELECT pg_sleep(600)").await };
    assert!(timeout(Duration::from_millis(50), query).await.is_err());
    drop(mine);
    let stats = settled(&server).await;
    assert_eq!((stats.idle, stats.in_use, stats.quarantined), (1, 0, 0), "{stats:?}");
    let mut next = place.checkout(&server).await.unwrap();
    process(&mut next).await;
    next.soil();
    assert!(next.rest().is_none(), "it must be cleaned first");
    drop(next);
    let next = place.checkout(&server).await.unwrap().rest().unwrap().again().unwrap();
    next.discard();
    assert_eq!(settled(&server).await.idle, 0);
}
