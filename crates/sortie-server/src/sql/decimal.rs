//! PostgreSQL's `numeric`, as far as constants and sums need it: read, compared, written.
//!
//! A value is `0.d1d2d3… x 10^point` with its sign, plus the number of digits shown after the
//! point. No arithmetic: a column is an integer, so every comparison becomes one of integers.

use std::cmp::Ordering;
use std::fmt;

use crate::sql::error::{SqlError, state};

/// A decimal number, `NaN` or an infinity.
#[derive(Clone, Debug)]
pub(crate) enum Decimal {
    Finite(Finite),
    Infinite { negative: bool },
    NaN,
}

/// A number with finitely many digits.
#[derive(Clone, Debug)]
pub(crate) struct Finite {
    negative: bool,
    /// Digits 0 to 9, neither the first nor the last of them 0; empty for zero.
    digits: Vec<u8>,
    /// Digits before the decimal point; negative where zeros follow the point first.
    point: i64,
    /// Digits shown after the point.
    scale: u16,
}

/// Digits before the point that PostgreSQL allows: `NUMERIC_MAX_PRECISION` of the on-disk form.
const DIGITS_BEFORE_MAX: i64 = 131_072;
/// Digits after the point that PostgreSQL allows.
const DIGITS_AFTER_MAX: i64 = 16_383;

impl Decimal {
    /// Reads what PostgreSQL's `numeric_in` reads.
    ///
    /// # Errors
    ///
    /// 22P02 for what is no number, 22003 for one beyond the format.
    pub(crate) fn parse(text: &str) -> Result<Self, SqlError> {
        let invalid = || {
            let message = format!("invalid input syntax for type numeric: \"{text}\"");
            SqlError::new(state::INVALID_TEXT_REPRESENTATION, message)
        };
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        let (negative, unsigned) = match trimmed.as_bytes() {
            [b'-', ..] => (true, &trimmed[1..]),
            [b'+', ..] => (false, &trimmed[1..]),
            _ => (false, trimmed),
        };
        match unsigned.to_ascii_lowercase().as_str() {
            "nan" if unsigned.len() == trimmed.len() => return Ok(Self::NaN),
            "inf" | "infinity" => return Ok(Self::Infinite { negative }),
            _ => {}
        }
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent).ok_or_else(invalid)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = || whole.bytes().chain(fraction.bytes());
        if whole.len() + fraction.len() == 0 || !all().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let digits = all().map(|byte| byte - b'0').collect();
        let point = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(exponent);
        let shown = i64::try_from(fraction.len()).unwrap_or(i64::MAX).saturating_sub(exponent);
        Self::finite(negative, digits, point, shown.max(0))
    }

    /// Reads the binary format: base 10,000 digits after a head of four 16-bit numbers.
    ///
    /// # Errors
    ///
    /// 22P03 for bytes that are no `numeric`.
    pub(crate) fn from_binary(bytes: &[u8]) -> Result<Self, SqlError> {
        let invalid = || {
            let message = "invalid external \"numeric\" value";
            SqlError::new(state::INVALID_BINARY_REPRESENTATION, message)
        };
        let mut words = bytes.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]]));
        let mut word = || words.next().ok_or_else(invalid);
        let (count, weight, sign, scale) = (word()?, word()?, word()?, word()?);
        let negative = match sign.cast_unsigned() {
            0x0000 => false,
            0x4000 => true,
            0xc000 => return Ok(Self::NaN),
            0xd000 => return Ok(Self::Infinite { negative: false }),
            0xf000 => return Ok(Self::Infinite { negative: true }),
            _ => return Err(invalid()),
        };
        let count = usize::try_from(count).map_err(|_negative| invalid())?;
        if bytes.len() != 8 + 2 * count || !(0..=0x3fff).contains(&scale) {
            return Err(invalid());
        }
        let mut digits = Vec::with_capacity(4 * count);
        for group in words {
            let group = u16::try_from(group).map_err(|_negative| invalid())?;
            if group > 9_999 {
                return Err(invalid());
            }
            digits.extend([1_000, 100, 10, 1].map(|unit| (group / unit % 10) as u8));
        }
        let point = 4 * (i64::from(weight) + 1);
        // As `numeric_recv` does: digits beyond the announced scale are cut off.
        let keep = usize::try_from(point + i64::from(scale)).unwrap_or(0);
        digits.truncate(keep);
        Self::finite(negative, digits, point, i64::from(scale))
    }

    /// The integer `value`.
    pub(crate) fn from_i128(value: i128) -> Self {
        let digits: Vec<u8> =
            value.unsigned_abs().to_string().bytes().map(|byte| byte - b'0').collect();
        let point = i64::try_from(digits.len()).expect("an i128 has at most 39 digits");
        Self::Finite(Finite::trimmed(value < 0, digits, point, 0))
    }

    /// The largest integer not above this, and whether it is this; saturates at the ends of
    /// `i128`, beyond which no column can lie. `NaN` is above everything, as PostgreSQL sorts it.
    pub(crate) fn floor(&self) -> (i128, bool) {
        let number = match self {
            Self::Finite(number) => number,
            Self::Infinite { negative: true } => return (i128::MIN, false),
            Self::Infinite { negative: false } | Self::NaN => return (i128::MAX, false),
        };
        let Some(whole) = number.whole() else {
            return (if number.negative { i128::MIN } else { i128::MAX }, false);
        };
        let exact = number.len() <= number.point.max(0);
        (if number.negative && !exact { whole - 1 } else { whole }, exact)
    }

    /// The nearest integer, halves away from zero; `None` beyond `i128` and for `NaN`.
    pub(crate) fn round(&self) -> Option<i128> {
        let Self::Finite(number) = self else { return None };
        let whole = number.whole()?;
        let half = number.digit(number.point) >= 5;
        Some(whole + i128::from(half) * if number.negative { -1 } else { 1 })
    }

    /// This with the other sign.
    #[must_use]
    pub(crate) fn negated(self) -> Self {
        match self {
            Self::Finite(number) => {
                let negative = !number.negative && !number.digits.is_empty();
                Self::Finite(Finite { negative, ..number })
            }
            Self::Infinite { negative } => Self::Infinite { negative: !negative },
            Self::NaN => Self::NaN,
        }
    }

    /// The binary format.
    pub(crate) fn to_binary(&self) -> Vec<u8> {
        let head = |count: usize, weight: i64, sign: u16, scale: u16| {
            let count = u16::try_from(count).expect("the digits of a numeric are bounded");
            let weight = i16::try_from(weight).expect("the weight of a numeric is bounded");
            let words = [count, weight.cast_unsigned(), sign, scale];
            words.into_iter().flat_map(u16::to_be_bytes).collect::<Vec<u8>>()
        };
        let number = match self {
            Self::NaN => return head(0, 0, 0xc000, 0),
            Self::Infinite { negative: false } => return head(0, 0, 0xd000, 0x20),
            Self::Infinite { negative: true } => return head(0, 0, 0xf000, 0x20),
            Self::Finite(number) => number,
        };
        // Groups of four digits must end at the decimal point: pad in front of the first.
        let begin = -(-number.point).rem_euclid(4);
        let groups: Vec<u16> = (begin..number.len())
            .step_by(4)
            .map(|at| (at..at + 4).fold(0, |group, at| group * 10 + u16::from(number.digit(at))))
            .collect();
        let weight = if groups.is_empty() { 0 } else { (number.point - begin) / 4 - 1 };
        let sign = if number.negative { 0x4000 } else { 0 };
        let mut bytes = head(groups.len(), weight, sign, number.scale);
        bytes.extend(groups.into_iter().flat_map(u16::to_be_bytes));
        bytes
    }

    fn finite(negative: bool, digits: Vec<u8>, point: i64, scale: i64) -> Result<Self, SqlError> {
        let overflow =
            || SqlError::new(state::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format");
        let scale = u16::try_from(scale).ok().filter(|scale| i64::from(*scale) <= DIGITS_AFTER_MAX);
        let number = Finite::trimmed(negative, digits, point, scale.ok_or_else(overflow)?);
        if number.point > DIGITS_BEFORE_MAX {
            return Err(overflow());
        }
        Ok(Self::Finite(number))
    }
}

impl Finite {
    fn trimmed(negative: bool, mut digits: Vec<u8>, point: i64, scale: u16) -> Self {
        while digits.last() == Some(&0) {
            digits.pop();
        }
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..zeros);
        if digits.is_empty() {
            return Self { negative: false, digits, point: 0, scale };
        }
        let zeros = i64::try_from(zeros).unwrap_or(i64::MAX);
        Self { negative, digits, point: point.saturating_sub(zeros), scale }
    }

    fn len(&self) -> i64 {
        i64::try_from(self.digits.len()).expect("the digits of a number fit into memory")
    }

    /// The digit with this index; 0 in front of the first and after the last.
    fn digit(&self, at: i64) -> u8 {
        usize::try_from(at).ok().and_then(|at| self.digits.get(at)).copied().unwrap_or(0)
    }

    /// The integer towards zero; `None` when it has more than 38 digits.
    fn whole(&self) -> Option<i128> {
        if self.point > 38 {
            return None;
        }
        let magnitude =
            (0..self.point).fold(0_i128, |value, at| value * 10 + i128::from(self.digit(at)));
        Some(if self.negative { -magnitude } else { magnitude })
    }

    fn magnitude(&self, other: &Self) -> Ordering {
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => {
                self.point.cmp(&other.point).then_with(|| self.digits.cmp(&other.digits))
            }
        }
    }
}

/// PostgreSQL's order: minus infinity, the numbers, infinity, `NaN`; `NaN` equals itself.
impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |value: &Self| match value {
            Self::Infinite { negative: true } => 0,
            Self::Finite(_) => 1,
            Self::Infinite { negative: false } => 2,
            Self::NaN => 3,
        };
        match (self, other) {
            (Self::Finite(a), Self::Finite(b)) => match (a.negative, b.negative) {
                (false, false) => a.magnitude(b),
                (true, true) => b.magnitude(a),
                (a, b) => b.cmp(&a),
            },
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Decimal {}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

/// The text format, with as many digits after the point as the value was written with.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = match self {
            Self::NaN => return f.write_str("NaN"),
            Self::Infinite { negative: true } => return f.write_str("-Infinity"),
            Self::Infinite { negative: false } => return f.write_str("Infinity"),
            Self::Finite(number) => number,
        };
        if number.negative {
            f.write_str("-")?;
        }
        let digits =
            |from, to| (from..to).map(|at| char::from(b'0' + number.digit(at))).collect::<String>();
        let whole = digits(0, number.point);
        f.write_str(if whole.is_empty() { "0" } else { &whole })?;
        if number.scale > 0 {
            let end = number.point + i64::from(number.scale);
            write!(f, ".{}", digits(number.point, end))?;
        }
        Ok(())
    }
}

/// A whole number with an optional sign; beyond the format's bounds it only has to be large.
fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let bound = i64::from(i32::MAX) / 2;
    let value = digits.parse::<i64>().map_or(bound, |value| value.min(bound));
    Some(if text.starts_with('-') { -value } else { value })
}
