//! Sessions that share connections, beside sessions that have one each: a client sees no
//! difference.
//!
//! The server is a model: it knows parameters, prepared statements, transactions and errors, and
//! answers frames with the types of its own.

use bytes::BytesMut;
use proptest::prelude::*;
use sortie_postgres::backend::Status;
use sortie_testkit::Batch;

use self::model::{Answer, Model};
use super::*;
use crate::relay::frames;
use crate::relay::homes::Homes;
use crate::relay::ledger::Ledger;

mod model;

/// A connection of the pool.
#[derive(Debug, Default)]
struct Place {
    model: Model,
    residue: Option<sortie_postgres::Residue>,
    held_by: Option<usize>,
}

/// A session in front of the pool, and its own server without one.
#[derive(Debug)]
struct Pair {
    ledger: Ledger<()>,
    homes: Homes<usize>,
    course: Course<()>,
    holds: Option<usize>,
    alone: Model,
}

impl Pair {
    fn new() -> Self {
        Self {
            ledger: Ledger::new(),
            homes: Homes::new(),
            course: Course::new(),
            holds: None,
            alone: Model::default(),
        }
    }

    /// Sends a batch by both ways, on the place `wish` if the session holds none and it is free.
    fn ask(&mut self, me: usize, places: &mut [Place], wish: usize, batch: &Batch) {
        let mut expected = Vec::new();
        self.alone.take(batch.bytes(), &mut expected);
        let mut out = BytesMut::new();
        let at = self.holds.unwrap_or_else(|| {
            let free = |at: &usize| places[*at].held_by.is_none();
            let at = Some(wish).filter(free).or_else(|| (0..places.len()).find(free)).unwrap();
            let found = self.homes.arrive(at, places[at].residue.take());
            let (here, replay) = self.ledger.arrive(found, &mut out);
            self.course.begin(here, replay);
            places[at].held_by = Some(me);
            at
        });
        self.holds = Some(at);
        let place = &mut places[at];
        let (mut rest, mut seen) = (batch.bytes(), Vec::new());
        while let Ok(Some(head)) = frames::head(rest) {
            let (frame, behind) = rest.split_at(head.len);
            rest = behind;
            let waits = |me: &Self, status| me.course.must_wait(&me.ledger, frame, status);
            if waits(self, place.model.status()) {
                self.hear(place, &mut out, &mut seen);
                assert!(!waits(self, place.model.status()), "nothing is under way");
            }
            self.course.send(&mut self.ledger, frame, place.model.status(), &mut out);
        }
        let sent = out.clone();
        self.hear(place, &mut out, &mut seen);
        assert_eq!(seen, expected, "{batch:?} became {sent:?}");
        assert!(self.course.is_clear());
        if place.model.status() == Status::Idle && self.ledger.dirty().is_none() {
            place.residue = self.homes.mark(self.course.here.flags(), place.residue);
            self.homes.keep(at, place.residue, self.course.end());
            place.held_by = None;
            self.holds = None;
        }
    }

    /// What was sent reaches the server, and its answers come.
    fn hear(&mut self, place: &mut Place, out: &mut BytesMut, seen: &mut Vec<Answer>) {
        let mut answers = Vec::new();
        place.model.take(&out.split(), &mut answers);
        for (tag, text) in answers {
            let status = match (tag, text.as_str()) {
                (b'Z', "Idle") => Some(Status::Idle),
                (b'Z', "Transaction") => Some(Status::Transaction),
                (b'Z', _) => Some(Status::Failed),
                _ => None,
            };
            if let Heard::Pass = self.course.hear(&mut self.ledger, tag, true, status) {
                seen.push((tag, text));
            }
        }
    }
}

fn text() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "select 1",
        "select 1",
        "set a = 1",
        "set a = 2",
        "set b = 1",
        "reset a",
        "reset all",
        "begin",
        "commit",
        "rollback",
        "create temp table t (a int)",
        "broken",
    ])
}

/// What no rollback takes back: drivers send it in a batch of its own.
fn lasting() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["discard all", "deallocate x"])
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "x", "y"])
}

/// One message of an extended batch.
fn message() -> impl Strategy<Value = Batch> {
    let run = |name: &str, batch: Batch| batch.bind("", name, (0, &[]), 0).execute("");
    prop_oneof![
        3 => (name(), text()).prop_map(|(name, text)| Batch::new().parse(name, text, &[])),
        3 => name().prop_map(move |name| run(name, Batch::new())),
        2 => (name(), text()).prop_map(move |(name, text)| {
            run(name, Batch::new().parse(name, text, &[]))
        }),
        1 => name().prop_map(|name| Batch::new().close(b'S', name)),
    ]
}

/// Several batches in one write, some of them without their Sync: what fails takes along what
/// comes before the next one, Queries included.
fn pipeline() -> impl Strategy<Value = Vec<u8>> {
    let text = || prop::sample::select(vec!["select 1", "set a = 1", "reset a", "broken"]);
    let run = |name: &str, batch: Batch| batch.bind("", name, (0, &[]), 0).execute("");
    let message = prop_oneof![
        3 => (name(), text()).prop_map(|(name, text)| Batch::new().parse(name, text, &[])),
        3 => name().prop_map(move |name| run(name, Batch::new())),
        1 => name().prop_map(|name| Batch::new().close(b'S', name)),
        3 => text().prop_map(|text| Batch::new().query(text)),
        1 => lasting().prop_map(|text| Batch::new().query(text)),
        1 => prop::sample::select(vec!["deallocate x", "DEALLOCATE ALL"])
            .prop_map(move |text| run("", Batch::new().parse("", text, &[]))),
        3 => Just(Batch::new().sync()),
    ];
    prop::collection::vec(message, 1..12).prop_map(|messages| {
        let frames = messages.iter().flat_map(|message| message.bytes().to_vec());
        frames.chain(Batch::new().sync().bytes().to_vec()).collect()
    })
}

fn batch() -> impl Strategy<Value = Vec<u8>> {
    let extended = prop::collection::vec(message(), 1..4).prop_map(|messages| {
        let frames = messages.iter().flat_map(|message| message.bytes().to_vec());
        frames.chain(Batch::new().sync().bytes().to_vec()).collect()
    });
    let simple = prop_oneof![9 => text(), 1 => lasting()]
        .prop_map(|text| Batch::new().query(text).bytes().to_vec());
    let alone = lasting().prop_map(|text| {
        let batch = Batch::new().parse("z", text, &[]).bind("", "z", (0, &[]), 0).execute("");
        batch.close(b'S', "z").sync().bytes().to_vec()
    });
    prop_oneof![5 => extended, 5 => simple, 1 => alone, 3 => pipeline()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_session_that_changes_connections_is_as_one_that_has_its_own(
        turns in prop::collection::vec((0..3_usize, 0..4_usize, batch()), 1..40),
    ) {
        let mut pairs = [Pair::new(), Pair::new(), Pair::new()];
        let mut places: Vec<Place> = (0..4).map(|_| Place::default()).collect();
        for (who, wish, frames) in turns {
            // In a transaction that has failed nothing can be prepared here, so a second Parse of a
            // name is not found out: the one thing that a client may see.
            let batch = match pairs[who].alone.status() {
                Status::Failed => Batch::new().query("rollback"),
                _ => Batch::new().bare(&frames),
            };
            pairs[who].ask(who, &mut places, wish, &batch);
        }
    }
}

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
