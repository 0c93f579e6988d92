//! Servers look, while they run a query, whether we still are there.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use sortie_postgres::{Address, ConnInfo, Login, PoolStats, Server, TlsMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::{LONG, config, place, settled, value};

const SETTING: &str = "client_connection_check_interval";

#[tokio::test]
async fn on_the_first_connection_too_and_after_a_discard_all() {
    let place = place().await;
    let server = place.server(config(1));
    for _ in 0..2 {
        let mut mine = place.checkout(&server).await.unwrap();
        assert_eq!(value(&mut mine, format!("SHOW {SETTING}")).await.unwrap(), "500ms");
        mine.soil();
        drop(mine);
        let PoolStats { opened, idle, .. } = settled(&server).await;
        assert_eq!((opened, idle), (1, 1));
    }
}

#[tokio::test]
async fn not_where_the_server_does_not_take_the_value() {
    let place = place().await;
    let mut config = config(1);
    config.check_interval = Duration::MAX;
    let server = place.server(config);
    let mut mine = place.checkout(&server).await.unwrap();
    assert_eq!(value(&mut mine, format!("SHOW {SETTING}")).await.unwrap(), "0");
    assert_eq!(server.stats().open_failures, 0);
}

/// As PostgreSQL 13 says it, and as PgBouncer does.
#[tokio::test]
async fn not_where_the_setting_is_not_known() {
    for (state, said) in [
        ("42704", format!("unrecognized configuration parameter \"{SETTING}\"")),
        ("08P01", format!("unsupported startup parameter: {SETTING}")),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut info = ConnInfo::new(Address::tcp("127.0.0.1", port), "u", "d");
        info.tls.mode = TlsMode::Disable;
        let server = Server::new(info, config(2));
        let checkouts = async {
            let login = Login::new("u", "d");
            let end = Instant::now() + LONG;
            let one = server.checkout(&login, None, end).await.unwrap();
            let other = server.checkout(&login, None, end).await.unwrap();
            assert!(one.is_idle() && other.is_idle());
        };
        let ((), (refused, _sessions)) = tokio::join!(checkouts, serve(&listener, state, &said));
        assert_eq!(refused, 1, "it was learned");
        let PoolStats { opened, open_failures, .. } = server.stats();
        assert_eq!((opened, open_failures), (2, 0));
    }
}

/// Lets two in, and refuses whoever asks for the setting. Returns how many did, and the two.
async fn serve(listener: &TcpListener, state: &str, said: &str) -> (u32, Vec<TcpStream>) {
    let (mut refused, mut sessions) = (0, Vec::new());
    while sessions.len() < 2 {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut startup = vec![0; socket.read_u32().await.unwrap() as usize - 4];
        socket.read_exact(&mut startup).await.unwrap();
        let mut answer = BytesMut::new();
        if String::from_utf8_lossy(&startup).contains(SETTING) {
            refused += 1;
            let fields = format!("SFATAL\0VFATAL\0C{state}\0M{said}\0\0");
            frame(&mut answer, b'E', fields.as_bytes());
            socket.write_all(&answer).await.unwrap();
        } else {
            frame(&mut answer, b'R', &[0; 4]);
            frame(&mut answer, b'Z', b"I");
            socket.write_all(&answer).await.unwrap();
            sessions.push(socket);
        }
    }
    (refused, sessions)
}

pub(super) fn frame(output: &mut BytesMut, tag: u8, body: &[u8]) {
    output.put_u8(tag);
    output.put_u32(u32::try_from(body.len()).unwrap() + 4);
    output.put_slice(body);
}
