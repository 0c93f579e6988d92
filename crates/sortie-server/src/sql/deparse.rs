//! A bound read as the SQL of those who hold the rows: written anew, every constant a parameter.
//!
//! SQLite's dialect is met where it means the same: 64-bit integers, texts compared by their
//! bytes (its default collation BINARY, PostgreSQL's `C`), three-valued logic. A sum is asked for
//! in two halves of the bits, because SQLite's `sum()` fails where it leaves 64 bits; and no
//! constant of the result is asked for.
//!
//! PostgreSQL is asked for whole rows, constants included, so that they can be passed on as they
//! come. The table is named as the client named it: with its schema, or without one.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::sql::catalog::Table;
use crate::sql::filter::Filter;
use crate::sql::ir::{Aggregate, Item, OrderKey, Scalar, Select};
use crate::sql::types::{Column, Type};
use crate::sql::value::Datum;

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// One shard's statement and its parameters, each with its type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    pub(crate) sql: String,
    pub(crate) params: Vec<(Type, Datum)>,
}

/// Bits of the low half of a sum's terms.
pub(crate) const SUM_LOW_BITS: u32 = 32;

/// What a shard is asked.
pub(super) struct Asked<'a> {
    pub(super) select: &'a Select,
    /// Those of the statement, parameters replaced by their values.
    pub(super) items: &'a [Item],
    pub(super) columns: &'a [Column],
    pub(super) filter: &'a Filter,
    /// How many rows, offset included.
    pub(super) limit: u64,
}

/// Writes the statement that a shard is asked.
pub(super) fn query(dialect: Dialect, asked: &Asked<'_>) -> Query {
    let table = &asked.select.table;
    let mut writer = Writer { dialect, table, sql: String::from("SELECT "), params: Vec::new() };
    let grouped = asked.items.iter().any(|item| matches!(item, Item::Aggregate(_)));
    let constants = dialect == Dialect::Postgres && !grouped;
    let mut written = 0;
    for (item, column) in asked.items.iter().zip(asked.columns) {
        if constants || !matches!(item, Item::Scalar(_)) {
            writer.sql.push_str(if written > 0 { ", " } else { "" });
            writer.item(item, column);
            written += 1;
        }
    }
    if written == 0 {
        // Only the number of rows matters.
        writer.sql.push('1');
    }
    writer.sql.push_str(" FROM ");
    if dialect == Dialect::Postgres && asked.select.qualified {
        writer.name(&table.schema);
        writer.sql.push('.');
    }
    writer.name(&table.name);
    if *asked.filter != Filter::Const(Some(true)) {
        writer.sql.push_str(" WHERE ");
        writer.filter(asked.filter);
    }
    if !grouped {
        writer.order(asked.items, &asked.select.order);
        writer.sql.push_str(" LIMIT ");
        let limit = Datum::Int(i64::try_from(asked.limit).unwrap_or(i64::MAX));
        writer.param(Type::Int8, limit);
    }
    Query { sql: writer.sql, params: writer.params }
}

struct Writer<'a> {
    dialect: Dialect,
    table: &'a Table,
    sql: String,
    params: Vec<(Type, Datum)>,
}

impl Writer<'_> {
    fn item(&mut self, item: &Item, column: &Column) {
        match item {
            Item::Column(column) => self.column(*column),
            Item::Aggregate(Aggregate::Count) => self.sql.push_str("count(*)"),
            Item::Aggregate(Aggregate::CountNothing) => self.sql.push('0'),
            Item::Aggregate(Aggregate::CountOf(column)) => self.call("count", *column, ""),
            Item::Aggregate(Aggregate::Sum(column)) if self.dialect == Dialect::Sqlite => {
                self.call("sum", *column, &format!(" >> {SUM_LOW_BITS}"));
                self.sql.push_str(", ");
                self.call("sum", *column, &format!(" & {}", (1_u64 << SUM_LOW_BITS) - 1));
            }
            Item::Aggregate(Aggregate::Sum(column)) => self.call("sum", *column, ""),
            Item::Aggregate(Aggregate::Min(column)) => self.call("min", *column, ""),
            Item::Aggregate(Aggregate::Max(column)) => self.call("max", *column, ""),
            Item::Scalar(Scalar::Const(value)) => self.param(column.ty, value.clone()),
            Item::Scalar(_) => unreachable!("a bound read's constants have their values"),
        }
    }

    fn call(&mut self, function: &str, column: usize, suffix: &str) {
        self.sql.push_str(function);
        self.sql.push('(');
        self.column(column);
        self.sql.push_str(suffix);
        self.sql.push(')');
    }

    fn order(&mut self, items: &[Item], order: &[OrderKey]) {
        let mut separator = " ORDER BY ";
        for key in order {
            if let Item::Column(column) = items[key.item] {
                self.sql.push_str(separator);
                self.column(column);
                self.sql.push_str(if key.descending { " DESC" } else { "" });
                separator = ", ";
            }
        }
    }

    fn filter(&mut self, filter: &Filter) {
        match filter {
            Filter::Const(value) => self.sql.push_str(match value {
                Some(true) => "TRUE",
                Some(false) => "FALSE",
                None => "NULL",
            }),
            Filter::Compare { column, op, value } => {
                self.column(*column);
                let _infallible = write!(self.sql, " {} ", op.sign());
                self.value(value);
            }
            Filter::Columns { left, op, right } => {
                self.column(*left);
                let _infallible = write!(self.sql, " {} ", op.sign());
                self.column(*right);
            }
            Filter::In { column, values } => {
                self.column(*column);
                self.sql.push_str(" IN (");
                for (at, value) in values.iter().enumerate() {
                    self.sql.push_str(if at > 0 { ", " } else { "" });
                    self.value(value);
                }
                self.sql.push(')');
            }
            Filter::Not(inner) => {
                self.sql.push_str("NOT (");
                self.filter(inner);
                self.sql.push(')');
            }
            Filter::And(terms) => self.terms(terms, " AND "),
            Filter::Or(terms) => self.terms(terms, " OR "),
        }
    }

    fn terms(&mut self, terms: &[Filter], separator: &str) {
        for (at, term) in terms.iter().enumerate() {
            self.sql.push_str(if at > 0 { separator } else { "" });
            self.sql.push('(');
            self.filter(term);
            self.sql.push(')');
        }
    }

    fn value(&mut self, value: &Datum) {
        let ty = match value {
            Datum::Int(_) => Type::Int8,
            Datum::Text(_) => Type::Text,
            other => unreachable!("a bound filter has integers and texts only: {other:?}"),
        };
        self.param(ty, value.clone());
    }

    fn param(&mut self, ty: Type, value: Datum) {
        self.params.push((ty, value));
        let sign = if self.dialect == Dialect::Sqlite { '?' } else { '$' };
        let _infallible = write!(self.sql, "{sign}{}", self.params.len());
    }

    fn column(&mut self, column: usize) {
        let name = Arc::clone(&self.table.columns[column].name);
        self.name(&name);
    }

    fn name(&mut self, name: &str) {
        let _infallible = write!(self.sql, "\"{}\"", name.replace('"', "\"\""));
    }
}
