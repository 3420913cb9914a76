//! Queued messages as records: several messages, and who has them, in one.
//!
//! Owns: the format of a chunk. A record for each message, or for each session that a message is queued for, costs more than
//! the message does; one for what a commit brings costs little.
//! Always: what is written is read back the same; what cannot be read is `None`, never a guess.
//!
//! ```text
//! chunk     = content of each message … | index | bytes of the index: u32
//! index     = message …
//! message   = number | bytes of its content | bytes that it is charged with | how many references
//!             | reference … by session and sequence | bytes of the identifiers | identifiers …
//! reference = session: u64 | sequence: u64 | QoS and flags: u8
//! identifiers = how many | Subscription Identifier …          of each reference that has some
//! ```
//!
//! Lengths, counts and numbers without a size are LEB128. References have one size, so that one of ten thousand is found
//! without reading the others.

use super::{
    Entry,
    record::{self, Reader, write_length},
};
use crate::{
    message::{ApplicationMessage, SubscriptionIdentifiers},
    mqtt::QoS,
};

/// Gathers a chunk.
#[derive(Debug, Default)]
pub struct ChunkWriter {
    value: Vec<u8>,
    index: Vec<u8>,
    identifiers: Vec<u8>,
}

impl ChunkWriter {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Adds a message with those who have it, in order of session and sequence.
    pub fn push<'a>(
        &mut self,
        number: u64,
        message: &ApplicationMessage,
        entries: impl ExactSizeIterator<Item = &'a Entry>,
    ) {
        let start = self.value.len();
        record::write_message(&mut self.value, message);
        self.begin(number, self.value.len() - start, message.charged_bytes() as u64, entries.len());
        for entry in entries {
            let reference = Reference {
                session: entry.session,
                sequence: entry.sequence,
                qos: entry.qos,
                retain: entry.retain,
                has_identifiers: entry.identifiers != SubscriptionIdentifiers::None,
            };
            self.reference(reference, &entry.identifiers);
        }
        self.end();
    }

    /// Adds what is left of a message of another chunk: those who are wanted. Returns how many those are, `None` when the
    /// message cannot be read.
    pub fn keep(&mut self, message: &ChunkMessage<'_>, is_wanted: impl Fn(&Reference) -> bool) -> Option<u32> {
        let wanted: Vec<(usize, Reference)> =
            message.references()?.enumerate().filter(|(_, reference)| is_wanted(reference)).collect();
        if wanted.is_empty() {
            return Some(0);
        }
        self.value.extend_from_slice(message.content);
        self.begin(message.number, message.content.len(), message.charged_bytes, wanted.len());
        for &(at, reference) in &wanted {
            self.reference(reference, &message.identifiers_at(at, reference)?);
        }
        self.end();
        Some(wanted.len() as u32)
    }

    fn begin(&mut self, number: u64, content: usize, charged: u64, references: usize) {
        self.identifiers.clear();
        write_length(&mut self.index, number);
        write_length(&mut self.index, content as u64);
        write_length(&mut self.index, charged);
        write_length(&mut self.index, references as u64);
    }

    fn reference(&mut self, reference: Reference, identifiers: &SubscriptionIdentifiers) {
        let Reference { session, sequence, qos, retain, has_identifiers } = reference;
        self.index.extend_from_slice(&session.to_le_bytes());
        self.index.extend_from_slice(&sequence.to_le_bytes());
        let flags = if retain { RETAIN } else { 0 } | if has_identifiers { IDENTIFIERS } else { 0 };
        self.index.push(qos.value() | flags);
        if has_identifiers {
            identifiers.with(|identifiers| {
                write_length(&mut self.identifiers, identifiers.len() as u64);
                identifiers.iter().for_each(|&identifier| write_length(&mut self.identifiers, identifier.into()));
            });
        }
    }

    fn end(&mut self) {
        write_length(&mut self.index, self.identifiers.len() as u64);
        self.index.extend_from_slice(&self.identifiers);
    }

    /// The record; the writer is empty again.
    pub fn finish(&mut self) -> Vec<u8> {
        let index = u32::try_from(self.index.len()).unwrap_or(u32::MAX);
        self.value.reserve_exact(self.index.len() + 4);
        self.value.extend_from_slice(&self.index);
        self.value.extend_from_slice(&index.to_le_bytes());
        self.index.clear();
        std::mem::take(&mut self.value)
    }
}

/// That a session has a message in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Whose.
    pub session: u64,
    /// Its place there.
    pub sequence: u64,
    /// Delivered with this QoS.
    pub qos: QoS,
    /// Delivered with this RETAIN flag.
    pub retain: bool,
    /// Delivered with Subscription Identifiers.
    pub has_identifiers: bool,
}

impl Reference {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (session, sequence, flags) = (reader.u64()?, reader.u64()?, reader.byte()?);
        let (retain, has_identifiers) = (flags & RETAIN != 0, flags & IDENTIFIERS != 0);
        Some(Self { session, sequence, qos: QoS::from_bits(flags & 3)?, retain, has_identifiers })
    }
}

/// A message as it lies in a chunk.
#[derive(Clone, Copy, Debug)]
pub struct ChunkMessage<'a> {
    /// Its number.
    pub number: u64,
    /// Bytes that it was charged with when it was queued: more than afterwards, when it lay in its packet.
    pub charged_bytes: u64,
    content: &'a [u8],
    references: &'a [u8],
    identifiers: &'a [u8],
}

impl<'a> ChunkMessage<'a> {
    /// Bytes that its content takes.
    pub fn content_bytes(&self) -> u64 {
        self.content.len() as u64
    }

    /// The message.
    pub fn message(&self) -> Option<ApplicationMessage> {
        record::read_message(self.content)
    }

    /// Who has it, in order of session and sequence.
    pub fn references(&self) -> Option<impl Iterator<Item = Reference> + 'a> {
        let (references, _) = self.references.as_chunks::<REFERENCE_BYTES>();
        // Flags that cannot be read make all of it unreadable, not one less.
        let is_good = references.iter().all(|bytes| Reference::read(bytes).is_some());
        is_good.then(|| references.iter().filter_map(|bytes| Reference::read(bytes)))
    }

    /// Where a session has it in its queue, with the place of each among the references.
    pub fn of_session(&self, session: u64) -> impl Iterator<Item = (usize, Option<Reference>)> + 'a {
        let (references, _) = self.references.as_chunks::<REFERENCE_BYTES>();
        let session_of = |bytes: &[u8; REFERENCE_BYTES]| {
            bytes.first_chunk().map_or(u64::MAX, |session| u64::from_le_bytes(*session))
        };
        let from = references.partition_point(|bytes| session_of(bytes) < session);
        let own =
            references.get(from..).unwrap_or_default().iter().take_while(move |bytes| session_of(bytes) == session);
        own.enumerate().map(move |(at, bytes)| (from + at, Reference::read(bytes)))
    }

    /// The Subscription Identifiers of the reference at place `at`.
    pub fn identifiers_at(&self, at: usize, reference: Reference) -> Option<SubscriptionIdentifiers> {
        if !reference.has_identifiers {
            return Some(SubscriptionIdentifiers::None);
        }
        let (references, _) = self.references.as_chunks::<REFERENCE_BYTES>();
        let before = references.get(..at)?.iter().filter(|bytes| bytes[REFERENCE_BYTES - 1] & IDENTIFIERS != 0).count();
        let mut reader = Reader(self.identifiers);
        for _ in 0..before {
            read_identifiers(&mut reader)?;
        }
        read_identifiers(&mut reader)
    }
}

fn read_identifiers(reader: &mut Reader<'_>) -> Option<SubscriptionIdentifiers> {
    let count = reader.length()?.min(reader.0.len() as u64);
    let identifiers: Option<Vec<u32>> = (0..count).map(|_| reader.u32_length()).collect();
    Some(SubscriptionIdentifiers::of(&identifiers?))
}

/// Calls `see` with every message of a chunk, in order; `None` when it cannot be read, or `see` says so.
pub fn for_each_message<'a>(value: &'a [u8], mut see: impl FnMut(ChunkMessage<'a>) -> Option<()>) -> Option<()> {
    let (rest, len) = value.split_last_chunk::<4>()?;
    let index_start = rest.len().checked_sub(u32::from_le_bytes(*len) as usize)?;
    let (content, index) = rest.split_at_checked(index_start)?;
    let (mut content, mut index) = (Reader(content), Reader(index));
    while !index.0.is_empty() {
        let number = index.length()?;
        let bytes = usize::try_from(index.length()?).ok()?;
        let charged_bytes = index.length()?;
        let references = usize::try_from(index.length()?).ok()?.checked_mul(REFERENCE_BYTES)?;
        let references = index.take(references)?;
        let identifiers = usize::try_from(index.length()?).ok()?;
        let identifiers = index.take(identifiers)?;
        see(ChunkMessage { number, charged_bytes, content: content.take(bytes)?, references, identifiers })?;
    }
    content.end()
}

/// Bytes that a reference takes.
pub const REFERENCE_BYTES: usize = 17;
const RETAIN: u8 = 4;
const IDENTIFIERS: u8 = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        message::{Envelope, Stamp},
        time::Moment,
    };

    fn message(payload: &[u8]) -> ApplicationMessage {
        let envelope = Envelope {
            retain: true,
            expires_at: Moment::from_micros(7),
            stamp: Stamp { micros: 1, counter: 2, shard: 3 },
            ..Envelope::of(QoS::ExactlyOnce)
        };
        ApplicationMessage::new("a/b", &[38, 0, 1, b'k', 0, 1, b'v'], payload, envelope)
    }

    #[test]
    fn a_message_that_lay_in_its_packet_is_read_back() {
        // A topic, two bytes of a PacketIdentifier, properties, a payload.
        let packet = bytes::Bytes::from_static(b"a/b\0\x07PROPpayload");
        let part = |at: std::ops::Range<usize>| &packet[at];
        let topic = std::str::from_utf8(part(0..3)).unwrap();
        let within = ApplicationMessage::within(&packet, topic, part(5..9), part(9..16), message(b"").envelope);
        let within = within.expect("its parts lie in the packet");
        let mut writer = ChunkWriter::default();
        let identifiers = SubscriptionIdentifiers::None;
        let entry = Entry { session: 1, sequence: 2, qos: QoS::AtLeastOnce, retain: false, identifiers };
        writer.push(9, &within, [entry.clone()].iter());
        let value = writer.finish();
        assert_eq!(plain(&read(&value, 1)), plain(&[(9, entry, b"payload".to_vec())]));
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let identifiers = prop::collection::vec(1u32..268_435_455, 0..3);
        let entry = (0u64..9, 0u64..9, 1u8..3, any::<bool>(), identifiers);
        prop::collection::btree_map((0u64..9, 0u64..9), entry, 1..9).prop_map(|entries| {
            let entry =
                |((session, sequence), (_, _, qos, retain, identifiers)): ((u64, u64), (_, _, u8, bool, Vec<u32>))| {
                    let identifiers = SubscriptionIdentifiers::of(&identifiers);
                    Entry { session, sequence, qos: QoS::from_bits(qos).unwrap(), retain, identifiers }
                };
            entries.into_iter().map(entry).collect()
        })
    }

    /// What a chunk says that `session` has.
    fn read(value: &[u8], session: u64) -> Vec<(u64, Entry, Vec<u8>)> {
        let mut read = Vec::new();
        for_each_message(value, |message| {
            for (at, reference) in message.of_session(session) {
                let reference = reference?;
                let identifiers = message.identifiers_at(at, reference)?;
                let Reference { session, sequence, qos, retain, .. } = reference;
                let entry = Entry { session, sequence, qos, retain, identifiers };
                read.push((message.number, entry, message.message()?.payload().to_vec()));
            }
            Some(())
        })
        .unwrap();
        read
    }

    fn plain(entries: &[(u64, Entry, Vec<u8>)]) -> Vec<String> {
        entries.iter().map(|entry| format!("{entry:?}")).collect()
    }

    proptest! {
        #[test]
        fn a_chunk_is_read_back_as_written_and_what_is_kept_of_it(
            messages in prop::collection::vec((entries(), prop::collection::vec(any::<u8>(), 0..40), any::<u64>()), 1..6),
            kept in prop::collection::vec(any::<bool>(), 9),
        ) {
            let mut writer = ChunkWriter::default();
            for (entries, payload, number) in &messages {
                writer.push(*number, &message(payload), entries.iter());
            }
            let value = writer.finish();
            prop_assert!(writer.is_empty());
            let mut keeper = ChunkWriter::default();
            let mut count = 0;
            for_each_message(&value, |message| {
                count += keeper.keep(&message, |reference| kept[reference.sequence as usize])?;
                Some(())
            }).unwrap();
            let less = keeper.finish();
            for session in 0..9 {
                let expected = |is_kept: &dyn Fn(&Entry) -> bool| -> Vec<(u64, Entry, Vec<u8>)> {
                    messages.iter().flat_map(|(entries, payload, number)| {
                        let own = entries.iter().filter(|entry| entry.session == session && is_kept(entry));
                        own.map(|entry| (*number, entry.clone(), payload.clone())).collect::<Vec<_>>()
                    }).collect()
                };
                prop_assert_eq!(plain(&read(&value, session)), plain(&expected(&|_| true)));
                let is_kept = |entry: &Entry| kept[entry.sequence as usize];
                prop_assert_eq!(plain(&read(&less, session)), plain(&expected(&is_kept)));
                count -= expected(&is_kept).len() as u32;
            }
            prop_assert_eq!(count, 0);
            for len in 0..value.len() {
                let is_whole = for_each_message(&value[..len], |message| message.message().map(drop));
                prop_assert!(is_whole.is_none() || len == 0, "cut to {}", len);
            }
        }

        #[test]
        fn damaged_chunks_are_no_chunks_and_no_panics(value in prop::collection::vec(any::<u8>(), 0..80)) {
            for_each_message(&value, |message| {
                let _ = message.message();
                let _ = message.references().map(Iterator::count);
                for (at, reference) in message.of_session(0) {
                    let _ = message.identifiers_at(at, reference?);
                }
                Some(())
            });
        }
    }
}
