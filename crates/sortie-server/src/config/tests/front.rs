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

#[test]
fn certificates_of_clients_take_an_authority_and_encryption() {
    let nobody = "is about clients' certificates, and nobody vouches for these";
    refused(&format!("auth = \"cert\"\n{ONE}"), &[&format!("1:8: `auth` {nobody}")]);
    let asked = format!("clientcert = \"verify-ca\"\n{ONE}");
    refused(&asked, &[&format!("1:14: `clientcert` {nobody}")]);
    refused(&format!("{ONE}[certificates]\n\"a\" = [\"b\"]\n"), &[nobody]);
    refused(&format!("clientcert = \"on\"\n{ONE}"), &["\"verify-ca\", \"verify-full\""]);

    let folder = tempfile::tempdir().unwrap();
    let one = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    file(folder.path(), "one.crt", &one.cert.pem(), 0o644);
    file(folder.path(), "one.key", &one.signing_key.serialize_pem(), 0o600);
    let files = "tls_certificate = \"one.crt\"\ntls_key = \"one.key\"\n";
    let load = |top: &str, end: &str| {
        let text = format!("{files}{top}\n{ONE}{end}");
        load(&file(folder.path(), "sortie.toml", &text, 0o600), None)
            .map(|loaded| loaded.config)
            .map_err(|error| error.to_string())
    };
    let by = "auth = \"cert\"\ntls = \"require\"\ntls_client_ca = \"one.crt\"";
    let config = load(by, "[certificates]\n\"app\" = [\"reader\", \"writer\"]\n").unwrap();
    let certified = config.certified.unwrap();
    assert_eq!((config.auth, certified.check), (Auth::Certificate, CertCheck::Full));
    assert!(certified.admits("app", "writer") && !certified.admits("app", "app"));
    for (top, end, expected) in [
        ("auth = \"trust\"\ntls = \"allow\"\ntls_client_ca = \"one.crt\"", "", "encrypted"),
        (by, "[certificates]\napp = \"reader\"\n", "`certificates.app` must be a list of strings"),
        (&format!("{by}\nclientcert = \"verify-ca\""), "", "it is \"verify-full\""),
        (&by.replace("one.crt", "none.crt"), "", "`tls_client_ca`: "),
        (&by.replace("one.crt", "one.key"), "", "no certificate in PEM"),
        (&format!("{by}\nusers = \"u\""), "", "nobody is asked for a password"),
        (by, "[clusters.bank]\nauth_query = \"SELECT $1\"\n", "an `auth_query`"),
    ] {
        let error = load(top, end).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_role_may_have_a_certificate_of_its_own_for_the_servers() {
    let folder = tempfile::tempdir().unwrap();
    let one = rcgen::generate_simple_self_signed(["writer".to_owned()]).unwrap();
    file(folder.path(), "one.crt", &one.cert.pem(), 0o644);
    file(folder.path(), "one.key", &one.signing_key.serialize_pem(), 0o600);
    file(folder.path(), "open.key", &one.signing_key.serialize_pem(), 0o644);
    file(folder.path(), "password", "geheim\n", 0o600);
    let load = |lines: &str| {
        let text = format!("{TRUST}{ONE}[clusters.bank.users.writer]\n{lines}\n");
        load(&file(folder.path(), "sortie.toml", &text, 0o600), None)
            .map(|loaded| loaded.config.clusters[0].user("writer").unwrap().clone())
            .map_err(|error| error.to_string())
    };
    let keys = sortie_postgres::ScramKeys { client: [1; 32], server: [2; 32] };
    let beside = |user: &UserConfig, keys| match user.login(keys) {
        Some(Credential::OwnCertificate(own)) => {
            assert!(own.certificate.ends_with("one.crt") && own.key.ends_with("one.key"));
            own.beside
        }
        other => panic!("{other:?}"),
    };
    let both = "sslcert = \"one.crt\"\nsslkey = \"one.key\"";
    let alone = load(both).unwrap();
    assert_eq!(beside(&alone, None), Credential::Certificate);
    assert_eq!(beside(&alone, Some(keys)), Credential::ScramKeys(Box::new(keys)));
    let known = load(&format!("{both}\npassword_file = \"password\"")).unwrap();
    assert_eq!(beside(&known, Some(keys)), Credential::Password("geheim".to_owned()));
    for (lines, expected) in [
        ("sslkey = \"one.key\"", "both, a certificate without its key"),
        ("sslcert = \"none.crt\"\nsslkey = \"one.key\"", "`sslcert`: "),
        ("sslcert = \"one.crt\"\nsslkey = \"open.key\"", "chmod 600"),
    ] {
        let error = load(lines).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
