//! The shared lane over real servers: two shards, each with a primary and two standbys, and one
//! more server that has all rows, to compare with.

mod exact;
mod keys;
mod texts;

use std::sync::Arc;

use bytes::Bytes;
use sortie_postgres::{Bind, ConnInfo, PoolConfig, Server};
use sortie_testkit::LabConfig;
use sortie_testkit::{Cluster, Postgres, Wire};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::budget::Budget;
use crate::config::{ClusterConfig, Spread, TableConfig};
use crate::judge::{ClusterServers, SharedLane};
use crate::read::values_of_rows;
use crate::relay::{Asked, Outcome, PipeReason, Shared, Values, Verdict, Who};
use crate::sql::SqlError;

/// Users in the cluster.
const USERS: u32 = 1_000;

/// Tables besides `users`: those with the same rows everywhere, and those with a shard's own.
const TABLES: &str = "
    CREATE TABLE countries (code text COLLATE \"C\" PRIMARY KEY, name text);
    INSERT INTO countries VALUES ('de', 'Germany'), ('fr', NULL);
    CREATE TABLE times (id int8 PRIMARY KEY, at timestamptz NOT NULL);
    INSERT INTO times VALUES (1, '2024-05-06 07:08:09+00'), (2, '2024-12-31 23:59:59+00');
    CREATE TABLE wide (id int8 PRIMARY KEY, filler text NOT NULL);
    INSERT INTO wide SELECT id, repeat('x', 100) FROM generate_series(1, 1000) AS id;
    CREATE VIEW rich AS SELECT * FROM users WHERE balance > 5000;
    CREATE FUNCTION total() RETURNS numeric STABLE LANGUAGE sql AS 'SELECT sum(balance) FROM users';
    CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN;
    GRANT SELECT ON users, countries, times, wide, rich TO ann, reader;
    GRANT SELECT ON countries TO bob;";

/// What a statement came to.
#[derive(Debug, PartialEq)]
enum Said {
    Rows(Vec<Vec<Option<String>>>),
    Piped(PipeReason),
    Refused(SqlError),
}

struct Real {
    cluster: Cluster,
    lane: SharedLane,
    _looking: JoinSet<()>,
}

/// The cluster of all tests here, and the server with all of its rows.
async fn servers() -> &'static (Cluster, Postgres) {
    static SHARED: OnceCell<(Cluster, Postgres)> = OnceCell::const_new();
    let make = || async {
        let mut config = LabConfig::default();
        config.rows = USERS;
        let cluster = Cluster::private(config).await;
        let mut rows = Vec::new();
        for shard in 0..cluster.shards() {
            let primary = cluster.primary(shard);
            primary.script(TABLES).await;
            let sql = "SELECT format('(%s, %L, %s)', user_id, name, balance) FROM users";
            rows.extend(primary.script(sql).await.lines().map(str::to_owned));
        }
        let all = Postgres::start().await;
        let table = "CREATE TABLE users (user_id int8 PRIMARY KEY, \
                     name text COLLATE \"C\" NOT NULL, balance int8 NOT NULL);";
        all.script(&format!("{table} INSERT INTO users VALUES {};", rows.join(", "))).await;
        all.script(TABLES.rsplit_once("CREATE ROLE").map_or("", |(tables, _)| {
            tables.rsplit_once("CREATE ROLE").map_or(tables, |(tables, _)| tables)
        }))
        .await;
        (cluster, all)
    };
    SHARED.get_or_init(make).await
}

impl Real {
    async fn new(change: impl FnOnce(&mut ClusterConfig)) -> Self {
        let (cluster, _) = servers().await;
        let mut config = ClusterConfig::named("bank");
        let table = |name: &str, spread| TableConfig {
            schema: "public".to_owned(),
            name: name.to_owned(),
            spread,
        };
        config.tables = vec![
            table("users", Spread::Hash { key: "user_id".to_owned() }),
            table("countries", Spread::Reference),
        ];
        change(&mut config);
        let server = |node: sortie_testkit::Node| {
            let info: ConnInfo = node.url("reader").parse().unwrap();
            (node.name().to_owned(), Server::new(info, PoolConfig::default()))
        };
        let shards = (0..cluster.shards()).map(|shard| {
            let standbys = cluster.standbys(shard).into_iter().map(server).collect();
            [standbys, vec![server(cluster.primary(shard))]]
        });
        let shards = shards.collect();
        let servers =
            ClusterServers { config: &config, database: "sortie", valve: Arc::default(), shards };
        let lane = SharedLane::new([servers], (None, &Budget::default()));
        let mut looking = JoinSet::new();
        for (_, keeper) in lane.keepers() {
            looking.spawn(async move { match keeper.await {} });
        }
        lane.looked().await;
        Self { cluster: cluster.clone(), lane, _looking: looking }
    }

    async fn say(&self, who: &Arc<Who>, text: &str, oids: &[u32], values: &Values) -> Said {
        let plan = match self.lane.judge(who, &Asked { text, oids }) {
            Verdict::Share(plan) => plan,
            Verdict::Pipe(reason) => return Said::Piped(reason),
            Verdict::Refuse(error) => return Said::Refused(*error),
        };
        match self.lane.read(who, &plan, values, &crate::read::Wish::default()).await {
            Ok(Outcome::Pipe(reason)) => Said::Piped(reason),
            Err(error) => Said::Refused(error),
            Ok(Outcome::Large(mut large)) => {
                let mut rows = Vec::new();
                while let Some(more) = large.next().await.unwrap() {
                    rows.extend_from_slice(&more);
                }
                let rows = values_of_rows(&rows.into()).unwrap();
                assert_eq!(large.complete()[5..], *format!("SELECT {}\0", rows.len()).as_bytes());
                let formats = formats(&large.head);
                Said::Rows(rows.into_iter().map(|row| texts_of(&row, &formats)).collect())
            }
            Ok(Outcome::Reply(reply, _)) => {
                assert_eq!(reply.head[0], b'T', "{text}");
                let rows = values_of_rows(&reply.rows).unwrap();
                let tag = format!("SELECT {}\0", rows.len());
                assert_eq!(&reply.tag[5..], tag.as_bytes(), "{text}");
                Said::Rows(
                    rows.into_iter().map(|row| texts_of(&row, &formats(&reply.head))).collect(),
                )
            }
        }
    }

    /// Asks all shards by a simple query.
    async fn ask(&self, text: &str) -> Said {
        self.say(&who(None, "reader", &[]), text, &[], &Values::Simple).await
    }
}

fn who(shard: Option<usize>, user: &str, parameters: &[(&str, &str)]) -> Arc<Who> {
    let parameters = parameters.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Arc::new(Who {
        cluster: 0,
        shard,
        user: user.into(),
        credential: None,
        parameters: parameters.collect(),
    })
}

fn bound(formats: &[i16], values: &[Option<Bytes>], results: &[i16]) -> Values {
    let bind = Bind {
        portal: Bytes::new(),
        statement: Bytes::new(),
        formats: formats.to_vec(),
        values: values.to_vec(),
        result_formats: results.to_vec(),
    };
    Values::Bound { bind, rows_max: 0 }
}

/// The type and the format of each column of a `RowDescription`.
fn formats(head: &[u8]) -> Vec<(u32, i16)> {
    let mut rest = &head[7..];
    let mut formats = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let fixed = &rest[end + 1..end + 19];
        let oid = u32::from_be_bytes(fixed[6..10].try_into().unwrap());
        formats.push((oid, i16::from_be_bytes(fixed[16..18].try_into().unwrap())));
        rest = &rest[end + 19..];
    }
    formats
}

fn texts_of(row: &[Option<Bytes>], formats: &[(u32, i16)]) -> Vec<Option<String>> {
    assert_eq!(row.len(), formats.len());
    let text = |(value, (oid, format)): (&Option<Bytes>, &(u32, i16))| {
        let value = value.as_ref()?;
        Some(match (oid, format) {
            (20, 1) => i64::from_be_bytes(value[..].try_into().unwrap()).to_string(),
            (23, 1) => i32::from_be_bytes(value[..].try_into().unwrap()).to_string(),
            (1700, 1) => crate::sql::Decimal::from_binary(value).unwrap().to_string(),
            _ => String::from_utf8(value.to_vec()).unwrap(),
        })
    };
    row.iter().zip(formats).map(text).collect()
}

/// Asks the server that has all rows.
async fn oracle() -> Wire {
    Wire::connect_as(servers().await.1.listen(), "postgres").await
}
