//! Readers share an answer only if it is the answer of each of them.

use super::super::generated::Dice;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_crosses_from_one_key_to_another() {
    let real = Real::new(|_| {}).await;
    let zones = ["UTC", "Asia/Tokyo", "America/New_York"];
    let styles = ["ISO, DMY", "German", "SQL, MDY"];
    let mut dice = Dice(5);
    let mut expected = std::collections::HashMap::new();
    for round in 0..6 {
        let asked: Vec<(usize, usize, i64, i16)> = (0..60)
            .map(|_| {
                let id = i64::try_from(dice.roll(2)).unwrap() + 1;
                (dice.roll(3), dice.roll(3), id, i16::from(dice.roll(2) == 1))
            })
            .collect();
        let replies = asked.iter().map(|&(zone, style, id, binary)| {
            let (real, zone, style) = (&real, zones[zone], styles[style]);
            async move {
                let name = format!("round-{id}");
                let parameters =
                    [("application_name", name.as_str()), ("datestyle", style), ("timezone", zone)];
                let one = who(Some(0), "reader", &parameters);
                let value = match binary {
                    0 => Bytes::from(id.to_string()),
                    _ => Bytes::copy_from_slice(&id.to_be_bytes()),
                };
                let text = format!("select id, at from times where id = $1 -- {round}");
                let values = bound(&[binary], &[Some(value)], &[0]);
                match real.say(&one, &text, &[20], &values).await {
                    Said::Rows(rows) => rows,
                    other => panic!("{other:?}"),
                }
            }
        });
        let replies = futures_util::future::join_all(replies).await;
        for ((zone, style, id, _), rows) in asked.into_iter().zip(replies) {
            assert_eq!(rows.len(), 1);
            assert_eq!(rows[0][0], Some(id.to_string()));
            let known = expected.entry((zone, style, id)).or_insert_with(|| rows[0][1].clone());
            assert_eq!(*known, rows[0][1]);
        }
    }
    let texts: std::collections::HashSet<_> = expected.values().collect();
    assert_eq!(texts.len(), expected.len(), "each zone, style and row has its own text");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_is_answered_by_its_own_rights() {
    let real = Real::new(|_| {}).await;
    let text = "select count(*) from users";
    for _ in 0..5 {
        let ask = |shard, user| {
            let one = who(shard, user, &[]);
            let real = &real;
            async move { real.say(&one, text, &[], &Values::Simple).await }
        };
        let (ann, bob, every) =
            tokio::join!(ask(Some(0), "ann"), ask(Some(0), "bob"), ask(None, "bob"));
        assert!(matches!(ann, Said::Rows(_)), "{ann:?}");
        let Said::Refused(error) = bob else { panic!("{bob:?}") };
        let report = String::from_utf8_lossy(error.report.as_ref().unwrap()).into_owned();
        assert!(report.contains("C42501") && !report.contains("shard"), "{report}");
        let Said::Refused(error) = every else { panic!("{every:?}") };
        assert!(error.message.starts_with("shard "), "{error}");
        let report = String::from_utf8_lossy(error.report.as_ref().unwrap()).into_owned();
        assert!(report.contains("Mshard "), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_points_into_each_readers_own_text() {
    let real = Real::new(|_| {}).await;
    let one = who(Some(1), "reader", &[]);
    // The parameter's type is only known to be wrong when its value comes.
    let ask = |text: &'static str| {
        let (real, one) = (&real, Arc::clone(&one));
        let values = bound(&[], &[Some(Bytes::from_static(b"x"))], &[]);
        async move { real.say(&one, text, &[], &values).await }
    };
    let said = tokio::join!(
        ask("select name from users where user_id = $1 /* 1 */"),
        ask("/* 22 */ select name from users where user_id = $1"),
    );
    for said in [said.0, said.1] {
        let Said::Refused(error) = said else { panic!("{said:?}") };
        let report = error.report.unwrap();
        assert!(String::from_utf8_lossy(&report).contains("C22P02"), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_is_dropped_leaves_nothing_on_a_server() {
    let real = Real::new(|_| {}).await;
    let text = "select count(*) from users";
    for _ in 0..20 {
        let asked = tokio::time::timeout(std::time::Duration::from_micros(300), real.ask(text));
        let _cut = asked.await;
    }
    for _ in 0..100 {
        let stats = real.lane.stats();
        if stats.flights.in_flight_flights == 0 && stats.hedges.in_flight() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{:?}", real.lane.stats());
}
