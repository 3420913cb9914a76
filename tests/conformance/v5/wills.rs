//! Wills: each way in which a connection may end.

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::{Server, on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Connect, Disconnect, Packet, Publish, Will};

/// How a connection ends.
type End = fn(&Server, Client, &Connect);

/// Runs `script` with each end that publishes the Will.
fn each_end(script: impl Fn(&Server, &str, End) + Sync) {
    let ends: [(&str, End); 9] = [
        ("the network fails", |_, client, _| client.vanish()),
        ("DISCONNECT with Will Message", |_, mut client, _| client.send(Disconnect::code(0x04)).expect_closed()),
        ("DISCONNECT with an error", |_, mut client, _| client.send(Disconnect::code(0x80)).expect_closed()),
        ("take-over", |server, mut client, connect| {
            let newer = Client::connect(server, Connect { will: None, ..connect.clone() });
            client.expect_disconnect(0x8E);
            newer.disconnect();
        }),
        ("take-over with a clean start", |server, mut client, connect| {
            let newer = Client::connect(server, Connect { will: None, clean: true, ..connect.clone() });
            client.expect_disconnect(0x8E);
            newer.disconnect();
        }),
        ("silence", |_, mut client, _| drop(client.expect_disconnect(0x8D))),
        ("a malformed packet", |_, mut client, _| drop(client.send_raw(&[0, 0]).expect_disconnect(0x81))),
        ("a protocol error", |_, mut client, connect| {
            client.send(connect.clone()).expect_disconnect(0x82);
        }),
        ("an invalid alias", |_, mut client, _| {
            client.send(Publish::new("topic", "").property(Property::TopicAlias(0))).expect_disconnect(0x94);
        }),
    ];
    on_each_shard_count(|server| {
        for (name, end) in ends {
            println!("{name}");
            script(server, name, end);
        }
    });
}

/// A resuming CONNECT with a Will on a topic of its own, that does not live long in silence if `name` asks for it.
fn with_will(server: &Server, name: &str, will: impl Fn(Will) -> Will) -> (Connect, String) {
    let topic = server.unique("ends");
    let keep_alive = if name == "silence" { 1 } else { 60 };
    let connect = resuming(server, "ends").keep_alive(keep_alive).will(will(Will::new(&topic, "will")));
    (connect, topic)
}

#[test]
fn every_end_but_disconnect_0_publishes_the_will() {
    each_end(|server, name, end| {
        let (connect, topic) = with_will(server, name, |will| will.qos(1));
        let mut watcher = subscriber(server, &topic, 2);
        end(server, Client::connect(server, connect.clone()), &connect);
        watcher.receive(&topic, "will", 1).expect_nothing_within_roundtrip();
    });
}

#[test]
fn every_end_waits_for_the_will_delay_and_a_resumption_cancels_it() {
    each_end(|server, name, end| {
        // A clean start ends the session, and the delay with it.
        let at_once = name == "take-over with a clean start";
        let (connect, topic) = with_will(server, name, |will| will.property(Property::WillDelayInterval(1)));
        let mut watcher = subscriber(server, &topic, 0);
        end(server, Client::connect(server, connect.clone()), &connect);
        let resume = Connect { will: None, keep_alive: 60, ..connect };
        if at_once {
            watcher.expect_publish(&topic, "will", 0);
        }
        let mut back = Client::connect(server, resume);
        let_pass(server, 2);
        watcher.expect_nothing_from(&mut back);
    });
}

#[test]
fn a_will_is_published_with_all_that_belongs_to_it() {
    on_each_shard_count(|server| {
        let properties = [
            Property::PayloadFormatIndicator(1),
            Property::MessageExpiryInterval(100),
            Property::ContentType("type".into()),
            Property::ResponseTopic("response".into()),
            Property::CorrelationData(vec![1, 2, 3]),
            Property::UserProperty("b".into(), "1".into()),
            Property::UserProperty("a".into(), "2".into()),
        ];
        for qos in 0..=2 {
            let topic = server.unique("whole");
            let mut watcher = subscriber(server, &topic, 2 | RETAIN_AS_PUBLISHED);
            let mut low = subscriber(server, &topic, 0);
            let will =
                properties.iter().cloned().fold(Will::new(&topic, b"w\xC3\xADll").qos(qos).retain(), Will::property);
            let will = will.property(Property::WillDelayInterval(1));
            let connect = resuming(server, "whole").will(will);
            Client::connect(server, connect).vanish();
            let came = take(&mut watcher);
            let wanted =
                properties.iter().cloned().fold(Publish::new(&topic, b"w\xC3\xADll").qos(qos, 0), Publish::property);
            let nearly = |came: Publish| {
                let left = came.properties.iter().find_map(|property| match property {
                    Property::MessageExpiryInterval(seconds) => Some(*seconds),
                    _ => None,
                });
                assert!(left.is_some_and(|left| (90..=100).contains(&left)), "{came:?}");
                let whole = |property| match property {
                    Property::MessageExpiryInterval(_) => Property::MessageExpiryInterval(100),
                    other => other,
                };
                Publish { properties: came.properties.into_iter().map(whole).collect(), ..came }
            };
            assert_like(&nearly(came), wanted.clone().retain());
            assert_like(&nearly(take(&mut low)), Publish { qos: 0, ..wanted.clone() });
            assert_like(&nearly(take(&mut subscriber(server, &topic, 2))), wanted.retain());
        }
    });
}

#[test]
fn a_will_of_zero_bytes_is_a_message_and_retained_it_clears() {
    on_each_shard_count(|server| {
        let topic = server.unique("zero");
        client(server, "pub").publish_retained(&topic, "retained", 1);
        let mut watcher = subscriber(server, &topic, 1 | RETAIN_NEVER);
        Client::connect(server, connect(server, "zero").will(Will::new(&topic, "").qos(1).retain())).vanish();
        watcher.receive(&topic, "", 1);
        subscriber(server, &topic, 1).expect_no_retained(server);
    });
}

#[test]
fn the_will_of_the_last_connect_counts() {
    on_each_shard_count(|server| {
        let topic = server.unique("last");
        let mut watcher = subscriber(server, &topic, 0);
        let resume = resuming(server, "last");
        // Delayed, replaced by a resumption with another Will, which is published at once.
        let first = Will::new(&topic, "first").property(Property::WillDelayInterval(1));
        Client::connect(server, resume.clone().will(first)).vanish_noticed();
        Client::connect(server, resume.clone().will(Will::new(&topic, "second"))).vanish();
        watcher.expect_publish(&topic, "second", 0);
        let_pass(server, 3);
        watcher.expect_nothing_from(&mut Client::connect(server, resume));
    });
}

#[test]
fn disconnect_with_will_message_may_shorten_the_session_and_so_the_delay() {
    on_each_shard_count(|server| {
        let topic = server.unique("shorten");
        let mut watcher = subscriber(server, &topic, 0);
        let will = Will::new(&topic, "will").property(Property::WillDelayInterval(60));
        let mut client = Client::connect(server, resuming(server, "shorten").will(will));
        client.send(Disconnect::code(0x04).property(Property::SessionExpiryInterval(0))).expect_closed();
        watcher.expect_publish(&topic, "will", 0);
    });
}

#[test]
fn a_will_reaches_groups_sessions_that_are_away_and_other_versions() {
    on_each_shard_count(|server| {
        let topic = server.unique("reach");
        let resume = resuming(server, "away");
        let mut away = Client::connect(server, resume.clone());
        away.subscribe(&topic, 1);
        away.disconnect();
        let mut shared = subscriber(server, &format!("$share/{}/{topic}", server.unique("group")), 1);
        let mut v3 = Client::connect(server, Connect::v311(&server.unique("v3")));
        v3.subscribe(&topic, 1);
        let mut itself = subscriber(server, &topic, 0);
        Client::connect(server, connect(server, "will").will(Will::new(&topic, "will").qos(1))).vanish();
        shared.receive(&topic, "will", 1);
        v3.receive(&topic, "will", 1);
        itself.expect_publish(&topic, "will", 0);
        Client::connect(server, resume).receive(&topic, "will", 1);
    });
}

#[test]
fn a_will_delay_is_cut_to_the_configured_maximum() {
    on_each_shard_count_with(&["mqtt.will_delay_max=1s"], |server| {
        let topic = server.unique("cut");
        let mut watcher = subscriber(server, &topic, 0);
        let will = Will::new(&topic, "will").property(Property::WillDelayInterval(1000));
        Client::connect(server, resuming(server, "cut").will(will)).vanish();
        watcher.expect_publish(&topic, "will", 0);
    });
}

#[test]
fn a_will_with_a_property_that_none_can_have_is_refused() {
    on_each_shard_count(|server| {
        let twice = [0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1];
        let cases: [&[u8]; 6] = [&[0x23, 0, 1], &[0x0B, 1], &[0x11, 0, 0, 0, 1], &[0x21, 0, 1], &twice, &[0x01, 2]];
        for properties in cases {
            let mut payload = crate::wire::field("willproperty");
            payload.push(properties.len() as u8);
            payload.extend([properties, &fields(&[b"topic", b"payload"])].concat());
            refused(server, &connect_bytes(0x06, &[], &payload), &[0x81, 0x82]);
        }
        // It may not be sent with the connection's own properties either.
        let misplaced = Packet::from(connect(server, "will").property(Property::WillDelayInterval(1)));
        refused(server, &misplaced.encode(crate::wire::Version::V5), &[0x81, 0x82]);
    });
}
