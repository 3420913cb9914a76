//! Keys and values as bytes.
//!
//! Owns: the format of every record, version [`FORMAT_VERSION`]. Numbers in keys are big-endian, so records lie in order;
//! numbers in values are little-endian, lengths are LEB128.
//! Always: what is written is read back the same; what cannot be read is `None`, never a guess.

use std::num::NonZeroU32;

use super::{Entry, SessionRecord, StoreError, SubscriptionRecord};
use crate::{
    message::{ApplicationMessage, Envelope, Origin, Stamp, SubscriptionIdentifiers},
    mqtt::QoS,
    session::Will,
    time::Moment,
};

/// The version of the format that this program writes.
pub const FORMAT_VERSION: u32 = 1;

/// The first byte of a key of the state.
pub mod tag {
    /// A session.
    pub const SESSION: u8 = b's';
    /// A subscription.
    pub const SUBSCRIPTION: u8 = b'f';
    /// A QoS 2 identifier received.
    pub const RECEIVED: u8 = b'i';
    /// A Will.
    pub const WILL: u8 = b'w';
    /// A retained message.
    pub const RETAINED: u8 = b'r';
    /// What concerns the store itself.
    pub const META: u8 = b'm';
}

/// The number of the last commit.
pub const COMMIT_KEY: &[u8] = b"m/commit";

/// The key of what belongs to a session as a whole.
pub fn session_key(tag: u8, session: u64) -> [u8; 9] {
    let mut key = [tag; 9];
    key[1..].copy_from_slice(&session.to_be_bytes());
    key
}

/// The key of a subscription.
pub fn subscription_key(session: u64, filter: &str) -> Vec<u8> {
    [&session_key(tag::SUBSCRIPTION, session), filter.as_bytes()].concat()
}

/// The key of a QoS 2 identifier.
pub fn received_key(session: u64, identifier: u16) -> Vec<u8> {
    [&session_key(tag::RECEIVED, session)[..], &identifier.to_be_bytes()].concat()
}

/// The key of a retained message.
pub fn retained_key(topic: &str) -> Vec<u8> {
    [&[tag::RETAINED], topic.as_bytes()].concat()
}

/// The key of an entry of a queue.
pub fn queue_key(session: u64, sequence: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&session.to_be_bytes());
    key[8..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// The session and the place that the key of an entry of a queue names.
pub fn queue_place(key: &[u8]) -> Option<(u64, u64)> {
    let (session, sequence) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*session), u64::from_be_bytes(sequence.try_into().ok()?)))
}

/// The key of a shared body.
pub fn body_key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// An entry of a queue as it is read.
#[derive(Debug)]
pub struct QueueValue {
    /// The number of its message.
    pub number: u64,
    /// Delivered with this QoS.
    pub qos: QoS,
    /// Delivered with this RETAIN flag.
    pub retain: bool,
    /// Delivered with these Subscription Identifiers.
    pub identifiers: SubscriptionIdentifiers,
    /// What is delivered.
    pub body: Body,
}

/// Where the message of an entry is.
#[derive(Debug)]
pub enum Body {
    /// Here.
    Inline(ApplicationMessage),
    /// Among the shared bodies.
    Shared,
    /// Not needed any more: the QoS 2 message has arrived.
    Released,
}

const ENTRY_RETAIN: u8 = 4;
const ENTRY_RELEASED: u8 = 8;
const ENTRY_INLINE: u8 = 16;
const ENTRY_IDENTIFIERS: u8 = 32;
const MESSAGE_RETAIN: u8 = 4;
const MESSAGE_EXPIRES: u8 = 8;
const MESSAGE_STAMP: u8 = 16;

/// An entry of a queue; its message inline, when nobody shares it.
pub fn write_entry(entry: &Entry, number: u64, inline: Option<&ApplicationMessage>) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + inline.map_or(0, |message| message.charged_bytes()));
    let has_identifiers = entry.identifiers != SubscriptionIdentifiers::None;
    out.push(
        entry.qos.value()
            | if entry.retain { ENTRY_RETAIN } else { 0 }
            | if inline.is_some() { ENTRY_INLINE } else { 0 }
            | if has_identifiers { ENTRY_IDENTIFIERS } else { 0 },
    );
    out.extend_from_slice(&number.to_le_bytes());
    if has_identifiers {
        entry.identifiers.with(|identifiers| {
            write_length(&mut out, identifiers.len() as u64);
            identifiers.iter().for_each(|&identifier| write_length(&mut out, identifier.into()));
        });
    }
    if let Some(message) = inline {
        write_message(&mut out, message);
    }
    out
}

/// An entry whose QoS 2 message has arrived.
pub fn write_released(number: u64) -> Vec<u8> {
    let mut out = vec![QoS::ExactlyOnce.value() | ENTRY_RELEASED];
    out.extend_from_slice(&number.to_le_bytes());
    out
}

/// See [`write_entry`].
pub fn read_entry(value: &[u8]) -> Option<QueueValue> {
    let mut reader = Reader(value);
    let flags = reader.byte()?;
    let number = reader.u64()?;
    let identifiers = if flags & ENTRY_IDENTIFIERS != 0 {
        let count = reader.length()?;
        let all: Option<Vec<u32>> = (0..count.min(value.len() as u64)).map(|_| reader.u32_length()).collect();
        SubscriptionIdentifiers::of(&all?)
    } else {
        SubscriptionIdentifiers::None
    };
    let body = match flags & (ENTRY_INLINE | ENTRY_RELEASED) {
        ENTRY_INLINE => Body::Inline(reader.message()?),
        ENTRY_RELEASED => Body::Released,
        0 => Body::Shared,
        _ => return None,
    };
    reader.end()?;
    Some(QueueValue { number, qos: QoS::from_bits(flags & 3)?, retain: flags & ENTRY_RETAIN != 0, identifiers, body })
}

/// What has to be known of an entry of a queue to count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryGist {
    /// The number of its message.
    pub number: u64,
    /// Where that is.
    pub body: GistBody,
}

/// As [`Body`], with the bytes that the message is charged with instead of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GistBody {
    /// Here.
    Inline(u64),
    /// Among the shared bodies.
    Shared,
    /// Not needed any more.
    Released,
}

/// As [`read_entry`], with no memory for the message.
pub fn read_entry_gist(value: &[u8]) -> Option<EntryGist> {
    let mut reader = Reader(value);
    let flags = reader.byte()?;
    QoS::from_bits(flags & 3)?;
    let number = reader.u64()?;
    if flags & ENTRY_IDENTIFIERS != 0 {
        let count = reader.length()?;
        for _ in 0..count {
            reader.u32_length()?;
        }
    }
    let body = match flags & (ENTRY_INLINE | ENTRY_RELEASED) {
        ENTRY_INLINE => GistBody::Inline(reader.message_bytes()?),
        ENTRY_RELEASED => GistBody::Released,
        0 => GistBody::Shared,
        _ => return None,
    };
    reader.end()?;
    Some(EntryGist { number, body })
}

/// Bytes that a message is charged with.
pub fn read_message_bytes(value: &[u8]) -> Option<u64> {
    let mut reader = Reader(value);
    let bytes = reader.message_bytes()?;
    reader.end()?;
    Some(bytes)
}

/// A message.
pub fn write_message(out: &mut Vec<u8>, message: &ApplicationMessage) {
    let Envelope { qos, retain, expires_at, stamp, .. } = message.envelope;
    let (expires, stamped) = (expires_at != Moment::NEVER, stamp != Stamp::default());
    out.push(
        qos.value()
            | if retain { MESSAGE_RETAIN } else { 0 }
            | if expires { MESSAGE_EXPIRES } else { 0 }
            | if stamped { MESSAGE_STAMP } else { 0 },
    );
    if expires {
        out.extend_from_slice(&expires_at.micros().to_le_bytes());
    }
    if stamped {
        out.extend_from_slice(&stamp.micros.to_le_bytes());
        out.extend_from_slice(&stamp.counter.to_le_bytes());
        out.extend_from_slice(&stamp.shard.to_le_bytes());
    }
    write_length(out, message.topic_bytes().len() as u64);
    write_length(out, message.properties().len() as u64);
    write_length(out, message.payload().len() as u64);
    out.extend_from_slice(message.topic_bytes());
    out.extend_from_slice(message.properties());
    out.extend_from_slice(message.payload());
}

/// See [`write_message`].
pub fn read_message(value: &[u8]) -> Option<ApplicationMessage> {
    let mut reader = Reader(value);
    let message = reader.message()?;
    reader.end()?;
    Some(message)
}

/// A session.
pub fn write_session(record: &SessionRecord) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + record.client_id.len());
    out.extend_from_slice(&record.expiry_interval_s.to_le_bytes());
    out.extend_from_slice(&record.offline_since_us.unwrap_or(u64::MAX).to_le_bytes());
    out.extend_from_slice(&record.sent_below.to_le_bytes());
    out.extend_from_slice(record.client_id.as_bytes());
    out
}

/// See [`write_session`].
pub fn read_session(value: &[u8]) -> Option<SessionRecord> {
    let mut reader = Reader(value);
    let expiry_interval_s = reader.u32()?;
    let offline_since_us = reader.u64()?;
    let sent_below = reader.u64()?;
    let client_id = std::str::from_utf8(reader.0).ok()?.into();
    let offline_since_us = (offline_since_us != u64::MAX).then_some(offline_since_us);
    Some(SessionRecord { client_id, expiry_interval_s, offline_since_us, sent_below })
}

/// A subscription.
pub fn write_subscription(record: SubscriptionRecord) -> Vec<u8> {
    let mut out = vec![record.options];
    out.extend_from_slice(&record.identifier.to_le_bytes());
    out
}

/// See [`write_subscription`].
pub fn read_subscription(value: &[u8]) -> Option<SubscriptionRecord> {
    let mut reader = Reader(value);
    let record = SubscriptionRecord { options: reader.byte()?, identifier: reader.u32()? };
    reader.end()?;
    Some(record)
}

/// A Will.
pub fn write_will(will: &Will) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + will.message.charged_bytes());
    out.extend_from_slice(&will.delay_s.to_le_bytes());
    out.push(u8::from(will.message_expiry_interval_s.is_some()));
    out.extend_from_slice(&will.message_expiry_interval_s.unwrap_or(0).to_le_bytes());
    write_message(&mut out, &will.message);
    out
}

/// See [`write_will`].
pub fn read_will(value: &[u8]) -> Option<Will> {
    let mut reader = Reader(value);
    let delay_s = reader.u32()?;
    let expires = reader.byte()? != 0;
    let expiry_s = reader.u32()?;
    let message = reader.message()?;
    reader.end()?;
    Some(Will { message, message_expiry_interval_s: expires.then_some(expiry_s), delay_s })
}

/// A number behind a key.
pub fn read_number(value: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(value.try_into().ok()?))
}

/// What to say of a record that cannot be read.
pub fn damaged(what: &str, key: &[u8]) -> StoreError {
    StoreError::Damaged(format!("{what} {}", key.escape_ascii()))
}

fn write_length(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn length(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn u32_length(&mut self) -> Option<u32> {
        NonZeroU32::new(u32::try_from(self.length()?).ok()?).map(NonZeroU32::get)
    }

    fn message(&mut self) -> Option<ApplicationMessage> {
        let flags = self.byte()?;
        let expires_at = if flags & MESSAGE_EXPIRES != 0 { Moment::from_micros(self.u64()?) } else { Moment::NEVER };
        let stamp = if flags & MESSAGE_STAMP != 0 {
            Stamp { micros: self.u64()?, counter: self.u32()?, shard: self.u16()? }
        } else {
            Stamp::default()
        };
        let [topic, properties, payload] = [self.length()?, self.length()?, self.length()?];
        let topic = std::str::from_utf8(self.take(usize::try_from(topic).ok()?)?).ok()?;
        let properties = self.take(usize::try_from(properties).ok()?)?;
        let payload = self.take(usize::try_from(payload).ok()?)?;
        let envelope = Envelope {
            qos: QoS::from_bits(flags & 3)?,
            retain: flags & MESSAGE_RETAIN != 0,
            expires_at,
            topic_hash: 0,
            stamp,
            origin: Origin::default(),
        };
        Some(ApplicationMessage::new(topic, properties, payload, envelope))
    }

    /// As [`Reader::message`], of which only the bytes that it is charged with are returned.
    fn message_bytes(&mut self) -> Option<u64> {
        let flags = self.byte()?;
        QoS::from_bits(flags & 3)?;
        self.take(if flags & MESSAGE_EXPIRES != 0 { 8 } else { 0 })?;
        self.take(if flags & MESSAGE_STAMP != 0 { 14 } else { 0 })?;
        let [topic, properties, payload] = [self.length()?, self.length()?, self.length()?];
        std::str::from_utf8(self.take(usize::try_from(topic).ok()?)?).ok()?;
        self.take(usize::try_from(properties).ok()?)?;
        self.take(usize::try_from(payload).ok()?)?;
        Some(ApplicationMessage::charged_for(usize::try_from(topic + properties + payload).ok()?) as u64)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(topic: &str, payload: &[u8], expires_at: u64, stamp: u64) -> ApplicationMessage {
        let envelope = Envelope {
            qos: QoS::ExactlyOnce,
            retain: stamp != 0,
            expires_at: Moment::from_micros(expires_at),
            topic_hash: 0,
            stamp: Stamp { micros: stamp, counter: stamp as u32, shard: 3 },
            origin: Origin::default(),
        };
        ApplicationMessage::new(topic, &[38, 0, 1, b'k', 0, 1, b'v'], payload, envelope)
    }

    proptest! {
        #[test]
        fn entries_are_read_back_as_written(
            topic in "[a-z/]{1,40}", payload in prop::collection::vec(any::<u8>(), 0..300), number: u64,
            identifiers in prop::collection::vec(1u32..268_435_455, 0..4), expires_at: u64, stamp: u64, inline: bool,
        ) {
            let message = message(&topic, &payload, expires_at, stamp);
            let identifiers = SubscriptionIdentifiers::of(&identifiers);
            let entry = Entry { session: 1, sequence: 2, qos: QoS::AtLeastOnce, retain: true, identifiers };
            let value = write_entry(&entry, number, inline.then_some(&message));
            let read = read_entry(&value).unwrap();
            prop_assert_eq!((read.number, read.qos, read.retain), (number, entry.qos, entry.retain));
            prop_assert_eq!(read.identifiers, entry.identifiers);
            match read.body {
                Body::Inline(read) => {
                    prop_assert!(inline);
                    prop_assert_eq!((read.topic(), read.payload()), (message.topic(), message.payload()));
                    prop_assert_eq!((read.properties(), read.envelope), (message.properties(), message.envelope));
                }
                body => prop_assert!(!inline && matches!(body, Body::Shared)),
            }
            let gist = read_entry_gist(&value).unwrap();
            let bytes = message.charged_bytes() as u64;
            prop_assert_eq!(gist.body, if inline { GistBody::Inline(bytes) } else { GistBody::Shared });
            prop_assert_eq!(gist.number, number);
            prop_assert!(value.iter().enumerate().all(|(len, _)| read_entry(&value[..len]).is_none() || !inline));
        }

        #[test]
        fn damaged_records_are_no_records_and_no_panics(value in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(read_entry(&value).is_some(), read_entry_gist(&value).is_some());
            prop_assert_eq!(read_message(&value).is_some(), read_message_bytes(&value).is_some());
            let _ = read_session(&value);
            let _ = (read_will(&value), read_subscription(&value), read_number(&value));
        }
    }

    #[test]
    fn sessions_wills_and_subscriptions_are_read_back_as_written() {
        for offline_since_us in [None, Some(7)] {
            let record = SessionRecord {
                client_id: "gerät".into(),
                expiry_interval_s: 9,
                offline_since_us,
                sent_below: 1 << 40,
            };
            assert_eq!(read_session(&write_session(&record)), Some(record));
        }
        let will = Will { message: message("w", b"gone", u64::MAX, 0), message_expiry_interval_s: Some(0), delay_s: 5 };
        let read = read_will(&write_will(&will)).unwrap();
        assert_eq!((read.delay_s, read.message_expiry_interval_s, read.message.topic()), (5, Some(0), "w"));
        let record = SubscriptionRecord { options: 13, identifier: 268_435_455 };
        assert_eq!(read_subscription(&write_subscription(record)), Some(record));
    }
}
