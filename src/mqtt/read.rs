//! Reading the data types of MQTT from borrowed bytes.
//!
//! What always holds: a read either takes exactly the bytes of its field or fails and is of no further use; nothing is
//! copied, nothing allocates, no input panics.

use memchr::memchr3;

use super::error::DecodeError;
use super::types::PacketIdentifier;

/// The fields of a packet's body, from left to right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    #[inline]
    pub(crate) const fn remainder(self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left.
    #[inline]
    pub(crate) const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let (&value, rest) = self.rest.split_first().ok_or(DecodeError::BodyTooShort)?;
        self.rest = rest;
        Ok(value)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeError::BodyTooShort)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeError::BodyTooShort)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::BodyTooShort)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn packet_identifier(&mut self) -> Result<PacketIdentifier, DecodeError> {
        PacketIdentifier::new(self.u16()?).ok_or(DecodeError::PacketIdentifierZero) // [v3 MQTT-2.3.1-1]
    }

    /// Binary data with its length in two bytes before it.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 string. A byte order mark is a character like another. // [v3 MQTT-1.5.3-3] [v5 MQTT-1.5.4-3]
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let text = self.string_with_null()?;
        if contains_any_of(text.as_bytes(), [0; 3]) {
            return Err(DecodeError::StringContainsNull); // [v3 MQTT-1.5.3-2] [v5 MQTT-1.5.4-2]
        }
        Ok(text)
    }

    /// A UTF-8 string in which the caller will look for U+0000 together with what else it forbids.
    #[inline]
    pub(crate) fn string_with_null(&mut self) -> Result<&'a str, DecodeError> {
        // Rust's UTF-8 is the well-formed one: no surrogates, no overlong forms. // [v3 MQTT-1.5.3-1] [v5 MQTT-1.5.4-1]
        std::str::from_utf8(self.binary()?).map_err(|_| DecodeError::StringNotUtf8)
    }

    #[inline]
    pub(crate) fn variable_integer(&mut self) -> Result<u32, DecodeError> {
        let (value, len) = variable_integer(self.rest)?.ok_or(DecodeError::BodyTooShort)?;
        self.take(len)?;
        Ok(value)
    }

    /// The property section: its length, then that many bytes.
    #[inline]
    pub(crate) fn properties(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.variable_integer()?;
        self.take(len as usize)
    }
}

/// The variable byte integer at the start of `bytes` and its length; `None` when `bytes` ends before it does.
#[inline]
pub(crate) fn variable_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (position, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * position);
        if byte & 0x80 == 0 {
            if byte == 0 && position > 0 {
                return Err(DecodeError::VariableIntegerNotShortest); // [v5 MQTT-1.5.5-1]
            }
            return Ok(Some((value, position + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(DecodeError::VariableIntegerTooLong) }
}

/// Whether any of the three bytes of `wanted` occurs in `bytes`.
///
/// Topics are a few dozen bytes, where eight at a time in a register beats the set-up of a vector search.
#[inline]
pub(crate) fn contains_any_of(bytes: &[u8], wanted: [u8; 3]) -> bool {
    if bytes.len() > 128 {
        return memchr3(wanted[0], wanted[1], wanted[2], bytes).is_some();
    }
    let patterns = wanted.map(|byte| u64::from(byte) * ONES);
    let hit = |word: u64| patterns.iter().fold(0, |hits, pattern| hits | zero_bytes(word ^ pattern));
    let (words, tail) = bytes.as_chunks::<8>();
    let mut hits = 0;
    for word in words {
        hits |= hit(u64::from_le_bytes(*word));
    }
    // The last eight bytes once more, overlapping, cover the tail; shorter texts go byte by byte.
    match bytes.last_chunk::<8>() {
        Some(word) => hits | hit(u64::from_le_bytes(*word)) != 0,
        None => tail.iter().any(|byte| wanted.contains(byte)),
    }
}

const ONES: u64 = u64::from_le_bytes([0x01; 8]);
const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);

/// Non-zero exactly when a byte of `word` is zero.
#[inline]
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_search_in_words_finds_what_a_search_of_bytes_finds(
            mut bytes in prop::collection::vec(1..=255_u8, 0..200),
            place in any::<prop::sample::Index>(),
            byte in prop::sample::select(vec![0, b'+', b'#', b'a', 0x80, 0xFF, 1]),
        ) {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            for wanted in [[0; 3], [0, b'+', b'#'], [0x80, 0xFF, 1]] {
                let expected = bytes.iter().any(|byte| wanted.contains(byte));
                prop_assert_eq!(contains_any_of(&bytes, wanted), expected);
            }
        }
    }

    #[test]
    fn the_search_finds_each_byte_at_each_place_of_each_length() {
        for len in 1..=140 {
            for place in 0..len {
                let mut bytes = vec![b'a'; len];
                assert!(!contains_any_of(&bytes, [0, b'+', b'#']));
                for byte in [0, b'+', b'#'] {
                    bytes[place] = byte;
                    assert!(contains_any_of(&bytes, [0, b'+', b'#']), "{byte} at {place} of {len}");
                }
            }
        }
    }

    #[test]
    fn mqtt_1_5_5_1_variable_integers_take_the_shortest_form() {
        let cases: [(&[u8], u32); 8] = [
            (&[0], 0),
            (&[0x7F], 127),
            (&[0x80, 1], 128),
            (&[0xFF, 0x7F], 16_383),
            (&[0x80, 0x80, 1], 16_384),
            (&[0xFF, 0xFF, 0x7F], 2_097_151),
            (&[0x80, 0x80, 0x80, 1], 2_097_152),
            (&[0xFF, 0xFF, 0xFF, 0x7F], 268_435_455),
        ];
        for (bytes, value) in cases {
            assert_eq!(variable_integer(bytes), Ok(Some((value, bytes.len()))));
            assert_eq!(super::super::write::variable_integer_len(value), bytes.len());
            let mut out = Vec::new();
            super::super::write::push_variable_integer(&mut out, value);
            assert_eq!(out, bytes);
            for len in 0..bytes.len() {
                assert_eq!(variable_integer(&bytes[..len]), Ok(None));
            }
        }
        for long in [&[0x80, 0][..], &[0xFF, 0x80, 0], &[0x80, 0x80, 0x80, 0]] {
            assert_eq!(variable_integer(long), Err(DecodeError::VariableIntegerNotShortest));
        }
        assert_eq!(variable_integer(&[0x80; 4]), Err(DecodeError::VariableIntegerTooLong));
        assert_eq!(variable_integer(&[0xFF, 0xFF, 0xFF, 0xFF, 1]), Err(DecodeError::VariableIntegerTooLong));
    }
}
