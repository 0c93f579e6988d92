//! Values with units: what may be written, and what to write instead.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::{CertCheck, Joining, Mode, PipeTarget};
use crate::logs::LogFormat;
use crate::said::{HedgeDelay, Listen, Loopback, duration};

/// Something that a key may be set to.
pub(super) trait Value: Sized {
    /// Reads it, or says what is right.
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
}

/// A size in bytes, above zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bytes(pub(super) usize);

/// Whether clients are to prove who they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Demand {
    Trust,
    Scram,
    Cert,
}

/// Whether clients' connections are to be encrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    Off,
    Allow,
    Require,
}

/// What to call the kind of a value.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn text<'v>(value: &'v DeValue<'_>, right: &str) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| format!("{right}, not {}", kind(value)))
}

/// One of a few words.
fn word<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Result<T, String> {
    let all: Vec<String> = words.iter().map(|(word, _meaning)| format!("\"{word}\"")).collect();
    let right = format!("write one of {}", all.join(", "));
    let text = text(value, &right)?;
    let found = words.iter().find(|(word, _meaning)| *word == text);
    found.map(|(_word, meaning)| *meaning).ok_or_else(|| format!("`{text}` is unknown; {right}"))
}

impl Value for String {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match text(value, "write a string in quotes")? {
            "" => Err("it may not be empty".to_owned()),
            text => Ok(text.to_owned()),
        }
    }
}

impl Value for PathBuf {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        String::read(value).map(Self::from)
    }
}

impl Value for bool {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| format!("write true or false, not {}", kind(value)))
    }
}

impl Value for u32 {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let number = value.as_integer().and_then(|number| {
            Self::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
        });
        number.ok_or_else(|| format!("write a whole number up to {}, without quotes", Self::MAX))
    }
}

impl Value for Duration {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let right = "write a duration with its unit, for example \"70ms\" or \"1s\"";
        duration(text(value, right)?)
    }
}

/// When to ask one more replica, or `off`.
impl Value for Option<Duration> {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let right = "write a duration with its unit, for example \"70ms\", or \"off\"";
        text(value, right)?.parse().map(|HedgeDelay(delay)| delay)
    }
}

impl Value for Bytes {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let right = "write a size above zero with its unit, for example \"64KiB\" or \"1MiB\"";
        let text = text(value, right)?;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = match unit.trim_start() {
            "B" => Some(1),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let number = number.parse::<usize>().ok().filter(|number| *number > 0);
        number
            .zip(unit)
            .and_then(|(number, unit)| number.checked_mul(unit))
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no size; {right} (B, KiB, MiB, GiB)"))
    }
}

impl Value for Listen {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        text(value, "write \"ADDRESS:PORT\"")?.parse()
    }
}

impl Value for Loopback {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        text(value, "write \"ADDRESS:PORT\"")?.parse()
    }
}

impl Value for LogFormat {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        word(value, &[("text", Self::Text), ("json", Self::Json)])
    }
}

/// Whether clients prove who they are.
impl Value for Demand {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        word(value, &[("trust", Self::Trust), ("scram", Self::Scram), ("cert", Self::Cert)])
    }
}

impl Value for CertCheck {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        word(value, &[("verify-ca", Self::Ca), ("verify-full", Self::Full)])
    }
}

impl Value for Wanted {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let words = [("off", Self::Off), ("allow", Self::Allow), ("require", Self::Require)];
        word(value, &words)
    }
}

impl Value for Mode {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        word(value, &[("share", Self::Share), ("observe", Self::Observe), ("pipe", Self::Pipe)])
    }
}

impl Value for Joining {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        word(value, &[("fresh", Self::Fresh), ("running", Self::Running)])
    }
}

impl Value for PipeTarget {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        word(value, &[("replica", Self::Replica), ("primary", Self::Primary)])
    }
}
