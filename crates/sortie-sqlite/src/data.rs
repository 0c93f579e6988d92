//! The rows: what they hold, where they live, and how a file of them is written.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use crate::Error;

/// The one table. `STRICT` makes SQLite refuse what PostgreSQL's column types would refuse.
const SCHEMA: &str = "CREATE TABLE users(
    user_id INTEGER PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    balance INTEGER NOT NULL
) STRICT";

/// Sixteen, with bytes past ASCII among them, so that clients show what they do with UTF-8.
const FIRST_NAMES: [&str; 16] = [
    "Ada", "Alan", "Barbara", "Dennis", "Edsger", "Frances", "Grace", "Jim", "Kathleen", "Ken",
    "Leslie", "Niklaus", "Radia", "Robin", "Søren", "Zoë",
];

const LAST_NAMES: [&str; 16] = [
    "Adler", "Baker", "Carter", "Dyer", "Fisher", "Glover", "Hunter", "Joiner", "Keeler", "Mason",
    "Nílsson", "Porter", "Sawyer", "Tanner", "Weaver", "Young",
];

/// Returns the name of a user: one of 256, so that names repeat.
///
/// The first name is number `user_id mod 16`, the last name number `user_id / 16 mod 16`.
pub fn name(user_id: u32) -> String {
    let pick = |names: [&'static str; 16], at: u32| names[(at % 16) as usize];
    format!("{} {}", pick(FIRST_NAMES, user_id), pick(LAST_NAMES, user_id / 16))
}

/// Returns the balance of a user: `user_id * 7919 mod 10007 - 1000`.
///
/// Balances run from -1,000 to 9,006. Among 100,000 users each comes nine or ten times, so an
/// `ORDER BY balance` has ties and they lie on all shards.
pub fn balance(user_id: u32) -> i64 {
    i64::from(user_id) * 7_919 % 10_007 - 1_000
}

/// Writes the users with these ids to a new file, in one transaction without a journal: a file
/// that was not finished is not used.
pub(crate) fn write(file: &Path, ids: impl IntoIterator<Item = u32>) -> Result<(), Error> {
    let insert_all = || -> rusqlite::Result<()> {
        let connection = Connection::open(file)?;
        connection.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE",
        )?;
        connection.execute_batch(&format!("BEGIN; {SCHEMA};"))?;
        {
            let mut insert = connection.prepare("INSERT INTO users VALUES (?1, ?2, ?3)")?;
            for id in ids {
                insert.execute(params![id, name(id), balance(id)])?;
            }
        }
        connection.execute_batch("COMMIT")
    };
    insert_all().map_err(|source| at(file, source))
}

/// Counts the users in a file.
pub(crate) fn count(file: &Path) -> Result<u64, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let count = Connection::open_with_flags(file, flags)
        .and_then(|file| file.query_one("SELECT count(*) FROM users", [], |row| row.get(0)));
    count.map(i64::cast_unsigned).map_err(|source| at(file, source))
}

pub(crate) fn at(file: &Path, source: rusqlite::Error) -> Error {
    Error::Sqlite { at: file.display().to_string(), source: source.into() }
}
