//! The embedded cluster seen from outside: its files, its attempts, its trouble.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it measured")]

mod attempts;
mod files;
mod trouble;

use sortie_sqlite::{Embedded, EmbeddedConfig, Replica, Trouble};

/// A cluster of 2 x 2 with a thousand users, two workers and eight places in a queue.
fn small(trouble: Trouble) -> Embedded {
    let mut config = EmbeddedConfig::default();
    (config.replicas, config.rows, config.workers, config.queue_max) = (2, 1_000, 2, 8);
    config.trouble = trouble;
    Embedded::create(&config).unwrap()
}

/// Waits until no attempt is in flight: a worker lets go a moment after its caller left.
async fn settle(replica: &Replica) {
    for _ in 0..5_000 {
        if replica.stats().in_flight == 0 {
            assert_eq!(replica.stats().running, 0, "running is part of in flight");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("an attempt leaked: {:?}", replica.stats());
}
