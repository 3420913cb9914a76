//! Session state: CleanSession, what is kept, and for how long.

use super::{connect, resume};
use crate::client::Client;
use crate::server::on_each_shard_count;
use crate::wire::{Ack, Connect, Packet, Publish, Subscribe};

#[test]
fn v3_mqtt_3_1_2_4_without_clean_session_the_session_is_resumed_or_made_and_kept() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("kept"), server.unique("kept"));
        let mut client = resume(server, &id);
        assert!(!client.session_present());
        client.subscribe(&topic, 1);
        // Whichever way the connection ends.
        let mut publisher = connect(server, "p");
        for end in 0..3 {
            match end {
                0 => client.disconnect(),
                1 => client.vanish_noticed(),
                _ => client.send_raw(&[0xFF, 0]).expect_closed(),
            }
            publisher.publish(&topic, [end], 1);
            client = resume(server, &id);
            assert!(client.session_present());
            client.receive(&topic, [end], 1);
        }
        client.expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_3_1_2_5_a_kept_session_holds_later_qos_1_and_2_messages() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("held"), server.unique("held"));
        let mut client = resume(server, &id);
        client.subscribe(&format!("{topic}/2/#"), 2).subscribe(&format!("{topic}/1/#"), 1);
        client.disconnect();
        let mut publisher = connect(server, "p");
        for number in 0..10_u8 {
            publisher.publish(&format!("{topic}/2/x"), [number], 2);
            publisher.publish(&format!("{topic}/2/x"), [number], 1);
            publisher.publish(&format!("{topic}/1/x"), [number], 2);
        }
        let mut client = resume(server, &id);
        for number in 0..10_u8 {
            client.receive(&format!("{topic}/2/x"), [number], 2);
            client.receive(&format!("{topic}/2/x"), [number], 1);
            client.receive(&format!("{topic}/1/x"), [number], 1);
        }
        client.expect_nothing_from(&mut publisher);
        // Acknowledged, they are not held any longer.
        client.disconnect();
        resume(server, &id).expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_3_1_2_6_a_clean_session_discards_the_old_one_and_is_never_reused() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("clean"), server.unique("clean"));
        let mut publisher = connect(server, "p");
        let mut client = resume(server, &id);
        client.subscribe(&topic, 2);
        client.disconnect();
        publisher.publish(&topic, "queued", 1);
        // Neither subscriptions nor queued messages of the old session survive.
        let mut client = Client::connect(server, Connect::v311(&id));
        publisher.publish(&topic, "live", 1);
        client.expect_nothing_from(&mut publisher);
        // And nothing of the clean one is used again: subscription, unacknowledged message, open QoS 2 exchange.
        client.subscribe(&topic, 2);
        publisher.publish(&topic, "unacknowledged", 2);
        client.expect_publish(&topic, "unacknowledged", 2);
        let other = server.unique("open");
        client.send(Publish::new(&other, "open").qos(2, 9)).expect(Packet::PubRec(Ack::new(9)));
        client.vanish_noticed();
        let mut client = resume(server, &id);
        assert!(!client.session_present());
        publisher.publish(&topic, "later", 1);
        client.expect_nothing_from(&mut publisher);
        // Identifier 9 stands for a new message now.
        let mut observer = connect(server, "o");
        observer.subscribe(&other, 0);
        client.send(Publish::new(&other, "new").qos(2, 9).dup()).expect(Packet::PubRec(Ack::new(9)));
        client.send(Packet::PubRel(Ack::new(9))).expect(Packet::PubComp(Ack::new(9)));
        observer.receive(&other, "new", 0).expect_nothing_from(&mut client);
    });
}

#[test]
fn v3_mqtt_3_1_2_7_retained_messages_outlive_the_session() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("retained"), server.unique("retained"));
        let mut publisher = Client::connect(server, Connect::v311(&id));
        publisher.publish_retained(&topic, "kept", 1);
        publisher.disconnect();
        Client::connect(server, Connect::v311(&id)).disconnect();
        let mut subscriber = connect(server, "s");
        subscriber.subscribe(&topic, 0).expect_like(Publish::new(&topic, "kept").retain());
    });
}

#[test]
fn v3_mqtt_4_1_0_1_session_state_is_kept_for_the_whole_session() {
    on_each_shard_count(|server| {
        // Each part of the state that section 4.1 lists, over a reconnect: subscriptions, messages sent but not
        // acknowledged, QoS 2 messages received but not completed, messages waiting to be sent.
        let (id, topic) = (server.unique("state"), server.unique("state"));
        let mut publisher = connect(server, "p");
        let mut observer = connect(server, "o");
        observer.subscribe(&format!("{topic}/up"), 2);
        let mut client = resume(server, &id);
        client.subscribe(&topic, 2);
        publisher.publish(&topic, "one", 1);
        let one = client.expect_publish(&topic, "one", 1);
        publisher.publish(&topic, "two", 2);
        let two = client.expect_publish(&topic, "two", 2);
        publisher.publish(&topic, "three", 2);
        let three = client.expect_publish(&topic, "three", 2);
        client.send(Packet::PubRec(Ack::new(three.id))).expect(Packet::PubRel(Ack::new(three.id)));
        client.send(Publish::new(&format!("{topic}/up"), "up").qos(2, 77)).expect(Packet::PubRec(Ack::new(77)));
        client.vanish_noticed();
        publisher.publish(&topic, "four", 1);

        let mut client = resume(server, &id);
        assert!(client.session_present());
        let came: Vec<Packet> = (0..4).map(|_| client.next()).collect();
        let (releases, publishes): (Vec<_>, Vec<_>) =
            came.into_iter().partition(|packet| matches!(packet, Packet::PubRel(_)));
        assert_eq!(releases, [Packet::PubRel(Ack::new(three.id))]);
        assert_eq!(publishes[0], Packet::Publish(Publish { dup: true, ..one.clone() }));
        assert_eq!(publishes[1], Packet::Publish(Publish { dup: true, ..two.clone() }));
        let Packet::Publish(four) = publishes[2].clone() else { panic!("{publishes:?}") };
        assert_eq!(four, Publish::new(&topic, "four").qos(1, four.id));
        client.send(Packet::PubComp(Ack::new(three.id)));
        client.acknowledge(&one).acknowledge(&two).acknowledge(&four);
        client.send(Publish::new(&format!("{topic}/up"), "up").qos(2, 77).dup()).expect(Packet::PubRec(Ack::new(77)));
        client.send(Packet::PubRel(Ack::new(77))).expect(Packet::PubComp(Ack::new(77)));
        observer.receive(&format!("{topic}/up"), "up", 2).expect_nothing_from(&mut client);
    });
}

#[test]
fn v3_mqtt_4_1_0_2_a_session_lasts_as_long_as_its_connection() {
    on_each_shard_count(|server| {
        // A clean session has its state until the connection ends, whatever happens to other sessions meanwhile.
        let topic = server.unique("lasts");
        let mut publisher = connect(server, "p");
        let mut client = connect(server, "c");
        client.subscribe(&topic, 2);
        client.send(Publish::new(&server.unique("elsewhere"), "open").qos(2, 5)).expect(Packet::PubRec(Ack::new(5)));
        publisher.publish(&topic, "first", 2);
        let first = client.expect_publish(&topic, "first", 2);
        for round in 0..50_u8 {
            let mut other = connect(server, "x");
            let id = other.next_id();
            other.send(Subscribe::new(id, &topic, 0)).expect_suback(id, &[0]);
            other.vanish();
            publisher.publish(&topic, [round], 1);
            client.receive(&topic, [round], 1);
        }
        client.acknowledge(&first);
        client.send(Packet::PubRel(Ack::new(5))).expect(Packet::PubComp(Ack::new(5)));
        client.expect_nothing_from(&mut publisher);
    });
}
