//! A session: what the broker keeps for a client, connected or not.
//!
//! Owns: the ClientId, the filters subscribed to, the messages on their way out, the QoS 2 identifiers on their way in,
//! the Will, and how long all of that outlives the Network Connection.
//! Always: lasts at least as long as its connection [v3 MQTT-4.1.0-1] [v3 MQTT-4.1.0-2] [v5 MQTT-4.1.0-1]. What most
//! sessions do not need is boxed and absent.

use smallvec::SmallVec;

use crate::{
    message::{ApplicationMessage, Stamp},
    routing::FilterIndex,
    session::{Outbox, ReceivedIdentifiers, Reserve},
    time::Moment,
};

/// The `connection` of a session whose client is away.
pub const NO_CONNECTION: u32 = u32::MAX;

/// A subscription as its session remembers it, to end it later. What delivery needs stands in the filter table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldSubscription {
    /// A filter of the shard's table.
    Plain(FilterIndex),
    /// A place in the shard's table of memberships in share groups.
    Shared(u32),
}

/// What is published when a client goes without a word.
#[derive(Clone, Debug)]
pub struct Will {
    /// The message. Its expiry counts from publication, so `message_expiry_interval_s` is kept apart.
    pub message: ApplicationMessage,
    /// Seconds after publication at which the message expires.
    pub message_expiry_interval_s: Option<u32>,
    /// Seconds between the end of the connection and the publication.
    pub delay_s: u32,
}

/// What the store knows of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Names the session there, for ever.
    pub number: u64,
    /// Where its outbox goes on when it is made anew: a place in a durable queue is used once.
    pub next_sequence: u64,
    /// The places that are reserved, where the store may lose what its client was sent.
    pub reserve: Option<Box<Reserve>>,
}

/// What the broker keeps for one client.
#[derive(Debug)]
pub struct Session {
    /// The client.
    pub client_id: Box<str>,
    /// The slot of its connection, or [`NO_CONNECTION`].
    pub connection: u32,
    /// Tells this session apart from an earlier one in the same place.
    pub generation: u32,
    /// How long it outlives its connection; `u32::MAX`: for ever.
    pub expiry_interval_s: u32,
    /// When its client left, while it is away.
    pub offline_since: Moment,
    /// Scratch of the fan-out: where this session stood among the targets of the last publication that it was one of.
    pub fan_out_place: u32,
    /// The newest CONNECT that reached this session: an older one never evicts a newer one's connection.
    pub connect_stamp: Stamp,
    /// Its subscriptions.
    pub subscriptions: SmallVec<[HeldSubscription; 2]>,
    /// Messages on their way to the client, when there are any.
    pub outbox: Option<Box<Outbox>>,
    /// QoS 2 identifiers received and not released, when there are any.
    pub received: Option<Box<ReceivedIdentifiers>>,
    /// The Will, while it may still be published.
    pub will: Option<Box<Will>>,
    /// What the store knows of it, when it is durable.
    pub kept: Option<Box<Kept>>,
}

impl Session {
    /// A session with nothing in it.
    #[must_use]
    pub fn new(client_id: &str, generation: u32) -> Self {
        Self {
            client_id: client_id.into(),
            connection: NO_CONNECTION,
            generation,
            expiry_interval_s: 0,
            offline_since: Moment::default(),
            fan_out_place: 0,
            connect_stamp: Stamp::default(),
            subscriptions: SmallVec::new(),
            outbox: None,
            received: None,
            will: None,
            kept: None,
        }
    }

    /// Whether its client is connected.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.connection != NO_CONNECTION
    }

    /// Whether its client cannot come back to it, so that nothing is ever sent again.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        self.expiry_interval_s == 0 && self.kept.is_none()
    }

    /// The outbox, made when first used.
    pub fn outbox_mut(&mut self) -> &mut Outbox {
        let next_sequence = self.kept.as_ref().map_or(0, |kept| kept.next_sequence);
        self.outbox.get_or_insert_with(|| Box::new(Outbox::starting_at(next_sequence)))
    }

    /// Its number in the store, when it is durable.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.kept.as_ref().map(|kept| kept.number)
    }

    /// Frees the outbox once nothing is in it.
    pub fn drop_empty_outbox(&mut self) {
        let Some(outbox) = self.outbox.as_ref().filter(|outbox| outbox.is_empty()) else { return };
        if let Some(kept) = &mut self.kept {
            kept.next_sequence = outbox.next_sequence();
        }
        self.outbox = None;
    }
}
