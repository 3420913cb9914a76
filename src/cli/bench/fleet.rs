//! All connections of the load generator, as the ring's handler.
//!
//! Owns: for each connection its MQTT client, what it has to send, and which messages it publishes and hears. What
//! always holds: a connection that has something to send and no send under way is on the dirty list; it gets one send a
//! turn, with all that gathered. It must never enter the kernel: that is the engine's.

use std::{net::SocketAddr, ops::Range};

use super::{
    homes::Home,
    traffic::{Audience, Traffic},
};
use crate::{
    client::{Client, ClientError, ClientEvent, ClientOptions},
    mqtt::{Connect, QoS, ReasonCode, SubscriptionOptions, TopicFilter, TopicName},
    runtime::{Clock, Close, CloseCause, ConnectionId, Kernel, WireHandler, Wires},
    time::Moment,
    transport::OutBuffer,
};

/// What a connection is for.
#[derive(Clone, Debug, Default)]
pub(super) struct LinkPlan {
    /// Its number among all connections of the run, which its ClientId ends with.
    pub number: u32,
    /// The thread that it lives on.
    pub thread: u32,
    /// What it subscribes to before it counts as ready.
    pub filter: Option<String>,
    /// Which publishers it then hears.
    pub audience: Audience,
    /// Which publisher it is.
    pub publisher: Option<u32>,
    /// The shard that its ClientId is chosen for.
    pub home: Option<Home>,
}

/// What every connection says of itself.
#[derive(Clone, Debug)]
pub(super) struct Introduction {
    /// Version and limits.
    pub options: ClientOptions,
    /// The start of its ClientId; its number follows.
    pub client_identifier_prefix: String,
    /// Seconds; 0 is none.
    pub keep_alive_s: u16,
    /// The QoS of its subscription.
    pub qos: QoS,
    /// How many filters it subscribes to: that of its plan, and others below it that hear nothing. At least 1.
    pub subscriptions: u32,
    /// Who it says it is.
    pub user_name: Option<String>,
    /// And its password.
    pub password: Option<String>,
}

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LinkFailure {
    /// The broker refused it, or broke the protocol.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The broker refused the subscription.
    #[error("the broker refused a subscription: {}", .0.name())]
    SubscriptionRefused(ReasonCode),
    /// It ended without a word of MQTT.
    #[error("the broker closed a connection")]
    Closed,
    /// It failed.
    #[error("a connection failed: {0}")]
    Failed(crate::runtime::Errno),
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// CONNECT or SUBSCRIBE waits for its answer.
    Opening,
    /// It does what it is for.
    Ready,
    /// It is over.
    Closed,
}

#[derive(Debug)]
struct Link {
    id: ConnectionId,
    client: Client,
    plan: LinkPlan,
    stage: Stage,
    is_sending: bool,
    is_dirty: bool,
    out: Option<Box<OutBuffer>>,
    opened: Moment,
}

/// Connections, in the order in which they were opened.
#[derive(Debug)]
pub(super) struct Fleet {
    clock: Clock,
    introduction: Introduction,
    links: Vec<Link>,
    /// Which link has a slot of the ring.
    by_slot: Vec<u32>,
    dirty: Vec<u32>,
    /// Connections that failed and are still to be closed.
    failed: Vec<ConnectionId>,
    #[allow(clippy::vec_box, reason = "a spare moves into a send without a copy and back")]
    spare: Vec<Box<OutBuffer>>,
    /// Publishers that may send, kept for its memory.
    ready_publishers: Vec<u32>,
    /// Read once a turn, after the kernel was entered.
    entered: Moment,
    opening: usize,
    /// Messages that came to connections that hear no publisher of the run: their own.
    heard: u64,
    ready: usize,
    lost: u64,
    failure: Option<LinkFailure>,
    /// Microseconds from the connect to the last answer of the opening.
    opening_times: Vec<u32>,
    /// The messages.
    pub traffic: Traffic,
}

impl Fleet {
    pub fn new(clock: Clock, introduction: Introduction, traffic: Traffic) -> Self {
        Fleet {
            clock,
            introduction,
            links: Vec::new(),
            by_slot: Vec::new(),
            dirty: Vec::new(),
            failed: Vec::new(),
            spare: Vec::new(),
            ready_publishers: Vec::new(),
            entered: clock.now(),
            opening: 0,
            heard: 0,
            ready: 0,
            lost: 0,
            failure: None,
            opening_times: Vec::new(),
            traffic,
        }
    }

    /// Connections that were opened so far.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Connections that wait for an answer.
    pub fn opening(&self) -> usize {
        self.opening
    }

    /// Connections that do what they are for.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Connections that ended without being asked to.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Why the first of these ended.
    pub fn failure(&self) -> Option<LinkFailure> {
        self.failure
    }

    /// Microseconds that each connection took to be ready, from its connect on.
    pub fn opening_times(&self) -> &[u32] {
        &self.opening_times
    }

    /// Takes a new connection in, connected at `opened`; CONNECT goes out with the next flush.
    pub fn add(&mut self, id: ConnectionId, plan: LinkPlan, opened: Moment) -> Result<(), LinkFailure> {
        let number = self.links.len();
        let slot = id.slot as usize;
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, 0);
        }
        self.by_slot[slot] = number as u32;
        let introduction = &self.introduction;
        let client_id = format!("{}{:07}", introduction.client_identifier_prefix, plan.number);
        let client_id = plan.home.map_or_else(|| client_id.clone(), |home| home.client_id(&client_id));
        let connect = Connect {
            keep_alive_s: introduction.keep_alive_s,
            user_name: introduction.user_name.as_deref(),
            password: introduction.password.as_deref().map(str::as_bytes),
            ..Connect::new(introduction.options.version, &client_id)
        };
        let mut client = Client::new(introduction.options);
        let mut out = self.spare.pop().unwrap_or_default();
        client.connect(&connect, out.bytes_mut())?;
        let (stage, is_sending, is_dirty) = (Stage::Opening, false, true);
        self.links.push(Link { id, client, plan, stage, is_sending, is_dirty, out: Some(out), opened });
        self.dirty.push(number as u32);
        self.opening += 1;
        Ok(())
    }

    /// Messages that connections heard of themselves.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Each of these connections publishes one message to its own filter.
    pub fn speak(&mut self, links: Range<usize>) -> Result<(), LinkFailure> {
        for number in links {
            let link = &mut self.links[number];
            let topic = link.plan.filter.as_deref().and_then(|filter| TopicName::parse(filter).ok());
            let Some(topic) = topic.filter(|_| link.stage == Stage::Ready) else { continue };
            let out = link.out.get_or_insert_with(|| self.spare.pop().unwrap_or_default());
            link.client.publish(topic, SPOKEN, self.introduction.qos, false, 0, out.bytes_mut())?;
            self.mark_dirty(number as u32);
        }
        Ok(())
    }

    /// Publishes what may be published.
    pub fn publish(&mut self, now: Moment) {
        self.traffic.schedule(now);
        let mut ready = std::mem::take(&mut self.ready_publishers);
        self.traffic.take_ready(&mut ready);
        for &publisher in &ready {
            self.publish_from(publisher, now);
        }
        self.ready_publishers = ready;
    }

    fn publish_from(&mut self, publisher: u32, now: Moment) {
        let Fleet { links, spare, traffic, .. } = self;
        let number = traffic.publisher(publisher).link;
        let Link { client, out, .. } = &mut links[number as usize];
        let qos = traffic.publisher(publisher).template.qos();
        if !client.can_publish(qos) {
            // A full client makes its publisher ready again when it empties.
            return;
        }
        let out = out.get_or_insert_with(|| spare.pop().unwrap_or_default());
        let wrote = traffic.publish(publisher, now, |template, stamp, length| {
            // So does a full buffer.
            out.len() < OUT_BYTES_MAX
                && client.publish_prepared(template, &stamp.encode(), length as usize, stamp.sequence, out).is_ok()
        });
        if wrote {
            self.mark_dirty(number);
        }
    }

    /// One send for each connection that has something to send, and none under way; closes those that failed.
    pub fn flush<K: Kernel>(&mut self, wires: &mut Wires<K>) {
        for number in self.dirty.drain(..) {
            let link = &mut self.links[number as usize];
            link.is_dirty = false;
            if link.is_sending {
                continue;
            }
            let Some(out) = link.out.take_if(|out| !out.is_empty()) else { continue };
            link.is_sending = wires.send(link.id, out).is_ok();
        }
        for id in self.failed.drain(..) {
            wires.close(id, Close::Reset);
        }
    }

    /// Sends DISCONNECT on every connection.
    pub fn disconnect(&mut self) {
        for number in 0..self.links.len() as u32 {
            let link = &mut self.links[number as usize];
            if link.stage != Stage::Closed {
                let out = link.out.get_or_insert_with(|| self.spare.pop().unwrap_or_default());
                link.client.disconnect(out.bytes_mut());
                self.mark_dirty(number);
            }
        }
    }

    /// Ends every connection whose DISCONNECT went out. Returns whether all have ended.
    pub fn close_flushed<K: Kernel>(&mut self, wires: &mut Wires<K>) -> bool {
        let mut all_closed = true;
        for link in self.links.iter_mut().filter(|link| link.stage != Stage::Closed) {
            if link.is_sending || link.out.as_ref().is_some_and(|out| !out.is_empty()) {
                all_closed = false;
                continue;
            }
            wires.close(link.id, Close::Linger);
            link.stage = Stage::Closed;
        }
        all_closed
    }

    /// Sends PINGREQ where the keep-alive asks for it.
    pub fn keep_alive(&mut self, now: Moment) {
        for number in 0..self.links.len() as u32 {
            let link = &mut self.links[number as usize];
            let out = link.out.get_or_insert_with(|| self.spare.pop().unwrap_or_default());
            link.client.handle_time(now, out.bytes_mut());
            if out.is_empty() {
                self.spare.extend(link.out.take());
            } else {
                self.mark_dirty(number);
            }
        }
    }

    #[inline]
    fn mark_dirty(&mut self, number: u32) {
        let link = &mut self.links[number as usize];
        if !link.is_dirty && !link.is_sending {
            link.is_dirty = true;
            self.dirty.push(number);
        }
    }

    fn find(&self, id: ConnectionId) -> Option<u32> {
        let number = *self.by_slot.get(id.slot as usize)?;
        self.links.get(number as usize).filter(|link| link.id == id).map(|_| number)
    }

    fn subscribe(&mut self, number: u32) -> Result<(), ClientError> {
        let link = &mut self.links[number as usize];
        let Some(first) = link.plan.filter.as_deref() else {
            self.on_ready(number);
            return Ok(());
        };
        let options = SubscriptionOptions { qos: self.introduction.qos, ..SubscriptionOptions::default() };
        let others: Vec<_> = (1..self.introduction.subscriptions).map(|other| format!("{first}/{other}")).collect();
        let texts = std::iter::once(first).chain(others.iter().map(String::as_str));
        let filters: Vec<_> = texts.filter_map(|text| Some((TopicFilter::parse(text).ok()?, options))).collect();
        let out = link.out.get_or_insert_with(|| self.spare.pop().unwrap_or_default());
        link.client.subscribe(&filters, out.bytes_mut())?;
        self.mark_dirty(number);
        Ok(())
    }

    fn on_ready(&mut self, number: u32) {
        let link = &mut self.links[number as usize];
        link.stage = Stage::Ready;
        self.opening -= 1;
        self.ready += 1;
        let micros = self.entered.since(link.opened).as_micros();
        self.opening_times.push(u32::try_from(micros).unwrap_or(u32::MAX));
    }

    fn on_failed(&mut self, number: u32, failure: LinkFailure) {
        let link = &mut self.links[number as usize];
        match std::mem::replace(&mut link.stage, Stage::Closed) {
            Stage::Opening => self.opening -= 1,
            Stage::Ready => self.ready -= 1,
            Stage::Closed => return,
        }
        self.lost += 1;
        self.failure.get_or_insert(failure);
        self.failed.push(link.id);
    }
}

/// What the answers to a connection's opening ask for.
enum Opening {
    Subscribe,
    Finish,
    Refused(ReasonCode),
}

impl WireHandler for Fleet {
    fn on_entered(&mut self) {
        self.entered = self.clock.now();
    }

    fn on_accepted(&mut self, _id: ConnectionId, _listener: u16, _peer: SocketAddr) {}

    fn on_received(&mut self, id: ConnectionId, bytes: &mut [u8]) {
        let Some(number) = self.find(id) else { return };
        let Fleet { links, spare, traffic, entered, heard, .. } = self;
        let Link { client, out, plan, .. } = &mut links[number as usize];
        let out = out.get_or_insert_with(|| spare.pop().unwrap_or_default());
        let mut opening = None;
        let handled = client.handle_input(bytes, out.bytes_mut(), |event| match event {
            ClientEvent::Received(publish) if plan.audience.publishers == 0 && publish.payload == SPOKEN => *heard += 1,
            ClientEvent::Received(publish) => traffic.on_received(plan.audience, publish.payload, *entered),
            ClientEvent::Acknowledged { token, reason_code } => {
                if let Some(publisher) = plan.publisher {
                    traffic.on_acknowledged(publisher, token, reason_code.is_error());
                }
            }
            ClientEvent::Connected { .. } => opening = Some(Opening::Subscribe),
            ClientEvent::Subscribed { reason_codes, .. } => {
                let refused = reason_codes.iter().find(|code| code.is_error());
                opening = Some(refused.map_or(Opening::Finish, Opening::Refused));
            }
            ClientEvent::Unsubscribed { .. } | ClientEvent::Pong => {}
        });
        if let Err(error) = handled {
            return self.on_failed(number, error.into());
        }
        match opening {
            Some(Opening::Subscribe) => {
                if let Err(error) = self.subscribe(number) {
                    self.on_failed(number, error.into());
                }
            }
            Some(Opening::Finish) => self.on_ready(number),
            Some(Opening::Refused(reason_code)) => {
                self.on_failed(number, LinkFailure::SubscriptionRefused(reason_code));
            }
            None => {}
        }
        let link = &mut self.links[number as usize];
        if link.out.as_ref().is_some_and(|out| out.is_empty()) {
            self.spare.extend(link.out.take());
        } else {
            self.mark_dirty(number);
        }
    }

    fn on_sent(&mut self, id: ConnectionId, mut buffer: Box<OutBuffer>, _bytes: usize) {
        buffer.clear();
        self.spare.push(buffer);
        let Some(number) = self.find(id) else { return };
        let link = &mut self.links[number as usize];
        link.is_sending = false;
        if link.out.as_ref().is_some_and(|out| !out.is_empty()) {
            let publisher = link.plan.publisher;
            self.mark_dirty(number);
            if let Some(publisher) = publisher {
                self.traffic.make_ready(publisher);
            }
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

/// What a connection says that speaks once: 64 bytes.
const SPOKEN: &[u8] = &[b'.'; 64];
/// Output of one connection that waits for the kernel; a publisher waits beyond it.
const OUT_BYTES_MAX: usize = 256 * 1024;
