use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::*;

/// Runs a listener for at most two connections, each open until `linger` after the drain began,
/// while `client` talks to it. Returns how many were cut and how long the drain took.
async fn run_with<Fut: Future<Output = ()>>(
    linger: Duration,
    stops: usize,
    client: impl FnOnce(SocketAddr) -> Fut,
) -> (usize, Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (drain, draining) = watch::channel(false);
    let (stopped, stops_told) = (Arc::new(Notify::new()), AtomicUsize::new(0));
    let stop = async || {
        stopped.notified().await;
        if stops_told.fetch_add(1, SeqCst) + 1 < stops {
            stopped.notify_one();
        }
    };
    let serve = move |stream: Socket, _peer| {
        let mut draining = draining.clone();
        async move {
            drop(draining.wait_for(|draining| *draining).await);
            sleep(linger).await;
            drop(stream);
        }
    };
    let cores = Cores::start().unwrap();
    let running = run(listener, (Room::new(2), Logins::default()), &cores, &drain, stop, serve);
    let told = async {
        client(address).await;
        let began = Instant::now();
        stopped.notify_one();
        began
    };
    let (cut, began) = tokio::join!(running, told);
    (cut, began.elapsed())
}

/// Leaves a connection open on purpose, once the listener has seen it.
async fn connect(address: SocketAddr, open: &mut Vec<TcpStream>) {
    open.push(TcpStream::connect(address).await.unwrap());
    sleep(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn connections_that_end_on_their_own_are_waited_for() {
    let mut open = Vec::new();
    let linger = Duration::from_millis(50);
    let (cut, took) = run_with(linger, 1, |address| connect(address, &mut open)).await;
    assert_eq!(cut, 0);
    assert!((linger..DRAIN_MAX).contains(&took), "{took:?}");
    assert_eq!(open[0].read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn those_that_stay_are_cut_when_the_drain_has_lasted_long_enough() {
    let mut open = Vec::new();
    let hour = Duration::from_secs(3_600);
    let (cut, took) = run_with(hour, 1, |address| connect(address, &mut open)).await;
    assert_eq!(cut, 1);
    assert!((DRAIN_MAX..DRAIN_MAX * 2).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_second_word_ends_the_waiting() {
    let mut open = Vec::new();
    let hour = Duration::from_secs(3_600);
    let (cut, took) = run_with(hour, 2, |address| connect(address, &mut open)).await;
    assert_eq!(cut, 1);
    assert!(took < DRAIN_MAX, "{took:?}");
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_and_the_others_live_on() {
    let mut open = Vec::new();
    let (cut, _took) = run_with(Duration::ZERO, 1, async |address| {
        for _ in 0..3 {
            connect(address, &mut open).await;
        }
        let third = open.pop().unwrap();
        assert_eq!(timeout(DRAIN_MAX, closed(third)).await, Ok(0));
    })
    .await;
    assert_eq!((cut, open.len()), (0, 2));
}

async fn closed(mut stream: TcpStream) -> usize {
    stream.read(&mut [0]).await.unwrap_or(0)
}

#[test]
fn where_fewer_may_be_than_are_there_others_find_a_way_in() {
    let room = Room::for_sessions(200);
    let mut crowd = Crowd::default();
    let mut may = |open| room.connections_max(&mut crowd, open);
    assert_eq!(may(100), 264);
    room.change(10);
    assert_eq!(may(100), 100 + TURNED_AWAY_MAX, "as many above those who stay");
    assert_eq!(may(164), 164, "and no more than these");
    assert_eq!(may(60), 60 + TURNED_AWAY_MAX);
    assert_eq!(may(124), 124, "what has become free stays free");
    assert_eq!(may(3), 10 + TURNED_AWAY_MAX);
    room.change(20);
    assert_eq!(may(84), 20 + TURNED_AWAY_MAX);
}

#[tokio::test]
async fn a_session_that_leaves_its_core_goes_on_and_is_counted() {
    let (room, cores, mut connections) = (Room::new(1), Cores::start().unwrap(), JoinSet::new());
    see(Ok(Some(Box::pin(async {}))), &mut connections, (&room, &cores));
    assert!(connections.join_next().await.unwrap().unwrap().is_none(), "it has ended");
    assert_eq!((connections.len(), room.moves()), (0, 1));
}
