//! The ApplicationMessage: what a PUBLISH carries, taken over by the broker.
//!
//! Owns: one allocation of topic, forwarded properties and payload, and the few numbers that travel with it. What came as
//! a packet in memory of its own stays in that memory.
//! Always: immutable once made; cloning it costs one reference count. Inside a core it is shared as `Rc`, and each other
//! core that wants it gets a clone of its own, so that cores contend for the count once a core and not once a delivery.
//! Never: an opinion about who gets it.

mod retained;

use std::{cell::OnceCell, num::NonZeroU32, rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};

pub use self::retained::RetainedMessage;
use crate::{mqtt::QoS, time::Moment};

/// When a publication was taken over, ordered over all shards of a process: of two retained publications to one topic
/// the one with the larger stamp stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Microseconds since the Unix epoch.
    pub micros: u64,
    /// Tells apart what one shard took over within a microsecond, and orders it.
    pub counter: u32,
    /// The shard that took it over.
    pub shard: u16,
}

/// Where a message entered the broker, and how many brokers it has passed: what a cluster or a bridge needs to end loops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The shard (or gateway) that took the message over.
    pub shard: u16,
    /// Brokers passed before this one.
    pub hops: u8,
}

/// What belongs to a publication beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The QoS it was published with.
    pub qos: QoS,
    /// The RETAIN flag it was published with.
    pub retain: bool,
    /// When its Message Expiry Interval has passed, [`Moment::NEVER`] without one.
    pub expires_at: Moment,
    /// The keyed hash of its topic, made once where it entered.
    pub topic_hash: u64,
    /// Orders retained publications.
    pub stamp: Stamp,
    /// Where it entered.
    pub origin: Origin,
}

impl Envelope {
    /// Of a publication with this QoS and nothing else.
    #[must_use]
    pub fn of(qos: QoS) -> Self {
        let (stamp, origin) = (Stamp::default(), Origin::default());
        Self { qos, retain: false, expires_at: Moment::NEVER, topic_hash: 0, stamp, origin }
    }

    /// Whether the message has expired at `now`.
    #[must_use]
    pub fn has_expired(&self, now: Moment) -> bool {
        self.expires_at <= now
    }

    /// The Message Expiry Interval to send on, in seconds: what was published less the time waited, rounded up so
    /// that a message in time is never sent with 0. `None` when the message has no expiry.
    #[must_use]
    pub fn message_expiry_interval(&self, now: Moment) -> Option<u32> {
        if self.expires_at == Moment::NEVER {
            return None;
        }
        // [v5 MQTT-3.3.2-6]
        let left = self.expires_at.since(now) + Duration::from_micros(999_999);
        Some(u32::try_from(left.as_secs()).unwrap_or(u32::MAX))
    }
}

/// A message that the broker has taken over.
#[derive(Clone, Debug)]
pub struct ApplicationMessage {
    /// From the topic on.
    bytes: Bytes,
    topic_bytes: u16,
    /// Bytes behind the topic that belong to no part.
    gap_bytes: u16,
    properties_bytes: u32,
    /// What travels with the bytes.
    pub envelope: Envelope,
}

impl ApplicationMessage {
    /// Copies the parts of a publication into one shared allocation. `properties` are those that a server passes on
    /// unchanged, in wire form without their length.
    #[must_use]
    pub fn new(topic: &str, properties: &[u8], payload: &[u8], envelope: Envelope) -> Self {
        let mut bytes = BytesMut::with_capacity(topic.len() + properties.len() + payload.len());
        bytes.extend_from_slice(topic.as_bytes());
        bytes.extend_from_slice(properties);
        bytes.extend_from_slice(payload);
        Self {
            bytes: bytes.freeze(),
            topic_bytes: topic.len() as u16,
            gap_bytes: 0,
            properties_bytes: properties.len() as u32,
            envelope,
        }
    }

    /// Shares `packet`, in which the parts of a publication lie, instead of copying them. `None` where they do not lie in
    /// it as a message needs them: the topic, then the properties right before the payload, then nothing more.
    #[must_use]
    pub fn within(packet: &Bytes, topic: &str, properties: &[u8], payload: &[u8], envelope: Envelope) -> Option<Self> {
        let (start, topic_end) = place_in(packet, topic.as_bytes())?;
        let (payload_start, end) = place_in(packet, payload)?;
        let properties_start = payload_start.checked_sub(properties.len())?;
        let gap = properties_start.checked_sub(topic_end)?;
        // What is passed on may be a part of what came, or have changed its place.
        if end != packet.len() || packet.get(properties_start..payload_start) != Some(properties) {
            return None;
        }
        Some(Self {
            topic_bytes: u16::try_from(topic.len()).ok()?,
            gap_bytes: u16::try_from(gap).ok()?,
            properties_bytes: u32::try_from(properties.len()).ok()?,
            bytes: packet.slice(start..),
            envelope,
        })
    }

    /// The TopicName.
    #[must_use]
    pub fn topic(&self) -> &str {
        let topic = self.topic_bytes();
        debug_assert!(std::str::from_utf8(topic).is_ok());
        std::str::from_utf8(topic).unwrap_or_default()
    }

    /// The bytes of the TopicName.
    #[must_use]
    pub fn topic_bytes(&self) -> &[u8] {
        self.bytes.get(..self.topic_bytes as usize).unwrap_or_default()
    }

    /// The properties that are passed on unchanged, in wire form without their length.
    #[must_use]
    pub fn properties(&self) -> &[u8] {
        let start = self.properties_start();
        self.bytes.get(start..start + self.properties_bytes as usize).unwrap_or_default()
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(self.payload_start()..).unwrap_or_default()
    }

    /// The payload, sharing the allocation.
    #[must_use]
    pub fn payload_shared(&self) -> Bytes {
        self.bytes.slice(self.payload_start()..)
    }

    /// Bytes that whoever holds the message is charged for.
    #[must_use]
    pub fn charged_bytes(&self) -> usize {
        Self::charged_for(self.bytes.len())
    }

    /// The bytes that a message is charged with whose topic, properties and payload take `bytes`.
    #[must_use]
    pub fn charged_for(bytes: usize) -> usize {
        bytes.saturating_add(CHARGED_OVERHEAD_BYTES)
    }

    fn properties_start(&self) -> usize {
        usize::from(self.topic_bytes) + usize::from(self.gap_bytes)
    }

    fn payload_start(&self) -> usize {
        self.properties_start() + self.properties_bytes as usize
    }
}

/// Where `part` begins and ends in `whole`, if it is a part of it.
fn place_in(whole: &[u8], part: &[u8]) -> Option<(usize, usize)> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some((start, end))
}

/// What holding a message costs beside its bytes: the message itself and two reference counts, rounded up.
pub const CHARGED_OVERHEAD_BYTES: usize = 128;

/// A publication on its way through one shard: borrowed from the receive buffer or from a message, made into a shared
/// message only when something has to keep it. A QoS 0 message that only passes through allocates nothing.
#[derive(Debug)]
pub struct Publication<'a> {
    /// The TopicName.
    pub topic: &'a str,
    /// The properties that are passed on unchanged, in wire form without their length.
    pub properties: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// What travels with the bytes.
    pub envelope: Envelope,
    /// The memory that all of it lies in, when that can be shared.
    packet: Option<&'a Bytes>,
    shared: OnceCell<Rc<ApplicationMessage>>,
}

impl<'a> Publication<'a> {
    /// A publication that nobody keeps yet.
    #[must_use]
    pub fn new(topic: &'a str, properties: &'a [u8], payload: &'a [u8], envelope: Envelope) -> Self {
        Self { topic, properties, payload, envelope, packet: None, shared: OnceCell::new() }
    }

    /// The same, which came in `packet`: whoever keeps the publication shares that.
    #[must_use]
    pub fn in_packet(self, packet: Option<&'a Bytes>) -> Self {
        Self { packet, ..self }
    }

    /// A publication of a message that is shared already.
    #[must_use]
    pub fn of(message: &'a Rc<ApplicationMessage>) -> Self {
        Self {
            topic: message.topic(),
            properties: message.properties(),
            payload: message.payload(),
            envelope: message.envelope,
            packet: None,
            shared: OnceCell::from(Rc::clone(message)),
        }
    }

    /// The shared message, made at the first call.
    pub fn share(&self) -> &Rc<ApplicationMessage> {
        let Self { topic, properties, payload, envelope, packet, shared } = self;
        shared.get_or_init(|| {
            let within =
                packet.and_then(|packet| ApplicationMessage::within(packet, topic, properties, payload, *envelope));
            Rc::new(within.unwrap_or_else(|| ApplicationMessage::new(topic, properties, payload, *envelope)))
        })
    }
}

/// The Subscription Identifiers that a delivery carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SubscriptionIdentifiers {
    /// None: no matching subscription has one, or the client speaks an older version.
    #[default]
    None,
    /// The usual case.
    One(NonZeroU32),
    /// Overlapping subscriptions, each with its own.
    Many(Box<[u32]>),
}

impl SubscriptionIdentifiers {
    /// Calls `read` with the identifiers as a slice.
    pub fn with<R>(&self, read: impl FnOnce(&[u32]) -> R) -> R {
        match self {
            Self::None => read(&[]),
            Self::One(identifier) => read(&[identifier.get()]),
            Self::Many(identifiers) => read(identifiers),
        }
    }

    /// The identifiers of `identifiers`, where 0 stands for none.
    #[must_use]
    pub fn of(identifiers: &[u32]) -> Self {
        let mut known = identifiers.iter().copied().filter_map(NonZeroU32::new);
        match (known.next(), known.next()) {
            (None, _) => Self::None,
            (Some(only), None) => Self::One(only),
            (Some(_), Some(_)) => {
                Self::Many(identifiers.iter().copied().filter(|&identifier| identifier != 0).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope::of(QoS::AtLeastOnce)
    }

    #[test]
    fn a_message_keeps_its_parts_apart() {
        let message = ApplicationMessage::new("a/b", &[1, 1], b"payload", envelope());
        assert_eq!((message.topic(), message.properties(), message.payload()), ("a/b", &[1, 1][..], &b"payload"[..]));
        assert_eq!(message.payload_shared(), &b"payload"[..]);
    }

    #[test]
    fn a_message_shares_the_packet_that_it_came_in() {
        let packet = Bytes::from_static(b"..a/b--ppPAYLOAD");
        let part = |from: usize, to: usize| &packet[from..to];
        let topic = std::str::from_utf8(part(2, 5)).unwrap();
        for properties in [part(7, 9), b"", b"pp"] {
            let message = ApplicationMessage::within(&packet, topic, properties, part(9, 16), envelope()).unwrap();
            assert_eq!((message.topic(), message.properties()), ("a/b", properties));
            assert_eq!(message.payload().as_ptr_range(), part(9, 16).as_ptr_range());
        }
        let none = |topic: &str, properties: &[u8], payload: &[u8]| {
            ApplicationMessage::within(&packet, topic, properties, payload, envelope()).is_none()
        };
        assert!(none("a/b", b"pp", part(9, 16)), "a topic that an alias stands for");
        assert!(none(topic, b"qq", part(9, 16)), "properties that changed");
        assert!(none(topic, part(4, 9), part(9, 16)), "properties that begin within the topic");
        assert!(none(topic, b"pp", part(9, 15)), "a payload with something behind it");
        assert!(none(topic, b"pp", b"PAYLOAD"), "a payload that lies elsewhere");
    }

    #[test]
    fn expiry_is_sent_on_less_the_time_waited_and_never_as_zero() {
        let mut envelope = envelope();
        assert_eq!(envelope.message_expiry_interval(Moment::from_micros(5)), None);
        envelope.expires_at = Moment::from_micros(10_000_000);
        assert_eq!(envelope.message_expiry_interval(Moment::from_micros(0)), Some(10));
        assert_eq!(envelope.message_expiry_interval(Moment::from_micros(3_000_001)), Some(7));
        assert_eq!(envelope.message_expiry_interval(Moment::from_micros(9_999_999)), Some(1));
        assert!(envelope.has_expired(Moment::from_micros(10_000_000)));
        assert!(!envelope.has_expired(Moment::from_micros(9_999_999)));
    }

    #[test]
    fn a_publication_is_shared_once() {
        let publication = Publication::new("t", &[], b"p", envelope());
        let first = Rc::clone(publication.share());
        assert!(Rc::ptr_eq(&first, publication.share()));
        assert!(Rc::ptr_eq(&first, Publication::of(&first).share()));
    }

    #[test]
    fn subscription_identifiers_leave_out_absent_ones() {
        assert_eq!(SubscriptionIdentifiers::of(&[0, 0]), SubscriptionIdentifiers::None);
        assert_eq!(SubscriptionIdentifiers::of(&[0, 7]), SubscriptionIdentifiers::One(NonZeroU32::new(7).unwrap()));
        assert_eq!(SubscriptionIdentifiers::of(&[3, 0, 7]), SubscriptionIdentifiers::Many(Box::new([3, 7])));
    }
}
