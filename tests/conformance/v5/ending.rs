//! PINGREQ, DISCONNECT and AUTH (3.12 to 3.15).

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::{on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Ack, Connect, Disconnect, Packet, Publish, Subscribe, Version, Will, field, frame};

#[test]
fn v5_mqtt_3_12_4_1_pingreq_is_answered_with_pingresp() {
    on_each_shard_count(|server| {
        let mut client = client(server, "ping");
        for _ in 0..5 {
            client.send(Packet::PingReq).expect(Packet::PingResp);
        }
        client.send_raw(&[0xC0, 0, 0xC0, 0, 0xC0, 0]);
        client.expect(Packet::PingResp).expect(Packet::PingResp).expect(Packet::PingResp);
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_14_0_1_no_disconnect_before_a_successful_connack() {
    on_each_shard_count(|server| {
        let refused = connect(server, "refused").property(Property::AuthenticationMethod("no such method".into()));
        let firsts: Vec<Vec<u8>> = vec![
            Packet::from(refused).encode(Version::V5),
            Packet::from(connect(server, "level").level(9)).encode(Version::V5),
            connect_bytes(0x03, &[], &field("reserved")),
            connect_bytes(0x02, &[0x7F], &field("property")),
            connect_bytes(0x02, &[], &field("a\0b")),
            frame(0x10, &[]),
            frame(0x30, b"\0\x01a\0payload"),
            vec![0xE0, 0],
            vec![0xF0, 0],
            vec![0xC0, 0],
        ];
        for first in firsts {
            let answer = raw_answer(server, &first);
            assert!(answer.is_empty() || answer[0] == 0x20, "{} in answer to {}", hex(&answer), hex(&first));
            if let Some(length) = answer.get(1) {
                assert_eq!(answer.len(), usize::from(*length) + 2, "something behind the CONNACK: {}", hex(&answer));
            }
        }
    });
}

#[test]
fn v5_mqtt_3_14_1_1_reserved_flags_of_disconnect_are_malformed() {
    on_each_shard_count(|server| {
        for flags in 1..=15 {
            violates(server, &frame(0xE0 | flags, &[]), &[0x81]);
        }
    });
}

#[test]
fn v5_mqtt_3_14_2_1_disconnect_uses_a_listed_reason() {
    on_each_shard_count(|server| {
        // A client's: those that the specification does not list, and those that only a server sends.
        for code in [0x01, 0x02, 0x05, 0x10, 0x7F, 0x84, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x9C, 0x9D, 0xA2, 0xA3, 0xFF] {
            violates(server, &[0xE0, 1, code], &[0x81, 0x82]);
            violates(server, &[0xE0, 2, code, 0], &[0x81, 0x82]);
        }
        for code in [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
            let mut client = client(server, "ends");
            client.send(Disconnect::code(code)).expect_closed();
        }
        // The broker's own.
        let topic = server.unique("alias");
        let causes: Vec<(Vec<u8>, u8)> = vec![
            (frame(0xC1, &[]), 0x81),
            (Packet::from(connect(server, "second")).encode(Version::V5), 0x82),
            (publish_bytes(0, b"a/#", None, &[], b""), 0x90),
            (publish_bytes(0, topic.as_bytes(), None, &[0x23, 0xFF, 0xFF], b""), 0x94),
            (vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F], 0x95),
        ];
        for (bytes, code) in causes {
            assert!(DISCONNECT_REASONS.contains(&code));
            violates(server, &bytes, &[code]);
        }
    });
}

#[test]
fn v5_mqtt_3_14_2_2_the_servers_disconnect_has_no_session_expiry() {
    on_each_shard_count(|server| {
        let resume = resuming(server, "expiry");
        let mut older = Client::connect(server, resume.clone());
        let mut newer = Client::connect(server, resume);
        let no_expiry = |disconnect: Disconnect| {
            let has =
                disconnect.properties.iter().any(|property| matches!(property, Property::SessionExpiryInterval(_)));
            assert!(!has, "{disconnect:?}");
        };
        no_expiry(older.expect_disconnect(0x8E));
        newer.send_raw(&[0xC1, 0]);
        no_expiry(newer.expect_disconnect(0x81));
    });
}

#[test]
fn v5_mqtt_3_14_4_1_nothing_is_sent_after_disconnect() {
    on_each_shard_count(|server| {
        // What stands behind a violation in the same segment gets no answer: `violates` demands the close at once.
        let topic = server.unique("after");
        let mut watcher = subscriber(server, &topic, 0);
        let publish = publish_bytes(0, topic.as_bytes(), None, &[], b"too late");
        let behind = [&[0xC1, 0, 0xC0, 0][..], &publish, &subscribe_bytes(&[], &[0, 1, b'a', 0])].concat();
        violates(server, &behind, &[0x81]);
        // Nor is a client answered behind its own DISCONNECT.
        let mut client = client(server, "after");
        client.send_raw(&[&[0xE0, 0, 0xC0, 0][..], &publish, &subscribe_bytes(&[], &[0, 1, b'a', 0])].concat());
        client.expect_closed();
        watcher.expect_nothing_from(&mut super::kit::client(server, "pub"));
    });
}

#[test]
fn v5_mqtt_3_14_4_2_the_sender_of_disconnect_closes() {
    on_each_shard_count(|server| {
        // `expect_disconnect` and `disconnect` demand the close, which our side waits for with an open socket.
        let mut client = client(server, "closes");
        client.send_raw(&publish_bytes(0x06, b"a", Some(1), &[], b"")).expect_disconnect(0x81);
        let connect = connect(server, "over");
        let mut older = Client::connect(server, connect.clone());
        let newer = Client::connect(server, connect);
        older.expect_disconnect(0x8E);
        newer.disconnect();
    });
}

#[test]
fn v5_mqtt_3_14_4_3_disconnect_0_drops_the_will() {
    on_each_shard_count(|server| {
        let topic = server.unique("drop");
        let mut watcher = subscriber(server, &topic, 0);
        for delay in [0, 1] {
            let will = Will::new(&topic, "will").property(Property::WillDelayInterval(delay));
            let resume = resuming(server, "drop");
            for disconnect in [&[0xE0, 0][..], &[0xE0, 1, 0], &[0xE0, 2, 0, 0], &[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 100]] {
                let mut client = Client::connect(server, resume.clone().will(will.clone()));
                client.send_raw(disconnect).expect_closed();
            }
            if delay > 0 {
                let_pass(server, 3);
            }
            watcher.expect_nothing_from(&mut Client::connect(server, resume));
        }
    });
}

#[test]
fn v5_mqtt_3_15_1_1_flags_of_auth_are_0() {
    on_each_shard_count(|server| {
        let method = [0x00, 4, 0x15, 0, 1, b'x'];
        for flags in 1..=15 {
            violates(server, &frame(0xF0 | flags, &method), &[0x81]);
            violates(server, &frame(0xF0 | flags, &[]), &[0x81]);
        }
    });
}

#[test]
fn v5_mqtt_3_15_2_1_auth_uses_a_listed_reason() {
    on_each_shard_count(|server| {
        for code in [0x01, 0x17, 0x1A, 0x80, 0x8C, 0xFF] {
            violates(server, &frame(0xF0, &[code, 4, 0x15, 0, 1, b'x']), &[0x81, 0x82]);
        }
    });
}

/// A CONNECT that asks for a method gets no AUTH, whose reason could not be told within `maximum` bytes.
fn no_auth_within(maximum: u32) {
    on_each_shard_count(|server| {
        let method = Property::AuthenticationMethod("no such method".into());
        let data = Property::AuthenticationData(vec![0; 100]);
        let connect = connect(server, "auth").property(Property::MaximumPacketSize(maximum));
        let mut client = Client::dial(server, Version::V5);
        client.send(connect.property(method).property(data));
        while let Some(packet) = client.next_or_closed() {
            assert!(client.packet_bytes() <= maximum as usize, "{packet:?}");
            assert!(matches!(&packet, Packet::ConnAck(connack) if connack.code >= 0x80), "{packet:?}");
        }
    });
}

#[test]
fn v5_mqtt_3_15_2_2_no_reason_string_beyond_the_packet_size_in_auth() {
    for maximum in [5, 8, 12, 20] {
        no_auth_within(maximum);
    }
}

#[test]
fn v5_mqtt_3_15_2_3_no_user_property_beyond_the_packet_size_in_auth() {
    for maximum in [6, 10, 15, 30] {
        no_auth_within(maximum);
    }
}

/// DISCONNECT with a Session Expiry Interval.
fn disconnect_with_expiry(mut client: Client, seconds: u32) {
    client.send(Disconnect::code(0).property(Property::SessionExpiryInterval(seconds))).expect_closed();
}

#[test]
fn session_expiry_in_disconnect_replaces_that_of_connect() {
    on_each_shard_count(|server| {
        // 0 ends the session at once.
        let resume = resuming(server, "ends");
        disconnect_with_expiry(Client::connect(server, resume.clone()), 0);
        assert!(!Client::connect(server, resume).session_present());
        // Longer keeps it for longer, shorter for less.
        let short = connect(server, "longer").clean(false).property(Property::SessionExpiryInterval(1));
        disconnect_with_expiry(Client::connect(server, short.clone()), 300);
        let long = resuming(server, "shorter");
        disconnect_with_expiry(Client::connect(server, long.clone()), 1);
        let_pass(server, 3);
        assert!(Client::connect(server, short).session_present());
        assert!(!Client::connect(server, long).session_present());
    });
}

#[test]
fn session_expiry_in_disconnect_cannot_make_a_session_that_ends_outlive_it() {
    on_each_shard_count(|server| {
        for absent in [true, false] {
            let topic = server.unique("zero");
            let mut watcher = subscriber(server, &topic, 0);
            let mut connect = connect(server, "zero").clean(false).will(Will::new(&topic, "will"));
            if !absent {
                connect = connect.property(Property::SessionExpiryInterval(0));
            }
            let mut client = Client::connect(server, connect.clone());
            client.send(Disconnect::code(0).property(Property::SessionExpiryInterval(60))).expect_disconnect(0x82);
            // A protocol error is no orderly end, and the session is gone.
            watcher.expect_publish(&topic, "will", 0);
            assert!(!Client::connect(server, Connect { will: None, ..connect }).session_present());
        }
    });
}

#[test]
fn a_client_that_causes_its_end_is_told_the_reason() {
    let settings = ["mqtt.packet_bytes_max=1000", "mqtt.topic_bytes_max=100", "mqtt.topic_levels_max=4"];
    on_each_shard_count_with(&settings, |server| {
        let long = "x".repeat(101);
        let publish = |topic: &str| Packet::from(Publish::new(topic, "")).encode(Version::V5);
        // A topic beyond the limits is refused in the acknowledgement, where there is one; at QoS 0 it is dropped.
        let mut client = client(server, "long");
        for topic in [&long[..], "a/b/c/d/e"] {
            client.send(Publish::new(topic, "")).expect_nothing_within_roundtrip();
            client.send(Publish::new(topic, "").qos(1, 1));
            assert_eq!(client.expect_puback(1).code, 0x90);
            client.send(Publish::new(topic, "").qos(2, 2));
            assert_eq!(client.expect_pubrec(2).code, 0x90);
        }
        let large = Packet::from(Publish::new("topic", vec![0; 1000])).encode(Version::V5);
        let filters =
            (0..100).fold(Subscribe::new(1, "filter", 0), |all, number| all.and(&format!("filter/{number}"), 0));
        let causes: Vec<(Vec<u8>, &[u8])> = vec![
            (large.clone(), &[0x95]),
            // Known as soon as the length is.
            (large[..4].to_vec(), &[0x95]),
            (Packet::from(filters).encode(Version::V5), &[0x95]),
            (publish("a/+"), &[0x90]),
            (publish(""), &[0x82]),
            (vec![0x62, 2, 0, 0], &[0x81, 0x82]),
            (vec![0xF0, 0], &[0x81, 0x82]),
        ];
        for (bytes, codes) in causes {
            println!("{} must end with one of {codes:02x?}", hex(&bytes));
            violates(server, &bytes, codes);
        }
        // What just fits is served.
        client.publish(&"x".repeat(100), "", 1).publish("a/b/c/d", "", 1);
        let head = Packet::from(Publish::new("topic", "").qos(1, 9)).encode(Version::V5).len() + 1;
        client.send(Publish::new("topic", vec![0; 1000 - head]).qos(1, 9)).expect_puback(9);
        client.send(Publish::new("topic", vec![0; 1001 - head]).qos(1, 10)).expect_disconnect(0x95);
    });
}

#[test]
fn a_reason_is_told_though_input_is_unread_and_the_peer_reads_late() {
    on_each_shard_count(|server| {
        for _ in 0..20 {
            // The violation first, and much more behind it than the broker has reason to read.
            let mut client = client(server, "flood");
            let ping = [0xC0, 0].repeat(8000);
            client.send_raw(&[&[0x00, 0x00][..], &ping].concat());
            expect_disconnect_among(&mut client, &[0x81, 0x82]);
        }
    });
}

#[test]
fn disconnect_is_sent_before_the_close_of_a_connection_in_use() {
    on_each_shard_count(|server| {
        // With unacknowledged messages in both directions.
        let topic = server.unique("inuse");
        let mut client = subscriber(server, &topic, 2);
        super::kit::client(server, "pub").publish(&topic, "x", 2);
        client.expect_publish(&topic, "x", 2);
        client.send(Publish::new(&topic, "y").qos(2, 1));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            match client.next() {
                Packet::PubRec(Ack { id: 1, .. }) => kinds.push(5),
                Packet::Publish(_) => kinds.push(3),
                other => panic!("{other:?}"),
            }
        }
        kinds.sort_unstable();
        assert_eq!(kinds, [3, 5]);
        client.send_raw(&[0xC1, 0]).expect_disconnect(0x81);
    });
}
