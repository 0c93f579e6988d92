//! A client that sends and sees frames.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::batch::Batch;

/// Longer than any answer in these tests takes: a hanging server fails the test.
const FRAME_WITHIN: Duration = Duration::from_secs(30);

/// A connection past its startup.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    stream: TcpStream,
    buffer: BytesMut,
    key: Option<Bytes>,
    parameters: Vec<(String, String)>,
}

/// A backend message.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Frame {
    /// Its type byte.
    pub tag: u8,
    /// What follows the length.
    pub body: Bytes,
}

/// The fields of an error or a notice that tests look at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Field `C`.
    pub sqlstate: String,
    /// Field `M`.
    pub message: String,
    /// Fields `D` and `H`, as far as they are there.
    pub detail: String,
    /// Field `P`, in characters from 1.
    pub position: Option<usize>,
}

impl Wire {
    /// Connects as user `tester` and waits for the first `ReadyForQuery`.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_as(address, "tester").await
    }

    /// Connects as a user and waits for the first `ReadyForQuery`.
    pub async fn connect_as(address: SocketAddr, user: &str) -> Self {
        match Self::try_connect(address, user).await {
            Ok(wire) => wire,
            Err(frames) => {
                let report = frames.iter().find_map(Frame::report);
                panic!("{user} was refused at {address}: {report:?}")
            }
        }
    }

    /// As [`connect_as`](Self::connect_as); what the server said instead when it refuses.
    ///
    /// # Errors
    ///
    /// All frames up to the end of the connection.
    pub async fn try_connect(address: SocketAddr, user: &str) -> Result<Self, Vec<Frame>> {
        Self::try_connect_to(address, user, "postgres").await
    }

    /// As [`try_connect`](Self::try_connect), to another database than `postgres`.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn try_connect_to(
        address: SocketAddr,
        user: &str,
        database: &str,
    ) -> Result<Self, Vec<Frame>> {
        let Ok(stream) = TcpStream::connect(address).await else { return Err(Vec::new()) };
        stream.set_nodelay(true).expect("a TCP socket");
        let (buffer, parameters) = (BytesMut::new(), Vec::new());
        let mut wire = Self { address, stream, buffer, key: None, parameters };
        let mut startup = BytesMut::new();
        startup.put_u32(196_608);
        startup.put_slice(format!("user\0{user}\0database\0{database}\0\0").as_bytes());
        let mut bytes = BytesMut::new();
        bytes.put_u32(u32::try_from(startup.len() + 4).expect("a short frame"));
        bytes.put_slice(&startup);
        wire.stream.write_all(&bytes).await.ok();
        let frames = wire.until_ready_or_end().await?;
        for mut frame in frames {
            match frame.tag {
                b'K' => wire.key = Some(frame.body),
                b'S' => wire.parameters.push((text(&mut frame.body), text(&mut frame.body))),
                _ => {}
            }
        }
        Ok(wire)
    }

    /// What the server reported about a parameter at startup.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the server reads");
    }

    /// The next frame; `None` when the server closed the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        let frame = self.frame_or_end().await;
        assert!(frame.is_some() || self.buffer.is_empty(), "cut inside a frame: {:?}", self.buffer);
        frame
    }

    /// The next whole frame; `None` when none comes any more.
    async fn frame_or_end(&mut self) -> Option<Frame> {
        loop {
            if self.buffer.len() > 4 {
                let length = (&self.buffer[1..5]).get_u32();
                let length = usize::try_from(length).expect("a 64-bit machine");
                assert!(length >= 4, "a frame is at least its length");
                if self.buffer.len() > length {
                    let mut bytes = self.buffer.split_to(1 + length).freeze();
                    let tag = bytes.get_u8();
                    bytes.advance(4);
                    return Some(Frame { tag, body: bytes });
                }
            }
            let read = timeout(FRAME_WITHIN, self.stream.read_buf(&mut self.buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("no answer within {FRAME_WITHIN:?}"));
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Frames up to and with `ReadyForQuery`.
    pub async fn until_ready(&mut self) -> Vec<Frame> {
        let frames = self.until_ready_or_end().await;
        frames.unwrap_or_else(|frames| panic!("closed after {frames:?}"))
    }

    /// Frames up to and with `ReadyForQuery`.
    ///
    /// # Errors
    ///
    /// The frames up to the end, when the connection ends first: in a frame's middle, maybe.
    pub async fn until_ready_or_end(&mut self) -> Result<Vec<Frame>, Vec<Frame>> {
        let mut frames = Vec::new();
        loop {
            let Some(frame) = self.frame_or_end().await else { return Err(frames) };
            let ready = frame.tag == b'Z';
            frames.push(frame);
            if ready {
                return Ok(frames);
            }
        }
    }

    /// As [`simple`](Self::simple), of a server that may go.
    ///
    /// # Errors
    ///
    /// The frames up to the end, when the connection ends before `ReadyForQuery`.
    pub async fn try_simple(&mut self, sql: &str) -> Result<Vec<Frame>, Vec<Frame>> {
        self.stream.write_all(Batch::new().query(sql).bytes()).await.ok();
        self.until_ready_or_end().await
    }

    /// Sends a batch that ends in Sync or is a Query, and returns all of its answer.
    pub async fn ask(&mut self, batch: &Batch) -> Vec<Frame> {
        self.send(batch.bytes()).await;
        self.until_ready().await
    }

    /// The simple protocol.
    pub async fn simple(&mut self, sql: &str) -> Vec<Frame> {
        self.ask(&Batch::new().query(sql)).await
    }

    /// The rows of a simple query as text, `None` for NULL; an error fails the test.
    pub async fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        let frames = self.simple(sql).await;
        if let Some(report) = frames.iter().find_map(Frame::report) {
            panic!("{sql}: {report:?}");
        }
        frames.iter().filter_map(Frame::row).collect()
    }

    /// The error that a simple query must end in.
    pub async fn refusal(&mut self, sql: &str) -> Report {
        let frames = self.simple(sql).await;
        let report = frames.iter().find_map(Frame::report);
        report.unwrap_or_else(|| panic!("{sql} was answered: {frames:?}"))
    }

    /// Asks, on a connection of its own as the protocol wants it, to cancel what runs on this one.
    pub async fn cancel(&self) {
        let key = self.key.clone().expect("the server sent BackendKeyData");
        let mut bytes = BytesMut::new();
        bytes.put_u32(u32::try_from(8 + key.len()).expect("a short frame"));
        bytes.put_u32(80_877_102);
        bytes.put_slice(&key);
        let mut stream = TcpStream::connect(self.address).await.expect("the server listens");
        stream.write_all(&bytes).await.expect("the server reads");
        let answer = stream.read_u8().await;
        assert!(answer.is_err(), "a cancel request gets no answer, only its end");
    }
}

impl Frame {
    /// The types of these frames, one letter each.
    pub fn tags(frames: &[Self]) -> String {
        frames.iter().map(|frame| char::from(frame.tag)).collect()
    }

    /// The whole frames in what a server said.
    pub fn all(said: &[u8]) -> Vec<Self> {
        let (mut rest, mut frames) = (Bytes::copy_from_slice(said), Vec::new());
        while rest.len() > 4 {
            let length = usize::try_from((&rest[1..5]).get_u32()).expect("a 64-bit machine");
            if length < 4 || rest.len() <= length {
                break;
            }
            let frame = rest.split_to(1 + length);
            frames.push(Self { tag: frame[0], body: frame.slice(5..) });
        }
        frames
    }

    /// The values of a `DataRow` as text.
    pub fn row(&self) -> Option<Vec<Option<String>>> {
        if self.tag != b'D' {
            return None;
        }
        let mut body = self.body.clone();
        let columns = body.get_u16();
        let value = |body: &mut Bytes| {
            let length = usize::try_from(body.get_i32()).ok()?;
            Some(String::from_utf8_lossy(&body.split_to(length)).into_owned())
        };
        Some((0..columns).map(|_| value(&mut body)).collect())
    }

    /// The fields of an `ErrorResponse`.
    pub fn report(&self) -> Option<Report> {
        if self.tag != b'E' {
            return None;
        }
        let mut body = self.body.clone();
        let mut report = Report::default();
        while body.has_remaining() {
            let field = body.get_u8();
            if field == 0 {
                break;
            }
            let value = text(&mut body);
            match field {
                b'C' => report.sqlstate = value,
                b'M' => report.message = value,
                b'D' | b'H' => report.detail.push_str(&value),
                b'P' => report.position = value.parse().ok(),
                _ => {}
            }
        }
        Some(report)
    }
}

/// Takes a zero-terminated string.
fn text(body: &mut Bytes) -> String {
    let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
    let text = String::from_utf8_lossy(&body.split_to(end)).into_owned();
    body.advance(usize::from(body.has_remaining()));
    text
}
