//! The same bytes to sortie and to PostgreSQL with the same rows: the same frames, in the same
//! order.
//!
//! Batches are made up of messages that fit together or don't: statements that read, set, begin,
//! end and fail, named and unnamed, run in portions, closed, described, and left without a Sync.

use bytes::{Buf, Bytes};
use sortie_testkit::{Batch, Frame, Postgres, Wire};

use crate::support::{Dice, among_others, sample_data, serve};

const SESSIONS: u64 = 150;
const BATCHES: u64 = 8;
const MESSAGES_MAX: u64 = 7;

/// Statements whose answers are the same everywhere; most of them may meet any other.
const STATEMENTS: &[&str] = &[
    "SELECT balance FROM users WHERE user_id = 7",
    "SELECT user_id, name FROM users WHERE user_id IN (3, 1, 2) ORDER BY user_id",
    "SELECT user_id FROM users WHERE user_id = ANY ('{5,4}') ORDER BY user_id DESC",
    "SELECT count(*), sum(balance) FROM users",
    "SELECT balance FROM users WHERE user_id = 0",
    "SELECT 1",
    "SHOW DateStyle",
    "SHOW application_name",
    "SET application_name = 'x'",
    "SET application_name = y",
    "RESET application_name",
    "SET LOCAL application_name = 'z'",
    "BEGIN",
    "BEGIN",
    "START TRANSACTION",
    "COMMIT",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "COMMIT AND CHAIN",
    "",
    "SELEC 1",
    "SELECT nope FROM users",
    "SELECT balance FROM nope",
    "SHOW nope",
    "SET nope = 1",
    "DEALLOCATE a",
    "DEALLOCATE ALL",
];

/// Refused by sortie at once, by PostgreSQL when it is run: in a simple query it is the same.
const WRITE: &str = "INSERT INTO users VALUES (1, 'x', 1)";

const PARAMETER: &str = "SELECT name FROM users WHERE user_id = $1";
const NAMES: &[&str] = &["", "a", "b"];

/// Named ones only, but for what drivers send: PostgreSQL keeps what is left of a failed simple
/// query in the unnamed portal, and says so to whoever executes that.
const PORTALS: &[&str] = &["p", "q"];

#[tokio::test]
async fn the_same_bytes_are_answered_as_postgresql_answers_them() {
    let _others = among_others().await;
    let server = serve(&[]).await;
    let postgres = Postgres::start().await;
    postgres.script(&sample_data()).await;
    for seed in 0..SESSIONS {
        let mut dice = Dice::new(seed);
        let mut ours = Wire::connect(server.listen()).await;
        let mut theirs = Wire::connect(postgres.listen()).await;
        let mut said = Vec::new();
        for _ in 0..BATCHES {
            let (batch, text) = batch(&mut dice);
            said.push(text);
            let (ours, theirs) = tokio::join!(ours.ask(&batch), theirs.ask(&batch));
            let (ours, theirs) = (transcript(ours), transcript(theirs));
            assert_eq!(ours, theirs, "seed {seed}, after {said:#?}");
        }
    }
    postgres.stop().await;
    server.abandoned().await;
    server.stop().await;
}

/// A simple query, or messages up to a Sync; and what they are.
fn batch(dice: &mut Dice) -> (Batch, String) {
    if dice.roll(3) == 0 {
        let mut statements: Vec<_> = (0..=dice.roll(3)).map(|_| *dice.pick(STATEMENTS)).collect();
        if dice.roll(10) == 0 {
            statements.push(WRITE);
        }
        let text = statements.join("; ");
        return (Batch::new().query(&text), format!("query {text}"));
    }
    let (mut batch, mut said) = (Batch::new(), Vec::new());
    for _ in 0..=dice.roll(MESSAGES_MAX) {
        let (statement, portal) = (*dice.pick(NAMES), *dice.pick(PORTALS));
        let text = *dice.pick(STATEMENTS);
        let rows_max = *dice.pick(&[0, 0, 1, 2]);
        batch = match dice.roll(10) {
            0..=1 => {
                said.push(format!("parse {statement:?} {text}"));
                batch.parse(statement, text, &[])
            }
            2 => {
                said.push(format!("parse {statement:?} {PARAMETER}"));
                batch.parse(statement, PARAMETER, &[])
            }
            // The shapes that drivers send.
            3..=4 => {
                said.push(format!("run {text} {rows_max}"));
                let bound = batch.parse("", text, &[]).bind("", "", (0, &[]), 0);
                bound.describe(b'P', "").execute_some("", rows_max)
            }
            5 => {
                said.push(format!("bind {portal:?} {statement:?} 12"));
                batch.bind(portal, statement, (0, &[Some(b"12")]), 0)
            }
            6 => {
                said.push(format!("bind {portal:?} {statement:?}"));
                batch.bind(portal, statement, (0, &[]), 1)
            }
            7 => {
                said.push(format!("execute {portal:?} {rows_max}"));
                batch.execute_some(portal, rows_max)
            }
            8 => {
                said.push(format!("describe {statement:?} and {portal:?}"));
                batch.describe(b'S', statement).describe(b'P', portal)
            }
            _ => {
                said.push(format!("close {statement:?} and {portal:?}"));
                batch.close(b'S', statement).close(b'P', portal).flush()
            }
        };
    }
    (batch.sync(), said.join("; "))
}

/// The frames as text, without what can't be the same: the numbers of tables, the places in
/// PostgreSQL's source, and its warnings (01000) about what its own portals have open.
fn transcript(frames: Vec<Frame>) -> Vec<String> {
    let show = |frame: Frame| {
        let tag = char::from(frame.tag);
        match tag {
            'T' => format!("T {:?}", columns(frame.body)),
            'E' | 'N' => format!("{tag} {:?}", fields(&frame.body)),
            _ => format!("{tag} {:?}", frame.body),
        }
    };
    let frames = frames.into_iter().map(show);
    frames.filter(|frame| !(frame.starts_with('N') && frame.contains("C01000"))).collect()
}

fn columns(mut body: Bytes) -> Vec<(Bytes, Bytes)> {
    let count = body.get_u16();
    let column = |_| {
        let end = body.iter().position(|&byte| byte == 0).unwrap();
        let name = body.split_to(end);
        body.advance(1 + 4 + 2);
        (name, body.split_to(4 + 2 + 4 + 2))
    };
    (0..count).map(column).collect()
}

fn fields(body: &Bytes) -> Vec<String> {
    let fields = body.split(|&byte| byte == 0).map(String::from_utf8_lossy);
    fields.filter(|field| field.starts_with(['S', 'V', 'C', 'M', 'P'])).map(Into::into).collect()
}
