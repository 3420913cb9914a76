//! UNSUBSCRIBE and UNSUBACK (3.10 and 3.11).

use super::kit::*;
use crate::client::Client;
use crate::server::on_each_shard_count;
use crate::wire::{Ack, Packet, Publish, Subscribe, Unsubscribe, field, frame};

#[test]
fn v5_mqtt_3_10_1_1_flags_of_unsubscribe_are_0010() {
    on_each_shard_count(|server| {
        let body = [&[0, 1, 0][..], &field("a")].concat();
        for flags in [0x0, 0x1, 0x3, 0x4, 0x6, 0x8, 0xA, 0xF] {
            violates(server, &frame(0xA0 | flags, &body), &[0x81]);
        }
    });
}

#[test]
fn v5_mqtt_3_10_3_1_topic_filters_are_valid_utf_8() {
    on_each_shard_count(|server| {
        for text in ILL_FORMED {
            violates(server, &unsubscribe_bytes(&[], &field(text)), &[0x81]);
            violates(server, &unsubscribe_bytes(&[], &fields(&[b"fine", text])), &[0x81]);
        }
    });
}

#[test]
fn v5_mqtt_3_10_3_2_unsubscribe_has_at_least_one_filter() {
    on_each_shard_count(|server| violates(server, &unsubscribe_bytes(&[], &[]), &[0x81, 0x82]));
}

#[test]
fn v5_mqtt_3_10_4_1_filters_are_compared_character_for_character() {
    on_each_shard_count(|server| {
        let base = server.unique("chars");
        let filters = [format!("{base}/Aé/x"), format!("{base}/+/x"), format!("{base}/#")];
        let mut client = client(server, "sub");
        for filter in &filters {
            client.subscribe(filter, 0);
        }
        // Filters that match the same topics, or look alike, are others.
        let others = [
            format!("{base}/aé/x"),
            format!("{base}/Ae\u{301}/x"),
            format!("{base}/Aé/x/"),
            format!("{base}/Aé/+"),
            format!("{base}/+/+"),
            format!("{base}/+/X"),
            format!("{base}/+/#"),
            base.clone(),
            format!("$share/group/{base}/#"),
        ];
        for (id, other) in (100..).zip(&others) {
            client.send(Unsubscribe::new(id, other));
            assert_eq!(client.expect_unsuback(id).codes, [0x11], "{other}");
        }
        let topic = format!("{base}/Aé/x");
        let mut publisher = super::kit::client(server, "pub");
        for filter in &filters {
            publisher.publish(&topic, "x", 1);
            client.receive(&topic, "x", 0);
            client.unsubscribe(filter);
        }
        publisher.publish(&topic, "x", 1);
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_10_4_2_no_new_messages_for_a_deleted_subscription() {
    on_each_shard_count(|server| {
        let topic = server.unique("gone");
        let resume = resuming(server, "sub");
        let mut client = Client::connect(server, resume.clone());
        let mut publisher = super::kit::client(server, "pub");
        for filter in [topic.clone(), format!("{topic}/#"), format!("$share/group/{topic}")] {
            client.subscribe(&filter, 2);
            publisher.publish(&topic, "before", 1);
            client.receive(&topic, "before", 1).unsubscribe(&filter);
            for qos in 0..=2 {
                publisher.publish(&topic, "after", qos);
            }
            client.expect_nothing_from(&mut publisher);
        }
        // Nor while it is away.
        client.disconnect();
        publisher.publish(&topic, "after", 1);
        Client::connect(server, resume).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_10_4_3_deliveries_begun_are_completed() {
    on_each_shard_count(|server| {
        let topic = server.unique("begun");
        let resume = resuming(server, "sub");
        let mut client = Client::connect(server, resume.clone());
        client.subscribe(&topic, 2);
        let mut publisher = super::kit::client(server, "pub");
        for payload in ["one", "two", "three"] {
            publisher.publish(&topic, payload, if payload == "one" { 1 } else { 2 });
        }
        let one = client.expect_publish(&topic, "one", 1);
        let two = client.expect_publish(&topic, "two", 2);
        let three = client.expect_publish(&topic, "three", 2);
        client.send(Packet::PubRec(Ack::new(three.id))).expect(Packet::PubRel(Ack::new(three.id)));
        client.unsubscribe(&topic);
        // The handshakes go on, also over a new connection.
        client.vanish_noticed();
        let mut client = Client::connect(server, resume);
        client.expect(Publish { dup: true, ..one.clone() });
        client.expect(Publish { dup: true, ..two.clone() });
        client.expect(Packet::PubRel(Ack::new(three.id)));
        client.acknowledge(&one).acknowledge(&two).send(Packet::PubComp(Ack::new(three.id)));
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_10_4_4_unsubscribe_is_answered_with_unsuback() {
    on_each_shard_count(|server| {
        let topic = server.unique("answer");
        let mut client = subscriber(server, &topic, 1);
        client.send(Unsubscribe::new(9, &topic));
        assert_eq!(client.expect_unsuback(9).codes, [0x00]);
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_10_4_5_unsuback_carries_the_identifier_though_nothing_was_deleted() {
    on_each_shard_count(|server| {
        let topic = server.unique("nothing");
        let mut client = client(server, "sub");
        for id in [1, 255, 256, 65_535] {
            client.send(Unsubscribe::new(id, &topic));
            assert_eq!(client.expect_unsuback(id).codes, [0x11]);
        }
    });
}

#[test]
fn v5_mqtt_3_10_4_6_several_filters_act_as_several_unsubscribes_with_one_unsuback() {
    on_each_shard_count(|server| {
        let base = server.unique("several");
        let names: Vec<String> = (0..20).map(|number| format!("{base}/{number}")).collect();
        let mut client = client(server, "sub");
        let all = names.iter().fold(Subscribe { id: 1, ..Subscribe::default() }, |all, name| all.and(name, 1));
        client.send(all).expect_suback(1, &[1; 20]);
        // Every other one, and one of them twice: what is gone is gone.
        let chosen: Vec<&String> = names.iter().step_by(2).chain([&names[0]]).collect();
        let some = chosen.iter().fold(Unsubscribe { id: 2, ..Unsubscribe::default() }, |some, name| some.and(name));
        client.send(some);
        let mut wanted = vec![0x00; 10];
        wanted.push(0x11);
        assert_eq!(client.expect_unsuback(2).codes, wanted);
        let mut publisher = super::kit::client(server, "pub");
        for (number, name) in names.iter().enumerate() {
            publisher.publish(name, "x", 1);
            if number % 2 == 1 {
                client.receive(name, "x", 1);
            }
        }
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_3_11_3_1_a_code_for_each_filter_in_order() {
    on_each_shard_count(|server| {
        let base = server.unique("order");
        let (there, other) = (format!("{base}/there"), format!("{base}/+"));
        let mut client = subscriber(server, &there, 0);
        client.subscribe(&other, 0);
        let unsubscribe = Unsubscribe::new(7, &format!("{base}/not"))
            .and(&there)
            .and("a/#/b")
            .and(&format!("{base}/#"))
            .and(&other)
            .and(&there);
        client.send(unsubscribe);
        assert_eq!(client.expect_unsuback(7).codes, [0x11, 0x00, 0x8F, 0x11, 0x00, 0x11]);
    });
}

#[test]
fn v5_mqtt_3_11_3_2_only_listed_unsuback_codes() {
    on_each_shard_count(|server| {
        let topic = server.unique("listed");
        let mut client = subscriber(server, &topic, 0);
        let filters =
            [&topic[..], &topic, "#", "", "a#", "+a", "$share", "$share/x", "$share//x", "$share/+/x", "/", "$SYS/#"];
        for (id, filter) in (10..).zip(filters) {
            client.send(Unsubscribe::new(id, filter));
            let ack = client.expect_unsuback(id);
            assert!(ack.codes.len() == 1 && UNSUBACK_REASONS.contains(&ack.codes[0]), "{ack:?} for {filter:?}");
        }
    });
}
