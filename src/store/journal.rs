//! What one shard asks the store for, gathered turn by turn.
//!
//! Owns: the batch of the turn, the numbers of sessions, messages and groups that are made here, and what is durable.
//! Always: an operation belongs to the batch of the turn in which it was asked for, and is durable when that batch is. A
//! message that several sessions of the shard queue in a row is asked for once. Numbers are never used twice, whichever
//! shard makes them and however often the broker starts.
//! Never: a wait. Who waits for a batch is the shard's to know.

use std::rc::Rc;

use super::{Batch, Condition, Entries, Entry, Group, Operation, Part};
use crate::{message::ApplicationMessage, session::Stored};

/// The journal of one shard.
#[derive(Debug)]
pub struct Journal {
    shard: u16,
    is_on: bool,
    condition: Condition,
    operations: Vec<Operation>,
    parts: Vec<Part>,
    /// The group whose part is being gathered, and where it begins.
    part: Option<(Group, usize)>,
    /// The message that was queued last in this turn, and the place of its operation.
    last: Option<(Rc<ApplicationMessage>, usize)>,
    /// The number of the batch that is being gathered.
    batch: u64,
    durable: u64,
    /// At least as far; further where what is written is said before it is synced.
    written: u64,
    /// Operations that somebody may wait for.
    awaited: u64,
    next_number: u64,
    next_group: u64,
}

impl Journal {
    /// A journal of a shard that keeps nothing.
    #[must_use]
    pub fn off() -> Self {
        Self::new(0, false, 0)
    }

    /// The journal of shard `shard`, whose numbers begin above `last_number`.
    #[must_use]
    pub fn on(shard: u16, last_number: u64) -> Self {
        Self::new(shard, true, last_number / NUMBERS_STRIDE + 1)
    }

    fn new(shard: u16, is_on: bool, next_number: u64) -> Self {
        Self {
            shard,
            is_on,
            condition: Condition::Good,
            operations: Vec::new(),
            parts: Vec::new(),
            part: None,
            last: None,
            batch: 1,
            durable: 0,
            written: 0,
            awaited: 0,
            next_number,
            next_group: 1,
        }
    }

    /// Whether anything is kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// What the store can do, as far as this shard has heard.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Whether the store has failed: what is asked for becomes durable when it is open again, and nobody is to wait for
    /// that.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.condition == Condition::Failed
    }

    /// The store is in this condition now.
    pub fn set_condition(&mut self, condition: Condition) {
        self.condition = condition;
    }

    /// The number of the batch that is being gathered.
    #[must_use]
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// The number of the last batch that is durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// The number of the last batch that is written: it survives the end of the process.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Batches up to `number` are durable.
    pub fn set_durable(&mut self, number: u64) {
        self.durable = self.durable.max(number);
        self.set_written(number);
    }

    /// Batches up to `number` are written.
    pub fn set_written(&mut self, number: u64) {
        self.written = self.written.max(number);
    }

    /// How much has been asked for that somebody may wait for: what is more than an earlier count was asked for since.
    #[must_use]
    pub fn awaited(&self) -> u64 {
        self.awaited
    }

    /// A number for a session or a message.
    pub fn take_number(&mut self) -> u64 {
        let number = self.next_number * NUMBERS_STRIDE + u64::from(self.shard);
        self.next_number += 1;
        number
    }

    /// Asks for something that is waited for before anyone hears of it.
    pub fn ask(&mut self, operation: Operation) {
        self.awaited += 1;
        self.ask_lazily(operation);
    }

    /// Asks for something that nobody waits for.
    pub fn ask_lazily(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    /// Asks for a message to be queued.
    pub fn queue(&mut self, message: &Rc<ApplicationMessage>, entry: Entry) -> Stored {
        self.awaited += 1;
        if let Some((last, at)) = &self.last
            && Rc::ptr_eq(last, message)
            && let Some(Operation::Queue { number, entries, .. }) = self.operations.get_mut(*at)
        {
            entries.push(entry);
            return Stored { number: *number, batch: self.batch };
        }
        let number = self.take_number();
        self.last = Some((Rc::clone(message), self.operations.len()));
        let message = ApplicationMessage::clone(message);
        self.operations.push(Operation::Queue { number, message, entries: Entries::from_iter([entry]) });
        Stored { number, batch: self.batch }
    }

    /// A group for a publication that other shards take part in.
    pub fn new_group(&mut self) -> Group {
        let group = Group { origin: self.shard, number: self.next_group };
        self.next_group += 1;
        group
    }

    /// What is asked for from here on belongs to `group`.
    pub fn begin_part(&mut self, group: Group) {
        self.last = None;
        self.part = Some((group, self.operations.len()));
    }

    /// The part ends here. `is_last`: this shard adds nothing later. `others`: how many other shards take part; only what
    /// the publisher's shard says counts.
    pub fn end_part(&mut self, is_last: bool, others: u16) {
        self.push_part(is_last, others, false);
    }

    /// The part ends here. It is what another shard was to add to a group of this one, and did not.
    pub fn end_part_of_other(&mut self) {
        self.push_part(true, 0, true);
    }

    fn push_part(&mut self, is_last: bool, others: u16, stands_in: bool) {
        self.last = None;
        let Some((group, begin)) = self.part.take() else { return };
        self.awaited += 1;
        self.parts.push(Part { group, begin, end: self.operations.len(), is_last, others, stands_in });
    }

    /// What was asked for since [`Journal::begin_part`] belongs to no group.
    pub fn drop_part(&mut self) {
        self.part = None;
    }

    /// What was asked for since the last call, when anything was.
    pub fn take_batch(&mut self) -> Option<Batch> {
        self.last = None;
        if self.operations.is_empty() && self.parts.is_empty() {
            return None;
        }
        let (operations, parts) = (std::mem::take(&mut self.operations), std::mem::take(&mut self.parts));
        let batch = Batch { shard: self.shard, number: self.batch, operations, parts };
        self.batch += 1;
        Some(batch)
    }

    /// The last batch that was asked for, this turn's counted in when it has anything: whoever waits for that waits for
    /// everything so far.
    #[must_use]
    pub fn last_batch(&self) -> u64 {
        if self.operations.is_empty() && self.parts.is_empty() { self.batch - 1 } else { self.batch }
    }
}

/// Shards take numbers that are alike modulo this: there are at most as many shards.
const NUMBERS_STRIDE: u64 = 256;
