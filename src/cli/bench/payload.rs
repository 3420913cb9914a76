//! How long payloads are.

use std::{fmt, str::FromStr};

use super::stamp::Stamp;

/// Lengths of payloads, as the command line says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PayloadLengths {
    /// All of this many bytes.
    Fixed(u32),
    /// Any of these, each as often as the others.
    Uniform(u32, u32),
    /// These, each as often as its weight says.
    Weighted(Vec<(u32, u32)>),
}

/// The length of each message, which a receiver can tell from the publisher and the sequence number as well as the sender.
#[derive(Clone, Debug)]
pub(super) struct PayloadTable {
    /// One length, or [`LENGTHS`] of them in an order without a pattern.
    lengths: Box<[u32]>,
}

impl PayloadLengths {
    /// The longest of them.
    pub fn longest(&self) -> u32 {
        match self {
            PayloadLengths::Fixed(length) => *length,
            PayloadLengths::Uniform(_, longest) => *longest,
            PayloadLengths::Weighted(lengths) => lengths.iter().map(|length| length.0).max().unwrap_or_default(),
        }
    }

    /// The length of each message.
    pub fn table(&self) -> PayloadTable {
        let mut lengths: Vec<u32> = match self {
            PayloadLengths::Fixed(length) => return PayloadTable { lengths: [*length].into() },
            PayloadLengths::Uniform(shortest, longest) => {
                let spread = u64::from(longest - shortest);
                let at = |place| shortest + (spread * place / (LENGTHS as u64 - 1)) as u32;
                (0..LENGTHS as u64).map(at).collect()
            }
            PayloadLengths::Weighted(weighted) => {
                let total: u64 = weighted.iter().map(|(_, weight)| u64::from(*weight)).sum();
                let mut lengths = Vec::with_capacity(LENGTHS);
                let mut weights = 0;
                for (length, weight) in weighted {
                    weights += u64::from(*weight);
                    lengths.resize((LENGTHS as u64 * weights / total.max(1)) as usize, *length);
                }
                lengths
            }
        };
        shuffle(&mut lengths);
        PayloadTable { lengths: lengths.into() }
    }
}

impl PayloadTable {
    /// The length of that message of that publisher.
    #[inline]
    pub fn length(&self, publisher: u32, sequence: u32) -> u32 {
        // Publishers begin at different places, so that they don't all send their large messages at once.
        let place = sequence.wrapping_add(publisher.wrapping_mul(STRIDE)) as usize & (self.lengths.len() - 1);
        self.lengths[place]
    }

    /// The mean length.
    pub fn mean(&self) -> f64 {
        self.lengths.iter().map(|&length| f64::from(length)).sum::<f64>() / self.lengths.len() as f64
    }
}

impl FromStr for PayloadLengths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let length = |text: &str| {
            let length = text.trim().parse().ok().filter(|length| (Stamp::BYTES as u32..=PAYLOAD_MAX).contains(length));
            length.ok_or_else(|| format!("a payload has from {} to {PAYLOAD_MAX} bytes", Stamp::BYTES))
        };
        if let Some((shortest, longest)) = text.split_once("..") {
            let (shortest, longest) = (length(shortest)?, length(longest.trim_start_matches('='))?);
            return match longest.cmp(&shortest) {
                std::cmp::Ordering::Less => Err(format!("{shortest} is more than {longest}")),
                std::cmp::Ordering::Equal => Ok(PayloadLengths::Fixed(shortest)),
                std::cmp::Ordering::Greater => Ok(PayloadLengths::Uniform(shortest, longest)),
            };
        }
        if !text.contains([':', ',']) {
            return length(text).map(PayloadLengths::Fixed);
        }
        let weighted = text.split(',').map(|part| {
            let (bytes, weight) = part.split_once(':').unwrap_or((part, "1"));
            let weight = weight.trim().parse().ok().filter(|weight| (1..=LENGTHS as u32).contains(weight));
            Ok((length(bytes)?, weight.ok_or_else(|| format!("a weight is a number from 1 to {LENGTHS}"))?))
        });
        let weighted = weighted.collect::<Result<Vec<_>, String>>()?;
        let total: u64 = weighted.iter().map(|(_, weight)| u64::from(*weight)).sum();
        if total > LENGTHS as u64 {
            return Err(format!("the weights add up to more than {LENGTHS}"));
        }
        Ok(PayloadLengths::Weighted(weighted))
    }
}

impl fmt::Display for PayloadLengths {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PayloadLengths::Fixed(length) => write!(formatter, "{length}"),
            PayloadLengths::Uniform(shortest, longest) => write!(formatter, "{shortest}..{longest}"),
            PayloadLengths::Weighted(weighted) => {
                let parts: Vec<_> = weighted.iter().map(|(length, weight)| format!("{length}:{weight}")).collect();
                formatter.write_str(&parts.join(","))
            }
        }
    }
}

/// The same order in each run, so that runs can be compared.
fn shuffle(lengths: &mut [u32]) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for place in (1..lengths.len()).rev() {
        // xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        lengths.swap(place, (state % (place as u64 + 1)) as usize);
    }
}

/// Lengths in a table, and the largest sum of weights: a power of two.
const LENGTHS: usize = 4096;
/// How far the next publisher begins in the table: odd, so that all places come.
const STRIDE: u32 = 1021;
const PAYLOAD_MAX: u32 = 268_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_said() {
        for (text, lengths) in [
            ("64", PayloadLengths::Fixed(64)),
            ("16..1024", PayloadLengths::Uniform(16, 1024)),
            ("64:9,4096:1", PayloadLengths::Weighted(vec![(64, 9), (4096, 1)])),
        ] {
            assert_eq!(text.parse(), Ok(lengths.clone()), "{text}");
            assert_eq!(lengths.to_string(), text);
        }
        assert_eq!("32..32".parse(), Ok(PayloadLengths::Fixed(32)));
        assert_eq!("20,30".parse(), Ok(PayloadLengths::Weighted(vec![(20, 1), (30, 1)])));
        for wrong in ["", "15", "x", "64..32", "..", "64:", "64:0", "64:9,", ":1", "64:4096,65:1", "300000000", "-64"] {
            assert!(wrong.parse::<PayloadLengths>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_table_holds_what_was_asked_for() {
        let count = |table: &PayloadTable, length| table.lengths.iter().filter(|&&it| it == length).count();
        let weighted = PayloadLengths::Weighted(vec![(64, 3), (4096, 1)]);
        let table = weighted.table();
        assert_eq!((count(&table, 64), count(&table, 4096)), (3072, 1024));
        assert!((table.mean() - 1072.0).abs() < 1e-9);
        assert_eq!(weighted.longest(), 4096);
        let table = PayloadLengths::Uniform(16, 1024).table();
        assert!((table.mean() - 520.0).abs() < 1.0);
        assert!(table.lengths.iter().all(|length| (16..=1024).contains(length)));
        assert!(count(&table, 16) > 0 && count(&table, 1024) > 0);
        assert!(!table.lengths.is_sorted());
        assert_eq!(PayloadLengths::Fixed(64).table().length(7, u32::MAX), 64);
    }
}
