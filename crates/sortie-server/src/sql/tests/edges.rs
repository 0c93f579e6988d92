//! Statements at the edges of the grammar, each against what PostgreSQL 15 said to it.

use super::*;

#[track_caller]
fn refused(text: &str, code: &str, message: &str, position: usize) {
    let error = prepared(text, None).unwrap_err();
    let found = (error.code, error.message.as_str(), error.position.unwrap_or(0));
    assert_eq!(found, (code, message, position), "{text}");
}

#[test]
fn signs_cancel_each_other_however_many_there_are() {
    for (text, value) in [
        ("select - 1", -1),
        ("select - - 1", 1),
        ("select - - - 1", -1),
        ("select -(-(-(- 1)))", 1),
        ("select - - - - - 2147483648", -2_147_483_648),
        ("select - - -9223372036854775808", i64::MIN),
    ] {
        let bound = prepared(text, None).unwrap().bind(&[], &[]).unwrap();
        let Bound::Local(Local::Select(row)) = bound else { panic!("{text} is not local") };
        let [ConstItem::Value(found)] = &row.items[..] else { panic!("{text} is no value") };
        assert_eq!(found, &Datum::Int(value), "{text}");
    }
}

/// They are columns of every table in PostgreSQL, so "does not exist" would not be true.
#[test]
fn what_a_table_has_besides_its_columns_is_not_served() {
    let reason = "system columns are not served: ctid";
    refused("select ctid from users", "0A000", reason, 8);
    refused("select 1 from users u where u.ctid = '(0,1)'", "0A000", reason, 29);
    let reason = "a whole row as a value is not supported";
    refused("select users from users", "0A000", reason, 8);
    refused("select count(u) from users u", "0A000", reason, 14);
    refused("select users from users u", "42703", "column \"users\" does not exist", 8);
    refused("select \"CTID\" from users", "42703", "column \"CTID\" does not exist", 8);
}

#[test]
fn aggregates_are_refused_for_the_place_they_stand_in() {
    let message = "aggregate functions are not allowed in";
    let at = |clause: &str| format!("{message} {clause}");
    refused("select 1 from users where count(*) > 1", "42803", &at("WHERE"), 27);
    refused("select 1 where count(*) > 1", "42803", &at("WHERE"), 16);
    refused("select 1 from users limit count(*)", "42803", &at("LIMIT"), 27);
    refused("select 1 from users offset count(*)", "42803", &at("OFFSET"), 28);
    let reason = "an aggregate inside an expression is not supported";
    refused("select sum(balance)::int8 from users", "0A000", reason, 8);
    refused("select count(count(*)) from users", "0A000", reason, 14);
}

#[test]
fn a_hidden_tables_name_is_explained_for_every_use() {
    let message = "invalid reference to FROM-clause entry for table \"users\"";
    refused("select users.* from users u", "42P01", message, 8);
    let error = prepared("select users.* from users u", None).unwrap_err();
    let hint = "Perhaps you meant to reference the table alias \"u\".";
    assert_eq!(error.hint.as_deref(), Some(hint));
}

#[test]
fn all_is_what_select_does_anyway() {
    assert!(prepared("select all name from users", None).is_ok());
    refused("select distinct on (name) name from users", "0A000", "DISTINCT is not supported", 8);
}

#[test]
fn a_databases_name_is_refused_rather_than_called_unknown() {
    let reason = "a table with its database's name is not supported: sortie.public.users";
    refused("select * from sortie.public.users", "0A000", reason, 15);
}
