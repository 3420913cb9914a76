//! One delivery to one client.
//!
//! Always: small, because tens of thousands are in flight at once and each is touched when it is queued, sent and
//! acknowledged, long after the caches have lost it: what few deliveries have stands apart.

use std::{num::NonZeroU32, rc::Rc};

use crate::{
    message::{ApplicationMessage, SubscriptionIdentifiers},
    mqtt::QoS,
    routing::GroupIdentifier,
};

/// One delivery to one client.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What is delivered.
    pub message: Rc<ApplicationMessage>,
    /// What few have.
    rare: Option<Box<Rare>>,
    /// The identifier of the matching subscription, when one has any.
    subscription_identifier: Option<NonZeroU32>,
    /// With this QoS.
    pub qos: QoS,
    /// With this RETAIN flag.
    pub retain: bool,
}

/// What few deliveries have.
#[derive(Clone, Debug, Default)]
struct Rare {
    /// The identifiers of several matching subscriptions.
    subscription_identifiers: Box<[u32]>,
    share: Option<ShareOrigin>,
    stored: Option<Stored>,
}

/// The share group that a delivery was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareOrigin {
    /// The group's home.
    pub home: u16,
    /// The group there.
    pub group: GroupIdentifier,
}

/// Where a queued message stands in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The number of the message.
    pub number: u64,
    /// The batch that it was asked for with, or a later one; 0 for what was there when the broker started.
    pub batch: u64,
}

impl Delivery {
    /// A delivery with this QoS and RETAIN flag and the identifiers of the matching subscriptions. `share`: the group that gave
    /// it to this client, if one did. `stored`: where it stands in the store, if it does.
    #[must_use]
    pub fn new(
        message: Rc<ApplicationMessage>,
        qos: QoS,
        retain: bool,
        identifiers: SubscriptionIdentifiers,
        share: Option<ShareOrigin>,
        stored: Option<Stored>,
    ) -> Self {
        let (subscription_identifier, subscription_identifiers) = match identifiers {
            SubscriptionIdentifiers::None => (None, Box::default()),
            SubscriptionIdentifiers::One(identifier) => (Some(identifier), Box::default()),
            SubscriptionIdentifiers::Many(identifiers) => (None, identifiers),
        };
        let is_rare = share.is_some() || stored.is_some() || !subscription_identifiers.is_empty();
        let rare = is_rare.then(|| Box::new(Rare { subscription_identifiers, share, stored }));
        Self { message, rare, subscription_identifier, qos, retain }
    }

    /// The share group that gave it to this client, if one did.
    #[must_use]
    pub fn share(&self) -> Option<ShareOrigin> {
        self.rare.as_ref()?.share
    }

    /// Where it stands in the store, if it does.
    #[must_use]
    pub fn stored(&self) -> Option<Stored> {
        self.rare.as_ref()?.stored
    }

    /// The store has it once it has this batch, if it is to have it.
    pub(super) fn set_batch(&mut self, batch: u64) {
        if let Some(stored) = self.rare.as_mut().and_then(|rare| rare.stored.as_mut()) {
            stored.batch = batch;
        }
    }

    /// Calls `read` with the identifiers of the matching subscriptions.
    pub fn with_identifiers<R>(&self, read: impl FnOnce(&[u32]) -> R) -> R {
        match (self.subscription_identifier, &self.rare) {
            (Some(identifier), _) => read(&[identifier.get()]),
            (None, Some(rare)) => read(&rare.subscription_identifiers),
            (None, None) => read(&[]),
        }
    }
}

const _: () = assert!(size_of::<Delivery>() <= 24, "what is in flight takes little memory");
