//! Every code that PostgreSQL 15 has, and what becomes of it.

use super::table::TABLE;
use super::*;

/// All of PostgreSQL 15's `errcodes.txt`.
const CODES: &str = "
    00000 01000 0100C 01008 01003 01007 01006 01004 01P01 02000 02001 03000 08000 08003 08006
    08001 08004 08007 08P01 09000 0A000 0B000 0F000 0F001 0L000 0LP01 0P000 0Z000 0Z002 20000
    21000 22000 2202E 22021 22008 22012 22005 2200B 22022 22015 2201E 22014 22016 2201F 2201G
    22018 22007 22019 2200D 22025 22P06 22010 22023 22013 2201B 2201W 2201X 2202H 2202G 22009
    2200C 2200G 22004 22002 22003 2200H 22026 22001 22011 22027 22024 2200F 22P01 22P02 22P03
    22P04 22P05 2200L 2200M 2200N 2200S 2200T 22030 22031 22032 22033 22034 22035 22036 22037
    22038 22039 2203A 2203B 2203C 2203D 2203E 2203F 2203G 23000 23001 23502 23503 23505 23514
    23P01 24000 25000 25001 25002 25008 25003 25004 25005 25006 25007 25P01 25P02 25P03 26000
    27000 28000 28P01 2B000 2BP01 2D000 2F000 2F005 2F002 2F003 2F004 34000 38000 38001 38002
    38003 38004 39000 39001 39004 39P01 39P02 39P03 3B000 3B001 3D000 3F000 40000 40002 40001
    40003 40P01 42000 42601 42501 42846 42803 42P20 42P19 42830 42602 42622 42939 42804 42P18
    42P21 42P22 42809 428C9 42703 42883 42P01 42P02 42704 42701 42P03 42P04 42723 42P05 42P06
    42P07 42712 42710 42702 42725 42P08 42P09 42P10 42611 42P11 42P12 42P13 42P14 42P15 42P16
    42P17 44000 53000 53100 53200 53300 53400 54000 54001 54011 54023 55000 55006 55P02 55P03
    55P04 57000 57014 57P01 57P02 57P03 57P04 57P05 58000 58030 58P01 58P02 72000 F0000 F0001
    HV000 HV005 HV002 HV010 HV021 HV024 HV007 HV008 HV004 HV006 HV091 HV00B HV00C HV00D HV090
    HV00A HV009 HV014 HV001 HV00P HV00J HV00K HV00Q HV00R HV00L HV00M HV00N P0000 P0001 P0002
    P0003 P0004 XX000 XX001 XX002
";

fn codes() -> impl Iterator<Item = &'static str> {
    CODES.split_whitespace()
}

#[test]
fn every_code_of_postgresql_has_a_row() {
    assert_eq!(codes().count(), 260);
    for code in codes() {
        assert!(TABLE.iter().any(|(name, _)| *name == &code[..2]), "{code}: nobody thought of it");
    }
}

#[test]
fn every_row_is_of_a_code_and_stands_once() {
    for (place, (name, _)) in TABLE.iter().enumerate() {
        // Class 10 came after PostgreSQL 15.
        let known = codes().any(|code| code == *name || code[..2] == **name) || *name == "10";
        assert!(known, "{name} is no code");
        assert!(TABLE[place + 1..].iter().all(|(other, _)| other != name), "{name} stands twice");
    }
}

/// Answers, wherever and however they were asked, save what the other tests name.
#[test]
fn the_rest_are_answers() {
    const OTHERS: &[&str] = &["08", "0A", "26", "28", "3D", "3F", "53", "57", "58", "72", "XX"];
    const SINGLE: &[&str] = &["25006", "40001", "40P01", "42P01", "42703", "42883", "42704"];
    let rest = codes().filter(|code| !OTHERS.contains(&&code[..2]) && !SINGLE.contains(code));
    for code in rest.chain(["08P01", "53400", "U0001", "", "2201", "220123", "ü2012"]) {
        for asked in [Asked::of_primary(), Asked::of_standby(), Asked::of_standby().cancelled()] {
            assert_eq!(classify(code, "", asked), ErrorClass::Answer, "{code} {asked:?}");
        }
    }
}

#[test]
fn a_servers_own_trouble_fails_over() {
    let (primary, standby) = (Asked::of_primary(), Asked::of_standby());
    for code in codes() {
        let trouble = match &code[..2] {
            "08" => code != "08P01",
            "53" => code != "53400",
            "57" => code != "57014",
            "58" | "28" | "72" => true,
            "XX" => code != "XX000",
            _ => continue,
        };
        for asked in [primary, standby, standby.fenced(), standby.cancelled()] {
            assert_eq!(classify(code, "", asked) == ErrorClass::FailOver, trouble, "{code}");
        }
    }
    assert_eq!(classify("XX000", "", standby), ErrorClass::FailOverOnce);
}

#[test]
fn what_is_missing_may_only_be_late() {
    for code in ["42P01", "42703", "42883", "42704", "3F000", "3D000"] {
        assert_eq!(classify(code, "", Asked::of_standby()), ErrorClass::LagSuspect, "{code}");
        assert_eq!(classify(code, "", Asked::of_standby().fenced()), ErrorClass::Answer, "{code}");
        assert_eq!(classify(code, "", Asked::of_primary()), ErrorClass::Answer, "{code}");
    }
}

#[test]
fn a_conflict_with_replay_is_the_standbys_own() {
    for code in ["40001", "40P01"] {
        let standby = Asked::of_standby();
        assert_eq!(classify(code, "", standby), ErrorClass::FailOver);
        assert_eq!(classify(code, "", standby.in_transaction()), ErrorClass::Answer);
        assert_eq!(classify(code, "", Asked::of_primary()), ErrorClass::Answer);
    }
}

#[test]
fn what_needs_the_primary() {
    let standby = Asked::of_standby();
    assert_eq!(classify("25006", "", standby), ErrorClass::NeedsPrimary);
    assert_eq!(classify("25006", "", Asked::of_primary()), ErrorClass::Answer);
    let serializable = "GetSerializableTransactionSnapshot";
    assert_eq!(classify("0A000", serializable, standby), ErrorClass::NeedsPrimary);
    assert_eq!(classify("0A000", "ExecInitExpr", standby), ErrorClass::Answer);
}

#[test]
fn stale_preparations_are_made_again() {
    let standby = Asked::of_standby();
    assert_eq!(classify("26000", "", standby), ErrorClass::Reprepare);
    assert_eq!(classify("0A000", "RevalidateCachedQuery", standby), ErrorClass::Reprepare);
}

#[test]
fn only_our_own_cancel_is_swallowed() {
    let standby = Asked::of_standby();
    assert_eq!(classify("57014", "ProcessInterrupts", standby.cancelled()), ErrorClass::Ours);
    assert_eq!(classify("57014", "ProcessInterrupts", standby), ErrorClass::Answer);
}

#[test]
fn a_hedged_read_understands_every_class() {
    let expected = [
        (ErrorClass::Answer, Class::Answer),
        (ErrorClass::Reprepare, Class::FailOver),
        (ErrorClass::LagSuspect, Class::FailOver),
        (ErrorClass::NeedsPrimary, Class::Answer),
        (ErrorClass::FailOver, Class::FailOver),
        (ErrorClass::FailOverOnce, Class::FailOver),
        (ErrorClass::Ours, Class::Abstain),
    ];
    for (class, hedge) in expected {
        assert_eq!(Class::from(class), hedge, "{class:?}");
    }
}
