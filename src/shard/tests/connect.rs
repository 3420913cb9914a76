//! What a CONNECT is granted, and which session it gets.

use std::time::Duration;

use super::kit::{Broker, V5, V31, V311, durable, encoded, options, publish};
use crate::mqtt::{Connect, ProtocolVersion, QoS, Subscribe, TopicFilter, TopicName, WillPacket, WillProperties};

fn will<'a>(topic: &'a str, qos: u8, retain: bool) -> WillPacket<'a> {
    WillPacket {
        topic: TopicName::parse(topic).unwrap(),
        payload: b"gone",
        qos: QoS::from_bits(qos).unwrap(),
        retain,
        properties: WillProperties::default(),
    }
}

#[test]
fn a_client_is_told_what_every_client_gets() {
    let mut broker = Broker::new(1);
    for (version, told) in [
        (V5, "CONNACK Success receive_maximum=1024 packet_max=1048576 aliases=64"),
        (V311, "CONNACK Success"),
        (V31, "CONNACK Success"),
    ] {
        let client = broker.ask(Connect::new(version, "c"));
        assert_eq!(broker.take(client), [told]);
        assert!(!broker.is_paused(client));
        broker.hang_up(client);
    }
    assert_eq!(broker.counters(0).connects_accepted, 3);
}

#[test]
fn a_client_is_told_what_the_configuration_withholds() {
    let mut broker = Broker::with(1, |config| {
        config.mqtt.maximum_qos = 1;
        config.mqtt.retained_available = false;
        config.mqtt.wildcard_available = false;
        config.mqtt.shared_available = false;
        config.mqtt.topic_alias_max = 0;
        config.mqtt.receive_maximum = 3;
        config.mqtt.packet_bytes_max = 500;
        config.mqtt.keep_alive_max = Duration::from_secs(60);
        config.mqtt.session_expiry_max = Duration::from_secs(100);
        config.mqtt.response_information = "answers/".to_owned();
    });
    let mut connect = durable(V5, "c", 101);
    connect.properties.request_response_information = true;
    let client = broker.ask(connect);
    let told = "CONNACK Success expiry=100 receive_maximum=3 maximum_qos=1 retain=false packet_max=500 \
                wildcards=false shared=false keep_alive=60 response=answers/";
    assert_eq!(broker.take(client), [told]);
    let client = broker.ask(Connect { keep_alive_s: 60, ..durable(V5, "d", 100) });
    let told = broker.take(client).join("");
    assert!(!told.contains("expiry") && !told.contains("keep_alive") && !told.contains("response"), "{told}");
}

#[test]
fn no_client_identifier_is_assigned_where_the_version_allows_none() {
    let mut broker = Broker::new(2);
    let cases = [(V31, true, false), (V311, true, true), (V311, false, false), (V5, true, true), (V5, false, true)];
    for (version, clean_start, is_served) in cases {
        let client = broker.ask(Connect { clean_start, ..Connect::new(version, "") });
        let told = broker.take(client);
        if is_served {
            assert!(told[0].starts_with("CONNACK Success"), "{version:?} {clean_start}");
            assert_eq!(told[0].contains("client_id=auto-"), version == V5);
        } else {
            assert_eq!(told, ["CONNACK ClientIdentifierNotValid", "closed"], "{version:?} {clean_start}");
        }
    }
    assert_eq!(broker.levels(), (3, 3, 0));
    // Where a client lands it is at home.
    assert_eq!(broker.counters(0).handed_off + broker.counters(1).handed_off, 0);
}

#[test]
fn an_empty_client_identifier_can_be_forbidden() {
    let mut broker = Broker::with(1, |config| config.mqtt.client_id_empty_allowed = false);
    for version in [V311, V5] {
        let client = broker.ask(Connect::new(version, ""));
        assert_eq!(broker.take(client), ["CONNACK ClientIdentifierNotValid", "closed"]);
    }
    assert_eq!(broker.counters(0).connects_refused, 2);
    assert_eq!(broker.levels(), (0, 0, 0));
}

#[test]
fn a_client_identifier_may_be_as_long_as_configured() {
    let mut broker = Broker::new(1);
    broker.connect(&"c".repeat(256), V311);
    let client = broker.ask(Connect::new(V311, &"c".repeat(257)));
    assert_eq!(broker.take(client), ["CONNACK ClientIdentifierNotValid", "closed"]);
}

#[test]
fn what_is_no_connect_is_closed_without_a_word() {
    let mut broker = Broker::new(1);
    let connect = encoded(Connect::new(V311, "c"), V311);
    let cases: [(&str, &[u8]); 5] = [
        ("PINGREQ", &[0xC0, 0]),
        ("the start of a PUBLISH", &[0x30, 200]),
        ("another protocol", &[0x10, 13, 0, 4, b'H', b'T', b'T', b'P', 4, 2, 0, 0, 0, 1, b'c']),
        ("a reserved flag in 3.1.1", &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 3, 0, 0, 0, 1, b'c']),
        ("a length without end", &[0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
    ];
    for (name, bytes) in cases {
        let client = broker.accept(0, V311);
        broker.send_bytes(client, bytes);
        assert_eq!(broker.take(client), ["closed"], "{name}");
        broker.send_bytes(client, &connect);
        assert!(broker.take(client).is_empty(), "{name}");
    }
    assert_eq!(broker.counters(0).connects_refused, cases.len() as u64);
    assert_eq!(broker.levels(), (0, 0, 0));
}

#[test]
fn a_connect_that_breaks_the_protocol_is_answered_where_the_version_has_words() {
    let mut broker = Broker::new(1);
    let client = broker.accept(0, V5);
    broker.send_bytes(client, &[0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 3, 0, 0, 0, 0, 1, b'c']);
    assert_eq!(broker.take(client), ["CONNACK MalformedPacket", "closed"]);
    let client = broker.accept(0, V311);
    broker.send_bytes(client, &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 6, 2, 0, 0, 0, 1, b'c']);
    assert_eq!(broker.take(client), ["CONNACK UnsupportedProtocolVersion", "closed"]);
}

#[test]
fn a_packet_above_the_limit_is_refused_before_it_is_complete() {
    let mut broker = Broker::with(1, |config| config.mqtt.packet_bytes_max = 128);
    let client = broker.accept(0, V311);
    broker.send_bytes(client, &[0x10, 127]);
    assert_eq!(broker.take(client), ["closed"]);
}

#[test]
fn what_comes_in_one_piece_and_byte_by_byte_is_the_same() {
    let subscribe_filters = [(TopicFilter::parse("t").unwrap(), options(0))];
    let mut bytes = encoded(Connect::new(V5, "c"), V5);
    bytes.extend(encoded(Subscribe::new(super::kit::identifier_of(1), &subscribe_filters), V5));
    bytes.extend(encoded(publish(0, 0, "t", "m"), V5));
    bytes.extend([0xC0, 0]);
    let told = |broker: &mut Broker, piece: usize, shard: u16| {
        let client = broker.accept(shard, V5);
        bytes.chunks(piece).for_each(|part| broker.send_bytes(client, part));
        let told = broker.take(client);
        broker.hang_up(client);
        told
    };
    let mut broker = Broker::new(2);
    for shard in [0, 1] {
        for piece in [1, 2, 3, 7, 23, bytes.len()] {
            let told = told(&mut broker, piece, shard);
            assert!(told[0].starts_with("CONNACK Success"), "{piece}");
            assert_eq!(told[1..], ["SUBACK 1 [Success]", "PUBLISH q0 t=m", "PINGRESP"], "{piece} at {shard}");
        }
    }
    let away = 1 - broker.home_of_client("c");
    assert_eq!(broker.counters(away).handed_off, 6);
    assert_eq!(broker.counters(1 - away).handed_off, 0);
    assert_eq!(broker.levels(), (0, 0, 0));
}

#[test]
fn what_follows_a_refused_connect_is_for_nobody() {
    let mut broker = Broker::new(1);
    let client = broker.accept_through(0, V5, 1);
    let mut bytes = encoded(Connect::new(V5, "c"), V5);
    bytes.extend([0xC0, 0]);
    broker.send_bytes(client, &bytes);
    assert_eq!(broker.take(client), ["CONNACK NotAuthorized", "closed"]);
}

#[test]
fn a_listener_that_admits_nobody_refuses_each_with_its_reason() {
    let mut broker = Broker::new(1);
    let mut refused = |connect: Connect<'_>, listener| {
        let client = broker.accept_through(0, V5, listener);
        broker.send(client, connect);
        broker.take(client)
    };
    assert_eq!(refused(Connect::new(V5, "c"), 1), ["CONNACK NotAuthorized", "closed"]);
    let named = Connect { user_name: Some("u"), ..Connect::new(V5, "c") };
    assert_eq!(refused(named, 1), ["CONNACK BadUserNameOrPassword", "closed"]);
    assert_eq!(refused(named, 9), ["CONNACK BadUserNameOrPassword", "closed"], "a listener that nobody knows");
    assert!(refused(named, 0)[0].starts_with("CONNACK Success"));
    let mut extended = Connect::new(V5, "d");
    extended.properties.authentication_method = Some("SCRAM");
    assert_eq!(refused(extended, 0), ["CONNACK BadAuthenticationMethod", "closed"]);
    assert_eq!(broker.levels(), (1, 1, 0));
    assert_eq!(broker.counters(0).connects_refused, 4);
}

#[test]
fn a_will_is_held_to_what_a_publish_is() {
    let mut broker = Broker::with(1, |config| {
        config.mqtt.maximum_qos = 1;
        config.mqtt.retained_available = false;
        config.mqtt.topic_bytes_max = 8;
        config.mqtt.topic_levels_max = 3;
    });
    for (will, told) in [
        (will("a", 2, false), "CONNACK QoSNotSupported"),
        (will("a", 1, true), "CONNACK RetainNotSupported"),
        (will("$SYS/a", 1, false), "CONNACK TopicNameInvalid"),
        (will("ninebytes", 1, false), "CONNACK TopicNameInvalid"),
        (will("a/b/c/d", 1, false), "CONNACK TopicNameInvalid"),
    ] {
        let client = broker.ask(Connect { will: Some(will), ..Connect::new(V5, "c") });
        assert_eq!(broker.take(client), [told, "closed"]);
    }
    for will in [will("eight888", 1, false), will("a/b/c", 0, false), will("$SYSa", 0, false)] {
        broker.connect_as(Connect { will: Some(will), ..Connect::new(V5, "c") });
    }
}

#[test]
fn a_session_is_resumed_until_it_has_expired() {
    let mut broker = Broker::new(1);
    for (version, expiry_s) in [(V5, 30), (V311, 7 * 86_400)] {
        let first = broker.ask(durable(version, "c", 30));
        assert!(!broker.take(first)[0].contains("present"));
        broker.subscribe(first, "t", 1);
        broker.hang_up(first);
        broker.jump(Duration::from_secs(expiry_s - 1));
        let again = broker.ask(durable(version, "c", 30));
        assert!(broker.take(again)[0].contains("present=1"));
        broker.publish(again, "t", "m");
        assert_eq!(broker.take(again), ["PUBLISH q0 t=m"], "its subscriptions are there");
        broker.hang_up(again);
        broker.jump(Duration::from_secs(expiry_s + 1));
        let late = broker.ask(durable(version, "c", 30));
        assert!(!broker.take(late)[0].contains("present"));
        broker.publish(late, "t", "m");
        assert!(broker.take(late).is_empty());
        broker.hang_up(late);
        broker.jump(Duration::from_secs(expiry_s + 1));
        assert_eq!(broker.levels(), (0, 0, 0));
    }
    assert_eq!(broker.counters(0).sessions_expired, 4);
}

#[test]
fn the_time_of_a_session_begins_anew_with_each_absence() {
    let mut broker = Broker::new(1);
    let first = broker.connect_as(durable(V5, "c", 30));
    broker.hang_up(first);
    broker.after_s(20);
    let second = broker.connect_as(durable(V5, "c", 30));
    broker.hang_up(second);
    broker.after_s(20);
    let third = broker.ask(durable(V5, "c", 30));
    assert!(broker.take(third)[0].contains("present=1"));
    broker.after_s(60);
    broker.ping(third);
    assert_eq!(broker.take(third), ["PINGRESP"], "who is there does not expire");
}

#[test]
fn a_session_may_last_for_ever() {
    for version in [V5, V311] {
        let mut broker = Broker::with(1, |config| {
            config.mqtt.session_expiry_max = Duration::MAX;
            config.mqtt.session_expiry_v3 = Duration::MAX;
        });
        let first = broker.ask(durable(version, "c", u32::MAX));
        assert!(!broker.take(first)[0].contains("expiry"));
        broker.hang_up(first);
        broker.jump(Duration::from_secs(10 * 365 * 86_400));
        let again = broker.ask(durable(version, "c", 0));
        assert!(broker.take(again)[0].contains("present=1"));
    }
    assert_eq!(Broker::new(1).shards[0].config.session_expiry_s(u32::MAX), 7 * 86_400);
}

#[test]
fn a_clean_start_ends_the_session_that_was_there() {
    let mut broker = Broker::new(1);
    for stays in [true, false] {
        let first = broker.connect_as(durable(V5, "c", 30));
        broker.subscribe(first, "t", 1);
        if !stays {
            broker.hang_up(first);
        }
        let second = broker.ask(Connect::new(V5, "c"));
        assert!(!broker.take(second)[0].contains("present"));
        broker.publish(second, "t", "m");
        assert!(broker.take(second).is_empty());
        assert_eq!(broker.take(first).is_empty(), !stays);
        assert_eq!(broker.levels(), (1, 1, 0));
        broker.hang_up(second);
        assert_eq!(broker.levels(), (0, 0, 0));
    }
}

#[test]
fn a_newer_connection_takes_the_session_over() {
    let mut broker = Broker::new(1);
    for version in [V5, V311] {
        let old = broker.connect_as(durable(version, "c", 30));
        let new = broker.ask(durable(version, "c", 30));
        assert!(broker.take(new)[0].contains("present=1"));
        let farewell: &[&str] =
            if version == V5 { &["DISCONNECT SessionTakenOver +why", "closed"] } else { &["closed"] };
        assert_eq!(broker.take(old), farewell);
        broker.ping(new);
        assert_eq!(broker.take(new), ["PINGRESP"]);
        assert_eq!(broker.levels(), (1, 1, 0));
        // Without an expiry the session ends with the old connection.
        let third = broker.connect_as(durable(version, "c", 0));
        broker.hang_up(third);
    }
    assert_eq!(broker.counters(0).taken_over, 4);
}

#[test]
fn a_session_without_expiry_does_not_outlive_a_take_over() {
    let mut broker = Broker::new(1);
    let old = broker.connect_as(durable(V5, "c", 0));
    broker.subscribe(old, "t", 0);
    let new = broker.ask(durable(V5, "c", 0));
    assert!(!broker.take(new)[0].contains("present"));
    broker.publish(new, "t", "m");
    assert!(broker.take(new).is_empty());
    assert_eq!(broker.levels(), (1, 1, 0));
}

#[test]
fn an_older_connect_never_evicts_the_connection_of_a_newer_one() {
    for version in [V5, V311] {
        let mut broker = Broker::new(2);
        let name = broker.client_id_at(0, "c");
        let slow = broker.accept(1, version);
        broker.mesh_is_held = true;
        broker.write(slow, Connect::new(version, &name));
        broker.settle();
        broker.now = broker.now.after(Duration::from_micros(1));
        let fast = broker.connect(&name, version);
        broker.mesh_is_held = false;
        broker.settle();
        let farewell: &[&str] =
            if version == V5 { &["CONNACK Success", "DISCONNECT SessionTakenOver", "closed"] } else { &["closed"] };
        assert_eq!(broker.take(slow), farewell);
        broker.ping(fast);
        assert_eq!(broker.take(fast), ["PINGRESP"]);
        assert_eq!(broker.counters(0).taken_over, 1);
        assert_eq!(broker.levels(), (1, 1, 0));
        // The same CONNECT is welcome once the newer connection is gone.
        broker.mesh_is_held = true;
        let late = broker.accept(1, version);
        broker.write(late, Connect::new(version, &name));
        broker.settle();
        broker.hang_up(fast);
        broker.mesh_is_held = false;
        broker.settle();
        assert!(broker.take(late)[0].starts_with("CONNACK Success"));
    }
}

#[test]
fn sessions_are_bounded_and_a_session_that_is_there_is_served() {
    let mut broker = Broker::with(1, |config| config.mqtt.sessions_max = 1);
    let first = broker.connect_as(durable(V5, "c", 30));
    for (version, told) in [(V5, "CONNACK QuotaExceeded"), (V311, "CONNACK ServerUnavailable")] {
        let refused = broker.ask(Connect::new(version, "d"));
        assert_eq!(broker.take(refused), [told, "closed"]);
    }
    broker.hang_up(first);
    let again = broker.connect_as(Connect::new(V5, "c"));
    broker.hang_up(again);
    broker.connect("d", V5);
    assert_eq!(broker.counters(0).connects_refused, 2);
}

#[test]
fn connections_are_bounded_before_and_after_connect() {
    let mut broker = Broker::with(1, |config| {
        config.runtime.connections_max = 3;
        config.runtime.pending_connects_max = 2;
    });
    let first = broker.accept(0, V5);
    let second = broker.accept(0, V5);
    let third = broker.accept(0, V5);
    assert_eq!(broker.take(third), ["reset"], "too many before CONNECT");
    assert_eq!(broker.levels(), (0, 2, 2));
    broker.send(first, Connect::new(V5, "a"));
    broker.send(second, Connect::new(V5, "b"));
    assert_eq!(broker.levels(), (2, 2, 0));
    let fourth = broker.accept(0, V5);
    assert!(broker.take(fourth).is_empty());
    let fifth = broker.accept(0, V5);
    assert_eq!(broker.take(fifth), ["reset"], "too many in all");
    assert_eq!(broker.counters(0).connections_over_limit, 2);
    broker.hang_up(fourth);
    assert_eq!(broker.levels(), (2, 2, 0));
    assert_eq!(broker.counters(0).connects_refused, 1);
}

#[test]
fn a_client_has_so_long_for_its_connect() {
    let mut broker = Broker::new(1);
    let gone = broker.accept(0, V311);
    broker.after_s(5);
    broker.hang_up(gone);
    let next = broker.accept(0, V311);
    broker.send_bytes(next, &[0x10]);
    let served = broker.connect("c", V311);
    broker.after_s(9);
    assert!(broker.take(next).is_empty(), "the deadline of the client that was there before it means nothing");
    broker.after_s(2);
    assert_eq!(broker.take(next), ["closed"]);
    broker.ping(served);
    assert_eq!(broker.take(served), ["PINGRESP"]);
    assert_eq!(broker.levels(), (1, 1, 0));
}

#[test]
fn a_silent_client_is_let_go_after_one_and_a_half_keep_alives() {
    let mut broker = Broker::new(1);
    let (silent, pinging) =
        (Connect { keep_alive_s: 10, ..Connect::new(V5, "s") }, Connect { keep_alive_s: 10, ..Connect::new(V5, "p") });
    let (silent, pinging) = (broker.connect_as(silent), broker.connect_as(pinging));
    let carefree = broker.connect("c", V5);
    broker.after(Duration::from_millis(14_800));
    broker.ping(pinging);
    assert!(broker.take(silent).is_empty());
    broker.after(Duration::from_millis(400));
    assert_eq!(broker.take(silent), ["DISCONNECT KeepAliveTimeout +why", "closed"]);
    broker.after_s(14);
    assert_eq!(broker.take(pinging), ["PINGRESP"]);
    broker.after_s(1);
    assert_eq!(broker.take(pinging), ["DISCONNECT KeepAliveTimeout +why", "closed"]);
    broker.after_s(100);
    assert!(broker.take(carefree).is_empty());
    assert_eq!(broker.counters(0).keep_alive_timeouts, 2);
}

#[test]
fn the_longest_keep_alive_binds_those_who_can_be_told() {
    let table: [(ProtocolVersion, u16, Option<u16>); 6] =
        [(V5, 0, Some(60)), (V5, 61, Some(60)), (V5, 60, None), (V5, 1, None), (V311, 61, None), (V311, 0, None)];
    for (version, keep_alive_s, told) in table {
        let mut broker = Broker::with(1, |config| config.mqtt.keep_alive_max = Duration::from_secs(60));
        let client = broker.ask(Connect { keep_alive_s, ..Connect::new(version, "c") });
        let line = broker.take(client).join(" ");
        assert_eq!(line.contains("keep_alive="), told.is_some(), "{keep_alive_s}: {line}");
        let in_force = told.unwrap_or(keep_alive_s);
        if in_force > 0 {
            broker.after(Duration::from_millis(u64::from(in_force) * 1_500 - 200));
            assert!(broker.take(client).is_empty());
            broker.after(Duration::from_millis(400));
        } else {
            broker.after_s(3_600);
        }
        assert_eq!(broker.take(client).is_empty(), in_force == 0, "{keep_alive_s}");
    }
}

#[test]
fn a_second_connect_ends_the_connection() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    broker.send(client, Connect::new(V5, "c"));
    assert_eq!(broker.take(client), ["DISCONNECT ProtocolError +why", "closed"]);
    assert_eq!(broker.counters(0).protocol_errors, 1);
}

#[test]
fn a_client_that_takes_no_connack_with_what_it_must_know_is_refused() {
    let mut broker = Broker::new(1);
    let connack_of = |broker: &mut Broker, client_id: &'static str, maximum: u32| {
        let mut connect = Connect::new(V5, client_id);
        connect.properties.maximum_packet_size = std::num::NonZeroU32::new(maximum);
        let client = broker.ask(connect);
        broker.take(client)
    };
    for maximum in 1..=4 {
        assert_eq!(connack_of(&mut broker, "small", maximum), ["closed"], "{maximum} bytes");
    }
    for maximum in 5..13 {
        let told = connack_of(&mut broker, "small", maximum);
        assert!(told.len() == 2 && told[0].contains("PacketTooLarge") && told[1] == "closed", "{maximum}: {told:?}");
    }
    assert_eq!(broker.shards[0].clients().find("small"), None, "nothing is kept of it");
    // What it can do without is left out first.
    let told = connack_of(&mut broker, "small", 13);
    assert!(told.len() == 1 && told[0].contains("Success") && !told[0].contains("aliases"), "{told:?}");
    let told = connack_of(&mut broker, "other", 16);
    assert!(told.len() == 1 && told[0].contains("aliases"), "{told:?}");
    let told = connack_of(&mut broker, "", 20);
    assert!(told.len() == 2 && told[0].contains("PacketTooLarge"), "it must know its name: {told:?}");
}
