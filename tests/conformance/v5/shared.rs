//! Shared subscriptions (4.8).

use super::kit::*;
use crate::client::Client;
use crate::property::Property;
use crate::server::{Server, on_each_shard_count};
use crate::wire::{Ack, Connect, Packet, Publish, Subscribe};

/// `count` members of one group, and the filter that they share.
fn group(server: &Server, topic: &str, options: u8, count: usize) -> (Vec<Client>, String) {
    let filter = format!("$share/{}/{topic}", server.unique("group"));
    let members = (0..count).map(|_| subscriber(server, &filter, options)).collect();
    (members, filter)
}

/// The messages that come before the answer to a PINGREQ, acknowledged in full.
fn until_ping(member: &mut Client) -> Vec<Publish> {
    member.send(Packet::PingReq);
    let (mut came, mut open) = (Vec::new(), 0);
    let mut answered = false;
    while !answered || open > 0 {
        match member.next() {
            Packet::PingResp => answered = true,
            Packet::Publish(publish) => {
                match publish.qos {
                    0 => {}
                    1 => drop(member.send(Packet::PubAck(Ack::new(publish.id)))),
                    _ => {
                        member.send(Packet::PubRec(Ack::new(publish.id)));
                        open += 1;
                    }
                }
                came.push(publish);
            }
            Packet::PubRel(ack) => {
                member.send(Packet::PubComp(Ack::new(ack.id)));
                open -= 1;
            }
            other => panic!("{other:?}"),
        }
    }
    came
}

/// The payloads that each of `members` has received by the answer to a PINGREQ, in order.
fn drain(members: &mut [Client]) -> Vec<Vec<String>> {
    let text = |publish: Publish| String::from_utf8(publish.payload).unwrap();
    members.iter_mut().map(|member| until_ping(member).into_iter().map(text).collect()).collect()
}

#[test]
fn v5_mqtt_4_8_2_1_shared_filters_have_a_name_of_one_character_or_more() {
    on_each_shard_count(|server| {
        let topic = server.unique("name");
        let mut client = client(server, "sub");
        for filter in ["$share//", &format!("$share//{topic}"), "$share///", "$share/"] {
            let id = client.next_id();
            client.send(Subscribe::new(id, filter, 0)).expect_suback(id, &[0x8F]);
        }
        let mut publisher = super::kit::client(server, "pub");
        for name in ["g", "\u{E9}", "a b", "$", "$share", "\u{FEFF}", &"n".repeat(1000)] {
            let filter = format!("$share/{name}/{topic}");
            client.subscribe(&filter, 1);
            publisher.publish(&topic, name, 1);
            client.receive(&topic, name, 1).unsubscribe(&filter);
        }
        // What only looks similar is an ordinary filter.
        for topic in ["$shared/g/x", "share/g/x", "$SHARE/g/x", "/$share/g/x"] {
            client.subscribe(topic, 0);
        }
    });
}

#[test]
fn v5_mqtt_4_8_2_2_the_name_has_no_wildcard_and_a_filter_follows() {
    on_each_shard_count(|server| {
        let mut client = client(server, "sub");
        let wrong = [
            "$share/+/a",
            "$share/#/a",
            "$share/a+/b",
            "$share/a#/b",
            "$share/#",
            "$share/+",
            "$share/group",
            "$share/group/",
            "$share/group/a#",
            "$share/group/#/a",
            "$share/group/+a",
        ];
        for filter in wrong {
            let id = client.next_id();
            client.send(Subscribe::new(id, filter, 0));
            client.expect_suback(id, &[0x8F]);
        }
        // A filter of any form follows the name, also one that begins with a slash.
        let mut publisher = super::kit::client(server, "pub");
        let topic = format!("/{}/x", server.unique("after"));
        for filter in [topic.clone(), topic.replace("/x", "/+"), topic.replace("/x", "/#")] {
            let shared = format!("$share/{}/{filter}", server.unique("group"));
            client.subscribe(&shared, 1);
            publisher.publish(&topic, &filter, 1);
            client.receive(&topic, &filter, 1).unsubscribe(&shared);
        }
    });
}

#[test]
fn v5_mqtt_4_8_2_3_a_shared_delivery_respects_the_granted_qos_of_that_client() {
    on_each_shard_count(|server| {
        let topic = server.unique("granted");
        let filter = format!("$share/{}/{topic}", server.unique("group"));
        let mut members: Vec<Client> = (0..=2).map(|granted| subscriber(server, &filter, granted)).collect();
        let mut publisher = client(server, "pub");
        let mut served = [0; 3];
        let mut copies = [0; 30];
        for round in 0..30 {
            publisher.publish(&topic, round.to_string(), round % 3);
            // A PINGRESP says who has not got it. At QoS 0 it may still be on its way, and come in a later round.
            for (granted, member) in (0..).zip(&mut members) {
                for publish in until_ping(member) {
                    let number: u8 = String::from_utf8(publish.payload).unwrap().parse().unwrap();
                    assert_eq!(publish.qos, (number % 3).min(granted));
                    served[usize::from(granted)] += 1;
                    copies[usize::from(number)] += 1;
                }
            }
            assert!(
                round % 3 == 0 || copies[usize::from(round)] == 1,
                "{} copies of {round}",
                copies[usize::from(round)]
            );
        }
        assert!(copies.iter().all(|count| *count <= 1), "{copies:?}");
        assert!(served.iter().all(|count| *count > 0), "served {served:?}");
    });
}

/// A member with an open QoS 2 delivery that has gone, how it comes back, one that stays, and the publisher.
fn gone_with_open_delivery(server: &Server) -> (Connect, Publish, Client, Client) {
    let topic = server.unique("open");
    let filter = format!("$share/{}/{topic}", server.unique("group"));
    let resume = resuming(server, "gone");
    let mut gone = Client::connect(server, resume.clone());
    gone.subscribe(&filter, 2);
    let mut publisher = client(server, "pub");
    publisher.publish(&topic, "open", 2);
    let open = gone.expect_publish(&topic, "open", 2);
    let stays = subscriber(server, &filter, 2);
    gone.vanish_noticed();
    (resume, open, stays, publisher)
}

#[test]
fn v5_mqtt_4_8_2_4_a_qos_2_delivery_begun_is_completed_with_the_same_client() {
    on_each_shard_count(|server| {
        let (resume, open, mut stays, mut publisher) = gone_with_open_delivery(server);
        // Others are served by the member that is there; the open one waits for its client.
        publisher.publish(&open.topic, "next", 2);
        stays.receive(&open.topic, "next", 2).expect_nothing_within_roundtrip();
        let mut back = Client::connect(server, resume.clone());
        back.expect(Publish { dup: true, ..open.clone() });
        back.send(Packet::PubRec(Ack::new(open.id))).expect(Packet::PubRel(Ack::new(open.id)));
        // Also halfway through.
        back.vanish_noticed();
        let mut back = Client::connect(server, resume);
        back.expect(Packet::PubRel(Ack::new(open.id))).send(Packet::PubComp(Ack::new(open.id)));
        back.expect_nothing_within_roundtrip();
        stays.expect_nothing_from(&mut back);
    });
}

#[test]
fn v5_mqtt_4_8_2_5_if_that_session_ends_first_the_message_goes_to_no_other() {
    on_each_shard_count(|server| {
        let (resume, open, mut stays, mut publisher) = gone_with_open_delivery(server);
        // The session ends by a clean start.
        let mut back = Client::connect(server, resume.clean(true));
        assert!(!back.session_present());
        back.expect_nothing_within_roundtrip();
        stays.expect_nothing_from(&mut back);
        publisher.publish(&open.topic, "next", 2);
        stays.receive(&open.topic, "next", 2).expect_nothing_within_roundtrip();
    });
}

#[test]
fn v5_mqtt_4_8_2_6_a_refused_message_is_offered_to_no_other() {
    on_each_shard_count(|server| {
        for (qos, code) in [(1, 0x80), (2, 0x80), (1, 0x97), (2, 0x83)] {
            let topic = server.unique("refuse");
            let (mut members, filter) = group(server, &topic, 2, 1);
            let mut publisher = client(server, "pub");
            publisher.publish(&topic, "refused", qos);
            let publish = members[0].expect_publish(&topic, "refused", qos);
            // Another is there by the time of the refusal.
            let mut other = subscriber(server, &filter, 2);
            let ack = Ack::new(publish.id).code(code);
            members[0].send(if qos == 1 { Packet::PubAck(ack) } else { Packet::PubRec(ack) });
            members[0].expect_nothing_within_roundtrip();
            other.expect_nothing_from(&mut members[0]);
        }
    });
}

#[test]
fn a_group_shares_each_message_is_delivered_once_and_each_member_has_its_turn() {
    on_each_shard_count(|server| {
        let topic = server.unique("turns");
        let (mut members, _) = group(server, &topic, 1, 4);
        let mut publisher = client(server, "pub");
        for number in 0..100 {
            publisher.publish(&topic, format!("{number:03}"), 1);
        }
        let came = drain(&mut members);
        let mut all: Vec<String> = came.iter().flatten().cloned().collect();
        all.sort();
        assert_eq!(all, (0..100).map(|number| format!("{number:03}")).collect::<Vec<_>>());
        assert!(came.iter().all(|part| part.len() >= 15), "{:?}", came.iter().map(Vec::len).collect::<Vec<_>>());
    });
}

#[test]
fn each_group_and_each_ordinary_subscription_has_its_own_copy() {
    on_each_shard_count(|server| {
        let topic = server.unique("copies");
        let (mut first, _) = group(server, &topic, 1, 3);
        let (mut second, _) = group(server, &topic, 1, 2);
        // The same name with another filter is another group.
        let name = server.unique("same");
        let mut narrow = subscriber(server, &format!("$share/{name}/{topic}"), 1);
        let mut wide = subscriber(server, &format!("$share/{name}/{topic}/#"), 1);
        let mut plain = subscriber(server, &topic, 1);
        let mut v3 = Client::connect(server, Connect::v311(&server.unique("v3")));
        v3.subscribe(&format!("$share/{}/{topic}", server.unique("v3")), 1);
        let mut publisher = client(server, "pub");
        for number in 0..12 {
            publisher.publish(&topic, number.to_string(), 1);
        }
        for group in [&mut first, &mut second] {
            assert_eq!(drain(group).iter().map(Vec::len).sum::<usize>(), 12);
        }
        for client in [&mut narrow, &mut wide, &mut plain, &mut v3] {
            assert_eq!(payloads(client, 12), numbers(0..12));
            client.expect_nothing_within_roundtrip();
        }
    });
}

#[test]
fn shared_subscriptions_get_no_retained_messages() {
    on_each_shard_count(|server| {
        let topic = server.unique("noretained");
        let mut publisher = client(server, "pub");
        publisher.publish_retained(&topic, "retained", 1);
        let filter = format!("$share/{}/{topic}", server.unique("group"));
        let mut client = subscriber(server, &filter, 1);
        client.subscribe(&filter, 1).subscribe(&format!("{filter}/#"), 1 | RETAIN_IF_NEW).expect_no_retained(server);
        // Live, with Retain As Published as asked for.
        client.unsubscribe(&format!("{filter}/#")).subscribe(&filter, 1 | RETAIN_AS_PUBLISHED);
        publisher.publish_retained(&topic, "live", 1);
        client.receive_retained(&topic, "live", 1);
    });
}

#[test]
fn unsubscribing_from_a_group_takes_the_whole_string() {
    on_each_shard_count(|server| {
        let topic = server.unique("whole");
        let (mut members, filter) = group(server, &topic, 1, 2);
        let mut publisher = client(server, "pub");
        for other in [&topic, &format!("$share/other/{topic}"), &format!("{filter}/")] {
            let id = members[0].next_id();
            members[0].send(crate::wire::Unsubscribe::new(id, other));
            assert_eq!(members[0].expect_unsuback(id).codes, [0x11]);
        }
        // An ordinary subscription to the same filter is a different one.
        members[0].subscribe(&topic, 1).unsubscribe(&filter);
        for number in 0..10 {
            publisher.publish(&topic, number.to_string(), 1);
        }
        let came = drain(&mut members);
        assert_eq!(came, [numbers(0..10), numbers(0..10)], "one by its own subscription, one by the group");
        members[1].unsubscribe(&filter);
        publisher.publish(&topic, "last", 1);
        members[0].receive(&topic, "last", 1);
        members[1].expect_nothing_within_roundtrip();
    });
}

#[test]
fn a_message_too_large_for_one_member_goes_to_another() {
    on_each_shard_count(|server| {
        let topic = server.unique("toolarge");
        let filter = format!("$share/{}/{topic}", server.unique("group"));
        let small = connect(server, "small").property(Property::MaximumPacketSize(100));
        let mut small = Client::connect(server, small);
        small.subscribe(&filter, 1);
        let mut large = subscriber(server, &filter, 1);
        let mut publisher = client(server, "pub");
        for number in 0..20 {
            publisher.publish(&topic, format!("{number:0300}"), 1);
        }
        // Shared subscriptions promise no order.
        let mut came: Vec<usize> = payloads(&mut large, 20).iter().map(|payload| payload.parse().unwrap()).collect();
        came.sort_unstable();
        assert_eq!(came, (0..20).collect::<Vec<_>>());
        small.expect_nothing_within_roundtrip();
        // The small one has its turn with what fits.
        for number in 0..20 {
            publisher.publish(&topic, number.to_string(), 1);
        }
        let came = drain(&mut [small, large]);
        assert_eq!(came[0].len() + came[1].len(), 20);
        assert!(!came[0].is_empty(), "the member that takes small messages only got none of them");
    });
}

#[test]
fn members_that_are_away_are_passed_over_while_one_is_there() {
    on_each_shard_count(|server| {
        let topic = server.unique("away");
        let filter = format!("$share/{}/{topic}", server.unique("group"));
        let resumes: Vec<Connect> = (0..3).map(|_| resuming(server, "away")).collect();
        for resume in &resumes {
            let mut client = Client::connect(server, resume.clone());
            client.subscribe(&filter, 1);
            client.disconnect();
        }
        let mut there = subscriber(server, &filter, 1);
        let mut publisher = client(server, "pub");
        for number in 0..20 {
            publisher.publish(&topic, number.to_string(), 1);
        }
        assert_eq!(payloads(&mut there, 20), numbers(0..20));
        // When it goes as well, sessions that are away queue: nothing acknowledged is lost.
        there.disconnect();
        for number in 20..40 {
            publisher.publish(&topic, number.to_string(), 1);
        }
        let mut back: Vec<Client> = resumes.into_iter().map(|resume| Client::connect(server, resume)).collect();
        let mut all: Vec<usize> = drain(&mut back).iter().flatten().map(|number| number.parse().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (20..40).collect::<Vec<_>>());
    });
}

#[test]
fn members_come_and_go_while_messages_flow_and_none_is_lost() {
    on_each_shard_count(|server| {
        let topic = server.unique("flow");
        let (mut members, filter) = group(server, &topic, 1, 3);
        let mut publisher = client(server, "pub");
        let mut came = Vec::new();
        for round in 0..10 {
            for number in 0..10 {
                publisher.publish(&topic, (round * 10 + number).to_string(), 1);
            }
            came.extend(drain(&mut members).into_iter().flatten());
            // The oldest leaves, by turns in each of the ways; a new one joins.
            let mut oldest = members.remove(0);
            match round % 3 {
                0 => drop(oldest.unsubscribe(&filter)),
                1 => oldest.disconnect(),
                _ => oldest.vanish_noticed(),
            }
            members.push(subscriber(server, &filter, 1));
        }
        let mut came: Vec<usize> = came.iter().map(|number| number.parse().unwrap()).collect();
        came.sort_unstable();
        assert_eq!(came, (0..100).collect::<Vec<_>>());
    });
}
