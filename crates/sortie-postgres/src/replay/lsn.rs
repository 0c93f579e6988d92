//! A position in the write-ahead log.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// A byte of the write-ahead log, written as PostgreSQL writes it: two hexadecimal numbers of 32
/// bits.
///
/// # Examples
///
/// ```
/// use sortie_postgres::Lsn;
///
/// let here: Lsn = "16/B374D848".parse()?;
/// assert_eq!(here, Lsn(0x16_B374_D848));
/// assert_eq!(here.to_string(), "16/B374D848");
/// assert!("16/B374D84800".parse::<Lsn>().is_err());
/// # Ok::<(), sortie_postgres::LsnError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(clippy::exhaustive_structs, reason = "it is a number")]
pub struct Lsn(pub u64);

/// A text is not a position in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LsnError;

impl FromStr for Lsn {
    type Err = LsnError;

    fn from_str(text: &str) -> Result<Self, LsnError> {
        let (high, low) = text.split_once('/').ok_or(LsnError)?;
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

impl Error for LsnError {}

impl fmt::Display for LsnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a position in the log is two hexadecimal numbers, as in 16/B374D848")
    }
}

fn half(text: &str) -> Result<u32, LsnError> {
    // As PostgreSQL: one to eight digits, and no sign, which Rust would take.
    if !(1..=8).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(LsnError);
    }
    u32::from_str_radix(text, 16).map_err(|_digits| LsnError)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_postgresql_refuses_is_refused() {
        for text in ["", "/", "0", "0/", "/0", "0/0/0", "+1/0", "-1/0", "0x1/0", "G/0", " 0/0"] {
            assert_eq!(text.parse::<Lsn>(), Err(LsnError), "{text:?}");
        }
        assert_eq!("FFFFFFFF/ffffffff".parse(), Ok(Lsn(u64::MAX)));
        assert_eq!(Lsn(0).to_string(), "0/0");
    }

    proptest! {
        #[test]
        fn every_position_is_read_as_it_was_written(lsn in any::<u64>()) {
            prop_assert_eq!(Lsn(lsn).to_string().parse(), Ok(Lsn(lsn)));
        }
    }
}
