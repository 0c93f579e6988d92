//! Embedded clusters with trouble, for the two examples that only read.

use std::time::Duration;

use sortie_sqlite::{Embedded, EmbeddedConfig};
use tokio::time::{sleep, timeout};

use crate::stage::{USERS, stats};

/// How long after the last answer a query may still be there without being counted as left behind.
pub(crate) const SETTLE_MAX: Duration = Duration::from_secs(1);

/// A question that keeps SQLite busy for many seconds unless it is cancelled.
pub(crate) const LONG_WALK: &str = "WITH RECURSIVE step(n) AS (\
     SELECT 1 UNION ALL SELECT n + 1 FROM step WHERE n < 1000000000) SELECT count(*) FROM step";

/// Two shards of three replicas each, with trouble: laws of latency, and who fails.
pub(crate) fn cluster(latency: &[&str], fail: &[&str]) -> Result<Embedded, sortie_sqlite::Error> {
    let mut config = EmbeddedConfig::default();
    config.rows = USERS;
    config.trouble.latency = latency.iter().map(|law| law.parse()).collect::<Result<_, _>>()?;
    config.trouble.fail = fail.iter().map(|address| address.parse()).collect::<Result<_, _>>()?;
    Embedded::create(&config)
}

/// Waits until nothing is queued or running any more, but no longer than [`SETTLE_MAX`].
pub(crate) async fn settle(embedded: &Embedded) {
    let idle = async {
        while stats(embedded).in_flight > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    drop(timeout(SETTLE_MAX, idle).await);
}
