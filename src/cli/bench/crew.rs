//! Clients that come and go: the same identities connect, leave and return, and whoever runs them hears what happens.
//!
//! Owns: a ring, and for each member its identity, and its MQTT client while it is connected. What always holds: a member
//! that has something to send and no send under way is on the dirty list; what a member says is told to the listener at
//! once, with the moment when the kernel had it. It must never decide what a member does next: that is the scenario's.

use std::{collections::VecDeque, net::SocketAddr, ops::Range, time::Duration};

use super::{
    BenchError,
    engine::{Target, reserve_descriptors, wires_on},
    fleet::{Introduction, LinkFailure},
    growth::Growth,
    observed::{Observed, Span},
    progress::Progress,
    report::{ConnectReport, Quantiles},
};
use crate::{
    client::{Client, ClientError, ClientEvent},
    mqtt::{Connect, ProtocolVersion, Publish, QoS, ReasonCode, SubscriptionOptions, TopicFilter, TopicName},
    runtime::{Clock, Close, CloseCause, ConnectionId, Errno, Uring, Wait, Wake, WireHandler, Wires, connector},
    time::Moment,
    transport::OutBuffer,
};

/// Who a member is, whenever it connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Its ClientId.
    pub client_id: String,
    /// What it subscribes to before it counts as ready.
    pub filter: Option<String>,
    /// Whether it begins anew, or goes on with its session.
    pub clean_start: bool,
    /// Whether its session outlives the connection. (In 3.x it does when it doesn't begin anew.)
    pub keeps_session: bool,
}

/// What is heard of a member.
#[derive(Debug)]
pub(super) enum News<'a> {
    /// It is connected, and has subscribed to what it should.
    Ready {
        /// From the begin of its connect.
        took: Duration,
        /// Whether the broker had a session of it.
        session_present: bool,
    },
    /// A later subscription was answered.
    Subscribed {
        /// Why it was refused, if it was.
        refused: Option<ReasonCode>,
    },
    /// A message came.
    Received(Publish<'a>),
    /// PINGRESP.
    Pong,
    /// Its connection ended without being asked to.
    Gone(LinkFailure),
}

/// Who hears what happens.
pub(super) trait Listener {
    /// `member` has `news`, which came at the moment `at`.
    fn hear(&mut self, member: u32, news: News<'_>, at: Moment);
}

/// Messages that one member publishes, above QoS 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// What is told of it meanwhile.
    pub what: &'static str,
    pub count: u32,
    pub qos: QoS,
    pub retain: bool,
    /// Messages that may be unacknowledged.
    pub window: u32,
    /// Messages a second at most.
    pub rate: Option<f64>,
    /// Who takes them, where that is known.
    pub broker: Option<Observed>,
}

/// How that went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    pub seconds: f64,
    pub per_second: f64,
    /// Acknowledged with an error.
    pub refused: u64,
    /// CPU time of the broker for each message.
    pub broker_cpu_us: Option<f64>,
    /// And of this process.
    pub generator_cpu_us: f64,
    /// Memory that the broker took for each; nothing when it had room for them.
    pub resident_bytes: Option<f64>,
}

/// How far a member has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is not connected.
    Away,
    /// Connect, CONNECT or SUBSCRIBE waits for an answer.
    Opening {
        session_present: bool,
    },
    Ready,
}

#[derive(Debug)]
struct Member {
    identity: Identity,
    client: Client,
    id: Option<ConnectionId>,
    stage: Stage,
    is_sending: bool,
    is_dirty: bool,
    out: Option<Box<OutBuffer>>,
    begun: Moment,
    /// How long its last opening took.
    took_us: u32,
}

/// The members, as the ring's handler.
#[derive(Debug)]
struct Deck<L> {
    clock: Clock,
    introduction: Introduction,
    members: Vec<Member>,
    /// Which member has a slot of the ring.
    by_slot: Vec<u32>,
    dirty: Vec<u32>,
    /// Connections that failed and are still to be closed.
    failed: Vec<ConnectionId>,
    #[allow(clippy::vec_box, reason = "a spare moves into a send without a copy and back")]
    spare: Vec<Box<OutBuffer>>,
    /// Read once a turn, after the kernel was entered.
    entered: Moment,
    opening: usize,
    ready: usize,
    lost: u64,
    /// Messages that the broker acknowledged, refusals included.
    acknowledged: u64,
    refused: u64,
    failure: Option<LinkFailure>,
    listener: L,
}

/// Members on a ring of their own.
#[derive(Debug)]
pub(super) struct Crew<L> {
    wires: Wires<Uring>,
    deck: Deck<L>,
    target: Target,
    next_second: Moment,
    pub progress: Progress,
}

impl<L: Listener> Crew<L> {
    /// Members that are all away.
    pub fn new(
        target: Target,
        introduction: Introduction,
        identities: Vec<Identity>,
        listener: L,
        progress: Progress,
    ) -> Result<Self, BenchError> {
        reserve_descriptors(identities.len())?;
        let wires = wires_on(Wake::new().map_err(BenchError::Wake)?)?;
        let clock = Clock::start();
        let member = |identity| Member {
            identity,
            client: Client::new(introduction.options),
            id: None,
            stage: Stage::Away,
            is_sending: false,
            is_dirty: false,
            out: None,
            begun: Moment::default(),
            took_us: 0,
        };
        let members = identities.into_iter().map(member).collect();
        let deck = Deck {
            clock,
            introduction,
            members,
            by_slot: Vec::new(),
            dirty: Vec::new(),
            failed: Vec::new(),
            spare: Vec::new(),
            entered: clock.now(),
            opening: 0,
            ready: 0,
            lost: 0,
            acknowledged: 0,
            refused: 0,
            failure: None,
            listener,
        };
        Ok(Crew { wires, deck, target, next_second: clock.now(), progress })
    }

    pub fn now(&self) -> Moment {
        self.deck.clock.now()
    }

    pub fn listener(&self) -> &L {
        &self.deck.listener
    }

    pub fn listener_mut(&mut self) -> &mut L {
        &mut self.deck.listener
    }

    /// Whether a member waits for an answer to its connect.
    pub fn is_opening(&self, member: u32) -> bool {
        matches!(self.deck.members[member as usize].stage, Stage::Opening { .. })
    }

    /// Members that are connected and have subscribed.
    pub fn ready(&self) -> usize {
        self.deck.ready
    }

    /// Members that wait for an answer.
    pub fn opening(&self) -> usize {
        self.deck.opening
    }

    /// Connections that ended, or failed to open, without being asked to.
    pub fn lost(&self) -> u64 {
        self.deck.lost
    }

    /// Fails when a connection has.
    pub fn check(&self) -> Result<(), BenchError> {
        self.deck.failure.map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Who a member will be when it connects next.
    pub fn identity_mut(&mut self, member: u32) -> &mut Identity {
        &mut self.deck.members[member as usize].identity
    }

    /// A member that is away begins to connect.
    ///
    /// # Errors
    ///
    /// What the kernel knows at once; it is still away then.
    pub fn begin(&mut self, member: u32) -> Result<(), Errno> {
        let begun = self.now();
        let from = self.target.source(member as usize);
        let socket = connector::begin(self.target.address, from)?;
        let id = match self.wires.adopt(socket) {
            Ok(id) => id,
            Err(socket) => {
                self.wires.discard(socket);
                return Err(Errno(TOO_MANY_FILES));
            }
        };
        self.wires.receive(id);
        self.deck.begin(member, id, begun);
        Ok(())
    }

    /// Lets a member that is ready write something.
    pub fn speak<T>(
        &mut self,
        member: u32,
        writes: impl FnOnce(&mut Client, &mut Vec<u8>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.deck.speak(member, writes)
    }

    /// A member publishes a batch, of which `fill` gives the topic and the payload of each message, and waits until the
    /// broker has acknowledged all of it.
    pub fn publish(
        &mut self,
        member: u32,
        batch: &Batch,
        mut fill: impl FnMut(u32, Moment, &mut String, &mut Vec<u8>),
    ) -> Result<Published, BenchError> {
        let (started, acknowledged_before, refused_before) = (self.now(), self.deck.acknowledged, self.deck.refused);
        let (mut sent, mut acknowledged, mut moved) = (0, 0, started);
        let (mut topic, mut payload) = (String::new(), Vec::new());
        let mut growth = batch.broker.and_then(Observed::resident_peak_bytes).map(Growth::new);
        let mut note = |count: u32, resident_bytes: fn(Observed) -> Option<u64>| {
            if let Some((growth, resident)) = growth.as_mut().zip(batch.broker.and_then(resident_bytes)) {
                growth.take_down(count, resident);
            }
        };
        note(0, Observed::resident_bytes);
        let (span, step) = (Span::begin(batch.broker), batch.count.div_ceil(GROWTH_POINTS));
        let mut next_point = step;
        while acknowledged < batch.count {
            if acknowledged >= next_point {
                note(acknowledged, Observed::resident_bytes_about);
                next_point = acknowledged + step;
            }
            let now = self.now();
            let due = batch.rate.map(|rate| (now.since(started).as_secs_f64() * rate) as u32 + 1);
            let may_be_sent = batch.count.min(due.unwrap_or(u32::MAX)).min(acknowledged.saturating_add(batch.window));
            while sent < may_be_sent && self.can_publish(member, batch.qos) {
                topic.clear();
                payload.clear();
                fill(sent, now, &mut topic, &mut payload);
                let topic = TopicName::parse(&topic).expect("the topics of a run are topic names");
                self.speak(member, |client, out| client.publish(topic, &payload, batch.qos, batch.retain, sent, out))
                    .map_err(LinkFailure::from)?;
                sent += 1;
            }
            let next = batch.rate.map_or(Moment::NEVER, |rate| {
                started.after(Duration::from_secs_f64(f64::from(sent) / rate)).max(now.after(CLOSING_TICK))
            });
            self.turn(next);
            if self.deck.members[member as usize].stage != Stage::Ready {
                return Err(self.deck.failure.map_or(BenchError::NothingOpen, BenchError::from));
            }
            let so_far = (self.deck.acknowledged - acknowledged_before) as u32;
            if so_far != acknowledged || so_far == sent {
                (acknowledged, moved) = (so_far, now);
            } else if now.since(moved) > PATIENCE {
                return Err(BenchError::Unacknowledged { acknowledged, count: batch.count });
            }
            self.progress.show(now, || format!("{}: {acknowledged} of {}", batch.what, batch.count));
        }
        let seconds = self.now().since(started).as_secs_f64();
        let cpu = span.each(u64::from(batch.count));
        note(batch.count, Observed::resident_bytes);
        Ok(Published {
            seconds,
            per_second: f64::from(batch.count) / seconds.max(1e-6),
            refused: self.deck.refused - refused_before,
            broker_cpu_us: cpu.broker_us,
            generator_cpu_us: cpu.generator_us,
            resident_bytes: growth.and_then(|growth| growth.bytes_each()),
        })
    }

    /// Whether a member may publish at `qos`, and has not too much to send already.
    fn can_publish(&self, member: u32, qos: QoS) -> bool {
        let member = &self.deck.members[member as usize];
        member.client.can_publish(qos) && member.out.as_ref().is_none_or(|out| out.len() < OUT_BYTES_MAX)
    }

    /// Waits until `count` says that there is all that is wanted, or nothing more has come for some time; and then a
    /// little longer, for what comes twice.
    pub fn wait_for(&mut self, wanted: u64, what: &str, count: impl Fn(&L) -> u64) {
        let (mut have, mut moved) = (count(&self.deck.listener), self.now());
        while have < wanted && self.deck.ready > 0 && self.now().since(moved) < DELIVERY_PATIENCE {
            self.turn(self.now().after(TICK));
            let (before, now) = (have, self.now());
            have = count(&self.deck.listener);
            if have != before {
                moved = now;
            }
            self.progress.show(now, || format!("{what}: {have} of {wanted}"));
        }
        let until = self.now().after(TICK);
        while self.now() < until {
            self.turn(until);
        }
    }

    /// A member says DISCONNECT and goes.
    pub fn leave(&mut self, member: u32) {
        let deck = &mut self.deck;
        let Some(id) = deck.away(member) else { return };
        let member = &mut deck.members[member as usize];
        let mut out = member.out.take().or_else(|| deck.spare.pop()).unwrap_or_default();
        member.client.disconnect(out.bytes_mut());
        // It fails only for a connection that is over, and then nobody is left to say goodbye to.
        let _ = self.wires.send(id, out);
        self.wires.close(id, Close::Linger);
    }

    /// A member's connection is reset, without a word.
    pub fn cut(&mut self, member: u32) {
        if let Some(id) = self.deck.away(member) {
            self.wires.close(id, Close::Reset);
        }
    }

    /// One turn: send, wait for what comes until `until` at the latest, take it.
    pub fn turn(&mut self, until: Moment) {
        let now = self.now();
        if now >= self.next_second {
            self.next_second = now.after(Duration::from_secs(1));
            self.deck.keep_alive(now);
        }
        for number in self.deck.dirty.drain(..) {
            let member = &mut self.deck.members[number as usize];
            member.is_dirty = false;
            let Some(id) = member.id.filter(|_| !member.is_sending) else { continue };
            let Some(out) = member.out.take_if(|out| !out.is_empty()) else { continue };
            member.is_sending = self.wires.send(id, out).is_ok();
        }
        for id in self.deck.failed.drain(..) {
            self.wires.close(id, Close::Reset);
        }
        let until = until.min(now.after(TICK));
        let wait = if until > now { Wait::Until(Some(until)) } else { Wait::No };
        self.wires.turn(&mut self.deck, wait, now);
    }

    /// Turns until `until`; none of the connections may end meanwhile.
    pub fn rest(&mut self, duration: Duration, what: &str) -> Result<(), BenchError> {
        let until = self.now().after(duration);
        while self.now() < until {
            self.turn(until);
            self.check()?;
            let now = self.now();
            self.progress.show(now, || format!("{what}: {} s left", until.since(now).as_secs() + 1));
        }
        Ok(())
    }

    /// Connects `members`, who are away; one failure is the end.
    pub fn open(&mut self, members: Range<u32>, broker: Option<Observed>) -> Result<ConnectReport, BenchError> {
        let (started, before) = (self.now(), self.deck.ready);
        let span = Span::begin(broker);
        let count = members.len();
        let mut waiting: VecDeque<u32> = members.clone().collect();
        let (mut ready, mut moved) = (self.deck.ready, started);
        while self.deck.ready < before + count {
            for _ in 0..OPENED_PER_TURN {
                if self.deck.opening >= self.target.opening_max {
                    break;
                }
                let Some(member) = waiting.pop_front() else { break };
                let from = self.target.source(member as usize);
                self.begin(member).map_err(|errno| self.target.connect_error(from, errno))?;
            }
            let now = self.now();
            let may_open = !waiting.is_empty() && self.deck.opening < self.target.opening_max;
            self.turn(if may_open { now } else { now.after(TICK) });
            if let Some(failure) = self.deck.failure {
                return Err(self.target.opening_error(failure, self.deck.ready));
            }
            if self.deck.ready != ready {
                (ready, moved) = (self.deck.ready, now);
            } else if now.since(moved) > PATIENCE {
                return Err(BenchError::OpeningStalled { ready: ready - before, count });
            }
            self.progress.show(now, || format!("opening connections: {} of {count}", ready - before));
        }
        let seconds = self.now().since(started).as_secs_f64();
        let cpu = span.each(count as u64);
        let took = |member: u32| self.deck.members[member as usize].took_us;
        let times: Vec<u32> = members.map(took).collect();
        Ok(ConnectReport {
            connections: count,
            seconds,
            per_second: count as f64 / seconds.max(1e-6),
            latency: Quantiles::of(&times),
            broker_cpu_us: cpu.broker_us,
            generator_cpu_us: cpu.generator_us,
        })
    }

    /// Everyone leaves, and the broker has ended their connections or had [`CLOSE_PATIENCE`] for it.
    pub fn leave_all(&mut self) {
        (0..self.deck.members.len() as u32).for_each(|member| self.leave(member));
        self.wait_closed();
    }

    /// Waits until no connection is left but those of members that are not away.
    pub fn wait_closed(&mut self) {
        let until = self.now().after(CLOSE_PATIENCE);
        while self.wires.len() > self.deck.ready + self.deck.opening && self.now() < until {
            self.turn(self.now().after(CLOSING_TICK));
        }
    }
}

impl<L: Listener> Deck<L> {
    fn begin(&mut self, number: u32, id: ConnectionId, begun: Moment) {
        let slot = id.slot as usize;
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, 0);
        }
        self.by_slot[slot] = number;
        let introduction = &self.introduction;
        let member = &mut self.members[number as usize];
        let mut connect = Connect {
            keep_alive_s: introduction.keep_alive_s,
            clean_start: member.identity.clean_start,
            user_name: introduction.user_name.as_deref(),
            password: introduction.password.as_deref().map(str::as_bytes),
            ..Connect::new(introduction.options.version, &member.identity.client_id)
        };
        if introduction.options.version == ProtocolVersion::V5 && member.identity.keeps_session {
            connect.properties.session_expiry_interval = Some(SESSION_EXPIRY_S);
        }
        member.client = Client::new(introduction.options);
        let mut out = self.spare.pop().unwrap_or_default();
        let connected = member.client.connect(&connect, out.bytes_mut());
        member.id = Some(id);
        member.stage = Stage::Opening { session_present: false };
        (member.is_sending, member.is_dirty, member.begun) = (false, false, begun);
        member.out = Some(out);
        self.opening += 1;
        match connected {
            Ok(()) => self.mark_dirty(number),
            Err(error) => self.on_failed(number, error.into()),
        }
    }

    fn speak<T>(
        &mut self,
        number: u32,
        writes: impl FnOnce(&mut Client, &mut Vec<u8>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let member = &mut self.members[number as usize];
        let out = member.out.get_or_insert_with(|| self.spare.pop().unwrap_or_default());
        let written = writes(&mut member.client, out.bytes_mut());
        if out.is_empty() {
            self.spare.extend(member.out.take());
        } else {
            self.mark_dirty(number);
        }
        written
    }

    fn mark_dirty(&mut self, number: u32) {
        let member = &mut self.members[number as usize];
        if !member.is_dirty && !member.is_sending {
            member.is_dirty = true;
            self.dirty.push(number);
        }
    }

    fn keep_alive(&mut self, now: Moment) {
        for number in 0..self.members.len() as u32 {
            if self.members[number as usize].stage == Stage::Ready {
                // It only tells when to ask again.
                let _ = self.speak(number, |client, out| Ok(client.handle_time(now, out)));
            }
        }
    }

    /// The member counts as away from now on. Returns its connection, if it had one.
    fn away(&mut self, number: u32) -> Option<ConnectionId> {
        let member = &mut self.members[number as usize];
        match std::mem::replace(&mut member.stage, Stage::Away) {
            Stage::Away => {}
            Stage::Opening { .. } => self.opening -= 1,
            Stage::Ready => self.ready -= 1,
        }
        member.is_sending = false;
        member.id.take()
    }

    fn find(&self, id: ConnectionId) -> Option<u32> {
        let number = *self.by_slot.get(id.slot as usize)?;
        self.members.get(number as usize).filter(|member| member.id == Some(id)).map(|_| number)
    }

    fn subscribe(&mut self, number: u32, session_present: bool) -> Result<(), ClientError> {
        let member = &mut self.members[number as usize];
        member.stage = Stage::Opening { session_present };
        let filter = member.identity.filter.clone();
        let Some(filter) = filter.as_deref().and_then(|filter| TopicFilter::parse(filter).ok()) else {
            self.on_ready(number);
            return Ok(());
        };
        let options = SubscriptionOptions { qos: self.introduction.qos, ..SubscriptionOptions::default() };
        self.speak(number, |client, out| client.subscribe(&[(filter, options)], out)).map(drop)
    }

    fn on_ready(&mut self, number: u32) {
        let member = &mut self.members[number as usize];
        let Stage::Opening { session_present } = member.stage else { return };
        member.stage = Stage::Ready;
        self.opening -= 1;
        self.ready += 1;
        let took = self.entered.since(member.begun);
        member.took_us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.listener.hear(number, News::Ready { took, session_present }, self.entered);
    }

    fn on_failed(&mut self, number: u32, failure: LinkFailure) {
        let Some(id) = self.away(number) else { return };
        self.lost += 1;
        self.failure.get_or_insert(failure);
        self.failed.push(id);
        self.listener.hear(number, News::Gone(failure), self.entered);
    }
}

/// What an input asks for once it is handled.
enum Next {
    Subscribe { session_present: bool },
    Answered { refused: Option<ReasonCode> },
}

impl<L: Listener> WireHandler for Deck<L> {
    fn on_entered(&mut self) {
        self.entered = self.clock.now();
    }

    fn on_accepted(&mut self, _id: ConnectionId, _listener: u16, _peer: SocketAddr) {}

    fn on_received(&mut self, id: ConnectionId, bytes: &mut [u8]) {
        let Some(number) = self.find(id) else { return };
        let Deck { members, spare, listener, entered, acknowledged, refused, .. } = self;
        let member = &mut members[number as usize];
        let out = member.out.get_or_insert_with(|| spare.pop().unwrap_or_default());
        let mut next = None;
        let handled = member.client.handle_input(bytes, out.bytes_mut(), |event| match event {
            ClientEvent::Received(publish) => listener.hear(number, News::Received(publish), *entered),
            ClientEvent::Acknowledged { reason_code, .. } => {
                *acknowledged += 1;
                *refused += u64::from(reason_code.is_error());
            }
            ClientEvent::Connected { session_present } => next = Some(Next::Subscribe { session_present }),
            ClientEvent::Subscribed { reason_codes, .. } => {
                next = Some(Next::Answered { refused: reason_codes.iter().find(|code| code.is_error()) });
            }
            ClientEvent::Pong => listener.hear(number, News::Pong, *entered),
            ClientEvent::Unsubscribed { .. } => {}
        });
        if out.is_empty() {
            self.spare.extend(member.out.take());
        } else {
            self.mark_dirty(number);
        }
        if let Err(error) = handled {
            return self.on_failed(number, error.into());
        }
        match next {
            None => {}
            Some(Next::Subscribe { session_present }) => {
                if let Err(error) = self.subscribe(number, session_present) {
                    self.on_failed(number, error.into());
                }
            }
            Some(Next::Answered { refused }) if self.members[number as usize].stage == Stage::Ready => {
                self.listener.hear(number, News::Subscribed { refused }, self.entered);
            }
            Some(Next::Answered { refused: None }) => self.on_ready(number),
            Some(Next::Answered { refused: Some(code) }) => {
                self.on_failed(number, LinkFailure::SubscriptionRefused(code));
            }
        }
    }

    fn on_sent(&mut self, id: ConnectionId, mut buffer: Box<OutBuffer>, _bytes: usize) {
        buffer.clear();
        self.spare.push(buffer);
        let Some(number) = self.find(id) else { return };
        let member = &mut self.members[number as usize];
        member.is_sending = false;
        if member.out.as_ref().is_some_and(|out| !out.is_empty()) {
            self.mark_dirty(number);
        }
    }

    fn on_closed(&mut self, id: ConnectionId, cause: CloseCause, buffer: Option<Box<OutBuffer>>) {
        self.spare.extend(buffer.map(|mut buffer| {
            buffer.clear();
            buffer
        }));
        let Some(number) = self.find(id) else { return };
        self.on_failed(
            number,
            match cause {
                CloseCause::EndOfStream => LinkFailure::Closed,
                CloseCause::Failed(errno) => LinkFailure::Failed(errno),
            },
        );
    }
}

/// Members `bench-RUN-KNNNNNN`, which hear what `filter` says of each.
pub(super) fn identities(
    prefix: &str,
    kind: char,
    count: u32,
    filter: impl Fn(u32) -> Option<String>,
) -> Vec<Identity> {
    let identity = |number| Identity {
        client_id: format!("{prefix}{kind}{number:06}"),
        filter: filter(number),
        clean_start: true,
        keeps_session: false,
    };
    (0..count).map(identity).collect()
}

/// Output of one member that waits for the kernel; it publishes no more beyond that.
const OUT_BYTES_MAX: usize = 256 * 1024;
/// Connects between two turns.
const OPENED_PER_TURN: usize = 16;
/// How often memory is looked at while a batch is published.
const GROWTH_POINTS: u32 = 16;
/// A turn never sleeps longer, so that the progress line moves.
const TICK: Duration = Duration::from_millis(200);
const CLOSING_TICK: Duration = Duration::from_millis(1);
/// How long an answer to a connect or a CONNECT may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a message may be under way after the last one that came.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(5);
/// How long the broker may take to end connections that were left.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a session outlives its connection: longer than any run, and not for ever should the run be killed.
const SESSION_EXPIRY_S: u32 = 3600;
/// EMFILE: what the kernel would have said.
const TOO_MANY_FILES: i32 = 24;
