//! The driver of a group: polls the body and the tasks that were woken, ends at the first failure.

use std::any::Any;
use std::future::poll_fn;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::{Level, Span, debug_span, enabled};

use super::error::{GroupError, OTHERS_MAX, Stop, Task, TaskError, TaskFailure};
use super::{BoxTask, Shared};

/// A scope under way.
pub(super) struct Driver<'env, T, E, B> {
    members: FuturesUnordered<Member<'env, E, B>>,
    timer: Option<Pin<Box<Sleep>>>,
    shared: Arc<Shared<'env, E>>,
    returned: Option<T>,
    failed: Vec<TaskError<E>>,
    cancelled: usize,
}

/// What the driver polls: the body beside the tasks, so that each is polled only when woken.
enum Member<'env, E, B> {
    Body(Pin<Box<B>>),
    Spawned { ordinal: usize, span: Option<Box<Span>>, future: BoxTask<'env, E> },
}

enum Ended<T, E> {
    Body(Result<T, Stop<E>>),
    Spawned(usize, Result<(), E>),
}

impl<'env, T, E, B> Driver<'env, T, E, B>
where
    B: Future<Output = Result<T, Stop<E>>>,
{
    pub(super) fn new(shared: Arc<Shared<'env, E>>, body: B, deadline: Option<Instant>) -> Self {
        let members = FuturesUnordered::new();
        members.push(Member::Body(Box::pin(body)));
        Self {
            members,
            timer: deadline.map(|deadline| Box::pin(sleep_until(deadline))),
            shared,
            returned: None,
            failed: Vec::new(),
            cancelled: 0,
        }
    }

    /// Runs until everything has ended or something has failed; a panic is the `Err`.
    pub(super) async fn drive(&mut self) -> Result<(), Box<dyn Any + Send>> {
        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| self.turn(cx))) {
            Ok(turn) => turn.map(Ok),
            Err(payload) => Poll::Ready(Err(payload)),
        })
        .await
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // While it runs nobody needs to wake it: it looks at the queue before it sleeps.
        self.shared.queue.lock().driver = None;
        self.turn_members(cx);
        let mut expired = false;
        if self.failed.is_empty() {
            if self.members.is_empty() {
                return Poll::Ready(());
            }
            let Some(timer) = &mut self.timer else { return Poll::Pending };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            expired = true;
            self.expire();
        }
        self.failed.sort_unstable_by_key(|error| error.task);
        self.cancel(expired, cx);
        Poll::Ready(())
    }

    /// Polls what was woken until nothing is ready, also after a failure: one of an earlier task
    /// may be ready in the same turn. Only nothing new is started then.
    fn turn_members(&mut self, cx: &mut Context<'_>) {
        loop {
            match Pin::new(&mut self.members).poll_next(cx) {
                Poll::Ready(Some(ended)) => self.settle(ended),
                Poll::Ready(None) | Poll::Pending => {
                    if !self.failed.is_empty() || !self.admit(cx) {
                        return;
                    }
                }
            }
        }
    }

    fn settle(&mut self, ended: Ended<T, E>) {
        match ended {
            Ended::Body(Ok(value)) => self.returned = Some(value),
            Ended::Body(Err(stop)) => {
                self.fail(Task::Body, stop.0.map_or(TaskFailure::Closed, TaskFailure::Failed));
            }
            Ended::Spawned(_, Ok(())) => self.shared.places.add_permits(1),
            // Its place stays taken, so that nothing else begins in this turn.
            Ended::Spawned(ordinal, Err(error)) => {
                self.fail(Task::Spawned(ordinal), TaskFailure::Failed(error));
            }
        }
    }

    fn fail(&mut self, task: Task, failure: TaskFailure<E>) {
        self.failed.push(TaskError { task, failure });
    }

    /// Takes over what was spawned, and leaves word how to be woken when there was nothing.
    fn admit(&mut self, cx: &mut Context<'_>) -> bool {
        let mut queue = self.shared.queue.lock();
        if queue.tasks.is_empty() {
            queue.driver = Some(cx.waker().clone());
            return false;
        }
        let first = queue.spawned;
        queue.spawned += queue.tasks.len();
        let tasks = mem::take(&mut queue.tasks);
        drop(queue);
        let traced = enabled!(Level::DEBUG);
        self.members.extend((first..).zip(tasks).map(|(ordinal, future)| Member::Spawned {
            ordinal,
            span: traced.then(|| Box::new(debug_span!("task", ordinal))),
            future,
        }));
        true
    }

    fn expire(&mut self) {
        let late: Vec<Task> = self.members.iter().map(Member::task).collect();
        for task in late {
            self.fail(task, TaskFailure::TimedOut);
        }
    }

    /// Drops the tasks, then polls the body a last time: one that waits for a place learns that
    /// there is none, and may return what it has.
    fn cancel(&mut self, expired: bool, cx: &mut Context<'_>) {
        let mut body = None;
        for member in mem::take(&mut self.members) {
            match member {
                Member::Body(future) => body = Some(future),
                Member::Spawned { .. } => self.cancelled += usize::from(!expired),
            }
        }
        self.cancelled += self.shared.close();
        let Some(mut body) = body else { return };
        // When the deadline passed, the body is on record as late already.
        if let (Poll::Ready(Err(Stop(Some(error)))), false) = (body.as_mut().poll(cx), expired) {
            self.fail(Task::Body, TaskFailure::Failed(error));
        }
    }

    /// Makes the result. Nothing is left to drop by now.
    pub(super) fn finish(mut self) -> Result<T, GroupError<E>> {
        let mut failed = mem::take(&mut self.failed).into_iter();
        let Some(primary) = failed.next() else {
            return Ok(self.returned.take().expect("the body has returned, or it has failed"));
        };
        Err(GroupError {
            primary,
            others: failed.by_ref().take(OTHERS_MAX).collect(),
            others_uncounted: failed.count(),
            cancelled: self.cancelled,
        })
    }

    /// Drops everything one by one after a panic, so that a second one in a destructor neither
    /// stops the others from being dropped nor ends the process.
    pub(super) fn abandon(mut self) {
        for member in mem::take(&mut self.members) {
            if catch_unwind(AssertUnwindSafe(|| drop(member))).is_err() {
                tracing::error!("a task's destructor panicked while its group was unwinding");
            }
        }
    }
}

impl<E, B> Member<'_, E, B> {
    fn task(&self) -> Task {
        match self {
            Self::Body(_) => Task::Body,
            Self::Spawned { ordinal, .. } => Task::Spawned(*ordinal),
        }
    }
}

impl<T, E, B: Future<Output = Result<T, Stop<E>>>> Future for Member<'_, E, B> {
    type Output = Ended<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Member::Body(future) => future.as_mut().poll(cx).map(Ended::Body),
            Member::Spawned { ordinal, span, future } => {
                let _inside = span.as_ref().map(|span| span.enter());
                future.as_mut().poll(cx).map(|ended| Ended::Spawned(*ordinal, ended))
            }
        }
    }
}

// The handle may have left the scope, with tasks in its queue: they go when the scope goes.
impl<T, E, B> Drop for Driver<'_, T, E, B> {
    fn drop(&mut self) {
        self.members.clear();
        self.shared.close();
    }
}
