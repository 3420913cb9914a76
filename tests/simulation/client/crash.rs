//! What a client may expect of its session after the broker has died: what the listeners promise that it has used.

use ringmq::{config::Durability, mqtt::QoS};

use super::{Client, Held, Phase};
use crate::{
    book::{Book, Survival},
    failure::fail,
};

impl Client {
    /// Its session is over.
    pub fn forget_session(&mut self) {
        self.lose_session();
    }

    pub(super) fn lose_session(&mut self) {
        self.has_session = false;
        self.made = None;
        self.outgoing.clear();
        self.received.clear();
        self.unacknowledged.clear();
        // What was asked for behind CONNECT belongs to the session that it gets.
        let is_answered = |held: &&mut Held| held.acknowledged.is_some() || held.identifier == 0;
        self.subscriptions.iter_mut().filter(is_answered).for_each(|held| held.is_lost = true);
    }

    /// The broker has died. `reads`: what it had sent has arrived.
    pub fn lose_broker(&mut self, book: &mut Book, reads: bool, survival: Survival) {
        if let Some(mut link) = self.link.take() {
            if reads && link.phase != Phase::Over {
                self.read(&mut link, book);
            }
            link.phase = Phase::Over;
            self.link = Some(link);
        }
        self.abandoned.clear();
        // Of a message of QoS 1 a receiver keeps nothing from one connection to the next.
        self.unacknowledged.retain(|_, (_, qos)| *qos == QoS::ExactlyOnce);
        if self.profile.expiry_s == 0 {
            self.lose_session();
        }
        if !survival.holds(self.promises.0, book.now) {
            self.is_rolled_back = true;
        }
        for held in &mut self.subscriptions {
            held.is_lost |= held.acknowledged.is_some_and(|time| !survival.holds(held.promise, time));
        }
        let holds = |(time, promise)| survival.holds(promise, time);
        let is_in_memory = self.made.is_some_and(|(_, promise)| promise == Durability::Memory);
        // One that it had before may come back, where ending it was promised as little.
        self.has_none = self.has_session && is_in_memory && self.promises.1 == Durability::Memory;
        if is_in_memory {
            self.lose_session();
        } else if !self.made.is_some_and(holds) {
            self.has_session = false;
        }
        // What nobody had acknowledged yet may be gone, also when it was seen.
        self.latest.clear();
        self.newest.clear();
    }

    /// It connects through a listener.
    pub(super) fn note_listener(&mut self) {
        let promise = self.profile.through;
        let (least, most) = &mut self.promises;
        if least.promises_more_than(promise) {
            *least = promise;
        }
        if promise.promises_more_than(*most) {
            *most = promise;
        }
    }

    /// CONNACK has said whether there was a session.
    pub(super) fn note_session(&mut self, session_present: bool, promise: Durability, now: u64) {
        if session_present && self.has_none {
            fail("what is in memory goes with the broker", self.profile.name.clone());
        }
        self.has_none = false;
        if !session_present {
            self.made = Some((now, promise));
        } else if self.made.is_none() && self.promises.0 == Durability::Sync {
            // It has missed the CONNACK of one before.
            self.made = Some((now, Durability::Sync));
        }
    }
}
