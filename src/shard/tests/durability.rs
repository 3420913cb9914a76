//! What acknowledgements wait for, by the listener that a client came through.

use super::kit::{Broker, Client, V5, durable, publish};
use crate::{
    config::Durability,
    mqtt::{AckKind, Connect},
};

/// A client that has connected through the second listener.
fn through_second(broker: &mut Broker, connect: Connect<'_>) -> Client {
    let home = broker.home_of_client(connect.client_id);
    let client = broker.accept_through(home, connect.version, 1);
    broker.send(client, connect);
    client
}

/// Sessions without a client at each shard, made through the first listener and subscribed to `t` at QoS 2.
fn absent(broker: &mut Broker) {
    for shard in 0..broker.shards.len() as u16 {
        let name = broker.client_id_at(shard, "away");
        let client = broker.connect_as(durable(V5, &name, 100));
        broker.subscribe(client, "t", 2);
        broker.hang_up(client);
    }
}

#[test]
fn a_publisher_waits_for_what_its_listener_promises() {
    // Written and not synced; not even written; with the shards that are held back.
    for (shards, qos) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        for durability in [Durability::Sync, Durability::Batched, Durability::Memory] {
            let mut broker = Broker::kept_through(shards, durability);
            absent(&mut broker);
            let publisher = through_second(&mut broker, durable(V5, "p", 100));
            broker.take(publisher);
            let what = format!("{durability:?}, {shards} shards, QoS {qos}");
            let ack = if qos == 1 { "PUBACK 1" } else { "PUBREC 1" };
            let mut answered = Vec::new();
            broker.store_held = (0..shards).collect();
            broker.sync_is_held = true;
            broker.send(publisher, publish(qos, 1, "t", "m"));
            answered.push(broker.take(publisher).len());
            broker.store_held.clear();
            broker.settle();
            answered.push(broker.take(publisher).len());
            broker.sync_is_held = false;
            broker.settle();
            answered.push(broker.take(publisher).len());
            let expected = match durability {
                Durability::Memory => [1, 0, 0],
                Durability::Batched => [0, 1, 0],
                Durability::Sync => [0, 0, 1],
            };
            assert_eq!(answered, expected, "{what}");
            // Whoever came through the other listener waits for the disk.
            let other = broker.connect("other", V5);
            broker.sync_is_held = true;
            broker.send(other, publish(qos, 1, "t", "m"));
            assert!(broker.take(other).is_empty(), "{what}");
            broker.sync_is_held = false;
            broker.settle();
            assert_eq!(broker.take(other), [ack], "{what}");
        }
    }
}

#[test]
fn a_subscriber_waits_for_what_its_listener_promises() {
    for durability in [Durability::Sync, Durability::Batched] {
        let mut broker = Broker::kept_through(1, durability);
        let publisher = broker.connect("p", V5);
        broker.sync_is_held = true;
        let client = through_second(&mut broker, durable(V5, "c", 100));
        let is_told = durability == Durability::Batched;
        assert_eq!(broker.take(client).len(), usize::from(is_told), "CONNACK");
        broker.sync_is_held = false;
        broker.settle();
        broker.take(client);
        broker.subscribe(client, "t", 2);
        broker.sync_is_held = true;
        broker.send(publisher, publish(2, 2, "t", "m"));
        assert_eq!(broker.take(client).len(), usize::from(is_told), "PUBLISH of QoS 2");
        broker.sync_is_held = false;
        broker.settle();
        broker.take(client);
        broker.sync_is_held = true;
        broker.ack(client, AckKind::PubRec, 1);
        assert_eq!(broker.take(client).len(), usize::from(is_told), "PUBREL");
    }
}

#[test]
fn a_message_that_the_machine_may_take_is_sent_at_a_place_that_it_cannot() {
    let mut broker = Broker::kept_through(1, Durability::Batched);
    let publisher = broker.connect("p", V5);
    let client = through_second(&mut broker, durable(V5, "c", 100));
    broker.take(client);
    broker.subscribe(client, "t", 2);
    broker.settle();
    broker.sync_is_held = true;
    let mut last = 0;
    let mut sent = |broker: &mut Broker, messages: u16| {
        (last..last + messages).for_each(|number| broker.send(publisher, publish(2, 1 + number, "t", "m")));
        last += messages;
        broker.take(client).len()
    };
    // So many were reserved with the subscription, and more of them cannot be yet.
    assert_eq!((sent(&mut broker, 1), sent(&mut broker, 62)), (1, 62));
    assert_eq!((sent(&mut broker, 1), sent(&mut broker, 100)), (1, 0));
    broker.sync_is_held = false;
    broker.settle();
    assert_eq!(broker.take(client).len(), 100);
}

#[test]
fn a_session_is_kept_when_the_listener_that_it_was_made_through_keeps_any() {
    let mut broker = Broker::kept_through(1, Durability::Memory);
    let publisher = broker.connect("p", V5);
    let mut client = through_second(&mut broker, durable(V5, "c", 100));
    for _ in 0..2 {
        broker.take(client);
        broker.subscribe(client, "t", 1);
        broker.hang_up(client);
        broker.send(publisher, publish(1, 1, "t", "m"));
        broker.take(publisher);
        assert_eq!(broker.records(), 0, "nothing of it is kept, through whichever listener it comes back");
        client = broker.ask(durable(V5, "c", 100));
        assert!(broker.take_first(client).contains("present=1"));
        assert_eq!(broker.take(client).len(), 1);
        broker.ack(client, AckKind::PubAck, 1);
    }
    // It is when it is made anew, and stays so.
    broker.hang_up(client);
    let client = broker.ask(Connect { clean_start: true, ..durable(V5, "c", 100) });
    broker.take(client);
    broker.subscribe(client, "t", 1);
    broker.hang_up(client);
    let kept = broker.records();
    assert!(kept > 1, "the commit, the session, its subscription: {kept}");
    let client = through_second(&mut broker, durable(V5, "c", 100));
    assert!(broker.take_first(client).contains("present=1"));
    broker.hang_up(client);
    broker.send(publisher, publish(1, 1, "t", "m"));
    assert_eq!(broker.records(), kept + 1);
}
