//! Values as people write them, on the command line and in a file alike.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// An address to listen on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Listen(pub(crate) SocketAddr);

/// An address that only this machine can reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Loopback(pub(crate) SocketAddr);

/// When to ask one more replica; `None` is never.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct HedgeDelay(pub(crate) Option<Duration>);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Never looked up: what a name means is decided by files and servers elsewhere.
        let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        if let Some(port) = local {
            return Ok(Self(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        }
        text.parse().map(Self).map_err(|_no_address| {
            "write ADDRESS:PORT, for example `127.0.0.1:6440` or `[::1]:6440`".to_owned()
        })
    }
}

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Listen(address) = text.parse()?;
        if !address.ip().is_loopback() {
            return Err(format!(
                "{} can be reached from other machines, and nobody is asked there who they are. \
                 Use a loopback address (127.0.0.1, [::1]); from elsewhere, tunnel to it, for \
                 example with `ssh -L`",
                address.ip(),
            ));
        }
        Ok(Self(address))
    }
}

impl FromStr for HedgeDelay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        duration(text).map(|delay| Self(Some(delay))).map_err(|error| format!("{error}, or `off`"))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads a duration above zero: a delay or an age of nothing is a slip, never a wish.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("write a duration above zero with its unit, for example `70ms` or `1s`".into()),
    }
}
