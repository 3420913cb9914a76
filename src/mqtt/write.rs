//! Writing packets: each packet describes its body once, and the description is run twice, first to count and then to
//! write.
//!
//! What always holds: the counting run finds every error, so a failed encode has written nothing; what was written has
//! exactly the length that was counted.

use memchr::memchr;

use super::error::EncodeError;
use super::types::ProtocolVersion;

/// The largest value of a variable byte integer, and so the longest body of a packet.
pub const VARIABLE_INTEGER_MAX: u32 = 268_435_455;

/// A packet that can be written.
pub trait Encode {
    /// The first byte of the packet: type and flags.
    #[doc(hidden)]
    fn first_byte(&self) -> u8;

    /// Describes all that follows the fixed header.
    #[doc(hidden)]
    fn write_body<S: Sink>(&self, version: ProtocolVersion, sink: &mut S) -> Result<(), EncodeError>;

    /// The length of the whole packet in bytes.
    ///
    /// # Errors
    /// Those of [`Encode::encode`].
    fn encoded_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        let remaining_len = self.remaining_len(version)?;
        Ok(1 + variable_integer_len(remaining_len) + remaining_len as usize)
    }

    /// Appends the packet to `out`. What `version` has no room for (properties, reasons in 3.x) is left out.
    ///
    /// # Errors
    /// When a field does not fit its form or the packet does not exist in `version`; `out` is unchanged then.
    fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let remaining_len = self.remaining_len(version)?;
        let start = out.len();
        out.reserve(5 + remaining_len as usize);
        out.push(self.first_byte());
        push_variable_integer(out, remaining_len);
        let body_start = out.len();
        let written = self.write_body(version, out);
        debug_assert_eq!(out.len() - body_start, remaining_len as usize, "both runs describe the same bytes");
        written.inspect_err(|_| out.truncate(start))
    }

    #[doc(hidden)]
    fn remaining_len(&self, version: ProtocolVersion) -> Result<u32, EncodeError> {
        let mut counter = Counter::default();
        self.write_body(version, &mut counter)?;
        counter.variable_integer_value()
    }
}

/// A packet with a Reason String and User Properties, which are left out when they would make it too large.
pub trait EncodeWithin: Encode + Copy {
    /// The same packet without its Reason String.
    #[must_use]
    fn without_reason_string(self) -> Self;

    /// The same packet without its User Properties.
    #[must_use]
    fn without_user_properties(self) -> Self;

    /// Appends the packet to `out` if it fits `packet_bytes_max`: whole if possible, else without its Reason String,
    /// else without its User Properties too. False when not even that can be written; `out` is unchanged then.
    fn encode_within(&self, version: ProtocolVersion, packet_bytes_max: u32, out: &mut Vec<u8>) -> bool {
        let whole = *self;
        // [v5 MQTT-3.1.2-24] [v5 MQTT-3.2.2-19] [v5 MQTT-3.4.2-2] [v5 MQTT-3.5.2-2] [v5 MQTT-3.6.2-2] [v5 MQTT-3.7.2-2]
        // [v5 MQTT-3.9.2-1] [v5 MQTT-3.11.2-1] [v5 MQTT-3.14.2-3] [v5 MQTT-3.15.2-2]
        let without_reason = whole.without_reason_string();
        // [v5 MQTT-3.2.2-20] [v5 MQTT-3.4.2-3] [v5 MQTT-3.5.2-3] [v5 MQTT-3.6.2-3] [v5 MQTT-3.7.2-3]
        // [v5 MQTT-3.9.2-2] [v5 MQTT-3.11.2-2] [v5 MQTT-3.14.2-4] [v5 MQTT-3.15.2-3]
        let bare = without_reason.without_user_properties();
        [whole, without_reason, bare].iter().any(|packet| {
            packet.encoded_len(version).is_ok_and(|len| len <= packet_bytes_max as usize)
                && packet.encode(version, out).is_ok()
        })
    }
}

/// Where a description of a body goes: into bytes, or into their count.
#[doc(hidden)]
pub trait Sink {
    /// Bytes as they are.
    fn bytes(&mut self, bytes: &[u8]);

    /// One byte.
    fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    /// Two bytes, the larger one first.
    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    /// Four bytes, the largest one first.
    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Binary data behind its length.
    fn binary(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let len = u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong)?;
        self.u16(len);
        self.bytes(bytes);
        Ok(())
    }

    /// A string behind its length.
    fn string(&mut self, text: &str) -> Result<(), EncodeError> {
        if memchr(0, text.as_bytes()).is_some() {
            return Err(EncodeError::StringContainsNull);
        }
        self.binary(text.as_bytes())
    }

    /// A variable byte integer in its shortest form. // [v5 MQTT-1.5.5-1]
    fn variable_integer(&mut self, value: u32) -> Result<(), EncodeError> {
        if value > VARIABLE_INTEGER_MAX {
            return Err(EncodeError::VariableIntegerTooLarge);
        }
        let mut rest = value;
        while rest >= 0x80 {
            self.u8((rest & 0x7F) as u8 | 0x80);
            rest >>= 7;
        }
        self.u8(rest as u8);
        Ok(())
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts what would be written.
#[derive(Debug, Default)]
pub(crate) struct Counter(usize);

impl Counter {
    pub(crate) fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// The count, if a variable byte integer can say it.
    pub(crate) fn variable_integer_value(&self) -> Result<u32, EncodeError> {
        match u32::try_from(self.0) {
            Ok(len) if len <= VARIABLE_INTEGER_MAX => Ok(len),
            Ok(_) | Err(_) => Err(EncodeError::VariableIntegerTooLarge),
        }
    }
}

impl Sink for Counter {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }
}

/// How many bytes `value` takes as a variable byte integer.
#[inline]
#[must_use]
pub const fn variable_integer_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends `value`, which the caller knows to fit, as a variable byte integer.
#[inline]
pub(crate) fn push_variable_integer(out: &mut Vec<u8>, value: u32) {
    debug_assert!(value <= VARIABLE_INTEGER_MAX, "the caller has looked at the size");
    let mut rest = value;
    while rest >= 0x80 {
        out.push((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
