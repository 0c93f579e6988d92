//! Times as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time so long ago, as `PgBouncer` writes it: `2026-01-31 12:00:00 UTC`.
pub(super) fn ago(age: Duration) -> String {
    let time = SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH);
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    written(seconds)
}

/// Whole seconds, and the microseconds that are left.
pub(super) fn parts(time: Duration) -> (u64, u32) {
    (time.as_secs(), time.subsec_micros())
}

fn written(seconds: u64) -> String {
    let (day, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(day);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// The date so many days after 1970-01-01. Years begin in March here, so that a leap day is the
/// last one of its year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_767_225_599, "2025-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(written(seconds), expected);
        }
    }
}
