//! What the shards of one process share: atomics only.

use crate::{
    routing::{HashKey, InterestTable, TurnClocks},
    shard::Counters,
    sync::atomic::{AtomicU64, Ordering},
};

/// Everything that shards share, made before the first of them.
#[derive(Debug)]
pub struct Shared {
    /// How many shards there are.
    pub shards: u16,
    /// Places clients, topics, groups and filters.
    pub key: HashKey,
    /// Which shards want a topic.
    pub interest: InterestTable,
    /// Which shards are home to a share group that wants a topic.
    pub share_interest: InterestTable,
    /// How far each shard is.
    pub clocks: TurnClocks,
    /// Connections, those before CONNECT included.
    pub connections: Level,
    /// Of those, the ones that came through each listener.
    listeners: Box<[Level]>,
    /// Connections before CONNECT.
    pub pending_connects: Level,
    /// Sessions.
    pub sessions: Level,
    /// Of those, the ones that the store keeps.
    pub kept_sessions: Level,
    /// Retained messages.
    pub retained_messages: Level,
    /// Bytes of retained messages.
    pub retained_bytes: Level,
    /// Messages in the queues of sessions, as shards told at the ends of their turns.
    pub queued_messages: Level,
    /// Bytes of these, charged to each queue.
    pub queued_bytes: Level,
    /// The counters of each shard as it last published them.
    counters: Box<[Box<[Level]>]>,
}

impl Shared {
    /// For `shards` shards and `listeners` listeners, with tables of interest of `interest_slots` slots.
    #[must_use]
    pub fn new(shards: u16, listeners: usize, key: HashKey, interest_slots: usize) -> Self {
        Self {
            shards,
            key,
            interest: InterestTable::new(interest_slots, usize::from(shards)),
            // Share groups are few.
            share_interest: InterestTable::new((interest_slots / 16).max(1024), usize::from(shards)),
            clocks: TurnClocks::new(usize::from(shards)),
            connections: Level::default(),
            listeners: (0..listeners).map(|_| Level::default()).collect(),
            pending_connects: Level::default(),
            sessions: Level::default(),
            kept_sessions: Level::default(),
            retained_messages: Level::default(),
            retained_bytes: Level::default(),
            queued_messages: Level::default(),
            queued_bytes: Level::default(),
            counters: (0..shards).map(|_| Counters::NAMES.iter().map(|_| Level::default()).collect()).collect(),
        }
    }

    /// Counts a connection that came through `listener`, unless there are `max` or through it `listener_max`.
    pub fn connection_comes(&self, listener: u16, max: u64, listener_max: u64) -> bool {
        if !self.connections.add_within(1, max) {
            return false;
        }
        let fits = self.listeners.get(usize::from(listener)).is_none_or(|level| level.add_within(1, listener_max));
        if !fits {
            self.connections.take(1);
        }
        fits
    }

    /// Counts out a connection that came through `listener`.
    pub fn connection_goes(&self, listener: u16) {
        self.connections.take(1);
        if let Some(level) = self.listeners.get(usize::from(listener)) {
            level.take(1);
        }
    }

    /// Publishes the counters of `shard`.
    pub fn publish_counters(&self, shard: u16, counters: &Counters) {
        if let Some(levels) = self.counters.get(usize::from(shard)) {
            levels.iter().zip(counters.values()).for_each(|(level, value)| level.0.store(value, Ordering::Relaxed));
        }
    }

    /// The counters of all shards together, with their names, as last published.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let sum = |index: usize| self.counters.iter().filter_map(|levels| levels.get(index)).map(Level::now).sum();
        Counters::NAMES.iter().enumerate().map(move |(index, &name)| (name, sum(index)))
    }
}

/// A level that all shards move and each may bound. Touched when something comes or goes, or once a turn, never per message.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// Adds `amount` unless the level would exceed `max`. Returns whether it was added.
    pub fn add_within(&self, amount: u64, max: u64) -> bool {
        let before = self.0.fetch_add(amount, Ordering::Relaxed);
        let fits = before.saturating_add(amount) <= max;
        if !fits {
            self.0.fetch_sub(amount, Ordering::Relaxed);
        }
        fits
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes `amount` away.
    pub fn take(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// What counted as `before` counts as `after` now.
    pub fn move_from(&self, before: u64, after: u64) {
        // Wraps around, and so goes down as well.
        self.0.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// The level now.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
