//! Views, and tables with row security: relations whose rows depend on nothing but plain tables,
//! the role and the session's parameters, which are in the key, are as good as tables.

use std::sync::Arc;

use super::raw::{RawShard, SECURED, STORED_VIEW, VIEW};
use crate::sql::{Known, check_definition};

/// Views upon views: how many of them are seen through.
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
    for _ in 0..DEPTH_MAX {
        let is_steady = |candidate: &Candidate<'_>| {
            candidate.definitions.iter().all(|text| check_definition(text, known).is_ok())
        };
        let (steady, rest): (Vec<_>, Vec<_>) = candidates.into_iter().partition(is_steady);
        if steady.is_empty() {
            return;
        }
        for Candidate { schema, name, .. } in steady {
            known.catalog.see_through(schema, name);
        }
        candidates = rest;
    }
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
