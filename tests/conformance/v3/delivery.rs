//! The three qualities of service, on both sides, and over reconnects.

use super::{connect, resume};
use crate::client::Client;
use crate::server::on_each_shard_count;
use crate::wire::{Ack, Packet, Publish, field, frame};

#[test]
fn v3_mqtt_4_3_1_1_qos_0_is_sent_with_qos_0_and_without_dup() {
    on_each_shard_count(|server| {
        let topic = server.unique("zero");
        let mut publisher = connect(server, "p");
        for (published, granted) in [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)] {
            let mut subscriber = connect(server, "s");
            subscriber.subscribe(&topic, granted);
            publisher.publish(&topic, "x", published);
            subscriber.expect_raw(&frame(0x30, &[field(&topic), b"x".to_vec()].concat()));
            // It isn't acknowledged, and not sent again.
            subscriber.expect_nothing_from(&mut publisher);
        }
    });
}

#[test]
fn v3_mqtt_4_3_2_1_a_qos_1_message_has_a_fresh_identifier_and_is_held_until_puback() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("one"), server.unique("one"));
        let mut publisher = connect(server, "p");
        let mut subscriber = resume(server, &id);
        subscriber.subscribe(&topic, 1);
        let mut held = Vec::new();
        for number in 0..10_u8 {
            publisher.publish(&topic, [number], 1);
            let publish = subscriber.expect_publish(&topic, [number], 1);
            assert!(held.iter().all(|other: &Publish| other.id != publish.id));
            held.push(publish);
        }
        // A PUBACK frees its own message only, in any order.
        for acknowledged in [3, 0, 9] {
            subscriber.acknowledge(&held[acknowledged]);
        }
        subscriber.expect_nothing_within_roundtrip();
        held.retain(|publish| ![3, 0, 9].contains(&publish.payload[0]));
        subscriber.vanish_noticed();
        let mut subscriber = resume(server, &id);
        for publish in &held {
            subscriber.expect(Publish { dup: true, ..publish.clone() });
        }
        for publish in &held {
            subscriber.acknowledge(publish);
        }
        subscriber.expect_nothing_from(&mut publisher);
        subscriber.disconnect();
        resume(server, &id).expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_4_3_2_2_a_qos_1_receiver_answers_and_takes_the_identifier_for_new_again() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("one"), server.unique("one"));
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 1);
        let mut client = resume(server, &id);
        // After the PUBACK each is a new message, whatever its DUP says, and on the next connection as well.
        for publish in [Publish::new(&topic, "x"), Publish::new(&topic, "x"), Publish::new(&topic, "x").dup()] {
            client.send(publish.qos(1, 4)).expect(Packet::PubAck(Ack::new(4)));
            observer.receive(&topic, "x", 1);
        }
        client.vanish_noticed();
        let mut client = resume(server, &id);
        client.send(Publish::new(&topic, "x").qos(1, 4).dup()).expect(Packet::PubAck(Ack::new(4)));
        observer.receive(&topic, "x", 1).expect_nothing_from(&mut client);
    });
}

#[test]
fn v3_mqtt_4_3_3_1_a_qos_2_sender_sends_pubrel_after_pubrec_and_never_publish_again() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("two"), server.unique("two"));
        let mut publisher = connect(server, "p");
        let mut subscriber = resume(server, &id);
        subscriber.subscribe(&topic, 2);
        publisher.publish(&topic, "first", 2);
        let first = subscriber.expect_publish(&topic, "first", 2);
        publisher.publish(&topic, "second", 2);
        let second = subscriber.expect_publish(&topic, "second", 2);
        assert_ne!(first.id, second.id);
        // Unacknowledged, the PUBLISH is repeated; after the PUBREC only the PUBREL is, until the PUBCOMP.
        subscriber.vanish_noticed();
        let mut subscriber = resume(server, &id);
        subscriber.expect(Publish { dup: true, ..first.clone() }).expect(Publish { dup: true, ..second.clone() });
        for _ in 0..3 {
            subscriber.send(Packet::PubRec(Ack::new(first.id))).expect(Packet::PubRel(Ack::new(first.id)));
        }
        subscriber.vanish_noticed();
        for _ in 0..2 {
            let mut again = resume(server, &id);
            let came = [again.next(), again.next()];
            assert!(came.contains(&Packet::PubRel(Ack::new(first.id))), "{came:?}");
            assert!(came.contains(&Packet::Publish(Publish { dup: true, ..second.clone() })), "{came:?}");
            again.expect_nothing_within_roundtrip();
            again.vanish_noticed();
        }
        let mut subscriber = resume(server, &id);
        let _both = [subscriber.next(), subscriber.next()];
        subscriber.send(Packet::PubComp(Ack::new(first.id))).acknowledge(&second);
        subscriber.expect_nothing_from(&mut publisher);
        subscriber.vanish_noticed();
        resume(server, &id).expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_4_3_3_2_a_qos_2_receiver_delivers_once_however_often_the_publish_is_repeated() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("two"), server.unique("two"));
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 2);
        let mut client = resume(server, &id);
        for round in 0..3 {
            let publish = Publish::new(&topic, format!("round {round}")).qos(2, 6);
            client.send(publish.clone()).expect(Packet::PubRec(Ack::new(6)));
            for _ in 0..3 {
                client.send(publish.clone().dup()).expect(Packet::PubRec(Ack::new(6)));
            }
            client.vanish_noticed();
            // The identifier is part of the session: it outlives the connection.
            client = resume(server, &id);
            client.send(publish.clone().dup()).expect(Packet::PubRec(Ack::new(6)));
            // PUBREL is answered with PUBCOMP each time; after the first, the identifier is free.
            for _ in 0..3 {
                client.send(Packet::PubRel(Ack::new(6))).expect(Packet::PubComp(Ack::new(6)));
            }
            observer.receive(&topic, format!("round {round}"), 2).expect_nothing_from(&mut client);
        }
    });
}

#[test]
fn v3_mqtt_3_6_1_1_pubrel_with_other_flags_than_0010_closes_the_connection() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("flags"), server.unique("flags"));
        for flags in (0..16).filter(|flags| *flags != 2) {
            let mut client = resume(server, &id);
            client.send(Publish::new(&topic, "x").qos(2, 1).dup()).expect(Packet::PubRec(Ack::new(1)));
            client.send_raw(&[0x60 | flags, 2, 0, 1]).expect_closed();
        }
        // None of them released the message: it is completed once, by a good PUBREL.
        let mut client = resume(server, &id);
        client.send(Packet::PubRel(Ack::new(1))).expect(Packet::PubComp(Ack::new(1)));
    });
}

#[test]
fn v3_mqtt_4_4_0_1_what_was_not_acknowledged_is_sent_again_on_resumption_with_its_identifiers() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("again"), server.unique("again"));
        let mut publisher = connect(server, "p");
        let mut subscriber = resume(server, &id);
        subscriber.subscribe(&topic, 2);
        let mut publishes = Vec::new();
        for number in 0..12_u8 {
            publisher.publish(&topic, [number], 1 + number % 2);
            publishes.push(subscriber.expect_publish(&topic, [number], 1 + number % 2));
        }
        let mut releases = Vec::new();
        for publish in publishes.iter().filter(|publish| publish.payload[0] % 4 == 1) {
            subscriber.send(Packet::PubRec(Ack::new(publish.id))).expect(Packet::PubRel(Ack::new(publish.id)));
            releases.push(Ack::new(publish.id));
        }
        publishes.retain(|publish| publish.payload[0] % 4 != 1);
        // A take-over, a lost connection and an orderly end are all the same to the session.
        for end in 0..3 {
            let mut next = match end {
                0 => {
                    let next = resume(server, &id);
                    subscriber.expect_closed();
                    next
                }
                1 => {
                    subscriber.vanish_noticed();
                    resume(server, &id)
                }
                _ => {
                    subscriber.disconnect();
                    resume(server, &id)
                }
            };
            assert_repeats(&mut next, &publishes, &releases);
            next.expect_nothing_from(&mut publisher);
            subscriber = next;
        }
        for publish in &publishes {
            subscriber.acknowledge(publish);
        }
        for release in releases {
            subscriber.send(Packet::PubComp(release));
        }
        subscriber.expect_nothing_from(&mut publisher);
        subscriber.disconnect();
        resume(server, &id).expect_nothing_from(&mut publisher);
    });
}

/// All of `publishes` with DUP, in order, and all of `releases`, in order, must come; the two may interleave.
fn assert_repeats(client: &mut Client, publishes: &[Publish], releases: &[Ack]) {
    let (mut publish, mut release) = (publishes.iter(), releases.iter());
    for _ in 0..publishes.len() + releases.len() {
        match client.next() {
            Packet::Publish(came) => {
                assert_eq!(Some(came), publish.next().map(|wanted| Publish { dup: true, ..wanted.clone() }));
            }
            Packet::PubRel(came) => assert_eq!(Some(&came), release.next()),
            other => panic!("{other:?} came"),
        }
    }
}

#[test]
fn v3_mqtt_4_5_0_1_a_message_is_added_to_each_matching_session() {
    on_each_shard_count(|server| {
        let base = server.unique("each");
        let topic = format!("{base}/x");
        let mut online: Vec<Client> = (0..20).map(|_| connect(server, "s")).collect();
        let offline: Vec<String> = (0..20).map(|_| server.unique("o")).collect();
        for (number, client) in online.iter_mut().enumerate() {
            client.subscribe(&if number % 2 == 0 { topic.clone() } else { format!("{base}/+") }, (number % 3) as u8);
        }
        for (number, id) in offline.iter().enumerate() {
            let mut client = resume(server, id);
            client
                .subscribe(&if number % 2 == 0 { topic.clone() } else { format!("{base}/#") }, 1 + (number % 2) as u8);
            client.disconnect();
        }
        let mut publisher = connect(server, "p");
        publisher.publish(&topic, "for all", 2);
        for (number, client) in online.iter_mut().enumerate() {
            client.receive(&topic, "for all", (number % 3) as u8).expect_nothing_from(&mut publisher);
        }
        for (number, id) in offline.iter().enumerate() {
            let mut client = resume(server, id);
            client.receive(&topic, "for all", 1 + (number % 2) as u8).expect_nothing_from(&mut publisher);
        }
    });
}

#[test]
fn acknowledgements_of_nothing_are_harmless() {
    on_each_shard_count(|server| {
        let mut client = connect(server, "c");
        client.send(Packet::PubAck(Ack::new(1))).send(Packet::PubComp(Ack::new(2)));
        client.expect_nothing_within_roundtrip();
        // PUBREL for what was never received is completed, or the client would wait for ever.
        client.send(Packet::PubRel(Ack::new(3))).expect(Packet::PubComp(Ack::new(3)));
        // A PUBREC for what was never sent likewise.
        client.send(Packet::PubRec(Ack::new(4))).expect(Packet::PubRel(Ack::new(4)));
        client.send(Packet::PubComp(Ack::new(4))).expect_nothing_within_roundtrip();
    });
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_does_not_end_a_delivery() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("wrong"), server.unique("wrong"));
        for (qos, wrong) in [(1, 7), (2, 7), (2, 4)] {
            let mut subscriber = resume(server, &id);
            subscriber.subscribe(&topic, 2);
            connect(server, "p").publish(&topic, "x", qos);
            let publish = subscriber.expect_publish(&topic, "x", qos);
            // PUBCOMP (7) or PUBACK (4), where another one is due: ignored or the end of the connection.
            let [high, low] = publish.id.to_be_bytes();
            subscriber.send_raw(&[wrong << 4, 2, high, low]);
            subscriber.vanish_noticed();
            let mut subscriber = resume(server, &id);
            subscriber.expect(Publish { dup: true, ..publish.clone() }).acknowledge(&publish);
            subscriber.disconnect();
        }
    });
}
