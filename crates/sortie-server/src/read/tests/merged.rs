//! Merging, fed by hand.

use sortie_sqlite::Rows;

use super::merge::{Limits, merge};
use super::source::{Source, Wanted};
use super::*;

fn merged(text: &str, answers: &[&[&[Value]]]) -> Result<Vec<Vec<Option<String>>>, SqlError> {
    let bound = bound(text, None, &[], &[])?;
    let binary = vec![false; bound.columns().len()];
    let who = Who::from(&Settings::new("ann", "app", []).unwrap());
    let (rows_max, bytes_max) = (100, 10_000);
    let flight = 0;
    let wanted = Wanted { who: &who, bound: &bound, binary: &binary, flight, rows_max, bytes_max };
    let part = |rows: &&[&[Value]]| {
        let mut answer = Rows::default();
        answer.rows = rows.iter().map(|row| row.to_vec()).collect();
        Replica::part(answer, &wanted)
    };
    let parts = answers.iter().map(part).collect::<Result<_, _>>()?;
    let reply = merge(&wanted, parts, Limits { rows_max, bytes_max })?;
    Ok(rows(&reply, bound.columns(), &[]))
}

#[track_caller]
fn check(text: &str, answers: &[&[&[Value]]], expected: &[&[Option<&str>]]) {
    let expected: Vec<Vec<_>> = expected
        .iter()
        .map(|row| row.iter().map(|cell| cell.map(str::to_owned)).collect())
        .collect();
    assert_eq!(merged(text, answers), Ok(expected), "{text}");
}

const fn int(value: i64) -> Value {
    Value::Int(value)
}

fn name(text: &str) -> Value {
    Value::Text(text.into())
}

/// What a shard says to `sum()` of these values.
fn halves(values: &[i64]) -> [Value; 2] {
    let high = values.iter().map(|value| value >> 32).sum();
    let low = values.iter().map(|value| value & 0xffff_ffff).sum();
    [int(high), int(low)]
}

#[test]
fn a_sum_may_leave_64_bits() {
    let sum = "select sum(balance) from users";
    let most = halves(&[i64::MAX, i64::MAX]);
    check(sum, &[&[&most], &[&most]], &[&[Some("36893488147419103228")]]);
    let least = halves(&[i64::MIN, -1]);
    check(sum, &[&[&least], &[&least]], &[&[Some("-18446744073709551618")]]);
    check(sum, &[&[&most], &[&least]], &[&[Some("9223372036854775805")]]);
}

#[test]
fn shards_without_rows_add_nothing() {
    let text = "select count(*), sum(balance), min(name), max(user_id), count(null) from users";
    let none = [int(0), Value::Null, Value::Null, Value::Null, Value::Null, int(0)];
    let [high, low] = halves(&[-7]);
    let one = [int(1), high, low, name("x"), int(5), int(0)];
    let (zero, nothing) = (Some("0"), None);
    check(text, &[&[&none], &[&none]], &[&[zero, nothing, nothing, nothing, zero]]);
    check(text, &[], &[&[zero, nothing, nothing, nothing, zero]]);
    let expected: &[Option<&str>] = &[Some("1"), Some("-7"), Some("x"), Some("5"), zero];
    check(text, &[&[&none], &[&one]], &[expected]);
    check(text, &[&[&one], &[&none]], &[expected]);
}

#[test]
fn ties_keep_the_order_of_the_shards() {
    let text = "select name, balance from users order by balance desc";
    let row = |text: &str, balance| vec![name(text), int(balance)];
    let (a, b, c, d) = (row("a", 9), row("b", 5), row("c", 9), row("d", 5));
    let expected: [&[Option<&str>]; 4] = [
        &[Some("a"), Some("9")],
        &[Some("c"), Some("9")],
        &[Some("b"), Some("5")],
        &[Some("d"), Some("5")],
    ];
    check(text, &[&[&a, &b], &[&c, &d]], &expected);
    check(&format!("{text} limit 2 offset 1"), &[&[&a, &b], &[&c, &d]], &expected[1..3]);
    check(&format!("{text} offset 9"), &[&[&a, &b], &[&c, &d]], &[]);
}

#[test]
fn text_is_ordered_by_its_bytes() {
    let row = |text: &str| vec![name(text)];
    let (upper, lower, umlaut) = (row("Z"), row("a"), row("\u{e4}"));
    let expected: [&[Option<&str>]; 3] = [&[Some("Z")], &[Some("a")], &[Some("\u{e4}")]];
    check("select name from users order by 1", &[&[&lower, &umlaut], &[&upper]], &expected);
}

#[test]
fn a_value_of_the_wrong_type_is_an_error() {
    for (text, answer) in [
        ("select user_id from users", vec![name("7")]),
        ("select name from users", vec![int(7)]),
        ("select name, user_id from users", vec![name("x")]),
        ("select sum(balance) from users", vec![name("7"), int(7)]),
        ("select count(*) from users", vec![]),
    ] {
        let error = merged(text, &[&[&answer]]).unwrap_err();
        assert_eq!(error.code, "XX000", "{text}");
    }
}
