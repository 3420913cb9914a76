//! Limits of the configuration: what happens when each of them is reached.
//!
//! Limits of packets, ClientIds, topics, filters, aliases, KeepAlive and Receive Maximum are tested where the
//! specification speaks of what they limit.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::kit::*;
use crate::client::{Client, PATIENCE};
use crate::property::Property;
use crate::server::{Server, on_each_shard_count_with};
use crate::wire::{Connect, Packet, Publish, Version, Will};

/// Publishes at QoS 1 and returns the reason of the PUBACK, whatever it is.
fn publish_code(client: &mut Client, publish: Publish) -> u8 {
    let id = client.next_id();
    client.send(publish.qos(1, id));
    client.expect_puback(id).code
}

/// A session that is away and subscribes to the topic that is returned.
fn away(server: &Server) -> (Connect, String) {
    let topic = server.unique("away");
    let resume = resuming(server, "away");
    let mut client = Client::connect(server, resume.clone());
    client.subscribe(&topic, 1);
    client.disconnect();
    (resume, topic)
}

/// The payloads that come before the answer to a PINGREQ.
fn until_ping(client: &mut Client) -> Vec<String> {
    client.send(Packet::PingReq);
    let mut came = Vec::new();
    loop {
        match client.next() {
            Packet::PingResp => return came,
            Packet::Publish(publish) => {
                client.acknowledge(&publish);
                came.push(String::from_utf8(publish.payload).unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What a queue of five holds of eight messages.
fn queue_of_five_keeps(policy: &str, kept: std::ops::Range<usize>) {
    let policy = format!("mqtt.queue_full={policy}");
    on_each_shard_count_with(&["mqtt.queue_messages_max=5", &policy], |server| {
        let (resume, topic) = away(server);
        let mut publisher = client(server, "pub");
        for number in 0..8 {
            publish_code(&mut publisher, Publish::new(&topic, number.to_string()));
        }
        let mut back = Client::connect(server, resume);
        assert_eq!(until_ping(&mut back), numbers(kept.clone()));
        // The queue is empty again, and has room.
        back.vanish_noticed();
    });
}

#[test]
fn a_full_queue_drops_the_oldest_by_default() {
    queue_of_five_keeps("drop-oldest", 3..8);
    on_each_shard_count_with(&["mqtt.queue_messages_max=5"], |server| {
        let (resume, topic) = away(server);
        let mut publisher = client(server, "pub");
        for number in 0..20 {
            publish_code(&mut publisher, Publish::new(&topic, number.to_string()));
        }
        assert_eq!(until_ping(&mut Client::connect(server, resume)), numbers(15..20));
    });
}

#[test]
fn a_full_queue_drops_the_newest_where_configured() {
    queue_of_five_keeps("drop-newest", 0..5);
}

#[test]
fn a_full_queue_disconnects_where_configured() {
    queue_of_five_keeps("disconnect", 0..5);
    on_each_shard_count_with(&["mqtt.queue_messages_max=5", "mqtt.queue_full=disconnect"], |server| {
        // A client that is there but does not acknowledge.
        let topic = server.unique("stuck");
        let mut stuck = Client::connect(server, connect(server, "stuck").property(Property::ReceiveMaximum(1)));
        stuck.subscribe(&topic, 1);
        let mut publisher = client(server, "pub");
        for number in 0..20 {
            publish_code(&mut publisher, Publish::new(&topic, number.to_string()));
        }
        stuck.expect_publish(&topic, "0", 1);
        stuck.expect_disconnect(0x97);
        publisher.expect_nothing_within_roundtrip();
    });
}

#[test]
fn queued_bytes_are_limited() {
    on_each_shard_count_with(&["mqtt.queue_bytes_max=4KiB"], |server| {
        let (resume, topic) = away(server);
        let mut publisher = client(server, "pub");
        for number in 0..30 {
            publish_code(&mut publisher, Publish::new(&topic, format!("{number:0500}")));
        }
        let came = until_ping(&mut Client::connect(server, resume));
        let bytes: usize = came.iter().map(|payload| payload.len() + topic.len()).sum();
        assert!(bytes <= 4096 && came.len() >= 5, "{} messages, {bytes} bytes", came.len());
        // The newest, in order.
        let wanted: Vec<String> = (30 - came.len()..30).map(|number| format!("{number:0500}")).collect();
        assert_eq!(came, wanted);
    });
}

#[test]
fn messages_in_flight_to_a_client_are_limited() {
    on_each_shard_count_with(&["mqtt.inflight_max=4"], |server| {
        for asked in [None, Some(65_535), Some(2)] {
            let topic = server.unique("flight");
            let mut connect = connect(server, "sub");
            connect.properties.extend(asked.map(Property::ReceiveMaximum));
            let mut client = Client::connect(server, connect);
            client.subscribe(&topic, 1);
            let mut publisher = super::kit::client(server, "pub");
            for number in 0..10 {
                publisher.publish(&topic, number.to_string(), 1);
            }
            let limit = asked.unwrap_or(4).min(4);
            let open: Vec<Publish> = (0..limit).map(|_| client.expect_any_publish()).collect();
            client.expect_nothing_within_roundtrip();
            client.acknowledge(&open[0]);
            client.expect_publish(&topic, limit.to_string(), 1);
            client.expect_nothing_within_roundtrip();
        }
    });
}

/// Publishes 40 retained messages of 100 bytes; those that are not answered with 0x97 must be there. How many are they?
fn retained(server: &Server) -> usize {
    let base = server.unique("ret");
    let filter = format!("{base}/+");
    let mut publisher = client(server, "pub");
    let mut live = subscriber(server, &filter, 0);
    let mut stored = 0;
    for number in 0..40 {
        let topic = format!("{base}/{number:02}");
        match publish_code(&mut publisher, Publish::new(&topic, "r".repeat(100)).retain()) {
            0x00 => stored += 1,
            0x97 => {}
            other => panic!("PUBACK with {other:#x}"),
        }
        // Retained or not, it is delivered.
        live.expect_publish(&topic, "r".repeat(100), 0);
    }
    let found = retained_topics(server, &filter, stored);
    // What is there can be replaced and cleared, and clearing makes room.
    for topic in &found {
        assert_eq!(publish_code(&mut publisher, Publish::new(topic, "s".repeat(100)).retain()), 0x00);
    }
    assert_eq!(retained_topics(server, &filter, found.len()), found);
    for topic in &found {
        publish_code(&mut publisher, Publish::new(topic, "").retain());
    }
    retained_topics(server, &filter, 0);
    publish_code(&mut publisher, Publish::new(&format!("{base}/room"), "room").retain());
    retained_topics(server, &filter, 1);
    publish_code(&mut publisher, Publish::new(&format!("{base}/room"), "").retain());
    stored
}

/// The topics of the `count` retained messages that `filter` matches; more would have to come before PINGRESPs.
fn retained_topics(server: &Server, filter: &str, count: usize) -> Vec<String> {
    let mut client = subscriber(server, filter, 0);
    let mut topics = BTreeSet::new();
    let mut pings = 0;
    while topics.len() < count || pings < 3 {
        if topics.len() == count {
            client.send(Packet::PingReq);
        }
        match client.next() {
            Packet::Publish(publish) => drop(topics.insert(publish.topic)),
            Packet::PingResp => pings += 1,
            other => panic!("{other:?}"),
        }
        assert!(topics.len() <= count, "more than {count} retained messages: {topics:?}");
    }
    topics.into_iter().collect()
}

#[test]
fn retained_messages_are_limited_in_number() {
    on_each_shard_count_with(&["mqtt.retained_messages_max=8", "sys.enabled=false"], |server| {
        assert_eq!(retained(server), 8);
    });
}

#[test]
fn retained_messages_are_limited_in_bytes() {
    on_each_shard_count_with(&["mqtt.retained_bytes_max=1KiB", "sys.enabled=false"], |server| {
        let stored = retained(server);
        assert!((3..=10).contains(&stored), "{stored} messages of more than 100 bytes where 1 KiB is allowed");
    });
}

/// Opens `count` connections that send nothing, and counts how many of them stay open.
fn silent_connections(server: &Server, count: usize) -> (Vec<Client>, usize) {
    let mut open: Vec<Client> = (0..count).map(|_| Client::dial(server, Version::V5)).collect();
    let closed = open.iter_mut().filter_map(|client| {
        // A CONNECT tells them apart: one that was refused a place is closed without an answer.
        client.send(connect(server, "fill"));
        client.next_or_closed().is_none().then_some(())
    });
    let closed = closed.count();
    (open, closed)
}

#[test]
fn connections_are_limited() {
    on_each_shard_count_with(&["runtime.connections_max=5"], |server| {
        let (open, closed) = silent_connections(server, 20);
        assert!((15..20).contains(&closed), "{closed} of 20 closed where 5 may stay");
        // A place becomes free when one leaves.
        drop(open);
        let begin = Instant::now();
        loop {
            let mut client = Client::dial(server, Version::V5);
            client.send(connect(server, "again"));
            if let Some(packet) = client.next_or_closed() {
                assert!(matches!(packet, Packet::ConnAck(connack) if connack.code == 0));
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "no place becomes free");
        }
    });
}

#[test]
fn connections_without_connect_are_limited_and_time_out() {
    on_each_shard_count_with(&["runtime.pending_connects_max=4", "runtime.connect_timeout=500ms"], |server| {
        let begin = Instant::now();
        let mut pending: Vec<Client> = (0..20).map(|_| Client::dial(server, Version::V5)).collect();
        for (number, client) in pending.iter_mut().enumerate() {
            if number % 2 == 0 {
                // Half a CONNECT is none.
                client.send_raw(&[0x10, 30, 0, 4, b'M']);
            }
        }
        let closed_after: Vec<Duration> = pending
            .iter_mut()
            .map(|client| {
                assert_eq!(client.next_or_closed(), None);
                begin.elapsed()
            })
            .collect();
        let last = closed_after.iter().max().unwrap();
        assert!(*last >= Duration::from_millis(500) && *last < Duration::from_secs(6), "{closed_after:?}");
        // Those that have connected don't count, and stay.
        let mut clients: Vec<Client> = (0..8).map(|_| client(server, "stays")).collect();
        let_pass(server, 2);
        for client in &mut clients {
            client.expect_nothing_within_roundtrip();
        }
    });
}

#[test]
fn sessions_are_limited() {
    on_each_shard_count_with(&["mqtt.sessions_max=8"], |server| {
        let mut kept = Vec::new();
        let mut refusals = 0;
        for _ in 0..30 {
            let resume = resuming(server, "session");
            let mut client = Client::dial(server, Version::V5);
            client.send(resume.clone());
            match client.next() {
                Packet::ConnAck(connack) if connack.code == 0 => {
                    client.disconnect();
                    kept.push(resume);
                }
                Packet::ConnAck(connack) if connack.code == 0x97 => {
                    client.expect_closed();
                    refusals += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!((1..=8).contains(&kept.len()) && refusals == 30 - kept.len(), "{} sessions", kept.len());
        // Those that exist can be resumed, and one that ends makes room for another in its place.
        for resume in &kept {
            assert!(Client::connect(server, resume.clone()).session_present());
        }
    });
}

/// Publishes `count` messages of 16 KiB to a client that does not read.
fn flood(server: &Server, qos: u8, count: usize) -> (Client, Client, String) {
    let topic = server.unique("slow");
    let slow = subscriber(server, &topic, qos);
    let mut publisher = client(server, "pub");
    for number in 0..count {
        publisher.publish(&topic, format!("{number:016384}"), qos);
    }
    // The publisher is served all the same, and so are others.
    publisher.expect_nothing_within_roundtrip();
    let other = server.unique("other");
    let mut quick = subscriber(server, &other, 0);
    publisher.publish(&other, "x", 0);
    quick.expect_publish(&other, "x", 0);
    (slow, publisher, topic)
}

fn number_of(publish: &Publish) -> usize {
    std::str::from_utf8(&publish.payload).unwrap().parse().unwrap()
}

#[test]
fn qos_0_for_a_slow_subscriber_is_dropped() {
    on_each_shard_count_with(&["mqtt.out_buffer_bytes_max=64KiB"], |server| {
        let count = 4000;
        let (mut slow, mut publisher, topic) = flood(server, 0, count);
        // What comes is in order, whole, and less than all; and then the connection is as good as before.
        slow.send(Packet::PingReq);
        let mut came: Vec<usize> = Vec::new();
        loop {
            match slow.next() {
                Packet::Publish(publish) => came.push(number_of(&publish)),
                Packet::PingResp => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(came.is_sorted_by(|one, next| one < next), "out of order or twice");
        assert!(!came.is_empty() && came.len() < count, "{} of {count} came", came.len());
        publisher.publish(&topic, "0", 0);
        slow.expect_publish(&topic, "0", 0);
    });
}

#[test]
fn qos_1_for_a_slow_subscriber_is_queued() {
    on_each_shard_count_with(&["mqtt.out_buffer_bytes_max=64KiB"], |server| {
        let count = 900;
        let (mut slow, _, _) = flood(server, 1, count);
        for number in 0..count {
            assert_eq!(number_of(&take(&mut slow)), number);
        }
        slow.expect_nothing_within_roundtrip();
    });
}

#[test]
fn qos_1_for_a_slow_subscriber_disconnects_it_where_configured() {
    let settings = ["mqtt.out_buffer_bytes_max=64KiB", "mqtt.slow_subscriber=disconnect", "mqtt.inflight_max=65535"];
    on_each_shard_count_with(&settings, |server| {
        let (mut slow, _, _) = flood(server, 1, 2000);
        let mut next = 0;
        loop {
            match slow.next_or_closed() {
                Some(Packet::Publish(publish)) => {
                    assert_eq!(number_of(&publish), next);
                    next += 1;
                }
                Some(Packet::Disconnect(disconnect)) => {
                    assert_eq!(disconnect.code, 0x97);
                    slow.expect_closed();
                    break;
                }
                // A peer that does not read in time is reset, and what it has not read is lost with the reason.
                None => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(next < 2000, "all came");
    });
}

#[test]
fn the_life_of_messages_is_cut_to_the_configured_maximum() {
    on_each_shard_count_with(&["mqtt.message_expiry_max=1s"], |server| {
        let (resume, topic) = away(server);
        let mut publisher = client(server, "pub");
        publisher.publish_retained(&topic, "without expiry", 1);
        publisher.publish_packet(Publish::new(&topic, "long").property(Property::MessageExpiryInterval(1000)), 1);
        let_pass(server, 3);
        Client::connect(server, resume).expect_nothing_within_roundtrip();
        subscriber(server, &topic, 1).expect_nothing_within_roundtrip();
    });
}

#[test]
fn a_will_topic_beyond_the_limits_is_refused() {
    on_each_shard_count_with(&["mqtt.topic_bytes_max=50", "mqtt.topic_levels_max=3"], |server| {
        for topic in ["x".repeat(51), "a/b/c/d".to_owned()] {
            let will = Packet::from(connect(server, "will").will(Will::new(&topic, ""))).encode(Version::V5);
            refused(server, &will, &[0x90]);
        }
        Client::connect(server, connect(server, "will").will(Will::new("a/b/c", ""))).disconnect();
    });
}
