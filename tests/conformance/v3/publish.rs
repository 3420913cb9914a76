//! PUBLISH: flags, topic name, and how it is answered.

use super::{ILL_FORMED, assert_closes, connect, resume};
use crate::server::on_each_shard_count;
use crate::wire::{Ack, Packet, Publish, Version, field, frame};

#[test]
fn v3_mqtt_3_3_1_1_a_delivery_that_is_repeated_has_dup() {
    on_each_shard_count(|server| {
        for qos in 1..=2 {
            let (id, topic) = (server.unique("dup"), server.unique("dup"));
            let mut client = resume(server, &id);
            client.subscribe(&topic, qos);
            connect(server, "p").publish(&topic, "again", qos);
            let first = client.expect_publish(&topic, "again", qos);
            for _ in 0..3 {
                client.vanish_noticed();
                client = resume(server, &id);
                client.expect(Publish { dup: true, ..first.clone() });
            }
            client.acknowledge(&first).expect_nothing_within_roundtrip();
        }
    });
}

#[test]
fn v3_mqtt_3_3_1_2_a_qos_0_publish_has_no_dup() {
    on_each_shard_count(|server| {
        let topic = server.unique("nodup");
        // From a client it is a violation...
        let wrong = Packet::Publish(Publish::new(&topic, "x").dup()).encode(Version::V311);
        assert_closes(server, "DUP at QoS 0", &wrong);
        // ...and the server doesn't send it, even if the message came with DUP at a higher QoS.
        let mut subscriber = connect(server, "s");
        subscriber.subscribe(&topic, 0);
        let mut publisher = connect(server, "p");
        publisher.publish_packet(Publish::new(&topic, "one").dup(), 1);
        publisher.publish_packet(Publish::new(&topic, "two").dup(), 2);
        subscriber.expect_raw(&frame(0x30, &[field(&topic), b"one".to_vec()].concat()));
        subscriber.expect_raw(&frame(0x30, &[field(&topic), b"two".to_vec()].concat()));
    });
}

#[test]
fn v3_mqtt_3_3_1_3_the_dup_of_a_delivery_does_not_follow_the_publishers() {
    on_each_shard_count(|server| {
        let topic = server.unique("dup");
        let mut subscriber = connect(server, "s");
        subscriber.subscribe(&topic, 2);
        let mut publisher = connect(server, "p");
        for qos in 1..=2 {
            publisher.publish_packet(Publish::new(&topic, "x").dup(), qos);
            subscriber.receive(&topic, "x", qos);
        }
    });
}

#[test]
fn v3_mqtt_3_3_1_4_qos_3_closes_the_connection() {
    on_each_shard_count(|server| {
        let topic = server.unique("three");
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 2);
        for flags in [0x06, 0x07, 0x0E, 0x0F] {
            let body = [field(&topic), vec![0, 1], b"x".to_vec()].concat();
            assert_closes(server, "QoS 3", &frame(0x30 | flags, &body));
        }
        let mut publisher = connect(server, "p");
        observer.expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_3_3_2_1_the_topic_name_comes_first_and_is_utf8() {
    on_each_shard_count(|server| {
        for (what, text) in ILL_FORMED {
            for (first, id) in [(0x30, &[][..]), (0x32, &[0, 1]), (0x34, &[0, 1])] {
                assert_closes(server, what, &frame(first, &[&field(text), id, b"x"].concat()));
            }
        }
        // First the topic, then the identifier, then the payload, as far as the packet reaches.
        let topic = format!("{}/größe/主题/🚀", server.unique("utf8"));
        let mut client = connect(server, "c");
        client.subscribe(&topic, 0);
        client.send_raw(&frame(0x32, &[field(&topic), vec![0x12, 0x34], b"payload".to_vec()].concat()));
        let mut came = [client.next(), client.next()];
        came.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
        assert_eq!(came[0], Packet::PubAck(Ack::new(0x1234)));
        assert_eq!(came[1], Packet::Publish(Publish::new(&topic, "payload")));
    });
}

#[test]
fn v3_mqtt_3_3_2_2_a_topic_name_with_a_wildcard_closes_the_connection() {
    on_each_shard_count(|server| {
        let base = server.unique("wild");
        let mut observer = connect(server, "o");
        observer.subscribe(&format!("{base}/#"), 2);
        for tail in ["#", "+", "a/#", "+/a", "a+", "a#b", "a/+/b"] {
            for qos in 0..=2 {
                let publish = Publish::new(&format!("{base}/{tail}"), "x").qos(qos, u16::from(qos));
                assert_closes(server, tail, &Packet::Publish(publish).encode(Version::V311));
            }
        }
        let mut publisher = connect(server, "p");
        observer.expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_3_3_2_3_a_delivered_topic_name_matches_the_filter() {
    on_each_shard_count(|server| {
        let base = server.unique("match");
        let mut publisher = connect(server, "p");
        // The name that arrives is the published one, never the filter.
        for (filter, name) in [("a/b", "a/b"), ("+/b/+", "x/b/y"), ("c/#", "c"), ("c/#", "c/d/e"), ("/+//", "/q//")] {
            let mut subscriber = connect(server, "s");
            subscriber.subscribe(&format!("{base}/{filter}"), 1);
            publisher.publish(&format!("{base}/no/such/name"), "x", 1);
            publisher.publish(&format!("{base}/{name}"), "x", 1);
            subscriber.receive(&format!("{base}/{name}"), "x", 1).expect_nothing_from(&mut publisher);
        }
    });
}

#[test]
fn v3_mqtt_3_3_4_1_a_publish_is_answered_according_to_its_qos() {
    on_each_shard_count(|server| {
        let topic = server.unique("answer");
        let mut subscriber = connect(server, "s");
        // With and without anyone who wants the message.
        for wanted in [false, true] {
            if wanted {
                subscriber.subscribe(&topic, 0);
            }
            let mut client = connect(server, "c");
            client.send(Publish::new(&topic, "zero")).expect_nothing_within_roundtrip();
            client.send(Publish::new(&topic, "one").qos(1, 1)).expect_raw(&[0x40, 2, 0, 1]);
            client.expect_nothing_within_roundtrip();
            client.send(Publish::new(&topic, "two").qos(2, 2)).expect_raw(&[0x50, 2, 0, 2]);
            client.expect_nothing_within_roundtrip();
            client.send(Packet::PubRel(Ack::new(2))).expect_raw(&[0x70, 2, 0, 2]);
            client.expect_nothing_within_roundtrip();
        }
        for payload in ["zero", "one", "two"] {
            subscriber.expect_publish(&topic, payload, 0);
        }
    });
}

#[test]
fn v3_mqtt_3_3_5_1_overlapping_filters_deliver_at_their_highest_qos() {
    on_each_shard_count(|server| {
        let base = server.unique("overlap");
        let name = format!("{base}/a/b");
        let filters = ["a/b", "a/+", "#", "+/b"].map(|tail| format!("{base}/{tail}"));
        let mut publisher = connect(server, "p");
        // Whichever of them has it, and in whichever order they were made.
        for highest in 0..filters.len() {
            for qos in 1..=2 {
                let mut subscriber = connect(server, "s");
                for (number, filter) in filters.iter().enumerate() {
                    subscriber.subscribe(filter, if number == highest { qos } else { qos - 1 });
                }
                publisher.publish(&name, "x", 2);
                let mut highest_seen = subscriber.expect_any_publish();
                // A server may send a copy for each subscription; ours sends one.
                while server.is_external() && highest_seen.qos < qos {
                    highest_seen = subscriber.expect_any_publish();
                }
                assert_eq!(highest_seen, Publish::new(&name, "x").qos(qos, highest_seen.id));
                subscriber.acknowledge(&highest_seen);
                if !server.is_external() {
                    subscriber.expect_nothing_from(&mut publisher);
                }
            }
        }
    });
}

#[test]
fn v3_mqtt_3_3_5_2_an_unauthorised_publish_is_acknowledged_or_the_connection_closed() {
    on_each_shard_count(|server| {
        // No client may write where the server publishes about itself.
        for (qos, topic) in
            [(1, "$SYS/broker/version"), (2, "$SYS/broker/version"), (1, "$SYS/forged"), (2, "$SYS/forged")]
        {
            let mut observer = connect(server, "o");
            let (forged, id) = (server.unique("forged"), 5);
            observer.subscribe("$SYS/forged", 2);
            let mut client = connect(server, "c");
            client.send(Publish::new(topic, &forged).qos(qos, id).retain());
            match (qos, client.next_or_closed()) {
                (_, None) => continue,
                (1, Some(Packet::PubAck(ack))) => assert_eq!(ack, Ack::new(id)),
                (2, Some(Packet::PubRec(ack))) => {
                    assert_eq!(ack, Ack::new(id));
                    client.send(Packet::PubRel(Ack::new(id))).expect(Packet::PubComp(Ack::new(id)));
                }
                (_, Some(other)) => panic!("{other:?}"),
            }
            client.expect_nothing_within_roundtrip();
            // Acknowledged or not: nobody sees it, now or later.
            observer.expect_nothing_from(&mut client);
            connect(server, "l").subscribe("$SYS/forged", 0).expect_no_retained(server);
        }
    });
}
