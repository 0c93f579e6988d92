//! Sessions in front of PostgreSQL servers.
#![expect(dead_code, unused_imports, reason = "the sessions are built on these parts")]

mod effect;
mod shared;

pub(crate) use self::shared::{Asked, Outcome, PipeReason, Reply, Shared, Values, Verdict, Who};
