//! Free ports below the range that the kernel gives to outgoing connections: a port found here
//! is not taken by one of a thousand clients before its server listens.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

const PORT_MIN: u16 = 20_000;
const PORT_MAX: u16 = 32_000;

/// Returns a loopback port on which nobody listens; the same one is not given out twice in a
/// process. `None` when all are taken.
pub fn free_port() -> Option<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = PORT_MAX - PORT_MIN;
    // Another process starts elsewhere in the range.
    let process = u16::try_from(std::process::id() % u32::from(range)).unwrap_or(0);
    (0..range).find_map(|_| {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORT_MIN + (process.wrapping_mul(37) % range + step % range) % range;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    })
}
