//! SCRAM as a server speaks it, against the client of `postgres-protocol`, and against nonsense.

use bytes::{BufMut, Bytes, BytesMut};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;
use sortie_postgres::{ScramDecoys, ScramError, ScramKeys, ScramServer, ScramVerifier};

const PLAIN: &str = "SCRAM-SHA-256";
const PLUS: &str = "SCRAM-SHA-256-PLUS";

fn initial(mechanism: &str, message: &[u8]) -> Bytes {
    let mut body = BytesMut::from(mechanism.as_bytes());
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap());
    body.put_slice(message);
    body.freeze()
}

/// A client that has this password logs in; `end_point` is what the server binds to.
fn log_in(
    verifier: &ScramVerifier,
    password: &str,
    (mechanism, binding): (&str, ChannelBinding),
    end_point: Option<&[u8]>,
) -> Result<ScramKeys, ScramError> {
    let mut client = ScramSha256::new(password.as_bytes(), binding);
    let first = initial(mechanism, client.message());
    let (server, answer) = ScramServer::begin(verifier.clone(), end_point, &first)?;
    client.update(answer.as_bytes()).unwrap();
    let (proof, keys) = server.finish(client.message())?;
    client.finish(proof.as_bytes()).expect("the server knows the secret, too");
    Ok(keys)
}

fn unbound() -> (&'static str, ChannelBinding) {
    (PLAIN, ChannelBinding::unsupported())
}

#[test]
fn the_right_password_and_no_other_proves_a_client() {
    let verifier = ScramVerifier::of_password("pencil\u{e4}");
    let keys = log_in(&verifier, "pencil\u{e4}", unbound(), None).unwrap();
    assert!(
        log_in(&verifier, "pencil\u{e4}", unbound(), None) == Ok(keys),
        "keys are the secret's"
    );
    for wrong in ["", "pencil", "pencil\u{e4} "] {
        assert_eq!(
            log_in(&verifier, wrong, unbound(), None).err(),
            Some(ScramError::WrongPassword)
        );
    }
}

/// The secret that PostgreSQL's own tests use, and RFC 7677's.
#[test]
fn secrets_of_others_are_read_and_written_as_they_are() {
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbs\
                T4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let verifier: ScramVerifier = text.parse().unwrap();
    assert_eq!((verifier.to_string().as_str(), verifier.iterations()), (text, 4096));
    assert!(log_in(&verifier, "pencil", unbound(), None).is_ok());
    for wrong in ["", "pencil", "md5abc", "SCRAM-SHA-256$x:y$z:z", &text[..60], &text[1..]] {
        assert!(wrong.parse::<ScramVerifier>().is_err(), "{wrong}");
    }
    assert_eq!(format!("{verifier:?}"), "ScramVerifier(..)");
}

#[test]
fn a_login_is_bound_to_its_connection() {
    let verifier = ScramVerifier::of_password("pencil");
    let bound = |data: &[u8]| (PLUS, ChannelBinding::tls_server_end_point(data.to_vec()));
    assert!(log_in(&verifier, "pencil", bound(b"this one"), Some(b"this one")).is_ok());
    let between = log_in(&verifier, "pencil", bound(b"another"), Some(b"this one"));
    assert_eq!(between.err(), Some(ScramError::Binding));
    // Who can't bind may come without; who could, and believes that we can't, may not.
    assert!(log_in(&verifier, "pencil", unbound(), Some(b"this one")).is_ok());
    let made_believe = (PLAIN, ChannelBinding::unrequested());
    let downgraded = log_in(&verifier, "pencil", made_believe, Some(b"this one"));
    assert_eq!(downgraded.err(), Some(ScramError::Downgrade));
    let unoffered = log_in(&verifier, "pencil", bound(b"this one"), None);
    assert_eq!(unoffered.err(), Some(ScramError::Mechanism));
}

#[test]
fn nobody_proves_to_be_somebody_who_is_not_there() {
    let decoys = ScramDecoys::new(b"secret", 4096);
    let nobody = decoys.verifier("nobody");
    assert_eq!(log_in(&nobody, "", unbound(), None).err(), Some(ScramError::WrongPassword));
    let first = |verifier: &ScramVerifier| {
        let body = initial(PLAIN, b"n,,n=,r=abc");
        ScramServer::begin(verifier.clone(), None, &body).unwrap().1
    };
    let salt = |answer: String| answer.split(',').nth(1).unwrap().to_owned();
    assert_eq!(salt(first(&nobody)), salt(first(&decoys.verifier("nobody"))));
    assert_ne!(salt(first(&nobody)), salt(first(&decoys.verifier("somebody"))));
    assert_ne!(salt(first(&nobody)), salt(first(&ScramDecoys::new(b"x", 1).verifier("nobody"))));
    let real = first(&ScramVerifier::of_password("x"));
    assert_eq!(first(&nobody).len(), real.len(), "a made-up answer looks like a real one");
}

#[test]
fn messages_that_are_none_are_refused_as_postgresql_does() {
    let verifier = ScramVerifier::of_password("pencil");
    let begin = |mechanism: &str, message: &str| {
        let body = initial(mechanism, message.as_bytes());
        ScramServer::begin(verifier.clone(), None, &body).map(|(server, _)| server)
    };
    for (message, sqlstate) in [
        ("", "08P01"),
        ("n", "08P01"),
        ("n,,", "08P01"),
        ("n,,n=", "08P01"),
        ("n,,n=,r=", "08P01"),
        ("n,,n=,r=a b", "08P01"),
        ("q,,n=,r=a", "08P01"),
        ("p=tls-server-end-point,,n=,r=a", "08P01"),
        ("p=tls-unique,,n=,r=a", "0A000"),
        ("n,a=alice,n=,r=a", "0A000"),
        ("n,,m=x,n=,r=a", "0A000"),
    ] {
        let error = begin(PLAIN, message).expect_err(message);
        assert_eq!(error.sqlstate(), sqlstate, "{message}: {error}");
    }
    assert_eq!(begin("PLAIN", "n,,n=,r=a").err(), Some(ScramError::Mechanism));
    for (message, expected) in [
        ("c=biws,r=nobody's,p=AAAA", ScramError::Invalid("Nonce does not match.")),
        ("c=biws", ScramError::Malformed("Garbage found at the end of client-final-message.")),
        ("r=a,p=", ScramError::Malformed("Attribute \"c\" expected.")),
        ("c=biws,p=", ScramError::Malformed("Attribute \"r\" expected.")),
    ] {
        let server = begin(PLAIN, "n,,n=,r=a").unwrap();
        assert_eq!(server.finish(message.as_bytes()).err(), Some(expected), "{message}");
    }
}

proptest! {
    #[test]
    fn no_message_makes_it_panic(first in ".*", last in ".*", bytes in any::<Vec<u8>>()) {
        let verifier = ScramDecoys::new(b"secret", 4096).verifier("alice");
        let begin = |body: &Bytes| ScramServer::begin(verifier.clone(), Some(b"x"), body);
        prop_assert!(begin(&Bytes::from(bytes.clone())).is_err());
        for header in ["", "n,,n=,r=", "y,,", "p=tls-server-end-point,,n=x,r="] {
            for mechanism in [PLAIN, PLUS] {
                let body = initial(mechanism, format!("{header}{first}").as_bytes());
                if let Ok((server, _answer)) = begin(&body) {
                    let last = format!("c=biws,r={last}");
                    prop_assert!(server.finish(last.as_bytes()).is_err());
                }
                if let Ok((server, _answer)) = begin(&body) {
                    prop_assert!(server.finish(&bytes).is_err());
                }
            }
        }
    }
}
