//! tokio-postgres: pipelined prepared statements, transactions, portals, COPY, notifications.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{join, join_all, poll_fn};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio_postgres::{AsyncMessage, Client, Error, NoTls, SimpleQueryMessage};

use crate::{Done, READS, show};

pub async fn run(port: u16) -> Done {
    let address = format!("host=127.0.0.1 port={port} user=tester dbname=postgres");
    let (mut client, mut connection) = tokio_postgres::connect(&address, NoTls).await?;
    let (heard, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let driver = async move {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            match message? {
                AsyncMessage::Notification(said) => {
                    heard.send(format!("{} {}", said.channel(), said.payload())).ok();
                }
                AsyncMessage::Notice(said) => {
                    heard.send(said.message().to_owned()).map_or((), drop)
                }
                _ => {}
            }
        }
        Ok::<(), Error>(())
    };
    let work = async {
        reads(&client).await?;
        transactions(&mut client).await?;
        copies(&client).await?;
        client.batch_execute("LISTEN rust; NOTIFY rust, 'one'").await?;
        show("heard", hear.recv().await);
        client.batch_execute("DO $$ BEGIN RAISE NOTICE 'noticed'; END $$").await?;
        show("heard", hear.recv().await);
        client.batch_execute("UNLISTEN *").await?;
        cancel(&client).await?;
        drop(client);
        Done::Ok(())
    };
    let (driven, worked) = join(driver, work).await;
    worked?;
    Ok(driven?)
}

/// Point reads alone, as the library comes.
pub async fn point_reads(port: u16) -> Done {
    let address = format!("host=127.0.0.1 port={port} user=tester dbname=postgres");
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
    let asked = async {
        for id in READS {
            client.query_one("SELECT label FROM items WHERE id = $1", &[&id]).await?;
        }
        drop(client);
        Ok::<(), Error>(())
    };
    let (driven, asked) = join(connection, asked).await;
    driven?;
    Ok(asked?)
}

/// Who it is when let in, or the SQLSTATE of the refusal.
pub async fn log_in(port: u16, user: &str, password: &str) -> Done<String> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user(user).password(password).dbname("postgres");
    let (client, connection) = match config.connect(NoTls).await {
        Ok(connected) => connected,
        Err(error) => {
            let code = error.code().map(|code| code.code().to_owned());
            return code.ok_or_else(|| error.into());
        }
    };
    let asked = async {
        let row = client.query_one("SELECT current_user::text", &[]).await;
        drop(client);
        row
    };
    let (driven, row) = join(connection, asked).await;
    driven?;
    Ok(row?.get(0))
}

async fn reads(client: &Client) -> Done {
    let statement = client.prepare("SELECT id, label FROM items WHERE id = $1").await?;
    show("parameters", statement.params());
    show("columns", statement.columns().iter().map(|c| (c.name(), c.type_())).collect::<Vec<_>>());
    // All of these are on their way at once.
    let rows =
        join_all(
            (1..=50_i32).map(|id| {
                let statement = &statement;
                async move {
                    client.query_one(statement, &[&id]).await.map(|row| row.get::<_, String>(1))
                }
            }),
        );
    show("pipelined", rows.await.into_iter().collect::<Result<Vec<_>, _>>()?);
    let (bad, good) = join(
        client.query("SELECT 1 / (id - 1) FROM items WHERE id = 1", &[]),
        client.query_one("SELECT count(*) FROM items", &[]),
    )
    .await;
    show("bad", code(bad));
    show("good", good?.get::<_, i64>(0));
    show("syntax", code(client.query("SELEC 1", &[]).await));
    show("no such table", code(client.prepare("SELECT * FROM no_such_table").await));
    let words = "SELECT 1 AS a; SELECT 'x', NULL; SET application_name = 'rust'";
    for message in client.simple_query(words).await? {
        match message {
            SimpleQueryMessage::Row(row) => show("row", (row.len(), row.get(0))),
            SimpleQueryMessage::CommandComplete(count) => show("done", count),
            _ => {}
        }
    }
    let typed = "SELECT $1::int8, $2::text[], $3::float8, $4::bytea, NULL::bool";
    let row = client.query_one(typed, &[&7_i64, &vec!["a", "b"], &1.5, &&b"\0\xff"[..]]).await?;
    show("types", (row.get::<_, i64>(0), row.get::<_, Vec<String>>(1), row.get::<_, f64>(2)));
    show("more", (row.get::<_, Vec<u8>>(3), row.get::<_, Option<bool>>(4)));
    Ok(())
}

async fn transactions(client: &mut Client) -> Done {
    client.batch_execute("DELETE FROM marks").await?;
    let mut outer = client.transaction().await?;
    outer.execute("INSERT INTO marks VALUES (1, 1)", &[]).await?;
    let inner = outer.savepoint("nested").await?;
    show("inner", code(inner.execute("INSERT INTO marks VALUES (2, -1)", &[]).await));
    inner.rollback().await?;
    let portal = outer.bind("SELECT id FROM items ORDER BY id", &[]).await?;
    for _ in 0..3 {
        let rows = outer.query_portal(&portal, 4).await?;
        show("portal", rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>());
    }
    outer.commit().await?;
    // Dropped without a commit: rolled back.
    client.transaction().await?.execute("DELETE FROM marks", &[]).await?;
    show("kept", client.query_one("SELECT count(*) FROM marks", &[]).await?.get::<_, i64>(0));
    let many = client.query_raw("SELECT n FROM generate_series(1, 5000) n", [""; 0]).await?;
    let sum =
        many.try_fold(0_i64, |sum, row| async move { Ok(sum + i64::from(row.get::<_, i32>(0))) });
    show("streamed", sum.await?);
    Ok(())
}

async fn copies(client: &Client) -> Done {
    client.batch_execute("DELETE FROM marks").await?;
    let mut sink = pin!(client.copy_in::<_, &[u8]>("COPY marks FROM STDIN").await?);
    sink.send(b"1\t10\ta\n2\t").await?;
    sink.send(b"20\t\\N\n").await?;
    show("copied in", sink.finish().await?);
    let out = client.copy_out("COPY (SELECT * FROM marks ORDER BY id) TO STDOUT").await?;
    let pieces: Vec<_> = out.try_collect().await?;
    show("copied out", String::from_utf8(pieces.concat())?);
    let mut sink = pin!(client.copy_in::<_, &[u8]>("COPY marks FROM STDIN").await?);
    sink.send(b"x\t10\ta\n").await?;
    show("bad line", code(sink.finish().await));
    // Dropped without an end: the copy fails, the session goes on.
    drop(pin!(client.copy_in::<_, &[u8]>("COPY marks FROM STDIN").await?));
    show("left", client.execute("DELETE FROM marks", &[]).await?);
    let mut rows = pin!(client.query_raw("SELECT n FROM generate_series(1, 10) n", [""; 0]).await?);
    show("first", rows.next().await.transpose()?.map(|row| row.get::<_, i32>(0)));
    Ok(())
}

async fn cancel(client: &Client) -> Done {
    let token = client.cancel_token();
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await
    };
    let (slept, cancelled) = join(client.query("SELECT pg_sleep(20)", &[]), later).await;
    cancelled?;
    show("cancelled", code(slept));
    show("usable", client.query_one("SELECT 1", &[]).await?.get::<_, i32>(0));
    Ok(())
}

fn code<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}
