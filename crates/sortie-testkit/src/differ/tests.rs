use std::collections::HashSet;
use std::time::Duration;

use super::mischief::{Mischief, Relay};
use super::*;
use crate::batch::Batch;
use crate::postgres::Postgres;

const AT_ONCE: usize = 6;
/// Scripts that between them get a frame of each type that is tampered with below.
const TAMPERED: [&str; 5] = [
    "setting: reported ones",
    "extended: Describe alone",
    "extended: one statement",
    "simple: many kinds in one string",
    "copy: out, text, CSV and binary",
];

async fn postgres() -> Postgres {
    let postgres = Postgres::start().await;
    postgres.script(prepare()).await;
    postgres
}

#[tokio::test]
async fn two_servers_answer_alike() {
    let (one, two) = tokio::join!(postgres(), postgres());
    let targets = (&Target::postgres(one.listen()), &Target::postgres(two.listen()));
    let modes = [Mode::AsWritten, Mode::Pipelined];
    let mut scripts = scripts();
    scripts.extend((0..30).map(random));
    assert_eq!(differences(scripts, &modes, targets, AT_ONCE).await, "");
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn every_mischief_is_seen() {
    let server = postgres().await;
    let theirs = Target::postgres(server.listen());
    let mut checks = vec![(Mischief::None, false)];
    for tag in *b"12CDEHSTZcdt" {
        checks.extend([Mischief::Lost(tag), Mischief::Doubled(tag)].map(|one| (one, true)));
    }
    checks.extend([Mischief::Late(b'C'), Mischief::Late(b'1'), Mischief::Late(b'D')].map(seen));
    checks.extend([Mischief::Flipped(b'D'), Mischief::Flipped(b'Z')].map(seen));
    for (mischief, expected) in checks {
        let relay = Relay::start(server.listen(), mischief).await;
        let ours = Target::endpoint(relay.listen(), &[server.listen()]);
        let ours = ours.answer_within(Duration::from_secs(2));
        let mut scripts = scripts();
        scripts.retain(|script| TAMPERED.contains(&script.name()));
        scripts.push(Script::new("an error").query("SELECT oops"));
        let report = differences(scripts, &[Mode::Pipelined], (&ours, &theirs), AT_ONCE).await;
        assert_eq!(!report.is_empty(), expected, "{mischief:?}: {report}");
    }
    server.stop().await;
}

fn seen(mischief: Mischief) -> (Mischief, bool) {
    (mischief, true)
}

#[tokio::test]
async fn a_difference_is_readable() {
    let server = postgres().await;
    let relay = Relay::start(server.listen(), Mischief::Flipped(b'D')).await;
    let script = Script::new("two rows").query("SELECT 'a', NULL; SELECT 2");
    let expected = play(&script, Mode::AsWritten, &Target::postgres(server.listen())).await;
    let ours = Target::endpoint(relay.listen(), &[server.listen()]);
    let found = play(&script, Mode::AsWritten, &ours).await;
    let difference = expected.difference(&found, &script).unwrap().to_string();
    assert!(difference.contains("both"), "{difference}");
    assert!(difference.contains("DataRow [a, NULL]"), "{difference}");
    assert!(difference.contains("the first differing byte is"), "{difference}");
    assert!(expected.difference(&expected, &script).is_none());
    drop(relay);
    server.stop().await;
}

#[test]
fn no_two_scripts_have_one_name() {
    let scripts = scripts();
    assert!(scripts.len() >= 60, "{} scripts", scripts.len());
    let names: HashSet<&str> = scripts.iter().map(Script::name).collect();
    assert_eq!(names.len(), scripts.len());
}

#[tokio::test]
async fn silence_and_an_early_end_are_differences() {
    let server = postgres().await;
    let theirs = Target::postgres(server.listen());
    let answered = Script::new("s").query("SELECT 1");
    let ended = Script::new("s").send(Batch::new().terminate()).until_end();
    let one = play(&answered, Mode::AsWritten, &theirs).await;
    let two = play(&ended, Mode::AsWritten, &theirs).await;
    let difference = one.difference(&two, &answered).unwrap().to_string();
    assert!(difference.contains("the connection was closed"), "{difference}");
    server.stop().await;
}
