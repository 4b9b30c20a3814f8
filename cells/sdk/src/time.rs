//! Points in time as RFC 3339 text, without a date library: one algorithm, so that a component stays small.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    pub const fn from_milliseconds(milliseconds: u64) -> Self {
        Self { milliseconds }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn milliseconds(self) -> u64 {
        self.milliseconds
    }

    /// The moment so many milliseconds later, or the last one that there is.
    #[must_use]
    pub fn plus(self, milliseconds: u64) -> Self {
        Self { milliseconds: self.milliseconds.saturating_add(milliseconds) }
    }

    /// Reads RFC 3339 with `Z` or an offset, from 1970 to 9999. Digits past the millisecond are cut off; a leap second is
    /// refused, because this clock has none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.split_at_checked(10)?;
        let time = time.strip_prefix(['T', 't'])?;
        let (clock, rest) = time.split_at_checked(8)?;
        let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
        let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
        let (fraction, zone) = match rest.strip_prefix('.') {
            None => (0, rest),
            Some(rest) => {
                let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
                let (digits, zone) = rest.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
                (format!("{digits:0<3}").get(..3)?.parse().ok()?, zone)
            }
        };
        let in_range = (1970..=9999).contains(&year) && hour < 24 && minute < 60 && second < 60;
        let days = day_of(year, month, day).filter(|_| in_range)?;
        let local = days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + fraction;
        let (east, offset) = offset_ms(zone)?;
        let milliseconds = if east { local.checked_sub(offset)? } else { local.checked_add(offset)? };
        Some(Self { milliseconds })
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

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not a time of RFC 3339")))
    }
}

/// Three numbers of fixed width with a separator between them.
fn numbers(text: &str, separator: char, widths: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next()?;
        let plain = part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = part.parse().ok().filter(|_| plain)?;
    }
    parts.next().is_none().then_some(numbers)
}

/// Whether local time runs ahead of UTC, and by how much.
fn offset_ms(zone: &str) -> Option<(bool, u64)> {
    if matches!(zone, "Z" | "z") {
        return Some((true, 0));
    }
    let (sign, offset) = zone.split_at_checked(1)?;
    let [hours, minutes, _] = numbers(&format!("{offset}:00"), ':', [2, 2, 2])?;
    let offset = (hours * 60 + minutes) * 60_000;
    match sign {
        "+" if hours < 24 && minutes < 60 => Some((true, offset)),
        "-" if hours < 24 && minutes < 60 => Some((false, offset)),
        _ => None,
    }
}

/// The day since 1970-01-01 of a date; none for a date that the calendar does not have. The inverse of [`civil_date`].
fn day_of(year: u64, month: u64, day: u64) -> Option<u64> {
    let (march_year, month_from_march) =
        if month > 2 { (year, month.checked_sub(3)?) } else { (year.checked_sub(1)?, month + 9) };
    let year_of_era = march_year % 400;
    let day_of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (march_year / 400 * ERA_DAYS + day_of_era).checked_sub(EPOCH_DAY)?;
    (civil_date(days) == (year, month, day)).then_some(days)
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
    fn rfc_3339_is_read() {
        let read = |text| Timestamp::parse(text).map(Timestamp::milliseconds);
        assert_eq!(read("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(read("2001-09-09T01:46:40.5Z"), Some(1_000_000_000_500));
        assert_eq!(read("2001-09-09T03:46:40.0009+02:00"), Some(1_000_000_000_000));
        assert_eq!(read("2001-09-08t20:16:40-05:30"), Some(1_000_000_000_000));
        for wrong in [
            "",
            "2001-09-09",
            "2001-09-09T01:46:40",
            "2001-09-09 01:46:40Z",
            "2001-02-29T00:00:00Z",
            "2001-13-01T00:00:00Z",
            "2001-00-01T00:00:00Z",
            "2001-01-00T00:00:00Z",
            "2001-01-01T24:00:00Z",
            "2001-01-01T00:00:60Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "2001-01-01T00:00:00.Z",
            "2001-01-01T00:00:00+1:00",
            "+001-01-01T00:00:00Z",
            "2001-01-01T00:00:00é",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for step in 0..20_000 {
            let moment = Timestamp::from_milliseconds(step * 12_345_678_901);
            assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
        }
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
