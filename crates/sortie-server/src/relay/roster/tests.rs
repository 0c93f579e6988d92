use super::*;

fn person(id: i32, database: &str) -> Person {
    let (database, ends) = (database.into(), Ends::default());
    Person { id, user: "u".into(), database, ends, is_encrypted: false }
}

#[tokio::test(start_paused = true)]
async fn what_a_session_had_is_kept_when_it_is_gone() {
    let roster = Arc::new(Roster::new());
    let (one, two) = (roster.enter(person(1, "a"), ""), roster.enter(person(2, "a"), ""));
    let mut meter = Meter::new(&one.entry);
    meter.sends();
    tokio::time::advance(Duration::from_millis(3)).await;
    meter.answered(false);
    meter.sends();
    tokio::time::advance(Duration::from_millis(1)).await;
    meter.answered(true);
    meter.traffic((10, 20));
    two.entry.served();
    let expected = Totals {
        transactions: 2,
        statements: 3,
        received: 10,
        sent: 20,
        transaction_micros: 4_000,
        statement_micros: 4_000,
        wait_micros: 0,
    };
    assert_eq!(roster.totals()["a"], expected);
    drop((one, two));
    assert_eq!(roster.totals()["a"], expected);
    assert!(roster.entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn averages_are_of_the_time_between_two_marks() {
    let roster = Arc::new(Roster::new());
    let one = roster.enter(person(1, "a"), "");
    one.entry.served();
    tokio::time::advance(Duration::from_secs(10)).await;
    let (time, totals) = roster.lately();
    assert_eq!((time, totals["a"].statements), (Duration::from_secs(10), 1));
    roster.mark();
    one.entry.served();
    one.entry.served();
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(roster.lately().1["a"].statements, 1, "not before the next mark");
    roster.mark();
    let (time, totals) = roster.lately();
    assert_eq!((time, totals["a"].statements), (Duration::from_secs(60), 2));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_seen_to_wait_and_to_work() {
    let roster = Arc::new(Roster::new());
    let one = roster.enter(person(7, "a"), "psql");
    let mut meter = Meter::new(&one.entry);
    assert_eq!((one.entry.doing(), one.entry.waited()), (Doing::Rests, None));
    let since = meter.waits(true);
    assert_eq!(one.entry.doing(), Doing::IsHeld);
    tokio::time::advance(Duration::from_millis(5)).await;
    assert_eq!(one.entry.waited(), Some(Duration::from_millis(5)));
    let work = meter.works();
    meter.waited(since);
    meter.has(42);
    assert_eq!((one.entry.doing(), one.entry.server()), (Doing::Works, Some(42)));
    drop(work);
    assert_eq!((one.entry.doing(), one.entry.server()), (Doing::Rests, None));
    assert_eq!(roster.totals()["a"].wait_micros, 5_000);
    assert!(roster.entry(7).unwrap().kill());
    assert!(!one.entry.kill());
    one.entry.killed().await;
}
