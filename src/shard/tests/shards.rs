//! What two shards say to each other, and that no order of it loses anything.

use super::kit::{Broker, V5, V311, publish};
use crate::{
    message::Stamp,
    mqtt::{Publish, TopicFilter},
    shard::{
        RANK_DELIVERY, RANK_HOME,
        exchange::{MeshMessage, Taken},
    },
    time::Moment,
};

#[test]
fn a_message_reaches_the_subscribers_of_every_shard_once() {
    let mut broker = Broker::new(4);
    let clients: Vec<_> = (0..4)
        .map(|shard| {
            let name = broker.client_id_at(shard, "c");
            broker.connect(&name, V5)
        })
        .collect();
    for (index, filter) in ["a/b", "a/+", "#", "a/b"].into_iter().enumerate() {
        broker.subscribe(clients[index], filter, 2);
    }
    for (index, &client) in clients.iter().enumerate() {
        broker.send(client, publish(1, 7, "a/b", "m"));
        for &other in &clients {
            let mut told = broker.take(other);
            told.retain(|line| line != "PUBACK 7");
            assert_eq!(told, [format!("PUBLISH q1 id={} a/b=m", index + 1)]);
        }
    }
    broker.publish(clients[0], "x", "m");
    let told: Vec<usize> = clients.iter().map(|&client| broker.take(client).len()).collect();
    assert_eq!(told, [0, 0, 1, 0]);
}

#[test]
fn only_interested_shards_are_asked() {
    let mut broker = Broker::new(2);
    let (near, far) = (broker.client_id_at(0, "near"), broker.client_id_at(1, "far"));
    let publisher = broker.connect(&near, V5);
    let subscriber = broker.connect(&far, V5);
    broker.subscribe(subscriber, "a/+", 0);
    let before = broker.counters(1).mesh_received;
    broker.send(publisher, publish(1, 1, "b", "m"));
    assert_eq!(broker.take(publisher), ["PUBACK 1 NoMatchingSubscribers"]);
    assert_eq!(broker.counters(1).mesh_received, before);
    broker.send(publisher, publish(0, 1, "a/1", "m"));
    assert_eq!(broker.counters(1).mesh_received, before + 1);
    assert_eq!(broker.counters(0).publishes_unmatched, 1);
    // One that nobody waits for is not reported on; others are, once a turn.
    let reports = broker.counters(0).mesh_received;
    broker.publish(publisher, "a/1", "m");
    assert_eq!(broker.counters(0).mesh_received, reports);
    broker.write(publisher, publish(1, 1, "a/1", "m"));
    broker.write(publisher, publish(1, 2, "a/1", "m"));
    broker.settle();
    assert_eq!(broker.counters(0).mesh_received, reports + 1);
    assert_eq!(broker.take(publisher), ["PUBACK 1", "PUBACK 2"]);
}

#[test]
fn a_large_fan_out_keeps_its_shard_from_taking_more_of_that_source_and_from_no_other() {
    let mut broker = Broker::new(3);
    let names: Vec<String> =
        (0..9000).map(|n| format!("crowd{n}")).filter(|name| broker.home_of_client(name) == 1).take(1100).collect();
    for name in &names {
        let client = broker.connect(name, V311);
        broker.subscribe(client, "t", 0);
    }
    let watcher = broker.connect(&broker.client_id_at(1, "watcher"), V5);
    broker.subscribe(watcher, "#", 0);
    let [first, second] = [0, 2].map(|shard| {
        let name = broker.client_id_at(shard, "p");
        broker.connect(&name, V5)
    });
    broker.write(first, publish(1, 1, "t", "large"));
    broker.write(first, publish(1, 2, "u", "behind it"));
    broker.turn(0);
    broker.turn(1);
    assert!(broker.shards[1].leaves_in_mesh(0, RANK_DELIVERY));
    assert!(!broker.shards[1].leaves_in_mesh(2, RANK_DELIVERY));
    assert!(!broker.shards[1].leaves_in_mesh(0, RANK_HOME));
    assert!(broker.take(first).is_empty());
    broker.write(second, publish(1, 1, "u", "from elsewhere"));
    broker.turn(2);
    broker.settle();
    assert_eq!(broker.take(first), ["PUBACK 1", "PUBACK 2"]);
    assert_eq!(broker.take(second), ["PUBACK 1"]);
    let told = broker.take(watcher);
    let place = |text: &str| told.iter().position(|line| line.ends_with(text)).expect(text);
    assert!(place("t=large") < place("u=behind it"));
    assert_eq!(told.len(), 3);
    assert_eq!(broker.counters(1).fan_out_jobs, 1);
}

#[test]
fn small_messages_travel_together_and_keep_their_order_among_large_ones() {
    let mut broker = Broker::new(2);
    let (near, far) = (broker.client_id_at(0, "near"), broker.client_id_at(1, "far"));
    let (publisher, subscriber) = (broker.connect(&near, V5), broker.connect(&far, V5));
    broker.subscribe(subscriber, "t/#", 1);
    let received = broker.counters(1).mesh_received;
    let payload = |n: u8| if n % 50 == 49 { "x".repeat(3000) } else { n.to_string() };
    let payloads: Vec<String> = (0..200).map(payload).collect();
    for (number, payload) in (0..).zip(&payloads) {
        broker.write(publisher, publish(number % 2, u16::from(number), &format!("t/{number}"), payload));
    }
    broker.turn(0);
    // Three of 49 between the large ones, which go alone.
    let sent = broker.in_mesh(1, 0, RANK_DELIVERY);
    assert_eq!(sent.iter().map(|message| message.count()).collect::<Vec<_>>(), [49, 1, 49, 1, 49, 1, 49, 1]);
    assert!(sent.iter().all(|message| message.rank() == RANK_DELIVERY));
    broker.settle();
    assert_eq!(broker.counters(1).mesh_received - received, 200);
    let told = broker.take(subscriber);
    assert_eq!(told.len(), payloads.len());
    for (number, line) in told.iter().enumerate() {
        assert!(line.contains(&format!(" t/{number}=")), "{line} in place {number}");
    }
    let acknowledged = broker.take(publisher);
    assert_eq!(acknowledged, (0..100).map(|number| format!("PUBACK {}", 2 * number + 1)).collect::<Vec<_>>());
}

#[test]
fn what_would_need_room_that_the_mesh_does_not_have_is_left_in_it() {
    let mut broker = Broker::new(2);
    let message = |broker: &Broker| {
        let envelope = crate::message::Envelope {
            qos: crate::mqtt::QoS::AtMostOnce,
            retain: false,
            expires_at: Moment::NEVER,
            topic_hash: broker.shared.key.topic("t").whole,
            stamp: Stamp::default(),
            origin: crate::message::Origin::default(),
        };
        crate::message::ApplicationMessage::new("t", &[], b"m", envelope)
    };
    assert!(!broker.shards[0].leaves_in_mesh(1, RANK_HOME));
    let message = message(&broker);
    broker.shards[0].effects_mut().send(1, MeshMessage::Deliver(Taken::Ignore, message));
    assert!(broker.shards[0].leaves_in_mesh(1, RANK_HOME), "a share group may have to send on");
    assert!(!broker.shards[0].leaves_in_mesh(1, RANK_DELIVERY));
    assert_eq!(broker.shards[0].effects_mut().waiting(RANK_DELIVERY), 1);
    assert_eq!(broker.shards[0].effects_mut().waiting(RANK_HOME), 0);
}

#[test]
fn stamps_grow_whatever_the_clock_does() {
    let mut broker = Broker::new(2);
    let shard = &mut broker.shards[1];
    let moments = [5u64, 5, 9, 7, 7, 20].map(Moment::from_micros);
    let stamps = moments.map(|now| shard.next_stamp(now));
    assert!(stamps.is_sorted() && stamps.windows(2).all(|pair| pair[0] < pair[1]), "{stamps:?}");
    assert!(stamps.iter().zip(moments).all(|(stamp, now)| stamp.micros >= now.micros() && stamp.shard == 1));
    assert_eq!((stamps[0].micros, stamps[2].micros), (5, 9));
    // When the counter begins anew, time makes up for it.
    shard.stamp_counter = u32::MAX - 1;
    let stamps = [20, 20, 20].map(|micros| shard.next_stamp(Moment::from_micros(micros)));
    assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "{stamps:?}");
}

#[test]
fn a_refusal_from_the_home_of_a_topic_is_told_with_the_acknowledgement() {
    for (version, told) in [(V5, "PUBACK 1 QuotaExceeded +why"), (V311, "PUBACK 1")] {
        let mut broker = Broker::with(2, |config| config.mqtt.retained_messages_max = 0);
        let name = broker.client_id_at(0, "p");
        let topic = broker.topic_at(1, "t");
        let publisher = broker.connect(&name, version);
        broker.subscribe(publisher, "t0", 0);
        broker.mesh_is_held = true;
        for (identifier, retain) in [(1, true), (2, false)] {
            broker.send(publisher, Publish { retain, ..publish(1, identifier, &topic, "m") });
        }
        assert!(!broker.take(publisher).iter().any(|line| line.starts_with("PUBACK")));
        broker.mesh_is_held = false;
        broker.settle();
        let mut lines = broker.take(publisher);
        lines.retain(|line| line.starts_with("PUBACK"));
        assert_eq!(lines[0], told);
        assert!(!lines[1].contains("Quota"), "{lines:?}");
    }
}

#[test]
fn a_retained_message_is_found_by_a_subscriber_of_any_shard() {
    let mut broker = Broker::new(3);
    let publisher = broker.connect("p", V5);
    let topics = [0, 1, 2].map(|shard| broker.topic_at(shard, "t/"));
    for topic in &topics {
        broker.publish_retained(publisher, topic, "m");
    }
    for shard in 0..3 {
        let name = broker.client_id_at(shard, "s");
        let subscriber = broker.connect(&name, V5);
        for topic in &topics {
            broker.subscribe(subscriber, topic, 0);
            assert_eq!(broker.take(subscriber), [format!("PUBLISH q0 retain {topic}=m")]);
        }
        broker.subscribe(subscriber, "t/+", 0);
        let mut told = broker.take(subscriber);
        told.sort();
        let mut expected = topics.clone().map(|topic| format!("PUBLISH q0 retain {topic}=m")).to_vec();
        expected.sort();
        assert_eq!(told, expected);
    }
    assert!(TopicFilter::parse("t/+").is_ok());
    assert_eq!(broker.shared.retained_messages.now(), 3);
}
