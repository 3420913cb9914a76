//! Strings, fixed headers and packet identifiers: chapters 1 and 2.

use super::{ILL_FORMED, assert_closes, assert_closes_unconnected, connect, resume};
use crate::server::{Server, on_each_shard_count};
use crate::wire::{Ack, Connect, Packet, Publish, Subscribe, Unsubscribe, Will, field, frame};

/// Packets with `text` in each place where a client may send a string, and whether the packet opens the connection.
fn string_places(text: &[u8]) -> Vec<(&'static str, bool, Vec<u8>)> {
    let connect = || Connect::v311("strings");
    let encode = |connect: Connect| Packet::Connect(connect).encode(crate::wire::Version::V311);
    let mut client_id = connect();
    client_id.client_id = text.to_vec();
    let mut will = connect().will(Will::new("t", "w"));
    will.will.as_mut().unwrap().topic = text.to_vec();
    let mut user_name = connect();
    user_name.user_name = Some(text.to_vec());
    vec![
        ("a ClientId", true, encode(client_id)),
        ("a Will Topic", true, encode(will)),
        ("a User Name", true, encode(user_name)),
        ("a Topic Name", false, frame(0x30, &[field(text), b"payload".to_vec()].concat())),
        ("a Topic Name at QoS 1", false, frame(0x32, &[field(text), vec![0, 1]].concat())),
        ("a filter in SUBSCRIBE", false, frame(0x82, &[vec![0, 1], field(text), vec![0]].concat())),
        ("a filter in UNSUBSCRIBE", false, frame(0xA2, &[vec![0, 1], field(text)].concat())),
    ]
}

fn assert_closes_everywhere(server: &Server, what: &str, text: &[u8]) {
    for (place, opens, bytes) in string_places(text) {
        let what = format!("{what} in {place}");
        if opens {
            assert_closes_unconnected(server, &what, &bytes);
        } else {
            assert_closes(server, &what, &bytes);
        }
    }
}

#[test]
fn v3_mqtt_1_5_3_1_ill_formed_utf8_closes_the_connection() {
    on_each_shard_count(|server| {
        for (what, text) in ILL_FORMED {
            assert_closes_everywhere(server, what, text);
        }
    });
}

#[test]
fn v3_mqtt_1_5_3_2_the_null_character_closes_the_connection() {
    on_each_shard_count(|server| {
        for text in [&b"\0"[..], b"\0a", b"a\0b", b"a/\0"] {
            assert_closes_everywhere(server, "U+0000", text);
        }
    });
}

#[test]
fn v3_mqtt_1_5_3_3_a_byte_order_mark_is_a_character_and_kept() {
    on_each_shard_count(|server| {
        let plain = server.unique("bom");
        let (mut publisher, mut subscriber) = (connect(server, "p"), connect(server, "s"));
        let marked = [format!("\u{FEFF}{plain}"), format!("{plain}/\u{FEFF}/x"), format!("{plain}\u{FEFF}")];
        for topic in &marked {
            subscriber.subscribe(topic, 1);
        }
        for topic in &marked {
            publisher.publish(topic, "\u{FEFF}payload", 1);
            subscriber.receive(topic, b"\xEF\xBB\xBFpayload", 1);
        }
        // The names without the mark are others.
        publisher.publish(&plain, "", 1).publish(&format!("{plain}//x"), "", 1);
        subscriber.expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_2_2_2_1_reserved_flag_bits_carry_their_values() {
    on_each_shard_count(|server| {
        let topic = server.unique("flags");
        let mut client = crate::client::Client::dial(server, crate::wire::Version::V311);
        client.send(Connect::v311(&server.unique("flags"))).expect_raw(&[0x20, 2, 0, 0]);
        client.send(Packet::PingReq).expect_raw(&[0xD0, 0]);
        client.send(Subscribe::new(1, &topic, 2)).expect_raw(&[0x90, 3, 0, 1, 2]);
        client.send(Publish::new(&server.unique("flags"), "").qos(1, 2)).expect_raw(&[0x40, 2, 0, 2]);
        client.send(Publish::new(&server.unique("flags"), "").qos(2, 3)).expect_raw(&[0x50, 2, 0, 3]);
        client.send(Packet::PubRel(Ack::new(3))).expect_raw(&[0x70, 2, 0, 3]);
        // The server's own PUBREL has the flags 0010.
        let mut publisher = connect(server, "flags");
        publisher.publish(&topic, "x", 2);
        let publish = client.expect_publish(&topic, "x", 2);
        let [high, low] = publish.id.to_be_bytes();
        client.send(Packet::PubRec(Ack::new(publish.id))).expect_raw(&[0x62, 2, high, low]);
        client.send(Packet::PubComp(Ack::new(publish.id)));
        client.send(Unsubscribe::new(4, &topic)).expect_raw(&[0xB0, 2, 0, 4]);
    });
}

#[test]
fn v3_mqtt_2_2_2_2_wrong_fixed_header_flags_close_the_connection() {
    on_each_shard_count(|server| {
        let filter = field("flags");
        let bodies: [(u8, u8, Vec<u8>); 8] = [
            (0x40, 0, vec![0, 1]),
            (0x50, 0, vec![0, 1]),
            (0x60, 2, vec![0, 1]),
            (0x70, 0, vec![0, 1]),
            (0x80, 2, [vec![0, 1], filter.clone(), vec![0]].concat()),
            (0xA0, 2, [vec![0, 1], filter].concat()),
            (0xC0, 0, Vec::new()),
            (0xE0, 0, Vec::new()),
        ];
        for (kind, right, body) in &bodies {
            for flags in (0..16).filter(|flags| flags != right) {
                assert_closes(server, "wrong flags", &frame(kind | flags, body));
            }
        }
        let connect = Packet::Connect(Connect::v311("flags")).encode(crate::wire::Version::V311);
        for flags in 1..16 {
            let mut wrong = connect.clone();
            wrong[0] |= flags;
            assert_closes_unconnected(server, "a CONNECT with wrong flags", &wrong);
        }
    });
}

#[test]
fn v3_mqtt_2_3_1_1_a_packet_identifier_of_zero_closes_the_connection() {
    on_each_shard_count(|server| {
        let packets = [
            ("SUBSCRIBE", Packet::Subscribe(Subscribe::new(0, "zero", 0))),
            ("UNSUBSCRIBE", Packet::Unsubscribe(Unsubscribe::new(0, "zero"))),
            ("PUBLISH at QoS 1", Packet::Publish(Publish::new("zero", "x").qos(1, 0))),
            ("PUBLISH at QoS 2", Packet::Publish(Publish::new("zero", "x").qos(2, 0))),
        ];
        for (what, packet) in packets {
            assert_closes(server, what, &packet.encode(crate::wire::Version::V311));
        }
    });
}

#[test]
fn v3_mqtt_2_3_1_3_an_identifier_is_free_again_after_its_acknowledgement() {
    on_each_shard_count(|server| {
        let topic = server.unique("reuse");
        let (mut publisher, mut subscriber) = (connect(server, "p"), connect(server, "s"));
        subscriber.subscribe(&topic, 2);
        for round in 0..3 {
            publisher.send(Publish::new(&topic, format!("one {round}")).qos(1, 7)).expect(Packet::PubAck(Ack::new(7)));
            publisher.send(Publish::new(&topic, format!("two {round}")).qos(2, 7)).expect(Packet::PubRec(Ack::new(7)));
            publisher.send(Packet::PubRel(Ack::new(7))).expect(Packet::PubComp(Ack::new(7)));
            publisher.send(Subscribe::new(7, "elsewhere", 0)).expect_suback(7, &[0]);
            publisher.send(Unsubscribe::new(7, "elsewhere")).expect_unsuback(7);
            subscriber.receive(&topic, format!("one {round}"), 1).receive(&topic, format!("two {round}"), 2);
        }
    });
}

#[test]
fn v3_mqtt_2_3_1_4_the_servers_own_publishes_have_identifiers_that_are_free() {
    on_each_shard_count(|server| {
        let (topic, id) = (server.unique("own"), server.unique("own"));
        let mut publisher = connect(server, "p");
        let mut subscriber = resume(server, &id);
        subscriber.subscribe(&topic, 2);
        let mut held = Vec::new();
        for round in 0..40_u8 {
            publisher.publish(&topic, [round], 1 + round % 2);
            let publish = subscriber.expect_publish(&topic, [round], 1 + round % 2);
            assert!(!held.contains(&publish.id), "{} is still in flight", publish.id);
            // Every third one stays unacknowledged, so that its identifier stays taken.
            if round % 3 == 0 {
                held.push(publish.id);
            } else {
                subscriber.acknowledge(&publish);
            }
        }
        // What is sent again has the identifier that it had.
        subscriber.vanish_noticed();
        let mut subscriber = resume(server, &id);
        for wanted in held {
            let publish = subscriber.expect_any_publish();
            assert_eq!((publish.id, publish.dup), (wanted, true));
        }
    });
}

#[test]
fn v3_mqtt_2_3_1_5_a_qos_0_publish_has_no_identifier() {
    on_each_shard_count(|server| {
        let topic = server.unique("zero");
        let mut client = connect(server, "zero");
        client.subscribe(&topic, 2);
        // The first two payload bytes would be eaten, were an identifier read or written.
        let wanted = frame(0x30, &[field(&topic), vec![0, 9, 1, 2]].concat());
        client.send_raw(&wanted).expect_raw(&wanted);
        client.publish(&topic, "", 0).expect_raw(&frame(0x30, &field(&topic)));
        client.expect_nothing_within_roundtrip();
    });
}

/// Identifiers with every edge that a byte order or a signed type could break.
const IDENTIFIERS: [u16; 8] = [1, 2, 255, 256, 0x1234, 0x7FFF, 0x8000, 65_535];

#[test]
fn v3_mqtt_2_3_1_6_puback_pubrec_and_pubcomp_echo_the_identifier() {
    on_each_shard_count(|server| {
        let topic = server.unique("echo");
        let mut client = connect(server, "echo");
        for id in IDENTIFIERS {
            client.send(Publish::new(&topic, "x").qos(1, id)).expect(Packet::PubAck(Ack::new(id)));
            client.send(Publish::new(&topic, "x").qos(2, id)).expect(Packet::PubRec(Ack::new(id)));
        }
        for id in IDENTIFIERS {
            client.send(Packet::PubRel(Ack::new(id))).expect(Packet::PubComp(Ack::new(id)));
        }
        // As a sender of QoS 2 the server's PUBREL echoes the identifier of its PUBLISH.
        client.subscribe(&topic, 2);
        let mut publisher = connect(server, "echo");
        publisher.publish(&topic, "x", 2);
        client.receive(&topic, "x", 2);
    });
}

#[test]
fn v3_mqtt_2_3_1_7_suback_and_unsuback_echo_the_identifier() {
    on_each_shard_count(|server| {
        let filter = server.unique("echo");
        let mut client = connect(server, "echo");
        for id in IDENTIFIERS {
            client.send(Subscribe::new(id, &filter, 1)).expect_suback(id, &[1]);
            client.send(Unsubscribe::new(id, &filter)).expect_unsuback(id);
        }
    });
}
