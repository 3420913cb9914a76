//! SUBSCRIBE and UNSUBSCRIBE, and what overlapping subscriptions get.

use super::kit::{Broker, V5, V31, V311, durable, encoded, identifier_of, options, publish};
use crate::mqtt::{Connect, Publish, Subscribe, SubscriptionOptions, TopicFilter};

fn subscribe(filters: &[(&str, u8)]) -> Vec<(TopicFilter<'static>, SubscriptionOptions)> {
    let filter = |text: &str| TopicFilter::parse(String::leak(text.to_owned())).expect("a filter");
    filters.iter().map(|&(text, qos)| (filter(text), options(qos))).collect()
}

#[test]
fn each_filter_is_granted_or_refused_by_itself() {
    let change = |config: &mut crate::config::Config| {
        config.mqtt.topic_bytes_max = 12;
        config.mqtt.topic_levels_max = 3;
        config.mqtt.maximum_qos = 1;
    };
    let mut filters = subscribe(&[("a", 0), ("a/+", 1), ("#", 2), ("thirteenbytes", 0), ("a/b/c/d", 1), ("a/b/c", 1)]);
    let mut broker = Broker::with(1, change);
    let client = broker.connect("c", V5);
    broker.send(client, Subscribe::new(identifier_of(5), &filters));
    let told = "SUBACK 5 [Success, GrantedQoS1, GrantedQoS1, TopicFilterInvalid, TopicFilterInvalid, GrantedQoS1] +why";
    assert_eq!(broker.take(client), [told]);
    let old = broker.connect("old", V311);
    broker.send(old, Subscribe::new(identifier_of(5), &filters));
    let told = broker.take(old).join("");
    assert_eq!(told.matches("UnspecifiedError").count(), 2, "{told}");
    // 3.1 knows no refusal: the client is let go rather than told that all is well.
    let oldest = broker.connect("oldest", V31);
    broker.send(oldest, Subscribe::new(identifier_of(5), &filters));
    assert_eq!(broker.take(oldest), ["closed"]);
    filters.truncate(3);
    let oldest = broker.connect("oldest", V31);
    broker.send(oldest, Subscribe::new(identifier_of(5), &filters));
    assert_eq!(broker.take(oldest), ["SUBACK 5 [Success, GrantedQoS1, GrantedQoS1]"]);
}

#[test]
fn a_filter_that_is_none_is_refused_alone() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    let packet = [0x82, 12, 0, 1, 0, 0, 2, b'a', b'#', 0, 0, 1, b't', 1];
    broker.send_bytes(client, &packet);
    assert_eq!(broker.take(client), ["SUBACK 1 [TopicFilterInvalid, GrantedQoS1] +why"]);
    let packet = [0xA2, 10, 0, 2, 0, 0, 2, b'a', b'#', 0, 1, b't'];
    broker.send_bytes(client, &packet);
    assert_eq!(broker.take(client), ["UNSUBACK 2 [TopicFilterInvalid, Success]"]);
}

#[test]
fn what_is_not_available_is_refused_by_name() {
    let mut broker = Broker::with(1, |config| {
        config.mqtt.wildcard_available = false;
        config.mqtt.shared_available = false;
    });
    let client = broker.connect("c", V5);
    let filters = subscribe(&[("a/+", 0), ("#", 0), ("$share/g/a", 0), ("a", 0)]);
    broker.send(client, Subscribe::new(identifier_of(1), &filters));
    assert_eq!(
        broker.take(client),
        ["SUBACK 1 [WildcardSubscriptionsNotSupported, WildcardSubscriptionsNotSupported, \
          SharedSubscriptionsNotSupported, Success] +why"]
    );
    broker.publish(client, "a", "m");
    assert_eq!(broker.take(client), ["PUBLISH q0 a=m"]);
}

#[test]
fn filters_per_client_are_bounded_and_replacing_one_is_always_allowed() {
    let mut broker = Broker::with(1, |config| config.mqtt.filters_per_client_max = 2);
    let client = broker.connect("c", V5);
    broker.subscribe(client, "a", 0);
    broker.subscribe(client, "$share/g/b", 0);
    let filters = subscribe(&[("c", 0), ("a", 1), ("$share/g/b", 1), ("$share/h/b", 1)]);
    broker.send(client, Subscribe::new(identifier_of(1), &filters));
    assert_eq!(broker.take(client), ["SUBACK 1 [QuotaExceeded, GrantedQoS1, GrantedQoS1, QuotaExceeded] +why"]);
    broker.unsubscribe(client, "$share/g/b");
    assert_eq!(broker.take(client), ["UNSUBACK 60001 [Success]"]);
    broker.subscribe(client, "c", 0);
    let other = broker.connect("other", V5);
    broker.subscribe(other, "d", 0);
}

#[test]
fn an_unsubscribe_takes_the_filter_named_and_no_other() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    let other = broker.connect("o", V5);
    for filter in ["a", "a/+", "$share/g/a"] {
        broker.subscribe(client, filter, 0);
    }
    broker.subscribe(other, "a", 0);
    broker.subscribe(other, "b", 0);
    let none = ["b", "+/a", "$share/h/a", "a/#"].map(|filter| TopicFilter::parse(filter).unwrap());
    broker.send(client, crate::mqtt::Unsubscribe::new(identifier_of(4), &none));
    let told = broker.take(client).join("");
    assert_eq!(told.matches("NoSubscriptionExisted").count(), 4, "{told}");
    broker.publish(other, "a", "m");
    assert_eq!(broker.take(client), ["PUBLISH q0 a=m", "PUBLISH q0 a=m"], "its own and its group's");
    broker.unsubscribe(client, "$share/g/a");
    broker.take(client);
    broker.publish(other, "a", "m");
    assert_eq!(broker.take(client), ["PUBLISH q0 a=m"]);
    broker.unsubscribe(client, "a");
    broker.take(client);
    broker.publish(other, "a", "m");
    assert!(broker.take(client).is_empty());
    broker.publish(other, "a/b", "m");
    assert_eq!(broker.take(client), ["PUBLISH q0 a/b=m"]);
    assert_eq!(broker.take(other).len(), 3);
    broker.unsubscribe(client, "a");
    assert_eq!(broker.take(client), ["UNSUBACK 60001 [NoSubscriptionExisted]"]);
}

#[test]
fn an_identifier_of_an_open_qos_2_exchange_is_in_use() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    broker.send(client, publish(2, 5, "t", "m"));
    broker.take(client);
    broker.send(client, Subscribe::new(identifier_of(5), &subscribe(&[("a", 0), ("b", 0)])));
    let filters = [TopicFilter::parse("a").unwrap()];
    broker.send(client, crate::mqtt::Unsubscribe::new(identifier_of(5), &filters));
    assert_eq!(
        broker.take(client),
        ["SUBACK 5 [PacketIdentifierInUse, PacketIdentifierInUse] +why", "UNSUBACK 5 [PacketIdentifierInUse]"]
    );
    broker.publish(client, "a", "m");
    assert!(broker.take(client).is_empty());
}

#[test]
fn overlapping_subscriptions_give_one_copy_with_the_highest_qos_and_all_identifiers() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    let old = broker.connect("old", V311);
    let plain = broker.connect("plain", V5);
    broker.subscribe_with(client, "a/b", options(0), 3);
    broker.subscribe_with(client, "a/+", options(1), 0);
    broker.subscribe_with(client, "#", options(0), 9);
    broker.subscribe(old, "a/b", 1);
    broker.subscribe(old, "a/#", 0);
    broker.subscribe_with(plain, "a/b", options(1), 7);
    broker.send(plain, publish(2, 1, "a/b", "m"));
    assert_eq!(broker.take(plain), ["PUBLISH q1 id=1 a/b=m ids=[7]", "PUBREC 1"]);
    let told = broker.take(client);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("PUBLISH q1 id=1 a/b=m ids=["), "{told:?}");
    assert!(told[0].contains('3') && told[0].contains('9') && !told[0].contains('0'), "{told:?}");
    assert_eq!(broker.take(old), ["PUBLISH q1 id=1 a/b=m"]);
    // At QoS 0 it is one frame as well.
    broker.publish(plain, "a/b", "z");
    assert_eq!(broker.take(client).len(), 1);
    assert_eq!(broker.take(old), ["PUBLISH q0 a/b=z"]);
    broker.publish(plain, "x", "m");
    assert_eq!(broker.take(client), ["PUBLISH q0 x=m ids=[9]"]);
}

#[test]
fn a_subscription_is_replaced_with_its_identifier_qos_and_flags() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    let other = broker.connect("o", V5);
    broker.subscribe_with(client, "t", SubscriptionOptions { retain_as_published: true, ..options(1) }, 4);
    let retained = Publish { retain: true, ..publish(1, 1, "t", "m") };
    broker.send(other, retained);
    assert_eq!(broker.take(client), ["PUBLISH q1 id=1 retain t=m ids=[4]"]);
    broker.subscribe_with(client, "t", options(0), 0);
    assert_eq!(broker.take(client), ["PUBLISH q0 retain t=m"], "the retained message comes again");
    broker.send(other, retained);
    assert_eq!(broker.take(client), ["PUBLISH q0 t=m"]);
}

#[test]
fn the_same_filter_twice_in_one_packet_is_one_subscription_with_the_last_options() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    broker.send(client, Subscribe::new(identifier_of(1), &subscribe(&[("t", 0), ("t", 1)])));
    assert_eq!(broker.take(client), ["SUBACK 1 [Success, GrantedQoS1]"]);
    broker.send(client, publish(1, 1, "t", "m"));
    assert_eq!(broker.take(client), ["PUBLISH q1 id=1 t=m", "PUBACK 1"]);
    broker.unsubscribe(client, "t");
    broker.take(client);
    broker.publish(client, "t", "m");
    assert!(broker.take(client).is_empty());
}

#[test]
fn overlapping_subscriptions_with_no_local_hide_only_their_own_part() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    let other = broker.connect("o", V5);
    broker.subscribe_with(client, "t", SubscriptionOptions { no_local: true, ..options(1) }, 1);
    broker.subscribe_with(client, "+", SubscriptionOptions { retain_as_published: true, ..options(0) }, 2);
    let retained = Publish { retain: true, ..publish(1, 1, "t", "m") };
    broker.send(client, retained);
    assert_eq!(broker.take(client), ["PUBLISH q0 retain t=m ids=[2]", "PUBACK 1"]);
    broker.send(other, retained);
    let told = broker.take(client).join("");
    assert!(told.starts_with("PUBLISH q1 id=1 retain t=m ids=["), "{told}");
}

#[test]
fn a_bridge_gets_nothing_back_and_retain_as_it_was_published() {
    let mut broker = Broker::new(1);
    let bridge = broker.connect_as(Connect { bridge: true, ..Connect::new(V311, "bridge") });
    let other = broker.connect("o", V311);
    broker.subscribe(bridge, "t", 0);
    broker.publish(bridge, "t", "m");
    assert!(broker.take(bridge).is_empty());
    broker.publish_retained(other, "t", "r");
    assert_eq!(broker.take(bridge), ["PUBLISH q0 retain t=r"]);
    broker.subscribe(other, "t", 0);
    assert_eq!(broker.take(other), ["PUBLISH q0 retain t=r"]);
    broker.publish_retained(bridge, "t", "s");
    assert_eq!(broker.take(other), ["PUBLISH q0 t=s"], "RETAIN is not passed on to others");
}

#[test]
fn a_suback_that_is_larger_than_the_client_takes_loses_its_text_and_then_the_client() {
    let mut broker = Broker::with(1, |config| config.mqtt.topic_bytes_max = 3);
    let mut connect = Connect::new(V5, "c");
    connect.properties.maximum_packet_size = std::num::NonZeroU32::new(13);
    let client = broker.connect_as(connect);
    broker.send(client, Subscribe::new(identifier_of(1), &subscribe(&[("a", 0), ("four", 0)])));
    assert_eq!(broker.take(client), ["SUBACK 1 [Success, TopicFilterInvalid]"]);
    broker.send(client, Subscribe::new(identifier_of(1), &subscribe(&[("a", 0); 9])));
    assert_eq!(broker.take(client), ["DISCONNECT ImplementationSpecificError", "closed"]);
}

#[test]
fn subscriptions_end_with_their_session_and_leave_no_interest() {
    let mut broker = Broker::new(2);
    let (near, far) = (broker.client_id_at(0, "n"), broker.client_id_at(1, "f"));
    let publisher = broker.connect(&near, V5);
    for end in ["unsubscribe", "expire", "clean"] {
        let subscriber = broker.connect_as(durable(V5, &far, 10));
        broker.subscribe(subscriber, "a/b", 0);
        broker.subscribe(subscriber, "a/+/#", 0);
        broker.subscribe(subscriber, "$share/g/a/b", 0);
        broker.send(publisher, publish(1, 1, "a/b", "m"));
        assert_eq!(broker.take(publisher), ["PUBACK 1"]);
        match end {
            "unsubscribe" => ["a/b", "a/+/#", "$share/g/a/b"].iter().for_each(|f| broker.unsubscribe(subscriber, f)),
            "expire" => {
                broker.hang_up(subscriber);
                broker.after_s(11);
            }
            _ => {
                broker.connect(&far, V5);
            }
        }
        broker.send(publisher, publish(1, 2, "a/b", "m"));
        assert_eq!(broker.take(publisher), ["PUBACK 2 NoMatchingSubscribers"], "{end}");
    }
}

#[test]
fn a_ping_between_packets_is_answered_in_its_place() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    let mut bytes = encoded(Subscribe::new(identifier_of(1), &subscribe(&[("t", 1)])), V5);
    bytes.extend([0xC0, 0]);
    bytes.extend(encoded(publish(1, 1, "t", "m"), V5));
    broker.send_bytes(client, &bytes);
    assert_eq!(broker.take(client), ["SUBACK 1 [GrantedQoS1]", "PINGRESP", "PUBLISH q1 id=1 t=m", "PUBACK 1"]);
}
