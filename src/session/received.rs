//! The PacketIdentifiers of QoS 2 messages received and not yet released.
//!
//! Owns: which identifiers stand between PUBREC and PUBREL for one session.
//! Always: small while few are open, and never larger than 8 KiB, since there are 65,535 identifiers.
//! Never: forgets one before PUBREL, which would deliver a message twice.

use crate::mqtt::PacketIdentifier;

/// A set of PacketIdentifiers.
#[derive(Debug, Default)]
pub struct ReceivedIdentifiers {
    set: Set,
    len: u32,
    /// The store may have forgotten that some were released.
    is_doubtful: bool,
}

#[derive(Debug)]
enum Set {
    Few(Vec<u16>),
    Many(Box<[u64; WORDS]>),
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
        self.len
    }

    /// From now on an open identifier may be one that was released: its client may use it for a new message.
    pub fn doubt(&mut self) {
        self.is_doubtful = true;
    }

    /// Whether [`ReceivedIdentifiers::doubt`] was called.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `identifier` is open.
    #[must_use]
    pub fn contains(&self, identifier: PacketIdentifier) -> bool {
        let value = identifier.value();
        match &self.set {
            Set::Few(few) => few.contains(&value),
            Set::Many(words) => words[usize::from(value) / 64] & (1 << (value % 64)) != 0,
        }
    }

    /// Opens `identifier`. Returns whether it was not open before.
    pub fn insert(&mut self, identifier: PacketIdentifier) -> bool {
        if self.contains(identifier) {
            return false;
        }
        let value = identifier.value();
        if let Set::Few(few) = &mut self.set {
            if few.len() < FEW_MAX {
                few.push(value);
                self.len += 1;
                return true;
            }
            let mut words = Box::new([0u64; WORDS]);
            for &open in few.iter() {
                words[usize::from(open) / 64] |= 1 << (open % 64);
            }
            self.set = Set::Many(words);
        }
        if let Set::Many(words) = &mut self.set {
            words[usize::from(value) / 64] |= 1 << (value % 64);
        }
        self.len += 1;
        true
    }

    /// Closes `identifier`. Returns whether it was open.
    pub fn remove(&mut self, identifier: PacketIdentifier) -> bool {
        let value = identifier.value();
        let was_open = match &mut self.set {
            Set::Few(few) => match few.iter().position(|&open| open == value) {
                Some(index) => {
                    few.swap_remove(index);
                    true
                }
                None => false,
            },
            Set::Many(words) => {
                let word = &mut words[usize::from(value) / 64];
                let bit = 1 << (value % 64);
                let was_open = *word & bit != 0;
                *word &= !bit;
                was_open
            }
        };
        self.len -= u32::from(was_open);
        if self.len == 0 {
            self.set = Set::default();
        }
        was_open
    }
}

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
                prop_assert_eq!(received.len() as usize, model.len());
                prop_assert_eq!(received.contains(identifier), model.contains(&value));
            }
        }
    }
}
