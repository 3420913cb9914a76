//! UNSUBSCRIBE and UNSUBACK.

use super::{ILL_FORMED, assert_closes, connect, resume};
use crate::server::on_each_shard_count;
use crate::wire::{Ack, Packet, Publish, Subscribe, Unsubscribe, field, frame};

#[test]
fn v3_mqtt_3_10_1_1_unsubscribe_with_other_flags_than_0010_closes_the_connection() {
    on_each_shard_count(|server| {
        for flags in (0..16).filter(|flags| *flags != 2) {
            let bytes = frame(0xA0 | flags, &[vec![0, 1], field("flags")].concat());
            assert_closes(server, "UNSUBSCRIBE flags", &bytes);
        }
    });
}

#[test]
fn v3_mqtt_3_10_3_1_a_filter_that_is_no_utf8_closes_the_connection() {
    on_each_shard_count(|server| {
        for (what, text) in ILL_FORMED {
            assert_closes(server, what, &frame(0xA2, &[vec![0, 1], field(text)].concat()));
            assert_closes(server, what, &frame(0xA2, &[vec![0, 1], field("good"), field(text)].concat()));
        }
    });
}

#[test]
fn v3_mqtt_3_10_3_2_an_unsubscribe_without_filter_closes_the_connection() {
    on_each_shard_count(|server| {
        assert_closes(server, "no filter", &frame(0xA2, &[0, 1]));
    });
}

#[test]
fn v3_mqtt_3_10_4_1_filters_are_compared_character_by_character() {
    on_each_shard_count(|server| {
        let base = server.unique("compare");
        let mut publisher = connect(server, "p");
        let name = format!("{base}/a/b");
        for filter in ["a/b", "a/+", "#", "+/b"] {
            let mut subscriber = connect(server, "s");
            subscriber.subscribe(&format!("{base}/{filter}"), 1);
            // Others that match the same names, or nearly spell the same, leave it alone.
            for other in ["a/b", "a/+", "#", "+/b", "+/+", "a/#", "A/b", "a/b/", "/a/b", "a/b/#", "a /b"] {
                if other != filter {
                    subscriber.unsubscribe(&format!("{base}/{other}"));
                }
            }
            publisher.publish(&name, "still there", 1);
            subscriber.receive(&name, "still there", 1).unsubscribe(&format!("{base}/{filter}"));
            publisher.publish(&name, "gone", 1);
            subscriber.expect_nothing_from(&mut publisher);
        }
    });
}

#[test]
fn v3_mqtt_3_10_4_2_a_deleted_subscription_gets_no_new_messages() {
    on_each_shard_count(|server| {
        let (id, base) = (server.unique("deleted"), server.unique("deleted"));
        let topic = format!("{base}/x");
        let mut publisher = connect(server, "p");
        let mut subscriber = resume(server, &id);
        for filter in [topic.clone(), format!("{base}/+"), format!("{base}/#")] {
            subscriber.subscribe(&filter, 2);
            publisher.publish(&topic, "before", 2);
            subscriber.receive(&topic, "before", 2).unsubscribe(&filter);
            for qos in 0..=2 {
                publisher.publish(&topic, "after", qos);
            }
            subscriber.expect_nothing_from(&mut publisher);
        }
        // Not in the stored session, either.
        subscriber.disconnect();
        publisher.publish(&topic, "offline", 1);
        resume(server, &id).expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_3_10_4_3_deliveries_already_begun_are_completed() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("begun"), server.unique("begun"));
        let mut publisher = connect(server, "p");
        let mut subscriber = resume(server, &id);
        subscriber.subscribe(&topic, 2);
        publisher.publish(&topic, "one", 1).publish(&topic, "two", 2).publish(&topic, "three", 2);
        let one = subscriber.expect_publish(&topic, "one", 1);
        let two = subscriber.expect_publish(&topic, "two", 2);
        let three = subscriber.expect_publish(&topic, "three", 2);
        subscriber.send(Packet::PubRec(Ack::new(three.id))).expect(Packet::PubRel(Ack::new(three.id)));
        subscriber.unsubscribe(&topic);
        // On this connection...
        subscriber.acknowledge(&two);
        // ...and on the next one, where the others are repeated.
        subscriber.vanish_noticed();
        let mut subscriber = resume(server, &id);
        let came = [subscriber.next(), subscriber.next()];
        assert!(came.contains(&Packet::Publish(Publish { dup: true, ..one.clone() })), "{came:?}");
        assert!(came.contains(&Packet::PubRel(Ack::new(three.id))), "{came:?}");
        subscriber.acknowledge(&one).send(Packet::PubComp(Ack::new(three.id)));
        subscriber.expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_3_10_4_4_the_unsuback_has_the_identifier_of_its_unsubscribe() {
    on_each_shard_count(|server| {
        let filter = server.unique("id");
        let mut client = connect(server, "c");
        for id in [65_535_u16, 1, 256, 2] {
            let [high, low] = id.to_be_bytes();
            client.send(Subscribe::new(id, &filter, 0)).expect_suback(id, &[0]);
            client.send(Unsubscribe::new(id, &filter)).expect_raw(&[0xB0, 2, high, low]);
        }
    });
}

#[test]
fn v3_mqtt_3_10_4_5_an_unsuback_comes_even_when_nothing_was_deleted() {
    on_each_shard_count(|server| {
        let mut client = connect(server, "c");
        for filter in ["never/subscribed", "+/never", "#", "$SYS/#", "$share/never/subscribed"] {
            client.send(Unsubscribe::new(8, filter)).expect_raw(&[0xB0, 2, 0, 8]);
        }
        let filter = server.unique("twice");
        client.subscribe(&filter, 0).unsubscribe(&filter).unsubscribe(&filter);
    });
}

#[test]
fn v3_mqtt_3_10_4_6_several_filters_act_as_several_unsubscribes_with_one_unsuback() {
    on_each_shard_count(|server| {
        let base = server.unique("several");
        let topics = [0, 1, 2, 3].map(|number| format!("{base}/{number}"));
        let mut publisher = connect(server, "p");
        let mut subscriber = connect(server, "s");
        for topic in &topics {
            subscriber.subscribe(topic, 1);
        }
        // One of them twice, and one that was never there.
        let unsubscribe = Unsubscribe::new(70, &topics[0]).and(&topics[2]).and("never").and(&topics[0]);
        subscriber.send(unsubscribe).expect_raw(&[0xB0, 2, 0, 70]).expect_nothing_within_roundtrip();
        for topic in &topics {
            publisher.publish(topic, "x", 1);
        }
        subscriber.receive(&topics[1], "x", 1).receive(&topics[3], "x", 1).expect_nothing_from(&mut publisher);
    });
}
