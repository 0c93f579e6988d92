//! Other clients of an endpoint, who leave traces on the server connections they get.

use std::net::SocketAddr;

use crate::batch::Batch;
use crate::wire::Wire;

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

    /// The next neighbour does the next thing, and is answered as it should be.
    pub(super) async fn act(&mut self) {
        let who = self.turn % self.wires.len();
        let wire = &mut self.wires[who];
        let zone = ["America/New_York", "Asia/Kolkata", "Pacific/Auckland"][who];
        match self.turn % 4 {
            0 => drop(wire.rows(&format!("SET TimeZone = '{zone}'")).await),
            1 => drop(wire.rows("SET bytea_output = 'escape'; SET my.own = 'theirs'").await),
            2 => {
                let text = format!("SELECT 'a neighbour''s {who}'");
                let batch = ["s", "point", "a"].iter().fold(Batch::new(), |batch, name| {
                    batch.close(b'S', name).parse(name, &text, &[])
                });
                let frames = wire.ask(&batch.sync()).await;
                assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
            }
            _ => drop(wire.rows("BEGIN; SELECT count(*) FROM items; COMMIT").await),
        }
        self.turn += 1;
    }
}
