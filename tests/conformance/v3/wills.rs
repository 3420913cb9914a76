//! The Will: when it is published and when not, and how.

use super::{assert_closes_unconnected, connect, resume};
use crate::client::Client;
use crate::server::{Server, on_each_shard_count};
use crate::wire::{Connect, Packet, Publish, Version, Will};

fn with_will(server: &Server, will: Will) -> Client {
    Client::connect(server, Connect::v311(&server.unique("will")).will(will))
}

/// Each way in which a connection can end without a DISCONNECT, other than by silence.
type End = fn(&Server, &str, Client);
const ENDS: [(&str, End); 5] = [
    ("a closed socket", |_, _, client| client.vanish_noticed()),
    ("a reset", |_, _, client| client.reset()),
    ("a protocol violation", |_, _, mut client| client.send_raw(&[0xF0, 0]).expect_closed()),
    ("a second CONNECT", |_, id, mut client| client.send(Connect::v311(id)).expect_closed()),
    ("a take-over", |server, id, mut client| {
        let successor = Client::connect(server, Connect::v311(id));
        client.expect_closed();
        successor.disconnect();
    }),
];

#[test]
fn v3_mqtt_3_1_2_8_the_will_is_published_when_the_connection_ends_without_disconnect() {
    on_each_shard_count(|server| {
        let topic = server.unique("will");
        for (what, end) in ENDS {
            let mut observer = connect(server, "o").label(what);
            observer.subscribe(&topic, 2);
            for qos in 0..=2 {
                let id = server.unique("w");
                let will = Will::new(&topic, what).qos(qos);
                end(server, &id, Client::connect(server, Connect::v311(&id).will(will)));
                observer.receive(&topic, what, qos);
            }
            let mut publisher = connect(server, "p");
            observer.expect_nothing_from(&mut publisher);
        }
    });
}

#[test]
fn v3_mqtt_3_1_2_10_the_will_is_forgotten_once_published_or_disconnected() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("once"), server.unique("once"));
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 1);
        // Published once, it isn't published again by the next connection of the same session, nor by its clean end.
        let will = Will::new(&topic, "once").qos(1);
        Client::connect(server, Connect::v311(&id).clean(false).will(will.clone())).vanish();
        observer.receive(&topic, "once", 1);
        resume(server, &id).vanish_noticed();
        Client::connect(server, Connect::v311(&id)).vanish_noticed();
        // After DISCONNECT it is gone, though the socket is then torn down without order.
        let mut client = Client::connect(server, Connect::v311(&id).clean(false).will(will));
        client.send(Packet::Disconnect(Default::default())).vanish_after_disconnect();
        resume(server, &id).vanish_noticed();
        let mut publisher = connect(server, "p");
        observer.expect_nothing_from(&mut publisher);
    });
}

impl Client {
    /// Sends what no one may send after DISCONNECT, and waits for the close.
    fn vanish_after_disconnect(&mut self) {
        self.send_raw(&[0xF0, 0]);
        while self.next_or_closed().is_some() {}
    }
}

#[test]
fn v3_mqtt_3_1_2_16_a_will_without_retain_is_published_unretained() {
    on_each_shard_count(|server| {
        let topic = server.unique("plain");
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 1);
        with_will(server, Will::new(&topic, "plain").qos(1)).vanish();
        observer.receive(&topic, "plain", 1);
        connect(server, "l").subscribe(&topic, 1).expect_no_retained(server);
    });
}

#[test]
fn v3_mqtt_3_1_2_17_a_will_with_retain_is_published_retained() {
    on_each_shard_count(|server| {
        for qos in 0..=2 {
            let topic = server.unique("retained");
            let mut observer = connect(server, "o");
            observer.subscribe(&topic, 2).settle_retained(server);
            with_will(server, Will::new(&topic, "kept").qos(qos).retain()).vanish();
            // To those who are there it comes as a live message, to those who come later as a retained one.
            observer.receive(&topic, "kept", qos);
            let mut late = connect(server, "l");
            let publish = late.subscribe(&topic, 2).expect_like(Publish::new(&topic, "kept").qos(qos, 0).retain());
            late.acknowledge(&publish);
            // An empty one clears it.
            with_will(server, Will::new(&topic, "").qos(qos).retain()).vanish();
            observer.receive(&topic, "", qos);
            connect(server, "l").subscribe(&topic, 2).expect_no_retained(server);
        }
    });
}

#[test]
fn a_will_topic_with_a_wildcard_is_refused() {
    on_each_shard_count(|server| {
        for topic in ["a/+", "#", "a+b", "a/#"] {
            let connect = Connect::v311(&server.unique("will")).will(Will::new(topic, "x"));
            assert_closes_unconnected(server, topic, &Packet::Connect(connect).encode(Version::V311));
        }
    });
}

#[test]
fn a_will_of_65_535_bytes_is_published_whole() {
    on_each_shard_count(|server| {
        let topic = server.unique("large");
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 1);
        let payload: Vec<u8> = (0..65_535_u32).map(|number| (number % 251) as u8).collect();
        with_will(server, Will::new(&topic, &payload).qos(1)).vanish();
        observer.receive(&topic, &payload, 1);
    });
}

#[test]
fn the_will_reaches_the_offline_session_of_its_own_client() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("self"), server.unique("self"));
        let will = Will::new(&topic, "from myself").qos(1);
        let mut client = Client::connect(server, Connect::v311(&id).clean(false).will(will));
        client.subscribe(&topic, 1);
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 1);
        client.vanish();
        observer.receive(&topic, "from myself", 1);
        resume(server, &id).receive(&topic, "from myself", 1);
    });
}
