//! Ordering: of messages, of acknowledgements, of what is repeated.

use super::{connect, resume};
use crate::client::Client;
use crate::server::{Server, on_each_shard_count};
use crate::wire::{Ack, Packet, Publish};

const MANY: u16 = 100;

#[test]
fn v3_mqtt_4_6_0_1_repeated_publishes_keep_their_order() {
    on_each_shard_count(|server| {
        let (id, base) = (server.unique("order"), server.unique("order"));
        let mut publisher = connect(server, "p");
        let mut subscriber = resume(server, &id);
        subscriber.subscribe(&format!("{base}/#"), 2);
        let mut sent = Vec::new();
        // A window's worth at most, so that all of them are in flight when the connection ends.
        for number in 0..18_u8 {
            let (topic, qos) = (format!("{base}/{}", number % 5), 1 + number % 2);
            publisher.publish(&topic, [number], qos);
            sent.push(subscriber.expect_publish(&topic, [number], qos));
        }
        for _ in 0..3 {
            subscriber.vanish_noticed();
            subscriber = resume(server, &id);
            for publish in &sent {
                subscriber.expect(Publish { dup: true, ..publish.clone() });
            }
            // What is acknowledged leaves the order of the others as it was.
            subscriber.acknowledge(&sent[4]).expect_nothing_within_roundtrip();
            sent.remove(4);
        }
    });
}

/// Publishes `MANY` messages in one segment, to topics at home on every shard, with and without subscribers there.
fn pipeline(server: &Server, client: &mut Client, qos: u8) -> Vec<Client> {
    let base = server.unique("acks");
    let mut subscribers: Vec<Client> = (0..8).map(|_| connect(server, "s")).collect();
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        subscriber.subscribe(&format!("{base}/{number}"), 0);
    }
    let bytes: Vec<u8> = (1..=MANY)
        .flat_map(|id| client.encode(Publish::new(&format!("{base}/{}", id % 12), id.to_be_bytes()).qos(qos, id)))
        .collect();
    client.send_raw(&bytes);
    subscribers
}

#[test]
fn v3_mqtt_4_6_0_2_pubacks_come_in_the_order_of_the_publishes() {
    on_each_shard_count(|server| {
        let mut client = connect(server, "c");
        let _subscribers = pipeline(server, &mut client, 1);
        for id in 1..=MANY {
            client.expect(Packet::PubAck(Ack::new(id)));
        }
        client.expect_nothing_within_roundtrip();
    });
}

#[test]
fn v3_mqtt_4_6_0_3_pubrecs_come_in_the_order_of_the_publishes() {
    on_each_shard_count(|server| {
        let mut client = connect(server, "c");
        let _subscribers = pipeline(server, &mut client, 2);
        for id in 1..=MANY {
            client.expect(Packet::PubRec(Ack::new(id)));
        }
        let releases: Vec<u8> = (1..=MANY).flat_map(|id| client.encode(Packet::PubRel(Ack::new(id)))).collect();
        client.send_raw(&releases);
        for id in 1..=MANY {
            client.expect(Packet::PubComp(Ack::new(id)));
        }
    });
}

#[test]
fn v3_mqtt_4_6_0_4_pubrels_come_in_the_order_of_the_pubrecs() {
    on_each_shard_count(|server| {
        let topic = server.unique("release");
        let mut publisher = connect(server, "p");
        let mut subscriber = connect(server, "s");
        subscriber.subscribe(&topic, 2);
        let mut ids = Vec::new();
        for number in 0..16_u8 {
            publisher.publish(&topic, [number], 2);
            ids.push(subscriber.expect_publish(&topic, [number], 2).id);
        }
        // The order of the PUBRECs counts; here it is not even that of the PUBLISHes.
        for order in [0, 5, 1, 2, 15, 14, 3, 4, 6, 13, 7, 8, 12, 9, 11, 10_usize].chunks(4) {
            let bytes: Vec<u8> =
                order.iter().flat_map(|place| subscriber.encode(Packet::PubRec(Ack::new(ids[*place])))).collect();
            subscriber.send_raw(&bytes);
            for place in order {
                subscriber.expect(Packet::PubRel(Ack::new(ids[*place])));
            }
        }
        for id in ids {
            subscriber.send(Packet::PubComp(Ack::new(id)));
        }
        subscriber.expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_4_6_0_5_topics_are_ordered_by_default() {
    on_each_shard_count(|server| {
        // Several topics and several subscribers, also by wildcards: each topic is ordered for each of them.
        let base = server.unique("topics");
        let mut subscribers: Vec<Client> = (0..4).map(|_| connect(server, "s")).collect();
        for subscriber in &mut subscribers {
            subscriber.subscribe(&format!("{base}/+"), 1);
        }
        let mut publishers: Vec<Client> = (0..3).map(|_| connect(server, "p")).collect();
        for (number, publisher) in publishers.iter_mut().enumerate() {
            let topic = format!("{base}/{number}");
            let bytes: Vec<u8> =
                (1..=MANY).flat_map(|id| publisher.encode(Publish::new(&topic, id.to_be_bytes()).qos(1, id))).collect();
            publisher.send_raw(&bytes);
        }
        for subscriber in &mut subscribers {
            let mut next = [1_u16; 3];
            for _ in 0..3 * MANY {
                let publish = subscriber.expect_any_publish();
                let place: usize = publish.topic.rsplit('/').next().unwrap().parse().unwrap();
                assert_eq!(publish.payload, next[place].to_be_bytes(), "on {}", publish.topic);
                next[place] += 1;
                subscriber.acknowledge(&publish);
            }
        }
    });
}

#[test]
fn v3_mqtt_4_6_0_6_messages_of_one_publisher_topic_and_qos_are_forwarded_in_order() {
    on_each_shard_count(|server| {
        for qos in 0..=2 {
            let (id, topic) = (server.unique("forward"), server.unique("forward"));
            let mut online = connect(server, "s");
            online.subscribe(&topic, 1);
            let mut offline = resume(server, &id);
            offline.subscribe(&topic, 1);
            offline.disconnect();
            let mut publisher = connect(server, "p");
            // In bursts of one segment each, that leave no more in flight than any server allows.
            for burst in (1..=MANY).collect::<Vec<u16>>().chunks(10) {
                let publish = |id: &u16| publisher.encode(Publish::new(&topic, id.to_be_bytes()).qos(qos, *id));
                let bytes: Vec<u8> = burst.iter().flat_map(publish).collect();
                publisher.send_raw(&bytes);
                for id in burst.iter().filter(|_| qos > 0) {
                    let ack = Ack::new(*id);
                    publisher.expect(if qos == 1 { Packet::PubAck(ack) } else { Packet::PubRec(ack) });
                }
                for id in burst.iter().filter(|_| qos == 2) {
                    publisher.send(Packet::PubRel(Ack::new(*id))).expect(Packet::PubComp(Ack::new(*id)));
                }
            }
            for number in 1..=MANY {
                online.receive(&topic, number.to_be_bytes(), qos.min(1));
            }
            // The session that was away finds the same order; of QoS 0 it finds nothing.
            let mut offline = resume(server, &id);
            for number in (1..=MANY).filter(|_| qos > 0) {
                offline.receive(&topic, number.to_be_bytes(), 1);
            }
        }
    });
}
