//! Whether the configured tables are there, alike on every shard, with their rows in their places.

use std::collections::BTreeMap;

use sortie::{ShardKey, ShardMap};

use super::ask::{AskError, Row, Session};
use super::report::{Finding, TableReport};
use crate::config::{Spread, TableConfig};

/// Rows of a shard that are looked at.
const SAMPLE: usize = 1_000;

/// Reference tables up to this many rows are counted.
const COUNTED_MAX: usize = 100_000;

/// A shard to be asked.
pub(super) struct Shard<'a> {
    pub(super) number: usize,
    /// Who answers for it.
    pub(super) server: String,
    pub(super) encoding: String,
    pub(super) session: &'a mut Session,
}

/// A column as it is declared, so far as it must be the same on every shard.
type Column = (String, String);

/// Asks every shard about one table. `shards_all` is how many there are, also if some are silent.
pub(super) async fn check(
    table: &TableConfig,
    shards: &mut [Shard<'_>],
    shards_all: usize,
    findings: &mut Vec<Finding>,
) -> TableReport {
    let name = format!("{}.{}", table.schema, table.name);
    let before = findings.len();
    let mut rows_sampled = 0;
    let mut columns: Vec<(String, Vec<Column>)> = Vec::new();
    let mut counts = Vec::new();
    for shard in shards.iter_mut() {
        let Some(found) = declared(table, &name, shard, findings).await else { continue };
        match &table.spread {
            Spread::Hash { key } => {
                let ty = found.iter().find(|(column, _)| column == key).map(|(_, ty)| ty.clone());
                if let Some(ty) = key_type(&name, key, ty, shard, findings) {
                    rows_sampled +=
                        placed(table, &name, (key, ty), shard, shards_all, findings).await;
                }
            }
            Spread::Reference => match count(table, shard).await {
                Ok(count) => counts.push(count),
                Err(error) => {
                    let about = format!("{name} on shard {}", shard.number);
                    findings.push(Finding::problem(about, format!("it can't be read: {error}")));
                }
            },
        }
        columns.push((format!("shard {}", shard.number), found));
    }
    alike(&name, &columns, findings);
    counts.sort_unstable();
    counts.dedup();
    if counts.len() > 1 {
        let text = format!("a reference table with different numbers of rows: {counts:?}");
        findings.push(Finding::problem(&name, text).fix("every shard must have all rows"));
    }
    let key = match &table.spread {
        Spread::Hash { key } => Some(key.clone()),
        Spread::Reference => None,
    };
    TableReport { name, key, rows_sampled, fits: findings.len() == before }
}

/// The kind of a key, and how its text is hashed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum KeyType {
    Int,
    Text,
}

async fn declared(
    table: &TableConfig,
    name: &str,
    shard: &mut Shard<'_>,
    findings: &mut Vec<Finding>,
) -> Option<Vec<Column>> {
    let oid = format!("pg_catalog.to_regclass({})", literal(&relation(table)));
    let asked = format!(
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) \
         FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    );
    let about = format!("{name} on shard {}", shard.number);
    let rows = match shard.session.rows(&asked).await {
        Ok(rows) => rows,
        Err(error) => {
            findings.push(Finding::problem(about, format!("it can't be looked up: {error}")));
            return None;
        }
    };
    let columns: Vec<Column> = rows.into_iter().filter_map(column).collect();
    if columns.is_empty() {
        let text = format!("there is no such table on {}", shard.server);
        let fix = "create it there, or correct its name in the configuration";
        findings.push(Finding::problem(about, text).fix(fix));
        return None;
    }
    let may = format!("SELECT pg_catalog.has_table_privilege({oid}, 'SELECT')");
    let denied = shard.session.row(&may).await.is_ok_and(|row| row == [Some("f".to_owned())]);
    if denied {
        let relation = relation(table);
        findings.push(
            Finding::problem(about, "this role may not read it")
                .fix(format!("GRANT SELECT ON {relation} TO that role")),
        );
        return None;
    }
    Some(columns)
}

fn column(row: Row) -> Option<Column> {
    let mut fields = row.into_iter();
    Some((fields.next()??, fields.next()??))
}

fn key_type(
    name: &str,
    key: &str,
    ty: Option<String>,
    shard: &Shard<'_>,
    findings: &mut Vec<Finding>,
) -> Option<KeyType> {
    let about = format!("{name} on shard {}", shard.number);
    let Some(ty) = ty else {
        let text = format!("it has no column `{key}`, its key");
        findings.push(Finding::problem(about, text).fix("correct `key` in the configuration"));
        return None;
    };
    let plain = ty.split('(').next().unwrap_or_default();
    match plain {
        "smallint" | "integer" | "bigint" => Some(KeyType::Int),
        "text" | "character varying" if shard.encoding == "UTF8" => Some(KeyType::Text),
        "text" | "character varying" => {
            let text = format!("its key is text in {}: only UTF8 is hashed alike", shard.encoding);
            findings.push(Finding::problem(about, text));
            None
        }
        _ => {
            let text = format!("its key `{key}` is of type {ty}");
            let fix = "keys are smallint, integer, bigint, text or varchar";
            findings.push(Finding::problem(about, text).fix(fix));
            None
        }
    }
}

/// Looks at some rows of a shard, and says how many.
async fn placed(
    table: &TableConfig,
    name: &str,
    (key, ty): (&str, KeyType),
    shard: &mut Shard<'_>,
    shards_all: usize,
    findings: &mut Vec<Finding>,
) -> usize {
    let (relation, column) = (relation(table), quoted(key));
    let asked = format!("SELECT {column}::text FROM {relation} LIMIT {SAMPLE}");
    let about = format!("{name} on shard {}", shard.number);
    let keys = match shard.session.rows(&asked).await {
        Ok(rows) => rows.into_iter().map(|row| row.into_iter().next().flatten()),
        Err(error) => {
            findings.push(Finding::problem(about, format!("it can't be read: {error}")));
            return 0;
        }
    };
    let keys: Vec<Option<String>> = keys.collect();
    let sampled = keys.len();
    if let Some(text) = misplaced(&keys, ty, shard.number, shards_all) {
        let fix = "list the shards in the order of their remainders, \
                   `satisfies_hash_partition(table, shards, shard, key)`, or move the rows";
        findings.push(Finding::problem(about, text).fix(fix));
    }
    sampled
}

/// What to say if some of these keys belong to another shard.
fn misplaced(
    keys: &[Option<String>],
    ty: KeyType,
    here: usize,
    shards_all: usize,
) -> Option<String> {
    let map = ShardMap::pg_hash(u32::try_from(shards_all).expect("shards are few"));
    let owner = |key: &str| match ty {
        KeyType::Int => key.parse::<i64>().ok().map(|key| map.shard_of(key)),
        KeyType::Text => Some(map.shard_of(ShardKey::from(key))),
    };
    let mut elsewhere: BTreeMap<u32, (usize, &str)> = BTreeMap::new();
    let mut nulls = 0;
    for key in keys {
        match key.as_deref().map(|key| (key, owner(key))) {
            Some((key, Some(owner))) if owner.index() as usize != here => {
                elsewhere.entry(owner.index()).or_insert((0, key)).0 += 1;
            }
            Some(_) => {}
            None => nulls += 1,
        }
    }
    let all = keys.len();
    let (owner, (wrong, example)) = match elsewhere.into_iter().max_by_key(|(_, (count, _))| *count)
    {
        Some(most) => most,
        None if nulls > 0 => return Some(format!("{nulls} of {all} rows have no key")),
        None => return None,
    };
    Some(if wrong == all {
        format!("all of {all} rows belong to shard {owner}, for example key {example}")
    } else {
        format!("{wrong} of {all} rows belong to shard {owner}, for example key {example}")
    })
}

/// How many rows there are, up to a bound.
async fn count(table: &TableConfig, shard: &mut Shard<'_>) -> Result<String, AskError> {
    let relation = relation(table);
    let asked = format!(
        "SELECT pg_catalog.count(*) FROM (SELECT FROM {relation} LIMIT {COUNTED_MAX}) AS counted"
    );
    let row = shard.session.row(&asked).await?;
    Ok(row.into_iter().next().flatten().unwrap_or_default())
}

/// The columns are the same on every shard, in the same order.
fn alike(name: &str, columns: &[(String, Vec<Column>)], findings: &mut Vec<Finding>) {
    let Some(((first, expected), others)) = columns.split_first() else { return };
    for (other, columns) in others.iter().filter(|(_, columns)| columns != expected) {
        let shown = |columns: &[Column]| {
            let all: Vec<String> =
                columns.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
            all.join(", ")
        };
        let text = format!(
            "its columns differ: ({}) on {first}, ({}) on {other}",
            shown(expected),
            shown(columns)
        );
        findings.push(Finding::problem(name, text).fix("make them alike, in the same order"));
    }
}

fn relation(table: &TableConfig) -> String {
    format!("{}.{}", quoted(&table.schema), quoted(&table.name))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> Vec<Option<String>> {
        keys.iter().map(|key| Some((*key).to_owned())).collect()
    }

    #[test]
    fn rows_in_the_wrong_place_are_seen() {
        // 42 is on shard 0 of 3, `hello` on shard 1.
        assert_eq!(misplaced(&keys(&["42"]), KeyType::Int, 0, 3), None);
        assert_eq!(misplaced(&keys(&["hello"]), KeyType::Text, 1, 3), None);
        assert_eq!(misplaced(&[], KeyType::Int, 0, 3), None);
        let swapped = misplaced(&keys(&["42", "42"]), KeyType::Int, 1, 3).unwrap();
        assert_eq!(swapped, "all of 2 rows belong to shard 0, for example key 42");
        let some = misplaced(&keys(&["42", "hello"]), KeyType::Text, 1, 3);
        assert!(some.is_none_or(|text| text.contains("1 of 2 rows")));
        assert_eq!(misplaced(&[None], KeyType::Int, 0, 3).unwrap(), "1 of 1 rows have no key");
    }

    #[test]
    fn shards_whose_columns_differ_are_named() {
        let column = |name: &str, ty: &str| (name.to_owned(), ty.to_owned());
        let same = vec![column("id", "bigint"), column("name", "text")];
        let other = vec![column("name", "text"), column("id", "bigint")];
        let shard = |at: usize, columns: &[Column]| (format!("shard {at}"), columns.to_vec());
        let mut findings = Vec::new();
        alike("t", &[shard(0, &same), shard(1, &same)], &mut findings);
        assert_eq!(findings, []);
        alike("t", &[shard(0, &same), shard(1, &other)], &mut findings);
        let text = &findings[0].what;
        assert!(text.contains("(name text, id bigint) on shard 1"), "{text}");
    }

    #[test]
    fn names_are_quoted() {
        let table = |schema: &str, name: &str| TableConfig {
            schema: schema.into(),
            name: name.into(),
            spread: Spread::Reference,
        };
        assert_eq!(relation(&table("public", "a\"b")), "\"public\".\"a\"\"b\"");
        assert_eq!(literal("it's \\"), "E'it\\'s \\\\'");
    }
}
