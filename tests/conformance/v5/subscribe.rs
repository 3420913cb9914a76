//! SUBSCRIBE and SUBACK (3.8 and 3.9).

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::{on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Packet, Publish, Subscribe, field, frame};

#[test]
fn v5_mqtt_3_8_1_1_flags_of_subscribe_are_0010() {
    on_each_shard_count(|server| {
        let body = [&[0, 1, 0][..], &field("a"), &[0]].concat();
        for flags in [0x0, 0x1, 0x3, 0x4, 0x6, 0x8, 0xA, 0xF] {
            violates(server, &frame(0x80 | flags, &body), &[0x81]);
        }
    });
}

#[test]
fn v5_mqtt_3_8_3_1_topic_filters_are_valid_utf_8() {
    on_each_shard_count(|server| {
        for text in ILL_FORMED {
            violates(server, &subscribe_bytes(&[], &[&field(text)[..], &[0]].concat()), &[0x81]);
            // Behind a good one, too.
            let second = [&field("fine")[..], &[0], &field(text), &[0]].concat();
            violates(server, &subscribe_bytes(&[], &second), &[0x81]);
        }
    });
}

#[test]
fn v5_mqtt_3_8_3_2_subscribe_has_at_least_one_filter() {
    on_each_shard_count(|server| {
        violates(server, &subscribe_bytes(&[], &[]), &[0x81, 0x82]);
        violates(server, &subscribe_bytes(&[0x0B, 1], &[]), &[0x81, 0x82]);
    });
}

#[test]
fn v5_mqtt_3_8_3_3_no_local_keeps_messages_from_the_client_that_published() {
    on_each_shard_count(|server| {
        let topic = server.unique("local");
        let mut client = subscriber(server, &topic, 2 | NO_LOCAL);
        let mut other = subscriber(server, &topic, 2);
        for qos in 0..=2 {
            client.publish(&topic, "mine", qos).expect_nothing_within_roundtrip();
            other.receive(&topic, "mine", qos);
            other.publish(&format!("{topic}/elsewhere"), "", 0);
        }
        // Others' messages do come, also those published while this client is connected under the same topic.
        let mut publisher = super::kit::client(server, "pub");
        publisher.publish(&topic, "theirs", 1);
        client.receive(&topic, "theirs", 1);
        // An overlapping subscription without No Local gets the own message.
        client.subscribe(&format!("{topic}/#"), 1).send(Publish::new(&topic, "overlap").qos(0, 0));
        client.expect_publish(&topic, "overlap", 0);
        // Replacing the subscription turns it off.
        client.unsubscribe(&format!("{topic}/#")).subscribe(&topic, 0).publish(&topic, "again", 0);
        client.expect_publish(&topic, "again", 0);
    });
}

#[test]
fn v5_mqtt_3_8_3_4_no_local_on_a_shared_subscription_is_a_protocol_error() {
    on_each_shard_count(|server| {
        for qos in 0..=2 {
            let filter = [&field("$share/group/topic")[..], &[qos | NO_LOCAL]].concat();
            violates(server, &subscribe_bytes(&[], &filter), &[0x82]);
            violates(server, &subscribe_bytes(&[], &[&field("fine")[..], &[0], &filter].concat()), &[0x82]);
        }
    });
}

#[test]
fn v5_mqtt_3_8_3_5_reserved_option_bits_are_malformed() {
    on_each_shard_count(|server| {
        for options in [0x40, 0x80, 0xC0, 0x41, 0x82] {
            violates(server, &subscribe_bytes(&[], &[&field("topic")[..], &[options]].concat()), &[0x81]);
        }
        // QoS 3 and Retain Handling 3 are protocol errors, and may be called malformed.
        for options in [0x03, 0x07, 0x30, 0x31] {
            violates(server, &subscribe_bytes(&[], &[&field("topic")[..], &[options]].concat()), &[0x81, 0x82]);
        }
    });
}

#[test]
fn v5_mqtt_3_8_4_1_subscribe_is_answered_with_suback() {
    on_each_shard_count(|server| {
        let mut client = client(server, "sub");
        for qos in 0..=2 {
            client.send(Subscribe::new(1 + u16::from(qos), &server.unique("sub"), qos));
            client.expect_suback(1 + u16::from(qos), &[qos]).expect_nothing_within_roundtrip();
        }
    });
}

#[test]
fn v5_mqtt_3_8_4_2_suback_carries_the_identifier() {
    on_each_shard_count(|server| {
        let mut client = client(server, "sub");
        let topic = server.unique("sub");
        for id in [65_535, 1, 0x0100, 0x00FF, 7] {
            client.send(Subscribe::new(id, &topic, 0)).expect_suback(id, &[0]);
            // A refusal as well.
            client.send(Subscribe::new(id, "a#", 0)).expect_suback(id, &[0x8F]);
        }
    });
}

#[test]
fn v5_mqtt_3_8_4_3_an_identical_filter_replaces_the_subscription_without_loss() {
    on_each_shard_count(|server| {
        let topic = server.unique("replace");
        let mut client = client(server, "sub");
        let mut publisher = super::kit::client(server, "pub");
        let subscribe = |id: u16, options: u8, identifier: Option<u32>| {
            let subscribe = Subscribe::new(id, &topic, options | RETAIN_NEVER);
            identifier.map(Property::SubscriptionIdentifier).into_iter().fold(subscribe, Subscribe::property)
        };
        // QoS and identifier are those of the last SUBSCRIBE; an identifier is dropped by one without.
        for (id, qos, identifier) in [(1, 0, Some(1)), (2, 2, None), (3, 1, Some(7)), (4, 1, Some(8)), (5, 0, None)] {
            client.send(subscribe(id, qos, identifier)).expect_suback(id, &[qos]);
            publisher.publish(&topic, "x", 2);
            let wanted = Publish::new(&topic, "x").qos(qos, 0);
            let wanted = identifier.map(Property::SubscriptionIdentifier).into_iter().fold(wanted, Publish::property);
            assert_like(&take(&mut client), wanted);
            client.expect_nothing_within_roundtrip();
        }
        // While messages are flowing: each comes once.
        let stream = (0..300).flat_map(|number: usize| {
            let publish = Publish::new(&topic, number.to_string()).qos(1, 1 + number as u16);
            Packet::from(publish).encode(crate::wire::Version::V5)
        });
        publisher.send_raw(&stream.collect::<Vec<u8>>());
        for id in 10..30 {
            client.send(subscribe(id, 1 + (id % 2) as u8, None));
        }
        let (mut came, mut acks) = (Vec::new(), 0);
        while came.len() < 300 || acks < 20 {
            match client.next() {
                Packet::Publish(publish) => {
                    if publish.qos > 0 {
                        client.send(Packet::PubAck(crate::wire::Ack::new(publish.id)));
                    }
                    came.push(String::from_utf8(publish.payload).unwrap());
                }
                Packet::SubAck(_) => acks += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(came, numbers(0..300));
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_8_4_4_retain_handling_0_resends_retained_messages_on_replacement() {
    on_each_shard_count(|server| {
        let base = server.unique("resend");
        let mut publisher = client(server, "pub");
        for number in 0..5 {
            publisher.publish_retained(&format!("{base}/{number}"), number.to_string(), 1);
        }
        let mut client = subscriber(server, &format!("{base}/+"), 1);
        for _ in 0..3 {
            let mut came = payloads(&mut client, 5);
            came.sort();
            assert_eq!(came, numbers(0..5));
            client.subscribe(&format!("{base}/+"), 1);
        }
    });
}

#[test]
fn v5_mqtt_3_8_4_5_several_filters_act_as_several_subscribes_with_one_suback() {
    on_each_shard_count(|server| {
        let base = server.unique("several");
        let mut client = client(server, "sub");
        let mut subscribe = Subscribe::new(1, &format!("{base}/0"), 0).property(Property::SubscriptionIdentifier(5));
        for number in 1..50 {
            subscribe = subscribe.and(&format!("{base}/{number}"), (number % 3) as u8);
        }
        let granted: Vec<u8> = (0..50).map(|number| (number % 3) as u8).collect();
        client.send(subscribe).expect_suback(1, &granted).expect_nothing_within_roundtrip();
        let mut publisher = super::kit::client(server, "pub");
        for (number, granted) in granted.into_iter().enumerate() {
            let topic = format!("{base}/{number}");
            publisher.publish(&topic, "x", 2);
            let wanted = Publish::new(&topic, "x").qos(granted, 0);
            assert_like(&take(&mut client), wanted.property(Property::SubscriptionIdentifier(5)));
        }
    });
}

#[test]
fn the_same_filter_twice_in_one_subscribe_is_two_subscribes() {
    on_each_shard_count(|server| {
        let topic = server.unique("twice");
        let mut publisher = client(server, "pub");
        publisher.publish_retained(&topic, "retained", 1);
        let mut client = super::kit::client(server, "sub");
        let subscribe = Subscribe::new(1, &topic, 2 | RETAIN_NEVER).and(&topic, RETAIN_NEVER).and(&topic, 1);
        client.send(subscribe).expect_suback(1, &[2, 0, 1]).receive_retained(&topic, "retained", 1);
        // The last one counts.
        publisher.publish(&topic, "live", 2);
        client.receive(&topic, "live", 1).expect_nothing_within_roundtrip();
        // Retained messages of a replacement that is not new are not sent.
        let subscribe = Subscribe::new(2, &topic, RETAIN_IF_NEW).and(&topic, RETAIN_IF_NEW);
        client.send(subscribe).expect_suback(2, &[0, 0]).expect_no_retained(server);
        client.unsubscribe(&topic);
        client.send(Subscribe::new(3, &topic, RETAIN_IF_NEW).and(&topic, RETAIN_IF_NEW)).expect_suback(3, &[0, 0]);
        client.receive_retained(&topic, "retained", 0).expect_no_retained(server);
    });
}

/// Filters, and the code that each must get.
fn mixed() -> Vec<(&'static str, u8, u8)> {
    vec![
        ("mixed/a", 0, 0),
        ("mixed/#/a", 1, 0x8F),
        ("mixed/b", 1, 1),
        ("mixed/c#", 2, 0x8F),
        ("mixed/+d", 2, 0x8F),
        ("mixed/+/d", 2, 2),
        ("$share/group", 1, 0x8F),
        ("$share//a", 1, 0x8F),
        ("$share/group/mixed", 2, 2),
        ("#/", 0, 0x8F),
        ("mixed/#", 1, 1),
        ("", 0, 0x8F),
        ("+/mixed", 0, 0),
    ]
}

#[test]
fn v5_mqtt_3_8_4_6_a_reason_code_for_each_filter() {
    on_each_shard_count(|server| {
        let mut client = client(server, "sub");
        let mut subscribe = Subscribe { id: 1, ..Subscribe::default() };
        for (count, (filter, options, _)) in mixed().into_iter().enumerate() {
            subscribe = subscribe.and(filter, options);
            client.send(subscribe.clone());
            match client.next() {
                Packet::SubAck(ack) => assert_eq!(ack.codes.len(), count + 1, "{ack:?} for {subscribe:?}"),
                other => panic!("{other:?} for {subscribe:?}"),
            }
        }
    });
}

#[test]
fn v5_mqtt_3_8_4_7_the_code_is_the_granted_qos_or_a_failure() {
    on_each_shard_count(|server| {
        let topic = server.unique("grant");
        let mut publisher = client(server, "pub");
        for qos in 0..=2 {
            let mut client = super::kit::client(server, "sub");
            client.send(Subscribe::new(1, &topic, qos).and(&format!("{topic}#"), qos)).expect_suback(1, &[qos, 0x8F]);
            // Granted means granted, and a failure makes no subscription.
            publisher.publish(&topic, "x", qos).publish(&format!("{topic}#").replace('#', "x"), "y", qos);
            client.receive(&topic, "x", qos).expect_nothing_within_roundtrip();
        }
    });
}

#[test]
fn v5_mqtt_3_8_4_8_delivered_qos_is_the_lower_of_published_and_granted() {
    on_each_shard_count(|server| {
        let topic = server.unique("lower");
        let mut subscribers: Vec<Client> = (0..=2).map(|granted| subscriber(server, &topic, granted)).collect();
        let mut publisher = client(server, "pub");
        for published in 0..=2 {
            publisher.publish(&topic, "live", published);
            for (granted, client) in (0..).zip(&mut subscribers) {
                client.receive(&topic, "live", published.min(granted)).expect_nothing_within_roundtrip();
            }
            // Retained messages, too.
            publisher.publish_retained(&topic, "retained", published).expect_nothing_within_roundtrip();
            for (granted, client) in (0..).zip(&mut subscribers) {
                client.receive(&topic, "retained", published.min(granted));
                subscriber(server, &topic, granted).receive_retained(&topic, "retained", published.min(granted));
            }
        }
    });
}

#[test]
fn v5_mqtt_3_9_3_1_codes_come_in_the_order_of_the_filters() {
    on_each_shard_count(|server| {
        let mut client = client(server, "sub");
        let mut filters = mixed();
        for id in 1..=4 {
            let subscribe =
                filters.iter().fold(Subscribe { id, ..Subscribe::default() }, |subscribe, (filter, options, _)| {
                    subscribe.and(filter, *options)
                });
            let codes: Vec<u8> = filters.iter().map(|(_, _, code)| *code).collect();
            client.send(subscribe).expect_suback(id, &codes);
            filters.rotate_left(4);
        }
    });
}

#[test]
fn v5_mqtt_3_9_3_2_only_listed_suback_codes() {
    let settings = ["mqtt.filters_per_client_max=2", "mqtt.topic_levels_max=4", "mqtt.topic_bytes_max=100"];
    on_each_shard_count_with(&settings, |server| {
        let mut client = client(server, "sub");
        let long = "x".repeat(101);
        // More than fit, too long, too deep, and of wrong form: one that replaces needs no room.
        let cases = [
            ("one", 0, 0x00),
            ("two", 1, 0x01),
            ("three", 0, 0x97),
            ("two", 2, 0x02),
            (&long, 0, 0x8F),
            ("a/b/c/d/e", 0, 0x8F),
            ("a/#/b", 0, 0x8F),
        ];
        for (id, (filter, options, code)) in (1..).zip(cases) {
            client.send(Subscribe::new(id, filter, options));
            match client.next() {
                Packet::SubAck(ack) => {
                    assert!(ack.codes.iter().all(|code| SUBACK_REASONS.contains(code)), "{ack:?}");
                    assert_eq!((ack.id, &ack.codes[..]), (id, &[code][..]), "{filter}");
                }
                other => panic!("{other:?} for {filter}"),
            }
        }
        client.unsubscribe("one").subscribe("three", 0);
    });
}
