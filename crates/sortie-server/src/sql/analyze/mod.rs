//! From the parser's tree to the typed form: a whitelist of nodes, PostgreSQL's type rules.
//!
//! Every `match` on the parser's types ends in a refusal: a node that nobody thought of is
//! refused with its place, never ignored.

mod condition;
mod from;
mod function;
mod order;
mod params;
mod refuse;
mod scalar;
mod select;

use std::sync::Arc;

use sqlparser::ast::{self, Spanned};

use self::params::Params;
use crate::sql::catalog::{Catalog, Table};
use crate::sql::error::{SqlError, state};
use crate::sql::ir::{Analyzed, Scalar, Side};
use crate::sql::parse::Source;
use crate::sql::types::Type;
use crate::sql::value::Datum;

/// Types a statement; `oids` as for [`crate::sql::prepare`].
///
/// # Errors
///
/// What PostgreSQL says to an invalid statement; 0A000 and 25006 for what is not served.
pub(super) fn analyze(
    source: &Source<'_>,
    statement: &ast::Statement,
    oids: Option<&[u32]>,
    catalog: &Catalog,
) -> Result<Analyzed, SqlError> {
    let ast::Statement::Query(query) = statement else {
        return Err(SqlError::unsupported("this statement is not supported"));
    };
    let params = Params::new(oids)?;
    Analyzer { source, catalog, params, scope: None, plain_clause: None }.query(query)
}

/// The parameters that a statement has only because they were declared.
///
/// # Errors
///
/// 0A000 for a type that is not served, 42P18 for one that nothing tells.
pub(super) fn declared_params(oids: Option<&[u32]>) -> Result<Vec<Type>, SqlError> {
    Params::new(oids)?.finish()
}

/// The state of one statement's analysis.
struct Analyzer<'a> {
    source: &'a Source<'a>,
    catalog: &'a Catalog,
    params: Params,
    /// The one table of FROM.
    scope: Option<Scope<'a>>,
    /// The clause that is being read, where it is one that can't have aggregates.
    plain_clause: Option<&'static str>,
}

/// What PostgreSQL's tables have besides their columns.
const SYSTEM_COLUMNS: [&str; 6] = ["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];

/// A table and the name it goes by.
#[derive(Clone)]
struct Scope<'a> {
    table: &'a Arc<Table>,
    alias: Option<String>,
    /// It was named with its schema.
    qualified: bool,
}

/// A value whose type may still depend on what it meets.
#[derive(Clone, Debug)]
struct Node {
    operand: Operand,
    /// Where it stands, 0 where the parser does not say.
    position: usize,
}

#[derive(Clone, Debug)]
enum Operand {
    Column(usize, Type),
    Known(Scalar, Type),
    /// A string constant or NULL, which takes the type it meets.
    Literal(Option<String>),
    /// A parameter without a type yet; its index.
    Undetermined(usize),
}

impl Scope<'_> {
    fn name(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.table.name)
    }

    /// Checks that a qualifier, if there is one, names this table.
    fn check(&self, qualifier: Option<&str>, position: usize) -> Result<(), SqlError> {
        let Some(qualifier) = qualifier.filter(|qualifier| *qualifier != self.name()) else {
            return Ok(());
        };
        if *qualifier != *self.table.name {
            return Err(missing_from(qualifier, position));
        }
        let message = format!("invalid reference to FROM-clause entry for table \"{qualifier}\"");
        let hint = format!("Perhaps you meant to reference the table alias \"{}\".", self.name());
        Err(place(SqlError::new(state::UNDEFINED_TABLE, message).hint(hint), position))
    }

    /// Why a name that is no column's can't be read although PostgreSQL knows it.
    fn hidden(&self, qualifier: Option<&str>, name: &str) -> Option<SqlError> {
        if SYSTEM_COLUMNS.contains(&name) {
            let reason = format!("system columns are not served: {name}");
            return Some(SqlError::unsupported(reason));
        }
        (qualifier.is_none() && name == self.name())
            .then(|| SqlError::unsupported("a whole row as a value is not supported"))
    }
}

impl Node {
    fn ty(&self) -> Option<Type> {
        match self.operand {
            Operand::Column(_, ty) | Operand::Known(_, ty) => Some(ty),
            Operand::Literal(_) | Operand::Undetermined(_) => None,
        }
    }
}

impl Analyzer<'_> {
    /// Reads something that belongs to a clause without aggregates.
    fn within<T>(&mut self, clause: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.plain_clause.replace(clause);
        let found = read(self);
        self.plain_clause = outer;
        found
    }

    /// Gives a value that has no type yet this one; others keep theirs.
    fn coerce(&mut self, node: Node, ty: Type) -> Result<Side, SqlError> {
        Ok(match node.operand {
            Operand::Column(column, _) => Side::Column(column),
            Operand::Known(scalar, _) => Side::Scalar(scalar),
            Operand::Literal(None) => Side::Scalar(Scalar::Const(Datum::Null)),
            Operand::Literal(Some(text)) => {
                let value = Datum::parse(&text, ty).map_err(|error| place(error, node.position))?;
                Side::Scalar(Scalar::Const(value))
            }
            Operand::Undetermined(index) => {
                self.params.determine(index, ty);
                Side::Scalar(Scalar::Param { index, casts: Vec::new() })
            }
        })
    }

    /// The same for a value that can't be a column.
    fn coerce_scalar(&mut self, node: Node, ty: Type) -> Result<Scalar, SqlError> {
        let position = node.position;
        match self.coerce(node, ty)? {
            Side::Scalar(scalar) => Ok(scalar),
            Side::Column(_) => {
                let reason = "a column is not supported here";
                Err(place(SqlError::unsupported(reason), position))
            }
        }
    }

    fn is_nullable(&self, column: usize) -> bool {
        self.scope.as_ref().is_some_and(|scope| scope.table.columns[column].nullable)
    }

    /// A column by its name, which is folded already.
    fn column(&self, qualifier: Option<&str>, name: &ast::Ident) -> Result<Node, SqlError> {
        let position = column_of(name.span);
        let missing = |shown: String| {
            let message = format!("column {shown} does not exist");
            place(SqlError::new(state::UNDEFINED_COLUMN, message), position)
        };
        let Some(scope) = &self.scope else {
            return Err(match qualifier {
                Some(table) => missing_from(table, position),
                None => missing(format!("\"{}\"", name.value)),
            });
        };
        scope.check(qualifier, position)?;
        let Some(index) = scope.table.column(&name.value) else {
            if let Some(error) = scope.hidden(qualifier, &name.value) {
                return Err(place(error, position));
            }
            return Err(missing(match qualifier {
                Some(qualifier) => format!("{qualifier}.{}", name.value),
                None => format!("\"{}\"", name.value),
            }));
        };
        let ty = scope.table.columns[index].ty;
        Ok(Node { operand: Operand::Column(index, ty), position })
    }
}

fn missing_from(table: &str, position: usize) -> SqlError {
    let message = format!("missing FROM-clause entry for table \"{table}\"");
    place(SqlError::new(state::UNDEFINED_TABLE, message), position)
}

/// Sets the place where it is known and not set yet.
fn place(error: SqlError, position: usize) -> SqlError {
    if position == 0 { error } else { error.at_or(position) }
}

/// Where a node of the parser begins, 0 if it does not say.
fn position(node: &impl Spanned) -> usize {
    column_of(node.span())
}

/// The place that a span begins at: all of them are on one line.
fn column_of(span: sqlparser::tokenizer::Span) -> usize {
    usize::try_from(span.start.column).unwrap_or(0)
}
