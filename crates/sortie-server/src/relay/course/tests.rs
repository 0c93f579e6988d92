use bytes::BytesMut;
use sortie_postgres::backend::Status;
use sortie_testkit::Batch;

use super::*;
use crate::relay::frames;
use crate::relay::homes::Homes;
use crate::relay::ledger::Ledger;

mod model;
mod pairs;

fn send(course: &mut Course<()>, ledger: &mut Ledger<()>, batch: &Batch) -> BytesMut {
    let mut out = BytesMut::new();
    let mut rest = batch.bytes();
    while let Ok(Some(head)) = frames::head(rest) {
        let (frame, behind) = rest.split_at(head.len);
        rest = behind;
        course.send(ledger, frame, Status::Idle, &mut out);
    }
    out
}

#[test]
fn a_refused_statement_is_told_in_its_own_words() {
    let (mut course, mut ledger) = (Course::new(), Ledger::<()>::new());
    let mut out = BytesMut::new();
    course.fail(SqlError::unsupported("no"), &mut out);
    assert_eq!(&out[..], Batch::new().query("sortie refuses the statement").bytes());
    let heard = course.hear(&mut ledger, b'E', true, None);
    assert!(matches!(heard, Heard::Replace(error) if error.message.contains("no")));
    let heard = course.hear(&mut ledger, b'Z', true, Some(Status::Failed));
    assert!(matches!(heard, Heard::Pass) && course.is_clear());
}

#[test]
fn a_refusal_is_told_wherever_it_stands_in_a_pipeline() {
    for text in ["set a = 1", "begin", "select 1"] {
        let (mut course, mut ledger) = (Course::new(), Ledger::<()>::new());
        let batch = Batch::new().parse("", text, &[]).bind("", "", (0, &[]), 0).execute("");
        let mut out = send(&mut course, &mut ledger, &batch);
        course.fail_extended(SqlError::unsupported("no"), &mut out);
        send(&mut course, &mut ledger, &Batch::new().statement("select 2", &[]).sync());
        for tag in *b"12C" {
            assert!(matches!(course.hear(&mut ledger, tag, true, None), Heard::Pass));
        }
        let heard = course.hear(&mut ledger, b'E', true, None);
        assert!(matches!(heard, Heard::Replace(error) if error.message.contains("no")), "{text}");
        course.hear(&mut ledger, b'Z', true, Some(Status::Failed));
        assert!(course.is_clear());
    }
}

#[test]
fn a_batch_is_under_way_until_its_sync() {
    let (mut course, mut ledger) = (Course::new(), Ledger::<()>::new());
    let batch = Batch::new().parse("", "select 1", &[]).bind("", "", (0, &[]), 0);
    send(&mut course, &mut ledger, &batch.execute_some("", 1).flush());
    for tag in *b"12s" {
        course.hear(&mut ledger, tag, true, None);
    }
    assert!(course.is_answered() && !course.is_clear());
    send(&mut course, &mut ledger, &Batch::new().sync());
    course.hear(&mut ledger, b'Z', true, Some(Status::Idle));
    assert!(course.is_clear());
}

#[test]
fn a_long_statement_is_known_by_its_name_and_by_nothing_else() {
    let (mut course, mut ledger) = (Course::new(), Ledger::<()>::new());
    send(&mut course, &mut ledger, &Batch::new().parse("a", "select 1", &[]).sync());
    for tag in *b"1Z" {
        course.hear(&mut ledger, tag, true, Some(Status::Idle));
    }
    let begin = Batch::new().parse("", &"x".repeat(2_000), &[]);
    let mut out = BytesMut::new();
    // On another connection it finds what it may use.
    course.begin(Here::default(), Replay::default());
    course.send_unread(&mut ledger, &begin.bytes()[..1_000], Status::Idle, &mut out);
    assert_eq!(&out[..], Batch::new().parse("a", "select 1", &[]).bytes());
    let run = Batch::new().bind("", "", (0, &[]), 0).execute("").sync();
    assert_eq!(&send(&mut course, &mut ledger, &run)[..], run.bytes());
    for tag in *b"112CZ" {
        course.hear(&mut ledger, tag, true, Some(Status::Idle));
    }
    assert_eq!(ledger.dirty(), Some(Reason::Unreadable));
    assert_eq!(&send(&mut course, &mut ledger, &run)[..], run.bytes());
}

#[test]
fn what_can_name_no_statement_has_none_prepared_ahead() {
    let prepared = Batch::new().parse("a", "select 1", &[]);
    for (text, uses) in [
        ("listen x", false),
        ("select pg_advisory_lock(1)", false),
        ("select nextval('s')", false),
        ("insert into t values (1)", false),
        ("load 'x'", false),
        ("do ''", true),
        ("execute a", true),
        ("select unheard_of()", true),
        ("create table t as execute a", true),
    ] {
        let run = Batch::new().parse("", text, &[]).bind("", "", (0, &[]), 0).execute("").sync();
        for batch in [run, Batch::new().query(text)] {
            let (mut course, mut ledger) = (Course::new(), Ledger::<()>::new());
            send(&mut course, &mut ledger, &prepared.clone().sync());
            for tag in *b"1Z" {
                course.hear(&mut ledger, tag, true, Some(Status::Idle));
            }
            course.begin(Here::default(), Replay::default());
            let out = send(&mut course, &mut ledger, &batch);
            let parse = prepared.bytes();
            let is_ahead = out.windows(parse.len()).any(|window| window == parse);
            assert_eq!(is_ahead, uses, "{text}");
            assert_eq!(out.len() > batch.bytes().len(), uses, "{text}");
        }
    }
}

#[test]
fn characteristics_of_a_session_add_up() {
    let (mut course, mut ledger) = (Course::new(), Ledger::<()>::new());
    let modes = ["read only", "isolation level serializable", "read only"];
    for mode in modes {
        let text = format!("set session characteristics as transaction {mode}");
        send(&mut course, &mut ledger, &Batch::new().query(&text));
        course.hear(&mut ledger, b'C', true, None);
        course.hear(&mut ledger, b'Z', true, Some(Status::Idle));
    }
    let mut out = BytesMut::new();
    let (_here, replay) = ledger.arrive(Homes::<usize>::new().arrive(0, None), &mut out);
    let expected = modes[1..].iter().fold(Batch::new(), |batch, mode| {
        batch.query(&format!("set session characteristics as transaction {mode}"))
    });
    assert_eq!((&out[..], replay.queries), (expected.bytes(), 2));
}

#[test]
fn a_discard_cleans_only_what_was_sent_before_it() {
    let (mut course, mut ledger) = (Course::new(), Ledger::<()>::new());
    send(&mut course, &mut ledger, &Batch::new().query("listen a").query("discard all"));
    for _ in 0..2 {
        course.hear(&mut ledger, b'C', true, None);
        course.hear(&mut ledger, b'Z', true, Some(Status::Idle));
    }
    assert_eq!(ledger.dirty(), None);
    send(&mut course, &mut ledger, &Batch::new().query("discard all").query("listen a"));
    for _ in 0..2 {
        course.hear(&mut ledger, b'C', true, None);
        course.hear(&mut ledger, b'Z', true, Some(Status::Idle));
    }
    assert_eq!(ledger.dirty(), Some(Reason::Listen));
}

#[test]
fn nothing_is_kept_of_what_was_not_confirmed() {
    let (mut course, mut ledger) = (Course::new(), Ledger::<()>::new());
    let batch = Batch::new().parse("a", "select 1", &[]).parse("b", "broken", &[]).sync();
    send(&mut course, &mut ledger, &batch);
    course.hear(&mut ledger, b'1', true, None);
    course.hear(&mut ledger, b'E', true, None);
    course.hear(&mut ledger, b'Z', true, Some(Status::Idle));
    assert!(ledger.known(b"a").is_some() && ledger.known(b"b").is_none());
    assert!(course.here.has(b"a") && !course.here.has(b"b"));
}

#[test]
fn statements_beyond_the_bound_are_the_connections_alone() {
    let (mut course, mut ledger) = (Course::new(), Ledger::<()>::new());
    for number in 0..5_000 {
        let parse = Batch::new().parse(&format!("s{number}"), "select 1", &[]);
        send(&mut course, &mut ledger, &parse.sync());
        course.hear(&mut ledger, b'1', true, None);
        course.hear(&mut ledger, b'Z', true, Some(Status::Idle));
        assert_eq!(ledger.dirty().is_some(), number >= 2_000, "{number}");
        assert_eq!(course.is_spoiled(), number > 2_000, "{number}");
    }
    assert_eq!((ledger.names().count(), course.here.names().count()), (2_001, 2_001));
    // What runs them goes out as it is.
    let last = Batch::new().bind("", "s4999", (0, &[]), 0).execute("").sync();
    assert_eq!(send(&mut course, &mut ledger, &last), last.bytes());
    course.hear(&mut ledger, b'2', true, None);
    course.hear(&mut ledger, b'C', true, None);
    course.hear(&mut ledger, b'Z', true, Some(Status::Idle));
    // The unnamed one is known whatever else there is.
    send(&mut course, &mut ledger, &Batch::new().parse("", "discard all", &[]).sync());
    course.hear(&mut ledger, b'1', true, None);
    course.hear(&mut ledger, b'Z', true, Some(Status::Idle));
    send(&mut course, &mut ledger, &Batch::new().bind("", "", (0, &[]), 0).execute("").sync());
    course.hear(&mut ledger, b'2', true, None);
    course.hear(&mut ledger, b'C', true, None);
    course.hear(&mut ledger, b'Z', true, Some(Status::Idle));
    assert_eq!((ledger.dirty(), ledger.names().count()), (None, 1));
}

#[test]
fn more_than_is_remembered_makes_a_session_dirty() {
    let (mut course, mut ledger) = (Course::new(), Ledger::<()>::new());
    for number in 0..200 {
        let set = format!("set a.p{number} = 1");
        send(&mut course, &mut ledger, &Batch::new().query(&set));
        course.hear(&mut ledger, b'C', true, None);
        course.hear(&mut ledger, b'Z', true, Some(Status::Idle));
    }
    assert_eq!(ledger.dirty(), Some(Reason::Bound));
    assert_eq!(course.take_soiled(), [Reason::Bound]);
}

/// A portal of this name is bound, and then run.
fn portal(name: &str, text: &str) -> [Batch; 2] {
    let bound = Batch::new().parse("", text, &[]).bind(name, "", (0, &[]), 0);
    [bound, Batch::new().execute(name).sync()]
}

#[test]
fn a_portal_stays_known_when_what_was_sent_before_it_is_answered() {
    let before = [
        (Batch::new().statement("select 1", &[]).sync(), &b"12TDCZ"[..]),
        (Batch::new().query("select 1"), b"CZ"),
        (Batch::new().sync().sync(), b"ZZ"),
        (Batch::new().parse("", "broken", &[]).query("select 1").sync(), b"EZ"),
    ];
    for (before, answers) in before {
        for name in ["", "p"] {
            let (mut course, mut ledger) = (Course::new(), Ledger::<()>::new());
            let [bound, run] = portal(name, "set a = 1");
            send(&mut course, &mut ledger, &before.clone().then(&bound));
            for tag in answers {
                course.hear(&mut ledger, *tag, true, Some(Status::Idle));
            }
            send(&mut course, &mut ledger, &run);
            for tag in *b"12CZ" {
                course.hear(&mut ledger, tag, true, Some(Status::Idle));
            }
            assert_ne!((ledger.at(), course.here.flags() & 1), (0, 0), "{before:?} {name}");
            assert!(course.is_clear() && course.portals.is_empty(), "{before:?} {name}");
        }
    }
}

#[test]
fn a_portal_is_gone_when_its_own_batch_is_answered_outside_of_a_transaction() {
    for (status, is_kept) in [(Status::Idle, false), (Status::Transaction, true)] {
        let (mut course, mut ledger) = (Course::new(), Ledger::<()>::new());
        let [bound, run] = portal("p", "deallocate all");
        send(&mut course, &mut ledger, &bound.sync().then(&Batch::new().query("select 1")));
        for tag in *b"12Z" {
            course.hear(&mut ledger, tag, true, Some(status));
        }
        assert_eq!(!course.portals.is_empty(), is_kept);
        send(&mut course, &mut ledger, &run);
        assert_eq!(course.expects.iter().any(|it| it.takes(b"x")), is_kept);
    }
}
