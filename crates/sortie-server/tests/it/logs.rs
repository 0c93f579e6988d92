//! Log lines for machines: each of a busy life can be read, and none says a secret.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value};
use sortie_testkit::{Ran, program, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::auth::{Door, PASSWORD, ROLE, to};
use crate::support::{BINARY, among_others};
use crate::tls;

/// Is part of statements, values and errors, and of no log line.
const SECRET: &str = "zq7secretvalue";

const TOP: &str = "log_format = \"json\"\nadmin_users = [\"tester\"]\ntls = \"allow\"\n\
                   tls_certificate = \"server.crt\"\ntls_key = \"server.key\"";

async fn psql(door: &Door, database: &str, password: &str, commands: &[&str]) -> Ran {
    let mut psql = Command::new(program("psql"));
    psql.args([
        "-X",
        "-A",
        "-t",
        "-w",
        "-d",
        &to(door.listen(), ROLE).replace("postgres", database),
    ]);
    psql.env("PGPASSWORD", password);
    for command in commands {
        psql.args(["-c", command]);
    }
    run(psql).await
}

/// All lines, each of which has to be an object.
fn lines(output: &str) -> Vec<Map<String, Value>> {
    let parse = |line: &str| match serde_json::from_str(line) {
        Ok(Value::Object(object)) => object,
        other => panic!("{line}: {other:?}"),
    };
    output.lines().map(parse).collect()
}

#[tokio::test]
async fn every_line_of_a_busy_life_is_an_object_and_says_no_secret() {
    let _others = among_others().await;
    let door = Door::within(&[("RUST_LOG", "debug")], TOP, tls::certify).await;
    let reads = [
        "SELECT 'zq7secretvalue'",
        "SELECT count(*) FROM pg_class WHERE relname = 'zq7secretvalue'",
    ];
    assert!(psql(&door, "postgres", PASSWORD, &reads).await.success);
    let encrypted = format!("{} sslmode=require", to(door.listen(), ROLE));
    assert!(crate::auth::psql(&encrypted, PASSWORD).await.success);
    // Errors whose text has the value, also those that end a session.
    let errors = [
        "SELECT 'zq7secretvalue'::int",
        "SELECT zq7secretvalue",
        "SET sortie.join = zq7secretvalue",
    ];
    psql(&door, "postgres", PASSWORD, &errors).await;
    assert!(!psql(&door, "postgres", SECRET, &reads).await.success);
    assert!(!psql(&door, SECRET, PASSWORD, &reads).await.success);
    // No handshake, no startup, and a client that goes in the middle of a statement.
    for sent in [&b"\x16\x03\x01 this is no handshake"[..], b"\0\0\0\x08zq7s", b"\0\0\x01\0\0\x03"]
    {
        let mut stream = TcpStream::connect(door.listen()).await.unwrap();
        stream.write_all(sent).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.ok();
    }
    assert!(psql(&door, "sortie", PASSWORD, &["SHOW POOLS", "RELOAD"]).await.success);
    let file = door.folder().join("sortie.toml");
    let text = fs::read_to_string(&file).unwrap();
    for (text, event) in
        [(format!("{text}\nzq = 7\n"), "ERROR"), (format!("login_max = \"9s\"\n{text}"), "INFO")]
    {
        fs::write(&file, text).unwrap();
        door.server.signal("HUP");
        let began = Instant::now();
        let is_said = |line: &Map<String, Value>| {
            line["level"] == event && line.get("event").is_some_and(|it| it == "reload")
        };
        while !lines(&whole(&door.server.output())).iter().any(is_said) {
            assert!(began.elapsed() < Duration::from_secs(30), "{}", door.server.output());
            sleep(Duration::from_millis(20)).await;
        }
    }
    let Door { server, postgres, .. } = door;
    server.abandoned().await;
    let output = server.stop().await.output;
    postgres.stop().await;
    let mut events = BTreeSet::new();
    for line in lines(&output) {
        for name in ["timestamp", "level", "target", "message"] {
            assert!(line.get(name).is_some_and(Value::is_string), "{name}: {line:?}");
        }
        events.extend(line.get("event").and_then(Value::as_str).map(str::to_owned));
        if line.get("event").is_some_and(|event| event == "refused") {
            assert!(line["reason"].is_string() && line["peer"].is_string(), "{line:?}");
        }
    }
    let expected = ["draining", "refused", "reload", "serving", "stopped"];
    assert!(expected.iter().all(|it| events.contains(*it)), "{events:?}");
    assert!(output.contains("\"level\":\"DEBUG\""), "{output}");
    for secret in [SECRET, "s3cret", "SCRAM-SHA-256$"] {
        let told: Vec<_> = output.lines().filter(|line| line.contains(secret)).collect();
        assert!(told.is_empty(), "{secret}: {told:#?}");
    }
}

/// Without a line of which only the beginning is written so far.
fn whole(output: &str) -> String {
    output.rsplit_once('\n').map_or(String::new(), |(whole, _rest)| whole.to_owned())
}

#[tokio::test]
async fn a_start_that_fails_is_an_event_and_the_flag_goes_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sortie.toml");
    fs::write(&file, "log_format = \"json\"\nauth = \"trust\"\nlisten = 7\n").unwrap();
    let start = async |more: &[&str]| {
        let mut sortie = Command::new(BINARY);
        sortie.args(["serve", "-c", file.to_str().unwrap()]).args(more);
        let ran = run(sortie).await;
        assert!(!ran.success && ran.out.is_empty(), "{}", ran.out);
        ran.err
    };
    let lines = lines(&start(&[]).await);
    assert_eq!((lines.len(), &lines[0]["event"]), (1, &Value::from("failed")), "{lines:?}");
    assert!(lines[0]["error"].as_str().unwrap().contains("sortie.toml:3:10"), "{lines:?}");
    assert!(start(&["--log-format", "text"]).await.starts_with("sortie: "));
}
