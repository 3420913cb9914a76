//! Words that the scripts for MQTT 5.0 share.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Client, PATIENCE};
use crate::property::Property;
use crate::server::Server;
use crate::wire::{Ack, ConnAck, Connect, Disconnect, Packet, Publish, Version, field, frame, put_variable};

/// Subscription Options beside the maximum QoS in the two lowest bits.
pub const NO_LOCAL: u8 = 0x04;
pub const RETAIN_AS_PUBLISHED: u8 = 0x08;
pub const RETAIN_IF_NEW: u8 = 0x10;
pub const RETAIN_NEVER: u8 = 0x20;

/// The reasons that a server may give in each kind of packet: the tables of the specification.
pub const CONNACK_REASONS: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B,
    0x9C, 0x9D, 0x9F,
];
pub const PUBACK_REASONS: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
pub const PUBREL_REASONS: &[u8] = &[0x00, 0x92];
pub const SUBACK_REASONS: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
pub const UNSUBACK_REASONS: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
pub const DISCONNECT_REASONS: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];

/// Byte sequences that are no UTF-8.
pub const ILL_FORMED: &[&[u8]] = &[
    b"a\xFF",             // No lead byte at all.
    b"\x80a",             // A continuation byte without a lead.
    b"a\xC3",             // Cut off.
    b"\xC0\xAFa",         // Longer than need be.
    b"\xE0\x80\xAF",      // Longer than need be.
    b"a\xED\xA0\x80b",    // The surrogate U+D800.
    b"\xED\xBF\xBF",      // The surrogate U+DFFF.
    b"\xF4\x90\x80\x80z", // Above U+10FFFF.
    b"\xE2\x82",          // Cut off.
];

/// A CONNECT with a ClientId that nothing else uses.
pub fn connect(server: &Server, word: &str) -> Connect {
    Connect::v5(&server.unique(word))
}

/// A CONNECT that resumes, and whose session outlives the connection.
pub fn resuming(server: &Server, word: &str) -> Connect {
    connect(server, word).clean(false).property(Property::SessionExpiryInterval(300))
}

/// A connected client of its own.
pub fn client(server: &Server, word: &str) -> Client {
    Client::connect(server, connect(server, word))
}

/// A connected client that subscribed to one filter.
pub fn subscriber(server: &Server, filter: &str, options: u8) -> Client {
    let mut client = client(server, "sub");
    client.subscribe(filter, options);
    client
}

/// A PUBLISH that came is like `wanted` in all but its PacketIdentifier and the order of different properties.
#[track_caller]
pub fn assert_like(came: &Publish, wanted: Publish) {
    let mut came = Publish { id: wanted.id, ..came.clone() };
    let mut wanted = wanted;
    // A stable sort: User Properties keep their order, which is part of what is compared.
    came.properties.sort_by_key(Property::identifier);
    wanted.properties.sort_by_key(Property::identifier);
    assert_eq!(came, wanted, "left came, right was expected");
}

/// Some PUBLISH must come next, and nothing else until it is acknowledged in full.
#[track_caller]
pub fn take(client: &mut Client) -> Publish {
    collect(client, 1).remove(0)
}

/// The next `count` messages, acknowledged in full: PUBRELs may come between them.
#[track_caller]
pub fn collect(client: &mut Client, count: usize) -> Vec<Publish> {
    let mut messages = Vec::with_capacity(count);
    let mut open = Vec::new();
    while messages.len() < count || !open.is_empty() {
        match client.next() {
            Packet::Publish(publish) if messages.len() < count => {
                match publish.qos {
                    0 => {}
                    1 => drop(client.send(Packet::PubAck(Ack::new(publish.id)))),
                    _ => {
                        client.send(Packet::PubRec(Ack::new(publish.id)));
                        open.push(publish.id);
                    }
                }
                messages.push(publish);
            }
            // PUBRELs come in the order of the PUBRECs.
            Packet::PubRel(ack) if open.first() == Some(&ack.id) && ack.code == 0 => {
                open.remove(0);
                client.send(Packet::PubComp(Ack::new(ack.id)));
            }
            other => panic!("{other:?} where {count} messages were expected, after {messages:?}"),
        }
    }
    messages
}

/// The payloads of the next `count` messages as text; each is acknowledged in full.
#[track_caller]
pub fn payloads(client: &mut Client, count: usize) -> Vec<String> {
    collect(client, count).into_iter().map(|publish| String::from_utf8(publish.payload).unwrap()).collect()
}

/// The numbers of `range` as text, to compare with [`payloads`].
pub fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// The broker must send a DISCONNECT with one of `codes` next, and close.
#[track_caller]
pub fn expect_disconnect_among(client: &mut Client, codes: &[u8]) -> Disconnect {
    match client.next() {
        Packet::Disconnect(disconnect) if codes.contains(&disconnect.code) => {
            client.expect_closed();
            disconnect
        }
        other => panic!("{other:?} instead of a DISCONNECT with one of {codes:02x?}"),
    }
}

/// A connected client that sends `bytes` must get a DISCONNECT with one of `codes`, and be closed.
#[track_caller]
pub fn violates(server: &Server, bytes: &[u8], codes: &[u8]) {
    let mut client = client(server, "bad");
    client.send_raw(bytes);
    match client.next_or_closed() {
        Some(Packet::Disconnect(disconnect)) if codes.contains(&disconnect.code) => client.expect_closed(),
        other => panic!("{other:?} instead of a DISCONNECT with one of {codes:02x?} after {}", hex(bytes)),
    }
}

/// All bytes that the broker answers until it closes, after `bytes` on a new connection.
#[track_caller]
pub fn raw_answer(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address()).expect("the broker accepts a connection");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The broker may close before it has read all; what it answers shows it.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not closed after {}: {error}; came: {}", hex(bytes), hex(&answer)),
    }
    answer
}

/// The beginning of `bytes`, for a message that somebody has to read.
pub fn hex(bytes: &[u8]) -> String {
    format!("{:02x?} ({} bytes)", &bytes[..bytes.len().min(48)], bytes.len())
}

/// The broker must close a connection that begins with `bytes`; before it may only come a CONNACK with one of `codes`.
#[track_caller]
pub fn refused(server: &Server, bytes: &[u8], codes: &[u8]) {
    let answer = raw_answer(server, bytes);
    if answer.is_empty() {
        return;
    }
    match Packet::decode(Version::V5, &answer) {
        Ok(Some((Packet::ConnAck(ConnAck { session_present: false, code, .. }), used)))
            if codes.contains(&code) && used == answer.len() => {}
        other => panic!("{other:?} instead of a CONNACK with one of {codes:02x?}, after {}", hex(bytes)),
    }
}

/// Lets the broker's clock go on by `seconds`: by the silence of a client, whose end is waited for.
pub fn let_pass(server: &Server, seconds: u16) {
    // A client may be silent for one and a half times its KeepAlive.
    let begin = Instant::now();
    let mut silent = Client::connect(server, connect(server, "clock").keep_alive((seconds * 2).div_ceil(3)));
    while silent.next_or_closed().is_some() {}
    let passed = begin.elapsed();
    assert!(passed >= Duration::from_secs(u64::from(seconds)), "a silent client was closed after {passed:?}");
}

/// A PUBLISH frame of any flags from its parts: topic bytes, PacketIdentifier if the QoS has one, properties, payload.
pub fn publish_bytes(flags: u8, topic: &[u8], id: Option<u16>, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = field(topic);
    if let Some(id) = id {
        body.extend(id.to_be_bytes());
    }
    put_variable(&mut body, properties.len() as u32);
    body.extend(properties);
    body.extend(payload);
    frame(0x30 | flags, &body)
}

/// A SUBSCRIBE frame with PacketIdentifier 1 from its properties (without their length) and its payload.
pub fn subscribe_bytes(properties: &[u8], payload: &[u8]) -> Vec<u8> {
    request_bytes(0x82, properties, payload)
}

/// An UNSUBSCRIBE frame with PacketIdentifier 1 from its properties (without their length) and its payload.
pub fn unsubscribe_bytes(properties: &[u8], payload: &[u8]) -> Vec<u8> {
    request_bytes(0xA2, properties, payload)
}

fn request_bytes(first: u8, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1];
    put_variable(&mut body, properties.len() as u32);
    body.extend(properties);
    body.extend(payload);
    frame(first, &body)
}

/// A CONNECT frame from its flags, its properties (without their length) and its payload fields.
pub fn connect_bytes(flags: u8, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = field("MQTT");
    body.extend([5, flags, 0, 60]);
    put_variable(&mut body, properties.len() as u32);
    body.extend(properties);
    body.extend(payload);
    frame(0x10, &body)
}

/// Fields one after the other, each with its length.
pub fn fields(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(field).collect()
}
