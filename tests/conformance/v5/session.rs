//! Session state, the byte stream, resumption, and message order (4.1 to 4.6).

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::{on_each_shard_count, on_each_shard_count_with};
use crate::wire::{Ack, Packet, Publish, Subscribe, Version, Will};

#[test]
fn v5_mqtt_4_1_0_1_session_state_is_kept_while_connected() {
    on_each_shard_count(|server| {
        // With an expiry of 0, which ends the session at the close and not before.
        let topic = server.unique("while");
        let mut client = subscriber(server, &topic, 2);
        let mut publisher = super::kit::client(server, "pub");
        publisher.publish(&topic, "one", 1).publish(&topic, "two", 2);
        let one = client.expect_publish(&topic, "one", 1);
        let two = client.expect_publish(&topic, "two", 2);
        client.send(Publish::new("elsewhere", "").qos(2, 9)).expect_pubrec(9);
        let_pass(server, 3);
        // Subscription, messages in flight both ways, and the identifiers: all still known.
        client.acknowledge(&one).acknowledge(&two);
        client.send(Packet::PubRel(Ack::new(9))).expect(Packet::PubComp(Ack::new(9)));
        publisher.publish(&topic, "three", 1);
        client.receive(&topic, "three", 1).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_1_0_2_state_is_discarded_after_the_close_and_the_expiry() {
    on_each_shard_count(|server| {
        let topic = server.unique("discard");
        let mut publisher = client(server, "pub");
        for (expiry, seconds) in [(None, 0), (Some(0), 0), (Some(1), 3)] {
            for orderly in [true, false] {
                let mut connect = connect(server, "ends").clean(false);
                connect.properties.extend(expiry.map(Property::SessionExpiryInterval));
                let mut client = Client::connect(server, connect.clone());
                client.subscribe(&topic, 2);
                publisher.publish(&topic, "unacknowledged", 1);
                client.expect_publish(&topic, "unacknowledged", 1);
                if orderly {
                    client.disconnect();
                } else {
                    client.vanish_noticed();
                }
                if seconds > 0 {
                    let_pass(server, seconds);
                }
                let mut client = Client::connect(server, connect);
                assert!(!client.session_present(), "expiry {expiry:?}, orderly {orderly}");
                publisher.publish(&topic, "to nobody", 1);
                client.expect_nothing_within_roundtrip();
            }
        }
        // The longest interval does not expire, and a resumption begins anew.
        let forever = connect(server, "ever").clean(false).property(Property::SessionExpiryInterval(u32::MAX));
        let short = forever.clone();
        Client::connect(server, forever).disconnect();
        let_pass(server, 2);
        assert!(Client::connect(server, short).session_present());
    });
}

#[test]
fn v5_mqtt_4_2_1_runs_over_an_ordered_lossless_byte_stream() {
    on_each_shard_count(|server| {
        // Packets of many sizes as one stream, cut at places that have nothing to do with their borders.
        let topic = server.unique("stream");
        let mut client = subscriber(server, &topic, 0);
        let mut publisher = super::kit::client(server, "pub");
        let payload = |number: usize| -> Vec<u8> {
            (0..[0, 1, 120, 130, 4000, 16_300, 70_000][number % 7]).map(|at| (at * 7 + number) as u8).collect()
        };
        let stream: Vec<u8> = (0..35)
            .flat_map(|number| Packet::from(Publish::new(&topic, payload(number))).encode(Version::V5))
            .collect();
        let (mut rest, mut sizes) = (&stream[..], [1, 2, 3, 5, 1460, 4096, 4097, 60_001].iter().cycle());
        for number in 0..35 {
            // Sending goes on while messages come back, so that neither side waits for the other.
            while rest.len() * 35 > stream.len() * (34 - number.min(34)) {
                let (part, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                publisher.send_raw(part);
                rest = later;
            }
            client.expect_publish(&topic, payload(number), 0);
        }
        client.expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v5_mqtt_4_4_0_1_unacknowledged_packets_are_sent_again_on_resumption_and_at_no_other_time() {
    on_each_shard_count(|server| {
        let topic = server.unique("resume");
        let resume = resuming(server, "sub");
        let mut client = Client::connect(server, resume.clone());
        client.subscribe(&topic, 2);
        let mut publisher = super::kit::client(server, "pub");
        let mut open = Vec::new();
        for number in 0..8 {
            let qos = 1 + (number % 2) as u8;
            publisher.publish(&topic, number.to_string(), qos);
            open.push(client.expect_publish(&topic, number.to_string(), qos));
        }
        // Two of them get as far as PUBREL, in another order; two are done.
        for at in [5, 1] {
            client.send(Packet::PubRec(Ack::new(open[at].id))).expect(Packet::PubRel(Ack::new(open[at].id)));
        }
        client.acknowledge(&open[0]).acknowledge(&open[7]);
        // Not while it is connected, however long.
        let_pass(server, 3);
        client.expect_nothing_within_roundtrip();
        client.vanish_noticed();
        publisher.publish(&topic, "queued", 1);
        // Again, in the order in which they were sent first, PUBRELs in theirs, and what waited comes last.
        let mut client = Client::connect(server, resume.clone());
        let (mut publishes, mut releases) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            match client.next() {
                Packet::Publish(publish) => publishes.push(publish),
                Packet::PubRel(ack) => releases.push(ack.id),
                other => panic!("{other:?}"),
            }
        }
        let queued = publishes.pop().unwrap();
        let wanted: Vec<Publish> = [2, 3, 4, 6].iter().map(|at| Publish { dup: true, ..open[*at].clone() }).collect();
        assert_eq!(publishes, wanted);
        assert_like(&queued, Publish::new(&topic, "queued").qos(1, 0));
        releases.sort_unstable();
        let mut released = vec![open[1].id, open[5].id];
        released.sort_unstable();
        assert_eq!(releases, released);
        client.expect_nothing_within_roundtrip();
        // A clean start ends it all.
        client.vanish_noticed();
        Client::connect(server, resume.clean(true)).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_4_0_2_a_refusing_puback_or_pubrec_counts_as_acknowledged() {
    on_each_shard_count(|server| {
        let topic = server.unique("refuse");
        let resume = resuming(server, "sub").property(Property::ReceiveMaximum(1));
        let mut client = Client::connect(server, resume.clone());
        client.subscribe(&topic, 2);
        let mut publisher = super::kit::client(server, "pub");
        for (qos, code) in [(1, 0x80), (2, 0x80), (1, 0x97), (2, 0x99), (1, 0x87), (2, 0x90)] {
            publisher.publish(&topic, "refused", qos).publish(&topic, "next", qos);
            let publish = client.expect_publish(&topic, "refused", qos);
            let ack = Ack::new(publish.id).code(code);
            client.send(if qos == 1 { Packet::PubAck(ack) } else { Packet::PubRec(ack) });
            // It frees the window of one at once, and is not sent again on resumption.
            client.receive(&topic, "next", qos).expect_nothing_within_roundtrip();
            client.vanish_noticed();
            client = Client::connect(server, resume.clone());
            client.expect_nothing_within_roundtrip();
        }
    });
}

#[test]
fn v5_mqtt_4_5_0_1_a_message_goes_into_each_matching_session() {
    on_each_shard_count(|server| {
        let base = server.unique("each");
        let topic = format!("{base}/a/b");
        let filters = ["a/b", "#", "+/b", "a/b/#", "a/+"];
        // Many sessions of each filter: online and away, on every shard.
        let mut online = Vec::new();
        let mut away = Vec::new();
        for number in 0..30 {
            let filter = format!("{base}/{}", filters[number % filters.len()]);
            let resume = resuming(server, "each");
            let mut client = Client::connect(server, resume.clone());
            client.subscribe(&filter, 1);
            if number % 3 == 0 {
                client.disconnect();
                away.push(resume);
            } else {
                online.push(client);
            }
        }
        let mut publisher = client(server, "pub");
        for number in 0..10 {
            publisher.publish(&topic, number.to_string(), 1);
        }
        for client in &mut online {
            assert_eq!(payloads(client, 10), numbers(0..10));
        }
        for resume in away {
            assert_eq!(payloads(&mut Client::connect(server, resume), 10), numbers(0..10));
        }
    });
}

/// Publishers that send streams of all QoS at once, and the payloads that came, by publisher and QoS.
fn streams(
    server: &crate::server::Server,
    topic_of: impl Fn(usize) -> String,
    subscribers: &mut [Client],
    each: usize,
) {
    let mut publishers: Vec<Client> = (0..4).map(|_| client(server, "pub")).collect();
    for (name, publisher) in publishers.iter_mut().enumerate() {
        let mut stream = Vec::new();
        for number in 0..each {
            for qos in 0..=2 {
                let publish = Publish::new(&topic_of(name), format!("{name} {qos} {number}"));
                let id = if qos == 0 { 0 } else { (1 + number * 2 + usize::from(qos == 2)) as u16 };
                stream.extend(Packet::from(publish.qos(qos, id)).encode(Version::V5));
            }
        }
        publisher.send_raw(&stream);
    }
    for publisher in &mut publishers {
        // A PUBACK for each, a PUBREC and a PUBCOMP for each.
        for _ in 0..each * 3 {
            match publisher.next() {
                Packet::PubRec(ack) => drop(publisher.send(Packet::PubRel(Ack::new(ack.id)))),
                Packet::PubAck(ack) | Packet::PubComp(ack) => assert!(ack.code < 0x80, "{ack:?}"),
                other => panic!("{other:?}"),
            }
        }
    }
    for subscriber in subscribers {
        let mut next = vec![[0usize; 3]; publishers.len()];
        for publish in collect(subscriber, publishers.len() * each * 3) {
            let text = String::from_utf8(publish.payload).unwrap();
            let parts: Vec<usize> = text.split(' ').map(|part| part.parse().unwrap()).collect();
            assert_eq!(parts[2], next[parts[0]][parts[1]], "publisher {}, QoS {}: out of order", parts[0], parts[1]);
            next[parts[0]][parts[1]] += 1;
        }
    }
}

#[test]
fn v5_mqtt_4_6_0_5_messages_of_one_client_topic_and_qos_are_forwarded_in_order() {
    on_each_shard_count(|server| {
        let base = server.unique("order");
        let mut subscribers: Vec<Client> = (0..4).map(|_| subscriber(server, &format!("{base}/+"), 2)).collect();
        streams(server, |name| format!("{base}/{name}"), &mut subscribers, 60);
    });
}

#[test]
fn v5_mqtt_4_6_0_6_topics_are_ordered_by_default() {
    on_each_shard_count(|server| {
        // One topic for all publishers, without any setting.
        let topic = server.unique("ordered");
        let mut subscribers: Vec<Client> = (0..4).map(|_| subscriber(server, &topic, 2)).collect();
        streams(server, |_| topic.clone(), &mut subscribers, 60);
    });
}

#[test]
fn acknowledgements_come_in_the_order_of_the_messages() {
    on_each_shard_count(|server| {
        let topic = server.unique("acks");
        let _watchers: Vec<Client> = (0..6).map(|_| subscriber(server, &topic, 0)).collect();
        let mut client = client(server, "pub");
        let stream = (1..=200).flat_map(|id| {
            // Some have subscribers on every shard, others none.
            let name = if id % 3 == 0 { format!("{topic}/nobody") } else { topic.clone() };
            Packet::from(Publish::new(&name, "").qos(1 + (id % 2) as u8, id)).encode(Version::V5)
        });
        client.send_raw(&stream.collect::<Vec<u8>>());
        let (mut pubacks, mut pubrecs) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            match client.next() {
                Packet::PubAck(ack) => pubacks.push(ack.id),
                Packet::PubRec(ack) => pubrecs.push(ack.id),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pubacks, (1..=200).filter(|id| id % 2 == 0).collect::<Vec<u16>>());
        assert_eq!(pubrecs, (1..=200).filter(|id| id % 2 == 1).collect::<Vec<u16>>());
        for id in &pubrecs {
            client.send(Packet::PubRel(Ack::new(*id)));
        }
        for id in pubrecs {
            client.expect(Packet::PubComp(Ack::new(id)));
        }
    });
}

#[test]
fn qos_0_for_offline_sessions_is_dropped_by_default() {
    let script = |server: &crate::server::Server, kept: bool| {
        let topic = server.unique("offline");
        let resume = resuming(server, "sub");
        let mut away = Client::connect(server, resume.clone());
        away.subscribe(&topic, 2).subscribe(&format!("{topic}/zero"), 0);
        away.disconnect();
        let mut publisher = client(server, "pub");
        publisher.publish(&topic, "published at 0", 0).publish(&format!("{topic}/zero"), "granted 0", 1);
        publisher.publish(&topic, "last", 1);
        let mut away = Client::connect(server, resume);
        if kept {
            away.receive(&topic, "published at 0", 0).receive(&format!("{topic}/zero"), "granted 0", 0);
        }
        away.receive(&topic, "last", 1).expect_nothing_within_roundtrip();
    };
    on_each_shard_count(|server| script(server, false));
    on_each_shard_count_with(&["mqtt.queue_qos0_offline=true"], |server| script(server, true));
}

#[test]
fn take_over_hands_the_session_on_with_all_that_is_open() {
    on_each_shard_count(|server| {
        let topic = server.unique("over");
        let resume = resuming(server, "over");
        let mut older = Client::connect(server, resume.clone());
        older.subscribe(&topic, 2);
        let mut publisher = client(server, "pub");
        publisher.publish(&topic, "one", 1).publish(&topic, "two", 2);
        let one = older.expect_publish(&topic, "one", 1);
        let two = older.expect_publish(&topic, "two", 2);
        older.send(Packet::PubRec(Ack::new(two.id))).expect(Packet::PubRel(Ack::new(two.id)));
        older.send(Publish::new("elsewhere", "").qos(2, 9)).expect_pubrec(9);
        let mut newer = Client::connect(server, resume);
        assert!(newer.session_present());
        older.expect_disconnect(0x8E);
        newer.expect(Publish { dup: true, ..one.clone() }).expect(Packet::PubRel(Ack::new(two.id)));
        newer.acknowledge(&one).send(Packet::PubComp(Ack::new(two.id)));
        newer.send(Publish::new("elsewhere", "").dup().qos(2, 9));
        assert!(newer.expect_pubrec(9).code < 0x80);
        newer.send(Packet::PubRel(Ack::new(9))).expect(Packet::PubComp(Ack::new(9)));
        newer.expect_nothing_within_roundtrip();
    });
}

#[test]
fn a_resumed_session_keeps_the_options_of_its_subscriptions() {
    on_each_shard_count(|server| {
        let topic = server.unique("options");
        let resume = resuming(server, "sub");
        let mut client = Client::connect(server, resume.clone());
        let subscribe = Subscribe::new(1, &topic, 1 | NO_LOCAL | RETAIN_AS_PUBLISHED);
        client.send(subscribe.property(Property::SubscriptionIdentifier(77))).expect_suback(1, &[1]);
        client.disconnect();
        let mut publisher = super::kit::client(server, "pub");
        let wanted = Publish::new(&topic, "x").qos(1, 0).retain().property(Property::SubscriptionIdentifier(77));
        publisher.publish_retained(&topic, "x", 2);
        let mut client = Client::connect(server, resume);
        assert_like(&take(&mut client), wanted.clone());
        publisher.publish_retained(&topic, "x", 2);
        assert_like(&take(&mut client), wanted);
        // No Local still holds, and retained messages are not sent again by resuming.
        client.publish(&topic, "own", 1).expect_no_retained(server);
    });
}

#[test]
fn a_will_is_no_part_of_what_a_clean_start_leaves_behind() {
    on_each_shard_count(|server| {
        let topic = server.unique("left");
        let mut watcher = subscriber(server, &topic, 0);
        let resume = resuming(server, "left");
        let will = Will::new(&topic, "will").property(Property::WillDelayInterval(60));
        Client::connect(server, resume.clone().will(will)).vanish_noticed();
        // The session ends with the clean start, and with it the delay: the Will is published now.
        let client = Client::connect(server, resume.clean(true));
        assert!(!client.session_present());
        watcher.expect_publish(&topic, "will", 0);
    });
}
