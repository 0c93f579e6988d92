//! A relay that does one thing wrong: what the tester must see.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What is done to the first frame of a type that comes behind the startup.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mischief {
    /// None: a relay that is honest.
    None,
    Lost(u8),
    Doubled(u8),
    /// It changes places with the frame behind it.
    Late(u8),
    /// One bit of its last byte is another.
    Flipped(u8),
}

/// A relay in front of a server; it ends with this handle.
#[derive(Debug)]
pub(super) struct Relay {
    listen: SocketAddr,
    _serving: JoinSet<()>,
}

impl Relay {
    pub(super) async fn start(server: SocketAddr, mischief: Mischief) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let listen = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                clients.spawn(relay(client, server, mischief));
            }
        });
        Self { listen, _serving: serving }
    }

    pub(super) fn listen(&self) -> SocketAddr {
        self.listen
    }
}

async fn relay(client: TcpStream, server: SocketAddr, mischief: Mischief) {
    let server = TcpStream::connect(server).await.unwrap();
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let there = async {
        copy(&mut from_client, &mut to_server).await.ok();
        to_server.shutdown().await.ok();
    };
    tokio::join!(there, back(from_server, to_client, mischief));
}

async fn back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mischief: Mischief) {
    let (mut buffer, mut held) = (BytesMut::new(), None::<Bytes>);
    let (mut started, mut done) = (false, false);
    while matches!(from.read_buf(&mut buffer).await, Ok(1..)) {
        let mut out = BytesMut::new();
        while let Some(frame) = frame(&mut buffer) {
            let tag = frame[0];
            match mischief {
                Mischief::Lost(which) if started && !done && which == tag => done = true,
                Mischief::Doubled(which) if started && !done && which == tag => {
                    done = true;
                    out.extend([&frame[..], &frame[..]].concat());
                }
                Mischief::Flipped(which) if started && !done && which == tag => {
                    done = true;
                    let (last, rest) = frame.split_last().unwrap();
                    out.extend([rest, &[last ^ 1]].concat());
                }
                Mischief::Late(which) if started && !done && which == tag => {
                    done = true;
                    held = Some(frame.clone());
                }
                _ => {
                    out.extend_from_slice(&frame);
                    out.extend_from_slice(&held.take().unwrap_or_default());
                }
            }
            started |= tag == b'Z';
        }
        if to.write_all(&out).await.is_err() {
            return;
        }
    }
}

fn frame(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = usize::try_from(buffer.get(1..5)?.get_u32()).ok()?;
    (buffer.len() > length).then(|| buffer.split_to(1 + length).freeze())
}
