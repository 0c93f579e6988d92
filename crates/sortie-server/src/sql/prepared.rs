//! Statements, classified and bound: what a session keeps and what a read path takes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sortie_postgres::backend::{self, Field};

use crate::sql::analyze::{analyze, declared_params};
use crate::sql::catalog::Catalog;
use crate::sql::command::{Command, classify};
use crate::sql::decode;
use crate::sql::deparse::{self, Asked, Dialect, Query};
use crate::sql::error::{SqlError, state};
use crate::sql::filter::{Filter, Keys, row_count};
use crate::sql::ir::{Body, ConstSelect, ConstSource, Item, OrderKey, Scalar, Select, Window};
use crate::sql::local::{ConstItem, ConstRow, Local};
use crate::sql::parse::Source;
use crate::sql::types::{Column, Type};
use crate::sql::value::Datum;

/// A classified statement. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    text: Arc<str>,
    oids: Arc<[u32]>,
    params: Arc<[Type]>,
    columns: Option<Arc<[Column]>>,
    pub(super) plan: Plan,
}

#[derive(Clone, Debug)]
pub(super) enum Plan {
    Read(Arc<Select>),
    Const(Arc<ConstSelect>),
    Local(Arc<Local>),
}

/// A statement with the values of its parameters.
#[derive(Clone, Debug)]
pub(crate) enum Bound {
    /// For the shards, through the read path.
    Read(BoundRead),
    /// For the session.
    Local(Local),
}

/// A read with the values of its parameters. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BoundRead(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    select: Arc<Select>,
    /// Those of the statement, parameters replaced by their values.
    items: Vec<Item>,
    columns: Arc<[Column]>,
    filter: Filter,
    limit: Option<u64>,
    offset: u64,
    identity: Identity,
}

/// Everything a client sent that makes this read what it is, compared byte by byte.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Identity {
    /// The statement's text, comments included, without what surrounds it.
    pub(crate) text: Arc<str>,
    /// Parameter types as declared.
    pub(crate) oids: Arc<[u32]>,
    /// Parameter formats as sent.
    pub(crate) formats: Arc<[i16]>,
    /// Parameter values as sent; NULL differs from nothing.
    pub(crate) values: Arc<[Option<Bytes>]>,
}

/// Values that one shard's statement may carry; SQLite takes 32,766.
const VALUES_MAX: usize = 30_000;

/// Classifies one statement; a semicolon may end it.
///
/// `oids` are the parameter types that a Parse message declares; `None` stands for a simple
/// query, which has no parameters.
///
/// # Errors
///
/// What PostgreSQL would say, and 0A000 for what can't be answered exactly.
pub(crate) fn prepare(
    text: &str,
    oids: Option<&[u32]>,
    catalog: &Catalog,
) -> Result<Prepared, SqlError> {
    let source = Source::new(text)?;
    let (params, columns, plan) = match classify(&source)? {
        Command::Local(local) => {
            (declared_params(oids)?, local.columns()?, Plan::Local(local.into()))
        }
        Command::Query => {
            let analyzed = analyze(&source, &source.parse()?, oids, catalog)?;
            let plan = match analyzed.body {
                Body::Read(select) => Plan::Read(select),
                Body::Const(select) => Plan::Const(select),
            };
            (analyzed.params, Some(analyzed.columns), plan)
        }
    };
    Ok(Prepared {
        text: source.trimmed().into(),
        oids: oids.unwrap_or_default().into(),
        params: params.into(),
        columns: columns.map(Into::into),
        plan,
    })
}

impl Prepared {
    /// The statement without what surrounds it.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Types of the parameters, in order, for `ParameterDescription`.
    pub(crate) fn params(&self) -> &[Type] {
        &self.params
    }

    /// The result's columns; `None` where there are no rows to describe (`NoData`).
    pub(crate) fn columns(&self) -> Option<&[Column]> {
        self.columns.as_deref()
    }

    /// Gives the parameters their values: `formats` as in a Bind message (none, one for all, or
    /// one each; 0 text, 1 binary), `None` among the `values` being NULL.
    ///
    /// # Errors
    ///
    /// 08P01 for wrong counts, 22P02, 22P03, 22003 and 22021 for values that are not of the type,
    /// 2201W and 2201X for a negative LIMIT or OFFSET.
    pub(crate) fn bind(
        &self,
        formats: &[i16],
        values: &[Option<Bytes>],
    ) -> Result<Bound, SqlError> {
        let params = decode::values(&self.params, formats, values)?;
        match &self.plan {
            Plan::Local(local) => Ok(Bound::Local(local.as_ref().clone())),
            Plan::Const(select) => select.bind(&params).map(|row| Bound::Local(Local::Select(row))),
            Plan::Read(select) => {
                let (limit, offset) = select.window.bind(&params)?;
                let filter = Filter::bind(&select.filter, &params)?;
                if filter.values() > VALUES_MAX {
                    let message = format!("a statement has at most {VALUES_MAX} different values");
                    return Err(SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, message));
                }
                let identity = Identity {
                    text: Arc::clone(&self.text),
                    oids: Arc::clone(&self.oids),
                    formats: formats.into(),
                    values: values.into(),
                };
                let item = |item: &Item| match item {
                    Item::Scalar(scalar) => {
                        scalar.value(&params).map(|value| Item::Scalar(Scalar::Const(value)))
                    }
                    item => Ok(item.clone()),
                };
                let items = select.items.iter().map(item).collect::<Result<_, _>>()?;
                let columns = self.columns.clone().expect("a read has columns");
                let select = Arc::clone(select);
                let inner = Inner { select, items, columns, filter, limit, offset, identity };
                Ok(Bound::Read(BoundRead(Arc::new(inner))))
            }
        }
    }
}

impl BoundRead {
    /// The result's columns.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.0.columns
    }

    /// The `RowDescription` frame of the result, for result formats as in a Bind message.
    ///
    /// # Errors
    ///
    /// 08P01 and 22023 for wrong formats.
    pub(crate) fn head(&self, formats: &[i16]) -> Result<Bytes, SqlError> {
        let binary = decode::result_formats(formats, self.columns().len())?;
        let table = &self.0.select.table;
        let fields = self.items().iter().zip(self.columns()).zip(binary);
        let fields = fields.map(|((item, column), binary)| {
            let of_table = match item {
                Item::Column(at) => Some(&table.columns[*at]),
                Item::Scalar(_) | Item::Aggregate(_) => None,
            };
            Field {
                name: &column.name,
                table: of_table.map_or(0, |_| table.oid),
                column: of_table.map_or(0, |column| column.number),
                oid: column.ty.oid(),
                size: column.ty.size(),
                modifier: of_table.map_or(-1, |column| column.modifier),
                format: i16::from(binary),
            }
        });
        let mut output = BytesMut::new();
        backend::row_description(&mut output, fields);
        Ok(output.freeze())
    }

    /// What every column of the result is made of.
    pub(crate) fn items(&self) -> &[Item] {
        &self.0.items
    }

    /// The keys of ORDER BY; empty without one, and where a result has one row.
    pub(crate) fn order(&self) -> &[OrderKey] {
        if self.is_aggregate() { &[] } else { &self.0.select.order }
    }

    /// True for a result of one row that combines those of all shards.
    pub(crate) fn is_aggregate(&self) -> bool {
        self.items().iter().any(|item| matches!(item, Item::Aggregate(_)))
    }

    /// LIMIT; `None` without one.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.0.limit
    }

    /// OFFSET; 0 without one.
    pub(crate) fn offset(&self) -> u64 {
        self.0.offset
    }

    /// What a client sent to get this.
    pub(crate) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// The shard keys whose rows may be in the result.
    pub(crate) fn keys(&self) -> Keys {
        self.0.select.table.key().map_or(Keys::All, |key| self.0.filter.keys(key))
    }

    /// The statement for a shard that has no rows but those with keys it owns. It returns at
    /// most `rows_max` rows.
    pub(crate) fn query(
        &self,
        dialect: Dialect,
        owns: &dyn Fn(i64) -> bool,
        rows_max: u64,
    ) -> Query {
        let select = &self.0.select;
        let filter = match select.table.key() {
            Some(key) => self.0.filter.owned(key, owns),
            None => self.0.filter.clone(),
        };
        let wanted = self.limit().map_or(u64::MAX, |limit| limit.saturating_add(self.offset()));
        let asked = Asked {
            select,
            items: self.items(),
            columns: self.columns(),
            filter: &filter,
            limit: wanted.min(rows_max),
        };
        deparse::query(dialect, &asked)
    }
}

impl ConstSelect {
    fn bind(&self, params: &[Datum]) -> Result<ConstRow, SqlError> {
        let (limit, offset) = self.window.bind(params)?;
        let passes = Filter::bind(&self.filter, params)? == Filter::Const(Some(true));
        let item = |item: &ConstSource| match item {
            ConstSource::Scalar(scalar) => scalar.value(params).map(ConstItem::Value),
            ConstSource::Session(item) => Ok(item.clone()),
        };
        let items = self.items.iter().map(item).collect::<Result<_, _>>()?;
        Ok(ConstRow { items, present: passes && limit != Some(0) && offset == 0 })
    }
}

impl Window {
    fn bind(&self, params: &[Datum]) -> Result<(Option<u64>, u64), SqlError> {
        let offset = (state::INVALID_ROW_COUNT_IN_OFFSET, "OFFSET");
        let offset = row_count(self.offset.as_ref(), params, offset)?;
        let limit = (state::INVALID_ROW_COUNT_IN_LIMIT, "LIMIT");
        let limit = row_count(self.limit.as_ref(), params, limit)?;
        Ok((limit, offset.unwrap_or(0)))
    }
}
