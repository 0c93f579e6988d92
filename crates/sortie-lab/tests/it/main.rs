//! A lab on real servers: what is in it, how its servers are moved, and what it leaves behind.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]
#![expect(clippy::print_stdout, reason = "measured figures are shown with --nocapture")]

mod ends;
mod rows;
