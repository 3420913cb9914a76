//! What the properties of CONNECT ask of the broker (3.1.2.11), and KeepAlive (3.1.2.10).

use std::time::{Duration, Instant};

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::{Server, on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Ack, Packet, Publish, SubAck, Subscribe, Unsubscribe};

/// A client that has been silent since `begin` or later must be disconnected with 0x8D, no earlier than one and a half
/// times `keep_alive`.
fn silence_ends(begin: Instant, client: &mut Client, keep_alive: u64) {
    client.expect_disconnect(0x8D);
    let passed = begin.elapsed();
    let earliest = Duration::from_millis(keep_alive * 1500);
    assert!(passed >= earliest && passed < earliest + Duration::from_secs(5), "disconnected after {passed:?}");
}

fn server_keep_alive(client: &Client) -> Option<u16> {
    client.connack_property(|property| match property {
        Property::ServerKeepAlive(seconds) => Some(*seconds),
        _ => None,
    })
}

#[test]
fn v5_mqtt_3_1_2_21_announced_server_keep_alive_counts() {
    on_each_shard_count_with(&["mqtt.keep_alive_max=1s"], |server| {
        for asked in [0, 2, 60, 65_535] {
            let begin = Instant::now();
            let mut client = Client::connect(server, connect(server, "told").keep_alive(asked));
            assert_eq!(server_keep_alive(&client), Some(1), "asked for {asked}");
            silence_ends(begin, &mut client, 1);
        }
    });
}

#[test]
fn v5_mqtt_3_1_2_22_silence_for_one_and_a_half_keep_alive_ends_as_a_network_failure() {
    on_each_shard_count(|server| {
        let topic = server.unique("silent");
        let mut watcher = subscriber(server, &topic, 0);
        let will = crate::wire::Will::new(&topic, "silent");
        let begin = Instant::now();
        let mut client = Client::connect(server, connect(server, "silent").keep_alive(1).will(will));
        silence_ends(begin, &mut client, 1);
        watcher.expect_publish(&topic, "silent", 0);
        // Silence is counted from the last packet, of whatever kind.
        let mut client = Client::connect(server, connect(server, "talks").keep_alive(3));
        let mut begin = Instant::now();
        for _ in 0..4 {
            let_pass(server, 1);
            begin = Instant::now();
            client.publish(&topic, "still here", 0);
            watcher.expect_publish(&topic, "still here", 0);
        }
        silence_ends(begin, &mut client, 3);
    });
}

#[test]
fn v5_mqtt_3_2_2_22_without_server_keep_alive_the_clients_value_counts() {
    on_each_shard_count(|server| {
        let begin = Instant::now();
        let mut client = Client::connect(server, connect(server, "own").keep_alive(2));
        assert_eq!(server_keep_alive(&client), None);
        silence_ends(begin, &mut client, 2);
        // 0 turns it off.
        let mut client = Client::connect(server, connect(server, "off").keep_alive(0));
        assert_eq!(server_keep_alive(&client), None);
        let_pass(server, 3);
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_1_2_23_state_is_kept_with_a_session_expiry_above_0() {
    on_each_shard_count(|server| {
        for expiry in [60, 0xFFFF_FFFF] {
            let topic = server.unique("kept");
            let connect = connect(server, "kept").clean(false).property(Property::SessionExpiryInterval(expiry));
            let mut client = Client::connect(server, connect.clone());
            client.subscribe(&topic, 2);
            let mut publisher = super::kit::client(server, "pub");
            // Both directions have something open: a message to the client and one from it.
            publisher.publish(&topic, "unacknowledged", 2);
            let open = client.expect_publish(&topic, "unacknowledged", 2);
            client.send(Publish::new("elsewhere", "half").qos(2, 77)).expect_pubrec(77);
            client.vanish_noticed();
            publisher.publish(&topic, "queued", 1);

            let mut client = Client::connect(server, connect);
            assert!(client.session_present());
            let came = collect(&mut client, 2);
            assert_eq!(came[0], Publish { dup: true, ..open });
            assert_like(&came[1], Publish::new(&topic, "queued").qos(1, 0));
            client.send(Packet::PubRel(Ack::new(77))).expect(Packet::PubComp(Ack::new(77)));
        }
    });
}

/// What does not fit `maximum` is left out, and what does comes.
fn only_what_fits(server: &Server, qos: u8, maximum: u32) {
    let topic = server.unique("fits");
    let connect = connect(server, "small").property(Property::MaximumPacketSize(maximum));
    let mut small = Client::connect(server, connect);
    small.subscribe(&topic, qos);
    let mut publisher = client(server, "pub");
    let overhead = Publish::new(&topic, "").qos(qos, 1);
    let overhead = Packet::from(overhead).encode(crate::wire::Version::V5).len();
    let fits = maximum as usize - overhead;
    for length in [fits + 1, fits, fits + 40, 1, 2000, fits - 1] {
        publisher.publish(&topic, vec![b'x'; length], qos);
        if length <= fits {
            let publish = take(&mut small);
            assert_eq!(publish.payload.len(), length);
            assert!(small.packet_bytes() <= maximum as usize);
        }
    }
    small.expect_nothing_within_roundtrip();
}

#[test]
fn v5_mqtt_3_1_2_24_no_packet_is_larger_than_the_client_allows() {
    on_each_shard_count(|server| {
        for qos in 0..=2 {
            only_what_fits(server, qos, 100);
        }
        // Properties count as well: the same payload fits without them.
        let topic = server.unique("props");
        let mut small = Client::connect(server, connect(server, "small").property(Property::MaximumPacketSize(100)));
        small.subscribe(&topic, 0);
        let mut publisher = client(server, "pub");
        let user = Property::UserProperty("name".into(), "v".repeat(80));
        publisher.publish_packet(Publish::new(&topic, "with").property(user), 1);
        publisher.publish(&topic, "without", 1);
        small.expect_publish(&topic, "without", 0);
        // Retained ones too.
        publisher.publish_retained(&format!("{topic}/retained"), "x".repeat(200), 1);
        small.subscribe(&format!("{topic}/retained"), 0).expect_no_retained(server);
    });
}

#[test]
fn v5_mqtt_3_1_2_25_a_message_too_large_for_a_client_counts_as_delivered() {
    on_each_shard_count(|server| {
        let topic = server.unique("large");
        let resume = resuming(server, "small").property(Property::ReceiveMaximum(1));
        let small = resume.clone().property(Property::MaximumPacketSize(100));
        let mut client = Client::connect(server, small.clone());
        client.subscribe(&topic, 2);
        let mut publisher = super::kit::client(server, "pub");
        let mut other = subscriber(server, &topic, 0);
        // With a Receive Maximum of one, a message that went on waiting would hold up those behind it.
        for qos in [1, 2] {
            publisher.publish(&topic, "x".repeat(200), qos);
            publisher.publish(&topic, "fits", qos);
            client.receive(&topic, "fits", qos);
            other.expect_publish(&topic, "x".repeat(200), 0);
            other.expect_publish(&topic, "fits", 0);
        }
        client.expect_nothing_within_roundtrip();
        client.vanish_noticed();
        // Queued while it was away: what is too large at the time of sending is dropped then.
        publisher.publish(&topic, "y".repeat(200), 1).publish(&topic, "after", 1);
        let mut client = Client::connect(server, small);
        client.receive(&topic, "after", 1).expect_nothing_within_roundtrip();
        client.vanish_noticed();
        // And it is not there any more for a connection that would take it.
        let mut client = Client::connect(server, resume);
        assert!(client.session_present());
        client.expect_nothing_within_roundtrip();
    });
}

/// Messages on `topics` topics, several rounds, to a client that allows aliases up to `maximum`, if any is given.
fn aliases_stay_within(server: &Server, maximum: Option<u16>) {
    let base = server.unique("alias");
    let mut connect = connect(server, "alias");
    if let Some(maximum) = maximum {
        connect = connect.property(Property::TopicAliasMaximum(maximum));
    }
    let mut client = Client::connect(server, connect);
    client.subscribe(&format!("{base}/+"), 1);
    let mut publisher = super::kit::client(server, "pub");
    let mut known = std::collections::HashMap::new();
    for round in 0..4 {
        for number in 0..6 {
            let topic = format!("{base}/{number}");
            publisher.publish(&topic, round.to_string(), number % 2);
            let publish = take(&mut client);
            let alias = publish.properties.iter().find_map(|property| match property {
                Property::TopicAlias(alias) => Some(*alias),
                _ => None,
            });
            let came = match alias {
                None => publish.topic,
                Some(alias) => {
                    assert!((1..=maximum.unwrap_or(0)).contains(&alias), "alias {alias}, allowed {maximum:?}");
                    if !publish.topic.is_empty() {
                        known.insert(alias, publish.topic);
                    }
                    known.get(&alias).expect("an alias that was set before").clone()
                }
            };
            assert_eq!((came, publish.payload), (topic, round.to_string().into_bytes()));
        }
    }
}

#[test]
fn v5_mqtt_3_1_2_26_no_topic_alias_above_the_clients_maximum() {
    on_each_shard_count(|server| {
        for maximum in [1, 2, 6, 65_535] {
            aliases_stay_within(server, Some(maximum));
        }
    });
}

#[test]
fn v5_mqtt_3_1_2_27_no_topic_alias_for_a_client_that_allows_none() {
    on_each_shard_count(|server| {
        aliases_stay_within(server, None);
        aliases_stay_within(server, Some(0));
    });
}

fn response_information(client: &Client) -> Option<String> {
    client.connack_property(|property| match property {
        Property::ResponseInformation(text) => Some(text.clone()),
        _ => None,
    })
}

#[test]
fn v5_mqtt_3_1_2_28_response_information_only_on_request() {
    on_each_shard_count_with(&["mqtt.response_information=answers/"], |server| {
        let plain = client(server, "plain");
        assert_eq!(response_information(&plain), None);
        let not = connect(server, "not").property(Property::RequestResponseInformation(0));
        assert_eq!(response_information(&Client::connect(server, not)), None);
        let asks = connect(server, "asks").property(Property::RequestResponseInformation(1));
        let text = response_information(&Client::connect(server, asks)).expect("Response Information");
        assert!(text.starts_with("answers/"), "{text:?}");
    });
}

#[test]
fn response_information_is_not_given_unless_configured() {
    on_each_shard_count(|server| {
        let asks = connect(server, "asks").property(Property::RequestResponseInformation(1));
        assert_eq!(response_information(&Client::connect(server, asks)), None);
    });
}

/// No Reason String and no User Property may be among `properties`.
#[track_caller]
fn assert_unexplained(properties: &[Property]) {
    let explains = |property: &Property| matches!(property, Property::ReasonString(_) | Property::UserProperty(..));
    assert!(!properties.iter().any(explains), "{properties:?}");
}

#[test]
fn v5_mqtt_3_1_2_29_without_request_problem_information_packets_are_not_explained() {
    on_each_shard_count(|server| {
        let topic = server.unique("quiet");
        let connect = connect(server, "quiet").property(Property::RequestProblemInformation(0));
        let mut client = Client::connect(server, connect);
        // PUBACK and PUBREC of messages that nobody gets.
        client.send(Publish::new(&topic, "").qos(1, 1));
        assert_unexplained(&client.expect_puback(1).properties);
        client.send(Publish::new(&topic, "").qos(2, 2));
        assert_unexplained(&client.expect_pubrec(2).properties);
        // PUBREL and PUBCOMP for identifiers that are not in use; SUBACK and UNSUBACK of filters that are none.
        client.send(Packet::PubRec(Ack::new(500))).expect(Packet::PubRel(Ack::new(500).code(0x92)));
        client.send(Packet::PubRel(Ack::new(501))).expect(Packet::PubComp(Ack::new(501).code(0x92)));
        let answer = |id: u16, codes: &[u8]| SubAck { id, properties: Vec::new(), codes: codes.to_vec() };
        client.send(Subscribe::new(3, "a/#/b", 0)).expect(Packet::SubAck(answer(3, &[0x8F])));
        client.send(Unsubscribe::new(4, &topic).and("a/#/b")).expect(Packet::UnsubAck(answer(4, &[0x11, 0x8F])));
        // Messages keep the User Properties that their publishers gave them.
        client.subscribe(&topic, 0);
        let publish = Publish::new(&topic, "kept").property(Property::UserProperty("a".into(), "b".into()));
        client.send(publish.clone()).expect_like(publish);
    });
}
