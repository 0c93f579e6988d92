//! The read path over embedded clusters: what it answers, what it asks, what it says when a
//! shard fails.

mod generated;
mod merged;
mod real;
mod shared;

use bytes::Bytes;
use sortie_postgres::backend;
use sortie_sqlite::{Embedded, EmbeddedConfig, Replica, Value};

use super::*;
use crate::sql::{Bound, BoundRead, Catalog, Column, Settings, SqlError, Type, prepare};

/// A cluster and the path to it.
struct Rig {
    cluster: Embedded,
    path: ReadPath<Replica>,
    who: Who,
}

impl Rig {
    fn new(config: &EmbeddedConfig, reads: &ReadConfig) -> Self {
        let cluster = Embedded::create(config).unwrap();
        let path = ReadPath::new(cluster.shards(), reads);
        let who = Who::from(&Settings::new("ann", "app", []).unwrap());
        Self { cluster, path, who }
    }

    /// Statements that reached a replica.
    fn statements(&self) -> u64 {
        self.cluster.shards().iter().flatten().map(|replica| replica.stats().statements).sum()
    }

    async fn ask(&self, text: &str) -> Result<Vec<Vec<Option<String>>>, SqlError> {
        let bound = bound(text, None, &[], &[])?;
        let reply = self.path.read(&self.who, &bound, &[], None).await?;
        Ok(rows(&reply, bound.columns(), &[]))
    }
}

fn config(shards: usize, rows: u32) -> EmbeddedConfig {
    let mut config = EmbeddedConfig::default();
    (config.shards, config.replicas, config.rows) = (shards, 2, rows);
    config
}

fn bound(
    text: &str,
    oids: Option<&[u32]>,
    formats: &[i16],
    values: &[Option<Bytes>],
) -> Result<BoundRead, SqlError> {
    match prepare(text, oids, &Catalog::embedded())?.bind(formats, values)? {
        Bound::Read(read) => Ok(read),
        Bound::Local(local) => panic!("{text} is local: {local:?}"),
    }
}

/// Decodes `DataRow` frames to text; `formats` as in a Bind message.
fn rows(reply: &Reply, columns: &[Column], formats: &[i16]) -> Vec<Vec<Option<String>>> {
    let mut rest = &reply.rows[..];
    let mut rows = Vec::new();
    while !rest.is_empty() {
        assert_eq!(rest[0], b'D');
        let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        let (mut body, after) = (&rest[7..=length], &rest[1 + length..]);
        assert_eq!(usize::from(u16::from_be_bytes([rest[5], rest[6]])), columns.len());
        let mut row = Vec::new();
        for (at, column) in columns.iter().enumerate() {
            let format = formats.get(if formats.len() == 1 { 0 } else { at }).copied().unwrap_or(0);
            let length = i32::from_be_bytes(body[..4].try_into().unwrap());
            body = &body[4..];
            let Ok(length) = usize::try_from(length) else {
                row.push(None);
                continue;
            };
            row.push(Some(text(&body[..length], column.ty, format)));
            body = &body[length..];
        }
        assert!(body.is_empty());
        rows.push(row);
        rest = after;
    }
    assert_eq!(rows.len() as u64, reply.count);
    rows
}

fn text(bytes: &[u8], ty: Type, format: i16) -> String {
    match (ty, format) {
        (_, 0) | (Type::Text, _) => String::from_utf8(bytes.into()).unwrap(),
        (Type::Int8, _) => i64::from_be_bytes(bytes.try_into().unwrap()).to_string(),
        (Type::Int4, _) => i32::from_be_bytes(bytes.try_into().unwrap()).to_string(),
        (Type::Numeric, _) => crate::sql::Decimal::from_binary(bytes).unwrap().to_string(),
        (ty, _) => panic!("no column is {ty:?}"),
    }
}
