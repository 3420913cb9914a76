//! Records on their way to the disk.
//!
//! Owns: what one commit writes and removes, each key once.
//! Always: the last word about a key is the one that is committed. No key leaves the set before it is: what was in a commit
//! that failed may have been written or not, so it is written or removed in the next one, whatever has been said of it since.

use std::collections::BTreeMap;

/// Which records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Sessions, subscriptions, identifiers, Wills, how far queues are, retained messages.
    State,
    /// The queues of sessions, in chunks.
    Queue,
}

impl Space {
    /// Every space.
    pub const ALL: [Space; 2] = [Space::State, Space::Queue];
}

type Key = (Space, Box<[u8]>);

/// What one commit writes (`Some`) and removes (`None`).
#[derive(Debug, Default)]
pub struct WriteSet {
    records: BTreeMap<Key, Option<Vec<u8>>>,
    bytes: usize,
}

impl WriteSet {
    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// About as many bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes a record.
    pub fn put(&mut self, space: Space, key: &[u8], value: Vec<u8>) {
        self.bytes += key.len() + value.len();
        self.records.insert((space, key.into()), Some(value));
    }

    /// Removes a record.
    pub fn remove(&mut self, space: Space, key: &[u8]) {
        self.bytes += key.len();
        self.records.insert((space, key.into()), None);
    }

    /// Says what `later` says as well, which has the last word.
    pub fn append(&mut self, mut later: WriteSet) {
        self.bytes += later.bytes;
        self.records.append(&mut later.records);
    }

    /// What this commit will say about a key.
    #[must_use]
    pub fn get(&self, space: Space, key: &[u8]) -> Option<Option<&[u8]>> {
        self.records.get(&(space, Box::from(key))).map(|value| value.as_deref())
    }

    /// Every record in order of space and key.
    pub fn iter(&self) -> impl Iterator<Item = (Space, &[u8], Option<&[u8]>)> {
        self.records.iter().map(|((space, key), value)| (*space, &**key, value.as_deref()))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.records.clear();
        self.bytes = 0;
    }
}
