//! Publishers and subscribers at a pure shard, and all that they say to each other, round by round.
//!
//! Owns: the clients' side, which costs little beside the shard: at QoS 0 nothing is looked at but how many bytes came,
//! else [`answers`] takes 50 to 150 instructions a packet.

use ringmq::{
    mqtt::{AckKind, PacketIdentifier, ProtocolVersion, QoS, ack::encode_success},
    runtime::ConnectionId,
    transport::OutBuffer,
};

use super::pure::{PurePair, PureShard, publish};

/// Who publishes to whom.
#[derive(Clone, Copy)]
pub struct Shape {
    pub publishers: usize,
    /// QoS of the publications.
    pub qos: QoS,
    /// The version that publishers speak.
    pub version: ProtocolVersion,
    /// Messages of each publisher in a round, which come in one piece.
    pub batch: u16,
    pub subscribers: usize,
    /// What all subscribers subscribe to.
    pub filter: &'static str,
    /// How many of the subscribers get each message.
    pub copies: usize,
    /// The version and QoS of each subscriber, by its number.
    pub subscriber: fn(usize) -> (ProtocolVersion, QoS),
}

/// Clients of that shape at a shard of their own.
pub struct Traffic {
    shard: PureShard,
    shape: Shape,
    publishers: Vec<(ConnectionId, Vec<u8>)>,
    /// What clients answer in the turn that follows.
    answers: Vec<(ConnectionId, Vec<u8>)>,
    /// Memory of answers that were given.
    spare: Vec<Vec<u8>>,
    /// At QoS 0: the bytes that clients got in the first round, which had every message, and get in each.
    bytes_a_round: Option<usize>,
}

/// What all publish to, 30 bytes.
pub const TOPIC: &str = "building/7/floor/3/temperature";
/// What all publish.
pub const PAYLOAD: [u8; 64] = [b'x'; 64];

impl Shape {
    /// One publisher and one subscriber of 3.1.1 with `qos`, `batch` messages a turn.
    pub const fn pair(qos: QoS, batch: u16) -> Self {
        let subscriber: fn(usize) -> (ProtocolVersion, QoS) = match qos {
            QoS::AtMostOnce => |_| (ProtocolVersion::V311, QoS::AtMostOnce),
            QoS::AtLeastOnce => |_| (ProtocolVersion::V311, QoS::AtLeastOnce),
            QoS::ExactlyOnce => |_| (ProtocolVersion::V311, QoS::ExactlyOnce),
        };
        let version = ProtocolVersion::V311;
        Self { publishers: 1, qos, version, batch, subscribers: 1, filter: TOPIC, copies: 1, subscriber }
    }

    /// One publisher at `qos` and 1000 subscribers, a message a turn.
    pub const fn fan_out(qos: QoS, subscriber: fn(usize) -> (ProtocolVersion, QoS)) -> Self {
        Self { subscribers: 1000, copies: 1000, subscriber, ..Self::pair(qos, 1) }
    }

    /// 1000 publishers, each with a message a turn, and one subscriber.
    pub const fn fan_in(qos: QoS) -> Self {
        Self { publishers: 1000, ..Self::pair(qos, 1) }
    }

    /// 100 publishers, each with a message a turn, and five subscribers that share them.
    pub const fn shared() -> Self {
        let filter = "$share/workers/building/7/floor/3/temperature";
        Self { publishers: 100, subscribers: 5, filter, ..Self::pair(QoS::AtMostOnce, 1) }
    }

    /// How many messages arrive in a round.
    pub fn deliveries(&self) -> usize {
        self.publishers * usize::from(self.batch) * self.copies
    }
}

impl Traffic {
    pub fn new(shape: Shape) -> Self {
        let mut shard = PureShard::new();
        for number in 0..shape.subscribers {
            let (version, qos) = (shape.subscriber)(number);
            let subscriber = shard.connect(version, &format!("subscriber-{number:04}"));
            shard.subscribe(subscriber, version, shape.filter, qos);
        }
        let publishers = (0..shape.publishers)
            .map(|number| {
                let id = shard.connect(shape.version, &format!("publisher-{number:04}"));
                // All exchanges of a round end with it, so identifiers can be the same in each.
                let frames = 1..=shape.batch;
                (id, frames.flat_map(|n| publish(shape.version, shape.qos, n, TOPIC, &PAYLOAD)).collect())
            })
            .collect();
        Self { shard, shape, publishers, answers: Vec::new(), spare: Vec::new(), bytes_a_round: None }
    }

    /// All messages of a round, from PUBLISH to the last acknowledgement.
    pub fn round(&mut self) {
        for (id, frames) in &self.publishers {
            self.shard.receive(*id, frames);
        }
        match self.bytes_a_round {
            Some(expected) => {
                let mut bytes = 0;
                self.shard.turn(|_, out| bytes += out.len());
                assert_eq!(bytes, expected, "every message arrives");
            }
            None => self.exchange(),
        }
    }

    /// What follows the PUBLISHes of a round.
    fn exchange(&mut self) {
        let (mut delivered, mut bytes) = (0, 0);
        loop {
            let Self { shard, answers: next, spare, .. } = self;
            shard.turn(|id, out| {
                let mut answer = spare.pop().unwrap_or_default();
                delivered += answers(out, &mut answer);
                bytes += out.len();
                if answer.is_empty() {
                    spare.push(answer);
                } else {
                    next.push((id, answer));
                }
            });
            if self.answers.is_empty() {
                break;
            }
            for (id, mut answer) in self.answers.drain(..) {
                self.shard.receive(id, &answer);
                answer.clear();
                self.spare.push(answer);
            }
        }
        assert_eq!(delivered, self.shape.deliveries(), "every message arrives");
        self.bytes_a_round = (self.shape.qos == QoS::AtMostOnce).then_some(bytes);
    }
}

/// A publisher at each of two shards, and its subscriber at the other: 3.1.1 at QoS 0.
pub struct Crossing {
    pair: PurePair,
    publishers: [ConnectionId; 2],
    /// What each sends in a round.
    frames: [Vec<u8>; 2],
}

impl Crossing {
    pub fn new(batch: usize) -> Self {
        let (version, qos) = (ProtocolVersion::V311, QoS::AtMostOnce);
        let mut pair = PurePair::new();
        let publishers = [0_u16, 1].map(|shard| {
            let topic = Self::topic_from(shard);
            let (here, there) = (usize::from(shard), usize::from(1 - shard));
            let subscriber_id = pair.client_id_at(1 - shard, "subscriber");
            let subscriber = pair.shards[there].connect(version, &subscriber_id);
            pair.shards[there].subscribe(subscriber, version, topic, qos);
            let publisher_id = pair.client_id_at(shard, "publisher");
            pair.shards[here].connect(version, &publisher_id)
        });
        let frames = [0, 1].map(|shard| publish(version, qos, 0, Self::topic_from(shard), &PAYLOAD).repeat(batch));
        Self { pair, publishers, frames }
    }

    /// As long as [`TOPIC`].
    fn topic_from(shard: u16) -> &'static str {
        ["building/0/floor/3/temperature", "building/1/floor/3/temperature"][usize::from(shard)]
    }

    /// All messages of a round, which arrive.
    pub fn round(&mut self) {
        let Self { pair, publishers, frames } = self;
        for ((shard, publisher), frames) in pair.shards.iter_mut().zip(publishers).zip(&*frames) {
            shard.receive(*publisher, frames);
        }
        let mut bytes = 0;
        pair.turn(|_, out| bytes += out.len());
        assert_eq!(bytes, frames.iter().map(Vec::len).sum::<usize>(), "every message arrives");
    }
}

/// Writes what a client answers to the packets of `out`, and returns how many messages were among them.
#[inline(never)]
pub fn answers(out: &OutBuffer, answer: &mut Vec<u8>) -> usize {
    let mut messages = 0;
    for mut bytes in out.slices(0) {
        while let [first, low, rest @ ..] = bytes {
            // Two bytes of length are enough for every packet here.
            let (body, rest) = match rest {
                [high, rest @ ..] if low & 0x80 != 0 => {
                    rest.split_at(usize::from(low & 0x7F) | usize::from(*high) << 7)
                }
                _ => rest.split_at(usize::from(*low)),
            };
            bytes = rest;
            let identifier_at = if first >> 4 == 3 { 2 + TOPIC.len() } else { 0 };
            messages += usize::from(first >> 4 == 3);
            let kind = match (first >> 4, first >> 1 & 3) {
                (3, 1) => AckKind::PubAck,
                (3, 2) => AckKind::PubRec,
                (5, _) => AckKind::PubRel,
                (6, _) => AckKind::PubComp,
                _ => continue,
            };
            let identifier = u16::from_be_bytes([body[identifier_at], body[identifier_at + 1]]);
            encode_success(answer, kind, PacketIdentifier::new(identifier).expect("not zero"));
        }
    }
    messages
}
