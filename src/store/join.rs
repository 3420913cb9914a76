//! From the batches of all shards to what is committed, in order.
//!
//! Owns: groups that wait for their parts, what waits behind them, and all queues.
//! Always: what a shard asks for is applied in its order. A group is applied when every shard has added its last part and
//! what stands before those parts can be applied as well: together with it when that is parts of other groups, so nothing
//! waits in a circle. What is applied is committed whole. A batch counts as durable when everything in it has been
//! committed.
//! After a commit or a sync that failed nothing is lost of what was taken in: what was not synced is committed again, with what
//! has come since, to a store that was opened anew. See `keeper`.
//! Never: a disk.

use std::collections::VecDeque;

use ahash::{AHashMap, AHashSet};

use super::{Batch, Group, Operation, Queues, Space, Store, StoreError, WriteSet, record, record::tag};
use crate::plant::{Bug, planted};

/// What a shard asked for, in its order.
#[derive(Debug)]
enum Item {
    Plain(Vec<Operation>),
    /// Waits for this group.
    Part(Group, Vec<Operation>),
    /// The end of a batch.
    End(u64),
}

/// A group with parts that are not applied.
#[derive(Debug, Default)]
struct OpenGroup {
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
    groups: AHashMap<Group, OpenGroup>,
    queues: Queues,
    /// Sessions whose records are yet to be removed.
    ended: VecDeque<u64>,
    writes: WriteSet,
    /// What was committed since the last sync, in order.
    unsynced: Vec<WriteSet>,
    commit_number: u64,
}

impl Joiner {
    /// A joiner for `shards` shards, which goes on after commit `commit_number` of a store that holds `queues`, and in which
    /// sessions `ended` have left records behind.
    #[must_use]
    pub fn new(shards: u16, commit_number: u64, queues: Queues, ended: Vec<u64>) -> Self {
        Self {
            lines: (0..shards).map(|_| Line::default()).collect(),
            groups: AHashMap::new(),
            queues,
            ended: ended.into(),
            writes: WriteSet::default(),
            unsynced: Vec::new(),
            commit_number,
        }
    }

    /// Takes a batch in.
    pub fn take(&mut self, batch: Batch) {
        let Batch { shard, number, operations, parts } = batch;
        let Some(line) = self.lines.get_mut(usize::from(shard)) else { return };
        // Behind something that waits nothing more can be applied, unless a group is complete now.
        let mut may_apply = line.items.is_empty();
        let mut rest = operations.into_iter();
        let mut taken = 0;
        for part in parts {
            let plain: Vec<Operation> = rest.by_ref().take(part.begin - taken).collect();
            if !plain.is_empty() {
                line.items.push_back(Item::Plain(plain));
            }
            let own = rest.by_ref().take(part.end - part.begin).collect();
            taken = part.end;
            line.items.push_back(Item::Part(part.group, own));
            let open = self.groups.entry(part.group).or_default();
            if part.is_last && part.group.origin == shard && !part.stands_in {
                open.expected = Some(part.others);
            } else if part.is_last {
                open.others += 1;
            }
            may_apply |= open.is_complete();
        }
        line.items.push_back(Item::Plain(rest.collect()));
        line.items.push_back(Item::End(number));
        if planted(Bug::HeldGroupOvertaken) {
            self.apply_out_of_line();
        }
        if may_apply || planted(Bug::GroupSplit) {
            self.apply_lines();
        }
    }

    /// How much of each line can be applied now: of every group in there all parts are, and all are there.
    fn cuts(&self) -> Vec<usize> {
        let mut cuts: Vec<usize> = self.lines.iter().map(|line| line.items.len()).collect();
        if planted(Bug::GroupSplit) {
            return cuts;
        }
        let incomplete = self.groups.iter().filter(|(_, open)| !open.is_complete());
        let mut held: AHashSet<Group> = incomplete.map(|(&group, _)| group).collect();
        loop {
            let mut is_settled = true;
            for (line, cut) in self.lines.iter().zip(&mut cuts) {
                let is_held = |item: &Item| matches!(item, Item::Part(group, _) if held.contains(group));
                let Some(first) = line.items.iter().take(*cut).position(is_held) else { continue };
                // What stands behind it waits with it, and so do the other parts of the groups there.
                held.extend(line.items.range(first..*cut).filter_map(|item| match item {
                    Item::Part(group, _) => Some(*group),
                    _ => None,
                }));
                *cut = first;
                is_settled = false;
            }
            if is_settled {
                return cuts;
            }
        }
    }

    fn apply_lines(&mut self) {
        for (index, cut) in self.cuts().into_iter().enumerate() {
            for _ in 0..cut {
                let Some(line) = self.lines.get_mut(index) else { break };
                match line.items.pop_front() {
                    None => break,
                    Some(Item::End(number)) => line.applied = number,
                    Some(Item::Plain(operations)) => operations.into_iter().for_each(|operation| self.apply(operation)),
                    Some(Item::Part(group, operations)) => {
                        self.groups.remove(&group);
                        operations.into_iter().for_each(|operation| self.apply(operation));
                    }
                }
            }
        }
    }

    /// Operations are applied before what their shard asked for earlier: only with a planted bug.
    fn apply_out_of_line(&mut self) {
        for index in 0..self.lines.len() {
            let Some(line) = self.lines.get_mut(index) else { break };
            let mut early = Vec::new();
            for item in &mut line.items {
                if let Item::Plain(operations) = item {
                    early.append(operations);
                }
            }
            early.into_iter().for_each(|operation| self.apply(operation));
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
                self.queues.end_session(number);
                self.ended.push_back(number);
            }
            Operation::Subscription(session, filter, subscription) => {
                let value = record::write_subscription(subscription);
                writes.put(Space::State, &record::subscription_key(session, &filter), value);
            }
            Operation::SubscriptionEnd(session, filter) => {
                writes.remove(Space::State, &record::subscription_key(session, &filter));
            }
            Operation::Queue { number, message, entries } => self.queues.push(number, message, entries),
            Operation::QueueEnd { session, sequence, number: Some(_) } => self.queues.end(session, sequence),
            Operation::QueueEnd { session, sequence, number: None } => self.queues.end_released(session, sequence),
            Operation::QueueReleased { session, sequence, .. } => self.queues.release(session, sequence),
            Operation::Received(session, received) => {
                let key = record::received_key(session, received.identifier);
                writes.put(Space::State, &key, record::write_received(received));
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
            Operation::Reserve(session, reserve) => {
                let key = record::session_key(tag::RESERVE, session);
                writes.put(Space::State, &key, record::write_reserve(&reserve));
            }
            Operation::WillEnd(session) => writes.remove(Space::State, &record::session_key(tag::WILL, session)),
        }
    }

    /// Removes some of the records that ended sessions left behind, or writes a chunk of messages anew of which little is
    /// left. Returns whether there is more to do.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn collect(&mut self, store: &dyn Store, max: usize) -> Result<bool, StoreError> {
        self.queues.thin(store, &mut self.writes, max)?;
        let Some(&session) = self.ended.front() else { return Ok(self.has_garbage()) };
        let mut room = max;
        for tag in [tag::SUBSCRIPTION, tag::RECEIVED, tag::WILL, tag::HEAD, tag::RESERVE] {
            let prefix = record::session_key(tag, session);
            let found = store.scan(Space::State, &prefix, room)?;
            for (key, _) in found.into_iter().take_while(|(key, _)| key.starts_with(&prefix)) {
                self.writes.remove(Space::State, &key);
                room -= 1;
            }
        }
        if room == max {
            self.ended.pop_front();
        }
        Ok(self.has_garbage())
    }

    /// The queues of all sessions.
    #[must_use]
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Chunks of messages of which little is left are written anew when they have come to this many bytes.
    pub fn set_sparse_bytes_max(&mut self, bytes: usize) {
        self.queues.set_sparse_bytes_max(bytes);
    }

    /// Whether a commit has nothing to write, nor anyone to tell.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.writes.is_empty() && self.queues.is_idle() && self.lines.iter().all(|line| line.applied == line.durable)
    }

    /// The last batch of a shard that is durable.
    #[must_use]
    pub fn durable(&self, shard: u16) -> u64 {
        self.lines.get(usize::from(shard)).map_or(0, |line| line.durable)
    }

    /// Whether there is something for [`Joiner::collect`] to do.
    #[must_use]
    pub fn has_garbage(&self) -> bool {
        !self.ended.is_empty() || self.queues.is_sparse()
    }

    /// Records that the next commit writes, queued messages counted one by one, and about as many bytes.
    #[must_use]
    pub fn pending(&self) -> (usize, usize) {
        let (references, bytes) = self.queues.pending();
        (self.writes.len() + references, self.writes.bytes() + bytes)
    }

    /// Everything that was committed is on the disk.
    pub fn is_synced(&mut self) {
        self.unsynced.clear();
    }

    /// Goes on after commit `commit_number` of the store, which was opened anew: what was committed since the last sync may not
    /// be there, and is committed again.
    pub fn go_on_after(&mut self, commit_number: u64) {
        self.commit_number = commit_number;
        let newest = std::mem::take(&mut self.writes);
        self.unsynced.drain(..).chain([newest]).for_each(|set| self.writes.append(set));
        if planted(Bug::FailedCommitForgotten) {
            self.writes.clear();
        }
    }

    /// Commits what has been taken in and is complete. `say` is called with each shard whose last durable batch has moved
    /// on, and its number.
    ///
    /// # Errors
    /// When the store could not; nothing is said then, and nothing may be committed to it afterwards.
    pub fn commit(
        &mut self,
        store: &mut dyn Store,
        sync: bool,
        mut say: impl FnMut(u16, u64),
    ) -> Result<(), StoreError> {
        self.queues.write(&mut self.writes);
        if !self.writes.is_empty() {
            self.commit_number += 1;
            self.writes.put(Space::State, record::COMMIT_KEY, self.commit_number.to_le_bytes().to_vec());
            store.commit(&self.writes, sync)?;
            let committed = std::mem::take(&mut self.writes);
            if sync {
                self.unsynced.clear();
            } else {
                self.unsynced.push(committed);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Fault, Medium as _, MemoryStore, Part, ReceivedRecord, SharedMemory};

    /// Identifiers received in session 1, one for each number.
    fn received(numbers: &[u16]) -> Vec<Operation> {
        let received = |&identifier: &u16| ReceivedRecord { identifier, fingerprint: 1, is_doubted: false };
        numbers.iter().map(|number| Operation::Received(1, received(number))).collect()
    }

    fn part(group: Group, begin: usize, end: usize, others: u16) -> Part {
        Part { group, begin, end, is_last: true, others, stands_in: false }
    }

    /// The shards that heard of a batch with this commit, and what is committed since the start.
    fn commit(joiner: &mut Joiner, store: &mut MemoryStore) -> (Vec<(u16, u64)>, Vec<u16>) {
        let mut said = Vec::new();
        joiner.commit(store, true, |shard, number| said.push((shard, number))).unwrap();
        let found = store.scan(Space::State, &record::session_key(tag::RECEIVED, 1), 100).unwrap();
        let numbers = found.iter().filter_map(|(key, _)| key.get(9..)?.try_into().ok().map(u16::from_be_bytes));
        (said, numbers.collect())
    }

    const FIRST: Group = Group { origin: 0, number: 1 };
    const SECOND: Group = Group { origin: 1, number: 1 };

    #[test]
    fn a_group_is_committed_whole() {
        let mut store = MemoryStore::new(SharedMemory::default());
        let mut joiner = Joiner::new(2, 0, Queues::default(), Vec::new());
        joiner.take(Batch { shard: 0, number: 1, operations: received(&[1, 2, 3]), parts: vec![part(FIRST, 1, 2, 1)] });
        assert_eq!(commit(&mut joiner, &mut store), (vec![], vec![1]), "what stands before it waits for nothing");
        joiner.take(Batch { shard: 1, number: 1, operations: received(&[4]), parts: vec![part(FIRST, 0, 1, 0)] });
        assert_eq!(commit(&mut joiner, &mut store), (vec![(0, 1), (1, 1)], vec![1, 2, 3, 4]));
        assert!(joiner.groups.is_empty() && joiner.is_idle());
    }

    #[test]
    fn a_complete_group_waits_for_what_its_shards_asked_for_before() {
        let mut store = MemoryStore::new(SharedMemory::default());
        let mut joiner = Joiner::new(3, 0, Queues::default(), Vec::new());
        let parts = vec![part(SECOND, 0, 1, 0), part(FIRST, 2, 3, 1)];
        joiner.take(Batch { shard: 0, number: 1, operations: received(&[1, 2, 3]), parts });
        joiner.take(Batch { shard: 2, number: 1, operations: received(&[4]), parts: vec![part(FIRST, 0, 1, 0)] });
        assert_eq!(commit(&mut joiner, &mut store), (vec![], vec![]), "complete, and behind one that is not");
        joiner.take(Batch { shard: 1, number: 1, operations: received(&[5]), parts: vec![part(SECOND, 0, 1, 1)] });
        assert_eq!(commit(&mut joiner, &mut store), (vec![(0, 1), (1, 1), (2, 1)], vec![1, 2, 3, 4, 5]));
    }

    #[test]
    fn groups_that_stand_before_each_other_are_committed_together() {
        let mut store = MemoryStore::new(SharedMemory::default());
        let mut joiner = Joiner::new(2, 0, Queues::default(), Vec::new());
        let parts = vec![part(FIRST, 0, 1, 1), part(SECOND, 1, 2, 0)];
        joiner.take(Batch { shard: 0, number: 1, operations: received(&[1, 2]), parts });
        assert_eq!(commit(&mut joiner, &mut store), (vec![], vec![]));
        let parts = vec![part(SECOND, 0, 1, 1), part(FIRST, 1, 2, 0)];
        joiner.take(Batch { shard: 1, number: 1, operations: received(&[3, 4]), parts });
        assert_eq!(commit(&mut joiner, &mut store), (vec![(0, 1), (1, 1)], vec![1, 2, 3, 4]));
    }

    #[test]
    fn the_publishers_shard_may_add_what_another_was_to() {
        let mut store = MemoryStore::new(SharedMemory::default());
        let mut joiner = Joiner::new(2, 0, Queues::default(), Vec::new());
        let parts = vec![part(FIRST, 0, 1, 1)];
        joiner.take(Batch { shard: 0, number: 1, operations: received(&[1]), parts });
        joiner.take(Batch { shard: 0, number: 2, operations: received(&[2]), parts: Vec::new() });
        assert_eq!(commit(&mut joiner, &mut store), (vec![], vec![]));
        let parts = vec![Part { stands_in: true, ..part(FIRST, 1, 2, 0) }];
        joiner.take(Batch { shard: 0, number: 3, operations: received(&[3, 4, 5]), parts });
        assert_eq!(commit(&mut joiner, &mut store), (vec![(0, 3)], vec![1, 2, 3, 4, 5]));
        assert!(joiner.groups.is_empty() && joiner.is_idle());
    }

    #[test]
    fn what_a_failed_sync_took_is_committed_again() {
        let memory = SharedMemory::default();
        let mut store = MemoryStore::new(memory.clone());
        let mut joiner = Joiner::new(1, 0, Queues::default(), Vec::new());
        let take = |joiner: &mut Joiner, number, operations| {
            joiner.take(Batch { shard: 0, number, operations, parts: Vec::new() });
        };
        take(&mut joiner, 1, received(&[1, 2]));
        joiner.commit(&mut store, false, |_, _| ()).unwrap();
        store.sync().unwrap();
        joiner.is_synced();
        take(&mut joiner, 2, received(&[3, 4]));
        joiner.commit(&mut store, false, |_, _| ()).unwrap();
        take(&mut joiner, 3, vec![Operation::ReceivedEnd(1, 3), Operation::ReceivedEnd(1, 1)]);
        joiner.commit(&mut store, false, |_, _| ()).unwrap();
        memory.set_fault(Some(Fault::Unsynced));
        store.sync().unwrap_err();
        memory.set_fault(None);
        let (_, commit_number) = memory.clone().reopen().unwrap();
        assert_eq!(commit_number, 1);
        joiner.go_on_after(commit_number);
        assert_eq!(commit(&mut joiner, &mut store).1, [2, 4]);
        joiner.go_on_after(2);
        assert!(joiner.is_idle(), "what was synced is not written again");
    }
}
