//! SQL as this endpoint understands it: statements in, small typed forms out.
//!
//! A *statement* is classified once ([`prepare`]), then bound to the values of its parameters
//! ([`Prepared::bind`]): what comes out is either a read for the shards or something that the
//! session answers itself.
//!
//! # Invariants
//!
//! 1. Only what is on the list is understood: everything else is refused, never approximated.
//! 2. No text of a client reaches a shard: a read is written anew, its constants as parameters.
//! 3. Types, names and errors are PostgreSQL's; text is ordered by its bytes (collation `C`).

mod catalog;
mod command;
mod decimal;
mod error;
mod lex;
mod local;
mod parse;
mod settings;
mod split;
mod types;
mod value;

use std::sync::Arc;

use bytes::Bytes;

pub(crate) use self::catalog::Catalog;
pub(crate) use self::error::{SqlError, state};
pub(crate) use self::local::{ConstItem, ConstRow, Local};
pub(crate) use self::settings::Settings;
pub(crate) use self::split::{Piece, split};
pub(crate) use self::types::{Column, Type};
pub(crate) use self::value::Datum;

/// A classified statement. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    params: Arc<[Type]>,
    columns: Option<Arc<[Column]>>,
    local: Option<Local>,
}

/// A statement with the values of its parameters.
#[derive(Clone, Debug)]
pub(crate) enum Bound {
    /// For the shards, through the read path.
    Read(BoundRead),
    /// For the session.
    Local(Local),
}

/// A read with the values of its parameters. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BoundRead {
    columns: Arc<[Column]>,
}

/// Classifies one statement; what a trailing semicolon ends counts as one.
///
/// `oids` are the parameter types that a Parse message declares; `None` stands for a simple
/// query, which has no parameters.
///
/// # Errors
///
/// What PostgreSQL would say, and 0A000 for what can't be answered exactly.
pub(crate) fn prepare(
    text: &str,
    oids: Option<&[u32]>,
    catalog: &Catalog,
) -> Result<Prepared, SqlError> {
    let _ = (oids, catalog);
    let source = parse::Source::new(text)?;
    if let command::Command::Local(local) = command::classify(&source)? {
        return Ok(Prepared { params: Arc::default(), columns: None, local: Some(local) });
    }
    drop(source.parse()?);
    Err(SqlError::unsupported(format!("not supported: {text}")))
}

impl Prepared {
    /// Types of the parameters, in order, for `ParameterDescription`.
    pub(crate) fn params(&self) -> &[Type] {
        &self.params
    }

    /// The result's columns; `None` where there are no rows to describe (`NoData`).
    pub(crate) fn columns(&self) -> Option<&[Column]> {
        self.columns.as_deref()
    }

    /// Gives the parameters their values: `formats` as in a Bind message (none, one for all, or
    /// one each; 0 text, 1 binary), `None` among the `values` being NULL.
    ///
    /// # Errors
    ///
    /// 08P01 for wrong counts, 22P02, 22P03, 22003 and 22021 for values that are not of the type.
    pub(crate) fn bind(
        &self,
        formats: &[i16],
        values: &[Option<Bytes>],
    ) -> Result<Bound, SqlError> {
        let _ = (formats, values);
        if let Some(local) = &self.local {
            return Ok(Bound::Local(local.clone()));
        }
        Ok(Bound::Read(BoundRead { columns: self.columns.clone().unwrap_or_default() }))
    }
}

impl BoundRead {
    /// The result's columns.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }
}
