//! What a session may use.

use std::time::Duration;

use crate::budget::Budget;

/// Bounds of every session; each is reported to the client in words when it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Sessions at a time, of all clients.
    pub(crate) sessions_max: usize,
    /// From the connection to the end of the startup phase, however the bytes drip.
    pub(crate) login_max: Duration,
    /// A frame from the client, and with it the bytes read ahead, in bytes.
    pub(crate) frame_max: usize,
    /// Bytes collected before they are written to the client.
    pub(crate) egress_max: usize,
    /// How long a client may take nothing of what is written to it.
    pub(crate) egress_stall_max: Duration,
    /// What may wait in memory for slow clients, of all together.
    pub(crate) budget: Budget,
    /// Statements in one simple query.
    pub(crate) batch_max: usize,
    /// Prepared statements of one session.
    pub(crate) statements_max: usize,
    /// The text of all prepared statements of one session, in bytes.
    pub(crate) statements_bytes_max: usize,
    /// Portals of one session.
    pub(crate) portals_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_max: 4_096,
            login_max: Duration::from_secs(10),
            frame_max: 1 << 20,
            egress_max: 64 << 10,
            egress_stall_max: Duration::from_secs(30),
            budget: Budget::default(),
            batch_max: 1_000,
            statements_max: 1_000,
            statements_bytes_max: 8 << 20,
            portals_max: 64,
        }
    }
}
