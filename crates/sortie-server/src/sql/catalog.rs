//! The relations a statement may name: tables with their columns, and names that are something
//! else.
//!
//! A name without a schema is known only if no second relation has it in any schema: then it means
//! that relation whatever the session's `search_path` is, or nothing at all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::sql::types::Type;

/// All relations of a database.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Catalog {
    relations: HashMap<Arc<str>, Vec<Relation>>,
    /// The relations of `pg_catalog`, which come before all others.
    system: HashSet<Arc<str>>,
    /// Text that no column's collation rules is ordered by its bytes.
    bytewise: bool,
}

/// One relation outside `pg_catalog`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Relation {
    pub(crate) schema: Arc<str>,
    pub(crate) kind: RelationKind,
}

/// What a relation is to the endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RelationKind {
    Table(Arc<Table>),
    /// It can't be reasoned about, for this reason: `a view`.
    Opaque(&'static str),
    /// Such a one whose rows depend on those of plain tables, the role and the session's
    /// parameters, and on nothing else.
    Steady(&'static str),
    /// A relation of `information_schema`.
    System,
}

/// One plain table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    pub(crate) schema: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) oid: u32,
    pub(crate) columns: Vec<TableColumn>,
    pub(crate) placement: Placement,
}

/// On which shards a table's rows are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Placement {
    /// Each row on one of them, by the hash of this column.
    Sharded(usize),
    /// All rows on every shard.
    Reference,
    /// Nobody said so: on whatever server is asked.
    Local,
}

/// One column of a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TableColumn {
    pub(crate) name: Arc<str>,
    pub(crate) ty: Type,
    /// Its number in the table (`attnum`).
    pub(crate) number: i16,
    /// The type's modifier, or -1.
    pub(crate) modifier: i32,
    pub(crate) nullable: bool,
    pub(crate) collation: Collation,
}

/// How a column's texts compare.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Collation {
    /// By their bytes; also for what is no text.
    C,
    /// Ordered by other rules, equal only byte by byte.
    Deterministic,
    /// Different bytes may be equal.
    Nondeterministic,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Found<'a> {
    Table(&'a Arc<Table>),
    Opaque(&'static str),
    Steady(&'static str),
    System,
    /// Several schemas have a relation of this name.
    Ambiguous,
    Unknown,
}

impl Catalog {
    /// Creates a catalog of these relations, each with its name, and the names of `pg_catalog`.
    pub(crate) fn new(
        relations: impl IntoIterator<Item = (Arc<str>, Relation)>,
        system: impl IntoIterator<Item = Arc<str>>,
        bytewise: bool,
    ) -> Self {
        let mut named: HashMap<Arc<str>, Vec<Relation>> = HashMap::new();
        for (name, relation) in relations {
            named.entry(name).or_default().push(relation);
        }
        Self { relations: named, system: system.into_iter().collect(), bytewise }
    }

    /// The embedded cluster's one table, `users(user_id, name, balance)`, sharded by `user_id`.
    pub(crate) fn embedded() -> Self {
        let column = |name: &str, ty, number| TableColumn {
            name: name.into(),
            ty,
            number,
            modifier: -1,
            nullable: false,
            collation: Collation::C,
        };
        let (schema, name): (Arc<str>, Arc<str>) = ("public".into(), "users".into());
        let table = Table {
            schema: Arc::clone(&schema),
            name: Arc::clone(&name),
            oid: 0,
            columns: vec![
                column("user_id", Type::Int8, 1),
                column("name", Type::Text, 2),
                column("balance", Type::Int8, 3),
            ],
            placement: Placement::Sharded(0),
        };
        let relation = Relation { schema, kind: RelationKind::Table(Arc::new(table)) };
        Self::new([(name, relation)], [], true)
    }

    /// What a name stands for; it is folded to lower case already where it was not quoted.
    pub(crate) fn find(&self, schema: Option<&str>, name: &str) -> Found<'_> {
        if matches!(schema, None | Some("pg_catalog")) && self.system.contains(name) {
            return Found::System;
        }
        let named = self.relations.get(name).map_or(&[][..], Vec::as_slice);
        let mut named =
            named.iter().filter(|relation| schema.is_none_or(|schema| *relation.schema == *schema));
        match (named.next(), named.next()) {
            (None, _) => Found::Unknown,
            (Some(relation), None) => relation.found(),
            (Some(_), Some(_)) => Found::Ambiguous,
        }
    }

    /// Whether a relation outside `pg_catalog` and `information_schema` has this name, other than
    /// tables whose rows are the same on every shard.
    pub(crate) fn is_private(&self, name: &str) -> bool {
        let named = self.relations.get(name).map_or(&[][..], Vec::as_slice);
        named.iter().any(|relation| match &relation.kind {
            RelationKind::Table(table) => table.placement != Placement::Reference,
            RelationKind::Opaque(_) | RelationKind::Steady(_) => true,
            RelationKind::System => false,
        })
    }

    /// Whether something has this name, other than tables and what is as good as they are.
    pub(crate) fn is_unsteady(&self, name: &str) -> bool {
        let named = self.relations.get(name).map_or(&[][..], Vec::as_slice);
        let is_steady = |relation: &Relation| {
            matches!(relation.kind, RelationKind::Table(_) | RelationKind::Steady(_))
        };
        self.system.contains(name) || !named.iter().all(is_steady)
    }

    /// Notes that a relation that was opaque is as good as a table to whoever asks one server.
    pub(crate) fn see_through(&mut self, schema: &str, name: &str) {
        let named = self.relations.get_mut(name).map_or(&mut [][..], Vec::as_mut_slice);
        for relation in named.iter_mut().filter(|relation| *relation.schema == *schema) {
            if let RelationKind::Opaque(what) = relation.kind {
                relation.kind = RelationKind::Steady(what);
            }
        }
    }

    /// Whether texts that are no columns are ordered by their bytes.
    pub(crate) fn is_bytewise(&self) -> bool {
        self.bytewise
    }
}

impl Relation {
    fn found(&self) -> Found<'_> {
        match &self.kind {
            RelationKind::Table(table) => Found::Table(table),
            RelationKind::Opaque(what) => Found::Opaque(what),
            RelationKind::Steady(what) => Found::Steady(what),
            RelationKind::System => Found::System,
        }
    }
}

impl Table {
    /// Index of the column with this name.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }

    /// Index of the column whose hash places a row on its shard.
    pub(crate) fn key(&self) -> Option<usize> {
        match self.placement {
            Placement::Sharded(key) => Some(key),
            Placement::Reference | Placement::Local => None,
        }
    }
}
