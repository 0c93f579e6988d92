//! One thing that is awaited from the server.

use bytes::Bytes;

use crate::relay::effect::Effects;
use crate::relay::ledger::Statement;
use crate::sql::SqlError;

/// What a message left, should it succeed.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) effects: Effects,
    pub(super) text: Bytes,
    /// How often the session had been made dirty when it was sent.
    pub(super) soiled: u64,
}

/// What is awaited.
#[derive(Debug)]
pub(super) enum Expect<P> {
    /// A `ParseComplete`; without a statement it is nobody's but ours.
    Parse {
        name: Bytes,
        statement: Option<Box<Statement<P>>>,
        /// Which message of its batch it is.
        index: u32,
        /// The number of the statement that had the name before.
        before: Option<u64>,
    },
    /// A `CloseComplete`, of the statement of this name, or of a portal.
    Close {
        name: Option<Bytes>,
        ours: bool,
        /// The number of the statement that it closes, if it is ours.
        before: Option<u64>,
    },
    /// That a statement succeeds which leaves something.
    Ran {
        left: Box<Left>,
        /// Which message of its batch it is.
        index: u32,
    },
    /// What the statement of this name gives: the client asks.
    Describe {
        name: Bytes,
        /// Which message of its batch it is.
        index: u32,
    },
    /// What the statement of this name gives here: the session itself asks.
    Verify {
        name: Bytes,
        /// Which message of its batch it is.
        index: u32,
    },
    /// That a statement succeeds which begins or ends a transaction.
    Control,
    /// That a message fails which was sent for that; the client is told this instead.
    Fail {
        error: Box<SqlError>,
        /// Which message of its batch it is.
        index: u32,
    },
    /// That a Query begins, which takes the unnamed statement away; its end follows.
    Query {
        /// The number of that statement.
        before: Option<u64>,
        /// Something that was sent before may fail, and take it along.
        is_unsure: bool,
    },
    /// A `ReadyForQuery`.
    Ready {
        left: Option<Box<Left>>,
        controls: bool,
        replay: bool,
        /// Messages of the extended protocol that a Query or a `FunctionCall` was sent behind,
        /// without a Sync between; `None` for a Sync.
        behind: Option<u32>,
        /// What the client is told instead of the server's error.
        instead: Option<Box<SqlError>>,
    },
}

/// What a name will mean when what is under way has been answered.
#[derive(Debug)]
pub(super) enum Pending<'a, P> {
    Prepared(&'a Statement<P>),
    Closed,
}

impl<'a, P> Pending<'a, P> {
    /// The statement, if there will be one.
    pub(super) fn statement(self) -> Option<&'a Statement<P>> {
        match self {
            Self::Prepared(statement) => Some(statement),
            Self::Closed => None,
        }
    }
}

impl<P> Expect<P> {
    pub(super) fn ready(left: Option<Box<Left>>, instead: Option<Box<SqlError>>) -> Self {
        Self::Ready { left, controls: false, replay: false, behind: None, instead }
    }

    /// The end of something of our own.
    pub(super) fn replay() -> Self {
        Self::Ready { left: None, controls: false, replay: true, behind: None, instead: None }
    }

    /// The end of a Query, or of a `FunctionCall`, that was sent behind so many messages.
    pub(super) fn behind(mut self, messages: u32) -> Self {
        if let Self::Ready { behind, .. } = &mut self {
            *behind = Some(messages);
        }
        self
    }

    /// Whether it is the end of a batch of the client's that leaves nothing.
    pub(super) fn is_plain(&self) -> bool {
        matches!(
            self,
            Self::Ready { left: None, controls: false, replay: false, behind: None, instead: None }
        )
    }

    /// Whether it is the end of a Query that is skipped, as one of the messages before it failed
    /// when so many of them had been answered.
    pub(super) fn is_skipped(&self, answered: u32) -> bool {
        matches!(self, Self::Ready { behind: Some(messages), .. } if answered < *messages)
    }

    /// Whether so many answers are all of messages that the Query was sent behind that ends here.
    pub(super) fn is_behind(&self, answered: u32) -> bool {
        matches!(self, Self::Ready { behind: Some(messages), .. } if answered <= *messages)
    }

    pub(super) fn controlling(mut self, controlling: bool) -> Self {
        if let Self::Ready { controls, .. } = &mut self {
            *controls = controlling;
        }
        self
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }

    /// Whether the batch that ends here is our own; `None` if nothing ends here.
    pub(super) fn is_replay(&self) -> Option<bool> {
        match self {
            Self::Ready { replay, .. } => Some(*replay),
            _ => None,
        }
    }

    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Parse { statement: None, .. } | Self::Close { ours: true, .. })
    }

    /// The statement whose columns are asked for before it is bound here.
    pub(super) fn verifies(&self) -> Option<&Bytes> {
        match self {
            Self::Verify { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Whether this is a message that fails on purpose when so many have been answered.
    pub(super) fn fails(&self, answered: u32) -> bool {
        matches!(self, Self::Fail { index, .. } if *index == answered)
    }

    /// Whether this is a statement that leaves what no rollback takes back, and it has just
    /// succeeded, when so many messages have been answered.
    pub(super) fn is_lasting(&self, answered: u32) -> bool {
        match self {
            Self::Ran { left, index } => index + 1 == answered && left.effects.is_lasting(),
            _ => false,
        }
    }

    /// Whether an error of what ends here is told in other words.
    pub(super) fn is_replaced(&self) -> bool {
        matches!(self, Self::Ready { instead: Some(_), .. })
    }

    pub(super) fn controls(&self) -> bool {
        matches!(self, Self::Control | Self::Ready { controls: true, .. })
    }

    /// Whether this is what a frame of this type completes.
    pub(super) fn completes(&self, tag: u8) -> bool {
        match self {
            Self::Parse { .. } => tag == b'1',
            Self::Close { .. } => tag == b'3',
            _ => false,
        }
    }

    /// What the client does to this name.
    pub(super) fn about(&self, wanted: &[u8]) -> Option<Pending<'_, P>> {
        match self {
            Self::Parse { name, statement: Some(statement), .. } if name == wanted => {
                Some(Pending::Prepared(statement))
            }
            Self::Close { name: Some(name), ours: false, .. } if name == wanted => {
                Some(Pending::Closed)
            }
            Self::Query { .. } if wanted.is_empty() => Some(Pending::Closed),
            _ => None,
        }
    }

    /// Whether a statement that is awaited takes away the prepared one of this name.
    pub(super) fn takes(&self, name: &[u8]) -> bool {
        match self {
            Self::Ran { left, .. } | Self::Ready { left: Some(left), .. } => {
                left.effects.takes(name)
            }
            _ => false,
        }
    }

    /// Whether a statement is awaited that sets a parameter.
    pub(super) fn sets(&self) -> bool {
        matches!(self, Self::Ran { left, .. } if left.effects.sets())
    }

    /// The statement that had this name before what is awaited was entered.
    pub(super) fn before(&mut self, wanted: &[u8]) -> Option<&mut Option<u64>> {
        match self {
            Self::Parse { name, before, .. }
            | Self::Close { name: Some(name), ours: true, before }
                if name == wanted =>
            {
                Some(before)
            }
            Self::Query { before, .. } if wanted.is_empty() => Some(before),
            _ => None,
        }
    }

    /// Whether what a name means depends on what becomes of it.
    pub(super) fn is_named(&self) -> bool {
        match self {
            Self::Parse { .. } | Self::Close { .. } => true,
            Self::Query { is_unsure, .. } => *is_unsure,
            Self::Ran { left, .. } | Self::Ready { left: Some(left), .. } => {
                left.effects.is_lasting()
            }
            _ => false,
        }
    }
}
