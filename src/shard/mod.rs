//! The state machine of one core.
//!
//! Owns: the sessions of the clients that are at home here, their connections and subscriptions, the retained messages
//! and share groups that are at home here, timers, jobs and counters.
//! Always: input comes in through `handle_*` with the moment it came at, output leaves through [`Effects`] and the
//! out-buffers of dirty connections. One turn is: inputs, [`Shard::handle_time`], [`Shard::run_jobs`],
//! [`Shard::end_turn`], then the driver carries out what was asked for.
//! Never: a socket, a clock, a thread, a random number. Whatever waits has a bound, and a connection is paused only for
//! waits that end without any client's help.

mod burst;
mod clients;
mod connect;
mod connections;
mod counters;
mod durable;
mod effects;
mod ending;
mod exchange;
mod fan_out;
mod frames;
mod input;
mod ledger;
mod packets;
mod parcel;
mod publish;
mod queues;
mod reserve;
mod retained;
mod share;
mod shared;
mod silence;
mod subscribe;
mod sys;
#[cfg(test)]
mod tests;
mod timers;

use std::{collections::VecDeque, rc::Rc, time::Duration};

use bytes::Bytes;

pub use clients::Clients;
pub use connections::{Connection, Connections, Peer};
pub use counters::Counters;
pub use effects::{ConnectionEffect, Effects, Ending};
pub use exchange::{Arrival, MeshMessage, RANK_DELIVERY, RANK_HOME, RANK_REPLY, RANKS};
pub use shared::Shared;
pub use timers::{Timer, TimerWheel};

use crate::{
    config::{Config, Durability},
    message::{Publication, RetainedMessage, Stamp},
    plant::{Bug, planted},
    routing::{FilterTable, InterestCounts, LastTopic, RetainedStore, ShareGroups, Subscriber},
    runtime::ConnectionId,
    session::Will,
    shard::{
        durable::{Durable, UNKEPT, Waiter},
        fan_out::{FanOut, FanOutJob},
        ledger::{AnswerReference, Ledger},
        parcel::{PARCEL_MESSAGES_MAX, Parcels},
        retained::RetainedTalk,
        share::Memberships,
        silence::Silence,
    },
    store::Journal,
    sync::Arc,
    time::Moment,
    transport::OutBuffer,
};

/// A subscription as the filter table holds it: 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The subscriber.
    pub session: u32,
    /// The Subscription Identifier, 0 for none.
    pub identifier: u32,
    /// Granted QoS and flags.
    pub options: SubscriptionBits,
}

impl Subscriber for Subscription {
    type Key = u32;

    fn key(&self) -> u32 {
        self.session
    }
}

/// Granted QoS, No Local and Retain As Published in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionBits(pub u8);

/// The state of one core.
#[derive(Debug)]
pub struct Shard {
    index: u16,
    shards: u16,
    config: Rc<Config>,
    shared: Arc<Shared>,
    clients: Clients,
    filters: FilterTable<Subscription>,
    interest: InterestCounts,
    share_interest: InterestCounts,
    groups: ShareGroups,
    memberships: Memberships,
    retained: RetainedStore<RetainedMessage>,
    retained_talk: RetainedTalk,
    fan_out: FanOut,
    jobs: VecDeque<FanOutJob>,
    parcels: Parcels,
    /// Wills that came when there was much to do.
    wills: VecDeque<Box<Will>>,
    ledger: Ledger,
    timers: TimerWheel,
    silence: Silence,
    due: Vec<Timer>,
    effects: Effects,
    /// Bytes of CONNECTs that are not complete.
    pending_bytes: usize,
    /// Connections with input to go on with.
    backlog: VecDeque<ConnectionId>,
    /// Connections that wait for room in the mesh.
    waiting_for_mesh: Vec<ConnectionId>,
    /// Answers that became ready through other shards' reports.
    settled: Vec<AnswerReference>,
    /// Messages to ourselves that must not nest: handled at the end of the turn.
    to_self: VecDeque<MeshMessage>,
    work_this_turn: usize,
    stamp_counter: u32,
    last_stamp: Stamp,
    /// Stamps are ahead of the clock by so much: it was set back since others were made.
    stamp_lead: Duration,
    started_at: Moment,
    listeners: Vec<ListenerFacts>,
    /// What acknowledgements here wait for, the most first.
    promises: Vec<Durability>,
    draining: bool,
    /// While draining: until then connections may still say CONNECT.
    pending_until: Moment,
    /// Filters whose interest is added after the turn that follows, and after this one: only with a planted bug.
    late_interest: [Vec<Box<str>>; 2],
    scratch: Vec<u8>,
    /// That of the last publication of a client here, or of the broker itself.
    last_topic: LastTopic,
    /// The topic of the last publication of another shard.
    last_mesh_topic: LastTopic,
    /// The memory of the packet that is being handled, when it has some of its own.
    packet: Option<Bytes>,
}

/// What a shard needs to know of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenerFacts {
    /// Whether clients without credentials are admitted.
    pub admits_anonymous: bool,
    /// The port that clients connected to.
    pub port: u16,
    /// What acknowledgements wait for.
    pub durability: Durability,
}

/// What acknowledgements to those who connect through any of these wait for, the most first.
fn promises_of(listeners: &[ListenerFacts]) -> Vec<Durability> {
    let mut promises: Vec<_> = listeners.iter().map(|listener| listener.durability).collect();
    promises.sort_by_key(|&durability| durability as u8);
    promises.dedup();
    promises
}

impl Shard {
    /// The shard `index` of `shared.shards`, at `now`.
    #[must_use]
    pub fn new(
        index: u16,
        config: Rc<Config>,
        shared: Arc<Shared>,
        listeners: Vec<ListenerFacts>,
        now: Moment,
    ) -> Self {
        let shards = shared.shards;
        let mut timers = TimerWheel::new(now);
        timers.set(now.after(RETAINED_SWEEP_INTERVAL), Timer::RetainedSweep);
        if config.sys.enabled {
            timers.set(now, Timer::SysInterval);
        }
        Self {
            index,
            shards,
            clients: Clients::new(&shared, Rc::clone(&config)),
            filters: FilterTable::new(shared.key),
            interest: InterestCounts::new(&shared.interest, usize::from(index)),
            share_interest: InterestCounts::new(&shared.share_interest, usize::from(index)),
            groups: ShareGroups::new(shared.key),
            memberships: Memberships::new(index),
            retained: RetainedStore::new(shared.key),
            retained_talk: RetainedTalk::default(),
            fan_out: FanOut::default(),
            jobs: VecDeque::new(),
            parcels: Parcels::default(),
            wills: VecDeque::new(),
            ledger: Ledger::new(usize::from(shards)),
            timers,
            silence: Silence::default(),
            due: Vec::new(),
            effects: Effects::new(usize::from(shards)),
            pending_bytes: 0,
            backlog: VecDeque::new(),
            waiting_for_mesh: Vec::new(),
            settled: Vec::new(),
            to_self: VecDeque::new(),
            work_this_turn: 0,
            stamp_counter: 0,
            last_stamp: Stamp::default(),
            stamp_lead: Duration::ZERO,
            started_at: now,
            promises: promises_of(&listeners),
            listeners,
            draining: false,
            pending_until: Moment::NEVER,
            late_interest: [const { Vec::new() }; 2],
            scratch: Vec::new(),
            last_topic: LastTopic::default(),
            last_mesh_topic: LastTopic::default(),
            packet: None,
            config,
            shared,
        }
    }

    /// From now on what is to outlive the process is asked of the store through `journal`.
    pub fn set_journal(&mut self, journal: Journal) {
        self.clients.durable = Durable::new(journal);
    }

    /// This shard's number.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// What the turn wants done.
    pub fn effects_mut(&mut self) -> &mut Effects {
        &mut self.effects
    }

    /// What the shard counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.clients.counters
    }

    /// The sessions and connections.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// A moment at or before which there is something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        let deliveries = self.clients.connections.next_due();
        self.timers.next_due().into_iter().chain(deliveries).min()
    }

    /// Whether there is work that waits for nothing but the next turn: the driver must not sleep.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.backlog.is_empty()
            // Asked for after the driver had acted: room in the mesh lets connections receive again.
            || !self.effects.connections.is_empty()
            || !self.jobs.is_empty()
            || self.parcels.has_work()
            || !self.wills.is_empty()
            || !self.to_self.is_empty()
            || !self.settled.is_empty()
            || self.retained_talk.has_work()
            || self.memberships.has_work()
            || !self.clients.displaced.is_empty()
    }

    /// Whether something here waits for another shard to go on, without a message from it.
    #[must_use]
    pub fn waits_for_others(&self) -> bool {
        self.retained_talk.waits_for_grace()
    }

    /// The connections that have something to send at `now`, each with its buffer. While a send of a connection is under
    /// way the next gathers behind it.
    pub fn drain_dirty(&mut self, now: Moment, send: impl FnMut(ConnectionId, Box<OutBuffer>)) {
        self.clients.connections.drain_dirty(now, send);
    }

    /// Takes back a buffer that was not sent.
    pub fn recycle(&mut self, buffer: Box<OutBuffer>) {
        self.clients.connections.recycle(buffer);
    }

    /// Sends a client, whose socket is in `arrival`, to its home.
    pub fn send_arrival(&mut self, to: u16, arrival: Box<Arrival>) {
        self.send(to, MeshMessage::Arrival(arrival));
    }

    /// Whether messages at `rank` from shard `from` are to be left in the mesh for now: the fan-out of an earlier one
    /// is under way, or handling them would need room that the mesh does not have.
    #[must_use]
    pub fn leaves_in_mesh(&self, from: u16, rank: usize) -> bool {
        match rank {
            RANK_HOME => self.effects.waiting(RANK_DELIVERY) > 0,
            RANK_DELIVERY => {
                self.fan_outs_are_many()
                    || self.jobs.iter().any(|job| job.comes_from_shard(from))
                    || self.parcels.has_begun(from)
            }
            _ => false,
        }
    }

    /// A message of the mesh came from shard `from`.
    pub fn handle_mesh(&mut self, from: u16, message: MeshMessage, now: Moment) {
        self.clients.counters.mesh_received += message.count() as u64;
        let (rank, wants_report) = (message.rank(), message.wants_report());
        let asked = self.clients.durable.journal.awaited();
        let handled = self.handle_exchange(from, message, now);
        if wants_report {
            self.note_asked_since(asked, from, rank);
        }
        if handled {
            self.ledger.count_received(from, rank, 1, wants_report);
        }
    }

    /// What the store has been asked for since `asked` was on behalf of shard `from`.
    fn note_asked_since(&mut self, asked: u64, from: u16, rank: usize) {
        if self.clients.durable.journal.awaited() > asked {
            self.ledger.note_asked(from, rank, self.clients.durable.journal.batch());
        }
    }

    /// Handles what a shard, maybe this one, has said. Returns whether it is done with, not only begun.
    fn handle_exchange(&mut self, from: u16, message: MeshMessage, now: Moment) -> bool {
        match message {
            // The driver adopts the socket and calls `handle_arrival`.
            MeshMessage::Arrival(_) => {}
            MeshMessage::Retain(taken, message) => {
                let group = taken.group(from).filter(|_| self.clients.durable.journal.is_on());
                if let Some(group) = group {
                    self.clients.durable.journal.begin_part(group);
                }
                let retained = self.retain(&Publication::of(&Rc::new(message)), now);
                if group.is_some() {
                    self.clients.durable.journal.end_part(true, 0);
                }
                if let Err(reason) = retained
                    && taken.is_awaited()
                {
                    let count = self.ledger.count_of_current(from, RANK_HOME);
                    self.effects.send(from, MeshMessage::Refused { rank: RANK_HOME as u8, count, reason });
                }
            }
            MeshMessage::RetainedQuestion(question) => self.handle_retained_question(*question),
            MeshMessage::SharePublish(report, message) => {
                let message = Rc::new(message);
                let publication = Publication::of(&message);
                let mut groups = smallvec::SmallVec::new();
                let topic_hash = publication.envelope.topic_hash;
                self.groups.matches(publication.topic, topic_hash, None, &mut groups);
                self.share_publish(&publication, &groups, report, now);
            }
            MeshMessage::ShareJoin(join) => self.handle_share_join(&join),
            MeshMessage::ShareLeave(leave) => self.handle_share_leave(&leave),
            MeshMessage::ShareState(state) => self.handle_share_state(&state),
            MeshMessage::Parcel(parcel) => {
                // What is in it is counted one by one.
                self.handle_parcel(from, parcel, now);
                return false;
            }
            MeshMessage::Deliver(taken, message) => return self.deliver_from_shard(from, taken, message, now),
            MeshMessage::ShareDeliver(delivery) => self.handle_share_delivery(*delivery, now),
            MeshMessage::Handled { rank, count, promise } => {
                let settled = &mut self.settled;
                self.ledger.handle_report(from, rank, count, promise, |answer| settled.push(answer));
            }
            MeshMessage::Undone { rank, count } => {
                let condemned = &mut self.clients.condemned;
                // Whoever waits for less has heard before.
                self.ledger.handle_report(from, rank, count, Durability::Sync, |answer| {
                    condemned.push((answer.connection, UNKEPT));
                });
            }
            MeshMessage::Refused { rank, count, reason } => {
                let connections = &mut self.clients.connections;
                self.ledger.handle_refusal(from, rank, count, |answer| {
                    if let Some(connection) = connections.open_mut(answer.connection)
                        // Only v5 has words for it.
                        && connection.version.has_properties()
                    {
                        connection.inbound_mut().acknowledgements.refuse(answer.number, reason);
                    }
                });
            }
            MeshMessage::RetainedAnswer(answer) => self.handle_retained_answer(*answer, now),
            MeshMessage::ShareRefused(delivery) => self.memberships.retry_later(*delivery),
            MeshMessage::ShareReturned(taken, messages) => self.take_back(from, taken, messages),
        }
        true
    }

    /// Sends a message to a shard; what is for this one is handled later in the turn.
    fn send(&mut self, to: u16, message: MeshMessage) {
        if to == self.index {
            self.to_self.push_back(message);
        } else {
            self.ledger.count_sent(to, message.rank(), 1);
            self.effects.send(to, message);
        }
    }

    /// What is due at `now`.
    pub fn handle_time(&mut self, now: Moment) {
        let mut due = std::mem::take(&mut self.due);
        self.timers.poll_due(now, TIMERS_PER_TURN, &mut due);
        for timer in due.drain(..) {
            match timer {
                Timer::ConnectDeadline { slot, generation } => {
                    self.on_connect_deadline(ConnectionId { slot, generation });
                }
                Timer::KeepAlive { slot } => self.on_keep_alive(slot, now),
                Timer::SessionExpiry { session } => self.on_session_expiry(session, now),
                Timer::WillDelay { session } => self.on_will_delay(session, now),
                Timer::RetainedSweep => self.on_retained_sweep(now),
                Timer::Silence => self.on_silence(now),
                Timer::SysInterval => self.on_sys_interval(now),
            }
        }
        self.due = due;
    }

    /// The rest of a turn's work, within its budget: input that was put off, slices of fan-outs, answers.
    pub fn run_jobs(&mut self, now: Moment) {
        while let Some(message) = self.to_self.pop_front() {
            self.handle_exchange(self.index, message, now);
        }
        self.run_fan_out(now);
        self.run_parcels(now);
        self.run_wills(now);
        self.run_share_retries(now);
        self.run_retained(now);
        self.run_settled();
        self.run_backlog(now);
        self.return_displaced();
        self.run_share_reports();
        while let Some(message) = self.to_self.pop_front() {
            self.handle_exchange(self.index, message, now);
        }
    }

    /// The last step of a turn before the driver acts: reports to other shards, and connections that have to go.
    pub fn end_turn(&mut self, now: Moment) {
        while let Some((id, reason)) = self.clients.condemned.pop() {
            self.disconnect(id, reason, now);
        }
        let (effects, durable, promises) = (&mut self.effects, &mut self.clients.durable, &self.promises);
        let has_failed = durable.journal.has_failed();
        self.ledger.poll_reports(has_failed, |shard, rank, count, batch| {
            // The first that can be made says the weaker ones as well.
            let is_reached = |promise| {
                let is_said_early = has_failed && planted(Bug::UndoneReportedAsDone);
                batch <= durable.reached(promise) || is_said_early || planted(Bug::ReportBeforeDurable)
            };
            let reached = promises.iter().position(|&promise| is_reached(promise)).unwrap_or(promises.len());
            let (missed, reached) = promises.split_at(reached);
            if let Some(&promise) = reached.first() {
                effects.send(shard, MeshMessage::Handled { rank, count, promise });
            }
            if has_failed && !missed.is_empty() {
                effects.send(shard, MeshMessage::Undone { rank, count });
                return;
            }
            for &promise in missed {
                durable.wait_for(batch, promise, Waiter::Report(shard, rank, count, promise));
            }
        });
        let [now_late, next] = &mut self.late_interest;
        for filter in std::mem::replace(now_late, std::mem::take(next)) {
            self.add_interest(&filter);
        }
        self.clients.queues.tell();
        self.work_this_turn = 0;
    }

    /// The driver has put what fits into the mesh: connections that waited for room go on when there is some.
    pub fn handle_mesh_room(&mut self) {
        if self.waiting_for_mesh.is_empty() || self.effects.waiting(RANK_HOME) + self.effects.waiting(RANK_DELIVERY) > 0
        {
            return;
        }
        for id in std::mem::take(&mut self.waiting_for_mesh) {
            if planted(Bug::PauseForFullQueue) && self.own_queue_is_full(id) {
                self.waiting_for_mesh.push(id);
                continue;
            }
            self.stop_waiting(id, connections::Flags::WAITS_FOR_MESH);
        }
    }

    /// From now on stamps are larger than those of `newest`, whatever the clock says; it was `started` when the process
    /// began. All shards are told the same, so that theirs compare.
    pub fn stamp_behind(&mut self, newest: Moment, started: Moment) {
        let behind = newest.micros().saturating_add(1).saturating_sub(started.micros());
        self.stamp_lead = Duration::from_micros(behind);
    }

    /// A new stamp: larger than every one before it on this shard, and than what other shards made before `now`.
    fn next_stamp(&mut self, now: Moment) -> Stamp {
        self.stamp_counter = self.stamp_counter.wrapping_add(1);
        let mut stamp =
            Stamp { micros: now.after(self.stamp_lead).micros(), counter: self.stamp_counter, shard: self.index };
        if stamp.micros < self.last_stamp.micros || stamp.counter == 0 {
            stamp.micros = self.last_stamp.micros + 1;
        }
        self.last_stamp = stamp;
        stamp
    }

    /// Panics when what always holds does not.
    #[cfg(any(test, debug_assertions))]
    pub fn check_invariants(&self) {
        let mut waiting = queues::Waiting::default();
        for (index, session) in self.clients.sessions.iter() {
            if let Some(outbox) = &session.outbox {
                outbox.check_invariants();
                waiting.messages += queues::Waiting::of(outbox).messages;
                waiting.bytes += queues::Waiting::of(outbox).bytes;
            }
            if session.is_online() {
                let connection = self.clients.connections.at(session.connection);
                assert_eq!(connection.map(|connection| connection.session), Some(index), "one connection a session");
            }
        }
        assert_eq!(waiting, self.clients.queues.here(), "what waits is counted");
    }
}

/// How many messages each ring of a mesh holds, by rank, when `messages` of a rank may be in flight between two shards.
/// Deliveries come in parcels, so fewer are enough, and no more than fit into a turn.
#[must_use]
pub fn mesh_capacities(messages: usize) -> [usize; RANKS] {
    let mut capacities = [messages; RANKS];
    capacities[RANK_DELIVERY] = (messages * DELIVERY_ROOM / PARCEL_MESSAGES_MAX).max(2);
    capacities
}

/// Deliveries in flight in full parcels for each message of another rank.
const DELIVERY_ROOM: usize = 4;
/// Timers handled in one turn; more wait for the next.
const TIMERS_PER_TURN: usize = 1024;
/// How often expired retained messages are looked for. They are never delivered once expired; this frees their memory.
const RETAINED_SWEEP_INTERVAL: Duration = Duration::from_secs(10);
