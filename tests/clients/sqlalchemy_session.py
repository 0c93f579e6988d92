"""What applications do through SQLAlchemy, on one server; prints what came back.

Usage: sqlalchemy_session.py PORT, or PORT reads for point reads alone, as the driver comes

The tests run it against PostgreSQL and against sortie in front of the same server: both must
print the same. It leaves the tables as it found them.
"""

import sys

import sqlalchemy as sa
from sqlalchemy import orm


def show(title, value):
    print(f"{title}: {value!r}")


class Base(orm.DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    label: orm.Mapped[str]
    price = sa.Column(sa.Numeric(10, 2))


class Mark(Base):
    __tablename__ = "marks"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=False)
    value: orm.Mapped[int]
    note: orm.Mapped[str | None]


def reflection(engine):
    inspector = sa.inspect(engine)
    show("tables", sorted(set(inspector.get_table_names()) & {"items", "marks"}))
    for name in ("items", "marks"):
        columns = inspector.get_columns(name)
        show(name, [(c["name"], str(c["type"]), c["nullable"]) for c in columns])
        show("key", inspector.get_pk_constraint(name)["constrained_columns"])
        show("checks", [check["sqltext"] for check in inspector.get_check_constraints(name)])
        show("indexes", inspector.get_indexes(name))
        show("foreign keys", inspector.get_foreign_keys(name))
    metadata = sa.MetaData()
    items = sa.Table("items", metadata, autoload_with=engine)
    show("reflected", [column.name for column in items.columns])
    show("schemas", "public" in inspector.get_schema_names())
    show("views", inspector.get_view_names())


def reads(engine):
    with orm.Session(engine) as session:
        show("get", session.get(Item, 7).label)
        query = sa.select(Item).where(Item.price > 1240).order_by(Item.id)
        show("select", [(item.id, item.price) for item in session.scalars(query)])
        total = sa.select(sa.func.count(), sa.func.sum(Item.price)).select_from(Item)
        show("aggregate", tuple(session.execute(total).one()))
        alias = orm.aliased(Item)
        joined = sa.select(Item.id, alias.label).join(alias, alias.id == Item.id + 1)
        rows = session.execute(joined.where(Item.id < 4).order_by(Item.id))
        show("join", [tuple(row) for row in rows])
    with engine.connect().execution_options(yield_per=10) as connection:
        rows = connection.execute(sa.text("SELECT id FROM items WHERE id < 45 ORDER BY id"))
        show("streamed", [row.id for row in rows])


def writes(engine):
    with orm.Session(engine) as session:
        session.execute(sa.delete(Mark))
        session.commit()
        session.add_all([Mark(id=n, value=n * 2, note=f"n{n}") for n in range(300)])
        session.commit()
        show("added", session.scalar(sa.select(sa.func.sum(Mark.value))))
        mark = session.get(Mark, 5, with_for_update=True)
        mark.note = None
        with session.begin_nested() as nested:
            session.add(Mark(id=1000, value=1))
            session.flush()
            nested.rollback()
        session.commit()
        show("changed", session.get(Mark, 5).note)
        session.add(Mark(id=1001, value=-1))
        try:
            session.commit()
        except sa.exc.IntegrityError as error:
            show("refused", (type(error.orig).__name__, error.orig.sqlstate))
            session.rollback()
        update = sa.update(Mark).where(Mark.id < 3).values(value=0)
        returned = session.execute(update.returning(Mark.id))
        show("returned", sorted(returned.scalars()))
        session.rollback()
        session.execute(sa.delete(Mark))
        session.commit()
        show("left", session.scalar(sa.select(sa.func.count()).select_from(Mark)))


def levels(engine):
    automatic = engine.execution_options(isolation_level="AUTOCOMMIT")
    with automatic.connect() as connection:
        show("autocommit", connection.scalar(sa.text("SELECT count(*) FROM items")))
        show("level", connection.get_isolation_level())
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        show("serializable", connection.scalar(sa.text("SHOW transaction_isolation")))
    with engine.connect() as connection:
        show("back", connection.scalar(sa.text("SHOW transaction_isolation")))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TEMP TABLE mine (x int4) ON COMMIT DROP"))
        connection.execute(sa.text("INSERT INTO mine VALUES (:x)"), [{"x": n} for n in range(5)])
        show("temporary", connection.scalar(sa.text("SELECT sum(x) FROM mine")))


def main():
    address = f"tester@127.0.0.1:{sys.argv[1]}/postgres"
    if sys.argv[2:]:
        engine = sa.create_engine(f"postgresql+psycopg://{address}")
        for id in range(1, 21):
            with orm.Session(engine) as session:
                session.get(Item, id)
        return
    for options in ({}, {"pool_pre_ping": True, "pool_size": 1}):
        engine = sa.create_engine(f"postgresql+psycopg://{address}", **options)
        for part in (reflection, reads, writes, levels):
            part(engine)
        engine.dispose()
        show("done", options)


if __name__ == "__main__":
    main()
