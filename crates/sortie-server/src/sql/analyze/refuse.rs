//! What a node that is not served is called when it is refused.

use sqlparser::ast::{self, BinaryOperator, Expr};

use super::{Analyzer, place, position};
use crate::sql::error::{SqlError, state};

impl Analyzer<'_> {
    /// Why an expression is refused, with its place.
    pub(super) fn refuse(&self, expr: &Expr) -> SqlError {
        if let Some(error) = self.chained(expr) {
            return error;
        }
        if let Expr::Function(function) = expr {
            return self.refuse_function(function);
        }
        let what = match expr {
            Expr::Subquery(_) | Expr::Exists { .. } => "a subquery",
            Expr::In { .. } => "IN over anything but a list of constants and parameters",
            Expr::Like { .. } | Expr::ILike { .. } | Expr::SimilarTo { .. } => "pattern matching",
            Expr::Case { .. } => "CASE",
            Expr::Collate { .. } => "COLLATE",
            Expr::AnyOp { .. } | Expr::AllOp { .. } => "any array comparison but `= ANY`",
            Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_) => "IS TRUE, FALSE or UNKNOWN",
            Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => "IS DISTINCT FROM",
            Expr::Array(_) => "an array outside ANY",
            Expr::Tuple(_) => "a row constructor",
            Expr::TypedString(_) => "a constant with its type in front",
            Expr::BinaryOp { op, .. } if is_comparison(op) => "a comparison as a value",
            Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. } => {
                "AND or OR as a value"
            }
            Expr::BinaryOp { .. } | Expr::UnaryOp { .. } => "an operator other than a comparison",
            Expr::IsNull(_) | Expr::IsNotNull(_) | Expr::Between { .. } => "a condition as a value",
            _ => "this expression",
        };
        place(SqlError::unsupported(format!("{what} is not supported")), position(expr))
    }

    /// PostgreSQL's comparisons don't chain, the parser's do: `a < b = c` is a syntax error.
    pub(super) fn chained(&self, expr: &Expr) -> Option<SqlError> {
        let Expr::BinaryOp { left, op, .. } = expr else { return None };
        let inner = matches!(&**left, Expr::BinaryOp { op, .. } if is_comparison(op));
        if !is_comparison(op) || !inner {
            return None;
        }
        let after = usize::try_from(ast::Spanned::span(&**left).end.column).unwrap_or(0);
        let sign = self.source.next_of(after.saturating_sub(1), &[&op.to_string()]);
        Some(match sign {
            Some(lexeme) => self.source.syntax_error(Some(lexeme)),
            None => SqlError::new(state::SYNTAX_ERROR, format!("syntax error at or near \"{op}\"")),
        })
    }

    fn refuse_function(&self, function: &ast::Function) -> SqlError {
        let name = function.name.to_string().to_lowercase();
        let position = position(&function.name);
        let error = match name.trim_start_matches("pg_catalog.") {
            "nextval" | "setval" => SqlError::read_only(&format!("{name}()")),
            "count" | "sum" | "min" | "max" | "avg" if function.over.is_none() => {
                if let Some(clause) = self.plain_clause {
                    let message = format!("aggregate functions are not allowed in {clause}");
                    SqlError::new(state::GROUPING_ERROR, message)
                } else {
                    SqlError::unsupported("an aggregate inside an expression is not supported")
                }
            }
            _ => SqlError::unsupported(format!("function {name}() is not supported here")),
        };
        place(error, position)
    }
}

/// True for the operators that a condition is made of.
pub(super) fn is_comparison(op: &BinaryOperator) -> bool {
    super::condition::comparison(op).is_some()
}
