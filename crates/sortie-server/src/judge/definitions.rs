//! Views, and tables with row security: relations whose rows depend on nothing but plain tables,
//! the role and the session's parameters, which are in the key, are as good as tables. And
//! functions in SQL whose results depend on no more than that, and on their arguments.
//!
//! Whose rights a function has makes no difference: it is the same for all who call it, as it is
//! for views.

use std::sync::Arc;

use super::raw::{RawShard, SECURED, STORED_VIEW, VIEW};
use crate::sql::{Known, check_body, check_definition};

/// Views upon views, and functions that call functions: how many of them are seen through.
const DEPTH_MAX: usize = 8;

/// A relation that may be seen through, and what stands behind it on all shards.
struct Candidate<'a> {
    schema: &'a Arc<str>,
    name: &'a Arc<str>,
    definitions: Vec<&'a str>,
}

/// Marks what only depends on what is known to be steady.
pub(super) fn see_through(known: &mut Known, shards: &[RawShard]) {
    let mut candidates = candidates(shards);
    let mut functions = functions(shards);
    for _ in 0..DEPTH_MAX {
        let is_seen = |name: &Arc<str>| shards.iter().all(|shard| is_steady(name, shard, known));
        let (seen, unseen): (Vec<_>, Vec<_>) = functions.into_iter().partition(is_seen);
        functions = unseen;
        let is_steady = |candidate: &Candidate<'_>| {
            candidate.definitions.iter().all(|text| check_definition(text, known).is_ok())
        };
        let (steady, rest): (Vec<_>, Vec<_>) = candidates.into_iter().partition(is_steady);
        if steady.is_empty() && seen.is_empty() {
            return;
        }
        for name in seen {
            known.vocabulary.unsteady.remove(&name);
            known.vocabulary.seen.insert(name);
        }
        for Candidate { schema, name, .. } in steady {
            known.catalog.see_through(schema, name);
        }
        candidates = rest;
    }
}

/// Names of functions that may be seen through: somebody made all that have one.
fn functions(shards: &[RawShard]) -> Vec<Arc<str>> {
    let names = shards.first().into_iter().flat_map(|shard| shard.bodies.keys());
    let is_candidate = |name: &&Arc<str>| {
        // A type may have a function's name, and then be called like one.
        let is_made = |shard: &RawShard| {
            let function = shard.functions.get(&***name);
            function.is_some_and(|it| !it.builtin && !it.volatile)
                && !shard.types.contains(&***name)
        };
        shards.iter().all(is_made)
    };
    names.filter(is_candidate).cloned().collect()
}

/// Whether all functions of this name say the same for the same arguments, parameters and role.
fn is_steady(name: &str, shard: &RawShard, known: &Known) -> bool {
    shard.bodies(name).is_some_and(|bodies| {
        bodies.iter().all(|body| {
            let mut texts = body.texts();
            texts.all(|text| check_body(text, body.is_immutable, known).is_ok())
        })
    })
}

fn candidates(shards: &[RawShard]) -> Vec<Candidate<'_>> {
    let named = shards.first().into_iter().flat_map(|shard| shard.relations.keys());
    let candidate = |(schema, name): &'_ (Arc<str>, Arc<str>)| -> Option<Vec<&str>> {
        let mut definitions = Vec::new();
        for shard in shards {
            let relation = shard.relations.get(&(Arc::clone(schema), Arc::clone(name)))?;
            let here = shard.definitions.as_ref()?.get(&relation.oid);
            let here = here.map_or(&[][..], Vec::as_slice);
            let is_candidate = match relation.kind.as_str() {
                VIEW => here.len() == 1,
                // Its rows are stored; and without a policy there are none to be seen.
                STORED_VIEW | SECURED => true,
                _ => false,
            };
            if !is_candidate {
                return None;
            }
            definitions.extend(here.iter().map(|text| &**text));
        }
        Some(definitions)
    };
    let found = named.filter_map(|key| {
        candidate(key).map(|definitions| Candidate { schema: &key.0, name: &key.1, definitions })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::known;
    use super::*;

    #[test]
    fn a_body_passes_by_the_rules_for_statements() {
        let known = known();
        for (text, stable, immutable) in [
            ("select $1 * 2", true, true),
            ("select lower(name) || 'x';", true, true),
            ("with a as (select 1 as b) select b from a", true, true),
            ("select balance from users where user_id = id", true, false),
            ("select balance_of(1)", true, false),
            ("select nullif(current_setting('app.tenant', true), '')", true, false),
            ("select current_user", true, false),
            ("select to_jsonb(born)", true, false),
            ("select now()", false, false),
            ("select total(1)", false, false),
            ("select current_setting('work_mem')", false, false),
            ("select 1; select 2", false, false),
            ("select * from rich", false, false),
            ("update users set name = ''", false, false),
            ("select user_id from users for update", false, false),
            ("select 'today'::date", false, false),
            ("", false, false),
        ] {
            let check = |is_immutable| check_body(text, is_immutable, &known).is_ok();
            assert_eq!((check(false), check(true)), (stable, immutable), "{text}");
        }
    }
}
