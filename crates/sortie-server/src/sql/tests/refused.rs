//! Refusals, with code, message and place. Where PostgreSQL refuses too, the words are its own.

use super::*;

/// `(statement, code, message, place)`; the place 0 stands for none.
type Case = (&'static str, &'static str, &'static str, usize);

#[track_caller]
fn check(cases: &[Case]) {
    for (text, code, message, position) in cases {
        let error = match prepared(text, None) {
            Err(error) => error,
            Ok(prepared) => prepared.bind(&[], &[]).expect_err(text),
        };
        let found = (error.code, error.message.as_str(), error.position.unwrap_or(0));
        assert_eq!(found, (*code, *message, *position), "{text}");
    }
}

#[test]
fn syntax() {
    check(&[
        ("selec 1", "42601", "syntax error at or near \"selec\"", 1),
        ("select 1 a b", "42601", "syntax error at or near \"b\"", 12),
        ("select user_id,, from users", "42601", "syntax error at or near \",\"", 16),
        ("select * from users where;", "42601", "syntax error at or near \";\"", 26),
        ("select * from users where user_id =", "42601", "syntax error at end of input", 36),
        (
            "select * from users where user_id < balance = 3",
            "42601",
            "syntax error at or near \"=\"",
            45,
        ),
        ("select 'é' 'x'", "42601", "syntax error at or near \"'x'\"", 12),
        ("select 123abc", "42601", "trailing junk after numeric literal at or near \"123abc\"", 8),
        ("select *", "42601", "SELECT * with no tables specified is not valid", 8),
        (
            "select 1; select 2",
            "42601",
            "cannot insert multiple commands into a prepared statement",
            0,
        ),
        ("show all x", "42601", "syntax error at or near \"x\"", 10),
        ("insert into", "42601", "syntax error at end of input", 12),
        ("select user_id from users order by 'x'", "42601", "non-integer constant in ORDER BY", 36),
    ]);
}

#[test]
fn names() {
    check(&[
        ("select * from nope", "42P01", "relation \"nope\" does not exist", 15),
        ("select * from \"USERS\"", "42P01", "relation \"USERS\" does not exist", 15),
        ("select * from foo.users", "42P01", "relation \"foo.users\" does not exist", 15),
        ("select foo from users", "42703", "column \"foo\" does not exist", 8),
        ("select \"User_id\" from users", "42703", "column \"User_id\" does not exist", 8),
        ("select users.foo from users", "42703", "column users.foo does not exist", 8),
        ("select 1 where user_id = 1", "42703", "column \"user_id\" does not exist", 16),
        ("select u.name from users", "42P01", "missing FROM-clause entry for table \"u\"", 8),
        (
            "select users.user_id from users u",
            "42P01",
            "invalid reference to FROM-clause entry for table \"users\"",
            8,
        ),
        ("select user_id from users order by foo", "42703", "column \"foo\" does not exist", 36),
        (
            "select user_id, balance as user_id from users order by user_id",
            "42702",
            "ORDER BY \"user_id\" is ambiguous",
            56,
        ),
        (
            "select user_id from users order by 7",
            "42P10",
            "ORDER BY position 7 is not in select list",
            36,
        ),
        ("select $1", "42P02", "there is no parameter $1", 8),
        ("show foo", "42704", "unrecognized configuration parameter \"foo\"", 0),
    ]);
}

#[test]
fn types() {
    check(&[
        (
            "select * from users where user_id",
            "42804",
            "argument of WHERE must be type boolean, not type bigint",
            27,
        ),
        (
            "select * from users where not 1",
            "42804",
            "argument of NOT must be type boolean, not type integer",
            31,
        ),
        (
            "select * from users where user_id and true",
            "42804",
            "argument of AND must be type boolean, not type bigint",
            27,
        ),
        (
            "select * from users where user_id = name",
            "42883",
            "operator does not exist: bigint = text",
            35,
        ),
        (
            "select * from users where user_id == 1",
            "42883",
            "operator does not exist: bigint == integer",
            35,
        ),
        (
            "select * from users where name not in ('a', 1)",
            "42883",
            "operator does not exist: text <> integer",
            32,
        ),
    ]);
}

#[test]
fn arrays_and_counts_of_the_wrong_type() {
    check(&[
        (
            "select * from users where user_id = any(array['1', '2'])",
            "42883",
            "operator does not exist: bigint = text",
            35,
        ),
        (
            "select * from users where user_id = any(3)",
            "42809",
            "op ANY/ALL (array) requires array on right side",
            35,
        ),
        (
            "select * from users where user_id = any(array[])",
            "42P18",
            "cannot determine type of empty array",
            0,
        ),
        (
            "select * from users where name = any(array['a'::text, 1])",
            "42804",
            "ARRAY types text and integer cannot be matched",
            55,
        ),
        ("select sum(name) from users", "42883", "function sum(text) does not exist", 8),
        (
            "select * from users limit user_id",
            "42P10",
            "argument of LIMIT must not contain variables",
            27,
        ),
        (
            "select * from users limit 'a'::text",
            "42804",
            "argument of LIMIT must be type bigint, not type text",
            27,
        ),
        ("select -'2'", "42725", "operator is not unique: - unknown", 8),
    ]);
}

#[test]
fn values() {
    check(&[
        (
            "select * from users where user_id = 'x'",
            "22P02",
            "invalid input syntax for type bigint: \"x\"",
            37,
        ),
        (
            "select * from users where user_id = '99999999999999999999'",
            "22003",
            "value \"99999999999999999999\" is out of range for type bigint",
            37,
        ),
        (
            "select * from users where user_id = any('{1,x}')",
            "22P02",
            "invalid input syntax for type bigint: \"x\"",
            41,
        ),
        (
            "select * from users where user_id = any('{1,2')",
            "22P02",
            "malformed array literal: \"{1,2\"",
            41,
        ),
        ("select 70000::int2", "22003", "smallint out of range", 0),
        ("select * from users limit -1", "2201W", "LIMIT must not be negative", 0),
        ("select * from users offset -1", "2201X", "OFFSET must not be negative", 0),
        ("select * from users limit 9999999999999999999", "22003", "bigint out of range", 0),
    ]);
}

#[test]
fn grouping() {
    let grouped = "must appear in the GROUP BY clause or be used in an aggregate function";
    for (text, name, position) in [
        ("select name, count(*) from users", "users.name", 8),
        ("select u.name, count(*) from users u", "u.name", 8),
        ("select count(*) from users order by user_id", "users.user_id", 37),
    ] {
        let error = prepared(text, None).unwrap_err();
        let found = (error.code, error.message, error.position);
        assert_eq!(found, ("42803", format!("column \"{name}\" {grouped}"), Some(position)));
    }
    let message = "aggregate functions are not allowed in WHERE";
    check(&[("select 1 from users where count(*) > 1", "42803", message, 27)]);
}

#[test]
fn writes_are_refused_as_in_a_read_only_transaction() {
    for (text, command) in [
        ("insert into users values (1, 'a', 2)", "INSERT"),
        ("INSERT INTO nope SELECT 1", "INSERT"),
        ("update users set name = 'x' where user_id = 1", "UPDATE"),
        ("delete from users", "DELETE"),
        ("truncate users", "TRUNCATE TABLE"),
        ("create table t (a int)", "CREATE TABLE"),
        ("create unique index i on users (name)", "CREATE INDEX"),
        ("create or replace view v as select 1", "CREATE VIEW"),
        ("create materialized view v as select 1", "CREATE MATERIALIZED VIEW"),
        ("drop table if exists users", "DROP TABLE"),
        ("alter table users add column x int", "ALTER TABLE"),
        ("copy users from stdin", "COPY FROM"),
        ("vacuum users", "VACUUM"),
        ("select * from users for update", "SELECT FOR UPDATE"),
        ("select * from users where user_id = 1 for share", "SELECT FOR SHARE"),
        ("select * into t from users", "SELECT INTO"),
        ("with x as (delete from users returning 1) select * from users", "DELETE"),
        ("select nextval('s')", "nextval()"),
    ] {
        let error = prepared(text, None).unwrap_err();
        let message = format!("cannot execute {command} in a read-only transaction");
        assert_eq!((error.code, error.message), ("25006", message), "{text}");
    }
}

/// 0A000 always says why, and where as far as the parser tells.
#[test]
fn what_cannot_be_merged_exactly_is_refused_with_its_place() {
    check(&[
        ("select distinct name from users", "0A000", "DISTINCT is not supported", 8),
        ("select 1 from users group by name", "0A000", "GROUP BY is not supported", 21),
        ("select 1 from users having true", "0A000", "HAVING is not supported", 21),
        (
            "select * from users u join users v on true",
            "0A000",
            "a read from more than one table is not supported",
            10,
        ),
        (
            "select * from users, users v",
            "0A000",
            "a read from more than one table is not supported",
            10,
        ),
        (
            "select * from (select * from users) x",
            "0A000",
            "a subquery in FROM is not supported",
            10,
        ),
        (
            "select * from users where user_id in (select 1)",
            "0A000",
            "IN over anything but a list of constants and parameters is not supported",
            27,
        ),
        ("select 1 union select 2", "0A000", "UNION, INTERSECT or EXCEPT is not supported", 10),
        ("with x as (select 1) select * from users", "0A000", "WITH is not supported", 1),
        ("select upper(name) from users", "0A000", "function upper() is not supported", 8),
        ("select avg(balance) from users", "0A000", "function avg() is not supported", 8),
        (
            "select count(distinct name) from users",
            "0A000",
            "count(DISTINCT name) is not supported",
            8,
        ),
        (
            "select balance + 1 from users",
            "0A000",
            "an operator other than a comparison is not supported",
            8,
        ),
        (
            "select * from users where name like 'A%'",
            "0A000",
            "pattern matching is not supported",
            27,
        ),
        (
            "select name from users order by balance",
            "0A000",
            "ORDER BY takes columns of the result: a column that is not selected can't be merged \
             across shards",
            33,
        ),
        ("select user_id::text from users", "0A000", "a cast of a column is not supported", 8),
    ]);
}

#[test]
fn statements_that_are_not_served_are_refused() {
    check(&[
        (
            "select relname from pg_catalog.pg_class",
            "0A000",
            "system catalogs are not served: pg_catalog.pg_class",
            21,
        ),
        ("explain select 1", "0A000", "EXPLAIN is not supported", 1),
        ("savepoint a", "0A000", "SAVEPOINT is not supported", 1),
        ("table users", "0A000", "TABLE is not supported", 1),
        ("copy users to stdout", "0A000", "COPY TO is not supported", 1),
        ("set role x", "0A000", "SET ROLE is not supported", 5),
        (
            "select x'1f'",
            "0A000",
            "bit, hexadecimal, national and Unicode strings are not supported",
            8,
        ),
        (
            "begin isolation level serializable",
            "0A000",
            "only READ COMMITTED is supported: every statement takes a snapshot of its own on \
             each shard",
            23,
        ),
        (
            "begin read write",
            "0A000",
            "cannot set transaction read-write mode: this endpoint only reads",
            12,
        ),
        ("select * from users for no key update", "42601", "syntax error at or near \"no\"", 25),
    ]);
}

#[test]
fn what_is_too_large_is_refused_before_it_is_parsed() {
    let code = |text: &str| prepared(text, None).unwrap_err().code;
    assert_eq!(code(&format!("select '{}'", "x".repeat(300_000))), "54000");
    let chain = |word: &str| format!("select * from users where {}", vec!["1=1"; 600].join(word));
    assert_eq!(code(&chain(" or ")), "54001");
    assert_eq!(code(&format!("select {}1{}", "(".repeat(400), ")".repeat(400))), "54001");
    let list = vec!["1"; 10_001].join(",");
    assert_eq!(code(&format!("select * from users where user_id in ({list})")), "54000");
    assert_eq!(code(&format!("select {}", vec!["1"; 257].join(","))), "54000");
    let deep = vec!["user_id=1"; 240].join(" or ");
    assert!(prepared(&format!("select * from users where {deep}"), None).is_ok());
}

#[test]
fn parameters_are_checked_when_they_are_bound() {
    let statement = prepared("select * from users where user_id = $1", Some(&[])).unwrap();
    let bind = |formats: &[i16], values: &[Option<&'static [u8]>]| {
        let values: Vec<_> = values.iter().map(|value| value.map(Bytes::from_static)).collect();
        statement.bind(formats, &values).map(|_| ()).map_err(|error| (error.code, error.message))
    };
    let refused = |code, message: &str| Err((code, message.to_owned()));
    assert_eq!(bind(&[], &[Some(b"42")]), Ok(()));
    assert_eq!(bind(&[1], &[Some(&[0, 0, 0, 0, 0, 0, 0, 1])]), Ok(()));
    assert_eq!(bind(&[1], &[None]), Ok(()));
    let message = "invalid input syntax for type bigint: \"x\"";
    assert_eq!(bind(&[], &[Some(b"x")]), refused("22P02", message));
    let message = "incorrect binary data format in bind parameter 1";
    assert_eq!(bind(&[1], &[Some(b"12")]), refused("22P03", message));
    let message = "invalid byte sequence for encoding \"UTF8\": 0xff";
    assert_eq!(bind(&[0], &[Some(b"1\xff2")]), refused("22021", message));
    assert_eq!(bind(&[2], &[Some(b"1")]), refused("22023", "unsupported format code: 2"));
    let message = "bind message supplies 0 parameters, but prepared statement requires 1";
    assert_eq!(bind(&[], &[]), refused("08P01", message));
    let message = "bind message has 2 parameter formats but 1 parameters";
    assert_eq!(bind(&[0, 0], &[Some(b"1")]), refused("08P01", message));
}
