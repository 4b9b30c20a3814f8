//! Points in time as RFC 3339 text, without a date library: one algorithm, so that a component stays small.

use std::fmt;

use serde::{Serialize, Serializer};

const DAY_MS: u64 = 86_400_000;
/// Days from 0000-03-01 to 1970-01-01. Years are counted from March, so that the leap day is a year's last.
const EPOCH_DAY: u64 = 719_468;
/// Days in 400 years of the Gregorian calendar.
const ERA_DAYS: u64 = 146_097;

/// Milliseconds since 1970-01-01T00:00:00Z. Prints and serializes as `2026-11-21T07:53:00.123Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    milliseconds: u64,
}

impl Timestamp {
    /// From milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn from_milliseconds(milliseconds: u64) -> Self {
        Self { milliseconds }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn milliseconds(self) -> u64 {
        self.milliseconds
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_date(self.milliseconds / DAY_MS);
        let millisecond = self.milliseconds % DAY_MS;
        let second = millisecond / 1000;
        let parts = [
            (year, 4, '-'),
            (month, 2, '-'),
            (day, 2, 'T'),
            (second / 3600, 2, ':'),
            (second / 60 % 60, 2, ':'),
            (second % 60, 2, '.'),
            (millisecond % 1000, 3, 'Z'),
        ];
        let mut text = String::with_capacity(24);
        for (number, width, end) in parts {
            push_digits(number, width, &mut text);
            text.push(end);
        }
        formatter.write_str(&text)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Decimal digits with leading zeros. Every payment prints times, and `{:02}` costs five times as much fuel.
fn push_digits(number: u64, width: u32, text: &mut String) {
    let mut scale = 10_u64.pow(width - 1);
    while number / scale >= 10 {
        scale *= 10;
    }
    while scale > 0 {
        let [digit, ..] = (number / scale % 10).to_le_bytes();
        text.push(char::from(b'0' + digit));
        scale /= 10;
    }
}

/// Year, month and day of a day since 1970-01-01, by the shifted-era method (Hinnant, "chrono-compatible low-level date
/// algorithms"). No operation can overflow: the day is at most 2^64 / 86,400,000.
fn civil_date(day_since_1970: u64) -> (u64, u64, u64) {
    let day = day_since_1970 + EPOCH_DAY;
    let era = day / ERA_DAYS;
    let day_of_era = day % ERA_DAYS;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, next_year) = if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
    (era * 400 + year_of_era + next_year, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_print_as_rfc_3339() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_000_000_000_000, "2001-09-09T01:46:40.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::from_milliseconds(milliseconds).to_string(), text);
        }
        assert!(!Timestamp::from_milliseconds(u64::MAX).to_string().is_empty());
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let length = |year: u64, month: u64| match month {
            2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut expected = (1970, 1, 1);
        for day in 0..200_000 {
            assert_eq!(civil_date(day), expected);
            let (year, month, date) = expected;
            expected = if date < length(year, month) {
                (year, month, date + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
        }
    }
}
