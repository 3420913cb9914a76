//! Publications that come alike and together reach subscribers as those that come one by one.

use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use proptest::prelude::*;

use super::kit::{Broker, Client, V5, V31, V311, durable, encoded, options, publish};
use crate::{
    config::Config,
    mqtt::{
        Connect, ProtocolVersion, Publish, PublishProperties,
        frame::{Peek, peek},
    },
    shard::{Counters, MeshMessage, RANK_DELIVERY},
};

/// What a subscriber is, and how it subscribes.
#[derive(Clone, Debug)]
struct Wish {
    version: ProtocolVersion,
    kind: Kind,
    filter: &'static str,
    qos: u8,
    identifier: u32,
    /// The shard where it is at home. The publisher is at 0.
    home: u16,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    /// Its session outlives its connection.
    Durable,
    /// It is not connected any more.
    Away,
    /// It takes packets of so many bytes.
    Limited(u32),
    /// It takes aliases.
    Aliased,
    /// It takes so many messages before it has answered.
    Windowed(u16),
    /// It reads nothing of what it is sent meanwhile.
    Slow,
}

/// Publications behind one another that may differ in how often there is one.
#[derive(Clone, Debug)]
struct Burst {
    topic: &'static str,
    qos: u8,
    retain: bool,
    expiry_s: Option<u32>,
    /// They take turns.
    properties: [Option<&'static str>; 2],
    payload_bytes: Vec<usize>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let kind = prop_oneof![
        4 => Just(Kind::Plain),
        1 => Just(Kind::Durable),
        1 => Just(Kind::Away),
        1 => (20_u32..60).prop_map(Kind::Limited),
        1 => Just(Kind::Aliased),
        2 => (1_u16..20).prop_map(Kind::Windowed),
        2 => Just(Kind::Slow),
    ];
    let filter = prop_oneof![8 => Just("a/b"), 2 => Just("a/#"), 1 => Just("c"), 1 => Just("$share/group/a/b"), 1 => Just("$share/other/a/b")];
    let version = prop_oneof![Just(V31), Just(V311), Just(V5)];
    (version, kind, filter, 0_u8..3, 0_u32..3, 0..SHARDS).prop_map(|(version, kind, filter, qos, identifier, home)| {
        Wish { version, kind, filter, qos, identifier: if version == V5 { identifier } else { 0 }, home }
    })
}

fn burst() -> impl Strategy<Value = Burst> {
    let topic = prop_oneof![6 => Just("a/b"), 1 => Just("c")];
    let properties =
        prop_oneof![3 => Just([None; 2]), 1 => Just([Some("one"); 2]), 1 => Just([Some("one"), Some("two")])];
    let expiry_s = prop_oneof![4 => Just(None), 1 => Just(Some(EXPIRY_S))];
    let payload_bytes = prop_oneof![Just(7_usize), Just(0), Just(30), 0_usize..3000];
    let payloads = (payload_bytes, 1_usize..30).prop_map(|(len, count)| vec![len; count]);
    let mixed = prop::collection::vec(prop_oneof![Just(5_usize), Just(6)], 1..10);
    let payload_bytes = prop_oneof![3 => payloads, 1 => mixed];
    (topic, 0_u8..3, prop::bool::weighted(0.1), expiry_s, properties, payload_bytes).prop_map(
        |(topic, qos, retain, expiry_s, properties, payload_bytes)| Burst {
            topic,
            qos,
            retain,
            expiry_s,
            properties,
            payload_bytes,
        },
    )
}

fn client_id_of(broker: &Broker, wish: &Wish, number: usize) -> String {
    broker.client_id_at(wish.home, &format!("subscriber-{number}-"))
}

fn subscriber(broker: &mut Broker, wish: &Wish, number: usize) -> Client {
    let client_id = client_id_of(broker, wish, number);
    let mut connect = match wish.kind {
        Kind::Durable | Kind::Away => durable(wish.version, &client_id, 1000),
        _ => Connect::new(wish.version, &client_id),
    };
    if wish.version == V5 {
        match wish.kind {
            Kind::Limited(bytes) => connect.properties.maximum_packet_size = NonZeroU32::new(bytes),
            Kind::Aliased => connect.properties.topic_alias_maximum = 1,
            Kind::Windowed(messages) => connect.properties.receive_maximum = NonZeroU16::new(messages),
            _ => {}
        }
    }
    let client = broker.connect_as(connect);
    broker.subscribe_with(client, wish.filter, options(wish.qos), wish.identifier);
    match wish.kind {
        Kind::Away => broker.hang_up(client),
        Kind::Slow => broker.reads(client, false),
        _ => {}
    }
    client
}

/// What subscribers are told, and what is counted. Publications cross `late_s` seconds after they came; `apart`: each comes
/// and crosses alone.
fn told(wishes: &[Wish], bursts: &[Burst], late_s: u64, apart: bool) -> (Vec<Vec<String>>, Vec<Counters>) {
    let mut broker = Broker::with(SHARDS, |config| {
        config.mqtt.out_buffer_bytes_max = 4096;
        config.mqtt.queue_messages_max = 50;
        config.mqtt.topic_alias_out_max = 1;
    });
    let subscribers: Vec<Client> =
        wishes.iter().enumerate().map(|(number, wish)| subscriber(&mut broker, wish, number)).collect();
    let publisher_id = broker.client_id_at(0, "publisher");
    let publisher = broker.connect(&publisher_id, V5);
    // Is under way to those who do not read it.
    for topic in ["a/b", "c"] {
        broker.publish(publisher, topic, &" ".repeat(1500));
    }
    broker.mesh_is_held = true;
    let mut packet_identifier = 0;
    let mut input = Vec::new();
    for burst in bursts {
        for (&len, property) in burst.payload_bytes.iter().zip(burst.properties.iter().cycle()) {
            packet_identifier += 1;
            let payload = format!("{packet_identifier:>len$}");
            let properties = PublishProperties {
                message_expiry_interval: burst.expiry_s,
                content_type: *property,
                ..PublishProperties::default()
            };
            let packet = Publish {
                properties,
                retain: burst.retain,
                ..publish(burst.qos, packet_identifier, burst.topic, &payload)
            };
            input.extend(encoded(packet, V5));
        }
    }
    broker.packets_come_apart = apart;
    broker.send_bytes(publisher, &input);
    if apart {
        for shard in 1..SHARDS {
            let waiting = broker.mesh.entry((shard, 0, RANK_DELIVERY)).or_default();
            *waiting = std::mem::take(waiting)
                .into_iter()
                .flat_map(|message| match message {
                    MeshMessage::Parcel(parcel) => parcel.apart().into_iter().map(MeshMessage::Parcel).collect(),
                    other => vec![other],
                })
                .collect();
        }
    }
    broker.jump(Duration::from_secs(late_s));
    broker.mesh_is_held = false;
    broker.settle();
    for (wish, &client) in wishes.iter().zip(&subscribers) {
        if matches!(wish.kind, Kind::Slow) {
            broker.reads(client, true);
        }
    }
    let mut told: Vec<Vec<String>> = subscribers.iter().map(|&client| broker.take(client)).collect();
    for (number, wish) in wishes.iter().enumerate() {
        if let Kind::Durable | Kind::Away = wish.kind {
            let client_id = client_id_of(&broker, wish, number);
            let client = broker.ask(durable(wish.version, &client_id, 1000));
            told[number].extend(broker.take(client));
        }
    }
    (told, (0..SHARDS).map(|shard| *broker.counters(shard)).collect())
}

/// The packets of `bytes`, and what is left behind them.
pub(super) fn packets_of(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut packets = Vec::new();
    while let Ok(Peek::Complete(header)) = peek(bytes, u32::MAX) {
        let (packet, behind) = bytes.split_at(usize::from(header.header_len) + header.remaining_len as usize);
        packets.push(packet);
        bytes = behind;
    }
    packets.extend((!bytes.is_empty()).then_some(bytes));
    packets
}

const EXPIRY_S: u32 = 9;
const SHARDS: u16 = 3;

#[test]
fn a_burst_stops_where_its_publisher_has_to_wait() {
    let mut broker = Broker::new(1);
    // More than are delivered to in one turn.
    let subscribers: Vec<Client> = (0..1025).map(|number| broker.connect(&format!("s{number}"), V311)).collect();
    for &subscriber in &subscribers {
        broker.subscribe(subscriber, "t", 0);
    }
    let publisher = broker.connect("publisher", V311);
    for payload in ["1", "2", "3"] {
        broker.write(publisher, publish(0, 0, "t", payload));
    }
    for jobs in 1..=3 {
        broker.turn(0);
        assert!(broker.counters(0).fan_out_jobs <= jobs, "one after the other");
    }
    assert!(broker.counters(0).fan_out_jobs > 0);
    broker.settle();
    for subscriber in subscribers {
        assert_eq!(broker.take(subscriber), ["PUBLISH q0 t=1", "PUBLISH q0 t=2", "PUBLISH q0 t=3"]);
    }
}

/// A publisher at shard 0, and a subscriber to "t" at shard 1.
fn across(change: impl FnOnce(&mut Config)) -> (Broker, Client, Client) {
    let mut broker = Broker::with(2, change);
    let subscriber_id = broker.client_id_at(1, "subscriber");
    let subscriber = broker.connect(&subscriber_id, V311);
    broker.subscribe(subscriber, "t", 0);
    let publisher_id = broker.client_id_at(0, "publisher");
    let publisher = broker.connect(&publisher_id, V311);
    (broker, publisher, subscriber)
}

/// `client` sends a burst behind two others, and nobody takes a turn. Returns what its subscriber is to be told.
fn write_burst(broker: &mut Broker, client: Client, count: u16) -> Vec<String> {
    let numbers = (2..count).map(|number| format!("{number:5}"));
    let payloads: Vec<String> = ["one".into(), "more".into()].into_iter().chain(numbers).collect();
    for payload in &payloads {
        broker.write(client, publish(0, 0, "t", payload));
    }
    payloads.iter().map(|payload| format!("PUBLISH q0 t={payload}")).collect()
}

#[test]
fn a_burst_that_crosses_stops_where_the_turn_is_full() {
    let (mut broker, publisher, subscriber) = across(|config| config.runtime.turn_deliveries_max = 64);
    let before = broker.counters(0).packets_received;
    let expected = write_burst(&mut broker, publisher, 500);
    broker.turn(0);
    assert_eq!(broker.counters(0).packets_received - before, 64 * 4, "as much as four deliveries are one packet");
    assert_eq!(broker.counters(0).paused_for_turn, 1);
    broker.settle();
    assert_eq!(broker.take(subscriber), expected);
}

#[test]
fn a_burst_that_crosses_stops_where_the_mesh_is_full() {
    let (mut broker, publisher, subscriber) = across(|_| {});
    broker.mesh_is_held = true;
    broker.mesh_capacity = 0;
    let before = broker.counters(0).packets_received;
    let expected = write_burst(&mut broker, publisher, 5000);
    broker.turn(0);
    assert_eq!(broker.counters(0).packets_received - before, 4097, "one more than may wait");
    assert_eq!(broker.counters(0).paused_for_mesh, 1);
    broker.mesh_is_held = false;
    broker.mesh_capacity = 1024;
    broker.settle();
    assert_eq!(broker.take(subscriber), expected);
}

/// What three members of a group at home at shard 0 are told of a burst that comes there, and what is counted.
fn shared(shards: u16, apart: bool) -> (Vec<Vec<String>>, Vec<Counters>) {
    let mut broker = Broker::new(shards);
    let group = broker.group_at(0, "group", "t");
    let members: Vec<Client> = (0..3)
        .map(|number| {
            let client_id = broker.client_id_at(number % shards, &format!("member-{number}-"));
            let member = broker.connect(&client_id, V311);
            broker.subscribe(member, &format!("$share/{group}/t"), 0);
            member
        })
        .collect();
    let publisher_id = broker.client_id_at(0, "publisher");
    let publisher = broker.connect(&publisher_id, V311);
    broker.packets_come_apart = apart;
    broker.mesh_capacity = 10_000;
    let expected = write_burst(&mut broker, publisher, 7000);
    broker.turn(0);
    // Two of three go to other shards, and one more than may wait.
    let received = if shards == 1 { 7000 } else { 6146 };
    assert_eq!(broker.counters(0).publishes_received[0], received, "{shards} shards, apart: {apart}");
    broker.settle();
    let told: Vec<Vec<String>> = members.iter().map(|&member| broker.take(member)).collect();
    for (number, told) in told.iter().enumerate() {
        assert!(told.iter().eq(expected.iter().skip(number).step_by(3)), "every third, in order");
    }
    (told, (0..shards).map(|shard| *broker.counters(shard)).collect())
}

#[test]
fn a_burst_for_a_share_group_goes_round_its_members() {
    for shards in [1, 3] {
        assert_eq!(shared(shards, false), shared(shards, true));
    }
}

proptest! {
    #[test]
    fn subscribers_are_told_the_same(
        wishes in prop::collection::vec(wish(), 1..5),
        bursts in prop::collection::vec(burst(), 1..6),
        late_s in prop_oneof![2 => Just(0_u64), 1 => Just(EXPIRY_S.into())],
    ) {
        let together = told(&wishes, &bursts, late_s, false);
        let apart = told(&wishes, &bursts, late_s, true);
        prop_assert_eq!(together, apart);
    }
}
