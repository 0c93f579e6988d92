//! Other clients of an endpoint, who leave traces on the server connections they get.

use std::net::SocketAddr;

use crate::batch::Batch;
use crate::wire::{Frame, Wire};

/// Clients who take turns. Each says the same names as the scripts do and means other things.
#[derive(Debug)]
pub(super) struct Neighbours {
    wires: [Wire; 3],
    turn: usize,
}

impl Neighbours {
    pub(super) async fn open(listen: SocketAddr) -> Self {
        let wires =
            [Wire::connect(listen).await, Wire::connect(listen).await, Wire::connect(listen).await];
        Self { wires, turn: 0 }
    }

    /// The next neighbour does the next thing; returns an answer that is not as it should be.
    pub(super) async fn act(&mut self) -> Option<String> {
        let who = self.turn % self.wires.len();
        let wire = &mut self.wires[who];
        let zone = ["America/New_York", "Asia/Kolkata", "Pacific/Auckland"][who];
        let batch = match self.turn % 4 {
            0 => Batch::new().query(&format!("SET TimeZone = '{zone}'")),
            1 => Batch::new().query("SET bytea_output = 'escape'; SET my.own = 'theirs'"),
            2 => {
                let text = format!("SELECT 'a neighbour''s {who}'");
                let batch = ["s", "point", "a"].iter().fold(Batch::new(), |batch, name| {
                    batch.close(b'S', name).parse(name, &text, &[])
                });
                batch.sync()
            }
            _ => Batch::new().query("BEGIN; SELECT count(*) FROM items; COMMIT"),
        };
        self.turn += 1;
        let frames = wire.ask(&batch).await;
        frames.iter().find_map(Frame::report).map(|report| format!("{report:?}"))
    }
}
