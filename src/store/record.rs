//! Keys and values as bytes.
//!
//! Owns: the format of every record, version [`FORMAT_VERSION`]. Numbers in keys are big-endian, so records lie in order;
//! numbers in values are little-endian, lengths are LEB128.
//! Always: what is written is read back the same; what cannot be read is `None`, never a guess.

use std::num::NonZeroU32;

use super::{ReceivedRecord, SessionRecord, StoreError, SubscriptionRecord};
use crate::{
    message::{ApplicationMessage, Envelope, Stamp},
    mqtt::QoS,
    session::{ReserveRecord, Will},
    time::Moment,
};

/// The version of the format that this program writes.
pub const FORMAT_VERSION: u32 = 4;

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
    /// How far a session is through its queue.
    pub const HEAD: u8 = b'h';
    /// The places of its queue that are reserved.
    pub const RESERVE: u8 = b'p';
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

/// The key of a chunk.
pub fn chunk_key(chunk: u64) -> [u8; 8] {
    chunk.to_be_bytes()
}

/// How far a session is through its queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Everything before this place is done with.
    pub floor: u64,
    /// And what is in these ranges: the first place, and the first one behind them. In order, with something between them.
    pub gone: Vec<(u64, u64)>,
    /// QoS 2 messages that have arrived: only their PUBREL is still to be answered. In order.
    pub released: Vec<u64>,
}

impl Head {
    /// Whether the message at a place is done with, or has arrived.
    pub fn is_done(&self, sequence: u64) -> bool {
        sequence < self.floor || is_in(&self.gone, sequence)
    }
}

/// Whether a number is in one of the ranges, which are in order.
pub fn is_in(ranges: &[(u64, u64)], number: u64) -> bool {
    let behind = ranges.partition_point(|&(from, _)| from <= number);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|&(_, below)| number < below)
}

/// How far a session is.
pub fn write_head(head: &Head) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + 4 * (head.gone.len() + head.released.len()));
    write_length(&mut out, head.floor);
    write_length(&mut out, head.gone.len() as u64);
    write_ranges(&mut out, &head.gone);
    let mut last = 0;
    for &sequence in &head.released {
        write_length(&mut out, sequence.wrapping_sub(last));
        last = sequence;
    }
    out
}

/// See [`write_head`].
pub fn read_head(value: &[u8]) -> Option<Head> {
    let mut reader = Reader(value);
    let floor = reader.length()?;
    let count = reader.length()?.min(value.len() as u64);
    let mut head = Head { floor, ..Head::default() };
    for _ in 0..count {
        let last = head.gone.last().map_or(0, |&(_, below)| below);
        head.gone.push(reader.range(last)?);
    }
    let mut last = 0_u64;
    while !reader.0.is_empty() {
        let step = reader.length()?;
        if step == 0 && !head.released.is_empty() {
            return None;
        }
        last = last.checked_add(step)?;
        head.released.push(last);
    }
    Some(head)
}

/// The places that are reserved.
pub fn write_reserve(record: &ReserveRecord) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + 8 * record.held.len());
    write_length(&mut out, record.floor);
    write_length(&mut out, record.below);
    write_ranges(&mut out, &record.held);
    out
}

/// See [`write_reserve`].
pub fn read_reserve(value: &[u8]) -> Option<ReserveRecord> {
    let mut reader = Reader(value);
    let mut record = ReserveRecord { floor: reader.length()?, below: reader.length()?, held: Vec::new() };
    while !reader.0.is_empty() {
        let last = record.held.last().map_or(0, |&(_, below)| below);
        record.held.push(reader.range(last)?);
    }
    Some(record)
}

/// Ranges of places, in order.
fn write_ranges(out: &mut Vec<u8>, ranges: &[(u64, u64)]) {
    let mut last = 0;
    for &(from, below) in ranges {
        write_length(out, from.wrapping_sub(last));
        write_length(out, below.wrapping_sub(from));
        last = below;
    }
}

const MESSAGE_RETAIN: u8 = 4;
const MESSAGE_EXPIRES: u8 = 8;
const MESSAGE_STAMP: u8 = 16;

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

/// A QoS 2 identifier that was received.
pub fn write_received(record: ReceivedRecord) -> Vec<u8> {
    let mut out = vec![u8::from(record.is_doubted)];
    out.extend_from_slice(&record.fingerprint.to_le_bytes());
    out
}

/// See [`write_received`]. `identifier`: from the end of its key.
pub fn read_received(identifier: &[u8], value: &[u8]) -> Option<ReceivedRecord> {
    let identifier = u16::from_be_bytes(identifier.try_into().ok()?);
    let mut reader = Reader(value);
    let is_doubted = match reader.byte()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let fingerprint = reader.u64()?;
    reader.end()?;
    Some(ReceivedRecord { identifier, fingerprint, is_doubted })
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

/// A number in as few bytes as it needs.
pub fn write_length(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads what was written.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub fn length(&mut self) -> Option<u64> {
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

    /// A range that comes behind `last`, and is not empty.
    fn range(&mut self, last: u64) -> Option<(u64, u64)> {
        let from = last.checked_add(self.length()?)?;
        let below = from.checked_add(self.length()?).filter(|&below| below > from)?;
        Some((from, below))
    }

    pub fn u32_length(&mut self) -> Option<u32> {
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
            retain: flags & MESSAGE_RETAIN != 0,
            expires_at,
            stamp,
            ..Envelope::of(QoS::from_bits(flags & 3)?)
        };
        Some(ApplicationMessage::new(topic, properties, payload, envelope))
    }

    pub fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(topic: &str, payload: &[u8], expires_at: u64, stamp: u64) -> ApplicationMessage {
        let envelope = Envelope {
            retain: stamp != 0,
            expires_at: Moment::from_micros(expires_at),
            stamp: Stamp { micros: stamp, counter: stamp as u32, shard: 3 },
            ..Envelope::of(QoS::ExactlyOnce)
        };
        ApplicationMessage::new(topic, &[38, 0, 1, b'k', 0, 1, b'v'], payload, envelope)
    }

    proptest! {
        #[test]
        fn messages_are_read_back_as_written(
            topic in "[a-z/]{1,40}", payload in prop::collection::vec(any::<u8>(), 0..300), expires_at: u64, stamp: u64,
        ) {
            let message = message(&topic, &payload, expires_at, stamp);
            let mut value = Vec::new();
            write_message(&mut value, &message);
            let read = read_message(&value).unwrap();
            prop_assert_eq!((read.topic(), read.payload()), (message.topic(), message.payload()));
            prop_assert_eq!((read.properties(), read.envelope), (message.properties(), message.envelope));
            prop_assert!((0..value.len()).all(|len| read_message(&value[..len]).is_none()));
        }

        #[test]
        fn heads_and_reserves_are_read_back_as_written(
            floor: u64, steps in prop::collection::vec((1u64..1 << 40, 1u64..1 << 40), 0..6),
            released in prop::collection::btree_set(any::<u64>(), 0..6),
        ) {
            let mut last = 0;
            let gone: Vec<(u64, u64)> = steps.into_iter().map(|(gap, len)| {
                let from = last + gap;
                last = from + len;
                (from, last)
            }).collect();
            for &(from, below) in &gone {
                prop_assert!(is_in(&gone, from) && is_in(&gone, below - 1) && !is_in(&gone, below) && !is_in(&gone, from - 1));
            }
            let reserve = ReserveRecord { floor, below: floor / 2, held: gone.clone() };
            prop_assert_eq!(read_reserve(&write_reserve(&reserve)), Some(reserve));
            let head = Head { floor, gone, released: released.into_iter().collect() };
            prop_assert_eq!(read_head(&write_head(&head)), Some(head));
        }

        #[test]
        fn damaged_records_are_no_records_and_no_panics(value in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = (read_message(&value), read_session(&value), read_head(&value), read_reserve(&value));
            let _ = (read_will(&value), read_subscription(&value), read_number(&value), read_received(&[0, 1], &value));
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

    #[test]
    fn received_identifiers_are_read_back_as_written_and_nothing_else_is() {
        for is_doubted in [false, true] {
            let record = ReceivedRecord { identifier: 0x0102, fingerprint: 1 << 63 | 7, is_doubted };
            let value = write_received(record);
            assert_eq!(read_received(&[1, 2], &value), Some(record));
            assert!((0..value.len()).all(|len| read_received(&[1, 2], &value[..len]).is_none()));
            assert_eq!(read_received(&[1, 2], &[&value[..], &[0]].concat()), None);
            assert_eq!(read_received(&[1], &value), None);
            assert_eq!(read_received(&[1, 2], &[&[2], &value[1..]].concat()), None);
        }
    }
}
