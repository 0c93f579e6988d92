//! Bytes that are no protocol.

use super::{batch, extended};
use crate::differ::Script;

pub(in crate::differ) fn all() -> Vec<Script> {
    vec![
        Script::new("violation: a frame type that does not exist")
            .loose()
            .as_written_only()
            .send(batch().raw(b'y', b"what"))
            .until_end(),
        Script::new("violation: a length that is too small")
            .as_written_only()
            .send(batch().bare(b"Q\0\0\0\x03"))
            .until_end(),
        Script::new("violation: a length that is absurd")
            .as_written_only()
            .send(batch().bare(b"Q\x7f\xff\xff\xff"))
            .until_end(),
        Script::new("violation: a small frame that is long")
            .as_written_only()
            .send(batch().bare(b"S\0\0\x40\0"))
            .until_end(),
        Script::new("violation: bytes behind a Query's text")
            .ask(batch().raw(b'Q', b"SELECT 1\0more"))
            .query("SELECT 2"),
        Script::new("violation: a Query without its terminator")
            .ask(batch().raw(b'Q', b"SELECT 1"))
            .query("SELECT 2"),
        Script::new("violation: a Parse that is cut short")
            .ask(batch().raw(b'P', b"\0SELECT 1\0\0\x05\0\0").sync())
            .ask(extended("SELECT 1")),
        Script::new("violation: a Bind that is cut short")
            .ask(
                batch()
                    .parse("", "SELECT $1::int4", &[])
                    .raw(b'B', b"\0\0\0\0\0\x01\0\0\0\x09x")
                    .sync(),
            )
            .ask(extended("SELECT 1")),
        Script::new("violation: an Execute that is cut short, a Describe of nothing")
            .ask(batch().raw(b'E', b"\0").sync())
            .ask(batch().raw(b'D', b"").sync())
            .ask(batch().raw(b'D', b"S").sync())
            .ask(batch().raw(b'C', b"").sync())
            .ask(extended("SELECT 1")),
        Script::new("violation: a Sync with a body")
            .ask(batch().raw(b'S', b"body"))
            .query("SELECT 1"),
        behind_fields(),
        Script::new("violation: copy data when nobody copies")
            .send(batch().copy_data(b"1\t2\n").copy_done().copy_fail("x"))
            .query("SELECT 1"),
        Script::new("violation: a password when nobody asks")
            .loose()
            .as_written_only()
            .send(batch().raw(b'p', b"secret\0"))
            .until_end(),
        Script::new("violation: the connection is cut inside a frame")
            .query("SELECT 1")
            .send(batch().bare(b"Q\0\0\0\x20SELECT"))
            .half_close()
            .until_end(),
        Script::new("violation: a startup packet in the middle")
            .loose()
            .as_written_only()
            .query("SELECT 1")
            .send(batch().bare(&[0, 0, 0, 8, 4, 210, 22, 47]))
            .until_end(),
    ]
}

/// A byte too much in each of the messages of a query that may be shared.
fn behind_fields() -> Script {
    let text = "SELECT label FROM items WHERE id = 7";
    let bound = || batch().parse("", text, &[]).bind("", "", (0, &[]), 0);
    let parse = [b"\0", text.as_bytes(), b"\0\0\0!"].concat();
    Script::new("violation: bytes behind the fields of a query's messages")
        .ask(batch().raw(b'Q', format!("{text}\0!").as_bytes()))
        .ask(batch().raw(b'P', &parse).bind("", "", (0, &[]), 0).execute("").sync())
        .ask(batch().parse("", text, &[]).raw(b'B', b"\0\0\0\0\0\0\0\0!").execute("").sync())
        .ask(bound().raw(b'D', b"P\0!").execute("").sync())
        .ask(bound().raw(b'D', b"?\0").execute("").sync())
        .ask(bound().raw(b'E', b"\0\0\0\0\0!").sync())
        .ask(bound().execute("").raw(b'C', b"P\0!").sync())
        .ask(batch().parse("", text, &[]).raw(b'D', b"S\0!").sync())
        .ask(bound().describe(b'P', "").execute("").raw(b'S', b"!"))
        .ask(bound().describe(b'P', "").execute("").sync())
        .query(text)
}
