//! What a store holds, counted, with everything in it that cannot be.
//!
//! Owns: the rules by which records belong together.
//! Always: every record is looked at, and a bad one does not hide the next.

use std::collections::BTreeMap;

use super::{
    SessionRecord, Space, Store, StoreError,
    chunk::{REFERENCE_BYTES, Reference, for_each_message},
    record::{self, Head, tag},
};

/// Kinds of records, in the order in which they are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Sessions.
    Session,
    /// Their subscriptions.
    Subscription,
    /// QoS 2 identifiers received.
    Received,
    /// Wills.
    Will,
    /// Retained messages.
    Retained,
    /// Messages in queues.
    Queued,
    /// What those are: each once, or once for about a thousand of the queues that have it.
    Body,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 7] =
        [Kind::Session, Kind::Subscription, Kind::Received, Kind::Will, Kind::Retained, Kind::Queued, Kind::Body];

    /// How it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Session => "sessions",
            Kind::Subscription => "subscriptions",
            Kind::Received => "QoS 2 identifiers",
            Kind::Will => "Wills",
            Kind::Retained => "retained messages",
            Kind::Queued => "queued messages",
            Kind::Body => "distinct messages",
        }
    }
}

/// What a record says.
#[derive(Debug)]
pub(super) enum Meaning {
    /// The number of the last commit.
    Commit,
    /// A session.
    Session(u64, SessionRecord),
    /// What belongs to a session.
    Part(Kind, u64),
    /// A retained message.
    Retained,
    /// How far a session is through its queue.
    Head(u64, Head),
    /// The places of a session's queue that are reserved.
    Reserve(u64),
    /// Queued messages.
    Chunk,
}

impl Meaning {
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Meaning::Commit | Meaning::Head(..) | Meaning::Reserve(_) | Meaning::Chunk => None,
            Meaning::Session(..) => Some(Kind::Session),
            Meaning::Part(kind, _) => Some(*kind),
            Meaning::Retained => Some(Kind::Retained),
        }
    }
}

/// Reads a record as a start does; `None` when it cannot be read.
pub(super) fn meaning(space: Space, key: &[u8], value: &[u8]) -> Option<Meaning> {
    let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
    match space {
        Space::Queue => {
            let is_whole = for_each_message(value, |message| {
                for (at, reference) in message.references()?.enumerate() {
                    message.identifiers_at(at, reference)?;
                }
                message.message().map(drop)
            });
            is_whole.and_then(|()| number(key)).map(|_| Meaning::Chunk)
        }
        Space::State => {
            let (&first, rest) = key.split_first()?;
            if first == tag::RETAINED {
                let message = record::read_message(value)?;
                return (message.topic().as_bytes() == rest).then_some(Meaning::Retained);
            }
            if key == record::COMMIT_KEY {
                return value.get(..8).and_then(record::read_number).map(|_| Meaning::Commit);
            }
            let (session, rest) = rest.split_at_checked(8)?;
            let session = number(session)?;
            match first {
                tag::SESSION if rest.is_empty() => Some(Meaning::Session(session, record::read_session(value)?)),
                tag::SUBSCRIPTION => {
                    std::str::from_utf8(rest).ok()?;
                    record::read_subscription(value).map(|_| Meaning::Part(Kind::Subscription, session))
                }
                tag::RECEIVED => record::read_received(rest, value).map(|_| Meaning::Part(Kind::Received, session)),
                tag::HEAD if rest.is_empty() => Some(Meaning::Head(session, record::read_head(value)?)),
                tag::RESERVE if rest.is_empty() => record::read_reserve(value).map(|_| Meaning::Reserve(session)),
                tag::WILL if rest.is_empty() => record::read_will(value).map(|_| Meaning::Part(Kind::Will, session)),
                _ => None,
            }
        }
    }
}

/// How to call a record that cannot be read.
pub(super) fn name_of(space: Space, key: &[u8]) -> String {
    let number = |at: usize| {
        let bytes = key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or_else(|| "?".into(), |bytes| u64::from_be_bytes(bytes).to_string())
    };
    match (space, key.split_first()) {
        (Space::Queue, _) => format!("chunk {} of queued messages", number(0)),
        (Space::State, Some((&tag::RETAINED, topic))) => format!("retained message {}", topic.escape_ascii()),
        (Space::State, Some((&tag::SESSION, _))) => format!("session {}", number(1)),
        (Space::State, Some((&tag::SUBSCRIPTION, _))) => {
            format!("subscription {} of session {}", key.get(9..).unwrap_or_default().escape_ascii(), number(1))
        }
        (Space::State, Some((&tag::RECEIVED, _))) => format!("a QoS 2 identifier of session {}", number(1)),
        (Space::State, Some((&tag::HEAD, _))) => format!("how far session {} is through its queue", number(1)),
        (Space::State, Some((&tag::RESERVE, _))) => format!("what is reserved for session {}", number(1)),
        (Space::State, Some((&tag::WILL, _))) => format!("the Will of session {}", number(1)),
        _ => format!("record {}", key.escape_ascii()),
    }
}

/// Records and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Keys and values, or what of them belongs to one.
    pub bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes as u64;
    }
}

/// What a store holds.
#[derive(Debug, Default)]
pub struct Census {
    /// By kind.
    pub kinds: BTreeMap<Kind, Tally>,
    /// The queue of each session that has one, by its client.
    pub queues: Vec<(Box<str>, Tally)>,
    /// Records of sessions that are over, which are yet to be removed, and messages that no queue has any more in chunks with
    /// others.
    pub left_behind: Tally,
    /// What is wrong with single records.
    pub problems: Vec<String>,
}

/// Reads every record of `store`. `progress` is told of records read.
///
/// # Errors
/// When the store cannot be read.
pub fn census(store: &dyn Store, progress: &mut dyn FnMut(u64)) -> Result<Census, StoreError> {
    let mut census = Census::default();
    let mut clients: BTreeMap<u64, Box<str>> = BTreeMap::new();
    let mut parts: BTreeMap<(u64, Kind), Tally> = BTreeMap::new();
    let mut heads: BTreeMap<u64, Head> = BTreeMap::new();
    for space in Space::ALL {
        for_each(store, space, progress, &mut |key, value| {
            let Some(meaning) = meaning(space, key, value) else {
                census.problems.push(format!("{} cannot be read", name_of(space, key)));
                return;
            };
            match meaning {
                Meaning::Session(number, ref record) => {
                    clients.insert(number, record.client_id.clone());
                }
                Meaning::Part(kind, session) => {
                    parts.entry((session, kind)).or_default().add(key.len() + value.len());
                    return;
                }
                Meaning::Head(session, head) => {
                    // What has arrived has no content any more.
                    if !head.released.is_empty() {
                        parts.entry((session, Kind::Queued)).or_default().count += head.released.len() as u64;
                    }
                    heads.insert(session, head);
                    return;
                }
                Meaning::Chunk => return count_chunk(&mut census, &mut parts, &clients, &heads, value),
                Meaning::Commit | Meaning::Reserve(_) | Meaning::Retained => {}
            }
            if let Some(kind) = meaning.kind() {
                census.kinds.entry(kind).or_default().add(key.len() + value.len());
            }
        })?;
    }
    for ((session, kind), tally) in parts {
        let Some(client) = clients.get(&session) else {
            census.left_behind.count += tally.count;
            census.left_behind.bytes += tally.bytes;
            continue;
        };
        let kinds = census.kinds.entry(kind).or_default();
        kinds.count += tally.count;
        kinds.bytes += tally.bytes;
        if kind == Kind::Queued {
            census.queues.push((client.clone(), tally));
        }
    }
    Ok(census)
}

/// Counts what a chunk has that is not done with.
fn count_chunk(
    census: &mut Census,
    parts: &mut BTreeMap<(u64, Kind), Tally>,
    clients: &BTreeMap<u64, Box<str>>,
    heads: &BTreeMap<u64, Head>,
    chunk: &[u8],
) {
    for_each_message(chunk, |message| {
        let mut is_left_behind = true;
        for Reference { session, sequence, .. } in message.references()? {
            if clients.contains_key(&session) && heads.get(&session).is_none_or(|head| !head.is_done(sequence)) {
                parts.entry((session, Kind::Queued)).or_default().add(REFERENCE_BYTES);
                is_left_behind = false;
            }
        }
        let bodies = census.kinds.entry(Kind::Body).or_default();
        let tally = if is_left_behind { &mut census.left_behind } else { bodies };
        tally.add(message.content_bytes() as usize);
        Some(())
    });
}

/// Calls `see` with every record of a space, in order.
fn for_each(
    store: &dyn Store,
    space: Space,
    progress: &mut dyn FnMut(u64),
    see: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), StoreError> {
    let mut from = Vec::new();
    loop {
        let records = store.scan(space, &from, SCAN_RECORDS)?;
        progress(records.len() as u64);
        records.iter().for_each(|(key, value)| see(key, value));
        let Some((last, _)) = records.last().filter(|_| records.len() == SCAN_RECORDS) else { return Ok(()) };
        from.clone_from(last);
        from.push(0);
    }
}

/// Records read at once.
const SCAN_RECORDS: usize = 4096;
