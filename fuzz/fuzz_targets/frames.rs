//! `cargo +nightly fuzz run frames`: any bytes as a client's stream.
//!
//! What must hold is written down once, next to the codec's tests, which run it without a fuzzer.

#![no_main]

#[path = "../../crates/sortie-postgres/tests/it/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| any_bytes::check(data));
