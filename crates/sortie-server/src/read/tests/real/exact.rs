//! What is answered is what one server with all rows answers; what can't be is not answered.

use super::super::generated::{Dice, Generator, compare};
use super::*;

const STATEMENTS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_generated_statements_equal_one_postgresql_with_all_rows() {
    let real = Real::new(|_| {}).await;
    let mut oracle = oracle().await;
    let names = oracle.rows("SELECT DISTINCT name FROM users ORDER BY 1 LIMIT 50").await;
    let names = names.into_iter().map(|mut row| row.remove(0).unwrap()).collect();
    let mut generator = Generator { dice: Dice(11), names, parts: Vec::new() };
    let who = who(None, "reader", &[]);
    let mut answered = 0;
    for _ in 0..STATEMENTS {
        let statement = generator.statement();
        let text = statement.inline(|keys| format!("= ANY('{{{keys}}}')"));
        let expected = oracle.rows(&text).await;
        answered += usize::from(!expected.is_empty());
        let limit = statement.limited.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
        let limited = format!("{text}{limit}");
        let Said::Rows(found) = real.ask(&limited).await else { panic!("{limited}") };
        compare(&statement, true, found, expected.clone(), &limited);

        let (text, oids, formats, values) = statement.parameterised(&mut generator.dice);
        let Verdict::Share(plan) = real.lane.judge(&who, &Asked { text: &text, oids: &oids })
        else {
            panic!("{text}")
        };
        let columns = plan.judged.spread.as_ref().unwrap().columns().unwrap().len();
        let results: Vec<i16> =
            (0..columns).map(|_| i16::from(generator.dice.roll(2) == 1)).collect();
        let values = bound(&formats, &values, &results);
        match real.say(&who, &text, &oids, &values).await {
            Said::Rows(found) => compare(&statement, false, found, expected, &text),
            other => panic!("{other:?}: {text}"),
        }
    }
    assert!(answered > STATEMENTS / 2, "only {answered} statements have rows: a weak test");
}

/// Statements that no scatter answers, or only in part.
const OTHERS: [&str; 44] = [
    "begin; select count(*) from users; commit",
    "create temp table t as select * from users",
    "select total()",
    "select public.total() from countries",
    "select count(*) from rich",
    "select * from rich order by user_id",
    "with u as (select * from users) select count(*) from u",
    "with users as (select 1 as user_id) select * from users",
    "select count(*) from (select distinct name from users) u",
    "select (select count(*) from users)",
    "select exists (select 1 from users where user_id = 1)",
    "select u.name from users u join users v on u.user_id = v.balance",
    "select u.name from users u, countries c where c.code = 'de' and u.user_id = 1",
    "select rank() over (order by balance desc, user_id) from users",
    "select name, count(*) from users group by name order by 1",
    "select distinct name from users order by 1",
    "select avg(balance) from users",
    "select count(distinct name) from users",
    "select sum(balance) filter (where user_id < 5) from users",
    "select string_agg(name, ',' order by user_id) from users",
    "select max(name || 'x') from users",
    "select name from users union all select code from countries",
    "select name from users order by balance, user_id limit 3",
    "select user_id from users where name like 'a%'",
    "select user_id from users where lower(name) = 'x'",
    "select user_id from users where user_id in (select user_id from users where balance > 9000)",
    "select * from users for update",
    "select * from users tablesample system (50)",
    "table users",
    "select users from users limit 1",
    "select ctid from users where user_id = 1",
    "insert into users values (1, 'x', 1)",
    "update users set balance = 0",
    "delete from users",
    "truncate users",
    "copy users to stdout",
    "copy (select count(*) from users) to stdout",
    "do $$ begin perform count(*) from users; end $$",
    "declare c cursor for select count(*) from users",
    "prepare p as select count(*) from users",
    "explain select * from users",
    "select query_to_xml('select count(*) from users', true, true, '')",
    "select * from times",
    "select pg_catalog.query_to_xml('table users', true, true, '')",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_scattered_is_refused_and_never_one_shards_rows() {
    let real = Real::new(|_| {}).await;
    for text in OTHERS {
        match real.ask(text).await {
            Said::Refused(error) => {
                let known = ["0A000", "25006"].contains(&error.code);
                assert!(known, "{text}: {error}");
                assert!(!error.message.is_empty(), "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_to_any_shard_is_the_same_on_all_of_them() {
    let real = Real::new(|_| {}).await;
    let mut oracle = oracle().await;
    for text in [
        "select code, name from countries order by code",
        "select count(*) from pg_catalog.pg_type where typname = 'int8'",
        "select 1 + 1, lower('X')",
        "with c as (select code from countries) select count(*) from c",
        "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where \
         c.relname = 'pg_proc'",
        "select table_name from information_schema.tables where table_name = 'countries'",
    ] {
        assert!(matches!(real.ask(text).await, Said::Piped(_)), "{text}");
        let expected: Vec<String> = oracle
            .rows(text)
            .await
            .into_iter()
            .map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join("|"))
            .collect();
        for shard in 0..real.cluster.shards() {
            let found = real.cluster.standby(shard, 0).script(text).await;
            assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_asks_its_shards_a_few_times() {
    let real = Real::new(|_| {}).await;
    let text = "select user_id, balance from users order by balance desc, user_id limit 5";
    let asked = |_| real.ask(text);
    let replies = futures_util::future::join_all((0..200).map(asked)).await;
    let mut rows = replies.into_iter().map(|said| match said {
        Said::Rows(rows) => rows,
        other => panic!("{other:?}"),
    });
    let first = rows.next().unwrap();
    assert!(first.len() == 5 && rows.all(|rows| rows == first));
    let stats = real.lane.stats();
    assert_eq!(stats.flights.in_flight_flights, 0);
    // Two shards, two loads: the leader's, and the one of all who came after it had begun; and more
    // of them where a load ends before the last reader was asked. Alone they would be 400.
    let firsts = stats.hedges.firsts;
    assert!(firsts <= 80, "{firsts} statements for 200 readers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_past_the_cap_is_nobodys_to_share() {
    let real = Real::new(|config| config.share_max = 10_000).await;
    let one = who(Some(0), "reader", &[]);
    let ask = |text: &'static str| {
        let (real, one) = (&real, Arc::clone(&one));
        async move { real.say(&one, text, &[], &Values::Simple).await }
    };
    let all = "select * from wide";
    let replies = futures_util::future::join_all((0..20).map(|_| ask(all))).await;
    let Said::Rows(first) = &replies[0] else { panic!("{:?}", replies[0]) };
    assert!(!first.is_empty() && replies.iter().all(|said| *said == replies[0]));
    // The one flight's answer was somebody's: nobody was asked for nothing.
    let before = real.lane.stats().hedges.firsts;
    assert_eq!(before, 20);
    let flights = real.lane.stats().flights.leaders;
    assert_eq!(ask(all).await, replies[0]);
    assert_eq!(real.lane.stats().flights.leaders, flights, "it is remembered");
    let Said::Rows(rows) = ask("select * from wide where id <= 10 limit 9").await else { panic!() };
    assert_eq!(rows.len(), 9);
    assert_eq!(real.lane.stats().flights.in_flight_flights, 0);
}
