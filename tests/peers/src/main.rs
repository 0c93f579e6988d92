//! The failure table: what goes wrong around a load that many wait for, crate by crate.
//!
//! Each cell is measured: the very functions that test sortie run against the others, each used as
//! its documentation says. `!` marks what a user would not want. Ends with an error if sortie has
//! such a mark.

mod others;
#[path = "../../../crates/sortie/tests/it/failure_table/ours.rs"]
mod ours;
#[path = "../../../crates/sortie/tests/it/failure_table/rows.rs"]
mod rows;

use std::future::Future;
use std::process::ExitCode;

use peak_alloc::PeakAlloc;

use crate::others::{AsyncSingleflight, Foyer, Moka, QuickCache, SingleflightAsync, Uniflight};
use crate::ours::{Cached, Flights};
use crate::rows::{Found, Subject};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const ROWS: [&str; 11] = [
    "100 callers at once",
    "first caller cancelled at 100 of 200 ms",
    "10 callers in turn, 60 ms patience, 200 ms load",
    "load panics, 10 callers",
    "load fails, 20 callers, 50 ms",
    "write in mid-load: cached afterwards",
    "write in mid-load: next caller gets",
    "insert in mid-load: cached afterwards",
    "first caller polled once, then parked",
    "first caller cancelled, neighbours parked",
    "left of each key that was given up",
];

fn main() -> ExitCode {
    // Panics are a row of the table, not news.
    std::panic::set_hook(Box::new(|_| {}));
    let columns = [
        ("sortie, cached", column::<Cached>()),
        ("sortie, flights", column::<Flights>()),
        ("moka", column::<Moka>()),
        ("quick_cache", column::<QuickCache>()),
        ("foyer", column::<Foyer>()),
        ("uniflight", column::<Uniflight>()),
        ("async_singleflight", column::<AsyncSingleflight>()),
        ("singleflight-async", column::<SingleflightAsync>()),
    ];
    print!("| |");
    columns.iter().for_each(|(name, _)| print!(" {name} |"));
    println!("\n|---|{}", "---|".repeat(columns.len()));
    for (row, name) in ROWS.iter().enumerate() {
        print!("| {name} |");
        columns.iter().for_each(|(_, found)| print!(" {} |", cell(found[row].as_ref())));
        println!();
    }
    let ours = columns.iter().filter(|(name, _)| name.starts_with("sortie"));
    let is_good = ours.flat_map(|(_, found)| found.iter().flatten()).all(|(_, is_good)| *is_good);
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cell(found: Option<&(String, bool)>) -> String {
    match found {
        None => "-".to_owned(),
        Some((said, true)) => said.clone(),
        Some((said, false)) => format!("{said} !"),
    }
}

fn column<S: Subject>() -> Vec<Found> {
    vec![
        row(rows::herd::<S>()),
        row(rows::leader_cancelled::<S>()),
        row(rows::short_patience::<S>()),
        row(rows::panics::<S>()),
        row(rows::error::<S>()),
        row(rows::stale_set::<S>()),
        row(rows::stale_join::<S>()),
        row(rows::late_load::<S>()),
        row(rows::leader_parked::<S>()),
        row(rows::waiters_parked::<S>()),
        row(rows::given_up::<S>(|| ALLOCATED.current_usage())),
    ]
}

/// Each row on a runtime of its own, with its own clock.
fn row(look: impl Future<Output = Found>) -> Found {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build();
    runtime.expect("a runtime can be had").block_on(look)
}
