//! What is durable: sessions, their subscriptions and queues, QoS 2 identifiers, Wills, retained messages.
//!
//! Owns: the operations that shards ask for, how they become records, in which order they are committed, and what is read
//! back at start. One store thread serves all shards.
//! Always: what a shard asks for in one turn is one [`Batch`] with a number; batches of a shard are committed in order, and
//! the shard hears of the last number that is durable. What a QoS 2 publication changes on several shards is one group: it
//! is committed whole or not at all, and groups of one publisher's shard in order. A failed write is never retried on the
//! store that failed, and never reported as durable before it is.
//! Everything but `disk` and `keeper` is pure, so the simulation runs it.
//! Never: an opinion about the protocol. Clean sessions and QoS 0 messages do not come here.
//!
//! ```text
//!   Journal (a shard's) ──Batch──► Joiner ──WriteSet──► Store (fjall on disk, a map in tests)
//!        ▲                                                  │
//!        └───────────── number of the last durable batch ◄──┘
//! ```

mod census;
mod chunk;
mod condition;
mod counts;
mod disk;
mod doubt;
mod join;
mod journal;
mod keeper;
mod memory;
mod operation;
mod queues;
mod record;
mod recover;
mod runs;
mod salvage;
mod slice;
#[cfg(test)]
mod tests;
mod writes;

pub use census::{Census, Kind, Tally, census};
pub use condition::{Condition, Room};
pub use disk::{
    DiskMedium, DiskStore, Inspection, Lacking, OpenError, Problem, StoreCopy, inspect, lock_directory, lock_to_read,
    remedy,
};
pub use doubt::doubt;
pub use join::Joiner;
pub use journal::Journal;
pub use keeper::{Keeper, KeeperHandle, KeeperPort, Pace, StorePort};
pub use memory::{Fault, MemoryStore, SharedMemory};
pub use operation::{Batch, Entries, Entry, Group, Operation, Part, ReceivedRecord, SessionRecord, SubscriptionRecord};
pub use queues::Queues;
pub use recover::{RecordsRead, Recovered, RecoveredSession, recover, recover_watched};
pub use salvage::{Salvaged, salvage};
pub use slice::{QueueEntry, QueueSlice, SliceRequest, for_each_shared};
pub use writes::{Space, WriteSet};

/// Why the store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The library or the disk failed.
    #[error("the store failed: {0}")]
    Failed(String),
    /// A record cannot be read.
    #[error("a record of the store is damaged: {0}")]
    Damaged(String),
}

/// What a store lies on: asked for room while it is open, and for the store itself when that has failed.
pub trait Medium: Send {
    /// The room that there is.
    ///
    /// # Errors
    /// When it cannot be told.
    fn room(&self) -> std::io::Result<Room>;

    /// Opens the store anew, once it can be written to. The one before is gone. Returns it with the number of its last
    /// commit.
    ///
    /// # Errors
    /// When it cannot be written or opened; it may be tried again.
    fn reopen(&mut self) -> Result<(Box<dyn Store>, u64), StoreError>;
}

/// A key and its value.
pub type Record = (Vec<u8>, Vec<u8>);

/// Ordered records that outlive the process.
pub trait Store: Send {
    /// Commits `writes` whole or not at all. When it returns they survive the death of the process, and with `sync` that
    /// of the machine.
    ///
    /// # Errors
    /// When it could not; then nothing more may be committed.
    fn commit(&mut self, writes: &WriteSet, sync: bool) -> Result<(), StoreError>;

    /// Makes everything that was committed survive the death of the machine.
    ///
    /// # Errors
    /// As above.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// Brings to the disk what the store knows apart from its commits of how far they are. It is called about once a second.
    ///
    /// # Errors
    /// As above.
    fn note(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Bytes of what was committed that memory holds as well, until they are written to where they stay.
    fn gathered_bytes(&self) -> u64 {
        0
    }

    /// Whether threads of its own write what was gathered, have yet to, or put together what was written.
    fn is_at_work(&self) -> bool {
        false
    }

    /// Gives up the memory of what was gathered and has been written. What cannot be given up costs memory and nothing else.
    fn forget_written(&mut self) {}

    /// Writes what is gathered in memory to where it stays and makes the room of what was removed free, as far as that needs no
    /// waiting.
    ///
    /// # Errors
    /// As above.
    fn reclaim(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Up to `max` records of `space` in order of their keys, from `from` on.
    ///
    /// # Errors
    /// When they cannot be read.
    fn scan(&self, space: Space, from: &[u8], max: usize) -> Result<Vec<Record>, StoreError>;

    /// The value of a key.
    ///
    /// # Errors
    /// When it cannot be read.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let first = self.scan(space, key, 1)?.into_iter().next();
        Ok(first.filter(|(found, _)| found == key).map(|(_, value)| value))
    }

    /// Everything is committed and nothing follows.
    ///
    /// # Errors
    /// As for [`Store::commit`].
    fn close(self: Box<Self>) -> Result<(), StoreError>;
}
