//! What a bound statement asks of which shards, and the statements that ask nobody.

use std::collections::BTreeSet;

use super::*;

fn int(value: i64) -> (Type, Datum) {
    (Type::Int8, Datum::Int(value))
}

#[track_caller]
fn routed(condition: &str, values: &[Option<&'static str>], expected: Option<&[i64]>) {
    let read = read(&format!("select * from users where {condition}"), values);
    let expected = expected
        .map_or(Keys::All, |keys| Keys::Only(keys.iter().copied().collect::<BTreeSet<_>>()));
    assert_eq!(read.keys(), expected, "{condition}");
}

/// The WHERE clause for a shard that owns the even keys, and its parameters.
#[track_caller]
fn asked(condition: &str, expected: &str, params: &[i64]) {
    let read = read(&format!("select user_id from users where {condition}"), &[]);
    let query = read.query(Dialect::Sqlite, &|key| key % 2 == 0, 9);
    let limit = format!(" LIMIT ?{}", query.params.len());
    let rest = query.sql.strip_prefix("SELECT \"user_id\" FROM \"users\"").unwrap();
    let clause = rest.strip_suffix(&limit).unwrap();
    assert_eq!(clause, if expected.is_empty() { "" } else { expected }, "{condition}");
    let params: Vec<_> = params.iter().copied().chain([9]).map(int).collect();
    assert_eq!(query.params, params, "{condition}");
}

#[test]
fn conditions_on_the_key_narrow_the_shards() {
    routed("user_id = 7", &[], Some(&[7]));
    routed("7.0 = user_id", &[], Some(&[7]));
    routed("user_id = '7' and name = 'x'", &[], Some(&[7]));
    routed("user_id in (1, 2, 2, null)", &[], Some(&[1, 2]));
    routed("user_id = any('{3,4,null}')", &[], Some(&[3, 4]));
    routed("user_id = 1 or user_id in (2, 3)", &[], Some(&[1, 2, 3]));
    routed("user_id in (1, 2) and user_id in (2, 3)", &[], Some(&[2]));
    routed("user_id = $1 or user_id = any($2)", &[Some("5"), Some("{6,7}")], Some(&[5, 6, 7]));
    routed("(user_id = 1 or name = 'x') and user_id in (4, 5)", &[], Some(&[4, 5]));
}

#[test]
fn contradictions_ask_nobody() {
    for condition in [
        "user_id = 1 and user_id = 2",
        "false",
        "null",
        "user_id = 1.5",
        "user_id = null",
        "user_id in (null)",
        "user_id = any('{}')",
        "user_id = any(null)",
        "balance > 9223372036854775808.5",
        "name is null",
        "user_id = 99999999999999999999",
        "1 = 2 and user_id > 5",
    ] {
        routed(condition, &[], Some(&[]));
    }
    routed("user_id = $1", &[None], Some(&[]));
}

#[test]
fn everything_else_asks_all_shards() {
    for condition in [
        "true",
        "user_id > 5",
        "user_id = 1 or name = 'x'",
        "not user_id = 1",
        "user_id not in (1, 2)",
        "user_id = balance",
        "name = '7'",
        "balance in (1, 2)",
        "user_id between 1 and 1",
    ] {
        routed(condition, &[], None);
    }
}

#[test]
fn a_shard_is_asked_for_its_own_keys_only() {
    asked("user_id in (1, 2, 3, 4)", " WHERE \"user_id\" IN (?1, ?2)", &[2, 4]);
    asked("user_id in (1, 2, 3)", " WHERE \"user_id\" = ?1", &[2]);
    asked("user_id not in (1, 3)", "", &[]);
    asked("user_id in (1, 3) or balance = 5", " WHERE \"balance\" = ?1", &[5]);
    asked(
        "user_id <> 1 and balance = 5",
        " WHERE (\"user_id\" <> ?1) AND (\"balance\" = ?2)",
        &[1, 5],
    );
    asked(
        "not (user_id = 2 or balance < 1.5)",
        " WHERE NOT ((\"user_id\" = ?1) OR (\"balance\" <= ?2))",
        &[2, 1],
    );
    asked("user_id in (2, null)", " WHERE (\"user_id\" = ?1) OR (NULL)", &[2]);
    asked("1 = 1 and '1' < 2", "", &[]);
}

#[test]
fn numbers_that_are_no_integers_become_bounds_that_are() {
    asked("balance > 10.5", " WHERE \"balance\" > ?1", &[10]);
    asked("balance >= 10.5", " WHERE \"balance\" > ?1", &[10]);
    asked("balance < 10.5", " WHERE \"balance\" <= ?1", &[10]);
    asked("balance <= -10.5", " WHERE \"balance\" <= ?1", &[-11]);
    asked("balance < 10.0", " WHERE \"balance\" < ?1", &[10]);
    asked("10.5 > balance", " WHERE \"balance\" <= ?1", &[10]);
    asked("balance <> 10.5", "", &[]);
    asked("balance < 'NaN'::numeric", "", &[]);
    asked("balance > '-infinity'::numeric", "", &[]);
    asked("balance < 1e30", "", &[]);
}

#[test]
fn the_order_and_a_limit_for_both_clauses_go_to_the_shards() {
    let query = |text: &str| {
        let query = read(text, &[]).query(Dialect::Sqlite, &|_| true, 1_000);
        (query.sql, query.params)
    };
    assert_eq!(
        query("select name, user_id from users order by 2 desc, name limit 5 offset 3"),
        (
            "SELECT \"name\", \"user_id\" FROM \"users\" ORDER BY \"user_id\" DESC, \"name\" \
             LIMIT ?1"
                .to_owned(),
            vec![int(8)]
        )
    );
    let columns = "count(*), sum(\"balance\" >> 32), sum(\"balance\" & 4294967295), max(\"name\")";
    assert_eq!(
        query("select 1, count(*), sum(balance), max(name) from users limit 5"),
        (format!("SELECT {columns} FROM \"users\""), vec![])
    );
    assert_eq!(
        query("select 1 from users"),
        ("SELECT 1 FROM \"users\" LIMIT ?1".to_owned(), vec![int(1_000)])
    );
    assert_eq!(query("select name from users limit 9999 offset 1").1, [int(1_000)]);
}

#[test]
fn statements_of_the_session_are_not_sent_anywhere() {
    let local = |text: &str| match prepared(text, None).unwrap().bind(&[], &[]).unwrap() {
        Bound::Local(local) => local,
        Bound::Read(_) => panic!("{text} is a read"),
    };
    let set = |name: &str, value: Option<&str>, local| Local::Set {
        name: name.into(),
        value: value.map(Into::into),
        local,
    };
    for (text, expected) in [
        (" -- nothing\n;", Local::Empty),
        ("BEGIN", Local::Begin { start: false }),
        (
            "begin transaction isolation level read committed, read only",
            Local::Begin { start: false },
        ),
        ("start transaction not deferrable", Local::Begin { start: true }),
        ("commit and chain", Local::Commit { chain: true }),
        ("end work", Local::Commit { chain: false }),
        ("rollback and no chain", Local::Rollback { chain: false }),
        ("abort", Local::Rollback { chain: false }),
        ("set extra_float_digits = -3", set("extra_float_digits", Some("-3"), false)),
        ("set session DateStyle to ISO, mdy", set("datestyle", Some("iso, mdy"), false)),
        ("set local statement_timeout to default", set("statement_timeout", None, true)),
        ("set time zone 'UTC'", set("timezone", Some("UTC"), false)),
        ("set time zone local", set("timezone", None, false)),
        ("set names 'utf8'", set("client_encoding", Some("utf8"), false)),
        ("set transaction read only", Local::SetTransaction),
        ("set session characteristics as transaction read write", Local::SetTransaction),
        ("reset timezone", Local::Reset("timezone".into())),
        ("reset all", Local::ResetAll),
        ("show all", Local::ShowAll),
        ("show time zone", Local::Show("timezone".into())),
        ("discard all", Local::DiscardAll),
        ("discard temp", Local::Nothing("DISCARD TEMP")),
        ("deallocate prepare all", Local::Deallocate(None)),
        ("deallocate \"S_1\"", Local::Deallocate(Some("S_1".into()))),
        ("close all", Local::Nothing("CLOSE CURSOR ALL")),
        ("unlisten *", Local::Nothing("UNLISTEN")),
    ] {
        assert_eq!(local(text), expected, "{text}");
    }
    let row = |text: &str| match local(text) {
        Local::Select(row) => row,
        other => panic!("{text} is {other:?}"),
    };
    let one = vec![ConstItem::Value(Datum::Int(1))];
    assert_eq!(row("select 1"), ConstRow { items: one.clone(), present: true });
    for nothing in
        ["select 1 limit 0", "select 1 offset 1", "select 1 where null", "select 1 where 2 < 1"]
    {
        assert_eq!(row(nothing), ConstRow { items: one.clone(), present: false }, "{nothing}");
    }
    let expected = vec![ConstItem::Version, ConstItem::CurrentUser, ConstItem::CurrentSchema];
    assert_eq!(row("select version(), user, current_schema").items, expected);
}

#[test]
fn the_identity_of_a_read_is_all_that_was_sent() {
    let identity = |text: &str, oids: &[u32], formats: &[i16], value: Option<&'static [u8]>| {
        let bound =
            prepared(text, Some(oids)).unwrap().bind(formats, &[value.map(Bytes::from_static)]);
        match bound.unwrap() {
            Bound::Read(read) => read.identity().clone(),
            Bound::Local(local) => panic!("{local:?}"),
        }
    };
    let text = "select * from users where name = $1";
    let base = identity(text, &[], &[], Some(b"x"));
    assert_eq!(base, identity(" select * from users where name = $1 ; ", &[], &[], Some(b"x")));
    for other in [
        identity("select * from users where name = $1 /* hint */ or false", &[], &[], Some(b"x")),
        identity("select  * from users where name = $1", &[], &[], Some(b"x")),
        identity(text, &[25], &[], Some(b"x")),
        identity(text, &[], &[1], Some(b"x")),
        identity(text, &[], &[], Some(b"y")),
        identity(text, &[], &[], Some(b"")),
        identity(text, &[], &[], None),
    ] {
        assert_ne!(base, other);
    }
    assert_ne!(identity(text, &[], &[], Some(b"")), identity(text, &[], &[], None));
}
