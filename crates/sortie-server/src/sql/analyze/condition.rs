//! Conditions: what WHERE may say.

use sqlparser::ast::{self, BinaryOperator, Expr as Parsed, InTarget, UnaryOperator, Value};

use super::{Analyzer, Node, Operand, place, position};
use crate::sql::array::check_length;
use crate::sql::error::{SqlError, state};
use crate::sql::ir::{Expr, Op, Scalar, Side};
use crate::sql::lex::Lexeme;
use crate::sql::types::Type;

/// The comparison an operator stands for.
pub(super) fn comparison(op: &BinaryOperator) -> Option<Op> {
    Some(match op {
        BinaryOperator::Eq => Op::Eq,
        BinaryOperator::NotEq => Op::Ne,
        BinaryOperator::Lt => Op::Lt,
        BinaryOperator::LtEq => Op::Le,
        BinaryOperator::Gt => Op::Gt,
        BinaryOperator::GtEq => Op::Ge,
        _ => return None,
    })
}

impl Analyzer<'_> {
    /// Reads a condition; `clause` is what PostgreSQL's messages call its place.
    pub(super) fn condition(&mut self, expr: &Parsed, clause: &str) -> Result<Expr, SqlError> {
        match expr {
            Parsed::Nested(inner) => self.condition(inner, clause),
            Parsed::BinaryOp { op: op @ BinaryOperator::And, .. }
            | Parsed::BinaryOp { op: op @ BinaryOperator::Or, .. } => self.chain(expr, op),
            Parsed::UnaryOp { op: UnaryOperator::Not, expr } => {
                Ok(Expr::Not(Box::new(self.condition(expr, "NOT")?)))
            }
            Parsed::BinaryOp { left, op, right } => {
                if let Some(error) = self.chained(expr) {
                    return Err(error);
                }
                match comparison(op) {
                    Some(op) => self.compare(left, op, right, None),
                    None => Err(self.operator(left, op, right)),
                }
            }
            Parsed::Between { expr, negated, low, high } => {
                let word = self.keyword(position(&**expr), "between", *negated);
                let (above, below) = if *negated { (Op::Lt, Op::Gt) } else { (Op::Ge, Op::Le) };
                let low = self.compare(expr, above, low, word)?;
                let high = self.compare(expr, below, high, word)?;
                let terms = vec![low, high];
                Ok(if *negated { Expr::Or(terms) } else { Expr::And(terms) })
            }
            Parsed::In { expr, target: InTarget::List(list), negated, global: false } => {
                Ok(negate(self.in_list(expr, list, *negated)?, *negated))
            }
            Parsed::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                self.any(left, right)
            }
            Parsed::IsNull(inner) => self.is_null(inner),
            Parsed::IsNotNull(inner) => Ok(negate(self.is_null(inner)?, true)),
            Parsed::Value(value) if value.value == Value::Null => Ok(Expr::Const(None)),
            Parsed::Value(value) if matches!(value.value, Value::Boolean(_)) => {
                Ok(Expr::Const(Some(value.value == Value::Boolean(true))))
            }
            _ => Err(self.not_boolean(expr, clause)),
        }
    }

    /// `a AND b AND …`, read without recursion on the left.
    fn chain(&mut self, expr: &Parsed, chained: &BinaryOperator) -> Result<Expr, SqlError> {
        let (name, mut rest, mut terms) = (chained.to_string(), expr, Vec::new());
        while let Parsed::BinaryOp { left, op, right } = rest
            && op == chained
        {
            terms.push(&**right);
            rest = left;
        }
        terms.push(rest);
        let terms = terms.into_iter().rev().map(|term| self.condition(term, &name));
        let terms = terms.collect::<Result<Vec<_>, SqlError>>()?;
        Ok(if *chained == BinaryOperator::And { Expr::And(terms) } else { Expr::Or(terms) })
    }

    /// `left op right`; `word` is the place of the keyword that stands for the sign.
    fn compare(
        &mut self,
        left: &Parsed,
        op: Op,
        right: &Parsed,
        word: Option<usize>,
    ) -> Result<Expr, SqlError> {
        let (left, right) = (self.scalar(left)?, self.scalar(right)?);
        let place = word.or_else(|| self.sign_between(&left, &right, op.sign()));
        let (left, right) = self.unify(left, op.sign(), right, place)?;
        Ok(Expr::Compare { left, op, right })
    }

    /// Types two values by each other, as PostgreSQL resolves a comparison's operator.
    fn unify(
        &mut self,
        left: Node,
        sign: &str,
        right: Node,
        place: Option<usize>,
    ) -> Result<(Side, Side), SqlError> {
        refuse_carried([&left, &right])?;
        let ty = match (left.ty(), right.ty()) {
            (Some(a), Some(b)) if !comparable(a, b) => {
                let message = format!("operator does not exist: {} {sign} {}", a.name(), b.name());
                return Err(no_operator(message, place));
            }
            (Some(ty), _) | (None, Some(ty)) => ty,
            (None, None) => Type::Text,
        };
        if matches!(ty, Type::Bool | Type::Array(_)) {
            let reason = format!("comparing values of type {} is not supported", ty.name());
            return Err(SqlError { position: place, ..SqlError::unsupported(reason) });
        }
        let ty = if ty.is_text() { Type::Text } else { ty };
        Ok((self.coerce(left, ty)?, self.coerce(right, ty)?))
    }

    fn in_list(&mut self, expr: &Parsed, list: &[Parsed], negated: bool) -> Result<Expr, SqlError> {
        check_length(list.len())?;
        let left = self.scalar(expr)?;
        let (sign, place) =
            (if negated { "<>" } else { "=" }, self.keyword(left.position, "in", negated));
        let nodes: Vec<Node> =
            list.iter().map(|item| self.scalar(item)).collect::<Result<_, _>>()?;
        refuse_carried(nodes.iter().chain([&left]))?;
        let known = || nodes.iter().chain([&left]).filter_map(Node::ty);
        // One common type for all, if there is one; else each item meets the left side alone.
        let common = if known().all(|ty| ty.width().is_some()) {
            known().max_by_key(|ty| ty.width()).or(Some(Type::Text))
        } else {
            known().all(Type::is_text).then_some(Type::Text)
        };
        let side = match (common, left.ty()) {
            (Some(ty), _) => self.coerce(left.clone(), ty)?,
            (None, Some(ty)) if !matches!(ty, Type::Bool | Type::Array(_)) => {
                self.coerce(left.clone(), ty)?
            }
            _ => return Err(self.refuse(expr)),
        };
        let mut items = Vec::with_capacity(nodes.len());
        for node in nodes {
            let (left_ty, ty) = (left.ty().or(common), node.ty());
            if common.is_none()
                && let (Some(a), Some(b)) = (left_ty, ty)
                && !comparable(a, b)
            {
                let message = format!("operator does not exist: {} {sign} {}", a.name(), b.name());
                return Err(no_operator(message, place));
            }
            let ty = common.or(left_ty).unwrap_or(Type::Text);
            items.push(self.coerce_scalar(node, ty)?);
        }
        Ok(Expr::In { side, list: items })
    }

    fn any(&mut self, left: &Parsed, right: &Parsed) -> Result<Expr, SqlError> {
        let left = self.scalar(left)?;
        let sign = self.source.next_of(left.position, &["="]).map(|lexeme| lexeme.position);
        let right = match right {
            Parsed::Nested(inner) => inner,
            other => other,
        };
        let array = match right {
            Parsed::Subquery(_) => return Err(self.refuse(right)),
            Parsed::Array(array) => self.array(array)?,
            other => self.scalar(other)?,
        };
        refuse_carried([&left, &array])?;
        let mismatch = |a: Type, b: Type| {
            no_operator(format!("operator does not exist: {} = {}", a.name(), b.name()), sign)
        };
        let (side, array) = match (left.ty(), array.ty()) {
            (ty, Some(Type::Array(element))) => {
                if let Some(ty) = ty.filter(|ty| !comparable(*ty, element.ty())) {
                    return Err(mismatch(ty, element.ty()));
                }
                let side = self.coerce(left, widest(element.ty()))?;
                (side, self.coerce_scalar(array, Type::Array(element))?)
            }
            (_, Some(_)) => {
                let message = "op ANY/ALL (array) requires array on right side";
                let error = SqlError::new(state::WRONG_OBJECT_TYPE, message);
                return Err(SqlError { position: sign, ..error });
            }
            (ty, None) => {
                let ty = widest(ty.unwrap_or(Type::Text));
                let Some(wanted) = ty.array() else { return Err(self.refuse(right)) };
                (self.coerce(left, ty)?, self.coerce_scalar(array, wanted)?)
            }
        };
        Ok(Expr::Any { side, array })
    }

    /// `ARRAY[…]`: the elements' common type.
    fn array(&mut self, array: &ast::Array) -> Result<Node, SqlError> {
        let position = position(array);
        if array.elem.is_empty() {
            let message = "cannot determine type of empty array";
            let hint = "Explicitly cast to the desired type, for example ARRAY[]::integer[].";
            let error = SqlError::new(state::INDETERMINATE_DATATYPE, message).hint(hint);
            return Err(place(error, position));
        }
        check_length(array.elem.len())?;
        let nodes: Vec<Node> =
            array.elem.iter().map(|item| self.scalar(item)).collect::<Result<_, _>>()?;
        refuse_carried(&nodes)?;
        let mut known = nodes.iter().filter_map(|node| Some((node, node.ty()?)));
        let first = known.next().map_or(Type::Text, |(_, ty)| ty);
        let mut ty = if first.is_text() { Type::Text } else { first };
        for (node, other) in known {
            if !comparable(ty, other) {
                let (a, b) = (first.name(), other.name());
                let message = format!("ARRAY types {a} and {b} cannot be matched");
                let error = SqlError::new(state::DATATYPE_MISMATCH, message);
                return Err(place(error, node.position));
            }
            ty = if other.width() > ty.width() { other } else { ty };
        }
        let Some(array) = ty.array() else {
            let reason = format!("an array of type {} is not supported", ty.name());
            return Err(place(SqlError::unsupported(reason), position));
        };
        let scalar = self.elements(nodes, ty)?;
        Ok(Node { operand: Operand::Known(scalar, array), position })
    }

    /// `ARRAY[…]::type[]`.
    pub(super) fn array_of(&mut self, array: &ast::Array, ty: Type) -> Result<Scalar, SqlError> {
        check_length(array.elem.len())?;
        let nodes = array.elem.iter().map(|item| self.scalar(item)).collect::<Result<_, _>>()?;
        self.elements(nodes, ty)
    }

    fn elements(&mut self, nodes: Vec<Node>, ty: Type) -> Result<Scalar, SqlError> {
        let item = |node: Node| {
            let cast = node.ty().is_some_and(|own| own.is_text() != ty.is_text());
            let scalar = self.coerce_scalar(node, ty)?;
            Ok(match scalar {
                Scalar::Const(value) if cast => Scalar::Const(value.cast(ty)?),
                Scalar::Param { index, mut casts } if cast => {
                    casts.push(ty);
                    Scalar::Param { index, casts }
                }
                scalar => scalar,
            })
        };
        Ok(Scalar::Array(nodes.into_iter().map(item).collect::<Result<_, SqlError>>()?))
    }

    fn is_null(&mut self, expr: &Parsed) -> Result<Expr, SqlError> {
        let node = self.scalar(expr)?;
        Ok(match node.operand {
            Operand::Column(column, _) => Expr::IsNull(Side::Column(column)),
            Operand::Known(scalar, _) => Expr::IsNull(Side::Scalar(scalar)),
            Operand::Literal(text) => Expr::Const(Some(text.is_none())),
            // As PostgreSQL: this use tells no type, and `finish` says so.
            Operand::Undetermined(index) => {
                Expr::IsNull(Side::Scalar(Scalar::Param { index, casts: Vec::new() }))
            }
        })
    }

    fn not_boolean(&mut self, expr: &Parsed, clause: &str) -> SqlError {
        let node = match self.scalar(expr) {
            Ok(node) => node,
            Err(error) => return error,
        };
        let error = match (&node.operand, node.ty()) {
            (Operand::Literal(_) | Operand::Undetermined(_), _) | (_, Some(Type::Bool) | None) => {
                SqlError::unsupported("a condition that is only a value is not supported")
            }
            (_, Some(ty)) => {
                let name = ty.name();
                let message = format!("argument of {clause} must be type boolean, not type {name}");
                SqlError::new(state::DATATYPE_MISMATCH, message)
            }
        };
        place(error, node.position)
    }

    /// Why an operator that is no comparison is refused: it may not even exist.
    fn operator(&mut self, left: &Parsed, op: &BinaryOperator, right: &Parsed) -> SqlError {
        let BinaryOperator::Custom(sign) = op else {
            let reason = format!("operator {op} is not supported");
            return place(SqlError::unsupported(reason), position(left));
        };
        let (left, right) = match (self.scalar(left), self.scalar(right)) {
            (Ok(left), Ok(right)) => (left, right),
            (Err(error), _) | (_, Err(error)) => return error,
        };
        let name = |node: &Node| node.ty().map_or("unknown", Type::name);
        let at = self.sign_between(&left, &right, sign);
        if sign == "==" {
            let message =
                format!("operator does not exist: {} {sign} {}", name(&left), name(&right));
            return no_operator(message, at);
        }
        let error = SqlError::unsupported(format!("operator {sign} is not supported"));
        SqlError { position: at, ..error }
    }

    /// Where a keyword stands, or the NOT in front of it.
    fn keyword(&self, after: usize, word: &str, negated: bool) -> Option<usize> {
        let found = self.source.next_of(after, &[word])?.position;
        let before = |lexeme: &&Lexeme| lexeme.position < found;
        match self.source.lexemes.iter().take_while(before).last() {
            Some(not) if negated => Some(not.position),
            _ => Some(found),
        }
    }

    /// Where the sign between two values stands.
    fn sign_between(&self, left: &Node, right: &Node, sign: &str) -> Option<usize> {
        let found = self.source.next_of(left.position, &[sign])?.position;
        (left.position > 0 && (right.position == 0 || found < right.position)).then_some(found)
    }
}

fn negate(expr: Expr, negated: bool) -> Expr {
    if negated { Expr::Not(Box::new(expr)) } else { expr }
}

/// Refuses columns of types that are only carried: nobody here knows how they compare.
fn refuse_carried<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> Result<(), SqlError> {
    let carried = |node: &&Node| matches!(node.ty(), Some(Type::Other { .. }));
    match nodes.into_iter().find(carried) {
        None => Ok(()),
        Some(node) => {
            let reason = "comparing a column of this type is not supported";
            Err(place(SqlError::unsupported(reason), node.position))
        }
    }
}

/// Numbers compare with numbers and texts with texts.
fn comparable(a: Type, b: Type) -> bool {
    (a.width().is_some() && b.width().is_some())
        || (a.is_text() && b.is_text())
        || (a == Type::Bool && b == Type::Bool)
}

/// What an untyped value becomes when it meets this type.
fn widest(ty: Type) -> Type {
    if ty.is_text() { Type::Text } else { ty }
}

fn no_operator(message: String, position: Option<usize>) -> SqlError {
    let hint = "No operator matches the given name and argument types. You might need to add \
                explicit type casts.";
    SqlError { position, ..SqlError::new(state::UNDEFINED_FUNCTION, message).hint(hint) }
}
