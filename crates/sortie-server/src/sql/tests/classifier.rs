//! The classifier against statements nobody wrote: it never panics, and lets nothing through that
//! is outside the grammar.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Lexemes that mean something to the grammar, and some that mean nothing to anybody.
const LEXEMES: &[&str] = &[
    "select", "from", "where", "users", "user_id", "name", "balance", "*", ",", "(", ")", "=",
    "<>", "<", ">=", "and", "or", "not", "in", "between", "is", "null", "true", "any", "array",
    "[", "]", "order", "by", "limit", "offset", "asc", "desc", "nulls", "first", "1", "-", "2.5",
    "1e9", "'x'", "'1'", "$1", "$2", "::", "int8", "text", "numeric", "count", "sum", "min", "as",
    "u", ".", "\"q\"", "cast", "distinct", "group", "having", "join", "on", "union", "all", "case",
    "when", "then", "end", "like", "exists", "with", "values", "insert", "into", "update", "set",
    "delete", "create", "table", "begin", "commit", "show", "for", "over", "filter", "e'\\n'",
    "$$x$$", "/* c */", "-- c\n", ";", "@", "==", "||", "é", "\\", "{", "'", "\"", "$a$",
];

/// Conditions of the grammar.
fn condition() -> impl Strategy<Value = String> {
    let leaf = select(
        &[
            "user_id = 1",
            "name <> 'x'",
            "balance between 1 and 2.5",
            "user_id in (1, 2)",
            "name = any('{a,b}')",
            "balance is not null",
            "true",
            "1 = 1",
            "user_id < balance",
            "user_id = '7'::int8",
            "- 5 < balance",
        ][..],
    )
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} and {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} or {b})")),
            inner.prop_map(|a| format!("not ({a})")),
        ]
    })
}

/// Conditions that are valid SQL and outside the grammar.
const FOREIGN_CONDITIONS: &[&str] = &[
    "name like 'A%'",
    "user_id + 1 = 2",
    "upper(name) = 'X'",
    "user_id in (select 1)",
    "exists (select 1)",
    "user_id = all(array[1])",
    "user_id > any(array[1])",
    "case when true then true end",
    "user_id is distinct from 1",
    "(user_id, balance) = (1, 2)",
    "user_id::text = '1'",
    "name collate \"C\" = 'x'",
    "name || 'x' = 'y'",
    "(true) is true",
    "user_id = (select 1)",
    "name ~ 'x'",
    "user_id between symmetric 2 and 1",
    "now() is null",
    "user_id in (balance)",
    "(user_id = 1) = true",
    "name similar to 'x'",
    "user_id % 2 = 0",
    "count(*) > 1",
    "random() < 0.5",
];

/// Statements around a condition, valid SQL and outside the grammar.
const FOREIGN_STATEMENTS: &[&str] = &[
    "select distinct name from users where {}",
    "select name from users where {} group by name",
    "select count(*) from users where {} having true",
    "select * from users join users v on true where {}",
    "select * from users, users v where {}",
    "select * from (select * from users where {}) x",
    "select * from users where {} union all select * from users",
    "with x as (select 1) select * from users where {}",
    "select count(*) over () from users where {}",
    "select count(*) filter (where {}) from users",
    "select sum(distinct balance) from users where {}",
    "select avg(balance) from users where {}",
    "select balance * 2 from users where {}",
    "select (select 1) from users where {}",
    "select name from users where {} order by balance",
    "select name from users where {} order by upper(name)",
    "select * from users where {} fetch first 1 row only",
    "select * from users tablesample system (10) where {}",
    "select * from users where {} for update",
    "select * into t from users where {}",
    "select * from only users where {}",
    "select name, count(*) from users where {}",
    "select coalesce(name, 'x') from users where {}",
    "select row(1, 2) from users where {}",
    "select array[user_id] from users where {}",
    "select * from users u(a, b, c) where {}",
    "select pg_sleep(1) from users where {}",
    "explain select * from users where {}",
    "declare c cursor for select * from users where {}",
    "prepare p as select * from users where {}",
    "create table t as select * from users where {}",
    "insert into users select * from users where {}",
    "update users set balance = 0 where {}",
    "delete from users where {}",
    "copy (select * from users where {}) to stdout",
    "select * from lateral (select * from users where {}) x",
    "select * from pg_class where {}",
    "select user_id from users where {} limit (select 1)",
    "select all_users.* from users where {}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_text_gets_an_answer(text in ".{0,60}") {
        let _outcome = prepared(&text, None);
        let _pieces = split(&text);
    }

    #[test]
    fn any_lexemes_get_an_answer(
        lexemes in prop::collection::vec(select(LEXEMES), 0..25),
        glue in select(&[" ", ""][..]),
    ) {
        let text = lexemes.join(glue);
        for oids in [None, Some(&[][..]), Some(&[23, 1700][..])] {
            if let Ok(statement) = prepared(&text, oids) {
                let nothing = vec![None; statement.params().len()];
                let _outcome = statement.bind(&[], &nothing);
            }
        }
    }

    #[test]
    fn conditions_of_the_grammar_are_accepted(condition in condition()) {
        let text = format!("select * from users where {condition}");
        prop_assert!(prepared(&text, None).is_ok(), "{text}");
    }

    #[test]
    fn foreign_conditions_are_refused(
        before in condition(),
        foreign in select(FOREIGN_CONDITIONS),
        after in condition(),
        word in select(&["and", "or", "and not"][..]),
    ) {
        for text in [
            format!("select * from users where {before} {word} {foreign}"),
            format!("select count(*) from users where {foreign} or {after}"),
            format!("select name from users where ({before} or ({foreign})) and {after}"),
        ] {
            prop_assert!(prepared(&text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn foreign_statements_are_refused(
        condition in condition(),
        foreign in select(FOREIGN_STATEMENTS),
    ) {
        let text = foreign.replace("{}", &condition);
        let error = prepared(&text, None).map(|_| text).unwrap_err();
        prop_assert!(error.message.len() > 5);
    }
}
