//! Who connects, subscribes and publishes in each scenario.

use bytes::Bytes;

use super::{
    BenchError,
    arguments::{CommonArgs, Scenario, TrafficArgs},
    fleet::LinkPlan,
    stamp::Stamp,
    traffic::{Audience, Publisher, Traffic},
};
use crate::{client::PublishTemplate, mqtt::TopicName};

/// The connections of a run, and the messages that go over them.
#[derive(Debug)]
pub(super) struct Plan {
    pub links: Vec<LinkPlan>,
    pub traffic: Traffic,
    pub publishers: u32,
    pub subscribers: u32,
}

/// The plan of `scenario`. `run` keeps the topics of this run apart from those of any other.
pub(super) fn plan(scenario: &Scenario, run: u64) -> Result<Plan, BenchError> {
    match scenario {
        Scenario::P2p { pairs, traffic, common } => {
            let subscriber = |pair: u32| {
                let audience = Audience { first_publisher: pair, publishers: 1, first_flow: pair as usize };
                (topic(run, pair), audience)
            };
            let publishers = Publishers { count: *pairs, receivers: 1, topic: |number| topic(run, number) };
            with_traffic((0..*pairs).map(subscriber), &publishers, traffic, common)
        }
        Scenario::Fanout { publishers, subscribers, traffic, common } => {
            let audience = everyone(*publishers, *subscribers)?;
            let subscriber = |number: u32| (topic(run, 0), audience(number));
            let publishers = Publishers { count: *publishers, receivers: *subscribers, topic: |_| topic(run, 0) };
            with_traffic((0..*subscribers).map(subscriber), &publishers, traffic, common)
        }
        Scenario::Fanin { publishers, subscribers, traffic, common } => {
            let audience = everyone(*publishers, *subscribers)?;
            let subscriber = |number: u32| (format!("bench/{run:06x}/+"), audience(number));
            let publishers =
                Publishers { count: *publishers, receivers: *subscribers, topic: |number| topic(run, number) };
            with_traffic((0..*subscribers).map(subscriber), &publishers, traffic, common)
        }
        Scenario::Conn { clients, .. } => Ok(silent(*clients, run)),
        Scenario::Idle { clients, .. } => Ok(silent(clients.iter().copied().max().unwrap_or(0), run)),
    }
}

/// Publishers, numbered from 0.
struct Publishers<F: Fn(u32) -> String> {
    count: u32,
    /// Subscribers that hear each of them.
    receivers: u32,
    topic: F,
}

/// A connection for each of `subscribers` (a filter, and whom it hears), then one for each publisher.
fn with_traffic(
    subscribers: impl Iterator<Item = (String, Audience)>,
    publishers: &Publishers<impl Fn(u32) -> String>,
    arguments: &TrafficArgs,
    common: &CommonArgs,
) -> Result<Plan, BenchError> {
    let subscriber = |(filter, audience)| LinkPlan { filter: Some(filter), audience, publisher: None };
    let mut links: Vec<_> = subscribers.map(subscriber).collect();
    let audiences = links.iter().map(|link| link.audience).collect();
    let subscribers = links.len() as u32;
    let payload_bytes = arguments.payload as usize;
    let tail = Bytes::from(vec![FILLING; payload_bytes - Stamp::BYTES]);
    let mut all = Vec::with_capacity(publishers.count as usize);
    for number in 0..publishers.count {
        let topic = (publishers.topic)(number);
        let topic = TopicName::parse(&topic).expect("the topics of a run are topic names");
        let version = common.protocol_version;
        let template = PublishTemplate::new(version, topic, common.qos, false, Stamp::BYTES, tail.clone())
            .map_err(|_| BenchError::PayloadTooLarge(arguments.payload))?;
        all.push(Publisher::new(links.len() as u32, template, publishers.receivers, arguments.window()));
        links.push(LinkPlan { publisher: Some(number), ..LinkPlan::default() });
    }
    let traffic = Traffic::new(all, audiences, payload_bytes, arguments.rate);
    Ok(Plan { links, traffic, publishers: publishers.count, subscribers })
}

/// Whom the subscribers hear that hear everyone.
fn everyone(publishers: u32, subscribers: u32) -> Result<impl Fn(u32) -> Audience, BenchError> {
    if u64::from(publishers) * u64::from(subscribers) > FLOWS_MAX {
        return Err(BenchError::TooManyFlows { publishers, subscribers });
    }
    Ok(move |number| Audience { first_publisher: 0, publishers, first_flow: number as usize * publishers as usize })
}

/// Connections with a filter each, and no messages.
fn silent(clients: u32, run: u64) -> Plan {
    let link = |number| LinkPlan { filter: Some(topic(run, number)), ..LinkPlan::default() };
    let traffic = Traffic::new(Vec::new(), Vec::new(), Stamp::BYTES, None);
    Plan { links: (0..clients).map(link).collect(), traffic, publishers: 0, subscribers: clients }
}

fn topic(run: u64, number: u32) -> String {
    format!("bench/{run:06x}/{number:07}")
}

/// Pairs of a publisher and a subscriber that hears it: each has a sequence that is checked, of 16 bytes.
const FLOWS_MAX: u64 = 1 << 26;

/// What payloads consist of, behind the stamp.
const FILLING: u8 = b'.';
