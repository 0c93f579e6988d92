//! What PostgreSQL 15.18 answers to the same bytes, written down from a run of it; where a
//! statement reads, its table is ours.

use super::*;
use Frontend::{Flush, Sync};
use Target::{Portal, Statement};

const PARAMETER: &str = "SELECT balance FROM users WHERE user_id = $1";

#[tokio::test]
async fn a_pipelined_batch_is_answered_in_order() {
    check(
        &[Act::Rows(2), Act::Rows(0)],
        &[(
            &[
                parse("", READ),
                bind("", ""),
                describe(Portal, ""),
                execute("", 0),
                parse("s", PARAMETER),
                describe(Statement, "s"),
                bind_to("p", "s", &["7"]),
                execute("p", 0),
                close(Portal, "p"),
                close(Statement, "s"),
                Sync,
            ],
            "1 2 T D1 D2 C[SELECT 2] 1 t T 2 C[SELECT 0] 3 3 ZI",
        )],
    )
    .await;
}

#[tokio::test]
async fn everything_after_an_error_is_skipped_to_the_sync() {
    check(
        &[],
        &[
            (
                &[parse("", "selec"), bind("", ""), query(READ), execute("", 0), Sync],
                "E[ERROR 42601] ZI",
            ),
            (&[query(READ)], "T D1 C[SELECT 1] ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn names_are_looked_up() {
    check(
        &[],
        &[
            (&[parse("a", READ), parse("a", READ), Sync], "1 E[ERROR 42P05] ZI"),
            (&[bind("p", "a"), bind("p", "a"), Sync], "2 E[ERROR 42P03] ZI"),
            (&[bind("", "zz"), Sync], "E[ERROR 26000] ZI"),
            (&[bind("", ""), Sync], "E[ERROR 26000] ZI"),
            (&[execute("zz", 0), Sync], "E[ERROR 34000] ZI"),
            (&[describe(Statement, "zz"), Sync], "E[ERROR 26000] ZI"),
            (&[describe(Portal, "zz"), Sync], "E[ERROR 34000] ZI"),
            (&[close(Statement, "zz"), close(Portal, "zz"), Sync], "3 3 ZI"),
            (&[query("deallocate a")], "C[DEALLOCATE] ZI"),
            (&[query("deallocate a")], "E[ERROR 26000] ZI"),
            (
                &[
                    parse("", "deallocate all"),
                    bind("", ""),
                    execute("", 0),
                    describe(Statement, ""),
                    Sync,
                ],
                "1 2 C[DEALLOCATE ALL] t n ZI",
            ),
            (&[parse("a", READ), Sync], "1 ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_unnamed_statement_ends_with_the_next_one_or_a_query() {
    check(
        &[],
        &[
            (&[parse("", READ), parse("", READ), Sync], "1 1 ZI"),
            (&[bind("", ""), Sync], "2 ZI"),
            (&[parse("", "selec"), Sync], "E[ERROR 42601] ZI"),
            (&[bind("", ""), Sync], "E[ERROR 26000] ZI"),
            (&[parse("", READ), Sync], "1 ZI"),
            (&[query(READ)], "T D1 C[SELECT 1] ZI"),
            (&[bind("", ""), Sync], "E[ERROR 26000] ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn empty_statements_and_several_ones() {
    check(
        &[],
        &[
            (
                &[
                    parse("", ""),
                    bind("", ""),
                    describe(Statement, ""),
                    describe(Portal, ""),
                    execute("", 0),
                    Sync,
                ],
                "1 2 t n n I ZI",
            ),
            (&[parse("", &format!("{READ}; {READ}")), Sync], "E[ERROR 42601] ZI"),
            (&[parse("", &format!("{READ};")), Sync], "1 ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn rows_are_handed_out_in_portions() {
    let run = |portions: &[i32]| {
        let mut batch = vec![parse("", READ), bind("", "")];
        batch.extend(portions.iter().map(|&rows_max| execute("", rows_max)));
        batch.push(Sync);
        batch
    };
    check(
        &[Act::Rows(3), Act::Rows(2), Act::Rows(2)],
        &[
            (&run(&[2, 2, 2]), "1 2 D1 D2 s D3 C[SELECT 1] C[SELECT 0] ZI"),
            (&run(&[2, 2, 0, 0]), "1 2 D1 D2 s C[SELECT 0] C[SELECT 0] C[SELECT 0] ZI"),
            (&run(&[-1]), "1 2 D1 D2 C[SELECT 2] ZI"),
            (
                &[parse("", "show timezone"), bind("", ""), execute("", 1), execute("", 0), Sync],
                "1 2 DUTC s C[SHOW] ZI",
            ),
            (
                &[
                    parse("", "set timezone = 'UTC'"),
                    bind("", ""),
                    execute("", 0),
                    execute("", 0),
                    Sync,
                ],
                "1 2 C[SET] E[ERROR 55000] ZI",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn portals_end_with_their_transaction() {
    check(
        &[Act::Rows(3), Act::Rows(3)],
        &[
            (&[query("begin")], "C[BEGIN] ZT"),
            (&[parse("s", READ), bind("p", "s"), execute("p", 1), Sync], "1 2 D1 s ZT"),
            (&[execute("p", 1), Sync], "D2 s ZT"),
            (&[query("commit")], "C[COMMIT] ZI"),
            (&[execute("p", 1), Sync], "E[ERROR 34000] ZI"),
            (&[bind("p", "s"), execute("p", 1), Sync], "2 D1 s ZI"),
            (&[execute("p", 1), Sync], "E[ERROR 34000] ZI"),
            (&[bind("p", "s"), query("")], "2 I ZI"),
            (&[execute("p", 1), Sync], "E[ERROR 34000] ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_failed_transaction_takes_only_its_end() {
    check(
        &[Act::Fail("58030")],
        &[
            (&[query("begin")], "C[BEGIN] ZT"),
            (&[parse("s", READ), parse("r", "rollback"), Sync], "1 1 ZT"),
            (&[query(READ)], "E[ERROR 58030] ZE"),
            (&[parse("", READ), Sync], "E[ERROR 25P02] ZE"),
            (&[describe(Statement, "s"), Sync], "E[ERROR 25P02] ZE"),
            (&[describe(Statement, "r"), Sync], "t n ZE"),
            (&[bind("", "s"), Sync], "E[ERROR 25P02] ZE"),
            (&[execute("", 0), Sync], "E[ERROR 34000] ZE"),
            (&[parse("", ""), bind("", ""), Sync], "1 E[ERROR 25P02] ZE"),
            (&[bind("", "r"), execute("", 0), Sync], "2 C[ROLLBACK] ZI"),
            (&[parse("", "begin"), bind("", ""), execute("", 0), Sync], "1 2 C[BEGIN] ZT"),
            (
                &[parse("", "commit"), bind("", ""), describe(Portal, ""), execute("", 0), Sync],
                "1 2 n C[COMMIT] ZI",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn portals_of_a_failed_transaction_are_there_and_of_no_use() {
    check(
        &[Act::Rows(3), Act::Fail("58030")],
        &[
            (&[query("begin")], "C[BEGIN] ZT"),
            (
                &[parse("s", READ), parse("r", "rollback"), bind("p", "s"), bind("q", "r"), Sync],
                "1 1 2 2 ZT",
            ),
            (&[bind("x", "s"), execute("p", 1), execute("x", 0), Sync], "2 D1 s E[ERROR 58030] ZE"),
            (&[execute("p", 1), Sync], "E[ERROR 25P02] ZE"),
            (&[execute("x", 1), Sync], "E[ERROR 25P02] ZE"),
            (&[execute("q", 0), Sync], "E[ERROR 25P02] ZE"),
            (&[describe(Portal, "q"), describe(Portal, "p"), Sync], "n E[ERROR 25P02] ZE"),
            (&[bind("q", "r"), Sync], "E[ERROR 42P03] ZE"),
            (&[close(Portal, "q"), bind("q", "r"), execute("q", 0), Sync], "3 2 C[ROLLBACK] ZI"),
            (&[execute("p", 1), Sync], "E[ERROR 34000] ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_batch_is_a_transaction() {
    let set = |last: &[Frontend]| {
        let mut batch = vec![parse("", "set application_name = 'y'"), bind("", ""), execute("", 0)];
        batch.extend_from_slice(last);
        batch
    };
    check(
        &[],
        &[
            (&set(&[parse("", "selec"), Sync]), "1 2 C[SET] E[ERROR 42601] ZI"),
            (&[query("show application_name")], "T D C[SHOW] ZI"),
            (&set(&[Flush, Sync]), "1 2 C[SET] S[application_name=y] ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_bind_must_fit_its_statement() {
    let with = |formats: &[i16], values: &[&str], result_formats: &[i16]| {
        Frontend::Bind(Bind {
            statement: text("a"),
            formats: formats.to_vec(),
            values: values.iter().map(|&value| Some(text(value))).collect(),
            result_formats: result_formats.to_vec(),
            ..Bind::default()
        })
    };
    check(
        &[],
        &[
            (&[parse("a", PARAMETER), Sync], "1 ZI"),
            (&[with(&[], &[], &[]), Sync], "E[ERROR 08P01] ZI"),
            (&[with(&[0, 0], &["1"], &[]), Sync], "E[ERROR 08P01] ZI"),
            (&[with(&[], &["1"], &[0, 0]), Sync], "E[ERROR 08P01] ZI"),
            (&[with(&[], &["1"], &[2]), Sync], "E[ERROR 22023] ZI"),
            (&[with(&[2], &["1"], &[]), Sync], "E[ERROR 22023] ZI"),
            (&[with(&[], &["x"], &[]), Sync], "E[ERROR 22P02] ZI"),
            (&[with(&[], &["1"], &[1]), execute("", 0), Sync], "2 D1 C[SELECT 1] ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn result_formats_reach_the_description_and_the_read() {
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.login().await;
    let binary = Frontend::Bind(Bind { result_formats: vec![1], ..Bind::default() });
    let batch = [parse("", READ), binary, describe(Portal, ""), execute("", 0), Sync];
    client.send(&encoded(&batch)).await;
    let description = loop {
        if let ('T', body) = client.frame().await.unwrap() {
            break body;
        }
    };
    // The name, then: table, column, int8 of eight bytes, no modifier, binary.
    assert_eq!(description[2..], *b"balance\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\x01");
    assert_eq!(endpoint.script.asked.lock().unwrap()[0].1, [1]);
}

#[tokio::test]
async fn statements_and_portals_are_bounded() {
    let limits = Limits {
        statements_max: 2,
        statements_bytes_max: 100,
        portals_max: 2,
        ..Limits::default()
    };
    let mut endpoint = Endpoint::with(&[], limits);
    let mut client = endpoint.login().await;
    for (messages, expected) in [
        (
            &[parse("a", READ), parse("b", READ), parse("c", READ), Sync][..],
            "1 1 E[ERROR 53400] ZI",
        ),
        (&[close(Statement, "b"), Sync], "3 ZI"),
        (&[parse("b", &format!("{READ} AND user_id = 123456789")), Sync], "E[ERROR 53400] ZI"),
        (&[parse("c", READ), Sync], "1 ZI"),
        (&[bind("1", "a"), bind("2", "a"), bind("3", "a"), Sync], "2 2 E[ERROR 53400] ZI"),
        (&[bind("1", "a"), bind("2", "a"), close(Portal, "1"), bind("3", "a"), Sync], "2 2 3 2 ZI"),
        (&[query("deallocate all")], "C[DEALLOCATE ALL] ZI"),
        (&[parse("a", READ), parse("b", READ), Sync], "1 1 ZI"),
    ] {
        assert_eq!(client.ask(messages).await, expected, "{messages:?}");
    }
}

#[tokio::test]
async fn broken_messages_are_told_apart() {
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.login().await;
    for (bytes, expected) in [
        (&b"D\0\0\0\x07xn\0S\0\0\0\x04"[..], "E[ERROR 08P01] ZI"),
        (b"Q\0\0\0\x06hi", "E[ERROR 08P01] ZI"),
        (b"S\0\0\0\x05x", "E[ERROR 08P01] ZI"),
        (b"p\0\0\0\x05x", "E[FATAL 08P01] EOF"),
    ] {
        client.send(bytes).await;
        assert_eq!(client.until('Z').await, expected, "{bytes:?}");
    }
    endpoint.ended().await;
}

#[tokio::test]
async fn the_pieces_in_which_bytes_arrive_change_nothing() {
    let batch = encoded(&[
        parse("s", PARAMETER),
        bind_to("p", "s", &["7"]),
        execute("p", 1),
        Flush,
        execute("p", 0),
        parse("", "selec"),
        Sync,
        query(READ),
    ]);
    let expected = ("1 2 D1 s D2 C[SELECT 1] E[ERROR 42601] ZI", "T D1 C[SELECT 1] ZI");
    for at in 0..batch.len() {
        let mut endpoint = Endpoint::new(&[Act::Rows(2)]);
        let mut client = endpoint.login().await;
        client.send(&batch[..at]).await;
        tokio::task::yield_now().await;
        client.send(&batch[at..]).await;
        let found = (client.until('Z').await, client.until('Z').await);
        assert_eq!((found.0.as_str(), found.1.as_str()), expected, "split at {at}");
        drop(client);
        endpoint.ended().await;
    }
}
