//! Statements against what PostgreSQL 15 makes of them, and the whitelist against anything else.

mod bound;
mod classifier;
mod edges;
mod refused;
mod typed;

use bytes::Bytes;

use super::*;

fn prepared(text: &str, oids: Option<&[u32]>) -> Result<Prepared, SqlError> {
    prepare(text, oids, &Catalog::embedded())
}

fn read(text: &str, values: &[Option<&'static str>]) -> BoundRead {
    let oids: Option<&[u32]> = if values.is_empty() { None } else { Some(&[]) };
    let values: Vec<_> = values
        .iter()
        .map(|value| value.map(|value| Bytes::from_static(value.as_bytes())))
        .collect();
    match prepared(text, oids).unwrap().bind(&[], &values).unwrap() {
        Bound::Read(read) => read,
        Bound::Local(local) => panic!("{text} is local: {local:?}"),
    }
}
