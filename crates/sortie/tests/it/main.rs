//! Integration tests of the library: one module per pattern, one binary.

mod cache;
mod cluster;
mod err_group;
mod hedge;
mod read_through;
mod scatter;
mod shard_map;
mod singleflight;
mod verbs;
