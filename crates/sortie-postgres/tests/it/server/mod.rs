//! Connections to a real PostgreSQL.

mod exchange;
mod garbage;
mod login;
mod owed;
mod rig;

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use sortie_postgres::{Address, Bind, ConnInfo, Connection, Frontend, Login, Target};
use sortie_testkit::{Cluster, LabConfig, Postgres};
use tokio::sync::OnceCell;

/// A primary and a standby that the tests share and leave as they are.
async fn cluster() -> &'static Cluster {
    static SHARED: OnceCell<Cluster> = OnceCell::const_new();
    let start = || {
        let mut config = LabConfig::default();
        (config.shards, config.replicas, config.sample) = (1, 1, false);
        Cluster::private(config)
    };
    SHARED.get_or_init(start).await
}

/// A server's description, for its superuser, without a password.
pub(crate) fn info(postgres: &Postgres) -> ConnInfo {
    at(postgres.listen())
}

fn at(listen: SocketAddr) -> ConnInfo {
    ConnInfo::new(Address::tcp(listen.ip().to_string(), listen.port()), "postgres", "postgres")
}

/// A session on the primary.
async fn session() -> Connection {
    open(&at(cluster().await.primary(0).address())).await
}

pub(crate) async fn open(info: &ConnInfo) -> Connection {
    Connection::open(info, &Login::of(info)).await.unwrap_or_else(|error| panic!("{error}"))
}

/// A Query.
pub(crate) fn simple(text: &'static str) -> Bytes {
    let mut frames = BytesMut::new();
    Frontend::Query { text: Bytes::from_static(text.as_bytes()) }.encode(&mut frames);
    frames.freeze()
}

/// Parse, Bind, Describe, Execute, Sync of one statement without parameters.
pub(crate) fn extended(text: &'static str) -> Bytes {
    let (none, text) = (Bytes::new(), Bytes::from_static(text.as_bytes()));
    let bind = Bind {
        portal: none.clone(),
        statement: none.clone(),
        formats: vec![],
        values: vec![],
        result_formats: vec![],
    };
    let mut frames = BytesMut::new();
    for frame in [
        Frontend::Parse { statement: none.clone(), text, oids: vec![] },
        Frontend::Bind(bind),
        Frontend::Describe { target: Target::Portal, name: none.clone() },
        Frontend::Execute { portal: none, rows_max: 0 },
        Frontend::Sync,
    ] {
        frame.encode(&mut frames);
    }
    frames.freeze()
}
