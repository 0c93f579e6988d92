//! Embedded clusters with trouble, for the two examples that only read.

use std::time::Duration;

use sortie_sqlite::{Embedded, EmbeddedConfig};
use tokio::time::sleep;

use crate::stage::USERS;

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

/// Waits a moment, so that what was cancelled has noticed: SQLite looks at its flag every few
/// microseconds of work.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(200)).await;
}
