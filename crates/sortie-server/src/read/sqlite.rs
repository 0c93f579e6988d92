//! Replicas as SQLite files: the embedded cluster.
//!
//! | what failed | SQLSTATE |
//! |---|---|
//! | every replica of a shard, by its own trouble | 58030 `io_error` |
//! | a shard's queues are full | 53000 `insufficient_resources` |
//! | the replicas are closed, or the endpoint ends | 57P01 `admin_shutdown` |
//! | a shard without replicas | 08006 `connection_failure` |

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sortie::{AttemptFailure, HedgeError, OkWins};
use sortie_postgres::backend::DataRow;
use sortie_sqlite::{Error, Replica, Rows as Answer, Value};

use super::fresh::Fence;
use super::source::{Cell, Part, Rows, Source, Wanted, wrong};
use crate::sql::{Aggregate, Datum, Dialect, Item, SUM_LOW_BITS, Scalar, SqlError, Type, state};

/// One shard's statement and its parameters.
type Query = (Arc<str>, Arc<[Value]>);

impl Source for Replica {
    type Query = Query;
    type Answer = Answer;
    type Error = Error;
    type Class = OkWins;

    fn class() -> OkWins {
        OkWins::default()
    }

    fn label(&self) -> String {
        Replica::label(self).to_owned()
    }

    fn query(wanted: &Wanted<'_>, _fence: Fence, owns: &dyn Fn(i64) -> bool) -> Query {
        // One row more than may be, to tell a full answer from one that is too large.
        let rows = wanted.rows_max.saturating_add(1);
        let query = wanted.bound.query(Dialect::Sqlite, owns, rows);
        let param = |(_, value): (Type, Datum)| match value {
            Datum::Int(value) => Value::Int(value),
            Datum::Text(text) => Value::Text(text.as_ref().to_owned()),
            other => unreachable!("a bound filter has integers and texts only: {other:?}"),
        };
        (query.sql.into(), query.params.into_iter().map(param).collect())
    }

    async fn ask(self, query: Query) -> Result<Answer, Error> {
        let (sql, params) = query;
        Replica::query(&self, sql, params).await
    }

    fn part(answer: Answer, wanted: &Wanted<'_>) -> Result<Part, SqlError> {
        if wanted.bound.is_aggregate() {
            aggregates(&answer, wanted)
        } else {
            rows(&answer, wanted)
        }
    }

    fn failed(error: HedgeError<Error>) -> SqlError {
        let Some(attempt) = error.representative() else {
            return SqlError::new(state::CONNECTION_FAILURE, error.to_string());
        };
        let (code, reason) = match &attempt.failure {
            AttemptFailure::Answered(error)
            | AttemptFailure::Failed(error)
            | AttemptFailure::Abstained(error) => (code(error), error.to_string()),
            AttemptFailure::Panicked(message) => (state::INTERNAL_ERROR, message.to_string()),
            AttemptFailure::Refused | _ => (state::INTERNAL_ERROR, "a refused answer".to_owned()),
        };
        let failed = error.attempts().len();
        let detail = format!("{failed} attempts failed; of replica {}: {reason}", attempt.replica);
        SqlError::new(code, format!("{error}: {reason}")).detail(detail)
    }
}

/// The code for one replica's error.
fn code(error: &Error) -> &'static str {
    match error {
        Error::Failing { .. } | Error::Sqlite { .. } | Error::Io { .. } => state::IO_ERROR,
        Error::Busy { .. } => state::INSUFFICIENT_RESOURCES,
        Error::Closed { .. } => state::ADMIN_SHUTDOWN,
        _ => state::INTERNAL_ERROR,
    }
}

/// Encodes rows, which have no constants: those are put in here.
fn rows(answer: &Answer, wanted: &Wanted<'_>) -> Result<Part, SqlError> {
    let order = wanted.order();
    let mut output = BytesMut::new();
    let mut scratch = Vec::new();
    let mut keys = Vec::with_capacity(answer.rows.len() * order.len());
    for row in &answer.rows {
        for (item, _) in &order {
            keys.push(cell(row.get(place(wanted.bound.items(), *item)))?);
        }
        let mut cells = row.iter();
        let columns = wanted.bound.columns().iter().zip(wanted.binary);
        let mut frame = DataRow::begin(&mut output);
        for (item, (column, binary)) in wanted.bound.items().iter().zip(columns) {
            let filled = if let Item::Scalar(Scalar::Const(value)) = item {
                value.encode(column.ty, *binary, &mut scratch)
            } else {
                let value = cells.next().ok_or_else(|| wrong("too few columns"))?;
                encode(value, column.ty, *binary, &mut scratch)?
            };
            if filled {
                frame.value(&scratch);
            } else {
                frame.null();
            }
            scratch.clear();
        }
        frame.finish();
    }
    let count = answer.rows.len() as u64;
    Ok(Part::Rows(Rows { frames: Bytes::copy_from_slice(&output), count, keys }))
}

/// The one row's aggregates: a sum comes in two halves of the bits.
fn aggregates(answer: &Answer, wanted: &Wanted<'_>) -> Result<Part, SqlError> {
    let row = answer.rows.first().ok_or_else(|| wrong("no row of aggregates"))?;
    let mut values = row.iter();
    let mut next = || cell(values.next());
    let mut cells = Vec::new();
    for item in wanted.bound.items() {
        match item {
            Item::Aggregate(Aggregate::Sum(_)) => cells.push(match (next()?, next()?) {
                (Cell::Int(high), Cell::Int(low)) => Cell::Int((high << SUM_LOW_BITS) + low),
                (Cell::Null, _) | (_, Cell::Null) => Cell::Null,
                _ => return Err(wrong("a sum that is no integer")),
            }),
            Item::Aggregate(_) => cells.push(next()?),
            Item::Scalar(_) | Item::Column(_) => {}
        }
    }
    Ok(Part::Aggregates(cells))
}

/// The place of an item in a shard's row, which has no constants.
fn place(items: &[Item], item: usize) -> usize {
    items[..item].iter().filter(|item| !matches!(item, Item::Scalar(_))).count()
}

fn cell(value: Option<&Value>) -> Result<Cell, SqlError> {
    match value {
        Some(Value::Null) => Ok(Cell::Null),
        Some(Value::Int(value)) => Ok(Cell::Int((*value).into())),
        Some(Value::Text(text)) => Ok(Cell::Text(Bytes::copy_from_slice(text.as_bytes()))),
        Some(_) => Err(wrong("a value of no known type")),
        None => Err(wrong("too few columns")),
    }
}

/// Appends a shard's value in a result format; false for NULL.
fn encode(value: &Value, ty: Type, binary: bool, output: &mut Vec<u8>) -> Result<bool, SqlError> {
    match (value, ty) {
        (Value::Null, _) => Ok(false),
        (Value::Int(value), Type::Int8) => Ok(Datum::Int(*value).encode(ty, binary, output)),
        (Value::Text(text), Type::Text) => {
            output.extend(text.as_bytes());
            Ok(true)
        }
        _ => Err(wrong(&format!("a value that is no {}", ty.name()))),
    }
}
