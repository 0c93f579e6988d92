//! Connections to a real PostgreSQL.

mod exchange;

use bytes::{Bytes, BytesMut};
use sortie_postgres::{Address, Bind, ConnInfo, Connection, Frontend, Login, Target};
use sortie_testkit::Postgres;

/// The server's description, for its superuser, without a password.
pub(crate) fn info(postgres: &Postgres) -> ConnInfo {
    let listen = postgres.listen();
    ConnInfo::new(Address::tcp(listen.ip().to_string(), listen.port()), "postgres", "postgres")
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
