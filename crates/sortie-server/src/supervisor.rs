//! What the service manager that started us is told, where one listens: systemd, or whoever else
//! speaks the protocol of `sd_notify(3)`.
//!
//! A *message* is a datagram of lines `NAME=VALUE` to the socket that `NOTIFY_SOCKET` names.
//!
//! # Invariants
//!
//! 1. Without that variable nothing is done and nothing is waited for.
//! 2. A manager that takes nothing holds nobody up for longer than `SAY_MAX`.
//! 3. That we are alive is said only after every core has run a task since the last time: a server
//!    whose main thread alone lives is restarted.

use std::convert::Infallible;
use std::env;
use std::fmt::Write;
use std::future::pending;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, SocketAddr};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::net::UnixDatagram;
use tokio::time::{sleep, timeout};

use crate::cores::Cores;

/// How long a message may take to be taken.
const SAY_MAX: Duration = Duration::from_secs(1);

/// The longest status; systemd takes messages of 4 KiB.
const STATUS_BYTES_MAX: usize = 1_000;

/// Of the time after which the manager gives us up, the part that lies between two signs of life.
const SIGNS: u32 = 3;

/// The service manager, if there is one. Clones speak to the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Supervisor(Option<Arc<Listening>>);

#[derive(Debug)]
struct Listening {
    address: SocketAddr,
    /// After how much silence it restarts us, if it does.
    patience: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names.
    pub(crate) fn from_environment() -> Self {
        let Some(name) = env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty()) else {
            return Self(None);
        };
        let variable = |name| env::var(name).ok();
        let patience =
            patience(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref());
        match address(&name) {
            Ok(address) => Self(Some(Arc::new(Listening { address, patience }))),
            Err(error) => {
                tracing::warn!(%error, name, "NOTIFY_SOCKET can't be used: nobody is notified");
                Self(None)
            }
        }
    }

    /// Clients are answered from now on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, of this as of the other messages, leaves open whether it was said.
    pub(crate) async fn ready(&self, status: &str) {
        self.say("READY=1\n", status).await;
    }

    /// The configuration is read again; [`ready`](Self::ready) ends it, whatever comes of it.
    pub(crate) async fn reloading(&self) {
        if self.0.is_some() {
            // With it the manager knows whether it has asked for that before or after.
            let now = clock_gettime(ClockId::Monotonic);
            let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
            let message = format!("RELOADING=1\nMONOTONIC_USEC={micros}\n");
            self.say(&message, "reading the configuration again").await;
        }
    }

    /// Nobody is let in any more, and those who are there come to their end.
    pub(crate) async fn stopping(&self) {
        self.say("STOPPING=1\n", "draining").await;
    }

    /// Says again and again that we are alive, as long as that is so and where it is asked for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it.
    pub(crate) async fn keep(&self, cores: &Cores) -> Infallible {
        let Some(patience) = self.0.as_ref().and_then(|it| it.patience) else {
            return pending().await;
        };
        loop {
            if cores.all_answer().await {
                self.send("WATCHDOG=1\n").await;
            }
            sleep(patience / SIGNS).await;
        }
    }

    async fn say(&self, message: &str, status: &str) {
        if self.0.is_some() {
            let mut message = message.to_owned();
            writeln!(message, "STATUS={}", line(status)).expect("writing to a string never fails");
            self.send(&message).await;
        }
    }

    async fn send(&self, message: &str) {
        let Some(listening) = &self.0 else { return };
        let sent = timeout(SAY_MAX, listening.send(message.as_bytes())).await;
        let error = match sent {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_late) => format!("it took nothing for {SAY_MAX:?}"),
        };
        tracing::warn!(error, "the service manager can't be told");
    }
}

impl Listening {
    /// A socket for each message: a manager that was started anew is found at the same address.
    async fn send(&self, message: &[u8]) -> io::Result<()> {
        let socket = net::UnixDatagram::unbound()?;
        socket.connect_addr(&self.address)?;
        socket.set_nonblocking(true)?;
        UnixDatagram::from_std(socket)?.send(message).await.map(|_sent| ())
    }
}

/// A path, or `@NAME` for one that is in no folder.
fn address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None if name.starts_with('/') => SocketAddr::from_pathname(name),
        None => Err(io::Error::other("it is neither a path nor an abstract name")),
    }
}

/// How long the manager is patient, if it is this process that it waits for.
fn patience(micros: Option<&str>, process: Option<&str>) -> Option<Duration> {
    if process.is_some_and(|id| id != process::id().to_string()) {
        return None;
    }
    let micros = micros?.parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros))
}

/// A status is one line, and not too long.
fn line(status: &str) -> String {
    let lines: Vec<&str> =
        status.split(['\n', '\r']).map(str::trim).filter(|it| !it.is_empty()).collect();
    let mut line = lines.join("; ");
    let end = (0..=STATUS_BYTES_MAX.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    line.truncate(end.unwrap_or(0));
    line
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::cores::END_MAX;
    use crate::listener::DRAIN_MAX;

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        assert_eq!(line("nothing\n  has changed:\r\n\n x"), "nothing; has changed:; x");
        let long = line(&"\u{e4}".repeat(STATUS_BYTES_MAX));
        assert_eq!(long.len(), STATUS_BYTES_MAX);
        assert!(long.chars().all(|c| c == '\u{e4}'));
    }

    #[test]
    fn only_the_process_that_is_waited_for_gives_signs_of_life() {
        let own = process::id().to_string();
        let second = Some(Duration::from_secs(1));
        assert_eq!(patience(Some("1000000"), None), second);
        assert_eq!(patience(Some("1000000"), Some(&own)), second);
        assert_eq!(patience(Some("1000000"), Some("1")), None);
        assert_eq!(patience(Some("0"), None), None);
        assert_eq!(patience(Some("soon"), None), None);
        assert_eq!(patience(None, Some(&own)), None);
    }

    /// What the unit in `docs` says has to go with what the server does.
    #[test]
    fn the_unit_waits_for_as_long_as_a_drain_may_take() {
        let unit = include_str!("../../../docs/sortie.service");
        let value = |name: &str| {
            let mut lines = unit.lines().filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value).unwrap_or_default()
        };
        let seconds = |name: &str| Duration::from_secs(value(name).parse().unwrap());
        assert_eq!(value("Type"), "notify");
        assert!(seconds("TimeoutStopSec") >= 2 * (DRAIN_MAX + END_MAX));
        assert!(seconds("TimeoutStartSec") >= Duration::from_secs(10));
        assert!(seconds("WatchdogSec") / SIGNS > 5 * SAY_MAX);
        let command = value("ExecStart").split_whitespace();
        let Ok(Cli { command }) = Cli::try_parse_from(command) else {
            panic!("{}", value("ExecStart"));
        };
        assert!(matches!(command, Command::Serve(_)) && command.check().is_ok());
        assert!(value("ExecReload").ends_with("-HUP $MAINPID"));
    }

    #[test]
    fn addresses_are_paths_or_abstract_names() {
        assert_eq!(address("/run/x").unwrap().as_pathname().unwrap().to_str(), Some("/run/x"));
        assert_eq!(address("@x/y").unwrap().as_abstract_name(), Some(&b"x/y"[..]));
        assert!(address("vsock:2:1").is_err());
        assert!(address(&format!("/{}", "x".repeat(200))).is_err());
    }
}
