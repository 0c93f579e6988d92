//! A herd of callers that read the same at once, each on a connection of its own.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join_all;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Row};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::Done;

const CALLERS: u64 = 200;

type Answer = (i64, String);

pub async fn run(port: u16, driver: &str, folder: &Path) -> Done {
    let answers = match driver {
        "tokio-postgres" => by_tokio_postgres(port, folder).await?,
        "sqlx" => by_sqlx(port, folder).await?,
        other => return Err(format!("there is no {other}").into()),
    };
    let different: HashSet<&Answer> = answers.iter().collect();
    println!("{} answers, {} different", answers.len(), different.len());
    Ok(())
}

fn text(caller: u64) -> String {
    let traced = format!("traceparent='00-{caller:032x}-{caller:016x}-01'");
    format!("SELECT user_id, name FROM users WHERE user_id = $1 /*{traced}*/")
}

async fn go(folder: &Path) -> Done {
    std::fs::write(folder.join("ready"), "")?;
    while !folder.join("go").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn by_tokio_postgres(port: u16, folder: &Path) -> Done<Vec<Answer>> {
    let address = format!("host=127.0.0.1 port={port} user=reader dbname=postgres");
    let (mut clients, mut driven) = (Vec::new(), JoinSet::new());
    for _ in 0..CALLERS {
        let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
        driven.spawn(connection);
        clients.push(client);
    }
    go(folder).await?;
    let reads = (0..).zip(&clients).map(|(caller, client)| async move {
        let row = client.query_one(&text(caller), &[&2_i64]).await?;
        Ok::<_, tokio_postgres::Error>((row.get(0), row.get(1)))
    });
    Ok(try_join_all(reads).await?)
}

async fn by_sqlx(port: u16, folder: &Path) -> Done<Vec<Answer>> {
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port);
    let options = options.username("reader").database("postgres").ssl_mode(PgSslMode::Disable);
    let mut connections = Vec::new();
    for _ in 0..CALLERS {
        connections.push(options.connect().await?);
    }
    go(folder).await?;
    let reads = (0..).zip(&mut connections).map(|(caller, connection)| async move {
        let text = text(caller);
        let row = sqlx::query(&text).bind(2_i64).fetch_one(connection).await?;
        Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?))
    });
    Ok(try_join_all(reads).await?)
}
