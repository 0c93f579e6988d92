//! Several batches on their way at once.

#![expect(clippy::too_many_lines, reason = "a list of scripts has no parts")]

use super::batch;
use crate::batch::Batch;
use crate::differ::Script;

const POINT: &str = "SELECT label FROM items WHERE id = $1::int4";

pub(in crate::differ) fn all() -> Vec<Script> {
    vec![
        Script::new("pipeline: ten statements, each with its Sync").ask(points(1..=10)),
        Script::new("pipeline: ten statements, one Sync")
            .ask((1..=10).fold(batch(), |batch, id: u32| point(batch, id)).sync()),
        Script::new("pipeline: an error at each position").ask((0..6).fold(
            batch(),
            |all, bad: u32| {
                let run = (0..6).fold(all, |batch, at| {
                    let text = if at == bad { "SELECT 1 / 0" } else { "SELECT 1" };
                    batch.statement(text, &[])
                });
                run.sync()
            },
        )),
        Script::new("pipeline: errors between batches that work").ask(
            points(1..=2)
                .statement("SELECT oops", &[])
                .sync()
                .then(&points(3..=4))
                .statement("SELECT 1 / 0", &[])
                .sync()
                .then(&points(5..=6)),
        ),
        Script::new("pipeline: simple and extended in turns").ask(
            batch()
                .query("SELECT 1")
                .then(&points(1..=1))
                .query("SELECT 2; SELECT oops")
                .then(&points(2..=2))
                .query("SELECT 3"),
        ),
        Script::new("pipeline: a transaction in one write").ask(
            batch()
                .statement("BEGIN", &[])
                .sync()
                .then(&points(1..=3))
                .statement("SELECT 1 / 0", &[])
                .sync()
                .then(&points(4..=5))
                .statement("ROLLBACK", &[])
                .sync()
                .then(&points(6..=6)),
        ),
        Script::new("pipeline: an implicit transaction over several statements")
            .writing("TRUNCATE marks")
            .ask(
                batch()
                    .statement("INSERT INTO marks VALUES (1, 1)", &[])
                    .statement("SELECT count(*) FROM marks", &[])
                    .statement("INSERT INTO marks VALUES (1, 1)", &[])
                    .sync()
                    .statement("SELECT count(*) FROM marks", &[])
                    .sync(),
            ),
        Script::new("pipeline: BEGIN in the middle of an implicit transaction").ask(
            batch()
                .statement("SELECT 1", &[])
                .statement("BEGIN", &[])
                .statement("SELECT 2", &[])
                .sync()
                .statement("SELECT 3", &[])
                .statement("COMMIT", &[])
                .statement("SELECT 4", &[])
                .sync(),
        ),
        Script::new("pipeline: settings among reads").ask(
            batch()
                .statement("SET TimeZone = 'Asia/Tokyo'", &[])
                .sync()
                .statement("SELECT '2024-02-29 12:00+00'::timestamptz", &[])
                .sync()
                .statement("SET TimeZone = 'UTC'", &[])
                .sync()
                .statement("SELECT '2024-02-29 12:00+00'::timestamptz", &[])
                .sync(),
        ),
        Script::new("pipeline: named statements prepared, run and closed in one write").ask(
            batch()
                .parse("a", POINT, &[])
                .parse("b", "SELECT 'b'", &[])
                .bind("", "a", (0, &[Some(b"1")]), 0)
                .execute("")
                .sync()
                .bind("", "b", (0, &[]), 0)
                .execute("")
                .close(b'S', "a")
                .sync()
                .bind("", "a", (0, &[Some(b"1")]), 0)
                .execute("")
                .sync()
                .bind("", "b", (0, &[]), 0)
                .execute("")
                .sync(),
        ),
        Script::new("pipeline: two batches behind one that is slow").ask(
            batch()
                .statement("SELECT pg_sleep(0.05)", &[])
                .sync()
                .then(&points(1..=2))
                .query("SELECT 3"),
        ),
        Script::new("pipeline: Flush inside, Syncs behind")
            .send(point(batch(), 1).flush().then(&point(batch(), 2)).flush())
            .until(b'C', 2)
            .ask(point(batch(), 3).sync().then(&points(4..=5))),
        Script::new("pipeline: two hundred batches").ask(points(1..=200)),
        Script::new("pipeline: Terminate behind the last batch")
            .send(points(1..=3).terminate())
            .until_end(),
        Script::new("pipeline: Terminate in the middle of a batch")
            .send(point(batch(), 1).flush().then(&point(batch(), 2)).terminate())
            .until_end(),
        Script::new("pipeline: the sending half is closed behind the last batch")
            .send(points(1..=3))
            .half_close()
            .until_end(),
    ]
}

fn point(batch: Batch, id: u32) -> Batch {
    batch.statement(POINT, &[Some(id.to_string().as_bytes())])
}

fn points(ids: std::ops::RangeInclusive<u32>) -> Batch {
    ids.fold(batch(), |batch, id| point(batch, id).sync())
}
