//! Sharing, limits, deadlines and failures.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::*;
use crate::budget::{BUFFERED_LEAST, Budget};

const MULTI: &str =
    "select user_id, name, balance from users order by balance desc, user_id limit 3";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_reads_share_one_load_and_its_bytes() {
    let mut config = config(2, 200);
    config.trouble.latency.push("fixed:50ms".parse().unwrap());
    let rig = Rig::new(&config, &ReadConfig { hedge: None, ..ReadConfig::default() });
    let bound = bound(MULTI, None, &[], &[]).unwrap();
    let reads = (0..200).map(|_| rig.path.read(&rig.who, &bound, &[], None));
    let replies: Vec<_> = join_all(reads).await.into_iter().map(Result::unwrap).collect();
    // Nobody arrives late: the first load is for its leader, the second for all others.
    assert!(rig.statements() <= 4, "{} statements", rig.statements());
    assert!(replies.windows(2).all(|pair| pair[0].rows == pair[1].rows));
    assert_eq!(rig.path.flights().in_flight_flights, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_differ_in_anything_share_nothing() {
    let mut config = config(1, 20);
    config.trouble.latency.push("fixed:20ms".parse().unwrap());
    let rig = Rig::new(&config, &ReadConfig { hedge: None, ..ReadConfig::default() });
    let text = "select name from users where user_id = $1";
    let one = |oids: &[u32], formats: &[i16], value: &'static [u8]| {
        bound(text, Some(oids), formats, &[Some(Bytes::from_static(value))]).unwrap()
    };
    let mut other = Settings::new("ann", "app", []).unwrap();
    other.set("bytea_output", Some("escape"), false).unwrap();
    let bob = Settings::new("bob", "app", []).unwrap();
    let reads = [
        (rig.who.clone(), one(&[], &[], b"1"), &[][..]),
        (rig.who.clone(), one(&[20], &[], b"1"), &[]),
        (rig.who.clone(), one(&[], &[1], &[0, 0, 0, 0, 0, 0, 0, 1]), &[]),
        (rig.who.clone(), one(&[], &[], b" 1"), &[]),
        (rig.who.clone(), one(&[], &[], b"1"), &[1]),
        (Who::from(&other), one(&[], &[], b"1"), &[]),
        (Who::from(&bob), one(&[], &[], b"1"), &[]),
    ];
    let all = reads.iter().map(|(who, bound, formats)| rig.path.read(who, bound, formats, None));
    for reply in join_all(all).await {
        assert_eq!(reply.unwrap().count, 1);
    }
    assert_eq!(rig.statements(), reads.len() as u64);
    assert_eq!(rig.path.flights().leaders, reads.len() as u64);
}

#[tokio::test]
async fn what_no_row_can_satisfy_asks_nobody() {
    let rig = Rig::new(&config(2, 20), &ReadConfig::default());
    let none: Vec<Vec<Option<String>>> = Vec::new();
    assert_eq!(
        rig.ask("select * from users where user_id = 1 and user_id = 2").await,
        Ok(none.clone())
    );
    assert_eq!(rig.ask("select * from users limit 0").await, Ok(none.clone()));
    let empty = "select count(*), sum(balance), min(name), 7 from users where null";
    let row = vec![Some("0".to_owned()), None, None, Some("7".to_owned())];
    assert_eq!(rig.ask(empty).await, Ok(vec![row]));
    assert_eq!(rig.ask("select count(*) from users where false offset 1").await, Ok(none));
    assert_eq!(rig.statements(), 0);
}

#[tokio::test]
async fn a_key_is_asked_of_the_shard_that_owns_it() {
    let rig = Rig::new(&config(5, 100), &ReadConfig { hedge: None, ..ReadConfig::default() });
    let row = rig.ask("select user_id from users where user_id = 42").await.unwrap();
    assert_eq!((row, rig.statements()), (vec![vec![Some("42".to_owned())]], 1));
    let all = rig.ask("select count(*) from users").await.unwrap();
    assert_eq!((all, rig.statements()), (vec![vec![Some("100".to_owned())]], 6));
}

#[tokio::test]
async fn an_answer_past_the_limits_is_an_error() {
    let rows = ReadConfig { rows_max: 10, ..ReadConfig::default() };
    let rig = Rig::new(&config(2, 100), &rows);
    let error = rig.ask("select * from users").await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), ("54000", "the result has more than 10 rows"));
    assert_eq!(rig.ask("select * from users limit 10").await.unwrap().len(), 10);
    assert_eq!(rig.ask("select * from users where user_id < 11").await.unwrap().len(), 10);
    assert_eq!(rig.ask("select * from users where user_id < 12").await.unwrap_err().code, "54000");
    let bytes = ReadConfig { bytes_max: 300, ..ReadConfig::default() };
    let rig = Rig::new(&config(2, 100), &bytes);
    let error = rig.ask("select * from users").await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        ("54000", "the result has more than 300 bytes")
    );
}

#[tokio::test]
async fn while_too_much_waits_only_small_answers_of_several_shards_have_room() {
    let budget = Budget::new(BUFFERED_LEAST);
    let config = config(2, 2_000);
    let rig = Rig::new(&config, &ReadConfig { budget: budget.clone(), ..ReadConfig::default() });
    let waits = budget.counted(Bytes::from(vec![0; BUFFERED_LEAST.get()]));
    let error = rig.ask("select * from users").await.unwrap_err();
    assert_eq!((error.code, error.report), ("53200", None));
    assert_eq!(rig.ask("select * from users limit 10").await.unwrap().len(), 10);
    drop(waits);
    assert_eq!(rig.ask("select * from users").await.unwrap().len(), 2_000);
    // It counts until its last reader has written it.
    let bound = bound("select * from users", None, &[], &[]).unwrap();
    let reply = rig.path.read(&rig.who, &bound, &[], None).await.unwrap();
    assert_eq!(budget.read().used, reply.rows.len());
    drop(reply);
    assert_eq!(budget.read().used, 0);
}

#[tokio::test]
async fn a_deadline_is_its_callers_own() {
    let mut config = config(2, 20);
    config.trouble.latency.push("fixed:100ms".parse().unwrap());
    let rig = Rig::new(&config, &ReadConfig::default());
    let bound = bound(MULTI, None, &[], &[]).unwrap();
    let deadline = Some(Instant::now() + Duration::from_millis(20));
    let (hasty, patient) = tokio::join!(
        rig.path.read(&rig.who, &bound, &[], deadline),
        rig.path.read(&rig.who, &bound, &[], None),
    );
    let error = hasty.unwrap_err();
    let message = "canceling statement due to statement timeout";
    assert_eq!((error.code, error.message.as_str()), ("57014", message));
    assert_eq!(patient.unwrap().count, 3);
}

#[tokio::test]
async fn a_failing_shard_is_named_at_once() {
    let mut config = config(2, 20);
    config.trouble.fail.push("1".parse().unwrap());
    config.trouble.latency.push("0=fixed:2s".parse().unwrap());
    let rig = Rig::new(&config, &ReadConfig::default());
    let began = Instant::now();
    let error = rig.ask("select count(*) from users").await.unwrap_err();
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(error.code, "58030");
    assert!(error.message.starts_with("shard 1: "), "{}", error.message);
}

#[tokio::test]
async fn a_closed_cluster_says_so() {
    let mut rig = Rig::new(&config(1, 20), &ReadConfig::default());
    rig.cluster = Embedded::create(&config(1, 20)).unwrap();
    assert_eq!(rig.ask("select count(*) from users").await.unwrap_err().code, "57P01");
}

#[tokio::test]
async fn frames_are_what_the_encoder_makes() {
    let rig = Rig::new(&config(1, 20), &ReadConfig::default());
    let bound = bound("select 5, null, 'x' from users where user_id = 3", None, &[], &[]).unwrap();
    let reply = rig.path.read(&rig.who, &bound, &[], None).await.unwrap();
    let mut expected = bytes::BytesMut::new();
    let mut row = backend::DataRow::begin(&mut expected);
    row.value(b"5");
    row.null();
    row.value(b"x");
    row.finish();
    assert_eq!((&reply.rows[..], reply.count), (&expected[..], 1));
}
