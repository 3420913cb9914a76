//! What a shard asks the store for, and who waits for it.
//!
//! Owns: the shard's journal, and the waits for its batches.
//! Always: whoever is told that something is done is told after the store has it: CONNACK that makes or ends a durable
//! session, SUBACK, UNSUBACK, PUBACK, PUBREC, PUBREL, PUBCOMP, and other shards that wait to report. What the client's
//! acknowledgements let go of is told lazily: losing that costs a duplicate that the client knows.
//! While the store has failed nobody waits for it: who did is closed without an answer, what needs it is refused before it
//! changes anything, and what goes on without it goes on. What was asked for is in the store when that is open again.
//! Never: durable state of a session whose client asked for none.

use std::{collections::VecDeque, rc::Rc};

use crate::{
    config::Durability,
    message::{ApplicationMessage, Publication, SubscriptionIdentifiers},
    mqtt::{PacketIdentifier, QoS, ReasonCode, TopicFilter},
    plant::{Bug, planted},
    runtime::ConnectionId,
    session::{Delivery, Kept, Reserve, Session, Settled, Stored, Unparked},
    shard::{
        ConnectionEffect, Ending, Shard, SubscriptionBits, clients::Order, connections::Flags, exchange::MeshMessage,
        ledger::AnswerReference, queues::Waiting, timers::Timer,
    },
    store::{
        Condition, Entry, Group, Journal, Operation, QueueEntry, QueueSlice, ReceivedRecord, RecoveredSession,
        SessionRecord, SliceRequest, StoreError, SubscriptionRecord,
    },
    time::Moment,
};

/// Who waits for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// An acknowledgement.
    Answer(AnswerReference),
    /// A connection whose CONNACK is held back.
    Connection(ConnectionId),
    /// A session, with its generation, whose next QoS 2 message may leave.
    Session(u32, u32),
    /// A report to another shard: the rank, the count and the promise.
    Report(u16, u8, u64, Durability),
}

/// The journal of a shard and the waits for it.
#[derive(Debug)]
pub struct Durable {
    /// What is asked for.
    pub journal: Journal,
    /// By what is waited for, in order of batches.
    waits: [VecDeque<(u64, Waiter)>; Durability::COUNT],
    /// Connections that have ended before their CONNACK was true: they are closed when they have heard it.
    closings: VecDeque<(u64, Durability, ConnectionEffect)>,
    /// What had been asked for when the packet under way began.
    mark: u64,
    /// The group that the publication under way belongs to, once another shard takes part in it.
    pub group: Option<OpenGroup>,
    /// Parts of queues that the store is to be asked for.
    pub reads: Vec<SliceRequest>,
}

/// A group that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenGroup {
    /// Its name.
    pub group: Group,
    /// Parts that other shards have been asked for.
    pub others: u16,
}

impl Durable {
    /// Nothing asked for yet.
    #[must_use]
    pub fn new(journal: Journal) -> Self {
        Self {
            journal,
            waits: [const { VecDeque::new() }; Durability::COUNT],
            closings: VecDeque::new(),
            mark: 0,
            group: None,
            reads: Vec::new(),
        }
    }

    /// A packet, or whatever else is answered, begins.
    pub fn begin(&mut self) {
        self.mark = self.journal.awaited();
    }

    /// Whether what has begun has asked for something that its answer waits for.
    #[must_use]
    pub fn has_asked(&self) -> bool {
        self.journal.awaited() > self.mark && !planted(Bug::AckBeforeDurable)
    }

    /// The same, for an answer that promises `durability`.
    #[must_use]
    pub fn is_asked_for(&self, durability: Durability) -> bool {
        durability != Durability::Memory && self.has_asked()
    }

    /// Makes `waiter` wait until `durability` can be promised of everything that has been asked for.
    pub fn wait(&mut self, durability: Durability, waiter: Waiter) {
        self.wait_for(self.journal.last_batch(), durability, waiter);
    }

    /// Closes a connection when `durability` can be promised of everything that has been asked for.
    pub fn hold(&mut self, durability: Durability, close: ConnectionEffect) {
        self.closings.push_back((self.journal.last_batch(), durability, close));
    }

    /// Makes `waiter` wait until `durability` can be promised of a batch.
    pub fn wait_for(&mut self, batch: u64, durability: Durability, waiter: Waiter) {
        let waits = &mut self.waits[durability as usize];
        if waits.back() != Some(&(batch, waiter)) {
            waits.push_back((batch, waiter));
        }
    }

    /// The last batch of which `durability` can be promised.
    #[must_use]
    pub fn reached(&self, durability: Durability) -> u64 {
        match durability {
            Durability::Sync if planted(Bug::SyncedWhenWritten) => self.journal.written(),
            Durability::Sync => self.journal.durable(),
            Durability::Batched if planted(Bug::BatchedBeforeWritten) => u64::MAX,
            Durability::Batched => self.journal.written(),
            Durability::Memory => u64::MAX,
        }
    }

    /// Whether `durability` can be promised of everything that was asked for.
    #[must_use]
    pub fn is_settled(&self, durability: Durability) -> bool {
        self.journal.last_batch() <= self.reached(durability)
    }

    /// The next who waits no longer.
    fn poll(&mut self) -> Option<Waiter> {
        [Durability::Batched, Durability::Sync].into_iter().find_map(|durability| {
            let reached = self.reached(durability);
            let waits = &mut self.waits[durability as usize];
            waits.pop_front_if(|(batch, _)| *batch <= reached).map(|(_, waiter)| waiter)
        })
    }

    /// The next connection that is closed now.
    fn poll_closings(&mut self) -> Option<ConnectionEffect> {
        let &(batch, durability, _) = self.closings.front()?;
        let is_reached = batch <= self.reached(durability);
        self.closings.pop_front_if(|_| is_reached).map(|(.., close)| close)
    }

    /// Asks for a delivery to be queued for the durable session `session`, when its QoS has that kept.
    pub fn queue(
        &mut self,
        session: u64,
        sequence: u64,
        message: &Rc<ApplicationMessage>,
        order: Order<'_>,
    ) -> Option<Stored> {
        if order.qos == QoS::AtMostOnce {
            return None;
        }
        let entry = Entry {
            session,
            sequence,
            qos: order.qos,
            retain: order.retain,
            identifiers: SubscriptionIdentifiers::of(order.identifiers),
        };
        Some(self.journal.queue(message, entry))
    }

    /// A delivery is done with.
    pub fn end_queued(&mut self, number: Option<u64>, settled: Option<Settled>) {
        if let (Some(session), Some(settled)) = (number, settled) {
            self.journal.ask_lazily(Self::end_of(session, settled));
        }
    }

    /// What lets go of a delivery that is done with.
    #[must_use]
    pub fn end_of(session: u64, settled: Settled) -> Operation {
        let Settled { sequence, number, is_released } = settled;
        let number = (!is_released).then_some(number);
        Operation::QueueEnd { session, sequence, number }
    }
}

impl Shard {
    /// The store says how far it is, and what it can do. What waited for that goes on.
    pub fn handle_store(&mut self, durable: u64, condition: Condition, now: Moment) {
        if durable > self.clients.durable.journal.durable() {
            self.clients.durable.journal.set_durable(durable);
            self.release_waiters(now);
        }
        if condition == self.clients.durable.journal.condition() {
            return;
        }
        self.clients.durable.journal.set_condition(condition);
        // All shards hear of it; one counts.
        let is_counted = u64::from(self.index == 0);
        match condition {
            Condition::Good => {}
            Condition::Full => self.clients.counters.store_full += is_counted,
            Condition::Failed => {
                self.clients.counters.store_failed += is_counted;
                self.give_up_on_store();
            }
        }
    }

    /// The store says how far it has written what it has not synced yet.
    pub fn handle_written(&mut self, written: u64, now: Moment) {
        if written > self.clients.durable.journal.written() {
            self.clients.durable.journal.set_written(written);
            self.release_waiters(now);
        }
    }

    fn release_waiters(&mut self, now: Moment) {
        while let Some(close) = self.clients.durable.poll_closings() {
            self.effects.connections.push(close);
        }
        while let Some(waiter) = self.clients.durable.poll() {
            match waiter {
                Waiter::Answer(answer) => self.settled.push(answer),
                Waiter::Connection(id) => self.release_connection(id, now),
                Waiter::Session(session, generation) => {
                    if self.clients.session_mut(session, generation).is_some() {
                        self.clients.pump(session, now);
                    }
                }
                Waiter::Report(shard, rank, count, promise) => {
                    self.effects.send(shard, MeshMessage::Handled { rank, count, promise });
                }
            }
        }
    }

    /// A part of a queue has been read.
    pub fn handle_slice(&mut self, slice: QueueSlice, now: Moment) {
        let QueueSlice { request, read } = slice;
        let (index, generation) = request.session;
        let before = self.clients.waiting(index);
        let Some(session) = self.clients.session_mut(index, generation) else { return };
        let is_online = session.is_online();
        let Some(outbox) = session.outbox.as_deref_mut() else { return };
        let (entries, is_complete) = match read {
            Ok(read) => read,
            Err(error) => {
                outbox.lose_slice();
                return self.on_unreadable_queue(index, &error);
            }
        };
        let unparked = entries.into_iter().map(unparked).collect();
        let taken = outbox.take_slice(request.range, unparked, is_complete, is_online);
        let after = self.clients.waiting(index);
        self.clients.queues.note(before, after);
        for settled in taken.dropped {
            self.clients.durable.end_queued(Some(request.number), Some(settled));
        }
        if taken.missing > 0 {
            let missing = StoreError::Damaged(format!("{} queued messages are not there", taken.missing));
            self.on_unreadable_queue(index, &missing);
        }
        self.clients.pump(index, now);
        if !taken.is_stale {
            self.end_silence(index);
        }
    }

    /// The first of what is queued for a client follows its CONNACK, or cannot be read.
    fn end_silence(&mut self, session: u32) {
        let Some(session) = self.clients.sessions.at(session) else { return };
        let slot = session.connection;
        if let Some(connection) = self.clients.connections.at_mut(slot)
            && connection.flags.any(Flags::AWAITS_QUEUE)
        {
            connection.flags.set(Flags::AWAITS_QUEUE, false);
            self.clients.connections.out(slot);
        }
    }

    /// What is queued for a client cannot be given to it. It is told to go: what comes behind would be out of order.
    fn on_unreadable_queue(&mut self, session: u32, error: &StoreError) {
        self.clients.counters.queue_read_errors += 1;
        let Some(session) = self.clients.sessions.at(session) else { return };
        tracing::error!(client_id = &*session.client_id, %error, "a queue cannot be read from the store");
        let slot = session.connection;
        if let Some(connection) = self.clients.connections.at(slot) {
            let id = super::clients::id_of(slot, connection);
            self.clients.condemned.push((id, ReasonCode::UnspecifiedError));
        }
    }

    /// Parts of queues that the store is to be asked for, behind everything that was asked for before.
    pub fn take_reads(&mut self) -> impl Iterator<Item = SliceRequest> {
        let batch = self.clients.durable.journal.last_batch();
        self.clients.durable.reads.drain(..).map(move |request| SliceRequest { batch, ..request })
    }

    /// What the turn asked the store for.
    pub fn take_batch(&mut self) -> Option<crate::store::Batch> {
        self.clients.durable.journal.take_batch()
    }

    /// The store has failed. What waits for it is not true before it is open again: nobody may be told so until then, and
    /// whoever can be told something else is.
    fn give_up_on_store(&mut self) {
        for (.., close) in std::mem::take(&mut self.clients.durable.closings) {
            if let ConnectionEffect::Close(id, _, _) = close {
                self.effects.connections.push(ConnectionEffect::Close(id, None, Ending::Reset));
            }
        }
        for promise in [Durability::Sync, Durability::Batched, Durability::Memory] {
            self.give_up_waiting(promise);
        }
        let connections = &self.clients.connections;
        let is_silent = |id: &ConnectionId| {
            connections.at(id.slot).is_some_and(|connection| connection.flags.any(Flags::AWAITS_QUEUE))
        };
        self.clients.condemned.extend(connections.open_ids().filter(is_silent).map(|id| (id, UNKEPT)));
    }

    fn give_up_waiting(&mut self, promise: Durability) {
        let Some(waits) = self.clients.durable.waits.get_mut(promise as usize) else { return };
        for (batch, waiter) in std::mem::take(waits) {
            match waiter {
                Waiter::Answer(AnswerReference { connection, .. }) | Waiter::Connection(connection) => {
                    self.clients.condemned.push((connection, UNKEPT));
                }
                // Messages of QoS 2 leave when the store has them.
                Waiter::Session(..) => self.clients.durable.wait_for(batch, promise, waiter),
                Waiter::Report(shard, rank, count, promise) if planted(Bug::UndoneReportedAsDone) => {
                    self.effects.send(shard, MeshMessage::Handled { rank, count, promise });
                }
                Waiter::Report(shard, rank, count, _) => {
                    self.effects.send(shard, MeshMessage::Undone { rank, count });
                }
            }
        }
    }

    /// Why a PUBLISH of QoS 1 or 2, which may change what is kept, is not taken over now.
    pub(super) fn store_refuses_publish(&mut self, retain: bool) -> Option<ReasonCode> {
        let reason = refusal(self.clients.durable.journal.condition())?;
        // Without a session that is kept nothing can come of it that has to be.
        if !retain && self.shared.kept_sessions.now() == 0 {
            return None;
        }
        self.clients.counters.refused_unkept += 1;
        Some(reason)
    }

    /// Why a CONNECT for a session of this expiry is not served now. `found`: the session that its client has.
    pub(super) fn store_refuses_connect(
        &mut self,
        found: Option<u32>,
        clean_start: bool,
        expiry_interval_s: u32,
    ) -> Option<ReasonCode> {
        let is_kept = found.and_then(|found| self.clients.sessions.at(found)).is_some_and(|found| found.kept.is_some());
        let reason = match self.clients.durable.journal.condition() {
            Condition::Good => return None,
            // Who comes back takes its messages away, and who ends its session leaves room.
            Condition::Full if expiry_interval_s == 0 || (is_kept && !clean_start) => return None,
            Condition::Full => ReasonCode::QuotaExceeded,
            Condition::Failed if expiry_interval_s == 0 && !is_kept => return None,
            Condition::Failed => ReasonCode::ServerUnavailable,
        };
        self.clients.counters.refused_unkept += 1;
        Some(reason)
    }

    /// Why a subscription of this session is not made now. `is_held`: it has one for this filter.
    pub(super) fn store_refuses_subscription(&mut self, session: u32, is_held: bool) -> Option<ReasonCode> {
        let condition = self.clients.durable.journal.condition();
        let reason = refusal(condition)?;
        let is_kept = self.clients.sessions.at(session).is_some_and(|session| session.kept.is_some());
        // Clients subscribe anew when they come back, which takes no room.
        if !is_kept || (is_held && condition == Condition::Full) {
            return None;
        }
        self.clients.counters.refused_unkept += 1;
        Some(reason)
    }

    /// CONNACK may leave.
    fn release_connection(&mut self, id: ConnectionId, now: Moment) {
        let Some(connection) = self.clients.connections.open_mut(id) else { return };
        connection.flags.set(Flags::HELD, false);
        let session = connection.session;
        self.clients.connections.out(id.slot);
        // Messages of QoS 2 that were queued while the client was away are durable now as well.
        self.clients.pump(session, now);
    }

    /// A session has been connected to, or made: the store hears of it. `is_new`: it was made for this connection.
    pub(super) fn keep_session(&mut self, session: u32, is_new: bool) {
        if !self.clients.durable.journal.is_on() {
            return;
        }
        // As when a session ends: this one may, as far as the store knows.
        self.return_displaced();
        let super::Clients { sessions, connections, durable, .. } = &mut self.clients;
        let Some(session) = sessions.at_mut(session) else { return };
        // Whether it is kept is decided where it is made.
        let durability = connections.at(session.connection).map_or(Durability::Sync, |through| through.durability);
        let keeps_any = durability != Durability::Memory || planted(Bug::KeptThroughMemory);
        if session.kept.is_none() && !(is_new && keeps_any) {
            return;
        }
        let has_parked = session.outbox.as_ref().is_some_and(|outbox| outbox.has_parked());
        if session.expiry_interval_s == 0 && !(has_parked && session.kept.is_some()) {
            // It goes with this connection, whatever it was before. As long as the store has what it is to be sent, it stays.
            if let Some(kept) = session.kept.take() {
                self.shared.kept_sessions.take(1);
                durable.journal.ask(Operation::SessionEnd(kept.number));
            }
            return;
        }
        let kept = session.kept.get_or_insert_with(|| {
            self.shared.kept_sessions.add(1);
            Box::new(Kept { number: durable.journal.take_number(), next_sequence: 0, reserve: None })
        });
        let number = kept.number;
        let record = Operation::Session(number, record_of(session, None));
        if is_new {
            durable.journal.ask(record);
        } else {
            durable.journal.ask_lazily(record);
        }
        match &session.will {
            Some(will) => durable.journal.ask(Operation::Will(number, will.clone())),
            None if !is_new => durable.journal.ask_lazily(Operation::WillEnd(number)),
            None => {}
        }
    }

    /// A durable session's client has gone.
    pub(super) fn keep_absence(&mut self, session: u32, now: Moment) {
        let super::Clients { sessions, durable, .. } = &mut self.clients;
        let Some(session) = sessions.at_mut(session) else { return };
        if let Some(number) = session.number() {
            durable.journal.ask_lazily(Operation::Session(number, record_of(session, Some(now))));
            session.outbox.as_mut().into_iter().for_each(|outbox| outbox.park());
        }
    }

    /// A durable session has no Will any more.
    pub(super) fn keep_no_will(&mut self, session: u32) {
        let super::Clients { sessions, durable, .. } = &mut self.clients;
        if let Some(number) = sessions.at(session).and_then(Session::number) {
            durable.journal.ask_lazily(Operation::WillEnd(number));
        }
    }

    /// A durable session has subscribed.
    pub(super) fn keep_subscription(&mut self, session: u32, filter: &str, options: SubscriptionBits, identifier: u32) {
        let super::Clients { sessions, durable, .. } = &mut self.clients;
        if let Some(number) = sessions.at(session).and_then(Session::number) {
            let record = SubscriptionRecord { options: options.0, identifier };
            durable.journal.ask(Operation::Subscription(number, filter.into(), record));
        }
        if options.qos() == QoS::ExactlyOnce {
            self.clients.reserve_ahead(session);
        }
    }

    /// A durable session has unsubscribed.
    pub(super) fn keep_unsubscription(&mut self, session: u32, filter: &str) {
        let super::Clients { sessions, durable, .. } = &mut self.clients;
        if let Some(number) = sessions.at(session).and_then(Session::number) {
            durable.journal.ask(Operation::SubscriptionEnd(number, filter.into()));
        }
    }

    /// Takes over what the store held of a session whose client is at home here, before anything is served.
    pub fn restore_session(&mut self, recovered: RecoveredSession, now: Moment) {
        let RecoveredSession { number, record, subscriptions, queue, used_below, reserve, received, will } = recovered;
        let index = self.clients.create(&record.client_id);
        self.shared.sessions.add(1);
        if let Some(session) = self.clients.sessions.at_mut(index) {
            // Its connection ended with the broker, when not before.
            session.offline_since = record.offline_since_us.map_or(now, |micros| Moment::from_micros(micros).min(now));
            session.expiry_interval_s = record.expiry_interval_s;
            let is_known = record.offline_since_us.is_some() && !planted(Bug::SequenceNotKept);
            let next_sequence = if is_known { record.sent_below } else { 0 }.max(used_below);
            let reserve = reserve.map(|record| Box::new(Reserve::of(record)));
            session.kept = Some(Box::new(Kept { number, next_sequence, reserve }));
            self.shared.kept_sessions.add(1);
            for ReceivedRecord { identifier, fingerprint, is_doubted } in received {
                let Some(identifier) = PacketIdentifier::new(identifier) else { continue };
                let received = session.received.get_or_insert_default();
                received.insert(identifier);
                if is_doubted {
                    received.doubt(identifier, fingerprint);
                }
            }
            session.will = will.map(Box::new);
            if let Some(summary) = queue {
                session.outbox_mut().restore(summary);
            }
            let waiting = session.outbox.as_deref().map_or(Waiting::default(), Waiting::of);
            self.clients.queues.note(Waiting::default(), waiting);
        }
        for (filter, subscription) in subscriptions {
            self.restore_subscription(index, &filter, subscription);
        }
        let expiry_interval_s = record.expiry_interval_s;
        if expiry_interval_s != u32::MAX {
            self.timers.set(now, Timer::SessionExpiry { session: index });
        }
        self.timers.set(now, Timer::WillDelay { session: index });
    }

    fn restore_subscription(&mut self, session: u32, filter: &str, record: SubscriptionRecord) {
        let Ok(filter) = TopicFilter::parse(filter) else { return };
        let options = SubscriptionBits(record.options);
        if let Some(shared) = filter.shared() {
            let retain_as_published = options.retain_as_published();
            self.join_group(session, &filter, &shared, options.qos(), record.identifier, retain_as_published);
            return;
        }
        self.insert_subscription(session, &filter, options, record.identifier);
    }

    /// Takes over a retained message whose topic is at home here, before anything is served.
    pub fn restore_retained(&mut self, message: ApplicationMessage, now: Moment) {
        if message.envelope.has_expired(now) {
            self.clients.durable.journal.ask_lazily(Operation::RetainedEnd(message.topic().into()));
            return;
        }
        self.last_stamp = self.last_stamp.max(message.envelope.stamp);
        if self.put_retained(&Publication::of(&Rc::new(message)), now).is_err() {
            tracing::warn!("a retained message of the store is beyond the limits of today and is not served");
        }
    }
}

fn unparked(entry: QueueEntry) -> Unparked {
    let QueueEntry { sequence, number, message, qos, retain, identifiers } = entry;
    let stored = Some(Stored { number, batch: 0 });
    let delivery = message.map(|message| Delivery::new(Rc::new(message), qos, retain, identifiers, None, stored));
    Unparked { sequence, number, delivery }
}

/// How a client is told that what it asks for cannot be kept.
fn refusal(condition: Condition) -> Option<ReasonCode> {
    match condition {
        Condition::Good => None,
        Condition::Full => Some(ReasonCode::QuotaExceeded),
        Condition::Failed => Some(UNKEPT),
    }
}

/// Why a client has to go that waits for a store that has failed.
pub const UNKEPT: ReasonCode = ReasonCode::ImplementationSpecificError;

fn record_of(session: &Session, offline_since: Option<Moment>) -> SessionRecord {
    let next_sequence = session.kept.as_ref().map_or(0, |kept| kept.next_sequence);
    SessionRecord {
        client_id: session.client_id.clone(),
        expiry_interval_s: session.expiry_interval_s,
        offline_since_us: offline_since.map(Moment::micros),
        sent_below: session.outbox.as_ref().map_or(next_sequence, |outbox| outbox.sent_below()),
    }
}
