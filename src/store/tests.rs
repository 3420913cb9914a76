//! The way from what shards ask for to what is read back, on a store in memory.

use std::{
    rc::Rc,
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use super::{
    Batch, Condition, Entry, Fault, Group, Joiner, Journal, Keeper, KeeperHandle, KeeperPort, Medium, MemoryStore,
    Operation, Pace, Part, QueueEntry, ReceivedRecord, Record, Recovered, RecoveredSession, Room, SessionRecord,
    SharedMemory, SliceRequest, Space, Store, StoreError, StorePort, SubscriptionRecord, WriteSet, doubt, recover,
};
use crate::{
    message::{ApplicationMessage, Envelope, Stamp, SubscriptionIdentifiers},
    mqtt::QoS,
    session::{QueueSummary, ReserveRecord, SliceRange, Will},
    time::Moment,
};

fn message(topic: &str, payload: &[u8]) -> ApplicationMessage {
    let envelope = Envelope {
        retain: true,
        expires_at: Moment::from_micros(77),
        stamp: Stamp { micros: 1, counter: 2, shard: 3 },
        ..Envelope::of(QoS::ExactlyOnce)
    };
    ApplicationMessage::new(topic, &[38, 0, 1, b'k', 0, 1, b'v'], payload, envelope)
}

fn entry(session: u64, sequence: u64) -> Entry {
    let identifiers = SubscriptionIdentifiers::of(&[7]);
    Entry { session, sequence, qos: QoS::ExactlyOnce, retain: false, identifiers }
}

fn session(number: u64) -> Operation {
    let client_id = format!("client-{number}").into();
    let record = SessionRecord { client_id, expiry_interval_s: 60, offline_since_us: Some(number), sent_below: 4 };
    Operation::Session(number, record)
}

fn received(session: u64, identifier: u16) -> Operation {
    let fingerprint = u64::from(identifier) + 100;
    Operation::Received(session, ReceivedRecord { identifier, fingerprint, is_doubted: false })
}

fn queue(number: u64, entries: &[(u64, u64)]) -> Operation {
    let entries = entries.iter().map(|&(session, sequence)| entry(session, sequence)).collect();
    Operation::Queue { number, message: message("a/b", b"payload"), entries }
}

fn plain(shard: u16, number: u64, operations: Vec<Operation>) -> Batch {
    Batch { shard, number, operations, parts: Vec::new() }
}

/// A batch that is one part of a group.
fn part(shard: u16, number: u64, group: Group, operations: Vec<Operation>, others: u16) -> Batch {
    let part = Part { group, begin: 0, end: operations.len(), is_last: true, others, stands_in: false };
    Batch { shard, number, operations, parts: vec![part] }
}

/// A joiner on a store in memory.
struct Bench {
    joiner: Joiner,
    store: MemoryStore,
}

impl Bench {
    fn new(shards: u16) -> Self {
        Self { joiner: Joiner::new(shards, 0, Default::default(), Vec::new()), store: MemoryStore::default() }
    }

    /// Commits, and returns who is told of which batch.
    fn commit(&mut self) -> Vec<(u16, u64)> {
        let mut said = Vec::new();
        self.joiner.commit(&mut self.store, true, |shard, number| said.push((shard, number))).unwrap();
        said
    }

    fn recover(&self) -> Recovered {
        recover(&self.store, 0).unwrap()
    }

    fn queued(&self) -> Vec<(u64, u64)> {
        let sessions = self.recover().sessions;
        let entries = sessions
            .iter()
            .flat_map(|session| self.entries(session.number).into_iter().map(|entry| (session.number, entry.sequence)));
        entries.collect()
    }

    fn entries(&self, session: u64) -> Vec<QueueEntry> {
        let mut entries = Vec::new();
        let each = |entry| {
            entries.push(entry);
            Ok::<_, StoreError>(())
        };
        self.recover().queues.for_each(&self.store, session, each).unwrap();
        entries
    }

    fn records(&self, space: Space) -> usize {
        self.store.scan(space, &[], usize::MAX).unwrap().len()
    }
}

#[test]
fn a_group_is_committed_whole_in_whichever_order_its_parts_come() {
    for origin_first in [true, false] {
        let mut bench = Bench::new(2);
        bench.joiner.take(plain(0, 1, vec![session(1), session(2)]));
        assert_eq!(bench.commit(), [(0, 1)]);
        let group = Group { origin: 0, number: 1 };
        let mut parts = vec![
            part(0, 2, group, vec![received(1, 5), queue(10, &[(1, 0)])], 1),
            part(1, 1, group, vec![queue(11, &[(2, 0)])], 0),
        ];
        if !origin_first {
            parts.reverse();
        }
        let second = parts.remove(1);
        bench.joiner.take(parts.remove(0));
        assert_eq!(bench.commit(), [], "half of a group is not durable");
        assert_eq!(bench.queued(), []);
        assert!(bench.recover().sessions[0].received.is_empty());
        bench.joiner.take(second);
        assert_eq!(bench.commit(), [(0, 2), (1, 1)]);
        assert_eq!(bench.queued(), [(1, 0), (2, 0)]);
        assert_eq!(bench.recover().sessions[0].received.len(), 1);
    }
}

#[test]
fn groups_of_one_publishers_shard_are_committed_in_order_and_others_do_not_wait() {
    let mut bench = Bench::new(3);
    bench.joiner.take(plain(0, 1, vec![session(1), session(2)]));
    bench.commit();
    let [first, second] = [1, 2].map(|number| Group { origin: 0, number });
    bench.joiner.take(part(0, 2, first, vec![queue(10, &[(1, 0)])], 1));
    bench.joiner.take(part(0, 3, second, vec![queue(11, &[(1, 1)])], 1));
    bench.joiner.take(part(1, 1, second, Vec::new(), 0));
    let other = Group { origin: 2, number: 1 };
    bench.joiner.take(part(2, 1, other, vec![queue(12, &[(2, 9)])], 0));
    assert_eq!(bench.commit(), [(2, 1)], "the second group waits for the first, another shard's does not");
    assert_eq!(bench.queued(), [(2, 9)]);
    bench.joiner.take(part(1, 2, first, Vec::new(), 0));
    assert_eq!(bench.commit(), [(0, 3), (1, 2)]);
    assert_eq!(bench.queued(), [(1, 0), (1, 1), (2, 9)]);
}

#[test]
fn what_a_shard_asks_for_behind_a_part_waits_with_it() {
    let mut bench = Bench::new(2);
    let group = Group { origin: 0, number: 1 };
    let operations = vec![session(1), queue(10, &[(1, 0)]), session(2)];
    let parts = vec![Part { group, begin: 1, end: 2, is_last: true, others: 1, stands_in: false }];
    bench.joiner.take(Batch { shard: 0, number: 1, operations, parts });
    bench.joiner.take(plain(0, 2, vec![session(3)]));
    bench.joiner.take(plain(1, 1, vec![session(4)]));
    assert_eq!(bench.commit(), [(1, 1)]);
    let numbers = |bench: &Bench| bench.recover().sessions.iter().map(|session| session.number).collect::<Vec<_>>();
    assert_eq!(numbers(&bench), [1, 4], "what came before the part need not wait");
    bench.joiner.take(part(1, 2, group, Vec::new(), 0));
    assert_eq!(bench.commit(), [(0, 2), (1, 2)]);
    assert_eq!(numbers(&bench), [1, 2, 3, 4]);
}

#[test]
fn a_chunk_is_kept_as_long_as_a_queue_has_something_of_it() {
    let mut bench = Bench::new(1);
    bench.joiner.take(plain(0, 1, vec![session(1), session(2), queue(10, &[(1, 0), (2, 0)]), queue(11, &[(1, 1)])]));
    bench.commit();
    assert_eq!(bench.records(Space::Queue), 1, "what one commit brings is one record");
    bench.joiner.take(plain(0, 2, vec![Operation::QueueEnd { session: 1, sequence: 0, number: Some(10) }]));
    bench.commit();
    assert_eq!((bench.records(Space::Queue), bench.queued()), (1, vec![(1, 1), (2, 0)]));
    bench.joiner.take(plain(0, 3, vec![Operation::QueueReleased { session: 2, sequence: 0, number: 10 }]));
    bench.joiner.take(plain(0, 4, vec![Operation::QueueEnd { session: 1, sequence: 1, number: Some(11) }]));
    bench.commit();
    assert_eq!((bench.records(Space::Queue), bench.queued()), (0, vec![(2, 0)]), "what has arrived is known");
    let end = Operation::QueueEnd { session: 2, sequence: 0, number: None };
    bench.joiner.take(plain(0, 5, vec![end]));
    bench.commit();
    assert_eq!(bench.queued(), []);
    assert_eq!(bench.recover().sessions[0].used_below, 2, "no place is used twice");
    // What is done with before it is committed is never written.
    let end = |session| Operation::QueueEnd { session, sequence: 5, number: Some(12) };
    bench.joiner.take(plain(0, 6, vec![queue(12, &[(1, 5), (2, 5)]), end(1), end(2)]));
    let records = bench.records(Space::State);
    assert_eq!(bench.commit(), [(0, 6)]);
    assert_eq!((bench.records(Space::Queue), bench.records(Space::State)), (0, records));
}

#[test]
fn what_an_ended_session_leaves_behind_is_removed() {
    let mut bench = Bench::new(1);
    let subscription = SubscriptionRecord { options: 1, identifier: 0 };
    let mut operations = vec![session(1), session(2)];
    operations.extend((0..9).map(|topic| Operation::Subscription(1, format!("t/{topic}").into(), subscription)));
    operations.extend((0..9).map(|sequence| queue(100 + sequence, &[(1, sequence), (2, sequence)])));
    operations.push(received(1, 4));
    bench.joiner.take(plain(0, 1, operations));
    bench.commit();
    bench.joiner.take(plain(0, 2, vec![Operation::SessionEnd(1)]));
    bench.commit();
    assert!(bench.joiner.has_garbage());
    assert_eq!(bench.recover().ended, [1]);
    let mut rounds = 0;
    while bench.joiner.collect(&bench.store, 4).unwrap() {
        bench.commit();
        rounds += 1;
        assert!(rounds < 20, "it comes to an end");
    }
    assert!(rounds > 2 && bench.recover().ended.is_empty());
    assert_eq!(bench.queued().len(), 9);
    // The chunk has one queue left, and goes with it.
    let ends = (0..9).map(|sequence| Operation::QueueEnd { session: 2, sequence, number: Some(100 + sequence) });
    bench.joiner.take(plain(0, 3, ends.collect()));
    bench.commit();
    assert_eq!(bench.records(Space::Queue), 0);
}

#[test]
fn every_operation_is_read_back() {
    let mut bench = Bench::new(1);
    let subscription = SubscriptionRecord { options: 9, identifier: 6 };
    let will = || Will { message: message("will", b"gone"), message_expiry_interval_s: Some(8), delay_s: 5 };
    bench.joiner.take(plain(
        0,
        1,
        vec![
            session(1),
            session(2),
            session(3),
            Operation::Subscription(1, "a/+".into(), subscription),
            Operation::Subscription(1, "b/#".into(), subscription),
            queue(10, &[(1, 0)]),
            queue(11, &[(1, 1), (2, 0)]),
            queue(12, &[(1, 2)]),
            queue(13, &[(2, 1)]),
            received(1, 1),
            received(1, u16::MAX),
            Operation::Retained(message("kept", b"value")),
            Operation::Retained(message("gone", b"value")),
            Operation::Will(1, Box::new(will())),
            Operation::Will(2, Box::new(will())),
        ],
    ));
    bench.commit();
    bench.joiner.take(plain(
        0,
        2,
        vec![
            Operation::SessionEnd(3),
            Operation::SubscriptionEnd(1, "b/#".into()),
            Operation::QueueEnd { session: 2, sequence: 1, number: Some(13) },
            Operation::QueueReleased { session: 1, sequence: 2, number: 12 },
            Operation::ReceivedEnd(1, u16::MAX),
            Operation::RetainedEnd("gone".into()),
            Operation::WillEnd(2),
        ],
    ));
    bench.commit();
    let recovered = bench.recover();
    let [first, second] = &recovered.sessions[..] else { panic!("{:?}", recovered.sessions) };
    assert_eq!(
        (&*first.record.client_id, first.record.offline_since_us, first.record.sent_below),
        ("client-1", Some(1), 4)
    );
    assert_eq!(first.subscriptions, [(Box::from("a/+"), subscription)]);
    assert_eq!(first.received, [ReceivedRecord { identifier: 1, fingerprint: 101, is_doubted: false }]);
    let will_read = first.will.as_ref().expect("kept");
    assert_eq!(
        (will_read.delay_s, will_read.message_expiry_interval_s, will_read.message.payload()),
        (5, Some(8), &b"gone"[..])
    );
    assert!(second.will.is_none() && second.received.is_empty());
    let entries = [1, 2].map(|session| bench.entries(session));
    let numbers: Vec<_> =
        entries[0].iter().map(|entry| (entry.sequence, entry.number, entry.message.is_some())).collect();
    assert_eq!(numbers, [(0, 10, true), (1, 11, true), (2, 0, false)]);
    for entry in entries[0].iter().take(2).chain(&entries[1]) {
        let read = entry.message.as_ref().expect("not released");
        assert_eq!((read.topic(), read.payload(), read.envelope), ("a/b", &b"payload"[..], message("", b"").envelope));
        assert_eq!(
            (entry.qos, entry.retain, &entry.identifiers),
            (QoS::ExactlyOnce, false, &SubscriptionIdentifiers::of(&[7]))
        );
    }
    assert_eq!(recovered.retained.iter().map(ApplicationMessage::topic).collect::<Vec<_>>(), ["kept"]);
    assert_eq!((recovered.last_number, recovered.commit_number), (13, 2));
}

/// Of session 1, with a queue of eight, the third of which has arrived, as it is found with a window of `window`.
fn summary(offline: Option<u64>, sent_below: u64, window: u64) -> QueueSummary {
    let mut bench = Bench::new(1);
    let record = SessionRecord { client_id: "c".into(), expiry_interval_s: 9, offline_since_us: offline, sent_below };
    let mut operations = vec![Operation::Session(1, record)];
    operations.extend((0..8).map(|sequence| queue(10 + sequence, &[(1, 100 + sequence)])));
    operations.push(Operation::QueueReleased { session: 1, sequence: 102, number: 12 });
    bench.joiner.take(plain(0, 1, operations));
    bench.commit();
    let recovered = recover(&bench.store, window).unwrap();
    recovered.sessions[0].queue.expect("not empty")
}

#[test]
fn what_may_have_been_sent_is_told_from_what_was_not() {
    let bytes = message("a/b", b"payload").charged_bytes() as u64;
    let of = |sent, sent_below| QueueSummary {
        first: 100,
        last: 107,
        sent_below,
        sent,
        count: 8 - sent,
        bytes: (8 - sent) * bytes,
    };
    assert_eq!(summary(Some(1), 105, 1), of(5, 105), "who was away was sent what its session says");
    assert_eq!(summary(None, 0, 6), of(6, 106), "who was there may have been sent a window full");
    assert_eq!(summary(None, 0, 1), of(3, 103), "and everything before a message that has arrived");
    assert_eq!(summary(None, 0, 100), of(8, 108));
}

#[test]
fn what_is_doubted_once_is_doubted_at_the_next_start_and_no_message_is_touched() {
    let memory = SharedMemory::default();
    let mut bench = Bench { store: MemoryStore::new(memory.clone()), ..Bench::new(1) };
    let mut operations = vec![session(1), session(2), session(3), received(1, 8), received(2, 9)];
    let reserve = |below| ReserveRecord { below, ..ReserveRecord::default() };
    operations.extend([Operation::Reserve(1, reserve(74)), Operation::Reserve(3, reserve(10))]);
    operations.extend((4..10).map(|sequence| queue(20 + sequence, &[(1, sequence), (3, sequence)])));
    operations.push(Operation::QueueEnd { session: 1, sequence: 5, number: Some(25) });
    operations.extend([(3, 4), (3, 9)].map(|(session, sequence)| Operation::QueueReleased {
        session,
        sequence,
        number: 20 + sequence,
    }));
    operations.extend((5..9).map(|sequence| Operation::QueueEnd { session: 3, sequence, number: Some(20 + sequence) }));
    bench.joiner.take(plain(0, 1, operations));
    bench.commit();
    let before = bench.recover();
    let (queued, mut doubted) = (bench.queued(), bench.recover());
    doubt(&mut doubted, &mut bench.store).unwrap();
    memory.cut_power();
    let after = bench.recover();
    assert_eq!((after.commit_number, doubted.commit_number), (2, 2));
    assert_eq!(bench.queued(), queued);
    for ((before, after), doubted) in before.sessions.iter().zip(&after.sessions).zip(&doubted.sessions) {
        assert_eq!((&before.record, before.queue), (&after.record, after.queue));
        assert_eq!((after.used_below, &after.received), (doubted.used_below, &doubted.received));
        assert!(after.received.iter().all(|received| received.is_doubted && received.fingerprint > 100));
    }
    // Behind what was reserved, where anything was.
    assert_eq!(after.sessions.iter().map(|session| session.used_below).collect::<Vec<_>>(), [74, 0, 10]);
    let held = |recovered: &Recovered| -> Vec<Vec<(u64, u64)>> {
        let held = |session: &RecoveredSession| session.reserve.clone().map_or(Vec::new(), |reserve| reserve.held);
        recovered.sessions.iter().map(held).collect()
    };
    assert_eq!(held(&after), [vec![(10, 74)], vec![], vec![]]);
    // Its queue goes on from there, also when what was in it goes first.
    let mut joiner = Joiner::new(1, after.commit_number, after.queues, after.ended);
    let mut operations: Vec<_> = [4, 6, 7, 8, 9]
        .map(|sequence| Operation::QueueEnd { session: 1, sequence, number: Some(20 + sequence) })
        .into();
    operations.extend([4, 9].map(|sequence| Operation::QueueEnd { session: 3, sequence, number: None }));
    operations.push(queue(90, &[(1, 74)]));
    let grown = ReserveRecord { floor: 74, below: 138, held: vec![(10, 74)] };
    operations.extend([Operation::Reserve(1, grown), queue(91, &[(2, 4)])]);
    joiner.take(plain(0, 1, operations));
    joiner.commit(&mut bench.store, true, |_, _| {}).unwrap();
    let mut last = bench.recover();
    assert_eq!(last.sessions.iter().map(|session| session.used_below).collect::<Vec<_>>(), [74, 0, 10]);
    assert_eq!(bench.queued(), [(1, 74), (2, 4)]);
    // And once more: behind what came since.
    doubt(&mut last, &mut bench.store).unwrap();
    let last = bench.recover();
    assert_eq!(last.sessions.iter().map(|session| session.used_below).collect::<Vec<_>>(), [138, 0, 10]);
    assert_eq!(held(&last), [vec![(10, 74), (75, 138)], vec![], vec![]]);
    assert_eq!(bench.queued(), [(1, 74), (2, 4)]);
}

#[test]
fn a_queue_is_read_in_parts_when_everything_before_is_durable() {
    let memory = SharedMemory::default();
    let (keeper, mut port, wakes) = keep(&memory, Duration::from_millis(5));
    let mut operations = vec![session(1), session(2)];
    operations.push(queue(50, &[(1, 0), (2, 0)]));
    operations.extend((1..=100).map(|sequence| queue(100 + sequence, &[(1, sequence)])));
    let range = |from, upto, max| SliceRange { from, upto, max };
    let read = |port: &mut KeeperPort, range| {
        port.read(SliceRequest { number: 1, session: (3, 4), range, batch: 1 });
        loop {
            if let Some(slice) = port.take_slice() {
                assert_eq!((slice.request.session, slice.request.range), ((3, 4), range));
                return slice.read;
            }
            wakes.recv_timeout(Duration::from_secs(20)).expect("an answer");
        }
    };
    // Asked for before what it waits for.
    port.read(SliceRequest { number: 1, session: (3, 4), range: range(0, 100, 70), batch: 1 });
    port.submit(plain(0, 1, operations));
    while port.durable() < 1 {
        wakes.recv_timeout(Duration::from_secs(20)).expect("durable");
    }
    let (entries, is_complete) = loop {
        if let Some(slice) = port.take_slice() {
            break slice.read.unwrap();
        }
        wakes.recv_timeout(Duration::from_secs(20)).expect("an answer");
    };
    assert!(!is_complete && entries.iter().map(|entry| entry.sequence).eq(0..70));
    assert_eq!(entries[0].message.as_ref().map(|message| message.payload()), Some(&b"payload"[..]), "a shared body");
    let (entries, is_complete) = read(&mut port, range(70, 100, 70)).unwrap();
    assert!(is_complete && entries.iter().map(|entry| entry.sequence).eq(70..=100));
    let (entries, is_complete) = read(&mut port, range(70, 75, 6)).unwrap();
    assert!(is_complete && entries.len() == 6, "the end of the range is the end");
    let (entries, is_complete) = read(&mut port, range(101, 200, 6)).unwrap();
    assert!(is_complete && entries.is_empty());
    // A store that has failed answers when it is open again.
    memory.set_fault(Some(Fault::Refused));
    port.submit(plain(0, 2, vec![session(3)]));
    while port.condition() == Condition::Good {
        wakes.recv_timeout(Duration::from_secs(20)).expect("a failure");
    }
    port.read(SliceRequest { number: 1, session: (3, 4), range: range(70, 75, 6), batch: 2 });
    // A wake may still come for the failure itself; an answer may not.
    std::thread::sleep(Duration::from_millis(50));
    assert!(port.take_slice().is_none());
    memory.set_fault(None);
    let (entries, _) = loop {
        if let Some(slice) = port.take_slice() {
            break slice.read.unwrap();
        }
        wakes.recv_timeout(Duration::from_secs(20)).expect("an answer");
    };
    assert_eq!((entries.len(), port.durable()), (6, 2));
    drop(port);
    keeper.join().unwrap();
}

#[test]
fn a_record_that_cannot_be_read_is_named() {
    let mut store = MemoryStore::default();
    let mut writes = WriteSet::default();
    writes.put(Space::Queue, &[0, 0, 0, 0, 0, 0, 0, 1], vec![0; 9]);
    store.commit(&writes, true).unwrap();
    let error = recover(&store, 0).expect_err("it is no chunk").to_string();
    assert!(error.contains("queued messages"), "{error}");
    let census = super::census(&store, &mut |_| {}).unwrap();
    assert_eq!(census.problems, ["chunk 1 of queued messages cannot be read"]);
}

#[test]
fn a_journal_asks_once_for_what_several_sessions_queue_and_never_gives_a_number_twice() {
    let mut journals = [0, 1].map(|shard| Journal::on(shard, 1000));
    let shared = Rc::new(message("a", b"b"));
    for journal in &mut journals {
        assert_eq!((journal.last_batch(), journal.take_batch().is_none()), (0, true));
        let stored = journal.queue(&shared, entry(1, 0));
        assert_eq!(journal.queue(&shared, entry(2, 0)), stored);
        let other = journal.queue(&Rc::new(message("a", b"b")), entry(1, 1));
        assert!(other.number != stored.number && stored.number > 1000);
        assert_eq!(journal.last_batch(), 1);
        let batch = journal.take_batch().expect("asked for");
        let entries: Vec<usize> = batch
            .operations
            .iter()
            .map(|operation| match operation {
                Operation::Queue { entries, .. } => entries.len(),
                operation => panic!("{operation:?}"),
            })
            .collect();
        assert_eq!((batch.number, entries), (1, vec![2, 1]));
        // In the next turn it is asked for anew.
        assert_ne!(journal.queue(&shared, entry(3, 0)).number, stored.number);
        assert_eq!(journal.last_batch(), 2);
    }
    let mut numbers: Vec<u64> =
        journals.iter_mut().flat_map(|journal| [journal.take_number(), journal.take_number()]).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 4);
}

#[test]
fn a_journal_marks_what_belongs_to_a_group() {
    let mut journal = Journal::on(3, 0);
    journal.ask(session(1));
    let group = journal.new_group();
    journal.begin_part(group);
    journal.ask(session(2));
    journal.end_part(true, 2);
    let dropped = journal.new_group();
    journal.begin_part(dropped);
    journal.ask(session(3));
    journal.drop_part();
    let batch = journal.take_batch().expect("asked for");
    let parts: Vec<_> =
        batch.parts.iter().map(|part| (part.group, part.begin, part.end, part.is_last, part.others)).collect();
    assert_eq!(parts, [(Group { origin: 3, number: 1 }, 1, 2, true, 2)]);
    journal.set_durable(1);
    journal.set_durable(0);
    assert_eq!((journal.durable(), journal.batch(), batch.operations.len()), (1, 2, 3));
}

/// A store that commits when it is let.
struct SlowStore {
    memory: MemoryStore,
    begun: Sender<()>,
    go: Receiver<()>,
}

impl Store for SlowStore {
    fn commit(&mut self, writes: &WriteSet, sync: bool) -> Result<(), StoreError> {
        self.begun.send(()).unwrap();
        self.go.recv().unwrap();
        self.memory.commit(writes, sync)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.memory.sync()
    }

    fn scan(&self, space: Space, from: &[u8], max: usize) -> Result<Vec<Record>, StoreError> {
        self.memory.scan(space, from, max)
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What nothing of these tests looks at.
fn medium() -> Box<dyn Medium> {
    Box::new(SharedMemory::default())
}

fn joiner() -> Joiner {
    Joiner::new(1, 0, Default::default(), Vec::new())
}

#[test]
fn nothing_is_durable_before_a_slow_store_has_it() {
    let ((begun, has_begun), (go, may_go), (woken, is_woken)) = (channel(), channel(), channel());
    let store = SlowStore { memory: MemoryStore::default(), begun, go: may_go };
    let wake = Box::new(move || woken.send(()).unwrap_or_default());
    let (handle, mut ports) = Keeper::start(Box::new(store), medium(), joiner(), Pace::default(), vec![wake]).unwrap();
    let mut port = ports.remove(0);
    port.submit(plain(0, 1, vec![session(1)]));
    has_begun.recv().unwrap();
    // Both of these go into the commit after it.
    port.submit(plain(0, 2, vec![session(2)]));
    port.submit(plain(0, 3, vec![session(3)]));
    assert_eq!((port.durable(), is_woken.try_recv().is_err()), (0, true));
    go.send(()).unwrap();
    is_woken.recv().unwrap();
    assert_eq!(port.durable(), 1);
    has_begun.recv().unwrap();
    assert_eq!(port.durable(), 1);
    go.send(()).unwrap();
    is_woken.recv().unwrap();
    assert_eq!((port.durable(), port.condition()), (3, Condition::Good));
    drop(port);
    handle.join().unwrap();
}

#[test]
fn what_is_written_is_said_before_it_is_synced_where_somebody_waits_for_no_more() {
    let ((begun, has_begun), (go, may_go), (woken, is_woken)) = (channel(), channel(), channel());
    let store = SlowStore { memory: MemoryStore::default(), begun, go: may_go };
    let wake = Box::new(move || woken.send(()).unwrap_or_default());
    let pace = Pace { says_written: true, ..Pace::default() };
    let (handle, mut ports) = Keeper::start(Box::new(store), medium(), joiner(), pace, vec![wake]).unwrap();
    let mut port = ports.remove(0);
    port.submit(plain(0, 1, vec![session(1)]));
    has_begun.recv().unwrap();
    assert_eq!((port.written(), port.durable()), (0, 0));
    go.send(()).unwrap();
    is_woken.recv().unwrap();
    assert_eq!(port.written(), 1);
    is_woken.recv().unwrap();
    assert_eq!((port.written(), port.durable()), (1, 1));
    drop(port);
    handle.join().unwrap();
}

/// A keeper of a store in `memory` that is opened again after `reopen`, its port, and who is woken.
fn keep(memory: &SharedMemory, reopen: Duration) -> (KeeperHandle, KeeperPort, Receiver<()>) {
    let (woken, is_woken) = channel();
    let wake = Box::new(move || woken.send(()).unwrap_or_default());
    let store = Box::new(MemoryStore::new(memory.clone()));
    let pace = Pace { free_bytes_min: 100, reopen: (reopen, reopen), ..Pace::default() };
    let (handle, mut ports) = Keeper::start(store, Box::new(memory.clone()), joiner(), pace, vec![wake]).unwrap();
    (handle, ports.remove(0), is_woken)
}

#[test]
fn a_store_that_fails_is_not_asked_again_and_nothing_is_durable() {
    let memory = SharedMemory::default();
    let (handle, mut port, is_woken) = keep(&memory, Duration::from_secs(3600));
    memory.set_fault(Some(Fault::Refused));
    port.submit(plain(0, 1, vec![session(1)]));
    is_woken.recv().unwrap();
    assert_eq!((port.durable(), port.condition()), (0, Condition::Failed));
    // It could again, and is not asked.
    memory.set_fault(None);
    port.submit(plain(0, 2, vec![session(2)]));
    drop(port);
    assert!(handle.join().is_err());
    assert!(memory.is_empty());
}

#[test]
fn a_store_that_is_opened_again_has_what_was_asked_for_before_and_since() {
    for fault in [Fault::Refused, Fault::Denied] {
        let memory = SharedMemory::default();
        let (handle, mut port, is_woken) = keep(&memory, Duration::from_millis(5));
        port.submit(plain(0, 1, vec![session(1), queue(256, &[(1, 0)])]));
        is_woken.recv().unwrap();
        memory.set_fault(Some(fault));
        port.submit(plain(0, 2, vec![session(2), queue(512, &[(1, 1)]), queue(768, &[(1, 2), (2, 0)])]));
        is_woken.recv().unwrap();
        assert_eq!((port.durable(), port.condition()), (1, Condition::Failed));
        // What may have been written is removed, and so is what was before.
        let end = |session, sequence, number| Operation::QueueEnd { session, sequence, number: Some(number) };
        port.submit(plain(0, 3, vec![end(1, 0, 256), end(1, 1, 512), end(1, 2, 768), end(2, 0, 768), session(3)]));
        memory.set_fault(None);
        while port.condition() == Condition::Failed {
            is_woken.recv().unwrap();
        }
        assert_eq!((port.durable(), port.condition()), (3, Condition::Good), "{fault:?}");
        let recovered = recover(&MemoryStore::new(memory.clone()), 0).unwrap();
        assert_eq!(recovered.sessions.iter().map(|session| session.queue).collect::<Vec<_>>(), [None; 3]);
        let commits = if fault == Fault::Denied { 3 } else { 2 };
        assert_eq!(recovered.commit_number, commits);
        assert!(MemoryStore::new(memory.clone()).scan(Space::Queue, &[], 1).unwrap().is_empty(), "{fault:?}");
        // And it goes on.
        port.submit(plain(0, 4, vec![session(4)]));
        drop(port);
        handle.join().unwrap();
        assert_eq!(recover(&MemoryStore::new(memory), 0).unwrap().sessions.len(), 4);
    }
}

#[test]
fn a_store_without_room_takes_in_what_it_is_given_and_says_that_it_is_full() {
    let memory = SharedMemory::default();
    let room = |free_bytes| Room { free_bytes, total_bytes: 1_000_000 };
    memory.set_room(room(99));
    let (handle, mut port, is_woken) = keep(&memory, Duration::from_millis(5));
    assert_eq!(port.condition(), Condition::Full, "before anything is asked for");
    is_woken.recv().unwrap();
    port.submit(plain(0, 1, vec![session(1)]));
    is_woken.recv().unwrap();
    assert_eq!((port.durable(), port.condition()), (1, Condition::Full));
    memory.set_room(room(125));
    while port.condition() == Condition::Full {
        is_woken.recv().unwrap();
    }
    // A failure does not end before there is room.
    memory.set_room(room(99));
    memory.set_fault(Some(Fault::Denied));
    port.submit(plain(0, 2, vec![session(2)]));
    is_woken.recv().unwrap();
    memory.set_fault(None);
    assert!(is_woken.recv_timeout(Duration::from_millis(50)).is_err());
    assert_eq!(port.condition(), Condition::Failed);
    memory.set_room(room(125));
    while port.condition() == Condition::Failed {
        is_woken.recv().unwrap();
    }
    assert_eq!((port.durable(), port.condition()), (2, Condition::Good));
    drop(port);
    handle.join().unwrap();
}

#[test]
fn what_is_written_in_batches_is_synced_within_the_interval() {
    let memory = SharedMemory::default();
    let (woken, is_woken) = channel();
    let wake = Box::new(move || woken.send(()).unwrap_or_default());
    let store = Box::new(MemoryStore::new(memory.clone()));
    let pace = Pace { sync_interval: Some(Duration::from_millis(5)), ..Pace::default() };
    let (handle, mut ports) = Keeper::start(store, Box::new(memory.clone()), joiner(), pace, vec![wake]).unwrap();
    let mut port = ports.remove(0);
    port.submit(plain(0, 1, vec![session(1)]));
    is_woken.recv().unwrap();
    let began = Instant::now();
    // A cut before the interval is over loses what was written; then it is written again, until it has stayed.
    let mut number = 1;
    loop {
        std::thread::yield_now();
        memory.cut_power();
        if !memory.is_empty() {
            break;
        }
        number += 1;
        port.submit(plain(0, number, vec![session(number)]));
        is_woken.recv().unwrap();
        assert!(began.elapsed() < Duration::from_secs(30), "nothing is ever synced");
    }
    drop(port);
    handle.join().unwrap();
}
