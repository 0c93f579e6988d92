"""A herd: many callers ask the same at the same moment, through psycopg's defaults.

    python3 docs/herd.py postgres://reader@127.0.0.1:6440/sortie http://127.0.0.1:6441 200

Each has a connection of its own, in a transaction as psycopg begins it (autocommit is off), and a
comment of its own in the statement, as tracing tools write it. Needs psycopg 3.
"""

import sys
import threading
import time
import urllib.request

import psycopg

STATEMENT = "SELECT count(*), sum(balance), min(balance), max(balance) FROM users"
USAGE = "usage: herd.py POSTGRES-URL ADMIN-URL [CALLERS]"


def queries(admin):
    """How many queries sortie has sent to servers so far."""
    with urllib.request.urlopen(f"{admin}/metrics", timeout=10) as said:
        lines = said.read().decode().splitlines()
    counted = (line for line in lines if line.startswith("sortie_attempts_total"))
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in counted))


def main(url, admin, callers):
    connections = [psycopg.connect(url) for _ in range(callers)]
    gate, answers, failures = threading.Barrier(callers + 1), [], []

    def ask(number, connection):
        gate.wait()
        began = time.monotonic()
        comment = f"/*traceparent='00-{number:032x}-{number:016x}-01'*/"
        try:
            with connection:
                row = connection.execute(f"{STATEMENT} {comment}").fetchone()
            answers.append((row, time.monotonic() - began))
        except psycopg.Error as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=each) for each in enumerate(connections)]
    for thread in threads:
        thread.start()
    before = queries(admin)
    gate.wait()
    for thread in threads:
        thread.join()
    sent = queries(admin) - before
    rows, slowest = {row for row, _ in answers}, max((took for _, took in answers), default=0)
    print(f"{len(answers)} of {callers} callers answered in {slowest:.2f} s,", end=" ")
    print(f"{len(rows)} different answers;")
    print(f"{sent} shared queries reached a server")
    if failures:
        print(f"{len(failures)} failed, the first with: {failures[0]}")
    return 0 if len(answers) == callers and len(rows) == 1 else 1


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(USAGE)
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) == 4 else 200))
