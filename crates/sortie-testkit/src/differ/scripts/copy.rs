//! COPY, both ways.

#![expect(clippy::too_many_lines, reason = "a list of scripts has no parts")]

use super::batch;
use crate::differ::Script;

const EMPTY: &str = "TRUNCATE marks";
const IN: &str = "COPY marks FROM STDIN";
const ALL: &str = "SELECT * FROM marks ORDER BY id";

pub(in crate::differ) fn all() -> Vec<Script> {
    let mut all = out();
    all.extend([
        Script::new("copy: in, text, in pieces")
            .writing(EMPTY)
            .send(batch().query(IN))
            .until(b'G', 1)
            .send(batch().copy_data(b"1\t10\ta\n2\t2"))
            .send(batch().copy_data(b"0\tb\n").copy_data(b"3\t30\t\\N\n").copy_data(b""))
            .send(batch().copy_done())
            .until(b'Z', 1)
            .query(ALL),
        Script::new("copy: in, everything in one write")
            .writing(EMPTY)
            .ask(batch().query(IN).copy_data(b"1\t10\ta\n").copy_done().query(ALL)),
        Script::new("copy: in, nothing")
            .writing(EMPTY)
            .ask(batch().query(IN).copy_done())
            .query(ALL),
        Script::new("copy: in, the end marker of old")
            .writing(EMPTY)
            .ask(batch().query(IN).copy_data(b"1\t10\ta\n\\.\n").copy_done())
            .query(ALL),
        Script::new("copy: in, given up by the client")
            .writing(EMPTY)
            .send(batch().query(IN))
            .until(b'G', 1)
            .send(batch().copy_data(b"1\t10\ta\n").copy_fail("changed my mind"))
            .until(b'Z', 1)
            .query(ALL),
        Script::new("copy: in, a line that cannot be read")
            .writing(EMPTY)
            .send(batch().query(IN))
            .until(b'G', 1)
            .send(batch().copy_data(b"1\t10\ta\nx\t20\tb\n").copy_data(b"3\t30\tc\n").copy_done())
            .until(b'Z', 1)
            .query(ALL),
        Script::new("copy: in, refused before it starts, and the data comes all the same")
            .writing(EMPTY)
            .ask(
                batch()
                    .query("COPY no_such_table FROM STDIN")
                    .copy_data(b"1\t10\ta\n")
                    .copy_done()
                    .query("SELECT 1"),
            ),
        Script::new("copy: in, a broken constraint at the end")
            .writing(EMPTY)
            .ask(batch().query(IN).copy_data(b"1\t-1\ta\n").copy_done())
            .query(ALL),
        Script::new("copy: in, CSV with a header")
            .writing(EMPTY)
            .ask(
                batch()
                    .query("COPY marks FROM STDIN (FORMAT csv, HEADER)")
                    .copy_data(b"id,value,note\n1,10,\"a, b\"\n2,20,\n")
                    .copy_done(),
            )
            .query(ALL),
        Script::new("copy: in, binary")
            .writing(EMPTY)
            .ask(
                batch()
                    .query("COPY marks (id, value) FROM STDIN (FORMAT binary)")
                    .copy_data(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0")
                    .copy_data(b"\0\x02\0\0\0\x04\0\0\0\x01\0\0\0\x04\0\0\0\x0a\xff\xff")
                    .copy_done(),
            )
            .query(ALL),
        Script::new("copy: in, by the extended protocol")
            .writing(EMPTY)
            .send(batch().statement(IN, &[]).flush())
            .until(b'G', 1)
            .send(batch().copy_data(b"1\t10\ta\n").copy_done())
            .ask(batch().sync())
            .query(ALL),
        Script::new("copy: in, by the extended protocol, with an early Sync")
            .writing(EMPTY)
            .send(batch().statement(IN, &[]).sync())
            .until(b'G', 1)
            .send(batch().copy_data(b"1\t10\ta\n").copy_done().sync())
            .until(b'Z', 1)
            .query(ALL),
        Script::new("copy: in, by the extended protocol, with an early Sync, and errors")
            .writing(EMPTY)
            .ask(batch().parse("in", IN, &[]).describe(b'S', "in").sync())
            .send(batch().bind("", "in", (0, &[]), 0).execute("").sync())
            .until(b'G', 1)
            .send(batch().copy_data(b"x\t10\ta\n").copy_done().sync())
            .until(b'Z', 1)
            .ask(batch().parse("in2", IN, &[]).describe(b'S', "in2").sync())
            .send(batch().bind("", "in2", (0, &[]), 0).execute("").sync())
            .until(b'G', 1)
            .send(batch().copy_fail("dropped").sync())
            .until(b'Z', 1)
            .ask(batch().parse("after", ALL, &[]).describe(b'S', "after").sync())
            .ask(batch().bind("", "after", (0, &[]), 0).execute("").sync()),
        Script::new("copy: in, by the extended protocol, given up")
            .writing(EMPTY)
            .send(batch().statement(IN, &[]).flush())
            .until(b'G', 1)
            .send(batch().copy_data(b"1\t10\ta\n").copy_fail("no more").copy_data(b"2\t"))
            .ask(batch().sync())
            .query(ALL),
        Script::new("copy: in, Flush and Sync between the data")
            .writing(EMPTY)
            .send(batch().query(IN))
            .until(b'G', 1)
            .send(batch().copy_data(b"1\t10\ta\n").flush().sync().copy_data(b"2\t20\tb\n"))
            .send(batch().copy_done())
            .until(b'Z', 1)
            .query(ALL),
        Script::new("copy: in, a Query between the data ends it")
            .writing(EMPTY)
            .send(batch().query(IN))
            .until(b'G', 1)
            .send(batch().copy_data(b"1\t10\ta\n").query("SELECT 1"))
            .until(b'Z', 1)
            .query(ALL),
        Script::new("copy: in, twice in one string, with selects around")
            .writing(EMPTY)
            .send(batch().query(&format!("SELECT 1; {IN}; SELECT 2; {IN}; SELECT 3")))
            .until(b'G', 1)
            .send(batch().copy_data(b"1\t10\ta\n").copy_done())
            .until(b'G', 1)
            .send(batch().copy_data(b"2\t20\tb\n").copy_done())
            .until(b'Z', 1)
            .query(ALL),
        Script::new("copy: in, in a transaction that is rolled back")
            .writing(EMPTY)
            .query("BEGIN")
            .ask(batch().query(IN).copy_data(b"1\t10\ta\n").copy_done())
            .query(ALL)
            .query("ROLLBACK")
            .query(ALL),
        Script::new("copy: in, a mebibyte")
            .writing(EMPTY)
            .ask(mebibyte())
            .query("SELECT count(*), sum(length(note)) FROM marks"),
        Script::new("copy: in, left by Terminate")
            .writing(EMPTY)
            .send(batch().query(IN))
            .until(b'G', 1)
            .send(batch().copy_data(b"1\t10\ta\n")),
    ]);
    all
}

fn mebibyte() -> crate::Batch {
    let lines = (1..=1024).fold(batch().query(IN), |batch, id: u32| {
        let line = format!("{id}\t1\t{}\n", "n".repeat(1024));
        batch.copy_data(line.as_bytes())
    });
    lines.copy_done()
}

fn out() -> Vec<Script> {
    let out = "COPY (SELECT id, label FROM items WHERE id < 20 ORDER BY id) TO STDOUT";
    vec![
        Script::new("copy: out, text, CSV and binary")
            .query(out)
            .query(&format!("{out} (FORMAT csv, HEADER)"))
            .query(&format!("{out} (FORMAT binary)")),
        Script::new("copy: out, a whole table").query("COPY items TO STDOUT"),
        Script::new("copy: out, by the extended protocol")
            .ask(batch().statement(out, &[]).sync())
            .ask(batch().statement(out, &[]).statement("SELECT 1", &[]).sync()),
        Script::new("copy: out, an error after some lines")
            .query("COPY (SELECT fail_at(n, 300) FROM generate_series(1, 500) n) TO STDOUT")
            .query("SELECT 1"),
        Script::new("copy: out, in a string with others")
            .query(&format!("SELECT 1; {out}; SELECT 2; {out}"))
            .ask(batch().query(out).query(out).query("SELECT 3")),
        Script::new("copy: out, data that nobody asked for")
            .ask(batch().query(out).copy_data(b"1").copy_done().copy_fail("x").query("SELECT 1")),
        Script::new("copy: out, some mebibytes")
            .query("COPY (SELECT n, repeat('y', 4000) FROM generate_series(1, 1000) n) TO STDOUT"),
    ]
}
