//! Answers that are too big to be shared, passed on piece by piece.
//!
//! # Invariants
//!
//! 1. No more than twice `WAITING_MAX` bytes wait for the client: who takes nothing stalls
//!    his own server connection, and after `stall_max` is ended.
//! 2. Only whole frames are passed on, so that an error may follow; of one that is longer than
//!    `HELD_MAX` what has come, and if its rest never comes the session ends.
//! 3. Who has not taken what waits within `SLOW` gives his turn to somebody else.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::failure::cancelled;
use super::session::{Session, Signals};
use super::shared::Shared;
use crate::read::Large;
use crate::session::failure::Failure;
use crate::sql::SqlError;

/// Bytes that may wait for a client before no more of the answer are asked for.
const WAITING_MAX: usize = 64 << 10;

/// A frame that is longer is passed on before it is whole.
const HELD_MAX: usize = 64 << 10;

/// How long a client may take for them before others have its turn.
const SLOW: Duration = Duration::from_millis(500);

impl<'a, S, L> Session<'a, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Passes an answer's rows on as its client takes them; `closes` tells that the portal is
    /// closed behind them.
    pub(super) async fn pass_on<D: Future<Output = ()>>(
        &mut self,
        mut large: Large,
        closes: bool,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<(), Failure> {
        let inner = self.inner;
        let _running = inner.stats.statement();
        let mut frames = Frames::default();
        loop {
            let mut rows = match self.attend(large.next(), signals).await? {
                Ok(Some(rows)) => rows,
                Ok(None) => break,
                Err(error) => return self.break_off(&error, &large, &frames),
            };
            while rows.has_remaining() {
                let piece = frames.whole(rows.split_to(rows.len().min(WAITING_MAX)));
                self.client.output.extend_from_slice(&piece);
                if self.client.output.len() < WAITING_MAX {
                    continue;
                }
                let taken = match timeout(SLOW, self.taken(signals)).await {
                    Ok(taken) => taken?,
                    Err(_slow) => {
                        large.give_way();
                        self.taken(signals).await?
                    }
                };
                if !taken {
                    return self.break_off(&cancelled(), &large, &frames);
                }
            }
        }
        self.cluster.see(&mut self.seen, &large.landed());
        self.end_answer(&large.complete(), closes);
        Ok(())
    }

    /// Says why no more rows come, unless that would be the rest of a frame.
    fn break_off(
        &mut self,
        error: &SqlError,
        large: &Large,
        frames: &Frames,
    ) -> Result<(), Failure> {
        self.cluster.see(&mut self.seen, &large.landed());
        if frames.within > 0 {
            return Err(Failure::Gone);
        }
        self.fail(error, true);
        Ok(())
    }

    /// Waits until the client has taken what waits for it. Returns false if it has asked to cancel
    /// instead.
    pub(super) async fn taken<D>(
        &mut self,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<bool, Failure> {
        poll_fn(|cx| {
            if let Poll::Ready(flushed) = self.client.poll_flush(cx) {
                return Poll::Ready(flushed.map(|()| true).map_err(Failure::from));
            }
            if let Poll::Ready(gone) = self.client.poll_gone(cx) {
                return Poll::Ready(Err(Failure::from(gone)));
            }
            if self.hear_cancel(cx, signals) {
                self.key.settle();
                return Poll::Ready(Ok(false));
            }
            Poll::Pending
        })
        .await
    }
}

/// Where frames begin in what is passed on.
#[derive(Debug, Default)]
struct Frames {
    /// The beginning of a frame that is held back.
    begun: BytesMut,
    /// Bytes still to come of one that is not.
    within: usize,
}

impl Frames {
    /// What can be passed on, of what was held back and `rows` behind it.
    fn whole(&mut self, rows: Bytes) -> Bytes {
        let rows = if self.begun.is_empty() {
            rows
        } else {
            self.begun.extend_from_slice(&rows);
            self.begun.split().freeze()
        };
        let mut end = self.within.min(rows.len());
        self.within -= end;
        while let Some(length) = length(&rows[end..]) {
            let there = rows.len() - end;
            if length <= there {
                end += length;
            } else if length > HELD_MAX {
                self.within = length - there;
                end = rows.len();
            } else {
                break;
            }
        }
        self.begun.extend_from_slice(&rows[end..]);
        rows.slice(..end)
    }
}

/// The length of the frame in front.
fn length(rows: &[u8]) -> Option<usize> {
    let length = rows.get(1..5)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_on_ends_with_a_frame_unless_that_is_a_giant() {
        let frame = |length: usize| {
            let mut frame = vec![b'D'];
            frame.extend(u32::try_from(length + 4).unwrap().to_be_bytes());
            frame.resize(length + 5, 7);
            frame
        };
        let lengths = [0, 1, 300, HELD_MAX - 5, HELD_MAX, 3 * HELD_MAX, 0, 20];
        let all: Vec<u8> = lengths.into_iter().flat_map(frame).collect();
        for cut in [1, 3, 4, 5, 6, 299, 4_096, HELD_MAX, all.len()] {
            let (mut frames, mut passed) = (Frames::default(), Vec::new());
            for piece in all.chunks(cut) {
                passed.extend_from_slice(&frames.whole(Bytes::copy_from_slice(piece)));
                let mut at = 0;
                while at < passed.len() {
                    at += length(&passed[at..]).expect("a head is not cut");
                }
                assert_eq!(at - passed.len(), frames.within, "{cut}");
                assert!(frames.begun.len() <= HELD_MAX);
            }
            assert!(passed == all && frames.within == 0, "{cut}");
        }
    }
}
