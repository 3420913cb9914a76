//! How a CONNECT is answered: take-over, order of events, what follows a refusal, DISCONNECT, PINGREQ.

use super::{assert_closes, connect, resume};
use crate::client::Client;
use crate::server::{on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Ack, Connect, Packet, Publish, Subscribe, Version, Will, frame};

#[test]
fn v3_mqtt_3_1_4_2_the_same_client_id_closes_the_older_connection() {
    on_each_shard_count(|server| {
        let id = server.unique("takeover");
        for (old_clean, new_clean) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut old = Client::connect(server, Connect::v311(&id).clean(old_clean));
            let mut new = Client::connect(server, Connect::v311(&id).clean(new_clean));
            old.expect_closed();
            new.expect_nothing_within_roundtrip();
            new.disconnect();
        }
        // Whatever the version of either.
        let mut old = Client::connect(server, Connect::v31(&id));
        let mut new = Client::connect(server, Connect::v311(&id));
        old.expect_closed();
        new.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v3_mqtt_3_1_4_3_clean_session_is_carried_out_before_the_connack() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("clean"), server.unique("clean"));
        let mut publisher = connect(server, "p");
        // The session exists offline, then with a connection that is taken over.
        for taken_over in [false, true] {
            let mut old = resume(server, &id);
            old.subscribe(&topic, 1);
            let kept = if taken_over { Some(old) } else { old.disconnect_then_none() };
            let mut new = Client::connect(server, Connect::v311(&id));
            // Once the CONNACK is here, the old subscription is gone for every publisher.
            publisher.publish(&topic, "for the old session", 1);
            new.expect_nothing_from(&mut publisher);
            new.disconnect();
            drop(kept);
            let mut later = resume(server, &id);
            assert!(!later.session_present(), "the clean session was kept");
            later.expect_nothing_from(&mut publisher);
            Client::connect(server, Connect::v311(&id)).disconnect();
        }
    });
}

impl Client {
    /// Disconnects, for an expression that keeps either a connection or none.
    fn disconnect_then_none(self) -> Option<Client> {
        self.disconnect();
        None
    }
}

#[test]
fn v3_mqtt_3_1_4_4_a_good_connect_is_answered_with_code_0() {
    on_each_shard_count(|server| {
        let connects = [
            Connect::v311(&server.unique("good")),
            Connect::v311(&server.unique("good")).clean(false),
            Connect::v311(&server.unique("good")).keep_alive(0),
            Connect::v311(&server.unique("good")).keep_alive(65_535),
            Connect::v311(&server.unique("good")).will(Will::new("good", "").qos(2).retain()),
            Connect::v311(&server.unique("good")).user_name("user").password(b"password"),
        ];
        for connect in connects {
            let mut client = Client::dial(server, Version::V311);
            client.send(connect).expect_raw(&[0x20, 2, 0, 0]);
            client.expect_nothing_within_roundtrip();
            client.disconnect();
        }
    });
}

#[test]
fn v3_mqtt_3_1_4_5_nothing_after_a_refused_connect_is_processed() {
    on_each_shard_count(|server| {
        let topic = server.unique("after");
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 2);
        for refused in [Connect::v311("").clean(false), Connect::v311(&server.unique("after")).level(9)] {
            let mut client = Client::dial(server, Version::V311);
            let packets = [
                refused.into(),
                Packet::Subscribe(Subscribe::new(1, &topic, 0)),
                Packet::Publish(Publish::new(&topic, "refused")),
                Packet::Publish(Publish::new(&topic, "refused").qos(1, 2).retain()),
                Packet::Publish(Publish::new(&topic, "refused").qos(2, 3)),
                Packet::PubRel(Ack::new(3)),
                Packet::PingReq,
                Packet::Connect(Connect::v311(&server.unique("after"))),
            ];
            client.send_raw(&packets.map(|packet| packet.encode(Version::V311)).concat());
            assert!(matches!(client.next(), Packet::ConnAck(connack) if connack.code != 0));
            client.expect_closed();
        }
        let mut publisher = connect(server, "p");
        observer.expect_nothing_from(&mut publisher);
        let mut late = connect(server, "l");
        late.subscribe(&topic, 0).expect_no_retained(server);
    });
}

#[test]
fn v3_mqtt_3_12_4_1_pingreq_is_answered_with_pingresp() {
    on_each_shard_count(|server| {
        let mut client = connect(server, "ping");
        for _ in 0..3 {
            client.send(Packet::PingReq).expect_raw(&[0xD0, 0]);
        }
        // Several in one segment are answered one by one.
        client.send_raw(&[0xC0, 0, 0xC0, 0, 0xC0, 0]);
        client.expect(Packet::PingResp).expect(Packet::PingResp).expect(Packet::PingResp);
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v3_mqtt_3_14_1_1_a_disconnect_with_reserved_bits_is_a_violation() {
    on_each_shard_count(|server| {
        let topic = server.unique("reserved");
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 0);
        for flags in 1..16 {
            // The connection is closed as for any violation: so the Will goes out.
            let will = Will::new(&topic, [flags]);
            let mut client = Client::connect(server, Connect::v311(&server.unique("r")).will(will));
            client.send_raw(&[0xE0 | flags, 0]).expect_closed();
            observer.receive(&topic, [flags], 0);
        }
        // Before 5.0 a DISCONNECT has no body.
        assert_closes(server, "a DISCONNECT with a body", &frame(0xE0, &[0]));
    });
}

#[test]
fn v3_mqtt_3_14_4_3_disconnect_drops_the_will() {
    on_each_shard_count(|server| {
        let topic = server.unique("dropped");
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 2);
        for (clean, qos, retain) in [(true, 0, false), (false, 1, false), (true, 2, true), (false, 2, true)] {
            let mut will = Will::new(&topic, "will").qos(qos);
            will.retain = retain;
            let id = server.unique("w");
            Client::connect(server, Connect::v311(&id).clean(clean).will(will)).disconnect();
            // Nor does it come when the session ends.
            Client::connect(server, Connect::v311(&id)).disconnect();
        }
        let mut publisher = connect(server, "p");
        observer.expect_nothing_from(&mut publisher);
        connect(server, "l").subscribe(&topic, 0).expect_no_retained(server);
    });
}

#[test]
fn v3_mqtt_4_8_0_1_a_protocol_violation_closes_the_connection() {
    on_each_shard_count(|server| {
        let violations: [(&str, &[u8]); 20] = [
            ("the reserved packet type 0", b"\x00\x00"),
            ("the reserved packet type 15", b"\xF0\x00"),
            ("a CONNACK from a client", b"\x20\x02\x00\x00"),
            ("a SUBACK from a client", b"\x90\x03\x00\x01\x00"),
            ("an UNSUBACK from a client", b"\xB0\x02\x00\x01"),
            ("a PINGRESP from a client", b"\xD0\x00"),
            ("a PINGREQ with a body", b"\xC0\x01\x00"),
            ("a PUBACK without identifier", b"\x40\x00"),
            ("a PUBACK cut short", b"\x40\x01\x00"),
            ("a PUBACK too long", b"\x40\x03\x00\x01\x00"),
            ("a PUBREC too long", b"\x50\x03\x00\x01\x00"),
            ("a PUBREL too long", b"\x62\x03\x00\x01\x00"),
            ("a PUBCOMP too long", b"\x70\x03\x00\x01\x00"),
            ("a PUBACK for identifier 0", b"\x40\x02\x00\x00"),
            ("a PUBLISH without topic", b"\x30\x00"),
            ("a PUBLISH whose topic is cut short", b"\x30\x03\x00\x05a"),
            ("a QoS 1 PUBLISH without identifier", b"\x32\x03\x00\x01a"),
            ("a SUBSCRIBE without filter", b"\x82\x02\x00\x01"),
            ("a SUBSCRIBE without options", b"\x82\x05\x00\x01\x00\x01a"),
            ("a remaining length of five bytes", b"\xC0\x80\x80\x80\x80\x00"),
        ];
        for (what, bytes) in violations {
            assert_closes(server, what, bytes);
        }
    });
}

#[test]
fn v3_mqtt_4_8_0_2_an_error_that_stops_a_packet_closes_the_connection() {
    // A packet above the server's limit is well-formed, but cannot be processed.
    on_each_shard_count_with(&["mqtt.packet_bytes_max=2048"], |server| {
        let topic = server.unique("large");
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 2);
        let mut publisher = connect(server, "p");
        publisher.publish(&topic, [7; 1900], 1);
        observer.receive(&topic, [7; 1900], 1);
        for qos in 0..=2 {
            let mut client = connect(server, "c");
            let large = Publish::new(&topic, [7; 2048]).qos(qos, 5);
            client.send(large).expect_closed();
        }
        observer.expect_nothing_from(&mut publisher);
    });
}
