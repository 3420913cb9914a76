//! What a message of the load generator begins with: who sent it, its number, and when.

use crate::time::Moment;

/// The first bytes of each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The number of the publisher.
    pub publisher: u32,
    /// Counts up from 0 for each publisher.
    pub sequence: u32,
    /// When it was sent, or at a fixed rate when it should have been.
    pub sent: Moment,
}

impl Stamp {
    /// How long it is, and so the smallest payload.
    pub const BYTES: usize = 16;

    #[inline]
    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&self.publisher.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sent.micros().to_be_bytes());
        bytes
    }

    /// Nothing when the payload is too short to be one of ours.
    #[inline]
    pub fn decode(payload: &[u8]) -> Option<Stamp> {
        let (publisher, rest) = payload.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (sent, _) = rest.split_first_chunk()?;
        Some(Stamp {
            publisher: u32::from_be_bytes(*publisher),
            sequence: u32::from_be_bytes(*sequence),
            sent: Moment::from_micros(u64::from_be_bytes(*sent)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp { publisher: 7, sequence: u32::MAX, sent: Moment::from_micros(1_234_567_890_123) };
        let mut payload = stamp.encode().to_vec();
        assert_eq!(Stamp::decode(&payload), Some(stamp));
        payload.push(0);
        assert_eq!(Stamp::decode(&payload), Some(stamp));
        assert_eq!(Stamp::decode(&payload[..Stamp::BYTES - 1]), None);
    }
}
