//! A client that follows the protocol to the letter, over every connection of its session.
//!
//! Owns: what a client keeps for its session (messages under way with their identifiers, QoS 2 identifiers received,
//! subscriptions), and its Network Connection. Tells the checker of all that it sends and gets. It decides nothing: what is
//! done when is the load's.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    num::NonZeroU16,
    time::Duration,
};

use ringmq::mqtt::{
    Ack, AckKind, Connect, Disconnect, Encode, Packet, PacketIdentifier, Peek, ProtocolVersion, Publish,
    PublishProperties, QoS, ReasonCode, Sender, Subscribe, SubscriptionOptions, TopicFilter, TopicName, Unsubscribe,
    WillPacket, WillProperties, ack::encode_success, frame,
};

use crate::{
    checker::{Checker, Kind, Number, Rule, number, payload},
    house::random::Random,
};

/// Who a client is.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    pub version: ProtocolVersion,
    /// Whether its session outlives its connections.
    pub is_durable: bool,
    /// Messages above QoS 0 that it takes at once.
    pub receive_maximum: Option<u16>,
    /// It waits up to so long before it acknowledges.
    pub acknowledges_within: Duration,
    /// Its Will is published to `will/NAME` after this delay.
    pub will_delay: Option<Duration>,
    /// Messages above QoS 0 that it has under way at most.
    pub window: usize,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    pub profile: Profile,
    /// How the checker knows it.
    pub index: usize,
    random: Random,
    link: Option<Link>,
    /// What is under way to the broker, in the order in which it was sent.
    outgoing: VecDeque<Outgoing>,
    last_identifier: u16,
    /// QoS 2 messages that came and are not released, by their identifiers.
    received: BTreeMap<u16, Option<Number>>,
    /// Filters whose SUBACK has come.
    filters: BTreeSet<String>,
    /// A clean start whose CONNACK did not come has to be repeated: nobody knows what it ended.
    must_start_clean: bool,
    /// The Will of its last CONNECT.
    pub will: Option<Number>,
    /// The broker may refuse what it asks for, as long as it says so.
    pub is_patient: bool,
}

/// A message under way.
#[derive(Clone, Copy, Debug)]
struct Outgoing {
    identifier: PacketIdentifier,
    number: Number,
    /// PUBREC has come.
    is_released: bool,
}

/// A Network Connection.
#[derive(Debug)]
struct Link {
    socket: TcpStream,
    /// CONNACK has come.
    is_up: bool,
    is_clean: bool,
    input: Vec<u8>,
    out: Vec<u8>,
    /// Acknowledgements that it owes, in order, with the time at which each is sent.
    owed: VecDeque<(AckKind, PacketIdentifier, Duration)>,
    /// What came above QoS 0 and is not acknowledged to its end.
    unacknowledged: BTreeSet<u16>,
    /// SUBSCRIBE and UNSUBSCRIBE without an answer.
    requests: BTreeMap<u16, String>,
}

impl Client {
    pub fn new(profile: Profile, index: usize, random: Random) -> Client {
        Client {
            profile,
            index,
            random,
            link: None,
            outgoing: VecDeque::new(),
            last_identifier: 0,
            received: BTreeMap::new(),
            filters: BTreeSet::new(),
            must_start_clean: false,
            will: None,
            is_patient: false,
        }
    }

    /// Whether it has a connection, accepted or not.
    pub fn has_connection(&self) -> bool {
        self.link.is_some()
    }

    /// Whether it is connected.
    pub fn is_up(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_up)
    }

    /// Whether SUBACK has come for `filter`.
    pub fn is_subscribed(&self, filter: &str) -> bool {
        self.filters.contains(filter)
    }

    /// Whether it waits for SUBACK or UNSUBACK.
    pub fn has_asked(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.requests.is_empty())
    }

    /// Whether one more message may be under way.
    pub fn can_publish(&self) -> bool {
        self.is_up() && self.outgoing.len() < self.profile.window
    }

    /// Whether it is connected and every exchange is at its end.
    pub fn is_settled(&self) -> bool {
        let is_quiet = |link: &Link| link.is_up && link.owed.is_empty() && link.requests.is_empty();
        self.link.as_ref().is_some_and(is_quiet) && self.outgoing.is_empty() && self.received.is_empty()
    }

    /// The broker may have forgotten what it acknowledged and sent last: subscriptions are asked for again.
    pub fn doubts(&mut self) {
        self.filters.clear();
    }

    /// What it waits for.
    pub fn describe(&self) -> String {
        let Client { outgoing, received, link, .. } = self;
        let requests = link.as_ref().map(|link| &link.requests);
        format!("connected {}, under way {outgoing:?}, not released {received:?}, asked {requests:?}", self.is_up())
    }

    // --- What it is told to do --------------------------------------------------------------------------------------

    /// Connects and sends CONNECT. Does nothing if nobody listens.
    pub fn connect(&mut self, address: SocketAddr, clean_start: bool, checker: &mut Checker, now: Duration) {
        let Ok(socket) = TcpStream::connect(address) else { return };
        socket.set_nonblocking(true).expect("a socket can be made non-blocking");
        socket.set_nodelay(true).expect("a socket can be told not to wait");
        self.must_start_clean |= clean_start;
        let is_clean = self.must_start_clean || !self.profile.is_durable;
        let will_topic = format!("will/{}", self.profile.name);
        self.will = self
            .profile
            .will_delay
            .map(|delay| checker.sends(self.index, &will_topic, QoS::AtLeastOnce, Kind::Will(delay), WILL_BYTES));
        checker.connects(self.index, is_clean, self.will, now);
        let mut link = Link {
            socket,
            is_up: false,
            is_clean,
            input: Vec::new(),
            out: Vec::new(),
            owed: VecDeque::new(),
            unacknowledged: BTreeSet::new(),
            requests: BTreeMap::new(),
        };
        self.write_connect(is_clean, &will_topic, &mut link.out);
        self.link = Some(link);
    }

    fn write_connect(&self, is_clean: bool, will_topic: &str, out: &mut Vec<u8>) {
        let profile = &self.profile;
        let mut connect = Connect::new(profile.version, &profile.name);
        connect.clean_start = is_clean;
        let will_payload = self.will.map(|number| payload(number, WILL_BYTES));
        if let (Some(delay), Some(payload)) = (profile.will_delay, &will_payload) {
            let topic = TopicName::parse(will_topic).expect("a topic name");
            let mut properties = WillProperties::default();
            if !delay.is_zero() {
                properties.will_delay_interval = u32::try_from(delay.as_secs()).ok();
            }
            connect.will = Some(WillPacket { topic, payload, qos: QoS::AtLeastOnce, retain: false, properties });
        }
        if profile.version == ProtocolVersion::V5 {
            connect.properties.session_expiry_interval = profile.is_durable.then_some(SESSION_EXPIRY_S);
            connect.properties.receive_maximum = profile.receive_maximum.and_then(NonZeroU16::new);
        }
        connect.encode(out).expect("a CONNECT");
    }

    /// Sends a new message. Only if [`Client::can_publish`].
    pub fn publish(&mut self, topic: &str, qos: QoS, kind: Kind, payload_bytes: usize, checker: &mut Checker) {
        let number = checker.sends(self.index, topic, qos, kind, payload_bytes);
        let identifier = self.take_identifier();
        self.outgoing.push_back(Outgoing { identifier, number, is_released: false });
        let version = self.profile.version;
        let link = self.link.as_mut().expect("it is connected");
        write_publish(&mut link.out, version, checker, number, payload_bytes, identifier, false);
    }

    /// Sends SUBSCRIBE.
    pub fn subscribe(&mut self, filter: &str, qos: QoS, checker: &mut Checker) {
        let identifier = self.take_identifier();
        let link = self.link.as_mut().expect("it is connected");
        let filters = [(TopicFilter::parse(filter).expect("a filter"), SubscriptionOptions::with_qos(qos))];
        Subscribe::new(identifier, &filters).encode(self.profile.version, &mut link.out).expect("a SUBSCRIBE");
        link.requests.insert(identifier.value(), filter.to_owned());
        checker.subscribes(self.index, filter, qos);
    }

    /// Sends UNSUBSCRIBE.
    pub fn unsubscribe(&mut self, filter: &str, checker: &mut Checker) {
        let identifier = self.take_identifier();
        let link = self.link.as_mut().expect("it is connected");
        let filters = [TopicFilter::parse(filter).expect("a filter")];
        Unsubscribe::new(identifier, &filters).encode(self.profile.version, &mut link.out).expect("an UNSUBSCRIBE");
        link.requests.insert(identifier.value(), filter.to_owned());
        checker.unsubscribes(self.index, filter);
    }

    /// Sends DISCONNECT and closes the connection.
    pub fn disconnect(&mut self, checker: &mut Checker, now: Duration) {
        let Some(mut link) = self.link.take() else { return };
        let disconnect = Disconnect::new(ReasonCode::Success);
        disconnect.encode(self.profile.version, &mut link.out).expect("a DISCONNECT");
        link.write();
        // What the socket did not take is never sent, and then there was no DISCONNECT.
        if link.out.is_empty() {
            checker.leaves(self.index);
        } else {
            checker.loses_connection(self.index, now);
        }
    }

    /// Closes the connection without DISCONNECT, and without a look at what has come.
    pub fn vanish(&mut self, checker: &mut Checker, now: Duration) {
        if self.link.take().is_some() {
            checker.loses_connection(self.index, now);
        }
    }

    // --- What comes -------------------------------------------------------------------------------------------------

    /// Reads, handles and writes what there is. Returns whether there was anything.
    pub fn poll(&mut self, checker: &mut Checker, now: Duration) -> bool {
        let Some(mut link) = self.link.take() else { return false };
        let mut chunk = [0; 16 << 10];
        let did_read = match link.socket.read(&mut chunk) {
            Ok(0) => None,
            Ok(length) => {
                link.input.extend_from_slice(&chunk[..length]);
                Some(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Some(false),
            Err(_) => None,
        };
        let input = std::mem::take(&mut link.input);
        let mut rest = &input[..];
        while let Peek::Complete(header) = frame::peek(rest, u32::MAX).expect("the broker sends packets") {
            let (packet, following) = rest.split_at(header.total_len());
            let body = &packet[usize::from(header.header_len)..];
            let packet = Packet::decode(header, body, self.profile.version, Sender::Server);
            self.handle(&mut link, packet.expect("the broker sends packets"), checker, now);
            rest = following;
        }
        link.input = rest.to_vec();
        let Some(did_read) = did_read else {
            checker.loses_connection(self.index, now);
            return true;
        };
        let did_write = link.acknowledge(now) | link.write();
        self.link = Some(link);
        did_read || did_write
    }

    fn handle(&mut self, link: &mut Link, packet: Packet<'_>, checker: &mut Checker, now: Duration) {
        match packet {
            Packet::ConnAck(connack) if !link.is_up && connack.reason_code == ReasonCode::Success => {
                checker.connected(self.index, connack.session_present, now);
                self.resume(link, connack.session_present, checker);
            }
            // The connection ends after these.
            Packet::ConnAck(connack) if self.is_patient && connack.reason_code.is_error() => {}
            Packet::Disconnect(disconnect) if self.is_patient && disconnect.reason_code.is_error() => {}
            Packet::Publish(publish) if link.is_up => self.on_publish(link, &publish, checker, now),
            Packet::PubAck(ack) => self.on_puback(&ack, checker),
            Packet::PubRec(ack) => self.on_pubrec(link, &ack, checker),
            Packet::PubComp(ack) => {
                let is_answer = |sent: &Outgoing| sent.identifier == ack.packet_identifier && sent.is_released;
                if !self.end(is_answer) {
                    checker.violate(Rule::Protocol, self.index, format!("it got an unexpected {ack:?}"));
                }
            }
            Packet::PubRel(ack) => {
                if let Some(Some(number)) = self.received.remove(&ack.packet_identifier.value()) {
                    checker.releases(self.index, number);
                }
                self.owe(link, AckKind::PubComp, ack.packet_identifier, now);
            }
            Packet::SubAck(suback) => {
                let filter = link.requests.remove(&suback.packet_identifier.value());
                let is_granted = suback.reason_codes.iter().all(|code| !code.is_error());
                match filter.filter(|_| is_granted) {
                    Some(filter) => {
                        checker.subscribed(self.index, &filter);
                        self.filters.insert(filter);
                    }
                    // A broker whose disk is gone refuses what it would have to keep.
                    None if self.is_patient || checker.is_dark => {}
                    None => checker.violate(Rule::Protocol, self.index, format!("it got {suback:?}")),
                }
            }
            Packet::UnsubAck(unsuback)
                if checker.is_dark && unsuback.reason_codes.iter().any(|code| code.is_error()) =>
            {
                link.requests.remove(&unsuback.packet_identifier.value());
            }
            Packet::UnsubAck(unsuback) => match link.requests.remove(&unsuback.packet_identifier.value()) {
                Some(filter) => {
                    checker.unsubscribed(self.index, &filter);
                    self.filters.remove(&filter);
                }
                None => checker.violate(Rule::Protocol, self.index, format!("it got {unsuback:?}")),
            },
            // A broker whose disk is gone says so.
            Packet::ConnAck(_) | Packet::Disconnect(_) if checker.is_dark => {}
            other => checker.violate(Rule::Protocol, self.index, format!("it got {other:?}")),
        }
    }

    /// CONNACK came: what is under way is sent again [MQTT-4.4.0-1], or forgotten with the session.
    fn resume(&mut self, link: &mut Link, session_present: bool, checker: &Checker) {
        link.is_up = true;
        self.must_start_clean = false;
        if !session_present || link.is_clean {
            self.outgoing.clear();
            self.received.clear();
            self.filters.clear();
        }
        for sent in &self.outgoing {
            if sent.is_released {
                encode_success(&mut link.out, AckKind::PubRel, sent.identifier);
            } else {
                let bytes = checker.message(sent.number).payload_bytes;
                let version = self.profile.version;
                write_publish(&mut link.out, version, checker, sent.number, bytes, sent.identifier, true);
            }
        }
    }

    fn on_publish(&mut self, link: &mut Link, publish: &Publish<'_>, checker: &mut Checker, now: Duration) {
        let Some(identifier) = publish.packet_identifier else {
            return checker.violate(Rule::Protocol, self.index, format!("it got {publish:?}"));
        };
        let value = identifier.value();
        if !link.unacknowledged.insert(value) {
            checker.violate(Rule::Protocol, self.index, format!("identifier {value} came again before its answer"));
        }
        let maximum = self.profile.receive_maximum.map_or(usize::MAX, usize::from);
        if link.unacknowledged.len() > maximum {
            checker.violate(Rule::Protocol, self.index, format!("more than {maximum} messages came at once"));
        }
        if publish.qos == QoS::AtLeastOnce {
            self.owe(link, AckKind::PubAck, identifier, now);
            return checker.delivers(self.index, publish, now);
        }
        self.owe(link, AckKind::PubRec, identifier, now);
        let message = number(publish.payload);
        match self.received.insert(value, message) {
            None => checker.delivers(self.index, publish, now),
            // A duplicate, which goes no further.
            Some(before) if before == message => {}
            Some(before) => {
                self.received.insert(value, before);
                let what = format!("identifier {value} is used for {message:?} before {before:?} is released");
                checker.violate(Rule::Protocol, self.index, what);
            }
        }
    }

    fn on_puback(&mut self, ack: &Ack<'_>, checker: &mut Checker) {
        let sent = self.outgoing.iter().find(|sent| sent.identifier == ack.packet_identifier && !sent.is_released);
        let number = sent.map(|sent| sent.number).filter(|&number| checker.message(number).qos == QoS::AtLeastOnce);
        match number.filter(|_| !ack.reason_code.is_error() || self.is_patient) {
            Some(number) => {
                self.end(|sent| sent.number == number);
                if !ack.reason_code.is_error() {
                    checker.acknowledged(number);
                }
            }
            None if checker.is_dark && ack.reason_code.is_error() => {}
            None => checker.violate(Rule::Protocol, self.index, format!("it got an unexpected {ack:?}")),
        }
    }

    fn on_pubrec(&mut self, link: &mut Link, ack: &Ack<'_>, checker: &mut Checker) {
        let sent = self.outgoing.iter_mut().find(|sent| sent.identifier == ack.packet_identifier);
        let sent = sent.filter(|sent| checker.message(sent.number).qos == QoS::ExactlyOnce);
        if let (Some(sent), true) = (&sent, self.is_patient && ack.reason_code.is_error()) {
            let number = sent.number;
            // It is free again, and the message is not the broker's.
            self.end(|sent| sent.number == number && !sent.is_released);
            return;
        }
        match sent.filter(|_| !ack.reason_code.is_error()) {
            Some(sent) => {
                if !std::mem::replace(&mut sent.is_released, true) {
                    checker.acknowledged(sent.number);
                }
                encode_success(&mut link.out, AckKind::PubRel, ack.packet_identifier);
            }
            None if checker.is_dark && ack.reason_code.is_error() => {}
            None => checker.violate(Rule::Protocol, self.index, format!("it got an unexpected {ack:?}")),
        }
    }

    /// Ends the message under way that is meant; whether there was one.
    fn end(&mut self, is_meant: impl Fn(&Outgoing) -> bool) -> bool {
        let place = self.outgoing.iter().position(is_meant);
        place.is_some_and(|place| self.outgoing.remove(place).is_some())
    }

    /// An acknowledgement is to be sent, after those that are owed already.
    fn owe(&mut self, link: &mut Link, kind: AckKind, identifier: PacketIdentifier, now: Duration) {
        let wait_us = self.random.below(1 + self.profile.acknowledges_within.as_micros() as usize);
        let last = link.owed.back().map_or(Duration::ZERO, |&(_, _, due)| due);
        link.owed.push_back((kind, identifier, last.max(now + Duration::from_micros(wait_us as u64))));
    }

    /// The next identifier that is free. They come from a small range, so that each is soon used again.
    fn take_identifier(&mut self) -> PacketIdentifier {
        let range = 2 * self.profile.window as u16 + 8;
        loop {
            self.last_identifier = self.last_identifier % range + 1;
            let identifier = PacketIdentifier::new(self.last_identifier).expect("not 0");
            let is_asked = |link: &Link| link.requests.contains_key(&identifier.value());
            let is_under_way = self.outgoing.iter().any(|sent| sent.identifier == identifier);
            if !is_under_way && !self.link.as_ref().is_some_and(is_asked) {
                return identifier;
            }
        }
    }
}

impl Link {
    /// Appends the acknowledgements that are due; whether there was one.
    fn acknowledge(&mut self, now: Duration) -> bool {
        let mut did = false;
        while let Some((kind, identifier, _)) = self.owed.pop_front_if(|&mut (_, _, due)| due <= now) {
            encode_success(&mut self.out, kind, identifier);
            if kind != AckKind::PubRec {
                self.unacknowledged.remove(&identifier.value());
            }
            did = true;
        }
        did
    }

    /// Writes what the socket takes; whether it took anything. That the connection is over is seen when it is read.
    fn write(&mut self) -> bool {
        if self.out.is_empty() {
            return false;
        }
        match self.socket.write(&self.out) {
            Ok(length) => drop(self.out.drain(..length)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return false,
            Err(_) => self.out.clear(),
        }
        true
    }
}

fn write_publish(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    checker: &Checker,
    number: Number,
    payload_bytes: usize,
    identifier: PacketIdentifier,
    dup: bool,
) {
    let message = checker.message(number);
    let payload = if message.kind == Kind::Clear { Vec::new() } else { payload(number, payload_bytes) };
    let publish = Publish {
        dup,
        qos: message.qos,
        retain: matches!(message.kind, Kind::Retained | Kind::Clear),
        topic: &message.topic,
        packet_identifier: Some(identifier),
        properties: PublishProperties::default(),
        payload: &payload,
    };
    publish.encode(version, out).expect("a PUBLISH");
}

/// Longer than any run.
const SESSION_EXPIRY_S: u32 = 86_400;

const WILL_BYTES: usize = 24;
