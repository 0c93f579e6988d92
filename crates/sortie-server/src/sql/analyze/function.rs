//! Functions: the aggregates that can be merged, and the session's own values.

use sqlparser::ast::FunctionArguments;
use sqlparser::ast::{self, DuplicateTreatment, Expr as Parsed, FunctionArg, FunctionArgExpr};

use super::select::TargetItem;
use super::{Analyzer, Node, Operand, place, position};
use crate::sql::error::{SqlError, state};
use crate::sql::ir::{Aggregate, Item, Scalar};
use crate::sql::local::ConstItem;
use crate::sql::types::{Column, Type};
use crate::sql::value::Datum;

/// What a call adds to a result.
type Called = Result<(TargetItem, Column), SqlError>;

impl Analyzer<'_> {
    /// Reads a call in the result list; `None` if it is none.
    pub(super) fn called(&mut self, expr: &Parsed) -> Option<Called> {
        match expr {
            Parsed::Function(function) => Some(self.function(function)),
            // Some of the session's values are written without parentheses.
            Parsed::Identifier(name) if name.quote_style.is_none() => {
                session_value(&name.value, false)
                    .map(|(item, ty)| Ok(target(item, &name.value, ty)))
            }
            _ => None,
        }
    }

    fn function(&mut self, function: &ast::Function) -> Called {
        let position = position(&function.name);
        let parts: Option<Vec<&str>> =
            function.name.0.iter().map(|part| Some(part.as_ident()?.value.as_str())).collect();
        let refused = || SqlError::unsupported(format!("{function} is not supported"));
        let (Some([name] | ["pg_catalog", name]), true) = (parts.as_deref(), plain(function))
        else {
            return Err(place(refused(), position));
        };
        let arguments = match &function.args {
            FunctionArguments::None => None,
            FunctionArguments::List(list)
                if list.clauses.is_empty()
                    && list.duplicate_treatment != Some(DuplicateTreatment::Distinct) =>
            {
                Some(list.args.as_slice())
            }
            _ => return Err(place(refused(), position)),
        };
        if let Some((item, ty)) = session_value(name, arguments.is_some_and(<[_]>::is_empty)) {
            return Ok(target(item, name, ty));
        }
        match (*name, arguments) {
            ("nextval" | "setval", _) => {
                Err(place(SqlError::read_only(&format!("{name}()")), position))
            }
            ("count" | "sum" | "min" | "max", Some(arguments)) => {
                self.aggregate(name, arguments, position)
            }
            _ => {
                let reason = format!("function {name}() is not supported");
                Err(place(SqlError::unsupported(reason), position))
            }
        }
    }

    fn aggregate(&mut self, name: &str, arguments: &[FunctionArg], position: usize) -> Called {
        let unknown = |types: &str| {
            let message = format!("function {name}({types}) does not exist");
            let hint = "No function matches the given name and argument types. You might need to \
                        add explicit type casts.";
            place(SqlError::new(state::UNDEFINED_FUNCTION, message).hint(hint), position)
        };
        let column = |aggregate, ty| {
            let column = Column { name: name.to_owned(), ty };
            (TargetItem::Row(Item::Aggregate(aggregate)), column)
        };
        let argument = match arguments {
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] if name == "count" => {
                return Ok(column(Aggregate::Count, Type::Int8));
            }
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => return Err(unknown("")),
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] => self.scalar(expr)?,
            [] if name == "count" => {
                let message = "count(*) must be used to call a parameterless aggregate function";
                return Err(place(SqlError::new(state::WRONG_OBJECT_TYPE, message), position));
            }
            _ => {
                let reason = format!("{name}() with these arguments is not supported");
                return Err(place(SqlError::unsupported(reason), position));
            }
        };
        let Node { operand, .. } = argument;
        Ok(match (name, operand) {
            ("count", Operand::Column(index, _)) if self.is_nullable(index) => {
                column(Aggregate::CountOf(index), Type::Int8)
            }
            ("count", Operand::Column(..)) => column(Aggregate::Count, Type::Int8),
            ("count", Operand::Literal(None) | Operand::Known(Scalar::Const(Datum::Null), _)) => {
                column(Aggregate::CountNothing, Type::Int8)
            }
            ("count", Operand::Literal(Some(_)) | Operand::Known(Scalar::Const(_), _)) => {
                column(Aggregate::Count, Type::Int8)
            }
            ("sum", Operand::Column(_, ty)) if ty.is_text() => return Err(unknown(ty.name())),
            ("sum", Operand::Column(index, Type::Int8 | Type::Numeric)) => {
                column(Aggregate::Sum(index), Type::Numeric)
            }
            ("sum", Operand::Column(index, Type::Int2 | Type::Int4)) => {
                column(Aggregate::Sum(index), Type::Int8)
            }
            ("min", Operand::Column(index, ty)) => column(Aggregate::Min(index), extreme(ty)),
            ("max", Operand::Column(index, ty)) => column(Aggregate::Max(index), extreme(ty)),
            _ => {
                let reason = format!("{name}() of anything but a column is not supported");
                return Err(place(SqlError::unsupported(reason), position));
            }
        })
    }
}

/// The type of the least or greatest of a column's values.
fn extreme(ty: Type) -> Type {
    if ty.is_text() { Type::Text } else { ty }
}

/// The session's values: those called with parentheses and those without.
fn session_value(name: &str, called: bool) -> Option<(ConstItem, Type)> {
    let item = match (name, called) {
        ("version", true) => return Some((ConstItem::Version, Type::Text)),
        ("current_user" | "session_user" | "user" | "current_role", false) => {
            ConstItem::CurrentUser
        }
        ("current_database", true) | ("current_catalog", false) => ConstItem::CurrentDatabase,
        ("current_schema", _) => ConstItem::CurrentSchema,
        _ => return None,
    };
    Some((item, Type::Name))
}

fn target(item: ConstItem, name: &str, ty: Type) -> (TargetItem, Column) {
    (TargetItem::Session(item), Column { name: name.to_owned(), ty })
}

/// True for a call without the clauses that an aggregate may have.
fn plain(function: &ast::Function) -> bool {
    !function.uses_odbc_syntax
        && function.parameters == FunctionArguments::None
        && function.within_group.is_empty()
        && function.filter.is_none()
        && function.null_treatment.is_none()
        && function.over.is_none()
}
