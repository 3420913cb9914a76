//! From the batches of all shards to what is committed, in order.
//!
//! Owns: groups that wait for their parts, what waits behind them, and how many queues share each body.
//! Always: a group is applied when every shard has added its last part and the groups that its publisher's shard numbered
//! before are applied; what a shard asks for after a part of it waits until then, so a shard's operations stay in order. A
//! batch counts as durable when everything in it has been committed. Groups never wait for anything but parts, so nothing
//! waits in a circle.
//! Never: a disk.

use std::collections::{BTreeMap, VecDeque};

use ahash::AHashMap;

use super::{Batch, Group, Operation, Space, Store, StoreError, WriteSet, record, record::tag};
use crate::plant::{Bug, planted};

/// What a shard asked for, in its order.
#[derive(Debug)]
enum Item {
    Plain(Vec<Operation>),
    /// Waits for this group.
    Part(Group),
    /// The end of a batch.
    End(u64),
}

#[derive(Debug, Default)]
struct OpenGroup {
    operations: Vec<Operation>,
    /// Shards that have added their last part, the publisher's not counted.
    others: u16,
    /// How many there are; known once the publisher's shard has added its last part.
    expected: Option<u16>,
}

impl OpenGroup {
    fn is_complete(&self) -> bool {
        self.expected == Some(self.others)
    }
}

#[derive(Debug, Default)]
struct Line {
    items: VecDeque<Item>,
    /// The last batch of which everything is in the write set or committed.
    applied: u64,
    /// The last batch that was said to be durable.
    durable: u64,
}

/// Joins what shards ask for. See the module's header.
#[derive(Debug)]
pub struct Joiner {
    lines: Vec<Line>,
    groups: BTreeMap<Group, OpenGroup>,
    /// How many queues share each body; one that only one queue holds stands in its entry.
    bodies: AHashMap<u64, u32>,
    /// Sessions whose records are yet to be removed.
    ended: VecDeque<u64>,
    writes: WriteSet,
    commit_number: u64,
}

impl Joiner {
    /// A joiner for `shards` shards, which goes on after commit `commit_number` of a store in which queues share `bodies`
    /// and sessions `ended` have left records behind.
    #[must_use]
    pub fn new(shards: u16, commit_number: u64, bodies: AHashMap<u64, u32>, ended: Vec<u64>) -> Self {
        Self {
            lines: (0..shards).map(|_| Line::default()).collect(),
            groups: BTreeMap::new(),
            bodies,
            ended: ended.into(),
            writes: WriteSet::default(),
            commit_number,
        }
    }

    /// Takes a batch in.
    pub fn take(&mut self, batch: Batch) {
        let Batch { shard, number, operations, parts } = batch;
        let mut rest = operations.into_iter();
        let mut taken = 0;
        for part in parts {
            let plain: Vec<Operation> = rest.by_ref().take(part.begin - taken).collect();
            let own: Vec<Operation> = rest.by_ref().take(part.end - part.begin).collect();
            taken = part.end;
            let open = self.groups.entry(part.group).or_default();
            open.operations.extend(own);
            if part.is_last && part.group.origin == shard {
                open.expected = Some(part.others);
            } else if part.is_last {
                open.others += 1;
            }
            let Some(line) = self.lines.get_mut(usize::from(shard)) else { continue };
            if !plain.is_empty() {
                line.items.push_back(Item::Plain(plain));
            }
            line.items.push_back(Item::Part(part.group));
        }
        let Some(line) = self.lines.get_mut(usize::from(shard)) else { return };
        line.items.push_back(Item::Plain(rest.collect()));
        line.items.push_back(Item::End(number));
        self.apply_groups();
        self.apply_lines();
    }

    fn apply_groups(&mut self) {
        let mut blocked: Option<u16> = None;
        let mut complete = Vec::new();
        for (group, open) in &self.groups {
            if blocked == Some(group.origin) {
                continue;
            }
            if open.is_complete() || planted(Bug::GroupSplit) {
                complete.push(*group);
            } else {
                blocked = Some(group.origin);
            }
        }
        for group in complete {
            let Some(open) = self.groups.remove(&group) else { continue };
            for operation in open.operations {
                self.apply(operation);
            }
        }
    }

    fn apply_lines(&mut self) {
        for index in 0..self.lines.len() {
            while let Some(line) = self.lines.get_mut(index) {
                match line.items.front_mut() {
                    None => break,
                    Some(Item::Part(group)) if self.groups.contains_key(group) => break,
                    Some(Item::Part(_)) => {}
                    Some(Item::End(number)) => line.applied = *number,
                    Some(Item::Plain(operations)) => {
                        for operation in std::mem::take(operations) {
                            self.apply(operation);
                        }
                    }
                }
                if let Some(line) = self.lines.get_mut(index) {
                    line.items.pop_front();
                }
            }
        }
    }

    fn apply(&mut self, operation: Operation) {
        let writes = &mut self.writes;
        match operation {
            Operation::Session(number, session) => {
                let key = record::session_key(tag::SESSION, number);
                writes.put(Space::State, &key, record::write_session(&session));
            }
            Operation::SessionEnd(number) => {
                writes.remove(Space::State, &record::session_key(tag::SESSION, number));
                self.ended.push_back(number);
            }
            Operation::Subscription(session, filter, subscription) => {
                let value = record::write_subscription(subscription);
                writes.put(Space::State, &record::subscription_key(session, &filter), value);
            }
            Operation::SubscriptionEnd(session, filter) => {
                writes.remove(Space::State, &record::subscription_key(session, &filter));
            }
            Operation::Queue { number, message, entries } => {
                let is_shared = entries.len() > 1;
                if is_shared {
                    let mut body = Vec::with_capacity(message.charged_bytes());
                    record::write_message(&mut body, &message);
                    writes.put(Space::Bodies, &record::body_key(number), body);
                    self.bodies.insert(number, entries.len() as u32);
                }
                for entry in &entries {
                    let inline = (!is_shared).then_some(&message);
                    let value = record::write_entry(entry, number, inline);
                    writes.put(Space::Queue, &record::queue_key(entry.session, entry.sequence), value);
                }
            }
            Operation::QueueEnd { session, sequence, number } => {
                let key = record::queue_key(session, sequence);
                match number {
                    Some(number) => {
                        writes.remove_single(Space::Queue, &key);
                        release_body(writes, &mut self.bodies, number);
                    }
                    // It was written a second time when it arrived, and let go of its body then.
                    None => writes.remove(Space::Queue, &key),
                }
            }
            Operation::QueueReleased { session, sequence, number } => {
                let key = record::queue_key(session, sequence);
                writes.put(Space::Queue, &key, record::write_released(number));
                release_body(writes, &mut self.bodies, number);
            }
            Operation::Received(session, identifier) => {
                writes.put(Space::State, &record::received_key(session, identifier), Vec::new());
            }
            Operation::ReceivedEnd(session, identifier) => {
                writes.remove(Space::State, &record::received_key(session, identifier));
            }
            Operation::Retained(message) => {
                let mut value = Vec::with_capacity(message.charged_bytes());
                record::write_message(&mut value, &message);
                writes.put(Space::State, &record::retained_key(message.topic()), value);
            }
            Operation::RetainedEnd(topic) => writes.remove(Space::State, &record::retained_key(&topic)),
            Operation::Will(session, will) => {
                let key = record::session_key(tag::WILL, session);
                writes.put(Space::State, &key, record::write_will(&will));
            }
            Operation::WillEnd(session) => writes.remove(Space::State, &record::session_key(tag::WILL, session)),
        }
    }

    /// Removes some of the records that ended sessions left behind. Returns whether there is more to remove.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn collect(&mut self, store: &dyn Store, max: usize) -> Result<bool, StoreError> {
        let Some(&session) = self.ended.front() else { return Ok(false) };
        let mut room = max;
        for tag in [tag::SUBSCRIPTION, tag::RECEIVED, tag::WILL] {
            let prefix = record::session_key(tag, session);
            let found = store.scan(Space::State, &prefix, room)?;
            for (key, _) in found.into_iter().take_while(|(key, _)| key.starts_with(&prefix)) {
                self.writes.remove(Space::State, &key);
                room -= 1;
            }
        }
        let prefix = session.to_be_bytes();
        let found = store.scan(Space::Queue, &prefix, room)?;
        for (key, value) in found.into_iter().take_while(|(key, _)| key.starts_with(&prefix)) {
            // One that is removed in this commit has let go of its body already.
            if self.writes.get(Space::Queue, &key) != Some(None) {
                let entry = record::read_entry(&value).ok_or_else(|| record::damaged("queue entry", &key))?;
                if !matches!(entry.body, record::Body::Released) {
                    release_body(&mut self.writes, &mut self.bodies, entry.number);
                }
            }
            self.writes.remove(Space::Queue, &key);
            room -= 1;
        }
        if room == max {
            self.ended.pop_front();
        }
        Ok(!self.ended.is_empty())
    }

    /// Whether a commit has nothing to write, nor anyone to tell.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.writes.is_empty() && self.lines.iter().all(|line| line.applied == line.durable)
    }

    /// Whether ended sessions have left records behind.
    #[must_use]
    pub fn has_garbage(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Records that the next commit writes.
    #[must_use]
    pub fn pending(&self) -> (usize, usize) {
        (self.writes.len(), self.writes.bytes())
    }

    /// Commits what has been taken in and is complete. `say` is called with each shard whose last durable batch has moved
    /// on, and its number.
    ///
    /// # Errors
    /// When the store could not; nothing is said then, and nothing may be committed afterwards.
    pub fn commit(
        &mut self,
        store: &mut dyn Store,
        sync: bool,
        mut say: impl FnMut(u16, u64),
    ) -> Result<(), StoreError> {
        if !self.writes.is_empty() {
            self.commit_number += 1;
            self.writes.put(Space::State, record::COMMIT_KEY, self.commit_number.to_le_bytes().to_vec());
            store.commit(&self.writes, sync)?;
            self.writes.clear();
        }
        for (line, shard) in self.lines.iter_mut().zip(0..) {
            if line.applied > line.durable {
                line.durable = line.applied;
                say(shard, line.durable);
            }
        }
        Ok(())
    }
}

/// One queue less holds a body that may be shared.
fn release_body(writes: &mut WriteSet, bodies: &mut AHashMap<u64, u32>, number: u64) {
    if let Some(count) = bodies.get_mut(&number) {
        *count -= 1;
        if *count == 0 {
            bodies.remove(&number);
            writes.remove_single(Space::Bodies, &record::body_key(number));
        }
    }
}
