//! The variable header of PUBLISH: TopicName, and each property on its way through the broker (3.3.2).

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::{Server, on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Publish, Will};

#[test]
fn v5_mqtt_3_3_2_1_topic_name_comes_first_and_is_valid_utf_8() {
    on_each_shard_count(|server| {
        for text in ILL_FORMED {
            violates(server, &publish_bytes(0, text, None, &[], b"x"), &[0x81]);
            violates(server, &publish_bytes(2, text, Some(1), &[], b"x"), &[0x81]);
        }
        // The first field is the TopicName, whatever its characters.
        for name in ["\u{1}", "\u{7F}\u{9F}", " ", "\u{FFFF}", "\u{10FFFF}", "\u{1F980}/\u{D7FF}\u{E000}"] {
            let topic = format!("{}{name}", server.unique("utf8"));
            let mut client = subscriber(server, &topic, 0);
            client.publish(&topic, "x", 0).expect_publish(&topic, "x", 0);
        }
    });
}

#[test]
fn v5_mqtt_3_3_2_2_topic_names_have_no_wildcards() {
    on_each_shard_count(|server| {
        for topic in ["#", "+", "a/#", "a/+/b", "a+", "a#b", "/+", "+/a"] {
            for (flags, id) in [(0, None), (1, None), (2, Some(1)), (4, Some(1))] {
                violates(server, &publish_bytes(flags, topic.as_bytes(), id, &[], b"x"), &[0x81, 0x82, 0x90]);
            }
        }
    });
}

/// Whether `filter` matches `topic`, written for these tests from the text of chapter 4.7.
fn matches(filter: &str, topic: &str) -> bool {
    let (filter, topic): (Vec<&str>, Vec<&str>) = (filter.split('/').collect(), topic.split('/').collect());
    if topic[0].starts_with('$') && (filter[0] == "+" || filter[0] == "#") {
        return false;
    }
    for (position, level) in filter.iter().enumerate() {
        match (*level, topic.get(position)) {
            ("#", _) => return true,
            (_, None) => return false,
            ("+", Some(_)) => {}
            (level, Some(other)) => {
                if level != *other {
                    return false;
                }
            }
        }
    }
    filter.len() == topic.len()
}

#[test]
fn v5_mqtt_3_3_2_3_a_delivered_topic_matches_the_filter() {
    on_each_shard_count(|server| {
        let base = server.unique("match");
        let tails = ["", "/", "/a", "/a/", "/a/b", "//", "//b", "/a/b/c", "/b", "/a//c", "/A", "/aa"];
        let topics: Vec<String> = tails.iter().map(|tail| format!("{base}{tail}")).collect();
        let patterns =
            ["", "/#", "/+", "/+/", "/+/+", "/a/#", "/a/+", "//+", "/+/b", "/+/+/c", "/a/b", "/a/b/#", "/+/b/#", "//#"];
        let mut publisher = client(server, "pub");
        for pattern in patterns {
            let filter = format!("{base}{pattern}");
            let mut client = subscriber(server, &filter, 1);
            for topic in &topics {
                publisher.publish(topic, topic, 1);
                if matches(&filter, topic) {
                    client.receive(topic, topic, 1);
                }
            }
            // Anything else that came in between would have stood before a later message, or stands before this answer.
            client.expect_nothing_within_roundtrip();
        }
    });
}

/// What a PUBLISH with `properties` becomes at each kind of receiver: it must carry them all, unchanged.
fn pass_on(server: &Server, properties: &[Property]) {
    let topic = server.unique("pass");
    let with_all = |publish: Publish| properties.iter().cloned().fold(publish, Publish::property);
    let mut live = subscriber(server, &topic, 2);
    let resume = resuming(server, "away");
    let mut away = Client::connect(server, resume.clone());
    away.subscribe(&topic, 2);
    away.disconnect();
    let mut shared = subscriber(server, &format!("$share/group/{topic}"), 2);
    let mut publisher = client(server, "pub");
    publisher.publish_packet(with_all(Publish::new(&topic, "text").retain()), 1);
    let wanted = with_all(Publish::new(&topic, "text").qos(1, 0));
    assert_like(&take(&mut live), wanted.clone());
    assert_like(&take(&mut shared), wanted.clone());
    assert_like(&take(&mut Client::connect(server, resume)), wanted.clone());
    assert_like(&take(&mut subscriber(server, &topic, 2)), wanted.retain());
    // At the other qualities of service, too, and in a Will.
    for qos in [0, 2] {
        publisher.publish_packet(with_all(Publish::new(&topic, "text")), qos);
        assert_like(&take(&mut live), with_all(Publish::new(&topic, "text").qos(qos, 0)));
    }
    let will = properties.iter().cloned().fold(Will::new(&topic, "will"), Will::property);
    Client::connect(server, connect(server, "will").will(will)).vanish();
    assert_like(&take(&mut live), with_all(Publish::new(&topic, "will")));
}

#[test]
fn v5_mqtt_3_3_2_4_payload_format_indicator_is_passed_on() {
    on_each_shard_count(|server| {
        pass_on(server, &[Property::PayloadFormatIndicator(1)]);
        pass_on(server, &[Property::PayloadFormatIndicator(0)]);
    });
}

fn expiry(publish: &Publish) -> Option<u32> {
    publish.properties.iter().find_map(|property| match property {
        Property::MessageExpiryInterval(seconds) => Some(*seconds),
        _ => None,
    })
}

#[test]
fn v5_mqtt_3_3_2_5_an_expired_message_not_yet_begun_is_deleted() {
    on_each_shard_count(|server| {
        let topic = server.unique("expired");
        let resume = resuming(server, "away").property(Property::ReceiveMaximum(1));
        let mut away = Client::connect(server, resume.clone());
        away.subscribe(&topic, 2);
        let mut publisher = client(server, "pub");
        // One message holds the window, so that the next waits behind it while the client is connected.
        publisher.publish(&topic, "first", 1);
        let first = away.expect_publish(&topic, "first", 1);
        let short = |payload| Publish::new(&topic, payload).property(Property::MessageExpiryInterval(1));
        publisher.publish_packet(short("behind the window"), 1).publish_packet(short("behind"), 2);
        let_pass(server, 3);
        away.acknowledge(&first).expect_nothing_within_roundtrip();
        away.disconnect();
        // Queued for a client that is away, with others before and after it, and retained.
        publisher.publish(&topic, "before", 1).publish_packet(short("short"), 1).publish_packet(short("short"), 2);
        publisher.publish_packet(short("retained").retain(), 1).publish(&topic, "after", 1);
        let_pass(server, 3);
        let mut away = Client::connect(server, resume);
        away.receive(&topic, "before", 1).receive(&topic, "after", 1).expect_nothing_within_roundtrip();
        subscriber(server, &topic, 2).expect_no_retained(server);
    });
}

#[test]
fn v5_mqtt_3_3_2_6_the_expiry_is_sent_on_less_the_time_waited() {
    on_each_shard_count(|server| {
        let topic = server.unique("waits");
        let resume = resuming(server, "away");
        let mut away = Client::connect(server, resume.clone());
        away.subscribe(&topic, 1);
        away.disconnect();
        let mut live = subscriber(server, &topic, 1);
        let publish = Publish::new(&topic, "x").retain().property(Property::MessageExpiryInterval(100));
        client(server, "pub").publish_packet(publish, 1);
        let at_once = expiry(&take(&mut live)).expect("an expiry");
        assert!((95..=100).contains(&at_once), "{at_once} s at once");
        let_pass(server, 3);
        // Queued, and retained.
        for came in [take(&mut Client::connect(server, resume)), take(&mut subscriber(server, &topic, 1))] {
            let left = expiry(&came).expect("an expiry");
            assert!((80..=97).contains(&left), "{left} s after 3 s");
        }
        // Without one, none is added.
        let plain = server.unique("plain");
        let mut client = subscriber(server, &plain, 1);
        client.publish(&plain, "x", 0).expect_publish(&plain, "x", 0);
    });
}

/// A PUBLISH of a client that uses an alias: with `topic` it sets it, without one it resolves it.
fn aliased(topic: &str, payload: &str, alias: u16) -> Publish {
    Publish::new(topic, payload).property(Property::TopicAlias(alias))
}

fn topic_alias_maximum(client: &Client) -> u16 {
    client
        .connack_property(|property| match property {
            Property::TopicAliasMaximum(maximum) => Some(*maximum),
            _ => None,
        })
        .unwrap_or(0)
}

#[test]
fn v5_mqtt_3_3_2_7_alias_mappings_do_not_outlive_the_connection() {
    on_each_shard_count(|server| {
        let topic = server.unique("alias");
        let mut watcher = subscriber(server, &topic, 0);
        let resume = resuming(server, "alias");
        let mut client = Client::connect(server, resume.clone());
        client.send(aliased(&topic, "set", 1)).send(aliased("", "used", 1));
        watcher.expect_publish(&topic, "set", 0);
        watcher.expect_publish(&topic, "used", 0);
        client.vanish_noticed();
        let mut client = Client::connect(server, resume.clone());
        assert!(client.session_present());
        client.send(aliased("", "stale", 1));
        expect_disconnect_among(&mut client, &[0x82, 0x94]);
        // Nor does a connection see another's.
        let mut client = Client::connect(server, resume);
        client.send(aliased(&topic, "mine", 1)).expect_nothing_within_roundtrip();
        let mut other = super::kit::client(server, "other");
        other.send(aliased("", "not mine", 1));
        expect_disconnect_among(&mut other, &[0x82, 0x94]);
        watcher.expect_publish(&topic, "mine", 0);
        watcher.expect_nothing_from(&mut client);
    });
}

#[test]
fn v5_mqtt_3_3_2_8_alias_0_is_refused_and_not_sent() {
    on_each_shard_count(|server| {
        for topic in ["", "topic"] {
            let mut client = client(server, "zero");
            client.send(aliased(topic, "x", 0)).expect_disconnect(0x94);
        }
        // From the broker: whatever alias comes is above 0 (also in `v5_mqtt_3_1_2_26`).
        let topic = server.unique("zero");
        let allow = connect(server, "sub").property(Property::TopicAliasMaximum(10));
        let mut client = Client::connect(server, allow);
        client.subscribe(&topic, 0);
        let mut publisher = super::kit::client(server, "pub");
        publisher.send(aliased(&topic, "x", 1)).send(aliased("", "x", 1));
        for _ in 0..2 {
            let publish = take(&mut client);
            assert!(!publish.properties.contains(&Property::TopicAlias(0)), "{publish:?}");
        }
    });
}

#[test]
fn v5_mqtt_3_3_2_11_no_alias_above_the_maximum_that_the_client_announced() {
    on_each_shard_count(|server| {
        let base = server.unique("above");
        let allow = connect(server, "sub").property(Property::TopicAliasMaximum(3));
        let mut client = Client::connect(server, allow);
        client.subscribe(&format!("{base}/#"), 0);
        let mut publisher = super::kit::client(server, "pub");
        for number in 0..40 {
            publisher.publish(&format!("{base}/{}", number % 8), "x", 0);
            for property in take(&mut client).properties {
                assert!(matches!(property, Property::TopicAlias(1..=3)), "{property:?}");
            }
        }
    });
}

#[test]
fn v5_mqtt_3_3_2_12_aliases_up_to_the_announced_maximum_are_accepted() {
    let script = |server: &Server| {
        let base = server.unique("up");
        let mut watcher = subscriber(server, &format!("{base}/#"), 2);
        let mut client = client(server, "pub");
        let maximum = topic_alias_maximum(&client);
        for alias in 1..=maximum {
            client.send(aliased(&format!("{base}/{alias}"), "set", alias));
            watcher.expect_publish(&format!("{base}/{alias}"), "set", 0);
        }
        // Each is still known, at each QoS, and an alias may be set anew. Aliases of one side are not passed on.
        for alias in (1..=maximum).rev() {
            client.publish_packet(aliased("", "used", alias), 1);
            watcher.receive(&format!("{base}/{alias}"), "used", 1);
            client.publish_packet(aliased(&format!("{base}/new/{alias}"), "moved", alias), 2);
            watcher.receive(&format!("{base}/new/{alias}"), "moved", 2);
            client.send(aliased("", "again", alias));
            watcher.expect_publish(&format!("{base}/new/{alias}"), "again", 0);
        }
        // One more is an invalid alias.
        if let Some(above) = maximum.checked_add(1) {
            client.send(aliased(&base, "x", above)).expect_disconnect(0x94);
        }
    };
    on_each_shard_count(script);
    on_each_shard_count_with(&["mqtt.topic_alias_max=3"], |server| {
        assert_eq!(topic_alias_maximum(&client(server, "told")), 3);
        script(server);
    });
    on_each_shard_count_with(&["mqtt.topic_alias_max=0"], |server| {
        assert_eq!(topic_alias_maximum(&client(server, "told")), 0);
        script(server);
    });
}

#[test]
fn an_alias_that_was_never_set_is_a_protocol_error() {
    on_each_shard_count(|server| {
        let mut client = client(server, "unset");
        client.send(aliased("", "x", 1));
        expect_disconnect_among(&mut client, &[0x82, 0x94]);
        violates(server, &publish_bytes(0, b"", None, &[], b"neither topic nor alias"), &[0x81, 0x82]);
    });
}

#[test]
fn topic_alias_in_will_properties_is_malformed() {
    on_each_shard_count(|server| {
        let will = Will::new("topic", "").property(Property::TopicAlias(1));
        let connect = crate::wire::Packet::from(connect(server, "will").will(will));
        refused(server, &connect.encode(crate::wire::Version::V5), &[0x81, 0x82]);
    });
}

/// Each of `texts` as a property's string must be refused with one of `codes`, in a PUBLISH and in a Will.
fn property_is_checked(identifier: u8, texts: &[&[u8]], codes: &[u8]) {
    on_each_shard_count(|server| {
        for text in texts {
            let property = [&[identifier][..], &crate::wire::field(text)].concat();
            violates(server, &publish_bytes(0, b"topic", None, &property, b"x"), codes);
            violates(server, &publish_bytes(4, b"topic", Some(1), &property, b"x"), codes);
            let mut will = crate::wire::field("willproperty");
            will.push(property.len() as u8);
            will.extend([&property[..], &fields(&[b"topic", b"payload"])].concat());
            refused(server, &connect_bytes(0x06, &[], &will), codes);
        }
    });
}

#[test]
fn v5_mqtt_3_3_2_13_response_topic_is_valid_utf_8() {
    property_is_checked(0x08, ILL_FORMED, &[0x81]);
}

#[test]
fn v5_mqtt_3_3_2_14_response_topic_has_no_wildcards() {
    property_is_checked(0x08, &[b"#", b"+", b"a/#", b"a/+/b", b"a+"], &[0x81, 0x82, 0x90]);
}

#[test]
fn v5_mqtt_3_3_2_15_response_topic_is_passed_on() {
    on_each_shard_count(|server| pass_on(server, &[Property::ResponseTopic("answers/\u{FEFF}/to me".into())]));
}

#[test]
fn v5_mqtt_3_3_2_16_correlation_data_is_passed_on() {
    on_each_shard_count(|server| {
        pass_on(server, &[Property::CorrelationData((0..=255).collect())]);
        pass_on(server, &[Property::CorrelationData(Vec::new())]);
    });
}

#[test]
fn v5_mqtt_3_3_2_17_user_properties_are_passed_on() {
    on_each_shard_count(|server| {
        pass_on(server, &[Property::UserProperty("name".into(), "value".into())]);
        pass_on(server, &[Property::UserProperty(String::new(), String::new())]);
    });
}

#[test]
fn v5_mqtt_3_3_2_18_user_properties_keep_their_order() {
    on_each_shard_count(|server| {
        let pair = |name: &str, value: &str| Property::UserProperty(name.into(), value.into());
        // Names that repeat, values that repeat, and other properties in between.
        let properties = [
            pair("z", "1"),
            Property::ContentType("type".into()),
            pair("a", "1"),
            pair("z", "0"),
            Property::CorrelationData(vec![0]),
            pair("z", "1"),
            pair("\u{FEFF}", ""),
            pair("a", "0"),
        ];
        pass_on(server, &properties);
    });
}

#[test]
fn v5_mqtt_3_3_2_19_content_type_is_valid_utf_8() {
    property_is_checked(0x03, ILL_FORMED, &[0x81]);
}

#[test]
fn v5_mqtt_3_3_2_20_content_type_is_passed_on() {
    on_each_shard_count(|server| {
        pass_on(server, &[Property::ContentType("text/plain; charset=utf-8".into())]);
        pass_on(server, &[Property::ContentType(String::new())]);
    });
}

#[test]
fn all_properties_together_are_passed_on() {
    on_each_shard_count(|server| {
        let properties = [
            Property::PayloadFormatIndicator(1),
            Property::ContentType("type".into()),
            Property::ResponseTopic("response".into()),
            Property::CorrelationData(vec![0xFF; 300]),
            Property::UserProperty("name".into(), "v".repeat(300)),
            Property::UserProperty("name".into(), "value".into()),
        ];
        pass_on(server, &properties);
    });
}

#[test]
fn payload_format_is_checked_where_that_is_configured() {
    on_each_shard_count_with(&["mqtt.payload_format_check=true"], |server| {
        let topic = server.unique("format");
        let mut watcher = subscriber(server, &topic, 2);
        let mut client = client(server, "pub");
        let text = |payload: &[u8]| Publish::new(&topic, payload).property(Property::PayloadFormatIndicator(1));
        client.send(text(b"\xFF\xFE").qos(1, 1));
        assert_eq!(client.expect_puback(1).code, 0x99);
        client.send(text(b"\xED\xA0\x80").qos(2, 2));
        assert_eq!(client.expect_pubrec(2).code, 0x99);
        // What is text passes, and so does anything that is not declared to be text.
        client.publish_packet(text("\u{FEFF}text".as_bytes()), 1);
        assert_like(&take(&mut watcher), text("\u{FEFF}text".as_bytes()).qos(1, 0));
        client.publish(&topic, b"\xFF\xFE", 1);
        watcher.receive(&topic, b"\xFF\xFE", 1).expect_nothing_within_roundtrip();
    });
}
