//! Scripts that nobody wrote: random walks over what a client may say.

use super::dice::Dice;
use super::script::Script;
use crate::batch::Batch;

const STEPS_MAX: u64 = 14;
const NAMES: [&str; 3] = ["", "s", "t"];
const TEXTS: [&str; 16] = [
    "SELECT 1",
    "SELECT id, label FROM items WHERE id < 4 ORDER BY id",
    "SELECT count(*) FROM items",
    "SELECT 1 / 0",
    "SELECT oops",
    "SELECT fail_at(n, 3) FROM generate_series(1, 4) n",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SET TimeZone = 'Asia/Tokyo'",
    "SHOW TimeZone",
    "",
    "DEALLOCATE s",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "SELECT count(*) FROM pg_prepared_statements",
];
const STRINGS: [&str; 10] = [
    "SELECT 1; SELECT 2",
    "BEGIN; SELECT 1",
    "SELECT 1; SELECT 1 / 0; SELECT 2",
    "SET TimeZone = 'Europe/Paris'; SHOW TimeZone",
    "DISCARD ALL",
    "DEALLOCATE ALL",
    "COPY (SELECT 1) TO STDOUT",
    "DEALLOCATE t; SELECT 1 / 0",
    "EXECUTE s",
    "RESET TimeZone",
];

/// A script made from `seed`, for any server: it writes nothing.
///
/// Every statement it prepares, binds, runs and closes has one of a few names, and many of its
/// steps are errors: what must be equal is how a server finds its way back.
pub fn random(seed: u64) -> Script {
    let mut dice = Dice(seed);
    let mut script = Script::new(format!("random {seed}"));
    for _ in 0..=dice.roll(STEPS_MAX) {
        let batch = match dice.roll(5) {
            0 => Batch::new().query(dice.pick(&STRINGS)),
            1 => Batch::new().query(dice.pick(&TEXTS)),
            _ => extended(&mut dice),
        };
        script = match dice.roll(3) {
            // An error may swallow a Query's answer: only what ends in Sync can be waited for.
            0 => script.send(batch),
            _ => script.send(batch).ask(Batch::new().sync()),
        };
    }
    // Whatever is open is closed, and the last Sync is answered behind everything else.
    script.send(Batch::new().sync().query("ROLLBACK").query("SELECT 'end'"))
}

fn extended(dice: &mut Dice) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..=dice.roll(6) {
        let (statement, portal) = (dice.pick(&NAMES), dice.pick(&NAMES));
        batch = match dice.roll(12) {
            0 | 1 => batch.parse(statement, dice.pick(&TEXTS), &[]),
            2 | 3 => batch.bind(portal, statement, (0, &[]), 0),
            4 => batch.describe(b'S', statement),
            5 => batch.describe(b'P', portal),
            6 => batch.execute(portal),
            7 => batch.execute_some(portal, 2),
            8 => batch.close(b'S', statement),
            9 => batch.close(b'P', portal),
            10 if dice.roll(4) == 0 => batch.call(177, 0, &[b"40", b"2"]),
            10 if dice.roll(4) == 0 => batch.flush(),
            10 => batch.sync(),
            _ => batch.statement(dice.pick(&TEXTS), &[]),
        };
    }
    batch
}
