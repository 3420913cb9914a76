//! Quality of service: what the broker does as a sender and as a receiver (4.3).

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::{Server, on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Ack, Connect, Packet, Publish};

fn pubrec(id: u16) -> Packet {
    Packet::PubRec(Ack::new(id))
}

fn pubrel(id: u16) -> Packet {
    Packet::PubRel(Ack::new(id))
}

fn pubcomp(id: u16) -> Packet {
    Packet::PubComp(Ack::new(id))
}

/// A resuming client with one unacknowledged message of `qos`, another client that publishes, and how to come back.
fn one_open(server: &Server, qos: u8) -> (Client, Client, Connect, Publish) {
    let topic = server.unique("open");
    let resume = resuming(server, "sub");
    let mut client = Client::connect(server, resume.clone());
    client.subscribe(&topic, 2);
    let mut publisher = super::kit::client(server, "pub");
    publisher.publish(&topic, "open", qos);
    let publish = client.expect_publish(&topic, "open", qos);
    (client, publisher, resume, publish)
}

fn come_back(server: &Server, client: Client, resume: &Connect) -> Client {
    client.vanish_noticed();
    let client = Client::connect(server, resume.clone());
    assert!(client.session_present());
    client
}

#[test]
fn v5_mqtt_4_3_1_1_qos_0_goes_with_qos_0_and_dup_0() {
    on_each_shard_count(|server| {
        let topic = server.unique("zero");
        for granted in 0..=2 {
            let mut client = subscriber(server, &topic, granted);
            client.publish(&topic, "x", 0).expect_publish(&topic, "x", 0);
        }
        // QoS 0 by subscription, though it was published with more, and with DUP.
        let mut client = subscriber(server, &topic, 0);
        let mut publisher = super::kit::client(server, "pub");
        for qos in [1, 2] {
            publisher.publish_packet(Publish::new(&topic, "x").dup(), qos);
            client.expect_publish(&topic, "x", 0);
        }
    });
}

/// While one message is unacknowledged, new ones must take other identifiers, however many there are.
fn identifiers_stay_unused(qos: u8) {
    on_each_shard_count(|server| {
        let (mut client, mut publisher, _, open) = one_open(server, qos);
        for number in 0..300 {
            publisher.publish(&open.topic, number.to_string(), qos);
            let publish = client.expect_publish(&open.topic, number.to_string(), qos);
            assert_ne!(publish.id, open.id);
            client.acknowledge(&publish);
        }
        client.acknowledge(&open).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_3_2_1_qos_1_sender_takes_an_unused_identifier() {
    identifiers_stay_unused(1);
}

#[test]
fn v5_mqtt_4_3_2_2_qos_1_sender_sends_dup_0_at_first() {
    on_each_shard_count(|server| {
        // `expect_publish` demands DUP 0; also for what waited while the client was away.
        let (mut client, mut publisher, resume, open) = one_open(server, 1);
        client.acknowledge(&open).expect_nothing_within_roundtrip();
        client.vanish_noticed();
        publisher.publish(&open.topic, "waited", 1);
        Client::connect(server, resume).receive(&open.topic, "waited", 1).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_3_2_3_qos_1_is_unacknowledged_until_puback() {
    on_each_shard_count(|server| {
        let (mut client, _, resume, open) = one_open(server, 1);
        for _ in 0..3 {
            client = come_back(server, client, &resume);
            client.expect(Publish { dup: true, ..open.clone() });
        }
        client.acknowledge(&open).expect_nothing_within_roundtrip();
        come_back(server, client, &resume).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_3_2_4_qos_1_receiver_sends_puback_once_it_has_the_message() {
    on_each_shard_count(|server| {
        let topic = server.unique("taken");
        let resume = resuming(server, "sub");
        let mut away = Client::connect(server, resume.clone());
        away.subscribe(&topic, 1);
        away.disconnect();
        let mut publisher = client(server, "pub");
        for number in 0..20 {
            publisher.publish(&topic, number.to_string(), 1);
        }
        // Acknowledged, so it is there, also when the publisher is gone.
        publisher.vanish();
        assert_eq!(payloads(&mut Client::connect(server, resume), 20), numbers(0..20));
    });
}

#[test]
fn v5_mqtt_4_3_2_5_after_puback_the_identifier_is_a_new_message() {
    on_each_shard_count(|server| {
        let topic = server.unique("again");
        let mut watcher = subscriber(server, &topic, 1);
        let mut client = client(server, "pub");
        for (payload, dup) in [("first", false), ("second", false), ("marked as a repeat", true), ("first", true)] {
            let publish = Publish { dup, ..Publish::new(&topic, payload).qos(1, 7) };
            client.send(publish);
            assert!(client.expect_puback(7).code < 0x80);
            watcher.receive(&topic, payload, 1);
        }
    });
}

#[test]
fn v5_mqtt_4_3_3_1_qos_2_sender_takes_an_unused_identifier() {
    identifiers_stay_unused(2);
}

#[test]
fn v5_mqtt_4_3_3_2_qos_2_sender_sends_dup_0_at_first() {
    on_each_shard_count(|server| {
        let (mut client, mut publisher, resume, open) = one_open(server, 2);
        client.acknowledge(&open).expect_nothing_within_roundtrip();
        client.vanish_noticed();
        publisher.publish(&open.topic, "waited", 2);
        Client::connect(server, resume).receive(&open.topic, "waited", 2).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_3_3_3_qos_2_is_unacknowledged_until_pubrec() {
    on_each_shard_count(|server| {
        let (mut client, _, resume, open) = one_open(server, 2);
        for _ in 0..3 {
            client = come_back(server, client, &resume);
            client.expect(Publish { dup: true, ..open.clone() });
        }
        client.send(pubrec(open.id)).expect(pubrel(open.id));
        come_back(server, client, &resume).expect(pubrel(open.id)).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_3_3_4_pubrec_below_0x80_is_answered_with_pubrel() {
    on_each_shard_count(|server| {
        for code in [0x00, 0x10] {
            let (mut client, _, _, open) = one_open(server, 2);
            client.send(Packet::PubRec(Ack::new(open.id).code(code))).expect(pubrel(open.id));
            client.send(pubcomp(open.id)).expect_nothing_within_roundtrip();
        }
        // 0x80 or more ends the exchange: there is no PUBREL.
        for code in [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
            let (mut client, mut publisher, _, open) = one_open(server, 2);
            client.send(Packet::PubRec(Ack::new(open.id).code(code))).expect_nothing_within_roundtrip();
            publisher.publish(&open.topic, "next", 2);
            client.receive(&open.topic, "next", 2);
        }
    });
}

#[test]
fn v5_mqtt_4_3_3_5_pubrel_is_unacknowledged_until_pubcomp() {
    on_each_shard_count(|server| {
        let (mut client, _, resume, open) = one_open(server, 2);
        client.send(pubrec(open.id)).expect(pubrel(open.id));
        for _ in 0..3 {
            client = come_back(server, client, &resume);
            client.expect(pubrel(open.id));
        }
        client.send(pubcomp(open.id)).expect_nothing_within_roundtrip();
        come_back(server, client, &resume).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_3_3_6_no_publish_again_after_pubrel() {
    on_each_shard_count(|server| {
        let (mut client, _, resume, open) = one_open(server, 2);
        client.send(pubrec(open.id)).expect(pubrel(open.id));
        // A repeated PUBREC gets the PUBREL again and nothing else; so does a resumption.
        client.send(pubrec(open.id));
        assert!(matches!(client.next(), Packet::PubRel(ack) if ack.id == open.id));
        client.expect_nothing_within_roundtrip();
        let mut client = come_back(server, client, &resume);
        client.expect(pubrel(open.id)).expect_nothing_within_roundtrip();
        client.send(pubcomp(open.id)).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_3_3_7_no_expiry_once_publish_is_sent() {
    on_each_shard_count(|server| {
        let topic = server.unique("begun");
        let resume = resuming(server, "sub");
        let mut client = Client::connect(server, resume.clone());
        client.subscribe(&topic, 2);
        let mut publisher = super::kit::client(server, "pub");
        let short = |payload| Publish::new(&topic, payload).property(Property::MessageExpiryInterval(1));
        publisher.publish_packet(short("one"), 2).publish_packet(short("two"), 2);
        let (one, two) = (client.expect_any_publish(), client.expect_any_publish());
        client.send(pubrec(one.id)).expect(pubrel(one.id));
        let_pass(server, 3);
        // Long expired, but begun: the exchange goes on, on this connection and on the next.
        let mut client = come_back(server, client, &resume);
        let (mut again, mut released) = (None, false);
        while again.is_none() || !released {
            match client.next() {
                Packet::Publish(publish) => again = Some(publish),
                Packet::PubRel(ack) => released = ack.id == one.id,
                other => panic!("{other:?}"),
            }
        }
        let again = again.unwrap();
        assert_eq!((again.id, again.dup, &again.payload[..]), (two.id, true, &b"two"[..]));
        client.send(pubcomp(one.id)).acknowledge(&two).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_3_3_8_qos_2_receiver_sends_pubrec_once_it_has_the_message() {
    on_each_shard_count(|server| {
        let topic = server.unique("taken");
        let resume = resuming(server, "sub");
        let mut away = Client::connect(server, resume.clone());
        away.subscribe(&topic, 2);
        away.disconnect();
        let mut publisher = client(server, "pub");
        for number in 0..20 {
            publisher.send(Publish::new(&topic, number.to_string()).qos(2, number + 1));
            assert_eq!(publisher.expect_pubrec(number + 1).code, 0x00);
        }
        // Taken over with PUBREC: it is delivered though PUBREL never comes.
        publisher.vanish_noticed();
        assert_eq!(payloads(&mut Client::connect(server, resume), 20), numbers(0..20));
    });
}

#[test]
fn v5_mqtt_4_3_3_9_after_a_refusing_pubrec_the_identifier_is_a_new_message() {
    on_each_shard_count_with(&["mqtt.payload_format_check=true", "mqtt.receive_maximum=2"], |server| {
        let topic = server.unique("refused");
        let mut watcher = subscriber(server, &topic, 2);
        let mut client = client(server, "pub");
        let text =
            |payload: &[u8]| Publish::new(&topic, payload).property(Property::PayloadFormatIndicator(1)).qos(2, 3);
        // More of them than the Receive Maximum: a refused one is no longer in flight.
        for _ in 0..4 {
            client.send(text(b"\xFF"));
            assert_eq!(client.expect_pubrec(3).code, 0x99);
        }
        client.send(text(b"text"));
        assert_eq!(client.expect_pubrec(3).code, 0x00);
        client.send(pubrel(3)).expect(pubcomp(3));
        assert_like(&take(&mut watcher), text(b"text"));
    });
}

#[test]
fn v5_mqtt_4_3_3_10_repeats_before_pubrel_are_acknowledged_and_cause_no_duplicate() {
    on_each_shard_count(|server| {
        let topic = server.unique("repeat");
        let mut watcher = subscriber(server, &topic, 2);
        let resume = resuming(server, "pub");
        let mut client = Client::connect(server, resume.clone());
        let first = Publish::new(&topic, "first").qos(2, 3);
        client.send(first.clone());
        assert_eq!(client.expect_pubrec(3).code, 0x00);
        watcher.receive(&topic, "first", 2);
        for round in 0..3 {
            // With DUP and, wrongly, without; on this connection, and on the next one of the session.
            for repeat in [first.clone().dup(), first.clone()] {
                client.send(repeat);
                assert!(client.expect_pubrec(3).code < 0x80, "round {round}");
            }
            watcher.expect_nothing_from(&mut client);
            client = come_back(server, client, &resume);
        }
        client.send(pubrel(3)).expect(pubcomp(3));
    });
}

#[test]
fn v5_mqtt_4_3_3_11_pubrel_is_answered_with_pubcomp() {
    on_each_shard_count(|server| {
        let mut client = client(server, "pub");
        for id in [1, 0x100, 0xFFFF] {
            client.send(Publish::new("topic", "").qos(2, id)).expect_pubrec(id);
            client.send(pubrel(id)).expect(pubcomp(id));
            // Unknown by now, and answered all the same.
            client.send(pubrel(id));
            assert!(matches!(client.next(), Packet::PubComp(ack) if ack.id == id && ack.code == 0x92));
        }
        // Several at once, in another order than that of the messages.
        for id in 1..=5 {
            client.send(Publish::new("topic", "").qos(2, id)).expect_pubrec(id);
        }
        for id in [4, 2, 5, 1, 3] {
            client.send(pubrel(id)).expect(pubcomp(id));
        }
    });
}

#[test]
fn v5_mqtt_4_3_3_12_after_pubcomp_the_identifier_is_a_new_message() {
    on_each_shard_count(|server| {
        let topic = server.unique("again");
        let mut watcher = subscriber(server, &topic, 2);
        let mut client = client(server, "pub");
        for (payload, dup) in [("first", false), ("second", false), ("marked as a repeat", true), ("first", true)] {
            let publish = Publish { dup, ..Publish::new(&topic, payload).qos(2, 7) };
            client.send(publish);
            assert_eq!(client.expect_pubrec(7).code, 0x00);
            client.send(pubrel(7)).expect(pubcomp(7));
            watcher.receive(&topic, payload, 2);
        }
    });
}

#[test]
fn v5_mqtt_4_3_3_13_the_exchange_goes_on_though_the_message_expired() {
    on_each_shard_count(|server| {
        let topic = server.unique("expired");
        let mut watcher = subscriber(server, &topic, 2);
        let resume = resuming(server, "pub");
        let mut client = Client::connect(server, resume.clone());
        let publish = Publish::new(&topic, "x").property(Property::MessageExpiryInterval(1)).qos(2, 3);
        client.send(publish.clone());
        assert_eq!(client.expect_pubrec(3).code, 0x00);
        take(&mut watcher);
        let_pass(server, 3);
        // A repeat is still known to be one.
        client.send(publish.dup());
        assert!(client.expect_pubrec(3).code < 0x80);
        watcher.expect_nothing_from(&mut client);
        let mut client = come_back(server, client, &resume);
        client.send(pubrel(3)).expect(pubcomp(3));
    });
}
