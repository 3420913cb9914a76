//! What can be wrong with a configuration.

use std::{fmt, time::Duration};

use super::units::{write_duration, write_size};

/// One thing that is wrong. [`fmt::Display`] says what; [`Violation::help`] says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The file is not TOML; `message` is the TOML parser's.
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// The value is not UTF-8.
    NotUtf8,
    /// There is no such section.
    UnknownSection {
        /// What was written.
        section: String,
        /// What was probably meant.
        hint: SectionHint,
    },
    /// The section has no such key.
    UnknownKey {
        /// The section.
        section: &'static str,
        /// What was written.
        key: String,
        /// What was probably meant.
        hint: KeyHint,
    },
    /// The name of a section has a value instead of keys.
    NotASection {
        /// The section.
        section: &'static str,
    },
    /// `listener` is not a list of tables.
    NotAListOfListeners,
    /// What follows `--set` is not `section.key=value`.
    NotAnAssignment,
    /// A listener's number beyond the next one.
    ListenerNumber {
        /// How many listeners there are before this one.
        listeners: usize,
    },
    /// Too many listeners.
    TooManyListeners {
        /// How many are allowed.
        listeners_max: usize,
    },
    /// A value of another type.
    WrongType {
        /// What is allowed.
        expected: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// A number, size or duration outside of its range.
    OutOfRange {
        /// The smallest that is allowed.
        minimum: Quantity,
        /// The largest that is allowed.
        maximum: Quantity,
        /// Whether "unlimited" is allowed.
        unlimited: bool,
    },
    /// A number that is not a power of two.
    NotAPowerOfTwo {
        /// The largest power of two below it.
        below: u64,
        /// The smallest power of two above it.
        above: u64,
    },
    /// A duration with a part of a second where whole seconds are needed.
    NotWholeSeconds,
    /// Text that is not a size.
    NotASize,
    /// Text that is not a duration.
    NotADuration,
    /// Text that is not a list of CPUs.
    NotACpuList,
    /// A CPU beyond those that can be named.
    CpuTooLarge {
        /// The largest that can be named.
        cpu_max: u32,
    },
    /// Text that is not an address with a port.
    NotAnAddress,
    /// A word that is none of those allowed.
    NotOneOf {
        /// The words.
        allowed: &'static [&'static str],
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// Text that is shorter or longer than allowed.
    TextLength {
        /// The shortest that is allowed, in bytes.
        bytes_min: usize,
        /// The longest that is allowed, in bytes.
        bytes_max: usize,
    },
    /// A character that is not allowed in this text.
    ForbiddenCharacter {
        /// The character.
        character: char,
    },
    /// A listener without `address`.
    ListenerWithoutAddress,
    /// Two listeners on one address.
    ListenerAddressTaken,
    /// Two listeners of one name.
    ListenerNameTaken,
    /// A listener that promises more than the store gives.
    ListenerDurability {
        /// What the store gives.
        store: &'static str,
    },
}

/// What an unknown section was probably meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionHint {
    /// A section with a similar name.
    Nearest(&'static str),
    /// A key of this section, written outside of it.
    KeyOf(&'static str),
    /// Nothing that is known.
    Nothing,
}

/// What an unknown key was probably meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHint {
    /// A key of this section with a similar name.
    Nearest(&'static str),
    /// A key of another section with just this name.
    InSection(&'static str),
    /// Nothing that is known.
    Nothing,
}

/// An end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// A number.
    Count(u64),
    /// A number of bytes.
    Bytes(u64),
    /// A duration.
    Time(Duration),
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Bytes(bytes) => f.write_str(&write_size(bytes)),
            Self::Time(duration) => f.write_str(&write_duration(duration)),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { message } => write!(f, "{message}"),
            Self::NotUtf8 => write!(f, "the value is not UTF-8"),
            Self::UnknownSection { section, hint: SectionHint::KeyOf(_) } => {
                write!(f, "`{section}` stands outside of its section")
            }
            Self::UnknownSection { section, .. } => write!(f, "there is no section `{section}`"),
            Self::UnknownKey { section, key, .. } => write!(f, "[{section}] has no key `{key}`"),
            Self::NotASection { section } => write!(f, "`{section}` is a section, not a key"),
            Self::NotAListOfListeners => write!(f, "`listener` is a list of sections"),
            Self::NotAnAssignment => write!(f, "expected section.key=value"),
            Self::ListenerNumber { .. } => write!(f, "there is no such listener"),
            Self::TooManyListeners { listeners_max } => write!(f, "more than {listeners_max} listeners"),
            Self::WrongType { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::OutOfRange { .. } => write!(f, "out of range"),
            Self::NotAPowerOfTwo { .. } => write!(f, "not a power of two"),
            Self::NotWholeSeconds => write!(f, "not a whole number of seconds"),
            Self::NotASize => write!(f, "not a size"),
            Self::NotADuration => write!(f, "not a duration"),
            Self::NotACpuList => write!(f, "not a list of CPUs"),
            Self::CpuTooLarge { .. } => write!(f, "no such CPU"),
            Self::NotAnAddress => write!(f, "not an IP address with a port"),
            Self::NotOneOf { .. } => write!(f, "unknown value"),
            Self::TextLength { bytes_min: 0, .. } => write!(f, "too long"),
            Self::TextLength { .. } => write!(f, "empty or too long"),
            Self::ForbiddenCharacter { character } => write!(f, "{character:?} is not allowed here"),
            Self::ListenerWithoutAddress => write!(f, "this listener has no address"),
            Self::ListenerAddressTaken => write!(f, "another listener has this address"),
            Self::ListenerNameTaken => write!(f, "another listener has this name"),
            Self::ListenerDurability { store } => write!(f, "the store promises less: \"{store}\""),
        }
    }
}

impl Violation {
    /// What to write instead, when there is more to say than [`fmt::Display`] does.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::UnknownSection { hint: SectionHint::Nearest(section), .. } => format!("did you mean `{section}`?"),
            Self::UnknownSection { hint: SectionHint::KeyOf(section), .. } => format!("it belongs in [{section}]"),
            Self::UnknownKey { hint: KeyHint::Nearest(key), .. } => format!("did you mean `{key}`?"),
            Self::UnknownKey { hint: KeyHint::InSection(section), .. } => format!("it belongs in [{section}]"),
            Self::NotASection { section } => format!("write [{section}] and its keys below"),
            Self::NotAListOfListeners => "write [[listener]] once for each, and its keys below".to_owned(),
            Self::NotAnAssignment => {
                "for example mqtt.packet_bytes_max=2MiB or listener.0.address=0.0.0.0:1883".to_owned()
            }
            Self::ListenerNumber { listeners } => format!("the next new listener is listener.{listeners}"),
            Self::OutOfRange { minimum, maximum, unlimited } => {
                let unlimited = if *unlimited { ", or \"unlimited\"" } else { "" };
                format!("allowed: {minimum} to {maximum}{unlimited}")
            }
            Self::NotAPowerOfTwo { below, above } => format!("the nearest are {below} and {above}"),
            Self::NotASize => {
                "allowed: a number of bytes, or one with KiB, MiB, GiB or TiB, such as \"256KiB\"".to_owned()
            }
            Self::NotADuration => {
                "allowed: a number of seconds, or numbers with ms, s, m, h or d, such as \"250ms\" or \"1h30m\""
                    .to_owned()
            }
            Self::NotACpuList => "allowed: numbers and ranges, such as \"0-3,6\"".to_owned(),
            Self::CpuTooLarge { cpu_max } => format!("the largest that can be named is {cpu_max}"),
            Self::NotAnAddress => {
                "allowed: for example \"127.0.0.1:1883\", \"0.0.0.0:1883\" or \"[::]:1883\"".to_owned()
            }
            Self::NotOneOf { allowed, nearest } => {
                let words: Vec<String> = allowed.iter().map(|word| format!("\"{word}\"")).collect();
                let meant = nearest.map_or(String::new(), |word| format!("; did you mean \"{word}\"?"));
                format!("allowed: {}{meant}", words.join(", "))
            }
            Self::TextLength { bytes_min, bytes_max } => format!("allowed: {bytes_min} to {bytes_max} bytes"),
            Self::ListenerWithoutAddress => "add a line such as address = \"0.0.0.0:1883\"".to_owned(),
            Self::ListenerDurability { .. } => "raise `durability` in [store], or leave it out here".to_owned(),
            _ => return None,
        })
    }
}
