//! PUBLISH: flags, retained messages, and what is sent to whom (3.3.1 and 3.3.4).

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::{Server, on_each_shard_count};
use crate::wire::{Ack, Packet, Publish, Subscribe};

#[test]
fn v5_mqtt_3_3_1_1_redelivery_sets_dup() {
    on_each_shard_count(|server| {
        let topic = server.unique("dup");
        let resume = resuming(server, "dup");
        let mut client = Client::connect(server, resume.clone());
        client.subscribe(&topic, 2);
        let mut publisher = super::kit::client(server, "pub");
        publisher.publish(&topic, "one", 1).publish(&topic, "two", 2);
        let one = client.expect_publish(&topic, "one", 1);
        let two = client.expect_publish(&topic, "two", 2);
        // Again and again, as often as the connection breaks.
        for _ in 0..3 {
            client.vanish_noticed();
            client = Client::connect(server, resume.clone());
            client.expect(Publish { dup: true, ..one.clone() });
            client.expect(Publish { dup: true, ..two.clone() });
        }
        client.acknowledge(&one).acknowledge(&two).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_3_1_2_qos_0_never_has_dup() {
    on_each_shard_count(|server| {
        violates(server, &publish_bytes(0x08, b"topic", None, &[], b"payload"), &[0x81, 0x82]);
        violates(server, &publish_bytes(0x09, b"topic", None, &[], b"payload"), &[0x81, 0x82]);
        // From a publisher that says DUP, downgraded on its way; our parser refuses DUP at QoS 0 anywhere.
        let topic = server.unique("qos0");
        let mut subscriber = subscriber(server, &topic, 0);
        let mut publisher = client(server, "pub");
        publisher.publish_packet(Publish::new(&topic, "dup").dup(), 1);
        subscriber.expect_publish(&topic, "dup", 0);
    });
}

#[test]
fn v5_mqtt_3_3_1_3_outgoing_dup_does_not_follow_the_incoming_one() {
    on_each_shard_count(|server| {
        let topic = server.unique("dup");
        let mut subscriber = subscriber(server, &topic, 2);
        let mut publisher = client(server, "pub");
        for qos in [1, 2] {
            publisher.publish_packet(Publish::new(&topic, "marked").dup(), qos);
            // `receive` demands DUP 0.
            subscriber.receive(&topic, "marked", qos);
        }
        // Nor does it go into the retained message.
        publisher.publish_packet(Publish::new(&topic, "retained").retain().dup(), 1);
        subscriber.receive(&topic, "retained", 1);
        let mut late = super::kit::subscriber(server, &topic, 1);
        late.expect_like(Publish::new(&topic, "retained").qos(1, 0).retain());
    });
}

#[test]
fn v5_mqtt_3_3_1_4_qos_3_is_malformed() {
    on_each_shard_count(|server| {
        for flags in [0x06, 0x07, 0x0E, 0x0F] {
            violates(server, &publish_bytes(flags, b"topic", Some(1), &[], b"payload"), &[0x81]);
        }
    });
}

#[test]
fn v5_mqtt_3_3_1_5_retain_1_replaces_the_retained_message() {
    on_each_shard_count(|server| {
        let topic = server.unique("keep");
        let mut publisher = client(server, "pub");
        for (round, qos) in [(1, 0), (2, 1), (3, 2), (4, 0), (5, 1)] {
            let publish = Publish::new(&topic, round.to_string())
                .retain()
                .property(Property::UserProperty("round".into(), round.to_string()));
            publisher.publish_packet(publish.clone(), qos).expect_nothing_within_roundtrip();
            let mut late = subscriber(server, &topic, 2);
            let came = take(&mut late);
            assert_like(&came, publish.qos(qos, 0));
            late.expect_no_retained(server);
        }
    });
}

#[test]
fn v5_mqtt_3_3_1_6_an_empty_retained_message_clears() {
    on_each_shard_count(|server| {
        for qos in 0..=2 {
            let topic = server.unique("clear");
            let mut publisher = client(server, "pub");
            publisher.publish_retained(&topic, "there", 1);
            let mut live = subscriber(server, &topic, RETAIN_AS_PUBLISHED);
            live.expect_like(Publish::new(&topic, "there").retain());
            publisher.publish_retained(&topic, "", qos);
            // It is a message like any other for whoever is subscribed.
            live.expect_like(Publish::new(&topic, "").retain());
            let mut late = subscriber(server, &topic, 0);
            late.subscribe(&format!("{topic}/#"), 0).expect_no_retained(server);
        }
    });
}

#[test]
fn v5_mqtt_3_3_1_7_an_empty_retained_message_is_not_stored() {
    on_each_shard_count(|server| {
        let topic = server.unique("empty");
        let mut publisher = client(server, "pub");
        for qos in 0..=2 {
            publisher.publish_retained(&topic, "", qos).expect_nothing_within_roundtrip();
        }
        subscriber(server, &topic, 2).expect_no_retained(server);
        subscriber(server, &format!("{topic}/#"), 2).expect_no_retained(server);
    });
}

#[test]
fn v5_mqtt_3_3_1_8_retain_0_changes_nothing_retained() {
    on_each_shard_count(|server| {
        let (topic, other) = (server.unique("leave"), server.unique("none"));
        let mut publisher = client(server, "pub");
        publisher.publish_retained(&topic, "kept", 1);
        for qos in 0..=2 {
            publisher.publish(&topic, "passing", qos).publish(&topic, "", qos).publish(&other, "passing", qos);
            publisher.expect_nothing_within_roundtrip();
        }
        let mut late = subscriber(server, &other, 2);
        late.expect_no_retained(server);
        late.subscribe(&topic, 2).receive_retained(&topic, "kept", 1).expect_no_retained(server);
    });
}

#[test]
fn v5_mqtt_3_3_1_9_retain_handling_0_sends_on_every_subscribe() {
    on_each_shard_count(|server| {
        let topic = server.unique("always");
        client(server, "pub").publish_retained(&topic, "retained", 1);
        let mut client = client(server, "sub");
        for filter in [topic.clone(), topic.clone(), format!("{topic}/#"), format!("{topic}/#")] {
            client.subscribe(&filter, 1).receive_retained(&topic, "retained", 1);
        }
        client.unsubscribe(&topic).subscribe(&topic, 1).receive_retained(&topic, "retained", 1);
    });
}

#[test]
fn v5_mqtt_3_3_1_10_retain_handling_1_sends_for_new_subscriptions_only() {
    on_each_shard_count(|server| {
        let topic = server.unique("new");
        client(server, "pub").publish_retained(&topic, "retained", 1);
        let resume = resuming(server, "sub");
        let mut client = Client::connect(server, resume.clone());
        client.subscribe(&topic, 1 | RETAIN_IF_NEW).receive_retained(&topic, "retained", 1);
        client.subscribe(&topic, 1 | RETAIN_IF_NEW).expect_no_retained(server);
        // Other options don't make it new, nor does a resumption; a deletion does.
        client.subscribe(&topic, 2 | RETAIN_IF_NEW | RETAIN_AS_PUBLISHED).expect_no_retained(server);
        client.disconnect();
        let mut client = Client::connect(server, resume);
        client.subscribe(&topic, 1 | RETAIN_IF_NEW).expect_no_retained(server);
        client.unsubscribe(&topic);
        client.subscribe(&topic, 1 | RETAIN_IF_NEW).receive_retained(&topic, "retained", 1);
        // A different filter that matches the same topic is new.
        client.subscribe(&format!("{topic}/#"), 1 | RETAIN_IF_NEW).receive_retained(&topic, "retained", 1);
    });
}

#[test]
fn v5_mqtt_3_3_1_11_retain_handling_2_sends_none() {
    on_each_shard_count(|server| {
        let topic = server.unique("never");
        let mut publisher = client(server, "pub");
        publisher.publish_retained(&topic, "retained", 1);
        let mut client = subscriber(server, &topic, 1 | RETAIN_NEVER);
        client.subscribe(&format!("{topic}/#"), 1 | RETAIN_NEVER).expect_no_retained(server);
        publisher.publish_retained(&topic, "live", 1);
        client.receive(&topic, "live", 1).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_3_1_12_retain_as_published_0_forwards_with_retain_0() {
    on_each_shard_count(|server| {
        let topic = server.unique("plain");
        let mut client = subscriber(server, &topic, 2);
        let mut publisher = super::kit::client(server, "pub");
        for qos in 0..=2 {
            publisher.publish_retained(&topic, "live", qos);
            client.receive(&topic, "live", qos);
            publisher.publish_retained(&topic, "", qos);
            client.receive(&topic, "", qos);
        }
        // What was retained before the subscription is not forwarded, but sent with RETAIN 1 all the same.
        publisher.publish_retained(&topic, "retained", 1);
        subscriber(server, &topic, 1).receive_retained(&topic, "retained", 1);
    });
}

#[test]
fn v5_mqtt_3_3_1_13_retain_as_published_1_forwards_retain_as_it_came() {
    on_each_shard_count(|server| {
        let topic = server.unique("aspub");
        let mut client = subscriber(server, &topic, 2 | RETAIN_AS_PUBLISHED);
        let mut publisher = super::kit::client(server, "pub");
        for qos in 0..=2 {
            publisher.publish_retained(&topic, "with", qos);
            client.receive_retained(&topic, "with", qos);
            publisher.publish(&topic, "without", qos);
            client.receive(&topic, "without", qos);
        }
    });
}

#[test]
fn v5_mqtt_3_3_4_1_publish_is_answered_as_its_qos_asks() {
    on_each_shard_count(|server| {
        let topic = server.unique("answer");
        let mut client = client(server, "pub");
        client.send(Publish::new(&topic, "x")).expect_nothing_within_roundtrip();
        client.send(Publish::new(&topic, "x").qos(1, 10));
        assert!(client.expect_puback(10).code < 0x80);
        client.expect_nothing_within_roundtrip();
        client.send(Publish::new(&topic, "x").qos(2, 10));
        assert!(client.expect_pubrec(10).code < 0x80);
        client.expect_nothing_within_roundtrip();
        client.send(Packet::PubRel(Ack::new(10))).expect(Packet::PubComp(Ack::new(10)));
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_3_4_2_overlapping_filters_honour_the_highest_qos() {
    on_each_shard_count(|server| {
        let base = server.unique("over");
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let topic = format!("{base}/{}", order[0]);
            let filters = [topic.clone(), format!("{base}/+"), format!("{topic}/#")];
            let mut client = client(server, "sub");
            for (filter, qos) in filters.iter().zip(order) {
                client.subscribe(filter, qos);
            }
            let mut publisher = super::kit::client(server, "pub");
            for qos in 0..=2 {
                publisher.publish(&topic, "x", qos);
                client.receive(&topic, "x", qos).expect_nothing_within_roundtrip();
            }
        }
    });
}

/// The Subscription Identifiers of a message, in ascending order.
fn identifiers(publish: &Publish) -> Vec<u32> {
    let pick = |property: &Property| match property {
        Property::SubscriptionIdentifier(identifier) => Some(*identifier),
        _ => None,
    };
    let mut identifiers: Vec<u32> = publish.properties.iter().filter_map(pick).collect();
    identifiers.sort_unstable();
    identifiers
}

fn subscribe_as(client: &mut Client, filter: &str, options: u8, identifier: u32) {
    let id = client.next_id();
    let subscribe = Subscribe::new(id, filter, options).property(Property::SubscriptionIdentifier(identifier));
    client.send(subscribe).expect_suback(id, &[options & 3]);
}

#[test]
fn v5_mqtt_3_3_4_3_the_subscription_identifier_is_sent_with_the_message() {
    on_each_shard_count(|server| {
        let mut publisher = client(server, "pub");
        // Each length of the variable byte integer, and its borders.
        for identifier in [1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
            let topic = server.unique("ident");
            let mut client = client(server, "sub");
            subscribe_as(&mut client, &topic, 1, identifier);
            for qos in 0..=1 {
                publisher.publish(&topic, "x", qos);
                let wanted =
                    Publish::new(&topic, "x").qos(qos, 0).property(Property::SubscriptionIdentifier(identifier));
                assert_like(&take(&mut client), wanted);
            }
            // Retained messages carry it, too; a subscription without one, made by another client, has none.
            publisher.publish_retained(&topic, "retained", 1);
            assert_eq!(identifiers(&take(&mut client)), [identifier]);
            subscribe_as(&mut client, &topic, 1, identifier);
            assert_eq!(identifiers(&take(&mut client)), [identifier]);
            assert!(identifiers(&take(&mut subscriber(server, &topic, 1))).is_empty());
        }
    });
}

#[test]
fn v5_mqtt_3_3_4_4_one_copy_carries_all_matching_identifiers() {
    on_each_shard_count(|server| {
        let base = server.unique("all");
        let topic = format!("{base}/x");
        let mut client = client(server, "sub");
        subscribe_as(&mut client, &topic, 0, 3);
        subscribe_as(&mut client, &format!("{base}/+"), 1, 1);
        subscribe_as(&mut client, &format!("{base}/#"), 2, 268_435_455);
        subscribe_as(&mut client, &format!("{base}/other"), 2, 9);
        // A matching subscription without an identifier adds none; the same identifier may serve two filters.
        client.subscribe("+/x/#", 0);
        subscribe_as(&mut client, &format!("{topic}/#"), 0, 1);
        let mut publisher = super::kit::client(server, "pub");
        for qos in 0..=2 {
            publisher.publish(&topic, "x", qos);
            let publish = take(&mut client);
            assert_eq!(publish.qos, qos);
            let mut came = identifiers(&publish);
            // Whether an identifier that two subscriptions share is sent once or twice is left open.
            came.dedup();
            assert_eq!(came, [1, 3, 268_435_455]);
            client.expect_nothing_within_roundtrip();
        }
    });
}

#[test]
fn v5_mqtt_3_3_4_5_copies_of_their_own_carry_their_own_identifiers() {
    on_each_shard_count(|server| {
        // A share group is served a copy of its own, beside the one for all other subscriptions.
        let topic = server.unique("own");
        let mut client = client(server, "sub");
        subscribe_as(&mut client, &topic, 1, 1);
        subscribe_as(&mut client, &format!("{topic}/#"), 1, 2);
        subscribe_as(&mut client, &format!("$share/one/{topic}"), 1, 3);
        subscribe_as(&mut client, &format!("$share/two/{topic}"), 1, 4);
        super::kit::client(server, "pub").publish(&topic, "x", 1);
        let mut copies: Vec<Vec<u32>> = collect(&mut client, 3).iter().map(identifiers).collect();
        copies.sort();
        assert_eq!(copies, [vec![1, 2], vec![3], vec![4]]);
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_3_4_6_a_clients_publish_has_no_subscription_identifier() {
    on_each_shard_count(|server| {
        for properties in [&[0x0B, 1][..], &[0x0B, 0x80, 0x01], &[3, 0, 1, b'a', 0x0B, 1], &[0x0B, 1, 0x0B, 2]] {
            violates(server, &publish_bytes(0, b"topic", None, properties, b"x"), &[0x82]);
            violates(server, &publish_bytes(2, b"topic", Some(1), properties, b"x"), &[0x82]);
        }
    });
}

/// `count` messages for a client with Receive Maximum `maximum`, of which it has acknowledged none.
fn fill_window(server: &Server, maximum: u16, count: usize) -> (Client, Client, String, Vec<Publish>) {
    let topic = server.unique("window");
    let mut client = Client::connect(server, connect(server, "sub").property(Property::ReceiveMaximum(maximum)));
    client.subscribe(&topic, 2);
    let mut publisher = super::kit::client(server, "pub");
    for number in 0..count {
        publisher.publish(&topic, number.to_string(), 1 + (number % 2) as u8);
    }
    let open = (0..count.min(usize::from(maximum)))
        .map(|number| client.expect_publish(&topic, number.to_string(), 1 + (number % 2) as u8))
        .collect();
    client.expect_nothing_within_roundtrip();
    (client, publisher, topic, open)
}

#[test]
fn v5_mqtt_3_3_4_9_no_more_unacknowledged_than_the_clients_receive_maximum() {
    on_each_shard_count(|server| {
        for maximum in [1, 2, 5, 20] {
            let (mut client, _, topic, mut open) = fill_window(server, maximum, 30);
            // Each PUBACK or PUBCOMP lets one more in; PUBREC does not.
            let mut next = usize::from(maximum);
            while next < 30 {
                let done = open.remove(0);
                if done.qos == 2 {
                    client.send(Packet::PubRec(Ack::new(done.id))).expect(Packet::PubRel(Ack::new(done.id)));
                    client.expect_nothing_within_roundtrip();
                    client.send(Packet::PubComp(Ack::new(done.id)));
                } else {
                    client.acknowledge(&done);
                }
                open.push(client.expect_publish(&topic, next.to_string(), 1 + (next % 2) as u8));
                client.expect_nothing_within_roundtrip();
                next += 1;
            }
        }
    });
}

#[test]
fn v5_mqtt_3_3_4_10_other_packets_are_not_held_up_by_a_used_up_receive_maximum() {
    on_each_shard_count(|server| {
        let (mut client, mut publisher, topic, open) = fill_window(server, 2, 4);
        client.send(Packet::PingReq).expect(Packet::PingResp);
        let other = server.unique("other");
        client.subscribe(&other, 0);
        publisher.publish(&other, "qos 0 passes", 0);
        client.expect_publish(&other, "qos 0 passes", 0);
        client.publish("elsewhere", "x", 1).publish("elsewhere", "x", 2).unsubscribe(&other);
        client.acknowledge(&open[0]).expect_publish(&topic, "2", 1);
    });
}
