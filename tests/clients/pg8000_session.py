"""What applications do through pg8000, on one server; prints what came back.

Usage: pg8000_session.py PORT, or PORT reads for point reads alone, as the driver comes

pg8000 speaks the protocol by itself, in Python, without libpq. The tests run this against
PostgreSQL and against sortie in front of the same server: both must print the same. It leaves the
tables as it found them.
"""

import datetime
import decimal
import io
import sys
import uuid

import pg8000.dbapi
import pg8000.native


def show(title, value):
    print(f"{title}: {value!r}")


def failing(title, run):
    try:
        run()
        show(title, "no error")
    except pg8000.exceptions.DatabaseError as error:
        show(title, {key: error.args[0].get(key) for key in "SCMP"})


def natively(target):
    connection = pg8000.native.Connection(**target)
    connection.run("DELETE FROM marks")
    for id in range(8):
        show("point", connection.run("SELECT id, price, made FROM items WHERE id = :id", id=id))
    show("columns", [(c["name"], c["type_oid"]) for c in connection.columns])
    kept = connection.prepare("SELECT label FROM items WHERE id = :id")
    for id in range(8):
        show("prepared", kept.run(id=id))
    kept.close()
    kinds = {
        "int8": -(2**40), "numeric": decimal.Decimal("1.50"), "float8": float("-inf"),
        "bool": False, "text": "quo'te \\ é 漢", "bytea": b"\x00\xff", "jsonb": {"a": [1]},
        "date": datetime.date(2024, 2, 29), "interval": datetime.timedelta(days=1),
        "timestamptz": datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
        "uuid": uuid.UUID(int=7), "int4[]": [1, None, 3], "text[]": ["a,b", 'q"'],
        "int4range": "[1,5)",
    }
    for kind, value in kinds.items():
        words = f"SELECT CAST(:it AS {kind}), CAST(:nothing AS {kind})"
        show(kind, connection.run(words, it=value, nothing=None))
    failing("division", lambda: connection.run("SELECT 1 / CAST(:x AS int4)", x=0))
    failing("syntax", lambda: connection.run("SELEC 1"))
    show("after it", connection.run("SELECT count(*) FROM items"))
    large = connection.run("SELECT repeat('x', 3000000)")[0][0]
    show("large", (len(large), connection.row_count))
    connection.run("START TRANSACTION")
    show("in it", connection.run("SELECT label FROM items WHERE id = 3"))
    failing("check", lambda: connection.run("INSERT INTO marks VALUES (1, -1)"))
    failing("failed", lambda: connection.run("SELECT label FROM items WHERE id = 3"))
    connection.run("ROLLBACK")
    source = io.StringIO("1\t10\ta\n2\t20\t\\N\n")
    connection.run("COPY marks FROM STDIN", stream=source)
    show("copied in", connection.row_count)
    out = io.BytesIO()
    connection.run("COPY (SELECT * FROM marks ORDER BY id) TO STDOUT WITH CSV", stream=out)
    show("copied out", out.getvalue())
    connection.run("SET TIME ZONE 'Asia/Tokyo'")
    show("zone", connection.run("SHOW TimeZone"))
    show("text", connection.run("SELECT CAST('2024-02-29 12:00+00' AS timestamptz)::text"))
    show("status", connection.parameter_statuses["TimeZone"])
    connection.run("LISTEN eight")
    connection.run("NOTIFY eight, 'said'")
    connection.run("SELECT 1")
    show("heard", [said[1:] for said in connection.notifications])
    connection.run("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
    show("notices", [notice[b"M"] for notice in connection.notices])
    show("script", connection.run("SELECT 1; SELECT 2"))
    connection.run("DELETE FROM marks")
    connection.close()


def by_the_book(target):
    """As PEP 249 has it: a transaction begins with the first statement."""
    connection = pg8000.dbapi.connect(**target)
    cursor = connection.cursor()
    for turn in range(7):
        cursor.execute("SELECT id, label FROM items WHERE id = %s", (turn,))
        show("point", cursor.fetchone())
    show("columns", [column[:2] for column in cursor.description])
    connection.commit()
    cursor.executemany("INSERT INTO marks VALUES (%s, %s)", [(n, n * 2) for n in range(20)])
    cursor.execute("SELECT count(*), sum(value) FROM marks")
    show("own writes", cursor.fetchall())
    connection.rollback()
    cursor.execute("SELECT count(*) FROM marks")
    show("rolled back", cursor.fetchall())
    # The Sync that it sends ahead of the data is overlooked by the server.
    cursor.execute("COPY marks FROM STDIN", stream=io.StringIO("7\t70\t\\N\n8\t80\tx\n"))
    show("copied in", cursor.rowcount)
    cursor.execute("SELECT count(*), sum(value) FROM marks")
    show("own rows", cursor.fetchall())
    connection.rollback()
    failing("no such table", lambda: cursor.execute("SELECT * FROM nothing"))
    failing("after it", lambda: cursor.execute("SELECT 1"))
    connection.rollback()
    cursor.execute("SELECT id FROM items ORDER BY id")
    show("some", (cursor.fetchmany(3), cursor.fetchone(), cursor.rowcount))
    connection.commit()
    connection.autocommit = True
    cursor.execute("SELECT count(*) FROM items WHERE id > %s", (990,))
    show("by itself", cursor.fetchall())
    connection.autocommit = False
    connection.tpc_begin(connection.xid(1, "sortie", "pg8000"))
    cursor.execute("SELECT 1")
    show("two phases", cursor.fetchall())
    connection.tpc_rollback()
    connection.close()


def main():
    target = {"host": "127.0.0.1", "port": int(sys.argv[1]), "user": "tester"}
    target |= {"database": "postgres", "ssl_context": False}
    if sys.argv[2:]:
        connection = pg8000.dbapi.connect(**target)
        for id in range(1, 21):
            connection.cursor().execute("SELECT label FROM items WHERE id = %s", (id,))
            connection.commit()
        return
    for _connection in range(2):
        natively(target)
        by_the_book(target)
    failing("nobody", lambda: pg8000.native.Connection(**target | {"database": "nowhere"}))


if __name__ == "__main__":
    main()
