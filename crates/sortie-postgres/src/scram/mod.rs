//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as a server speaks it: a client proves that it knows a
//! password, of which we have no more than PostgreSQL has in `pg_authid`.
//!
//! Bytes in and bytes out; sockets, frames and users are others'. What a client proves itself with
//! also gives the keys that log in, as that client, to every server with the same secret.
//!
//! # Invariants
//!
//! 1. Nobody learns from the time it takes how much of a proof was right.
//! 2. A name that is not known takes the same steps and the same time as a wrong password.

mod error;
mod server;
mod verifier;

pub use error::ScramError;
pub use server::{ScramServer, mechanisms, tls_end_point};
pub use verifier::{ScramDecoys, ScramVerifier, VerifierError};
