//! End to end: the binary as users run it, with the clients they use.
//!
//! Every test starts its own server on free ports. Tests that measure time run alone
//! ([`support::alone`]); the others share the machine.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]
#![expect(clippy::print_stdout, reason = "measured figures are shown with --nocapture")]

mod across;
mod ahead;
mod auth;
mod budget;
mod cancel;
mod certified;
mod check;
mod cli;
mod clients;
mod configured;
mod console;
mod crowds;
mod cut;
mod described;
mod differential;
mod documents;
mod drain;
mod drivers;
mod faults;
mod freshness;
mod full;
mod functions;
mod fuzzed;
mod garbage;
mod herd;
mod hostile;
mod insight;
mod joins;
mod kept;
mod keys;
mod known;
mod lab;
mod large;
mod late;
mod lazy;
mod leftovers;
mod logs;
mod lone;
mod long;
mod losers;
mod mended;
mod missing;
mod never_old;
mod notices;
mod observed;
mod one_shard;
mod orders;
mod pgbench;
#[expect(dead_code, reason = "the benchmark uses more of it")]
#[path = "../../benches/pgbench/pgbouncer.rs"]
mod pgbouncer;
mod portions;
mod protocol;
mod psycopg;
mod refused;
mod relay;
mod reload;
mod resting;
mod roles;
mod rows;
mod silence;
mod stage;
mod statistics;
mod strangers;
mod supervised;
mod support;
mod tls;
mod trouble;
mod unbound;
mod unset;
mod views;
mod watch;
