//! CONNECT: header, flags and payload (3.1.0 to 3.1.3). Its properties are in `connect_properties.rs`.

use std::time::{Duration, Instant};

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::{on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Connect, Packet, Publish, Subscribe, Version, Will, field, frame};

#[test]
fn v5_mqtt_3_1_0_1_first_packet_must_be_connect() {
    on_each_shard_count(|server| {
        let firsts: [&[u8]; 14] = [
            &publish_bytes(0, b"first", None, &[], b"payload"),
            &publish_bytes(2, b"first", Some(1), &[], b"payload"),
            &[0x40, 2, 0, 1],
            &[0x50, 2, 0, 1],
            &[0x62, 2, 0, 1],
            &[0x70, 2, 0, 1],
            &subscribe_bytes(&[], &[0, 1, b'a', 0]),
            &unsubscribe_bytes(&[], &[0, 1, b'a']),
            &[0xC0, 0],
            &[0xE0, 0],
            &[0xF0, 0],
            &[0x20, 3, 0, 0, 0],
            &[0x00, 0],
            b"GET / HTTP/1.1\r\n\r\n",
        ];
        for first in firsts {
            // No version is agreed upon, so there is nothing that the broker could say.
            assert_eq!(raw_answer(server, first), [0; 0], "an answer to {first:02x?}");
        }
    });
}

#[test]
fn v5_mqtt_3_1_0_2_second_connect_is_a_protocol_error() {
    on_each_shard_count(|server| {
        let connect = connect(server, "twice");
        let mut client = Client::connect(server, connect.clone());
        client.send(connect.clone()).expect_disconnect(0x82);
        // Both in one segment.
        let mut client = Client::dial(server, Version::V5);
        let both = Packet::from(connect).encode(Version::V5).repeat(2);
        client.send_raw(&both).expect_connack(0);
        client.expect_disconnect(0x82);
    });
}

/// What a server may answer to a CONNECT of a protocol that it does not know: a CONNACK of 5.0, of 3.1.1, or nothing.
fn assert_unsupported(answer: &[u8], what: &str) {
    let silent_or_refused = answer.is_empty() || answer == [0x20, 2, 0, 1] || answer.starts_with(&[0x20]);
    assert!(silent_or_refused, "{answer:02x?} in answer to {what}");
    match answer {
        [] | [0x20, 2, 0, 1] => {}
        [0x20, _, 0, 0x84, ..] => {
            let decoded = Packet::decode(Version::V5, answer);
            assert!(matches!(decoded, Ok(Some((_, used))) if used == answer.len()), "{answer:02x?}: {decoded:?}");
        }
        other => panic!("{other:02x?} in answer to {what}"),
    }
}

#[test]
fn v5_mqtt_3_1_2_1_wrong_protocol_name_closes() {
    on_each_shard_count(|server| {
        for name in ["", "M", "MQT", "mqtt", "MQTU", "MQTTX", "XMQTT", "MQIsdp", "AMQP", "MQTT\u{FEFF}"] {
            let bytes = Packet::from(Connect { name: name.into(), ..connect(server, "name") }).encode(Version::V5);
            assert_unsupported(&raw_answer(server, &bytes), name);
        }
    });
}

#[test]
fn v5_mqtt_3_1_2_2_unsupported_version_closes() {
    on_each_shard_count(|server| {
        for level in [0, 1, 2, 6, 7, 50, 127, 255] {
            let bytes = Packet::from(connect(server, "level").level(level)).encode(Version::V5);
            assert_unsupported(&raw_answer(server, &bytes), &format!("level {level}"));
        }
    });
}

#[test]
fn v5_mqtt_3_1_2_3_reserved_connect_flag_is_malformed() {
    on_each_shard_count(|server| {
        for flags in [0x01, 0x03] {
            refused(server, &connect_bytes(flags, &[], &field("reserved")), &[0x81]);
        }
    });
}

#[test]
fn v5_mqtt_3_1_2_4_clean_start_1_discards_the_session() {
    on_each_shard_count(|server| {
        let resume = resuming(server, "clean");
        let topic = server.unique("clean");
        let mut client = Client::connect(server, resume.clone());
        client.subscribe(&topic, 1);
        client.disconnect();
        let mut publisher = super::kit::client(server, "pub");
        publisher.publish(&topic, "queued", 1);

        let mut client = Client::connect(server, resume.clone().clean(true));
        assert!(!client.session_present());
        // Neither the queued message nor the subscription is left.
        client.expect_nothing_within_roundtrip();
        publisher.publish(&topic, "live", 1);
        client.expect_nothing_from(&mut publisher);
        client.disconnect();
        // What began clean is a session like any other: its expiry keeps it.
        assert!(Client::connect(server, resume).session_present());
    });
}

#[test]
fn v5_mqtt_3_1_2_5_clean_start_0_resumes_the_session() {
    on_each_shard_count(|server| {
        let resume = resuming(server, "resume");
        let topic = server.unique("resume");
        let mut client = Client::connect(server, resume.clone());
        client.subscribe(&topic, 1);
        client.vanish_noticed();
        let mut publisher = super::kit::client(server, "pub");
        publisher.publish(&topic, "queued", 1);

        let mut client = Client::connect(server, resume);
        assert!(client.session_present());
        client.receive(&topic, "queued", 1);
        publisher.publish(&topic, "live", 1);
        client.receive(&topic, "live", 1);
    });
}

#[test]
fn v5_mqtt_3_1_2_6_clean_start_0_without_a_session_makes_one() {
    on_each_shard_count(|server| {
        let resume = resuming(server, "fresh");
        let topic = server.unique("fresh");
        let mut client = Client::connect(server, resume.clone());
        assert!(!client.session_present());
        client.subscribe(&topic, 0).publish(&topic, "works", 0).expect_publish(&topic, "works", 0);
        client.disconnect();
        assert!(Client::connect(server, resume).session_present());
    });
}

#[test]
fn v5_mqtt_3_1_2_7_will_is_stored_with_the_session() {
    on_each_shard_count(|server| {
        let topic = server.unique("stored");
        let mut watcher = subscriber(server, &topic, 2);
        let will = Will::new(&topic, "stored").qos(1).property(Property::WillDelayInterval(1));
        Client::connect(server, resuming(server, "will").will(will)).vanish();
        watcher.receive(&topic, "stored", 1);
    });
}

#[test]
fn v5_mqtt_3_1_2_8_will_is_published_at_the_end_of_its_delay_or_of_the_session() {
    on_each_shard_count(|server| {
        // Session expiry, delay, and the earliest and latest time at which the Will may come, in seconds.
        let cases = [(0, 0, 0, 5), (60, 0, 0, 5), (60, 2, 2, 10), (2, 60, 2, 10), (0, 60, 0, 5)];
        for (expiry, delay, earliest, latest) in cases {
            let topic = server.unique("ends");
            let mut watcher = subscriber(server, &topic, 0);
            let will = Will::new(&topic, "gone").property(Property::WillDelayInterval(delay));
            let connect = connect(server, "ends").property(Property::SessionExpiryInterval(expiry)).will(will);
            let client = Client::connect(server, connect);
            watcher.expect_nothing_within_roundtrip();
            let begin = Instant::now();
            client.vanish();
            watcher.expect_publish(&topic, "gone", 0);
            let passed = begin.elapsed();
            let allowed = Duration::from_secs(earliest)..Duration::from_secs(latest);
            assert!(allowed.contains(&passed), "expiry {expiry} s, delay {delay} s: the Will came after {passed:?}");
        }
    });
}

#[test]
fn v5_mqtt_3_1_2_9_will_flag_needs_properties_topic_and_payload() {
    on_each_shard_count(|server| {
        let id = field("will");
        // Nothing of the Will; no topic; no payload; a payload cut off; no properties, so that the topic is taken for them.
        let payloads = [
            id.clone(),
            [&id[..], &[0]].concat(),
            [&id[..], &[0], &field("topic")].concat(),
            [&id[..], &[0], &field("topic"), &[0, 9, b'x']].concat(),
            [&id[..], &field("topic"), &field("payload")].concat(),
        ];
        for payload in payloads {
            refused(server, &connect_bytes(0x06, &[], &payload), &[0x81, 0x82]);
        }
        let whole = [&field(server.unique("will"))[..], &[0], &field("topic"), &field("")].concat();
        let mut client = Client::dial(server, Version::V5);
        client.send_raw(&connect_bytes(0x06, &[], &whole)).expect_connack(0);
        client.disconnect();
    });
}

#[test]
fn v5_mqtt_3_1_2_10_will_is_removed_once_published_and_on_disconnect_0() {
    on_each_shard_count(|server| {
        let topic = server.unique("once");
        let mut watcher = subscriber(server, &topic, 0);
        let resume = resuming(server, "once");
        let with_will = resume.clone().will(Will::new(&topic, "will"));
        Client::connect(server, with_will.clone()).vanish();
        watcher.expect_publish(&topic, "will", 0);
        // Published, hence gone: the next end of the same session, without a Will of its own, publishes none.
        Client::connect(server, resume.clone()).vanish_noticed();
        let mut again = Client::connect(server, resume.clone());
        watcher.expect_nothing_from(&mut again);
        again.disconnect();
        // Removed by DISCONNECT 0.
        Client::connect(server, with_will).disconnect();
        let mut again = Client::connect(server, resume);
        watcher.expect_nothing_from(&mut again);
    });
}

#[test]
fn v5_mqtt_3_1_2_11_will_qos_needs_the_will_flag() {
    on_each_shard_count(|server| {
        for flags in [0x08, 0x10, 0x0A, 0x12] {
            refused(server, &connect_bytes(flags, &[], &field("willqos")), &[0x81]);
        }
    });
}

#[test]
fn v5_mqtt_3_1_2_12_will_qos_3_is_malformed() {
    on_each_shard_count(|server| {
        let payload = [&field("qos3")[..], &[0], &field("topic"), &field("payload")].concat();
        refused(server, &connect_bytes(0x1E, &[], &payload), &[0x81]);
        refused(server, &connect_bytes(0x1A, &[], &field("qos3")), &[0x81]);
    });
}

#[test]
fn v5_mqtt_3_1_2_13_will_retain_needs_the_will_flag() {
    on_each_shard_count(|server| {
        refused(server, &connect_bytes(0x22, &[], &field("willretain")), &[0x81]);
    });
}

#[test]
fn v5_mqtt_3_1_2_14_will_retain_0_is_published_unretained() {
    on_each_shard_count(|server| {
        let topic = server.unique("unretained");
        let mut watcher = subscriber(server, &topic, RETAIN_AS_PUBLISHED);
        client(server, "pub").publish_retained(&topic, "before", 1);
        watcher.expect_like(Publish::new(&topic, "before").retain());
        Client::connect(server, connect(server, "will").will(Will::new(&topic, "will"))).vanish();
        watcher.expect_publish(&topic, "will", 0);
        // What was retained before still is.
        let mut late = subscriber(server, &topic, 0);
        late.expect_like(Publish::new(&topic, "before").retain());
    });
}

#[test]
fn v5_mqtt_3_1_2_15_will_retain_1_is_published_retained() {
    on_each_shard_count(|server| {
        let topic = server.unique("retained");
        let mut watcher = subscriber(server, &topic, 1 | RETAIN_AS_PUBLISHED);
        Client::connect(server, connect(server, "will").will(Will::new(&topic, "will").qos(1).retain())).vanish();
        let publish = watcher.expect_like(Publish::new(&topic, "will").qos(1, 0).retain());
        watcher.acknowledge(&publish);
        // It must be retained by the time that a new subscription asks, or reach it live.
        let mut late = subscriber(server, &topic, RETAIN_AS_PUBLISHED);
        late.expect_like(Publish::new(&topic, "will").retain());
    });
}

#[test]
fn v5_mqtt_3_1_2_16_user_name_without_its_flag_is_malformed() {
    on_each_shard_count(|server| {
        refused(server, &connect_bytes(0x02, &[], &fields(&[b"id", b"user"])), &[0x81, 0x82]);
    });
}

#[test]
fn v5_mqtt_3_1_2_17_user_name_flag_needs_a_user_name() {
    on_each_shard_count(|server| {
        refused(server, &connect_bytes(0x82, &[], &field("id")), &[0x81, 0x82]);
        refused(server, &connect_bytes(0x82, &[], &[&field("id")[..], &[0]].concat()), &[0x81, 0x82]);
    });
}

#[test]
fn v5_mqtt_3_1_2_18_password_without_its_flag_is_malformed() {
    on_each_shard_count(|server| {
        refused(server, &connect_bytes(0x82, &[], &fields(&[b"id", b"user", b"password"])), &[0x81, 0x82]);
    });
}

#[test]
fn v5_mqtt_3_1_2_19_password_flag_needs_a_password() {
    on_each_shard_count(|server| {
        refused(server, &connect_bytes(0xC2, &[], &fields(&[b"id", b"user"])), &[0x81, 0x82]);
        refused(server, &connect_bytes(0x42, &[], &field("id")), &[0x81, 0x82]);
    });
}

#[test]
fn v5_mqtt_3_1_3_2_sessions_are_identified_by_client_id() {
    on_each_shard_count(|server| {
        // Ids that differ only in case, in normalisation, or by one character at the end are different clients.
        let base = server.unique("ident");
        let ids =
            [base.clone(), base.to_uppercase(), format!("{base}\u{E9}"), format!("{base}e\u{301}"), format!("{base} ")];
        let connects: Vec<Connect> =
            ids.iter().map(|id| Connect::v5(id).clean(false).property(Property::SessionExpiryInterval(300))).collect();
        let mut clients: Vec<Client> =
            connects.iter().map(|connect| Client::connect(server, connect.clone())).collect();
        for (id, client) in ids.iter().zip(&mut clients) {
            assert!(!client.session_present(), "{id:?} met another's session");
            client.expect_nothing_within_roundtrip().subscribe(&format!("of/{id}"), 1);
        }
        clients.into_iter().for_each(Client::disconnect);
        let mut publisher = client(server, "pub");
        for (id, connect) in ids.iter().zip(connects) {
            publisher.publish(&format!("of/{id}"), id, 1);
            let mut client = Client::connect(server, connect);
            assert!(client.session_present());
            client.receive(&format!("of/{id}"), id, 1).expect_nothing_within_roundtrip();
        }
    });
}

#[test]
fn v5_mqtt_3_1_3_3_client_id_field_must_be_there() {
    on_each_shard_count(|server| {
        refused(server, &connect_bytes(0x02, &[], &[]), &[0x81, 0x82]);
        refused(server, &connect_bytes(0x02, &[], &[0]), &[0x81, 0x82]);
        refused(server, &connect_bytes(0x02, &[], &[0, 4, b'a']), &[0x81, 0x82]);
    });
}

#[test]
fn v5_mqtt_3_1_3_4_client_id_is_valid_utf_8() {
    on_each_shard_count(|server| {
        for text in ILL_FORMED.iter().chain(&[b"a\0b".as_slice()]) {
            refused(server, &connect_bytes(0x02, &[], &field(text)), &[0x81, 0x85]);
        }
    });
}

#[test]
fn v5_mqtt_3_1_3_5_ids_of_1_to_23_letters_and_digits_are_accepted() {
    on_each_shard_count(|server| {
        let alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let ids = (1..=23).map(|length| &alphabet[62 - length..]).chain([&alphabet[..23], &alphabet[20..43]]);
        for id in ids {
            Client::connect(server, Connect::v5(id)).disconnect();
        }
    });
}

/// The ClientId that the CONNACK assigned.
fn assigned(client: &Client) -> Option<String> {
    client.connack_property(|property| match property {
        Property::AssignedClientIdentifier(id) => Some(id.clone()),
        _ => None,
    })
}

#[test]
fn v5_mqtt_3_1_3_6_empty_client_id_is_assigned_a_unique_one() {
    on_each_shard_count(|server| {
        let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(server, Connect::v5(""))).collect();
        let mut ids: Vec<String> = clients.iter().map(|client| assigned(client).expect("an assigned id")).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), clients.len(), "{ids:?}");
        // None has taken over another.
        for client in &mut clients {
            client.expect_nothing_within_roundtrip();
        }
        assert_eq!(assigned(&client(server, "own")), None, "an id assigned to a client that has one");
    });
}

#[test]
fn v5_mqtt_3_1_3_7_assigned_client_id_serves_as_if_the_client_had_given_it() {
    on_each_shard_count(|server| {
        let topic = server.unique("assigned");
        for clean in [false, true] {
            let connect = Connect::v5("").clean(clean).property(Property::SessionExpiryInterval(300));
            let mut client = Client::connect(server, connect);
            assert!(!client.session_present());
            let id = assigned(&client).expect("an assigned id");
            client.subscribe(&topic, 1);
            client.disconnect();
            let mut client = Client::connect(server, Connect::v5(&id).clean(false));
            assert!(client.session_present(), "the session of {id:?} is not found again");
            client.publish(&topic, "again", 0).expect_publish(&topic, "again", 0);
        }
    });
}

#[test]
fn v5_mqtt_3_1_3_8_refused_client_id_is_answered_with_0x85_and_closed() {
    let settings = ["mqtt.client_id_bytes_max=30", "mqtt.client_id_empty_allowed=false"];
    on_each_shard_count_with(&settings, |server| {
        Client::connect(server, Connect::v5(&"x".repeat(30))).disconnect();
        Client::connect_refused(server, Connect::v5(&"x".repeat(31)), 0x85);
        Client::connect_refused(server, Connect::v5(&"x".repeat(65_535)), 0x85);
        Client::connect_refused(server, Connect::v5(""), 0x85);
        Client::connect_refused(server, Connect::v5("").clean(false), 0x85);
    });
}

#[test]
fn v5_mqtt_3_1_3_9_reconnecting_within_the_will_delay_suppresses_the_will() {
    on_each_shard_count(|server| {
        let topic = server.unique("delayed");
        let mut watcher = subscriber(server, &topic, 0);
        let resume = resuming(server, "delayed");
        let will = Will::new(&topic, "will").property(Property::WillDelayInterval(1));
        Client::connect(server, resume.clone().will(will)).vanish_noticed();
        let mut back = Client::connect(server, resume);
        assert!(back.session_present());
        let_pass(server, 3);
        watcher.expect_nothing_from(&mut back);
    });
}

#[test]
fn v5_mqtt_3_1_3_10_user_properties_of_a_will_keep_their_order() {
    on_each_shard_count(|server| {
        let topic = server.unique("order");
        let mut watcher = subscriber(server, &topic, 0);
        let mut will = Will::new(&topic, "will");
        let mut wanted = Publish::new(&topic, "will");
        for (name, value) in [("z", "1"), ("a", "2"), ("z", "0"), ("", ""), ("a", "2"), ("m", "\u{FEFF}")] {
            will = will.property(Property::UserProperty(name.into(), value.into()));
            wanted = wanted.property(Property::UserProperty(name.into(), value.into()));
        }
        Client::connect(server, connect(server, "order").will(will)).vanish();
        watcher.expect_like(wanted);
    });
}

#[test]
fn v5_mqtt_3_1_3_11_will_topic_is_valid_utf_8() {
    on_each_shard_count(|server| {
        for topic in ILL_FORMED.iter().chain(&[b"a\0b".as_slice(), b"a/+", b"#", b""]) {
            let payload = [&field("willtopic")[..], &[0], &field(topic), &field("payload")].concat();
            // What is no UTF-8 is malformed; a wildcard or an empty topic may also be called an invalid topic name.
            let codes: &[u8] = if std::str::from_utf8(topic).is_ok() { &[0x81, 0x82, 0x90] } else { &[0x81] };
            refused(server, &connect_bytes(0x06, &[], &payload), codes);
        }
    });
}

#[test]
fn v5_mqtt_3_1_3_12_user_name_is_valid_utf_8() {
    on_each_shard_count(|server| {
        for text in ILL_FORMED.iter().chain(&[b"a\0b".as_slice()]) {
            refused(server, &connect_bytes(0x82, &[], &fields(&[b"username", text])), &[0x81]);
        }
        // A password is binary data.
        let id = server.unique("pass");
        let mut client = Client::connect(server, Connect::v5(&id).user_name("\u{FEFF}u\u{10FFFF}").password(b"\xFF\0"));
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_1_4_1_connect_of_wrong_form_closes() {
    on_each_shard_count(|server| {
        let whole = Packet::from(connect(server, "whole").user_name("user")).encode(Version::V5);
        let body = &whole[2..];
        // Cut anywhere, with a remaining length that agrees.
        for length in 0..body.len() {
            refused(server, &frame(0x10, &body[..length]), &[0x81, 0x82, 0x84]);
        }
        refused(server, &frame(0x10, &[body, b"\0"].concat()), &[0x81, 0x82]);
        refused(server, &[0x10, 0x80, 0x80, 0x80, 0x80, 0x01], &[0x81]);
    });
}

#[test]
fn v5_mqtt_3_1_4_2_connect_refused_for_other_reasons_closes() {
    on_each_shard_count_with(&["mqtt.maximum_qos=1", "mqtt.client_id_bytes_max=23"], |server| {
        let method = Property::AuthenticationMethod("no such method".into());
        Client::connect_refused(server, connect(server, "auth").property(method), 0x8C);
        Client::connect_refused(server, Connect::v5(&"x".repeat(24)), 0x85);
        Client::connect_refused(server, connect(server, "qos").will(Will::new("topic", "").qos(2)), 0x9B);
    });
}

#[test]
fn v5_mqtt_3_1_4_3_take_over_disconnects_the_older_connection_with_0x8e() {
    on_each_shard_count(|server| {
        for (clean, expiry) in [(true, 0), (false, 0), (false, 300), (true, 300)] {
            let connect = connect(server, "over").clean(clean).property(Property::SessionExpiryInterval(expiry));
            let mut older = Client::connect(server, connect.clone());
            for _ in 0..4 {
                let mut newer = Client::connect(server, connect.clone());
                older.expect_disconnect(0x8E);
                newer.expect_nothing_within_roundtrip();
                older = newer;
            }
        }
        // Across versions: an older 3.1.1 connection is just closed, a newer one throws a 5.0 connection out.
        let id = server.unique("mixed");
        let mut v3 = Client::connect(server, Connect::v311(&id));
        let mut v5 = Client::connect(server, Connect::v5(&id));
        v3.expect_closed();
        let _v3 = Client::connect(server, Connect::v311(&id));
        v5.expect_disconnect(0x8E);
    });
}

#[test]
fn v5_mqtt_3_1_4_4_clean_start_is_carried_out_on_take_over() {
    on_each_shard_count(|server| {
        let topic = server.unique("over");
        let resume = resuming(server, "over");
        let mut first = Client::connect(server, resume.clone());
        first.subscribe(&topic, 1);
        let mut second = Client::connect(server, resume.clone());
        first.expect_disconnect(0x8E);
        assert!(second.session_present());
        second.publish(&topic, "kept", 0).expect_publish(&topic, "kept", 0);
        let mut third = Client::connect(server, resume.clean(true));
        second.expect_disconnect(0x8E);
        assert!(!third.session_present());
        third.publish(&topic, "gone", 1).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_1_4_5_success_is_answered_with_connack_0() {
    on_each_shard_count(|server| {
        let mut client = Client::dial(server, Version::V5);
        client.send(connect(server, "good"));
        let connack = client.expect_connack(0);
        assert!(!connack.session_present);
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_1_4_6_data_behind_a_refused_connect_is_not_processed() {
    on_each_shard_count(|server| {
        let topic = server.unique("behind");
        let mut watcher = subscriber(server, &topic, 0);
        let method = Property::AuthenticationMethod("no such method".into());
        let mut client = Client::dial(server, Version::V5);
        let connect = Packet::from(connect(server, "refused").property(method)).encode(Version::V5);
        let publish = Packet::from(Publish::new(&topic, "smuggled").retain()).encode(Version::V5);
        client.send_raw(&[connect, publish, vec![0xC0, 0]].concat());
        client.expect_connack(0x8C);
        client.expect_closed();
        watcher.expect_nothing_from(&mut super::kit::client(server, "pub"));
        subscriber(server, &topic, 0).expect_no_retained(server);
    });
}

#[test]
fn packets_behind_connect_in_one_segment_are_processed() {
    on_each_shard_count(|server| {
        let topic = server.unique("pipe");
        for _ in 0..10 {
            let mut client = Client::dial(server, Version::V5);
            let packets = [
                Packet::from(connect(server, "pipe")),
                Subscribe::new(1, &topic, 1).into(),
                Publish::new(&topic, "one").qos(1, 2).into(),
                Packet::PingReq,
            ];
            client.send_raw(&packets.iter().flat_map(|packet| packet.encode(Version::V5)).collect::<Vec<u8>>());
            client.expect_connack(0);
            client.expect_suback(1, &[1]);
            // The message, its PUBACK and the PINGRESP may come in any order.
            let mut kinds: Vec<u8> = (0..3)
                .map(|_| match client.next() {
                    Packet::Publish(publish) => {
                        client.acknowledge(&publish);
                        3
                    }
                    Packet::PubAck(ack) if ack.id == 2 && ack.code == 0 => 4,
                    Packet::PingResp => 13,
                    other => panic!("{other:?}"),
                })
                .collect();
            kinds.sort_unstable();
            assert_eq!(kinds, [3, 4, 13]);
        }
    });
}
