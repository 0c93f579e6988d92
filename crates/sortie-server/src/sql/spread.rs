//! Which reads of a table can be put together from its shards, exactly.
//!
//! What is merged here must come out as one server with all rows would have it. So whatever is
//! compared on this side (keys of ORDER BY, the least and the greatest, constants, values that
//! name a shard) must compare by rules that are known here; a column that is only passed on may be
//! of any type.

use std::sync::Arc;

use crate::sql::catalog::{Collation, Table, TableColumn};
use crate::sql::error::SqlError;
use crate::sql::ir::{Aggregate, Expr, Item, Op, Scalar, Select, Side};
use crate::sql::prepared::{Plan, Prepared};
use crate::sql::types::Type;
use crate::sql::value::Datum;

impl Prepared {
    /// The table that it reads; `None` where it reads none.
    pub(crate) fn table(&self) -> Option<&Arc<Table>> {
        match &self.plan {
            Plan::Read(select) => Some(&select.table),
            Plan::Const(_) | Plan::Local(_) => None,
        }
    }

    /// Whether its table's shards can be merged; `bytewise` says how constants compare.
    ///
    /// # Errors
    ///
    /// 0A000 with the reason, and the place of the column.
    pub(crate) fn check_mergeable(&self, bytewise: bool) -> Result<(), SqlError> {
        let Plan::Read(select) = &self.plan else { return Ok(()) };
        let rules = Rules { table: &select.table, bytewise };
        let checked = rules.select(select);
        checked.map_err(|(column, error)| match column.and_then(|column| self.place(column)) {
            Some(place) => error.at(place),
            None => error,
        })
    }

    /// Where a name first stands in the text.
    fn place(&self, column: &TableColumn) -> Option<usize> {
        use crate::sql::lex::{Token, lex};
        let lexemes = lex(self.text()).ok()?;
        let names = |token: &Token| match token {
            Token::Word(word) | Token::Quoted(word) => **word == *column.name,
            _ => false,
        };
        lexemes.iter().find(|lexeme| names(&lexeme.token)).map(|lexeme| lexeme.position)
    }
}

struct Rules<'a> {
    table: &'a Table,
    bytewise: bool,
}

/// A refusal, and the column that it is about.
type Refused<'a> = (Option<&'a TableColumn>, SqlError);

impl<'a> Rules<'a> {
    fn select(&self, select: &Select) -> Result<(), Refused<'a>> {
        let grouped = select.items.iter().any(|item| matches!(item, Item::Aggregate(_)));
        for item in &select.items {
            match item {
                Item::Aggregate(aggregate) => self.aggregate(*aggregate)?,
                Item::Column(column) => self.carried(*column)?,
                Item::Scalar(_) => {}
            }
        }
        for key in &select.order {
            if let (Item::Column(column), false) = (&select.items[key.item], grouped) {
                self.ordered(*column)?;
            }
        }
        self.condition(&select.filter)
    }

    fn aggregate(&self, aggregate: Aggregate) -> Result<(), Refused<'a>> {
        let (name, column, fits): (_, _, fn(Type) -> bool) = match aggregate {
            Aggregate::Count | Aggregate::CountOf(_) | Aggregate::CountNothing => return Ok(()),
            Aggregate::Sum(column) => ("sum", column, is_integer),
            Aggregate::Min(column) => ("min", column, |ty| is_integer(ty) || ty == Type::Text),
            Aggregate::Max(column) => ("max", column, |ty| is_integer(ty) || ty == Type::Text),
        };
        let column = &self.table.columns[column];
        if fits(column.ty) && column.collation == Collation::C {
            return Ok(());
        }
        let reason =
            format!("{name}() of column \"{}\" can't be merged across shards", column.name);
        Err((Some(column), SqlError::unsupported(reason).hint(COMPARED)))
    }

    /// A column that is passed on: a type that somebody made has another number on each server.
    fn carried(&self, column: usize) -> Result<(), Refused<'a>> {
        let column = &self.table.columns[column];
        if column.ty.oid() < FIRST_MADE {
            return Ok(());
        }
        let reason =
            format!("column \"{}\" has a type that the shards number differently", column.name);
        Err((Some(column), SqlError::unsupported(reason)))
    }

    fn ordered(&self, column: usize) -> Result<(), Refused<'a>> {
        let column = &self.table.columns[column];
        let fits = is_integer(column.ty) || matches!(column.ty, Type::Text | Type::Varchar);
        if fits && column.collation == Collation::C && !column.nullable {
            return Ok(());
        }
        let reason = format!("ORDER BY column \"{}\" can't be merged across shards", column.name);
        Err((Some(column), SqlError::unsupported(reason).hint(COMPARED)))
    }

    fn condition(&self, expr: &Expr) -> Result<(), Refused<'a>> {
        match expr {
            Expr::Const(_) => Ok(()),
            Expr::Compare { left, op, right } => match (left, right) {
                (Side::Scalar(left), Side::Scalar(right)) => self.constants(left, *op, right),
                (Side::Column(column), other) | (other, Side::Column(column)) => {
                    self.filtered(*column)?;
                    self.side(other)
                }
            },
            Expr::In { side, .. } | Expr::Any { side, .. } | Expr::IsNull(side) => self.side(side),
            Expr::Not(inner) => self.condition(inner),
            Expr::And(terms) | Expr::Or(terms) => {
                terms.iter().try_for_each(|term| self.condition(term))
            }
        }
    }

    fn side(&self, side: &Side) -> Result<(), Refused<'a>> {
        match side {
            Side::Column(column) => self.filtered(*column),
            Side::Scalar(_) => Ok(()),
        }
    }

    /// A column in a condition, part of which may be worked out on this side.
    fn filtered(&self, column: usize) -> Result<(), Refused<'a>> {
        let column = &self.table.columns[column];
        let fits = is_integer(column.ty) || matches!(column.ty, Type::Text | Type::Varchar);
        if fits && !column.nullable && column.collation != Collation::Nondeterministic {
            return Ok(());
        }
        let reason =
            format!("a condition on column \"{}\" is not supported across shards", column.name);
        let hint = "Conditions take NOT NULL columns of type smallint, integer, bigint, text or \
                    character varying.";
        Err((Some(column), SqlError::unsupported(reason).hint(hint)))
    }

    /// Two constants are compared here: texts by their bytes, which the database may not do.
    fn constants(&self, left: &Scalar, op: Op, right: &Scalar) -> Result<(), Refused<'a>> {
        let is_number = |scalar: &Scalar| {
            matches!(scalar, Scalar::Const(Datum::Int(_) | Datum::Numeric(_) | Datum::Null))
        };
        let ordering = !matches!(op, Op::Eq | Op::Ne);
        if self.bytewise || !ordering || is_number(left) || is_number(right) {
            return Ok(());
        }
        let reason = "an order of constants is not supported across shards";
        Err((None, SqlError::unsupported(reason)))
    }
}

/// The first number of what was not made by `initdb`.
const FIRST_MADE: u32 = 16_384;

const COMPARED: &str = "Shards are merged by NOT NULL columns of type smallint, integer or bigint, \
                        or text with collation C.";

fn is_integer(ty: Type) -> bool {
    matches!(ty, Type::Int2 | Type::Int4 | Type::Int8)
}
