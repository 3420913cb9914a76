//! Sizes and durations as people write them: `256KiB`, `1h30m`.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

use std::time::Duration;

/// What `"unlimited"` is as a number, before it is narrowed to the largest value of the key's type.
pub const UNLIMITED: u64 = u64::MAX;

pub(super) const KIB: u32 = 1 << 10;
pub(super) const MIB: u32 = 1 << 20;
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// `duration` in seconds as the wire has it: rounded down, with `u32::MAX` for what is longer or unlimited. For a
/// Session Expiry Interval this is what "does not expire" looks like.
#[must_use]
pub const fn whole_seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs();
    if seconds > u32::MAX as u64 { u32::MAX } else { seconds as u32 }
}

/// Bytes, from `65536`, `64KiB`, `64 kib`, `1MiB`, `2GiB`, `1TiB` or `512B`.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// The shortest exact way to write `bytes`.
pub(super) fn write_size(bytes: u64) -> String {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// A duration, from `90` (seconds), `250ms`, `90s`, `5m`, `2h`, `7d`, or several of these, such as `1h30m`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let (seconds, unit) = split_number(rest)?;
    if unit.is_empty() {
        return Some(Duration::from_secs(seconds));
    }
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let after = after.trim_start();
        let unit_length = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_length)?;
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            _ => return None,
        };
        sum = sum.checked_add(part)?;
        rest = after.trim_start();
    }
    Some(sum)
}

/// The duration in its largest unit that is exact.
pub(super) fn write_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    match units.iter().find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", millis / factor),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

/// A whole number, with `_` between digits as TOML has it.
pub(super) fn parse_number(text: &str) -> Option<i64> {
    let (sign, digits) = match text.trim().strip_prefix('-') {
        Some(digits) => (-1_i64, digits),
        None => (1, text.trim()),
    };
    match split_number(digits)? {
        (number, "") => i64::try_from(number).ok()?.checked_mul(sign),
        _ => None,
    }
}

/// The digits that `text` begins with, and the rest.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let length = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(length)?;
    if digits.starts_with('_') || digits.ends_with('_') {
        return None;
    }
    Some((digits.replace('_', "").parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("65_536", Some(65_536)),
            ("512B", Some(512)),
            ("64KiB", Some(65_536)),
            (" 64 kib ", Some(65_536)),
            ("3MiB", Some(3 << 20)),
            ("2GiB", Some(2 << 30)),
            ("1TiB", Some(1 << 40)),
            ("64KB", None),
            ("1.5MiB", None),
            ("-1", None),
            ("", None),
            ("KiB", None),
            ("99999999999999999999", None),
            ("99999999999TiB", None),
            ("1__", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
        for bytes in [0, 1, 1023, 1024, 1025, 65_536, 3 << 20, (1 << 30) + 1024, 5 << 40] {
            assert_eq!(parse_size(&write_size(bytes)), Some(bytes));
        }
    }

    #[test]
    fn durations_are_read_and_written() {
        let millis = |number| Some(Duration::from_millis(number));
        for (text, duration) in [
            ("0", millis(0)),
            ("90", millis(90_000)),
            ("90s", millis(90_000)),
            ("250ms", millis(250)),
            ("5m", millis(300_000)),
            ("1h30m", millis(5_400_000)),
            ("1h 30m", millis(5_400_000)),
            ("7d", millis(604_800_000)),
            ("7 d", millis(604_800_000)),
            ("1h30", None),
            ("5 minutes", None),
            ("m", None),
            ("", None),
            ("-5s", None),
            ("1.5s", None),
            ("99999999999999999999d", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(parse_duration(text), duration, "{text:?}");
        }
        for number in [0, 1, 999, 1000, 1500, 60_000, 90_000, 3_600_000, 604_800_000] {
            let duration = Duration::from_millis(number);
            assert_eq!(parse_duration(&write_duration(duration)), Some(duration));
        }
    }

    #[test]
    fn seconds_for_the_wire_saturate() {
        assert_eq!(whole_seconds(Duration::from_millis(1999)), 1);
        assert_eq!(whole_seconds(Duration::MAX), u32::MAX);
    }
}
