//! Names behind which something runs that a statement's text does not say: a view's functions, a
//! policy's, or a function that is called like a column. They may leave something on the session.

use std::collections::HashSet;
use std::sync::Arc;

use super::raw::{RawShard, SECURED, VIEW};
use crate::relay::leaves_nothing;
use crate::sql::Vocabulary;

/// Views upon views: how many of them are looked behind.
const DEPTH_MAX: usize = 8;

/// The names of which that is so on any of these shards.
pub(super) fn behind(shards: &[RawShard]) -> HashSet<Arc<str>> {
    let mut names = Vocabulary::default();
    for shard in shards {
        names.operators.extend(shard.operators.iter().cloned());
        let of_rows = shard.functions.iter().filter(|(_, function)| function.of_rows);
        names.hiding.extend(of_rows.map(|(name, _)| Arc::clone(name)));
    }
    for _ in 0..DEPTH_MAX {
        let before = names.hiding.len();
        for shard in shards {
            add(shard, &mut names);
        }
        if names.hiding.len() == before {
            return names.hiding;
        }
    }
    // Who knows what is deeper down.
    for shard in shards {
        names.hiding.extend(views(shard).map(|(name, _)| Arc::clone(name)));
    }
    names.hiding
}

/// Adds those relations whose definitions say so, or name another one.
fn add(shard: &RawShard, names: &mut Vocabulary) {
    for (name, oid) in views(shard) {
        let is_harmless = |definitions: &Vec<Box<str>>| {
            definitions.iter().all(|text| leaves_nothing(text.as_bytes()) && !names.hides(text))
        };
        let definitions = shard.definitions.as_ref();
        // Where there are too many nobody has looked; and a table may have none.
        if !definitions.is_some_and(|all| all.get(&oid).is_none_or(is_harmless)) {
            names.hiding.insert(Arc::clone(name));
        }
    }
}

/// Relations that can have a definition, with their numbers.
fn views(shard: &RawShard) -> impl Iterator<Item = (&Arc<str>, u32)> {
    let views = shard.relations.iter().filter(|((schema, _), relation)| {
        let is_defined = |all: &std::collections::HashMap<_, _>| all.contains_key(&relation.oid);
        !matches!(&**schema, "pg_catalog" | "information_schema")
            && (matches!(relation.kind.as_str(), VIEW | SECURED)
                || shard.definitions.as_ref().is_some_and(is_defined))
    });
    views.map(|((_, name), relation)| (name, relation.oid))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::raw::{RawFunction, RawRelation};
    use super::*;

    /// A shard with these views, each with its definition.
    fn shard(views: &[(&str, &str)]) -> RawShard {
        let mut shard = RawShard::default();
        let definitions = shard.definitions.insert(HashMap::new());
        for (oid, (name, definition)) in (20_000..).zip(views) {
            let relation = RawRelation { oid, kind: VIEW.to_owned() };
            shard.relations.insert(("public".into(), Arc::from(*name)), relation);
            definitions.insert(oid, vec![Box::from(*definition)]);
        }
        shard
    }

    #[test]
    fn what_calls_more_than_it_says_is_found_however_deep() {
        let mut shard = shard(&[
            ("a_top", "SELECT * FROM deep"),
            ("deep", "SELECT * FROM setting"),
            ("setting", "SELECT set_config('a.b', 'c', false)"),
            ("late", "SELECT now(), upper(name) FROM users"),
            ("signed", "SELECT 1 WHERE a === b"),
        ]);
        shard.operators.insert("===".into());
        let function = RawFunction { volatile: true, changing: true, made: true, of_rows: true };
        shard.functions.insert("full_name".into(), function);
        let found = behind(&[shard]);
        let mut names: Vec<_> = found.iter().map(|name| &**name).collect();
        names.sort_unstable();
        assert_eq!(names, ["a_top", "deep", "full_name", "setting", "signed"]);
    }

    #[test]
    fn where_nobody_has_looked_every_view_is_one() {
        let mut shard = shard(&[("late", "SELECT now()")]);
        assert!(behind(std::slice::from_ref(&shard)).is_empty());
        shard.definitions = None;
        assert!(behind(&[shard]).contains("late"));
        let chain: Vec<_> = (0..40).map(|nth| format!("v{nth:02}")).collect();
        let texts = chain.iter().skip(1).map(|next| format!("SELECT * FROM {next}"));
        let texts: Vec<_> = texts.chain(["SELECT set_config('a.b', 'c', false)".into()]).collect();
        let views: Vec<_> = chain.iter().zip(&texts).map(|(a, b)| (&**a, &**b)).collect();
        assert_eq!(behind(&[self::shard(&views)]).len(), chain.len());
    }

    #[test]
    fn texts_that_name_one_hide_something() {
        let names = ["hiding"].map(Arc::from).into();
        let operators = ["===".into()].into();
        let names = Vocabulary { hiding: names, operators, ..Vocabulary::default() };
        for text in ["COPY hiding TO STDOUT", "table \"hiding\"", "SELECT t.hiding FROM t", "a===b"]
        {
            assert!(names.hides(text), "{text}");
        }
        for text in ["SELECT 'hiding'", "SELECT hidings, a = b -- hiding", "TABLE \"Hiding\"", ""] {
            assert!(!names.hides(text), "{text}");
        }
    }
}
