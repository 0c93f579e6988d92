//! What stands between a client and a session.

use super::*;

#[test]
fn nobody_is_let_in_without_proof_by_mistake() {
    let unsaid = read(ONE, &mut Secrets::new("".into(), None)).unwrap_err();
    assert_eq!(unsaid.len(), 1);
    assert!(unsaid[0].what.starts_with("who may connect? Write `auth = \"scram\"`"), "{unsaid:?}");
    let with = |lines: &str| format!("{lines}\n{ONE}");
    refused(&with("auth = \"md5\""), &["`md5` is unknown; write one of \"trust\", \"scram\""]);
    refused(&with("auth = \"scram\""), &["1:8: `auth = \"scram\"` needs `users = \"FILE\"`"]);
    let query = "[clusters.bank]\nauth_query = \"SELECT $1\"\n";
    let found = parse(&format!("auth = \"scram\"\n{query}{ONE}")).unwrap();
    assert_eq!(found.clusters[0].auth_query.as_deref(), Some("SELECT $1"));
    refused(&format!("{query}{ONE}"), &["cluster `bank` has an `auth_query`, and with"]);
    let nameless = query.replace("$1", "1");
    refused(
        &format!("auth = \"scram\"\n{nameless}{ONE}"),
        &["3:14: `auth_query` must ask for the user $1"],
    );
    refused(
        &with("auth = \"trust\"\nusers = \"u\""),
        &["2:9: with `auth = \"trust\"` nobody is asked for a password"],
    );
    refused(
        &with("auth = \"scram\"\nusers = \"/nowhere\""),
        &["2:9: `users`: /nowhere: No such file"],
    );
}

#[test]
fn with_proof_others_may_reach_it() {
    let folder = tempfile::tempdir().unwrap();
    let verifier = sortie_postgres::ScramVerifier::of_password("geheim");
    file(folder.path(), "users.txt", &written_user("alice", &verifier), 0o600);
    let text = format!("listen = \"0.0.0.0:6440\"\nauth = \"scram\"\nusers = \"users.txt\"\n{ONE}");
    let path = file(folder.path(), "sortie.toml", &text, 0o644);
    let Loaded { config, warnings } = load(&path, None).unwrap();
    let Auth::Scram(users) = &config.auth else { panic!("{:?}", config.auth) };
    assert_eq!(users.verifier("alice"), Some(&verifier));
    assert_eq!((config.too_open(), warnings), (None, Vec::new()));
    file(folder.path(), "users.txt", &written_user("alice", &verifier), 0o640);
    let error = load(&path, None).unwrap_err().to_string();
    assert!(error.contains("sortie.toml:3:9: `users`: ") && error.contains("chmod 600"), "{error}");
}

#[test]
fn encryption_takes_a_certificate_and_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (one, other) = (make(), make());
    file(folder.path(), "one.crt", &one.cert.pem(), 0o644);
    file(folder.path(), "one.key", &one.signing_key.serialize_pem(), 0o600);
    file(folder.path(), "open.key", &one.signing_key.serialize_pem(), 0o640);
    file(folder.path(), "other.key", &other.signing_key.serialize_pem(), 0o600);
    let load = |wanted: &str, certificate: &str, key: &str| {
        let files = format!("tls_certificate = \"{certificate}\"\ntls_key = \"{key}\"");
        let text = format!("{TRUST}tls = \"{wanted}\"\n{files}\n{ONE}");
        load(&file(folder.path(), "sortie.toml", &text, 0o600), None)
    };
    let loaded = |wanted: &str| load(wanted, "one.crt", "one.key").unwrap().config.tls;
    assert!(
        matches!(loaded("require"), Tls::Require(_)) && matches!(loaded("allow"), Tls::Allow(_))
    );
    assert_eq!(loaded("off"), Tls::Off);
    for (certificate, key, expected) in [
        ("none.crt", "one.key", "3:19: `tls_certificate`: "),
        ("one.key", "one.key", "no certificate in PEM"),
        ("one.crt", "none.key", "4:11: `tls_key`: "),
        ("one.crt", "one.crt", "chmod 600"),
        ("one.crt", "open.key", "chmod 600"),
        ("one.crt", "other.key", "it does not go with the certificate"),
    ] {
        let error = load("allow", certificate, key).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    refused(&format!("tls = \"allow\"\n{ONE}"), &["1:7: encryption takes"]);
    refused(&format!("tls_key = \"k\"\n{ONE}"), &["1:11: encryption takes"]);
    refused(&format!("tls = \"on\"\n{ONE}"), &["write one of \"off\", \"allow\", \"require\""]);
}
