//! What the shards' catalogs say, put together: what is the same on all of them is known.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{definitions, hidden};
use crate::config::{Spread, TableConfig};
use crate::sql::{
    Catalog, Collation, Known, Placement, Relation, RelationKind, Table, TableColumn, Type,
    Vocabulary, is_steady,
};

/// One shard's catalogs.
#[derive(Debug, Default)]
pub(super) struct RawShard {
    pub(super) bytewise: bool,
    pub(super) overridden: bool,
    pub(super) reads_committed: bool,
    /// What roles and databases have set, as one word.
    pub(super) defaults: Box<str>,
    /// By schema and name.
    pub(super) relations: BTreeMap<(Arc<str>, Arc<str>), RawRelation>,
    /// By the table's number.
    pub(super) columns: HashMap<u32, Vec<RawColumn>>,
    /// What stands behind a relation, by its number; nothing where there are too many.
    pub(super) definitions: Option<HashMap<u32, Vec<Box<str>>>>,
    pub(super) functions: HashMap<Arc<str>, RawFunction>,
    /// Of those that somebody made the ones that can be read.
    pub(super) bodies: HashMap<Arc<str>, Vec<RawBody>>,
    pub(super) types: HashSet<Arc<str>>,
    pub(super) operators: HashSet<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct RawRelation {
    pub(super) oid: u32,
    pub(super) kind: String,
}

/// All functions of one name.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct RawFunction {
    /// One of them is volatile.
    pub(super) volatile: bool,
    /// One of them is not immutable.
    pub(super) changing: bool,
    /// One of them was made by somebody.
    pub(super) made: bool,
    /// One of those takes a row, so that it can be called like a column: `t.f`.
    pub(super) of_rows: bool,
    /// One of them is PostgreSQL's own.
    pub(super) builtin: bool,
    /// How many somebody made.
    pub(super) count: usize,
    /// One of those runs code in another language than C.
    pub(super) coded: bool,
}

/// A function in SQL that somebody made.
#[derive(Debug)]
pub(super) struct RawBody {
    pub(super) text: Box<str>,
    /// A query of what its arguments are where they are left out.
    pub(super) defaults: Option<Box<str>>,
    pub(super) is_immutable: bool,
}

impl RawShard {
    /// The bodies of all functions of this name that somebody made, if all of them can be read.
    pub(super) fn bodies(&self, name: &str) -> Option<&[RawBody]> {
        let bodies = self.bodies.get(name)?;
        let all = self.functions.get(name)?.count;
        // By other casts, operators and encodings they may mean anything.
        (bodies.len() == all && !self.overridden).then_some(bodies)
    }
}

impl RawBody {
    /// All that it may run.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        [Some(&self.text), self.defaults.as_ref()].into_iter().flatten().map(|text| &**text)
    }
}

pub(super) type RawColumn = TableColumn;

pub(super) const VIEW: &str = "a view";
pub(super) const STORED_VIEW: &str = "a materialized view";
pub(super) const SECURED: &str = "a table with row security";

/// Kinds of relations that can't be reasoned about.
const OPAQUE: [&str; 9] = [
    VIEW,
    STORED_VIEW,
    "a foreign table",
    "a sequence",
    "a type",
    "an unlogged table",
    SECURED,
    "a table with children",
    "a table with foreign partitions",
];

/// Puts the shards' catalogs together. There is at least one.
pub(super) fn known(shards: &[RawShard], tables: &[TableConfig]) -> Known {
    let bytewise = shards.iter().all(|shard| shard.bytewise);
    let mut system = HashSet::new();
    let mut relations = Vec::new();
    let names: BTreeSet<_> = shards.iter().flat_map(|shard| shard.relations.keys()).collect();
    for key in names {
        let (schema, name) = key;
        let kinds: Vec<_> = shards.iter().map(|shard| kind(shard, key, tables)).collect();
        let kind = match kinds.split_first() {
            Some((Some(Kind::Builtin), _)) => {
                system.insert(Arc::clone(name));
                continue;
            }
            Some((Some(Kind::Relation(first)), rest)) => {
                let same = |kind: &Option<Kind>| match kind {
                    Some(Kind::Relation(kind)) => is_same(first, kind),
                    _ => false,
                };
                if rest.iter().all(same) {
                    first.clone()
                } else {
                    RelationKind::Opaque("not the same on every shard")
                }
            }
            _ => RelationKind::Opaque("not on every shard"),
        };
        relations.push((Arc::clone(name), Relation { schema: Arc::clone(schema), kind }));
    }
    for table in tables {
        let is_known = |(name, relation): &(Arc<str>, Relation)| {
            **name == *table.name
                && *relation.schema == *table.schema
                && matches!(relation.kind, RelationKind::Table(_))
        };
        if !relations.iter().any(is_known) {
            let (schema, name) = (&table.schema, &table.name);
            tracing::warn!(schema, name, "a configured table is no plain table of every shard");
        }
    }
    let mut known = Known {
        catalog: Catalog::new(relations, system, bytewise),
        vocabulary: vocabulary(shards),
        reads_committed: shards.iter().all(|shard| shard.reads_committed),
        defaults: shards.iter().map(|shard| shard.defaults.clone()).collect(),
    };
    definitions::see_through(&mut known, shards);
    let hidden = hidden::behind(shards);
    (known.vocabulary.hiding, known.vocabulary.overloads) = (hidden.hiding, hidden.overloads);
    known
}

enum Kind {
    Builtin,
    Relation(RelationKind),
}

fn kind(shard: &RawShard, key: &(Arc<str>, Arc<str>), tables: &[TableConfig]) -> Option<Kind> {
    let raw = shard.relations.get(key)?;
    let kind = match raw.kind.as_str() {
        "builtin" => return Some(Kind::Builtin),
        "system" => RelationKind::System,
        "table" => {
            let columns = shard.columns.get(&raw.oid).cloned().unwrap_or_default();
            table(key, raw.oid, columns, tables)
        }
        other => {
            let known = OPAQUE.into_iter().find(|known| *known == other);
            RelationKind::Opaque(known.unwrap_or("another kind of relation"))
        }
    };
    Some(Kind::Relation(kind))
}

fn table(
    (schema, name): &(Arc<str>, Arc<str>),
    oid: u32,
    columns: Vec<TableColumn>,
    tables: &[TableConfig],
) -> RelationKind {
    let configured = tables.iter().find(|table| *table.schema == **schema && *table.name == **name);
    let placement = match configured.map(|table| &table.spread) {
        None => Placement::Local,
        Some(Spread::Reference) => Placement::Reference,
        Some(Spread::Hash { key }) => {
            let fits = |column: &TableColumn| {
                column.collation != Collation::Nondeterministic
                    && matches!(
                        column.ty,
                        Type::Int2 | Type::Int4 | Type::Int8 | Type::Text | Type::Varchar
                    )
            };
            match columns.iter().position(|column| *column.name == **key) {
                Some(at) if fits(&columns[at]) => Placement::Sharded(at),
                Some(_) => return RelationKind::Opaque("sharded by a column of another type"),
                None => return RelationKind::Opaque("a table without its key column"),
            }
        }
    };
    let (schema, name) = (Arc::clone(schema), Arc::clone(name));
    RelationKind::Table(Arc::new(Table { schema, name, oid, columns, placement }))
}

/// Whether two shards mean the same: numbers of tables and columns are each server's own.
fn is_same(a: &RelationKind, b: &RelationKind) -> bool {
    let (RelationKind::Table(a), RelationKind::Table(b)) = (a, b) else { return a == b };
    let is_same =
        |(a, b): (&TableColumn, &TableColumn)| *a == TableColumn { number: a.number, ..b.clone() };
    a.placement == b.placement
        && a.columns.len() == b.columns.len()
        && a.columns.iter().zip(&b.columns).all(is_same)
}

fn vocabulary(shards: &[RawShard]) -> Vocabulary {
    let mut vocabulary = Vocabulary {
        overridden: shards.iter().any(|shard| shard.overridden),
        ..Vocabulary::default()
    };
    for shard in shards {
        vocabulary.made.extend(shard.types.iter().cloned());
        vocabulary.operators.extend(shard.operators.iter().cloned());
        let made = shard.functions.iter().filter(|(_, function)| function.made);
        vocabulary.made.extend(made.map(|(name, _)| Arc::clone(name)));
    }
    for name in shards.first().into_iter().flat_map(|shard| shard.functions.keys()) {
        let everywhere = |is: fn(&str, RawFunction) -> bool| {
            let functions = shards.iter().map(|shard| shard.functions.get(name));
            functions.into_iter().all(|it| it.is_some_and(|it| !it.made && is(name, *it)))
        };
        let is_harmless = everywhere(|name, it| Vocabulary::is_harmless(name, it.volatile));
        if is_harmless {
            vocabulary.functions.insert(Arc::clone(name));
        }
        let steady = is_harmless && everywhere(|name, it| is_steady(name, it.changing));
        let set = if steady { &mut vocabulary.steady } else { &mut vocabulary.unsteady };
        set.insert(Arc::clone(name));
    }
    vocabulary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_another_server_with_the_same_answers_changes_nothing() {
        let shard = |defaults: &str| RawShard { defaults: defaults.into(), ..RawShard::default() };
        let one = known(&[shard("a")], &[]);
        assert_eq!(known(&[shard("a"), shard("a")], &[]), one);
        assert_ne!(known(&[shard("a"), shard("b")], &[]), one);
    }
}
