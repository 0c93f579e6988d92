use super::*;
use crate::sql::OrderKey;

/// A shard's answer; a cell is a number or a text.
fn answer<const N: usize>(rows: &[[Value; N]]) -> Rows {
    let mut answer = Rows::default();
    answer.rows = rows.iter().map(|row| row.to_vec()).collect();
    answer
}

fn int(value: i64) -> Value {
    Value::Int(value)
}

/// Columns of the given types, named by nothing in particular.
fn columns(types: &[Type]) -> Vec<Column> {
    types.iter().map(|ty| Column { name: "c".into(), ty: *ty }).collect()
}

/// Merges in text format; a row comes back as its values with `|` between them.
fn check(shape: &Shape, types: &[Type], answers: Vec<Rows>, expected: &[&str]) {
    let binary = vec![false; types.len()];
    let reply = reply(shape, &columns(types), &binary, answers).expect("within the cap");
    assert_eq!(texts(&reply.rows), expected);
    assert_eq!(reply.count, expected.len() as u64);
}

fn texts(mut frames: &[u8]) -> Vec<String> {
    let mut rows = Vec::new();
    while !frames.is_empty() {
        let length = u32::from_be_bytes(frames[1..5].try_into().unwrap()) as usize;
        let (frame, rest) = frames.split_at(1 + length);
        assert_eq!(frame[0], b'D');
        frames = rest;
        let mut values = &frame[7..];
        let mut row = Vec::new();
        while !values.is_empty() {
            let length = i32::from_be_bytes(values[..4].try_into().unwrap());
            values = &values[4..];
            let Ok(length) = usize::try_from(length) else {
                row.push("NULL".to_owned());
                continue;
            };
            row.push(String::from_utf8(values[..length].to_vec()).unwrap());
            values = &values[length..];
        }
        rows.push(row.join("|"));
    }
    rows
}

fn two_columns(order: Vec<OrderKey>, limit: Option<u64>, offset: u64) -> Shape {
    Shape { outputs: vec![Output::Column, Output::Column], order, limit, offset }
}

const DOWN: OrderKey = OrderKey { item: 0, descending: true };

#[test]
fn equal_rows_come_in_shard_order() {
    let left = answer(&[[int(9), "l".into()], [int(5), "l".into()]]);
    let right = answer(&[[int(9), "r".into()], [int(7), "r".into()]]);
    let expected = ["9|l", "9|r", "7|r", "5|l"];
    let shape = two_columns(vec![DOWN], None, 0);
    check(&shape, &[Type::Int8, Type::Text], vec![left, right], &expected);
}

#[test]
fn limit_and_offset_count_the_merged_rows() {
    let left = answer(&[[int(9), "l".into()], [int(5), "l".into()]]);
    let right = answer(&[[int(8), "r".into()], [int(7), "r".into()]]);
    let shape = two_columns(vec![DOWN], Some(2), 1);
    check(&shape, &[Type::Int8, Type::Text], vec![left, right], &["8|r", "7|r"]);
}

#[test]
fn without_an_order_the_limit_still_holds() {
    let left = answer(&[[int(1), "l".into()], [int(2), "l".into()]]);
    let right = answer(&[[int(3), "r".into()], [int(4), "r".into()]]);
    let shape = two_columns(Vec::new(), Some(3), 0);
    check(&shape, &[Type::Int8, Type::Text], vec![left, right], &["1|l", "2|l", "3|r"]);
}

#[test]
fn text_is_ordered_by_its_bytes() {
    let left = answer(&[["B".into(), int(1)], ["é".into(), int(1)]]);
    let right = answer(&[["a".into(), int(2)], ["b".into(), int(2)]]);
    let shape = two_columns(vec![OrderKey { item: 0, descending: false }], None, 0);
    let expected = ["B|1", "a|2", "b|2", "é|1"];
    check(&shape, &[Type::Text, Type::Int8], vec![left, right], &expected);
}

#[test]
fn a_constant_is_no_part_of_a_shards_row_and_no_order() {
    let outputs = vec![Output::Constant(Datum::Int(7)), Output::Column];
    let order = vec![DOWN, OrderKey { item: 1, descending: false }];
    let shape = Shape { outputs, order, ..Shape::default() };
    let answers = vec![answer(&[[int(3)]]), answer(&[[int(2)]])];
    check(&shape, &[Type::Int4, Type::Int8], answers, &["7|2", "7|3"]);
}

fn aggregates() -> Shape {
    let outputs = vec![Output::Count, Output::Sum, Output::Min, Output::Max];
    Shape { outputs, ..Shape::default() }
}

const AGGREGATES: [Type; 4] = [Type::Int8, Type::Numeric, Type::Int8, Type::Int8];

#[test]
fn a_sum_goes_beyond_bigint() {
    let each = [int(2), int(i64::MAX), int(1), int(i64::MAX)];
    let other = [int(1), int(i64::MAX), int(-4), int(0)];
    let answers = vec![answer(&[each]), answer(&[other])];
    check(&aggregates(), &AGGREGATES, answers, &["3|18446744073709551614|-4|9223372036854775807"]);
}

#[test]
fn a_shard_without_rows_adds_nothing() {
    let none = [int(0), Value::Null, Value::Null, Value::Null];
    let some = [int(2), int(30), int(10), int(20)];
    let answers = vec![answer(&[none.clone()]), answer(&[some])];
    check(&aggregates(), &AGGREGATES, answers, &["2|30|10|20"]);
    check(&aggregates(), &AGGREGATES, vec![answer(&[none])], &["0|NULL|NULL|NULL"]);
}

#[test]
fn aggregates_over_no_shard_have_their_row() {
    check(&aggregates(), &AGGREGATES, Vec::new(), &["0|NULL|NULL|NULL"]);
    let off = Shape { offset: 1, ..aggregates() };
    check(&off, &AGGREGATES, Vec::new(), &[]);
    let none = Shape { limit: Some(0), ..aggregates() };
    check(&none, &AGGREGATES, Vec::new(), &[]);
}

#[test]
fn formats_are_none_one_or_one_each() {
    let formats = |formats: &[i16], columns| binary(formats, columns).map(|b| b.to_vec());
    assert_eq!(formats(&[], 2), Ok(vec![false, false]));
    assert_eq!(formats(&[1], 2), Ok(vec![true, true]));
    assert_eq!(formats(&[0, 1], 2), Ok(vec![false, true]));
    assert_eq!(formats(&[0, 1], 3).unwrap_err().code, state::PROTOCOL_VIOLATION);
    assert_eq!(formats(&[2], 1).unwrap_err().code, state::INVALID_PARAMETER_VALUE);
}
