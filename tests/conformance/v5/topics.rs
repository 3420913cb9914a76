//! TopicNames and TopicFilters (4.7).

use super::kit::*;
use crate::server::{on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Packet, Publish, Subscribe, Version, Will};

#[test]
fn v5_mqtt_4_7_0_1_wildcards_do_not_occur_in_topic_names() {
    on_each_shard_count(|server| {
        for topic in ["#", "+", "a/#", "a/+/b", "a+/b", "a/b#", "$share/+/a"] {
            violates(server, &publish_bytes(0, topic.as_bytes(), None, &[], b""), &[0x81, 0x82, 0x90]);
            let alias = [0x23, 0, 1];
            violates(server, &publish_bytes(0, topic.as_bytes(), None, &alias, b""), &[0x81, 0x82, 0x90]);
            let will = Packet::from(connect(server, "will").will(Will::new(topic, ""))).encode(Version::V5);
            refused(server, &will, &[0x81, 0x82, 0x90]);
        }
    });
}

/// Each of `filters` must be refused in a SUBACK, and each of `good` granted.
fn filters_are_checked(filters: &[&str], good: &[&str]) {
    on_each_shard_count(|server| {
        let mut client = client(server, "sub");
        for (id, filter) in (1..).zip(filters) {
            client.send(Subscribe::new(id, filter, 0)).expect_suback(id, &[0x8F]);
        }
        let prefix = server.unique("good");
        for filter in good {
            client.subscribe(&format!("{prefix}{filter}"), 0);
        }
    });
}

#[test]
fn v5_mqtt_4_7_1_1_multi_level_wildcard_stands_alone_or_last_after_a_separator() {
    filters_are_checked(
        &["a#", "#a", "a/#b", "a/b#", "#/", "#/a", "a/#/", "a/#/b", "##", "a/##", "#/#", "+#", "a/+#", "#+"],
        &["/#", "//#", "/+/#", "/a/b/#"],
    );
    on_each_shard_count(|server| {
        // The parent level and every level below it.
        let base = server.unique("multi");
        let mut client = subscriber(server, &format!("{base}/a/#"), 1);
        let mut publisher = super::kit::client(server, "pub");
        for tail in ["/a", "/a/", "/a/b", "/a/b/c/d/e", "/a//"] {
            publisher.publish(&format!("{base}{tail}"), tail, 1);
            client.receive(&format!("{base}{tail}"), tail, 1);
        }
        for tail in ["", "/", "/b", "/ab", "/A", "//a"] {
            publisher.publish(&format!("{base}{tail}"), tail, 1);
        }
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_7_1_2_single_level_wildcard_fills_a_whole_level() {
    filters_are_checked(
        &["a+", "+a", "a/b+", "a/+b", "a/b+/c", "++", "a/++/b", "+a/b", "a+b"],
        &["/+", "/+/", "/+/+", "//+", "/+/a/+", "/+/#"],
    );
    on_each_shard_count(|server| {
        let base = server.unique("single");
        let mut client = subscriber(server, &format!("{base}/+/c"), 1);
        client.subscribe(&format!("+/{base}"), 1);
        let mut publisher = super::kit::client(server, "pub");
        for topic in [format!("{base}/b/c"), format!("{base}//c"), format!("/{base}"), format!("é/{base}")] {
            publisher.publish(&topic, &topic, 1);
            client.receive(&topic, &topic, 1);
        }
        for tail in ["/c", "/b/b/c", "/b/c/", "/b/C", "", "/b"] {
            publisher.publish(&format!("{base}{tail}"), tail, 1);
        }
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_7_2_1_leading_wildcards_do_not_match_dollar_topics() {
    on_each_shard_count_with(&["sys.interval=1s"], |server| {
        let mut everything = subscriber(server, "#", 0);
        everything.subscribe("+/#", 0).subscribe("+/brokers/#", 0).subscribe("/#", 0);
        let mut system = subscriber(server, "$SYS/#", 0);
        // What the broker publishes itself: at an interval, and on each connect.
        for _ in 0..10 {
            let publish = take(&mut system);
            assert!(publish.topic.starts_with("$SYS/"), "{publish:?}");
        }
        let mut other = client(server, "other");
        other.publish("ordinary", "x", 1);
        everything.expect_publish("ordinary", "x", 0);
        let_pass(server, 2);
        everything.expect_nothing_within_roundtrip();
    });
    on_each_shard_count(|server| {
        // Retained ones neither: a new subscription to everything on one level finds no $SYS topic.
        let mut client = subscriber(server, "+/brokers", 0);
        client.subscribe("+/brokers/+/version", 0).expect_no_retained(server);
    });
}

#[test]
fn v5_mqtt_4_7_3_1_topics_and_filters_have_at_least_one_character() {
    on_each_shard_count(|server| {
        violates(server, &publish_bytes(0, b"", None, &[], b"x"), &[0x81, 0x82, 0x90]);
        violates(server, &publish_bytes(2, b"", Some(1), &[], b"x"), &[0x81, 0x82, 0x90]);
        let mut client = client(server, "sub");
        client.send(Subscribe::new(1, "", 0)).expect_suback(1, &[0x8F]);
        // One character is enough, and an empty level is a level.
        client.subscribe("/", 0).subscribe("x", 0);
        client.publish("/", "slash", 0).expect_publish("/", "slash", 0);
    });
}

#[test]
fn v5_mqtt_4_7_3_2_topics_and_filters_have_no_null_character() {
    on_each_shard_count(|server| {
        for text in [b"\0".as_slice(), b"a\0", b"\0a", b"a/\0/b"] {
            violates(server, &publish_bytes(0, text, None, &[], b""), &[0x81, 0x90]);
            let filter = [&crate::wire::field(text)[..], &[0]].concat();
            violates(server, &subscribe_bytes(&[], &filter), &[0x81, 0x8F]);
            violates(server, &unsubscribe_bytes(&[], &crate::wire::field(text)), &[0x81, 0x8F]);
        }
    });
}

#[test]
fn v5_mqtt_4_7_3_3_topics_and_filters_have_at_most_65535_bytes() {
    on_each_shard_count(|server| {
        // Two bytes of length allow no more; as many must work.
        let base = server.unique("long");
        for name in [format!("{base}{}", "x".repeat(65_535)), format!("{base}/{}", "\u{E9}".repeat(32_768))] {
            let longest: String = name
                .chars()
                .scan(0, |length, character| {
                    *length += character.len_utf8();
                    (*length <= 65_535).then_some(character)
                })
                .collect();
            let mut client = subscriber(server, &longest, 0);
            client.publish(&longest, "longest", 0).expect_publish(&longest, "longest", 0);
            client.unsubscribe(&longest);
        }
    });
}

#[test]
fn v5_mqtt_4_7_3_4_matching_does_not_normalise() {
    on_each_shard_count(|server| {
        let base = server.unique("norm");
        // Pairs that some notion of equality would confuse.
        let names = [
            "A", "a", "\u{C4}", "A\u{308}", "\u{212B}", "\u{C5}", "\u{FB01}", "fi", " a", "a ", "a/", "/a", "a//a",
            "a/a",
        ];
        let topics: Vec<String> = names.iter().map(|name| format!("{base}/{name}")).collect();
        let mut publisher = client(server, "pub");
        for filter in &topics {
            let mut client = subscriber(server, filter, 1);
            for topic in &topics {
                publisher.publish(topic, topic, 1);
            }
            client.receive(filter, filter, 1).expect_nothing_within_roundtrip();
            // The retained message is as exact.
            publisher.publish_retained(filter, "retained", 1);
            client.receive(filter, "retained", 1);
        }
        for topic in &topics {
            subscriber(server, topic, 1).receive_retained(topic, "retained", 1);
            publisher.publish_retained(topic, "", 1);
        }
    });
}

#[test]
fn deep_topics_and_filters_are_matched_level_by_level() {
    on_each_shard_count(|server| {
        // 128 levels, the most by default, every other one a wildcard; the levels of the topic are told apart.
        let base = server.unique("deep");
        let level = |number: usize| if number == 0 { base.clone() } else { format!("l{number}") };
        let topic = (0..128).map(level).collect::<Vec<_>>().join("/");
        let filter = (0..128).map(|number| if number % 2 == 1 { "+".into() } else { level(number) });
        let filter = filter.collect::<Vec<String>>().join("/");
        let mut client = subscriber(server, &filter, 1);
        let mut publisher = super::kit::client(server, "pub");
        publisher.publish(&topic, "deep", 1);
        client.receive(&topic, "deep", 1);
        publisher.publish(topic.rsplit_once('/').unwrap().0, "too short", 1);
        publisher.publish(&topic.replace("l126", "other"), "other", 1);
        client.expect_nothing_within_roundtrip();
        let mut deeper = super::kit::client(server, "deeper");
        deeper.send(Subscribe::new(1, &format!("{filter}/x"), 0)).expect_suback(1, &[0x8F]);
        deeper.send(Publish::new(&format!("{topic}/x"), "").qos(1, 1));
        assert_eq!(deeper.expect_puback(1).code, 0x90);
    });
}
