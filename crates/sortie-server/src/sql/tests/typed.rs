//! Names and types of columns and parameters: what `\gdesc` and `pg_prepared_statements` say.

use super::*;

#[track_caller]
fn columns(text: &str, expected: &[(&str, Type)]) {
    let prepared = prepared(text, None).unwrap();
    let found: Vec<_> =
        prepared.columns().unwrap().iter().map(|c| (c.name.as_str(), c.ty)).collect();
    assert_eq!(found, expected, "{text}");
}

#[track_caller]
fn params(text: &str, oids: &[u32], expected: &[Type]) {
    assert_eq!(prepared(text, Some(oids)).unwrap().params(), expected, "{text}");
}

#[track_caller]
fn undetermined(text: &str, oids: &[u32], number: usize) {
    let error = prepared(text, Some(oids)).unwrap_err();
    let message = format!("could not determine data type of parameter ${number}");
    assert_eq!((error.code, error.message), ("42P18", message), "{text}");
}

#[test]
fn columns_of_a_table_have_their_names_and_types() {
    let all = [("user_id", Type::Int8), ("name", Type::Text), ("balance", Type::Int8)];
    columns("select * from users", &all);
    columns("SELECT Users.* FROM Public.USERS;", &all);
    columns("select u.* from users as u where u.user_id = 1", &all);
    columns(
        "select user_id u, (name), users.balance, balance as \"B\" from users",
        &[("u", Type::Int8), ("name", Type::Text), ("balance", Type::Int8), ("B", Type::Int8)],
    );
}

#[test]
fn aggregates_have_postgresqls_types() {
    columns(
        "select count(*), count(1), sum(balance), min(name), max(user_id), count(name) c \
         from users",
        &[
            ("count", Type::Int8),
            ("count", Type::Int8),
            ("sum", Type::Numeric),
            ("min", Type::Text),
            ("max", Type::Int8),
            ("c", Type::Int8),
        ],
    );
}

#[test]
fn constants_have_postgresqls_types() {
    columns(
        "select true, 1, -1, 'x', null, 2.5, 9999999999, '42'::bigint, 1::numeric, \
         cast(1 as varchar), 'x'::text, 1::int2, -2147483648, -9223372036854775808",
        &[
            ("?column?", Type::Bool),
            ("?column?", Type::Int4),
            ("?column?", Type::Int4),
            ("?column?", Type::Text),
            ("?column?", Type::Text),
            ("?column?", Type::Numeric),
            ("?column?", Type::Int8),
            ("int8", Type::Int8),
            ("numeric", Type::Numeric),
            ("varchar", Type::Varchar),
            ("text", Type::Text),
            ("int2", Type::Int2),
            ("?column?", Type::Int4),
            ("?column?", Type::Int8),
        ],
    );
    columns("select version()", &[("version", Type::Text)]);
    columns(
        "select current_user, pg_catalog.current_database(), current_schema(), session_user, user",
        &[
            ("current_user", Type::Name),
            ("current_database", Type::Name),
            ("current_schema", Type::Name),
            ("session_user", Type::Name),
            ("user", Type::Name),
        ],
    );
    columns("show TimeZone", &[("TimeZone", Type::Text)]);
    columns("show transaction isolation level", &[("transaction_isolation", Type::Text)]);
}

#[test]
fn parameters_take_the_type_they_meet() {
    use Type::{Int4, Int8, Numeric, Text, Varchar};
    let array = |ty: Type| ty.array().unwrap();
    for (condition, expected) in [
        ("user_id = $1", vec![Int8]),
        ("user_id in ($1, 2.5)", vec![Numeric]),
        ("user_id = any($1)", vec![array(Int8)]),
        ("user_id = any($1::int4[])", vec![array(Int4)]),
        ("user_id = any(array[$1, 2])", vec![Int4]),
        ("name = any($1)", vec![array(Text)]),
        ("user_id between $1 and $2 limit $3 offset $4", vec![Int8; 4]),
        ("$1 in ('a', 'b')", vec![Text]),
        ("$1 = $2", vec![Text, Text]),
        ("name = $1 or user_id = $2", vec![Text, Int8]),
        ("$1 = 1", vec![Int4]),
        ("user_id in ($1, $2) and balance > $3::numeric", vec![Int8, Int8, Numeric]),
        ("$2 < balance and name <> $1", vec![Text, Int8]),
    ] {
        params(&format!("select * from users where {condition}"), &[], &expected);
    }
    params("select $1", &[], &[Text]);
    params("select $1::int8, $2::numeric where $3 = 1", &[], &[Int8, Numeric, Int4]);
    params("select * from users where name = $1", &[1043], &[Varchar]);
    params("select * from users where user_id = $1", &[23], &[Int4]);
    params("select * from users where user_id = $1", &[705], &[Int8]);
    params("select 1", &[25], &[Text]);
    params("begin", &[20], &[Int8]);
}

#[test]
fn a_parameter_that_meets_no_type_is_refused() {
    undetermined("select * from users where $1 is null", &[], 1);
    undetermined("select * from users where $2 = 1", &[], 1);
    undetermined("select 1", &[0], 1);
}
