//! Integration tests of the library: one module per pattern, one binary.

mod allocations;
mod cache;
mod cache_ages;
mod cache_bugs;
#[cfg(sortie_shuttle)]
mod cache_shuttled;
mod cluster;
mod err_group;
mod failure_table;
mod far_away;
mod fresh;
mod get_set;
mod hedge;
mod leaks;
mod read_through;
mod reads;
mod reads_many;
mod reads_throttled;
mod scatter;
mod shard_map;
mod singleflight;
mod verbs;
