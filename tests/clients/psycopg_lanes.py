"""What applications do through psycopg 3 beyond reading, on one server; prints what came back.

Usage: psycopg_lanes.py PORT, or PORT reads for point reads alone, as the driver comes

The tests run it against PostgreSQL and against sortie in front of the same server: both must
print the same. It leaves the tables as it found them.
"""

import asyncio
import logging
import sys
import threading
import time

import psycopg
from psycopg import pq
from psycopg.rows import namedtuple_row


def show(title, value):
    print(f"{title}: {value!r}")


def state(connection):
    return connection.info.transaction_status.name


def failing(title, run):
    try:
        run()
        show(title, "no error")
    except psycopg.Error as error:
        show(title, (type(error).__name__, error.sqlstate, error.diag.message_primary))


def transactions(connection):
    connection.execute("DELETE FROM marks")
    connection.commit()
    connection.execute("INSERT INTO marks VALUES (1, 10, 'a')")
    show("in a transaction", state(connection))
    connection.rollback()
    show("rolled back", connection.execute("SELECT count(*) FROM marks").fetchone())
    connection.commit()
    with connection.transaction():
        connection.execute("INSERT INTO marks VALUES (1, 10, 'a')")
        failing("inner", lambda: inner(connection))
        show("savepoint kept the outer", connection.execute("SELECT id FROM marks").fetchall())
    with connection.transaction(force_rollback=True):
        connection.execute("DELETE FROM marks")
    show("committed", connection.execute("SELECT * FROM marks").fetchall())
    connection.commit()
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    show("level", connection.execute("SHOW transaction_isolation").fetchone())
    failing("read only", lambda: connection.execute("DELETE FROM marks"))
    show("failed", state(connection))
    connection.rollback()
    connection.isolation_level = connection.read_only = None


def inner(connection):
    with connection.transaction():
        connection.execute("INSERT INTO marks VALUES (2, 20, 'b')")
        connection.execute("INSERT INTO marks VALUES (3, -1, 'c')")


def server_cursors(connection):
    with connection.cursor("reader") as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT id, label FROM items WHERE id <= %s ORDER BY id", (40,))
        show("server cursor", [row[0] for row in cursor])
    with connection.cursor("scroller", scrollable=True) as cursor:
        cursor.execute("SELECT id FROM items ORDER BY id")
        show("some", cursor.fetchmany(3))
        cursor.scroll(100)
        show("scrolled", cursor.fetchone())
        cursor.scroll(-50)
        show("back", cursor.fetchone())
    with connection.cursor("kept", withhold=True) as cursor:
        cursor.execute("SELECT id FROM items WHERE id < 10 ORDER BY id")
        connection.commit()
        show("held", cursor.fetchall())
    connection.commit()
    with connection.cursor(binary=True) as cursor:
        stream = cursor.stream("SELECT n, n::numeric / 2 FROM generate_series(1, 5) n")
        show("stream", list(stream))
    connection.commit()


def pipelines(connection):
    connection.execute("DELETE FROM marks")
    connection.commit()
    with connection.pipeline() as pipeline:
        with connection.cursor() as cursor:
            rows = [(n, n * 10) for n in range(50)]
            cursor.executemany("INSERT INTO marks VALUES (%s, %s)", rows)
        pipeline.sync()
        one = connection.execute("SELECT count(*) FROM marks")
        two = connection.execute("SELECT sum(value) FROM marks")
        show("pipeline", (one.fetchone(), two.fetchone()))
    connection.commit()

    def broken():
        with connection.pipeline():
            connection.execute("SELECT 1")
            connection.execute("SELECT 1 / 0")
            connection.execute("SELECT 2")

    failing("an error in a pipeline", broken)
    show("after it", state(connection))
    connection.rollback()
    with connection.pipeline(), connection.transaction():
        connection.execute("DELETE FROM marks WHERE id > %s", (5,))
    show("kept", connection.execute("SELECT count(*) FROM marks").fetchone())
    connection.commit()


def copies(connection):
    connection.execute("DELETE FROM marks")
    with connection.cursor() as cursor:
        with cursor.copy("COPY marks FROM STDIN") as copy:
            for n in range(1000):
                copy.write_row((n, n, None if n % 3 else "x\ty"))
        show("copied in", (cursor.rowcount, cursor.statusmessage))
        with cursor.copy("COPY (SELECT * FROM marks WHERE id < 5 ORDER BY id) TO STDOUT") as copy:
            show("copied out", b"".join(copy))
        three = "SELECT id, note FROM marks WHERE id < 3 ORDER BY id"
        with cursor.copy(f"COPY ({three}) TO STDOUT (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "text"])
            show("binary out", list(copy.rows()))
        with cursor.copy("COPY marks FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "int4", "text"])
            copy.write_row((5000, 1, "é"))
        show("binary in", connection.execute("SELECT * FROM marks WHERE id = 5000").fetchall())
    connection.commit()

    def given_up():
        with connection.cursor().copy("COPY marks FROM STDIN") as copy:
            copy.write_row((6000, 1, None))
            raise psycopg.DataError("changed my mind")

    failing("given up", given_up)
    connection.rollback()

    def bad_line():
        with connection.cursor().copy("COPY marks FROM STDIN") as copy:
            copy.write("7000\tx\t\\N\n")

    failing("a bad line", bad_line)
    connection.rollback()
    show("left", connection.execute("SELECT count(*) FROM marks").fetchone())
    connection.execute("DELETE FROM marks")
    connection.commit()


def prepared(connection):
    for turn in range(8):
        cursor = connection.execute("SELECT label FROM items WHERE id = %s", (turn + 1,))
        show("prepared by use", cursor.fetchone())
    connection.commit()
    names = "SELECT count(*) FROM pg_prepared_statements"
    show("prepared", connection.execute(names, prepare=False).fetchone())
    connection.commit()
    kept = connection.execute("SELECT price FROM items WHERE id = %s", (3,), prepare=True)
    show("prepared now", kept.fetchall())
    connection.rollback()
    connection.execute("DEALLOCATE ALL")
    connection.commit()
    show("again", connection.execute("SELECT label FROM items WHERE id = %s", (9,)).fetchone())
    connection.commit()


def sessions(connection):
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    connection.autocommit = True
    connection.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
    show("notices", notices)
    connection.execute("SET TimeZone = 'Asia/Tokyo'")
    show("zone", connection.info.parameter_status("TimeZone"))
    moment = connection.execute("SELECT '2024-02-29 12:00+00'::timestamptz").fetchone()[0]
    show("moment", moment.isoformat())
    connection.execute("CREATE TEMP TABLE mine AS SELECT * FROM items WHERE id < 4")
    show("temporary", connection.execute("SELECT count(*) FROM mine").fetchone())
    connection.execute("LISTEN clients")
    connection.execute("NOTIFY clients, 'one'")
    connection.execute("SELECT pg_notify('clients', 'two')")
    heard = [(n.channel, n.payload) for n in connection.notifies(timeout=5, stop_after=2)]
    show("heard", heard)
    connection.execute("DISCARD ALL")
    failing("discarded", lambda: connection.execute("SELECT count(*) FROM mine"))
    connection.autocommit = False


def cancels(connection):
    def cancel():
        time.sleep(0.3)
        connection.cancel_safe(timeout=10)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    failing("cancelled", lambda: connection.execute("SELECT pg_sleep(20)"))
    canceller.join()
    connection.rollback()
    show("usable", connection.execute("SELECT 1").fetchone())
    connection.commit()


async def concurrent(target):
    async def one(number):
        async with await psycopg.AsyncConnection.connect(target) as connection:
            total = 0
            for id in range(number, number + 20):
                cursor = await connection.execute("SELECT id FROM items WHERE id = %s", (id,))
                total += (await cursor.fetchone())[0]
                await connection.commit()
            return total

    show("concurrent", await asyncio.gather(*(one(number) for number in range(1, 25))))


def main():
    # How far a broken pipeline had come is a matter of timing, and psycopg tells it.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    target = f"host=127.0.0.1 port={sys.argv[1]} user=tester dbname=postgres"
    with psycopg.connect(target, row_factory=namedtuple_row) as connection:
        if sys.argv[2:]:
            for id in range(1, 21):
                connection.execute("SELECT label FROM items WHERE id = %s", (id,))
                connection.commit()
            return
        show("pipelines are possible", pq.version() >= 140000)
        for part in (transactions, server_cursors, pipelines, copies, prepared, sessions, cancels):
            part(connection)
            show(part.__name__, state(connection))
    asyncio.run(concurrent(target))


if __name__ == "__main__":
    main()
