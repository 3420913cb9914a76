//! What bounds a turn: slices of large fan-outs, the budget of deliveries, and pauses that end.

use super::kit::{Broker, Client, V5, V311, durable, publish};
use crate::mqtt::{AckKind, Connect};

/// Subscribers of `t` at QoS 0.
fn crowd(broker: &mut Broker, shard: u16, size: usize) -> Vec<Client> {
    let names: Vec<String> = (0..5000)
        .map(|number| format!("crowd{number}"))
        .filter(|name| broker.home_of_client(name) == shard)
        .take(size)
        .collect();
    let clients: Vec<Client> = names.iter().map(|name| broker.connect(name, V311)).collect();
    for &client in &clients {
        broker.subscribe(client, "t", 0);
    }
    clients
}

/// How many messages all of them were told since they last looked.
fn told(broker: &mut Broker, clients: &[Client]) -> usize {
    clients.iter().map(|&client| broker.take(client).len()).sum()
}

#[test]
fn a_fan_out_above_a_slice_goes_on_turn_by_turn_and_its_publisher_waits() {
    let mut broker = Broker::new(1);
    let publisher = broker.connect("p", V5);
    let other = broker.connect("o", V5);
    let clients = crowd(&mut broker, 0, 1500);
    broker.write(publisher, publish(1, 1, "t", "first"));
    broker.write(publisher, publish(1, 2, "t", "second"));
    broker.write(other, publish(1, 1, "t", "from another"));
    broker.turn(0);
    assert_eq!(told(&mut broker, &clients), 1024, "a slice of one job");
    assert!(broker.is_paused(publisher));
    assert!(broker.take(publisher).is_empty());
    broker.turn(0);
    assert_eq!(told(&mut broker, &clients), 1024, "the job of another source is next");
    broker.turn(0);
    assert_eq!(told(&mut broker, &clients), 476);
    broker.settle();
    assert_eq!(broker.take(publisher), ["PUBACK 1", "PUBACK 2"]);
    assert_eq!(broker.take(other), ["PUBACK 1"]);
    assert_eq!(told(&mut broker, &clients), 3 * 1500 - 2 * 1024 - 476);
    assert!(!broker.is_paused(publisher));
    assert_eq!(broker.counters(0).fan_out_jobs, 3);
    assert_eq!(broker.counters(0).deliveries[0], 4500);
}

#[test]
fn a_fan_out_of_one_slice_is_no_job() {
    let mut broker = Broker::new(1);
    let publisher = broker.connect("p", V5);
    let clients = crowd(&mut broker, 0, 1024);
    let both = broker.connect("both", V5);
    broker.send(publisher, publish(1, 1, "t", "m"));
    assert_eq!(broker.take(publisher), ["PUBACK 1"]);
    assert_eq!(told(&mut broker, &clients), 1024);
    assert_eq!(broker.counters(0).fan_out_jobs, 0);
    broker.subscribe(both, "+", 0);
    broker.send(publisher, publish(1, 1, "t", "m"));
    assert_eq!(broker.counters(0).fan_out_jobs, 1);
    assert_eq!(told(&mut broker, &clients), 1024);
    assert_eq!(broker.take(both).len(), 1);
}

#[test]
fn a_client_gets_nothing_of_a_job_that_began_before_its_session_did() {
    let mut broker = Broker::new(1);
    let publisher = broker.connect("p", V5);
    let clients = crowd(&mut broker, 0, 1100);
    broker.write(publisher, publish(0, 0, "t", "m"));
    broker.turn(0);
    let waiting: Vec<Client> = clients.iter().copied().filter(|&client| broker.take(client).is_empty()).collect();
    assert_eq!(waiting.len(), 76);
    // Its place among the sessions is taken by the next one.
    broker.end_now(waiting[0]);
    let newcomer = broker.open_now("newcomer", V5);
    broker.settle();
    assert_eq!(told(&mut broker, &waiting[1..]), 75);
    let told = broker.take(newcomer);
    assert_eq!(told.len(), 1, "CONNACK and no more: {told:?}");
}

#[test]
fn a_turn_makes_so_many_deliveries_and_the_rest_waits_for_the_next() {
    let mut broker = Broker::new(1);
    let publisher = broker.connect("p", V5);
    let other = broker.connect("o", V5);
    let clients = crowd(&mut broker, 0, 1000);
    for number in 0..12 {
        broker.write(publisher, publish(0, 0, "t", &number.to_string()));
    }
    broker.write(other, publish(1, 1, "u", "m"));
    broker.turn(0);
    assert_eq!(told(&mut broker, &clients), 5000, "four make 4000, the fifth goes over 4096");
    assert!(broker.take(other).is_empty(), "input after that waits");
    broker.turn(0);
    assert_eq!(told(&mut broker, &clients), 5000, "shares, one after the other, until the turn is full");
    assert_eq!(broker.take(other), ["PUBACK 1 NoMatchingSubscribers"], "whoever waited got a share between them");
    broker.settle();
    assert_eq!(told(&mut broker, &clients), 2000);
    assert!(!broker.is_paused(publisher));
}

#[test]
fn input_that_comes_while_a_connection_waits_is_kept_in_order_and_bounded() {
    let mut broker = Broker::new(1);
    let publisher = broker.connect("p", V5);
    let clients = crowd(&mut broker, 0, 1000);
    let watcher = broker.connect("w", V5);
    broker.subscribe(watcher, "t", 0);
    broker.subscribe(watcher, "w", 0);
    for number in 0..12 {
        broker.write(publisher, publish(0, 0, "t", &number.to_string()));
    }
    broker.turn(0);
    assert!(!broker.is_paused(publisher), "its budget alone does not stop its socket");
    let long = "l".repeat(70_000);
    broker.write(publisher, publish(0, 0, "w", &long));
    // Taken in ahead of the backlog, which is run at the end of a turn.
    broker.turn(0);
    assert!(broker.is_paused(publisher), "too much is stashed");
    broker.write(publisher, publish(0, 0, "t", "last"));
    broker.settle();
    assert!(!broker.is_paused(publisher));
    let mut expected: Vec<String> = (0..12).map(|number| format!("PUBLISH q0 t={number}")).collect();
    expected.extend(["PUBLISH q0 w=<70000 bytes>".to_owned(), "PUBLISH q0 t=last".to_owned()]);
    assert_eq!(broker.take(watcher), expected);
    assert_eq!(told(&mut broker, &clients), 13_000);
}

#[test]
fn a_3x_client_is_not_read_from_while_it_is_owed_as_much_as_it_may_have_under_way() {
    let mut broker = Broker::with(2, |config| config.mqtt.receive_maximum = 2);
    let (near, far) = (broker.client_id_at(0, "near"), broker.client_id_at(1, "far"));
    let subscriber = broker.connect(&far, V5);
    broker.subscribe(subscriber, "t", 0);
    let publisher = broker.connect_as(Connect { keep_alive_s: 10, ..Connect::new(V311, &near) });
    broker.mesh_is_held = true;
    broker.send(publisher, publish(1, 1, "t", "a"));
    assert!(!broker.is_paused(publisher));
    broker.send(publisher, publish(1, 2, "t", "b"));
    assert!(broker.is_paused(publisher));
    broker.send(publisher, publish(1, 3, "t", "c"));
    broker.ping(publisher);
    assert!(broker.take(publisher).is_empty());
    broker.after_s(100);
    assert!(broker.take(publisher).is_empty(), "keep-alive does not count while we do not listen");
    broker.mesh_is_held = false;
    broker.settle();
    let told = broker.take(publisher);
    assert_eq!(told[..2], ["PUBACK 1", "PUBACK 2"]);
    assert!(told.contains(&"PUBACK 3".to_owned()) && told.contains(&"PINGRESP".to_owned()), "{told:?}");
    assert!(!broker.is_paused(publisher));
    assert_eq!(broker.take(subscriber), ["PUBLISH q0 t=a", "PUBLISH q0 t=b", "PUBLISH q0 t=c"]);
    broker.after_s(16);
    assert_eq!(broker.take(publisher), ["closed"], "and counts again");
}

#[test]
fn a_v5_client_that_exceeds_what_it_was_told_while_we_owe_it_is_0x93() {
    let mut broker = Broker::with(2, |config| config.mqtt.receive_maximum = 2);
    let (near, far) = (broker.client_id_at(0, "near"), broker.client_id_at(1, "far"));
    let subscriber = broker.connect(&far, V5);
    broker.subscribe(subscriber, "t", 0);
    let publisher = broker.connect(&near, V5);
    broker.mesh_is_held = true;
    broker.send(publisher, publish(1, 1, "t", "a"));
    broker.send(publisher, publish(2, 2, "t", "b"));
    assert!(broker.take(publisher).is_empty());
    broker.send(publisher, publish(1, 3, "t", "c"));
    assert_eq!(broker.take(publisher), ["DISCONNECT ReceiveMaximumExceeded +why", "closed"]);
    broker.mesh_is_held = false;
    broker.settle();
    assert_eq!(broker.take(subscriber).len(), 2);
}

#[test]
fn a_publisher_is_paused_while_the_mesh_has_no_room_and_loses_nothing() {
    let mut broker = Broker::new(2);
    let (near, far) = (broker.client_id_at(0, "near"), broker.client_id_at(1, "far"));
    let subscriber = broker.connect(&far, V5);
    broker.subscribe(subscriber, "t", 0);
    let publisher = broker.connect_as(Connect { keep_alive_s: 10, ..Connect::new(V5, &near) });
    let received_before = broker.counters(1).mesh_received;
    broker.mesh_is_held = true;
    broker.mesh_capacity = 2;
    for number in 0..4200 {
        broker.write(publisher, publish(0, 0, "t", &number.to_string()));
    }
    broker.turn(0);
    assert!(broker.is_paused(publisher));
    assert_eq!(broker.counters(0).paused_for_mesh, 1);
    assert_eq!(broker.counters(0).publishes_received[0], 4097, "4096 may wait");
    broker.after_s(60);
    assert!(broker.take(publisher).is_empty());
    assert!(broker.is_paused(publisher), "there is still no room");
    assert_eq!(broker.counters(0).publishes_received[0], 4097);
    broker.mesh_is_held = false;
    broker.settle();
    assert!(!broker.is_paused(publisher));
    let expected: Vec<String> = (0..4200).map(|number| format!("PUBLISH q0 t={number}")).collect();
    assert_eq!(broker.take(subscriber), expected);
    assert_eq!(broker.counters(1).mesh_received - received_before, 4200);
}

#[test]
fn a_pipeline_of_acknowledgements_keeps_the_order_of_the_publishes() {
    let mut broker = Broker::new(2);
    let (near, far) = (broker.client_id_at(0, "near"), broker.client_id_at(1, "far"));
    let (remote, local) = (broker.connect(&far, V5), broker.connect(&broker.client_id_at(0, "local"), V5));
    broker.subscribe(remote, "far", 0);
    broker.subscribe(local, "near", 0);
    let publisher = broker.connect(&near, V5);
    broker.mesh_is_held = true;
    broker.send(publisher, publish(1, 1, "far", "m"));
    broker.send(publisher, publish(1, 2, "near", "m"));
    broker.send(publisher, publish(2, 3, "far", "m"));
    broker.send(publisher, publish(2, 3, "far", "again, and not answered twice"));
    broker.unsubscribe(publisher, "nothing");
    assert_eq!(broker.take(local), ["PUBLISH q0 near=m"], "delivery does not wait");
    assert!(broker.take(publisher).is_empty());
    broker.ping(publisher);
    assert_eq!(broker.take(publisher), ["PINGRESP"]);
    broker.mesh_is_held = false;
    broker.settle();
    let told = ["PUBACK 1", "PUBACK 2", "PUBREC 3", "UNSUBACK 60001 [NoSubscriptionExisted]"];
    assert_eq!(broker.take(publisher), told);
    assert_eq!(broker.take(remote), ["PUBLISH q0 far=m", "PUBLISH q0 far=m"]);
    broker.ack(publisher, AckKind::PubRel, 3);
    assert_eq!(broker.take(publisher), ["PUBCOMP 3"]);
}

#[test]
fn what_a_client_that_is_gone_was_owed_is_owed_to_nobody() {
    let mut broker = Broker::new(2);
    let (near, far) = (broker.client_id_at(0, "near"), broker.client_id_at(1, "far"));
    let subscriber = broker.connect(&far, V5);
    broker.subscribe(subscriber, "t", 0);
    let publisher = broker.connect_as(durable(V5, &near, 100));
    broker.mesh_is_held = true;
    broker.send(publisher, publish(1, 1, "t", "m"));
    broker.hang_up(publisher);
    let again = broker.connect_as(durable(V5, &near, 100));
    broker.send(again, publish(1, 7, "t", "n"));
    broker.mesh_is_held = false;
    broker.settle();
    assert_eq!(broker.take(again), ["PUBACK 7"]);
    assert_eq!(broker.take(subscriber).len(), 2);
}
