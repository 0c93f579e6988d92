//! Trouble on request: replicas that are slow, that stall, that fail.
//!
//! Off unless asked for, and the same at every run: what looks like chance is a fixed sequence
//! per replica, drawn from one seed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Error;
use crate::error::Error::Trouble as Unreadable;

/// What the laws look like, for every error that has to teach it.
const LAWS: &str = "a law is one of `fixed:5ms` (every attempt waits that long), \
    `lognormal:50ms:0.1` (median and sigma), `stall:1%:200ms` (that share of attempts waits); \
    in front of it may stand whom it concerns: `1=fixed:5ms` is shard 1, `0.2=fixed:5ms` is its \
    replica 2";

/// Where trouble strikes: everywhere, on one shard, or on one replica of a shard.
///
/// In text it is `SHARD` or `SHARD.REPLICA`, numbers from 0.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Address {
    /// The shard; `None` is all of them.
    pub shard: Option<usize>,
    /// The replica within the shard; `None` is all of them.
    pub replica: Option<usize>,
}

/// How much later than it could an attempt is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Law {
    /// Every attempt waits this long.
    Fixed(Duration),
    /// Attempts wait `median * exp(sigma * z)`, `z` drawn from the standard normal distribution.
    LogNormal {
        /// Half of the attempts wait less.
        median: Duration,
        /// The spread; 0.1 keeps two thirds within a tenth of the median.
        sigma: f64,
    },
    /// A share of the attempts waits `pause`, the others not at all.
    Stall {
        /// From 0 to 1.
        share: f64,
        /// How long a stalled attempt waits.
        pause: Duration,
    },
}

/// A law and whom it concerns: `[SHARD[.REPLICA]=]LAW`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Latency {
    /// Whose attempts wait.
    pub address: Address,
    /// How long.
    pub law: Law,
}

/// All trouble of a cluster. Delays whose addresses meet on a replica add up.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Trouble {
    /// Who is slow, and how.
    pub latency: Vec<Latency>,
    /// Who answers every attempt with an error, at once.
    pub fail: Vec<Address>,
    /// The seed of every draw.
    pub seed: u64,
}

impl Address {
    /// Says whether trouble at this address strikes replica `replica` of shard `shard`.
    pub fn strikes(&self, shard: usize, replica: usize) -> bool {
        self.shard.is_none_or(|at| at == shard) && self.replica.is_none_or(|at| at == replica)
    }
}

impl Law {
    /// Returns the delay that two numbers from `[0, 1)` stand for.
    pub(crate) fn delay(&self, draw: [f64; 2]) -> Duration {
        match *self {
            Self::Fixed(delay) => delay,
            Self::LogNormal { median, sigma } => {
                // Box and Muller: two uniform numbers make a normal one. `1 - u` is never 0.
                let z =
                    (-2.0 * (1.0 - draw[0]).ln()).sqrt() * (std::f64::consts::TAU * draw[1]).cos();
                let seconds = median.as_secs_f64() * (sigma * z).exp();
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
            }
            Self::Stall { share, pause } if draw[0] < share => pause,
            Self::Stall { .. } => Duration::ZERO,
        }
    }
}

impl Trouble {
    /// Checks that every address names a replica of a cluster of this shape.
    pub(crate) fn check(&self, shards: usize, replicas: usize) -> Result<(), Error> {
        let addresses = self.latency.iter().map(|latency| &latency.address).chain(&self.fail);
        for address in addresses {
            let beyond = |number: Option<usize>, len| number.is_some_and(|number| number >= len);
            if beyond(address.shard, shards) || beyond(address.replica, replicas) {
                return Err(Unreadable(format!(
                    "`{address}` is nobody here: there are shards 0 to {} with replicas 0 to {} \
                     each",
                    shards - 1,
                    replicas - 1,
                )));
            }
        }
        Ok(())
    }
}

impl From<Latency> for Trouble {
    fn from(latency: Latency) -> Self {
        Self { latency: vec![latency], ..Self::default() }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|_| digits).ok_or_else(|| {
                Unreadable(format!(
                    "`{text}` names no replica: write `SHARD` or `SHARD.REPLICA` with numbers \
                     from 0, for example `1` or `0.2`",
                ))
            })
        };
        let (shard, replica) = match text.split_once('.') {
            Some((shard, replica)) => (number(shard)?, Some(number(replica)?)),
            None => (number(text)?, None),
        };
        Ok(Self { shard: Some(shard), replica })
    }
}

impl FromStr for Law {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unreadable = |what: String| Unreadable(format!("`{text}`: {what}; {LAWS}"));
        let duration = |part: &str| {
            humantime::parse_duration(part)
                .map_err(|error| unreadable(format!("`{part}` is no duration ({error})")))
        };
        let number = |part: &str, of: &str, max: f64| {
            let number = part.parse::<f64>().ok().filter(|number| (0.0..=max).contains(number));
            number.ok_or_else(|| unreadable(format!("`{part}` is no {of} from 0 to {max}")))
        };
        match text.split(':').collect::<Vec<_>>()[..] {
            ["fixed", delay] => Ok(Self::Fixed(duration(delay)?)),
            ["lognormal", median, sigma] => Ok(Self::LogNormal {
                median: duration(median)?,
                sigma: number(sigma, "sigma", 10.0)?,
            }),
            ["stall", share, pause] => {
                let percent = share.strip_suffix('%').ok_or_else(|| {
                    unreadable(format!("the share `{share}` needs a percent sign"))
                })?;
                let share = number(percent, "percentage", 100.0)? / 100.0;
                Ok(Self::Stall { share, pause: duration(pause)? })
            }
            ["fixed" | "lognormal" | "stall", ..] => {
                Err(unreadable("the law has too few or too many parts".into()))
            }
            _ => Err(unreadable("there is no such law".into())),
        }
    }
}

impl FromStr for Latency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (address, law) = match text.split_once('=') {
            Some((address, law)) => (address.parse()?, law),
            None => (Address::default(), text),
        };
        Ok(Self { address, law: law.parse()? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.shard, self.replica) {
            (None, None) => f.write_str("everywhere"),
            (None, Some(replica)) => write!(f, "*.{replica}"),
            (Some(shard), None) => write!(f, "{shard}"),
            (Some(shard), Some(replica)) => write!(f, "{shard}.{replica}"),
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |duration: &Duration| humantime::format_duration(*duration).to_string();
        let text = |duration| text(duration).replace(' ', "");
        match self {
            Self::Fixed(delay) => write!(f, "fixed:{}", text(delay)),
            Self::LogNormal { median, sigma } => write!(f, "lognormal:{}:{sigma}", text(median)),
            Self::Stall { share, pause } => write!(f, "stall:{}%:{}", share * 100.0, text(pause)),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.address.shard.is_some() {
            write!(f, "{}=", self.address)?;
        }
        self.law.fmt(f)
    }
}

#[cfg(test)]
mod tests;
