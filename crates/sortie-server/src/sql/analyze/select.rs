//! Queries: which clauses there may be, and what the result looks like.

use std::sync::Arc;

use sqlparser::ast::{
    self, Distinct, Expr as Parsed, GroupByExpr, SelectFlavor, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr,
};

use super::scalar::cast_name;
use super::{Analyzer, Operand, Scope, column_of, place, position};
use crate::sql::catalog::TableColumn;
use crate::sql::error::{SqlError, state};
use crate::sql::ir::{Analyzed, Body, ConstSelect, ConstSource, Expr, Item, Select};
use crate::sql::local::ConstItem;
use crate::sql::types::{Column, Type};

/// Columns of one result.
const COLUMNS_MAX: usize = 256;

/// One column of the result, before its aggregates are checked.
pub(super) struct Target {
    pub(super) item: TargetItem,
    pub(super) column: Column,
    pub(super) position: usize,
}

pub(super) enum TargetItem {
    Row(Item),
    Session(ConstItem),
}

impl Analyzer<'_> {
    /// Types a whole query.
    pub(super) fn query(mut self, query: &ast::Query) -> Result<Analyzed, SqlError> {
        let select = self.only_select(query)?;
        self.scope = self.from(select)?;
        let targets = self.targets(&select.projection)?;
        let filter = match &select.selection {
            Some(expr) => self.within("WHERE", |this| this.condition(expr, "WHERE"))?,
            None => Expr::Const(Some(true)),
        };
        let order = self.order_by(query.order_by.as_ref(), &targets)?;
        self.check_grouping(&targets)?;
        let window = self.window(query.limit_clause.as_ref())?;
        let columns = targets.iter().map(|target| target.column.clone()).collect();
        let items = targets.into_iter().map(|target| target.item);
        let body = if let Some(scope) = self.scope.take() {
            let item = |item| match item {
                TargetItem::Row(item) => Ok(item),
                TargetItem::Session(_) => {
                    let reason = "a session's values can't be read together with a table";
                    Err(SqlError::unsupported(reason))
                }
            };
            let items = items.map(item).collect::<Result<_, _>>()?;
            let table = Arc::clone(scope.table);
            let qualified = scope.qualified;
            Body::Read(Select { table, qualified, items, filter, order, window }.into())
        } else {
            let item = |item| match item {
                TargetItem::Row(Item::Scalar(scalar)) => Ok(ConstSource::Scalar(scalar)),
                TargetItem::Session(item) => Ok(ConstSource::Session(item)),
                TargetItem::Row(_) => {
                    Err(SqlError::unsupported("an aggregate without a table is not supported"))
                }
            };
            let items = items.map(item).collect::<Result<_, _>>()?;
            Body::Const(ConstSelect { items, filter, window }.into())
        };
        Ok(Analyzed { body, columns, params: self.params.finish()? })
    }

    /// The plain SELECT inside a query; every clause that is not served is refused here.
    fn only_select<'q>(&self, query: &'q ast::Query) -> Result<&'q ast::Select, SqlError> {
        let select = match &*query.body {
            SetExpr::Select(select) => select,
            SetExpr::Insert(_) => return Err(SqlError::read_only("INSERT")),
            SetExpr::Update(_) => return Err(SqlError::read_only("UPDATE")),
            SetExpr::Delete(_) => return Err(SqlError::read_only("DELETE")),
            SetExpr::Merge(_) => return Err(SqlError::read_only("MERGE")),
            SetExpr::Query(_) => return Err(self.clause("(", "a query in parentheses")),
            SetExpr::SetOperation { .. } => {
                return Err(self.clause("union", "UNION, INTERSECT or EXCEPT"));
            }
            SetExpr::Values(_) => return Err(self.clause("values", "VALUES")),
            SetExpr::Table(_) => return Err(self.clause("table", "TABLE")),
        };
        if let Some(with) = &query.with {
            return Err(self.with_clause(with));
        }
        if !query.locks.is_empty() {
            let share = matches!(query.locks[0].lock_type, ast::LockType::Share);
            let lock = if share { "SELECT FOR SHARE" } else { "SELECT FOR UPDATE" };
            return Err(SqlError::read_only(lock));
        }
        if select.into.is_some() {
            return Err(SqlError::read_only("SELECT INTO"));
        }
        let grouped = match &select.group_by {
            GroupByExpr::Expressions(keys, modifiers) => !keys.is_empty() || !modifiers.is_empty(),
            GroupByExpr::All(_) => true,
        };
        let distinct = !matches!(select.distinct, None | Some(Distinct::All));
        let refused = [
            (query.fetch.is_some(), "fetch", "FETCH FIRST"),
            (distinct, "distinct", "DISTINCT"),
            (grouped, "group", "GROUP BY"),
            (select.having.is_some(), "having", "HAVING"),
            (!select.named_window.is_empty(), "window", "WINDOW"),
            (foreign_query(query) || foreign_select(select), "", "this clause"),
            (select.projection.is_empty(), "select", "SELECT without columns"),
        ];
        match refused.into_iter().find(|(present, ..)| *present) {
            Some((_, word, what)) => Err(self.clause(word, what)),
            None => Ok(select),
        }
    }

    /// Why a clause is refused, at the word it begins with.
    pub(super) fn clause(&self, word: &str, what: &str) -> SqlError {
        let error = SqlError::unsupported(format!("{what} is not supported"));
        match self.source.next_of(0, &[word]) {
            Some(lexeme) => error.at(lexeme.position),
            None => error,
        }
    }

    fn with_clause(&self, with: &ast::With) -> SqlError {
        let body = |cte: &ast::Cte| match &*cte.query.body {
            SetExpr::Insert(_) => Some("INSERT"),
            SetExpr::Update(_) => Some("UPDATE"),
            SetExpr::Delete(_) => Some("DELETE"),
            SetExpr::Merge(_) => Some("MERGE"),
            _ => None,
        };
        match with.cte_tables.iter().find_map(body) {
            Some(command) => SqlError::read_only(command),
            None => self.clause("with", "WITH"),
        }
    }

    fn targets(&mut self, projection: &[SelectItem]) -> Result<Vec<Target>, SqlError> {
        let mut targets = Vec::new();
        for item in projection {
            match item {
                SelectItem::UnnamedExpr(expr) => targets.push(self.target(expr, None)?),
                SelectItem::ExprWithAlias { expr, alias } => {
                    targets.push(self.target(expr, Some(alias.value.clone()))?);
                }
                SelectItem::Wildcard(options) if plain(options) => {
                    let position = column_of(options.wildcard_token.0.span);
                    targets.extend(self.all_columns(None, position)?);
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) if plain(options) && name.0.len() == 1 => {
                    let qualifier = name.0[0].as_ident().map(|ident| ident.value.as_str());
                    targets.extend(self.all_columns(qualifier, position(name))?);
                }
                other => {
                    let error = SqlError::unsupported("this kind of `*` is not supported");
                    return Err(place(error, position(other)));
                }
            }
        }
        if targets.len() > COLUMNS_MAX {
            let message = format!("a result has at most {COLUMNS_MAX} columns");
            return Err(SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, message));
        }
        Ok(targets)
    }

    fn all_columns(
        &self,
        qualifier: Option<&str>,
        position: usize,
    ) -> Result<Vec<Target>, SqlError> {
        let Some(scope) = &self.scope else {
            let message = "SELECT * with no tables specified is not valid";
            return Err(place(SqlError::new(state::SYNTAX_ERROR, message), position));
        };
        scope.check(qualifier, position)?;
        let target = |(index, column): (usize, &TableColumn)| Target {
            item: TargetItem::Row(Item::Column(index)),
            column: Column { name: column.name.as_ref().to_owned(), ty: column.ty },
            position,
        };
        Ok(scope.table.columns.iter().enumerate().map(target).collect())
    }

    fn target(&mut self, expr: &Parsed, alias: Option<String>) -> Result<Target, SqlError> {
        let position = position(expr);
        if let Parsed::Nested(inner) = expr {
            return self.target(inner, alias);
        }
        if let Some(found) = self.called(expr) {
            let (item, column) = found?;
            let name = alias.unwrap_or(column.name);
            return Ok(Target { item, column: Column { name, ..column }, position });
        }
        let node = self.scalar(expr)?;
        let name = match (expr, &node.operand, &self.scope) {
            (_, Operand::Column(column, _), Some(scope)) => &*scope.table.columns[*column].name,
            (Parsed::Cast { .. }, Operand::Known(_, ty), _) => cast_name(*ty),
            _ => "?column?",
        };
        let name = alias.unwrap_or_else(|| name.to_owned());
        // What nothing else has typed is text in a result.
        let ty = node.ty().unwrap_or(Type::Text);
        if matches!(ty, Type::Array(_)) {
            let error = SqlError::unsupported("an array as a result is not supported");
            return Err(place(error, position));
        }
        let item = match node.operand {
            Operand::Column(column, _) => Item::Column(column),
            _ => Item::Scalar(self.coerce_scalar(node, ty)?),
        };
        Ok(Target { item: TargetItem::Row(item), column: Column { name, ty }, position })
    }

    /// One row needs aggregates or columns, not both.
    fn check_grouping(&self, targets: &[Target]) -> Result<(), SqlError> {
        let aggregate =
            |target: &Target| matches!(target.item, TargetItem::Row(Item::Aggregate(_)));
        let (true, Some(scope)) = (targets.iter().any(aggregate), &self.scope) else {
            return Ok(());
        };
        let bare = targets.iter().find_map(|target| match target.item {
            TargetItem::Row(Item::Column(column)) => Some((column, target.position)),
            _ => None,
        });
        match bare {
            Some((column, position)) => Err(ungrouped(scope, column, position)),
            None => Ok(()),
        }
    }
}

/// True for `*` without the additions of other dialects.
fn plain(options: &ast::WildcardAdditionalOptions) -> bool {
    options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none()
}

/// Clauses of other dialects that the parser knows.
fn foreign_query(query: &ast::Query) -> bool {
    query.for_clause.is_some()
        || query.settings.is_some()
        || query.format_clause.is_some()
        || !query.pipe_operators.is_empty()
}

fn foreign_select(select: &ast::Select) -> bool {
    !select.optimizer_hints.is_empty()
        || select.select_modifiers.is_some()
        || select.top.is_some()
        || select.exclude.is_some()
        || !select.lateral_views.is_empty()
        || select.prewhere.is_some()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty()
        || select.qualify.is_some()
        || select.value_table_mode.is_some()
        || select.flavor != SelectFlavor::Standard
}

pub(super) fn ungrouped(scope: &Scope<'_>, column: usize, position: usize) -> SqlError {
    let name = &scope.table.columns[column].name;
    let message = format!(
        "column \"{}.{name}\" must appear in the GROUP BY clause or be used in an aggregate \
         function",
        scope.name()
    );
    place(SqlError::new(state::GROUPING_ERROR, message), position)
}
