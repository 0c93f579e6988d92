//! Several addresses of one name, and what is said of none.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;
use crate::conninfo::{Address, TlsMode};

const WITHIN: Duration = Duration::from_secs(3);

fn info() -> ConnInfo {
    let mut info = ConnInfo::new(Address::tcp("many.example", 5432), "u", "d");
    (info.tls.mode, info.connect_timeout) = (TlsMode::Disable, WITHIN);
    info
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Dialling this one hangs: nobody takes the connections that wait there, and no more may wait.
async fn full() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(one) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        waiting.push(one.unwrap());
        assert!(waiting.len() < 10, "it is never full");
    }
    (listener, waiting, address)
}

/// Lets one session in.
async fn serve(listener: TcpListener) -> TcpStream {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut startup = [0; 128];
    assert!(socket.read(&mut startup).await.unwrap() > 0);
    socket.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
    socket
}

#[tokio::test]
async fn one_that_hangs_leaves_time_for_the_next() {
    let (_unanswering, _waiting, full) = full().await;
    let (_mute, mute) = listener().await;
    let (closed, refusing) = listener().await;
    drop(closed);
    let (good, there) = listener().await;
    let (info, begun) = (info(), Instant::now());
    let peers = [full, mute, refusing, there].map(Peer::Tcp).to_vec();
    let login = Login::of(&info);
    let (opened, _session) = tokio::join!(open_one(&info, &login, peers, begun), serve(good));
    let Stream::Tcp(stream) = opened.unwrap().stream else { panic!("it is not encrypted") };
    assert_eq!(stream.peer_addr().unwrap(), there);
    assert!(begun.elapsed() < WITHIN, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn all_of_them_have_no_longer_than_one() {
    let (_mute, mute) = listener().await;
    let (mut info, begun) = (info(), Instant::now());
    info.connect_timeout = Duration::from_millis(300);
    let peers = vec![Peer::Tcp(mute); 3];
    let cause = open_one(&info, &Login::of(&info), peers, begun).await.unwrap_err();
    assert!(matches!(cause, ConnectCause::Timeout(_)), "{cause:?}");
    assert!((300..3_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[test]
fn a_process_without_files_does_not_blame_the_server() {
    let said = |number| ConnectCause::Dial(io::Error::from_raw_os_error(number)).to_string();
    assert!(said(24).contains("ulimit -n"), "{}", said(24));
    // ECONNREFUSED on Linux.
    assert!(said(111).contains("nobody answers"), "{}", said(111));
}
