//! Sessions over an in-memory connection, with a script in place of the read path.

mod ends;
mod extended;
mod simple;
mod startup;

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes, BytesMut};
use sortie_postgres::backend::DataRow;
use sortie_postgres::{Bind, Frontend, Startup, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::*;

/// A read that is answered by the script.
const READ: &str = "SELECT balance FROM users WHERE user_id = 1";

/// What a read comes to.
#[derive(Clone, Debug)]
enum Act {
    /// So many rows, numbered from 1.
    Rows(u64),
    /// One row of so many bytes.
    Bytes(usize),
    /// An error with this SQLSTATE.
    Fail(&'static str),
    /// Nothing, ever, or until the deadline.
    Hang,
}

/// Answers reads in turn; when the script is over, with one row.
#[derive(Debug, Default)]
struct Script {
    acts: Mutex<VecDeque<Act>>,
    asked: Mutex<Vec<(Who, Vec<i16>)>>,
    /// Its count says how many reads are awaited.
    waiting: Arc<()>,
}

impl Reads for Arc<Script> {
    async fn read(
        &self,
        who: &Who,
        _bound: &BoundRead,
        formats: &[i16],
        deadline: Option<Instant>,
    ) -> Result<Arc<Reply>, SqlError> {
        let _waiting = Arc::clone(&self.waiting);
        self.asked.lock().unwrap().push((who.clone(), formats.to_vec()));
        let act = self.acts.lock().unwrap().pop_front().unwrap_or(Act::Rows(1));
        let mut rows = BytesMut::new();
        let mut row = |value: &[u8]| {
            let mut row = DataRow::begin(&mut rows);
            row.value(value);
            row.finish();
        };
        let count = match act {
            Act::Rows(count) => {
                (1..=count).for_each(|n| row(n.to_string().as_bytes()));
                count
            }
            Act::Bytes(length) => {
                row(&vec![b'x'; length]);
                1
            }
            Act::Fail(code) => return Err(SqlError::new(code, "scripted")),
            Act::Hang => match deadline {
                None => std::future::pending().await,
                Some(deadline) => {
                    sleep_until(deadline).await;
                    return Err(SqlError::new("57014", "timed out"));
                }
            },
        };
        Ok(Arc::new(Reply { rows: rows.freeze(), count, ..Reply::default() }))
    }
}

/// An endpoint and the tasks of its sessions.
struct Endpoint {
    sessions: Sessions<Arc<Script>>,
    script: Arc<Script>,
    drain: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Endpoint {
    fn new(acts: &[Act]) -> Self {
        Self::with(acts, Limits::default())
    }

    fn with(acts: &[Act], limits: Limits) -> Self {
        let script = Arc::new(Script::default());
        script.acts.lock().unwrap().extend(acts.iter().cloned());
        let (drain, draining) = watch::channel(false);
        let sessions = Sessions::new(Arc::clone(&script), Catalog::embedded(), limits, draining);
        Self { sessions, script, drain, tasks: JoinSet::new() }
    }

    /// Opens a connection that has said nothing yet; `room` bytes fit into it each way.
    fn dial_with(&mut self, room: usize) -> Client {
        let (server, stream) = duplex(room);
        let sessions = self.sessions.clone();
        self.tasks.spawn(async move { sessions.serve(server).await });
        Client { stream, input: BytesMut::new() }
    }

    fn dial(&mut self) -> Client {
        self.dial_with(1 << 20)
    }

    /// Opens a session.
    async fn login(&mut self) -> Client {
        let mut client = self.dial();
        client.startup(0, &[("user", "alice"), ("database", "bank")]).await;
        client.until('Z').await;
        client
    }

    /// Waits until every connection has ended; nothing may be left of them.
    async fn ended(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no session panics");
        }
        let stats = self.sessions.stats();
        assert_eq!(stats.connections_in_flight, 0);
        assert_eq!(stats.statements_in_flight, 0);
        assert_eq!(self.sessions.0.keys.len(), 0);
        assert_eq!(Arc::strong_count(&self.script.waiting), 1, "a read is still awaited");
    }

    /// Waits until so many reads are awaited.
    async fn awaiting(&self, reads: usize) {
        while Arc::strong_count(&self.script.waiting) != 1 + reads {
            tokio::task::yield_now().await;
        }
    }
}

/// The client's end of a connection.
struct Client {
    stream: DuplexStream,
    input: BytesMut,
}

impl Client {
    async fn startup(&mut self, minor: u16, parameters: &[(&'static str, &'static str)]) {
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        let parameters = parameters.iter().map(|&(n, v)| (text(n), text(v))).collect();
        self.send_startup(&Startup::Session { minor, parameters }).await;
    }

    async fn send_startup(&mut self, packet: &Startup) {
        let mut output = BytesMut::new();
        packet.encode(&mut output);
        self.send(&output).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends `messages` at once and returns the transcript up to the `ends`-th `ReadyForQuery`.
    async fn ask(&mut self, messages: &[Frontend]) -> String {
        self.send(&encoded(messages)).await;
        self.until('Z').await
    }

    /// Returns the next frame.
    async fn frame(&mut self) -> Option<(char, Bytes)> {
        loop {
            if let Some(mut length) = self.input.get(1..5) {
                let length = length.get_u32() as usize;
                if self.input.len() > length {
                    let mut frame = self.input.split_to(length + 1).freeze();
                    let tag = char::from(frame.get_u8());
                    frame.advance(4);
                    return Some((tag, frame));
                }
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Returns a transcript of the frames up to one of this type, or to the end.
    async fn until(&mut self, last: char) -> String {
        let mut transcript = String::new();
        while let Some((tag, body)) = self.frame().await {
            write_frame(&mut transcript, tag, &body);
            if tag == last {
                return transcript;
            }
            transcript.push(' ');
        }
        transcript + "EOF"
    }

    async fn byte(&mut self) -> u8 {
        self.stream.read_u8().await.unwrap()
    }
}

/// Frames as PostgreSQL's were written down: the type and what matters of the rest.
fn write_frame(transcript: &mut String, tag: char, body: &[u8]) {
    transcript.push(tag);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "=");
    match tag {
        'Z' => transcript.push_str(&text(body)),
        'C' | 'S' => write!(transcript, "[{}]", text(&body[..body.len() - 1])).unwrap(),
        'D' if body.len() > 6 => transcript.push_str(&text(&body[6..])),
        'E' | 'N' => {
            let field = |kind: u8| {
                let mut fields = body.split(|&byte| byte == 0);
                fields.find(|field| field.first() == Some(&kind)).map(|field| text(&field[1..]))
            };
            let severity = field(b'S').unwrap_or_default();
            assert_eq!(field(b'V').as_deref(), Some(severity.as_str()));
            assert!(field(b'M').is_some_and(|message| !message.is_empty()));
            write!(transcript, "[{severity} {}]", field(b'C').unwrap_or_default()).unwrap();
        }
        _ => {}
    }
}

fn encoded(messages: &[Frontend]) -> BytesMut {
    let mut output = BytesMut::new();
    for message in messages {
        message.encode(&mut output);
    }
    output
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn query(sql: &str) -> Frontend {
    Frontend::Query { text: text(sql) }
}

fn parse(name: &str, sql: &str) -> Frontend {
    Frontend::Parse { statement: text(name), text: text(sql), oids: Vec::new() }
}

fn bind(portal: &str, statement: &str) -> Frontend {
    bind_to(portal, statement, &[])
}

fn bind_to(portal: &str, statement: &str, values: &[&str]) -> Frontend {
    let values = values.iter().map(|&value| Some(text(value))).collect();
    let (portal, statement) = (text(portal), text(statement));
    Frontend::Bind(Bind { portal, statement, values, ..Bind::default() })
}

fn describe(target: Target, name: &str) -> Frontend {
    Frontend::Describe { target, name: text(name) }
}

fn close(target: Target, name: &str) -> Frontend {
    Frontend::Close { target, name: text(name) }
}

fn execute(portal: &str, rows_max: i32) -> Frontend {
    Frontend::Execute { portal: text(portal), rows_max }
}

/// Plays `steps` in one session: what is sent at once, and the transcript of the answer.
async fn check(acts: &[Act], steps: &[(&[Frontend], &str)]) {
    let mut endpoint = Endpoint::new(acts);
    let mut client = endpoint.login().await;
    for (messages, expected) in steps {
        assert_eq!(client.ask(messages).await, *expected, "{messages:?}");
    }
    drop(client);
    endpoint.ended().await;
}
