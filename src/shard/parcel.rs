//! Small publications on their way to one shard, many in one message of the mesh.
//!
//! Owns: the copies. A parcel is filled by one shard, read by another where it lies, and used again there for what goes
//! the other way, so that a message that crosses takes no allocation, no reference count and no place of its own in a ring.
//! Always: publications are handled in the order in which they were put in. When the fan-out of one goes on as a job, those
//! behind it wait here, as the messages of the same shard behind the parcel wait in the mesh.
//! Never: what is large. That is shared, not copied.

use std::collections::VecDeque;

use crate::{
    message::{Envelope, Publication},
    shard::{RANK_DELIVERY, Shard, exchange::Taken, fan_out::Source},
    time::Moment,
};

/// Publications, copied one behind the other.
#[derive(Debug, Default)]
pub struct Parcel {
    entries: Vec<Entry>,
    topics: String,
    /// Properties and payload of each.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    report: Taken,
    envelope: Envelope,
    /// Where its parts begin, and where the last ends.
    topic: u32,
    properties: u32,
    payload: u32,
    topic_end: u32,
    payload_end: u32,
}

impl Parcel {
    /// Whether `publication` is small enough to be copied.
    #[must_use]
    pub fn takes(publication: &Publication<'_>) -> bool {
        length(publication) <= ENTRY_BYTES_MAX
    }

    /// Whether it takes `publication` as well.
    #[must_use]
    pub fn has_room(&self, publication: &Publication<'_>) -> bool {
        self.entries.len() < PARCEL_MESSAGES_MAX
            && self.topics.len() + self.bytes.len() + length(publication) <= PARCEL_BYTES_MAX
    }

    /// Copies a publication to the end.
    pub fn push(&mut self, publication: &Publication<'_>, report: Taken) {
        let Self { entries, topics, bytes } = self;
        let (topic, properties) = (topics.len() as u32, bytes.len() as u32);
        topics.push_str(publication.topic);
        bytes.extend_from_slice(publication.properties);
        let payload = bytes.len() as u32;
        bytes.extend_from_slice(publication.payload);
        let (topic_end, payload_end) = (topics.len() as u32, bytes.len() as u32);
        let envelope = publication.envelope;
        entries.push(Entry { report, envelope, topic, properties, payload, topic_end, payload_end });
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
        self.entries.iter().any(|entry| entry.report.is_awaited())
    }

    /// A publication, where it lies.
    fn publication(&self, index: usize) -> Option<(Taken, Publication<'_>)> {
        let entry = self.entries.get(index)?;
        let topic = self.topics.get(entry.topic as usize..entry.topic_end as usize)?;
        let properties = self.bytes.get(entry.properties as usize..entry.payload as usize)?;
        let payload = self.bytes.get(entry.payload as usize..entry.payload_end as usize)?;
        Some((entry.report, Publication::new(topic, properties, payload, entry.envelope)))
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.topics.clear();
        self.bytes.clear();
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

/// Publications in one parcel.
pub const PARCEL_MESSAGES_MAX: usize = 64;
/// Bytes in one parcel.
const PARCEL_BYTES_MAX: usize = 16 * 1024;
/// What is longer is shared: a copy costs more than the reference counts from about here on.
const ENTRY_BYTES_MAX: usize = 2048;
/// Empty parcels that a shard keeps, about 20 KiB each when they have been full.
const SPARE_PARCELS_MAX: usize = 32;
