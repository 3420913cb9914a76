//! Small publications on their way to one shard, many in one message of the mesh.
//!
//! Owns: the copies. A parcel is filled by one shard, read by another where it lies, and used again there for what goes
//! the other way, so that a message that crosses takes no allocation, no reference count and no place of its own in a ring.
//! Always: publications are handled in the order in which they were put in. When the fan-out of one goes on as a job, those
//! behind it wait here, as the messages of the same shard behind the parcel wait in the mesh.
//! Never: what is large. That is shared, not copied.

use std::collections::VecDeque;

use crate::{
    message::{Envelope, Origin, Publication, Stamp},
    mqtt::QoS,
    shard::{RANK_DELIVERY, Shard, exchange::Taken, fan_out::Source},
    time::Moment,
};

/// Publications, copied one behind the other, in as few cache lines as they fit into: each is fetched from another core.
#[derive(Debug, Default)]
pub struct Parcel {
    entries: Vec<Entry>,
    /// Each stands for the publications behind one another that have it.
    topics: Vec<Topic>,
    /// Of those that have one: few do.
    stamps: Vec<Stamp>,
    /// The texts of the topics.
    text: String,
    /// Properties and payload of each.
    bytes: Vec<u8>,
    is_awaited: bool,
}

#[derive(Debug)]
struct Topic {
    hash: u64,
    start: u16,
    end: u16,
}

/// What does not stand in the other lists.
#[derive(Debug)]
struct Entry {
    expires_at: Moment,
    origin: Origin,
    /// Where its properties begin.
    start: u16,
    properties_len: u16,
    payload_len: u16,
    topic: u8,
    /// Its place among the stamps, when it has one.
    stamp: Option<u8>,
    qos: QoS,
    retain: bool,
    is_awaited: bool,
}

impl Parcel {
    /// Whether `publication` is small enough to be copied.
    #[must_use]
    pub fn takes(publication: &Publication<'_>) -> bool {
        length(publication) <= ENTRY_BYTES_MAX
    }

    /// Whether it takes `publication` as well, of those that are small enough.
    #[must_use]
    pub fn has_room(&self, publication: &Publication<'_>) -> bool {
        self.entries.len() < PARCEL_MESSAGES_MAX
            && self.text.len() + self.bytes.len() + length(publication) <= PARCEL_BYTES_MAX
    }

    /// Copies a publication to the end. It has room, and belongs to no group.
    pub fn push(&mut self, publication: &Publication<'_>, report: Taken) {
        debug_assert!(Self::takes(publication) && self.has_room(publication) && !report.is_grouped());
        let Publication { topic, properties, payload, envelope, .. } = publication;
        let Envelope { qos, retain, expires_at, topic_hash, stamp, origin } = *envelope;
        if self.topics.last().is_none_or(|last| last.hash != topic_hash || self.text_of(last) != *topic) {
            let start = self.text.len() as u16;
            self.text.push_str(topic);
            self.topics.push(Topic { hash: topic_hash, start, end: self.text.len() as u16 });
        }
        let stamp = (stamp != Stamp::default()).then(|| {
            self.stamps.push(stamp);
            (self.stamps.len() - 1) as u8
        });
        let is_awaited = report.is_awaited();
        self.is_awaited |= is_awaited;
        let entry = Entry {
            expires_at,
            origin,
            start: self.bytes.len() as u16,
            properties_len: properties.len() as u16,
            payload_len: payload.len() as u16,
            topic: (self.topics.len() - 1) as u8,
            stamp,
            qos,
            retain,
            is_awaited,
        };
        self.bytes.extend_from_slice(properties);
        self.bytes.extend_from_slice(payload);
        self.entries.push(entry);
    }

    /// How many publications there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the sender waits to hear of any of them.
    #[must_use]
    pub fn wants_report(&self) -> bool {
        self.is_awaited
    }

    /// A publication, where it lies.
    fn publication(&self, index: usize) -> Option<(Taken, Publication<'_>)> {
        let entry = self.entries.get(index)?;
        let topic = self.topics.get(usize::from(entry.topic))?;
        let stamp = match entry.stamp {
            Some(place) => *self.stamps.get(usize::from(place))?,
            None => Stamp::default(),
        };
        let Entry { expires_at, origin, qos, retain, .. } = *entry;
        let envelope = Envelope { qos, retain, expires_at, topic_hash: topic.hash, stamp, origin };
        let of_entry = self.bytes.get(usize::from(entry.start)..)?;
        let (properties, behind) = of_entry.split_at_checked(usize::from(entry.properties_len))?;
        let payload = behind.get(..usize::from(entry.payload_len))?;
        let report = if entry.is_awaited { Taken::Report } else { Taken::Ignore };
        Some((report, Publication::new(self.text_of(topic), properties, payload, envelope)))
    }

    fn text_of(&self, topic: &Topic) -> &str {
        self.text.get(usize::from(topic.start)..usize::from(topic.end)).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.topics.clear();
        self.stamps.clear();
        self.text.clear();
        self.bytes.clear();
        self.is_awaited = false;
    }
}

fn length(publication: &Publication<'_>) -> usize {
    publication.topic.len() + publication.properties.len() + publication.payload.len()
}

/// Parcels that wait or rest.
#[derive(Debug, Default)]
pub(super) struct Parcels {
    /// Begun, with the shard each comes from and its next publication: the fan-out of one before it goes on as a job.
    begun: VecDeque<(u16, Parcel, usize)>,
    /// Empty ones, kept for their memory.
    spare: Vec<Parcel>,
}

impl Parcels {
    /// Whether one of `shard` is begun.
    pub fn has_begun(&self, shard: u16) -> bool {
        self.begun.iter().any(|(from, ..)| *from == shard)
    }

    /// Whether any is begun.
    pub fn has_work(&self) -> bool {
        !self.begun.is_empty()
    }

    /// An empty one.
    pub fn empty(&mut self) -> Parcel {
        self.spare.pop().unwrap_or_default()
    }

    fn recycle(&mut self, mut parcel: Parcel) {
        if self.spare.len() < SPARE_PARCELS_MAX {
            parcel.clear();
            self.spare.push(parcel);
        }
    }
}

impl Shard {
    /// Delivers what is in a parcel of shard `from`, from publication `next` on.
    pub(super) fn handle_parcel(&mut self, from: u16, parcel: Parcel, mut next: usize, now: Moment) {
        while let Some((report, publication)) = parcel.publication(next) {
            if self.leaves_in_mesh(from, RANK_DELIVERY) {
                return self.parcels.begun.push_back((from, parcel, next));
            }
            next += 1;
            if !self.fan_out_here(&publication, Source::Shard(from), report, now).job {
                self.ledger.count_received(from, RANK_DELIVERY, report.is_awaited());
            }
        }
        self.parcels.recycle(parcel);
    }

    /// Goes on with the parcels whose jobs have ended.
    pub(super) fn run_parcels(&mut self, now: Moment) {
        for _ in 0..self.parcels.begun.len() {
            let Some((from, parcel, next)) = self.parcels.begun.pop_front() else { return };
            let asked = self.clients.durable.journal.awaited();
            self.handle_parcel(from, parcel, next, now);
            self.note_asked_since(asked, from, RANK_DELIVERY);
        }
    }
}

/// Publications in one parcel: their topics and stamps are numbered with a byte.
pub const PARCEL_MESSAGES_MAX: usize = 64;
/// Bytes in one parcel: 16 bits tell where they are.
const PARCEL_BYTES_MAX: usize = 16 * 1024;
/// What is longer is shared: a copy costs more than the reference counts from about here on.
const ENTRY_BYTES_MAX: usize = 2048;
/// Empty parcels that a shard keeps, about 20 KiB each when they have been full, 8 with small messages: as many as
/// a turn with full sockets takes.
const SPARE_PARCELS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out_in_order_and_whole() {
        let stamp = Stamp { micros: 7, counter: 1, shard: 3 };
        let origin = Origin { shard: 3, hops: 1 };
        let plain = Envelope { topic_hash: 1, origin, ..Envelope::of(QoS::AtMostOnce) };
        let other_text = Envelope { expires_at: Moment::from_micros(9), ..plain };
        let retained = Envelope { qos: QoS::ExactlyOnce, retain: true, stamp, topic_hash: 2, ..plain };
        let publications = [
            (Publication::new("a/b", b"", b"one", plain), Taken::Ignore),
            (Publication::new("a/b", b"props", b"two", plain), Taken::Ignore),
            (Publication::new("a/c", b"", b"of the same hash", other_text), Taken::Report),
            (Publication::new("d", b"", b"", retained), Taken::Report),
            (Publication::new("a/b", b"", b"again", plain), Taken::Ignore),
        ];
        let mut parcel = Parcel::default();
        for round in 0..2 {
            assert!(parcel.is_empty() && !parcel.wants_report(), "round {round}");
            for (publication, report) in &publications {
                parcel.push(publication, *report);
            }
            assert!(parcel.wants_report());
            assert_eq!((parcel.len(), parcel.topics.len()), (5, 4));
            for (index, (put, report)) in publications.iter().enumerate() {
                let (reported, found) = parcel.publication(index).expect("it was put in");
                assert_eq!(reported, *report);
                assert_eq!((found.topic, found.properties, found.payload), (put.topic, put.properties, put.payload));
                assert_eq!(found.envelope, put.envelope);
            }
            assert!(parcel.publication(5).is_none());
            parcel.clear();
        }
    }

    #[test]
    fn a_full_one_says_so() {
        let large = vec![0; ENTRY_BYTES_MAX - 1];
        let mut parcel = Parcel::default();
        let publication = Publication::new("t", b"", &large, Envelope::of(QoS::AtMostOnce));
        while parcel.has_room(&publication) {
            parcel.push(&publication, Taken::Ignore);
        }
        assert_eq!(parcel.len(), PARCEL_BYTES_MAX / ENTRY_BYTES_MAX);
        assert_eq!(parcel.publication(parcel.len() - 1).map(|(_, found)| found.payload.len()), Some(large.len()));
        assert!(!Parcel::takes(&Publication::new("to", b"", &large, Envelope::of(QoS::AtMostOnce))));
    }

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 24);
    }
}
