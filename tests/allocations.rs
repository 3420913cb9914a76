//! How often the way of a message allocates, once a shard has run warm.
//!
//! A shard without sockets, in a loop of turns; every call of the allocator is counted. A clone of a message, a list made
//! anew for each publish or a buffer that is not reused shows here at once.

mod house;

use house::{
    counting::{Counting, counted},
    pure::{PureShard, publish},
    traffic::Crossing,
};
use ringmq::{
    mqtt::{AckKind, Connect, PacketIdentifier, ProtocolVersion, QoS, ack::encode_success},
    runtime::ConnectionId,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TOPIC: &str = "building/7/floor/3/temperature";
const PAYLOAD: [u8; 64] = [b'x'; 64];
const ROUNDS: u64 = 1000;
const LARGE: usize = 256 * 1024;
const RECEIVE_BUFFER_BYTES: usize = 4096;

/// A publisher and its subscribers, all of one version and QoS.
struct Scene {
    shard: PureShard,
    publisher: ConnectionId,
    qos: QoS,
    subscribers: usize,
    identifier: u16,
    /// Bytes of the fixed header of `frame`.
    header_bytes: usize,
    /// Encoded once, as a client's bytes come from its socket.
    frame: Vec<u8>,
    /// Acknowledgements of a turn, by whom they come from.
    acknowledgements: Vec<(ConnectionId, PacketIdentifier)>,
    answer: Vec<u8>,
}

impl Scene {
    /// `is_kept`: the subscribers' sessions outlive their connections.
    fn new(version: ProtocolVersion, qos: QoS, subscribers: usize, is_kept: bool) -> Self {
        let mut shard = PureShard::new();
        for number in 0..subscribers {
            let client_id = format!("subscriber-{number:04}");
            let mut connect = Connect::new(version, &client_id);
            connect.clean_start = !is_kept;
            connect.properties.session_expiry_interval = (is_kept && version.has_properties()).then_some(60);
            let mut bytes = Vec::new();
            connect.encode(&mut bytes).expect("a CONNECT");
            let subscriber = shard.connect_with(&bytes);
            shard.subscribe(subscriber, version, TOPIC, qos);
        }
        let publisher = shard.connect(version, "publisher");
        let frame = publish(version, qos, 1, TOPIC, &PAYLOAD);
        let (acknowledgements, answer) = (Vec::new(), Vec::new());
        Self { shard, publisher, qos, subscribers, identifier: 0, header_bytes: 2, frame, acknowledgements, answer }
    }

    /// One message, from PUBLISH to the last acknowledgement. The clients themselves keep their memory.
    fn publish(&mut self) {
        self.identifier = self.identifier % 1000 + 1;
        let identifier_at = self.header_bytes + 2 + TOPIC.len();
        if self.qos != QoS::AtMostOnce {
            self.frame[identifier_at..identifier_at + 2].copy_from_slice(&self.identifier.to_be_bytes());
        }
        for piece in self.frame.chunks(RECEIVE_BUFFER_BYTES) {
            self.shard.receive(self.publisher, piece);
        }
        let Self { shard, publisher, acknowledgements, qos, .. } = self;
        let (mut frames, mut pubacks) = (0, 0);
        shard.turn(|id, out| {
            let bytes = out.slices(0).next().expect("something is sent");
            if id == *publisher {
                pubacks += usize::from(bytes[0] == 0x40);
                return;
            }
            assert_eq!((bytes[0] >> 4, bytes[0] >> 1 & 3), (3, qos.value()), "PUBLISH");
            frames += 1;
            if *qos != QoS::AtMostOnce {
                let identifier = u16::from_be_bytes([bytes[identifier_at], bytes[identifier_at + 1]]);
                acknowledgements.push((id, PacketIdentifier::new(identifier).expect("not zero")));
            }
        });
        assert_eq!(frames, self.subscribers);
        assert_eq!(pubacks, usize::from(self.qos != QoS::AtMostOnce));
        for (id, identifier) in self.acknowledgements.drain(..) {
            self.answer.clear();
            encode_success(&mut self.answer, AckKind::PubAck, identifier);
            self.shard.receive(id, &self.answer);
        }
        self.shard.turn(|_, _| panic!("nothing more is to be said"));
    }

    /// Allocations of `ROUNDS` messages after as many that fill the pools.
    fn allocations(&mut self) -> u64 {
        (0..ROUNDS).for_each(|_| self.publish());
        let before = counted().allocations;
        (0..ROUNDS).for_each(|_| self.publish());
        counted().allocations - before
    }
}

fn allocations(version: ProtocolVersion, qos: QoS, subscribers: usize, is_kept: bool) -> u64 {
    let allocations = Scene::new(version, qos, subscribers, is_kept).allocations();
    println!(
        "{version:?} {qos:?}, kept: {is_kept}, 1 to {subscribers}: {allocations} allocations in {ROUNDS} messages"
    );
    allocations
}

#[test]
fn a_message_that_is_sent_once_allocates_nothing_however_many_get_it() {
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            for subscribers in [1, 100] {
                assert_eq!(
                    allocations(version, qos, subscribers, false),
                    0,
                    "{version:?}, {qos:?}, 1 to {subscribers}"
                );
            }
        }
    }
}

#[test]
fn a_message_that_crosses_to_another_shard_allocates_nothing() {
    for batch in [1, 64, 150] {
        let mut crossing = Crossing::new(batch);
        (0..ROUNDS).for_each(|_| crossing.round());
        let before = counted();
        (0..ROUNDS).for_each(|_| crossing.round());
        assert_eq!(counted().allocations - before.allocations, 0, "{batch} at once");
    }
}

#[test]
fn a_message_that_may_have_to_be_sent_again_allocates_twice_however_many_get_it() {
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        for subscribers in [1, 100] {
            let allocations = allocations(version, QoS::AtLeastOnce, subscribers, true);
            assert!(allocations <= 2 * ROUNDS, "{version:?}, 1 to {subscribers}: {allocations}");
        }
    }
}

/// Bytes asked for by a message of `LARGE` bytes to 100 subscribers that comes in receive buffers of 4 KiB.
fn requested_by_a_large_message(version: ProtocolVersion, qos: QoS) -> u64 {
    let mut scene = Scene::new(version, qos, 100, false);
    scene.frame = publish(version, qos, 1, TOPIC, &vec![b'x'; LARGE]);
    scene.header_bytes = 4;
    for _ in 0..3 {
        scene.publish();
    }
    let before = counted();
    scene.publish();
    let after = counted();
    assert_eq!(after.bytes, before.bytes, "nothing of it is kept");
    let requested = after.requested - before.requested;
    println!("{version:?} {qos:?}: {requested} bytes requested by a message of {LARGE}");
    requested
}

#[test]
fn a_large_message_is_copied_in_once_and_not_out_however_many_get_it() {
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let requested = requested_by_a_large_message(version, qos);
            assert!((LARGE as u64..LARGE as u64 * 11 / 10).contains(&requested), "{version:?} {qos:?}: {requested}");
        }
    }
}

#[test]
fn what_is_allocated_is_counted() {
    let before = counted();
    let copy = PAYLOAD.to_vec();
    let after = counted();
    assert_eq!((after.allocations - before.allocations, after.bytes - before.bytes), (1, 64));
    assert_eq!(after.requested - before.requested, 64);
    drop(copy);
    assert_eq!(counted().bytes, before.bytes);
}
