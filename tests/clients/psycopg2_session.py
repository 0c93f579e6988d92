"""What applications do through psycopg 2, on one server; prints what came back.

Usage: psycopg2_session.py PORT, or PORT reads for point reads alone, as the driver comes

The tests run it against PostgreSQL and against sortie in front of the same server: both must
print the same. It leaves the tables as it found them.
"""

import datetime
import decimal
import io
import sys
import threading
import time
import uuid

import psycopg2
from psycopg2 import extensions, extras, pool


def show(title, value):
    print(f"{title}: {value!r}")


STATES = {
    extensions.TRANSACTION_STATUS_IDLE: "idle",
    extensions.TRANSACTION_STATUS_ACTIVE: "active",
    extensions.TRANSACTION_STATUS_INTRANS: "in a transaction",
    extensions.TRANSACTION_STATUS_INERROR: "failed",
}


def state(connection):
    return STATES[connection.info.transaction_status]


def failing(title, run):
    try:
        run()
        show(title, "no error")
    except psycopg2.Error as error:
        place = error.diag.statement_position
        show(title, (type(error).__name__, error.pgcode, error.diag.message_primary, place))


def one(connection, statement, values=None):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()


def values(connection):
    extras.register_uuid()
    moment = datetime.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=datetime.timezone.utc)
    many = {
        "int2": -32768, "int4": 2147483647, "int8": -(2**63), "numeric": decimal.Decimal("1.50"),
        "float8": float("inf"), "float4": 1.5, "bool": True, "text": "quo'te \\ é 漢",
        "bytea": b"\x00\xff\\'", "date": datetime.date(1, 1, 1), "timestamptz": moment,
        "timestamp": datetime.datetime(2024, 1, 1), "time": datetime.time(1, 2, 3),
        "interval": datetime.timedelta(days=3, seconds=5),
        "uuid": uuid.UUID("12345678123456781234567812345678"), "jsonb": extras.Json({"a": [1]}),
        "int4[]": [1, None, 3], "text[]": ["a,b", "", 'q"'], "int4range": "[1,5)",
        "inet": "10.0.0.1/8", "numeric(5, 2)": decimal.Decimal("NaN"),
    }
    with connection.cursor() as cursor:
        for kind, value in many.items():
            cursor.execute(f"SELECT CAST(%s AS {kind}) AS it, NULL::{kind} AS nothing", (value,))
            row = cursor.fetchone()
            show(kind, (bytes(row[0]) if kind == "bytea" else row[0],
                        row[1], [column.type_code for column in cursor.description]))
    connection.commit()


def reads(connection):
    for turn in range(8):
        show("point", one(connection, "SELECT * FROM items WHERE id = %s", (turn,)))
    show("state", state(connection))
    connection.commit()
    with connection.cursor(cursor_factory=extras.NamedTupleCursor) as cursor:
        cursor.execute("SELECT id, label FROM items WHERE id = ANY(%s) ORDER BY id", ([5, 2],))
        show("named", cursor.fetchall())
        show("said", (cursor.rowcount, cursor.statusmessage, cursor.query))
    with connection.cursor(cursor_factory=extras.RealDictCursor) as cursor:
        cursor.execute("SELECT id, price FROM items ORDER BY id LIMIT 2")
        show("dictionary", [dict(row) for row in cursor])
    large = one(connection, "SELECT repeat('x', 3000000) || %s", ("y",))[0]
    show("large", (len(large), large[-2:]))
    connection.rollback()
    show("several at once", one(connection, "SELECT 1; SELECT 2, 'last'"))
    connection.rollback()


def failures(connection):
    failing("division", lambda: one(connection, "SELECT 1 / 0"))
    show("state", state(connection))
    failing("after it", lambda: one(connection, "SELECT 1"))
    connection.commit()
    show("committed", state(connection))
    failing("syntax", lambda: one(connection, "SELECT 1 FRO items"))
    connection.rollback()
    failing("no such column", lambda: one(connection, "SELECT nothing FROM items"))
    connection.rollback()
    show("usable", one(connection, "SELECT count(*) FROM items"))
    connection.rollback()


def transactions(connection):
    with connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM marks")
        extras.execute_values(
            cursor, "INSERT INTO marks VALUES %s", [(n, n * 2, None) for n in range(250)]
        )
    show("inserted", one(connection, "SELECT count(*), sum(value) FROM marks"))
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT a")
        failing("check", lambda: one(connection, "INSERT INTO marks VALUES (999, -1)"))
        cursor.execute("ROLLBACK TO a")
        cursor.executemany("INSERT INTO marks VALUES (%s, %s)", [(300, 1), (301, 2)])
        extras.execute_batch(
            cursor, "UPDATE marks SET note = %s WHERE id = %s", [("n", n) for n in range(9)]
        )
        cursor.execute("UPDATE marks SET value = 7 WHERE id < 3 RETURNING id, value")
        show("returned", sorted(cursor.fetchall()))
    show("own writes", one(connection, "SELECT count(*), count(note), sum(value) FROM marks"))
    connection.rollback()
    show("rolled back", one(connection, "SELECT count(*), count(note), sum(value) FROM marks"))
    connection.rollback()
    connection.set_session(isolation_level="SERIALIZABLE", readonly=True, deferrable=True)
    show("level", one(connection, "SHOW transaction_isolation"))
    failing("read only", lambda: one(connection, "DELETE FROM marks"))
    connection.rollback()
    connection.set_session(isolation_level="DEFAULT", readonly="DEFAULT", deferrable="DEFAULT")
    show("level again", one(connection, "SHOW transaction_isolation"))
    connection.rollback()


def cursors(connection):
    with connection.cursor("reader") as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT id FROM items WHERE id <= %s ORDER BY id", (30,))
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


def copies(connection):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM marks")
        lines = "".join(f"{n}\t{n}\t\\N\n" for n in range(2000))
        cursor.copy_from(io.StringIO(lines), "marks")
        show("copied in", cursor.rowcount)
        out = io.StringIO()
        cursor.copy_to(out, "marks", columns=("id", "note"))
        show("copied out", len(out.getvalue()))
        out = io.BytesIO()
        cursor.copy_expert("COPY (SELECT * FROM items WHERE id < 3) TO STDOUT CSV HEADER", out)
        show("CSV", out.getvalue())
        bad = io.StringIO("1\tx\t\\N\n")
        failing("bad line", lambda: cursor.copy_from(bad, "marks"))
    connection.rollback()


def sessions(connection):
    connection.autocommit = True
    for name, value in (("TimeZone", "Asia/Tokyo"), ("DateStyle", "SQL, DMY")):
        with connection.cursor() as cursor:
            cursor.execute(f"SET {name} = %s", (value,))
        show(name, (one(connection, f"SHOW {name}"), connection.get_parameter_status(name)))
    show("text", one(connection, "SELECT '2024-02-29 12:00+00'::timestamptz::text"))
    show("day", one(connection, "SELECT made::text FROM items WHERE id = 3"))
    one_after_another = "CREATE TEMP TABLE mine AS SELECT * FROM items WHERE id < 4"
    with connection.cursor() as cursor:
        cursor.execute(one_after_another)
        cursor.execute("LISTEN two")
        cursor.execute("NOTIFY two, 'said'")
        cursor.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
        cursor.execute("PREPARE kept (int4) AS SELECT label FROM items WHERE id = $1")
    for turn in range(7):
        show("by name", one(connection, "EXECUTE kept (%s)", (turn,)))
    show("temporary", one(connection, "SELECT count(*) FROM mine"))
    connection.poll()
    show("heard", [(said.channel, said.payload) for said in connection.notifies])
    show("notices", connection.notices)
    connection.set_client_encoding("LATIN1")
    show("encoding", (one(connection, "SHOW client_encoding"), one(connection, "SELECT 'é'")))
    connection.reset()
    connection.autocommit = True
    connection.set_client_encoding("UTF8")
    with connection.cursor() as cursor:
        cursor.execute("DISCARD ALL")
    show("zone again", one(connection, "SELECT current_setting('DateStyle')"))
    failing("gone", lambda: one(connection, "SELECT count(*) FROM mine"))
    connection.autocommit = False


def cancels(connection):
    canceller = threading.Timer(0.3, connection.cancel)
    canceller.start()
    failing("cancelled", lambda: one(connection, "SELECT pg_sleep(20)"))
    canceller.join()
    connection.rollback()
    show("usable", one(connection, "SELECT 1"))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 100")
    failing("timed out", lambda: one(connection, "SELECT pg_sleep(20)"))
    connection.rollback()


def wait(connection):
    while connection.poll() != extensions.POLL_OK:
        time.sleep(0.005)


def asynchronous(target):
    connection = psycopg2.connect(target, async_=1)
    wait(connection)
    with connection.cursor() as cursor:
        for id in range(1, 7):
            cursor.execute("SELECT label FROM items WHERE id = %s", (id,))
            wait(connection)
            show("asynchronous", cursor.fetchone())
    connection.close()


def reconnects(target):
    connections = pool.ThreadedConnectionPool(1, 4, target)
    for turn in range(6):
        connection = connections.getconn()
        show("pool", one(connection, "SELECT id FROM items WHERE id = %s", (turn + 1,)))
        connections.putconn(connection, close=turn % 2 == 0)
    connections.closeall()
    failing("no such database", lambda: psycopg2.connect(target.replace("postgres", "nowhere")))


def main():
    target = f"host=127.0.0.1 port={sys.argv[1]} user=tester dbname=postgres"
    connection = psycopg2.connect(target)
    if sys.argv[2:]:
        for id in range(1, 21):
            one(connection, "SELECT label FROM items WHERE id = %s", (id,))
            connection.commit()
        return
    for part in (values, reads, failures, transactions, cursors, copies, sessions, cancels):
        part(connection)
        show(part.__name__, state(connection))
    with connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM marks")
    connection.close()
    asynchronous(target)
    reconnects(target)


if __name__ == "__main__":
    main()
