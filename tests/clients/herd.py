"""A herd of callers that read the same at once, each on a connection of its own, through one
driver as it is by default; each statement with a comment of its caller's own.

Usage: herd.py PORT DRIVER FOLDER

There are HERD_CALLERS callers; with HERD_WARM each has had a server connection before.
It makes the file FOLDER/ready when all are connected, and begins when there is a file FOLDER/go.
Prints how many answers there were, and how many different ones.
"""

import asyncio
import os
import pathlib
import sys
import threading
import time

CALLERS = int(os.environ.get("HERD_CALLERS", "200"))
# So that threads of 200 callers don't take turns of the interpreter's usual length.
sys.setswitchinterval(0.001)


def text(caller, parameter):
    return (
        f"SELECT user_id, name FROM users WHERE user_id = {parameter} "
        f"/*traceparent='00-{caller:032x}-{caller:016x}-01'*/"
    )


def go(folder):
    (folder / "ready").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)


def in_threads(connections, read, folder):
    answers = [None] * CALLERS

    def run(caller):
        answers[caller] = tuple(read(connections[caller], caller))

    threads = [threading.Thread(target=run, args=(caller,)) for caller in range(CALLERS)]
    go(folder)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def by_psycopg(port, folder):
    import psycopg

    address = f"host=127.0.0.1 port={port} user=reader dbname=postgres"
    connections = [psycopg.connect(address) for _ in range(CALLERS)]

    def read(connection, caller):
        row = connection.execute(text(caller, "%s"), (2,)).fetchone()
        connection.commit()
        return row

    return in_threads(connections, read, folder)


def by_psycopg2(port, folder):
    import psycopg2

    address = f"host=127.0.0.1 port={port} user=reader dbname=postgres"
    connections = [psycopg2.connect(address) for _ in range(CALLERS)]

    def read(connection, caller):
        with connection.cursor() as cursor:
            cursor.execute(text(caller, "%s"), (2,))
            row = cursor.fetchone()
        connection.commit()
        return row

    return in_threads(connections, read, folder)


def by_sqlalchemy(port, folder):
    import sqlalchemy

    address = f"postgresql+psycopg://reader@127.0.0.1:{port}/postgres"
    engine = sqlalchemy.create_engine(address, pool_size=CALLERS)
    connections = [engine.connect() for _ in range(CALLERS)]

    def read(connection, caller):
        row = connection.execute(sqlalchemy.text(text(caller, ":id")), {"id": 2}).one()
        connection.commit()
        return row

    return in_threads(connections, read, folder)


async def by_asyncpg(port, folder, method):
    import asyncpg

    address = f"postgres://reader@127.0.0.1:{port}/postgres"
    connections = [await asyncpg.connect(address, ssl=False) for _ in range(CALLERS)]

    if "HERD_WARM" in os.environ:
        # Its login has parameters of its own, so these are server connections of its own.
        for all_say in ("BEGIN; SELECT 1", "COMMIT"):
            await asyncio.gather(*(one.execute(all_say) for one in connections))

    async def read(caller, connection):
        rows = await getattr(connection, method)(text(caller, "$1"), 2)
        return tuple(rows if method == "fetchrow" else rows[0])

    go(folder)
    return await asyncio.gather(*(read(*one) for one in enumerate(connections)))


def main():
    port, driver, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    match driver:
        case "psycopg":
            answers = by_psycopg(port, folder)
        case "psycopg2":
            answers = by_psycopg2(port, folder)
        case "sqlalchemy":
            answers = by_sqlalchemy(port, folder)
        case "asyncpg.fetch" | "asyncpg.fetchrow":
            answers = asyncio.run(by_asyncpg(port, folder, driver.removeprefix("asyncpg.")))
    print(f"{sum(answer is not None for answer in answers)} answers, {len(set(answers))} different")


main()
