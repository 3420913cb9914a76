//! CONNACK: its place, session present, and refusals.

use super::{assert_closes_unconnected, connect, resume};
use crate::client::Client;
use crate::server::on_each_shard_count;
use crate::wire::{Connect, Packet, Version};

#[test]
fn v3_mqtt_3_2_0_1_the_first_packet_of_the_server_is_connack() {
    on_each_shard_count(|server| {
        // Much is waiting for this session, and a PINGREQ is there already: CONNACK comes before all of it.
        let (id, topic) = (server.unique("first"), server.unique("first"));
        let mut session = resume(server, &id);
        session.subscribe(&topic, 2);
        session.disconnect();
        let mut publisher = connect(server, "p");
        for number in 0..20_u8 {
            publisher.publish(&topic, [number], 1 + number % 2);
        }
        let mut client = Client::dial(server, Version::V311);
        let connect = Packet::Connect(Connect::v311(&id).clean(false)).encode(Version::V311);
        client.send_raw(&[connect, vec![0xC0, 0]].concat());
        client.expect_raw(&[0x20, 2, 1, 0]);
        let mut kinds = (0..21).map(|_| client.next());
        assert_eq!(kinds.by_ref().filter(|packet| matches!(packet, Packet::Publish(_))).count(), 20);
    });
}

#[test]
fn v3_mqtt_3_2_2_1_a_clean_session_has_session_present_0() {
    on_each_shard_count(|server| {
        let id = server.unique("present");
        resume(server, &id).disconnect();
        let mut client = Client::dial(server, Version::V311);
        client.send(Connect::v311(&id)).expect_raw(&[0x20, 2, 0, 0]);
        // Also when the session that it ends is connected.
        let id = server.unique("present");
        let mut online = resume(server, &id);
        let mut client = Client::dial(server, Version::V311);
        client.send(Connect::v311(&id)).expect_raw(&[0x20, 2, 0, 0]);
        online.expect_closed();
    });
}

#[test]
fn v3_mqtt_3_2_2_2_a_stored_session_is_announced_with_session_present_1() {
    on_each_shard_count(|server| {
        let id = server.unique("present");
        resume(server, &id).disconnect();
        for _ in 0..3 {
            let mut client = Client::dial(server, Version::V311);
            client.send(Connect::v311(&id).clean(false)).expect_raw(&[0x20, 2, 1, 0]);
            client.vanish_noticed();
        }
        // A connection that is taken over hands on its session.
        let mut old = resume(server, &id);
        assert!(resume(server, &id).session_present());
        old.expect_closed();
    });
}

#[test]
fn v3_mqtt_3_2_2_3_without_a_stored_session_session_present_is_0() {
    on_each_shard_count(|server| {
        let id = server.unique("present");
        let mut client = Client::dial(server, Version::V311);
        client.send(Connect::v311(&id).clean(false)).expect_raw(&[0x20, 2, 0, 0]);
        // A clean session leaves nothing behind, whether it ended in order or not.
        let id = server.unique("present");
        Client::connect(server, Connect::v311(&id)).disconnect();
        assert!(!resume(server, &id).session_present());
        let id = server.unique("present");
        Client::connect(server, Connect::v311(&id)).vanish_noticed();
        assert!(!resume(server, &id).session_present());
        // It isn't a stored one when it is taken over, either.
        let id = server.unique("present");
        let _old = Client::connect(server, Connect::v311(&id));
        assert!(!resume(server, &id).session_present());
    });
}

#[test]
fn v3_mqtt_3_2_2_4_a_refusal_has_session_present_0() {
    on_each_shard_count(|server| {
        // A session of that id is there, but the level is not supported.
        let id = server.unique("refused");
        resume(server, &id).disconnect();
        let mut client = Client::dial(server, Version::V311);
        client.send(Connect::v311(&id).clean(false).level(9)).expect_raw(&[0x20, 2, 0, 1]);
        client.expect_closed();
        assert!(resume(server, &id).session_present(), "a refused CONNECT touched the session");
    });
}

#[test]
fn v3_mqtt_3_2_2_5_after_a_refusal_the_connection_is_closed() {
    on_each_shard_count(|server| {
        Client::connect_refused(server, Connect::v311("").clean(false), 2);
        Client::connect_refused(server, Connect::v311(&server.unique("level")).level(6), 1);
        Client::connect_refused(server, Connect::v311(&server.unique("level")).level(0), 1);
    });
}

#[test]
fn v3_mqtt_3_2_2_6_without_a_fitting_code_the_close_comes_without_connack() {
    on_each_shard_count(|server| {
        // None of the five codes says "malformed".
        let wrong = Connect::v311(&server.unique("code")).flags(0x03);
        assert_closes_unconnected(server, "the reserved flag", &Packet::Connect(wrong).encode(Version::V311));
        let wrong = Connect::v311(&server.unique("code")).flags(0x1A);
        assert_closes_unconnected(server, "a Will QoS without Will", &Packet::Connect(wrong).encode(Version::V311));
    });
}
