//! What PostgreSQL 15.18 answers to the same bytes, written down from a run of it; where a
//! statement reads, its table is ours.

use super::*;

#[tokio::test]
async fn a_text_of_statements_is_answered_in_order() {
    let sql = format!("{READ}; BEGIN; {READ}; COMMIT; {READ}");
    check(
        &[],
        &[
            (
                &[query(&sql)],
                "T D1 C[SELECT 1] C[BEGIN] T D1 C[SELECT 1] C[COMMIT] T D1 C[SELECT 1] ZI",
            ),
            (&[query("")], "I ZI"),
            (&[query(" ; ;")], "I ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn transactions_have_a_status() {
    check(
        &[Act::Rows(1), Act::Fail("42703")],
        &[
            (&[query("rollback")], "N[WARNING 25P01] C[ROLLBACK] ZI"),
            (&[query("commit")], "N[WARNING 25P01] C[COMMIT] ZI"),
            (&[query("begin; begin")], "C[BEGIN] N[WARNING 25001] C[BEGIN] ZT"),
            (&[query("start transaction")], "N[WARNING 25001] C[START TRANSACTION] ZT"),
            (&[query("commit and chain")], "C[COMMIT] ZT"),
            (&[query("rollback and chain")], "C[ROLLBACK] ZT"),
            (&[query(&format!("{READ}; {READ}"))], "T D1 C[SELECT 1] E[ERROR 42703] ZE"),
            (&[query(READ)], "E[ERROR 25P02] ZE"),
            (&[query("begin")], "E[ERROR 25P02] ZE"),
            (&[query("selec")], "E[ERROR 42601] ZE"),
            (&[query("")], "I ZE"),
            (&[query("selec 1; commit")], "E[ERROR 42601] ZE"),
            (&[query(&format!("{READ}; commit"))], "E[ERROR 25P02] ZE"),
            (&[query("commit")], "C[ROLLBACK] ZI"),
            (&[query("commit and chain")], "E[ERROR 25P01] ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_error_ends_the_text_and_undoes_what_it_set() {
    check(
        &[Act::Fail("58030")],
        &[
            (
                &[query(&format!("set application_name = 'x'; {READ}; commit"))],
                "C[SET] E[ERROR 58030] ZI",
            ),
            (&[query("show application_name")], "T D C[SHOW] ZI"),
            (
                &[query("set application_name = 'y'; show APPLICATION_NAME")],
                "C[SET] T Dy C[SHOW] S[application_name=y] ZI",
            ),
            (
                &[query("begin; set application_name = 'z'; rollback")],
                "C[BEGIN] C[SET] C[ROLLBACK] ZI",
            ),
            (
                &[query("begin; set local application_name = 'z'; show application_name; commit")],
                "C[BEGIN] C[SET] T Dz C[SHOW] C[COMMIT] ZI",
            ),
            (&[query("set local application_name = 'z'")], "N[WARNING 25P01] C[SET] ZI"),
            (&[query("reset application_name")], "C[RESET] S[application_name=] ZI"),
            (
                &[query("begin; set application_name = 'a'")],
                "C[BEGIN] C[SET] S[application_name=a] ZT",
            ),
            (&[query("set application_name = 'b'")], "C[SET] S[application_name=b] ZT"),
            (&[query("rollback")], "C[ROLLBACK] S[application_name=] ZI"),
            (&[query("show nope")], "E[ERROR 42704] ZI"),
            (&[query("set nope = 1")], "E[ERROR 42704] ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_syntax_error_anywhere_runs_nothing() {
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.login().await;
    let sql = format!("{READ}; selec 1");
    assert_eq!(client.ask(&[query(&sql)]).await, "E[ERROR 42601] ZI");
    assert!(endpoint.script.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_error_points_into_the_whole_text() {
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.login().await;
    client.send(&encoded(&[query("show TimeZone; select nope from users")])).await;
    let error = loop {
        if let ('E', body) = client.frame().await.unwrap() {
            break body;
        }
    };
    assert!(error.windows(4).any(|field| field == b"P23\0"), "{error:?}");
}

#[tokio::test]
async fn warnings_can_be_switched_off() {
    check(
        &[],
        &[
            (&[query("set client_min_messages = error")], "C[SET] ZI"),
            (&[query("commit")], "C[COMMIT] ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_session_knows_who_it_is() {
    check(
        &[],
        &[
            (&[query("select 1")], "T D1 C[SELECT 1] ZI"),
            (&[query("select current_user")], "T Dalice C[SELECT 1] ZI"),
            (&[query("select current_database()")], "T Dbank C[SELECT 1] ZI"),
            (&[query("discard all")], "C[DISCARD ALL] ZI"),
            (&[query("begin; discard all")], "C[BEGIN] E[ERROR 25001] ZE"),
        ],
    )
    .await;
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.login().await;
    let transcript = client.ask(&[query("select version()")]).await;
    assert!(transcript.contains("PostgreSQL 15.0 (sortie "), "{transcript}");
    let transcript = client.ask(&[query("show all")]).await;
    assert!(transcript.ends_with("C[SHOW] ZI"), "{transcript}");
}

#[tokio::test]
async fn broken_texts_cost_one_message() {
    check(
        &[],
        &[
            (
                &[Frontend::Query { text: Bytes::from_static(b"select '\xff'") }],
                "E[ERROR 22021] ZI",
            ),
            (&[query("select 'x")], "E[ERROR 42601] ZI"),
            (&[query(&"show timezone;".repeat(1_001))], "E[ERROR 54000] ZI"),
            (&[query(READ)], "T D1 C[SELECT 1] ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn copy_is_ignored_and_function_calls_are_refused() {
    let copy = [
        Frontend::CopyData(text("x")),
        Frontend::CopyDone,
        Frontend::CopyFail { reason: text("x") },
        query(READ),
    ];
    check(
        &[],
        &[
            (&copy, "T D1 C[SELECT 1] ZI"),
            (&[Frontend::FunctionCall(text("x"))], "E[ERROR 0A000] ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_the_session_is_tells_its_reads_apart() {
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.login().await;
    client.ask(&[query(READ)]).await;
    client.ask(&[query(&format!("set timezone = 'CET'; set statement_timeout = 7; {READ}"))]).await;
    let asked = endpoint.script.asked.lock().unwrap().clone();
    let [(first, formats), (second, _)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((&*first.user, &*first.database), ("alice", "bank"));
    assert!(first.settings.is_empty() && formats.is_empty());
    assert_eq!(*second.settings, [("TimeZone".into(), "CET".into())]);
}
