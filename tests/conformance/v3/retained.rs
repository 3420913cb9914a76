//! Retained messages: stored, replaced, cleared, and sent to new subscriptions.

use super::{connect, resume};
use crate::server::on_each_shard_count;
use crate::wire::{Publish, Subscribe};

#[test]
fn v3_mqtt_3_3_1_5_a_retained_message_and_its_qos_are_stored_for_later_subscribers() {
    on_each_shard_count(|server| {
        for qos in 0..=2 {
            let topic = server.unique("stored");
            let mut publisher = connect(server, "p");
            publisher.publish_retained(&topic, "stored", qos).publish(&server.unique("x"), "", 1);
            publisher.disconnect();
            // For each later one, at the lower of the stored QoS and the granted one.
            for granted in 0..=2 {
                let mut subscriber = connect(server, "s");
                let wanted = Publish::new(&topic, "stored").qos(qos.min(granted), 0).retain();
                let publish = subscriber.subscribe(&topic, granted).expect_like(wanted);
                subscriber.acknowledge(&publish);
            }
        }
    });
}

#[test]
fn v3_mqtt_3_3_1_6_a_new_subscription_gets_the_last_retained_message_of_each_topic() {
    on_each_shard_count(|server| {
        let base = server.unique("last");
        let mut publisher = connect(server, "p");
        for round in 0..3 {
            for number in 0..20 {
                publisher.publish_retained(&format!("{base}/{number}/x"), format!("{round} of {number}"), 1);
            }
            publisher.publish_retained(&base, format!("{round} of all"), 1);
        }
        publisher.publish_retained(&format!("{base}x/1/x"), "does not match", 1);
        let mut wanted: Vec<Publish> = (0..20)
            .map(|number| Publish::new(&format!("{base}/{number}/x"), format!("2 of {number}")).retain())
            .collect();
        let by_topic = |one: &Publish, two: &Publish| one.topic.cmp(&two.topic);
        wanted.sort_by(by_topic);
        for (tail, whole) in [("+/x", false), ("#", true)] {
            let filter = format!("{base}/{tail}");
            let mut subscriber = connect(server, "s");
            subscriber.subscribe(&filter, 0);
            let mut wanted = wanted.clone();
            if whole {
                wanted.push(Publish::new(&base, "2 of all").retain());
                wanted.sort_by(by_topic);
            }
            let mut came: Vec<Publish> = wanted.iter().map(|_| subscriber.expect_any_publish()).collect();
            came.sort_by(by_topic);
            assert_eq!(came, wanted, "for {filter}");
            subscriber.expect_no_retained(server);
        }
        let mut exact = connect(server, "s");
        exact.subscribe(&format!("{base}/7/x"), 0);
        exact.expect_like(Publish::new(&format!("{base}/7/x"), "2 of 7").retain());
        exact.expect_no_retained(server);
    });
}

#[test]
fn v3_mqtt_3_3_1_7_a_qos_0_retained_message_replaces_the_one_before() {
    on_each_shard_count(|server| {
        let topic = server.unique("replaced");
        let mut publisher = connect(server, "p");
        let mut established = connect(server, "e");
        established.subscribe(&topic, 2).settle_retained(server);
        for before in 1..=2 {
            publisher.publish_retained(&topic, "before", before).publish_retained(&topic, "now", 0);
            established.receive(&topic, "before", before).receive(&topic, "now", 0);
            // A QoS 1 message by the same publisher to the same topic's home is behind it.
            publisher.publish_retained(&topic, "now", 0).publish(&topic, "", 1);
            established.receive(&topic, "now", 0).receive(&topic, "", 1);
            let mut subscriber = connect(server, "s");
            subscriber.subscribe(&topic, 2).expect_like(Publish::new(&topic, "now").retain());
            subscriber.expect_no_retained(server);
        }
    });
}

#[test]
fn v3_mqtt_3_3_1_8_a_message_sent_for_a_new_subscription_has_retain() {
    on_each_shard_count(|server| {
        let topic = server.unique("flag");
        let mut publisher = connect(server, "p");
        publisher.publish_retained(&topic, "kept", 1);
        let mut subscriber = connect(server, "s");
        for filter in [topic.clone(), format!("{topic}/#"), format!("{topic}/../{topic}")] {
            let id = subscriber.next_id();
            subscriber.send(Subscribe::new(id, &filter, 0)).expect_suback(id, &[0]);
            if !filter.contains("..") {
                subscriber.expect_like(Publish::new(&topic, "kept").retain());
            }
        }
        subscriber.expect_no_retained(server);
    });
}

#[test]
fn v3_mqtt_3_3_1_9_a_message_to_an_established_subscription_has_no_retain() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("live"), server.unique("live"));
        let mut publisher = connect(server, "p");
        let mut subscriber = resume(server, &id);
        subscriber.subscribe(&topic, 2).settle_retained(server);
        for qos in 0..=2 {
            publisher.publish_retained(&topic, "live", qos);
            subscriber.receive(&topic, "live", qos);
        }
        publisher.publish_retained(&topic, "", 1);
        subscriber.receive(&topic, "", 1);
        // Nor when the subscription belongs to a session that was offline.
        subscriber.disconnect();
        publisher.publish_retained(&topic, "offline", 1);
        let mut subscriber = resume(server, &id);
        subscriber.receive(&topic, "offline", 1).expect_nothing_from(&mut publisher);
        subscriber.expect_no_retained(server);
    });
}

#[test]
fn v3_mqtt_3_3_1_10_an_empty_retained_message_clears_the_topics_retained_one() {
    on_each_shard_count(|server| {
        let base = server.unique("cleared");
        let (topic, other) = (format!("{base}/one"), format!("{base}/other"));
        let mut publisher = connect(server, "p");
        let mut established = connect(server, "e");
        established.subscribe(&topic, 2).settle_retained(server);
        publisher.publish_retained(&other, "stays", 1);
        for qos in 0..=2 {
            publisher.publish_retained(&topic, "kept", 1).publish_retained(&topic, "", qos);
            // To established subscriptions the empty message is a message.
            established.receive(&topic, "kept", 1).receive(&topic, "", qos);
            publisher.publish(&topic, "behind", 1);
            established.receive(&topic, "behind", 1);
            let mut subscriber = connect(server, "s");
            subscriber.subscribe(&format!("{base}/+"), 2);
            let publish = subscriber.expect_like(Publish::new(&other, "stays").qos(1, 0).retain());
            subscriber.acknowledge(&publish).expect_no_retained(server);
        }
        // Clearing what isn't there changes nothing.
        publisher.publish_retained(&topic, "", 1);
        established.receive(&topic, "", 1);
    });
}

#[test]
fn v3_mqtt_3_3_1_11_an_empty_message_is_never_stored() {
    on_each_shard_count(|server| {
        let topic = server.unique("empty");
        let mut publisher = connect(server, "p");
        for qos in 0..=2 {
            publisher.publish_retained(&topic, "", qos).publish(&topic, "", 1);
            connect(server, "s").subscribe(&topic, 2).expect_no_retained(server);
        }
    });
}

#[test]
fn v3_mqtt_3_3_1_12_without_retain_nothing_is_stored_or_replaced() {
    on_each_shard_count(|server| {
        let topic = server.unique("unretained");
        let mut publisher = connect(server, "p");
        for qos in 0..=2 {
            publisher.publish(&topic, "live", qos).publish(&topic, "", 1);
        }
        connect(server, "s").subscribe(&topic, 0).expect_no_retained(server);
        publisher.publish_retained(&topic, "kept", 1);
        for qos in 0..=2 {
            publisher.publish(&topic, "live", qos).publish(&topic, "", qos).publish(&topic, "x", 1);
        }
        let mut subscriber = connect(server, "s");
        subscriber.subscribe(&topic, 0).expect_like(Publish::new(&topic, "kept").retain());
        subscriber.expect_no_retained(server);
    });
}

#[test]
fn a_wildcard_replay_reaches_thousands_of_topics_once_each() {
    on_each_shard_count(|server| {
        let base = server.unique("many");
        let mut publisher = connect(server, "p");
        for number in 0..3_000 {
            publisher.publish_retained(&format!("{base}/{number}"), "kept", 0);
        }
        publisher.publish_retained(&format!("{base}/last"), "kept", 1);
        let mut subscriber = connect(server, "s");
        // The PUBACK of the last one says that the broker has taken all of them in before this SUBSCRIBE.
        subscriber.subscribe(&format!("{base}/+"), 0);
        let mut topics: Vec<String> = (0..3_001).map(|_| subscriber.expect_any_publish().topic).collect();
        topics.sort();
        topics.dedup();
        assert_eq!(topics.len(), 3_001, "some topic came twice");
        subscriber.expect_no_retained(server);
        // Leave nothing behind for the other tests' wildcards.
        for topic in topics {
            publisher.publish_retained(&topic, "", 0);
        }
        publisher.expect_nothing_within_roundtrip();
    });
}

#[test]
fn retained_messages_of_topics_that_begin_with_a_dollar_are_hidden_from_leading_wildcards() {
    on_each_shard_count(|server| {
        let topic = format!("$own/{}", server.unique("hidden"));
        connect(server, "p").publish_retained(&topic, "kept", 1);
        let tail = topic.split_once('/').unwrap().1;
        let mut subscriber = connect(server, "s");
        subscriber.subscribe(&format!("+/{tail}"), 0).expect_no_retained(server);
        subscriber.subscribe(&format!("$own/{tail}/#"), 0).expect_like(Publish::new(&topic, "kept").retain());
    });
}
