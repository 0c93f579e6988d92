//! Roles with passwords of their own: what they share they share with themselves alone, and log in
//! for it as who they are.

use std::fmt::Write;
use std::time::Duration;

use sortie_testkit::{Cluster, Frame, LabConfig, Postgres, Server, Wire, differ};
use tokio::time::{Instant, sleep};

use crate::relay::count;
use crate::stage::{Setup, endpoint};
use crate::support::{BINARY, among_others};

const READ: &str = "SELECT label FROM items WHERE id = 7";
const WITHIN: Duration = Duration::from_secs(20);

async fn shared(server: &Server) -> f64 {
    server.metrics().await.sum("sortie_lane_statements_total", &["lane=\"shared\""])
}

#[tokio::test]
async fn share_with_themselves_alone() {
    let _others = among_others().await;
    let mut config = LabConfig::default();
    (config.shards, config.replicas, config.sample) = (1, 1, false);
    let cluster = Cluster::private(config).await;
    let (primary, standby) = (cluster.primary(0), cluster.standby(0, 0));
    primary.script_in("postgres", differ::prepare()).await;
    let roles = "CREATE ROLE alice LOGIN PASSWORD 'alices'; CREATE ROLE bob LOGIN PASSWORD 'bobs';
                 CREATE ROLE carol LOGIN PASSWORD 'carols';
                 GRANT SELECT ON items TO alice, carol; REVOKE SELECT ON items FROM bob, PUBLIC;";
    primary.script_in("postgres", roles).await;
    standby
        .set_hba(
            "host all alice,bob,carol all scram-sha-256\nhost all all all trust\n\
             local all all trust",
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!(
        "auth = \"trust\"\n[[clusters.postgres.shards]]\nreplicas = [\"postgres://tester@{}/postgres\"]\n",
        standby.address()
    );
    for (role, password) in [("alice", "alices"), ("bob", "bobs"), ("carol", "wrong")] {
        std::fs::write(folder.path().join(role), password).unwrap();
        writeln!(text, "[clusters.postgres.users.{role}]\npassword_file = \"{role}\"").unwrap();
    }
    let file = folder.path().join("sortie.toml");
    std::fs::write(&file, text).unwrap();
    let server = Server::start(BINARY, &["-c", file.to_str().unwrap()]).await;
    let mut alice = Wire::connect_as(server.listen(), "alice").await;
    let (began, before) = (Instant::now(), shared(&server).await);
    while shared(&server).await - before < 0.5 {
        assert_eq!(alice.rows(READ).await[0][0].as_deref(), Some("item 7"));
        assert!(began.elapsed() < WITHIN, "nothing is shared");
        sleep(Duration::from_millis(50)).await;
    }
    let session = "SELECT usename FROM pg_stat_activity WHERE query LIKE '%label FROM items%' \
                   AND pid <> pg_backend_pid()";
    let mut observer = Wire::connect_as(standby.address(), "postgres").await;
    let users = observer.rows(session).await;
    assert!(!users.is_empty());
    assert!(users.iter().all(|row| row[0].as_deref() == Some("alice")), "{users:?}");
    // Others have their own rights, whatever was answered just now.
    let mut bob = Wire::connect_as(server.listen(), "bob").await;
    for _ in 0..5 {
        let (granted, refused) = tokio::join!(alice.rows(READ), bob.refusal(READ));
        assert_eq!(granted[0][0].as_deref(), Some("item 7"));
        assert_eq!(refused.sqlstate, "42501", "{refused:?}");
    }
    let frames = Wire::try_connect(server.listen(), "carol").await.expect_err("a wrong password");
    let refused = frames.iter().find_map(Frame::report).unwrap();
    assert_eq!(refused.sqlstate, "28P01", "{refused:?}");
    drop((alice, bob, observer));
    server.stop().await;
}

/// What comes of a shared read that has to wait for a lock for so long; and it is shared.
async fn blocked(
    (postgres, server): (&Postgres, &Server),
    wire: &mut Wire,
    held: Duration,
) -> Result<(), String> {
    let shared = async |server: &Server| {
        let metrics = server.metrics().await;
        count(&metrics, "sortie_lane_statements_total", &["lane=\"shared\""])
    };
    let before = shared(server).await;
    let mut locker = Wire::connect_as(postgres.listen(), "postgres").await;
    locker.rows("BEGIN; LOCK TABLE slow IN ACCESS EXCLUSIVE MODE").await;
    let (answer, ()) = tokio::join!(wire.simple("SELECT id FROM slow"), async {
        sleep(held).await;
        locker.rows("ROLLBACK").await;
    });
    let refused = answer.iter().find_map(Frame::report);
    assert!(refused.is_some() || shared(server).await > before, "it is not shared");
    refused.map_or(Ok(()), |report| Err(report.sqlstate))
}

#[tokio::test]
async fn have_defaults_that_hold_for_those_who_say_nothing_else() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script("CREATE ROLE tester LOGIN; CREATE TABLE slow AS SELECT 1 AS id").await;
    postgres.script("GRANT SELECT ON slow TO tester").await;
    let (short, long) = (Duration::from_millis(100), Duration::from_millis(1_200));
    for (parameter, code) in [("statement_timeout", "57014"), ("lock_timeout", "55P03")] {
        postgres.script(&format!("ALTER ROLE tester SET {parameter} = '600ms'")).await;
        let sortie = endpoint(postgres.listen(), &[], Setup::default()).await;
        let at = (&postgres, &sortie.server);
        let mut silent = Wire::connect(sortie.listen()).await;
        let began = Instant::now();
        while shared(&sortie.server).await < 0.5 {
            silent.rows("SELECT id FROM slow").await;
            assert!(began.elapsed() < WITHIN, "nothing is shared");
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(blocked(at, &mut silent, short).await, Ok(()), "{parameter}");
        assert_eq!(blocked(at, &mut silent, long).await, Err(code.to_owned()));
        let mut patient = Wire::connect(sortie.listen()).await;
        patient.rows(&format!("SET {parameter} = 0")).await;
        assert_eq!(blocked(at, &mut patient, long).await, Ok(()), "{parameter}");
        // One that is longer than the role's, and one that is shorter.
        patient.rows(&format!("SET {parameter} = '1min'")).await;
        assert_eq!(blocked(at, &mut patient, long).await, Ok(()), "{parameter}");
        patient.rows(&format!("SET {parameter} = '200ms'")).await;
        let half = Duration::from_millis(400);
        assert_eq!(blocked(at, &mut patient, half).await, Err(code.to_owned()), "{parameter}");
        patient.rows(&format!("RESET {parameter}")).await;
        assert_eq!(blocked(at, &mut patient, long).await, Err(code.to_owned()), "{parameter}");
        postgres.script(&format!("ALTER ROLE tester RESET {parameter}")).await;
        drop((silent, patient));
        sortie.stop().await;
    }
    postgres.stop().await;
}
