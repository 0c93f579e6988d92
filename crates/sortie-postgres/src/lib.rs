//! PostgreSQL for sortie: the wire protocol, version 3, and connections to servers that speak it.
//!
//! * The *codec* opens no socket and reads no clock (*sans-IO*). A session appends what it has read
//!   to a [`BytesMut`](bytes::BytesMut) and asks for the next packet; what it wants to say it
//!   appends to another one through [`backend`]. A [`Scanner`] walks over what a server says
//!   without keeping it. Field layouts and limits follow the chapter "Frontend/Backend Protocol"
//!   of the PostgreSQL manual.
//! * The *server side*: a [`ConnInfo`] says where a server is, [`Connection::open`] logs in there,
//!   and the connection relays frames as they are, or makes whole [exchanges](Connection::exchange)
//!   whose rows are never looked into.
//!
//! Terms: a *packet* opens a connection and has no type byte ([`Startup`]); a *frame* is what
//! follows, a type byte and a length ([`Frame`]); a *message* is a frame's body taken apart
//! ([`Frontend`]).
//!
//! # Invariants
//!
//! 1. A length is compared with its limit before a byte behind it is awaited, and a count with the
//!    bytes that are there before anything is allocated for it.
//! 2. Payloads are slices of the read buffer. Whoever keeps one longer than the reply copies it,
//!    or it pins the whole buffer.
//! 3. An error of [`Frame::decode`] or [`Startup::decode`] means that the stream is lost: nobody
//!    knows where the next frame begins. An error of [`Frame::message`] concerns one frame, and
//!    the stream goes on behind it.
//! 4. No input makes a decoder panic.
//!
//! # Examples
//!
//! ```
//! use bytes::BytesMut;
//! use sortie_postgres::{Frame, Frontend, backend};
//!
//! let mut input = BytesMut::from(&b"Q\0\0\0\x0dSELECT 1"[..]);
//! assert_eq!(Frame::decode(&mut input, 1024)?, None); // The terminator is still on its way.
//! input.extend_from_slice(b"\0");
//! let frame = Frame::decode(&mut input, 1024)?.expect("the frame is complete");
//! let Frontend::Query { text } = frame.message()? else { panic!("a Q is a query") };
//! assert_eq!(&text[..], b"SELECT 1");
//!
//! let mut output = BytesMut::new();
//! let mut row = backend::DataRow::begin(&mut output);
//! row.value(b"1");
//! row.finish();
//! backend::command_complete(&mut output, "SELECT 1");
//! backend::ready_for_query(&mut output, backend::Status::Idle);
//! # assert_eq!(output[0], b'D');
//! # Ok::<(), sortie_postgres::ProtocolError>(())
//! ```

pub mod backend;
#[cfg(feature = "tokio-postgres")]
pub mod clients;
mod connect;
mod connection;
mod conninfo;
mod cursor;
mod dues;
mod error;
mod exchange;
mod frame;
mod frontend;
mod pool;
mod reaper;
mod replay;
mod scan;
mod scram;
mod server_error;
pub mod sqlstate;
mod startup;
mod walk;

pub use connect::{ConnectCause, ConnectError, Login, tls_common_name};
pub use connection::{CancelKey, Connection, Parameters};
pub use conninfo::{
    Address, Binding, ConnInfo, ConnInfoError, Credential, OwnCertificate, Roots, ScramKeys, Tls,
    TlsMode,
};
pub use error::ProtocolError;
pub use exchange::{Body, BodyStream, ExchangeError, Reply, Request};
pub use frame::{FRAME_SMALL_MAX, Frame};
pub use frontend::{Bind, Frontend, Target};
pub use pool::{
    ConnId, Kept, PoolConfig, PoolConnection, PoolError, PoolStats, PoolUse, Pooled, Residue,
    Resting, Server,
};
pub use replay::{Lsn, LsnError, ReplaySampler, ReplayWatch, Replayed};
pub use scan::{CARRIED_MAX, Event, Scanner, StreamError};
pub use scram::{
    ScramDecoys, ScramError, ScramServer, ScramVerifier, VerifierError,
    mechanisms as scram_mechanisms, tls_end_point,
};
pub use server_error::ServerError;
pub use startup::{SECRET_MAX, STARTUP_MAX, Startup};
