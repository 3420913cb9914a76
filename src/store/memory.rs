//! A store in memory, for tests and the simulation.
//!
//! Owns: two states: what survives the death of the process, and what survives that of the machine.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Medium, Record, Room, Space, Store, StoreError, WriteSet, record};

type Records = BTreeMap<(Space, Box<[u8]>), Vec<u8>>;

#[derive(Debug, Default)]
struct States {
    written: Records,
    synced: Records,
    fault: Option<Fault>,
    room: Option<Room>,
}

impl States {
    fn sync(&mut self) -> Result<(), StoreError> {
        if self.fault == Some(Fault::Unsynced) {
            self.written = self.synced.clone();
            return Err(StoreError::Failed("told to fail".into()));
        }
        self.synced = self.written.clone();
        Ok(())
    }
}

/// How a commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing of it is written.
    Refused,
    /// It is written, and said not to be.
    Denied,
    /// It is written; a sync fails, and takes with it what was not synced.
    Unsynced,
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

    /// From now on commits fail, or succeed again, and so does opening the store anew.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fault = fault;
    }

    /// Whether commits fail.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fault
    }

    /// From now on there is so much room.
    pub fn set_room(&self, room: Room) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).room = Some(room);
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

impl Medium for SharedMemory {
    fn room(&self) -> std::io::Result<Room> {
        let room = self.0.lock().unwrap_or_else(PoisonError::into_inner).room;
        Ok(room.unwrap_or(Room { free_bytes: u64::MAX, total_bytes: u64::MAX }))
    }

    fn reopen(&mut self) -> Result<(Box<dyn Store>, u64), StoreError> {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if states.fault.is_some() {
            return Err(StoreError::Failed("told to fail".into()));
        }
        // As on the disk: what is found is synced before anybody hears of it.
        states.sync()?;
        let commit = states.written.get(&(Space::State, Box::from(record::COMMIT_KEY)));
        let commit_number = commit.and_then(|value| record::read_number(value)).unwrap_or(0);
        Ok((Box::new(MemoryStore::new(self.clone())), commit_number))
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
        if states.fault == Some(Fault::Refused) {
            return Err(StoreError::Failed("told to fail".into()));
        }
        for (space, key, value) in writes.iter() {
            let key = (space, Box::from(key));
            match value {
                Some(value) => states.written.insert(key, value.to_vec()),
                None => states.written.remove(&key),
            };
        }
        if states.fault == Some(Fault::Denied) {
            return Err(StoreError::Failed("told to fail".into()));
        }
        if sync { states.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).sync()
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
