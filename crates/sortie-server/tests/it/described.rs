//! Statements that drivers prepare ahead and have described, beside PostgreSQL itself while
//! somebody changes the tables.

use bytes::Bytes;
use sortie_testkit::{Batch, Frame, Postgres, Server, Wire};
use tempfile::NamedTempFile;

use crate::lazy::{before, pins};
use crate::relay::count;
use crate::support::among_others;

const TABLES: &str = "
    CREATE ROLE tester LOGIN;
    CREATE TABLE users (user_id int8 PRIMARY KEY, name varchar(20), balance numeric(9, 2));
    INSERT INTO users SELECT n, 'user ' || n, n FROM generate_series(1, 9) n;
    CREATE SCHEMA other; CREATE TABLE other.users (user_id int8, name int4);
    INSERT INTO other.users VALUES (1, 11);
    GRANT USAGE ON SCHEMA other TO tester;
    GRANT SELECT ON ALL TABLES IN SCHEMA public, other TO tester;
    ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO tester;";

const ALL: &str = "SELECT * FROM users WHERE user_id = $1";
const NAME: &str = "SELECT name FROM users WHERE user_id = $1";

/// One session on sortie and one on PostgreSQL, that are told the same.
struct Both {
    ours: Wire,
    theirs: Wire,
}

/// What was said, without the place in PostgreSQL's source where an error was found.
fn said(frames: Vec<Frame>) -> Vec<(u8, Vec<Bytes>)> {
    let fields = |frame: Frame| match frame.tag {
        b'E' => {
            let fields = frame.body.split(|byte| *byte == 0);
            let told = fields.filter(|field| !matches!(field.first(), Some(b'F' | b'L')));
            told.map(Bytes::copy_from_slice).collect()
        }
        _ => vec![frame.body],
    };
    frames.into_iter().map(|frame| (frame.tag, fields(frame))).collect()
}

impl Both {
    async fn connect(server: &Server, postgres: &Postgres) -> Self {
        let ours = Wire::connect(server.listen()).await;
        Self { ours, theirs: Wire::connect(postgres.listen()).await }
    }

    /// Sends a batch, and insists that both say the same. Returns the types of the frames.
    async fn ask(&mut self, batch: &Batch) -> String {
        let mut heard = Vec::new();
        for wire in [&mut self.ours, &mut self.theirs] {
            wire.send(batch.bytes()).await;
            let mut frames = Vec::new();
            if batch.ready() == 0 {
                // What a Flush brings, without waiting for more than that.
                while !frames.last().is_some_and(|it: &Frame| matches!(it.tag, b'T' | b'n' | b'E'))
                {
                    frames.push(wire.frame().await.unwrap());
                }
            }
            for _ in 0..batch.ready() {
                frames.extend(wire.until_ready().await);
            }
            heard.push(said(frames));
        }
        assert_eq!(heard[0], heard[1], "{batch:?}");
        heard[0].iter().map(|(tag, _)| char::from(*tag)).collect()
    }
}

fn prepare(name: &str, text: &str) -> Batch {
    Batch::new().parse(name, text, &[]).describe(b'S', name)
}

fn run(name: &str) -> Batch {
    let id = 1_i64.to_be_bytes();
    Batch::new().bind("", name, (1, &[Some(&id)]), 1).execute("").sync()
}

/// As pgx runs statements: a format for each column, and the portal's description.
fn each(name: &str, columns: u8) -> Batch {
    let mut body = [b"\0", name.as_bytes(), b"\0\0\x01\0\x01\0\x01\0\0\0\x08"].concat();
    body.extend_from_slice(&1_i64.to_be_bytes());
    body.extend_from_slice(&[0, columns]);
    body.extend([0, 1].repeat(usize::from(columns)));
    Batch::new().raw(b'B', &body).describe(b'P', "").execute("").sync()
}

async fn stage() -> (Postgres, Server, NamedTempFile) {
    let postgres = Postgres::start().await;
    postgres.script(TABLES).await;
    let url = format!("postgres://tester@{}/postgres", postgres.listen());
    let (server, config) = before(url, "tester").await;
    (postgres, server, config)
}

#[tokio::test]
async fn statements_are_described_without_a_session_of_their_own() {
    let _others = among_others().await;
    let (postgres, server, _config) = stage().await;
    let begun = server.metrics().await;
    let mut both = Both::connect(&server, &postgres).await;
    let query = |text: &str| Batch::new().query(text);
    for begin in [&["BEGIN"][..], &[]] {
        for text in begin {
            both.ask(&query(text)).await;
        }
        // As sqlx and tokio-postgres, lib/pq, asyncpg, psycopg and JDBC have it.
        assert_eq!(both.ask(&prepare("a", ALL).sync()).await, "1tTZ");
        assert_eq!(both.ask(&run("a")).await, "2DCZ");
        assert_eq!(both.ask(&prepare("", NAME).sync()).await, "1tTZ");
        assert_eq!(both.ask(&run("")).await, "2DCZ");
        assert_eq!(both.ask(&prepare("b", NAME).flush()).await, "1tT");
        assert_eq!(both.ask(&run("b")).await, "2DCZ");
        assert_eq!(both.ask(&Batch::new().parse("c", NAME, &[20]).sync()).await, "1Z");
        assert_eq!(both.ask(&run("c")).await, "2DCZ");
        assert_eq!(both.ask(&prepare("d", NAME).then(&run("d"))).await, "1tT2DCZ");
        assert_eq!(both.ask(&Batch::new().describe(b'S', "d").sync()).await, "tTZ");
        for text in begin {
            both.ask(&query(&text.replace("BEGIN", "COMMIT"))).await;
            both.ask(&query("DISCARD ALL")).await;
        }
    }
    let said = server.metrics().await;
    // The one for DISCARD ALL.
    assert_eq!(pins(&said) - pins(&begun), 1);
    assert_eq!(count(&said, "sortie_descriptions_asked_total", &[]), 12);
    drop(both);
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn what_is_told_of_a_statement_is_what_its_rows_are() {
    let _others = among_others().await;
    let (postgres, server, _config) = stage().await;
    let mut both = Both::connect(&server, &postgres).await;
    let close = |name: &str| Batch::new().close(b'S', name).sync();
    for name in ["kept", "piped"] {
        both.ask(&prepare(name, ALL).sync()).await;
    }
    // Errors are the server's, each time.
    for _ in 0..2 {
        assert_eq!(both.ask(&prepare("x", "SELECT later FROM users").sync()).await, "EZ");
        assert_eq!(both.ask(&prepare("x", "SELECT 1 FROM nowhere").flush()).await, "E");
        assert_eq!(both.ask(&Batch::new().sync()).await, "Z");
        assert_eq!(both.ask(&prepare("x", "SELECT FROM users WHERE $1").sync()).await, "1tTZ");
        both.ask(&close("x")).await;
        assert_eq!(both.ask(&prepare("kept", NAME).sync()).await, "EZ");
        assert_eq!(both.ask(&Batch::new().describe(b'S', "x").sync()).await, "EZ");
    }
    postgres.script("ALTER TABLE users ADD later text DEFAULT 'now';").await;
    assert_eq!(both.ask(&prepare("x", "SELECT later FROM users").sync()).await, "1tTZ");
    assert_eq!(both.ask(&prepare("new", ALL).sync()).await, "1tTZ");
    assert_eq!(both.ask(&run("new")).await, "2DCZ");
    // Who was told of other columns is not given these.
    assert_eq!(both.ask(&run("kept")).await, "EZ");
    assert_eq!(both.ask(&Batch::new().describe(b'S', "kept").sync()).await, "tEZ");
    both.ask(&Batch::new().query("BEGIN")).await;
    assert_eq!(both.ask(&run("kept")).await, "EZ");
    both.ask(&Batch::new().query("COMMIT")).await;
    both.ask(&close("kept")).await;
    assert_eq!(both.ask(&prepare("kept", ALL).sync()).await, "1tTZ");
    assert_eq!(both.ask(&run("kept")).await, "2DCZ");
    // The same columns in another table are the same.
    assert_eq!(both.ask(&prepare("name", NAME).sync()).await, "1tTZ");
    postgres
        .script(
            "DROP TABLE users; CREATE TABLE users (name varchar(20), user_id int8);
             INSERT INTO users VALUES ('anew', 1);",
        )
        .await;
    assert_eq!(both.ask(&run("name")).await, "2DCZ");
    assert_eq!(both.ask(&prepare("again", NAME).sync()).await, "1tTZ");
    // Another path, another table; types that come later.
    both.ask(&Batch::new().query("SET search_path = other")).await;
    assert_eq!(both.ask(&run("name")).await, "EZ");
    assert_eq!(both.ask(&prepare("int", NAME).sync()).await, "1tTZ");
    assert_eq!(both.ask(&run("int")).await, "2DCZ");
    both.ask(&Batch::new().query("RESET search_path")).await;
    assert_eq!(both.ask(&run("name")).await, "2DCZ");
    postgres
        .script("CREATE TYPE mood AS ENUM ('ok'); ALTER TABLE users ADD m mood DEFAULT 'ok';")
        .await;
    assert_eq!(both.ask(&prepare("mood", "SELECT m FROM users").flush()).await, "1tT");
    let all = Batch::new().bind("", "mood", (0, &[]), 0).execute("").sync();
    assert_eq!(both.ask(&all).await, "2DCZ");
    // A client that is told of the columns with the rows is given what there is.
    let told = |name: &str| {
        let bind = Batch::new().bind("", name, (0, &[Some(b"1")]), 0);
        bind.describe(b'P', "").execute("").sync()
    };
    let answer = both.ours.ask(&told("piped")).await;
    assert_eq!(answer.iter().map(|frame| frame.tag).collect::<Vec<_>>(), b"2TDCZ");
    drop(both);
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn what_a_server_has_told_is_remembered() {
    let _others = among_others().await;
    let (postgres, server, _config) = stage().await;
    let mut both = Both::connect(&server, &postgres).await;
    both.ask(&Batch::new().query("SET sortie.lane = pipe")).await;
    assert_eq!(both.ask(&prepare("a", ALL).sync()).await, "1tTZ");
    assert_eq!(both.ask(&prepare("b", NAME).flush()).await, "1tT");
    assert_eq!(both.ask(&run("b")).await, "2DCZ");
    both.ask(&Batch::new().query("RESET sortie.lane")).await;
    let begun = server.metrics().await;
    assert_eq!(both.ask(&run("a")).await, "2DCZ");
    postgres.script("ALTER TABLE users ADD later text;").await;
    assert_eq!(both.ask(&run("a")).await, "EZ");
    assert_eq!(both.ask(&run("b")).await, "2DCZ");
    assert_eq!(pins(&server.metrics().await), pins(&begun));
    drop(both);
    server.stop().await;
    postgres.stop().await;
}

/// A statement that was described by whoever was asked, and then runs on a connection of its
/// session's own.
#[tokio::test]
async fn a_statement_on_another_connection_gives_what_was_told() {
    let _others = among_others().await;
    let (postgres, server, _config) = stage().await;
    let mut both = Both::connect(&server, &postgres).await;
    let query = |text: &str| Batch::new().query(text);
    assert_eq!(both.ask(&prepare("a", ALL).sync()).await, "1tTZ");
    assert_eq!(both.ask(&prepare("b", NAME).sync()).await, "1tTZ");
    assert_eq!(both.ask(&prepare("", ALL).sync()).await, "1tTZ");
    both.ask(&query("BEGIN; SELECT 1")).await;
    assert_eq!(both.ask(&run("a")).await, "2DCZ");
    assert_eq!(both.ask(&run("a").then(&run("b"))).await, "2DCZ2DCZ");
    both.ask(&query("COMMIT")).await;
    assert_eq!(both.ask(&prepare("", ALL).sync()).await, "1tTZ");
    postgres.script("ALTER TABLE users ADD later text;").await;
    for _ in 0..2 {
        both.ask(&query("BEGIN; SELECT 1")).await;
        assert_eq!(both.ask(&run("b")).await, "2DCZ");
        assert_eq!(both.ask(&run("a")).await, "EZ");
        assert_eq!(both.ask(&run("b")).await, "EZ");
        both.ask(&query("ROLLBACK")).await;
    }
    both.ask(&query("BEGIN; SELECT 1")).await;
    assert_eq!(both.ask(&prepare("a", ALL).sync()).await, "EZ");
    both.ask(&query("ROLLBACK")).await;
    both.ask(&Batch::new().close(b'S', "a").sync()).await;
    assert_eq!(both.ask(&prepare("a", ALL).then(&run("a"))).await, "1tT2DCZ");
    // What nobody else has is looked for first.
    both.ask(&query("CREATE TEMP TABLE users (user_id int8, name text)")).await;
    assert_eq!(both.ask(&run("a")).await, "EZ");
    assert_eq!(both.ask(&run("b")).await, "EZ");
    assert_eq!(both.ask(&Batch::new().parse("c", NAME, &[]).sync()).await, "1Z");
    assert_eq!(both.ask(&run("c")).await, "2CZ");
    drop(both);
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn who_says_a_format_for_each_column_is_not_told_of_others() {
    let _others = among_others().await;
    let (postgres, server, _config) = stage().await;
    let mut both = Both::connect(&server, &postgres).await;
    let query = |text: &str| Batch::new().query(text);
    for lane in ["auto", "pipe"] {
        both.ask(&query(&format!("SET sortie.lane = {lane}"))).await;
        for (before, change, columns) in [
            (3, "ALTER TABLE users ADD later text", 4),
            (4, "ALTER TABLE users DROP later", 3),
            (3, "ALTER TABLE users ALTER balance TYPE text", 3),
            (3, "ALTER TABLE users ALTER balance TYPE numeric(9, 2) USING balance::numeric", 3),
        ] {
            assert_eq!(both.ask(&prepare("a", ALL).sync()).await, "1tTZ");
            assert_eq!(both.ask(&each("a", before)).await, "2TDCZ");
            postgres.script(change).await;
            for _ in 0..2 {
                assert_eq!(both.ask(&each("a", before)).await, "EZ", "{lane}: {change}");
                both.ask(&query("BEGIN; SELECT 1")).await;
                assert_eq!(both.ask(&each("a", before)).await, "EZ", "{lane}: {change}");
                both.ask(&query("ROLLBACK")).await;
            }
            both.ask(&Batch::new().close(b'S', "a").sync()).await;
            assert_eq!(both.ask(&prepare("a", ALL).then(&each("a", columns))).await, "1tT2TDCZ");
            both.ask(&Batch::new().close(b'S', "a").sync()).await;
        }
    }
    drop(both);
    server.stop().await;
    postgres.stop().await;
}
