//! Finding packets in a stream of bytes.
//!
//! What always holds: a wrong first byte is refused with that byte, a packet that will be too large with its length,
//! before any more of it is read.

use super::error::DecodeError;
use super::read::variable_integer;
use super::types::PacketType;

/// The fixed header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The first byte: packet type and flags.
    pub first: u8,
    /// The length of the fixed header itself: 2 to 5 bytes.
    pub header_len: u8,
    /// How many bytes follow the fixed header.
    pub remaining_len: u32,
}

impl FrameHeader {
    /// The length of the whole packet in bytes.
    #[inline]
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.header_len as usize + self.remaining_len as usize
    }
}

/// What stands at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Not yet a whole packet.
    Incomplete {
        /// The packet has at least this many bytes in all: more than there are now.
        need: usize,
    },
    /// A whole packet of [`FrameHeader::total_len`] bytes.
    Complete(FrameHeader),
}

/// Looks for a whole packet at the start of `bytes`.
///
/// # Errors
/// A reserved packet type, wrong flags, a malformed length, or a packet of more than `packet_bytes_max` bytes.
#[inline]
pub fn peek(bytes: &[u8], packet_bytes_max: u32) -> Result<Peek, DecodeError> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(Peek::Incomplete { need: 2 });
    };
    check_first_byte(first)?;
    let Some((remaining_len, length_len)) = variable_integer(rest)? else {
        return Ok(Peek::Incomplete { need: bytes.len() + 1 });
    };
    let header = FrameHeader { first, header_len: 1 + length_len as u8, remaining_len };
    let total_len = header.total_len();
    if total_len > packet_bytes_max as usize {
        return Err(DecodeError::PacketTooLarge);
    }
    Ok(if bytes.len() < total_len { Peek::Incomplete { need: total_len } } else { Peek::Complete(header) })
}

/// The first byte is checked before the version is asked for, so the DUP flag that 3.1 allows on PUBREL, SUBSCRIBE and
/// UNSUBSCRIBE passes here; [`super::Packet::decode`] refuses it in later versions.
#[inline]
fn check_first_byte(first: u8) -> Result<(), DecodeError> {
    let packet_type = PacketType::from_first_byte(first)?;
    if packet_type == PacketType::Publish {
        return match first & 0b1110 {
            0b0110 | 0b1110 => Err(DecodeError::PublishQoSInvalid), // [v3 MQTT-3.3.1-4] [v5 MQTT-3.3.1-4]
            0b1000 => Err(DecodeError::DuplicateAtQoS0),            // [v3 MQTT-3.3.1-2] [v5 MQTT-3.3.1-2]
            _ => Ok(()),
        };
    }
    // [v3 MQTT-2.2.2-1] [v3 MQTT-2.2.2-2] [v5 MQTT-2.1.3-1]
    if first == packet_type.first_byte() || first == packet_type.first_byte() | DUP && allows_dup_in_v31(packet_type) {
        Ok(())
    } else {
        Err(DecodeError::FixedHeaderFlagsInvalid)
    }
}

/// Whether MQTT 3.1 lets the sender mark a repetition of such a packet.
pub(crate) const fn allows_dup_in_v31(packet_type: PacketType) -> bool {
    matches!(packet_type, PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe)
}

/// The DUP flag of the first byte.
pub(crate) const DUP: u8 = 0b1000;
