//! Who connects, subscribes and publishes in each scenario.

use std::{fmt::Write as _, sync::Arc};

use bytes::Bytes;

use super::{
    BenchError,
    arguments::{CommonArgs, Scenario, TrafficArgs},
    board::Board,
    fleet::LinkPlan,
    homes::{End, Home},
    mix::{self, Cast},
    payload::PayloadLengths,
    stamp::Stamp,
    traffic::{Audience, Publisher, Reach, Traffic, TrafficParts},
};
use crate::{client::PublishTemplate, mqtt::TopicName, runtime::Wake};

/// The connections of a run, and the messages that go over them.
#[derive(Debug)]
pub(super) struct Plan {
    /// In the order in which they are opened.
    pub links: Vec<LinkPlan>,
    pub publishers: u32,
    pub subscribers: u32,
    senders: Vec<Sender>,
    payloads: PayloadLengths,
    window: Option<u32>,
    rate: Option<f64>,
}

/// What one thread does.
#[derive(Debug)]
pub(super) struct Share {
    pub links: Vec<LinkPlan>,
    pub traffic: Traffic,
}

/// A publisher.
#[derive(Debug)]
struct Sender {
    template: PublishTemplate,
    reach: Reach,
}

impl Plan {
    /// What each thread does, one of which is woken by each of `wakes`. The flows of each are its own.
    pub fn split(self, wakes: &[Wake]) -> Vec<Share> {
        let board = Arc::new(Board::new(self.senders.len(), wakes.to_vec()));
        let mut links: Vec<Vec<LinkPlan>> = wakes.iter().map(|_| Vec::new()).collect();
        let mut link_of = vec![0; self.senders.len()];
        let mut flows = vec![0; wakes.len()];
        // Those of a share group stand together, on one thread, and have their flows in common.
        let mut group = None;
        for mut link in self.links {
            let thread = link.thread as usize;
            let this_group = link.audience.is_shared.then_some(link.audience.first_flow);
            if this_group.is_none() || this_group != group {
                flows[thread] += link.audience.publishers as usize;
            }
            group = this_group;
            link.audience.first_flow = flows[thread] - link.audience.publishers as usize;
            if let Some(publisher) = link.publisher {
                link_of[publisher as usize] = links[thread].len() as u32;
            }
            links[thread].push(link);
        }
        let share = |(thread, links): (u32, Vec<LinkPlan>)| {
            let publisher = |(sender, link): (&Sender, &u32)| {
                Publisher::new(thread, *link, sender.template.clone(), &sender.reach, self.window)
            };
            let mut audiences: Vec<_> =
                links.iter().map(|link| link.audience).filter(|audience| audience.publishers > 0).collect();
            audiences.dedup();
            let parts = TrafficParts {
                thread,
                publishers: self.senders.iter().zip(&link_of).map(publisher).collect(),
                audiences,
                payloads: self.payloads.table(),
                rate: self.rate,
                board: Arc::clone(&board),
            };
            Share { links, traffic: Traffic::new(parts) }
        };
        (0..).zip(links).map(share).collect()
    }
}

/// The plan of `scenario` for so many threads. `run` keeps the topics of this run apart from those of any other.
pub(super) fn plan(scenario: &Scenario, threads: u32, run: u64) -> Result<Plan, BenchError> {
    match scenario {
        Scenario::P2p { pairs, homes, traffic, common } => {
            let subscriber = |pair: u32| {
                let audience =
                    Audience { first_publisher: pair, publishers: 1, first_flow: pair as usize, is_shared: false };
                (topic(run, pair), audience)
            };
            let publishers = Publishers { count: *pairs, topic: |number| topic(run, number) };
            let home = |pair, end| homes.home(pair, end);
            with_traffic((0..*pairs).map(subscriber), &publishers, traffic, common, threads, home)
        }
        Scenario::Fanout { publishers, subscribers, traffic, common } => {
            let audience = everyone(*publishers, *subscribers)?;
            let subscriber = |number: u32| (topic(run, 0), audience(number));
            let publishers = Publishers { count: *publishers, topic: |_| topic(run, 0) };
            with_traffic((0..*subscribers).map(subscriber), &publishers, traffic, common, threads, anywhere)
        }
        Scenario::Fanin { publishers, subscribers, traffic, common } => {
            let audience = everyone(*publishers, *subscribers)?;
            let subscriber = |number: u32| (format!("bench/{run:06x}/+"), audience(number));
            let publishers = Publishers { count: *publishers, topic: |number| topic(run, number) };
            with_traffic((0..*subscribers).map(subscriber), &publishers, traffic, common, threads, anywhere)
        }
        Scenario::Sharedsub(arguments) => {
            with_cast(&mix::sharedsub(arguments, run), &arguments.traffic, &arguments.common, threads)
        }
        Scenario::Composite(arguments) => {
            with_cast(&mix::composite(arguments, run), &arguments.traffic(), &arguments.common, threads)
        }
        // These have their connections to themselves.
        Scenario::Retained(_) | Scenario::Offline(_) | Scenario::Storm(_) | Scenario::Preset(_) => {
            Ok(silent(0, threads, run))
        }
        Scenario::Conn { clients, .. } => Ok(silent(*clients, threads, run)),
        Scenario::Idle { clients, .. } => Ok(silent(clients.iter().copied().max().unwrap_or(0), threads, run)),
    }
}

/// Publishers, numbered from 0.
struct Publishers<F: Fn(u32) -> String> {
    count: u32,
    topic: F,
}

/// A connection for each of `subscribers` (a filter, and whom it hears), then one for each publisher. Each lives on the
/// thread beside its home; without one, both go round the threads, so that a subscriber and the publisher of its number
/// live on the same one. A share group stays on one, because only together can its members tell whether a message came once.
fn with_traffic(
    subscribers: impl Iterator<Item = (String, Audience)>,
    publishers: &Publishers<impl Fn(u32) -> String>,
    arguments: &TrafficArgs,
    common: &CommonArgs,
    threads: u32,
    home: impl Fn(u32, End) -> Result<Option<Home>, BenchError>,
) -> Result<Plan, BenchError> {
    let thread_of = |home: Option<Home>, number| home.map_or(number % threads, |home| home.thread(threads));
    let mut links = Vec::new();
    let mut reach = Vec::with_capacity(publishers.count as usize);
    for number in 0..publishers.count {
        let home = thread_of(home(number, End::Publisher)?, number);
        reach.push(Reach { home, receivers: vec![0; threads as usize] });
    }
    let mut group = None;
    for (number, (filter, audience)) in (0..).zip(subscribers) {
        let in_group = group.filter(|(first_flow, _)| audience.is_shared && *first_flow == audience.first_flow);
        let home = home(number, End::Subscriber)?;
        let thread = in_group.map_or_else(|| thread_of(home, number), |(_, thread)| thread);
        group = Some((audience.first_flow, thread));
        let newly_heard = if in_group.is_some() { 0 } else { audience.publishers as usize };
        for publisher in &mut reach[audience.first_publisher as usize..][..newly_heard] {
            publisher.receivers[thread as usize] += 1;
        }
        links.push(LinkPlan { number, thread, filter: Some(filter), audience, publisher: None, home });
    }
    let subscribers = links.len() as u32;
    let longest = arguments.payload.longest();
    let tail = Bytes::from(vec![FILLING; longest as usize - Stamp::BYTES]);
    let mut senders = Vec::with_capacity(publishers.count as usize);
    for (number, reach) in (0..).zip(reach) {
        let topic = (publishers.topic)(number);
        let topic = TopicName::parse(&topic).expect("the topics of a run are topic names");
        let version = common.protocol_version;
        let template = PublishTemplate::new(version, topic, common.qos, false, Stamp::BYTES, tail.clone())
            .map_err(|_| BenchError::PayloadTooLarge(longest))?;
        links.push(LinkPlan {
            number: links.len() as u32,
            thread: reach.home,
            publisher: Some(number),
            home: home(number, End::Publisher)?,
            ..LinkPlan::default()
        });
        senders.push(Sender { template, reach });
    }
    Ok(Plan {
        links,
        publishers: publishers.count,
        subscribers,
        senders,
        payloads: arguments.payload.clone(),
        window: arguments.window(),
        rate: arguments.rate,
    })
}

/// Wherever the broker has it.
fn anywhere(_: u32, _: End) -> Result<Option<Home>, BenchError> {
    Ok(None)
}

/// The plan for whom `cast` names.
fn with_cast(cast: &Cast, arguments: &TrafficArgs, common: &CommonArgs, threads: u32) -> Result<Plan, BenchError> {
    let count = cast.topics.len() as u32;
    if cast.flows as u64 > FLOWS_MAX {
        return Err(BenchError::TooManyFlows { publishers: count, subscribers: cast.subscribers.len() as u32 });
    }
    let publishers = Publishers { count, topic: |number| cast.topics[number as usize].clone() };
    with_traffic(cast.subscribers.iter().cloned(), &publishers, arguments, common, threads, anywhere)
}

/// Whom the subscribers hear that hear everyone.
fn everyone(publishers: u32, subscribers: u32) -> Result<impl Fn(u32) -> Audience, BenchError> {
    if u64::from(publishers) * u64::from(subscribers) > FLOWS_MAX {
        return Err(BenchError::TooManyFlows { publishers, subscribers });
    }
    Ok(move |number| Audience { publishers, first_flow: number as usize * publishers as usize, ..Audience::default() })
}

/// Connections with a filter each, and no messages.
fn silent(clients: u32, threads: u32, run: u64) -> Plan {
    let link =
        |number| LinkPlan { number, thread: number % threads, filter: Some(topic(run, number)), ..LinkPlan::default() };
    Plan {
        links: (0..clients).map(link).collect(),
        publishers: 0,
        subscribers: clients,
        senders: Vec::new(),
        payloads: PayloadLengths::Fixed(Stamp::BYTES as u32),
        window: None,
        rate: None,
    }
}

pub(super) fn topic(run: u64, number: u32) -> String {
    let mut topic = String::new();
    write_topic(&mut topic, run, number);
    topic
}

/// The same, behind what `topic` has.
pub(super) fn write_topic(topic: &mut String, run: u64, number: u32) {
    write!(topic, "bench/{run:06x}/{number:07}").expect("a text takes all that it is given");
}

/// Pairs of a publisher and a subscriber that hears it: each has a sequence that is checked, of 16 bytes.
const FLOWS_MAX: u64 = 1 << 26;

/// What payloads consist of, behind the stamp.
pub(super) const FILLING: u8 = b'.';
