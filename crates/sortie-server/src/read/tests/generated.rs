//! 200 generated statements, each as text and with parameters, equal to the same SQL on one SQLite
//! file that holds every row.

use std::fmt::Write as _;

use sortie_sqlite::Oracle;

use super::*;

const STATEMENTS: usize = 200;
const USERS: u32 = 1_000;

/// Comparisons without a value from outside.
const OF_ITSELF: &[&str] =
    &["user_id < balance", "balance <> user_id", "name = name", "1 = 1", "1 > 2"];

/// One part of a statement.
pub(super) enum Part {
    Sql(String),
    Int(i64),
    Text(String),
    /// `= ANY` for PostgreSQL, `IN` for SQLite.
    Any(Vec<i64>),
}

/// A statement, and what is known about the order of its rows.
pub(super) struct Statement {
    parts: Vec<Part>,
    ordered: bool,
    /// The same without LIMIT and OFFSET, where the rows that are left are anybody's choice.
    pub(super) limited: Option<i64>,
}

/// `SplitMix64`: the same statements in every run.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn number(&mut self, below: u32) -> i64 {
        i64::try_from(self.roll(below as usize)).unwrap()
    }

    pub(super) fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len())]
    }
}

pub(super) struct Generator {
    pub(super) dice: Dice,
    pub(super) names: Vec<String>,
    pub(super) parts: Vec<Part>,
}

impl Generator {
    fn sql(&mut self, text: &str) {
        self.parts.push(Part::Sql(text.to_owned()));
    }

    fn key(&mut self) -> i64 {
        self.dice.number(USERS + 50)
    }

    fn int(&mut self) {
        let value = match self.dice.roll(12) {
            0 => i64::MAX,
            1 => i64::MIN,
            2 => -self.key(),
            3..=7 => self.dice.number(9_000),
            _ => self.key(),
        };
        self.parts.push(Part::Int(value));
    }

    fn text(&mut self) {
        let known = self.dice.roll(self.names.len());
        let text = match self.dice.roll(6) {
            0 => "O'Hara".to_owned(),
            1 => "ß".to_owned(),
            2 => String::new(),
            _ => self.names[known].clone(),
        };
        self.parts.push(Part::Text(text));
    }

    fn value(&mut self, column: &str) {
        if column == "name" { self.text() } else { self.int() }
    }

    fn comparison(&mut self) {
        let column = self.dice.pick(&["user_id", "user_id", "name", "balance", "balance"]);
        match self.dice.roll(10) {
            0 => {
                self.sql(&format!("{column} IS NOT NULL"));
            }
            1 => {
                let not = self.dice.pick(&["", "NOT "]);
                self.sql(&format!("{column} {not}BETWEEN "));
                self.value(column);
                self.sql(" AND ");
                self.value(column);
            }
            2 | 3 => {
                let not = self.dice.pick(&["", "", "NOT "]);
                self.sql(&format!("{column} {not}IN ("));
                for at in 0..=self.dice.roll(12) {
                    self.sql(if at > 0 { ", " } else { "" });
                    self.value(column);
                }
                self.sql(")");
            }
            4 => {
                self.sql("user_id ");
                let keys = (0..self.dice.roll(8)).map(|_| self.key()).collect();
                self.parts.push(Part::Any(keys));
            }
            5 => {
                let comparison = self.dice.pick(OF_ITSELF);
                self.sql(comparison);
            }
            _ => {
                let operator = self.dice.pick(&["=", "=", "<>", "<", "<=", ">", ">="]);
                self.sql(&format!("{column} {operator} "));
                self.value(column);
            }
        }
    }

    fn condition(&mut self, depth: u32) {
        match self.dice.roll(if depth > 3 { 4 } else { 9 }) {
            0..=3 => self.comparison(),
            4 | 5 => self.both(" AND ", depth),
            6 | 7 => self.both(" OR ", depth),
            _ => {
                self.sql("NOT (");
                self.condition(depth + 1);
                self.sql(")");
            }
        }
    }

    fn both(&mut self, word: &str, depth: u32) {
        self.sql("(");
        self.condition(depth + 1);
        self.sql(word);
        self.condition(depth + 1);
        self.sql(")");
    }

    fn filter(&mut self) {
        self.sql(" FROM users");
        if self.dice.roll(8) > 0 {
            self.sql(" WHERE ");
            self.condition(0);
        }
    }

    pub(super) fn statement(&mut self) -> Statement {
        if self.dice.roll(3) == 0 { self.aggregates() } else { self.list() }
    }

    fn aggregates(&mut self) -> Statement {
        self.sql("SELECT ");
        for at in 0..=self.dice.roll(4) {
            let call = self.dice.pick(&[
                "count(*)",
                "sum(balance)",
                "sum(user_id)",
                "min(name)",
                "max(balance) AS top",
                "min(user_id)",
                "count(name)",
            ]);
            self.sql(if at > 0 { ", " } else { "" });
            self.sql(call);
        }
        self.filter();
        self.done(true, None)
    }

    fn list(&mut self) -> Statement {
        let columns = self.dice.pick(&[
            "*",
            "user_id, name",
            "balance, user_id, balance AS again",
            "users.user_id",
            "name, 1, user_id",
        ]);
        self.sql(&format!("SELECT {columns}"));
        self.filter();
        let ordered = self.dice.roll(3) > 0;
        if ordered {
            // The key comes last, so that ties have one order.
            let first = match columns {
                "*" => self.dice.pick(&["balance DESC, ", "name, 3 DESC, ", "", "2 DESC, "]),
                "user_id, name" | "name, 1, user_id" => self.dice.pick(&["name, ", "name DESC, "]),
                "users.user_id" => "",
                _ => self.dice.pick(&["again, ", "1 DESC, ", "balance, "]),
            };
            let last = self.dice.pick(&["user_id", "user_id DESC", "users.user_id ASC"]);
            self.sql(&format!(" ORDER BY {first}{last}"));
        }
        if self.dice.roll(2) == 0 {
            return self.done(ordered, None);
        }
        let (limit, offset) = (self.dice.number(40), self.dice.number(30));
        if !ordered {
            return self.done(false, Some(limit));
        }
        self.sql(" LIMIT ");
        self.parts.push(Part::Int(limit));
        if self.dice.roll(2) == 0 {
            self.sql(" OFFSET ");
            self.parts.push(Part::Int(offset));
        }
        self.done(true, None)
    }

    fn done(&mut self, ordered: bool, limited: Option<i64>) -> Statement {
        Statement { parts: std::mem::take(&mut self.parts), ordered, limited }
    }
}

impl Statement {
    /// With every constant in the text; `any` is how this dialect writes a list.
    pub(super) fn inline(&self, any: impl Fn(&str) -> String) -> String {
        let mut sql = String::new();
        for part in &self.parts {
            match part {
                Part::Sql(text) => sql.push_str(text),
                Part::Int(value) => write!(sql, "{value}").unwrap(),
                Part::Text(text) => write!(sql, "'{}'", text.replace('\'', "''")).unwrap(),
                Part::Any(keys) => sql.push_str(&any(&joined(keys))),
            }
        }
        sql
    }

    /// With parameters in place of constants: text, declared types, values in text or binary.
    pub(super) fn parameterised(
        &self,
        dice: &mut Dice,
    ) -> (String, Vec<u32>, Vec<i16>, Vec<Option<Bytes>>) {
        let (mut sql, mut oids, mut formats, mut values) =
            (String::new(), Vec::new(), Vec::new(), Vec::new());
        for part in &self.parts {
            let binary = dice.roll(2) == 1;
            let (oid, value) = match part {
                Part::Sql(text) => {
                    sql.push_str(text);
                    continue;
                }
                Part::Int(value) if binary => (20, value.to_be_bytes().to_vec()),
                Part::Int(value) => {
                    let oid = [0, 20, 705, 1_700][dice.roll(4)];
                    (oid, value.to_string().into_bytes())
                }
                Part::Text(text) => ([0, 25][dice.roll(2)], text.clone().into_bytes()),
                Part::Any(keys) if binary => (1_016, binary_array(keys)),
                Part::Any(keys) => (0, format!("{{{}}}", joined(keys)).into_bytes()),
            };
            let number = values.len() + 1;
            match part {
                Part::Any(_) => write!(sql, "= ANY(${number})").unwrap(),
                _ => write!(sql, "${number}").unwrap(),
            }
            oids.push(oid);
            formats.push(i16::from(binary));
            values.push(Some(Bytes::from(value)));
        }
        (sql, oids, formats, values)
    }
}

fn joined(keys: &[i64]) -> String {
    keys.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

fn binary_array(keys: &[i64]) -> Vec<u8> {
    let head = [1, 0, 20, i32::try_from(keys.len()).unwrap(), 1];
    let mut bytes: Vec<u8> = head.into_iter().flat_map(i32::to_be_bytes).collect();
    for key in keys {
        bytes.extend(8_i32.to_be_bytes());
        bytes.extend(key.to_be_bytes());
    }
    bytes
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Int(value) => Some(value.to_string()),
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// Compares an answer with the oracle's, as far as the statement says what it must be.
pub(super) fn compare(
    statement: &Statement,
    limited: bool,
    mut found: Vec<Vec<Option<String>>>,
    mut expected: Vec<Vec<Option<String>>>,
    text: &str,
) {
    if let Some(limit) = statement.limited.filter(|_| limited) {
        // Any rows of the whole will do, each as often as it is there, but not more of them.
        assert_eq!(found.len(), expected.len().min(usize::try_from(limit).unwrap()), "{text}");
        for row in found {
            let at = expected.iter().position(|known| *known == row);
            expected.swap_remove(at.unwrap_or_else(|| panic!("{row:?} of {text}")));
        }
        return;
    }
    if !statement.ordered {
        found.sort();
        expected.sort();
    }
    assert_eq!(found, expected, "{text}");
}

async fn check(shards: usize) {
    let rig = Rig::new(&config(shards, USERS), &ReadConfig::default());
    let dir = tempfile::tempdir().unwrap();
    let oracle = Oracle::create(&dir.path().join("all.sqlite"), USERS).unwrap();
    let names = oracle.query("SELECT DISTINCT name FROM users ORDER BY 1", &[]).unwrap().rows;
    let names = names.iter().map(|row| shown(&row[0]).unwrap()).collect();
    let mut generator = Generator { dice: Dice(shards as u64), names, parts: Vec::new() };
    let mut answered = 0;
    for _ in 0..STATEMENTS {
        let statement = generator.statement();
        let sqlite = statement.inline(|keys| format!("IN ({keys})"));
        let expected = oracle.query(&sqlite, &[]).unwrap().rows;
        let expected: Vec<Vec<_>> =
            expected.iter().map(|row| row.iter().map(shown).collect()).collect();
        answered += usize::from(!expected.is_empty());

        let text = statement.inline(|keys| format!("= ANY('{{{keys}}}')"));
        let limit = statement.limited.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
        let limited = format!("{text}{limit}");
        let found = rig.ask(&limited).await.unwrap_or_else(|error| panic!("{error}: {limited}"));
        compare(&statement, true, found, expected.clone(), &limited);

        let (text, oids, formats, values) = statement.parameterised(&mut generator.dice);
        let bound = bound(&text, Some(&oids), &formats, &values);
        let bound = bound.unwrap_or_else(|error| panic!("{error}: {text}"));
        let results: Vec<i16> =
            bound.columns().iter().map(|_| i16::from(generator.dice.roll(2) == 1)).collect();
        let reply = rig.path.read(&rig.who, &bound, &results, None).await.unwrap();
        let found = rows(&reply, bound.columns(), &results);
        compare(&statement, false, found, expected, &text);
    }
    assert!(answered > STATEMENTS / 2, "only {answered} statements have rows: a weak test");
    assert_eq!(rig.path.flights().in_flight_flights, 0);
}

#[tokio::test]
async fn two_hundred_generated_statements_equal_one_file_with_two_shards() {
    check(2).await;
}

#[tokio::test]
async fn two_hundred_generated_statements_equal_one_file_with_one_shard() {
    check(1).await;
}

#[tokio::test]
async fn two_hundred_generated_statements_equal_one_file_with_seven_shards() {
    check(7).await;
}
