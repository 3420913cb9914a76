//! A retained message as its store keeps it.
//!
//! Owns: the packed form, one allocation for the topic, the properties, the payload and the numbers that belong to them,
//! which takes half of what an [`ApplicationMessage`] does.
//! Always: what comes out is what went in, but for the hash of the topic: nobody routes the message again.
//! Never: a packed payload that a subscriber could be sent without a copy. That one stays a shared message.

use std::rc::Rc;

use crate::{
    message::{ApplicationMessage, CHARGED_OVERHEAD_BYTES, Envelope, Origin, Publication, Stamp},
    mqtt::QoS,
    time::Moment,
    transport::SHARED_BYTES_MIN,
};

/// A message that waits for those who subscribe later.
#[derive(Clone, Debug)]
pub struct RetainedMessage(Form);

#[derive(Clone, Debug)]
enum Form {
    /// A head, then the topic, the properties, the payload, and when it expires if it does.
    Packed(Box<[u8]>),
    /// One with a large payload.
    Shared(Box<ApplicationMessage>),
}

/// What stands before the topic of a packed message. Numbers are in little-endian order.
#[derive(Clone, Copy, Debug)]
struct Head {
    stamp: Stamp,
    origin: Origin,
    bits: u8,
    topic_bytes: u16,
    properties_bytes: u16,
}

impl RetainedMessage {
    /// Takes over a publication, with a stamp that need not be its own.
    #[must_use]
    pub fn new(publication: &Publication<'_>, stamp: Stamp) -> Self {
        let Publication { topic, properties, payload, envelope, .. } = publication;
        if let (Ok(topic_bytes), Ok(properties_bytes), true) =
            (u16::try_from(topic.len()), u16::try_from(properties.len()), payload.len() < SHARED_BYTES_MIN)
        {
            let expires = envelope.expires_at != Moment::NEVER;
            let bits = envelope.qos.value() | u8::from(envelope.retain) << 2 | u8::from(expires) << 3;
            let head = Head { stamp, origin: envelope.origin, bits, topic_bytes, properties_bytes };
            let expiry = envelope.expires_at.micros().to_le_bytes();
            let expiry = if expires { &expiry[..] } else { &[] };
            return Self(Form::Packed(
                [&head.encode()[..], topic.as_bytes(), properties, payload, expiry].concat().into(),
            ));
        }
        let mut message = ApplicationMessage::clone(publication.share());
        message.envelope.stamp = stamp;
        Self(Form::Shared(Box::new(message)))
    }

    /// What orders it among those to its topic.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        match &self.0 {
            Form::Packed(bytes) => Head::split(bytes).0.stamp,
            Form::Shared(message) => message.envelope.stamp,
        }
    }

    /// The bytes of the TopicName.
    #[inline]
    #[must_use]
    pub fn topic_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Packed(bytes) => {
                let len = bytes.get(TOPIC_BYTES_AT..HEAD_BYTES).and_then(|len| len.first_chunk().copied());
                let end = HEAD_BYTES + usize::from(len.map_or(0, u16::from_le_bytes));
                bytes.get(HEAD_BYTES..end).unwrap_or_default()
            }
            Form::Shared(message) => message.topic_bytes(),
        }
    }

    /// The TopicName.
    #[must_use]
    pub fn topic(&self) -> &str {
        text(self.topic_bytes())
    }

    /// When it expires, [`Moment::NEVER`] when it does not.
    #[must_use]
    pub fn expires_at(&self) -> Moment {
        match &self.0 {
            Form::Packed(bytes) => Head::split(bytes).0.cut_expiry(bytes).1,
            Form::Shared(message) => message.envelope.expires_at,
        }
    }

    /// Bytes that whoever holds the message is charged for: as many as for an [`ApplicationMessage`].
    #[must_use]
    pub fn charged_bytes(&self) -> usize {
        match &self.0 {
            Form::Packed(bytes) => {
                let (head, rest) = Head::split(bytes);
                head.cut_expiry(rest).0.len() + CHARGED_OVERHEAD_BYTES
            }
            Form::Shared(message) => message.charged_bytes(),
        }
    }

    /// The message that it was, for whoever keeps it elsewhere.
    #[must_use]
    pub fn to_message(&self) -> ApplicationMessage {
        self.publish(|publication| ApplicationMessage::clone(publication.share()))
    }

    /// Calls `read` with the publication that it was.
    pub fn publish<R>(&self, read: impl FnOnce(&Publication<'_>) -> R) -> R {
        match &self.0 {
            Form::Packed(bytes) => {
                let (head, rest) = Head::split(bytes);
                let (rest, expires_at) = head.cut_expiry(rest);
                let (topic, rest) = rest.split_at_checked(head.topic_bytes.into()).unwrap_or_default();
                let (properties, payload) = rest.split_at_checked(head.properties_bytes.into()).unwrap_or_default();
                read(&Publication::new(text(topic), properties, payload, head.envelope(expires_at)))
            }
            Form::Shared(message) => read(&Publication::of(&Rc::new(ApplicationMessage::clone(message)))),
        }
    }
}

impl Head {
    fn encode(&self) -> [u8; HEAD_BYTES] {
        let [m0, m1, m2, m3, m4, m5, m6, m7] = self.stamp.micros.to_le_bytes();
        let [c0, c1, c2, c3] = self.stamp.counter.to_le_bytes();
        let [s0, s1] = self.stamp.shard.to_le_bytes();
        let [o0, o1] = self.origin.shard.to_le_bytes();
        let [p0, p1] = self.properties_bytes.to_le_bytes();
        let [t0, t1] = self.topic_bytes.to_le_bytes();
        let (hops, bits) = (self.origin.hops, self.bits);
        [m0, m1, m2, m3, m4, m5, m6, m7, c0, c1, c2, c3, s0, s1, o0, o1, hops, bits, p0, p1, t0, t1]
    }

    /// The head of a packed message, and what stands behind it.
    #[inline]
    fn split(bytes: &[u8]) -> (Self, &[u8]) {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().unwrap_or((&[0; HEAD_BYTES], &[]));
        let [m0, m1, m2, m3, m4, m5, m6, m7, c0, c1, c2, c3, s0, s1, o0, o1, hops, bits, p0, p1, t0, t1] = *head;
        let stamp = Stamp {
            micros: u64::from_le_bytes([m0, m1, m2, m3, m4, m5, m6, m7]),
            counter: u32::from_le_bytes([c0, c1, c2, c3]),
            shard: u16::from_le_bytes([s0, s1]),
        };
        let origin = Origin { shard: u16::from_le_bytes([o0, o1]), hops };
        let (topic_bytes, properties_bytes) = (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([p0, p1]));
        (Self { stamp, origin, bits, topic_bytes, properties_bytes }, rest)
    }

    /// `bytes` without the moment of expiry at their end, and that.
    fn cut_expiry(self, bytes: &[u8]) -> (&[u8], Moment) {
        match bytes.split_last_chunk() {
            Some((rest, micros)) if self.bits >> 3 & 1 == 1 => (rest, Moment::from_micros(u64::from_le_bytes(*micros))),
            _ => (bytes, Moment::NEVER),
        }
    }

    fn envelope(self, expires_at: Moment) -> Envelope {
        let Self { stamp, origin, bits, .. } = self;
        let qos = QoS::from_bits(bits & 3).unwrap_or_default();
        Envelope { qos, retain: bits >> 2 & 1 == 1, expires_at, topic_hash: 0, stamp, origin }
    }
}

fn text(topic: &[u8]) -> &str {
    debug_assert!(std::str::from_utf8(topic).is_ok());
    std::str::from_utf8(topic).unwrap_or_default()
}

/// Bytes of a [`Head`].
const HEAD_BYTES: usize = 22;
/// Where in it the length of the topic stands.
const TOPIC_BYTES_AT: usize = HEAD_BYTES - 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope(qos: QoS, expires_at: Moment) -> Envelope {
        let stamp = Stamp { micros: 1 << 50 | 7, counter: 3 << 20 | 5, shard: 0x1234 };
        Envelope { qos, retain: true, expires_at, topic_hash: 0, stamp, origin: Origin { shard: 0x4321, hops: 9 } }
    }

    proptest! {
        #[test]
        fn what_comes_out_is_what_went_in(
            topic in "[a-zé/]{1,40}",
            properties in prop::collection::vec(any::<u8>(), 0..20),
            payload in prop_oneof![
                prop::collection::vec(any::<u8>(), 1..200),
                Just(vec![7; SHARED_BYTES_MIN - 1]),
                Just(vec![7; SHARED_BYTES_MIN]),
            ],
            qos in prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]),
            expires_at in prop_oneof![Just(Moment::NEVER), (0_u64..1 << 60).prop_map(Moment::from_micros)],
        ) {
            let envelope = envelope(qos, expires_at);
            let publication = Publication::new(&topic, &properties, &payload, envelope);
            let message = RetainedMessage::new(&publication, envelope.stamp);
            prop_assert_eq!((message.topic(), message.topic_bytes()), (&*topic, topic.as_bytes()));
            prop_assert_eq!((message.stamp(), message.expires_at()), (envelope.stamp, expires_at));
            prop_assert_eq!(message.charged_bytes(), publication.share().charged_bytes());
            let is_same = message.clone().publish(|found| {
                (found.topic, found.properties, found.payload) == (&*topic, &*properties, &*payload)
                    && found.envelope == envelope
            });
            prop_assert!(is_same);
        }
    }

    #[test]
    fn the_stamp_may_be_another_one() {
        let stamp = Stamp { micros: 5, ..Stamp::default() };
        for payload in [&[1][..], &[1; SHARED_BYTES_MIN]] {
            let publication = Publication::new("a", &[], payload, envelope(QoS::AtMostOnce, Moment::NEVER));
            assert_eq!(RetainedMessage::new(&publication, stamp).stamp(), stamp);
        }
    }

    #[test]
    fn a_large_payload_is_not_copied() {
        let publication = Publication::new("a", &[], &[1; SHARED_BYTES_MIN], envelope(QoS::AtMostOnce, Moment::NEVER));
        let place = publication.share().payload().as_ptr();
        let message = RetainedMessage::new(&publication, publication.envelope.stamp);
        assert!(message.publish(|found| std::ptr::eq(found.share().payload().as_ptr(), place)));
    }

    #[test]
    fn two_words_name_a_message() {
        assert_eq!(size_of::<RetainedMessage>(), 16);
    }
}
