//! Whose the other end of a connection is, where that is on this machine: the system knows.
//!
//! Linux lists its sockets with their owners in `/proc`. Where there is no such list, or the
//! socket is not in it, nobody is taken for the owner.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;

use crate::relay::roster::Ends;

/// Lines of the list that are looked at.
const LINES_MAX: usize = 1_000_000;

/// Whether the client is a process of the user that runs sortie, or of root.
pub(super) fn is_ours(ends: Ends) -> bool {
    let (Some(peer), Some(local)) = (ends.peer, ends.local) else { return false };
    let Ok(own) = fs::metadata("/proc/self").map(|it| it.uid()) else { return false };
    let list = if peer.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    let Ok(list) = File::open(list) else { return false };
    let wanted = (shown(peer), shown(local));
    let lines = BufReader::new(list).lines().take(LINES_MAX).map_while(Result::ok);
    let found = lines.skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let ends = (fields.next()?, fields.next()?);
        // State, queues, timers, retransmits.
        let owner = fields.nth(4)?;
        (ends == (wanted.0.as_str(), wanted.1.as_str())).then(|| owner.parse::<u32>())
    });
    matches!(found, Some(Ok(owner)) if owner == own || owner == 0)
}

/// An address as it stands in the list: words of the machine's byte order.
fn shown(address: SocketAddr) -> String {
    let words: Vec<u8> = match address.ip() {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    };
    let words = words.chunks_exact(4).map(|word| {
        let word = [word[0], word[1], word[2], word[3]];
        format!("{:08X}", u32::from_ne_bytes(word))
    });
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn an_own_connection_is_known_by_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let ends = Ends { peer: Some(peer), local: server.local_addr().ok() };
            assert!(is_ours(ends), "{address}");
            let other = Ends { local: "127.0.0.1:1".parse().ok(), ..ends };
            assert!(!is_ours(other) && !is_ours(Ends::default()));
            drop(client);
        }
    }
}
