//! CONNACK (3.2).

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::{on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Ack, Connect, Packet, Publish, Subscribe, Version, Will};

#[test]
fn v5_mqtt_3_2_0_1_connack_comes_before_any_other_packet() {
    on_each_shard_count(|server| {
        let topic = server.unique("first");
        let resume = resuming(server, "first");
        let mut client = Client::connect(server, resume.clone());
        client.subscribe(&topic, 2);
        client.disconnect();
        let mut publisher = super::kit::client(server, "pub");
        for round in 0..5 {
            publisher.publish(&topic, "queued", 2);
            // The queued message, the answer to PINGREQ and the SUBACK must all wait for the CONNACK.
            let mut client = Client::dial(server, Version::V5);
            let packets = [Packet::from(resume.clone()), Packet::PingReq, Subscribe::new(9, &topic, 2).into()];
            client.send_raw(&packets.iter().flat_map(|packet| packet.encode(Version::V5)).collect::<Vec<u8>>());
            client.expect_connack(0);
            assert!(client.session_present(), "round {round}");
            let mut seen = 0;
            while seen < 3 {
                match client.next() {
                    Packet::Publish(publish) => {
                        client.send(Packet::PubRec(Ack::new(publish.id)));
                        seen += 1;
                    }
                    Packet::PubRel(ack) => {
                        client.send(Packet::PubComp(ack));
                    }
                    Packet::PingResp | Packet::SubAck(_) => seen += 1,
                    other => panic!("{other:?}"),
                }
            }
            client.vanish_noticed();
            // What was cut short is finished, so that each round begins alike.
            let mut client = Client::connect(server, resume.clone().clean(true));
            client.subscribe(&topic, 2);
            client.disconnect();
        }
    });
}

#[test]
fn v5_mqtt_3_2_0_2_one_connack_a_connection() {
    on_each_shard_count(|server| {
        let mut client = client(server, "one");
        client.expect_nothing_within_roundtrip();
        // Neither work nor a wrong second CONNECT brings another one.
        let topic = server.unique("one");
        client.subscribe(&topic, 1).publish(&topic, "x", 0).expect_publish(&topic, "x", 0);
        client.expect_nothing_within_roundtrip();
        client.send(connect(server, "two")).expect_disconnect(0x82);
    });
}

#[test]
fn v5_mqtt_3_2_2_1_bits_7_to_1_of_the_flags_are_0() {
    on_each_shard_count(|server| {
        // Each answer as raw bytes: DISCONNECT ends the connection, so that all of it can be read.
        let answer = |connect: Connect| {
            let bytes = [Packet::from(connect).encode(Version::V5), vec![0xE0, 0]].concat();
            let answer = raw_answer(server, &bytes);
            assert_eq!(answer[0], 0x20);
            answer
        };
        let resume = resuming(server, "bits");
        assert_eq!(answer(resume.clone())[2], 0);
        assert_eq!(answer(resume)[2], 1);
        let method = Property::AuthenticationMethod("no such method".into());
        assert_eq!(answer(connect(server, "bits").property(method))[2], 0);
    });
}

#[test]
fn v5_mqtt_3_2_2_2_clean_start_1_is_answered_with_session_present_0() {
    on_each_shard_count(|server| {
        let resume = resuming(server, "present");
        Client::connect(server, resume.clone()).disconnect();
        let client = Client::connect(server, resume.clean(true));
        assert!(!client.session_present());
    });
}

#[test]
fn v5_mqtt_3_2_2_3_session_present_says_whether_there_is_state() {
    on_each_shard_count(|server| {
        let resume = resuming(server, "present");
        let client = Client::connect(server, resume.clone());
        assert!(!client.session_present());
        client.disconnect();
        // A session without any subscription is one.
        let client = Client::connect(server, resume.clone());
        assert!(client.session_present());
        client.vanish_noticed();
        // Resumed without an expiry: it ends with the connection.
        let client = Client::connect(server, Connect { properties: Vec::new(), ..resume.clone() });
        assert!(client.session_present());
        client.disconnect();
        assert!(!Client::connect(server, resume).session_present());
    });
}

#[test]
fn v5_mqtt_3_2_2_6_a_refusal_says_session_present_0() {
    on_each_shard_count(|server| {
        let resume = resuming(server, "refuse");
        Client::connect(server, resume.clone()).disconnect();
        let method = Property::AuthenticationMethod("no such method".into());
        // `connect_refused` demands session present 0 although there is a session.
        Client::connect_refused(server, resume.clone().property(method), 0x8C);
        assert!(Client::connect(server, resume).session_present(), "a refused CONNECT ended the session");
    });
}

#[test]
fn v5_mqtt_3_2_2_7_a_refusal_closes_the_connection() {
    on_each_shard_count_with(&["mqtt.client_id_bytes_max=23", "mqtt.retained_available=false"], |server| {
        let method = Property::AuthenticationMethod("no such method".into());
        Client::connect_refused(server, connect(server, "m").property(method), 0x8C);
        Client::connect_refused(server, Connect::v5(&"x".repeat(24)), 0x85);
        Client::connect_refused(server, connect(server, "w").will(Will::new("topic", "").retain()), 0x9A);
    });
}

#[test]
fn v5_mqtt_3_2_2_8_only_the_listed_reasons_are_used() {
    on_each_shard_count(|server| {
        let will = [0x00, 0x00, 0x01, b'#', 0x00, 0x00];
        let cases: Vec<Vec<u8>> = vec![
            connect_bytes(0x02, &[0x15, 0, 1, b'x'], &[0, 1, b'a']),
            connect_bytes(0x02, &[0x22], &[0, 1, b'a']),
            connect_bytes(0x01, &[], &[0, 1, b'a']),
            connect_bytes(0x06, &[], &[&[0, 1, b'a'][..], &will].concat()),
            connect_bytes(0x02, &[], &[0, 1, 0xFF]),
            Packet::from(Connect::v5(&"x".repeat(65_535))).encode(Version::V5),
            Packet::from(connect(server, "level").level(6)).encode(Version::V5),
            [Packet::from(connect(server, "fine")).encode(Version::V5), vec![0xE0, 0]].concat(),
        ];
        for bytes in cases {
            let answer = raw_answer(server, &bytes);
            let listed = answer.is_empty() || (answer[0] == 0x20 && CONNACK_REASONS.contains(&answer[3]));
            // Level 6 may be answered in the language of 3.1.1, as the client may know no other.
            assert!(listed || answer == [0x20, 2, 0, 1], "{answer:02x?} in answer to {}", hex(&bytes));
        }
    });
}

fn maximum_qos(client: &Client) -> Option<u8> {
    client.connack_property(|property| match property {
        Property::MaximumQos(qos) => Some(*qos),
        _ => None,
    })
}

#[test]
fn v5_mqtt_3_2_2_9_maximum_qos_is_announced_when_it_is_below_2() {
    on_each_shard_count(|server| assert_eq!(maximum_qos(&client(server, "all")), None));
    for qos in [0, 1] {
        let setting = format!("mqtt.maximum_qos={qos}");
        on_each_shard_count_with(&[&setting], |server| {
            assert_eq!(maximum_qos(&client(server, "max")), Some(qos));
            // And a PUBLISH above it is answered with 0x9B.
            for above in qos + 1..=2 {
                let mut client = client(server, "above");
                client.send(Publish::new("topic", "").qos(above, 1)).expect_disconnect(0x9B);
            }
            let topic = server.unique("within");
            client(server, "within").publish(&topic, "", qos);
        });
    }
}

#[test]
fn v5_mqtt_3_2_2_10_subscribe_at_any_qos_is_accepted_below_maximum_qos_2() {
    for qos in [0, 1] {
        let setting = format!("mqtt.maximum_qos={qos}");
        on_each_shard_count_with(&[&setting], |server| {
            let topic = server.unique("any");
            let mut client = client(server, "any");
            let subscribe = Subscribe::new(1, &topic, 0).and(&topic, 1).and(&topic, 2);
            client.send(subscribe).expect_suback(1, &[0, qos.min(1), qos.min(2)]);
            super::kit::client(server, "pub").publish(&topic, "x", qos);
            client.receive(&topic, "x", qos);
        });
    }
}

#[test]
fn v5_mqtt_3_2_2_12_will_above_maximum_qos_is_refused() {
    on_each_shard_count_with(&["mqtt.maximum_qos=0"], |server| {
        for qos in [1, 2] {
            let will = Will::new("topic", "").qos(qos);
            Client::connect_refused(server, connect(server, "will").will(will), 0x9B);
        }
        Client::connect(server, connect(server, "will").will(Will::new("topic", ""))).disconnect();
    });
}

#[test]
fn v5_mqtt_3_2_2_13_retained_will_without_retain_support_is_refused() {
    on_each_shard_count_with(&["mqtt.retained_available=false"], |server| {
        let client = client(server, "told");
        assert!(client.connack().properties.contains(&Property::RetainAvailable(0)));
        let will = Will::new("topic", "").retain();
        Client::connect_refused(server, connect(server, "will").will(will), 0x9A);
        Client::connect(server, connect(server, "will").will(Will::new("topic", ""))).disconnect();
        // [MQTT-3.2.2-14] binds clients; the answer to one that does it all the same is 0x9A.
        let mut client = super::kit::client(server, "retains");
        client.send(Publish::new("topic", "x").retain()).expect_disconnect(0x9A);
    });
}

#[test]
fn v5_mqtt_3_2_2_16_assigned_id_is_new_among_all_sessions() {
    on_each_shard_count(|server| {
        // Sessions that stay behind, so that later ids have to differ from ids of clients that are gone, too.
        let mut ids = std::collections::HashSet::new();
        for _ in 0..30 {
            let connect = Connect::v5("").clean(false).property(Property::SessionExpiryInterval(60));
            let client = Client::connect(server, connect);
            assert!(!client.session_present());
            let id = client.connack_property(|property| match property {
                Property::AssignedClientIdentifier(id) => Some(id.clone()),
                _ => None,
            });
            assert!(ids.insert(id.expect("an assigned id")), "an id twice: {ids:?}");
            client.vanish();
        }
    });
}

/// The CONNACKs of a refusal, to clients with each Maximum Packet Size from the smallest that a CONNACK fits in.
fn refusals_fit(explains: impl Fn(&Property) -> bool + Sync) {
    on_each_shard_count(|server| {
        let method = Property::AuthenticationMethod("no such method".into());
        for maximum in [1000, 100, 40, 30, 20, 12, 10, 8, 6, 5] {
            let mut client = Client::dial(server, Version::V5);
            let connect = connect(server, "fit").property(Property::MaximumPacketSize(maximum));
            client.send(connect.property(method.clone()));
            let properties = client.expect_connack(0x8C).properties.clone();
            let bytes = client.packet_bytes();
            assert!(bytes <= maximum as usize, "{bytes} bytes where {maximum} are allowed: {properties:?}");
            assert!(maximum > 8 || !properties.iter().any(&explains), "{properties:?}");
            client.expect_closed();
        }
    });
}

#[test]
fn v5_mqtt_3_2_2_19_no_reason_string_beyond_the_packet_size_in_connack() {
    refusals_fit(|property| matches!(property, Property::ReasonString(_)));
}

#[test]
fn v5_mqtt_3_2_2_20_no_user_property_beyond_the_packet_size_in_connack() {
    refusals_fit(|property| matches!(property, Property::UserProperty(..)));
}

fn has(client: &Client, property: &Property) -> bool {
    client.connack().properties.contains(property)
}

#[test]
fn session_expiry_is_echoed_when_it_is_changed() {
    on_each_shard_count_with(&["mqtt.session_expiry_max=10s"], |server| {
        for asked in [11, 300, 0xFFFF_FFFF] {
            let connect = connect(server, "much").property(Property::SessionExpiryInterval(asked));
            let client = Client::connect(server, connect);
            assert!(has(&client, &Property::SessionExpiryInterval(10)), "{asked}: {:?}", client.connack());
        }
        for asked in [0, 1, 10] {
            let connect = connect(server, "fine").property(Property::SessionExpiryInterval(asked));
            let client = Client::connect(server, connect);
            let told = client.connack_property(|property| match property {
                Property::SessionExpiryInterval(seconds) => Some(*seconds),
                _ => None,
            });
            assert!(told.is_none() || told == Some(asked), "{told:?} instead of {asked}");
        }
    });
    on_each_shard_count_with(&["mqtt.session_expiry_max=1s"], |server| {
        // The announced value is the one that counts.
        let resume = resuming(server, "ends");
        Client::connect(server, resume.clone()).disconnect();
        let_pass(server, 3);
        assert!(!Client::connect(server, resume).session_present());
    });
}

#[test]
fn limits_are_advertised_as_configured() {
    let settings = ["mqtt.receive_maximum=7", "mqtt.packet_bytes_max=2000", "mqtt.topic_alias_max=3"];
    on_each_shard_count_with(&settings, |server| {
        let client = client(server, "limits");
        assert!(has(&client, &Property::ReceiveMaximum(7)), "{:?}", client.connack());
        assert!(has(&client, &Property::MaximumPacketSize(2000)), "{:?}", client.connack());
        assert!(has(&client, &Property::TopicAliasMaximum(3)), "{:?}", client.connack());
    });
    let settings = ["mqtt.receive_maximum=65535", "mqtt.topic_alias_max=0"];
    on_each_shard_count_with(&settings, |server| {
        let client = client(server, "defaults");
        let other = client.connack_property(|property| match property {
            Property::ReceiveMaximum(65_535) | Property::TopicAliasMaximum(0) => None,
            Property::ReceiveMaximum(number) | Property::TopicAliasMaximum(number) => Some(*number),
            _ => None,
        });
        assert_eq!(other, None, "{:?}", client.connack());
    });
}

#[test]
fn what_is_available_is_advertised_truly() {
    on_each_shard_count(|server| {
        let client = client(server, "all");
        for missing in [
            Property::RetainAvailable(0),
            Property::WildcardSubscriptionAvailable(0),
            Property::SubscriptionIdentifierAvailable(0),
            Property::SharedSubscriptionAvailable(0),
        ] {
            assert!(!has(&client, &missing), "{:?}", client.connack());
        }
    });
    on_each_shard_count_with(&["mqtt.wildcard_available=false", "mqtt.shared_available=false"], |server| {
        let mut client = client(server, "few");
        assert!(has(&client, &Property::WildcardSubscriptionAvailable(0)), "{:?}", client.connack());
        assert!(has(&client, &Property::SharedSubscriptionAvailable(0)), "{:?}", client.connack());
        let topic = server.unique("few");
        let subscribe = Subscribe::new(1, &topic, 0)
            .and(&format!("{topic}/#"), 0)
            .and(&format!("{topic}/+"), 0)
            .and(&format!("$share/group/{topic}"), 0);
        client.send(subscribe).expect_suback(1, &[0, 0xA2, 0xA2, 0x9E]);
        client.publish(&topic, "x", 0).expect_publish(&topic, "x", 0);
        client.expect_nothing_within_roundtrip();
    });
}
