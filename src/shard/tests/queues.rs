//! What the queues of all sessions may hold together.

use super::kit::{Broker, Client, V5, V311, durable, publish};
use crate::{
    config::AllQueuesFull,
    mqtt::{AckKind, Connect},
};

const ALL: [AllQueuesFull; 3] = [AllQueuesFull::DropOldest, AllQueuesFull::DropNewest, AllQueuesFull::Refuse];

/// Sessions without a client, each subscribed to the topic of its name, at the shards in turn.
fn absent(broker: &mut Broker, names: [&str; 3]) -> Vec<String> {
    let shards = broker.shards.len() as u16;
    let of = |(name, place): (&str, u16)| {
        let client_id = broker.client_id_at(place % shards, name);
        let client = broker.connect_as(durable(V5, &client_id, 100));
        broker.subscribe(client, name, 2);
        broker.hang_up(client);
        client_id
    };
    names.into_iter().zip(0..).map(of).collect()
}

/// What a session's client is sent when it comes back, and acknowledges.
fn fetched(broker: &mut Broker, client_id: &str) -> Vec<String> {
    let client = broker.ask(durable(V5, client_id, 100));
    broker.take_first(client);
    let told = broker.take(client);
    for place in 0..told.len() {
        broker.ack(client, AckKind::PubAck, place as u16 + 1);
    }
    broker.hang_up(client);
    told.iter().map(|line| line.split('=').next_back().unwrap_or_default().to_owned()).collect()
}

/// Publishes to the topics in turn at QoS 1; the payload is the place. What was answered.
fn publish_all(broker: &mut Broker, publisher: Client, topics: &[&str]) -> Vec<String> {
    for (topic, place) in topics.iter().zip(1..) {
        broker.send(publisher, publish(1, place, topic, &place.to_string()));
    }
    broker.take(publisher)
}

fn queued(broker: &Broker) -> u64 {
    broker.shared.queued_messages.now()
}

#[test]
fn when_all_queues_together_are_full_what_is_configured_happens() {
    for (act, shards) in ALL.into_iter().flat_map(|act| [(act, 1), (act, 2)]) {
        let mut broker = Broker::with(shards, |config| {
            config.mqtt.all_queues_messages_max = 3;
            config.mqtt.all_queues_full = act;
        });
        let names = absent(&mut broker, ["a", "b", "c"]);
        let publisher = broker.connect("p", V5);
        let answers = publish_all(&mut broker, publisher, &["a", "a", "b", "a", "c"]);
        let (kept, refusal, dropped) = match act {
            AllQueuesFull::DropOldest => ([vec!["2", "4"], vec!["3"], vec![]], "", 2),
            AllQueuesFull::DropNewest => ([vec!["1", "2"], vec!["3"], vec![]], "", 2),
            AllQueuesFull::Refuse => ([vec!["1", "2"], vec!["3"], vec![]], " QuotaExceeded +why", 0),
        };
        let expected = ["PUBACK 1", "PUBACK 2", "PUBACK 3"].map(str::to_owned).into_iter();
        let expected: Vec<_> = expected.chain([4, 5].map(|place| format!("PUBACK {place}{refusal}"))).collect();
        assert_eq!(answers, expected, "{act:?}, {shards} shards");
        let sum = |of: fn(&crate::shard::Counters) -> u64| (0..shards).map(|shard| of(broker.counters(shard))).sum();
        let counted: [u64; 2] = [sum(|all| all.dropped_all_queues_full), sum(|all| all.publishes_refused_full)];
        assert_eq!((counted, queued(&broker)), ([dropped, 2 - dropped], 3), "{act:?}, {shards} shards");
        for (name, kept) in names.iter().zip(kept) {
            assert_eq!(fetched(&mut broker, name), kept, "{act:?}, {shards} shards: {name}");
        }
        assert_eq!(queued(&broker), 0);
        assert_eq!(publish_all(&mut broker, publisher, &["c"]), ["PUBACK 1"], "there is room again");
        assert_eq!(queued(&broker), 1);
    }
}

#[test]
fn who_cannot_be_told_that_all_is_full_is_disconnected_without_an_acknowledgement() {
    let mut broker = Broker::with(1, |config| {
        config.mqtt.all_queues_messages_max = 1;
        config.mqtt.all_queues_full = AllQueuesFull::Refuse;
        config.mqtt.queue_qos0_offline = true;
    });
    absent(&mut broker, ["a", "b", "c"]);
    let live = broker.connect("live", V5);
    broker.subscribe(live, "live", 0);
    let v5 = broker.connect("v5", V5);
    broker.send(v5, publish(2, 9, "a", "m"));
    assert_eq!(broker.take(v5), ["PUBREC 9"]);
    for topic in ["a", "live"] {
        broker.send(v5, publish(2, 10, topic, "m"));
        assert_eq!(broker.take(v5), ["PUBREC 10 QuotaExceeded +why"], "{topic}");
    }
    broker.send(v5, publish(2, 9, "a", "m"));
    assert_eq!(broker.take(v5), ["PUBREC 9"], "it was taken over when there was room");
    for qos in [1, 2] {
        let v3 = broker.connect("v3", V311);
        broker.send(v3, publish(qos, 1, "a", "m"));
        assert_eq!(broker.take(v3), ["closed"], "QoS {qos}");
    }
    // QoS 0 has no acknowledgement that it could be refused with.
    broker.publish(v5, "live", "m");
    assert_eq!(broker.take(live), ["PUBLISH q0 live=m"]);
    broker.publish(v5, "a", "m");
    assert_eq!((broker.counters(0).dropped_all_queues_full, queued(&broker)), (1, 1));
}

#[test]
fn what_is_sent_at_once_needs_no_room() {
    for act in ALL {
        let mut broker = Broker::with(1, |config| {
            config.mqtt.all_queues_messages_max = 2;
            config.mqtt.all_queues_full = act;
        });
        absent(&mut broker, ["a", "b", "c"]);
        let client = broker.connect_as(Connect::new(V5, "both"));
        broker.subscribe(client, "t", 1);
        assert_eq!(publish_all(&mut broker, client, &["a"]), ["PUBACK 1"]);
        for _ in 0..5 {
            broker.send(client, publish(1, 1, "t", "m"));
        }
        assert_eq!(broker.take(client).len(), 10, "{act:?}");
        assert_eq!((queued(&broker), broker.counters(0).dropped_all_queues_full), (1, 0));
    }
}

#[test]
fn bytes_are_bounded_as_well_and_leave_with_their_session() {
    let mut broker = Broker::with(1, |config| config.mqtt.all_queues_bytes_max = 1000);
    let names = absent(&mut broker, ["a", "b", "c"]);
    let publisher = broker.connect("p", V5);
    for (topic, bytes) in [("a", 100), ("b", 100), ("b", 300), ("b", 400)] {
        broker.send(publisher, publish(1, 1, topic, &"x".repeat(bytes)));
    }
    assert_eq!(broker.counters(0).dropped_all_queues_full, 2, "both that waited for b made room for the last");
    assert_eq!(queued(&broker), 2);
    assert!((500..=1000).contains(&broker.shared.queued_bytes.now()));
    broker.after_s(200);
    assert_eq!((queued(&broker), broker.shared.queued_bytes.now()), (0, 0), "{names:?} have expired");
}
