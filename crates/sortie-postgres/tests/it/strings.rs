//! Connection strings: URLs and keywords, and what is wrong with them.

use std::time::Duration;

use sortie_postgres::{Address, Binding, ConnInfo, ConnInfoError, Credential, Roots, TlsMode};

fn read(text: &str) -> ConnInfo {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    let read: Result<ConnInfo, ConnInfoError> = text.parse();
    read.err().unwrap_or_else(|| panic!("{text} was read")).to_string()
}

#[test]
fn both_forms_say_the_same() {
    for (url, words) in [
        ("postgres://app@db1/shop", "host=db1 user=app dbname=shop"),
        ("postgresql://app:a%40b%3Ac@db1:5433/", r"host=db1 port=5433 user=app password='a@b:c'"),
        ("postgres://app@[::1]:5433/shop", "host=::1 port=5433 user=app dbname=shop"),
        ("postgres://app@[fe80::1]", "host = fe80::1 user = app"),
        ("postgres://app@%2Frun%2Fpg/shop", "host=/run/pg user=app dbname=shop"),
        ("postgres:///shop?host=/run/pg&user=app", "host=/run/pg user=app dbname=shop"),
        ("postgres://app@db1?connect_timeout=3", "connect_timeout=3 host=db1 user=app"),
        ("postgres://app@db1?ssl=true", "sslmode=require host=db1 user=app"),
        ("postgres://app@/x?hostaddr=10.0.0.1", "user=app hostaddr=10.0.0.1 dbname=x"),
        ("postgres://app:p@ss@db1", r"user=app password='p@ss' host=db1"),
        ("postgres://app@db1?options=-c%20a%3Db", r"user=app host=db1 options='-c a=b'"),
    ] {
        assert_eq!(read(url), read(words), "{url}");
    }
}

#[test]
fn every_choice_has_a_default() {
    let info = read("user=app");
    assert_eq!(info.address, Address::tcp("localhost", 5432));
    assert_eq!((info.database.as_str(), &info.credential), ("app", &Credential::Trust));
    assert_eq!(info.connect_timeout, Duration::from_secs(10));
    assert_eq!((info.tls.mode, &info.tls.roots), (TlsMode::Prefer, &Roots::Unset));
    assert_eq!(info.tls.binding, Binding::Prefer);
    assert!(info.parameters.is_empty());
    let system = read("user=app sslrootcert=system");
    assert_eq!((system.tls.mode, system.tls.roots), (TlsMode::VerifyFull, Roots::System));
    let certified = read("user=app sslcert=a.pem sslkey=a.key");
    assert_eq!(certified.credential, Credential::Certificate);
}

#[test]
fn quotes_and_backslashes() {
    let info = read(r"user = a\ b password='it\'s \\ it' host=''  application_name = x ");
    assert_eq!(info.user, "a b");
    assert_eq!(info.credential, Credential::Password(r"it's \ it".to_owned()));
    assert_eq!(info.parameters, [("application_name".to_owned(), "x".to_owned())]);
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    for (text, part) in [
        ("host=db1", "user=ROLE"),
        ("postgres://db1/shop", "user=ROLE"),
        ("user=app hots=db1", r#"is "host" meant?"#),
        ("user=app frobnicate=1", r#""frobnicate" is not a connection keyword"#),
        ("user=app host=db1,db2", "each server"),
        ("postgres://app@db1:1,db2:2/x", "each server"),
        ("user=app target_session_attrs=read-write", "name each server once"),
        ("user=app replication=database", "replication"),
        ("user=app port=0", "1 to 65535"),
        ("user=app port=x", "1 to 65535"),
        ("user=app connect_timeout=0", "1 to 3600"),
        ("user=app sslmode=allow", "disable, prefer, require"),
        ("user=app sslmode=verify-full", "sslrootcert=system"),
        ("user=app sslmode=require sslrootcert=system", "verify-full"),
        ("user=app sslcert=a.pem", "sslkey"),
        ("user=app gssencmode=require", "gssencmode"),
        ("user=app password='open", "not closed"),
        ("just words", "postgres://ROLE"),
        ("postgres://app@db1?x", "lacks a value"),
        ("postgres://app%4@db1", "two hexadecimal digits"),
        ("postgres://app%00@db1", "zero byte"),
        ("postgres://app@[::1", "closing bracket"),
        ("postgres://app@[::1]x", "can't follow"),
        ("mysql://app@db1", "postgres://ROLE"),
        ("", "user=ROLE"),
    ] {
        let error = refused(text);
        assert!(error.contains(part), "{text}: {error:?} lacks {part:?}");
    }
}

#[test]
fn a_password_is_never_shown() {
    let info = read("postgres://app:hunter2@db1");
    assert!(!format!("{info:?}").contains("hunter2"));
    for text in ["user=app password=hunter2 hunter3", "user=app password='hunter2"] {
        assert!(!refused(text).contains("hunter"), "{}", refused(text));
    }
}
