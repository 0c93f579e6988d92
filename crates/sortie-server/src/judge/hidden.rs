//! Names behind which something runs that a statement's text does not say: a view's functions, a
//! policy's, or a function that is called like a column, or like one of PostgreSQL's own. They may
//! leave something on the session.
//!
//! What functions in SQL run is read like a view's definition. Which one of several is called
//! depends on a session's `search_path`; so all of a name must be harmless.

use std::sync::Arc;

use super::raw::{RawBody, RawShard, SECURED, VIEW};
use crate::relay::{Proven, is_harmless, is_taken, leaves_nothing};
use crate::sql::Vocabulary;

/// Views upon views, and functions that call functions: how many of them are looked behind.
const DEPTH_MAX: usize = 8;

/// The names of which that is so on any of these shards: [`Vocabulary::hiding`] and
/// [`Vocabulary::overloads`].
pub(super) fn behind(shards: &[RawShard]) -> Vocabulary {
    let mut all = Vocabulary::default();
    for shard in shards {
        let Vocabulary { hiding, overloads, .. } = behind_in(shard);
        all.hiding.extend(hiding);
        all.overloads.extend(overloads);
    }
    all
}

/// As [`behind`]. A function is proven to leave nothing by those that were proven before, so that
/// one that calls itself never is.
fn behind_in(shard: &RawShard) -> Vocabulary {
    let mut proven = Proven::new();
    for _ in 0..DEPTH_MAX {
        let names = names(shard, &proven);
        let found: Vec<_> = shard.bodies.keys().filter(|name| !proven.contains(&***name)).collect();
        let found = found.into_iter().filter(|name| is_quiet(shard, name, &names, &proven));
        let found: Vec<_> = found.cloned().collect();
        if found.is_empty() {
            return names;
        }
        proven.extend(found);
    }
    names(shard, &proven)
}

/// Whether all functions of this name leave nothing, in whatever schema one is found.
fn is_quiet(shard: &RawShard, name: &str, names: &Vocabulary, proven: &Proven) -> bool {
    let is_builtin = shard.functions.get(name).is_some_and(|function| function.builtin);
    let leaves_nothing = |text: &str| leaves_nothing(text, proven) && !names.hides(text);
    (!is_builtin || is_harmless(name))
        && shard.bodies(name).is_some_and(|bodies| {
            let mut texts = bodies.iter().flat_map(RawBody::texts);
            texts.all(leaves_nothing)
        })
}

/// The names behind which something may be left, if these functions leave nothing.
fn names(shard: &RawShard, proven: &Proven) -> Vocabulary {
    let mut names = Vocabulary { operators: shard.operators.clone(), ..Vocabulary::default() };
    for (name, function) in shard.functions.iter().filter(|(name, _)| !proven.contains(&***name)) {
        if function.of_rows {
            names.hiding.insert(Arc::clone(name));
        }
        if function.coded && is_taken(name) {
            names.overloads.insert(Arc::clone(name));
        }
    }
    for _ in 0..DEPTH_MAX {
        let before = names.hiding.len();
        add(shard, proven, &mut names);
        if names.hiding.len() == before {
            return names;
        }
    }
    // Who knows what is deeper down.
    names.hiding.extend(views(shard).map(|(name, _)| Arc::clone(name)));
    names
}

/// Adds those relations whose definitions say so, or name another one.
fn add(shard: &RawShard, proven: &Proven, names: &mut Vocabulary) {
    for (name, oid) in views(shard) {
        let is_harmless = |definitions: &Vec<Box<str>>| {
            definitions.iter().all(|text| leaves_nothing(text, proven) && !names.hides(text))
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

    /// So many functions that somebody has made.
    fn made(count: usize) -> RawFunction {
        let (volatile, changing, made, coded) = (true, true, true, true);
        RawFunction { volatile, changing, made, coded, count, of_rows: false, builtin: false }
    }

    /// What hides something there.
    fn hiding(shard: RawShard) -> Vec<String> {
        let found = behind(&[shard]).hiding;
        let mut names: Vec<_> = found.iter().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    }

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
        let function = RawFunction { of_rows: true, ..made(1) };
        shard.functions.insert("full_name".into(), function);
        assert_eq!(hiding(shard), ["a_top", "deep", "full_name", "setting", "signed"]);
    }

    #[test]
    fn functions_are_looked_through_if_all_of_a_name_can_be() {
        let mut shard = shard(&[
            ("by_uid", "SELECT * FROM users WHERE owner = auth.uid()"),
            ("by_both", "SELECT * FROM by_uid WHERE \"both\"(1)"),
            ("by_half", "SELECT half(1)"),
            ("by_again", "SELECT again(1)"),
            ("by_lower", "SELECT lower('X')"),
            ("by_default", "SELECT given()"),
            ("by_way", "SELECT way(1)"),
            ("by_sets", "SELECT sets()"),
        ]);
        for (name, bodies, function) in [
            ("uid", &["select nullif(current_setting('a.b', true), '')::uuid"][..], made(1)),
            ("both", &["select true", "select $1 = '' or uid() is null;"], made(2)),
            ("half", &["select 1"], made(2)),
            ("again", &["select again(n - 1)"], made(1)),
            ("lower", &["select 1"], RawFunction { builtin: true, ..made(2) }),
            ("given", &["select 1"], made(1)),
            ("way", &["select * from by_sets"], made(1)),
            ("sets", &["select 1; select set_config('a.b', 'c', true)"], made(1)),
            ("upper", &["select 1"], RawFunction { builtin: true, ..made(1) }),
        ] {
            let defaults = (name == "given").then(|| "SELECT nextval('s')".into());
            let body = |text: &&str| RawBody {
                text: Box::from(*text),
                defaults: defaults.clone(),
                is_immutable: false,
            };
            shard.functions.insert(name.into(), function);
            shard.bodies.insert(name.into(), bodies.iter().map(body).collect());
        }
        assert_eq!(behind_in(&shard).overloads, ["lower", "sets"].map(Arc::from).into());
        let rest = ["by_again", "by_default", "by_half", "by_lower", "by_sets", "by_way"];
        assert_eq!(hiding(shard), rest);
    }

    #[test]
    fn where_nobody_has_looked_every_view_is_one() {
        let mut shard = shard(&[("late", "SELECT now()")]);
        assert!(behind(std::slice::from_ref(&shard)).hiding.is_empty());
        shard.definitions = None;
        assert_eq!(hiding(shard), ["late"]);
        let chain: Vec<_> = (0..40).map(|nth| format!("v{nth:02}")).collect();
        let texts = chain.iter().skip(1).map(|next| format!("SELECT * FROM {next}"));
        let texts: Vec<_> = texts.chain(["SELECT set_config('a.b', 'c', false)".into()]).collect();
        let views: Vec<_> = chain.iter().zip(&texts).map(|(a, b)| (&**a, &**b)).collect();
        assert_eq!(hiding(self::shard(&views)), chain);
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
