//! Beyond the numbered statements: what real clients do, and what users of other brokers expect.

use std::fs;
use std::time::{Duration, Instant};

use super::{connect, resume};
use crate::client::{Client, PATIENCE};
use crate::property::Property;
use crate::server::{on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Ack, Connect, Packet, Publish, Subscribe, Unsubscribe, Version, Will};

#[test]
fn the_empty_client_id_is_treated_as_each_version_says() {
    on_each_shard_count(|server| {
        // 3.1: an id has at least one character. 3.1.1: none is fine for a clean session. 5.0: none is always fine.
        Client::connect_refused(server, Connect::v31(""), 2);
        Client::connect_refused(server, Connect::v31("").clean(false), 2);
        Client::connect(server, Connect::v311("")).disconnect();
        Client::connect_refused(server, Connect::v311("").clean(false), 2);
        let mut assigned = Vec::new();
        for clean in [true, false] {
            let client = Client::connect(server, Connect::v5("").clean(clean));
            assert!(!client.session_present());
            assigned.push(client.connack_property(|property| match property {
                Property::AssignedClientIdentifier(id) => Some(id.clone()),
                _ => None,
            }));
        }
        assert!(assigned[0].is_some() && assigned[0] != assigned[1], "{assigned:?}");
    });
}

#[test]
fn client_ids_over_23_characters_are_accepted() {
    on_each_shard_count(|server| {
        for length in [24, 64, 200] {
            let id = format!("{:x<length$}", server.unique("long"));
            for version in [Connect::v31, Connect::v311, Connect::v5] {
                Client::connect(server, version(&id)).disconnect();
            }
            // All of it counts.
            let _one = Client::connect(server, Connect::v311(&id));
            let mut other = Client::connect(server, Connect::v311(&format!("{id}y")));
            other.expect_nothing_within_roundtrip();
        }
    });
}

#[test]
fn packets_behind_connect_in_the_same_segment_are_kept() {
    on_each_shard_count(|server| {
        // Many ids, so that many of them move to another shard than the one that accepted.
        for round in 0..40 {
            let topic = server.unique("piped");
            let connect = Connect::v311(&server.unique("piped")).clean(round % 2 == 0);
            let mut client = Client::dial(server, Version::V311);
            let large = vec![round; 3_000];
            let bytes: Vec<u8> = [
                connect.into(),
                Packet::Subscribe(Subscribe::new(1, &topic, 1)),
                Packet::Publish(Publish::new(&topic, "zero")),
                Packet::Publish(Publish::new(&topic, &large)),
                Packet::PingReq,
            ]
            .map(|packet: Packet| packet.encode(Version::V311))
            .concat();
            client.send_raw(&bytes).expect_raw(&[0x20, 2, 0, 0]);
            // SUBACK may come later than what follows from the SUBSCRIBE.
            let came: Vec<Packet> = (0..4).map(|_| client.next()).collect();
            let (subacks, rest): (Vec<_>, Vec<_>) =
                came.into_iter().partition(|came| matches!(came, Packet::SubAck(_)));
            let expected = [
                Packet::Publish(Publish::new(&topic, "zero")),
                Packet::Publish(Publish::new(&topic, &large)),
                Packet::PingResp,
            ];
            assert_eq!(rest, expected);
            assert!(matches!(&subacks[..], [Packet::SubAck(suback)] if suback.id == 1 && suback.codes == [1]));
        }
    });
}

#[test]
fn a_whole_life_in_one_segment_is_lived() {
    on_each_shard_count(|server| {
        let topic = server.unique("life");
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 1);
        for round in 0..20_u8 {
            let mut client = Client::dial(server, Version::V311);
            let bytes: Vec<u8> = [
                Connect::v311(&server.unique("life")).will(Will::new(&topic, "will")).into(),
                Packet::Publish(Publish::new(&topic, [round]).qos(1, 1)),
                Packet::Disconnect(Default::default()),
                // Nothing counts after DISCONNECT.
                Packet::Publish(Publish::new(&topic, "late").qos(1, 2)),
            ]
            .map(|packet: Packet| packet.encode(Version::V311))
            .concat();
            client.send_raw(&bytes).expect_raw(&[0x20, 2, 0, 0]);
            observer.receive(&topic, [round], 1);
            // The PUBACK may still come; nothing else may.
            while let Some(packet) = client.next_or_closed() {
                assert_eq!(packet, Packet::PubAck(Ack::new(1)));
            }
        }
        let mut publisher = connect(server, "p");
        observer.expect_nothing_from(&mut publisher);
    });
}

#[test]
fn a_byte_at_a_time_is_enough() {
    on_each_shard_count(|server| {
        for _ in 0..5 {
            let topic = server.unique("bytes");
            let mut client = Client::dial(server, Version::V311);
            let will = Will::new(&topic, "will").qos(1);
            let bytes: Vec<u8> = [
                Connect::v311(&server.unique("bytes")).will(will).user_name("user").password(b"secret").into(),
                Packet::Subscribe(Subscribe::new(1, &topic, 2).and(&format!("{topic}/+"), 1)),
                Packet::Publish(Publish::new(&topic, "x".repeat(200)).qos(0, 0)),
                Packet::Unsubscribe(Unsubscribe::new(2, &topic).and("never")),
                Packet::PingReq,
                Packet::PubRel(Ack::new(3)),
            ]
            .map(|packet: Packet| packet.encode(Version::V311))
            .concat();
            client.send_bytewise(&bytes).expect_raw(&[0x20, 2, 0, 0]).expect_suback(1, &[2, 1]);
            client.expect_publish(&topic, "x".repeat(200), 0);
            client.expect_unsuback(2);
            client.expect(Packet::PingResp).expect(Packet::PubComp(Ack::new(3)));
        }
    });
}

#[test]
fn a_packet_that_arrives_around_the_hand_off_is_whole() {
    on_each_shard_count(|server| {
        for cut in [1, 2, 3, 5, 12, 700, 1_999] {
            let topic = server.unique("around");
            let mut client = Client::dial(server, Version::V311);
            let connect = Packet::Connect(Connect::v311(&server.unique("around"))).encode(Version::V311);
            let subscribe = client.encode(Subscribe::new(1, &topic, 0));
            let publish = client.encode(Publish::new(&topic, vec![7; 2_000]));
            client.send_raw(&[&connect, &subscribe, &publish[..cut]].concat());
            // The CONNACK says that the move is over; the rest comes on the new shard.
            client.expect_connack(0);
            client.send_raw(&publish[cut..]).expect_suback(1, &[0]);
            client.expect_publish(&topic, vec![7; 2_000], 0);
        }
    });
}

#[test]
fn the_levels_of_mosquittos_bridges_are_understood() {
    on_each_shard_count(|server| {
        for (connect, level) in [(Connect::v31 as fn(&str) -> Connect, 0x83), (Connect::v311, 0x84)] {
            let topic = server.unique("bridge");
            let mut bridge = Client::connect(server, connect(&server.unique("bridge")).level(level));
            bridge.subscribe(&topic, 1).settle_retained(server);
            // A bridge gets RETAIN as it was published, and not what it published itself.
            bridge.publish(&topic, "own", 1).expect_nothing_within_roundtrip();
            let mut publisher = super::connect(server, "p");
            publisher.publish_retained(&topic, "kept", 1);
            let publish = bridge.expect_like(Publish::new(&topic, "kept").qos(1, 0).retain());
            bridge.acknowledge(&publish);
            publisher.publish(&topic, "live", 1);
            bridge.receive(&topic, "live", 1).expect_nothing_from(&mut publisher);
        }
    });
}

#[test]
fn of_two_connects_with_one_client_id_at_once_one_survives() {
    on_each_shard_count(|server| {
        let id = server.unique("rivals");
        for round in 0..10_000 {
            let mut rivals = [(); 2].map(|()| Client::dial(server, Version::V311));
            for rival in &mut rivals {
                // A session that is kept costs a commit each time.
                rival.send(Connect::v311(&id).clean(round % 8 != 0));
            }
            let started = Instant::now();
            let mut loser = None;
            // The later one may be either; the broker must close exactly the other.
            for place in (0..2).cycle() {
                if rivals[place].is_closed_within(Duration::from_millis(1)) {
                    loser = Some(place);
                    break;
                }
                assert!(started.elapsed() < PATIENCE, "both live in round {round}");
            }
            let winner = &mut rivals[1 - loser.unwrap()];
            winner.send(Packet::PingReq);
            while winner.next() != Packet::PingResp {}
        }
    });
}

#[test]
fn overlapping_subscriptions_give_one_copy() {
    on_each_shard_count(|server| {
        if server.is_external() {
            return;
        }
        let (id, base) = (server.unique("overlap"), server.unique("overlap"));
        let name = format!("{base}/a/b");
        let mut publisher = connect(server, "p");
        let mut subscriber = resume(server, &id);
        for (filter, qos) in [("#", 0), ("a/#", 1), ("a/b", 2), ("+/b", 0), ("+/+", 1)] {
            subscriber.subscribe(&format!("{base}/{filter}"), qos);
        }
        for qos in 0..=2 {
            publisher.publish(&name, "one", qos);
            subscriber.receive(&name, "one", qos).expect_nothing_from(&mut publisher);
        }
        // Without the highest one the next highest counts; offline as online.
        subscriber.unsubscribe(&format!("{base}/a/b"));
        publisher.publish(&name, "one", 2);
        subscriber.receive(&name, "one", 1).disconnect_quietly();
        publisher.publish(&name, "offline", 2);
        resume(server, &id).receive(&name, "offline", 1).expect_nothing_from(&mut publisher);
    });
}

impl Client {
    /// Sends DISCONNECT and waits for the close, for a client that a chain of calls has borrowed.
    fn disconnect_quietly(&mut self) {
        self.send(Packet::Disconnect(Default::default())).expect_closed();
    }
}

#[test]
fn shared_subscriptions_work_in_3_1_1() {
    on_each_shard_count(|server| {
        let topic = server.unique("shared");
        let filter = format!("$share/group/{topic}");
        let mut publisher = connect(server, "p");
        publisher.publish_retained(&topic, "kept", 1);
        let mut members: Vec<Client> = (0..3).map(|_| connect(server, "s")).collect();
        for member in &mut members {
            // A shared subscription gets no retained messages.
            member.subscribe(&filter, 1).expect_no_retained(server);
        }
        let mut plain = connect(server, "plain");
        plain.subscribe(&topic, 0).expect_like(Publish::new(&topic, "kept").retain());
        for number in 0..60_u8 {
            publisher.publish(&topic, [number], 1);
            plain.receive(&topic, [number], 0);
        }
        // Every message reached exactly one member, and no member was left out.
        let mut came = Vec::new();
        for member in &mut members {
            let before = came.len();
            for publish in member.publishes_before_pingresp() {
                member.acknowledge(&publish);
                came.push(publish.payload[0]);
            }
            assert!(came.len() > before, "a member got nothing");
        }
        came.sort_unstable();
        assert_eq!(came, (0..60).collect::<Vec<u8>>());
        // The whole string names the subscription; the bare filter is another one.
        let mut left = members.remove(0);
        left.unsubscribe(&topic).unsubscribe(&filter);
        let mut vanished = members.remove(0);
        vanished.disconnect_quietly();
        for number in 0..10_u8 {
            publisher.publish(&topic, [number], 1);
            members[0].receive(&topic, [number], 1);
        }
        left.expect_nothing_from(&mut publisher);
    });
}

impl Client {
    /// Every PUBLISH that comes before the answer to a PINGREQ sent now.
    fn publishes_before_pingresp(&mut self) -> Vec<Publish> {
        self.send(Packet::PingReq);
        let mut publishes = Vec::new();
        loop {
            match self.next() {
                Packet::Publish(publish) => publishes.push(publish),
                Packet::PingResp => return publishes,
                other => panic!("{other:?} instead of a PUBLISH"),
            }
        }
    }
}

#[test]
fn malformed_shared_filters_are_refused() {
    on_each_shard_count(|server| {
        for filter in
            ["$share", "$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/#/a", "$share/g+/a"]
        {
            if server.is_external() {
                return;
            }
            let mut client = connect(server, "c");
            client.send(Subscribe::new(1, filter, 0));
            match client.next_or_closed() {
                None => {}
                Some(Packet::SubAck(ack)) => assert_eq!(ack.codes, [0x80], "{filter} was granted"),
                Some(other) => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn qos_0_messages_for_an_offline_session_are_dropped() {
    on_each_shard_count(|server| {
        let (id, topic) = (server.unique("offline"), server.unique("offline"));
        let mut client = resume(server, &id);
        client.subscribe(&topic, 2);
        client.disconnect();
        let mut publisher = connect(server, "p");
        publisher.publish(&topic, "zero", 0).publish(&topic, "one", 1).publish(&topic, "zero", 0);
        publisher.expect_nothing_within_roundtrip();
        resume(server, &id).receive(&topic, "one", 1).expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_7_0_0_1_the_server_opens_no_connection_of_its_own() {
    on_each_shard_count_with(&[], |server| {
        // A server that connects to another one would have to keep the client's rules. This one connects to nobody:
        // every TCP socket that it holds is a listener, or has the listener's port on its own side.
        let mut client = connect(server, "c");
        client.subscribe("t", 1).publish("u", "x", 2).expect_nothing_within_roundtrip();
        let process = server.process_id().unwrap();
        let port = server.address().rsplit(':').next().unwrap().parse::<u16>().unwrap();
        let sockets: Vec<String> = fs::read_dir(format!("/proc/{process}/fd"))
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let mut seen = 0;
        for table in ["tcp", "tcp6"] {
            for line in fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap().lines().skip(1) {
                let columns: Vec<&str> = line.split_whitespace().collect();
                if sockets.iter().any(|inode| inode == columns[9]) {
                    let local = u16::from_str_radix(columns[1].rsplit(':').next().unwrap(), 16).unwrap();
                    assert_eq!(local, port, "{line}");
                    seen += 1;
                }
            }
        }
        assert!(seen >= 2, "the listener and our connection were not found among {sockets:?}");
    });
}

#[test]
fn v3_mqtt_7_0_0_2_nothing_outside_the_specification_is_needed() {
    on_each_shard_count(|server| {
        // The smallest packets that the specification allows, written out byte by byte.
        let id = server.unique("plain");
        let mut client = Client::dial(server, Version::V311);
        let mut connect = b"\x10\0\0\x04MQTT\x04\x02\0\x00\0".to_vec();
        connect.push(id.len() as u8);
        connect.extend(id.bytes());
        connect[1] = (connect.len() - 2) as u8;
        client.send_raw(&connect).expect_raw(b"\x20\x02\0\0");
        let topic = &id[id.len() - 8..];
        let bytes = |first: u8, parts: &[&[u8]]| {
            let body = parts.concat();
            [&[first, body.len() as u8], &body[..]].concat()
        };
        let named = [b"\0\x08", topic.as_bytes()].concat();
        client.send_raw(&bytes(0x82, &[b"\0\x01", &named, b"\0"])).expect_raw(b"\x90\x03\0\x01\0");
        client.send_raw(&bytes(0x30, &[&named, b"hi"])).expect_raw(&bytes(0x30, &[&named, b"hi"]));
        client.send_raw(&bytes(0xA2, &[b"\0\x02", &named])).expect_raw(b"\xB0\x02\0\x02");
        client.send_raw(&bytes(0x32, &[&named, b"\0\x03", b"hi"])).expect_raw(b"\x40\x02\0\x03");
        client.send_raw(&bytes(0x34, &[&named, b"\0\x04", b"hi"])).expect_raw(b"\x50\x02\0\x04");
        client.send_raw(b"\x62\x02\0\x04").expect_raw(b"\x70\x02\0\x04");
        client.send_raw(b"\xC0\0").expect_raw(b"\xD0\0");
        client.send_raw(b"\xE0\0").expect_closed();
    });
}

#[test]
fn v3_mqtt_7_1_1_1_the_byte_stream_is_taken_and_given_in_order_without_loss() {
    on_each_shard_count(|server| {
        let topic = server.unique("stream");
        let mut subscriber = connect(server, "s");
        subscriber.subscribe(&topic, 1);
        let mut publisher = connect(server, "p");
        // Payloads around every length of the remaining-length field and of buffers, cut at odd places by the sender.
        let lengths = [0, 1, 100, 110, 120, 127, 128, 2_000, 4_095, 4_096, 16_000, 16_383, 16_384, 65_536, 200_000];
        let payload = |length: usize| (0..length).map(|at| (at * 31 + length) as u8).collect::<Vec<u8>>();
        let stream: Vec<u8> = lengths
            .iter()
            .zip(1..)
            .flat_map(|(length, id)| publisher.encode(Publish::new(&topic, payload(*length)).qos(1, id)))
            .collect();
        for chunk in stream.chunks(4_999) {
            publisher.send_raw(chunk);
        }
        for length in lengths {
            subscriber.receive(&topic, payload(length), 1);
        }
        for id in 1..=lengths.len() {
            publisher.expect(Packet::PubAck(Ack::new(id as u16)));
        }
    });
}
