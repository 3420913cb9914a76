//! Retained messages: what is kept, for how long, and who is sent it.

use std::time::Duration;

use super::kit::{Broker, V5, V311, durable, identifier_of, options, publish};
use crate::{
    message::{ApplicationMessage, Envelope, Stamp},
    mqtt::{AckKind, Publish, PublishProperties, QoS, RetainHandling, Subscribe, SubscriptionOptions, TopicFilter},
    time::Moment,
};

fn retained<'a>(qos: u8, topic: &'a str, payload: &'a str) -> Publish<'a> {
    Publish { retain: true, ..publish(qos, 1, topic, payload) }
}

fn expiring<'a>(topic: &'a str, seconds: u32) -> Publish<'a> {
    let properties = PublishProperties { message_expiry_interval: Some(seconds), ..PublishProperties::default() };
    Publish { properties, ..retained(0, topic, "m") }
}

/// Messages and bytes that are retained, by all shards' count.
fn kept(broker: &Broker) -> (u64, u64) {
    (broker.shared.retained_messages.now(), broker.shared.retained_bytes.now())
}

#[test]
fn the_last_message_is_kept_and_an_empty_one_clears() {
    let mut broker = Broker::new(1);
    let publisher = broker.connect("p", V5);
    for (number, (payload, told)) in [("one", Some("one")), ("two", Some("two")), ("", None)].into_iter().enumerate() {
        broker.publish_retained(publisher, "t", payload);
        let subscriber = broker.connect(&format!("s{number}"), V5);
        broker.subscribe(subscriber, "t", 0);
        let expected: Vec<String> = told.iter().map(|payload| format!("PUBLISH q0 retain t={payload}")).collect();
        assert_eq!(broker.take(subscriber), expected);
        assert_eq!(kept(&broker), if told.is_some() { (1, 1 + 3 + 128) } else { (0, 0) });
        broker.hang_up(subscriber);
    }
    broker.publish(publisher, "t", "not retained");
    assert_eq!(kept(&broker), (0, 0));
}

#[test]
fn a_live_message_has_no_retain_flag_and_clearing_is_delivered_too() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V311);
    broker.subscribe(client, "t", 0);
    broker.publish_retained(client, "t", "m");
    broker.publish_retained(client, "t", "");
    assert_eq!(broker.take(client), ["PUBLISH q0 t=m", "PUBLISH q0 t="]);
}

#[test]
fn it_comes_with_the_lower_qos_and_the_identifier_of_the_subscription() {
    for published in 0..=2 {
        for granted in 0..=2 {
            let mut broker = Broker::new(1);
            let publisher = broker.connect("p", V5);
            broker.send(publisher, retained(published, "t", "m"));
            let subscriber = broker.connect("s", V5);
            broker.subscribe_with(subscriber, "+", options(granted), 5);
            let id = if published.min(granted) > 0 { " id=1" } else { "" };
            let told = format!("PUBLISH q{}{id} retain t=m ids=[5]", published.min(granted));
            assert_eq!(broker.take(subscriber), [told]);
        }
    }
}

#[test]
fn retain_handling_says_when_it_is_sent() {
    let table = [
        (RetainHandling::SendAtSubscribe, true, true),
        (RetainHandling::SendIfNew, true, false),
        (RetainHandling::DoNotSend, false, false),
    ];
    for (retain_handling, at_first, again) in table {
        let mut broker = Broker::new(1);
        let client = broker.connect("c", V5);
        broker.publish_retained(client, "t", "m");
        let asked = SubscriptionOptions { retain_handling, ..options(0) };
        for sent in [at_first, again] {
            broker.subscribe_with(client, "t", asked, 0);
            assert_eq!(broker.take(client).len(), usize::from(sent), "{retain_handling:?}");
        }
        broker.unsubscribe(client, "t");
        broker.take(client);
        broker.subscribe_with(client, "t", asked, 0);
        assert_eq!(broker.take(client).len(), usize::from(at_first), "{retain_handling:?}: new again");
    }
}

#[test]
fn each_filter_of_a_subscribe_asks_for_its_own_after_suback() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    for topic in ["a/1", "a/2", "b"] {
        broker.publish_retained(client, topic, "m");
    }
    let filters = ["a/+", "b", "c", "$share/g/b"].map(|filter| (TopicFilter::parse(filter).unwrap(), options(0)));
    broker.send(client, Subscribe::new(identifier_of(1), &filters));
    let mut told = broker.take(client);
    assert_eq!(told.remove(0), "SUBACK 1 [Success, Success, Success, Success]");
    told.sort();
    let expected = ["PUBLISH q0 retain a/1=m", "PUBLISH q0 retain a/2=m", "PUBLISH q0 retain b=m"];
    assert_eq!(told, expected, "and nothing for the share group");
}

#[test]
fn it_expires_counted_from_its_receipt_and_its_memory_is_freed() {
    let mut broker = Broker::new(1);
    let publisher = broker.connect("p", V5);
    broker.send(publisher, expiring("t", 30));
    broker.publish_retained(publisher, "u", "m");
    broker.after_s(20);
    let subscriber = broker.connect("s", V5);
    broker.subscribe(subscriber, "t", 0);
    assert_eq!(broker.take(subscriber), ["PUBLISH q0 retain t=m expiry=10"]);
    assert_eq!(kept(&broker).0, 2);
    broker.jump(Duration::from_millis(9_999));
    broker.subscribe(subscriber, "t", 0);
    assert_eq!(broker.take(subscriber), ["PUBLISH q0 retain t=m expiry=1"]);
    broker.now = broker.now.after(Duration::from_millis(1));
    for filter in ["t", "+"] {
        broker.subscribe(subscriber, filter, 0);
        let told = broker.take(subscriber).join("");
        assert!(!told.contains("t=m"), "expired, swept or not: {told}");
    }
    broker.after_s(15);
    assert_eq!(kept(&broker), (1, 130));
}

#[test]
fn the_sweep_frees_any_number_in_slices() {
    let mut broker = Broker::new(1);
    let publisher = broker.connect("p", V5);
    for number in 0..2500 {
        broker.send(publisher, expiring(&format!("t/{number}"), 5));
    }
    broker.publish_retained(publisher, "stays", "m");
    assert_eq!(kept(&broker).0, 2501);
    broker.after(Duration::from_millis(10_050));
    let (left, _) = kept(&broker);
    assert!(left > 1 && left < 2501, "{left} after one slice");
    broker.after_s(1);
    assert_eq!(kept(&broker), (1, 5 + 1 + 128));
    broker.send(publisher, expiring("later", 1));
    broker.after_s(21);
    assert_eq!(kept(&broker).0, 1, "the sweep goes on");
}

#[test]
fn more_than_is_configured_is_delivered_and_not_retained() {
    let mut broker = Broker::with(1, |config| config.mqtt.retained_messages_max = 1);
    let publisher = broker.connect("p", V5);
    let subscriber = broker.connect("s", V5);
    broker.subscribe(subscriber, "+", 0);
    broker.send(publisher, retained(1, "a", "m"));
    broker.send(publisher, retained(1, "b", "m"));
    broker.send(publisher, retained(1, "a", "n"));
    assert_eq!(broker.take(publisher), ["PUBACK 1", "PUBACK 1 QuotaExceeded +why", "PUBACK 1"]);
    assert_eq!(broker.take(subscriber), ["PUBLISH q0 a=m", "PUBLISH q0 b=m", "PUBLISH q0 a=n"]);
    assert_eq!(broker.counters(0).retained_refused, 1);
    broker.subscribe(subscriber, "+", 0);
    assert_eq!(broker.take(subscriber), ["PUBLISH q0 retain a=n"]);
    broker.send(publisher, retained(0, "a", ""));
    broker.send(publisher, retained(1, "b", "m"));
    assert_eq!(broker.take(publisher), ["PUBACK 1"], "there is room again");
}

#[test]
fn retained_bytes_are_bounded_and_what_is_replaced_makes_room() {
    // Topic and payload of 10 bytes and 128 on top: room for two of them.
    let mut broker = Broker::with(1, |config| config.mqtt.retained_bytes_max = 276);
    let publisher = broker.connect("p", V5);
    broker.send(publisher, retained(1, "a", "123456789"));
    broker.send(publisher, retained(1, "b", "123456789"));
    assert_eq!(kept(&broker), (2, 276));
    broker.take(publisher);
    broker.send(publisher, retained(1, "c", "1"));
    broker.send(publisher, retained(1, "a", "1234567890"));
    let refused = "PUBACK 1 QuotaExceeded +why";
    assert_eq!(broker.take(publisher), [refused, refused]);
    assert_eq!(kept(&broker), (2, 276));
    broker.send(publisher, retained(1, "a", "987654321"));
    broker.send(publisher, retained(1, "b", "1"));
    assert_eq!(broker.take(publisher).len(), 2);
    assert_eq!(kept(&broker), (2, 268));
    assert_eq!(broker.counters(0).retained_refused, 2);
}

#[test]
fn a_refused_qos_2_message_leaves_its_identifier_free() {
    for shards in [1, 2] {
        let mut broker = Broker::with(shards, |config| config.mqtt.retained_messages_max = 0);
        let name = broker.client_id_at(0, "p");
        let topic = broker.topic_at(shards - 1, "t");
        let client = broker.connect(&name, V5);
        broker.subscribe(client, "#", 2);
        broker.send(client, retained(2, &topic, "first"));
        let told = broker.take(client);
        assert!(told.contains(&"PUBREC 1 QuotaExceeded +why".to_owned()), "{told:?}");
        // [v5 MQTT-4.3.3-9] The exchange is over, so this is another message.
        broker.send(client, publish(2, 1, &topic, "second"));
        assert_eq!(broker.take(client), [format!("PUBLISH q2 id=2 {topic}=second"), "PUBREC 1".to_owned()]);
        broker.ack(client, AckKind::PubRel, 1);
        assert_eq!(broker.take(client), ["PUBCOMP 1"]);
    }
}

#[test]
fn an_answer_of_many_messages_comes_in_slices_and_waits_for_a_slow_client() {
    let mut broker = Broker::new(2);
    let names = [0, 1].map(|shard| broker.client_id_at(shard, "c"));
    let publisher = broker.connect(&names[0], V5);
    let payload = "p".repeat(2000);
    let topics: Vec<String> = (0..300).map(|number| format!("t/{number}")).collect();
    for topic in &topics {
        broker.publish_retained(publisher, topic, &payload);
    }
    let slow = broker.connect(&names[1], V5);
    broker.reads(slow, false);
    broker.send(slow, Subscribe::new(identifier_of(1), &[(TopicFilter::parse("t/#").unwrap(), options(0))]));
    let told = broker.take(slow).len();
    assert!(told < 2, "one send is under way: {told}");
    broker.after_s(5);
    assert_eq!(broker.counters(1).deliveries[0], 128, "a slice from each shard");
    assert_eq!(broker.counters(1).dropped_out_buffer_full, 0);
    broker.reads(slow, true);
    let mut told = broker.take(slow);
    told.retain(|line| line.starts_with("PUBLISH q0 retain t/"));
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 300);
}

#[test]
fn a_question_is_forgotten_with_its_subscription_or_session() {
    for end in ["unsubscribe", "another filter", "expire"] {
        let mut broker = Broker::new(1);
        let publisher = broker.connect("p", V5);
        let payload = "p".repeat(2000);
        (0..200).for_each(|number| broker.publish_retained(publisher, &format!("t/{number}"), &payload));
        let slow = broker.connect_as(durable(V5, "slow", 5));
        broker.reads(slow, false);
        broker.send(slow, Subscribe::new(identifier_of(1), &[(TopicFilter::parse("t/#").unwrap(), options(0))]));
        let delivered = broker.counters(0).deliveries[0];
        match end {
            "unsubscribe" => broker.unsubscribe(slow, "t/#"),
            "another filter" => broker.unsubscribe(slow, "t/+"),
            _ => {
                broker.hang_up(slow);
                broker.after_s(6);
                let other = broker.connect("other", V5);
                broker.reads(other, true);
            }
        }
        if end != "expire" {
            broker.reads(slow, true);
        }
        let more = broker.counters(0).deliveries[0] - delivered;
        assert_eq!(more > 0, end == "another filter", "{end}: {more}");
    }
}

#[test]
fn a_live_message_makes_an_older_answer_void() {
    let mut broker = Broker::new(2);
    let name = broker.client_id_at(0, "publisher");
    let topic = broker.topic_at(1, "t");
    let publisher = broker.connect(&name, V5);
    broker.publish_retained(publisher, &topic, "old");
    let asker = broker.connect(&broker.client_id_at(0, "asker"), V5);
    broker.mesh_is_held = true;
    broker.write(asker, Subscribe::new(identifier_of(1), &[(TopicFilter::parse(&topic).unwrap(), options(0))]));
    broker.settle();
    assert_eq!(broker.take(asker), ["SUBACK 1 [Success]"]);
    broker.now = broker.now.after(Duration::from_micros(5));
    // The question is on its way; so is the new message, behind it, to the topic's home.
    broker.publish_retained(publisher, &topic, "new");
    assert_eq!(broker.take(asker), [format!("PUBLISH q0 {topic}=new")]);
    broker.mesh_is_held = false;
    broker.settle();
    let told = broker.take(asker);
    assert!(told.iter().all(|line| line.ends_with("=new")), "never back in time: {told:?}");
}

#[test]
fn an_older_publication_that_arrives_late_changes_nothing() {
    let mut broker = Broker::new(2);
    let topic = broker.topic_at(1, "t");
    let (near, far) = (broker.client_id_at(1, "near"), broker.client_id_at(0, "far"));
    let (near, far) = (broker.connect(&near, V5), broker.connect(&far, V5));
    for (older, newer) in [("older", "newer"), ("", "stays"), ("comes too late", "")] {
        broker.mesh_is_held = true;
        broker.publish_retained(far, &topic, older);
        broker.now = broker.now.after(Duration::from_micros(5));
        broker.publish_retained(near, &topic, newer);
        broker.mesh_is_held = false;
        broker.settle();
        broker.subscribe(near, &topic, 0);
        let expected: Vec<String> =
            (!newer.is_empty()).then(|| format!("PUBLISH q0 retain {topic}={newer}")).into_iter().collect();
        assert_eq!(broker.take(near), expected, "{older} before {newer}");
        broker.unsubscribe(near, &topic);
        broker.take(near);
        let bytes = if newer.is_empty() { 0 } else { (topic.len() + newer.len() + 128) as u64 };
        assert_eq!(kept(&broker), (expected.len() as u64, bytes));
    }
}

#[test]
fn what_is_published_after_the_clock_was_set_back_takes_the_place_of_what_was_kept() {
    let mut broker = Broker::new(2);
    let topic = broker.topic_at(0, "t");
    let now = broker.now;
    let mut kept = retained_at(&topic, now.after(Duration::from_secs(3600)));
    for shard in &mut broker.shards {
        shard.stamp_behind(Moment::from_micros(kept.envelope.stamp.micros), now);
    }
    kept.envelope.stamp.counter = u32::MAX;
    broker.shards[0].restore_retained(kept, now);
    // Through the other shard, then here, then there again.
    for (number, shard) in [1, 0, 1].into_iter().enumerate() {
        broker.now = broker.now.after(Duration::from_micros(1));
        let publisher = broker.client_id_at(shard, &format!("p{number}"));
        let publisher = broker.connect(&publisher, V5);
        let payload = format!("new-{number}");
        broker.publish_retained(publisher, &topic, &payload);
        let subscriber = broker.connect(&format!("s{number}"), V5);
        broker.subscribe(subscriber, &topic, 0);
        assert_eq!(broker.take(subscriber), [format!("PUBLISH q0 retain {topic}={payload}")]);
    }
}

/// A message that was retained at `moment`.
fn retained_at(topic: &str, moment: Moment) -> ApplicationMessage {
    let envelope = Envelope {
        retain: true,
        stamp: Stamp { micros: moment.micros(), counter: 1, shard: 0 },
        ..Envelope::of(QoS::AtMostOnce)
    };
    ApplicationMessage::new(topic, &[], b"old", envelope)
}
