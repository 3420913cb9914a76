//! What the broker says about itself.

use super::kit::{Broker, V5, V311, durable, publish};
use crate::{
    mqtt::{Connect, Disconnect, ReasonCode},
    shard::Counters,
};

const CLIENTS: &str = "$SYS/brokers/ringmq@127.0.0.1/clients/";

/// The value of `key` in the one event of these lines, as JSON.
fn event(lines: &[String], topic: &str) -> serde_json::Value {
    assert_eq!(lines.len(), 1, "{lines:?}");
    let (_, text) = lines[0].split_once('=').expect("a payload");
    assert!(lines[0].starts_with(&format!("PUBLISH q0 {topic}=")), "{lines:?}");
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn comings_and_goings_are_told_to_who_asks() {
    let mut broker = Broker::new(2);
    let watcher = broker.connect("watcher", V5);
    broker.subscribe(watcher, "$SYS/brokers/+/clients/#", 1);
    let connect = Connect { user_name: Some("me"), keep_alive_s: 7, ..durable(V5, "c", 60) };
    let client = broker.connect_as(connect);
    let connected = event(&broker.take(watcher), &format!("{CLIENTS}c/connected"));
    for (key, value) in [
        ("clientid", serde_json::Value::from("c")),
        ("username", "me".into()),
        ("ipaddress", "127.0.0.9".into()),
        ("sockport", 1883.into()),
        ("proto_name", "MQTT".into()),
        ("proto_ver", 5.into()),
        ("keepalive", 7.into()),
        ("clean_start", false.into()),
        ("expiry_interval", 60.into()),
        ("connack", 0.into()),
        ("connected_at", 1_000_000_000.into()),
        ("ts", 1_000_000_000.into()),
    ] {
        assert_eq!(connected[key], value, "{key}");
    }
    broker.after_s(3);
    broker.send(client, Disconnect::new(ReasonCode::Success));
    let disconnected = event(&broker.take(watcher), &format!("{CLIENTS}c/disconnected"));
    for (key, value) in [
        ("clientid", serde_json::Value::from("c")),
        ("username", "me".into()),
        ("sockport", 1883.into()),
        ("clean_start", false.into()),
        ("connected_at", 1_000_000_000.into()),
        ("disconnected_at", 1_000_003_000.into()),
        ("expiry_interval", 60.into()),
        ("reason", "normal".into()),
    ] {
        assert_eq!(disconnected[key], value, "{key}");
    }
}

#[test]
fn each_end_has_its_reason() {
    type End = fn(&mut Broker, super::kit::Client);
    let ends: [(&str, End); 6] = [
        ("tcp_closed", |broker, client| broker.hang_up(client)),
        ("client_disconnect_with_reason", |broker, client| {
            broker.send(client, Disconnect::new(ReasonCode::DisconnectWithWillMessage));
        }),
        ("keepalive_timeout", |broker, _| broker.after_s(20)),
        ("protocol_error", |broker, client| broker.send_bytes(client, &[0xF3, 0])),
        ("takenover", |broker, _| {
            broker.connect_as(durable(V5, "c", 50));
        }),
        ("discarded", |broker, _| {
            broker.connect("c", V5);
        }),
    ];
    for (reason, end) in ends {
        let mut broker = Broker::new(1);
        let watcher = broker.connect("watcher", V5);
        let client = broker.connect_as(Connect { keep_alive_s: 10, ..durable(V5, "c", 50) });
        broker.subscribe(watcher, "$SYS/brokers/+/clients/+/disconnected", 0);
        end(&mut broker, client);
        let told = event(&broker.take(watcher), &format!("{CLIENTS}c/disconnected"));
        assert_eq!(told["reason"], reason);
        assert_eq!(told["username"], "undefined");
    }
}

#[test]
fn nothing_is_told_where_it_is_turned_off_or_cannot_be_a_topic() {
    for (enabled, client_events, expected) in [(true, true, 1), (true, false, 0), (false, true, 0)] {
        let mut broker = Broker::with(1, |config| {
            config.sys.enabled = enabled;
            config.sys.client_events = client_events;
        });
        let watcher = broker.connect("watcher", V5);
        broker.subscribe(watcher, "$SYS/#", 0);
        broker.connect("c", V311);
        assert_eq!(broker.take(watcher).len(), expected, "{enabled} {client_events}");
        broker.connect("not/a#topic", V311);
        assert!(broker.take(watcher).is_empty());
        broker.after_s(10);
        assert_eq!(!broker.take(watcher).is_empty(), enabled);
    }
}

#[test]
fn levels_and_counters_of_all_shards_are_published_at_each_interval() {
    let mut broker = Broker::new(2);
    let names = [0, 1].map(|shard| broker.client_id_at(shard, "c"));
    let clients = names.map(|name| broker.connect(&name, V5));
    for &client in &clients {
        broker.send(client, publish(1, 1, "t", "m"));
        broker.take(client);
    }
    broker.publish_retained(clients[0], "r", "payload");
    let watcher = clients[0];
    broker.subscribe(watcher, "$SYS/brokers/#", 0);
    broker.after_s(20);
    let told = broker.take(watcher);
    let value = |name: &str| {
        let topic = format!(" $SYS/brokers/ringmq@127.0.0.1/{name}=");
        let line = told.iter().rev().find(|line| line.contains(&topic));
        line.and_then(|line| line.split_once('=')).map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    for (name, expected) in [
        ("stats/connections/count", "2"),
        ("stats/sessions/count", "2"),
        ("stats/retained/count", "1"),
        ("stats/retained/bytes", "136"),
        ("stats/queued/count", "0"),
        ("stats/queued/bytes", "0"),
        ("uptime", "20"),
        ("metrics/connects_accepted", "2"),
        ("metrics/publishes_received_qos1", "2"),
        ("metrics/publishes_received_qos0", "1"),
        ("metrics/publishes_unmatched", "3"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("sysdescr", "RingMQ"),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
    let at_each = told.iter().filter(|line| line.contains("/uptime=")).count();
    assert_eq!(at_each, 2);
    let metrics = told.iter().filter(|line| line.contains("/metrics/")).count();
    assert_eq!(metrics, 2 * Counters::NAMES.len());
    assert!(told.iter().any(|line| line == "PUBLISH q0 $SYS/brokers=ringmq@127.0.0.1"));
}

#[test]
fn a_wildcard_at_the_start_does_not_match_it() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    broker.subscribe(client, "#", 0);
    broker.subscribe(client, "+/#", 0);
    broker.after_s(30);
    assert!(broker.take(client).is_empty());
}
