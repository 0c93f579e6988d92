"""What applications do through asyncpg, on one server; prints what came back.

Usage: asyncpg_session.py PORT, or PORT reads for point reads alone, as the driver comes

The tests run it against PostgreSQL and against sortie in front of the same server: both must
print the same. It leaves the tables as it found them.
"""

import asyncio
import datetime
import decimal
import io
import sys

import asyncpg


def show(title, value):
    print(f"{title}: {value!r}")


async def failing(title, awaitable):
    try:
        await awaitable
        show(title, "no error")
    except (asyncpg.PostgresError, asyncio.TimeoutError) as error:
        show(title, (type(error).__name__, getattr(error, "sqlstate", None)))


async def reads(connection):
    show("one", tuple(await connection.fetchrow("SELECT * FROM items WHERE id = $1", 7)))
    show("value", await connection.fetchval("SELECT count(*) FROM items WHERE id > $1", 990))
    some = "SELECT id, label FROM items WHERE id = ANY($1) ORDER BY 1"
    rows = await connection.fetch(some, [3, 1])
    show("list", [tuple(row) for row in rows])
    types = "SELECT $1::jsonb, $2::interval, $3::timestamptz, $4::numeric, $5::bytea, $6::text[]"
    moment = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)
    day, price = datetime.timedelta(days=1), decimal.Decimal("1.50")
    values = ('{"a": 1}', day, moment, price, b"\0", ["x", None])
    show("types", tuple(await connection.fetchrow(types, *values)))
    await failing("division", connection.fetchval("SELECT 1 / $1::int4", 0))
    await failing("no such table", connection.fetch("SELECT * FROM no_such_table"))
    await failing("syntax", connection.fetch("SELEC 1"))
    await failing("wrong type", connection.fetch("SELECT 1 WHERE 'x'::int4 = 1"))
    show("script", await connection.execute("SELECT 1; SELECT 2; SET application_name = 'a'"))


async def prepared(connection):
    statement = await connection.prepare("SELECT label FROM items WHERE id = $1")
    show("parameters", [kind.name for kind in statement.get_parameters()])
    show("columns", [column.name for column in statement.get_attributes()])
    for id in (1, 2, 3):
        show("prepared", await statement.fetchval(id))
    show("many", [tuple(row) for row in await statement.fetchmany([(4,), (5,), (6,)])])
    other = await connection.prepare("SELECT count(*) FROM items")
    show("other", (await other.fetchval(), await statement.fetchval(9)))
    # More statements than asyncpg's cache holds, so that it closes some.
    for number in range(120):
        await connection.fetchval(f"SELECT {number} + $1::int4", 1)
    show("still there", await statement.fetchval(10))


async def transactions(connection):
    await connection.execute("DELETE FROM marks")
    async with connection.transaction():
        await connection.execute("INSERT INTO marks VALUES ($1, $2, $3)", 1, 10, "a")
        try:
            async with connection.transaction():
                await connection.execute("INSERT INTO marks VALUES (2, -1)")
        except asyncpg.CheckViolationError as error:
            show("inner", (error.sqlstate, error.constraint_name))
        show("outer", await connection.fetchval("SELECT count(*) FROM marks"))
    transaction = connection.transaction(isolation="serializable", readonly=True, deferrable=True)
    await transaction.start()
    await failing("read only", connection.execute("DELETE FROM marks"))
    await transaction.rollback()
    show("kept", await connection.fetchval("SELECT count(*) FROM marks"))
    rows = [(n, n) for n in range(10, 200)]
    await connection.executemany("INSERT INTO marks VALUES ($1, $2)", rows)
    show("many", await connection.fetchval("SELECT sum(value) FROM marks"))
    bad = connection.executemany("INSERT INTO marks VALUES ($1, 0)", [(500,), (10,)])
    await failing("many, one bad", bad)
    show("none of them", await connection.fetchval("SELECT count(*) FROM marks WHERE id = 500"))
    await connection.execute("DELETE FROM marks")


async def cursors(connection):
    async with connection.transaction():
        query = "SELECT id FROM items WHERE id <= $1 ORDER BY id"
        show("cursor", [row["id"] async for row in connection.cursor(query, 25, prefetch=4)])
        cursor = await connection.cursor("SELECT id, label FROM items ORDER BY id")
        show("fetch", [tuple(row) for row in await cursor.fetch(3)])
        show("forward", await cursor.forward(10))
        show("row", tuple(await cursor.fetchrow()))
        show("between", await connection.fetchval("SELECT 1"))
        show("on", tuple(await cursor.fetchrow()))


async def copies(connection):
    records = [(n, n * 2, f"note {n}") for n in range(2000)]
    show("records in", await connection.copy_records_to_table("marks", records=records))
    out = io.BytesIO()
    query = "SELECT * FROM marks WHERE id < $1 ORDER BY id"
    show("query out", await connection.copy_from_query(query, 4, output=out, format="csv"))
    show("CSV", out.getvalue())
    out = io.BytesIO()
    show("table out", await connection.copy_from_table("marks", output=out))
    show("size", len(out.getvalue()))
    lines = io.BytesIO(b"9000,1,x\n9001,2,\n")
    show("CSV in", await connection.copy_to_table("marks", source=lines, format="csv"))
    bad = connection.copy_to_table("marks", source=io.BytesIO(b"x\t1\t\n"))
    await failing("bad line", bad)
    show("count", await connection.fetchval("SELECT count(*) FROM marks"))
    await connection.execute("DELETE FROM marks")


async def listening(connection, other):
    heard = asyncio.Queue()
    await connection.add_listener("asyncpg", lambda *said: heard.put_nowait(said[2:]))
    await other.execute("NOTIFY asyncpg, 'one'")
    await other.execute("SELECT pg_notify('asyncpg', $1)", "two")
    for _ in range(2):
        show("heard", await asyncio.wait_for(heard.get(), 10))
    show("between", await connection.fetchval("SELECT 5"))
    await connection.reset()
    show("reset", await connection.fetch("SELECT pg_listening_channels()"))


async def timeouts(connection):
    await failing("timeout", connection.fetch("SELECT pg_sleep(20)", timeout=0.3))
    show("usable", await connection.fetchval("SELECT 1"))
    task = asyncio.ensure_future(connection.fetch("SELECT pg_sleep(20)"))
    await asyncio.sleep(0.2)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        show("cancelled", True)
    show("usable again", await connection.fetchval("SELECT 2"))


async def settings(connection):
    await connection.execute("SET TimeZone = 'Asia/Tokyo'")
    show("zone", connection.get_settings().TimeZone)
    show("text", await connection.fetchval("SELECT '2024-02-29 12:00+00'::timestamptz::text"))
    await connection.set_type_codec("json", encoder=str, decoder=len, schema="pg_catalog")
    show("codec", await connection.fetchval("SELECT '[1, 2]'::json"))
    notices = []
    connection.add_log_listener(lambda _, message: notices.append(message.message))
    await connection.execute("DO $$ BEGIN RAISE WARNING 'careful'; END $$")
    await asyncio.sleep(0)
    show("notices", notices)


async def pooled(target):
    async with asyncpg.create_pool(**target, min_size=2, max_size=8) as pool:
        async def one(number):
            async with pool.acquire() as connection:
                return await connection.fetchval("SELECT id FROM items WHERE id = $1", number)

        show("pool", await asyncio.gather(*(one(number) for number in range(1, 60))))


async def main():
    target = {"host": "127.0.0.1", "port": int(sys.argv[1])}
    target |= {"user": "tester", "database": "postgres"}
    connection = await asyncpg.connect(**target)
    if sys.argv[2:]:
        for id in range(1, 21):
            await connection.fetchrow("SELECT label FROM items WHERE id = $1", id)
        return await connection.close()
    other = await asyncpg.connect(**target, server_settings={"application_name": "other"})
    show("name", await other.fetchval("SHOW application_name"))
    for part in (reads, prepared, transactions, cursors, copies, timeouts, settings):
        await part(connection)
    await listening(connection, other)
    await other.close()
    await connection.close()
    await pooled(target)


if __name__ == "__main__":
    asyncio.run(main())
