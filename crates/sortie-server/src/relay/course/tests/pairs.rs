//! Sessions that share connections, beside sessions that have one each: a client sees no
//! difference.
//!
//! The server is a model: it knows parameters, prepared statements, transactions and errors, and
//! answers frames with the types of its own.

use bytes::BytesMut;
use proptest::prelude::*;
use sortie_postgres::backend::Status;
use sortie_testkit::Batch;

use super::model::{Answer, Model};
use super::*;
use crate::relay::frames;
use crate::relay::homes::Homes;
use crate::relay::ledger::Ledger;

/// A connection of the pool.
#[derive(Debug, Default)]
struct Place {
    model: Model,
    /// What the model has said, and nobody has heard.
    answers: Vec<Answer>,
    /// What it said last of itself, if anything was heard.
    said: Option<Status>,
    residue: Option<sortie_postgres::Residue>,
    held_by: Option<usize>,
}

impl Place {
    fn status(&self) -> Status {
        self.said.unwrap_or(Status::Idle)
    }
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
    /// Answers come between its frames where `early` has a bit for that.
    fn ask(&mut self, me: usize, places: &mut [Place], (wish, early): (usize, u64), batch: &Batch) {
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
        let (mut rest, mut seen, mut nth) = (batch.bytes(), Vec::new(), 0);
        while let Ok(Some(head)) = frames::head(rest) {
            let (frame, behind) = rest.split_at(head.len);
            rest = behind;
            let waits = |me: &Self, status| me.course.must_wait(&me.ledger, frame, status);
            if waits(self, place.status()) {
                self.hear(place, &mut out, true, &mut seen);
                assert!(!waits(self, place.status()), "nothing is under way");
            }
            self.course.send(&mut self.ledger, frame, place.status(), &mut out);
            if early >> (nth % u64::BITS) & 1 == 1 {
                self.hear(place, &mut out, false, &mut seen);
            }
            nth += 1;
        }
        let sent = out.clone();
        self.hear(place, &mut out, true, &mut seen);
        assert_eq!(seen, expected, "{batch:?} became {sent:?}");
        assert!(self.course.is_clear());
        if place.status() == Status::Idle && self.ledger.dirty().is_none() {
            place.residue = self.homes.mark(self.course.here.flags(), place.residue);
            self.homes.keep(at, place.residue, self.course.end());
            place.held_by = None;
            self.holds = None;
        }
    }

    /// What was sent reaches the server, and its answers come: those behind its last
    /// `ReadyForQuery` only if they were asked for (`flushed`).
    fn hear(
        &mut self,
        place: &mut Place,
        out: &mut BytesMut,
        flushed: bool,
        seen: &mut Vec<Answer>,
    ) {
        place.model.take(&out.split(), &mut place.answers);
        let ready = place.answers.iter().rposition(|(tag, _)| *tag == b'Z').map_or(0, |at| at + 1);
        let came = if flushed { place.answers.len() } else { ready };
        for (tag, text) in place.answers.drain(..came) {
            let status = match (tag, text.as_str()) {
                (b'Z', "Idle") => Some(Status::Idle),
                (b'Z', "Transaction") => Some(Status::Transaction),
                (b'Z', _) => Some(Status::Failed),
                _ => None,
            };
            place.said = status.or(place.said);
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
        turns in prop::collection::vec((0..3_usize, 0..4_usize, any::<u64>(), batch()), 1..40),
    ) {
        let mut pairs = [Pair::new(), Pair::new(), Pair::new()];
        let mut places: Vec<Place> = (0..4).map(|_| Place::default()).collect();
        for (who, wish, early, frames) in turns {
            // In a transaction that has failed nothing can be prepared here, so a second Parse of a
            // name is not found out: the one thing that a client may see.
            let batch = match pairs[who].alone.status() {
                Status::Failed => Batch::new().query("rollback"),
                _ => Batch::new().bare(&frames),
            };
            pairs[who].ask(who, &mut places, (wish, early), &batch);
        }
    }
}
