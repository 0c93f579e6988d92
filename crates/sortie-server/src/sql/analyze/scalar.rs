//! Values: columns, constants, parameters, and casts of the latter two.

use sqlparser::ast::{
    ArrayElemTypeDef, CastKind, DataType, ExactNumberInfo, Expr, UnaryOperator, Value,
};

use super::{Analyzer, Node, Operand, place, position};
use crate::sql::error::{SqlError, state};
use crate::sql::ir::Scalar;
use crate::sql::lex::{Lexeme, Token};
use crate::sql::types::Type;
use crate::sql::value::{Datum, number};

impl Analyzer<'_> {
    /// Reads an expression that must be a value.
    pub(super) fn scalar(&mut self, expr: &Expr) -> Result<Node, SqlError> {
        let position = position(expr);
        let operand = match expr {
            Expr::Nested(inner) => return self.scalar(inner),
            Expr::Identifier(name) => return self.column(None, name),
            Expr::CompoundIdentifier(names) => {
                let [table, name] = names.as_slice() else {
                    let reason = "a column with a schema's name is not supported";
                    return Err(place(SqlError::unsupported(reason), position));
                };
                let mut node = self.column(Some(&table.value), name);
                // PostgreSQL points at the first name.
                if let Err(error) = &mut node {
                    error.position = (position > 0).then_some(position);
                }
                return node;
            }
            Expr::Value(value) => match &value.value {
                Value::Number(text, false) => {
                    let (value, ty) = number(text).map_err(|error| place(error, position))?;
                    Operand::Known(Scalar::Const(value), ty)
                }
                Value::SingleQuotedString(text) => Operand::Literal(Some(text.clone())),
                Value::Null => Operand::Literal(None),
                Value::Boolean(value) => {
                    Operand::Known(Scalar::Const(Datum::Bool(*value)), Type::Bool)
                }
                Value::Placeholder(text) => self.param(text, position)?,
                _ => return Err(self.refuse(expr)),
            },
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
                return self.negated(inner);
            }
            Expr::UnaryOp { op: UnaryOperator::Plus, expr: inner } => {
                let node = self.scalar(inner)?;
                if node.ty().is_none_or(|ty| ty.width().is_none()) {
                    return Err(self.refuse(expr));
                }
                return Ok(node);
            }
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format,
            } => {
                if format.is_some() {
                    let reason = "CAST with FORMAT is not supported";
                    return Err(place(SqlError::unsupported(reason), position));
                }
                let ty = type_of(data_type).map_err(|error| place(error, position))?;
                return self.cast(expr, ty);
            }
            _ => return Err(self.refuse(expr)),
        };
        Ok(Node { operand, position })
    }

    fn param(&mut self, text: &str, position: usize) -> Result<Operand, SqlError> {
        let number = text.trim_start_matches('$').parse().unwrap_or(0);
        let (index, ty) = self.params.refer(number).map_err(|error| place(error, position))?;
        Ok(match ty {
            Some(ty) => Operand::Known(Scalar::Param { index, casts: Vec::new() }, ty),
            None => Operand::Undetermined(index),
        })
    }

    fn negated(&mut self, expr: &Expr) -> Result<Node, SqlError> {
        // A sign in front of a number belongs to it, and decides what type it fits into.
        if let Some(text) = negative(expr) {
            let position = position(expr);
            let (value, ty) = number(&text).map_err(|error| place(error, position))?;
            return Ok(Node { operand: Operand::Known(Scalar::Const(value), ty), position });
        }
        let node = self.scalar(expr)?;
        let error = match node.operand {
            Operand::Known(Scalar::Const(value), ty) if ty.width().is_some() => {
                let operand = Operand::Known(Scalar::Const(value.negated(ty)?), ty);
                return Ok(Node { operand, ..node });
            }
            Operand::Literal(_) => {
                let message = "operator is not unique: - unknown";
                let hint = "Could not choose a best candidate operator. You might need to add \
                            explicit type casts.";
                SqlError::new(state::AMBIGUOUS_FUNCTION, message).hint(hint)
            }
            Operand::Known(_, ty) | Operand::Column(_, ty) if ty.is_text() => {
                let message = format!("operator does not exist: - {}", ty.name());
                let hint = "No operator matches the given name and argument type. You might need \
                            to add an explicit type cast.";
                SqlError::new(state::UNDEFINED_FUNCTION, message).hint(hint)
            }
            _ => {
                SqlError::unsupported("a sign in front of anything but a constant is not supported")
            }
        };
        let before = |lexeme: &&Lexeme| lexeme.position < node.position;
        let signs = self.source.lexemes.iter().take_while(before);
        let sign = signs.filter(|lexeme| lexeme.token == Token::Operator("-".to_owned())).last();
        Err(place(error, sign.map_or(node.position, |sign| sign.position)))
    }

    /// A cast of a constant or a parameter; one of a column would need a shard's own casts.
    fn cast(&mut self, expr: &Expr, ty: Type) -> Result<Node, SqlError> {
        // PostgreSQL gives the elements of ARRAY[…]::type[] that type's element type at once.
        if let (Expr::Array(array), Type::Array(element)) = (expr, ty) {
            let value = self.array_of(array, element.ty())?;
            return Ok(Node { operand: Operand::Known(value, ty), position: position(expr) });
        }
        let node = self.scalar(expr)?;
        let scalar = match node.operand {
            Operand::Literal(_) | Operand::Undetermined(_) => {
                let scalar = self.coerce_scalar(node.clone(), ty)?;
                if ty == Type::Bool {
                    let reason = "a cast to boolean is not supported";
                    return Err(place(SqlError::unsupported(reason), node.position));
                }
                scalar
            }
            Operand::Known(scalar, from) if from == ty => scalar,
            Operand::Known(scalar, from) if castable(from) && castable(ty) => match scalar {
                Scalar::Const(value) => Scalar::Const(value.cast(ty)?),
                Scalar::Param { index, mut casts } => {
                    casts.push(ty);
                    Scalar::Param { index, casts }
                }
                Scalar::Array(_) => return Err(self.refuse(expr)),
            },
            Operand::Known(_, from) => {
                let reason =
                    format!("a cast from {} to {} is not supported", from.name(), ty.name());
                return Err(place(SqlError::unsupported(reason), node.position));
            }
            Operand::Column(..) => {
                let reason = "a cast of a column is not supported";
                return Err(place(SqlError::unsupported(reason), node.position));
            }
        };
        Ok(Node { operand: Operand::Known(scalar, ty), position: node.position })
    }
}

/// The number that `- expr` is, if `expr` is a number without or with a sign.
fn negative(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(inner) => negative(inner),
        Expr::Value(value) => match &value.value {
            Value::Number(text, false) => Some(format!("-{text}")),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            let text = negative(expr)?;
            Some(text.strip_prefix('-').map_or_else(|| format!("-{text}"), str::to_owned))
        }
        _ => None,
    }
}

fn castable(ty: Type) -> bool {
    ty.width().is_some() || matches!(ty, Type::Text | Type::Varchar)
}

/// The type that a name in a cast stands for.
fn type_of(name: &DataType) -> Result<Type, SqlError> {
    Ok(match name {
        DataType::SmallInt(None) | DataType::Int2(None) => Type::Int2,
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => Type::Int4,
        DataType::BigInt(None) | DataType::Int8(None) => Type::Int8,
        DataType::Numeric(ExactNumberInfo::None)
        | DataType::Decimal(ExactNumberInfo::None)
        | DataType::Dec(ExactNumberInfo::None) => Type::Numeric,
        DataType::Text => Type::Text,
        DataType::Varchar(None) | DataType::CharacterVarying(None) => Type::Varchar,
        DataType::Array(ArrayElemTypeDef::SquareBracket(inner, None)) => {
            let element = type_of(inner)?;
            element.array().ok_or_else(|| unsupported_type(name))?
        }
        _ => return Err(unsupported_type(name)),
    })
}

fn unsupported_type(name: &DataType) -> SqlError {
    SqlError::unsupported(format!("type {} is not supported", name.to_string().to_lowercase()))
}

/// The name PostgreSQL gives a column that is only a cast.
pub(super) fn cast_name(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::Int2 => "int2",
        Type::Int4 => "int4",
        Type::Int8 => "int8",
        Type::Numeric => "numeric",
        Type::Varchar => "varchar",
        Type::Name => "name",
        Type::Text => "text",
        Type::Array(element) => cast_name(element.ty()),
        // There is no cast to a type that is not understood.
        Type::Other { .. } => "?column?",
    }
}
