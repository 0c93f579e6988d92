//! Scripts that mix what a proxy may share with what it may not: both kinds in one pipeline, under
//! every parameter that changes how an answer reads, by roles who see different rows.

use super::dice::Dice;
use super::script::Script;
use crate::batch::Batch;

/// Steps of one script.
const STEPS_MAX: u64 = 10;
/// Statements of one pipeline.
const PIPELINE_MAX: u64 = 8;
const NAMES: [&str; 3] = ["", "s", "t"];

/// Reads that one server's answer is shared of, or might be.
const READS: [&str; 24] = [
    "SELECT * FROM looks ORDER BY nth",
    "SELECT * FROM looks WHERE nth = 2",
    "SELECT at, clock, made_on, took FROM looks WHERE nth < 3 ORDER BY nth",
    "SELECT raw, ratio, small, cash, amount FROM looks WHERE nth = 1",
    "SELECT at::text, took::text, raw::text, ratio::text FROM looks ORDER BY nth",
    "SELECT to_char(at, 'TMDay DD TMMonth HH24:MI TZ'), to_char(amount, 'L999G999D99') \
     FROM looks WHERE nth = 1",
    "SELECT word, list, doc FROM looks ORDER BY nth",
    "SELECT nth FROM looks WHERE word = 'žluťoučký €'",
    "SELECT to_tsvector(word) FROM looks WHERE nth = 3",
    "SELECT '{NULL,1}'::text[] FROM looks WHERE nth = 1",
    "SELECT nth FROM looks WHERE list = NULL",
    "SELECT 'a\\\\b' FROM looks WHERE nth = 1",
    "SELECT xmlelement(name a, raw) FROM looks WHERE nth = 1",
    "SELECT id FROM items WHERE made = '02/03/2024'",
    "SELECT count(*) FROM items WHERE made < '2024-02-03 IST'::timestamptz",
    "SELECT id, label, price FROM items WHERE id BETWEEN 5 AND 7 ORDER BY id",
    "SELECT count(*) FROM items",
    "SELECT spot FROM spots ORDER BY 1",
    "SELECT spot FROM near.spots, looks ORDER BY nth",
    "SELECT sheet FROM papers ORDER BY sheet",
    "SELECT sheet FROM hidden",
    "SELECT i.label, l.at FROM items i JOIN looks l ON l.nth = i.id ORDER BY i.id /* 7 */",
    "WITH few AS (SELECT id FROM items WHERE id < 4) SELECT sum(id), 1.0 / 3 FROM few",
    "SELECT id FROM items ORDER BY id LIMIT 40",
];

/// Reads with a value, and a value for each that is right or is not.
const ASKED: [(&str, [&str; 4]); 5] = [
    ("SELECT label FROM items WHERE id = $1", ["1", "7", "5000", "x"]),
    ("SELECT id FROM items WHERE made = $1", ["2024-01-02", "03/02/2024", "Feb 1 2024", "3/2"]),
    ("SELECT nth FROM looks WHERE at > $1", ["1999-12-31 EST", "1/2/2000", "infinity", "?"]),
    ("SELECT nth, $1::text FROM looks ORDER BY nth", ["", "ž", "two words", "'"]),
    ("SELECT 6 / $1::int4, nth FROM looks ORDER BY nth", ["2", "0", "-1", "9999999999"]),
];

/// Statements that fail: at once, or behind some rows.
const FAILING: [&str; 7] = [
    "SELECT oops FROM items",
    "SELECT 10 / (id - 3) FROM items WHERE id < 6 ORDER BY id",
    "SELECT FROM items WHERE",
    "SELECT nth FROM nowhere",
    "SELECT fail_at(id, 3) FROM items WHERE id < 6 ORDER BY id",
    "SELECT label::int4 FROM items WHERE id = 1",
    "SELECT nosuch(nth) FROM looks",
];

/// What is not shared, and leaves nothing behind that others would see.
const ALONE: [&str; 12] = [
    "SELECT 1",
    "SELECT current_user, session_user",
    // What DISCARD ALL has taken away is empty, and not unknown.
    "SELECT current_setting('TimeZone'), nullif(current_setting('my.own', true), '')",
    "SHOW DateStyle",
    "SHOW client_encoding",
    "SHOW search_path",
    "SELECT name FROM pg_prepared_statements ORDER BY name",
    "SELECT name, statement FROM pg_cursors ORDER BY name",
    "VALUES (1, 'a'), (2, 'b')",
    "SELECT fail_at(1, 3) FROM looks",
    "",
    "EXPLAIN (COSTS OFF) SELECT 1",
];

const TRANSACTIONS: [&str; 13] = [
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "END",
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "START TRANSACTION READ ONLY",
    "SAVEPOINT a",
    "ROLLBACK TO SAVEPOINT a",
    "RELEASE SAVEPOINT a",
    "COMMIT AND CHAIN",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
];

/// Every parameter that changes how a statement is read, or how its answer reads.
const PARAMETERS: [(&str, [&str; 3]); 27] = [
    ("TimeZone", ["Asia/Tokyo", "America/St_Johns", "-3:30"]),
    ("DateStyle", ["German, DMY", "SQL, MDY", "Postgres, YMD"]),
    ("IntervalStyle", ["sql_standard", "iso_8601", "postgres_verbose"]),
    ("bytea_output", ["escape", "hex", "escape"]),
    ("client_encoding", ["LATIN2", "SQL_ASCII", "UTF8"]),
    ("extra_float_digits", ["0", "-5", "3"]),
    ("lc_monetary", ["C", "POSIX", "C.UTF-8"]),
    ("lc_numeric", ["C", "POSIX", "C.UTF-8"]),
    ("lc_time", ["C", "POSIX", "C.UTF-8"]),
    ("xmlbinary", ["hex", "base64", "hex"]),
    ("xmloption", ["document", "content", "document"]),
    ("search_path", ["far, public", "near, public", "public"]),
    ("my.own", ["nobody", "somebody", ""]),
    ("array_nulls", ["off", "on", "off"]),
    ("transform_null_equals", ["on", "off", "on"]),
    ("standard_conforming_strings", ["off", "on", "off"]),
    ("escape_string_warning", ["off", "on", "off"]),
    ("backslash_quote", ["on", "off", "safe_encoding"]),
    ("default_text_search_config", ["english", "simple", "pg_catalog.german"]),
    ("timezone_abbreviations", ["India", "Australia", "Default"]),
    ("row_security", ["off", "on", "off"]),
    ("default_transaction_read_only", ["on", "off", "on"]),
    ("default_transaction_isolation", ["serializable", "read committed", "repeatable read"]),
    ("client_min_messages", ["error", "warning", "notice"]),
    ("application_name", ["one", "žluť", ""]),
    ("enable_seqscan", ["off", "on", "off"]),
    ("no_such_parameter", ["a", "b", "c"]),
];

/// The tables that these scripts read beside [`prepare`](super::prepare)'s, as SQL for a
/// superuser. The roles `tester`, `narrow` and `wide` see different rows of one of them.
pub fn prepare_mixed() -> &'static str {
    "DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'narrow') THEN
            CREATE ROLE narrow LOGIN;
            CREATE ROLE wide LOGIN BYPASSRLS;
            GRANT narrow TO tester;
        END IF;
    END $$;
    CREATE SCHEMA near; CREATE SCHEMA far;
    GRANT USAGE ON SCHEMA near, far TO tester, narrow, wide;
    CREATE TABLE looks (nth int4 PRIMARY KEY, at timestamptz, clock timestamp, made_on date,
        took interval, raw bytea, ratio float8, small float4, cash money, amount numeric,
        word text, list text[], doc jsonb);
    INSERT INTO looks VALUES
        (1, '2024-02-03 04:05:06.7+00', '2024-02-03 04:05:06', '2024-02-03',
         '1 year 2 mons -3 days',
         '\\x00ff5c27', 0.1::float8 + 0.2::float8, 1.1, 1234.5, 1e20, 'plain', '{a,NULL,b}',
         '{\"b\": 1, \"a\": [2]}'),
        (2, '1999-12-31 23:59:59+14', '0044-03-15 12:00:00 BC', '0044-03-15 BC',
         '-04:05:06.789', '\\xdeadbeef', 'NaN', 'Infinity', -0.01, 0.000, 'žluťoučký €',
         '{}', '[]'),
        (3, 'infinity', '-infinity', 'infinity', '0', '', 1e-300, -0.0, 0, 'NaN',
         'a \\ b '' c \" d', NULL, NULL),
        (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    CREATE TABLE near.spots (spot text); INSERT INTO near.spots VALUES ('near');
    CREATE TABLE far.spots (spot text); INSERT INTO far.spots VALUES ('far'), ('farther');
    CREATE TABLE papers (sheet int4 PRIMARY KEY, of_whom text);
    INSERT INTO papers VALUES (1, 'tester'), (2, 'narrow'), (3, 'nobody'), (4, 'somebody');
    ALTER TABLE papers ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON papers USING (of_whom = current_user
        OR of_whom = current_setting('my.own', true));
    CREATE TABLE hidden (sheet int4); INSERT INTO hidden VALUES (1);
    GRANT SELECT ON hidden TO wide;
    GRANT SELECT ON looks, near.spots, far.spots, papers, items TO tester, narrow, wide;
    -- Of two plans one may say rows ahead of an error, and the other none.
    ANALYZE items, looks, near.spots, far.spots, papers;"
}

/// A script made from `seed`, for any server: it writes nothing.
///
/// What must be equal is which answer comes, in what order, and how it reads.
pub fn mixed(seed: u64) -> Script {
    let mut dice = Dice(seed);
    let mut script = Script::new(format!("mixed {seed}"));
    let user = dice.pick(&["tester", "tester", "narrow", "wide"]);
    script = script.parameter("user", user);
    for _ in 0..dice.roll(3) {
        let (name, values) = dice.pick(&PARAMETERS);
        // What nobody knows is refused there, and the script were over.
        if name != "no_such_parameter" {
            script = script.parameter(name, dice.pick(&values));
        }
    }
    // What is set in every other way hides what one of them leaves.
    let is_calm = dice.roll(3) == 0;
    for _ in 0..=dice.roll(STEPS_MAX) {
        let batch = match dice.roll(8) {
            _ if is_calm => Batch::new().query(text(&mut dice).as_ref()),
            0 | 1 => Batch::new().query(text(&mut dice).as_ref()),
            2 => Batch::new().query(&setting(&mut dice)),
            3 => single(&mut dice),
            _ => pipeline(&mut dice),
        };
        script = match dice.roll(3) {
            // An error may swallow a Query's answer: only what ends in Sync can be waited for.
            0 => script.send(batch),
            _ => script.send(batch).ask(Batch::new().sync()),
        };
        if is_calm || dice.roll(4) == 0 {
            script = script.send(cut(&mut dice)).pause().send(Batch::new().execute("").sync());
            if dice.roll(2) == 0 {
                script = script.stranger(look());
            }
        }
    }
    script.send(Batch::new().sync().query("ROLLBACK").query("SELECT 'end'")).stranger(look())
}

/// A statement that leaves something, sent without what runs it behind one that is answered
/// meanwhile.
fn cut(dice: &mut Dice) -> Batch {
    let before = match dice.roll(4) {
        0 => Batch::new().query(text(dice).as_ref()),
        1 => Batch::new().query(dice.pick(&ALONE)),
        2 => Batch::new().statement(dice.pick(&ALONE), &[]).sync(),
        _ => Batch::new(),
    };
    let name = dice.pick(&NAMES);
    let setting = setting(dice);
    before.close(b'S', name).parse(name, &setting, &[]).bind("", name, (0, &[]), 0)
}

/// A setting, prepared under a name perhaps, and described perhaps.
fn named(dice: &mut Dice) -> Batch {
    let (name, setting) = (dice.pick(&NAMES), setting(dice));
    let mut batch = Batch::new().close(b'S', name).parse(name, &setting, &[]);
    batch = batch.bind("", name, (0, &[]), 0);
    if dice.roll(2) == 0 {
        batch = batch.describe(b'P', "");
    }
    batch.execute("")
}

/// What a session would find of another one's.
fn look() -> Batch {
    let names = PARAMETERS.map(|(name, _)| format!("'{name}'")).join(", ");
    let settings = format!(
        "SELECT name, nullif(current_setting(name, true), ''), current_user, session_user \
         FROM unnest(ARRAY[{names}]) AS name"
    );
    let read = Batch::new().statement("SELECT sheet FROM papers ORDER BY sheet", &[]).sync();
    let look = Batch::new().bind("", "", (0, &[]), 0).sync().query(&settings);
    look.query("SELECT name FROM pg_prepared_statements").then(&read)
}

/// One batch of one statement, as drivers send it.
fn single(dice: &mut Dice) -> Batch {
    let format = i16::from(dice.roll(3) == 0);
    let (text, value) = if dice.roll(2) == 0 {
        (dice.pick(&READS), None)
    } else {
        let (text, values) = dice.pick(&ASKED);
        (text, Some(dice.pick(&values)))
    };
    let name = dice.pick(&NAMES);
    let values: Vec<Option<&[u8]>> = value.iter().map(|value| Some(value.as_bytes())).collect();
    let mut batch = Batch::new();
    if !name.is_empty() {
        batch = batch.close(b'S', name);
    }
    batch = batch.parse(name, text, &[]);
    match dice.roll(3) {
        0 => batch = batch.describe(b'S', name).sync(),
        1 => batch = batch.describe(b'S', name).flush(),
        _ => {}
    }
    batch = batch.bind("", name, (0, &values), format);
    if dice.roll(2) == 0 {
        batch = batch.describe(b'P', "");
    }
    match dice.roll(4) {
        0 => batch.execute_some("", i32::try_from(dice.roll(4)).unwrap_or(0)).sync(),
        1 => batch.execute("").close(b'P', "").sync(),
        _ => batch.execute("").sync(),
    }
}

/// Many statements on their way at once, of both kinds, by both protocols.
fn pipeline(dice: &mut Dice) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..=dice.roll(PIPELINE_MAX) {
        let next = match dice.roll(6) {
            0 => Batch::new().query(text(dice).as_ref()),
            1 => single(dice),
            2 if dice.roll(2) == 0 => Batch::new().statement(&setting(dice), &[]),
            2 => named(dice),
            _ => Batch::new().statement(text(dice).as_ref(), &[]),
        };
        batch = batch.then(&next);
        batch = match dice.roll(6) {
            0 | 1 => batch.sync(),
            2 => batch.flush(),
            3 => batch.sync().flush(),
            _ => batch,
        };
    }
    batch.sync()
}

fn text(dice: &mut Dice) -> &'static str {
    match dice.roll(12) {
        0..6 => dice.pick(&READS),
        6 => dice.pick(&FAILING),
        7 | 8 => dice.pick(&ALONE),
        9 if dice.roll(3) == 0 => dice.pick(&["SELECT 1; SELECT count(*) FROM items", ";", "--"]),
        _ => dice.pick(&TRANSACTIONS),
    }
}

/// A parameter set or reset, in one of the ways in which that is done.
fn setting(dice: &mut Dice) -> String {
    let (name, values) = dice.pick(&PARAMETERS);
    let value = dice.pick(&values);
    // What is a list is not one in quotes.
    let value = if name == "search_path" { value.to_owned() } else { format!("'{value}'") };
    match dice.roll(12) {
        0 => format!("RESET {name}"),
        1 => format!("SET LOCAL {name} = {value}"),
        2 => format!("SET {name} TO DEFAULT"),
        3 if name != "search_path" => format!("SELECT set_config('{name}', {value}, false)"),
        4 => dice.pick(&["RESET ALL", "DISCARD ALL", "RESET ROLE", "DEALLOCATE ALL"]).to_owned(),
        5 => dice.pick(&["SET ROLE narrow", "SET ROLE none", "SET LOCAL ROLE narrow"]).to_owned(),
        6 => "SET SESSION AUTHORIZATION DEFAULT".to_owned(),
        _ => format!("SET {name} = {value}"),
    }
}
