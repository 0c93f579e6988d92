//! Clients that are not let in are counted by the reason, and all that is counted is documented.

use std::collections::BTreeMap;

use sortie_testkit::{Metrics, workspace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::auth::{Door, PASSWORD, ROLE, psql, to};
use crate::support::{among_others, serve};
use crate::tls;

const TOP: &str = "login_max = \"2s\"\ntls = \"require\"\ntls_certificate = \"server.crt\"\n\
                   tls_key = \"server.key\"\n[clusters.postgres.users.other]\n\
                   connections_max = 0\n";

/// How many were refused, by reason, where there were any.
fn refused(metrics: &Metrics) -> BTreeMap<String, u64> {
    let name = "sortie_logins_refused_total";
    let labels = metrics.labels(name);
    let reasons = labels.iter().map(|label| label.split('"').nth(1).unwrap());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let count = |reason: &str| metrics.sum(name, &[&format!("reason=\"{reason}\"")]) as u64;
    reasons.map(|it| (it.to_owned(), count(it))).filter(|(_, count)| *count > 0).collect()
}

/// Sends something that is no login, and waits for the end.
async fn send(door: &Door, bytes: &[u8]) {
    let mut stream = TcpStream::connect(door.listen()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.ok();
}

#[tokio::test]
async fn whoever_is_not_let_in_is_counted_by_the_reason() {
    let _others = among_others().await;
    let door = Door::with_files(TOP, |folder| {
        tls::certify(folder);
        // `other` has the same password, and may have no session.
        let users = folder.path().join("users.txt");
        let line = std::fs::read_to_string(&users).unwrap();
        std::fs::write(&users, format!("{line}{}", line.replace("tester", "other"))).unwrap();
    })
    .await;
    let ask = async |more: &str, password: &str| {
        let to = format!("{} sslmode=require {more}", to(door.listen(), ROLE));
        psql(&to, password).await.success
    };
    assert!(ask("", PASSWORD).await);
    let before = refused(&door.server.metrics().await);
    assert!(before.is_empty(), "{before:?}");
    assert!(!ask("", "wrong").await && !ask("user=nobody", PASSWORD).await);
    assert!(!ask("sslmode=disable", PASSWORD).await);
    assert!(!ask("dbname=nowhere", PASSWORD).await);
    assert!(!ask("user=other", PASSWORD).await);
    assert!(!ask("dbname=sortie", PASSWORD).await);
    assert!(!ask("options=-csortie.join=never", PASSWORD).await);
    send(&door, b"\x16\x03\x01\0\x05hello").await;
    send(&door, b"\0\0\0\x09\0\x07\0\0\0").await;
    send(&door, b"").await;
    let metrics = door.server.abandoned().await;
    let expected = [
        ("database", 1),
        ("password", 2),
        ("protocol", 1),
        ("role", 1),
        ("role_sessions", 1),
        ("setting", 1),
        ("slow", 1),
        ("tls", 1),
        ("unencrypted", 1),
    ];
    let expected = expected.map(|(reason, count)| (reason.to_owned(), count));
    assert_eq!(refused(&metrics), BTreeMap::from(expected), "{}", door.server.output());
    assert!(metrics.sum("sortie_client_logins_total", &[]) >= 1.0);
    documented(&metrics);
    door.stop().await;
}

#[tokio::test]
async fn an_embedded_cluster_counts_them_too() {
    let _others = among_others().await;
    let server = serve(&[]).await;
    let mut stream = TcpStream::connect(server.listen()).await.unwrap();
    stream.write_all(b"\0\0\0\x09\0\x07\0\0\0").await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    let metrics = server.abandoned().await;
    assert_eq!(refused(&metrics), BTreeMap::from([("protocol".to_owned(), 1)]));
    documented(&metrics);
    server.stop().await;
}

/// Each series is in the table of the document.
fn documented(metrics: &Metrics) {
    let text = std::fs::read_to_string(workspace().join("docs/metrics.md")).unwrap();
    for name in metrics.names() {
        let row = |line: &str| line.starts_with(&format!("| `{name}` |"));
        assert!(text.lines().any(row), "{name} is not in docs/metrics.md");
    }
}
