//! The shared cache against real servers, one and a cluster: one module per promise, one binary.

mod away;
mod fresh;
mod herd;
mod lagging;
mod leases;
mod local;
mod support;
