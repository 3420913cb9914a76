//! PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7), and Reason Strings within the client's Maximum Packet Size.

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::{Server, on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Ack, Packet, Publish, Subscribe, Unsubscribe, frame};

/// `provoke` makes the broker answer with something to explain, and returns the properties of the answer.
///
/// It is run with Maximum Packet Sizes from the smallest that a CONNACK fits in: no answer may be larger.
fn explains_within_packet_size(kind: fn(&Property) -> bool, provoke: fn(&mut Client, &str) -> Vec<Property>) {
    on_each_shard_count(|server| {
        let topic = server.unique("small");
        let probe = Client::connect(server, connect(server, "probe").property(Property::MaximumPacketSize(10_000)));
        let smallest = probe.packet_bytes() as u32;
        for maximum in (smallest..smallest + 40).step_by(3).chain([100, 200, 1000]) {
            let connect = connect(server, "small").property(Property::MaximumPacketSize(maximum));
            let mut client = Client::connect(server, connect);
            let properties = provoke(&mut client, &topic);
            let bytes = client.packet_bytes();
            let explained = properties.iter().any(kind);
            assert!(bytes <= maximum as usize, "{bytes} bytes of {maximum}, explained: {explained}, {properties:?}");
        }
    });
}

fn reason_string(property: &Property) -> bool {
    matches!(property, Property::ReasonString(_))
}

fn user_property(property: &Property) -> bool {
    matches!(property, Property::UserProperty(..))
}

fn provoke_puback(client: &mut Client, topic: &str) -> Vec<Property> {
    client.send(Publish::new(topic, "to nobody").qos(1, 1));
    client.expect_puback(1).properties
}

fn provoke_pubrec(client: &mut Client, topic: &str) -> Vec<Property> {
    client.send(Publish::new(topic, "to nobody").qos(2, 1));
    client.expect_pubrec(1).properties
}

fn provoke_pubrel(client: &mut Client, _: &str) -> Vec<Property> {
    client.send(Packet::PubRec(Ack::new(77)));
    match client.next() {
        Packet::PubRel(ack) if ack.id == 77 && ack.code == 0x92 => ack.properties,
        other => panic!("{other:?} instead of PUBREL 0x92"),
    }
}

fn provoke_pubcomp(client: &mut Client, _: &str) -> Vec<Property> {
    client.send(Packet::PubRel(Ack::new(77)));
    match client.next() {
        Packet::PubComp(ack) if ack.id == 77 && ack.code == 0x92 => ack.properties,
        other => panic!("{other:?} instead of PUBCOMP 0x92"),
    }
}

fn provoke_suback(client: &mut Client, _: &str) -> Vec<Property> {
    client.send(Subscribe::new(1, "a/#/b", 0));
    match client.next() {
        Packet::SubAck(ack) if ack.id == 1 && ack.codes == [0x8F] => ack.properties,
        other => panic!("{other:?} instead of SUBACK 0x8F"),
    }
}

fn provoke_unsuback(client: &mut Client, topic: &str) -> Vec<Property> {
    client.send(Unsubscribe::new(1, "a/#/b").and(topic));
    let ack = client.expect_unsuback(1);
    assert_eq!(ack.codes, [0x8F, 0x11]);
    ack.properties
}

fn provoke_disconnect(client: &mut Client, _: &str) -> Vec<Property> {
    client.send_raw(&publish_bytes(0x06, b"topic", Some(1), &[], b""));
    client.expect_disconnect(0x81).properties
}

#[test]
fn v5_mqtt_3_4_2_1_puback_uses_a_listed_reason() {
    on_each_shard_count_with(&["mqtt.payload_format_check=true", "mqtt.retained_messages_max=0"], |server| {
        let topic = server.unique("reason");
        let mut client = client(server, "pub");
        let mut code = |publish: Publish, id: u16| {
            client.send(publish.qos(1, id));
            let code = client.expect_puback(id).code;
            assert!(PUBACK_REASONS.contains(&code), "PUBACK with {code:#x}");
            code
        };
        assert_eq!(code(Publish::new(&topic, "nobody"), 1), 0x10);
        let _subscriber = subscriber(server, &topic, 0);
        assert_eq!(code(Publish::new(&topic, "somebody"), 2), 0x00);
        let format = Property::PayloadFormatIndicator(1);
        assert_eq!(code(Publish::new(&topic, b"\xFF").property(format), 3), 0x99);
        // One that cannot be retained: it is delivered all the same.
        assert_eq!(code(Publish::new(&topic, "retained").retain(), 4), 0x97);
        assert_eq!(code(Publish::new("$SYS/not/for/clients", ""), 5), 0x87);
    });
}

#[test]
fn v5_mqtt_3_4_2_2_no_reason_string_beyond_the_packet_size_in_puback() {
    explains_within_packet_size(reason_string, provoke_puback);
}

#[test]
fn v5_mqtt_3_4_2_3_no_user_property_beyond_the_packet_size_in_puback() {
    explains_within_packet_size(user_property, provoke_puback);
}

#[test]
fn v5_mqtt_3_5_2_1_pubrec_uses_a_listed_reason() {
    on_each_shard_count_with(&["mqtt.payload_format_check=true"], |server| {
        let topic = server.unique("reason");
        let mut client = client(server, "pub");
        let mut code = |publish: Publish, id: u16| {
            client.send(publish.qos(2, id));
            let code = client.expect_pubrec(id).code;
            assert!(PUBACK_REASONS.contains(&code), "PUBREC with {code:#x}");
            code
        };
        assert_eq!(code(Publish::new(&topic, "nobody"), 1), 0x10);
        let _subscriber = subscriber(server, &topic, 0);
        assert_eq!(code(Publish::new(&topic, "somebody"), 2), 0x00);
        let format = Property::PayloadFormatIndicator(1);
        assert_eq!(code(Publish::new(&topic, b"\xFF").property(format), 3), 0x99);
    });
}

#[test]
fn v5_mqtt_3_5_2_2_no_reason_string_beyond_the_packet_size_in_pubrec() {
    explains_within_packet_size(reason_string, provoke_pubrec);
}

#[test]
fn v5_mqtt_3_5_2_3_no_user_property_beyond_the_packet_size_in_pubrec() {
    explains_within_packet_size(user_property, provoke_pubrec);
}

#[test]
fn v5_mqtt_3_6_1_1_flags_of_pubrel_are_0010() {
    on_each_shard_count(|server| {
        for flags in [0x0, 0x1, 0x3, 0x4, 0x6, 0x8, 0xA, 0xF] {
            let mut client = client(server, "rel");
            client.send(Publish::new("topic", "").qos(2, 1)).expect_pubrec(1);
            client.send_raw(&frame(0x60 | flags, &[0, 1])).expect_disconnect(0x81);
        }
        // The broker's own: our parser refuses any other flags.
        let topic = server.unique("rel");
        let mut client = subscriber(server, &topic, 2);
        super::kit::client(server, "pub").publish(&topic, "x", 2);
        client.receive(&topic, "x", 2);
    });
}

#[test]
fn v5_mqtt_3_6_2_1_pubrel_uses_a_listed_reason() {
    on_each_shard_count(|server| {
        let topic = server.unique("rel");
        let mut client = subscriber(server, &topic, 2);
        super::kit::client(server, "pub").publish(&topic, "x", 2);
        let publish = client.expect_publish(&topic, "x", 2);
        for (id, wanted) in [(publish.id, 0x00), (publish.id ^ 0x8000, 0x92)] {
            client.send(Packet::PubRec(Ack::new(id)));
            match client.next() {
                Packet::PubRel(ack) => {
                    assert!(PUBREL_REASONS.contains(&ack.code));
                    assert_eq!((ack.id, ack.code), (id, wanted));
                }
                other => panic!("{other:?} instead of PUBREL"),
            }
        }
    });
}

#[test]
fn v5_mqtt_3_6_2_2_no_reason_string_beyond_the_packet_size_in_pubrel() {
    explains_within_packet_size(reason_string, provoke_pubrel);
}

#[test]
fn v5_mqtt_3_6_2_3_no_user_property_beyond_the_packet_size_in_pubrel() {
    explains_within_packet_size(user_property, provoke_pubrel);
}

#[test]
fn v5_mqtt_3_7_2_1_pubcomp_uses_a_listed_reason() {
    on_each_shard_count(|server| {
        let mut client = client(server, "comp");
        client.send(Publish::new("topic", "").qos(2, 9)).expect_pubrec(9);
        for (id, wanted) in [(9, 0x00), (9, 0x92), (10, 0x92)] {
            client.send(Packet::PubRel(Ack::new(id)));
            match client.next() {
                Packet::PubComp(ack) => {
                    assert!(PUBREL_REASONS.contains(&ack.code));
                    assert_eq!((ack.id, ack.code), (id, wanted));
                }
                other => panic!("{other:?} instead of PUBCOMP"),
            }
        }
    });
}

#[test]
fn v5_mqtt_3_7_2_2_no_reason_string_beyond_the_packet_size_in_pubcomp() {
    explains_within_packet_size(reason_string, provoke_pubcomp);
}

#[test]
fn v5_mqtt_3_7_2_3_no_user_property_beyond_the_packet_size_in_pubcomp() {
    explains_within_packet_size(user_property, provoke_pubcomp);
}

#[test]
fn v5_mqtt_3_9_2_1_no_reason_string_beyond_the_packet_size_in_suback() {
    explains_within_packet_size(reason_string, provoke_suback);
}

#[test]
fn v5_mqtt_3_9_2_2_no_user_property_beyond_the_packet_size_in_suback() {
    explains_within_packet_size(user_property, provoke_suback);
}

#[test]
fn v5_mqtt_3_11_2_1_no_reason_string_beyond_the_packet_size_in_unsuback() {
    explains_within_packet_size(reason_string, provoke_unsuback);
}

#[test]
fn v5_mqtt_3_11_2_2_no_user_property_beyond_the_packet_size_in_unsuback() {
    explains_within_packet_size(user_property, provoke_unsuback);
}

#[test]
fn v5_mqtt_3_14_2_3_no_reason_string_beyond_the_packet_size_in_disconnect() {
    explains_within_packet_size(reason_string, provoke_disconnect);
}

#[test]
fn v5_mqtt_3_14_2_4_no_user_property_beyond_the_packet_size_in_disconnect() {
    explains_within_packet_size(user_property, provoke_disconnect);
}

#[test]
fn reasons_that_the_specification_does_not_list_are_refused() {
    on_each_shard_count(|server| {
        for first in [0x40, 0x50, 0x62, 0x70] {
            for code in [0x01, 0x18, 0x8E, 0xFF] {
                violates(server, &[first, 3, 0, 1, code], &[0x81, 0x82]);
                violates(server, &[first, 4, 0, 1, code, 0], &[0x81, 0x82]);
            }
        }
    });
}

#[test]
fn acknowledgements_may_leave_out_reason_and_properties() {
    on_each_shard_count(|server| {
        let topic = server.unique("short");
        let mut client = subscriber(server, &topic, 2);
        let mut publisher = super::kit::client(server, "pub");
        let endings: [&[u8]; 4] = [&[], &[0], &[0, 0], &[0, 4, 0x1F, 0, 1, b'x']];
        for ending in endings {
            let answer = |first: u8, id: u16| frame(first, &[&id.to_be_bytes()[..], ending].concat());
            publisher.publish(&topic, "one", 1).publish(&topic, "two", 2);
            let one = client.expect_publish(&topic, "one", 1);
            let two = client.expect_publish(&topic, "two", 2);
            client.send_raw(&answer(0x40, one.id)).send_raw(&answer(0x50, two.id));
            client.expect(Packet::PubRel(Ack::new(two.id)));
            client.send_raw(&answer(0x70, two.id)).expect_nothing_within_roundtrip();
            publisher.send(Publish::new(&topic, "three").qos(2, 500));
            assert!(publisher.expect_pubrec(500).code < 0x80);
            publisher.send_raw(&answer(0x62, 500)).expect(Packet::PubComp(Ack::new(500)));
            client.receive(&topic, "three", 2);
        }
    });
}

#[test]
fn an_identifier_in_use_at_qos_2_is_refused_at_qos_1_with_0x91() {
    on_each_shard_count(|server| {
        let topic = server.unique("inuse");
        let mut watcher = subscriber(server, &topic, 2);
        let mut client = client(server, "pub");
        client.send(Publish::new(&topic, "first").qos(2, 5)).expect_pubrec(5);
        watcher.receive(&topic, "first", 2);
        client.send(Publish::new(&topic, "second").qos(1, 5));
        assert_eq!(client.expect_puback(5).code, 0x91);
        client.send(Packet::PubRel(Ack::new(5))).expect(Packet::PubComp(Ack::new(5)));
        client.publish_packet(Publish::new(&topic, "third"), 1);
        watcher.receive(&topic, "third", 1);
    });
}

#[test]
fn qos_2_message_without_subscribers_says_so_and_is_completed() {
    on_each_shard_count(nobody);
}

fn nobody(server: &Server) {
    let topic = server.unique("nobody");
    let mut client = client(server, "pub");
    // 0x10 also when the only subscription is one that the message may not go to.
    client.subscribe(&topic, 2 | NO_LOCAL);
    client.send(Publish::new(&topic, "x").qos(1, 8));
    let code = client.expect_puback(8).code;
    assert!(code == 0x10 || code == 0x00, "{code:#x}");
    client.unsubscribe(&topic);
    client.send(Publish::new(&topic, "x").qos(2, 9));
    assert_eq!(client.expect_pubrec(9).code, 0x10);
    client.send(Packet::PubRel(Ack::new(9))).expect(Packet::PubComp(Ack::new(9)));
    // A session that is away but will get the message is a subscriber.
    let resume = resuming(server, "away");
    let mut away = Client::connect(server, resume);
    away.subscribe(&topic, 1);
    away.disconnect();
    client.send(Publish::new(&topic, "x").qos(1, 10));
    assert_eq!(client.expect_puback(10).code, 0x00);
}
