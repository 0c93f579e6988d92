//! How many cancel requests a server gets at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use sortie_postgres::{Address, ConnInfo, Frontend, Login, Server, TlsMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::checks::frame;
use super::{LONG, config, settled};

const SESSIONS: u32 = 12;
const CANCELS_MAX: u32 = 3;
const CANCEL_REQUEST: u32 = 80_877_102;

#[tokio::test]
async fn no_more_are_under_way_than_may_be() {
    // All of them in quarantine; and most of them closed and stopped without it.
    for quarantined_max in [SESSIONS, 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut info = ConnInfo::new(Address::tcp("127.0.0.1", port), "u", "d");
        info.tls.mode = TlsMode::Disable;
        let mut config = config(SESSIONS);
        (config.quarantined_max, config.cancels_max) = (Some(quarantined_max), CANCELS_MAX);
        let server = Server::new(info, config);
        let counts = Arc::new(Counts::default());
        let mut fake = JoinSet::new();
        fake.spawn(Arc::clone(&counts).serve(listener));
        let mut all = Vec::new();
        for _ in 0..SESSIONS {
            let end = Instant::now() + LONG;
            let mut mine = server.checkout(&Login::new("u", "d"), None, end).await.unwrap();
            let mut frames = BytesMut::new();
            Frontend::Query { text: "SELECT".into() }.encode(&mut frames);
            mine.send(&mut frames).await.unwrap();
            all.push(mine);
        }
        drop(all);
        let stats = settled(&server).await;
        assert_eq!(counts.most.load(Relaxed), CANCELS_MAX, "{stats:?}");
        assert_eq!(stats.cancelled, u64::from(quarantined_max), "{stats:?}");
        assert_eq!(stats.killed, u64::from(SESSIONS - quarantined_max), "{stats:?}");
    }
}

/// A server whose queries end when they are cancelled, and whose cancels take their time.
#[derive(Default)]
struct Counts {
    under_way: AtomicU32,
    most: AtomicU32,
    cancels: [Notify; SESSIONS as usize],
}

impl Counts {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let (mut tasks, mut process) = (JoinSet::new(), 0);
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut startup = vec![0; socket.read_u32().await.unwrap() as usize - 4];
            socket.read_exact(&mut startup).await.unwrap();
            let number = |at: usize| u32::from_be_bytes(startup[at..at + 4].try_into().unwrap());
            if number(0) == CANCEL_REQUEST {
                tasks.spawn(Arc::clone(&self).cancel(socket, number(4)));
            } else {
                tasks.spawn(Arc::clone(&self).session(socket, process));
                process += 1;
            }
        }
    }

    async fn cancel(self: Arc<Self>, _socket: TcpStream, process: u32) {
        let under_way = self.under_way.fetch_add(1, Relaxed) + 1;
        self.most.fetch_max(under_way, Relaxed);
        sleep(Duration::from_millis(20)).await;
        self.cancels[process as usize].notify_one();
        self.under_way.fetch_sub(1, Relaxed);
    }

    async fn session(self: Arc<Self>, mut socket: TcpStream, process: u32) {
        let mut said = BytesMut::new();
        frame(&mut said, b'R', &[0; 4]);
        let mut key = process.to_be_bytes().to_vec();
        key.put_u32(0);
        frame(&mut said, b'K', &key);
        frame(&mut said, b'Z', b"I");
        socket.write_all(&said).await.unwrap();
        self.cancels[process as usize].notified().await;
        said.clear();
        frame(&mut said, b'E', b"SERROR\0VERROR\0C57014\0Mcancelled\0\0");
        frame(&mut said, b'Z', b"I");
        // Nobody may be there any more.
        drop(socket.write_all(&said).await);
        while socket.read_u8().await.is_ok() {}
    }
}
