"""A session as applications have it, through psycopg 3; prints what came back, line by line.

Usage: psycopg_session.py PORT

The end-to-end tests run it against sortie and against PostgreSQL with the same rows: both must
print the same. What may differ (process ids, versions) is not printed.
"""

import sys

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

POINT = "SELECT user_id, name, balance FROM users WHERE user_id = %s"
POINT_BY_NUMBER = b"SELECT user_id, name, balance FROM users WHERE user_id = $1"


def show(title, value):
    print(f"{title}: {value!r}")


def described(cursor):
    """Names and types of the result's columns."""
    return [(column.name, column.type_code) for column in cursor.description or []]


def failing(title, connection, statement, parameters=None, message=True):
    """Runs what must fail; the connection stays usable."""
    try:
        connection.execute(statement, parameters)
        show(title, "no error")
    except psycopg.Error as error:
        text = error.diag.message_primary if message else "…"
        place = error.diag.statement_position
        show(title, (type(error).__name__, error.sqlstate, text, place))
    show(f"{title}, afterwards", connection.info.transaction_status.name)


def values(connection):
    for binary in (False, True):
        kind = "binary" if binary else "text"
        cursor = connection.cursor(binary=binary)
        cursor.execute(POINT, (42,))
        show(f"{kind} point", cursor.fetchall())
        show(f"{kind} columns", described(cursor))
        cursor.execute("SELECT count(*), sum(balance), min(balance), max(name) FROM users")
        show(f"{kind} aggregates", cursor.fetchall())
        show(f"{kind} aggregate columns", described(cursor))
        cursor.execute("SELECT sum(balance), count(*) FROM users WHERE user_id < %s", (0,))
        show(f"{kind} aggregates of nothing", cursor.fetchall())
        cursor.execute(POINT, (0,))
        show(f"{kind} no row", (cursor.fetchall(), cursor.rowcount, cursor.statusmessage))
    cursor = connection.execute("SELECT user_id FROM users WHERE user_id = ANY(%s)", ([3, 1, 2],))
    show("list parameter", sorted(cursor.fetchall()))
    cursor = connection.execute("SELECT user_id FROM users WHERE user_id = %t", ("17",))
    show("text parameter", cursor.fetchall())
    cursor = connection.execute("SELECT user_id FROM users WHERE user_id = %b", (2**40,))
    show("binary parameter", cursor.fetchall())
    cursor = connection.execute("SELECT user_id FROM users WHERE user_id = %s", (None,))
    show("null parameter", cursor.fetchall())
    top = "SELECT user_id, balance FROM users ORDER BY balance DESC, user_id LIMIT %s OFFSET %s"
    show("top", connection.execute(top, (5, 2)).fetchall())
    named = connection.execute("SELECT name AS who FROM users WHERE user_id = %(id)s", {"id": 16})
    show("alias", (named.fetchall(), described(named)))
    rows = connection.cursor(row_factory=dict_row).execute(POINT, (7,)).fetchall()
    show("dict", rows)
    several = connection.cursor()
    several.execute("SELECT 1; SELECT balance FROM users WHERE user_id = 9; SELECT 'x' AS y")
    results = [several.fetchall()]
    while several.nextset():
        results.append(several.fetchall())
    show("several statements", results)
    table = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("users"))
    show("quoted name", connection.execute(table).fetchall())


def errors(connection):
    failing("no such table", connection, "SELECT * FROM accounts")
    failing("no such column", connection, "SELECT user_id, age FROM users")
    failing("syntax", connection, "SELEC 1")
    failing("half a statement", connection, "SELECT user_id FROM users WHERE")
    failing("a write", connection, "DELETE FROM users WHERE user_id = 1")
    failing("not a number", connection, "SELECT * FROM users WHERE user_id = 'x'")
    failing("a parameter of another type", connection, POINT, ("x",), message=False)
    show("usable", connection.execute(POINT, (1,)).fetchone())


def prepared(connection):
    for id in (1, 2, 3, 100_001):
        show("prepared", connection.execute(POINT, (id,), prepare=True).fetchall())


def pipelines(connection):
    with connection.pipeline():
        cursors = [connection.execute(POINT, (id,)) for id in (5, 6, 7, 8)]
        show("pipeline", [cursor.fetchone() for cursor in cursors])
    # By libpq's own calls: psycopg looks for errors while it sends, sooner or later.
    raw = connection.pgconn
    raw.enter_pipeline_mode()
    for text in (POINT_BY_NUMBER, b"SELECT nothing FROM users", POINT_BY_NUMBER):
        raw.send_query_params(text, [b"10"] if b"$1" in text else None)
    raw.pipeline_sync()
    raw.send_query_params(POINT_BY_NUMBER, [b"11"], result_format=1)
    raw.pipeline_sync()
    raw.flush()
    syncs = 0
    while syncs < 2:
        result = raw.get_result()
        if result is None:
            continue
        status = psycopg.pq.ExecStatus(result.status)
        syncs += status == psycopg.pq.ExecStatus.PIPELINE_SYNC
        state = result.error_field(psycopg.pq.DiagnosticField.SQLSTATE)
        row = [result.get_value(0, column) for column in range(result.nfields)]
        show("pipeline with an error", (status.name, state, row))
    raw.exit_pipeline_mode()
    show("usable", connection.execute(POINT, (12,)).fetchone())


def transactions(connection):
    connection.autocommit = False
    show("in a transaction", connection.execute(POINT, (13,)).fetchone())
    show("status", connection.info.transaction_status.name)
    failing("error in a transaction", connection, "SELECT nothing FROM users")
    failing("after an error", connection, POINT, (13,))
    connection.rollback()
    show("rolled back", connection.info.transaction_status.name)
    with connection.transaction():
        show("block", connection.execute(POINT, (14,)).fetchone())
    connection.commit()
    connection.autocommit = True


def session(connection):
    info = connection.info
    for name in ("client_encoding", "integer_datetimes", "standard_conforming_strings"):
        show(name, info.parameter_status(name))
    show("encoding", info.encoding)
    connection.execute("SET application_name = 'it'")
    show("application_name", info.parameter_status("application_name"))
    show("SHOW", connection.execute("SHOW application_name").fetchall())
    show("timezone", connection.execute("SHOW standard_conforming_strings").fetchall())
    version = connection.execute("SELECT version()").fetchone()[0]
    show("version", version.startswith("PostgreSQL "))
    show("server_version", info.server_version >= 150000)


def main():
    target = f"host=127.0.0.1 port={sys.argv[1]} user=tester dbname=postgres"
    for options in ({"sslmode": "prefer"}, {"sslmode": "disable"}):
        with psycopg.connect(target, autocommit=True, **options) as connection:
            show("connected", connection.info.status.name)
    with psycopg.connect(target, autocommit=True) as connection:
        session(connection)
        values(connection)
        errors(connection)
        prepared(connection)
        pipelines(connection)
        transactions(connection)
        show("usable to the end", connection.execute(POINT, (99_999,)).fetchall())


if __name__ == "__main__":
    main()
