//! Calling back queries of your own `tokio_postgres` clients (feature `tokio-postgres`).
//!
//! Dropping a future of `tokio_postgres` forgets an answer; the server goes on with the query, and
//! whatever the client asks next waits behind it. [`Recall::run`] makes a drop mean what it says:
//! the query is cancelled on the server, and its client is kept in quarantine until the cancel can
//! hit nobody else. So a loser of a [`Hedge`](sortie::Hedge), a leg of a failed
//! [`Scatter`](sortie::Scatter) and a flight that everybody has left stop where they run, while
//! the pool and the client stay yours.
//!
//! # Terms
//!
//! A client is *lent* to a query ([`Lent`]); a query is *called back* when its future is dropped
//! before it has an answer; its client is then in *quarantine* until the server has said that it
//! is idle and the cancel's own connection has ended.
//!
//! # Invariants
//!
//! 1. A client leaves quarantine only when its query is over, no cancel is under way, and it is in
//!    no transaction; otherwise it is closed, never handed on.
//! 2. A cancel is sent only when the query has not ended within the time that a cancel costs:
//!    waiting so long first is never worse than twice the best choice, whatever the query does.
//! 3. Quarantined clients and cancels under way are bounded; past the bound a client is closed.
//! 4. Every quarantine is a task of its [`Recall`], and ends within `quarantine_max`.

mod address;
mod classify;
mod lent;
mod quarantine;
mod recall;

pub use address::CancelSocket;
pub use classify::SqlStates;
pub use lent::{Lend, Lent};
pub use recall::{Recall, RecallBuilder, RecallError, RecallStats};
