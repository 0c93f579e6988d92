//! Who gets which connection, and who waits.

use std::time::Duration;

use sortie_postgres::{Address, ConnInfo, Login, PoolError, PoolUse, Residue, Server};
use sortie_testkit::free_port;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{LONG, config, place, settled, value};

#[tokio::test]
async fn a_connection_goes_back_and_is_found_again() {
    let place = place().await;
    let server = place.server(config(4));
    let mut mine = place.checkout(&server).await.unwrap();
    let process = value(&mut mine, "SELECT pg_backend_pid()").await.unwrap();
    let id = mine.id();
    let left = Some(Residue { owner: 7, version: 1 });
    mine.set_residue(left);
    let other = place.checkout(&server).await.unwrap();
    drop((mine, other));
    assert_eq!(server.stats().idle, 2);

    let mut again = server.checkout(&place.login, Some(id), Instant::now() + LONG).await.unwrap();
    assert_eq!((again.id(), again.residue()), (id, left));
    assert_eq!(value(&mut again, "SELECT pg_backend_pid()").await.unwrap(), process);
    drop(again);
    let stranger = server.try_checkout(&place.login, None).unwrap();
    assert_eq!(stranger.residue(), None, "a stranger gets the one without residue");
    assert_ne!(stranger.id(), id);
    let stats = server.stats();
    assert_eq!((stats.opened, stats.in_use, stats.idle), (2, 1, 1));
}

#[tokio::test]
async fn every_connection_is_shown_with_its_process_and_what_becomes_of_it() {
    let place = place().await;
    let server = place.server(config(4));
    let mut mine = place.checkout(&server).await.unwrap();
    let process = value(&mut mine, "SELECT pg_backend_pid()").await.unwrap();
    let shown = || {
        let mut shown = server.connections();
        shown.retain(|one| one.id == mine.id());
        shown.pop().unwrap()
    };
    let used = shown();
    assert_eq!((used.doing, &*used.user), (PoolUse::InUse, &*place.login.user));
    assert_eq!(used.process.map(|process| process.to_string()), Some(process));
    assert!(used.age.is_some());
    let id = mine.id();
    drop(mine);
    let idle = server.connections();
    assert_eq!((idle.len(), idle[0].id, idle[0].doing), (1, id, PoolUse::Idle));
    server.retire();
    assert_eq!(server.connections(), []);
}

#[tokio::test]
async fn a_connection_moves_to_the_runtime_of_whoever_has_it() {
    let place = place().await;
    let server = place.server(config(4));
    let (there, login) = (server.clone(), place.login.clone());
    let elsewhere = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut mine = there.checkout(&login, None, Instant::now() + LONG).await.unwrap();
            value(&mut mine, "SELECT pg_backend_pid()").await.unwrap()
        })
    });
    let process = elsewhere.join().unwrap();
    // The runtime that has opened it is gone by now.
    let mut again = place.checkout(&server).await.unwrap();
    assert_eq!(value(&mut again, "SELECT pg_backend_pid()").await.unwrap(), process);
}

#[tokio::test]
async fn many_share_a_few_and_all_get_their_turn() {
    let place = place().await;
    let server = place.server(config(3));
    let mut callers = JoinSet::new();
    for number in 0..60_u32 {
        let (server, login) = (server.clone(), place.login.clone());
        callers.spawn(async move {
            let mut mine = server.checkout(&login, None, Instant::now() + LONG).await.unwrap();
            let text = format!("SELECT {number} FROM pg_sleep(0.002)");
            assert_eq!(value(&mut mine, text).await.unwrap(), number.to_string());
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    let stats = settled(&server).await;
    assert!(stats.opened <= 3, "{stats:?}");
    assert_eq!((stats.queued + stats.checkouts, stats.refused), (60, 0));
}

#[tokio::test]
async fn other_logins_make_room() {
    let place = place().await;
    place.run("CREATE ROLE other LOGIN").await;
    let server = place.server(config(2));
    let first = place.checkout(&server).await.unwrap();
    let second = place.checkout(&server).await.unwrap();
    drop(second);
    let other = Login::new("other", &place.login.database);
    let mut theirs = server.checkout(&other, None, Instant::now() + LONG).await.unwrap();
    assert_eq!(value(&mut theirs, "SELECT current_user").await.unwrap(), "other");
    let stats = server.stats();
    assert_eq!((stats.in_use, stats.idle, stats.closed), (2, 0, 1));
    // And a digest of its own for other parameters.
    let named = place.login.clone().parameter("application_name", "named");
    let waits = server.checkout(&named, None, Instant::now() + LONG);
    let (named, ()) = tokio::join!(waits, async {
        sleep(Duration::from_millis(20)).await;
        drop((first, theirs));
    });
    let name = value(&mut named.unwrap(), "SHOW application_name").await.unwrap();
    assert_eq!(name, "named");
}

#[tokio::test]
async fn whoever_waits_too_long_is_told() {
    let place = place().await;
    let mut config = config(1);
    config.waiters_max = 1;
    let server = place.server(config);
    let mine = place.checkout(&server).await.unwrap();
    let soon = Instant::now() + Duration::from_millis(80);
    let waiting = server.checkout(&place.login, None, soon);
    let crowded = async {
        sleep(Duration::from_millis(10)).await;
        place.checkout(&server).await
    };
    let (waited, crowded) = tokio::join!(waiting, crowded);
    assert!(matches!(waited, Err(PoolError::Timeout { .. })), "{waited:?}");
    let crowded = crowded.unwrap_err();
    assert!(matches!(crowded, PoolError::Crowded), "{crowded:?}");
    assert_eq!(crowded.sqlstate(), "53300");
    // Whoever is dropped while waiting leaves nothing behind.
    timeout(Duration::from_millis(5), place.checkout(&server)).await.unwrap_err();
    drop(mine);
    let stats = settled(&server).await;
    assert_eq!((stats.idle, stats.waiting, stats.refused), (1, 0, 2));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_at_once() {
    let address = Address::tcp("127.0.0.1", free_port());
    let server = Server::new(ConnInfo::new(address, "postgres", "postgres"), config(4));
    let login = Login::new("postgres", "postgres");
    for _ in 0..5 {
        let begun = Instant::now();
        let error = server.checkout(&login, None, begun + LONG).await.unwrap_err();
        assert!(matches!(error, PoolError::Connect(_)), "{error:?}");
        assert_eq!(error.sqlstate(), "08001");
        assert!(begun.elapsed() < LONG / 2, "not only at the deadline");
    }
    let stats = settled(&server).await;
    assert!(stats.open_failures < 5, "it rests between attempts: {stats:?}");
}

#[tokio::test]
async fn a_wrong_login_is_the_servers_word_and_harms_nobody_else() {
    let place = place().await;
    let server = place.server(config(4));
    let nobody = Login::new("nobody", &place.login.database);
    let error = server.checkout(&nobody, None, Instant::now() + LONG).await.unwrap_err();
    assert_eq!(error.sqlstate(), "28000");
    place.checkout(&server).await.unwrap();
}

#[tokio::test]
async fn sessions_that_the_server_ended_are_not_handed_out() {
    let place = place().await;
    let server = place.server(config(4));
    drop((place.checkout(&server).await.unwrap(), place.checkout(&server).await.unwrap()));
    assert_eq!(server.stats().idle, 2);
    place
        .run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE pid <> pg_backend_pid() AND datname = current_database()",
        )
        .await;
    sleep(Duration::from_millis(50)).await;
    let mut fresh = place.checkout(&server).await.unwrap();
    assert_eq!(value(&mut fresh, "SELECT 1").await.unwrap(), "1");
    assert_eq!(server.stats().broken, 2);
}

#[tokio::test]
async fn warm_ones_stay_and_idle_ones_go() {
    let place = place().await;
    let mut config = config(4);
    (config.warm_min, config.idle_timeout) = (2, Duration::from_millis(100));
    let server = place.server(config);
    server.keep_warm(&place.login);
    let users =
        tokio::join!(place.checkout(&server), place.checkout(&server), place.checkout(&server));
    assert_eq!(server.stats().in_use, 3);
    drop(users);
    let end = Instant::now() + LONG;
    while server.stats().idle != 2 {
        assert!(Instant::now() < end, "{:?}", server.stats());
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_millis(300)).await;
    assert_eq!(server.stats().idle, 2);
    server.retire();
    let end = Instant::now() + LONG;
    while server.stats().opened < 5 || server.stats().idle != 2 {
        assert!(Instant::now() < end, "warm ones come back: {:?}", server.stats());
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn nothing_of_a_server_outlives_it() {
    let place = place().await;
    let server = place.server(config(4));
    let mut mine = place.checkout(&server).await.unwrap();
    drop(timeout(Duration::from_millis(20), value(&mut mine, "SELECT pg_sleep(60)")).await);
    drop(mine);
    drop(server);
    // Its sockets are closed; the query itself the server stops when it looks after us.
    let watch = place.server(config(1));
    let mut watch = place.checkout(&watch).await.unwrap();
    let end = Instant::now() + LONG;
    let others = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while value(&mut watch, others).await.unwrap() != "0" {
        assert!(Instant::now() < end);
        sleep(Duration::from_millis(50)).await;
    }
}
