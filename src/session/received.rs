//! The PacketIdentifiers of QoS 2 messages received and not yet released.
//!
//! Owns: which identifiers stand between PUBREC and PUBREL for one session, and of which of them that is not certain.
//! Always: small while few are open, and never larger than 8 KiB, since there are 65,535 identifiers.
//! Never: forgets one before PUBREL, which would deliver a message twice.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::mqtt::PacketIdentifier;

/// A set of PacketIdentifiers.
#[derive(Debug, Default)]
pub struct ReceivedIdentifiers {
    set: Set,
    /// Those that may have been released, with the fingerprints of their messages. After most starts there are none.
    #[allow(clippy::box_collection, reason = "almost every session has none, and pays a word for it")]
    doubted: Option<Box<BTreeMap<u16, u64>>>,
}

#[derive(Debug)]
enum Set {
    Few(Vec<u16>),
    Many(Box<Many>),
}

#[derive(Debug)]
struct Many {
    words: [u64; WORDS],
    len: u32,
}

impl Default for Set {
    fn default() -> Self {
        Set::Few(Vec::new())
    }
}

impl ReceivedIdentifiers {
    /// How many are open.
    #[must_use]
    pub fn len(&self) -> u32 {
        match &self.set {
            Set::Few(few) => few.len() as u32,
            Set::Many(many) => many.len,
        }
    }

    /// An open identifier may have been released: its client may use it for a new message. `fingerprint`: of the one that it
    /// was opened for.
    pub fn doubt(&mut self, identifier: PacketIdentifier, fingerprint: u64) {
        if self.contains(identifier) {
            self.doubted.get_or_insert_default().insert(identifier.value(), fingerprint);
        }
    }

    /// The fingerprint of the message that `identifier` was opened for, if it may have been released since.
    #[must_use]
    pub fn doubted(&self, identifier: PacketIdentifier) -> Option<u64> {
        self.doubted.as_ref()?.get(&identifier.value()).copied()
    }

    fn trust(&mut self, identifier: PacketIdentifier) {
        let Some(doubted) = &mut self.doubted else { return };
        doubted.remove(&identifier.value());
        if doubted.is_empty() {
            self.doubted = None;
        }
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `identifier` is open.
    #[must_use]
    pub fn contains(&self, identifier: PacketIdentifier) -> bool {
        let value = identifier.value();
        match &self.set {
            Set::Few(few) => few.contains(&value),
            Set::Many(many) => many.words[usize::from(value) / 64] & (1 << (value % 64)) != 0,
        }
    }

    /// Opens `identifier`, for certain. Returns whether it was not open before.
    pub fn insert(&mut self, identifier: PacketIdentifier) -> bool {
        self.trust(identifier);
        if self.contains(identifier) {
            return false;
        }
        let value = identifier.value();
        if let Set::Few(few) = &mut self.set {
            if few.len() < FEW_MAX {
                few.push(value);
                return true;
            }
            let mut many = Box::new(Many { words: [0; WORDS], len: few.len() as u32 });
            for &open in few.iter() {
                many.words[usize::from(open) / 64] |= 1 << (open % 64);
            }
            self.set = Set::Many(many);
        }
        if let Set::Many(many) = &mut self.set {
            many.words[usize::from(value) / 64] |= 1 << (value % 64);
            many.len += 1;
        }
        true
    }

    /// Closes `identifier`. Returns whether it was open.
    pub fn remove(&mut self, identifier: PacketIdentifier) -> bool {
        self.trust(identifier);
        let value = identifier.value();
        let was_open = match &mut self.set {
            Set::Few(few) => match few.iter().position(|&open| open == value) {
                Some(index) => {
                    few.swap_remove(index);
                    true
                }
                None => false,
            },
            Set::Many(many) => {
                let word = &mut many.words[usize::from(value) / 64];
                let bit = 1 << (value % 64);
                let was_open = *word & bit != 0;
                *word &= !bit;
                many.len -= u32::from(was_open);
                was_open
            }
        };
        if self.is_empty() {
            self.set = Set::default();
        }
        was_open
    }
}

/// Tells a message from others that a client may send under the same identifier, in this life of the broker and in later ones.
#[must_use]
pub fn fingerprint(topic: &str, payload: &[u8]) -> u64 {
    let seed = xxh3_64_with_seed(topic.as_bytes(), FINGERPRINT_SEED ^ topic.len() as u64);
    xxh3_64_with_seed(payload, seed).max(UNKNOWN_MESSAGE + 1)
}

/// The fingerprint of none.
pub const UNKNOWN_MESSAGE: u64 = 0;
/// For good: fingerprints are kept in the store.
const FINGERPRINT_SEED: u64 = 0x5249_4E47_4D51_0003;

const WORDS: usize = 1024;
/// A linear search over this many `u16` is a few vector compares.
const FEW_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_hash_set(steps in prop::collection::vec((any::<bool>(), 1u16..400), 1..900)) {
            let mut received = ReceivedIdentifiers::default();
            let mut model = HashSet::new();
            for (insert, value) in steps {
                let identifier = PacketIdentifier::new(value).unwrap();
                if insert {
                    prop_assert_eq!(received.insert(identifier), model.insert(value));
                } else {
                    prop_assert_eq!(received.remove(identifier), model.remove(&value));
                }
                prop_assert_eq!(received.is_empty(), model.is_empty());
                prop_assert_eq!(received.len() as usize, model.len());
                prop_assert_eq!(received.contains(identifier), model.contains(&value));
            }
        }
    }
    #[test]
    fn doubt_ends_when_an_identifier_is_released_or_opened_anew() {
        let [first, second, third] = [1, 2, 3].map(|value| PacketIdentifier::new(value).unwrap());
        let mut received = ReceivedIdentifiers::default();
        received.doubt(first, 7);
        assert_eq!(received.doubted(first), None, "it is not open");
        for identifier in [first, second] {
            received.insert(identifier);
            received.doubt(identifier, u64::from(identifier.value()) + 7);
        }
        received.insert(third);
        assert_eq!([first, second, third].map(|identifier| received.doubted(identifier)), [Some(8), Some(9), None]);
        assert!(received.remove(first) && received.insert(first));
        assert!(!received.insert(second));
        assert_eq!([first, second].map(|identifier| received.doubted(identifier)), [None, None]);
        assert!(received.doubted.is_none());
    }

    #[test]
    fn fingerprints_tell_messages_apart_and_stay() {
        let messages = [("a/b", "c"), ("a/", "bc"), ("a", "/bc"), ("", "a/bc"), ("a/bc", "")];
        let prints: HashSet<u64> =
            messages.iter().map(|(topic, payload)| fingerprint(topic, payload.as_bytes())).collect();
        assert_eq!(prints.len(), messages.len());
        assert_eq!(fingerprint("a/b", b"c"), 7_492_027_131_326_638_542);
    }

    #[test]
    fn what_a_session_has_of_it_is_small() {
        assert_eq!(size_of::<ReceivedIdentifiers>(), 32);
    }
}
