//! Flow control (4.9), authentication that is not offered (4.12), and errors (4.13).

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::{on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Ack, Connect, Disconnect, Packet, Publish, Version, Will, field, frame};

#[test]
fn v5_mqtt_4_9_0_1_the_send_quota_starts_at_the_clients_receive_maximum() {
    on_each_shard_count(|server| {
        for maximum in [1, 3, 10] {
            let topic = server.unique("quota");
            let resume = resuming(server, "sub").property(Property::ReceiveMaximum(maximum));
            let mut away = Client::connect(server, resume.clone());
            away.subscribe(&topic, 2);
            away.disconnect();
            let mut publisher = client(server, "pub");
            for number in 0..30 {
                publisher.publish(&topic, number.to_string(), 1 + (number % 2) as u8);
            }
            // Each connection starts with the quota that its own CONNECT says.
            for maximum in [maximum, maximum + 2, maximum] {
                let mut resume = resume.clone();
                resume.properties.retain(|property| !matches!(property, Property::ReceiveMaximum(_)));
                let mut client = Client::connect(server, resume.property(Property::ReceiveMaximum(maximum)));
                for number in 0..usize::from(maximum) {
                    let publish = client.expect_any_publish();
                    assert_eq!(publish.payload, number.to_string().into_bytes());
                }
                client.expect_nothing_within_roundtrip();
                client.vanish_noticed();
            }
        }
    });
}

#[test]
fn v5_mqtt_4_9_0_2_at_quota_0_no_publish_above_qos_0_is_sent() {
    on_each_shard_count(|server| {
        let topic = server.unique("zero");
        let connect = connect(server, "sub").property(Property::ReceiveMaximum(2));
        let mut client = Client::connect(server, connect);
        client.subscribe(&topic, 2);
        let mut publisher = super::kit::client(server, "pub");
        publisher.publish(&topic, "0", 2).publish(&topic, "1", 1).publish(&topic, "2", 2).publish(&topic, "3", 1);
        let zero = client.expect_publish(&topic, "0", 2);
        let one = client.expect_publish(&topic, "1", 1);
        client.expect_nothing_within_roundtrip();
        // PUBREC leaves the quota as it is; so do a repeated PUBREC and a PUBACK for an identifier that is not open.
        client.send(Packet::PubRec(Ack::new(zero.id))).expect(Packet::PubRel(Ack::new(zero.id)));
        client.expect_nothing_within_roundtrip();
        // PUBCOMP and PUBACK add one each.
        client.send(Packet::PubComp(Ack::new(zero.id)));
        let two = client.expect_publish(&topic, "2", 2);
        client.expect_nothing_within_roundtrip();
        client.acknowledge(&one);
        let three = client.expect_publish(&topic, "3", 1);
        // A refusing PUBREC adds one, too. More than at the start it never is.
        client.send(Packet::PubRec(Ack::new(two.id).code(0x80))).acknowledge(&three);
        client.expect_nothing_within_roundtrip();
        for number in 4..8 {
            publisher.publish(&topic, number.to_string(), 1);
        }
        client.expect_publish(&topic, "4", 1);
        client.expect_publish(&topic, "5", 1);
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_9_0_3_other_packets_are_handled_at_quota_0() {
    on_each_shard_count(|server| {
        let topic = server.unique("other");
        let connect = connect(server, "sub").property(Property::ReceiveMaximum(1));
        let mut client = Client::connect(server, connect);
        client.subscribe(&topic, 1);
        let mut publisher = super::kit::client(server, "pub");
        publisher.publish(&topic, "open", 1).publish(&topic, "waits", 1);
        let open = client.expect_publish(&topic, "open", 1);
        client.expect_nothing_within_roundtrip();
        // SUBSCRIBE, UNSUBSCRIBE, PUBLISH of each QoS both ways, PINGREQ.
        let zero = server.unique("zero");
        client.subscribe(&zero, 0);
        publisher.publish(&zero, "passes", 1);
        client.expect_publish(&zero, "passes", 0);
        client.unsubscribe(&zero).publish("elsewhere", "", 0).publish("elsewhere", "", 1).publish("elsewhere", "", 2);
        client.send(Packet::PingReq).expect(Packet::PingResp);
        client.acknowledge(&open).receive(&topic, "waits", 1).expect_nothing_within_roundtrip();
    });
}

#[test]
fn a_client_that_exceeds_the_receive_maximum_is_disconnected_with_0x93() {
    on_each_shard_count_with(&["mqtt.receive_maximum=3"], |server| {
        for qos in [2, 1] {
            let mut client = client(server, "exceeds");
            let publish = |id: u16, qos: u8| Publish::new("topic", "").qos(qos, id);
            for id in 1..=3 {
                client.send(publish(id, 2)).expect_pubrec(id);
            }
            // A repeat is not one more, and a completed one makes room.
            client.send(publish(3, 2).dup()).expect_pubrec(3);
            client.send(Packet::PubRel(Ack::new(1))).expect(Packet::PubComp(Ack::new(1)));
            client.send(publish(4, 2)).expect_pubrec(4);
            client.publish("topic", "", 0);
            client.send(publish(5, qos)).expect_disconnect(0x93);
        }
        // What a resumed session had open counts on the new connection, as its identifiers are still in use.
        let resume = resuming(server, "resumed");
        let mut client = Client::connect(server, resume.clone());
        for id in 1..=3 {
            client.send(Publish::new("topic", "").qos(2, id)).expect_pubrec(id);
        }
        client.vanish_noticed();
        let mut client = Client::connect(server, resume);
        for id in 1..=3 {
            client.send(Packet::PubRel(Ack::new(id))).expect(Packet::PubComp(Ack::new(id)));
        }
        client.publish("topic", "", 2);
    });
}

#[test]
fn v5_mqtt_4_12_0_1_an_unsupported_authentication_method_is_refused() {
    on_each_shard_count(|server| {
        for method in ["SCRAM-SHA-256", "no such method", "", "\u{FEFF}"] {
            let connect = connect(server, "auth").property(Property::AuthenticationMethod(method.into()));
            let with_data = connect.clone().property(Property::AuthenticationData(b"client-first".to_vec()));
            for connect in [connect, with_data] {
                refused(server, &Packet::from(connect).encode(Version::V5), &[0x8C, 0x87]);
            }
        }
    });
}

#[test]
fn v5_mqtt_4_12_0_6_without_a_method_the_server_sends_no_auth() {
    on_each_shard_count(|server| {
        // Whoever says who they are, in whichever way: the answer is the CONNACK, and no AUTH follows it.
        let id = server.unique("noauth");
        for connect in [
            Connect::v5(&id),
            Connect::v5(&id).user_name("user"),
            Connect::v5(&id).user_name("user").password(b"password"),
            Connect::v5(&id).password(b"password"),
        ] {
            let mut client = Client::dial(server, Version::V5);
            client.send(connect).send(Packet::PingReq);
            client.expect_connack(0);
            client.expect(Packet::PingResp).expect_nothing_within_roundtrip();
        }
    });
}

#[test]
fn v5_mqtt_4_12_0_7_without_a_method_a_clients_auth_is_a_protocol_error() {
    on_each_shard_count(|server| {
        for code in [0x00, 0x18, 0x19] {
            let method = [code, 4, 0x15, 0, 1, b'x'];
            violates(server, &frame(0xF0, &method), &[0x82]);
            let with_data = [&[code, 9, 0x15, 0, 1, b'x', 0x16][..], &field("ab")].concat();
            violates(server, &frame(0xF0, &with_data), &[0x82]);
        }
    });
}

#[test]
fn v5_mqtt_4_13_1_1_a_malformed_packet_or_protocol_error_closes_with_its_reason() {
    on_each_shard_count(|server| {
        let malformed: [&[u8]; 12] = [
            &[0x00, 0],
            &[0xC1, 0],
            &[0x36, 5, 0, 1, b'a', 0, 1],
            &[0x30, 4, 0, 1, 0xFF, 0],
            &[0x30, 4, 0, 9, b'a', 0],
            &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
            &[0x82, 8, 0, 1, 0, 0, 1, b'a', 0x80, 0],
            &[0x82, 2, 0, 1],
            &[0xA2, 3, 0, 1, 9],
            &[0x40, 1, 0],
            &[0xE0, 3, 0, 0, 0],
            &[0x30, 6, 0, 1, b'a', 2, 0x7F, 0],
        ];
        for bytes in malformed {
            violates(server, bytes, &[0x81]);
        }
        let second_connect = Packet::from(connect(server, "second")).encode(Version::V5);
        let errors: [&[u8]; 6] = [
            &second_connect,
            &publish_bytes(0, b"a", None, &[0x0B, 1], b""),
            &publish_bytes(0, b"a", None, &[1, 0, 1, 0], b""),
            &subscribe_bytes(&[0x0B, 0], &[0, 1, b'a', 0]),
            &subscribe_bytes(&[], &[]),
            &unsubscribe_bytes(&[], &[]),
        ];
        for bytes in errors {
            violates(server, bytes, &[0x82, 0x81]);
        }
        // A Will is published, and the session lives on as its expiry says.
        let topic = server.unique("will");
        let mut watcher = subscriber(server, &topic, 0);
        let resume = resuming(server, "error");
        let mut client = Client::connect(server, resume.clone().will(Will::new(&topic, "malformed")));
        client.send_raw(&[0x00, 0]).expect_disconnect(0x81);
        watcher.expect_publish(&topic, "malformed", 0);
        assert!(Client::connect(server, resume).session_present());
    });
}

#[test]
fn v5_mqtt_4_13_2_1_any_other_error_on_connack_or_disconnect_closes() {
    on_each_shard_count_with(&["mqtt.retained_available=false", "mqtt.maximum_qos=1"], |server| {
        // On CONNACK.
        let will = Will::new("topic", "").retain();
        Client::connect_refused(server, connect(server, "retain").will(will), 0x9A);
        Client::connect_refused(server, connect(server, "qos").will(Will::new("topic", "").qos(2)), 0x9B);
        Client::connect_refused(server, Connect::v5(&"x".repeat(300)), 0x85);
        // On DISCONNECT, of the broker and of the client. The errors are no protocol errors.
        let mut client = super::kit::client(server, "one");
        client.send(Publish::new("topic", "").retain()).expect_disconnect(0x9A);
        let mut client = super::kit::client(server, "two");
        client.send(Publish::new("topic", "").qos(2, 1)).expect_disconnect(0x9B);
        for code in [0x80, 0x83, 0x97, 0x99] {
            let mut client = super::kit::client(server, "three");
            client.send(Disconnect::code(code)).expect_closed();
        }
    });
}
