//! A simulated client: a ClientId, what it keeps for its session, and its Network Connections.
//!
//! What always holds: it follows the protocol to the letter, also when it vanishes and comes back, so that whatever it
//! meets that the protocol does not allow is the broker's fault, and is reported as such at once.

mod crash;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringmq::{
    config::Durability,
    mqtt::{
        Ack, AckKind, Connect, Disconnect, Encode, Packet, PacketIdentifier, ProtocolVersion, Publish, PublishFlags,
        PublishHead, QoS, ReasonCode, Subscribe, SubscriptionOptions, TopicFilter, TopicName, Unsubscribe, WillPacket,
        WillProperties, ack::encode_success, publish,
    },
    runtime::fake::{FakeClient, PeerView},
};

use crate::{
    book::{Book, Number},
    failure::fail,
    link::{Answer, Link, check_last_words, next_packet, note_last_packets},
    random::Random,
};
pub use crate::{
    link::Phase,
    profile::{Profile, WillSpec},
};

/// A message on its way to the broker.
#[derive(Clone, Copy, Debug)]
struct Outgoing {
    identifier: u16,
    message: Number,
    is_released: bool,
}

/// The newest value of a topic that a client has seen.
#[derive(Clone, Copy, Debug)]
struct Newest {
    message: Number,
    qos: u8,
    /// It came as a retained message.
    is_retained: bool,
}

/// A subscription, from its SUBSCRIBE on.
#[derive(Clone, Debug)]
pub struct Held {
    pub filter: String,
    pub qos: u8,
    identifier: u16,
    /// When SUBACK came.
    pub acknowledged: Option<u64>,
    /// What was promised with that.
    promise: Durability,
    /// When UNSUBSCRIBE was written.
    pub ended: Option<u64>,
    /// It went with its session.
    pub is_lost: bool,
}

impl Held {
    /// The name of the share group, and the filter behind it.
    pub fn shared(&self) -> Option<(&str, &str)> {
        self.filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'))
    }
}

/// A simulated client.
#[derive(Debug)]
pub struct Client {
    pub profile: Profile,
    pub index: usize,
    /// How often it has changed its ClientId.
    life: u32,
    pub link: Option<Link>,
    /// Connections that it has given up without a word: the broker has to end them.
    abandoned: Vec<Link>,
    /// Whether the broker keeps its session, as far as it can know.
    has_session: bool,
    /// When that was made, and what the listener promises that it was made through, where that is known.
    made: Option<(u64, Durability)>,
    /// The least and the most that any listener promises that it has connected through.
    promises: (Durability, Durability),
    /// What it did before a crash may be forgotten, and so come again.
    is_rolled_back: bool,
    /// Its session was in memory only, and went with the broker.
    has_none: bool,
    pub subscriptions: Vec<Held>,
    backlog: VecDeque<Number>,
    outgoing: VecDeque<Outgoing>,
    under_way_max: usize,
    next_identifier: u16,
    /// QoS 2 identifiers received and not released.
    received: BTreeMap<u16, Option<Number>>,
    /// Identifiers of messages that it has not acknowledged, with the QoS that they came with.
    unacknowledged: BTreeMap<u16, (Number, QoS)>,
    owed: VecDeque<(AckKind, u16)>,
    /// This identifier is never acknowledged while it is set.
    pub sits_on: Option<u16>,
    /// How often each message came, retained copies not counted.
    pub deliveries: BTreeMap<Number, u32>,
    /// Of those, what came at QoS 0 or 1.
    came_lower: BTreeSet<Number>,
    /// The last of each publisher, topic and pair of QoS.
    orders: BTreeMap<(usize, u32, String, u8, u8), u32>,
    /// The newest retained value of each topic that it has seen, live or not; nothing after it was cleared.
    pub latest: BTreeMap<String, Option<Number>>,
    /// The newest value of each topic, cleared or not.
    newest: BTreeMap<String, Newest>,
    /// The retained value of each topic that it was sent last.
    pub retained: BTreeMap<String, Number>,
    /// Whether it has resumed its session since it last had none.
    pub has_resumed: bool,
    /// Wills that came, by payload.
    pub wills: Vec<String>,
    /// When its connection began.
    pub up_since: u64,
}

impl Client {
    pub fn new(index: usize, profile: Profile) -> Client {
        Client {
            under_way_max: profile.under_way_max,
            index,
            life: 0,
            link: None,
            abandoned: Vec::new(),
            has_session: false,
            made: None,
            promises: (profile.through, profile.through),
            is_rolled_back: false,
            has_none: false,
            subscriptions: Vec::new(),
            backlog: VecDeque::new(),
            outgoing: VecDeque::new(),
            next_identifier: 0,
            received: BTreeMap::new(),
            unacknowledged: BTreeMap::new(),
            owed: VecDeque::new(),
            sits_on: None,
            deliveries: BTreeMap::new(),
            came_lower: BTreeSet::new(),
            orders: BTreeMap::new(),
            latest: BTreeMap::new(),
            newest: BTreeMap::new(),
            retained: BTreeMap::new(),
            has_resumed: false,
            wills: Vec::new(),
            up_since: 0,
            profile,
        }
    }

    /// Whether it is connected.
    pub fn is_up(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.phase == Phase::Up)
    }

    /// Whether its connection is over, or there is none.
    pub fn is_down(&self) -> bool {
        self.link.as_ref().is_none_or(|link| link.phase == Phase::Over)
    }

    /// Messages that it was given to publish and that are not acknowledged.
    pub fn unfinished(&self) -> usize {
        self.backlog.len() + self.outgoing.len()
    }

    /// Whether the subscription to `filter` is acknowledged and stands.
    pub fn is_subscribed(&self, filter: &str) -> bool {
        let stands = |held: &Held| held.filter == filter && held.ended.is_none() && !held.is_lost;
        self.subscriptions.iter().any(|held| stands(held) && held.acknowledged.is_some())
    }

    /// Begins a connection with CONNECT. One that stands is given up without a word.
    pub fn connect(&mut self, socket: FakeClient, shard: usize, clean_start: bool) {
        socket.set_window(self.profile.window);
        self.note_listener();
        if let Some(mut old) = self.link.take()
            && old.phase != Phase::Over
        {
            old.expects_end = true;
            self.abandoned.push(old);
        }
        let mut link = Link {
            socket,
            shard,
            phase: Phase::Connecting,
            disconnect: None,
            expects_end: false,
            promise: self.profile.through,
            is_clean: clean_start,
            out: Vec::new(),
            input: Vec::new(),
            leaves: false,
            answers: VecDeque::new(),
            pings: 0,
        };
        self.write_connect(&mut link.out, clean_start);
        if clean_start {
            self.lose_session();
        }
        // Acknowledgements that were not sent are owed to nobody: the broker sends those messages again.
        self.owed.clear();
        // A SUBACK that has not come will not come.
        self.subscriptions.iter_mut().for_each(|held| held.identifier = 0);
        if self.profile.version == ProtocolVersion::V5 {
            // One message may be under way before CONNACK says how many.
            self.under_way_max = 1;
        }
        self.link = Some(link);
    }

    fn write_connect(&self, out: &mut Vec<u8>, clean_start: bool) {
        let profile = &self.profile;
        let mut connect = Connect::new(profile.version, &profile.name);
        connect.clean_start = clean_start;
        connect.keep_alive_s = profile.keep_alive_s;
        if profile.version == ProtocolVersion::V5 {
            connect.properties.session_expiry_interval = (profile.expiry_s > 0).then_some(profile.expiry_s);
            connect.properties.receive_maximum = profile.receive_maximum.and_then(std::num::NonZeroU16::new);
        }
        connect.will = profile.will.as_ref().map(|will| WillPacket {
            topic: TopicName::parse(&will.topic).expect("a topic name"),
            payload: will.payload.as_bytes(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: WillProperties {
                will_delay_interval: (will.delay_s > 0).then_some(will.delay_s),
                ..WillProperties::default()
            },
        });
        connect.encode(out).expect("a CONNECT");
    }

    /// Is another client from its next connection on.
    pub fn rename(&mut self, name: String) {
        self.profile.name = name;
        self.life += 1;
    }

    /// From now on it takes much before it reads.
    pub fn widen_window(&mut self) {
        self.profile.window = 1 << 20;
        self.link.iter().chain(&self.abandoned).for_each(|link| link.socket.set_window(1 << 20));
    }

    /// The broker is about to end its connection.
    pub fn expect_end(&mut self) {
        if let Some(link) = &mut self.link {
            link.expects_end = true;
        }
    }

    /// Sends SUBSCRIBE. The same filter is always asked for with the same QoS.
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        let identifier = self.take_identifier();
        let filters = [(TopicFilter::parse(filter).expect("a filter"), SubscriptionOptions::with_qos(level(qos)))];
        let version = self.profile.version;
        let Some(link) = &mut self.link else { return };
        Subscribe::new(name(identifier), &filters).encode(version, &mut link.out).expect("a SUBSCRIBE");
        link.answers.push_back(Answer::SubAck(identifier));
        let stands = |held: &&mut Held| held.filter == filter && held.ended.is_none() && !held.is_lost;
        match self.subscriptions.iter_mut().find(stands) {
            Some(held) => held.identifier = identifier,
            None => {
                // What was seen of its topics before may be out of date by now.
                let concerns = |topic: &String| does_match(filter, topic);
                self.latest.retain(|topic, _| !concerns(topic));
                self.newest.retain(|topic, _| !concerns(topic));
                self.subscriptions.push(Held {
                    filter: filter.into(),
                    qos,
                    identifier,
                    acknowledged: None,
                    promise: Durability::Sync,
                    ended: None,
                    is_lost: false,
                });
            }
        }
    }

    /// Sends UNSUBSCRIBE.
    pub fn unsubscribe(&mut self, filter: &str, now: u64) {
        let identifier = self.take_identifier();
        let filters = [TopicFilter::parse(filter).expect("a filter")];
        let version = self.profile.version;
        let Some(link) = &mut self.link else { return };
        Unsubscribe::new(name(identifier), &filters).encode(version, &mut link.out).expect("an UNSUBSCRIBE");
        link.answers.push_back(Answer::UnsubAck(identifier));
        for held in self.subscriptions.iter_mut().filter(|held| held.filter == filter) {
            held.ended.get_or_insert(now);
        }
    }

    /// Publishes, as soon as it is connected and may have one more message under way.
    pub fn publish(&mut self, message: Number) {
        self.backlog.push_back(message);
    }

    /// Sends PINGREQ.
    pub fn ping(&mut self) {
        if let Some(link) = &mut self.link {
            link.out.extend([0xC0, 0]);
            link.pings += 1;
        }
    }

    /// Sends bytes that are no packet, for which the broker has to end the connection.
    pub fn send_garbage(&mut self) {
        if let Some(link) = &mut self.link {
            link.out.extend([0xFF, 0xFF]);
            link.expects_end = true;
        }
    }

    /// Sends DISCONNECT and ends the connection.
    pub fn disconnect(&mut self, ends_session: bool) {
        let version = self.profile.version;
        let Some(link) = &mut self.link else { return };
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        if version == ProtocolVersion::V5 && ends_session && self.profile.expiry_s > 0 {
            disconnect.session_expiry_interval = Some(0);
        }
        disconnect.encode(version, &mut link.out).expect("a DISCONNECT");
        link.leaves = true;
    }

    /// Ends the connection without DISCONNECT, in order or by a reset.
    pub fn vanish(&mut self, reset: bool) {
        if let Some(link) = &mut self.link {
            if reset {
                link.socket.reset();
            } else {
                link.socket.finish();
            }
            link.phase = Phase::Over;
            if self.profile.expiry_s == 0 {
                self.lose_session();
            }
        }
    }

    /// Reads, handles and writes, or not, as is its habit. Returns whether it did anything.
    pub fn step(&mut self, book: &mut Book, random: &mut Random, force: bool) -> bool {
        let mut did = self.step_abandoned();
        let Some(mut link) = self.link.take() else { return did };
        if link.phase != Phase::Over && (force || random.below(100) < self.profile.reads) {
            did |= self.read(&mut link, book);
        }
        if link.phase == Phase::Up && (force || self.profile.is_prompt || random.once_in(4)) {
            did |= self.write_owed(&mut link);
        }
        // With a clean start nothing is under way, so that messages may follow CONNECT at once.
        if link.phase == Phase::Up || (link.phase == Phase::Connecting && link.is_clean) {
            did |= self.fill_window(&mut link, book);
        }
        if link.phase != Phase::Over {
            did |= self.write(&mut link, book, random);
        }
        self.link = Some(link);
        did
    }

    /// Old connections are only read from: they are closed with the broker's end.
    fn step_abandoned(&mut self) -> bool {
        let mut did = false;
        for link in &mut self.abandoned {
            let bytes = link.socket.read();
            did |= !bytes.is_empty();
            link.input.extend(bytes);
            note_last_packets(link, self.profile.version);
            if link.socket.view() != PeerView::Open {
                did = true;
                check_last_words(&self.profile, link);
                link.socket.finish();
                link.phase = Phase::Over;
            }
        }
        self.abandoned.retain(|link| link.phase != Phase::Over);
        did
    }

    fn read(&mut self, link: &mut Link, book: &mut Book) -> bool {
        let bytes = link.socket.read();
        let mut did = !bytes.is_empty();
        book.note(self.index, "in", &bytes);
        link.input.extend(bytes);
        let input = std::mem::take(&mut link.input);
        let mut used = 0;
        while let Some((packet, length)) = next_packet(&self.profile, &input[used..]) {
            used += length;
            book.tell(|| format!("{} <- {packet:?}", self.profile.name));
            self.handle(link, packet, book);
        }
        link.input = input[used..].to_vec();
        if link.socket.view() != PeerView::Open {
            did = true;
            self.handle_end(link);
        }
        did
    }

    fn handle_end(&mut self, link: &mut Link) {
        let name = &self.profile.name;
        let profile = &self.profile;
        if !link.leaves && !link.expects_end && !profile.contends && !profile.is_refused {
            fail("closed without cause", format!("{name}, {:?}, {:?}", link.phase, link.disconnect));
        }
        // Whoever is turned away at the door is told nothing.
        let is_at_the_door = (profile.is_refused || link.expects_end) && link.phase == Phase::Connecting;
        if !link.leaves && !is_at_the_door {
            check_last_words(&self.profile, link);
        }
        link.socket.finish();
        link.phase = Phase::Over;
        if self.profile.expiry_s == 0 {
            self.lose_session();
        }
    }

    fn handle(&mut self, link: &mut Link, packet: Packet<'_>, book: &mut Book) {
        let who = &self.profile.name;
        if link.phase == Phase::Connecting && !matches!(packet, Packet::ConnAck(_)) {
            fail("CONNACK first", format!("{who} got {packet:?}"));
        }
        match packet {
            Packet::ConnAck(connack) => {
                if connack.reason_code.is_error() && self.profile.is_refused {
                    return;
                }
                if connack.reason_code.is_error() || link.phase != Phase::Connecting {
                    fail("CONNECT is served", format!("{who} got {connack:?}"));
                }
                link.phase = Phase::Up;
                self.up_since = book.now;
                let allowed = connack.properties.receive_maximum.map_or(usize::MAX, |maximum| maximum.get().into());
                self.under_way_max = self.profile.under_way_max.min(allowed);
                // 3.1 does not say; a client takes its session for granted.
                let is_silent = self.profile.version == ProtocolVersion::V31;
                let session_present = connack.session_present || (is_silent && self.has_session);
                self.resume(link, session_present, book);
            }
            Packet::Publish(publish) => self.on_publish(&publish, book),
            Packet::PubAck(ack) => {
                self.expect_answer(link, Answer::PubAck(ack.packet_identifier.value()));
                self.finish(ack.packet_identifier.value(), &ack, link.promise, book);
            }
            Packet::PubRec(ack) => self.on_pubrec(link, &ack, book),
            Packet::PubRel(ack) => {
                let identifier = ack.packet_identifier.value();
                self.received.remove(&identifier);
                self.owed.push_back((AckKind::PubComp, identifier));
            }
            Packet::PubComp(ack) => self.outgoing.retain(|entry| entry.identifier != ack.packet_identifier.value()),
            Packet::SubAck(suback) => {
                let identifier = suback.packet_identifier.value();
                self.expect_answer(link, Answer::SubAck(identifier));
                if self.profile.is_refused && suback.reason_codes.iter().any(|reason| reason.is_error()) {
                    let is_new = |held: &Held| held.identifier == identifier && held.acknowledged.is_none();
                    self.subscriptions.retain(|held| !is_new(held));
                    return;
                }
                let mut held = self.subscriptions.iter_mut();
                if let Some(held) = held.find(|held| held.identifier == identifier && !held.is_lost)
                    && held.acknowledged.replace(held.acknowledged.unwrap_or(book.now)).is_none()
                {
                    held.promise = link.promise;
                }
            }
            Packet::UnsubAck(unsuback) => {
                self.expect_answer(link, Answer::UnsubAck(unsuback.packet_identifier.value()));
            }
            Packet::PingResp => {
                link.pings = link.pings.checked_sub(1).unwrap_or_else(|| fail("PINGRESP answers", who.clone()));
            }
            Packet::Disconnect(disconnect) => link.disconnect = Some(disconnect.reason_code),
            other => fail("only what a server sends", format!("{who} got {other:?}")),
        }
    }

    /// CONNACK came: what is under way is sent again, or forgotten with the session.
    fn resume(&mut self, link: &mut Link, session_present: bool, book: &mut Book) {
        if self.has_session && !session_present && !self.profile.contends {
            fail("sessions are kept", self.profile.name.clone());
        }
        if !session_present && !link.is_clean {
            self.lose_session();
        }
        self.note_session(session_present, link.promise, book.now);
        self.has_resumed = session_present;
        self.has_session = self.profile.expiry_s > 0;
        // After a clean start everything under way was written on this very connection.
        for entry in self.outgoing.iter().filter(|_| !link.is_clean) {
            if entry.is_released {
                encode_success(&mut link.out, AckKind::PubRel, name(entry.identifier));
                continue;
            }
            book.message_mut(entry.message).is_repeated = true;
            let answer = self.write_publish(&mut link.out, entry.message, Some(entry.identifier), true, book);
            link.answers.extend(answer);
        }
    }

    fn expect_answer(&mut self, link: &mut Link, answer: Answer) {
        let expected = link.answers.pop_front();
        if expected != Some(answer) {
            fail("acknowledgements in order", format!("{} got {answer:?} for {expected:?}", self.profile.name));
        }
    }

    /// A message is the broker's, or refused.
    fn finish(&mut self, identifier: u16, ack: &Ack<'_>, promise: Durability, book: &mut Book) {
        let Some(place) = self.outgoing.iter().position(|entry| entry.identifier == identifier) else { return };
        let message = self.outgoing.remove(place).expect("it is there").message;
        if !ack.reason_code.is_error() {
            let now = book.now;
            let message = book.message_mut(message);
            (message.acknowledged, message.promise) = (Some(now), promise);
        }
    }

    fn on_pubrec(&mut self, link: &mut Link, ack: &Ack<'_>, book: &mut Book) {
        let identifier = ack.packet_identifier.value();
        self.expect_answer(link, Answer::PubRec(identifier));
        if ack.reason_code.is_error() {
            return self.finish(identifier, ack, link.promise, book);
        }
        if let Some(entry) = self.outgoing.iter_mut().find(|entry| entry.identifier == identifier) {
            entry.is_released = true;
            let message = entry.message;
            let now = book.now;
            let message = book.message_mut(message);
            if message.acknowledged.is_none() {
                (message.acknowledged, message.promise) = (Some(now), link.promise);
            }
            encode_success(&mut link.out, AckKind::PubRel, ack.packet_identifier);
        }
    }

    fn on_publish(&mut self, publish: &Publish<'_>, book: &mut Book) {
        let who = &self.profile.name;
        if !self.subscriptions.iter().any(|held| matches(held, publish.topic)) {
            fail("nothing that was not asked for", format!("{who} got {}", publish.topic));
        }
        let identifier = publish.packet_identifier.map(PacketIdentifier::value);
        if publish.payload.starts_with(b"will ") {
            self.wills.push(String::from_utf8_lossy(publish.payload).into_owned());
        }
        let message = book.find(publish);
        if let Some(identifier) = identifier {
            let kind = if publish.qos == QoS::AtLeastOnce { AckKind::PubAck } else { AckKind::PubRec };
            self.owed.push_back((kind, identifier));
            let held = |message| self.unacknowledged.insert(identifier, (message, publish.qos));
            let before = message.and_then(held).map(|(message, _)| message);
            // A broker that died does not know what it had sent.
            let is_known = message.is_some_and(|message| book.has_met_crash(book.message(message)));
            if before.is_some() && (!(publish.dup || is_known) || before != message) {
                fail("identifiers are not reused", format!("{who} holds {identifier} of {before:?}, got {message:?}"));
            }
            if publish.qos == QoS::ExactlyOnce
                && let Some(known) = self.received.insert(identifier, message)
            {
                if known != message {
                    let what = format!("{who} has {identifier} of {known:?} not released, got {message:?}");
                    fail("identifiers are not reused", what);
                }
                // It is known: PUBREC got lost with a connection.
                return;
            }
        }
        let Some(message) = message else {
            if publish.payload.is_empty() && !publish.dup {
                self.latest.insert(publish.topic.into(), None);
            }
            return;
        };
        self.check_time(message, publish, book);
        if publish.retain {
            self.retained.insert(publish.topic.into(), message);
        } else {
            self.check_delivery(message, publish, book);
        }
    }

    /// A retained value is never followed by an older one. Only topics with one publisher have an order to go by, and
    /// only messages of one QoS keep it.
    fn check_time(&mut self, message: Number, publish: &Publish<'_>, book: &Book) {
        let entry = book.message(message);
        if !entry.retain || publish.dup || entry.is_repeated || !book.retains_in_order(&entry.topic) {
            return;
        }
        let (qos, topic) = (publish.qos.value(), &entry.topic);
        let newest = self.newest.entry(topic.clone()).or_insert(Newest { message, qos, is_retained: publish.retain });
        if newest.message <= message {
            *newest = Newest { message, qos, is_retained: publish.retain };
            self.latest.insert(topic.clone(), Some(message));
        } else if newest.qos == qos {
            // A retained answer may overtake live messages, which then repeat what led up to it.
            if publish.retain || !newest.is_retained {
                let who = &self.profile.name;
                fail("no going back in time", format!("{who} got {message:?} of {topic} after {newest:?}"));
            }
            self.latest.insert(topic.clone(), Some(message));
        }
    }

    fn check_delivery(&mut self, message: Number, publish: &Publish<'_>, book: &Book) {
        let who = &self.profile.name;
        let count = self.deliveries.entry(message).or_default();
        *count += 1;
        if publish.qos != QoS::ExactlyOnce {
            self.came_lower.insert(message);
        }
        let entry = book.message(message);
        let is_repetition = *count > 1;
        if is_repetition {
            let by_publisher = entry.qos == 1 && entry.is_repeated;
            let by_broker = publish.qos == QoS::AtLeastOnce && publish.dup;
            // Exactly once is promised to sessions that outlive a crash, for what never came at QoS 1: the subscription that
            // it came for then may be forgotten, and another ask for QoS 2.
            let is_promised = publish.qos == QoS::ExactlyOnce
                && self.profile.expiry_s > 0
                && !self.came_lower.contains(&message)
                && !self.is_rolled_back;
            let by_crash = !is_promised && book.has_met_crash(entry);
            if !by_publisher && !by_broker && !by_crash {
                let oracle = if publish.qos == QoS::ExactlyOnce { "QoS 2 exactly once" } else { "no duplicates" };
                fail(oracle, format!("{who} got {entry:?} {count} times"));
            }
            return;
        }
        // What its publisher sends again may come again, behind later messages that did not need to be.
        let is_again = entry.qos == 1 && entry.is_repeated;
        if is_again || self.subscriptions.iter().any(|held| held.shared().is_some()) {
            return;
        }
        let key = (entry.publisher, entry.life, entry.topic.clone(), entry.qos, publish.qos.value());
        if let Some(&last) = self.orders.get(&key)
            && last > entry.number
        {
            fail("order of a publisher", format!("{who} got {entry:?} after {last}"));
        }
        self.orders.insert(key, entry.number);
    }

    fn write_owed(&mut self, link: &mut Link) -> bool {
        let mut did = false;
        for _ in 0..self.owed.len() {
            let Some((kind, identifier)) = self.owed.pop_front() else { break };
            if self.sits_on == Some(identifier) {
                self.owed.push_back((kind, identifier));
                continue;
            }
            did = true;
            if kind != AckKind::PubRec {
                self.unacknowledged.remove(&identifier);
            }
            encode_success(&mut link.out, kind, name(identifier));
        }
        did
    }

    fn fill_window(&mut self, link: &mut Link, book: &mut Book) -> bool {
        let mut did = false;
        while let Some(&message) = self.backlog.front() {
            let qos = book.message(message).qos;
            if link.leaves || (qos > 0 && self.outgoing.len() >= self.under_way_max) {
                break;
            }
            did = true;
            self.backlog.pop_front();
            let identifier = (qos > 0).then(|| self.take_identifier());
            if let Some(identifier) = identifier {
                self.outgoing.push_back(Outgoing { identifier, message, is_released: false });
            }
            let now = book.now;
            let entry = book.message_mut(message);
            entry.life = self.life;
            entry.written.get_or_insert(now);
            let answer = self.write_publish(&mut link.out, message, identifier, false, book);
            link.answers.extend(answer);
        }
        did
    }

    fn write_publish(
        &self,
        out: &mut Vec<u8>,
        message: Number,
        identifier: Option<u16>,
        dup: bool,
        book: &Book,
    ) -> Option<Answer> {
        let entry = book.message(message);
        let head = PublishHead {
            flags: PublishFlags { dup, qos: level(entry.qos), retain: entry.retain },
            topic: entry.topic.as_bytes(),
            packet_identifier: identifier.map(name),
            forwarded: &[],
            message_expiry_interval: None,
            topic_alias: None,
            subscription_identifiers: &[],
        };
        publish::encode(out, self.profile.version, &head, &entry.payload).expect("a PUBLISH");
        let answer = if entry.qos == 1 { Answer::PubAck } else { Answer::PubRec };
        identifier.map(answer)
    }

    fn write(&mut self, link: &mut Link, book: &mut Book, random: &mut Random) -> bool {
        if link.out.is_empty() {
            return false;
        }
        let length = if self.profile.dribbles { random.below(3) + 1 } else { random.below(2 * link.out.len()) + 1 };
        let bytes: Vec<u8> = link.out.drain(..length.min(link.out.len())).collect();
        book.note(self.index, "out", &bytes);
        link.socket.write(&bytes);
        if link.leaves && link.out.is_empty() {
            link.socket.finish();
            link.phase = Phase::Over;
            if self.profile.expiry_s == 0 {
                self.lose_session();
            }
        }
        true
    }

    /// An identifier that nothing under way has.
    fn take_identifier(&mut self) -> u16 {
        if self.profile.reuses_identifiers {
            self.next_identifier = 0;
        }
        loop {
            self.next_identifier = self.next_identifier % 65_535 + 1;
            let identifier = self.next_identifier;
            let waits = self.link.as_ref().is_some_and(|link| {
                link.answers.contains(&Answer::SubAck(identifier))
                    || link.answers.contains(&Answer::UnsubAck(identifier))
            });
            if !waits && self.outgoing.iter().all(|entry| entry.identifier != identifier) {
                return identifier;
            }
        }
    }

    /// Everything is quiet: whatever the broker owes by now it owes for ever.
    pub fn check_quiet(&self) {
        let who = &self.profile.name;
        if let Some(old) = self.abandoned.first() {
            fail("one live connection", format!("{who} still has its old one on shard {}", old.shard));
        }
        let Some(link) = self.link.as_ref().filter(|link| link.phase != Phase::Over) else { return };
        let stuck = |what: &str| fail("progress", format!("{who} on shard {} waits for {what}", link.shard));
        if link.expects_end {
            stuck("the end of its connection");
        }
        if !link.out.is_empty() || link.socket.unread() > 0 {
            stuck("the broker to read");
        }
        if link.phase == Phase::Connecting {
            stuck("CONNACK");
        }
        if let Some(answer) = link.answers.front() {
            stuck(&format!("{answer:?}"));
        }
        if link.pings > 0 {
            stuck("PINGRESP");
        }
        if !self.outgoing.is_empty() || !self.backlog.is_empty() {
            stuck("an exchange to end");
        }
    }
}

/// Whether a subscription, shared or not, is to a topic.
pub fn matches(held: &Held, topic: &str) -> bool {
    does_match(held.shared().map_or(held.filter.as_str(), |(_, filter)| filter), topic)
}

fn does_match(filter: &str, topic: &str) -> bool {
    let topic = TopicName::parse(topic).expect("a topic name");
    TopicFilter::parse(filter).expect("a filter").matches(&topic)
}

fn name(identifier: u16) -> PacketIdentifier {
    PacketIdentifier::new(identifier).expect("identifiers are not 0")
}

fn level(qos: u8) -> QoS {
    QoS::from_bits(qos).expect("a QoS")
}
