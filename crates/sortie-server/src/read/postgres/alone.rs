//! A read of one shard: the client's own statement to one of its replicas, the rows as they come.
//!
//! # Invariants
//!
//! 1. What is sent is the leader's text and values, byte for byte; nobody else's differ in more
//!    than ordinary comments.
//! 2. A place in an error is one in the text of the reader who is told.
//! 3. An answer past the sharing limit is never held: one of those who wait for it takes it piece
//!    by piece, and the others ask for themselves, few at a time. One that takes longer than a
//!    flight may is not given up. For some seconds nobody tries either again.

use std::sync::Arc;

use bytes::Bytes;
use sortie::{FlightCx, FlightError, ShardId};
use sortie_postgres::Bind;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::super::error;
use super::super::fresh::{Demand, Fence, Floors, Landed, Wish, is_behind};
use super::super::key::{ReadKey, Shape};
use super::super::path::{Inner, Landing};
use super::super::source::Source;
use super::super::too_big::Why;
use super::super::{ReadPath, Reply, Who};
use super::attempts::Trail;
use super::kept::{Statement, Words, is_worth_it};
use super::large::{Asking, Large, Offer};
use super::{Answer, PgReplica, Query, Rows};
use crate::budget::Budget;
use crate::sql::{Identity, Proof, SqlError};

/// What a read of one shard comes to.
pub(crate) enum Alone {
    Landed(Landed),
    /// The answer is too big to be shared.
    Large(Box<Large>),
    /// It takes longer than a flight may.
    Slow,
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
        let (results, is_kept) = bind.map_or((&[][..], false), results);
        let key = ReadKey {
            who: who.clone(),
            identity: Identity {
                text: Arc::clone(&proof.judged.text),
                oids: Arc::clone(&proof.judged.oids),
                formats: bind.map_or(&[][..], |bind| &bind.formats).into(),
                // Copied: the key must not pin a client's read buffer.
                values: bind.map_or_else(Arc::default, |bind| {
                    bind.values.iter().map(|it| it.as_deref().map(Bytes::copy_from_slice)).collect()
                }),
            },
            binary: results.iter().map(|format| *format == 1).collect(),
            shape: rows_max.map_or(Shape::Simple, |rows_max| Shape::Extended { rows_max }),
            shards: Arc::from([shard]),
            floors: Floors::default(),
        };
        let path = &self.0;
        let asking = Asking { shard, proof, results, wish };
        match path.too_big.why(&key) {
            Some(Why::Big(turns)) => return path.by_itself(key, turns, asking).await,
            Some(Why::Slow) => return Ok(Alone::Slow),
            None => {}
        }
        let load = {
            let (path, proof, key) = (Arc::clone(path), proof.clone(), key.clone());
            let results: Arc<[i16]> = results.into();
            move |flight: FlightCx, demand: Demand| {
                let (path, proof) = (Arc::clone(&path), proof.clone());
                let fence = path.fence(shard, &demand);
                let whole_max = path.budget.whole_max(path.share_max);
                let mut query = query(&key, (&proof, &results, is_kept), fence, whole_max);
                let trail = Trail::of(flight.flight().number(), Some(flight.boarding()));
                query.trail = Arc::new(trail);
                async move {
                    let answer = path.ask(shard, query).await;
                    let moved = |error: SqlError| error.moved(|at| proof.canonical.canonical(at));
                    let Some(answer) = answer.map_err(moved)? else { return Ok(Landing::Behind) };
                    Ok(match answer.rows {
                        Rows::Whole(_) => Landing::Whole(answer.landed(shard, &path.budget)),
                        Rows::More(rest) => {
                            Landing::TooBig(Offer::new(answer.head, rest, answer.mark, proof))
                        }
                    })
                }
            }
        };
        match path.fly(key.clone(), wish, load).await {
            Ok(Landing::Whole(landed)) => Ok(Alone::Landed(landed)),
            Ok(Landing::Behind) => Ok(Alone::Behind),
            Ok(Landing::TooBig(offer)) => {
                let turns = path.too_big.add_big(key.clone());
                let admits = |mark| wish.floors.admit(&[(shard.index() as usize, mark)]);
                let Some(offered) = offer.take(admits) else {
                    return path.by_itself(key, turns, asking).await;
                };
                let turn = turns.try_acquire_owned().ok();
                Ok(Alone::Large(Box::new(Large::new(offered, asking, turn))))
            }
            // By its own clock it may go on.
            Err(FlightError::TimedOut) if wish.deadline.is_none_or(|it| it > Instant::now()) => {
                path.too_big.add_slow(key);
                Ok(Alone::Slow)
            }
            Err(failed) => {
                let error = error::flight(&failed, wish.deadline, path.flight_max);
                Err(error.moved(|at| proof.canonical.original(at)))
            }
        }
    }
}

impl Inner<PgReplica> {
    /// Asks the replicas. `None` if none has got as far as wished.
    async fn ask(&self, shard: ShardId, query: Query) -> Result<Option<Answer>, SqlError> {
        let asked = self.cluster.read_shard(shard, move |replica| replica.ask(query.clone()));
        match asked.await {
            Ok(answer) => Ok(Some(answer)),
            Err(failed) if is_behind::<PgReplica>(&failed) => Ok(None),
            Err(failed) => Err(PgReplica::failed(failed)),
        }
    }

    /// Asks for one reader, when it is his turn.
    async fn by_itself(
        &self,
        key: ReadKey,
        turns: Arc<Semaphore>,
        asking: Asking<'_>,
    ) -> Result<Alone, SqlError> {
        let Asking { shard, proof, results, wish } = asking;
        let is_marked = !wish.floors.is_none();
        let fence = self.fence(shard, &Demand { floors: wish.floors.clone(), is_marked });
        let whole_max = self.budget.whole_max(self.share_max);
        let query = query(&key, (proof, &results.into(), false), fence, whole_max);
        let asked = async {
            let turn = turns.acquire_owned().await.expect("turns are never closed");
            Ok((turn, self.ask(shard, query).await?))
        };
        let (turn, answer) = match wish.deadline {
            None => asked.await?,
            Some(at) => {
                timeout_at(at, asked).await.map_err(|_late| error::statement_timeout())??
            }
        };
        let Some(answer) = answer else { return Ok(Alone::Behind) };
        Ok(match answer.rows {
            Rows::Whole(_) => Alone::Landed(answer.landed(shard, &self.budget)),
            Rows::More(rest) => {
                self.too_big.add_big(key);
                let offered = (answer.head, rest, answer.mark, proof.clone());
                Alone::Large(Box::new(Large::new(offered, asking, Some(turn))))
            }
        })
    }
}

impl Answer {
    /// A whole one, for all who share it.
    fn landed(self, shard: ShardId, budget: &Budget) -> Landed {
        let Self { head, rows, is_suspended, count, mark, notices, .. } = self;
        let rows = match rows {
            Rows::Whole(rows) => budget.counted(rows),
            Rows::More(_) => unreachable!("it was looked at"),
        };
        let marks = Arc::from([(shard.index() as usize, mark)]);
        let reply = Arc::new(Reply { head, rows, count, is_suspended, notices });
        Landed { reply, marks, ended: Instant::now() }
    }
}

/// The formats of its columns, and whether its client has prepared the statement for more than one
/// time.
fn results(bind: &Bind) -> (&[i16], bool) {
    (&bind.result_formats, !bind.statement.is_empty())
}

fn query(
    key: &ReadKey,
    (proof, results, is_kept): (&Proof, &Arc<[i16]>, bool),
    fence: Fence,
    share_max: usize,
) -> Query {
    let statement = Statement { proof: proof.clone(), key: key.clone(), results: results.clone() };
    let words = if is_kept && is_worth_it(proof) {
        Words::Kept(Arc::new(statement))
    } else {
        Words::Own(statement.own())
    };
    Query::new(super::login(&key.who), words, share_max, fence)
}
