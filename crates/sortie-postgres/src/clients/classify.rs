//! What an error of `tokio_postgres` means for a read that other replicas could answer too.

use std::error::Error as _;
use std::io;

use sortie::{Class, Classify};
use tokio_postgres::Error;
use tokio_postgres::types::WrongType;

use crate::sqlstate::{Asked, classify};

/// Classes by SQLSTATE, for a [`Hedge`](sortie::Hedge) over standbys: see
/// [`sqlstate`](crate::sqlstate).
///
/// What has no SQLSTATE is the replica's own trouble if it came from the connection (refused,
/// reset, closed), and an answer if it came from the client's side (a wrong number of rows, a
/// value of another type): every replica would give it.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a name for a rule without options")]
pub struct SqlStates;

impl<T> Classify<T, Error> for SqlStates {
    fn classify(&self, outcome: &Result<T, Error>) -> Class {
        let Err(error) = outcome else { return Class::Win };
        if let Some(said) = error.as_db_error() {
            let routine = said.routine().unwrap_or_default();
            return classify(said.code().code(), routine, Asked::of_standby()).into();
        }
        let ours = match error.source() {
            None => !error.is_closed(),
            Some(cause) => !cause.is::<io::Error>() && cause.is::<WrongType>(),
        };
        if ours { Class::Answer } else { Class::FailOver }
    }
}
