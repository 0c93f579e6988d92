//! Statements at the edges of the grammar, each against what PostgreSQL 15 said to it.

use super::*;

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
