use super::*;

fn settings() -> Settings {
    Settings::new("ann", "app", []).unwrap()
}

fn shown(settings: &Settings, name: &str) -> String {
    settings.show(name).unwrap().1
}

fn refused(name: &str, value: &str) -> &'static str {
    settings().set(name, Some(value), false).unwrap_err().code
}

#[test]
fn values_are_shown_as_postgresql_shows_them() {
    for (name, value, expected) in [
        ("statement_timeout", "1500", "1500ms"),
        ("statement_timeout", "60s", "1min"),
        ("Statement_Timeout", "0", "0"),
        ("datestyle", "dmy", "ISO, DMY"),
        ("client_encoding", "utf-8", "UTF8"),
        ("jit", "f", "off"),
        ("extra_float_digits", "3", "3"),
        ("search_path", "a, public", "a, public"),
        ("standard_conforming_strings", "true", "on"),
    ] {
        let mut settings = settings();
        settings.set(name, Some(value), false).unwrap();
        assert_eq!(shown(&settings, name), expected, "{name} = {value}");
    }
    assert_eq!(settings().show("timezone").unwrap(), ("TimeZone", "UTC".to_owned()));
    assert_eq!(shown(&settings(), "session_authorization"), "ann");
}

#[test]
fn what_would_change_the_reading_of_statements_is_refused() {
    assert_eq!(refused("standard_conforming_strings", "off"), "0A000");
    assert_eq!(refused("client_encoding", "LATIN1"), "0A000");
    assert_eq!(refused("search_path", "pg_catalog"), "0A000");
    assert_eq!(refused("transaction_read_only", "off"), "0A000");
    assert_eq!(refused("server_version", "9"), "55P02");
    assert_eq!(refused("statement_timeout", "soon"), "22023");
    assert_eq!(refused("jit", "maybe"), "22023");
    assert_eq!(refused("no_such", "1"), "42704");
    assert_eq!(refused("no.such", "1"), "0A000");
    let error = settings().set("extra_float_digits", Some("4"), false).unwrap_err();
    let range = "4 is outside the valid range for parameter \"extra_float_digits\" (-15 .. 3)";
    assert_eq!((error.code, error.message.as_str()), ("22023", range));
}

#[test]
fn a_rollback_takes_settings_back_and_a_commit_keeps_them() {
    let mut settings = settings();
    settings.begin();
    settings.set("extra_float_digits", Some("0"), false).unwrap();
    settings.set("statement_timeout", Some("5"), true).unwrap();
    assert_eq!(settings.statement_timeout(), Some(Duration::from_millis(5)));
    settings.rollback();
    assert_eq!(shown(&settings, "extra_float_digits"), "1");
    assert_eq!(settings.statement_timeout(), None);
    settings.begin();
    settings.set("extra_float_digits", Some("0"), false).unwrap();
    settings.set("statement_timeout", Some("5"), true).unwrap();
    settings.commit();
    assert_eq!(shown(&settings, "extra_float_digits"), "0");
    assert_eq!(settings.statement_timeout(), None);
    settings.set("statement_timeout", Some("5"), true).unwrap();
    assert_eq!(settings.statement_timeout(), None, "outside a transaction it has no effect");
}

#[test]
fn reset_goes_back_to_what_the_session_began_with() {
    let startup = [("options", "-c extra_float_digits=2 --work-mem=1MB"), ("user", "ann")];
    let mut settings = Settings::new("ann", "app", startup).unwrap();
    assert_eq!(shown(&settings, "work_mem"), "1MB");
    settings.set("extra_float_digits", Some("0"), false).unwrap();
    settings.reset("extra_float_digits").unwrap();
    assert_eq!(shown(&settings, "extra_float_digits"), "2");
    settings.set("extra_float_digits", Some("1"), false).unwrap();
    assert_eq!(shown(&settings, "extra_float_digits"), "1");
    settings.reset_all();
    assert_eq!(shown(&settings, "extra_float_digits"), "2");
}

#[test]
fn the_key_of_a_read_has_what_may_change_its_answer_and_nothing_else() {
    let mut changed = settings();
    changed.set("application_name", Some("x"), false).unwrap();
    changed.set("statement_timeout", Some("9"), false).unwrap();
    assert_eq!(changed.decisive(), settings().decisive());
    changed.set("bytea_output", Some("escape"), false).unwrap();
    assert_ne!(changed.decisive(), settings().decisive());
    changed.set("bytea_output", Some("hex"), false).unwrap();
    assert_eq!(changed.decisive(), settings().decisive());
}

#[test]
fn clients_are_told_all_reported_parameters_once_and_then_what_changes() {
    let mut settings = settings();
    let first = settings.changes();
    assert!(first.contains(&("server_version", "15.0".to_owned())));
    assert!(first.contains(&("session_authorization", "ann".to_owned())));
    assert_eq!(settings.changes(), []);
    settings.set("application_name", Some("x"), false).unwrap();
    assert_eq!(settings.changes(), [("application_name", "x".to_owned())]);
}

#[test]
fn a_statement_timeout_is_read_in_every_unit() {
    let milliseconds = |value| Settings::timeout(value).map(|timeout| timeout.as_millis());
    assert_eq!(milliseconds("250"), Some(250));
    assert_eq!(milliseconds("2S"), Some(2_000));
    assert_eq!(milliseconds(" 1min "), Some(60_000));
    for never in ["0", "0s", "soon", "-1"] {
        assert_eq!(milliseconds(never), None, "{never}");
    }
}
