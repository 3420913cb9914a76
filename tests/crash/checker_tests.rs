//! Hand-made histories: each kind of violation is found, and nothing is found where nothing is wrong.

use std::time::Duration;

use ringmq::mqtt::{PacketIdentifier, Publish, PublishProperties, QoS};

use crate::checker::{Checker, Kind, Number, Rule, payload};

const PUBLISHER: usize = 0;
const SUBSCRIBER: usize = 1;
const NOW: Duration = Duration::ZERO;

/// A publisher and a subscriber of `t/#` at `qos`, both connected.
fn history(qos: QoS) -> Checker {
    let mut checker = Checker::default();
    for name in ["publisher", "subscriber"] {
        let client = checker.client(name);
        checker.connects(client, false, None, NOW);
        checker.connected(client, false, NOW);
    }
    checker.subscribes(SUBSCRIBER, "t/#", qos);
    checker.subscribed(SUBSCRIBER, "t/#");
    checker
}

fn publish(checker: &mut Checker, topic: &str, qos: QoS, kind: Kind) -> Number {
    let number = checker.sends(PUBLISHER, topic, qos, kind, 32);
    checker.acknowledged(number);
    number
}

fn live(checker: &mut Checker, qos: QoS) -> Number {
    publish(checker, "t/1", qos, Kind::Live)
}

fn deliver(checker: &mut Checker, number: Number, qos: QoS, retain: bool, now: Duration) {
    let topic = checker.message(number).topic.clone();
    let (packet_identifier, properties) = (PacketIdentifier::new(1), PublishProperties::default());
    let payload = payload(number, 32);
    let publish = Publish { dup: false, qos, retain, topic: &topic, packet_identifier, properties, payload: &payload };
    checker.delivers(SUBSCRIBER, &publish, now);
}

/// What is found once all had the time to arrive.
fn found(mut checker: Checker) -> Vec<Rule> {
    checker.gives_up();
    checker.violations().iter().map(|violation| violation.rule).collect()
}

/// The broker is killed, and both clients come back.
fn kill(checker: &mut Checker, now: Duration) {
    checker.killed();
    for client in [PUBLISHER, SUBSCRIBER] {
        checker.loses_connection(client, now);
        checker.connects(client, false, None, now);
        checker.connected(client, true, now);
    }
}

#[test]
fn a_clean_history_has_no_violation() {
    let mut checker = history(QoS::ExactlyOnce);
    let first = live(&mut checker, QoS::ExactlyOnce);
    let second = checker.sends(PUBLISHER, "t/1", QoS::AtLeastOnce, Kind::Live, 32);
    deliver(&mut checker, second, QoS::AtLeastOnce, false, NOW);
    kill(&mut checker, NOW);
    checker.acknowledged(second);
    // At QoS 1 it may come again, and one of QoS 2 may come after a later one of QoS 1.
    deliver(&mut checker, second, QoS::AtLeastOnce, false, NOW);
    deliver(&mut checker, first, QoS::ExactlyOnce, false, NOW);
    // What was not acknowledged may be lost, and what was sent before SUBACK may miss it.
    checker.sends(PUBLISHER, "t/1", QoS::ExactlyOnce, Kind::Live, 32);
    publish(&mut checker, "u", QoS::ExactlyOnce, Kind::Live);
    checker.subscribes(SUBSCRIBER, "u", QoS::AtLeastOnce);
    publish(&mut checker, "u", QoS::ExactlyOnce, Kind::Live);
    checker.subscribed(SUBSCRIBER, "u");
    assert_eq!(found(checker), []);
}

#[test]
fn a_lost_message_is_found() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut checker = history(qos);
        let first = live(&mut checker, qos);
        kill(&mut checker, NOW);
        assert!(checker.is_owed(first) && !checker.owes_nothing());
        let second = live(&mut checker, qos);
        deliver(&mut checker, second, qos, false, NOW);
        assert_eq!(found(checker), [Rule::Loss]);
    }
}

#[test]
fn a_second_delivery_is_found_at_qos_2() {
    let mut checker = history(QoS::ExactlyOnce);
    let number = live(&mut checker, QoS::ExactlyOnce);
    deliver(&mut checker, number, QoS::ExactlyOnce, false, NOW);
    kill(&mut checker, NOW);
    deliver(&mut checker, number, QoS::ExactlyOnce, false, NOW);
    assert_eq!(found(checker), [Rule::Duplicate]);
}

#[test]
fn another_order_is_found() {
    let mut checker = history(QoS::AtLeastOnce);
    let numbers = [(); 3].map(|()| live(&mut checker, QoS::AtLeastOnce));
    for number in [numbers[0], numbers[2], numbers[1], numbers[2]] {
        deliver(&mut checker, number, QoS::AtLeastOnce, false, NOW);
    }
    assert_eq!(found(checker), [Rule::Order]);
}

#[test]
fn a_message_that_nobody_sent_is_found() {
    let mut checker = history(QoS::AtLeastOnce);
    let number = checker.sends(PUBLISHER, "t/1", QoS::AtLeastOnce, Kind::Live, 33);
    deliver(&mut checker, number, QoS::AtLeastOnce, false, NOW);
    assert_eq!(found(checker), [Rule::Alien]);
}

#[test]
fn another_qos_than_was_granted_is_found() {
    let mut checker = history(QoS::AtLeastOnce);
    let number = live(&mut checker, QoS::ExactlyOnce);
    deliver(&mut checker, number, QoS::ExactlyOnce, false, NOW);
    assert_eq!(found(checker), [Rule::Protocol]);
}

#[test]
fn a_subscription_that_comes_back_is_found() {
    let mut checker = history(QoS::AtLeastOnce);
    let before = live(&mut checker, QoS::AtLeastOnce);
    checker.unsubscribes(SUBSCRIBER, "t/#");
    checker.unsubscribed(SUBSCRIBER, "t/#");
    kill(&mut checker, NOW);
    let after = live(&mut checker, QoS::AtLeastOnce);
    // The first may have been queued already.
    deliver(&mut checker, before, QoS::AtLeastOnce, false, NOW);
    deliver(&mut checker, after, QoS::AtLeastOnce, false, NOW);
    assert_eq!(found(checker), [Rule::Ghost]);
}

#[test]
fn a_session_that_comes_back_is_found() {
    let mut checker = history(QoS::AtLeastOnce);
    let before = live(&mut checker, QoS::AtLeastOnce);
    checker.connects(SUBSCRIBER, true, None, NOW);
    checker.connected(SUBSCRIBER, false, NOW);
    kill(&mut checker, NOW);
    deliver(&mut checker, before, QoS::AtLeastOnce, false, NOW);
    assert_eq!(found(checker), [Rule::Ghost]);
}

#[test]
fn a_session_that_is_gone_is_found() {
    let mut checker = history(QoS::AtLeastOnce);
    checker.killed();
    checker.loses_connection(SUBSCRIBER, NOW);
    checker.connects(SUBSCRIBER, false, None, NOW);
    checker.connected(SUBSCRIBER, false, NOW);
    assert_eq!(found(checker), [Rule::Session]);
}

#[test]
fn a_session_whose_connack_never_came_may_be_there_or_not() {
    for present in [false, true] {
        let mut checker = Checker::default();
        let client = checker.client("client");
        checker.connects(client, false, None, NOW);
        checker.killed();
        checker.loses_connection(client, NOW);
        checker.connects(client, false, None, NOW);
        checker.connected(client, present, NOW);
        assert_eq!(found(checker), []);
    }
}

/// Writes retained values, the last without an acknowledgement, and has the subscriber look at them after a kill.
fn look(kinds: &[Kind]) -> (Checker, Vec<Number>) {
    let mut checker = history(QoS::AtLeastOnce);
    let (last, before) = kinds.split_last().unwrap();
    let topic = "retained/1";
    let mut numbers: Vec<Number> =
        before.iter().map(|&kind| publish(&mut checker, topic, QoS::AtLeastOnce, kind)).collect();
    numbers.push(checker.sends(PUBLISHER, topic, QoS::AtLeastOnce, *last, 32));
    kill(&mut checker, NOW);
    checker.begins_to_look(SUBSCRIBER);
    (checker, numbers)
}

#[test]
fn an_old_retained_value_is_found() {
    let kinds = [Kind::Retained; 4];
    for (value, expected) in [(0, vec![Rule::Retained]), (1, vec![Rule::Retained]), (2, vec![]), (3, vec![])] {
        let (mut checker, numbers) = look(&kinds);
        deliver(&mut checker, numbers[value], QoS::AtLeastOnce, true, NOW);
        assert!(checker.has_seen_all_retained());
        assert_eq!(found(checker), expected, "value {value}");
    }
}

#[test]
fn a_missing_retained_value_is_found_unless_it_may_be_cleared() {
    let (checker, _) = look(&[Kind::Clear, Kind::Retained, Kind::Retained]);
    assert!(!checker.has_seen_all_retained());
    assert_eq!(found(checker), [Rule::Retained]);
    for kinds in [[Kind::Retained, Kind::Clear, Kind::Retained], [Kind::Retained, Kind::Retained, Kind::Clear]] {
        let (checker, _) = look(&kinds);
        assert!(checker.has_seen_all_retained());
        assert_eq!(found(checker), [], "{kinds:?}");
    }
}

#[test]
fn a_cleared_retained_value_that_comes_back_is_found() {
    let (mut checker, numbers) = look(&[Kind::Retained, Kind::Clear, Kind::Retained]);
    deliver(&mut checker, numbers[0], QoS::AtLeastOnce, true, NOW);
    assert_eq!(found(checker), [Rule::Retained]);
}

/// The publisher connects with a Will for the subscriber, the broker is killed, and it comes back after so many seconds.
fn will(delay_s: u64, returns_s: u64) -> (Checker, Number) {
    let mut checker = history(QoS::AtLeastOnce);
    checker.leaves(PUBLISHER);
    let kind = Kind::Will(Duration::from_secs(delay_s));
    let number = checker.sends(PUBLISHER, "t/will", QoS::AtLeastOnce, kind, 32);
    checker.connects(PUBLISHER, false, Some(number), NOW);
    checker.connected(PUBLISHER, true, NOW);
    checker.killed();
    checker.loses_connection(PUBLISHER, NOW);
    let back = Duration::from_secs(returns_s);
    checker.connects(PUBLISHER, false, None, back);
    checker.connected(PUBLISHER, true, back);
    (checker, number)
}

#[test]
fn a_will_that_never_comes_is_found_unless_its_client_came_back_in_time() {
    for (delay_s, returns_s, expected) in [(0, 0, vec![Rule::Loss]), (1, 2, vec![Rule::Loss]), (2, 1, vec![])] {
        let (checker, _) = will(delay_s, returns_s);
        assert_eq!(found(checker), expected, "delay {delay_s} s, back after {returns_s} s");
    }
}

#[test]
fn a_will_that_must_not_come_is_found() {
    let cases = [(0, 0, 0, vec![]), (1, 2, 2, vec![]), (2, 1, 3, vec![Rule::Will]), (3, 4, 2, vec![Rule::Will])];
    for (delay_s, returns_s, comes_s, expected) in cases {
        let (mut checker, number) = will(delay_s, returns_s);
        deliver(&mut checker, number, QoS::AtLeastOnce, false, Duration::from_secs(comes_s));
        assert_eq!(found(checker), expected, "delay {delay_s} s, back after {returns_s} s, comes after {comes_s} s");
    }
}

#[test]
fn a_will_of_a_client_that_is_connected_is_found() {
    let mut checker = history(QoS::AtLeastOnce);
    let number = checker.sends(PUBLISHER, "t/will", QoS::AtLeastOnce, Kind::Will(Duration::ZERO), 32);
    checker.connects(PUBLISHER, false, Some(number), NOW);
    checker.connected(PUBLISHER, true, NOW);
    deliver(&mut checker, number, QoS::AtLeastOnce, false, NOW);
    assert_eq!(found(checker), [Rule::Will]);
}

#[test]
fn an_order_that_a_subscription_could_not_have_seen_is_none() {
    let mut checker = history(QoS::AtLeastOnce);
    let early = checker.sends(PUBLISHER, "u/1", QoS::AtLeastOnce, Kind::Live, 32);
    checker.subscribes(SUBSCRIBER, "u/#", QoS::AtLeastOnce);
    let late = checker.sends(PUBLISHER, "u/1", QoS::AtLeastOnce, Kind::Live, 32);
    deliver(&mut checker, late, QoS::AtLeastOnce, false, NOW);
    kill(&mut checker, NOW);
    deliver(&mut checker, early, QoS::AtLeastOnce, false, NOW);
    assert_eq!(found(checker), []);
}

/// Three messages at `qos`, the first of which was acknowledged long before a power cut, and what is found after `deliveries`
/// of them, of which the first `before` came before the cut.
fn found_after_power_cut(qos: QoS, before: usize, deliveries: &[usize]) -> Vec<Rule> {
    let mut checker = history(qos);
    let first = live(&mut checker, qos);
    checker.is_now(Duration::from_secs(1));
    let numbers = [first, live(&mut checker, qos), live(&mut checker, qos)];
    for &index in &deliveries[..before] {
        deliver(&mut checker, numbers[index], qos, false, NOW);
        checker.releases(SUBSCRIBER, numbers[index]);
    }
    let since = checker.moment_at(Duration::from_secs(1));
    checker.rolls_back(since);
    kill(&mut checker, NOW);
    for &index in &deliveries[before..] {
        deliver(&mut checker, numbers[index], qos, false, NOW);
    }
    found(checker)
}

#[test]
fn a_power_cut_may_take_the_tail_of_what_was_acknowledged_last() {
    for kept in [&[0, 1, 2][..], &[0, 1], &[0]] {
        assert_eq!(found_after_power_cut(QoS::AtLeastOnce, 0, kept), []);
    }
}

#[test]
fn a_power_cut_that_takes_more_is_found() {
    assert_eq!(found_after_power_cut(QoS::AtLeastOnce, 0, &[]), [Rule::Loss]);
    assert_eq!(found_after_power_cut(QoS::AtLeastOnce, 0, &[0, 2]), [Rule::Loss]);
}

#[test]
fn what_was_released_before_a_power_cut_may_come_once_more() {
    assert_eq!(found_after_power_cut(QoS::ExactlyOnce, 1, &[0, 0]), []);
    assert_eq!(found_after_power_cut(QoS::ExactlyOnce, 1, &[0, 0, 0]), [Rule::Duplicate]);
}

#[test]
fn what_was_granted_before_a_power_cut_may_be_gone() {
    let mut checker = history(QoS::AtLeastOnce);
    checker.rolls_back(0);
    kill(&mut checker, NOW);
    live(&mut checker, QoS::AtLeastOnce);
    assert_eq!(found(checker), []);
}

#[test]
fn what_is_under_way_when_the_power_is_cut_must_come() {
    let mut checker = history(QoS::ExactlyOnce);
    let number = checker.sends(PUBLISHER, "t/1", QoS::ExactlyOnce, Kind::Live, 32);
    checker.is_now(Duration::from_secs(1));
    let since = checker.moment_at(Duration::from_secs(1));
    checker.rolls_back(since);
    kill(&mut checker, NOW);
    checker.acknowledged(number);
    assert_eq!(found(checker), [Rule::Loss]);
}
