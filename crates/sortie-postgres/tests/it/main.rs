//! Behaviour of the codec, as a client's bytes and a server's answers show it; and of connections,
//! as real servers show it.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod any_bytes;
#[cfg(feature = "deadpool-postgres")]
mod clients;
mod decoding;
mod encoding;
mod pool;
mod properties;
mod replay;
mod scanning;
mod scram;
mod server;
mod strings;
