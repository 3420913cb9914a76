//! Share groups: who gets a message, and what happens when nobody can take it.

use super::kit::{Broker, Client, V5, V311, durable, identifier_of, options, publish};
use crate::mqtt::{AckKind, Connect, Publish, Subscribe, SubscriptionOptions, TopicFilter};

/// Clients at home at these shards, all of them members of `filter` at QoS 1.
fn members(broker: &mut Broker, shards: &[u16], filter: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for (number, &shard) in shards.iter().enumerate() {
        let name = broker.client_id_at(shard, &format!("member{number}-"));
        let client = broker.connect_as(durable(V5, &name, 100));
        broker.subscribe(client, filter, 1);
        clients.push(client);
    }
    clients
}

/// How many messages each of them was told.
fn told(broker: &mut Broker, clients: &[Client]) -> Vec<usize> {
    clients.iter().map(|&client| broker.take(client).len()).collect()
}

#[test]
fn members_take_turns_wherever_they_and_the_publisher_are_at_home() {
    for home in [0, 1, 2] {
        let mut broker = Broker::new(3);
        let filter = format!("$share/{}/t/+", broker.group_at(home, "g", "t/+"));
        let clients = members(&mut broker, &[0, 1, 2, 0], &filter);
        let publisher = broker.connect("p", V5);
        for number in 0..12 {
            broker.send(publisher, publish(1, 1, "t/1", &number.to_string()));
            assert_eq!(broker.take(publisher), ["PUBACK 1"]);
        }
        assert_eq!(told(&mut broker, &clients), [3, 3, 3, 3], "home {home}");
        broker.publish(publisher, "t", "no match");
        broker.publish(publisher, "t/1/2", "no match");
        assert_eq!(told(&mut broker, &clients), [0; 4]);
    }
}

#[test]
fn each_group_gets_a_copy_and_so_does_each_plain_subscription() {
    let mut broker = Broker::new(2);
    let client = broker.connect("c", V311);
    for filter in ["$share/a/t", "$share/b/t", "$share/b/+", "t", "#"] {
        broker.subscribe(client, filter, 0);
    }
    broker.publish(client, "t", "m");
    assert_eq!(broker.take(client).len(), 4, "three groups, and one for the two plain ones");
}

#[test]
fn a_delivery_carries_what_its_subscription_says() {
    for home in [0, 1] {
        let mut broker = Broker::new(2);
        let filter = format!("$share/{}/t", broker.group_at(home, "g", "t"));
        let name = broker.client_id_at(0, "c");
        let client = broker.connect(&name, V5);
        let asked = SubscriptionOptions { retain_as_published: true, ..options(1) };
        broker.subscribe_with(client, &filter, asked, 9);
        let retained = Publish { retain: true, ..publish(2, 1, "t", "m") };
        broker.send(client, retained);
        let told = broker.take(client);
        assert!(told.contains(&"PUBLISH q1 id=1 retain t=m ids=[9]".to_owned()), "{told:?}");
        broker.subscribe_with(client, &filter, options(0), 0);
        assert!(broker.take(client).is_empty(), "no retained message for a share group");
        broker.send(client, Publish { packet_identifier: Some(identifier_of(2)), ..retained });
        let told = broker.take(client);
        assert!(told.contains(&"PUBLISH q0 t=m".to_owned()), "{told:?}");
    }
}

#[test]
fn suback_waits_until_the_home_of_the_group_has_heard() {
    let mut broker = Broker::new(2);
    let filter = format!("$share/{}/t", broker.group_at(1, "g", "t"));
    let name = broker.client_id_at(0, "c");
    let client = broker.connect(&name, V5);
    broker.mesh_is_held = true;
    let filters = [(TopicFilter::parse(&filter).unwrap(), options(1))];
    broker.send(client, Subscribe::new(identifier_of(1), &filters));
    assert!(broker.take(client).is_empty());
    broker.mesh_is_held = false;
    broker.settle();
    assert_eq!(broker.take(client), ["SUBACK 1 [GrantedQoS1]"]);
}

#[test]
fn who_is_away_is_passed_over_and_serves_again_when_back() {
    for home in [0, 1] {
        let mut broker = Broker::new(2);
        let filter = format!("$share/{}/t", broker.group_at(home, "g", "t"));
        let clients = members(&mut broker, &[0, 1], &filter);
        let publisher = broker.connect("p", V5);
        broker.hang_up(clients[1]);
        (0..4).for_each(|_| broker.publish(publisher, "t", "m"));
        assert_eq!(told(&mut broker, &clients), [4, 0]);
        let name = broker.client_id_at(1, "member1-");
        let back = broker.connect_as(durable(V5, &name, 100));
        (0..4).for_each(|_| broker.publish(publisher, "t", "m"));
        assert_eq!(told(&mut broker, &[clients[0], back]), [2, 2], "home {home}");
    }
}

#[test]
fn when_all_are_away_a_durable_member_queues() {
    for home in [0, 1] {
        let mut broker = Broker::new(2);
        let filter = format!("$share/{}/t", broker.group_at(home, "g", "t"));
        let clients = members(&mut broker, &[0, 0], &filter);
        let publisher = broker.connect("p", V5);
        clients.iter().for_each(|&client| broker.hang_up(client));
        broker.send(publisher, publish(1, 1, "t", "kept"));
        broker.publish(publisher, "t", "QoS 0 is not");
        assert_eq!(broker.take(publisher), ["PUBACK 1"]);
        let mut kept = Vec::new();
        for number in 0..2 {
            let name = broker.client_id_at(0, &format!("member{number}-"));
            let back = broker.ask(durable(V5, &name, 100));
            broker.take_first(back);
            kept.extend(broker.take(back));
        }
        assert_eq!(kept, ["PUBLISH q1 id=1 t=kept"]);
        let unserved = broker.counters(0).dropped_share_unserved + broker.counters(1).dropped_share_unserved;
        assert_eq!(unserved, 1, "the one of QoS 0");
    }
}

#[test]
fn what_nobody_can_take_is_counted() {
    let mut broker = Broker::new(2);
    let filter = format!("$share/{}/t", broker.group_at(1, "g", "t"));
    let name = broker.client_id_at(0, "c");
    let mut connect = Connect::new(V5, &name);
    connect.properties.maximum_packet_size = std::num::NonZeroU32::new(20);
    let small = broker.connect_as(connect);
    broker.subscribe(small, &filter, 1);
    let publisher = broker.connect("p", V5);
    broker.send(publisher, publish(1, 1, "t", "a payload of more than twenty bytes"));
    assert!(broker.take(small).is_empty());
    assert_eq!(broker.counters(1).dropped_share_unserved, 1);
    assert_eq!(broker.counters(0).dropped_too_large, 1);
    // Another member takes it instead.
    let large = members(&mut broker, &[1], &filter)[0];
    for _ in 0..4 {
        broker.send(publisher, publish(1, 1, "t", "a payload of more than twenty bytes"));
    }
    assert_eq!(broker.take(large).len(), 4);
    assert_eq!(broker.counters(1).dropped_share_unserved, 1);
}

#[test]
fn a_member_that_is_lost_on_the_way_gives_the_message_to_another() {
    let mut broker = Broker::new(2);
    let filter = format!("$share/{}/t", broker.group_at(0, "g", "t"));
    let clients = members(&mut broker, &[1, 1], &filter);
    let name = broker.client_id_at(0, "p");
    let publisher = broker.connect(&name, V5);
    broker.mesh_is_held = true;
    broker.send(publisher, publish(1, 1, "t", "a"));
    broker.send(publisher, publish(1, 2, "t", "b"));
    assert_eq!(broker.take(publisher), ["PUBACK 1", "PUBACK 2"], "the group has them");
    broker.hang_up(clients[0]);
    broker.mesh_is_held = false;
    broker.settle();
    let mut told = broker.take(clients[1]);
    told.sort();
    assert_eq!(told, ["PUBLISH q1 id=1 t=b", "PUBLISH q1 id=2 t=a"]);
    // The last one is lost as well: its session keeps what was meant for it.
    broker.mesh_is_held = true;
    broker.send(publisher, publish(1, 3, "t", "c"));
    broker.hang_up(clients[1]);
    broker.mesh_is_held = false;
    broker.settle();
    let mut kept = Vec::new();
    for number in 0..2 {
        let name = broker.client_id_at(1, &format!("member{number}-"));
        let back = broker.ask(durable(V5, &name, 100));
        broker.take_first(back);
        kept.extend(broker.take(back).into_iter().filter(|line| line.ends_with("t=c")));
    }
    assert_eq!(kept.len(), 1, "{kept:?}");
}

/// With the store, members at shards 1 and 2 of a group that is at home at shard `home`, and a durable publisher at shard 0.
fn kept_with_members(home: u16, queue_messages_max: u32) -> (Broker, Vec<Client>, Client) {
    let mut broker = Broker::kept(3, |config| config.mqtt.queue_messages_max = queue_messages_max);
    let filter = format!("$share/{}/t", broker.group_at(home, "g", "t"));
    let clients = members(&mut broker, &[1, 2], &filter);
    let name = broker.client_id_at(0, "p");
    let publisher = broker.connect_as(durable(V5, &name, 100));
    (broker, clients, publisher)
}

#[test]
fn the_publisher_is_answered_when_whoever_took_it_after_a_refusal_has_it_in_the_store() {
    for (home, qos) in [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)] {
        let (mut broker, clients, publisher) = kept_with_members(home, 100);
        let [first, other] = if home == 1 { [1, 0] } else { [0, 1] };
        broker.mesh_is_held = true;
        broker.write(publisher, publish(qos, 1, "t", "a"));
        if home == 0 {
            // In a batch of its own.
            broker.settle();
        }
        broker.write(publisher, publish(qos, 2, "t", "b"));
        if home == 0 {
            // They are on their way to both members.
            broker.settle();
        } else {
            // They reach the group, and no further.
            broker.mesh_is_held = false;
            (0..2).for_each(|_| _ = broker.turn(0));
            broker.turn(home);
            broker.mesh_is_held = true;
        }
        let taker = other as u16 + 1;
        broker.store_held = vec![taker];
        broker.hang_up(clients[first]);
        broker.mesh_is_held = false;
        broker.settle();
        let answered = broker.take(publisher);
        assert_eq!(answered, Vec::<String>::new(), "home {home}, QoS {qos}: shard {taker} has it in memory only");
        broker.store_held.clear();
        broker.settle();
        let ack = if qos == 1 { "PUBACK" } else { "PUBREC" };
        assert_eq!(broker.take(publisher), [format!("{ack} 1"), format!("{ack} 2")], "home {home}, QoS {qos}");
        assert_eq!(broker.take(clients[other]).len(), 2, "home {home}, QoS {qos}");
    }
}

#[test]
fn a_full_member_at_the_groups_home_does_not_stand_for_the_one_that_takes_it() {
    for home in [1, 2] {
        let (mut broker, clients, publisher) = kept_with_members(home, 2);
        let full = clients[usize::from(home) - 1];
        broker.subscribe(full, "fills", 1);
        clients.iter().for_each(|&client| broker.hang_up(client));
        for number in 1..=2 {
            broker.send(publisher, publish(1, number, "fills", "it"));
            broker.take(publisher);
        }
        let taker = 3 - home;
        broker.store_held = vec![taker];
        (3..=4).for_each(|number| broker.send(publisher, publish(1, number, "t", "m")));
        assert_eq!(broker.take(publisher), Vec::<String>::new(), "home {home}");
        broker.store_held.clear();
        broker.settle();
        assert_eq!(broker.take(publisher), ["PUBACK 3", "PUBACK 4"], "home {home}");
        // Now both are full: what nobody takes is waited for by nobody.
        broker.send(publisher, publish(1, 5, "t", "m"));
        assert_eq!(broker.take(publisher), ["PUBACK 5"], "home {home}");
        assert_eq!(broker.counters(home).dropped_share_unserved, 1);
    }
}

#[test]
fn a_member_whose_queue_is_half_full_is_passed_over_until_it_has_drained() {
    let mut broker = Broker::with(1, |config| config.mqtt.queue_messages_max = 4);
    let filter = "$share/g/t";
    let mut connect = durable(V5, "slow", 100);
    connect.properties.receive_maximum = std::num::NonZeroU16::new(1);
    let slow = broker.connect_as(connect);
    broker.subscribe(slow, filter, 1);
    broker.subscribe(slow, "own", 1);
    let fast = members(&mut broker, &[0], filter)[0];
    let publisher = broker.connect("p", V5);
    // One is in flight, two are half of the queue, three are more.
    (0..4).for_each(|_| broker.send(publisher, publish(1, 1, "own", "m")));
    broker.send(publisher, publish(1, 1, "t", "m"));
    broker.send(publisher, publish(1, 1, "t", "m"));
    let before = broker.take(fast).len();
    broker.take(slow);
    assert!(before >= 1);
    (0..4).for_each(|_| broker.send(publisher, publish(1, 1, "t", "m")));
    assert_eq!(broker.take(fast).len(), 4, "the slow one is full");
    for identifier in 1..=5 {
        broker.ack(slow, AckKind::PubAck, identifier);
    }
    broker.take(slow);
    (0..4).for_each(|_| broker.send(publisher, publish(1, 1, "t", "m")));
    assert_eq!(broker.take(fast).len(), 2, "and takes its turns again");
}

#[test]
fn a_message_stays_with_the_client_that_it_was_sent_to() {
    let mut broker = Broker::new(1);
    let clients = members(&mut broker, &[0, 0], "$share/g/t");
    let publisher = broker.connect("p", V5);
    broker.send(publisher, publish(1, 1, "t", "m"));
    let (first, other) =
        if broker.take(clients[0]).is_empty() { (clients[1], clients[0]) } else { (clients[0], clients[1]) };
    broker.take(first);
    broker.hang_up(first);
    broker.settle();
    assert!(broker.take(other).is_empty());
    let number = if first == clients[0] { 0 } else { 1 };
    let name = broker.client_id_at(0, &format!("member{number}-"));
    let back = broker.ask(durable(V5, &name, 100));
    broker.take_first(back);
    assert_eq!(broker.take(back), ["PUBLISH q1 id=1 dup t=m"]);
}

#[test]
fn a_group_ends_with_its_last_member() {
    for home in [0, 1] {
        let mut broker = Broker::new(2);
        let filter = format!("$share/{}/t", broker.group_at(home, "g", "t"));
        let clients = members(&mut broker, &[0, 1], &filter);
        let publisher = broker.connect("p", V5);
        broker.unsubscribe(clients[0], &filter);
        assert_eq!(broker.take(clients[0]), ["UNSUBACK 60001 [Success]"]);
        (0..3).for_each(|_| broker.publish(publisher, "t", "m"));
        assert_eq!(told(&mut broker, &clients), [0, 3]);
        broker.hang_up(clients[1]);
        broker.after_s(101);
        broker.send(publisher, publish(1, 1, "t", "m"));
        assert_eq!(broker.take(publisher), ["PUBACK 1 NoMatchingSubscribers"], "home {home}");
        assert_eq!(broker.shared.share_interest.depth_mask(), 0);
    }
}

/// A member that has taken its turn for five messages, two of them sent and not acknowledged, and one that waits.
fn with_unsent(home: u16, qos: u8, expiry_s: u32) -> (Broker, Client, String, Client, Client) {
    let mut broker = Broker::new(2);
    let filter = format!("$share/{}/t", broker.group_at(home, "g", "t"));
    let name = broker.client_id_at(1, "slow");
    let mut connect = durable(V5, &name, expiry_s);
    connect.properties.receive_maximum = std::num::NonZeroU16::new(2);
    let slow = broker.connect_as(connect);
    broker.subscribe(slow, &filter, qos);
    let publisher = broker.connect("p", V5);
    for number in 0..5 {
        broker.send(publisher, publish(qos, number + 1, "t", &number.to_string()));
    }
    assert_eq!(broker.take(slow).len(), 2, "the rest waits");
    broker.take(publisher);
    let other = broker.client_id_at(0, "other");
    let other = broker.connect(&other, V5);
    broker.subscribe(other, &filter, qos);
    (broker, slow, name, other, publisher)
}

fn payloads(told: &[String]) -> Vec<&str> {
    told.iter().map(|line| line.rsplit('=').next().unwrap_or_default()).collect()
}

#[test]
fn what_a_session_that_ends_has_not_been_sent_goes_to_another_member() {
    for home in [0, 1] {
        for end in ["disconnect", "expiry", "clean start", "unsubscribe first"] {
            for (qos, expected) in [(1, &["0", "1", "2", "3", "4"][..]), (2, &["2", "3", "4"])] {
                let expiry_s = if end == "expiry" || end == "clean start" { 100 } else { 0 };
                let (mut broker, slow, name, other, _) = with_unsent(home, qos, expiry_s);
                match end {
                    "expiry" => {
                        broker.hang_up(slow);
                        broker.after_s(50);
                        assert!(broker.take(other).is_empty(), "its session may still come back");
                        broker.after_s(51);
                    }
                    "clean start" => {
                        broker.ask(Connect::new(V5, &name));
                    }
                    "unsubscribe first" => {
                        let filter = format!("$share/{}/t", broker.group_at(home, "g", "t"));
                        broker.unsubscribe(slow, &filter);
                        broker.send_bytes(slow, &[0xE0, 0]);
                    }
                    _ => broker.send_bytes(slow, &[0xE0, 0]),
                }
                let told = broker.take(other);
                assert_eq!(payloads(&told), expected, "home {home}, QoS {qos}, {end}: {told:?}");
                assert!(!told.iter().any(|line| line.contains("dup")), "it is new to this client: {told:?}");
            }
        }
    }
}

#[test]
fn what_is_returned_to_a_group_without_members_is_counted() {
    for home in [0, 1] {
        let (mut broker, slow, _, other, _) = with_unsent(home, 2, 0);
        broker.send_bytes(other, &[0xE0, 0]);
        broker.send_bytes(slow, &[0xE0, 0]);
        let unserved = broker.counters(0).dropped_share_unserved + broker.counters(1).dropped_share_unserved;
        assert_eq!(unserved, 3, "home {home}");
    }
}

#[test]
fn what_makes_room_for_plain_messages_in_a_full_queue_goes_to_another_member() {
    for home in [0, 1] {
        let mut broker = Broker::with(2, |config| config.mqtt.queue_messages_max = 4);
        let filter = format!("$share/{}/t", broker.group_at(home, "g", "t"));
        let name = broker.client_id_at(1, "asleep");
        let asleep = broker.connect_as(durable(V5, &name, 100));
        broker.subscribe(asleep, &filter, 1);
        broker.subscribe(asleep, "plain", 1);
        broker.hang_up(asleep);
        let publisher = broker.connect("p", V5);
        (0..2).for_each(|number| broker.send(publisher, publish(1, number + 1, "t", &number.to_string())));
        let other = broker.connect(&broker.client_id_at(0, "other"), V5);
        broker.subscribe(other, &filter, 1);
        (0..4).for_each(|number| broker.send(publisher, publish(1, number + 9, "plain", "m")));
        let told = broker.take(other);
        assert_eq!(payloads(&told), ["0", "1"], "home {home}: {told:?}");
        let dropped: u64 = [0, 1].iter().map(|&shard| broker.counters(shard).dropped_queue_full).sum();
        assert_eq!(dropped, 0);
        let again = broker.ask(durable(V5, &name, 100));
        assert_eq!(broker.take(again).len(), 1 + 4, "CONNACK and what took their places");
    }
}

#[test]
fn what_goes_back_to_its_group_leaves_the_store_when_another_queue_there_has_it() {
    for (home, held) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)] {
        for end in ["clean start", "expiry", "full queue"] {
            let what = format!("home {home}, {end}, shard {held} is held");
            let mut broker = Broker::kept(3, |config| config.mqtt.queue_messages_max = 4);
            let filter = format!("$share/{}/t", broker.group_at(home, "g", "t"));
            let publisher = broker.connect(&broker.client_id_at(0, "p"), V5);
            let names = [(0, "leaver"), (1, "taker")].map(|(shard, name)| broker.client_id_at(shard, name));
            let [leaver, taker] = [0, 1].map(|index| broker.connect_as(durable(V5, &names[index], 100 + index as u32)));
            broker.subscribe(leaver, &filter, 1);
            broker.subscribe(leaver, "plain", 1);
            broker.hang_up(leaver);
            (1..=2).for_each(|number| broker.send(publisher, publish(1, number, "t", &number.to_string())));
            assert_eq!(broker.take(publisher), ["PUBACK 1", "PUBACK 2"], "{what}");
            broker.subscribe(taker, &filter, 1);
            broker.hang_up(taker);
            let before = broker.records();
            broker.store_held = vec![held];
            let mut again = None;
            match end {
                "clean start" => again = Some(broker.ask(Connect::new(V5, &names[0]))),
                "expiry" => broker.after(std::time::Duration::from_millis(100_500)),
                _ => (1..=4).for_each(|number| broker.send(publisher, publish(1, number, "plain", "m"))),
            }
            // The third plain message takes the first place; what its shard asks for behind that waits as well.
            let came = if end == "full queue" && held != 0 { 3 } else { 0 };
            assert_eq!(broker.records(), before + came, "{what}: nothing has left, and nothing has come");
            assert!(again.is_none_or(|again| broker.take(again).is_empty()), "{what}: the session has not ended");
            broker.store_held.clear();
            broker.settle();
            // Two came to the taker. With a session its queue has ended; what else is left of it is removed later.
            let after = if end == "full queue" { before + 4 + 2 - 2 } else { before + 2 - 2 - 1 };
            assert_eq!(broker.records(), after, "{what}");
            assert!(again.is_none_or(|again| broker.take(again).len() == 1), "{what}: CONNACK");
            let taker = broker.ask(durable(V5, &names[1], 100));
            let told = broker.take(taker);
            assert_eq!(payloads(&told[1..]), ["1", "2"], "{what}: {told:?}");
        }
    }
}

#[test]
fn what_goes_back_and_nobody_takes_leaves_the_store() {
    for home in [0, 1] {
        let mut broker = Broker::kept(2, |_| {});
        let filter = format!("$share/{}/t", broker.group_at(home, "g", "t"));
        let name = broker.client_id_at(0, "leaver");
        let leaver = broker.connect_as(durable(V5, &name, 100));
        broker.subscribe(leaver, &filter, 1);
        broker.hang_up(leaver);
        let publisher = broker.connect("p", V5);
        (1..=2).for_each(|number| broker.send(publisher, publish(1, number, "t", "m")));
        let before = broker.records();
        let again = broker.ask(Connect::new(V5, &name));
        assert_eq!(broker.take(again).len(), 1, "CONNACK waits for nobody");
        assert_eq!(broker.records(), before - 2 - 1, "the session and its queue");
        assert_eq!(broker.counters(home).dropped_share_unserved, 2, "home {home}");
    }
}

#[test]
fn a_message_that_no_member_has_room_for_takes_nobodys_place() {
    for home in [0, 1] {
        let mut broker = Broker::with(2, |config| config.mqtt.queue_messages_max = 2);
        let filter = format!("$share/{}/t", broker.group_at(home, "g", "t"));
        let clients = members(&mut broker, &[0, 1], &filter);
        let names: Vec<String> = (0..2).map(|shard| broker.client_id_at(shard, &format!("member{shard}-"))).collect();
        clients.iter().for_each(|&client| broker.hang_up(client));
        let publisher = broker.connect("p", V5);
        (0..7).for_each(|number| broker.send(publisher, publish(1, number + 1, "t", &number.to_string())));
        let unserved: u64 = [0, 1].iter().map(|&shard| broker.counters(shard).dropped_share_unserved).sum();
        assert_eq!(unserved, 3, "home {home}");
        let mut kept = Vec::new();
        for name in names {
            let again = broker.ask(durable(V5, &name, 100));
            kept.extend(payloads(&broker.take(again)[1..]).into_iter().map(str::to_owned));
        }
        kept.sort();
        assert_eq!(kept, ["0", "1", "2", "3"], "home {home}");
    }
}

#[test]
fn all_groups_of_a_session_hear_of_what_it_can_take() {
    let mut broker = Broker::with(2, |config| config.mqtt.queue_messages_max = 4);
    let filters: Vec<String> = [0, 1, 0, 1]
        .iter()
        .enumerate()
        .map(|(number, &home)| {
            let topic = format!("t/{number}");
            format!("$share/{}/{topic}", broker.group_at(home, "g", &topic))
        })
        .collect();
    let name = broker.client_id_at(1, "slow");
    let mut connect = durable(V5, &name, 100);
    connect.properties.receive_maximum = std::num::NonZeroU16::new(1);
    let slow = broker.connect_as(connect);
    let other = broker.connect(&broker.client_id_at(0, "other"), V5);
    for filter in &filters {
        broker.subscribe(slow, filter, 1);
        broker.subscribe(other, filter, 1);
    }
    broker.subscribe(slow, "plain", 1);
    let publisher = broker.connect("p", V5);
    // One in flight and three that wait: the session is more than half full, and the first shared message shows it.
    (0..4).for_each(|number| broker.send(publisher, publish(1, number + 1, "plain", "m")));
    for number in 0..8 {
        broker.send(publisher, publish(1, number + 9, &format!("t/{}", number % 4), "m"));
    }
    assert_eq!(broker.take(other).len(), 7, "whoever has room comes first");
    for identifier in 1..=5 {
        let told = broker.take(slow);
        assert_eq!(told.len(), 1, "{told:?}");
        broker.ack(slow, AckKind::PubAck, identifier);
    }
    for number in 0..8 {
        broker.send(publisher, publish(1, number + 20, &format!("t/{}", number % 4), "m"));
    }
    assert_eq!(broker.take(other).len(), 4, "it takes its turns again in each of its groups");
}
