//! What takes two connections: notifications, cancels, locks; and function calls.

#![expect(clippy::too_many_lines, reason = "a list of scripts has no parts")]

use super::{batch, extended};
use crate::differ::Script;

const INT4PL: u32 = 177;
const NO_FUNCTION: u32 = 1;

pub(in crate::differ) fn all() -> Vec<Script> {
    let mut all = notifications();
    all.extend(cancels());
    all.extend([
        Script::new("call: a function, text and binary").ask(
            batch().call(INT4PL, 0, &[b"40", b"2"]).call(
                INT4PL,
                1,
                &[&[0, 0, 0, 40], &[0, 0, 0, 2]],
            ),
        ),
        Script::new("call: errors")
            .ask(batch().call(NO_FUNCTION, 0, &[]))
            .ask(batch().call(INT4PL, 0, &[b"1"]))
            .ask(batch().call(INT4PL, 0, &[b"x", b"2"]))
            .query("SELECT 1"),
        Script::new("call: in a transaction and in a pipeline")
            .query("BEGIN")
            .ask(batch().call(INT4PL, 0, &[b"1", b"1"]).query("SELECT 1").call(
                INT4PL,
                0,
                &[b"2", b"2"],
            ))
            .query("COMMIT"),
        Script::new("lock: advisory, of the session")
            .query("SELECT pg_advisory_lock(4711)")
            .query("SELECT pg_try_advisory_lock(4711)")
            .query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711")
            .query("SELECT pg_advisory_unlock(4711)")
            .query("SELECT pg_advisory_unlock(4711)")
            .query("SELECT pg_advisory_unlock(4711)"),
        Script::new("lock: advisory, of a transaction")
            .query("BEGIN")
            .query("SELECT pg_try_advisory_xact_lock(4712)")
            .query("COMMIT")
            .query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4712"),
        Script::new("lock: of rows and tables")
            .writing("TRUNCATE marks; INSERT INTO marks VALUES (1, 1)")
            .query("BEGIN")
            .query("SELECT * FROM marks FOR UPDATE")
            .query("LOCK TABLE marks IN ACCESS EXCLUSIVE MODE NOWAIT")
            .query("ROLLBACK"),
    ]);
    all
}

fn notifications() -> Vec<Script> {
    vec![
        Script::new("notify: one's own")
            .writing("SELECT 1")
            .query("LISTEN own")
            .query("NOTIFY own, 'hello'")
            .query("BEGIN")
            .query("NOTIFY own, 'later'")
            .query("SELECT 1")
            .query("COMMIT")
            .query("UNLISTEN own")
            .query("NOTIFY own, 'unheard'"),
        Script::new("notify: somebody else's, while idle")
            .writing("SELECT 1")
            .query("LISTEN idle_channel")
            .elsewhere("NOTIFY idle_channel, 'one'")
            .until(b'A', 1)
            .elsewhere("SELECT pg_notify('idle_channel', 'two')")
            .until(b'A', 1)
            .query("SELECT 1"),
        Script::new("notify: somebody else's, inside a transaction, comes at its end")
            .writing("SELECT 1")
            .query("LISTEN held_channel")
            .query("BEGIN")
            .elsewhere("NOTIFY held_channel, 'one'")
            .query("SELECT 1")
            .query("COMMIT")
            .until(b'A', 1),
        Script::new("notify: LISTEN in a transaction that is rolled back")
            .writing("SELECT 1")
            .query("BEGIN")
            .query("LISTEN undone")
            .query("ROLLBACK")
            .elsewhere("NOTIFY undone")
            .query("SELECT pg_listening_channels()"),
        Script::new("notify: by the extended protocol, in a pipeline")
            .writing("SELECT 1")
            .ask(
                batch()
                    .statement("LISTEN piped", &[])
                    .sync()
                    .statement("NOTIFY piped, 'a'", &[])
                    .sync()
                    .statement("SELECT 1", &[])
                    .sync(),
            )
            .elsewhere("NOTIFY piped, 'b'")
            .until(b'A', 1)
            .ask(extended("SELECT pg_listening_channels()"))
            .query("UNLISTEN *"),
        Script::new("notify: a standby and a transaction refuse LISTEN alike")
            .query("BEGIN READ ONLY")
            .query("LISTEN never")
            .query("ROLLBACK"),
    ]
}

fn cancels() -> Vec<Script> {
    vec![
        Script::new("cancel: a simple query")
            .send(batch().query("SELECT pg_sleep(30) /* cancel: simple */"))
            .until_running("cancel: simple")
            .cancel()
            .until(b'Z', 1)
            .query("SELECT 1"),
        Script::new("cancel: in a transaction")
            .query("BEGIN")
            .send(batch().query("SELECT pg_sleep(30) /* cancel: transaction */"))
            .until_running("cancel: transaction")
            .cancel()
            .until(b'Z', 1)
            .query("SELECT 1")
            .query("ROLLBACK")
            .query("SELECT 2"),
        Script::new("cancel: an extended query with others behind it")
            .send(
                batch()
                    .statement("SELECT pg_sleep(30) /* cancel: extended */", &[])
                    .statement("SELECT 1", &[])
                    .sync()
                    .statement("SELECT 2", &[])
                    .sync(),
            )
            .until_running("cancel: extended")
            .cancel()
            .until(b'Z', 2),
        Script::new("cancel: in the middle of rows")
            .send(batch().query(
                "SELECT n, pg_sleep(CASE WHEN n = 2000 THEN 30 ELSE 0 END), repeat('r', 50) \
                 FROM generate_series(1, 3000) n /* cancel: rows */",
            ))
            .until_running("cancel: rows")
            .until(b'D', 1000)
            .cancel()
            .until(b'Z', 1)
            .query("SELECT 1"),
        Script::new("cancel: in the middle of COPY in")
            .writing("TRUNCATE marks")
            .send(batch().query("COPY marks FROM STDIN /* cancel: copy */"))
            .until(b'G', 1)
            .send(batch().copy_data(b"1\t10\ta\n"))
            .until_running("cancel: copy")
            .cancel()
            .send(batch().copy_data(b"2\t20\tb\n").copy_done())
            .until(b'Z', 1)
            .query("SELECT count(*) FROM marks"),
        Script::new("cancel: when nothing runs, nothing happens")
            .query("SELECT 1")
            .cancel()
            .query("SELECT 2"),
        Script::new("cancel: by pg_cancel_backend")
            .send(batch().query("SELECT pg_sleep(30) /* cancel: by another */"))
            .until_running("cancel: by another")
            .elsewhere(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE \
                 '%cancel: by another%' AND pid <> pg_backend_pid()",
            )
            .until(b'Z', 1)
            .query("SELECT 1"),
        Script::new("cancel: the session is terminated by an administrator")
            .as_written_only()
            .query("BEGIN")
            .query("SELECT 1 /* cancel: terminated */")
            .elsewhere(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE \
                 '%cancel: terminated%' AND pid <> pg_backend_pid()",
            )
            .until_end(),
    ]
}
