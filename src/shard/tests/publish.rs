//! A client's PUBLISH: what is taken over, what is refused and with which words.

use super::kit::{Broker, Client, V5, V31, V311, durable, options, publish};
use crate::{
    mqtt::{AckKind, PayloadFormatIndicator, Publish, PublishProperties, UserProperties},
    session::{ReserveRecord, fingerprint},
    shard::tests::kit::encoded,
    store::{
        Batch, Joiner, MemoryStore, Operation, Queues, ReceivedRecord, SessionRecord, SubscriptionRecord, doubt,
        recover,
    },
};

/// A publisher and a subscriber of everything at QoS 2.
fn pair(broker: &mut Broker, version: crate::mqtt::ProtocolVersion) -> (Client, Client) {
    let publisher = broker.connect("publisher", version);
    let subscriber = broker.connect("subscriber", V5);
    broker.subscribe(subscriber, "#", 2);
    (publisher, subscriber)
}

fn aliased<'a>(qos: u8, identifier: u16, topic: &'a str, alias: u16) -> Publish<'a> {
    let properties = PublishProperties { topic_alias: Some(alias), ..PublishProperties::default() };
    Publish { properties, ..publish(qos, identifier, topic, "m") }
}

/// What is known of a topic that is published to again and again is known no longer than it is true.
#[test]
fn subscriptions_that_come_and_go_between_messages_to_one_topic_count_at_once() {
    for shards in [1, 2] {
        let mut broker = Broker::new(shards);
        let publisher = broker.connect("publisher", V5);
        let subscriber = broker.connect("subscriber", V5);
        for round in ["one", "two", "three"] {
            for filter in ["t/a", "t/+", "#", "$share/g/t/a", "$share/g/t/#"] {
                (0..3).for_each(|_| broker.publish(publisher, "t/a", "to nobody"));
                broker.subscribe(subscriber, filter, 0);
                (0..3).for_each(|_| broker.publish(publisher, "t/a", round));
                broker.publish(publisher, "t/a/b", round);
                (0..2).for_each(|_| broker.publish(publisher, "t/a", round));
                let heard = broker.take(subscriber);
                let of_topic = heard.iter().filter(|said| **said == format!("PUBLISH q0 t/a={round}"));
                assert_eq!(of_topic.count(), 5, "{filter}, {shards} shards: {heard:?}");
                assert_eq!(heard.len() - 5, usize::from(filter.ends_with('#')), "{filter}: {heard:?}");
                broker.unsubscribe(subscriber, filter);
                broker.take(subscriber);
            }
        }
    }
}

#[test]
fn each_qos_is_answered_in_its_way() {
    for version in [V5, V311, V31] {
        let mut broker = Broker::new(1);
        let (publisher, subscriber) = pair(&mut broker, version);
        broker.send(publisher, publish(0, 0, "t", "zero"));
        assert!(broker.take(publisher).is_empty());
        broker.send(publisher, publish(1, 7, "t", "one"));
        assert_eq!(broker.take(publisher), ["PUBACK 7"]);
        broker.send(publisher, publish(2, 8, "t", "two"));
        assert_eq!(broker.take(publisher), ["PUBREC 8"]);
        broker.ack(publisher, AckKind::PubRel, 8);
        assert_eq!(broker.take(publisher), ["PUBCOMP 8"]);
        assert_eq!(
            broker.take(subscriber),
            ["PUBLISH q0 t=zero", "PUBLISH q1 id=1 t=one", "PUBLISH q2 id=2 t=two"],
            "{version:?}"
        );
        assert_eq!(broker.counters(0).publishes_received, [1, 1, 1]);
        assert_eq!(broker.counters(0).deliveries, [1, 1, 1]);
        assert_eq!(broker.counters(0).publishes_unmatched, 0);
    }
}

#[test]
fn a_publish_that_nobody_wants_is_acknowledged_with_0x10_where_that_can_be_said() {
    let mut broker = Broker::new(1);
    let publisher = broker.connect("five", V5);
    broker.send(publisher, publish(1, 1, "t", "m"));
    broker.send(publisher, publish(2, 2, "t", "m"));
    assert_eq!(broker.take(publisher), ["PUBACK 1 NoMatchingSubscribers", "PUBREC 2 NoMatchingSubscribers"]);
    let publisher = broker.connect("four", V311);
    broker.send(publisher, publish(1, 1, "t", "m"));
    broker.send(publisher, publish(2, 2, "t", "m"));
    assert_eq!(broker.take(publisher), ["PUBACK 1", "PUBREC 2"]);
    assert_eq!(broker.counters(0).publishes_unmatched, 4);
}

#[test]
fn a_qos_2_publish_that_comes_again_is_answered_and_not_delivered() {
    for version in [V5, V311] {
        let mut broker = Broker::new(1);
        let (publisher, subscriber) = pair(&mut broker, version);
        broker.send(publisher, publish(2, 3, "t", "m"));
        broker.send(publisher, Publish { dup: true, ..publish(2, 3, "t", "m") });
        assert_eq!(broker.take(publisher), ["PUBREC 3", "PUBREC 3"]);
        assert_eq!(broker.take(subscriber), ["PUBLISH q2 id=1 t=m"]);
        broker.ack(publisher, AckKind::PubRel, 3);
        broker.ack(publisher, AckKind::PubRel, 3);
        let unknown = if version == V5 { "PUBCOMP 3 PacketIdentifierNotFound" } else { "PUBCOMP 3" };
        assert_eq!(broker.take(publisher), ["PUBCOMP 3", unknown]);
        broker.send(publisher, publish(2, 3, "t", "another"));
        assert_eq!(broker.take(publisher), ["PUBREC 3"]);
        assert_eq!(broker.take(subscriber), ["PUBLISH q2 id=2 t=another"]);
    }
}

#[test]
fn what_was_received_at_qos_2_is_remembered_over_a_reconnect() {
    let mut broker = Broker::new(1);
    let subscriber = broker.connect("subscriber", V5);
    broker.subscribe(subscriber, "#", 2);
    let publisher = broker.connect_as(durable(V5, "p", 100));
    broker.send(publisher, publish(2, 3, "t", "m"));
    broker.hang_up(publisher);
    let publisher = broker.ask(durable(V5, "p", 100));
    broker.take(publisher);
    broker.send(publisher, Publish { dup: true, ..publish(2, 3, "t", "m") });
    broker.ack(publisher, AckKind::PubRel, 3);
    assert_eq!(broker.take(publisher), ["PUBREC 3", "PUBCOMP 3"]);
    assert_eq!(broker.take(subscriber), ["PUBLISH q2 id=1 t=m"]);
}

#[test]
fn an_identifier_between_pubrec_and_pubrel_serves_nothing_else() {
    let mut broker = Broker::new(1);
    let (publisher, subscriber) = pair(&mut broker, V5);
    broker.send(publisher, publish(2, 3, "t", "m"));
    broker.take(publisher);
    broker.send(publisher, publish(1, 3, "t", "other"));
    assert_eq!(broker.take(publisher), ["PUBACK 3 PacketIdentifierInUse +why"]);
    assert_eq!(broker.take(subscriber), ["PUBLISH q2 id=1 t=m"]);
}

#[test]
fn an_alias_stands_for_the_topic_last_set_and_lives_with_its_connection() {
    let mut broker = Broker::new(1);
    let subscriber = broker.connect("subscriber", V5);
    broker.subscribe(subscriber, "#", 0);
    let publisher = broker.connect_as(durable(V5, "p", 100));
    broker.send(publisher, aliased(0, 0, "a", 1));
    broker.send(publisher, aliased(1, 9, "b", 64));
    broker.send(publisher, aliased(0, 0, "", 1));
    broker.send(publisher, aliased(0, 0, "", 64));
    broker.send(publisher, aliased(0, 0, "c", 1));
    broker.send(publisher, aliased(0, 0, "", 1));
    assert_eq!(broker.take(publisher), ["PUBACK 9"]);
    let topics = ["a", "b", "a", "b", "c", "c"].map(|topic| format!("PUBLISH q0 {topic}=m"));
    assert_eq!(broker.take(subscriber), topics);
    broker.hang_up(publisher);
    let publisher = broker.ask(durable(V5, "p", 100));
    broker.take(publisher);
    broker.send(publisher, aliased(0, 0, "", 1));
    assert_eq!(broker.take(publisher), ["DISCONNECT ProtocolError +why", "closed"]);
}

#[test]
fn an_alias_above_the_maximum_is_0x94() {
    for (alias, topic) in [(65, "t"), (65, "")] {
        let mut broker = Broker::new(1);
        let (publisher, subscriber) = pair(&mut broker, V5);
        broker.send(publisher, aliased(0, 0, topic, alias));
        assert_eq!(broker.take(publisher), ["DISCONNECT TopicAliasInvalid +why", "closed"]);
        assert!(broker.take(subscriber).is_empty());
        assert_eq!(broker.counters(0).protocol_errors, 1);
    }
}

#[test]
fn properties_are_passed_on_as_they_came() {
    let mut broker = Broker::new(1);
    let (publisher, subscriber) = pair(&mut broker, V5);
    let old = broker.connect("old", V311);
    broker.subscribe(old, "t", 0);
    let pairs = [("b", "2"), ("a", "1"), ("b", "2")];
    let properties = PublishProperties {
        content_type: Some("text"),
        user_properties: UserProperties::new(&pairs),
        message_expiry_interval: Some(30),
        ..PublishProperties::default()
    };
    broker.send(publisher, Publish { properties, ..publish(0, 0, "t", "m") });
    broker.send(publisher, Publish { properties, ..publish(1, 1, "t", "m") });
    assert_eq!(
        broker.take(subscriber),
        ["PUBLISH q0 t=m expiry=30 type=text b:2 a:1 b:2", "PUBLISH q1 id=1 t=m expiry=30 type=text b:2 a:1 b:2"]
    );
    assert_eq!(broker.take(old), ["PUBLISH q0 t=m", "PUBLISH q0 t=m"]);
}

#[test]
fn what_is_not_allowed_is_refused_in_the_words_of_each_version() {
    let cases: [(&str, Publish<'_>, &[&str], &[&str]); 9] = [
        ("QoS above the maximum", publish(2, 1, "t", "m"), &["DISCONNECT QoSNotSupported +why", "closed"], &["closed"]),
        (
            "RETAIN",
            Publish { retain: true, ..publish(1, 1, "t", "m") },
            &["DISCONNECT RetainNotSupported +why", "closed"],
            &["closed"],
        ),
        ("$SYS at QoS 1", publish(1, 1, "$SYS/a", "m"), &["PUBACK 1 NotAuthorized +why"], &["PUBACK 1"]),
        ("$SYS at QoS 0", publish(0, 0, "$SYS/a", "m"), &[], &[]),
        ("a long topic", publish(1, 1, "ninebytes", "m"), &["PUBACK 1 TopicNameInvalid +why"], &["closed"]),
        ("a deep topic", publish(1, 1, "a/b/c/d", "m"), &["PUBACK 1 TopicNameInvalid +why"], &["closed"]),
        ("a deep topic at QoS 0", publish(0, 0, "a/b/c/d", "m"), &[], &["closed"]),
        ("the shortest deep topic", publish(1, 1, "///", "m"), &["PUBACK 1 TopicNameInvalid +why"], &["closed"]),
        ("a topic at both limits", publish(1, 1, "a/b/eight", "m"), &["PUBACK 1 TopicNameInvalid +why"], &["closed"]),
    ];
    for (name, packet, told_v5, told_v311) in cases {
        for (version, told) in [(V5, told_v5), (V311, told_v311)] {
            let mut broker = Broker::with(1, |config| {
                config.mqtt.maximum_qos = 1;
                config.mqtt.retained_available = false;
                config.mqtt.topic_bytes_max = 8;
                config.mqtt.topic_levels_max = 3;
            });
            let publisher = broker.connect("p", version);
            let subscriber = broker.connect("s", V5);
            broker.subscribe(subscriber, "#", 0);
            broker.subscribe(subscriber, "$SYS/#", 0);
            broker.send(publisher, packet);
            assert_eq!(broker.take(publisher), told, "{name} in {version:?}");
            assert!(!broker.take(subscriber).iter().any(|told| told.ends_with("=m")), "{name} in {version:?}");
            if told.is_empty() || told[0].starts_with("PUBACK") {
                broker.send(publisher, publish(1, 2, "a/b/8888", "m"));
                assert_eq!(broker.take(publisher), ["PUBACK 2"], "{name}: the connection goes on");
                assert_eq!(broker.take(subscriber), ["PUBLISH q0 a/b/8888=m"]);
            }
        }
    }
}

#[test]
fn a_refused_qos_2_publish_leaves_its_identifier_free_in_v5_and_is_complete_in_3x() {
    let mut broker = Broker::new(1);
    let (publisher, _) = pair(&mut broker, V5);
    broker.send(publisher, publish(2, 1, "$SYS/a", "m"));
    broker.ack(publisher, AckKind::PubRel, 1);
    assert_eq!(
        broker.take(publisher),
        ["PUBREC 1 NotAuthorized +why", "PUBCOMP 1 PacketIdentifierNotFound"],
        "nothing is between PUBREC and PUBREL"
    );
    let publisher = broker.connect("four", V311);
    broker.send(publisher, publish(2, 1, "$SYS/a", "m"));
    broker.send(publisher, publish(1, 1, "t", "m"));
    broker.ack(publisher, AckKind::PubRel, 1);
    assert_eq!(broker.take(publisher), ["PUBREC 1", "PUBACK 1", "PUBCOMP 1"]);
}

#[test]
fn a_payload_that_is_said_to_be_text_is_checked_where_that_is_configured() {
    for (checks, told) in [(true, "PUBACK 1 PayloadFormatInvalid +why"), (false, "PUBACK 1")] {
        let mut broker = Broker::with(1, |config| config.mqtt.payload_format_check = checks);
        let (publisher, _) = pair(&mut broker, V5);
        let text = PublishProperties {
            payload_format_indicator: Some(PayloadFormatIndicator::Utf8),
            ..PublishProperties::default()
        };
        let bad = Publish { properties: text, payload: &[0xFF], ..publish(1, 1, "t", "") };
        broker.send(publisher, bad);
        assert_eq!(broker.take(publisher), [told]);
        broker.send(publisher, Publish { payload: "ä".as_bytes(), ..bad });
        broker.send(publisher, Publish { properties: PublishProperties::default(), ..bad });
        assert_eq!(broker.take(publisher), ["PUBACK 1", "PUBACK 1"]);
    }
}

#[test]
fn more_in_flight_than_the_receive_maximum_is_0x93() {
    let mut broker = Broker::with(1, |config| config.mqtt.receive_maximum = 2);
    let (publisher, _) = pair(&mut broker, V5);
    broker.send(publisher, publish(2, 1, "t", "m"));
    broker.send(publisher, publish(2, 2, "t", "m"));
    broker.send(publisher, Publish { dup: true, ..publish(2, 2, "t", "m") });
    broker.ack(publisher, AckKind::PubRel, 1);
    broker.send(publisher, publish(1, 3, "t", "m"));
    broker.send(publisher, publish(2, 4, "t", "m"));
    broker.send(publisher, publish(0, 0, "t", "m"));
    let told = ["PUBREC 1", "PUBREC 2", "PUBREC 2", "PUBCOMP 1", "PUBACK 3", "PUBREC 4"];
    assert_eq!(broker.take(publisher), told);
    broker.send(publisher, publish(1, 5, "t", "m"));
    assert_eq!(broker.take(publisher), ["DISCONNECT ReceiveMaximumExceeded +why", "closed"]);
    // Nobody told a 3.x client of a maximum.
    let old = broker.connect("old", V311);
    (1..=5).for_each(|identifier| broker.send(old, publish(2, identifier, "t", "m")));
    assert_eq!(broker.take(old).len(), 5);
}

#[test]
fn reasons_are_left_out_where_a_client_wants_none_or_takes_no_such_packet() {
    let mut broker = Broker::new(1);
    let mut connect = crate::mqtt::Connect::new(V5, "c");
    connect.properties.request_problem_information = false;
    let terse = broker.connect_as(connect);
    broker.send(terse, publish(1, 1, "$SYS/a", "m"));
    assert_eq!(broker.take(terse), ["PUBACK 1 NotAuthorized"]);
    connect.properties.request_problem_information = true;
    connect.properties.maximum_packet_size = std::num::NonZeroU32::new(13);
    connect.client_id = "d";
    let small = broker.connect_as(connect);
    broker.send(small, publish(1, 1, "$SYS/a", "m"));
    broker.send_bytes(small, &[0xF0, 0]);
    assert_eq!(broker.take(small), ["PUBACK 1 NotAuthorized", "DISCONNECT ProtocolError", "closed"]);
}

#[test]
fn malformed_packets_end_the_connection_and_are_counted() {
    for (bytes, reason) in [
        (&[0x36, 0][..], "MalformedPacket"),
        (&[0x32, 5, 0, 1, b't', 0, 0][..], "ProtocolError"),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F][..], "PacketTooLarge"),
        (&[0x20, 3, 0, 0, 0][..], "ProtocolError"),
    ] {
        let mut broker = Broker::new(1);
        let client = broker.connect("c", V5);
        broker.send_bytes(client, bytes);
        broker.ping(client);
        assert_eq!(broker.take(client), [format!("DISCONNECT {reason} +why"), "closed".into()], "{bytes:?}");
        assert_eq!(broker.counters(0).protocol_errors, 1);
        assert_eq!(broker.levels(), (0, 0, 0));
    }
}

#[test]
fn a_packet_that_comes_in_pieces_is_handled_once_and_whole() {
    let mut broker = Broker::new(1);
    let (publisher, subscriber) = pair(&mut broker, V5);
    let long = "x".repeat(40_000);
    let mut bytes = encoded(publish(0, 0, "t", &long), V5);
    bytes.extend(encoded(publish(0, 0, "t", "short"), V5));
    for piece in [1_000, 17_000, 39_999, bytes.len() - 3, bytes.len()] {
        bytes.chunks(piece).for_each(|part| broker.send_bytes(publisher, part));
        assert_eq!(broker.take(subscriber), ["PUBLISH q0 t=<40000 bytes>", "PUBLISH q0 t=short"], "{piece}");
    }
    let received = broker.counters(0).packets_received;
    assert_eq!(received, 11, "SUBSCRIBE and ten PUBLISHes");
    // What lies in pieces when it turns out to be malformed ends the connection as well.
    broker.send_bytes(publisher, &[0x30]);
    broker.send_bytes(publisher, &[0xFF]);
    broker.send_bytes(publisher, &[0xFF, 0xFF, 0xFF, 0xFF]);
    assert_eq!(broker.take(publisher), ["DISCONNECT MalformedPacket +why", "closed"]);
}

#[test]
fn own_publications_come_back_unless_no_local_says_otherwise() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    let other = broker.connect("o", V5);
    broker.subscribe(client, "t", 0);
    broker.subscribe(other, "t", 0);
    broker.publish(client, "t", "m");
    assert_eq!(broker.take(client), ["PUBLISH q0 t=m"]);
    broker.subscribe_with(client, "t", crate::mqtt::SubscriptionOptions { no_local: true, ..options(0) }, 0);
    broker.publish(client, "t", "m");
    assert!(broker.take(client).is_empty());
    broker.publish(other, "t", "n");
    assert_eq!(broker.take(client), ["PUBLISH q0 t=n"]);
    assert_eq!(broker.take(other).len(), 3);
}

/// A publisher that the store knows with an identifier of QoS 2 that is not released, of `t` with payload `m`, and a subscriber
/// that it knows. `starts`: how often the broker was started since the machine took what came last, if it did.
fn recovered(starts: Option<u32>) -> (Broker, Client, Client) {
    let mut joiner = Joiner::new(1, 0, Queues::default(), Vec::new());
    let session = |number, client_id: &str| {
        let client_id = client_id.into();
        Operation::Session(
            number,
            SessionRecord { client_id, expiry_interval_s: 60, offline_since_us: None, sent_below: 7 },
        )
    };
    let received = ReceivedRecord { identifier: 5, fingerprint: fingerprint("t", b"m"), is_doubted: false };
    let operations = vec![
        session(1, "publisher"),
        session(2, "subscriber"),
        Operation::Subscription(2, "t".into(), SubscriptionRecord { options: 2, identifier: 0 }),
        Operation::Received(1, received),
        Operation::Reserve(2, ReserveRecord { below: 9, ..ReserveRecord::default() }),
    ];
    let mut store = MemoryStore::default();
    joiner.take(Batch { shard: 0, number: 1, operations, parts: Vec::new() });
    joiner.commit(&mut store, true, |_, _| {}).unwrap();
    let mut kept = recover(&store, 0).unwrap();
    for start in 0..starts.unwrap_or(0) {
        kept = recover(&store, 0).unwrap();
        if start == 0 {
            doubt(&mut kept, &mut store).unwrap();
        }
    }
    let mut broker = Broker::kept(1, |_| {});
    let now = broker.now;
    for session in kept.sessions {
        broker.shards[0].restore_session(session, now);
    }
    let publisher = broker.connect_as(durable(V5, "publisher", 60));
    let subscriber = broker.ask(durable(V5, "subscriber", 60));
    assert!(broker.take(subscriber)[0].contains("Success"));
    (broker, publisher, subscriber)
}

#[test]
fn an_identifier_that_the_store_may_have_missed_the_release_of_is_free_for_a_new_message() {
    for (starts, dup, payload, is_new) in [
        (None, false, "n", false),
        (Some(1), true, "m", false),
        (Some(1), false, "m", true),
        // Its publisher sends it again, and the broker never had it.
        (Some(1), true, "n", true),
        // The broker was killed before the publisher was back.
        (Some(2), true, "m", false),
        (Some(2), false, "m", true),
        (Some(2), true, "n", true),
    ] {
        let (mut broker, publisher, subscriber) = recovered(starts);
        broker.send(publisher, Publish { dup, ..publish(2, 5, "t", payload) });
        assert_eq!(broker.take(publisher), ["PUBREC 5"]);
        assert_eq!(broker.take(subscriber).len(), usize::from(is_new), "{starts:?} {dup} {payload}");
        // From here on it is certain whose it is.
        broker.send(publisher, Publish { dup: is_new, ..publish(2, 5, "t", payload) });
        assert_eq!(broker.take(publisher), ["PUBREC 5"]);
        assert_eq!(
            broker.take(subscriber).len(),
            usize::from(!is_new && starts.is_some()),
            "{starts:?} {dup} {payload}"
        );
    }
}

#[test]
fn a_doubted_identifier_is_free_for_a_message_of_qos_1() {
    let (mut broker, publisher, subscriber) = recovered(Some(1));
    broker.send(publisher, Publish { dup: true, ..publish(1, 5, "t", "m") });
    assert_eq!((broker.take(publisher), broker.take(subscriber).len()), (vec!["PUBACK 5".to_owned()], 1));
}

#[test]
fn an_alias_stands_for_its_topic_when_messages_are_told_apart() {
    let (mut broker, publisher, subscriber) = recovered(Some(1));
    broker.send(publisher, aliased(0, 0, "t", 1));
    assert_eq!(broker.take(subscriber).len(), 1);
    broker.send(publisher, Publish { dup: true, ..aliased(2, 5, "", 1) });
    assert_eq!((broker.take(publisher), broker.take(subscriber)), (vec!["PUBREC 5".to_owned()], Vec::new()));
}

#[test]
fn identifiers_of_deliveries_that_the_store_may_have_forgotten_are_released() {
    for starts in [None, Some(1), Some(2)] {
        let (mut broker, publisher, mut subscriber) = recovered(starts);
        broker.hang_up(subscriber);
        subscriber = broker.ask(durable(V5, "subscriber", 60));
        broker.take_first(subscriber);
        // It had been sent seven messages, and two more may have followed.
        let held: Vec<String> = if starts.is_some() { vec!["PUBREL 8".into(), "PUBREL 9".into()] } else { Vec::new() };
        assert_eq!(broker.take(subscriber), held);
        broker.send(publisher, publish(2, 6, "t", "m"));
        let identifier = if starts.is_some() { 10 } else { 1 };
        assert_eq!(broker.take(subscriber), [format!("PUBLISH q2 id={identifier} t=m")]);
        broker.ack(subscriber, AckKind::PubRec, identifier);
        broker.take(subscriber);
        broker.ack(subscriber, AckKind::PubComp, identifier);
        // What it has not answered for is released again when it comes back, and what it has is not.
        for value in [9, 8] {
            broker.hang_up(subscriber);
            subscriber = broker.ask(durable(V5, "subscriber", 60));
            broker.take_first(subscriber);
            let held = held.iter().filter(|held| !(value == 8 && held.ends_with('9'))).cloned();
            assert_eq!(broker.take(subscriber), held.collect::<Vec<_>>());
            broker.ack(subscriber, AckKind::PubComp, value);
        }
        broker.hang_up(subscriber);
        broker.connect_as(durable(V5, "subscriber", 60));
    }
}
