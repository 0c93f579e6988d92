//! A bound read as SQLite's SQL: written anew, every constant a parameter.
//!
//! SQLite's dialect is met where it means the same: 64-bit integers, texts compared by their
//! bytes (its default collation BINARY, PostgreSQL's `C`), three-valued logic. A sum is asked for
//! in two halves of the bits, because SQLite's `sum()` fails where it leaves 64 bits.

use std::fmt::Write as _;

use sortie_sqlite::Value;

use crate::sql::catalog::Table;
use crate::sql::filter::Filter;
use crate::sql::ir::{Aggregate, Item, OrderKey};
use crate::sql::value::Datum;

/// One shard's statement and its parameters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    pub(crate) sql: String,
    pub(crate) params: Vec<Value>,
}

/// Bits of the low half of a sum's terms.
pub(crate) const SUM_LOW_BITS: u32 = 32;

/// Writes the statement that a shard is asked; `limit` counts rows, offset included.
pub(super) fn query(
    table: &Table,
    items: &[Item],
    filter: &Filter,
    order: &[OrderKey],
    limit: u64,
) -> Query {
    let mut writer = Writer { table, sql: String::from("SELECT "), params: Vec::new() };
    let columns = shard_columns(items);
    for (at, item) in columns.iter().enumerate() {
        if at > 0 {
            writer.sql.push_str(", ");
        }
        writer.item(item);
    }
    if columns.is_empty() {
        // Only the number of rows matters.
        writer.sql.push('1');
    }
    writer.sql.push_str(" FROM ");
    writer.name(table.name);
    if *filter != Filter::Const(Some(true)) {
        writer.sql.push_str(" WHERE ");
        writer.filter(filter);
    }
    let grouped = items.iter().any(|item| matches!(item, Item::Aggregate(_)));
    if !grouped {
        writer.order(items, order);
        writer.sql.push_str(" LIMIT ");
        writer.param(Value::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
    }
    Query { sql: writer.sql, params: writer.params }
}

/// The items that a shard has to answer, in the order of its columns.
pub(crate) fn shard_columns(items: &[Item]) -> Vec<&Item> {
    items.iter().filter(|item| !matches!(item, Item::Scalar(_))).collect()
}

struct Writer<'a> {
    table: &'a Table,
    sql: String,
    params: Vec<Value>,
}

impl Writer<'_> {
    fn item(&mut self, item: &Item) {
        match item {
            Item::Column(column) => self.column(*column),
            Item::Aggregate(Aggregate::Count) => self.sql.push_str("count(*)"),
            Item::Aggregate(Aggregate::CountNothing) => self.sql.push('0'),
            Item::Aggregate(Aggregate::Sum(column)) => {
                self.call("sum", *column, &format!(" >> {SUM_LOW_BITS}"));
                self.sql.push_str(", ");
                self.call("sum", *column, &format!(" & {}", (1_u64 << SUM_LOW_BITS) - 1));
            }
            Item::Aggregate(Aggregate::Min(column)) => self.call("min", *column, ""),
            Item::Aggregate(Aggregate::Max(column)) => self.call("max", *column, ""),
            Item::Scalar(_) => unreachable!("constants are not asked for"),
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
            Filter::Const(Some(true)) => self.sql.push('1'),
            Filter::Const(Some(false)) => self.sql.push('0'),
            Filter::Const(None) => self.sql.push_str("NULL"),
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
        match value {
            Datum::Int(value) => self.param(Value::Int(*value)),
            Datum::Text(text) => self.param(Value::Text(text.as_ref().to_owned())),
            other => unreachable!("a bound filter has integers and texts only: {other:?}"),
        }
    }

    fn param(&mut self, value: Value) {
        self.params.push(value);
        let _infallible = write!(self.sql, "?{}", self.params.len());
    }

    fn column(&mut self, column: usize) {
        let name = self.table.columns[column].name;
        self.name(name);
    }

    fn name(&mut self, name: &str) {
        let _infallible = write!(self.sql, "\"{}\"", name.replace('"', "\"\""));
    }
}
