//! What waits in the queues of all sessions, on all shards.
//!
//! Owns: what waits here, and what of that the other shards know.
//! Always: the shared levels move once a turn, by what this shard's queues have grown or shrunk, and not at all for a message
//! that came and left in one turn.
//! Never: the choice of what is dropped.

use std::rc::Rc;

use crate::{
    config::{AllQueuesFull, Config},
    session::Outbox,
    shard::Shared,
    sync::Arc,
};

/// What waits in a queue, or in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Messages.
    pub messages: u64,
    /// Bytes that they are charged with.
    pub bytes: u64,
}

impl Waiting {
    /// What waits in the queue of one session.
    #[must_use]
    pub fn of(outbox: &Outbox) -> Self {
        Self { messages: outbox.queued() as u64, bytes: outbox.queued_bytes() }
    }
}

/// What waits on all shards. See the module's header.
#[derive(Debug)]
pub struct Queues {
    shared: Arc<Shared>,
    config: Rc<Config>,
    here: Waiting,
    /// What of `here` the shared levels count.
    told: Waiting,
}

impl Queues {
    /// Nothing waits here yet.
    #[must_use]
    pub fn new(shared: Arc<Shared>, config: Rc<Config>) -> Self {
        Self { shared, config, here: Waiting::default(), told: Waiting::default() }
    }

    /// What waits on this shard.
    #[must_use]
    pub fn here(&self) -> Waiting {
        self.here
    }

    /// A queue of this shard held `before` and holds `after`.
    pub fn note(&mut self, before: Waiting, after: Waiting) {
        // In this order nothing is ever below zero.
        self.here.messages = self.here.messages + after.messages - before.messages;
        self.here.bytes = self.here.bytes + after.bytes - before.bytes;
    }

    /// Whether one message of so many bytes more may wait, as far as other shards have told.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        let Waiting { messages, bytes: waiting } = self.everywhere();
        let limits = &self.config.mqtt;
        messages < limits.all_queues_messages_max && waiting.saturating_add(bytes) <= limits.all_queues_bytes_max
    }

    /// Whether publishers are refused until there is room.
    #[must_use]
    pub fn refuse_publishers(&self) -> bool {
        self.config.mqtt.all_queues_full == AllQueuesFull::Refuse && !self.has_room(1)
    }

    fn everywhere(&self) -> Waiting {
        let here_and_there = |level: u64, here: u64, told: u64| (level + here).saturating_sub(told);
        Waiting {
            messages: here_and_there(self.shared.queued_messages.now(), self.here.messages, self.told.messages),
            bytes: here_and_there(self.shared.queued_bytes.now(), self.here.bytes, self.told.bytes),
        }
    }

    /// Tells the other shards.
    pub fn tell(&mut self) {
        if self.here != self.told {
            self.shared.queued_messages.move_from(self.told.messages, self.here.messages);
            self.shared.queued_bytes.move_from(self.told.bytes, self.here.bytes);
            self.told = self.here;
        }
    }
}
