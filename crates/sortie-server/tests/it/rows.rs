//! Rows: what comes out is what one file that holds every row would say.

use sortie_sqlite::{Oracle, Value};
use sortie_testkit::{Batch, Frame, Wire};

use crate::support::{Dice, USERS, among_others, psql, serve};

const STATEMENTS: usize = 200;

fn oracle() -> (tempfile::TempDir, Oracle) {
    let folder = tempfile::tempdir().unwrap();
    let oracle = Oracle::create(&folder.path().join("all.sqlite"), USERS).unwrap();
    (folder, oracle)
}

fn expected(oracle: &Oracle, sql: &str) -> Vec<Vec<Option<String>>> {
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::Int(value) => Some(value.to_string()),
        Value::Text(value) => Some(value.clone()),
        other => panic!("{other:?}"),
    };
    let rows = oracle.query(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).rows;
    rows.iter().map(|row| row.iter().map(text).collect()).collect()
}

#[tokio::test]
async fn psql_gets_the_rows_of_the_whole_cluster() {
    let _others = among_others().await;
    let (_folder, oracle) = oracle();
    let server = serve(&[]).await;
    for sql in [
        "SELECT balance FROM users WHERE user_id = 42",
        "SELECT count(*), sum(balance) FROM users",
        "SELECT user_id, name, balance FROM users ORDER BY balance DESC, user_id LIMIT 20",
        "SELECT user_id, balance FROM users WHERE user_id IN (1, 2, 3, 4, 5, 6) ORDER BY user_id",
        "SELECT balance FROM users WHERE user_id = 0",
    ] {
        let ran = psql(server.listen(), &["-c", sql]).await;
        assert!(ran.success && ran.err.is_empty(), "{sql}: {}", ran.err);
        let rows = expected(&oracle, sql);
        let rows: Vec<String> = rows
            .into_iter()
            .map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join("|"))
            .collect();
        assert_eq!(ran.out.lines().collect::<Vec<_>>(), rows, "{sql}");
    }
    server.stop().await;
}

#[tokio::test]
async fn two_hundred_generated_statements_say_what_one_file_says() {
    let _others = among_others().await;
    let (_folder, oracle) = oracle();
    let server = serve(&[]).await;
    let mut wire = Wire::connect(server.listen()).await;
    let mut dice = Dice::new(20_240_229);
    for _ in 0..STATEMENTS {
        let statement = statement(&mut dice);
        let sql = &statement.sql;
        let mut wanted = expected(&oracle, sql);
        let mut simple = wire.rows(sql).await;
        let extended = Batch::new().parse("", sql, &[]).bind("", "", (0, &[]), 0);
        let extended = wire.ask(&extended.describe(b'P', "").execute("").sync()).await;
        if let Some(report) = extended.iter().find_map(Frame::report) {
            panic!("{sql}: {report:?}");
        }
        let mut extended: Vec<_> = extended.iter().filter_map(Frame::row).collect();
        if !statement.ordered {
            wanted.sort();
            simple.sort();
            extended.sort();
        }
        assert_eq!(simple, wanted, "{sql}");
        assert_eq!(extended, wanted, "{sql}, extended");
    }
    drop(wire);
    server.stop().await;
}

struct Statement {
    sql: String,
    ordered: bool,
}

/// A statement that means the same to PostgreSQL and to SQLite, and has one right answer.
fn statement(dice: &mut Dice) -> Statement {
    let filter = match dice.roll(4) {
        0 => String::new(),
        1 => format!(" WHERE {} AND {}", condition(dice), condition(dice)),
        _ => format!(" WHERE {}", condition(dice)),
    };
    if dice.roll(3) == 0 {
        let count = 1 + dice.roll(3);
        let aggregates = [
            "count(*)",
            "sum(balance)",
            "min(balance)",
            "max(balance)",
            "min(user_id)",
            "max(user_id)",
            "count(name)",
            "min(name)",
            "max(name)",
            "sum(user_id)",
        ];
        let items: Vec<&str> = (0..count).map(|_| *dice.pick(&aggregates)).collect();
        return Statement {
            sql: format!("SELECT {} FROM users{filter}", items.join(", ")),
            ordered: false,
        };
    }
    let columns = *dice.pick(&["*", "user_id, name, balance", "balance, user_id", "name, user_id"]);
    let by_name = !columns.starts_with("balance");
    let first = *dice.pick(if by_name { &["name", "user_id"] } else { &["balance", "user_id"] });
    let direction = *dice.pick(&["", " ASC", " DESC"]);
    if columns == "*" && dice.roll(2) == 0 {
        let sql = format!("SELECT user_id FROM users{filter}");
        return Statement { sql: bounded(sql, &filter), ordered: false };
    }
    let page = match dice.roll(2) {
        0 => format!("LIMIT {}", dice.roll(200)),
        _ => format!("LIMIT {} OFFSET {}", dice.roll(200), dice.roll(100)),
    };
    // Ties are broken, so that there is one right order.
    let order = format!("ORDER BY {first}{direction}, user_id {page}");
    let sql = format!("SELECT {columns} FROM users{filter} {order}");
    Statement { sql, ordered: true }
}

/// Without a filter an unordered statement would return every row.
fn bounded(sql: String, filter: &str) -> String {
    if filter.is_empty() { format!("{sql} WHERE user_id <= 500") } else { sql }
}

fn condition(dice: &mut Dice) -> String {
    let id = 1 + dice.roll(u64::from(USERS) + 10);
    let balance = i64::try_from(dice.roll(10_500)).unwrap() - 1_200;
    let comparison = *dice.pick(&["=", "<>", "<", "<=", ">", ">="]);
    match dice.roll(8) {
        0 | 1 => format!("user_id = {id}"),
        2 => {
            let ids: Vec<String> =
                (0..=dice.roll(12)).map(|_| dice.roll(100_100).to_string()).collect();
            format!("user_id IN ({})", ids.join(", "))
        }
        3 => format!("user_id BETWEEN {id} AND {}", id + dice.roll(3_000)),
        4 => format!("balance {comparison} {balance}"),
        5 => format!("(balance < {balance} OR user_id < {})", dice.roll(500)),
        6 => format!("name {comparison} 'Grace Mason'"),
        _ => format!("NOT (balance >= {balance})"),
    }
}
