//! Views, and tables with row security: shared where their rows depend on tables, the role and the
//! session's parameters alone.

use std::fmt::Write;
use std::time::Duration;

use sortie_testkit::{Postgres, Server, Wire};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::relay::count;
use crate::support::{BINARY, among_others};

const MADE: &str = "
    CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
    CREATE TABLE orders (id int PRIMARY KEY, owner text, tenant text, price int);
    INSERT INTO orders SELECT i, CASE WHEN i % 2 = 0 THEN 'alice' ELSE 'bob' END, 't' || i % 3, i
      FROM generate_series(1, 30) i;
    CREATE VIEW dear AS SELECT id, owner, price FROM orders WHERE price > 20;
    CREATE VIEW dearest AS SELECT count(*) AS n, max(price) AS price FROM dear;
    CREATE MATERIALIZED VIEW stored AS SELECT owner, sum(price) FROM orders GROUP BY owner;
    CREATE VIEW late AS SELECT id, now() AS seen FROM orders;
    CREATE VIEW upon_late AS SELECT id FROM late;
    CREATE FUNCTION made(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    CREATE VIEW calling AS SELECT made(id) FROM orders;
    CREATE VIEW catalogs AS SELECT relname FROM pg_class;
    CREATE TABLE owned (id int, owner text);
    INSERT INTO owned SELECT id, owner FROM orders;
    ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON owned FOR SELECT USING (owner = current_user);
    CREATE TABLE rented (id int, tenant text);
    INSERT INTO rented SELECT id, tenant FROM orders;
    ALTER TABLE rented ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON rented USING (tenant = current_setting('app.tenant', true));
    CREATE TABLE free (id int); INSERT INTO free VALUES (1);
    ALTER TABLE free ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON free USING (current_setting('app.bound', true) IS NULL);
    CREATE TABLE waiting (id int); INSERT INTO waiting VALUES (1);
    ALTER TABLE waiting ENABLE ROW LEVEL SECURITY;
    CREATE POLICY late ON waiting USING (now() > '2020-01-01');
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO alice, bob;";
/// Longer than it takes to look at a server's catalogs.
const LOOKED_MAX: Duration = Duration::from_secs(30);

pub(crate) async fn endpoint(postgres: &Postgres) -> (Server, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!(
        "auth = \"trust\"\n[[clusters.postgres.shards]]\n\
         replicas = [\"postgres://postgres@{}/postgres\"]\n",
        postgres.listen()
    );
    for role in ["alice", "bob"] {
        std::fs::write(folder.path().join(role), "unasked").unwrap();
        writeln!(text, "[clusters.postgres.users.{role}]\npassword_file = \"{role}\"").unwrap();
    }
    let file = folder.path().join("sortie.toml");
    std::fs::write(&file, text).unwrap();
    (Server::start(BINARY, &["-c", file.to_str().unwrap()]).await, folder)
}

async fn shared(server: &Server) -> i64 {
    count(&server.metrics().await, "sortie_lane_statements_total", &["lane=\"shared\""])
}

/// Asks once, and says whether the answer was shared.
pub(crate) async fn asked(
    server: &Server,
    wire: &mut Wire,
    text: &str,
) -> (Vec<Vec<Option<String>>>, bool) {
    let before = shared(server).await;
    let rows = wire.rows(text).await;
    (rows, shared(server).await > before)
}

/// Waits until a statement is shared, or no longer so.
pub(crate) async fn until(server: &Server, wire: &mut Wire, text: &str, expected: bool) {
    let began = Instant::now();
    while asked(server, wire, text).await.1 != expected {
        assert!(began.elapsed() < LOOKED_MAX, "{text}: shared is not {expected}");
        sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) fn numbers(rows: &[Vec<Option<String>>]) -> Vec<i32> {
    rows.iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn what_is_steady_behind_them_is_shared_and_nothing_else() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script(MADE).await;
    let (server, _folder) = endpoint(&postgres).await;
    let mut alice = Wire::connect_as(server.listen(), "alice").await;
    until(&server, &mut alice, "SELECT id FROM orders WHERE id = 1", true).await;
    for (text, expected) in [
        ("SELECT id FROM dear ORDER BY id", true),
        ("SELECT n, price FROM public.dearest", true),
        ("SELECT * FROM stored ORDER BY 1", true),
        ("SELECT d.id FROM dear d JOIN orders o ON o.id = d.id ORDER BY 1", true),
        ("SELECT id FROM owned ORDER BY id", true),
        ("SELECT id, current_user FROM orders ORDER BY id", true),
        ("SELECT id FROM late ORDER BY id", false),
        ("SELECT id FROM upon_late ORDER BY id", false),
        ("SELECT * FROM calling ORDER BY 1", false),
        ("SELECT count(*) >= 0 FROM catalogs", false),
        ("SELECT id FROM waiting", false),
        ("SELECT id FROM orders WHERE current_setting('work_mem') <> ''", false),
    ] {
        let (rows, is_shared) = asked(&server, &mut alice, text).await;
        let mut direct = Wire::connect_as(postgres.listen(), "alice").await;
        assert_eq!(rows, direct.rows(text).await, "{text}");
        assert_eq!(is_shared, expected, "{text}");
    }
    // What they are made of may change.
    let changed = "CREATE OR REPLACE VIEW dear AS
                   SELECT id, owner, price + (random() * 0)::int AS price FROM orders";
    postgres.script(changed).await;
    until(&server, &mut alice, "SELECT id FROM dear ORDER BY id", false).await;
    until(&server, &mut alice, "SELECT n FROM dearest", false).await;
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn rows_behind_a_policy_are_shared_with_those_alone_who_see_the_same() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script(MADE).await;
    let (server, _folder) = endpoint(&postgres).await;
    let (owned, rented) = ("SELECT id FROM owned ORDER BY id", "SELECT id FROM rented ORDER BY id");
    let mut alice = Wire::connect_as(server.listen(), "alice").await;
    let mut bob = Wire::connect_as(server.listen(), "bob").await;
    until(&server, &mut alice, owned, true).await;
    until(&server, &mut alice, rented, true).await;
    let even: Vec<i32> = (1..=30).filter(|id| id % 2 == 0).collect();
    let odd: Vec<i32> = (1..=30).filter(|id| id % 2 == 1).collect();
    for turn in 0..20 {
        let (hers, his) = tokio::join!(alice.rows(owned), bob.rows(owned));
        assert_eq!((numbers(&hers), numbers(&his)), (even.clone(), odd.clone()), "turn {turn}");
    }
    // One role, several tenants.
    let before = shared(&server).await;
    let mut other = Wire::connect_as(server.listen(), "alice").await;
    for turn in 0..20 {
        let (one, two) = (turn % 3, (turn + 1) % 3);
        alice.rows(&format!("SET app.tenant = 't{one}'")).await;
        other.rows(&format!("SET app.tenant = 't{two}'")).await;
        let (ones, twos) = tokio::join!(alice.rows(rented), other.rows(rented));
        for (rows, tenant) in [(ones, one), (twos, two)] {
            let expected: Vec<i32> = (1..=30).filter(|id| id % 3 == tenant).collect();
            assert_eq!(numbers(&rows), expected, "turn {turn}");
        }
    }
    assert_eq!(shared(&server).await - before, 40);
    alice.rows("RESET app.tenant").await;
    assert!(alice.rows(rented).await.is_empty());
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn a_custom_parameter_that_others_have_set_is_not_there_in_the_shared_lane() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script(MADE).await;
    let (server, _folder) = endpoint(&postgres).await;
    let text = "SELECT id FROM free";
    let mut alice = Wire::connect_as(server.listen(), "alice").await;
    until(&server, &mut alice, text, true).await;
    for left in ["SET app.bound = 'x'; SELECT now()", "BEGIN; SET LOCAL app.bound = 'x'; COMMIT"] {
        let mut other = Wire::connect_as(server.listen(), "alice").await;
        other.simple(left).await;
        assert!(other.rows(&format!("/* sortie: lane=pipe */ {text}")).await.is_empty());
        drop(other);
        for _ in 0..3 {
            let (rows, is_shared) = asked(&server, &mut alice, text).await;
            assert_eq!((numbers(&rows), is_shared), (vec![1], true), "{left}");
        }
    }
    server.stop().await;
    postgres.stop().await;
}
