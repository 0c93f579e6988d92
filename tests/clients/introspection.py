"""What drivers and object-relational mappers ask to know a database; prints what came back.

Usage: introspection.py PORT DATABASE

The tests run it against one of several shards and against sortie in front of them: both must print
the same. It changes nothing.
"""

import asyncio
import sys

import asyncpg
import psycopg
import sqlalchemy as sa


def show(title, value):
    print(f"{title}: {value!r}")


def sqlalchemy(port, database):
    engine = sa.create_engine(f"postgresql+psycopg://reader@127.0.0.1:{port}/{database}")
    inspector = sa.inspect(engine)
    show("schemas", inspector.get_schema_names())
    for name in inspector.get_table_names():
        show("table", name)
        for column in inspector.get_columns(name):
            show("column", (column["name"], str(column["type"]), column["nullable"]))
        show("key", inspector.get_pk_constraint(name))
        show("foreign keys", inspector.get_foreign_keys(name))
        show("unique", inspector.get_unique_constraints(name))
        show("checks", inspector.get_check_constraints(name))
        show("indexes", inspector.get_indexes(name))
        show("comment", inspector.get_table_comment(name))
    show("views", inspector.get_view_names())
    show("sequences", inspector.get_sequence_names())
    show("enums", inspector.get_enums())
    show("has table", inspector.has_table("users"))
    engine.dispose()


async def types(port, database):
    connection = await asyncpg.connect(
        host="127.0.0.1", port=port, user="reader", database=database
    )
    # An array of a composite type is looked up in the catalogs.
    show("relation", await connection.fetchval("SELECT 'users'::regclass::text"))
    prepared = await connection.prepare("SELECT typname, typarray FROM pg_type WHERE oid = 23")
    show("attributes", [(a.name, a.type.name) for a in prepared.get_attributes()])
    columns = await connection.fetch(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_name = 'users' ORDER BY ordinal_position"
    )
    show("columns", [tuple(row) for row in columns])
    await connection.close()


def adapters(port, database):
    with psycopg.connect(f"host=127.0.0.1 port={port} user=reader dbname={database}") as connection:
        connection.autocommit = True
        show("type", psycopg.types.TypeInfo.fetch(connection, "int8range").oid)


def main():
    port, database = int(sys.argv[1]), sys.argv[2]
    sqlalchemy(port, database)
    asyncio.run(types(port, database))
    adapters(port, database)


main()
