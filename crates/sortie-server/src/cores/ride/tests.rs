use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::cores::{Core, Cores, Socket};

const LONG: Duration = Duration::from_secs(20);

fn cores(count: usize) -> Cores {
    Cores((0..count).map(|index| Core::start(index).unwrap()).collect())
}

/// The owner of sessions: whoever leaves a core goes on at the next one.
#[derive(Default)]
struct Owner {
    riding: JoinSet<<Ride as Future>::Output>,
    moves: usize,
}

impl Owner {
    fn begin(&mut self, session: impl Future<Output = ()> + Send + 'static, core: &Core) {
        let (place, runtime) = core.place();
        self.riding.spawn_on(Ride::begin(session, place), runtime);
    }

    /// Looks after them until all have ended.
    async fn keep(&mut self, cores: &Cores) {
        while let Some(ended) = self.riding.join_next().await {
            let Some(session) = ended.unwrap() else { continue };
            self.moves += 1;
            let (place, runtime) = cores.0[self.moves % cores.0.len()].place();
            self.riding.spawn_on(Ride::go_on(session, place), runtime);
        }
    }
}

/// Says what it is told, and on which thread, until the client is gone.
async fn echo(mut socket: Socket) {
    let mut bytes = [0; 512];
    loop {
        let length = socket.read(&mut bytes).await.unwrap();
        if length == 0 {
            return;
        }
        socket.write_all(&bytes[..length]).await.unwrap();
    }
}

async fn connected() -> (TcpStream, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0.into_std().unwrap())
}

#[tokio::test]
async fn sessions_that_are_handed_over_all_the_time_lose_nothing() {
    const ROUNDS: u32 = 300;
    let cores = cores(3);
    let (mut owner, mut clients) = (Owner::default(), JoinSet::new());
    for number in 0..8_u32 {
        let (mut client, ours) = connected().await;
        let session = async move { echo(Socket::new(ours).unwrap()).await };
        owner.begin(session, &cores.0[number as usize % 3]);
        clients.spawn(async move {
            for round in 0..ROUNDS {
                let said = (number << 16 | round).to_be_bytes().repeat(50);
                client.write_all(&said).await.unwrap();
                let mut heard = vec![0; said.len()];
                client.read_exact(&mut heard).await.unwrap();
                assert_eq!(heard, said);
            }
        });
    }
    let unrest = async {
        loop {
            for core in &cores.0 {
                core.desk.leaving.store(2, Relaxed);
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let kept = async {
        tokio::select! {
            () = owner.keep(&cores) => {}
            () = unrest => {}
        }
        clients.join_all().await;
    };
    timeout(LONG, kept).await.expect("somebody waits for what has come long ago");
    assert!(owner.moves > 100, "{}", owner.moves);
    assert!(cores.0.iter().all(|core| core.desk.taken.load(Relaxed) == 0));
}

#[tokio::test]
async fn a_session_that_waits_is_woken_where_it_has_gone() {
    let cores = cores(2);
    let (mut client, ours) = connected().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&seen);
    let note = move || {
        let noting = Arc::clone(&noting);
        async move { noting.lock().await.push(thread::current().name().unwrap().to_owned()) }
    };
    let session = async move {
        let mut socket = Socket::new(ours).unwrap();
        note().await;
        // Both begin on one core and end on the other.
        let mut word = [0];
        tokio::join!(sleep(Duration::from_millis(50)), socket.read_exact(&mut word)).1.unwrap();
        note().await;
        socket.write_all(&word).await.unwrap();
    };
    let mut owner = Owner::default();
    cores.0[0].desk.leaving.store(1, Relaxed);
    owner.begin(session, &cores.0[0]);
    let talk = async {
        while cores.0[1].desk.taken.load(Relaxed) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        client.write_all(b"!").await.unwrap();
        client.read_exact(&mut [0]).await.unwrap();
    };
    timeout(LONG, async { tokio::join!(owner.keep(&cores), talk) }).await.unwrap();
    assert_eq!(*seen.lock().await, ["core-0", "core-1"]);
    assert_eq!(owner.moves, 1);
}

#[tokio::test]
async fn whoever_is_dropped_on_the_way_is_gone() {
    let cores = cores(2);
    let (mut client, ours) = connected().await;
    let mut owner = Owner::default();
    cores.0[0].desk.leaving.store(1, Relaxed);
    owner.begin(async move { echo(Socket::new(ours).unwrap()).await }, &cores.0[0]);
    let left = timeout(LONG, owner.riding.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(cores.0[0].desk.taken.load(Relaxed), 0);
    drop(left.expect("it has not ended"));
    assert_eq!(timeout(LONG, client.read(&mut [0])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn who_does_something_is_counted_once_in_each_window() {
    let cores = cores(1);
    let desk = &cores.0[0].desk;
    let mut owner = Owner::default();
    let awake = || async {
        loop {
            sleep(Duration::from_millis(1)).await;
        }
    };
    owner.begin(awake(), &cores.0[0]);
    owner.begin(awake(), &cores.0[0]);
    owner.begin(std::future::pending(), &cores.0[0]);
    let active = async |count| {
        let began = Instant::now();
        while desk.active.load(Relaxed) != count {
            assert!(began.elapsed() < LONG, "{:?}", desk.active);
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(20)).await;
        assert_eq!(desk.active.load(Relaxed), count);
    };
    active(3).await;
    cores.level();
    active(2).await;
    owner.riding.shutdown().await;
    assert_eq!(desk.taken.load(Relaxed), 0);
}
