//! Free ports.

/// A loopback port on which nobody listens; the same one is not given out twice in a process.
pub fn free_port() -> u16 {
    sortie_lab::free_port().expect("a free port")
}
