//! What reaches a subscriber: quality of service, order, the window, the queue behind it and the out-buffer.

use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use super::kit::{Broker, Client, V5, V311, durable, identifier_of, options, publish};
use crate::{
    config::{QueueFull, SlowSubscriber},
    mqtt::{Ack, AckKind, Connect, Publish, PublishProperties, ReasonCode, SubscriptionOptions},
};

/// A publisher, and a subscriber of `t` at QoS 2 that resumes and takes `window` messages at once.
fn pair(broker: &mut Broker, window: u16) -> (Client, Client) {
    let publisher = broker.connect("publisher", V5);
    let subscriber = broker.connect_as(windowed(window));
    broker.subscribe(subscriber, "t", 2);
    (publisher, subscriber)
}

fn windowed(window: u16) -> Connect<'static> {
    let mut connect = durable(V5, "subscriber", 1000);
    connect.properties.receive_maximum = NonZeroU16::new(window);
    connect
}

fn expiring(qos: u8, payload: &str, seconds: u32) -> Publish<'_> {
    let properties = PublishProperties { message_expiry_interval: Some(seconds), ..PublishProperties::default() };
    Publish { properties, ..publish(qos, 1, "t", payload) }
}

/// Publishes these payloads at QoS 1 and looks away.
fn publish_all<'a>(broker: &mut Broker, publisher: Client, payloads: impl IntoIterator<Item = &'a str>) {
    for payload in payloads {
        broker.send(publisher, publish(1, 1, "t", payload));
        assert_eq!(broker.take(publisher), ["PUBACK 1"]);
    }
}

#[test]
fn a_delivery_has_the_lower_qos_of_publication_and_subscription() {
    for published in 0..=2 {
        for granted in 0..=2 {
            let mut broker = Broker::new(1);
            let client = broker.connect("c", V5);
            broker.subscribe(client, "t", granted);
            broker.send(client, publish(published, 1, "t", "m"));
            let id = if published.min(granted) > 0 { " id=1" } else { "" };
            assert_eq!(broker.take_first(client), format!("PUBLISH q{}{id} t=m", published.min(granted)));
        }
    }
}

#[test]
fn the_window_bounds_what_is_unacknowledged_and_each_end_of_an_exchange_makes_room() {
    let mut broker = Broker::new(1);
    let (publisher, subscriber) = pair(&mut broker, 2);
    publish_all(&mut broker, publisher, ["a", "b", "c"]);
    for payload in ["d", "e"] {
        broker.send(publisher, publish(2, 9, "t", payload));
        broker.ack(publisher, AckKind::PubRel, 9);
    }
    broker.take(publisher);
    publish_all(&mut broker, publisher, ["f"]);
    assert_eq!(broker.take(subscriber), ["PUBLISH q1 id=1 t=a", "PUBLISH q1 id=2 t=b"]);
    broker.ack(subscriber, AckKind::PubAck, 9);
    broker.ack(subscriber, AckKind::PubComp, 8);
    assert!(broker.take(subscriber).is_empty(), "not what was asked for");
    broker.ack(subscriber, AckKind::PubAck, 2);
    assert_eq!(broker.take(subscriber), ["PUBLISH q1 id=3 t=c"]);
    broker.ack(subscriber, AckKind::PubAck, 1);
    assert_eq!(broker.take(subscriber), ["PUBLISH q2 id=4 t=d"]);
    broker.ack(subscriber, AckKind::PubAck, 3);
    assert_eq!(broker.take(subscriber), ["PUBLISH q2 id=5 t=e"]);
    broker.ack(subscriber, AckKind::PubRec, 4);
    assert_eq!(broker.take(subscriber), ["PUBREL 4"], "a released message still counts");
    broker.ack(subscriber, AckKind::PubComp, 4);
    assert_eq!(broker.take(subscriber), ["PUBLISH q1 id=6 t=f"]);
    broker.send(subscriber, Ack::new(AckKind::PubRec, identifier_of(5), ReasonCode::UnspecifiedError));
    broker.ack(subscriber, AckKind::PubAck, 6);
    publish_all(&mut broker, publisher, ["g", "h", "i"]);
    assert_eq!(broker.take(subscriber), ["PUBLISH q1 id=7 t=g", "PUBLISH q1 id=8 t=h"], "refusing ends an exchange");
}

#[test]
fn a_pubrec_for_what_is_unknown_is_answered_unless_it_refuses() {
    for (version, told) in [(V5, "PUBREL 9 PacketIdentifierNotFound"), (V311, "PUBREL 9")] {
        let mut broker = Broker::new(1);
        let client = broker.connect("c", version);
        broker.ack(client, AckKind::PubRec, 9);
        assert_eq!(broker.take(client), [told]);
        broker.subscribe(client, "t", 2);
        broker.publish(client, "t", "so that there is an outbox");
        broker.ack(client, AckKind::PubRec, 9);
        broker.take(client);
        if version == V5 {
            broker.send(client, Ack::new(AckKind::PubRec, identifier_of(9), ReasonCode::UnspecifiedError));
            assert!(broker.take(client).is_empty());
        }
    }
}

#[test]
fn the_broker_has_its_own_bound_on_what_is_in_flight() {
    let mut broker = Broker::with(1, |config| config.mqtt.inflight_max = 1);
    let (publisher, subscriber) = pair(&mut broker, 2);
    publish_all(&mut broker, publisher, ["a", "b"]);
    assert_eq!(broker.take(subscriber), ["PUBLISH q1 id=1 t=a"]);
}

#[test]
fn a_session_that_is_resumed_gets_again_what_it_did_not_acknowledge_and_then_the_rest_in_order() {
    let mut broker = Broker::new(1);
    let (publisher, subscriber) = pair(&mut broker, 3);
    publish_all(&mut broker, publisher, ["a"]);
    for payload in ["b", "c"] {
        broker.send(publisher, publish(2, 9, "t", payload));
        broker.ack(publisher, AckKind::PubRel, 9);
        broker.take(publisher);
    }
    publish_all(&mut broker, publisher, ["d"]);
    broker.ack(subscriber, AckKind::PubRec, 2);
    broker.take(subscriber);
    broker.hang_up(subscriber);
    publish_all(&mut broker, publisher, ["e"]);
    broker.publish(publisher, "t", "QoS 0 is not kept");
    assert_eq!(broker.counters(0).dropped_offline, 1);
    let subscriber = broker.ask(windowed(2));
    assert!(broker.take_first(subscriber).contains("present=1"));
    assert_eq!(
        broker.take(subscriber),
        ["PUBLISH q1 id=1 dup t=a", "PUBREL 2", "PUBLISH q2 id=3 dup t=c"],
        "a PUBREL does not count against the window of two"
    );
    broker.ack(subscriber, AckKind::PubAck, 1);
    assert_eq!(broker.take(subscriber), ["PUBLISH q1 id=4 t=d"]);
    broker.ack(subscriber, AckKind::PubComp, 2);
    broker.ack(subscriber, AckKind::PubAck, 4);
    assert_eq!(broker.take(subscriber), ["PUBLISH q1 id=5 t=e"]);
}

#[test]
fn qos_0_is_kept_for_who_is_away_where_that_is_configured() {
    let mut broker = Broker::with(1, |config| config.mqtt.queue_qos0_offline = true);
    let (publisher, subscriber) = pair(&mut broker, 1);
    broker.hang_up(subscriber);
    broker.publish(publisher, "t", "zero");
    publish_all(&mut broker, publisher, ["one", "two"]);
    broker.publish(publisher, "t", "zero again");
    let subscriber = broker.ask(windowed(1));
    broker.take_first(subscriber);
    assert_eq!(broker.take(subscriber), ["PUBLISH q0 t=zero", "PUBLISH q1 id=2 t=one"]);
    broker.ack(subscriber, AckKind::PubAck, 2);
    broker.ack(subscriber, AckKind::PubAck, 3);
    assert_eq!(broker.take(subscriber), ["PUBLISH q1 id=3 t=two", "PUBLISH q0 t=zero again"]);
}

#[test]
fn a_message_expires_in_the_queue_and_never_once_it_was_sent() {
    let mut broker = Broker::new(1);
    let (publisher, subscriber) = pair(&mut broker, 1);
    broker.send(publisher, expiring(1, "sent", 10));
    broker.send(publisher, expiring(1, "queued for 10", 10));
    broker.send(publisher, expiring(1, "queued for 30", 30));
    assert_eq!(broker.take(subscriber), ["PUBLISH q1 id=1 t=sent expiry=10"]);
    broker.after(Duration::from_millis(10_500));
    broker.ack(subscriber, AckKind::PubAck, 1);
    assert_eq!(broker.take(subscriber), ["PUBLISH q1 id=3 t=queued for 30 expiry=20"], "rounded up");
    assert_eq!(broker.counters(0).dropped_expired, 1);
    broker.after_s(100);
    broker.hang_up(subscriber);
    let subscriber = broker.ask(windowed(1));
    broker.take_first(subscriber);
    assert_eq!(broker.take(subscriber), ["PUBLISH q1 id=3 dup t=queued for 30 expiry=0"]);
    assert_eq!(broker.counters(0).dropped_expired, 1);
}

#[test]
fn messages_live_no_longer_than_configured() {
    let mut broker = Broker::with(1, |config| config.mqtt.message_expiry_max = Duration::from_secs(20));
    let (publisher, subscriber) = pair(&mut broker, 9);
    publish_all(&mut broker, publisher, ["a"]);
    broker.send(publisher, expiring(1, "b", 30));
    broker.send(publisher, expiring(1, "c", 5));
    let told = ["PUBLISH q1 id=1 t=a expiry=20", "PUBLISH q1 id=2 t=b expiry=20", "PUBLISH q1 id=3 t=c expiry=5"];
    assert_eq!(broker.take(subscriber), told);
}

#[test]
fn a_client_is_never_sent_a_packet_larger_than_it_takes() {
    let mut broker = Broker::new(1);
    let (publisher, subscriber) = pair(&mut broker, 9);
    let mut small = Connect::new(V5, "small");
    small.properties.maximum_packet_size = NonZeroU32::new(20);
    let small = broker.connect_as(small);
    broker.subscribe(small, "t", 1);
    // One byte of type, one of length, three of topic, one of properties; two of identifier at QoS 1.
    for (qos, fits) in [(0, 14), (1, 12)] {
        let payload = "x".repeat(fits + 1);
        broker.send(publisher, publish(qos, 1, "t", &payload[1..]));
        assert_eq!(broker.take(small).len(), 1, "QoS {qos}");
        broker.send(publisher, publish(qos, 1, "t", &payload));
        assert!(broker.take(small).is_empty(), "QoS {qos}");
        assert_eq!(broker.take(subscriber).len(), 2);
        broker.take(publisher);
    }
    assert_eq!(broker.counters(0).dropped_too_large, 2);
    // The client that resumes may take less than the one before.
    broker.hang_up(subscriber);
    publish_all(&mut broker, publisher, ["a payload of more than twenty bytes", "short"]);
    let mut connect = windowed(9);
    connect.properties.maximum_packet_size = NonZeroU32::new(20);
    let subscriber = broker.ask(connect);
    broker.take_first(subscriber);
    let told = broker.take(subscriber);
    assert_eq!(told.last().unwrap(), "PUBLISH q1 id=4 t=short");
    assert_eq!(broker.counters(0).dropped_too_large, 5, "one for another client, one in flight, one queued");
}

#[test]
fn a_full_queue_does_what_is_configured() {
    for act in [QueueFull::DropOldest, QueueFull::DropNewest, QueueFull::Disconnect] {
        for is_away in [false, true] {
            let mut broker = Broker::with(1, |config| {
                config.mqtt.queue_messages_max = 2;
                config.mqtt.queue_full = act;
            });
            let (publisher, subscriber) = pair(&mut broker, 1);
            publish_all(&mut broker, publisher, ["sent"]);
            if is_away {
                broker.take(subscriber);
                broker.hang_up(subscriber);
            }
            publish_all(&mut broker, publisher, ["a", "b"]);
            assert_eq!(broker.counters(0).dropped_queue_full, 0);
            publish_all(&mut broker, publisher, ["c"]);
            assert_eq!(broker.counters(0).dropped_queue_full, 1, "{act:?}");
            let told = broker.take(subscriber);
            let is_gone = told.last().is_some_and(|last| last == "closed");
            assert_eq!(is_gone, act == QueueFull::Disconnect && !is_away, "{told:?}");
            if is_gone {
                assert_eq!(told[told.len() - 2], "DISCONNECT QuotaExceeded +why");
            } else if !is_away {
                broker.hang_up(subscriber);
            }
            let subscriber = broker.ask(windowed(9));
            broker.take_first(subscriber);
            let payloads: Vec<String> =
                broker.take(subscriber).iter().map(|told| told.split("t=").last().unwrap().to_owned()).collect();
            let kept = if act == QueueFull::DropOldest { ["sent", "b", "c"] } else { ["sent", "a", "b"] };
            assert_eq!(payloads, kept, "{act:?} {is_away}");
        }
    }
}

#[test]
fn a_queue_is_bounded_in_bytes_and_takes_one_message_of_any_size() {
    let mut broker = Broker::with(1, |config| config.mqtt.queue_bytes_max = 1024);
    let (publisher, subscriber) = pair(&mut broker, 1);
    let large = "l".repeat(2000);
    publish_all(&mut broker, publisher, ["sent", &large]);
    assert_eq!(broker.counters(0).dropped_queue_full, 0);
    // Each of these is charged with its topic and 128 bytes on top.
    let payload = "p".repeat(255);
    publish_all(&mut broker, publisher, [&*payload, &payload]);
    assert_eq!(broker.counters(0).dropped_queue_full, 1, "the large one");
    publish_all(&mut broker, publisher, [&*payload]);
    assert_eq!(broker.counters(0).dropped_queue_full, 1, "768 bytes are there, 256 come");
    broker.ack(subscriber, AckKind::PubAck, 1);
    broker.take(subscriber);
}

#[test]
fn a_slow_client_loses_qos_0_beyond_its_out_buffer_and_nobody_else_does() {
    let mut broker = Broker::with(1, |config| config.mqtt.out_buffer_bytes_max = 4096);
    let publisher = broker.connect("p", V5);
    let (slow, fast) = (broker.connect("s", V5), broker.connect("f", V5));
    broker.subscribe(slow, "#", 0);
    broker.subscribe(fast, "#", 0);
    broker.reads(slow, false);
    let large = "l".repeat(5000);
    broker.publish(publisher, "t", &large);
    assert_eq!(broker.take(slow).len(), 1, "one packet is always taken");
    broker.publish(publisher, "t", "m");
    assert_eq!(broker.counters(0).dropped_out_buffer_full, 1);
    assert!(broker.take(slow).is_empty());
    assert_eq!(broker.take(fast).len(), 2);
    broker.reads(slow, true);
    broker.publish(publisher, "t", "n");
    assert_eq!(broker.take(slow), ["PUBLISH q0 t=n"]);
    // What is gathered behind a send counts as well.
    broker.reads(slow, false);
    let half = "h".repeat(2000);
    (0..4).for_each(|_| broker.publish(publisher, "t", &half));
    assert_eq!(broker.counters(0).dropped_out_buffer_full, 3);
    broker.reads(slow, true);
    assert_eq!(broker.take(slow).len(), 2);
}

#[test]
fn qos_1_for_a_slow_client_waits_in_its_queue_and_follows_when_it_reads() {
    let mut broker = Broker::with(1, |config| config.mqtt.out_buffer_bytes_max = 4096);
    let (publisher, subscriber) = pair(&mut broker, 100);
    broker.reads(subscriber, false);
    let payload = "p".repeat(1500);
    publish_all(&mut broker, publisher, [&*payload; 10]);
    assert_eq!(broker.take(subscriber).len(), 1, "one send is under way");
    broker.reads(subscriber, true);
    let told = broker.take(subscriber);
    assert_eq!(told.len(), 9);
    assert!(told[8].starts_with("PUBLISH q1 id=10 "));
}

#[test]
fn a_slow_client_is_disconnected_where_that_is_configured() {
    for (act, is_gone) in [(SlowSubscriber::Queue, false), (SlowSubscriber::Disconnect, true)] {
        let mut broker = Broker::with(1, |config| {
            config.mqtt.out_buffer_bytes_max = 4096;
            config.mqtt.slow_subscriber = act;
        });
        let (publisher, subscriber) = pair(&mut broker, 100);
        broker.reads(subscriber, false);
        let payload = "p".repeat(4096);
        publish_all(&mut broker, publisher, [&*payload]);
        assert_eq!(broker.take(subscriber).len(), 1, "an empty out-buffer is not full");
        publish_all(&mut broker, publisher, ["m"]);
        let told = broker.take(subscriber);
        assert_eq!(told.contains(&"DISCONNECT QuotaExceeded +why".to_owned()), is_gone, "{told:?}");
        let subscriber = broker.ask(windowed(9));
        broker.take_first(subscriber);
        assert_eq!(broker.take(subscriber).len(), 2, "nothing is lost");
    }
}

#[test]
fn a_payload_is_the_same_whether_copied_or_shared() {
    let mut broker = Broker::new(1);
    let publisher = broker.connect("p", V5);
    let names = ["a", "b", "c"];
    let subscribers = names.map(|name| broker.connect(name, if name == "a" { V311 } else { V5 }));
    for (index, &subscriber) in subscribers.iter().enumerate() {
        broker.subscribe_with(subscriber, "#", options(1), if index == 2 { 5 } else { 0 });
    }
    for length in [4095, 4096, 70_000] {
        let payload = "p".repeat(length);
        for qos in [0, 1] {
            broker.send(publisher, publish(qos, 1, "t", &payload));
            for (index, &subscriber) in subscribers.iter().enumerate() {
                let told = broker.take(subscriber);
                assert_eq!(told.len(), 1);
                assert!(told[0].contains(&format!("t=<{length} bytes>")), "{told:?}");
                assert_eq!(told[0].ends_with("ids=[5]"), index == 2);
            }
        }
    }
}

#[test]
fn alike_subscribers_get_the_same_frame_and_others_their_own() {
    let mut broker = Broker::new(1);
    let publisher = broker.connect("p", V5);
    let plain: Vec<Client> = (0..3).map(|number| broker.connect(&format!("plain{number}"), V5)).collect();
    let keeping: Vec<Client> = (0..2).map(|number| broker.connect(&format!("keep{number}"), V5)).collect();
    let old: Vec<Client> = (0..2).map(|number| broker.connect(&format!("old{number}"), V311)).collect();
    for &client in plain.iter().chain(&old) {
        broker.subscribe(client, "t", 0);
    }
    for &client in &keeping {
        broker.subscribe_with(client, "t", SubscriptionOptions { retain_as_published: true, ..options(0) }, 0);
    }
    for round in ["first", "second"] {
        broker.send(publisher, Publish { retain: true, ..expiring(0, round, 60) });
        for (clients, flag, expiry) in [(&plain, "", " expiry=60"), (&keeping, " retain", " expiry=60"), (&old, "", "")]
        {
            for &client in clients {
                assert_eq!(broker.take(client), [format!("PUBLISH q0{flag} t={round}{expiry}")]);
            }
        }
    }
}

#[test]
fn messages_of_one_publisher_keep_their_order_over_every_topic() {
    let mut broker = Broker::new(1);
    let publisher = broker.connect("p", V5);
    let subscriber = broker.connect("s", V5);
    broker.subscribe(subscriber, "#", 1);
    for number in 0..50 {
        broker.send(publisher, publish(1, number + 1, &format!("t/{}", number % 3), &number.to_string()));
    }
    let acks: Vec<String> = (1..=50).map(|number| format!("PUBACK {number}")).collect();
    assert_eq!(broker.take(publisher), acks);
    let expected: Vec<String> =
        (0..50).map(|number| format!("PUBLISH q1 id={} t/{}={number}", number + 1, number % 3)).collect();
    assert_eq!(broker.take(subscriber), expected);
}

#[test]
fn a_client_that_says_nothing_or_only_pingreq_keeps_no_empty_outbox() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    broker.subscribe(client, "t", 1);
    broker.send(client, publish(1, 1, "t", "m"));
    broker.send(client, publish(2, 2, "t", "n"));
    assert_eq!(broker.take(client).len(), 4);
    let holds = |broker: &Broker| {
        let clients = broker.shards[0].clients();
        let session = clients.find("c").and_then(|session| clients.sessions.at(session)).expect("a session");
        (session.outbox.is_some(), session.received.is_some())
    };
    broker.after_s(10);
    assert_eq!(holds(&broker), (true, true), "neither is empty");
    broker.ack(client, AckKind::PubAck, 1);
    broker.ack(client, AckKind::PubAck, 2);
    broker.ack(client, AckKind::PubRel, 2);
    assert_eq!(broker.take(client), ["PUBCOMP 2"]);
    broker.after_s(1);
    assert_eq!(holds(&broker), (true, true), "it may go on");
    // One PINGREQ puts it off.
    broker.ping(client);
    assert_eq!(broker.take(client), ["PINGRESP"]);
    broker.after_s(5);
    assert_eq!(holds(&broker), (false, false));
}

#[test]
fn topics_are_sent_by_alias_to_who_allows_it() {
    let mut broker = Broker::new(1);
    let mut connect = durable(V5, "takes", 100);
    connect.properties.topic_alias_maximum = 2;
    let takes = broker.connect_as(connect);
    broker.subscribe(takes, "sensors/#", 1);
    let plain = broker.connect("plain", V5);
    broker.subscribe(plain, "sensors/#", 1);
    let publisher = broker.connect("p", V5);
    for (number, qos, topic) in [(0, 0, "a"), (1, 1, "a"), (2, 0, "b"), (3, 0, "c"), (4, 1, "b")] {
        broker.send(publisher, publish(qos, u16::from(qos), &format!("sensors/{topic}"), &number.to_string()));
    }
    let expected = [
        "PUBLISH q0 sensors/a=0 alias=1",
        "PUBLISH q1 id=1 =1 alias=1",
        "PUBLISH q0 sensors/b=2 alias=2",
        "PUBLISH q0 sensors/c=3",
        "PUBLISH q1 id=2 =4 alias=2",
    ];
    assert_eq!(broker.take(takes), expected);
    assert!(broker.take(plain).iter().all(|line| line.contains(" sensors/") && !line.contains("alias")));
    // Aliases end with their connection, and what is sent again sets them anew [v5 MQTT-3.3.2-7].
    broker.hang_up(takes);
    assert!(broker.shards[0].clients().sent_aliases.is_empty());
    connect.properties.topic_alias_maximum = 1;
    let again = broker.ask(connect);
    let expected = ["PUBLISH q1 id=1 dup sensors/a=1 alias=1", "PUBLISH q1 id=2 dup sensors/b=4"];
    assert_eq!(broker.take(again)[1..], expected);
}

#[test]
fn an_alias_never_makes_a_packet_too_large_for_its_client() {
    let mut broker = Broker::new(1);
    for qos in [0, 1] {
        let mut seen = Vec::new();
        // The packet takes 28 bytes without an alias, 30 with an identifier.
        let len = 28 + if qos == 0 { 0 } else { 2 };
        for maximum in len - 1..len + 7 {
            let mut connect = Connect::new(V5, "limited");
            connect.properties.topic_alias_maximum = 9;
            connect.properties.maximum_packet_size = std::num::NonZeroU32::new(maximum);
            let limited = broker.connect_as(connect);
            broker.subscribe(limited, "sensors/1", qos);
            let publisher = broker.connect("p", V5);
            broker.send(publisher, publish(qos, u16::from(qos), "sensors/1", "0123456789abcd"));
            let told = broker.take(limited);
            seen.push((told.len(), told.iter().any(|line| line.contains("alias=1"))));
        }
        assert_eq!(seen[0], (0, false), "QoS {qos}");
        assert_eq!(seen[1..6], [(1, false); 5], "QoS {qos}");
        assert_eq!(seen[6..], [(1, true); 2], "QoS {qos}");
    }
}

#[test]
fn what_is_acknowledged_in_the_wrong_words_ends_the_connection_and_stays_in_flight() {
    for (qos, kind) in [(1, AckKind::PubComp), (1, AckKind::PubRec), (2, AckKind::PubAck), (2, AckKind::PubComp)] {
        for version in [V311, V5] {
            let mut broker = Broker::new(1);
            let client = broker.connect_as(durable(version, "c", 100));
            broker.subscribe(client, "t", qos);
            broker.send(client, publish(2, 7, "t", "m"));
            broker.ack(client, AckKind::PubRel, 7);
            broker.take(client);
            broker.ack(client, kind, 9);
            let told = broker.take(client);
            assert!(told.iter().all(|line| line.starts_with("PUBREL 9")), "not in flight, so no error: {told:?}");
            broker.ack(client, kind, 1);
            let told = broker.take(client);
            let reason = if version == V5 { vec!["DISCONNECT ProtocolError +why", "closed"] } else { vec!["closed"] };
            assert_eq!(told, reason, "QoS {qos}, {kind:?}");
            let again = broker.ask(durable(version, "c", 100));
            assert_eq!(broker.take(again)[1], format!("PUBLISH q{qos} id=1 dup t=m"));
        }
    }
}

#[test]
fn deliveries_wait_for_more_where_that_is_configured() {
    let mut broker = Broker::with(1, |config| config.runtime.delivery_delay_us = 500);
    let publisher = broker.connect("publisher", V5);
    let subscriber = broker.connect("subscriber", V5);
    broker.subscribe(subscriber, "t", 1);
    broker.send(publisher, publish(1, 1, "t", "first"));
    assert_eq!(broker.take(publisher), ["PUBACK 1"], "who publishes does not wait");
    broker.after(Duration::from_micros(300));
    broker.publish(publisher, "t", "second");
    assert!(broker.take(subscriber).is_empty());
    broker.after(Duration::from_micros(199));
    assert!(broker.take(subscriber).is_empty());
    // Half a millisecond after the first one, both.
    broker.after(Duration::from_micros(1));
    assert_eq!(broker.take(subscriber), ["PUBLISH q1 id=1 t=first", "PUBLISH q0 t=second"]);
}

#[test]
fn what_is_no_delivery_leaves_at_once_and_takes_them_along() {
    let mut broker = Broker::with(1, |config| config.runtime.delivery_delay_us = 500);
    let client = broker.connect("c", V5);
    broker.subscribe(client, "t", 0);
    let publisher = broker.connect("publisher", V5);
    broker.publish(publisher, "t", "m");
    broker.ping(client);
    assert_eq!(broker.take(client), ["PUBLISH q0 t=m", "PINGRESP"]);
    // Large ones do not wait: they fill a send of their own.
    broker.publish(publisher, "t", &"x".repeat(20_000));
    broker.publish(publisher, "t", "after it");
    assert_eq!(broker.take(client).len(), 2);
    // Whoever leaves meanwhile is not sent to, nor is who comes in its place.
    broker.publish(publisher, "t", "too late");
    broker.hang_up(client);
    let other = broker.connect("other", V5);
    broker.after(Duration::from_millis(1));
    assert!(broker.take(other).is_empty());
}

#[test]
fn what_is_no_delivery_follows_the_send_under_way_at_once() {
    let mut broker = Broker::with(1, |config| config.runtime.delivery_delay_us = 500);
    let publisher = broker.connect("publisher", V5);
    let client = broker.connect("c", V5);
    broker.subscribe(client, "t", 0);
    broker.reads(client, false);
    broker.publish(publisher, "t", "under way");
    broker.after(Duration::from_micros(500));
    assert_eq!(broker.take(client), ["PUBLISH q0 t=under way"]);
    broker.publish(publisher, "t", "behind");
    broker.ping(client);
    assert!(broker.take(client).is_empty());
    broker.reads(client, true);
    assert_eq!(broker.take(client), ["PUBLISH q0 t=behind", "PINGRESP"]);
}

#[test]
fn a_delivery_behind_a_send_waits_no_longer_than_configured() {
    let mut broker = Broker::with(1, |config| config.runtime.delivery_delay_us = 500);
    let publisher = broker.connect("publisher", V5);
    let client = broker.connect("c", V5);
    broker.subscribe(client, "t", 0);
    broker.reads(client, false);
    for (payload, told) in [("under way", 1), ("behind", 0)] {
        broker.publish(publisher, "t", payload);
        broker.after(Duration::from_micros(500));
        assert_eq!(broker.take(client).len(), told);
    }
    broker.reads(client, true);
    assert_eq!(broker.take(client), ["PUBLISH q0 t=behind"], "it has waited");
    broker.reads(client, false);
    broker.ping(client);
    broker.publish(publisher, "t", "new");
    broker.reads(client, true);
    assert_eq!(broker.take(client), ["PINGRESP"], "a delivery alone does not follow at once");
    broker.after(Duration::from_micros(500));
    assert_eq!(broker.take(client), ["PUBLISH q0 t=new"]);
}
