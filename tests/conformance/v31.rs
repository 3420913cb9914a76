//! MQTT 3.1 (`MQIsdp`, level 3), where it differs from 3.1.1.

use crate::client::Client;
use crate::server::{Server, on_each_shard_count};
use crate::wire::{Ack, Connect, Packet, Publish, Subscribe, Unsubscribe, Version, Will, field, frame};

fn connect(server: &Server, word: &str) -> Client {
    Client::connect(server, Connect::v31(&server.unique(word)))
}

#[test]
fn v31_is_spoken_with_its_own_name_and_level() {
    on_each_shard_count(|server| {
        connect(server, "name").expect_nothing_within_roundtrip();
        // The name of one with the level of the other is neither.
        for (name, level) in [("MQIsdp", 4), ("MQIsdp", 5), ("MQTT", 3), ("MQIsdp", 2)] {
            let mut wrong = Connect::v31(&server.unique("name")).level(level);
            wrong.name = name.as_bytes().to_vec();
            let mut client = Client::dial(server, Version::V31);
            match client.send(wrong).next_or_closed() {
                None => {}
                Some(Packet::ConnAck(connack)) if connack.code == 1 => client.expect_closed(),
                Some(other) => panic!("{name} at level {level} was answered with {other:?}"),
            }
        }
    });
}

#[test]
fn v31_connack_says_nothing_about_the_session() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("session"), server.unique("session"));
        let mut client = Client::connect(server, Connect::v31(&id).clean(false));
        client.subscribe(&topic, 1);
        client.disconnect();
        let mut publisher = connect(server, "p");
        publisher.publish(&topic, "stored", 1);
        // The byte is reserved, so 0 although the session is resumed.
        let mut client = Client::dial(server, Version::V31);
        client.send(Connect::v31(&id).clean(false)).expect_raw(&[0x20, 2, 0, 0]);
        client.receive(&topic, "stored", 1);
        client.disconnect();
        // The session is one for all versions.
        assert!(Client::connect(server, Connect::v311(&id).clean(false)).session_present());
    });
}

#[test]
fn v31_needs_a_client_id_and_takes_long_ones() {
    on_each_shard_count(|server| {
        for clean in [true, false] {
            let mut client = Client::dial(server, Version::V31);
            client.send(Connect::v31("").clean(clean)).expect_raw(&[0x20, 2, 0, 2]);
            client.expect_closed();
        }
        for length in [1, 23, 24, 100] {
            let id = format!("{:x<length$}", server.unique("i"));
            Client::connect(server, Connect::v31(&id)).disconnect();
        }
    });
}

#[test]
fn v31_suback_has_no_failure_code() {
    on_each_shard_count(|server| {
        for filter in ["a#", "#/a", "+a", "", "$share/g"] {
            let mut client = connect(server, "refused");
            client.send(Subscribe::new(1, filter, 2));
            // What cannot be granted is granted at QoS 0 or ends the connection.
            if let Some(packet) = client.next_or_closed() {
                let Packet::SubAck(ack) = packet else { panic!("{packet:?} instead of SUBACK") };
                assert!(ack.codes.iter().all(|code| *code <= 2), "{filter}: {:02x?}", ack.codes);
            }
        }
    });
}

#[test]
fn v31_delivers_at_each_qos_between_the_versions() {
    on_each_shard_count(|server| {
        let topic = server.unique("qos");
        let mut old = connect(server, "old");
        let mut new = Client::connect(server, Connect::v311(&server.unique("new")));
        let mut newest = Client::connect(server, Connect::v5(&server.unique("newest")));
        for client in [&mut old, &mut new, &mut newest] {
            client.subscribe(&topic, 2).settle_retained(server);
        }
        let mut publisher = connect(server, "p");
        for qos in 0..=2 {
            publisher.publish(&topic, [qos], qos);
            for client in [&mut old, &mut new, &mut newest] {
                client.receive(&topic, [qos], qos);
            }
        }
        publisher.publish_retained(&topic, "kept", 1);
        let mut late = connect(server, "late");
        late.subscribe(&topic, 0).expect_like(Publish::new(&topic, "kept").retain());
    });
}

#[test]
fn v31_wills_and_take_over_are_those_of_3_1_1() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("will"), server.unique("will"));
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 2);
        for qos in 0..=2 {
            let will = Will::new(&topic, [qos]).qos(qos);
            Client::connect(server, Connect::v31(&id).will(will.clone())).vanish();
            observer.receive(&topic, [qos], qos);
            Client::connect(server, Connect::v31(&id).will(will.clone())).disconnect();
            let mut old = Client::connect(server, Connect::v31(&id).will(will));
            let new = Client::connect(server, Connect::v31(&id));
            old.expect_closed();
            observer.receive(&topic, [qos], qos);
            new.disconnect();
        }
        let mut publisher = connect(server, "p");
        observer.expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v31_a_user_name_flag_without_user_name_is_valid() {
    on_each_shard_count(|server| {
        // For the sake of MQTT V3 clients the remaining length wins over the flags: what is missing is left out.
        for (flags, fields) in [(0x82, &[][..]), (0xC2, &[]), (0xC2, &["user"])] {
            let id = field(server.unique("short"));
            let body =
                [&b"\0\x06MQIsdp\x03"[..], &[flags, 0, 60], &id, &fields.iter().flat_map(field).collect::<Vec<u8>>()];
            let mut client = Client::dial(server, Version::V31);
            client.send_raw(&frame(0x10, &body.concat())).expect_connack(0);
            client.expect_nothing_within_roundtrip();
        }
    });
}

#[test]
fn v31_repeated_requests_may_have_dup() {
    on_each_shard_count(|server| {
        // 3.1 sets DUP on a PUBREL, SUBSCRIBE and UNSUBSCRIBE that is sent again, and its clients do send them again.
        let topic = server.unique("dup");
        let mut client = connect(server, "dup");
        let with_dup = |bytes: Vec<u8>| [&[bytes[0] | 0x08], &bytes[1..]].concat();
        let subscribe = with_dup(client.encode(Subscribe::new(1, &topic, 1)));
        client.send_raw(&subscribe).expect_suback(1, &[1]);
        let unsubscribe = with_dup(client.encode(Unsubscribe::new(2, &topic)));
        client.send_raw(&unsubscribe).expect_unsuback(2);
        client.send(Publish::new(&topic, "x").qos(2, 3)).expect(Packet::PubRec(Ack::new(3)));
        let release = with_dup(client.encode(Packet::PubRel(Ack::new(3))));
        client.send_raw(&release).expect(Packet::PubComp(Ack::new(3)));
    });
}
