//! One server under several runtimes, as with one runtime per core.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sortie_postgres::{Login, Server};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{LONG, config, place, query, settled, value};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Uses connections in every way, and sometimes leaves in the middle.
async fn work(server: &Server, login: &Login, rounds: u32) {
    let mut users = JoinSet::new();
    for user in 0..6_u32 {
        let (server, login) = (server.clone(), login.clone());
        users.spawn(async move {
            let mut last = None;
            for round in 0..rounds {
                let mut mine = server.checkout(&login, last, Instant::now() + LONG).await.unwrap();
                last = Some(mine.id());
                if (user + round) % 5 == 0 {
                    let slow = mine.exchange(query("SELECT pg_sleep(60)"));
                    drop(timeout(Duration::from_millis(3), slow).await);
                } else {
                    assert_eq!(value(&mut mine, "SELECT 'yes'").await.unwrap(), "yes");
                }
            }
        });
    }
    while let Some(user) = users.join_next().await {
        user.unwrap();
    }
}

#[tokio::test]
async fn runtimes_share_a_server() {
    let place = place().await;
    let server = place.server(config(4));
    // A runtime that nobody drives would stop those who use its connections: they end together.
    let all = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (server, login, all) = (server.clone(), place.login.clone(), Arc::clone(&all));
            thread::spawn(move || {
                runtime().block_on(async {
                    work(&server, &login, 15).await;
                    all.wait().await;
                });
            })
        })
        .collect();
    work(&server, &place.login, 15).await;
    all.wait().await;
    for thread in threads {
        thread.join().unwrap();
    }
    // What is left of the runtimes that are gone serves nobody, and harms nobody.
    work(&server, &place.login, 5).await;
    let stats = settled(&server).await;
    assert!(stats.idle > 0 && stats.idle <= 4, "{stats:?}");
}

/// A connection's own runtime is preferred: a session and its connection on one thread.
#[tokio::test]
async fn every_runtime_keeps_to_its_own_connections() {
    let place = place().await;
    let server = place.server(config(2));
    let here = place.checkout(&server).await.unwrap();
    let (theirs, login) = (server.clone(), place.login.clone());
    let there = runtime();
    let other = thread::spawn(move || {
        let deadline = Instant::now() + LONG;
        let mine = there.block_on(theirs.checkout(&login, None, deadline)).unwrap();
        let id = mine.id();
        drop(mine);
        (there, id)
    });
    let (there, other) = other.join().unwrap();
    let id = here.id();
    drop(here);
    assert_eq!(server.stats().idle, 2);
    assert_eq!(server.try_checkout(&place.login, None).unwrap().id(), id);
    let mine = server.try_checkout(&place.login, None).unwrap();
    assert_eq!(mine.id(), id, "although it was not the last one to come back");
    assert_eq!(server.try_checkout(&place.login, None).unwrap().id(), other, "any, if need be");
    drop(mine);
    there.shutdown_background();
}

/// The runtime that a connection comes from has heard of its end; the next one has heard nothing.
#[tokio::test]
async fn no_other_runtime_is_given_what_has_ended_at_rest() {
    const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let place = place().await;
    let server = place.server(config(2));
    let there = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for again in [true, false] {
        let (theirs, login) = (server.clone(), place.login.clone());
        let opened = there.spawn(async move {
            let mut mine = theirs.checkout(&login, None, Instant::now() + LONG).await.unwrap();
            mine.rest().unwrap()
        });
        let resting = opened.await.unwrap();
        assert_eq!(server.stats().idle, 1);
        place.run(END).await;
        sleep(Duration::from_millis(200)).await;
        let found = if again { resting.again() } else { server.try_checkout(&place.login, None) };
        assert!(found.is_none(), "again: {again}");
    }
    there.shutdown_background();
}
