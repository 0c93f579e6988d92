//! Nothing goes wrong around a load that many wait for: each row of the table, for the flights
//! alone and with a cache in front. `cargo xtask peers` shows other crates in the same rows.

mod ours;
#[expect(
    dead_code,
    reason = "what only the table asks: bytes, which unsafe code counts, and inserts"
)]
mod rows;

use ours::{Cached, Flights};
use rows::Found;

fn assert_good(row: &str, found: Found) {
    if let Some((said, is_good)) = found {
        assert!(is_good, "{row}: {said}");
    }
}

/// One test for each row.
macro_rules! rows {
    ($($row:ident),* $(,)?) => {$(
        #[tokio::test(start_paused = true)]
        async fn $row() {
            assert_good("flights", rows::$row::<Flights>().await);
            assert_good("cached", rows::$row::<Cached>().await);
        }
    )*};
}

rows! {
    herd,
    leader_cancelled,
    short_patience,
    panics,
    error,
    stale_set,
    stale_join,
    leader_parked,
    waiters_parked,
}
