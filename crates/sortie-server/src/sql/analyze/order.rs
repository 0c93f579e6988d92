//! ORDER BY, LIMIT and OFFSET.

use sqlparser::ast::{self, Expr as Parsed, LimitClause, OrderByKind, OrderBySort, Value};

use super::select::{Target, TargetItem, ungrouped};
use super::{Analyzer, Node, Operand, place, position};
use crate::sql::error::{SqlError, state};
use crate::sql::ir::{Item, OrderKey, Scalar, Window};
use crate::sql::types::Type;

impl Analyzer<'_> {
    /// The keys, each an item of the result.
    pub(super) fn order_by(
        &mut self,
        order: Option<&ast::OrderBy>,
        targets: &[Target],
    ) -> Result<Vec<OrderKey>, SqlError> {
        let keys = match order.map(|order| (&order.kind, &order.interpolate)) {
            None => return Ok(Vec::new()),
            Some((OrderByKind::Expressions(keys), None)) => keys,
            Some(_) => return Err(self.clause("order", "this kind of ORDER BY")),
        };
        let mut found: Vec<OrderKey> = Vec::new();
        for key in keys {
            let descending = match key.options.sort {
                None | Some(OrderBySort::Asc) => false,
                Some(OrderBySort::Desc) => true,
                Some(OrderBySort::Using(_)) => return Err(self.clause("using", "ORDER BY USING")),
            };
            if key.with_fill.is_some() {
                return Err(self.clause("order", "this kind of ORDER BY"));
            }
            // No column is ever NULL, so NULLS FIRST and LAST order the same.
            let item = self.order_item(&key.expr, targets)?;
            // A key that came before has decided already.
            if found.iter().all(|known| known.item != item) {
                found.push(OrderKey { item, descending });
            }
        }
        Ok(found)
    }

    /// The item of the result that a key of ORDER BY means: by ordinal, by name, by column.
    fn order_item(&mut self, expr: &Parsed, targets: &[Target]) -> Result<usize, SqlError> {
        let position = position(expr);
        if let Parsed::Value(value) = expr
            && let Some(found) = ordinal(&value.value, targets.len())
        {
            return found.map_err(|error| place(error, position));
        }
        if let Parsed::Identifier(name) = expr {
            let mut named = targets.iter().enumerate();
            let mut named = named.by_ref().filter(|(_, target)| target.column.name == name.value);
            if let Some((first, target)) = named.next() {
                if named.any(|(_, other)| !same_column(target, other)) {
                    let message = format!("ORDER BY \"{}\" is ambiguous", name.value);
                    let error = SqlError::new(state::AMBIGUOUS_COLUMN, message);
                    return Err(place(error, position));
                }
                return Ok(first);
            }
        }
        if let Some(found) = self.called(expr)
            && let (TargetItem::Row(Item::Aggregate(wanted)), _) = found?
        {
            let same = |target: &Target| {
                let TargetItem::Row(Item::Aggregate(found)) = target.item else { return false };
                found == wanted
            };
            if let Some(found) = targets.iter().position(same) {
                return Ok(found);
            }
            return Err(unprojected(position));
        }
        let Node { operand: Operand::Column(column, _), .. } = self.scalar(expr)? else {
            let error = SqlError::unsupported("ORDER BY takes columns of the result");
            return Err(place(error, position));
        };
        let is_column = |target: &Target| {
            let TargetItem::Row(Item::Column(found)) = target.item else { return false };
            found == column
        };
        if let Some(found) = targets.iter().position(is_column) {
            return Ok(found);
        }
        let aggregate =
            |target: &Target| matches!(target.item, TargetItem::Row(Item::Aggregate(_)));
        match &self.scope {
            Some(scope) if targets.iter().any(aggregate) => Err(ungrouped(scope, column, position)),
            _ => Err(unprojected(position)),
        }
    }

    /// LIMIT and OFFSET.
    pub(super) fn window(&mut self, clause: Option<&LimitClause>) -> Result<Window, SqlError> {
        let (limit, offset) = match clause {
            None => return Ok(Window::default()),
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                (limit, offset)
            }
            Some(_) => return Err(self.clause("limit", "this kind of LIMIT")),
        };
        // PostgreSQL types OFFSET first.
        let offset =
            offset.as_ref().map(|offset| self.count(&offset.value, "OFFSET")).transpose()?;
        let limit = limit.as_ref().map(|limit| self.count(limit, "LIMIT")).transpose()?;
        Ok(Window { limit, offset })
    }

    /// A number of rows, as `bigint`.
    fn count(&mut self, expr: &Parsed, clause: &'static str) -> Result<Scalar, SqlError> {
        let node = self.within(clause, |this| this.scalar(expr))?;
        let position = node.position;
        match (&node.operand, node.ty()) {
            (Operand::Column(..), _) => {
                let message = format!("argument of {clause} must not contain variables");
                Err(place(SqlError::new(state::INVALID_COLUMN_REFERENCE, message), position))
            }
            (_, Some(ty)) if ty.width().is_none() => {
                let name = ty.name();
                let message = format!("argument of {clause} must be type bigint, not type {name}");
                Err(place(SqlError::new(state::DATATYPE_MISMATCH, message), position))
            }
            _ => match self.coerce_scalar(node, Type::Int8)? {
                Scalar::Const(value) => Ok(Scalar::Const(value.cast(Type::Int8)?)),
                Scalar::Param { index, mut casts } => {
                    casts.push(Type::Int8);
                    Ok(Scalar::Param { index, casts })
                }
                Scalar::Array(_) => Err(self.refuse(expr)),
            },
        }
    }
}

fn unprojected(position: usize) -> SqlError {
    let reason = "ORDER BY takes columns of the result: a column that is not selected can't be \
                  merged across shards";
    place(SqlError::unsupported(reason), position)
}

fn same_column(a: &Target, b: &Target) -> bool {
    match (&a.item, &b.item) {
        (TargetItem::Row(Item::Column(a)), TargetItem::Row(Item::Column(b))) => a == b,
        (TargetItem::Row(Item::Aggregate(a)), TargetItem::Row(Item::Aggregate(b))) => a == b,
        _ => false,
    }
}

/// What a constant in ORDER BY means: an integer is a place in the result, others mean nothing.
fn ordinal(value: &Value, columns: usize) -> Option<Result<usize, SqlError>> {
    match value {
        Value::Number(text, _) => {
            let Ok(number) = text.parse::<i32>() else {
                let message = "non-integer constant in ORDER BY";
                return Some(Err(SqlError::new(state::SYNTAX_ERROR, message)));
            };
            let place = usize::try_from(number).ok().filter(|place| (1..=columns).contains(place));
            Some(place.map(|place| place - 1).ok_or_else(|| {
                let message = format!("ORDER BY position {number} is not in select list");
                SqlError::new(state::INVALID_COLUMN_REFERENCE, message)
            }))
        }
        Value::SingleQuotedString(_) | Value::Null => {
            let message = "non-integer constant in ORDER BY";
            Some(Err(SqlError::new(state::SYNTAX_ERROR, message)))
        }
        _ => None,
    }
}
