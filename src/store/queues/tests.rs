//! Queues against a map of everything that is in them, through commits, failed ones, and starts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{
    message::{ApplicationMessage, Envelope, SubscriptionIdentifiers},
    mqtt::QoS,
    session::SliceRange,
    store::{
        Batch, Entries, Entry, Fault, Joiner, MemoryStore, Operation, QueueEntry, SessionRecord, SharedMemory, Space,
        Store as _, StoreError, recover,
    },
};

fn message(number: u64) -> ApplicationMessage {
    let envelope = Envelope::of(QoS::ExactlyOnce);
    ApplicationMessage::new("a/b", &[], number.to_string().as_bytes(), envelope)
}

/// The messages of each session by their places; one that has arrived has no number.
type Model = BTreeMap<u64, BTreeMap<u64, Option<u64>>>;

struct World {
    memory: SharedMemory,
    joiner: Joiner,
    store: MemoryStore,
    batch: u64,
    number: u64,
    next: BTreeMap<u64, u64>,
    model: Model,
    committed: Model,
    has_failed: bool,
}

const SESSIONS: u64 = 4;

impl World {
    fn new() -> Self {
        let memory = SharedMemory::default();
        let mut world = Self {
            joiner: Joiner::new(1, 0, Default::default(), Vec::new()),
            store: MemoryStore::new(memory.clone()),
            memory,
            batch: 0,
            number: 1000,
            next: BTreeMap::new(),
            model: Model::new(),
            committed: Model::new(),
            has_failed: false,
        };
        world.joiner.set_sparse_bytes_max(100);
        (1..=SESSIONS).for_each(|session| world.begin(session));
        world
    }

    fn take(&mut self, operation: Operation) {
        self.batch += 1;
        let operations = vec![operation];
        self.joiner.take(Batch { shard: 0, number: self.batch, operations, parts: Vec::new() });
    }

    fn begin(&mut self, session: u64) {
        let client_id = session.to_string().into();
        let record = SessionRecord { client_id, expiry_interval_s: 9, offline_since_us: None, sent_below: 0 };
        self.take(Operation::Session(session, record));
        self.model.insert(session, BTreeMap::new());
        self.next.insert(session, 0);
    }

    fn queue(&mut self, sessions: &[u64], gap: u64) {
        self.number += 1;
        let mut entries = Entries::new();
        for &session in sessions {
            let next = self.next.get_mut(&session).unwrap();
            let sequence = *next + gap;
            *next = sequence + 1;
            self.model.get_mut(&session).unwrap().insert(sequence, Some(self.number));
            let identifiers = SubscriptionIdentifiers::of(&[session as u32]);
            entries.push(Entry {
                session,
                sequence,
                qos: QoS::ExactlyOnce,
                retain: sequence.is_multiple_of(2),
                identifiers,
            });
        }
        self.take(Operation::Queue { number: self.number, message: message(self.number), entries });
    }

    /// The place that `pick` chooses of a session's queue, mostly one of the first.
    fn place(&self, session: u64, pick: u64) -> Option<(u64, Option<u64>)> {
        let queue = &self.model[&session];
        let at = if pick.is_multiple_of(3) { pick as usize % queue.len().max(1) } else { 0 };
        queue.iter().nth(at).map(|(&place, &number)| (place, number))
    }

    fn step(&mut self, kind: u8, session: u64, pick: u64) {
        match kind {
            0..6 => self.queue(&[session], pick / 50),
            6..8 => {
                let others: Vec<u64> =
                    self.model.keys().copied().filter(|other| (pick >> (other % 4)) & 1 == 0).collect();
                if !others.is_empty() {
                    self.queue(&others, 0);
                }
            }
            8..14 => {
                let Some((sequence, number)) = self.place(session, pick) else { return };
                self.model.get_mut(&session).unwrap().remove(&sequence);
                self.take(Operation::QueueEnd { session, sequence, number });
            }
            14..16 => {
                let Some((sequence, Some(number))) = self.place(session, pick) else { return };
                self.model.get_mut(&session).unwrap().insert(sequence, None);
                self.take(Operation::QueueReleased { session, sequence, number });
            }
            16 if pick.is_multiple_of(4) => {
                self.take(Operation::SessionEnd(session));
                self.model.remove(&session);
                // Whoever comes then has another number.
                self.begin(session + SESSIONS);
            }
            17 => {
                self.memory.set_fault(Some(if pick.is_multiple_of(2) { Fault::Refused } else { Fault::Denied }));
                self.commit();
                self.memory.set_fault(None);
            }
            18 => self.start_anew(),
            _ => self.commit(),
        }
    }

    fn commit(&mut self) {
        if self.joiner.commit(&mut self.store, true, |_, _| {}).is_err() {
            self.has_failed = true;
            return;
        }
        self.has_failed = false;
        self.committed.clone_from(&self.model);
        self.joiner.collect(&self.store, 3).unwrap();
        self.check();
    }

    /// What was not committed is lost. What was in a commit that failed, is or is not; so those are made up for first.
    fn start_anew(&mut self) {
        if self.has_failed {
            self.commit();
        }
        let mut recovered = recover(&self.store, 9).unwrap();
        let queues = std::mem::take(&mut recovered.queues);
        self.model.clone_from(&self.committed);
        for session in &recovered.sessions {
            let queue = &self.model[&session.number];
            let count = session.queue.map_or(0, |summary| summary.sent + summary.count);
            assert_eq!(count, queue.len() as u64);
            let used_below = queue.keys().next_back().map_or(0, |last| last + 1);
            let summary = session.queue.map_or(0, |summary| summary.last + 1);
            assert_eq!(summary, used_below);
            assert!(session.used_below <= self.next[&session.number]);
            self.next.insert(session.number, used_below.max(session.used_below));
        }
        assert_eq!(recovered.sessions.len(), self.model.len());
        self.joiner = Joiner::new(1, recovered.commit_number, queues, recovered.ended);
        self.joiner.set_sparse_bytes_max(100);
        self.batch = 0;
        self.check();
    }

    fn entries(&self, session: u64) -> Vec<QueueEntry> {
        let mut entries = Vec::new();
        let each = |entry| {
            entries.push(entry);
            Ok::<_, StoreError>(())
        };
        self.joiner.queues().for_each(&self.store, session, each).unwrap();
        entries
    }

    /// What is read is what was committed and is not done with since.
    fn check(&self) {
        for (&session, queue) in &self.model {
            let mut read = Vec::new();
            for entry in self.entries(session) {
                if let Some(message) = &entry.message {
                    assert_eq!(message.payload(), entry.number.to_string().as_bytes());
                    assert_eq!(entry.identifiers, SubscriptionIdentifiers::of(&[session as u32]));
                    assert_eq!(entry.retain, entry.sequence.is_multiple_of(2));
                }
                read.push((entry.sequence, entry.message.map(|_| entry.number)));
            }
            let expected: Vec<_> = queue.iter().map(|(&place, &number)| (place, number)).collect();
            assert_eq!(read, expected, "session {session}");
            let Some((&place, _)) = queue.iter().nth(queue.len() / 2) else { continue };
            let range = SliceRange { from: place, upto: u64::MAX, max: 2 };
            let (slice, is_complete) = self.joiner.queues().read(&self.store, session, range).unwrap();
            let expected: Vec<u64> = queue.range(place..).map(|(&place, _)| place).take(2).collect();
            assert_eq!(slice.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), expected);
            assert!(!is_complete || queue.range(place..).count() <= 2);
        }
    }
}

proptest! {
    #[test]
    fn queues_hold_what_was_committed_and_is_not_done_with(
        steps in prop::collection::vec((0u8..22, 0u64..4, 0u64..100), 1..150),
    ) {
        let mut world = World::new();
        world.commit();
        for (kind, session, pick) in steps {
            let session = *world.model.keys().nth(session as usize % world.model.len()).unwrap();
            world.step(kind, session, pick);
        }
        world.commit();
        world.start_anew();
        // In the end nothing is left of anything.
        for session in world.model.keys().copied().collect::<Vec<_>>() {
            world.take(Operation::SessionEnd(session));
        }
        world.model.clear();
        world.commit();
        for _ in 0..1000 {
            if !world.joiner.has_garbage() && world.joiner.is_idle() {
                break;
            }
            world.commit();
        }
        prop_assert_eq!(world.store.scan(Space::Queue, &[], 9).unwrap(), []);
        prop_assert_eq!(world.store.scan(Space::State, &[], 9).unwrap().len(), 1, "the number of the last commit");
    }
}

#[test]
fn a_chunk_of_which_little_is_left_is_written_anew_and_a_queue_far_behind_takes_little() {
    let mut world = World::new();
    for _ in 0..40 {
        world.queue(&[1], 0);
        world.queue(&[2], 0);
    }
    world.commit();
    let bytes = |world: &World| {
        world.store.scan(Space::Queue, &[], 9).unwrap().iter().map(|(_, value)| value.len()).sum::<usize>()
    };
    let before = bytes(&world);
    for sequence in 1..40 {
        for session in [1, 2] {
            let number = world.model.get_mut(&session).unwrap().remove(&sequence).unwrap();
            world.take(Operation::QueueEnd { session, sequence, number });
        }
    }
    world.commit();
    world.commit();
    assert!(bytes(&world) < before / 10, "{} of {before}", bytes(&world));
    world.check();
    world.start_anew();
    assert_eq!(world.model[&1].len(), 1);
}

#[test]
fn a_message_for_very_many_is_read_back_without_the_references_of_all() {
    let mut joiner = Joiner::new(1, 0, Default::default(), Vec::new());
    let mut store = MemoryStore::default();
    let sessions = 5000;
    let session = |number: u64| {
        let client_id = number.to_string().into();
        let record = SessionRecord { client_id, expiry_interval_s: 9, offline_since_us: None, sent_below: 0 };
        Operation::Session(number, record)
    };
    let mut operations: Vec<Operation> = (1..=sessions).map(session).collect();
    let entry = |session: u64| {
        let identifiers = SubscriptionIdentifiers::None;
        Entry { session, sequence: session % 7, qos: QoS::AtLeastOnce, retain: false, identifiers }
    };
    operations.push(Operation::Queue {
        number: 9000,
        message: message(9000),
        entries: (1..=sessions).map(entry).collect(),
    });
    joiner.take(Batch { shard: 0, number: 1, operations, parts: Vec::new() });
    joiner.commit(&mut store, true, |_, _| {}).unwrap();
    let chunks = store.scan(Space::Queue, &[], 99).unwrap();
    assert_eq!(chunks.len(), 5);
    assert!(chunks.iter().all(|(_, value)| value.len() < 20_000));
    let recovered = recover(&store, 0).unwrap();
    assert_eq!(recovered.sessions.iter().filter(|session| session.queue.is_some()).count(), 5000);
    for queues in [joiner.queues(), &recovered.queues] {
        for session in [1, 1024, 1025, 4999, 5000] {
            let range = SliceRange { from: 0, upto: u64::MAX, max: 9 };
            let (entries, is_complete) = queues.read(&store, session, range).unwrap();
            assert!(is_complete && entries.len() == 1 && entries[0].sequence == session % 7);
        }
    }
}
