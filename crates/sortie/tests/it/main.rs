//! Integration tests of the library: one module per pattern, one binary.

mod err_group;
mod scatter;
mod singleflight;
