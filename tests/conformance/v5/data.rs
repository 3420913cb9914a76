//! Data representation and the parts common to all packets: chapters 1.5 and 2.

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::on_each_shard_count;
use crate::wire::{Ack, Packet, Publish, Subscribe, Unsubscribe, field, frame};

/// Packets of a connected client that hold `text` in one string each, with the name of the place.
fn packets_with_string(text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let in_property = |identifier: u8| [&[identifier][..], &field(text)].concat();
    let in_pair = [&[0x26][..], &field("name"), &field(text)].concat();
    let filter = [&field("a")[..], &[0]].concat();
    vec![
        ("TopicName", publish_bytes(0, text, None, &[], b"")),
        ("Content Type", publish_bytes(0, b"a", None, &in_property(0x03), b"")),
        ("Response Topic", publish_bytes(0, b"a", None, &in_property(0x08), b"")),
        ("User Property of PUBLISH", publish_bytes(0, b"a", None, &in_pair, b"")),
        ("TopicFilter of SUBSCRIBE", subscribe_bytes(&[], &[&field(text)[..], &[0]].concat())),
        ("User Property of SUBSCRIBE", subscribe_bytes(&in_pair, &filter)),
        ("TopicFilter of UNSUBSCRIBE", unsubscribe_bytes(&[], &field(text))),
        ("User Property of UNSUBSCRIBE", unsubscribe_bytes(&in_pair, &field("a"))),
        ("Reason String of PUBREL", ack_bytes(0x62, &in_property(0x1F))),
        ("User Property of PUBACK", ack_bytes(0x40, &in_pair)),
        ("Reason String of DISCONNECT", disconnect_bytes(&in_property(0x1F))),
    ]
}

fn ack_bytes(first: u8, properties: &[u8]) -> Vec<u8> {
    frame(first, &[&[0, 1, 0, properties.len() as u8][..], properties].concat())
}

fn disconnect_bytes(properties: &[u8]) -> Vec<u8> {
    frame(0xE0, &[&[0, properties.len() as u8][..], properties].concat())
}

/// `packets` must each close the connection with one of the codes that `allowed` names for the place.
fn all_violate(packets: Vec<(&'static str, Vec<u8>)>, allowed: impl Fn(&str) -> &'static [u8] + Sync) {
    on_each_shard_count(|server| {
        for (place, bytes) in &packets {
            println!("{place}: {bytes:02x?}");
            violates(server, bytes, allowed(place));
        }
    });
}

#[test]
fn v5_mqtt_1_5_4_1_ill_formed_utf_8_is_malformed_in_every_string() {
    // Every sequence in one place, and one sequence in every place.
    let mut packets = packets_with_string(b"\xED\xA0\x80");
    for text in ILL_FORMED {
        packets.push(("TopicName", publish_bytes(0, text, None, &[], b"")));
    }
    all_violate(packets, |_| &[0x81]);
}

#[test]
fn v5_mqtt_1_5_4_2_null_character_is_malformed_in_every_string() {
    all_violate(packets_with_string(b"a\0b"), |place| match place {
        "TopicName" => &[0x81, 0x90],
        "TopicFilter of SUBSCRIBE" | "TopicFilter of UNSUBSCRIBE" => &[0x81, 0x8F],
        _ => &[0x81],
    });
}

#[test]
fn v5_mqtt_1_5_4_3_zero_width_no_break_space_is_kept_wherever_it_stands() {
    on_each_shard_count(|server| {
        let plain = server.unique("bom");
        for marked in [format!("\u{FEFF}{plain}"), format!("{plain}\u{FEFF}"), format!("{plain}/\u{FEFF}/x")] {
            let mut subscriber = subscriber(server, &plain, 0);
            subscriber.subscribe(&marked, 0).subscribe(&format!("{plain}//x"), 0);
            let mut publisher = client(server, "pub");
            let properties = [Property::ContentType("\u{FEFF}text".into())];
            let publish = Publish { properties: properties.to_vec(), ..Publish::new(&marked, "marked") };
            publisher.send(publish.clone());
            // One copy, on the topic as it was: the filter without the character does not match.
            subscriber.expect_like(publish);
            publisher.publish(&plain, "plain", 0);
            subscriber.expect_publish(&plain, "plain", 0);
        }
    });
}

#[test]
fn v5_mqtt_1_5_5_1_variable_byte_integers_longer_than_need_be_are_malformed() {
    let body = [&field("a")[..], b"\0payload"].concat();
    let long_property_length = [&field("a")[..], b"\x80\0payload"].concat();
    let subscribe = [&[0, 1, 3, 0x0B, 0x81, 0x00][..], &field("a"), &[0]].concat();
    let packets = vec![
        ("remaining length of PINGREQ", vec![0xC0, 0x80, 0x00]),
        ("remaining length of PUBLISH", [&[0x30, 0x80 | body.len() as u8, 0x00][..], &body].concat()),
        ("remaining length in four bytes", [&[0x30, 0x80 | body.len() as u8, 0x80, 0x80, 0x00][..], &body].concat()),
        ("remaining length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
        ("property length", frame(0x30, &long_property_length)),
        ("Subscription Identifier", frame(0x82, &subscribe)),
    ];
    all_violate(packets, |_| &[0x81]);
}

#[test]
fn v5_mqtt_1_5_7_1_both_halves_of_a_string_pair_are_checked() {
    let mut packets = Vec::new();
    for bad in [b"\xFF".as_slice(), b"\xED\xA0\x80"] {
        for (name, value) in [(bad, b"value".as_slice()), (b"name", bad)] {
            let pair = [&[0x26][..], &field(name), &field(value)].concat();
            packets.push(("PUBLISH", publish_bytes(0, b"a", None, &pair, b"")));
            packets.push(("SUBSCRIBE", subscribe_bytes(&pair, &[&field("a")[..], &[0]].concat())));
            packets.push(("DISCONNECT", disconnect_bytes(&pair)));
        }
    }
    all_violate(packets, |_| &[0x81]);
}

#[test]
fn v5_mqtt_2_1_3_1_reserved_flags_keep_their_values() {
    let request = [&[0, 1, 0][..], &field("a")].concat();
    let subscribe = [&request[..], &[0]].concat();
    let mut packets = Vec::new();
    for flags in [0x0, 0x1, 0x3, 0x4, 0x8, 0xF] {
        packets.push(("PUBREL", frame(0x60 | flags, &[0, 1])));
        packets.push(("SUBSCRIBE", frame(0x80 | flags, &subscribe)));
        packets.push(("UNSUBSCRIBE", frame(0xA0 | flags, &request)));
    }
    for flags in [0x1, 0x2, 0x4, 0x8, 0xF] {
        packets.push(("PUBACK", frame(0x40 | flags, &[0, 1])));
        packets.push(("PUBREC", frame(0x50 | flags, &[0, 1])));
        packets.push(("PUBCOMP", frame(0x70 | flags, &[0, 1])));
        packets.push(("PINGREQ", frame(0xC0 | flags, &[])));
        packets.push(("DISCONNECT", frame(0xE0 | flags, &[])));
        packets.push(("AUTH", frame(0xF0 | flags, &[])));
    }
    all_violate(packets, |_| &[0x81]);
    on_each_shard_count(|server| {
        for flags in [0x1, 0x2, 0x8, 0xF] {
            let mut bytes = connect_bytes(0x02, &[], &field("reserved"));
            bytes[0] |= flags;
            refused(server, &bytes, &[0x81]);
        }
    });
}

#[test]
fn v5_mqtt_2_2_1_2_qos_0_publish_has_no_packet_identifier() {
    on_each_shard_count(|server| {
        let topic = server.unique("noid");
        let mut subscriber = subscriber(server, &topic, 2);
        // What stands where a PacketIdentifier would is the length of the properties, and then the payload.
        let body = [&field(&topic)[..], &[0, 7, 7, 7]].concat();
        client(server, "pub").send_raw(&frame(0x30, &body)).expect_nothing_within_roundtrip();
        // Our parser reads the copy in the same way: an identifier in it would be taken for properties and payload.
        subscriber.expect_publish(&topic, [7, 7, 7], 0);
    });
}

#[test]
fn v5_mqtt_2_2_1_4_new_publishes_have_unused_identifiers_above_zero() {
    on_each_shard_count(|server| {
        let topic = server.unique("ids");
        let mut subscriber = subscriber(server, &topic, 2);
        let mut publisher = client(server, "pub");
        let mut open: Vec<u16> = Vec::new();
        for round in 0..60 {
            publisher.publish(&topic, round.to_string(), 1 + round % 2);
            let publish = subscriber.expect_publish(&topic, round.to_string(), 1 + round % 2);
            assert!(
                publish.id != 0 && !open.contains(&publish.id),
                "{} is among the unacknowledged {open:?}",
                publish.id
            );
            // Every third QoS 1 message is acknowledged, so that identifiers become free between others.
            if round % 6 == 0 {
                subscriber.acknowledge(&publish);
            } else {
                open.push(publish.id);
            }
        }
    });
}

#[test]
fn v5_mqtt_2_2_1_5_acknowledgements_carry_the_identifier_of_the_publish() {
    on_each_shard_count(|server| {
        let topic = server.unique("ackid");
        let mut client = client(server, "ackid");
        for id in [1, 2, 255, 256, 0x1234, 65_534, 65_535] {
            client.send(Publish::new(&topic, "one").qos(1, id));
            assert!(client.expect_puback(id).code < 0x80);
            client.send(Publish::new(&topic, "two").qos(2, id));
            assert!(client.expect_pubrec(id).code < 0x80);
            client.send(Packet::PubRel(Ack::new(id))).expect(Packet::PubComp(Ack::new(id)));
        }
        let mut subscriber = subscriber(server, &topic, 2);
        client.publish(&topic, "out", 2);
        let publish = subscriber.expect_publish(&topic, "out", 2);
        subscriber.send(Packet::PubRec(Ack::new(publish.id))).expect(Packet::PubRel(Ack::new(publish.id)));
    });
}

#[test]
fn v5_mqtt_2_2_1_6_suback_and_unsuback_carry_the_identifier_of_the_request() {
    on_each_shard_count(|server| {
        let topic = server.unique("reqid");
        let mut client = client(server, "reqid");
        for id in [1, 2, 255, 256, 0x1234, 65_535] {
            client.send(Subscribe::new(id, &topic, 0)).expect_suback(id, &[0]);
            client.send(Unsubscribe::new(id, &topic)).expect_unsuback(id);
        }
        // Several requests in flight.
        client
            .send(Subscribe::new(700, &topic, 0))
            .send(Subscribe::new(3, &topic, 1))
            .send(Unsubscribe::new(9, &topic));
        client.expect_suback(700, &[0]).expect_suback(3, &[1]).expect_unsuback(9);
    });
}

#[test]
fn v5_mqtt_2_2_2_1_no_properties_is_written_as_length_zero() {
    on_each_shard_count(|server| {
        let topic = server.unique("nop");
        let mut client = client(server, "nop");
        // Our parser demands the length wherever the specification does: SUBACK, UNSUBACK, PUBLISH.
        client.subscribe(&topic, 0).publish(&topic, "payload", 0).expect_publish(&topic, "payload", 0);
        client.unsubscribe(&topic);
        // What lacks the length is malformed: the next field is taken for it.
        violates(server, &frame(0x82, &[&[0, 1][..], &field("a"), &[0]].concat()), &[0x81, 0x82]);
        violates(server, &frame(0xA2, &[&[0, 1][..], &field("a")].concat()), &[0x81, 0x82]);
        violates(server, &frame(0x30, &field("a")), &[0x81]);
        let without = [&field("MQTT")[..], &[5, 2, 0, 60], &field("client")].concat();
        refused(server, &frame(0x10, &without), &[0x81, 0x82]);
    });
}

#[test]
fn properties_that_are_unknown_misplaced_or_repeated_are_refused() {
    let expiry = [0x02, 0, 0, 0, 1];
    let filter = [&field("a")[..], &[0]].concat();
    let packets = vec![
        ("unknown", publish_bytes(0, b"a", None, &[0x7F, 0], b"")),
        ("misplaced: Receive Maximum in PUBLISH", publish_bytes(0, b"a", None, &[0x21, 0, 1], b"")),
        ("misplaced: Content Type in SUBSCRIBE", subscribe_bytes(&[0x03, 0, 1, b'a'], &filter)),
        ("misplaced: Subscription Identifier in UNSUBSCRIBE", unsubscribe_bytes(&[0x0B, 1], &field("a"))),
        ("misplaced: Server Reference of a client", disconnect_bytes(&[0x1C, 0, 1, b'a'])),
        ("cut off", publish_bytes(0, b"a", None, &expiry[..3], b"")),
        ("longer than the packet", frame(0x30, &[&field("a")[..], &[9, 1, 1]].concat())),
        ("twice: Message Expiry", publish_bytes(0, b"a", None, &[expiry, expiry].concat(), b"")),
        ("twice: Content Type", publish_bytes(0, b"a", None, &[3, 0, 1, b'a', 3, 0, 1, b'a'], b"")),
        ("twice: Payload Format", publish_bytes(0, b"a", None, &[1, 0, 1, 0], b"")),
        ("twice: Response Topic", publish_bytes(0, b"a", None, &[8, 0, 1, b'a', 8, 0, 1, b'a'], b"")),
        ("twice: Correlation Data", publish_bytes(0, b"a", None, &[9, 0, 1, 1, 9, 0, 1, 1], b"")),
        ("twice: Topic Alias", publish_bytes(0, b"a", None, &[0x23, 0, 1, 0x23, 0, 1], b"")),
        ("twice: Subscription Identifier", subscribe_bytes(&[0x0B, 1, 0x0B, 2], &filter)),
        ("twice: Session Expiry", disconnect_bytes(&[0x11, 0, 0, 0, 0, 0x11, 0, 0, 0, 0])),
        ("value: Payload Format 2", publish_bytes(0, b"a", None, &[1, 2], b"")),
        ("value: Subscription Identifier 0", subscribe_bytes(&[0x0B, 0], &filter)),
    ];
    all_violate(packets, |_| &[0x81, 0x82]);
    on_each_shard_count(|server| {
        let cases: [&[u8]; 8] = [
            &[0x21, 0, 0],                         // Receive Maximum 0.
            &[0x27, 0, 0, 0, 0],                   // Maximum Packet Size 0.
            &[0x17, 2],                            // Request Problem Information 2.
            &[0x19, 2],                            // Request Response Information 2.
            &[0x21, 0, 1, 0x21, 0, 1],             // Twice.
            &[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1], // Twice.
            &[0x16, 0, 1, 1],                      // Authentication Data without a method.
            &[0x23, 0, 1],                         // A Topic Alias.
        ];
        for properties in cases {
            refused(server, &connect_bytes(2, properties, &field("properties")), &[0x81, 0x82]);
        }
    });
}

#[test]
fn packets_that_disagree_with_their_length_are_malformed() {
    let packets = vec![
        ("PINGREQ with a body", vec![0xC0, 1, 0]),
        ("PUBACK without an identifier", vec![0x40, 0]),
        ("PUBACK with half an identifier", vec![0x40, 1, 0]),
        ("PUBACK with too much", vec![0x40, 5, 0, 1, 0, 0, 0]),
        ("PUBREL with too much", vec![0x62, 5, 0, 1, 0, 0, 0]),
        ("PUBLISH without a topic", vec![0x30, 0]),
        ("PUBLISH with a topic longer than itself", vec![0x30, 3, 0, 9, b'a']),
        ("PUBLISH at QoS 1 without an identifier", vec![0x32, 3, 0, 1, b'a']),
        ("SUBSCRIBE without options", subscribe_bytes(&[], &field("a"))),
        ("SUBSCRIBE with a filter cut off", subscribe_bytes(&[], &[0, 9, b'a'])),
        ("UNSUBSCRIBE with a filter cut off", unsubscribe_bytes(&[], &[0, 9, b'a'])),
        ("DISCONNECT with too much", vec![0xE0, 3, 0, 0, 0]),
    ];
    all_violate(packets, |_| &[0x81, 0x82]);
}

#[test]
fn packet_identifier_zero_is_refused() {
    let packets = vec![
        ("PUBLISH at QoS 1", publish_bytes(0x02, b"a", Some(0), &[], b"")),
        ("PUBLISH at QoS 2", publish_bytes(0x04, b"a", Some(0), &[], b"")),
        ("SUBSCRIBE", frame(0x82, &[&[0, 0, 0][..], &field("a"), &[0]].concat())),
        ("UNSUBSCRIBE", frame(0xA2, &[&[0, 0, 0][..], &field("a")].concat())),
        ("PUBACK", vec![0x40, 2, 0, 0]),
        ("PUBREL", vec![0x62, 2, 0, 0]),
    ];
    all_violate(packets, |_| &[0x81, 0x82]);
}

#[test]
fn packets_that_only_a_server_sends_are_refused() {
    let packets = vec![
        ("CONNACK", vec![0x20, 3, 0, 0, 0]),
        ("SUBACK", vec![0x90, 4, 0, 1, 0, 0]),
        ("UNSUBACK", vec![0xB0, 4, 0, 1, 0, 0]),
        ("PINGRESP", vec![0xD0, 0]),
        ("packet type 0", vec![0x00, 0]),
    ];
    all_violate(packets, |_| &[0x81, 0x82]);
}

#[test]
fn packets_arrive_byte_by_byte_and_several_at_once() {
    on_each_shard_count(|server| {
        let topic = server.unique("parts");
        let mut client = Client::connect(server, connect(server, "parts"));
        let subscribe = Packet::from(Subscribe::new(1, &topic, 0)).encode(crate::wire::Version::V5);
        let publish = publish_bytes(0, topic.as_bytes(), None, &[3, 0, 1, b'a'], b"payload");
        let all = [subscribe, publish, vec![0xC0, 0]].concat();
        for part in all.chunks(1) {
            client.send_raw(part);
        }
        client.expect_suback(1, &[0]);
        let wanted = Publish::new(&topic, "payload").property(Property::ContentType("a".into()));
        client.expect_like(wanted.clone());
        client.expect(Packet::PingResp);
        client.send_raw(&all);
        client.expect_suback(1, &[0]);
        client.expect_like(wanted);
        client.expect(Packet::PingResp);
    });
}
