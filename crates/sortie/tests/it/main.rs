//! Integration tests of the library: one module per pattern, one binary.

mod scatter;
mod singleflight;
