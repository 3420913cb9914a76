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
    runs: Vec<Run>,
    /// Of those that have one: few do.
    stamps: Vec<Stamp>,
    /// The texts of the topics, each once for runs behind one another that have it.
    text: String,
    /// Of each publication the length of its payload, its properties, its payload.
    bytes: Vec<u8>,
    len: usize,
    is_awaited: bool,
}

/// Publications behind one another that differ in their payloads only, and in what their properties say.
#[derive(Debug)]
struct Run {
    topic_hash: u64,
    expires_at: Moment,
    origin: Origin,
    /// Where its topic stands in the text.
    topic_start: u16,
    topic_end: u16,
    properties_len: u16,
    count: u8,
    /// The place of its stamp, when it has one: then it is the only one of its run.
    stamp: Option<u8>,
    qos: QoS,
    retain: bool,
    is_awaited: bool,
}

/// A place in a parcel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    run: usize,
    /// Publications of the run that lie before it.
    index: u8,
    /// Bytes that lie before it.
    start: usize,
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
        self.len < PARCEL_MESSAGES_MAX && self.text.len() + self.bytes.len() + length(publication) <= PARCEL_BYTES_MAX
    }

    /// Copies a publication to the end. It has room, and belongs to no group.
    pub fn push(&mut self, publication: &Publication<'_>, report: Taken) {
        debug_assert!(Self::takes(publication) && self.has_room(publication) && !report.is_grouped());
        let Publication { topic, properties, payload, envelope, .. } = publication;
        let Envelope { qos, retain, expires_at, topic_hash, stamp, origin } = *envelope;
        let is_awaited = report.is_awaited();
        let properties_len = properties.len() as u16;
        let is_alike = |last: &Run| {
            (last.qos, last.retain, last.is_awaited, last.properties_len) == (qos, retain, is_awaited, properties_len)
                && (last.expires_at, last.origin) == (expires_at, origin)
                && last.stamp.is_none()
                && stamp == Stamp::default()
        };
        let has_topic = |last: &Run| last.topic_hash == topic_hash && text_of(&self.text, last) == *topic;
        match self.runs.last_mut().filter(|last| has_topic(last)) {
            Some(last) if is_alike(last) => last.count += 1,
            same_topic => {
                let (topic_start, topic_end) = match same_topic {
                    Some(last) => (last.topic_start, last.topic_end),
                    None => {
                        let start = self.text.len() as u16;
                        self.text.push_str(topic);
                        (start, self.text.len() as u16)
                    }
                };
                let stamp = (stamp != Stamp::default()).then(|| {
                    self.stamps.push(stamp);
                    (self.stamps.len() - 1) as u8
                });
                self.runs.push(Run {
                    topic_hash,
                    expires_at,
                    origin,
                    topic_start,
                    topic_end,
                    properties_len,
                    count: 1,
                    stamp,
                    qos,
                    retain,
                    is_awaited,
                });
            }
        }
        self.bytes.extend_from_slice(&(payload.len() as u16).to_ne_bytes());
        self.bytes.extend_from_slice(properties);
        self.bytes.extend_from_slice(payload);
        self.len += 1;
        self.is_awaited |= is_awaited;
    }

    /// Copies publications to the end that are like `publication`, which has room, but for their `payloads`, each as long as its
    /// own: as many as there is room for. Returns how many that are.
    pub fn push_alike<'a>(
        &mut self,
        publication: &Publication<'_>,
        report: Taken,
        payloads: &mut impl Iterator<Item = &'a [u8]>,
    ) -> usize {
        debug_assert!(publication.envelope.stamp == Stamp::default(), "each would have a stamp of its own");
        let Some(first) = payloads.next() else { return 0 };
        self.push(&Publication::new(publication.topic, publication.properties, first, publication.envelope), report);
        let Some(run) = self.runs.last_mut() else { return 1 };
        let bytes_each = length(publication) - publication.topic.len();
        let room_bytes = PARCEL_BYTES_MAX.saturating_sub(self.text.len() + self.bytes.len());
        let room = (PARCEL_MESSAGES_MAX - self.len).min(room_bytes / bytes_each);
        let mut pushed = 0;
        for payload in payloads.take(room) {
            debug_assert_eq!(payload.len(), publication.payload.len());
            self.bytes.extend_from_slice(&(payload.len() as u16).to_ne_bytes());
            self.bytes.extend_from_slice(publication.properties);
            self.bytes.extend_from_slice(payload);
            pushed += 1;
        }
        run.count += pushed as u8;
        self.len += pushed;
        1 + pushed
    }

    /// How many publications there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the sender waits to hear of any of them.
    #[must_use]
    pub fn wants_report(&self) -> bool {
        self.is_awaited
    }

    /// What is left at `cursor` of the run there, where it lies.
    #[inline]
    fn alike(&self, cursor: Cursor) -> Option<(Taken, Alike<'_>)> {
        let run = self.runs.get(cursor.run)?;
        let stamp = match run.stamp {
            Some(place) => *self.stamps.get(usize::from(place))?,
            None => Stamp::default(),
        };
        let Run { topic_hash, expires_at, origin, qos, retain, .. } = *run;
        let alike = Alike {
            topic: text_of(&self.text, run),
            envelope: Envelope { qos, retain, expires_at, topic_hash, stamp, origin },
            properties_len: usize::from(run.properties_len),
            bytes: self.bytes.get(cursor.start..)?,
            left: usize::from(run.count - cursor.index),
        };
        Some((if run.is_awaited { Taken::Report } else { Taken::Ignore }, alike))
    }

    /// Where `alike` stands, which was the run at `cursor`.
    #[inline]
    fn cursor_of(&self, cursor: Cursor, alike: &Alike<'_>) -> Cursor {
        let start = self.bytes.len() - alike.bytes.len();
        match (alike.left, self.runs.get(cursor.run)) {
            (1.., Some(run)) => Cursor { index: run.count - alike.left as u8, start, ..cursor },
            _ => Cursor { run: cursor.run + 1, index: 0, start },
        }
    }

    /// The same, a parcel for each publication.
    #[cfg(test)]
    pub fn apart(&self) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        let mut cursor = Cursor::default();
        while let Some((report, mut alike)) = self.alike(cursor) {
            for publication in alike.by_ref() {
                let mut parcel = Parcel::default();
                parcel.push(&publication, report);
                parcels.push(parcel);
            }
            cursor = self.cursor_of(cursor, &alike);
        }
        parcels
    }

    fn clear(&mut self) {
        self.runs.clear();
        self.stamps.clear();
        self.text.clear();
        self.bytes.clear();
        self.len = 0;
        self.is_awaited = false;
    }
}

/// The publications of a run, from one on.
#[derive(Clone, Debug)]
struct Alike<'a> {
    topic: &'a str,
    envelope: Envelope,
    properties_len: usize,
    /// Theirs, and what lies behind.
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Alike<'a> {
    type Item = Publication<'a>;

    #[inline]
    fn next(&mut self) -> Option<Publication<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (payload_len, behind) = self.bytes.split_first_chunk()?;
        let (properties, behind) = behind.split_at_checked(self.properties_len)?;
        let (payload, behind) = behind.split_at_checked(usize::from(u16::from_ne_bytes(*payload_len)))?;
        self.bytes = behind;
        Some(Publication::new(self.topic, properties, payload, self.envelope))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Alike<'_> {}

fn text_of<'a>(text: &'a str, run: &Run) -> &'a str {
    text.get(usize::from(run.topic_start)..usize::from(run.topic_end)).unwrap_or_default()
}

/// Bytes that a copy takes.
fn length(publication: &Publication<'_>) -> usize {
    publication.topic.len() + publication.properties.len() + publication.payload.len() + size_of::<u16>()
}

/// Parcels that wait or rest.
#[derive(Debug, Default)]
pub(super) struct Parcels {
    /// Begun, with the shard each comes from and its next publication: the fan-out of one before it goes on as a job.
    begun: VecDeque<(u16, Parcel, Cursor)>,
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
    /// Delivers what is in a parcel of shard `from`.
    pub(super) fn handle_parcel(&mut self, from: u16, parcel: Parcel, now: Moment) {
        self.go_on_with_parcel(from, parcel, Cursor::default(), now);
    }

    fn go_on_with_parcel(&mut self, from: u16, parcel: Parcel, mut cursor: Cursor, now: Moment) {
        let mut may_have_to_wait = true;
        while let Some((report, mut alike)) = parcel.alike(cursor) {
            if may_have_to_wait && self.leaves_in_mesh(from, RANK_DELIVERY) {
                return self.parcels.begun.push_back((from, parcel, cursor));
            }
            let left = alike.len();
            // Only a job keeps the next one waiting.
            may_have_to_wait = self.fan_out_alike(&mut alike, Source::Shard(from), report, now).job;
            if !may_have_to_wait {
                let delivered = (left - alike.len()) as u64;
                self.ledger.count_received(from, RANK_DELIVERY, delivered, report.is_awaited());
            }
            cursor = parcel.cursor_of(cursor, &alike);
        }
        self.parcels.recycle(parcel);
    }

    /// Goes on with the parcels whose jobs have ended.
    pub(super) fn run_parcels(&mut self, now: Moment) {
        for _ in 0..self.parcels.begun.len() {
            let Some((from, parcel, cursor)) = self.parcels.begun.pop_front() else { return };
            let asked = self.clients.durable.journal.awaited();
            self.go_on_with_parcel(from, parcel, cursor, now);
            self.note_asked_since(asked, from, RANK_DELIVERY);
        }
    }
}

/// Publications in one parcel: their stamps are numbered with a byte.
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
            (Publication::new("a/b", b"", b"another", plain), Taken::Ignore),
            (Publication::new("a/b", b"", b"", plain), Taken::Ignore),
            (Publication::new("a/b", b"props", b"two", plain), Taken::Ignore),
            (Publication::new("a/b", b"porps", b"two", plain), Taken::Ignore),
            (Publication::new("a/b", b"porps", b"two", plain), Taken::Report),
            (Publication::new("a/c", b"", b"of the same hash", other_text), Taken::Report),
            (Publication::new("d", b"", b"", retained), Taken::Report),
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
            assert_eq!((parcel.len(), parcel.text.as_str()), (publications.len(), "a/ba/cda/b"));
            assert_eq!(parcel.runs.iter().map(|run| run.count).collect::<Vec<_>>(), [3, 2, 1, 1, 1, 1, 1]);
            for step in 1..=3 {
                let mut cursor = Cursor::default();
                let mut put = publications.iter();
                while let Some((report, mut alike)) = parcel.alike(cursor) {
                    for found in alike.by_ref().take(step) {
                        let (put, put_report) = put.next().expect("no more than was put in");
                        assert_eq!(report, *put_report);
                        assert_eq!(
                            (found.topic, found.properties, found.payload),
                            (put.topic, put.properties, put.payload)
                        );
                        assert_eq!(found.envelope, put.envelope);
                    }
                    cursor = parcel.cursor_of(cursor, &alike);
                }
                assert!(put.next().is_none(), "all that was put in, {step} at a time");
            }
            parcel.clear();
        }
    }

    #[test]
    fn a_full_one_says_so() {
        let large = vec![0; ENTRY_BYTES_MAX - size_of::<u16>() - 1];
        let mut parcel = Parcel::default();
        let publication = Publication::new("t", b"", &large, Envelope::of(QoS::AtMostOnce));
        while parcel.has_room(&publication) {
            parcel.push(&publication, Taken::Ignore);
        }
        assert_eq!(parcel.len(), PARCEL_BYTES_MAX / ENTRY_BYTES_MAX);
        let (_, alike) = parcel.alike(Cursor::default()).expect("a run");
        assert_eq!(alike.map(|found| found.payload.len()).collect::<Vec<_>>(), vec![large.len(); parcel.len()]);
        let mut together = Parcel::default();
        let mut payloads = std::iter::repeat_n(&*large, 20);
        assert_eq!(together.push_alike(&publication, Taken::Ignore, &mut payloads), parcel.len());
        assert_eq!((together.len(), payloads.len()), (parcel.len(), 20 - parcel.len()));
        assert!(!Parcel::takes(&Publication::new("to", b"", &large, Envelope::of(QoS::AtMostOnce))));
    }

    #[test]
    fn a_run_is_small() {
        assert!(size_of::<Run>() <= 40);
    }
}
