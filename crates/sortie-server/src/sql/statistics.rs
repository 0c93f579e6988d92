//! PostgreSQL's own catalogs and functions that tell of one server's rows: its statistics, sizes
//! and counters. Of a cluster of several shards they would say a part as if it were all.
//!
//! | what | why |
//! |---|---|
//! | `pg_stats` and its kin, `pg_stat_…`, `pg_statio_…`, `pg_locks` … | every row of them |
//! | `pg_class.reltuples`, `relpages`, `relallvisible`; `pg_sequences.last_value` | these columns |
//! | `pg_relation_size()` and its kin, `pg_stat_get_…()`, `txid_current()` … | what they return |
//!
//! Definitions (`pg_attribute`, `pg_statistic_ext`, the rest of `pg_class`) are the same on every
//! shard. Columns are found by their names, and where a whole row would have them: behind a star,
//! as the relation's own name among expressions, under names that a list gives anew.

use crate::sql::error::SqlError;
use crate::sql::lex::{Lexeme, Token};

/// Relations that have nothing else.
const RELATIONS: &str = "pg_backend_memory_contexts pg_largeobject pg_largeobject_metadata \
                         pg_locks pg_prepared_xacts pg_replication_origin_status \
                         pg_replication_slots pg_shmem_allocations pg_statistic \
                         pg_statistic_ext_data pg_stats pg_stats_ext pg_stats_ext_exprs";
/// Relations and functions that begin so.
const PREFIXES: [&str; 2] = ["pg_stat_", "pg_statio_"];
const FUNCTIONS: &str = "pg_current_snapshot pg_current_xact_id pg_current_xact_id_if_assigned \
                         pg_database_size pg_indexes_size pg_relation_filenode \
                         pg_relation_filepath pg_relation_size pg_sequence_last_value \
                         pg_table_size pg_tablespace_size pg_total_relation_size txid_current \
                         txid_current_if_assigned txid_current_snapshot";
/// Relations of which some columns are like that.
const COLUMNS: [(&str, &str); 2] = [
    (
        "pg_class",
        "reltuples relpages relallvisible relallfrozen relfilenode relfrozenxid relminmxid",
    ),
    ("pg_sequences", "last_value"),
];
/// Words that may stand behind a relation and give it no name.
const AFTER_RELATION: &str = "cross except fetch for full group having inner intersect join left \
                              limit natural offset on order right tablesample union using where \
                              window";
/// Words behind which an expression begins.
const BEFORE_EXPRESSION: &str = "all and by case distinct else in not on or returning select then \
                                 when where";

/// What helps.
pub(super) const BIND: &str =
    "Bind the session to one shard: SET sortie.shard = N, or the database NAME.N.";

/// Checks the names in a query.
///
/// # Errors
///
/// 0A000 with the reason and its place.
pub(super) fn check_names(lexemes: &[Lexeme]) -> Result<(), SqlError> {
    for (at, lexeme) in lexemes.iter().enumerate() {
        let Some(name) = name(lexeme) else { continue };
        let is_called = lexemes.get(at + 1).is_some_and(|next| is(next, "("));
        let is_one_servers = PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || listed(RELATIONS, name)
            || (is_called && listed(FUNCTIONS, name));
        if is_one_servers {
            return Err(refused(lexeme, &format!("\"{name}\" tells")));
        }
    }
    Ok(())
}

/// Checks the columns in a query. `relations` are the places where relations are named in it.
///
/// # Errors
///
/// As [`check_names`].
pub(super) fn check_columns(lexemes: &[Lexeme], relations: &[usize]) -> Result<(), SqlError> {
    for (relation, columns) in COLUMNS {
        let named = relations.iter().filter_map(|&place| {
            // The schema may stand in front.
            [place, place + 2]
                .into_iter()
                .find(|&it| lexemes.get(it).and_then(name) == Some(relation))
        });
        let places: Vec<usize> = named.collect();
        if !places.is_empty() {
            Asked { lexemes, relation, columns, places }.check()?;
        }
    }
    Ok(())
}

/// A relation of which some columns may not be asked for, in a query.
struct Asked<'a> {
    lexemes: &'a [Lexeme],
    relation: &'static str,
    columns: &'static str,
    /// Where it stands in a FROM clause.
    places: Vec<usize>,
}

impl Asked<'_> {
    fn check(&self) -> Result<(), SqlError> {
        let mut rows = vec![self.relation];
        for &place in &self.places {
            let alias = place + if self.is_word(place + 1, "as") { 2 } else { 1 };
            if self.is_alias(alias) {
                rows.extend(self.lexemes.get(alias).and_then(name));
                if self.is(alias + 1, "(") {
                    return Err(self.whole(alias));
                }
            }
            self.check_join(place)?;
        }
        let selects = selects(self.lexemes);
        for (place, lexeme) in self.lexemes.iter().enumerate() {
            match name(lexeme) {
                Some(column) if listed(self.columns, column) => {
                    return Err(refused(lexeme, &format!("{}.{column} tells", self.relation)));
                }
                Some(row) if rows.contains(&row) && self.is_expression(place) => {
                    return Err(self.whole(place));
                }
                None if self.is(place, "*") && self.is_star(place, &selects) => {
                    return Err(self.whole(place));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A join in parentheses, of which this is a part, may have a name of its own, by which its
    /// columns are had under any names.
    fn check_join(&self, place: usize) -> Result<(), SqlError> {
        let mut open = Vec::new();
        for at in 0..self.lexemes.len() {
            if self.is(at, "(") {
                open.push(at);
            } else if self.is(at, ")")
                && let Some(begin) = open.pop()
                && (begin..at).contains(&place)
            {
                let is_join = !begins_select(self.lexemes.get(begin + 1));
                if is_join && (self.is_word(at + 1, "as") || self.is_alias(at + 1)) {
                    return Err(self.whole(place));
                }
                if !is_join {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether a row's name stands where an expression may, and not in front of one of its columns.
    fn is_expression(&self, place: usize) -> bool {
        let before = place.checked_sub(1).and_then(|before| self.lexemes.get(before));
        let begins = before.is_some_and(|before| match &before.token {
            Token::Word(word) => listed(BEFORE_EXPRESSION, word),
            Token::Punctuation(sign) => matches!(*sign, "(" | "," | "["),
            token => matches!(token, Token::Operator(_)),
        });
        begins
            && !self.places.contains(&place)
            && !self.is(place + 1, ".")
            && !self.is(place + 1, "(")
    }

    /// Whether a star stands for columns, of this relation perhaps.
    fn is_star(&self, place: usize, selects: &[usize]) -> bool {
        let Some(before) = place.checked_sub(1) else { return false };
        let begins = ["select", "distinct", "all"].iter().any(|word| self.is_word(before, word));
        let here = || self.places.iter().any(|&relation| selects[relation] == selects[place]);
        self.is(before, ".") || ((begins || self.is(before, ",")) && here())
    }

    fn is_alias(&self, place: usize) -> bool {
        self.lexemes.get(place).is_some_and(|lexeme| match &lexeme.token {
            Token::Word(word) => !listed(AFTER_RELATION, word),
            token => matches!(token, Token::Quoted(_)),
        })
    }

    fn is(&self, place: usize, sign: &str) -> bool {
        self.lexemes.get(place).is_some_and(|lexeme| is(lexeme, sign))
    }

    fn is_word(&self, place: usize, word: &str) -> bool {
        self.lexemes.get(place).is_some_and(|lexeme| is_word(lexeme, word))
    }

    fn whole(&self, place: usize) -> SqlError {
        let what = format!("among the columns of {} are some that tell", self.relation);
        refused(&self.lexemes[place], &what)
    }
}

/// Of each place, in which SELECT it stands: the number of the innermost parenthesis with one.
fn selects(lexemes: &[Lexeme]) -> Vec<usize> {
    let mut open = vec![0];
    let mut numbers = Vec::with_capacity(lexemes.len());
    for (at, lexeme) in lexemes.iter().enumerate() {
        if is(lexeme, "(") {
            let outer = open.last().copied().unwrap_or(0);
            open.push(if begins_select(lexemes.get(at + 1)) { at + 1 } else { outer });
        } else if is(lexeme, ")") && open.len() > 1 {
            open.pop();
        }
        numbers.push(open.last().copied().unwrap_or(0));
    }
    numbers
}

fn begins_select(lexeme: Option<&Lexeme>) -> bool {
    let words = ["select", "with", "values"];
    lexeme.is_some_and(|lexeme| words.iter().any(|word| is_word(lexeme, word)))
}

fn refused(lexeme: &Lexeme, what: &str) -> SqlError {
    SqlError::unsupported(format!("{what} of one server's rows, and there are several shards"))
        .at(lexeme.position)
        .hint(BIND)
}

fn name(lexeme: &Lexeme) -> Option<&str> {
    match &lexeme.token {
        Token::Word(name) | Token::Quoted(name) => Some(name),
        _ => None,
    }
}

fn is_word(lexeme: &Lexeme, word: &str) -> bool {
    matches!(&lexeme.token, Token::Word(found) if found == word)
}

fn is(lexeme: &Lexeme, sign: &str) -> bool {
    match &lexeme.token {
        Token::Punctuation(found) => *found == sign,
        Token::Operator(found) => found == sign,
        _ => false,
    }
}

fn listed(list: &str, word: &str) -> bool {
    list.split(' ').any(|known| known == word)
}
