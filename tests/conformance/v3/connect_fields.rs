//! CONNECT: its place, its protocol name and level, and the fields of its payload.

use super::{ILL_FORMED, assert_closes, assert_closes_unconnected, connect, resume};
use crate::client::Client;
use crate::server::{Server, on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Connect, Packet, Publish, Subscribe, Unsubscribe, Version, Will, field, frame};

/// A CONNECT whose payload is `payload` and whose flags are `flags`, whatever the one says of the other.
pub(super) fn raw_connect(flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(0x10, &[b"\0\x04MQTT\x04".as_slice(), &[flags, 0, 60], payload].concat())
}

/// Everything that follows the CONNECT must be ignored, and no CONNACK 0 may come: a code of 1 to 5 and a close, or a close.
fn assert_not_accepted(server: &Server, what: &str, first: &[u8]) {
    let mut client = Client::dial(server, Version::V311);
    client.send_raw(&[first, &[0xC0, 0]].concat());
    match client.next_or_closed() {
        None => {}
        Some(Packet::ConnAck(connack)) if (1..=5).contains(&connack.code) => client.expect_closed(),
        Some(other) => panic!("{what} was answered with {other:?}"),
    }
}

#[test]
fn v3_mqtt_3_1_0_1_the_first_packet_must_be_connect() {
    on_each_shard_count(|server| {
        let topic = server.unique("first");
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 2);
        let packets = [
            Packet::Publish(Publish::new(&topic, "unconnected")),
            Packet::Publish(Publish::new(&topic, "unconnected").qos(1, 1)),
            Packet::Publish(Publish::new(&topic, "unconnected").qos(2, 1).retain()),
            Packet::Subscribe(Subscribe::new(1, &topic, 0)),
            Packet::Unsubscribe(Unsubscribe::new(1, &topic)),
            Packet::PubAck(crate::wire::Ack::new(1)),
            Packet::PubRec(crate::wire::Ack::new(1)),
            Packet::PubRel(crate::wire::Ack::new(1)),
            Packet::PubComp(crate::wire::Ack::new(1)),
            Packet::PingReq,
            Packet::Disconnect(Default::default()),
        ];
        for packet in packets {
            // A CONNECT behind it comes too late.
            let connect = Packet::Connect(Connect::v311(&server.unique("late"))).encode(Version::V311);
            let bytes = [packet.encode(Version::V311), connect].concat();
            assert_closes_unconnected(server, "a first packet that is no CONNECT", &bytes);
        }
        let mut publisher = connect(server, "p");
        observer.expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_3_1_0_2_a_second_connect_closes_the_connection() {
    on_each_shard_count(|server| {
        let id = server.unique("twice");
        for second in [Connect::v311(&id), Connect::v311(&server.unique("other")), Connect::v31(&id), Connect::v5(&id)]
        {
            let mut client = Client::connect(server, Connect::v311(&id));
            client.send(second).expect_closed();
        }
        // In one segment as well, with the first one answered.
        let bytes = Packet::Connect(Connect::v311(&id)).encode(Version::V311);
        let mut client = Client::dial(server, Version::V311);
        client.send_raw(&[bytes.clone(), bytes].concat()).expect_connack(0);
        client.expect_closed();
    });
}

#[test]
fn v3_mqtt_3_1_2_1_a_wrong_protocol_name_does_not_go_on() {
    on_each_shard_count(|server| {
        for name in ["", "MQT", "mqtt", "MQTt", "MQTTT", "MQIsdP", "HTTP", "MQTT\u{FEFF}"] {
            let mut connect = Connect::v311(&server.unique("name"));
            connect.name = name.as_bytes().to_vec();
            assert_not_accepted(server, name, &Packet::Connect(connect).encode(Version::V311));
        }
        // Each name belongs to its own level.
        let isdp = Connect::v31(&server.unique("name")).level(4);
        assert_not_accepted(server, "MQIsdp at level 4", &Packet::Connect(isdp).encode(Version::V31));
    });
}

#[test]
fn v3_mqtt_3_1_2_2_an_unsupported_level_is_answered_with_code_1_and_closed() {
    on_each_shard_count(|server| {
        for level in [0, 1, 2, 3, 6, 7, 64, 127] {
            let mut client = Client::dial(server, Version::V311);
            client.send(Connect::v311(&server.unique("level")).level(level)).expect_raw(&[0x20, 2, 0, 1]);
            client.expect_closed();
        }
    });
}

#[test]
fn v3_mqtt_3_1_3_1_payload_fields_come_in_their_order() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("order"), server.unique("order"));
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 0);
        // Written out, so that the order is the test's and not the builder's.
        let payload = [&id, &topic, "will payload", "user", "password"].map(field).concat();
        let mut client = Client::dial(server, Version::V311);
        client.send_raw(&raw_connect(0b1100_0110, &payload)).expect_connack(0);
        client.vanish();
        observer.receive(&topic, "will payload", 0);
        // And the ClientId was the first of them: it takes over.
        let mut first = Client::dial(server, Version::V311);
        first.send_raw(&raw_connect(0b1100_0110, &payload)).expect_connack(0);
        let _second = Client::connect(server, Connect::v311(&id));
        first.expect_closed();
    });
}

#[test]
fn v3_mqtt_3_1_3_2_sessions_are_identified_by_client_id() {
    on_each_shard_count(|server| {
        let (one, two) = (server.unique("one"), server.unique("two"));
        let topics = [server.unique("t"), server.unique("t")];
        for (id, topic) in [(&one, &topics[0]), (&two, &topics[1])] {
            let mut client = resume(server, id);
            assert!(!client.session_present());
            client.subscribe(topic, 1);
            client.disconnect();
        }
        let mut publisher = connect(server, "p");
        for topic in &topics {
            publisher.publish(topic, "stored", 1);
        }
        // Each finds its own; an id that differs in case or by one character finds nothing.
        for (id, topic) in [(&two, &topics[1]), (&one, &topics[0])] {
            let mut client = resume(server, id);
            assert!(client.session_present());
            client.receive(topic, "stored", 1).expect_nothing_from(&mut publisher);
        }
        for id in [one.to_uppercase(), format!("{one}x"), one[1..].to_owned()] {
            assert!(
                !Client::connect(server, Connect::v311(&id).clean(false)).session_present(),
                "{id} found a session"
            );
        }
    });
}

#[test]
fn v3_mqtt_3_1_3_3_the_client_id_must_be_present_and_first() {
    on_each_shard_count(|server| {
        assert_closes_unconnected(server, "no payload", &raw_connect(0x02, &[]));
        assert_closes_unconnected(server, "half a length", &raw_connect(0x02, &[0]));
        assert_closes_unconnected(server, "a length without the id", &raw_connect(0x02, &[0, 5]));
        assert_closes_unconnected(server, "an id cut short", &raw_connect(0x02, b"\0\x05abcd"));
        // With only a user name there, it is taken for the ClientId, and the user name is what is missing.
        assert_closes_unconnected(server, "no ClientId", &raw_connect(0x82, &field("user")));
    });
}

#[test]
fn v3_mqtt_3_1_3_4_a_client_id_that_is_no_utf8_is_refused() {
    on_each_shard_count(|server| {
        for (what, text) in ILL_FORMED {
            assert_not_accepted(server, what, &raw_connect(0x02, &field(text)));
        }
        // And UTF-8 beyond ASCII is one.
        for id in ["größe", "客户端", "клиент-🚀"] {
            Client::connect(server, Connect::v311(&format!("{id}{}", server.unique("u")))).disconnect();
        }
    });
}

#[test]
fn v3_mqtt_3_1_3_5_client_ids_of_1_to_23_letters_and_digits_are_accepted() {
    on_each_shard_count(|server| {
        let letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        for start in 0..letters.len() {
            Client::connect(server, Connect::v311(&letters[start..=start])).disconnect();
        }
        for length in 1..=23 {
            for start in [0, 20, letters.len() - length] {
                Client::connect(server, Connect::v311(&letters[start..start + length])).disconnect();
            }
        }
    });
}

#[test]
fn v3_mqtt_3_1_3_6_an_empty_client_id_gets_a_unique_one() {
    on_each_shard_count(|server| {
        // Were two ids equal, the later client would take over the earlier one's session.
        let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(server, Connect::v311(""))).collect();
        for client in &mut clients {
            assert!(!client.session_present());
            client.expect_nothing_within_roundtrip();
        }
        let topic = server.unique("empty");
        clients[3].subscribe(&topic, 1);
        let (before, after) = clients.split_at_mut(4);
        after[0].publish(&topic, "for one", 1);
        before[3].receive(&topic, "for one", 1);
    });
}

#[test]
fn v3_mqtt_3_1_3_7_an_empty_client_id_needs_a_clean_session() {
    on_each_shard_count(|server| {
        Client::connect_refused(server, Connect::v311("").clean(false), 2);
        Client::connect(server, Connect::v311("").clean(true)).disconnect();
    });
}

#[test]
fn v3_mqtt_3_1_3_8_an_empty_client_id_without_clean_session_is_answered_with_code_2() {
    on_each_shard_count(|server| {
        for connect in [
            Connect::v311("").clean(false),
            Connect::v311("").clean(false).will(Will::new("t", "w")),
            Connect::v311("").clean(false).keep_alive(0),
        ] {
            let mut client = Client::dial(server, Version::V311);
            client.send(connect).expect_raw(&[0x20, 2, 0, 2]);
            client.expect_closed();
        }
    });
}

#[test]
fn v3_mqtt_3_1_3_9_a_refused_client_id_is_answered_with_code_2() {
    on_each_shard_count_with(&["mqtt.client_id_bytes_max=30"], |server| {
        Client::connect(server, Connect::v311(&"x".repeat(30))).disconnect();
        for length in [31, 100, 65_535] {
            Client::connect_refused(server, Connect::v311(&"x".repeat(length)), 2);
        }
    });
}

#[test]
fn v3_mqtt_3_1_3_10_a_will_topic_that_is_no_utf8_is_refused() {
    on_each_shard_count(|server| {
        for (what, text) in ILL_FORMED {
            let payload = [field(server.unique("w")), field(text), field("payload")].concat();
            assert_not_accepted(server, what, &raw_connect(0x06, &payload));
        }
    });
}

#[test]
fn v3_mqtt_3_1_3_11_a_user_name_that_is_no_utf8_is_refused() {
    on_each_shard_count(|server| {
        for (what, text) in ILL_FORMED {
            assert_not_accepted(server, what, &raw_connect(0x82, &[field(server.unique("w")), field(text)].concat()));
        }
        // A password is binary: the same bytes are welcome there.
        for (_, text) in ILL_FORMED {
            let id = server.unique("password");
            Client::connect(server, Connect::v311(&id).user_name("name").password(text)).disconnect();
        }
    });
}

#[test]
fn v3_mqtt_3_1_4_1_a_connect_of_wrong_form_is_closed_without_connack() {
    on_each_shard_count(|server| {
        let fields = [&server.unique("form"), "topic", "payload", "user", "password"].map(field);
        let payload = fields.concat();
        // Cut anywhere after the flags, or with a byte too many.
        for length in 0..payload.len() {
            assert_closes_unconnected(server, "a CONNECT cut short", &raw_connect(0b1100_0110, &payload[..length]));
        }
        let longer = [&payload[..], b"\0"].concat();
        assert_closes_unconnected(server, "a byte too many", &raw_connect(0b1100_0110, &longer));
        for body in [&b""[..], b"\0", b"\0\x04MQ", b"\0\x04MQTT", b"\0\x04MQTT\x04", b"\0\x04MQTT\x04\x02\0"] {
            assert_closes_unconnected(server, "a variable header cut short", &frame(0x10, body));
        }
        assert_closes_unconnected(server, "a remaining length of five bytes", b"\x10\x80\x80\x80\x80\x01");
        assert_closes(server, "the same later", b"\x30\xFF\xFF\xFF\xFF\x7F");
    });
}
