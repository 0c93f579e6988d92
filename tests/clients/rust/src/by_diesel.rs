//! diesel, on libpq: a typed query builder, cached prepared statements, nested transactions, rows
//! one by one, COPY, notifications.

use std::time::Duration;

use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Double, Nullable, Text};
use diesel::{dsl, sql_query};

use crate::{Done, READS, show};

diesel::table! {
    items (id) {
        id -> Integer,
        label -> Nullable<Text>,
    }
}

diesel::table! {
    marks (id) {
        id -> Integer,
        value -> Integer,
        note -> Nullable<Text>,
    }
}

#[derive(Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = marks)]
struct Mark {
    id: i32,
    value: i32,
    note: Option<String>,
}

#[derive(Debug, QueryableByName)]
struct Kinds {
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Double)]
    real: f64,
    #[diesel(sql_type = Nullable<Bool>)]
    truth: Option<bool>,
    #[diesel(sql_type = Binary)]
    bytes: Vec<u8>,
    #[diesel(sql_type = Array<Nullable<Text>>)]
    texts: Vec<Option<String>>,
}

pub fn run(port: u16) -> Done {
    let connection = &mut connect(port)?;
    reads(connection)?;
    transactions(connection)?;
    copies(connection, port)?;
    let other = &mut connect(port)?;
    sql_query("LISTEN diesel").execute(connection)?;
    sql_query("NOTIFY diesel, 'said'").execute(other)?;
    // It only looks at what has come so far.
    for _look in 0..500 {
        if let Some(heard) = connection.notifications_iter().next().transpose()? {
            show("diesel heard", (heard.channel, heard.payload));
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Point reads alone, as the library comes.
pub fn point_reads(port: u16) -> Done {
    let connection = &mut connect(port)?;
    for id in READS {
        items::table.find(id).select(items::label).first::<Option<String>>(connection)?;
    }
    Ok(())
}

fn connect(port: u16) -> ConnectionResult<PgConnection> {
    PgConnection::establish(&format!("postgres://tester@127.0.0.1:{port}/postgres"))
}

fn reads(connection: &mut PgConnection) -> Done {
    for id in 0..9 {
        let found = items::table.find(id).first::<(i32, Option<String>)>(connection);
        show("diesel point", found.optional()?);
    }
    let labels = items::table.filter(items::id.eq_any([3, 1])).order(items::id);
    show("diesel list", labels.select(items::label).load::<Option<String>>(connection)?);
    let total: i64 = items::table.filter(items::id.gt(990)).count().get_result(connection)?;
    show("diesel count", total);
    let none = dsl::select(dsl::exists(items::table.find(-1))).get_result::<bool>(connection)?;
    show("diesel exists", none);
    let kinds =
        sql_query("SELECT $1 AS number, $2 AS real, NULL::bool AS truth, $3 AS bytes, $4 AS texts")
            .bind::<BigInt, _>(i64::MIN)
            .bind::<Double, _>(-0.5)
            .bind::<Binary, _>(vec![0_u8, 255, 92])
            .bind::<Array<Nullable<Text>>, _>(vec![Some("a,b"), None]);
    let Kinds { number, real, truth, bytes, texts } = kinds.get_result(connection)?;
    show("diesel types", (number, real, truth, bytes, texts));
    let few = items::table.select(items::id).filter(items::id.lt(30)).order(items::id);
    let ids: Result<Vec<i32>, _> = few.load_iter::<_, PgRowByRowLoadingMode>(connection)?.collect();
    show("diesel one by one", ids?);
    for text in ["SELECT 1 / 0", "SELEC 1", "SELECT * FROM no_such_table"] {
        show(text, sql_query(text).execute(connection).err().map(|error| error.to_string()));
    }
    let ours = sql_query("SET TIME ZONE 'Asia/Tokyo'").execute(connection)?;
    let zone = dsl::sql::<Text>("SELECT '2024-02-29 12:00+00'::timestamptz::text");
    show("diesel zone", (ours, zone.get_result::<String>(connection)?));
    Ok(())
}

fn transactions(connection: &mut PgConnection) -> Done {
    diesel::delete(marks::table).execute(connection)?;
    let added = connection.transaction(|outer| {
        let rows: Vec<_> = (0..20).map(|id| Mark { id, value: id * 2, note: None }).collect();
        let added = diesel::insert_into(marks::table).values(&rows).execute(outer)?;
        let bad = Mark { id: 99, value: -1, note: Some("n".into()) };
        let inner = outer
            .transaction(|inner| diesel::insert_into(marks::table).values(&bad).execute(inner));
        show("diesel inner", inner.map_err(|error| error.to_string()));
        let sum: Option<i64> = marks::table.select(dsl::sum(marks::value)).get_result(outer)?;
        show("diesel own writes", sum);
        Ok::<_, DieselError>(added)
    })?;
    show("diesel added", added);
    let undone = connection.transaction(|inside| {
        diesel::delete(marks::table).execute(inside)?;
        Err::<(), _>(DieselError::RollbackTransaction)
    });
    show("diesel undone", undone.is_err());
    let update = diesel::update(marks::table.find(3)).set(marks::note.eq("three"));
    show("diesel returned", update.returning(Mark::as_returning()).get_result(connection)?);
    let mut reading = connection.build_transaction().read_only().repeatable_read();
    let refused = reading.run(|inside| {
        show("diesel inside", marks::table.count().get_result::<i64>(inside)?);
        diesel::delete(marks::table).execute(inside)
    });
    show("diesel refused", refused.map_err(|error| error.to_string()));
    show("diesel kept", marks::table.count().get_result::<i64>(connection)?);
    Ok(())
}

fn copies(connection: &mut PgConnection, port: u16) -> Done {
    diesel::delete(marks::table).execute(connection)?;
    let into = diesel::copy_from(marks::table).from_raw_data(marks::table, |copy| {
        let lines = copy.write_all(b"1\t10\ta\n2\t20\t\\N\n");
        lines.map_err(|error| DieselError::SerializationError(Box::new(error)))
    });
    show("diesel copied in", into.execute(connection)?);
    // It leaves the end of the copy unread: nothing can follow on this connection.
    let last = &mut connect(port)?;
    let out: Result<Vec<Mark>, _> = diesel::copy_to(marks::table).load(last)?.collect();
    show("diesel copied out", out?);
    show("diesel left", diesel::delete(marks::table).execute(connection)?);
    Ok(())
}
