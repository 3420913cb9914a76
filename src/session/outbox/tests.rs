//! The window against a model, and what is parked against a model of the store.

use proptest::prelude::*;

use super::*;
use crate::{
    message::{Envelope, SubscriptionIdentifiers},
    routing::GroupIdentifier,
    session::Stored,
};

fn delivery(qos: QoS) -> Delivery {
    delivery_of(qos, None, None)
}

fn delivery_of(qos: QoS, share: Option<ShareOrigin>, stored: Option<Stored>) -> Delivery {
    let message = Rc::new(ApplicationMessage::new("t", &[], b"p", Envelope::of(qos)));
    Delivery::new(message, qos, false, SubscriptionIdentifiers::None, share, stored)
}

fn send(outbox: &mut Outbox, quota: u32) -> Option<PacketIdentifier> {
    outbox.take_next(quota, Reached::ALL, true).and_then(|(identifier, _)| identifier)
}

/// Everything that is sent again, with whether it is a PUBREL.
fn resend_all(outbox: &mut Outbox) -> Vec<(PacketIdentifier, bool)> {
    outbox.begin_resume();
    std::iter::from_fn(|| outbox.next_resend(u32::MAX))
        .map(|resend| match resend {
            Resend::Publish(identifier, _) => (identifier, false),
            Resend::PubRel(identifier) => (identifier, true),
        })
        .collect()
}

#[test]
fn what_is_not_kept_is_acknowledged_like_anything_else_and_never_sent_again() {
    let mut outbox = Outbox::default();
    outbox.push(delivery(QoS::AtLeastOnce), None);
    assert_eq!(outbox.send_unkept(QoS::AtLeastOnce, 4), None, "something goes before it");
    let first = outbox.take_next(4, Reached::ALL, false).map(|(identifier, sent)| (identifier.unwrap(), sent.qos));
    let (first, _) = first.expect("there is room");
    let [second, third] = [QoS::ExactlyOnce, QoS::AtLeastOnce].map(|qos| outbox.send_unkept(qos, 3).unwrap());
    assert_eq!(outbox.send_unkept(QoS::AtLeastOnce, 3), None, "the window is full");
    outbox.check_invariants();
    assert_eq!(outbox.handle_pubrec(first, false), Acknowledged::Mismatch);
    assert_eq!(outbox.handle_puback(second), Acknowledged::Mismatch);
    assert_eq!(outbox.handle_pubcomp(third), Acknowledged::Mismatch);
    assert_eq!(outbox.handle_pubrec(second, false), Acknowledged::Release);
    assert_eq!(outbox.handle_puback(third), Acknowledged::Completed);
    assert_eq!(outbox.handle_puback(third), Acknowledged::Unknown);
    assert_eq!(resend_all(&mut outbox), [(second, true)]);
    assert_eq!(outbox.handle_pubcomp(second), Acknowledged::Completed);
    outbox.abandon(first);
    assert!(outbox.is_empty() && outbox.unacknowledged() == 0);
    outbox.check_invariants();
}

#[test]
fn what_was_in_flight_is_sent_again_within_the_new_quota_and_before_anything_new() {
    let mut outbox = Outbox::default();
    (0..4).for_each(|_| outbox.push(delivery(QoS::AtLeastOnce), None));
    let sent: Vec<_> = (0..3).map(|_| send(&mut outbox, 3).unwrap()).collect();
    outbox.begin_resume();
    let again = |outbox: &mut Outbox| match outbox.next_resend(1) {
        Some(Resend::Publish(identifier, _)) => Some(identifier),
        _ => None,
    };
    assert_eq!(again(&mut outbox), Some(sent[0]));
    assert_eq!(again(&mut outbox), None);
    assert_eq!(send(&mut outbox, 1), None);
    // One that is acknowledged before it is sent again is not sent again.
    outbox.handle_puback(sent[1]);
    outbox.handle_puback(sent[0]);
    outbox.check_invariants();
    assert_eq!(again(&mut outbox), Some(sent[2]));
    assert_eq!(send(&mut outbox, 1), None);
    outbox.handle_puback(sent[2]);
    assert!(send(&mut outbox, 1).is_some());
    outbox.check_invariants();
}

#[test]
fn the_quota_bounds_what_is_unacknowledged() {
    let mut outbox = Outbox::default();
    (0..3).for_each(|_| outbox.push(delivery(QoS::AtLeastOnce), None));
    let first = send(&mut outbox, 2).unwrap();
    assert!(send(&mut outbox, 2).is_some());
    assert_eq!(send(&mut outbox, 2), None);
    assert_eq!(outbox.handle_puback(first), Acknowledged::Completed);
    assert!(send(&mut outbox, 2).is_some());
    outbox.check_invariants();
}

#[test]
fn an_identifier_held_by_the_client_is_never_used_again() {
    let mut outbox = Outbox::default();
    outbox.push(delivery(QoS::AtLeastOnce), None);
    let held = send(&mut outbox, u32::MAX).unwrap();
    for _ in 0..65_533 {
        outbox.push(delivery(QoS::AtLeastOnce), None);
        let identifier = send(&mut outbox, u32::MAX).unwrap();
        assert_ne!(identifier, held);
        outbox.handle_puback(identifier);
    }
    outbox.push(delivery(QoS::AtLeastOnce), None);
    assert_eq!(send(&mut outbox, u32::MAX), None, "the span is used up");
    assert_eq!(outbox.handle_puback(held), Acknowledged::Completed);
    assert!(send(&mut outbox, u32::MAX).is_some());
    outbox.check_invariants();
}

#[test]
fn a_message_that_is_never_acknowledged_costs_one_entry() {
    let mut outbox = Outbox::default();
    for _ in 0..3 {
        outbox.push(delivery(QoS::AtLeastOnce), None);
    }
    let held: Vec<_> = (0..3).map(|_| send(&mut outbox, 9).unwrap()).collect();
    assert_eq!(outbox.handle_puback(held[1]), Acknowledged::Completed);
    let held = [held[0], held[2]];
    for _ in 0..50_000 {
        outbox.push(delivery(QoS::AtLeastOnce), None);
        let identifier = send(&mut outbox, 9).unwrap();
        assert_eq!(outbox.handle_puback(identifier), Acknowledged::Completed);
        assert_eq!(outbox.handle_puback(identifier), Acknowledged::Unknown);
        outbox.check_invariants();
    }
    assert!(outbox.in_flight.len() < 2 + 2 * GONE_MIN as usize);
    // Entries are found although others before them were taken out, also between two connections.
    assert_eq!(resend_all(&mut outbox), held.map(|identifier| (identifier, false)));
    outbox.check_invariants();
    assert_eq!(outbox.handle_puback(held[1]), Acknowledged::Completed);
    assert_eq!(outbox.handle_puback(held[0]), Acknowledged::Completed);
    assert!(outbox.is_empty());
    outbox.check_invariants();
}

#[test]
fn what_is_let_go_of_in_the_midst_of_a_resume_does_not_skip_anything() {
    let mut outbox = Outbox::default();
    (0..200).for_each(|_| outbox.push(delivery(QoS::AtLeastOnce), None));
    let sent: Vec<_> = (0..200).map(|_| send(&mut outbox, 200).unwrap()).collect();
    outbox.begin_resume();
    for identifier in &sent[..50] {
        assert!(matches!(outbox.next_resend(200), Some(Resend::Publish(again, _)) if again == *identifier));
    }
    // Sent again or not, these are acknowledged, and the first is not.
    for identifier in sent[1..=100].iter().chain(&sent[150..]) {
        assert_eq!(outbox.handle_puback(*identifier), Acknowledged::Completed);
    }
    outbox.check_invariants();
    assert!(outbox.in_flight.len() < 150);
    let rest = std::iter::from_fn(|| match outbox.next_resend(200) {
        Some(Resend::Publish(identifier, _)) => Some(identifier),
        _ => None,
    });
    assert_eq!(rest.collect::<Vec<_>>(), sent[101..150]);
}

#[test]
fn a_release_is_sent_again_for_a_repeated_pubrec_and_the_message_is_not() {
    let mut outbox = Outbox::default();
    outbox.push(delivery(QoS::ExactlyOnce), None);
    let identifier = send(&mut outbox, 1).unwrap();
    assert_eq!(outbox.handle_puback(identifier), Acknowledged::Mismatch);
    assert_eq!(outbox.handle_pubcomp(identifier), Acknowledged::Mismatch);
    assert_eq!(outbox.handle_pubrec(identifier, false), Acknowledged::Release);
    assert_eq!(outbox.handle_puback(identifier), Acknowledged::Mismatch);
    assert_eq!(outbox.handle_pubrec(identifier, false), Acknowledged::Release);
    outbox.begin_resume();
    assert!(matches!(outbox.next_resend(0), Some(Resend::PubRel(again)) if again == identifier));
    assert_eq!(outbox.handle_pubcomp(identifier), Acknowledged::Completed);
    assert!(outbox.is_empty());
}

#[test]
fn a_refused_message_is_complete() {
    let mut outbox = Outbox::default();
    outbox.push(delivery(QoS::ExactlyOnce), None);
    let identifier = send(&mut outbox, 1).unwrap();
    assert_eq!(outbox.handle_pubrec(identifier, true), Acknowledged::Completed);
    assert!(outbox.is_empty());
}

#[test]
fn dropped_messages_leave_no_hole_that_is_sent() {
    let mut outbox = Outbox::default();
    (0..5).for_each(|_| outbox.push(delivery(QoS::AtLeastOnce), None));
    let first = send(&mut outbox, 9).unwrap();
    outbox.drop_oldest();
    outbox.drop_oldest();
    let second = send(&mut outbox, 9).unwrap();
    assert_eq!((first.value(), second.value()), (1, 4));
    outbox.check_invariants();
    assert_eq!(outbox.handle_puback(PacketIdentifier::new(2).unwrap()), Acknowledged::Unknown);
    outbox.handle_puback(first);
    outbox.check_invariants();
    assert_eq!(resend_all(&mut outbox).len(), 1);
}

/// Where messages of a model of an outbox are.
#[derive(Default)]
struct Model {
    /// Places of what was queued, waits, and was not dropped.
    waiting: VecDeque<u64>,
    /// What the store holds.
    stored: VecDeque<u64>,
    asked: Option<SliceRange>,
    is_online: bool,
}

impl Model {
    fn settle(&mut self, settled: Settled) {
        let place = self.stored.iter().position(|&sequence| sequence == settled.sequence).expect("still stored");
        self.stored.remove(place);
    }

    /// Answers what was asked for, as the store does.
    fn answer(&mut self, outbox: &mut Outbox) {
        let Some(range) = self.asked.take() else { return };
        let in_range = self.stored.iter().filter(|&&sequence| (range.from..=range.upto).contains(&sequence));
        let all: Vec<u64> = in_range.copied().collect();
        let unparked = all.iter().take(range.max).map(|&sequence| Unparked {
            sequence,
            number: sequence,
            delivery: Some(stored(sequence, None)),
        });
        let slice = outbox.take_slice(range, unparked.collect(), all.len() <= range.max, self.is_online);
        assert_eq!(slice.missing, 0);
        slice.dropped.into_iter().for_each(|settled| self.settle(settled));
    }
}

fn stored(number: u64, share: Option<ShareOrigin>) -> Delivery {
    delivery_of(QoS::AtLeastOnce, share, Some(Stored { number, batch: 0 }))
}

#[test]
fn what_has_no_room_among_the_identifiers_stays_in_front_of_what_comes_behind_it() {
    let mut outbox = Outbox::default();
    let summary = QueueSummary { first: 0, last: 70_003, sent_below: 70_004, sent: 6, count: 0, bytes: 0 };
    outbox.restore(summary);
    let entry = |sequence| Unparked { sequence, number: sequence, delivery: Some(stored(sequence, None)) };
    outbox.begin_resume();
    let range = outbox.ask_slice(true).unwrap();
    outbox.take_slice(range, [0, 1, 70_000, 70_001].map(entry).into(), false, true);
    assert_eq!(resend_all(&mut outbox).len(), 2);
    for sequence in [0, 1] {
        assert_eq!(outbox.handle_puback(identifier_of(sequence)), Acknowledged::Completed);
    }
    assert_eq!(send(&mut outbox, 1), Some(identifier_of(70_000)));
    let range = SliceRange { from: 70_002, ..range };
    outbox.take_slice(range, [70_002, 70_003].map(entry).into(), true, true);
    outbox.check_invariants();
    for sequence in 70_000..=70_003 {
        assert_eq!(outbox.handle_puback(identifier_of(sequence)), Acknowledged::Completed);
        assert_eq!(send(&mut outbox, 1), Some(sequence + 1).filter(|&next| next < 70_004).map(identifier_of));
        outbox.check_invariants();
    }
}

proptest! {
    #[test]
    fn what_is_parked_is_sent_once_and_in_order(
        steps in prop::collection::vec((0u8..12, 1usize..90), 1..120), memory_max in 1usize..9,
    ) {
        let (mut outbox, mut model) = (Outbox::default(), Model::default());
        for (step, amount) in steps {
            match step {
                0..=3 => for _ in 0..amount {
                    // A few come from share groups, of which the store knows nothing.
                    let sequence = outbox.next_sequence();
                    let share = (amount % 7 == 0).then(|| ShareOrigin { home: 0, group: GroupIdentifier::default() });
                    outbox.push(stored(sequence, share), Some(if model.is_online { memory_max } else { 0 }));
                    model.waiting.push_back(sequence);
                    model.stored.push_back(sequence);
                },
                4 | 5 => for _ in 0..amount {
                    let Some((Some(identifier), _)) = outbox.take_next(u32::MAX, Reached::ALL, true) else { break };
                    let sequence = model.waiting.pop_front().expect("it waited");
                    prop_assert_eq!(identifier, identifier_of(sequence));
                    outbox.handle_puback(identifier);
                    model.settle(outbox.take_settled().expect("stored"));
                },
                6 => {
                    model.is_online = !model.is_online;
                    if !model.is_online {
                        outbox.park();
                    }
                }
                7 => for _ in 0..amount {
                    match outbox.drop_oldest() {
                        Dropped::Delivery(_) => model.settle(outbox.take_settled().expect("stored")),
                        Dropped::Parked => {}
                        Dropped::Nothing => break,
                    }
                    prop_assert!(model.waiting.pop_front().is_some());
                },
                8 => model.answer(&mut outbox),
                _ => if let Some(range) = outbox.ask_slice(model.is_online) {
                    prop_assert!(model.asked.is_none());
                    model.asked = Some(range);
                },
            }
            outbox.check_invariants();
            prop_assert_eq!(outbox.queued(), model.waiting.len());
            prop_assert!(outbox.sent_below() <= model.waiting.front().copied().unwrap_or(u64::MAX));
        }
        model.is_online = true;
        while !outbox.is_empty() {
            model.answer(&mut outbox);
            model.asked = outbox.ask_slice(true).or(model.asked.take());
            while let Some((Some(identifier), _)) = outbox.take_next(u32::MAX, Reached::ALL, true) {
                let sequence = model.waiting.pop_front().expect("it waited");
                prop_assert_eq!(identifier, identifier_of(sequence));
                outbox.handle_puback(identifier);
                model.settle(outbox.take_settled().expect("stored"));
            }
        }
        prop_assert!(model.waiting.is_empty() && model.stored.is_empty());
        prop_assert_eq!(outbox.queued_bytes(), 0);
    }

    #[test]
    fn the_window_agrees_with_a_model(steps in prop::collection::vec((0u8..7, 0u8..40), 1..400)) {
        let mut outbox = Outbox::default();
        let mut model: Vec<(PacketIdentifier, QoS, bool)> = Vec::new();
        for (step, pick) in steps {
            let picked = (!model.is_empty()).then(|| pick as usize % model.len().max(1));
            match step {
                0 => outbox.push(delivery(QoS::AtLeastOnce), None),
                1 => outbox.push(delivery(QoS::ExactlyOnce), None),
                2 => if let Some((Some(identifier), sent)) = outbox.take_next(8, Reached::ALL, true) {
                    prop_assert!(model.iter().all(|entry| entry.0 != identifier));
                    model.push((identifier, sent.qos, false));
                },
                3 => if let Some(index) = picked {
                    let (identifier, qos, _) = model[index];
                    let completed = outbox.handle_puback(identifier) == Acknowledged::Completed;
                    prop_assert_eq!(completed, qos == QoS::AtLeastOnce);
                    if completed { model.remove(index); }
                },
                4 => if let Some(index) = picked {
                    let (identifier, qos, _) = model[index];
                    let released = outbox.handle_pubrec(identifier, false) == Acknowledged::Release;
                    prop_assert_eq!(released, qos == QoS::ExactlyOnce);
                    model[index].2 |= released;
                },
                5 => if let Some(index) = picked {
                    let (identifier, _, released) = model[index];
                    let completed = outbox.handle_pubcomp(identifier) == Acknowledged::Completed;
                    prop_assert_eq!(completed, released);
                    if completed { model.remove(index); }
                },
                _ => {}
            }
            outbox.check_invariants();
            prop_assert_eq!(outbox.unacknowledged() as usize, model.len());
            if step == 6 {
                let expected: Vec<_> = model.iter().map(|entry| (entry.0, entry.2)).collect();
                prop_assert_eq!(resend_all(&mut outbox), expected);
                // A release that is sent again counts no more; the model has no quota for those.
                model.retain(|entry| {
                    if entry.2 { outbox.handle_pubcomp(entry.0); }
                    !entry.2
                });
            }
        }
    }
}
