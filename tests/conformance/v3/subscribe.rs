//! SUBSCRIBE and SUBACK.

use super::{ILL_FORMED, assert_closes, connect};
use crate::client::Client;
use crate::server::{Server, on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Packet, Publish, Subscribe, field, frame};

/// SUBSCRIBE with one filter and raw options byte.
fn raw_subscribe(filter: &[u8], options: u8) -> Vec<u8> {
    frame(0x82, &[vec![0, 1], field(filter), vec![options]].concat())
}

#[test]
fn v3_mqtt_3_8_1_1_subscribe_with_other_flags_than_0010_closes_the_connection() {
    on_each_shard_count(|server| {
        for flags in (0..16).filter(|flags| *flags != 2) {
            let mut bytes = raw_subscribe(b"flags", 0);
            bytes[0] = 0x80 | flags;
            assert_closes(server, "SUBSCRIBE flags", &bytes);
        }
    });
}

#[test]
fn v3_mqtt_3_8_3_1_a_filter_that_is_no_utf8_closes_the_connection() {
    on_each_shard_count(|server| {
        for (what, text) in ILL_FORMED {
            assert_closes(server, what, &raw_subscribe(text, 0));
            // Also when it isn't the first one.
            let second = [vec![0, 1], field("good"), vec![0], field(text), vec![0]].concat();
            assert_closes(server, what, &frame(0x82, &second));
        }
        let filter = format!("{}/größe/主题/🚀", server.unique("utf8"));
        connect(server, "c").subscribe(&filter, 1).publish(&filter, "x", 0).receive(&filter, "x", 0);
    });
}

#[test]
fn v3_mqtt_3_8_3_2_a_server_without_wildcards_refuses_such_subscriptions() {
    on_each_shard_count_with(&["mqtt.wildcard_available=false"], |server| {
        let mut client = connect(server, "c");
        for filter in ["a/#", "+", "#", "a/+/b", "+/+"] {
            client.subscribe_code(filter, 1, 0x80);
        }
        client.send(Subscribe::new(9, "plain", 1).and("a/+", 1).and("also/plain", 2)).expect_suback(9, &[1, 0x80, 2]);
        client.publish("a/b", "x", 0).publish("plain", "x", 0).receive("plain", "x", 0);
    });
}

#[test]
fn v3_mqtt_3_8_3_3_a_subscribe_without_filter_closes_the_connection() {
    on_each_shard_count(|server| {
        assert_closes(server, "no filter", &frame(0x82, &[0, 1]));
    });
}

#[test]
fn v3_mqtt_3_8_3_4_reserved_option_bits_and_qos_3_close_the_connection() {
    on_each_shard_count(|server| {
        let topic = server.unique("options");
        for options in 3..=255 {
            assert_closes(server, "options", &raw_subscribe(topic.as_bytes(), options));
        }
        // The good filter before it doesn't save the packet.
        let body = [vec![0, 1], field(&topic), vec![0], field(&topic), vec![3]].concat();
        assert_closes(server, "options of the second filter", &frame(0x82, &body));
    });
}

#[test]
fn v3_mqtt_3_8_4_1_a_subscribe_is_answered_with_suback() {
    on_each_shard_count(|server| {
        let mut client = connect(server, "c");
        client.send(Subscribe::new(1, &server.unique("t"), 0)).expect_raw(&[0x90, 3, 0, 1, 0]);
        // Also when others follow in the same segment.
        let filters = [server.unique("t"), server.unique("t"), server.unique("t")];
        let bytes: Vec<u8> =
            (2..5).flat_map(|id| client.encode(Subscribe::new(id, &filters[usize::from(id) - 2], 1))).collect();
        client.send_raw(&bytes).expect_suback(2, &[1]).expect_suback(3, &[1]).expect_suback(4, &[1]);
    });
}

#[test]
fn v3_mqtt_3_8_4_2_the_suback_has_the_identifier_of_its_subscribe() {
    on_each_shard_count(|server| {
        let mut client = connect(server, "c");
        for id in [65_535, 1, 256, 2, 1] {
            client.send(Subscribe::new(id, &server.unique("t"), 0)).expect_suback(id, &[0]);
        }
    });
}

#[test]
fn v3_mqtt_3_8_4_3_an_identical_filter_replaces_the_subscription_and_resends_retained() {
    on_each_shard_count(|server| {
        let base = server.unique("replace");
        let topic = format!("{base}/a");
        let mut publisher = connect(server, "p");
        publisher.publish_retained(&topic, "kept", 2);
        for filter in [topic.clone(), format!("{base}/+")] {
            let mut subscriber = connect(server, "s");
            for qos in [0, 2, 1, 1] {
                let wanted = Publish::new(&topic, "kept").qos(qos, 0).retain();
                let publish = subscriber.subscribe(&filter, qos).expect_like(wanted);
                subscriber.acknowledge(&publish);
                // There is one subscription, with the newest QoS.
                publisher.publish(&topic, "live", 2);
                subscriber.receive(&topic, "live", qos).expect_nothing_from(&mut publisher);
            }
        }
    });
}

#[test]
fn v3_mqtt_3_8_4_4_several_filters_act_as_several_subscribes_with_one_suback() {
    on_each_shard_count(|server| {
        let base = server.unique("several");
        let topics = [0, 1, 2].map(|number| format!("{base}/{number}"));
        let mut publisher = connect(server, "p");
        publisher.publish_retained(&topics[1], "kept", 1);
        let mut subscriber = connect(server, "s");
        let subscribe = Subscribe::new(3, &topics[0], 0).and(&topics[1], 1).and(&topics[2], 2);
        subscriber.send(subscribe).expect_suback(3, &[0, 1, 2]);
        let publish = subscriber.expect_like(Publish::new(&topics[1], "kept").qos(1, 0).retain());
        subscriber.acknowledge(&publish);
        for (topic, qos) in topics.iter().zip(0..) {
            publisher.publish(topic, "live", 2);
            subscriber.receive(topic, "live", qos);
        }
        subscriber.expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_3_8_4_5_the_suback_has_a_code_for_each_filter() {
    on_each_shard_count(|server| {
        let mut client = connect(server, "c");
        for count in [1, 2, 7, 100] {
            let mut subscribe = Subscribe::new(1, &server.unique("t"), 0);
            for _ in 1..count {
                subscribe = subscribe.and(&server.unique("t"), 1);
            }
            client.send(subscribe);
            let codes: Vec<u8> = (0..count).map(|number| u8::from(number > 0)).collect();
            client.expect_suback(1, &codes);
        }
    });
}

#[test]
fn v3_mqtt_3_8_4_6_the_delivered_qos_is_the_lower_of_published_and_granted() {
    on_each_shard_count(|server| {
        let topic = server.unique("lower");
        let mut publisher = connect(server, "p");
        for granted in 0..=2 {
            let mut subscriber = connect(server, "s");
            subscriber.subscribe(&topic, granted);
            for published in 0..=2 {
                publisher.publish(&topic, [published], published);
                subscriber.receive(&topic, [published], published.min(granted));
            }
            subscriber.expect_nothing_from(&mut publisher);
        }
    });
}

#[test]
fn v3_mqtt_3_9_3_1_the_codes_come_in_the_order_of_the_filters() {
    on_each_shard_count(|server| {
        let mut client = connect(server, "c");
        let orders = [[0, 1, 2, 2, 1, 0], [2, 0, 2, 0, 1, 1], [1, 1, 0, 2, 0, 2]];
        for order in orders {
            let mut subscribe = Subscribe::new(1, &server.unique("t"), order[0]);
            for qos in &order[1..] {
                subscribe = subscribe.and(&server.unique("t"), *qos);
            }
            client.send(subscribe).expect_suback(1, &order);
        }
    });
}

/// The codes that `filters` get, or nothing when the broker closes because of one (which it may before 5.0).
fn codes_of(server: &Server, filters: &[(&str, u8)]) -> Option<Vec<u8>> {
    let mut client = connect(server, "c");
    client.send(Subscribe {
        id: 1,
        properties: Vec::new(),
        filters: filters.iter().map(|(filter, options)| (filter.to_string(), *options)).collect(),
    });
    match client.next_or_closed()? {
        Packet::SubAck(ack) => Some(ack.codes),
        other => panic!("{other:?} instead of SUBACK"),
    }
}

#[test]
fn v3_mqtt_3_9_3_2_only_the_codes_0_1_2_and_0x80_are_used() {
    on_each_shard_count(|server| {
        let filters = ["a", "+", "a/#", "$SYS/#", "$share/g/a", "", "#/a", "a#", "$share/g", "$share/+/a", "$share//a"];
        for filter in filters {
            for qos in 0..=2 {
                let codes = codes_of(server, &[(filter, qos), ("good", qos)]);
                let Some(codes) = codes else { continue };
                assert!(codes[0] == 0x80 || codes[0] <= qos, "{filter} at QoS {qos}: {codes:02x?}");
                assert_eq!(codes[1], qos, "a refused filter spoilt its neighbour");
            }
        }
    });
}

#[test]
fn a_filter_twice_in_one_subscribe_is_one_subscription_with_the_later_qos() {
    on_each_shard_count(|server| {
        let topic = server.unique("same");
        let mut publisher = connect(server, "p");
        for (first, second) in [(0, 2), (2, 0), (1, 1)] {
            let mut subscriber = connect(server, "s");
            subscriber.send(Subscribe::new(1, &topic, first).and(&topic, second)).expect_suback(1, &[first, second]);
            publisher.publish(&topic, "x", 2);
            subscriber.receive(&topic, "x", second).expect_nothing_from(&mut publisher);
            subscriber.unsubscribe(&topic);
            publisher.publish(&topic, "x", 2);
            subscriber.expect_nothing_from(&mut publisher);
        }
    });
}

#[test]
fn a_subscription_sees_what_is_published_after_its_suback() {
    on_each_shard_count(|server| {
        // The publisher may be on any shard: once the SUBACK is here, none may miss the subscription.
        let mut publishers: Vec<Client> = (0..8).map(|_| connect(server, "p")).collect();
        for round in 0..50_usize {
            let base = server.unique("seen");
            let topic = format!("{base}/x");
            let filter = if round % 2 == 0 { topic.clone() } else { format!("{base}/+") };
            let mut subscriber = connect(server, "s");
            subscriber.subscribe(&filter, 1);
            for (number, publisher) in publishers.iter_mut().enumerate() {
                publisher.publish(&topic, [number as u8], 1);
                subscriber.receive(&topic, [number as u8], 1);
            }
            subscriber.disconnect();
        }
    });
}
