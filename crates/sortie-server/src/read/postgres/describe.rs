//! A statement of one shard, described by one of its replicas for everybody who asks the same.
//!
//! Nothing is kept: a description may be outdated by whoever changes a table, and no server tells
//! of that. So each is of a replica that was asked after its reader came.

use std::sync::Arc;

use sortie::{Call, FlightCx, ShardId};

use super::super::error;
use super::super::key::{ReadKey, Shape};
use super::super::path::Inner;
use super::super::source::{Source, wrong};
use super::super::{Description, Fence, Floors, ReadPath, Who};
use super::attempts::Trail;
use super::frames;
use super::kept::Words;
use super::{PgReplica, Query};
use crate::sql::{Identity, Proof, SqlError};

impl ReadPath<PgReplica> {
    /// What a replica that has got as far as `floors` says of the statement of `proof` when it is
    /// prepared with the types that its client has declared.
    ///
    /// # Errors
    ///
    /// As [`ReadPath::read`], but without the shard's name; places in the server's own report are
    /// those in the text of whoever asked first.
    ///
    /// # Cancel safety
    ///
    /// As [`ReadPath::read`].
    pub(crate) async fn describe(
        &self,
        who: &Who,
        shard: ShardId,
        proof: &Proof,
        floors: &Floors,
    ) -> Result<Arc<Description>, SqlError> {
        let key = ReadKey {
            who: who.clone(),
            identity: Identity {
                text: Arc::clone(&proof.judged.text),
                oids: Arc::clone(&proof.judged.oids),
                formats: Arc::default(),
                values: Arc::default(),
            },
            binary: Arc::default(),
            shape: Shape::Described,
            shards: Arc::from([shard]),
            floors: floors.clone(),
        };
        let floor = floors.of(shard.index() as usize);
        let fence = Fence { floor, is_wanted: floor > 0 };
        let load = {
            let (path, proof, who) = (Arc::clone(&self.0), proof.clone(), who.clone());
            move |flight: FlightCx| {
                let frames = frames::described(&proof.text, &proof.judged.oids);
                let words = Words::Own(frames);
                // There are no rows.
                let mut query = Query::new(super::login(&who), words, 0, fence);
                let trail = Trail::of(flight.flight().number(), Some(flight.boarding()));
                query.trail = Arc::new(trail);
                Arc::clone(&path).ask_description(shard, query)
            }
        };
        let described = self.0.descriptions.run_with(key, Call::new(), load).await;
        described
            .map(|landed| landed.value)
            .map_err(|failed| error::flight(&failed, None, self.0.flight_max))
    }
}

impl Inner<PgReplica> {
    async fn ask_description(
        self: Arc<Self>,
        shard: ShardId,
        query: Query,
    ) -> Result<Arc<Description>, SqlError> {
        let asked = self.cluster.read_shard(shard, move |replica| replica.ask(query.clone()));
        let answer = asked.await.map_err(PgReplica::failed)?;
        match answer.parameters {
            Some(parameters) if !answer.head.is_empty() => {
                let (head, notices) = (answer.head, answer.notices);
                Ok(Arc::new(Description { parameters, head, notices }))
            }
            _ => Err(wrong("no description")),
        }
    }
}
