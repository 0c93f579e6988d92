"""Asks a PgBouncer's admin database as prometheus-community/pgbouncer_exporter does.

Its queries, in its order, by the simple protocol, and the columns that it makes labels and series
of; what it can't read fails here as it would there. Usage: pgbouncer_exporter.py PORT
"""

import sys

import psycopg

# Labels, then what becomes of a column: the series' name, and what its value is multiplied by.
TABLES = {
    "databases": (
        ["name", "host", "port", "database", "force_user", "pool_mode"],
        {
            "pool_size": ("pool_size", 1),
            "reserve_pool": ("reserve_pool", 1),
            "max_connections": ("max_connections", 1),
            "current_connections": ("current_connections", 1),
            "paused": ("paused", 1),
            "disabled": ("disabled", 1),
        },
    ),
    "stats_totals": (
        ["database"],
        {
            "query_count": ("queries_pooled_total", 1),
            "query_time": ("queries_duration_seconds_total", 1e-6),
            "bytes_received": ("received_bytes_total", 1),
            "bytes_sent": ("sent_bytes_total", 1),
            "wait_time": ("client_wait_seconds_total", 1e-6),
            "xact_count": ("sql_transactions_pooled_total", 1),
            "xact_time": ("server_in_transaction_seconds_total", 1e-6),
        },
    ),
    "pools": (
        ["database", "user"],
        {
            "cl_active": ("client_active_connections", 1),
            "cl_active_cancel_req": ("client_active_cancel_connections", 1),
            "cl_waiting": ("client_waiting_connections", 1),
            "cl_waiting_cancel_req": ("client_waiting_cancel_connections", 1),
            "sv_active": ("server_active_connections", 1),
            "sv_active_cancel": ("server_active_cancel_connections", 1),
            "sv_being_canceled": ("server_being_canceled_connections", 1),
            "sv_idle": ("server_idle_connections", 1),
            "sv_used": ("server_used_connections", 1),
            "sv_tested": ("server_testing_connections", 1),
            "sv_login": ("server_login_connections", 1),
            "maxwait": ("client_maxwait_seconds", 1),
        },
    ),
}

LISTS = {
    "databases": "databases",
    "users": "users",
    "pools": "pools",
    "free_clients": "free_clients",
    "used_clients": "used_clients",
    "login_clients": "login_clients",
    "free_servers": "free_servers",
    "used_servers": "used_servers",
    "dns_names": "cached_dns_names",
    "dns_zones": "cached_dns_zones",
    "dns_queries": "in_flight_dns_queries",
}

CONFIG = {
    "max_client_conn": "config_max_client_connections",
    "max_user_connections": "config_max_user_connections",
}


def series(name, value, labels=()):
    """A line of the exporter's page; a value that is no number fails."""
    shown = ",".join(f'{label}="{text}"' for label, text in labels)
    print(f"pgbouncer_{name}{'{' + shown + '}' if shown else ''} {float(value):g}")


def main():
    to = f"host=127.0.0.1 port={sys.argv[1]} user=tester dbname=sortie"
    # A client cursor without parameters uses the simple protocol, as lib/pq does.
    with psycopg.connect(to, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        ask = connection.execute
        ask("SHOW STATS").fetchall()
        version = ask("SHOW VERSION;")
        assert [column.name for column in version.description] == ["version"]
        for (text,) in version:
            series("version_info", 1, [("version", text)])
        lists = ask("SHOW LISTS;")
        assert len(lists.description) == 2
        for name, items in lists:
            if name in LISTS:
                series(LISTS[name], items)
        config = ask("SHOW CONFIG;")
        assert len(config.description) in (3, 4)
        for key, value, *_ in config:
            if key in CONFIG:
                series(CONFIG[key], value)
        for namespace, (labels, columns) in TABLES.items():
            rows = ask(f"SHOW {namespace};")
            names = [column.name for column in rows.description]
            missing = (set(labels) | set(columns)) - set(names)
            assert not missing, (namespace, missing)
            seen = set()
            for row in rows:
                row = dict(zip(names, row))
                shown = [(label, "" if row[label] is None else row[label]) for label in labels]
                # Two equal sets of labels fail a scrape.
                assert tuple(shown) not in seen, (namespace, shown)
                seen.add(tuple(shown))
                for column, (name, factor) in columns.items():
                    series(f"{namespace}_{name}", float(row[column]) * factor, shown)
    series("up", 1)


main()
