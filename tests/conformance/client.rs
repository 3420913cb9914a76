//! A scripted client: what it sends, and what it must see next.
//!
//! Nothing here sleeps. That something does *not* happen is proven by something that must happen after it: a PINGRESP, a
//! message of the same publisher, the retained markers of every shard.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::property::Property;
use crate::server::{MARKERS, Server};
use crate::wire::{Ack, ConnAck, Connect, Disconnect, Packet, Publish, SubAck, Subscribe, Unsubscribe, Version};

/// How long a script waits for what must come. Only a failing test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One Network Connection to the broker.
pub struct Client {
    stream: TcpStream,
    version: Version,
    input: Vec<u8>,
    passed_over: VecDeque<Packet>,
    label: String,
    id_last: u16,
    connack: ConnAck,
    packet_bytes: usize,
    marker_topic: String,
}

impl Client {
    /// Opens a connection and sends nothing. Packets are read as `version`.
    pub fn dial(server: &Server, version: Version) -> Client {
        let stream = TcpStream::connect(server.address()).expect("the broker accepts a connection");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            version,
            input: Vec::new(),
            passed_over: VecDeque::new(),
            label: String::new(),
            id_last: 0,
            connack: ConnAck::default(),
            packet_bytes: 0,
            marker_topic: format!("{}/marker", server.unique("m")),
        }
    }

    /// What this client stands for, in the message of a failure: for scripts that run through a table.
    pub fn label(mut self, label: impl Into<String>) -> Client {
        self.label = label.into();
        self
    }

    /// Connects and must be accepted.
    #[track_caller]
    pub fn connect(server: &Server, connect: Connect) -> Client {
        let mut client = Client::dial(server, connect.version);
        client.send(connect);
        client.expect_connack(0);
        client
    }

    /// Connects and must be refused with `code`, without a session, and closed.
    #[track_caller]
    pub fn connect_refused(server: &Server, connect: Connect, code: u8) {
        let mut client = Client::dial(server, connect.version);
        client.send(connect);
        client.expect_connack(code);
        assert!(!client.connack.session_present, "a refusal with session present");
        client.expect_closed();
    }

    /// The CONNACK of this connection.
    pub fn connack(&self) -> &ConnAck {
        &self.connack
    }

    pub fn session_present(&self) -> bool {
        self.connack.session_present
    }

    /// How many bytes the last packet that came had.
    pub fn packet_bytes(&self) -> usize {
        self.packet_bytes
    }

    /// The next PacketIdentifier that this client has not used on this connection.
    pub fn next_id(&mut self) -> u16 {
        self.id_last = self.id_last.checked_add(1).unwrap_or(1);
        self.id_last
    }

    /// Our own end of the socket: the port that the broker sees as the peer's.
    pub fn local_port(&self) -> u16 {
        self.stream.local_addr().unwrap().port()
    }

    // Sending. A write error is no failure by itself: what the script expects next shows whether the close was right.

    pub fn send(&mut self, packet: impl Into<Packet>) -> &mut Client {
        let bytes = packet.into().encode(self.version);
        self.send_raw(&bytes)
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> &mut Client {
        if let Err(error) = self.stream.write_all(bytes) {
            assert!(is_closed(error.kind()), "cannot send: {error}");
        }
        self
    }

    /// Sends one byte at a time, each in a segment of its own as far as the kernel allows.
    pub fn send_bytewise(&mut self, bytes: &[u8]) -> &mut Client {
        for byte in bytes {
            self.send_raw(std::slice::from_ref(byte));
        }
        self
    }

    /// The bytes of `packet` in this connection's version, to be joined into one segment.
    pub fn encode(&self, packet: impl Into<Packet>) -> Vec<u8> {
        packet.into().encode(self.version)
    }

    /// Ends the connection in order, the Will dropped.
    #[track_caller]
    pub fn disconnect(mut self) {
        self.send(Packet::Disconnect(Disconnect::default()));
        self.expect_closed();
    }

    /// Closes the socket without a DISCONNECT.
    pub fn vanish(self) {
        // What the kernel says about a socket that the peer closed meanwhile does not matter.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Makes our kernel reset the connection: it does so when a socket is closed with input that was not read.
    pub fn reset(mut self) {
        self.send(Packet::PingReq);
        while self.stream.peek(&mut [0; 2]).unwrap_or(2) < 2 {}
    }

    /// Closes our direction and must see the broker close its own, so that it knows of the end.
    pub fn vanish_noticed(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        while self.next_or_closed().is_some() {}
    }

    // Whole exchanges.

    /// SUBSCRIBE to one filter; the SUBACK must come next and grant exactly `options`' QoS.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, options: u8) -> &mut Client {
        let code = options & 3;
        self.subscribe_code(filter, options, code)
    }

    /// SUBSCRIBE to one filter; the SUBACK must come next with `code`.
    #[track_caller]
    pub fn subscribe_code(&mut self, filter: &str, options: u8, code: u8) -> &mut Client {
        let id = self.next_id();
        self.send(Subscribe::new(id, filter, options));
        self.expect_suback(id, &[code])
    }

    #[track_caller]
    pub fn unsubscribe(&mut self, filter: &str) -> &mut Client {
        let id = self.next_id();
        self.send(Unsubscribe::new(id, filter));
        let ack = self.expect_unsuback(id);
        assert!(self.version != Version::V5 || ack.codes == [0], "UNSUBACK codes {:?}", ack.codes);
        self
    }

    /// PUBLISH, and the whole acknowledgement of its QoS must come. What comes in between is kept for later.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> &mut Client {
        self.publish_packet(Publish::new(topic, payload), qos)
    }

    #[track_caller]
    pub fn publish_retained(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> &mut Client {
        self.publish_packet(Publish::new(topic, payload).retain(), qos)
    }

    /// As [`Client::publish`] for any PUBLISH; the PacketIdentifier is this client's next one.
    #[track_caller]
    pub fn publish_packet(&mut self, publish: Publish, qos: u8) -> &mut Client {
        let id = if qos == 0 { 0 } else { self.next_id() };
        self.send(publish.qos(qos, id));
        match qos {
            0 => {}
            1 => {
                let ack = self.pass_over_until(|packet| match packet {
                    Packet::PubAck(ack) if ack.id == id => Some(ack.clone()),
                    _ => None,
                });
                assert!(ack.code < 0x80, "PUBACK {ack:?}");
            }
            _ => {
                let ack = self.pass_over_until(|packet| match packet {
                    Packet::PubRec(ack) if ack.id == id => Some(ack.clone()),
                    _ => None,
                });
                assert!(ack.code < 0x80, "PUBREC {ack:?}");
                self.send(Packet::PubRel(Ack::new(id)));
                self.pass_over_until(|packet| (*packet == Packet::PubComp(Ack::new(id))).then_some(()));
            }
        }
        self
    }

    /// Answers a PUBLISH as its QoS asks; at QoS 2 the PUBREL must come. What comes before it is kept for later.
    #[track_caller]
    pub fn acknowledge(&mut self, publish: &Publish) -> &mut Client {
        let id = publish.id;
        match publish.qos {
            0 => self,
            1 => self.send(Packet::PubAck(Ack::new(id))),
            _ => {
                self.send(Packet::PubRec(Ack::new(id)));
                self.pass_over_until(|packet| (*packet == Packet::PubRel(Ack::new(id))).then_some(()));
                self.send(Packet::PubComp(Ack::new(id)))
            }
        }
    }

    /// A live PUBLISH (no DUP, no RETAIN, no properties) must come next; it is acknowledged.
    #[track_caller]
    pub fn receive(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> &mut Client {
        let publish = self.expect_publish(topic, payload, qos);
        self.acknowledge(&publish)
    }

    /// As [`Client::receive`], with RETAIN 1.
    #[track_caller]
    pub fn receive_retained(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> &mut Client {
        let publish = self.expect_like(Publish::new(topic, payload).qos(qos, 0).retain());
        self.acknowledge(&publish)
    }

    // Expecting.

    /// The next packet, or nothing when the broker closed first.
    #[track_caller]
    pub fn next_or_closed(&mut self) -> Option<Packet> {
        self.passed_over.pop_front().or_else(|| self.read_or_closed())
    }

    /// The first packet that `pick` wants. Those before it are the next ones afterwards, in their order.
    #[track_caller]
    fn pass_over_until<T>(&mut self, pick: impl Fn(&Packet) -> Option<T>) -> T {
        loop {
            let Some(packet) = self.read_or_closed() else { panic!("closed; before it came {:?}", self.passed_over) };
            match pick(&packet) {
                Some(picked) => return picked,
                None => self.passed_over.push_back(packet),
            }
        }
    }

    fn read_or_closed(&mut self) -> Option<Packet> {
        loop {
            match Packet::decode(self.version, &self.input) {
                Ok(Some((packet, used))) => {
                    self.input.drain(..used);
                    self.packet_bytes = used;
                    return Some(packet);
                }
                Ok(None) => {}
                Err(error) => panic!("the broker sent nonsense: {error} in {:02x?}", self.input),
            }
            let mut part = [0; 16 * 1024];
            match self.stream.read(&mut part) {
                Ok(0) => {
                    assert!(self.input.is_empty(), "closed within a packet: {:02x?}", self.input);
                    return None;
                }
                Ok(length) => self.input.extend(&part[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_closed(error.kind()) => return None,
                Err(error) => {
                    panic!("{}: nothing came within {PATIENCE:?}: {error}; before: {:?}", self.label, self.passed_over);
                }
            }
        }
    }

    /// Whether the broker closes this connection within `wait`. Packets that come before the close are skipped.
    pub fn is_closed_within(&mut self, wait: Duration) -> bool {
        let started = Instant::now();
        self.stream.set_read_timeout(Some(wait)).unwrap();
        let mut closed = false;
        while !closed && started.elapsed() < wait {
            let mut part = [0; 1024];
            match self.stream.read(&mut part) {
                Ok(length) if length > 0 => self.input.extend(&part[..length]),
                Ok(_) => closed = true,
                Err(error) => closed = is_closed(error.kind()),
            }
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        closed
    }

    /// The next packet.
    #[track_caller]
    pub fn next(&mut self) -> Packet {
        let Some(packet) = self.next_or_closed() else { panic!("closed where a packet was expected") };
        packet
    }

    /// Exactly these bytes must come next: for what a parser would not see, such as fixed-header flags.
    #[track_caller]
    pub fn expect_raw(&mut self, bytes: &[u8]) -> &mut Client {
        assert_eq!(self.passed_over, [], "packets came before the bytes");
        while self.input.len() < bytes.len() {
            let mut part = [0; 1024];
            match self.stream.read(&mut part) {
                Ok(length) if length > 0 => self.input.extend(&part[..length]),
                end => panic!("{end:?} after {:02x?} where {bytes:02x?} was expected", self.input),
            }
        }
        let came: Vec<u8> = self.input.drain(..bytes.len()).collect();
        assert_eq!(came, bytes, "the left bytes came, the right ones were expected");
        self
    }

    /// Exactly `packet` must come next.
    #[track_caller]
    pub fn expect(&mut self, packet: impl Into<Packet>) -> &mut Client {
        let packet = packet.into();
        let next = self.next_or_closed();
        assert_eq!(next.as_ref(), Some(&packet), "the left one came (None: closed), the right one was expected");
        self
    }

    #[track_caller]
    pub fn expect_connack(&mut self, code: u8) -> &ConnAck {
        match self.next() {
            Packet::ConnAck(connack) if connack.code == code => self.connack = connack,
            other => panic!("{other:?} instead of CONNACK {code:#x}"),
        }
        &self.connack
    }

    /// A PUBLISH like `wanted` in all but its PacketIdentifier must come next.
    #[track_caller]
    pub fn expect_like(&mut self, wanted: Publish) -> Publish {
        match self.next() {
            Packet::Publish(publish) => {
                assert_eq!(publish, Publish { id: publish.id, ..wanted }, "left came, right was expected");
                publish
            }
            other => panic!("{other:?} instead of {wanted:?}"),
        }
    }

    /// A live PUBLISH (no DUP, no RETAIN, no properties) must come next. It is not acknowledged.
    #[track_caller]
    pub fn expect_publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> Publish {
        self.expect_like(Publish::new(topic, payload).qos(qos, 0))
    }

    /// Some PUBLISH must come next.
    #[track_caller]
    pub fn expect_any_publish(&mut self) -> Publish {
        match self.next() {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?} instead of a PUBLISH"),
        }
    }

    #[track_caller]
    pub fn expect_suback(&mut self, id: u16, codes: &[u8]) -> &mut Client {
        match self.next() {
            Packet::SubAck(SubAck { id: came, codes: granted, .. }) => assert_eq!((came, &granted[..]), (id, codes)),
            other => panic!("{other:?} instead of SUBACK {id} {codes:02x?}"),
        }
        self
    }

    #[track_caller]
    pub fn expect_unsuback(&mut self, id: u16) -> SubAck {
        match self.next() {
            Packet::UnsubAck(ack) if ack.id == id => ack,
            other => panic!("{other:?} instead of UNSUBACK {id}"),
        }
    }

    #[track_caller]
    pub fn expect_puback(&mut self, id: u16) -> Ack {
        match self.next() {
            Packet::PubAck(ack) if ack.id == id => ack,
            other => panic!("{other:?} instead of PUBACK {id}"),
        }
    }

    #[track_caller]
    pub fn expect_pubrec(&mut self, id: u16) -> Ack {
        match self.next() {
            Packet::PubRec(ack) if ack.id == id => ack,
            other => panic!("{other:?} instead of PUBREC {id}"),
        }
    }

    /// The broker must close, and send nothing before it.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let next = self.next_or_closed();
        assert_eq!(next, None, "a packet came where the close was expected");
    }

    /// The broker must send DISCONNECT with `code` and close (MQTT 5.0).
    #[track_caller]
    pub fn expect_disconnect(&mut self, code: u8) -> Disconnect {
        match self.next() {
            Packet::Disconnect(disconnect) if disconnect.code == code => {
                self.expect_closed();
                disconnect
            }
            other => panic!("{other:?} instead of DISCONNECT {code:#x}"),
        }
    }

    /// The connection must be alive, and nothing must have been sent before the answer to a PINGREQ.
    ///
    /// This proves the absence of answers to what this client sent itself, and of messages whose publisher has
    /// already seen its PUBACK. For others see [`Client::expect_nothing_from`].
    #[track_caller]
    pub fn expect_nothing_within_roundtrip(&mut self) -> &mut Client {
        self.send(Packet::PingReq);
        self.expect(Packet::PingResp)
    }

    /// Nothing that `publisher` sent so far must come: a marker that it sends now must be the next message.
    #[track_caller]
    pub fn expect_nothing_from(&mut self, publisher: &mut Client) -> &mut Client {
        let topic = self.marker_topic.clone();
        self.subscribe(&topic, 0);
        publisher.publish(&topic, "marker", 0);
        self.expect_publish(&topic, "marker", 0);
        self.unsubscribe(&topic)
    }

    /// No retained message for an earlier SUBSCRIBE of this client must be on its way.
    ///
    /// Retained messages come from the shard that is the topic's home. Markers of all shards are asked for now; each
    /// shard answers in order, so after them nothing older can come.
    #[track_caller]
    pub fn expect_no_retained(&mut self, server: &Server) -> &mut Client {
        let filter = server.marker_filter();
        self.subscribe(&filter, 0);
        for _ in 0..MARKERS {
            let publish = self.expect_any_publish();
            assert!(publish.retain && publish.topic.starts_with(filter.trim_end_matches('+')), "{publish:?}");
        }
        self.unsubscribe(&filter)
    }

    /// Waits until the broker has answered the retained-message questions of this client's subscriptions.
    ///
    /// Until then, what is published retained may arrive twice: as a live message, and for the new subscription.
    #[track_caller]
    pub fn settle_retained(&mut self, server: &Server) -> &mut Client {
        self.expect_no_retained(server)
    }

    /// The value of a property of the CONNACK, found by `pick`.
    pub fn connack_property<T>(&self, pick: impl Fn(&Property) -> Option<T>) -> Option<T> {
        self.connack.properties.iter().find_map(pick)
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}
