//! FROM: one table of the catalog, under its own name or another.

use std::sync::Arc;

use sqlparser::ast::{self, TableFactor};

use super::{Analyzer, Scope, place, position};
use crate::sql::catalog::{Found, Table};
use crate::sql::error::{SqlError, state};

impl<'a> Analyzer<'a> {
    /// The table that a SELECT reads from, if it reads from one.
    pub(super) fn from(&self, select: &ast::Select) -> Result<Option<Scope<'a>>, SqlError> {
        let Some(first) = select.from.first() else { return Ok(None) };
        if select.from.len() > 1 || !first.joins.is_empty() {
            return Err(self.clause("from", "a read from more than one table"));
        }
        let factor = &first.relation;
        let TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_directives,
            inheritance: None,
        } = factor
        else {
            let what = match factor {
                TableFactor::Derived { .. } => "a subquery in FROM",
                TableFactor::Table { .. } => "this kind of table",
                _ => "anything but a table in FROM",
            };
            return Err(self.clause("from", what));
        };
        if !with_hints.is_empty() || !partitions.is_empty() || !index_directives.is_empty() {
            return Err(self.clause("from", "this kind of table"));
        }
        let table = self.table(name)?;
        let alias = match alias {
            None => None,
            Some(alias) if alias.columns.is_empty() && alias.at.is_none() => {
                Some(alias.name.value.clone())
            }
            Some(alias) => {
                let error = SqlError::unsupported("an alias with column names is not supported");
                return Err(place(error, super::column_of(alias.name.span)));
            }
        };
        Ok(Some(Scope { table, alias, qualified: name.0.len() > 1 }))
    }

    fn table(&self, name: &ast::ObjectName) -> Result<&'a Arc<Table>, SqlError> {
        let position = position(name);
        let parts: Option<Vec<&str>> =
            name.0.iter().map(|part| part.as_ident().map(|ident| ident.value.as_str())).collect();
        let shown = parts.as_ref().map(|parts| parts.join(".")).unwrap_or_default();
        let found = match parts.as_deref() {
            Some([table]) => self.catalog.find(None, table),
            Some([schema, table]) => self.catalog.find(Some(schema), table),
            _ => Found::Unknown,
        };
        let is_system = ["pg_", "information_schema."].iter().any(|name| shown.starts_with(name));
        let error = match found {
            Found::Table(table) => return Ok(table),
            Found::Unknown if parts.as_ref().is_some_and(|parts| parts.len() > 2) => {
                let reason = "a table with its database's name is not supported";
                SqlError::unsupported(format!("{reason}: {shown}"))
            }
            Found::Unknown if !is_system => {
                let message = format!("relation \"{shown}\" does not exist");
                SqlError::new(state::UNDEFINED_TABLE, message)
            }
            Found::System | Found::Unknown => {
                SqlError::unsupported(format!("system catalogs are not served: {shown}"))
            }
            Found::Opaque(what) | Found::Steady(what) => {
                SqlError::unsupported(format!("\"{shown}\" is {what}, which is not supported"))
            }
            Found::Ambiguous => {
                let reason = format!("several schemas have a relation \"{shown}\"");
                SqlError::unsupported(reason).hint("Write the schema's name in front of it.")
            }
        };
        Err(place(error, position))
    }
}
