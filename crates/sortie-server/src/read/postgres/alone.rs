//! A read of one shard: the client's own statement to one of its replicas, the rows as they come.
//!
//! # Invariants
//!
//! 1. What is sent is the leader's text and values, byte for byte; nobody else's differ in more
//!    than ordinary comments.
//! 2. A place in an error is one in the text of the reader who is told.
//! 3. An answer past the sharing limit is never held, and one that takes longer than a flight may
//!    is not given up: everybody reads for himself, and for some seconds nobody tries again.

use std::sync::Arc;

use bytes::Bytes;
use sortie::{FlightCx, FlightError, ShardId};
use sortie_postgres::{Bind, Request};
use tokio::time::Instant;

use super::super::error;
use super::super::fresh::{Demand, Fence, Floors, Landed, Wish, is_behind};
use super::super::key::{ReadKey, Shape};
use super::super::path::{Inner, Landing};
use super::super::source::Source;
use super::super::{ReadPath, Reply, Who};
use super::attempts::Trail;
use super::frames::{self, Values};
use super::{Answer, PgReplica, Query};
use crate::sql::{Identity, Proof, SqlError};

/// What a read of one shard comes to.
pub(crate) enum Alone {
    Landed(Landed),
    /// The answer is too big to be shared, or takes longer than a flight may.
    Unshared,
    /// No replica has got as far as wished.
    Behind,
}

impl ReadPath<PgReplica> {
    /// Reads from one shard what `proof` asks for. `bind` is missing for a simple query; that of an
    /// extended one comes with how many rows are wanted, where 0 means all.
    ///
    /// # Errors
    ///
    /// As [`ReadPath::read`], but without the shard's name; a server's report as it came.
    ///
    /// # Cancel safety
    ///
    /// As [`ReadPath::read`].
    pub(crate) async fn read_alone(
        &self,
        who: &Who,
        shard: ShardId,
        proof: &Proof,
        bind: Option<(&Bind, u32)>,
        wish: &Wish,
    ) -> Result<Alone, SqlError> {
        let (bind, rows_max) = bind.unzip();
        let results = bind.map_or(&[][..], |bind| &bind.result_formats);
        let key = ReadKey {
            who: who.clone(),
            identity: Identity {
                text: Arc::clone(&proof.judged.text),
                oids: Arc::clone(&proof.judged.oids),
                formats: bind.map_or(&[][..], |bind| &bind.formats).into(),
                // Copied: the key must not pin a client's read buffer.
                values: bind.map_or_else(Arc::default, |bind| {
                    let copied = |value: &Bytes| Bytes::copy_from_slice(value);
                    bind.values.iter().map(|value| value.as_ref().map(copied)).collect()
                }),
            },
            binary: results.iter().map(|format| *format == 1).collect(),
            shape: rows_max.map_or(Shape::Simple, |rows_max| Shape::Extended { rows_max }),
            shards: Arc::from([shard]),
            floors: Floors::default(),
        };
        let path = &self.0;
        if path.too_big.has(&key) {
            return Ok(Alone::Unshared);
        }
        let load = {
            let (path, proof, key) = (Arc::clone(path), proof.clone(), key.clone());
            let results: Arc<[i16]> = results.into();
            move |flight: FlightCx, demand: Demand| {
                let (path, proof) = (Arc::clone(&path), proof.clone());
                let fence = path.fence(shard, &demand);
                let mut query = query(&key, (&proof.text, &results), fence, path.share_max);
                let trail = Trail::of(flight.flight().number(), Some(flight.boarding()));
                query.trail = Arc::new(trail);
                async move {
                    let landed = path.ask(shard, query).await;
                    landed.map_err(|error| error.moved(|at| proof.canonical.canonical(at)))
                }
            }
        };
        match path.fly(key.clone(), wish, load).await {
            Ok(Landing::Whole(landed)) => Ok(Alone::Landed(landed)),
            Ok(Landing::Behind) => Ok(Alone::Behind),
            Ok(Landing::TooBig) => {
                path.too_big.add(key);
                Ok(Alone::Unshared)
            }
            // By its own clock it may go on.
            Err(FlightError::TimedOut) if wish.deadline.is_none_or(|it| it > Instant::now()) => {
                path.too_big.add(key);
                Ok(Alone::Unshared)
            }
            Err(failed) => {
                let error = error::flight(&failed, wish.deadline, path.flight_max);
                Err(error.moved(|at| proof.canonical.original(at)))
            }
        }
    }
}

impl Inner<PgReplica> {
    async fn ask(self: Arc<Self>, shard: ShardId, query: Query) -> Result<Landing, SqlError> {
        let asked = self.cluster.read_shard(shard, move |replica| replica.ask(query.clone()));
        let answer = match asked.await {
            Ok(answer) => answer,
            Err(failed) if is_behind::<PgReplica>(&failed) => return Ok(Landing::Behind),
            Err(failed) => return Err(PgReplica::failed(failed)),
        };
        let Answer { head, rows, is_suspended, count, mark, .. } = answer;
        let marks = Arc::from([(shard.index() as usize, mark)]);
        Ok(match rows {
            Some(rows) => {
                let reply = Arc::new(Reply { head, rows, count, is_suspended });
                Landing::Whole(Landed { reply, marks, ended: Instant::now() })
            }
            None => Landing::TooBig,
        })
    }
}

fn query(key: &ReadKey, (text, results): (&str, &[i16]), fence: Fence, share_max: usize) -> Query {
    let Identity { oids, formats, values, .. } = &key.identity;
    let rows_max = match key.shape {
        Shape::Extended { rows_max } => rows_max,
        Shape::Simple | Shape::Described | Shape::Merged => 0,
    };
    let values = Values { formats, params: values, results, rows_max };
    let frames = frames::batch(text, oids, &values, true);
    let request = Request::new(frames).whole_max(share_max);
    Query::new(super::login(&key.who), request, fence)
}
