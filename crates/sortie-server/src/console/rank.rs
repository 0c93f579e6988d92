//! What somebody may do in the admin database.
//!
//! | the configuration says | who | may |
//! |---|---|---|
//! | `admin_users` | those named there | do everything |
//! | `stats_users` | those named there | look |
//! | neither, `auth = "scram"` | nobody | nothing |
//! | neither, `auth = "trust"` | whoever runs sortie, and root, says the system | everything |
//! | | everybody else on this machine | look |

use super::command::Rank;
use super::owner;
use crate::config::ConsoleConfig;
use crate::relay::roster::Ends;

/// The rank of a client that has proved, if somebody asked, that it is `user`.
pub(super) fn of(user: &str, config: &ConsoleConfig, trusts: bool, ends: Ends) -> Option<Rank> {
    let named = |names: &[String]| names.iter().any(|name| name == user);
    if named(&config.admin_users) {
        return Some(Rank::Admin);
    }
    if named(&config.stats_users) {
        return Some(Rank::Watcher);
    }
    let says_nothing = config.admin_users.is_empty() && config.stats_users.is_empty();
    let is_near = ends.peer.is_some_and(|peer| peer.ip().is_loopback());
    if !(trusts && says_nothing && is_near) {
        return None;
    }
    Some(if owner::is_ours(ends) { Rank::Admin } else { Rank::Watcher })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn config(admins: &[&str], watchers: &[&str]) -> ConsoleConfig {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (admin_users, stats_users) = (names(admins), names(watchers));
        ConsoleConfig { admin_users, stats_users, ..ConsoleConfig::default() }
    }

    #[test]
    fn lists_say_who_may_what_and_leave_nobody_else_in() {
        let config = config(&["ops"], &["stats"]);
        for trusts in [false, true] {
            let rank = |user| of(user, &config, trusts, Ends::default());
            assert_eq!(rank("ops"), Some(Rank::Admin));
            assert_eq!(rank("stats"), Some(Rank::Watcher));
            assert_eq!(rank("reader"), None);
        }
    }

    #[test]
    fn without_lists_only_who_runs_sortie_may_steer_it_and_only_where_nobody_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        let ends = Ends { peer: Some(peer), local: server.local_addr().ok() };
        let none = config(&[], &[]);
        assert_eq!(of("anybody", &none, true, ends), Some(Rank::Admin));
        assert_eq!(of("anybody", &none, false, ends), None);
        let elsewhere = Ends { peer: "192.0.2.1:7".parse().ok(), ..ends };
        assert_eq!(of("anybody", &none, true, elsewhere), None);
        // Nobody has this connection: it is not known whose it is.
        let strange = Ends { peer: "127.0.0.1:1".parse().ok(), ..ends };
        assert_eq!(of("anybody", &none, true, strange), Some(Rank::Watcher));
        drop(client);
    }
}
