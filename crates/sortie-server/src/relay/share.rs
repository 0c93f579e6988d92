//! Statements that the shared lane answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use sortie_postgres::backend;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::decide::Single;
use super::ledger::Statement;
use super::session::{Session, Signals};
use super::shared::{Description, Notices, Outcome, PipeReason, Reply, Shared, Values, Who};
use super::switches::Switches;
use super::{buffers, describe};
use crate::read::Floors;
use crate::session::failure::Failure;
use crate::sql::{SqlError, state};

/// Rows up to this length are copied behind what waits: cheaper than a second write.
const COPY_MAX: usize = 16 << 10;

/// So long a client that has called a statement back waits for its columns.
const TOLD_MAX: Duration = Duration::from_millis(100);

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
        let described = match &asked {
            Share::Single(single, ..) if single.described.is_some() => {
                match self.describe(who, plan, signals).await? {
                    Ok(None) => return self.pipe(PipeReason::Error, signals).await,
                    described => described,
                }
            }
            Share::Single(..) | Share::Simple(_) => Ok(None),
        };
        let light = self.show((who, plan), &asked);
        let running = self.inner.stats.statement();
        let read = match &described {
            Ok(_) => self.read(who, plan, (&values, self.switches(hint)), signals).await?,
            Err(error) => Err(error.clone()),
        };
        drop(running);
        let told = described.ok().flatten();
        let read =
            read.and_then(|outcome| self.checked(outcome, told.as_deref(), (&asked, &values)));
        match read {
            Ok(Outcome::Reply(reply, landed)) => {
                self.cluster.see(&mut self.seen, &landed);
                self.lanes.shared();
                if let Some(light) = light {
                    self.shown(&asked, &light);
                }
                self.answer(&reply, told.as_deref(), asked).await
            }
            Ok(Outcome::Large(large)) => {
                self.lanes.shared();
                self.lanes.large();
                let closes =
                    self.begin_answer((&large.head, large.notices()), told.as_deref(), asked);
                self.pass_on(*large, closes, signals).await
            }
            Ok(Outcome::Pipe(reason)) => self.pipe(reason, signals).await,
            Err(error) => {
                self.lanes.shared();
                let ran = error.code == state::QUERY_CANCELED && error.report.is_none();
                let head = match &asked {
                    Share::Single(single, ..) if !single.describes => None,
                    _ if !ran => None,
                    _ => self.columns(who, plan, &values, signals).await?,
                };
                self.fail_read(&error, (ran, head), told.as_deref(), asked);
                Ok(())
            }
        }
    }

    /// The columns of a statement that was called back here: PostgreSQL has told them when it runs.
    /// None if no replica says so at once.
    async fn columns<D: Future<Output = ()>>(
        &mut self,
        who: &Arc<Who>,
        plan: &Arc<L::Plan>,
        values: &Values,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<Option<Bytes>, Failure> {
        if self.cluster.valve.is_closed() {
            return Ok(None);
        }
        let world = Arc::clone(&self.world);
        let described = Box::pin(async {
            let floors = Floors::default();
            Ok(timeout(TOLD_MAX, world.lane.describe(who, plan, &floors)).await.ok().flatten())
        });
        let formats = match values {
            Values::Simple => &[][..],
            Values::Bound { bind, .. } => &bind.result_formats,
        };
        let described = self.attend(described, signals).await?.ok().flatten();
        Ok(described.map(|it| describe::with_formats(&it.head, formats)))
    }

    /// Says that a read has failed; `ran` if it was called back while it ran, with its columns.
    fn fail_read(
        &mut self,
        error: &SqlError,
        (ran, head): (bool, Option<Bytes>),
        told: Option<&Description>,
        asked: Share<L::Plan>,
    ) {
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
                if ran {
                    if let Some(told) = told {
                        self.tell(&name, told);
                    }
                    backend::bind_complete(&mut self.client.output);
                }
                single.len
            }
        };
        self.client.output.extend_from_slice(&head.unwrap_or_default());
        self.client.input.advance(len);
        self.fail(error, true);
    }

    /// Has a statement read, as soon as its cluster is not paused.
    async fn read<D: Future<Output = ()>>(
        &mut self,
        who: &Arc<Who>,
        plan: &Arc<L::Plan>,
        (values, switches): (&Values, Switches),
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<Result<Outcome, SqlError>, Failure> {
        let _work = match self.admitted(signals).await? {
            Ok(work) => work,
            Err(error) => return Ok(Err(error)),
        };
        let (world, cluster) = (Arc::clone(&self.world), Arc::clone(&self.cluster));
        let target = self.account.target;
        let since = self.meter.shares();
        let mut seen = std::mem::take(&mut self.seen);
        let read = Box::pin(async {
            if !cluster.settle(&mut seen, target).await {
                return Ok(Outcome::Pipe(PipeReason::Behind));
            }
            world.lane.read(who, plan, values, &seen.wish(switches)).await
        });
        let read = self.attend(read, signals).await?;
        self.seen = seen;
        self.meter.shared(since, self.lazy.is_none());
        Ok(read)
    }

    /// Whether an answer has the columns that its reader was told of, or is told of with it.
    fn checked(
        &self,
        outcome: Outcome,
        told: Option<&Description>,
        (asked, values): (&Share<L::Plan>, &Values),
    ) -> Result<Outcome, SqlError> {
        let head = match &outcome {
            Outcome::Reply(reply, _) => &reply.head,
            Outcome::Large(large) => &large.head,
            Outcome::Pipe(_) => return Ok(outcome),
        };
        let Share::Single(single, name, new) = asked else { return Ok(outcome) };
        if told.is_some_and(|told| !describe::is_same(&told.head, head)) {
            // The table was changed between the two; nothing has been said yet.
            return Ok(Outcome::Pipe(PipeReason::Catalog));
        }
        let takes_any = single.describes && !values.know_columns();
        if !takes_any && new.is_none() && self.changes_columns(name, head) {
            return Err(describe::changed());
        }
        Ok(outcome)
    }

    /// Says an answer, in the protocol by which it was asked for; `told` if the statement's
    /// description was asked for ahead of it.
    async fn answer(
        &mut self,
        reply: &Reply,
        told: Option<&Description>,
        asked: Share<L::Plan>,
    ) -> Result<(), Failure> {
        let closes = self.begin_answer((&reply.head, reply.notices.as_deref()), told, asked);
        if reply.rows.len() <= COPY_MAX {
            self.client.output.extend_from_slice(&reply.rows);
        } else {
            self.client.write(reply.rows.clone()).await?;
        }
        self.end_answer(&reply.tag, closes);
        Ok(())
    }

    /// Says what comes in front of an answer's rows. Returns whether the portal is closed behind
    /// them.
    fn begin_answer(
        &mut self,
        (head, notices): (&Bytes, Option<&Notices>),
        told: Option<&Description>,
        asked: Share<L::Plan>,
    ) -> bool {
        self.keep_portal(match &asked {
            Share::Single(single, ..) if !single.closes => single.bind.clone(),
            Share::Single(..) | Share::Simple(_) => None,
        });
        let output = &mut self.client.output;
        buffers::borrow(output);
        let parsing = notices.map_or(&b""[..], |notices| &notices.parsing);
        let running = notices.map_or(&b""[..], |notices| &notices.running);
        match asked {
            Share::Simple(len) => {
                self.client.input.advance(len);
                self.ledger.forget(b"");
                output.extend_from_slice(parsing);
                output.extend_from_slice(running);
                output.extend_from_slice(head);
                false
            }
            Share::Single(single, name, new) => {
                if single.parse.is_some() {
                    output.extend_from_slice(parsing);
                    backend::parse_complete(output);
                }
                if let Some(new) = new {
                    self.remember(&name, new);
                }
                if let Some(told) = told {
                    self.tell(&name, told);
                }
                self.client.output.extend_from_slice(running);
                backend::bind_complete(&mut self.client.output);
                if single.describes {
                    self.client.output.extend_from_slice(head);
                    self.keep_told(&name, head);
                }
                self.client.input.advance(single.len);
                single.closes
            }
        }
    }

    /// Says what comes behind them.
    pub(super) fn end_answer(&mut self, tag: &[u8], closes: bool) {
        self.client.output.extend_from_slice(tag);
        if closes {
            backend::close_complete(&mut self.client.output);
        }
        self.ready();
    }
}
