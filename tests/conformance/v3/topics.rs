//! Topic names and filters: chapter 4.7.

use super::{assert_closes, connect};
use crate::server::{Server, on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Packet, Publish, Subscribe, Version, field, frame};

/// The filter must be refused: by code 0x80 or by the close of the connection, which 3.1.1 leaves open.
fn assert_filter_refused(server: &Server, filter: &str) {
    let mut client = connect(server, "f");
    client.send(Subscribe::new(1, filter, 0));
    match client.next_or_closed() {
        None => {}
        Some(Packet::SubAck(ack)) => assert_eq!(ack.codes, [0x80], "{filter} was granted"),
        Some(other) => panic!("{other:?} instead of SUBACK"),
    }
}

/// Each filter with names that it matches and names that it doesn't.
type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

/// Checks each row with a subscriber of its own: exactly the matching names arrive, in order.
fn assert_rows(server: &Server, rows: &[Row]) {
    let mut publisher = connect(server, "p");
    for (filter, matching, others) in rows {
        let base = server.unique("row");
        let mut subscriber = connect(server, "s");
        subscriber.subscribe(&format!("{base}/{filter}"), 0);
        for name in others.iter().chain(*matching) {
            publisher.publish(&format!("{base}/{name}"), "x", 0);
        }
        for name in *matching {
            subscriber.expect_publish(&format!("{base}/{name}"), "x", 0);
        }
        subscriber.expect_nothing_from(&mut publisher);
    }
}

#[test]
fn v3_mqtt_4_7_1_1_wildcards_do_not_occur_in_topic_names() {
    on_each_shard_count(|server| {
        for topic in ["+", "#", "a/+", "a/#", "a+", "#a", "/+", "$SYS/#"] {
            let publish = Packet::Publish(Publish::new(topic, "x").qos(1, 1));
            assert_closes(server, topic, &publish.encode(Version::V311));
        }
    });
}

#[test]
fn v3_mqtt_4_7_1_2_the_multi_level_wildcard_stands_alone_or_last_after_a_separator() {
    on_each_shard_count(|server| {
        for filter in ["a#", "a/b#", "#/a", "a/#/b", "##", "a/##", "#a", "a/#b", "+#", "a/+#", "/#/"] {
            assert_filter_refused(server, filter);
        }
        assert_rows(
            server,
            &[
                ("#", &["a", "a/b", "a/b/c", "/", "//", ""], &[]),
                ("a/#", &["a", "a/", "a/b", "a/b/c", "a//"], &["ab", "b", "b/a", "/a", "A/b"]),
                ("a/b/#", &["a/b", "a/b/", "a/b/c/d"], &["a", "a/", "a/bc", "a/c"]),
                ("/#", &["", "/", "/a", "/a/b"], &["a", "a/"]),
                ("+/#", &["a", "a/b", "", "/", "/a/b"], &[]),
            ],
        );
    });
}

#[test]
fn v3_mqtt_4_7_1_3_the_single_level_wildcard_fills_a_whole_level() {
    on_each_shard_count(|server| {
        for filter in ["a+", "+a", "a/b+", "a/+b/c", "++", "a/++/b", "+/a+"] {
            assert_filter_refused(server, filter);
        }
        assert_rows(
            server,
            &[
                ("+", &["a", "", "ab"], &["a/b", "/a", "/", "a/"]),
                ("a/+", &["a/b", "a/"], &["a", "a/b/c", "b/a", "a//"]),
                ("a/+/c", &["a/b/c", "a//c"], &["a/b", "a/b/d", "a/c", "a/b/c/d", "a/b/x/c"]),
                ("+/+", &["a/b", "/a", "a/", "/"], &["a", "a/b/c", "//"]),
                ("/+", &["/a", "/"], &["a", "a/b", "//"]),
                ("+/b/#", &["a/b", "a/b/c", "/b"], &["a/c/b", "b", "b/c"]),
            ],
        );
    });
}

#[test]
fn v3_mqtt_4_7_2_1_leading_wildcards_do_not_match_names_that_begin_with_a_dollar() {
    on_each_shard_count(|server| {
        let tail = server.unique("dollar");
        let name = format!("$own/{tail}");
        let mut publisher = connect(server, "p");
        // Each hidden filter also matches the plain name, which shows that it works.
        for filter in [format!("+/{tail}"), format!("+/{tail}/#"), format!("+/+/{tail}")] {
            let mut subscriber = connect(server, "s");
            subscriber.subscribe(&filter, 1);
            publisher.publish(&name, "x", 1).publish(&format!("$own/own/{tail}"), "x", 1);
            publisher.publish(&format!("own/{tail}"), "x", 1).publish(&format!("own/own/{tail}"), "x", 1);
            let plain = if filter.starts_with("+/+") { format!("own/own/{tail}") } else { format!("own/{tail}") };
            subscriber.receive(&plain, "x", 1).expect_nothing_from(&mut publisher);
        }
        for filter in [name.clone(), format!("$own/{tail}/#"), "$own/+".to_owned(), "$own/#".to_owned()] {
            let mut subscriber = connect(server, "s");
            subscriber.subscribe(&filter, 0);
            publisher.publish(&name, &tail, 1);
            // Other scripts use $own as well: ours is among what arrives.
            while subscriber.expect_any_publish().payload != tail.as_bytes() {}
        }
        // A dollar further in is a character like any other.
        assert_rows(server, &[("+/x", &["$a/x", "a/x"], &[]), ("#", &["$", "a/$b", "$c"], &[])]);
    });
}

#[test]
fn v3_mqtt_4_7_3_1_names_and_filters_have_at_least_one_character() {
    on_each_shard_count(|server| {
        assert_closes(server, "an empty name", &frame(0x30, &[field(""), b"x".to_vec()].concat()));
        assert_closes(server, "an empty name", &frame(0x32, &[field(""), vec![0, 1], b"x".to_vec()].concat()));
        assert_filter_refused(server, "");
        // A separator alone is a character.
        let mut client = connect(server, "c");
        client.subscribe("/", 0).publish("/", "x", 0).receive("/", "x", 0);
    });
}

#[test]
fn v3_mqtt_4_7_3_2_names_and_filters_contain_no_null_character() {
    on_each_shard_count(|server| {
        for text in [&b"\0"[..], b"a\0", b"\0a", b"a/\0/b"] {
            assert_closes(server, "a name", &frame(0x30, &[&field(text), &b"x"[..]].concat()));
            assert_closes(server, "a filter", &frame(0x82, &[&[0, 1], &field(text)[..], &[0]].concat()));
            assert_closes(server, "an UNSUBSCRIBE", &frame(0xA2, &[&[0, 1], &field(text)[..]].concat()));
        }
    });
}

#[test]
fn v3_mqtt_4_7_3_3_names_and_filters_reach_65_535_bytes() {
    on_each_shard_count_with(&["mqtt.topic_bytes_max=65535"], |server| {
        let (mut publisher, mut subscriber) = (connect(server, "p"), connect(server, "s"));
        for name in [
            format!("a{}", "x".repeat(65_534)),
            format!("{}/tail", "y".repeat(65_530)),
            format!("a/b/{}", "\u{E9}".repeat(32_765)),
        ] {
            assert!((65_534..=65_535).contains(&name.len()));
            subscriber.subscribe(&name, 1);
            publisher.publish(&name, "x", 1).publish(name.trim_end_matches(['x', 'l', '\u{E9}']), "shorter", 1);
            subscriber.receive(&name, "x", 1).expect_nothing_from(&mut publisher).unsubscribe(&name);
        }
    });
}

#[test]
fn v3_mqtt_4_7_3_4_matching_normalises_nothing() {
    on_each_shard_count(|server| {
        assert_rows(
            server,
            &[
                (
                    "accounts",
                    &["accounts"],
                    &["Accounts", "ACCOUNTS", "accounts ", " accounts", "/accounts", "accounts/"],
                ),
                // Composed and decomposed, the ligature and its letters, the narrow and the wide letter.
                ("\u{E9}", &["\u{E9}"], &["e\u{301}", "E\u{301}"]),
                ("e\u{301}", &["e\u{301}"], &["\u{E9}"]),
                ("\u{FB01}", &["\u{FB01}"], &["fi"]),
                ("\u{FF21}", &["\u{FF21}"], &["A", "\u{391}"]),
                ("a/./b/../c", &["a/./b/../c"], &["a/c", "a/b/../c"]),
                ("a//b", &["a//b"], &["a/b", "a///b"]),
                ("%41", &["%41"], &["A"]),
            ],
        );
    });
}

#[test]
fn a_lone_multi_level_wildcard_sees_no_dollar_topics() {
    on_each_shard_count_with(&["sys.interval=1s"], |server| {
        let mut all = connect(server, "s");
        all.subscribe("#", 1);
        let mut system = connect(server, "s");
        system.subscribe("$SYS/#", 0);
        let mut publisher = connect(server, "p");
        // The server's own messages flow, and a client's too: only the plain one arrives.
        assert!(system.expect_any_publish().topic.starts_with("$SYS/"));
        publisher.publish("$own/name", "x", 1).publish("plain", "x", 1);
        all.receive("plain", "x", 1).expect_nothing_from(&mut publisher);
    });
}
