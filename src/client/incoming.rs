//! Which QoS 2 messages came in and are not released.

use crate::mqtt::PacketIdentifier;

/// A bit for each identifier, made with the first QoS 2 message: 8 KiB, so that a look-up is one load however many are open.
#[derive(Debug)]
pub(super) struct Incoming {
    bits: Option<Box<[u64; WORDS]>>,
}

const WORDS: usize = 1 << 10;

impl Incoming {
    pub const fn new() -> Self {
        Incoming { bits: None }
    }

    /// Notes the identifier; whether it was free, so that the message is new.
    pub fn insert(&mut self, identifier: PacketIdentifier) -> bool {
        let bits = self.bits.get_or_insert_with(|| Box::new([0; WORDS]));
        let Some((word, bit)) = find(bits, identifier) else { return true };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Frees the identifier.
    pub fn release(&mut self, identifier: PacketIdentifier) {
        if let Some((word, bit)) = self.bits.as_deref_mut().and_then(|bits| find(bits, identifier)) {
            *word &= !bit;
        }
    }
}

/// The word and the bit of an identifier. There always is one: 65,536 bits.
fn find(bits: &mut [u64; WORDS], identifier: PacketIdentifier) -> Option<(&mut u64, u64)> {
    let value = identifier.value();
    bits.get_mut(usize::from(value / 64)).map(|word| (word, 1 << (value % 64)))
}
