//! How connections end, and what becomes of Wills.

use std::time::Duration;

use super::kit::{Broker, Client, V5, V311, durable, publish};
use crate::mqtt::{
    Connect, Disconnect, PayloadFormatIndicator, QoS, ReasonCode, TopicName, UserProperties, WillPacket, WillProperties,
};

fn will(delay_s: u32) -> WillPacket<'static> {
    let properties = WillProperties { will_delay_interval: Some(delay_s), ..WillProperties::default() };
    WillPacket {
        topic: TopicName::parse("will").unwrap(),
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        properties,
    }
}

/// A client with a Will of this delay and a session of this life, and who is told of Wills.
fn pair(broker: &mut Broker, delay_s: u32, expiry_s: u32) -> (Client, Client) {
    let client = broker.connect_as(mortal(delay_s, expiry_s));
    let heir = broker.connect("heir", V5);
    broker.subscribe(heir, "will", 0);
    (client, heir)
}

fn mortal(delay_s: u32, expiry_s: u32) -> Connect<'static> {
    Connect { will: Some(will(delay_s)), keep_alive_s: 10, ..durable(V5, "mortal", expiry_s) }
}

const GONE: &str = "PUBLISH q0 will=gone";

fn disconnect(reason: ReasonCode) -> Disconnect<'static> {
    Disconnect::new(reason)
}

#[test]
fn every_end_but_a_normal_disconnect_publishes_the_will() {
    type End = fn(&mut Broker, Client);
    let ends: [(&str, bool, End); 6] = [
        ("DISCONNECT 0x00", false, |broker, client| broker.send(client, disconnect(ReasonCode::Success))),
        ("DISCONNECT 0x04", true, |broker, client| {
            broker.send(client, disconnect(ReasonCode::DisconnectWithWillMessage));
        }),
        ("the socket", true, |broker, client| broker.hang_up(client)),
        ("the protocol", true, |broker, client| broker.send_bytes(client, &[0xF3, 0])),
        ("keep-alive", true, |broker, _| broker.after_s(16)),
        ("a take-over", true, |broker, _| {
            broker.connect("mortal", V5);
        }),
    ];
    for (name, is_published, end) in ends {
        for expiry_s in [0, 100] {
            let mut broker = Broker::new(1);
            let (client, heir) = pair(&mut broker, 0, expiry_s);
            end(&mut broker, client);
            let told = broker.take(heir);
            assert_eq!(told, if is_published { &[GONE][..] } else { &[] }, "{name}, {expiry_s}");
            assert_eq!(broker.counters(0).wills_published, u64::from(is_published));
            broker.jump(Duration::from_secs(200));
            assert!(broker.take(heir).is_empty(), "{name}: once");
        }
    }
}

#[test]
fn a_disconnect_is_the_last_word_of_either_side() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    broker.send(client, disconnect(ReasonCode::Success));
    broker.ping(client);
    assert_eq!(broker.take(client), ["closed"]);
    let client = broker.connect("c", V311);
    broker.send(client, disconnect(ReasonCode::Success));
    assert_eq!(broker.take(client), ["closed"]);
    assert_eq!(broker.levels(), (0, 0, 0));
    assert_eq!(broker.counters(0).protocol_errors, 0);
}

#[test]
fn a_will_waits_for_its_delay_or_the_end_of_the_session_whichever_is_first() {
    for (delay_s, expiry_s, published_s) in [(10, 100, 10), (100, 20, 20), (20, 20, 20), (10, 0, 0), (0, 100, 0)] {
        let mut broker = Broker::new(1);
        let (client, heir) = pair(&mut broker, delay_s, expiry_s);
        broker.hang_up(client);
        if published_s > 0 {
            broker.after(Duration::from_millis(published_s * 1000 - 100));
            assert!(broker.take(heir).is_empty(), "{delay_s} {expiry_s}");
            broker.after(Duration::from_millis(200));
        }
        assert_eq!(broker.take(heir), [GONE], "{delay_s} {expiry_s}");
        broker.after_s(200);
        assert!(broker.take(heir).is_empty(), "once");
    }
}

#[test]
fn a_client_that_comes_back_cancels_its_will() {
    let mut broker = Broker::new(1);
    let (client, heir) = pair(&mut broker, 10, 100);
    broker.hang_up(client);
    broker.after_s(5);
    let back = broker.connect_as(mortal(10, 100));
    broker.after_s(8);
    assert!(broker.take(heir).is_empty());
    // The timer of the first absence means nothing in the second.
    broker.hang_up(back);
    broker.after_s(9);
    assert!(broker.take(heir).is_empty());
    broker.after_s(2);
    assert_eq!(broker.take(heir), [GONE]);
    // Coming back without a Will leaves none.
    let back = broker.connect_as(durable(V5, "mortal", 100));
    broker.hang_up(back);
    broker.after_s(300);
    assert!(broker.take(heir).is_empty());
}

#[test]
fn a_take_over_that_resumes_publishes_a_will_without_delay_and_cancels_one_with() {
    for (delay_s, is_published) in [(0, true), (10, false)] {
        let mut broker = Broker::new(1);
        let (_, heir) = pair(&mut broker, delay_s, 100);
        let new = broker.connect_as(durable(V5, "mortal", 100));
        broker.after_s(30);
        assert_eq!(broker.take(heir), if is_published { &[GONE][..] } else { &[] });
        broker.hang_up(new);
        broker.after_s(30);
        assert!(broker.take(heir).is_empty());
    }
}

#[test]
fn a_clean_start_ends_the_session_and_publishes_its_will() {
    for is_there in [true, false] {
        let mut broker = Broker::new(1);
        let (client, heir) = pair(&mut broker, 50, 100);
        if !is_there {
            broker.hang_up(client);
        }
        broker.connect("mortal", V5);
        assert_eq!(broker.take(heir), [GONE], "there: {is_there}");
    }
}

#[test]
fn the_longest_will_delay_binds() {
    let mut broker = Broker::with(1, |config| config.mqtt.will_delay_max = Duration::from_secs(5));
    let (client, heir) = pair(&mut broker, 50, 100);
    broker.hang_up(client);
    broker.after_s(4);
    assert!(broker.take(heir).is_empty());
    broker.after_s(2);
    assert_eq!(broker.take(heir), [GONE]);
}

#[test]
fn a_will_is_published_as_it_was_left() {
    let mut broker = Broker::new(1);
    let pairs = [("k", "v"), ("a", "b")];
    let properties = WillProperties {
        payload_format_indicator: Some(PayloadFormatIndicator::Utf8),
        content_type: Some("text"),
        message_expiry_interval: Some(60),
        user_properties: UserProperties::new(&pairs),
        ..WillProperties::default()
    };
    let will = WillPacket { retain: true, qos: QoS::ExactlyOnce, properties, ..will(0) };
    let client = broker.connect_as(Connect { will: Some(will), ..Connect::new(V5, "c") });
    let heir = broker.connect("heir", V5);
    broker.subscribe(heir, "will", 2);
    broker.after_s(100);
    broker.hang_up(client);
    assert_eq!(broker.take(heir), ["PUBLISH q2 id=1 will=gone expiry=60 type=text k:v a:b"]);
    broker.after_s(10);
    let late = broker.connect("late", V5);
    broker.subscribe(late, "will", 2);
    assert_eq!(broker.take(late), ["PUBLISH q2 id=1 retain will=gone expiry=50 type=text k:v a:b"]);
}

#[test]
fn a_disconnect_may_change_how_long_the_session_lives_but_not_bring_it_to_life() {
    let mut broker = Broker::new(1);
    let client = broker.connect_as(durable(V5, "c", 100));
    broker.send(client, Disconnect { session_expiry_interval: Some(10), ..disconnect(ReasonCode::Success) });
    assert_eq!(broker.take(client), ["closed"]);
    broker.after_s(9);
    assert_eq!(broker.levels(), (1, 0, 0));
    broker.after_s(2);
    assert_eq!(broker.levels(), (0, 0, 0));
    let client = broker.connect_as(durable(V5, "c", 100));
    broker.send(client, Disconnect { session_expiry_interval: Some(0), ..disconnect(ReasonCode::Success) });
    assert_eq!(broker.levels(), (0, 0, 0));
    let client = broker.connect_as(durable(V5, "c", 0));
    broker.send(client, Disconnect { session_expiry_interval: Some(0), ..disconnect(ReasonCode::Success) });
    assert_eq!(broker.take(client), ["closed"]);
    let client = broker.connect_as(durable(V5, "c", 0));
    broker.send(client, Disconnect { session_expiry_interval: Some(1), ..disconnect(ReasonCode::Success) });
    assert_eq!(broker.take(client), ["DISCONNECT ProtocolError +why", "closed"]);
    assert_eq!(broker.counters(0).protocol_errors, 1);
    // No longer than is configured.
    let client = broker.connect_as(durable(V5, "c", 100));
    broker.send(client, Disconnect { session_expiry_interval: Some(u32::MAX), ..disconnect(ReasonCode::Success) });
    broker.jump(Duration::from_secs(7 * 86_400 + 1));
    assert_eq!(broker.levels(), (0, 0, 0));
}

#[test]
fn draining_sends_everyone_away_a_few_at_a_time_and_newcomers_at_once() {
    let mut broker = Broker::new(1);
    let clients: Vec<Client> = ["a", "b", "c"].map(|name| broker.connect_as(durable(V5, name, 100))).to_vec();
    let heir = broker.connect("heir", V5);
    broker.subscribe(heir, "will", 0);
    let now = broker.now;
    assert!(broker.shards[0].drain(3, now));
    broker.settle();
    let told: Vec<Vec<String>> = clients.iter().map(|&client| broker.take(client)).collect();
    assert_eq!(told.iter().filter(|told| !told.is_empty()).count(), 3);
    assert_eq!(told[0], ["DISCONNECT ServerShuttingDown +why", "closed"]);
    let late = broker.ask(Connect::new(V5, "late"));
    let told = broker.take(late);
    assert_eq!(told[1..], ["DISCONNECT ServerShuttingDown +why", "closed"]);
    assert!(!broker.shards[0].drain(3, now));
    broker.settle();
    assert_eq!(broker.levels(), (3, 0, 0), "the sessions stay");
}

#[test]
fn what_was_written_before_a_disconnect_is_delivered_with_it() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    let mut bytes = super::kit::encoded(publish(1, 1, "t", "m"), V5);
    bytes.extend([0xC0, 0, 0xF3, 0]);
    broker.send_bytes(client, &bytes);
    let told = broker.take(client);
    assert_eq!(told, ["PUBACK 1 NoMatchingSubscribers", "PINGRESP", "DISCONNECT MalformedPacket +why", "closed"]);
}
