//! A store in memory, for tests and the simulation.
//!
//! Owns: two states: what survives the death of the process, and what survives that of the machine.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Record, Space, Store, StoreError, WriteSet};

type Records = BTreeMap<(Space, Box<[u8]>), Vec<u8>>;

#[derive(Debug, Default)]
struct States {
    written: Records,
    synced: Records,
    fails: bool,
}

/// What outlives a [`MemoryStore`]: opened again after a crash.
#[derive(Clone, Debug, Default)]
pub struct SharedMemory(Arc<Mutex<States>>);

impl SharedMemory {
    /// The machine dies: what was not synced is lost.
    pub fn cut_power(&self) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.written = states.synced.clone();
    }

    /// From now on commits fail, or succeed again.
    pub fn set_fails(&self, fails: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fails = fails;
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).written.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(SharedMemory);

impl MemoryStore {
    /// A store of what `shared` holds.
    #[must_use]
    pub fn new(shared: SharedMemory) -> Self {
        Self(shared)
    }
}

impl Store for MemoryStore {
    fn commit(&mut self, writes: &WriteSet, sync: bool) -> Result<(), StoreError> {
        let mut states = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if states.fails {
            return Err(StoreError::Failed("told to fail".into()));
        }
        for (space, key, value) in writes.iter() {
            let key = (space, Box::from(key));
            match value {
                Some(value) => states.written.insert(key, value.to_vec()),
                None => states.written.remove(&key),
            };
        }
        if sync {
            states.synced = states.written.clone();
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let mut states = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.synced = states.written.clone();
        Ok(())
    }

    fn scan(&self, space: Space, from: &[u8], max: usize) -> Result<Vec<Record>, StoreError> {
        let states = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let range = states.written.range((space, Box::from(from))..);
        let records = range.take_while(|((at, _), _)| *at == space).take(max);
        Ok(records.map(|((_, key), value)| (key.to_vec(), value.clone())).collect())
    }

    fn close(mut self: Box<Self>) -> Result<(), StoreError> {
        self.sync()
    }
}
