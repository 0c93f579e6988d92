//! Every habit of this repository, behind `cargo xtask`.

fn main() {}
