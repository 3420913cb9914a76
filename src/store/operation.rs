//! What shards ask the store to keep or to forget.
//!
//! Owns: the operations and their gathering into batches and groups.
//! Never: bytes. How operations become records is `record`'s.

use smallvec::SmallVec;

use crate::{
    message::{ApplicationMessage, SubscriptionIdentifiers},
    mqtt::QoS,
    session::{ReserveRecord, Will},
};

/// A session as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The client.
    pub client_id: Box<str>,
    /// How long the session outlives its connection, in seconds; `u32::MAX`: for ever.
    pub expiry_interval_s: u32,
    /// When its client left, in microseconds since the Unix epoch; `None` while it is connected.
    pub offline_since_us: Option<u64>,
    /// While the client is away: messages before this sequence number have been sent to it.
    pub sent_below: u64,
}

/// A QoS 2 identifier that was received and not released, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedRecord {
    /// The PacketIdentifier.
    pub identifier: u16,
    /// Tells its message from others; 0: unknown.
    pub fingerprint: u64,
    /// It may have been released.
    pub is_doubted: bool,
}

/// A subscription as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// Granted QoS, No Local, Retain As Published.
    pub options: u8,
    /// The Subscription Identifier, 0 for none.
    pub identifier: u32,
}

/// A message in one session's queue.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whose.
    pub session: u64,
    /// Its place there.
    pub sequence: u64,
    /// Delivered with this QoS.
    pub qos: QoS,
    /// Delivered with this RETAIN flag.
    pub retain: bool,
    /// Delivered with these Subscription Identifiers.
    pub identifiers: SubscriptionIdentifiers,
}

/// Those who queue a message. Most messages are queued for one session.
pub type Entries = SmallVec<[Entry; 1]>;

/// One thing to keep or to forget.
#[derive(Debug)]
pub enum Operation {
    /// A session, new or changed.
    Session(u64, SessionRecord),
    /// A session is over, with everything that belongs to it.
    SessionEnd(u64),
    /// A subscription, new or changed.
    Subscription(u64, Box<str>, SubscriptionRecord),
    /// A subscription is over.
    SubscriptionEnd(u64, Box<str>),
    /// A message that sessions of one shard queue.
    Queue {
        /// Names the message.
        number: u64,
        /// The message.
        message: ApplicationMessage,
        /// Who gets it.
        entries: Entries,
    },
    /// A queued message is done with.
    QueueEnd {
        /// Whose.
        session: u64,
        /// Its place.
        sequence: u64,
        /// The number of the message; none when it had arrived before.
        number: Option<u64>,
    },
    /// A queued QoS 2 message has arrived: only its PUBREL is still to be answered.
    QueueReleased {
        /// Whose.
        session: u64,
        /// Its place.
        sequence: u64,
        /// The number of the message.
        number: u64,
    },
    /// A QoS 2 identifier was received.
    Received(u64, ReceivedRecord),
    /// It was released.
    ReceivedEnd(u64, u16),
    /// A retained message.
    Retained(ApplicationMessage),
    /// A topic has no retained message any more.
    RetainedEnd(Box<str>),
    /// A session's Will.
    Will(u64, Box<Will>),
    /// A session has no Will any more.
    WillEnd(u64),
    /// The places of a session's queue that are reserved.
    Reserve(u64, ReserveRecord),
}

/// Names what one QoS 2 publication changes on all shards together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// The publisher's shard.
    pub origin: u16,
    /// Numbered there.
    pub number: u64,
}

/// What one shard adds to a group in one turn.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The group.
    pub group: Group,
    /// It begins before this operation of the batch.
    pub begin: usize,
    /// It ends before this one.
    pub end: usize,
    /// Whether the shard adds nothing later.
    pub is_last: bool,
    /// The publisher's shard says how many others add parts, with its last one.
    pub others: u16,
    /// It is in place of what another shard was to add.
    pub stands_in: bool,
}

/// What one shard asks for in one turn.
#[derive(Debug)]
pub struct Batch {
    /// The shard.
    pub shard: u16,
    /// Counted there from 1.
    pub number: u64,
    /// In order.
    pub operations: Vec<Operation>,
    /// Which of them belong to groups, in order.
    pub parts: Vec<Part>,
}
