"""What Django's views do on one server: its read path, its pages, its transactions.

Usage: django_session.py PORT, or PORT DRIVER reads for point reads alone, as Django comes

It runs with both of Django's drivers. The tests run it against PostgreSQL and against sortie in
front of the same server: both must print the same. It leaves the tables as it found them.
"""

import os
import sys

import django
from django.conf import settings
from django.db import models


def show(title, value):
    print(f"{title}: {value!r}")


OPTIONS = {
    "default": {},
    "kept": {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True},
    "bound": {"OPTIONS": {"server_side_binding": True}},
    "plain": {"DISABLE_SERVER_SIDE_CURSORS": True, "AUTOCOMMIT": False},
}


def configure(port, driver):
    """psycopg 2 is what Django takes when psycopg 3 can't be imported."""
    if driver == "psycopg2":
        sys.modules["psycopg"] = None
        OPTIONS.pop("bound")
    base = {
        "ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "tester",
        "HOST": "127.0.0.1", "PORT": port, "TIME_ZONE": None,
    }
    databases = {name: base | more for name, more in OPTIONS.items()}
    settings.configure(DATABASES=databases, USE_TZ=True, TIME_ZONE="Europe/Berlin")
    django.setup()


def tables():
    class Item(models.Model):
        id = models.IntegerField(primary_key=True)
        label = models.TextField()
        price = models.DecimalField(max_digits=10, decimal_places=2)
        made = models.DateField()

        class Meta:
            app_label, db_table, managed, ordering = "shop", "items", False, ["id"]

    class Mark(models.Model):
        id = models.IntegerField(primary_key=True)
        value = models.IntegerField()
        note = models.TextField(null=True)

        class Meta:
            app_label, db_table, managed = "shop", "marks", False

    return Item, Mark


def reads(items, connection):
    from django.core.paginator import Paginator
    from django.db.models import Avg, Count, F, Max, Q, Sum, Window
    from django.db.models.functions import Rank, TruncMonth, Upper

    for id in range(1, 8):
        item = items.get(pk=id)
        show("get", (item.label, item.price, item.made))
    show("none", items.filter(pk=-1).first())
    show("list", list(items.filter(pk__in=[3, 1]).values_list("id", "label")))
    found = items.filter(Q(label__icontains="em 99") | Q(price__lt=2)).exclude(id=995)
    show("filter", [item.id for item in found])
    show("count", (found.count(), found.exists(), items.none().exists()))
    sums = items.aggregate(Count("id"), Sum("price"), Avg("price"), Max("made"))
    show("aggregate", sorted(sums.items()))
    months = items.annotate(month=TruncMonth("made")).values("month").order_by("month")
    show("months", list(months.annotate(n=Count("id"))[:4]))
    rank = Window(Rank(), order_by=F("price").desc())
    ranked = items.annotate(rank=rank, loud=Upper("label"))
    show("ranked", list(ranked.values_list("id", "rank", "loud")[:3]))
    page = Paginator(items.all(), 25).page(3)
    show("page", ([item.id for item in page], page.has_next(), page.paginator.count))
    show("iterated", sum(item.id for item in items.iterator(chunk_size=100)))
    show("bulk", sorted(items.in_bulk([5, 6])))
    show("dates", [str(day) for day in items.dates("made", "year")])
    show("raw", [item.label for item in items.raw("SELECT * FROM items WHERE id < %s", [3])])
    show("later", list(items.defer("price").filter(label="item 9").values("id")))
    show("union", list(items.filter(id=1).union(items.filter(id=2)).values_list("id")))
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s, %s, NULL, %s", ["é", 5, [1, 2]])
        show("cursor", (cursor.fetchone(), [column[0] for column in cursor.description]))
        show("columns", connection.introspection.get_table_description(cursor, "items"))
        constraints = connection.introspection.get_constraints(cursor, "marks")
        show("constraints", sorted(name for name in constraints if "not_null" not in name))


def writes(marks, alias):
    from django.db import DatabaseError, IntegrityError, transaction

    automatic = transaction.get_autocommit(alias)
    marks.all().delete()
    marks.bulk_create([marks.model(id=n, value=n * 2) for n in range(150)])
    show("created", marks.count())
    mark, made = marks.update_or_create(id=3, defaults={"note": "three"})
    show("updated", (mark.note, made, marks.get(pk=3).note))
    show("got", marks.get_or_create(id=1000, defaults={"value": 1})[1])
    try:
        with transaction.atomic(alias):
            marks.filter(id=4).update(note="four")
            with transaction.atomic(alias):
                marks.create(id=2000, value=-1)
    except IntegrityError as error:
        show("refused", str(error).splitlines()[0])
    show("undone", marks.get(pk=4).note)
    with transaction.atomic(alias):
        show("locked", [mark.id for mark in marks.select_for_update().order_by("id")[:3]])
        marks.filter(id=5).update(value=99)
        transaction.on_commit(lambda: show("committed", True), alias)
        show("inside", marks.get(pk=5).value)
    try:
        with transaction.atomic(alias):
            show("read in it", marks.get(pk=5).value)
            marks.raw("SELECT nothing FROM marks")[0]
    except DatabaseError as error:
        show("failed", str(error).splitlines()[0])
    show("usable", marks.filter(value=99).count())
    marks.all().delete()
    show("left", marks.count())
    if not automatic:
        transaction.commit(alias)


def main():
    port, *driver = sys.argv[1:3]
    if not driver:
        # Each in a process of its own: Django looks for a driver once.
        for name in ("psycopg", "psycopg2"):
            sys.stdout.flush()
            command = [sys.executable, __file__, port, name]
            if status := os.spawnv(os.P_WAIT, sys.executable, command):
                sys.exit(status)
        return
    configure(port, *driver)
    from django.db import close_old_connections, connections

    item, mark = tables()
    if sys.argv[3:]:
        for id in range(1, 21):
            item.objects.get(pk=id)
        return
    for alias in OPTIONS:
        connection = connections[alias]
        for turn in range(2):
            reads(item.objects.using(alias), connection)
            writes(mark.objects.using(alias), alias)
            # What Django does after each request.
            close_old_connections()
            show(f"{driver} {alias}", turn)
        connection.close()


if __name__ == "__main__":
    main()
