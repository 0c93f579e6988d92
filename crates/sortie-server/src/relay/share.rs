//! Statements that the shared lane answers.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use sortie_postgres::backend;
use tokio::io::{AsyncRead, AsyncWrite};

use super::buffers;
use super::decide::Single;
use super::ledger::Statement;
use super::session::{Session, Signals};
use super::shared::{Outcome, PipeReason, Reply, Shared, Values, Who};
use super::switches::Switches;
use crate::session::failure::Failure;

/// Rows up to this length are copied behind what waits: cheaper than a second write.
const COPY_MAX: usize = 16 << 10;

/// What was asked, for whoever says the answer.
pub(super) enum Share<P> {
    /// A simple query of this length.
    Simple(usize),
    /// A batch about the statement of this name, which it has prepared if it is here.
    Single(Single, Bytes, Option<Box<Statement<P>>>),
}

impl<'a, S, L> Session<'a, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Has a statement with this hint read by the shared lane, and says what comes of it.
    pub(super) async fn share<D: Future<Output = ()>>(
        &mut self,
        who: &Arc<Who>,
        plan: &Arc<L::Plan>,
        (asked, hint): (Share<L::Plan>, Switches),
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<(), Failure> {
        self.release();
        let values = match &asked {
            Share::Simple(_) => Some(Values::Simple),
            Share::Single(single, ..) => {
                let bind = single.bound(&self.client.input);
                bind.map(|bind| Values::Bound { bind, rows_max: single.rows_max })
            }
        };
        let Some(values) = values else { return self.pipe(PipeReason::Shape, signals).await };
        let inner = self.inner;
        let running = inner.stats.statement();
        let (cluster, target) = (Arc::clone(&self.cluster), self.account.target);
        let switches = self.switches(hint);
        let mut seen = std::mem::take(&mut self.seen);
        let read = Box::pin(async {
            if !cluster.settle(&mut seen, target).await {
                return Ok(Outcome::Pipe(PipeReason::Behind));
            }
            inner.lane.read(who, plan, &values, &seen.wish(switches)).await
        });
        let read = self.attend(read, signals).await?;
        self.seen = seen;
        drop(running);
        match read {
            Ok(Outcome::Reply(reply, landed)) => {
                self.cluster.see(&mut self.seen, &landed);
                self.lanes.shared();
                self.answer(&reply, asked).await
            }
            Ok(Outcome::Pipe(reason)) => self.pipe(reason, signals).await,
            Err(error) => {
                self.lanes.shared();
                let len = match asked {
                    Share::Simple(len) => {
                        self.ledger.forget(b"");
                        len
                    }
                    Share::Single(single, name, new) => {
                        if let Some(new) = new {
                            // Its Parse had succeeded, and so did the Bind perhaps.
                            backend::parse_complete(&mut self.client.output);
                            self.remember(&name, new);
                        }
                        single.len
                    }
                };
                self.client.input.advance(len);
                self.fail(&error, true);
                Ok(())
            }
        }
    }

    /// Says an answer, in the protocol by which it was asked for.
    async fn answer(&mut self, reply: &Reply, asked: Share<L::Plan>) -> Result<(), Failure> {
        self.keep_portal(match &asked {
            Share::Single(single, ..) if !single.closes => single.bind.clone(),
            Share::Single(..) | Share::Simple(_) => None,
        });
        let output = &mut self.client.output;
        buffers::borrow(output);
        let mut closes = false;
        match asked {
            Share::Simple(len) => {
                self.client.input.advance(len);
                self.ledger.forget(b"");
                output.extend_from_slice(&reply.head);
            }
            Share::Single(single, name, new) => {
                if single.parse.is_some() {
                    backend::parse_complete(output);
                }
                backend::bind_complete(output);
                if single.describes {
                    output.extend_from_slice(&reply.head);
                }
                closes = single.closes;
                self.client.input.advance(single.len);
                if let Some(new) = new {
                    self.remember(&name, new);
                }
            }
        }
        if reply.rows.len() <= COPY_MAX {
            self.client.output.extend_from_slice(&reply.rows);
        } else {
            self.client.write(reply.rows.clone()).await?;
        }
        self.client.output.extend_from_slice(&reply.tag);
        if closes {
            backend::close_complete(&mut self.client.output);
        }
        self.ready();
        Ok(())
    }
}
