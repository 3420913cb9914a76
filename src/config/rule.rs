//! How a value is read, checked and written, by the kind of setting.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use toml::de::DeValue;

use super::{
    choice::Words,
    nearest::nearest,
    units::{parse_duration, parse_number, parse_size, write_duration, write_size},
    violation::{Quantity, Violation},
};

/// A value as it was written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'a> {
    /// In the file, with the type that TOML gives it.
    Toml(&'a DeValue<'a>),
    /// In the environment or on the command line: it has no type yet, and the rule decides.
    Loose(&'a str),
}

impl<'a> Raw<'a> {
    fn integer(self) -> Option<i64> {
        match self {
            Raw::Toml(DeValue::Integer(integer)) => i64::from_str_radix(integer.as_str(), integer.radix()).ok(),
            Raw::Toml(_) => None,
            Raw::Loose(text) => parse_number(text),
        }
    }

    fn boolean(self) -> Option<bool> {
        match self {
            Raw::Toml(DeValue::Boolean(boolean)) => Some(*boolean),
            Raw::Loose("true") => Some(true),
            Raw::Loose("false") => Some(false),
            _ => None,
        }
    }

    fn text(self) -> Option<&'a str> {
        match self {
            Raw::Toml(DeValue::String(text)) => Some(text),
            Raw::Toml(_) => None,
            // People quote as they would in the file: --set 'log.level="debug"'.
            Raw::Loose(text) => Some(text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)),
        }
    }

    fn is_unlimited(self) -> bool {
        self.text() == Some("unlimited")
    }

    fn wrong_type(self, expected: &'static str) -> Violation {
        let found = match self {
            Raw::Toml(DeValue::String(_)) | Raw::Loose(_) => "text",
            Raw::Toml(DeValue::Integer(_)) => "a number",
            Raw::Toml(DeValue::Float(_)) => "a fraction",
            Raw::Toml(DeValue::Boolean(_)) => "true or false",
            Raw::Toml(DeValue::Datetime(_)) => "a date",
            Raw::Toml(DeValue::Array(_)) => "a list",
            Raw::Toml(DeValue::Table(_)) => "a table",
        };
        Violation::WrongType { expected, found }
    }
}

/// Reads and writes the values of one key.
pub(super) trait Rule<T> {
    /// The value that was written as `raw`.
    fn read(&self, raw: Raw<'_>) -> Result<T, Violation>;

    /// `value` as TOML; reading that gives the value again.
    fn write(&self, value: &T) -> String;
}

/// A number that counts something.
pub(super) fn count(range: RangeInclusive<u64>) -> Number {
    Number { range, unit: Unit::One, unlimited: false, power_of_two: false }
}

/// A number of bytes.
pub(super) fn size(range: RangeInclusive<u64>) -> Number {
    Number { range, unit: Unit::Byte, unlimited: false, power_of_two: false }
}

/// See [`count`] and [`size`].
pub(super) struct Number {
    range: RangeInclusive<u64>,
    unit: Unit,
    unlimited: bool,
    power_of_two: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    One,
    Byte,
}

impl Number {
    /// Allows `"unlimited"`, which is the largest value of the type.
    pub(super) fn or_unlimited(self) -> Self {
        Self { unlimited: true, ..self }
    }

    /// Allows powers of two only.
    pub(super) fn power_of_two(self) -> Self {
        Self { power_of_two: true, ..self }
    }

    fn number(&self, raw: Raw<'_>) -> Result<i128, Violation> {
        // An integer in the file may be larger than `Raw::integer` can hold; it is out of range then, not mistyped.
        match (raw.integer(), raw, self.unit) {
            (Some(number), ..) => Ok(number.into()),
            (None, Raw::Toml(DeValue::Integer(integer)), _) => {
                Ok(if integer.as_str().starts_with('-') { i128::MIN } else { i128::MAX })
            }
            (None, _, Unit::Byte) => {
                let text = raw.text().ok_or_else(|| raw.wrong_type("a size"))?;
                parse_size(text).map(i128::from).ok_or(Violation::NotASize)
            }
            (None, _, Unit::One) => Err(raw.wrong_type("a number")),
        }
    }

    fn quantity(&self, number: u64) -> Quantity {
        match self.unit {
            Unit::One => Quantity::Count(number),
            Unit::Byte => Quantity::Bytes(number),
        }
    }
}

/// The integers that a [`Number`] can be.
pub(super) trait Integer: Copy + PartialEq + TryFrom<i128> + Into<u64> {
    /// The largest value, which stands for "unlimited".
    const LARGEST: Self;
}

macro_rules! integers {
    ($($kind:ty),+) => {
        $(impl Integer for $kind {
            const LARGEST: Self = <$kind>::MAX;
        })+
    };
}

integers!(u8, u16, u32, u64);

impl<T: Integer> Rule<T> for Number {
    fn read(&self, raw: Raw<'_>) -> Result<T, Violation> {
        if self.unlimited && raw.is_unlimited() {
            return Ok(T::LARGEST);
        }
        let number = self.number(raw)?;
        // The largest value itself is taken when "unlimited" is: it means that.
        let maximum = (*self.range.end()).min(T::LARGEST.into());
        let out_of_range = || Violation::OutOfRange {
            minimum: self.quantity(*self.range.start()),
            maximum: self.quantity(maximum),
            unlimited: self.unlimited,
        };
        if number < i128::from(*self.range.start()) || number > i128::from(maximum) {
            return Err(out_of_range());
        }
        let value = T::try_from(number).map_err(|_| out_of_range())?;
        let plain: u64 = value.into();
        if self.power_of_two && !plain.is_power_of_two() {
            let above = plain.next_power_of_two();
            return Err(Violation::NotAPowerOfTwo { below: above / 2, above });
        }
        Ok(value)
    }

    fn write(&self, value: &T) -> String {
        if self.unlimited && *value == T::LARGEST {
            return quote("unlimited");
        }
        let number: u64 = (*value).into();
        let size = write_size(number);
        if self.unit == Unit::Byte && size != number.to_string() { quote(&size) } else { number.to_string() }
    }
}

/// A length of time.
pub(super) fn duration(range: RangeInclusive<Duration>) -> Time {
    Time { range, unlimited: false, whole_seconds: false }
}

/// See [`duration`].
pub(super) struct Time {
    range: RangeInclusive<Duration>,
    unlimited: bool,
    whole_seconds: bool,
}

impl Time {
    /// Allows `"unlimited"`, which is [`Duration::MAX`].
    pub(super) fn or_unlimited(self) -> Self {
        Self { unlimited: true, ..self }
    }

    /// Allows whole seconds only, as the wire has them.
    pub(super) fn whole_seconds(self) -> Self {
        Self { whole_seconds: true, ..self }
    }
}

impl Rule<Duration> for Time {
    fn read(&self, raw: Raw<'_>) -> Result<Duration, Violation> {
        if self.unlimited && raw.is_unlimited() {
            return Ok(Duration::MAX);
        }
        let out_of_range = || Violation::OutOfRange {
            minimum: Quantity::Time(*self.range.start()),
            maximum: Quantity::Time(*self.range.end()),
            unlimited: self.unlimited,
        };
        let value = match raw.integer() {
            Some(seconds) => Duration::from_secs(u64::try_from(seconds).map_err(|_| out_of_range())?),
            None if matches!(raw, Raw::Toml(DeValue::Integer(_))) => return Err(out_of_range()),
            None => {
                let text = raw.text().ok_or_else(|| raw.wrong_type("a duration"))?;
                parse_duration(text).ok_or(Violation::NotADuration)?
            }
        };
        if !self.range.contains(&value) {
            return Err(out_of_range());
        }
        if self.whole_seconds && value.subsec_nanos() != 0 {
            return Err(Violation::NotWholeSeconds);
        }
        Ok(value)
    }

    fn write(&self, value: &Duration) -> String {
        quote(&if self.unlimited && *value == Duration::MAX { "unlimited".to_owned() } else { write_duration(*value) })
    }
}

/// True or false.
pub(super) fn flag() -> Switch {
    Switch
}

/// See [`flag`].
pub(super) struct Switch;

impl Rule<bool> for Switch {
    fn read(&self, raw: Raw<'_>) -> Result<bool, Violation> {
        raw.boolean().ok_or_else(|| raw.wrong_type("true or false"))
    }

    fn write(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// One of the words of an enum.
pub(super) fn choice() -> Choice {
    Choice
}

/// See [`choice`].
pub(super) struct Choice;

impl<T: Words> Rule<T> for Choice {
    fn read(&self, raw: Raw<'_>) -> Result<T, Violation> {
        // Words such as "true" are written without quotes where they are one of the words.
        let word = match raw.boolean() {
            Some(true) if T::WORDS.contains(&"true") => "true",
            Some(false) if T::WORDS.contains(&"false") => "false",
            _ => raw.text().ok_or_else(|| raw.wrong_type(expected_word::<T>()))?,
        };
        T::from_word(word)
            .map_err(|_| Violation::NotOneOf { allowed: T::WORDS, nearest: nearest(word, T::WORDS.iter().copied()) })
    }

    fn write(&self, value: &T) -> String {
        match value.word() {
            word @ ("true" | "false") => word.to_owned(),
            word => quote(word),
        }
    }
}

fn expected_word<T: Words>() -> &'static str {
    if T::WORDS.contains(&"true") { "true, false or text" } else { "text" }
}

/// [`AllowAnonymous`](super::AllowAnonymous), or `"inherit"`, which is none of its own.
pub(super) fn anonymous_or_inherit() -> OrInherit {
    OrInherit(&["inherit", "true", "false", "loopback"])
}

/// [`Durability`](super::Durability), or `"inherit"`.
pub(super) fn durability_or_inherit() -> OrInherit {
    OrInherit(&["inherit", "sync", "batched", "memory"])
}

/// See [`anonymous_or_inherit`] and [`durability_or_inherit`]: every word that is allowed.
pub(super) struct OrInherit(&'static [&'static str]);

impl<T: Words> Rule<Option<T>> for OrInherit {
    fn read(&self, raw: Raw<'_>) -> Result<Option<T>, Violation> {
        let allowed = self.0;
        if raw.text() == Some("inherit") {
            return Ok(None);
        }
        Choice.read(raw).map(Some).map_err(|violation| match violation {
            Violation::NotOneOf { .. } => Violation::NotOneOf {
                allowed,
                nearest: raw.text().and_then(|word| nearest(word, allowed.iter().copied())),
            },
            other => other,
        })
    }

    fn write(&self, value: &Option<T>) -> String {
        value.as_ref().map_or_else(|| quote("inherit"), |value| Choice.write(value))
    }
}

/// Any text without control characters, with a length in bytes.
pub(super) fn text(bytes: RangeInclusive<usize>) -> Text {
    Text { bytes, is_forbidden: char::is_control }
}

/// Text that a TopicName may begin with.
pub(super) fn topic_prefix(bytes_max: usize) -> Text {
    Text { bytes: 0..=bytes_max, is_forbidden: |c| c.is_control() || matches!(c, '+' | '#') }
}

/// Text that is one level of a TopicName and holds no spaces, of at most so many bytes.
pub(super) fn topic_level(bytes_max: usize) -> Text {
    Text { bytes: 1..=bytes_max, is_forbidden: |c| c.is_control() || c.is_whitespace() || matches!(c, '/' | '+' | '#') }
}

/// See [`text`], [`topic_prefix`] and [`topic_level`].
pub(super) struct Text {
    bytes: RangeInclusive<usize>,
    is_forbidden: fn(char) -> bool,
}

impl Rule<String> for Text {
    fn read(&self, raw: Raw<'_>) -> Result<String, Violation> {
        let text = raw.text().ok_or_else(|| raw.wrong_type("text"))?;
        if !self.bytes.contains(&text.len()) {
            return Err(Violation::TextLength { bytes_min: *self.bytes.start(), bytes_max: *self.bytes.end() });
        }
        match text.chars().find(|c| (self.is_forbidden)(*c)) {
            Some(character) => Err(Violation::ForbiddenCharacter { character }),
            None => Ok(text.to_owned()),
        }
    }

    fn write(&self, value: &String) -> String {
        quote(value)
    }
}

/// An IP address with a port.
pub(super) fn address() -> Address {
    Address
}

/// See [`address`].
pub(super) struct Address;

impl Rule<SocketAddr> for Address {
    fn read(&self, raw: Raw<'_>) -> Result<SocketAddr, Violation> {
        let text = raw.text().ok_or_else(|| raw.wrong_type("an address with a port"))?;
        text.parse().map_err(|_| Violation::NotAnAddress)
    }

    fn write(&self, value: &SocketAddr) -> String {
        quote(&value.to_string())
    }
}

/// CPUs, as numbers and ranges: `0-3,6`.
pub(super) fn cpus() -> Cpus {
    Cpus
}

/// See [`cpus`].
pub(super) struct Cpus;

impl Rule<Vec<u32>> for Cpus {
    fn read(&self, raw: Raw<'_>) -> Result<Vec<u32>, Violation> {
        let text = raw.text().ok_or_else(|| raw.wrong_type("text such as \"0-3,6\""))?;
        let mut cpus = Vec::new();
        for part in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<u32>().map_err(|_| Violation::NotACpuList);
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(Violation::NotACpuList);
            }
            if last > CPU_MAX {
                return Err(Violation::CpuTooLarge { cpu_max: CPU_MAX });
            }
            cpus.extend(first..=last);
        }
        cpus.sort_unstable();
        cpus.dedup();
        Ok(cpus)
    }

    fn write(&self, value: &Vec<u32>) -> String {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for &cpu in value {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => ranges.push((cpu, cpu)),
            }
        }
        let parts: Vec<String> = ranges
            .iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect();
        quote(&parts.join(","))
    }
}

/// The largest CPU that Linux's own sets of CPUs can name.
const CPU_MAX: u32 = 1023;

/// `text` as a TOML string.
fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}
