//! sqlx: a pool, cached prepared statements, transactions, streams, COPY, notifications.

use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions, PgRow, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, Row};

use crate::{Done, READS, show};

pub async fn run(port: u16) -> Done {
    let address = format!("postgres://tester@127.0.0.1:{port}/postgres?sslmode=disable");
    let pool = PgPoolOptions::new().max_connections(4).connect(&address).await?;
    reads(&pool).await?;
    transactions(&pool).await?;
    copies(&pool).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen("sqlx").await?;
    pool.execute("NOTIFY sqlx, 'one'").await?;
    let heard = tokio::time::timeout(Duration::from_secs(10), listener.recv()).await??;
    show("sqlx heard", (heard.channel(), heard.payload()));
    drop(listener);
    // A query that is dropped while it runs: its connection is not used again, or drained.
    let dropped = pool.fetch_one("SELECT pg_sleep(0.5)");
    let early = tokio::time::timeout(Duration::from_millis(100), dropped).await.is_err();
    show("sqlx dropped", early);
    let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(&pool).await?;
    show("sqlx usable", one);
    pool.close().await;
    Ok(())
}

/// Point reads alone, as the library comes.
pub async fn point_reads(port: u16) -> Done {
    let pool = PgPool::connect(&format!("postgres://tester@127.0.0.1:{port}/postgres")).await?;
    for id in READS {
        let label = sqlx::query("SELECT label FROM items WHERE id = $1");
        label.bind(id).fetch_one(&pool).await?;
    }
    pool.close().await;
    Ok(())
}

/// Who it is when let in, or the SQLSTATE of the refusal.
pub async fn log_in(port: u16, user: &str, password: &str) -> Done<String> {
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port);
    let options = options.username(user).password(password).database("postgres");
    match options.ssl_mode(PgSslMode::Disable).connect().await {
        Ok(mut one) => {
            Ok(sqlx::query_scalar("SELECT current_user::text").fetch_one(&mut one).await?)
        }
        Err(sqlx::Error::Database(error)) => Ok(error.code().unwrap_or_default().into_owned()),
        Err(other) => Err(other.into()),
    }
}

async fn reads(pool: &PgPool) -> Done {
    let labels = (1..=40_i32).map(|id| {
        let label = sqlx::query_scalar("SELECT label FROM items WHERE id = $1");
        label.bind(id).fetch_one(pool)
    });
    let labels: Vec<String> = try_join_all(labels).await?;
    show("sqlx at once", labels);
    let rows = sqlx::query("SELECT id FROM items WHERE id < $1 ORDER BY id").bind(20);
    let ids: Vec<i32> =
        rows.map(|row: PgRow| row.get::<i32, _>(0)).fetch(pool).try_collect().await?;
    show("sqlx stream", ids);
    let (a, b, c): (i64, Option<String>, Vec<i32>) =
        sqlx::query_as("SELECT $1::int8, NULL::text, ARRAY[1, 2]")
            .bind(5_i64)
            .fetch_one(pool)
            .await?;
    show("sqlx types", (a, b, c));
    let optional = sqlx::query("SELECT id FROM items WHERE id = -1").fetch_optional(pool).await?;
    show("sqlx none", optional.is_none());
    for text in ["SELECT 1 / 0", "SELEC 1", "SELECT * FROM no_such_table"] {
        let error = sqlx::query(text).fetch_all(pool).await.err();
        let code = error.and_then(|error| Some(error.as_database_error()?.code()?.into_owned()));
        show(text, code);
    }
    let described = pool.describe("SELECT label, price FROM items WHERE id = $1").await?;
    show("sqlx columns", described.columns().len());
    Ok(())
}

async fn transactions(pool: &PgPool) -> Done {
    sqlx::query("DELETE FROM marks").execute(pool).await?;
    let mut outer = pool.begin().await?;
    sqlx::query("INSERT INTO marks VALUES ($1, $2)").bind(1).bind(10).execute(&mut *outer).await?;
    let mut inner = outer.begin().await?;
    let bad = sqlx::query("INSERT INTO marks VALUES (2, -1)").execute(&mut *inner).await;
    show("sqlx inner", bad.is_err());
    inner.rollback().await?;
    outer.commit().await?;
    let mut dropped = pool.begin().await?;
    sqlx::query("DELETE FROM marks").execute(&mut *dropped).await?;
    drop(dropped);
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM marks").fetch_one(pool).await?;
    show("sqlx kept", kept);
    Ok(())
}

async fn copies(pool: &PgPool) -> Done {
    sqlx::query("DELETE FROM marks").execute(pool).await?;
    let mut connection = pool.acquire().await?;
    let mut copy = connection.copy_in_raw("COPY marks FROM STDIN (FORMAT csv)").await?;
    copy.send(&b"1,10,a\n2,20,b\n"[..]).await?;
    show("sqlx copied in", copy.finish().await?);
    let copy = connection.copy_in_raw("COPY marks FROM STDIN").await?;
    show("sqlx given up", copy.abort("no more").await.is_ok());
    let out = connection.copy_out_raw("COPY (SELECT * FROM marks ORDER BY id) TO STDOUT").await?;
    let pieces: Vec<_> = out.try_collect().await?;
    show("sqlx copied out", String::from_utf8(pieces.concat())?);
    show(
        "sqlx left",
        sqlx::query("DELETE FROM marks").execute(&mut *connection).await?.rows_affected(),
    );
    Ok(())
}
