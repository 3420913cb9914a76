//! `retained`: stores retained messages, lets clients subscribe to all of them, and counts what each is sent.

use std::time::Duration;

use clap::Args;
use serde::{Serialize, Serializer};

use super::{
    BenchError,
    arguments::{BatchArgs, CommonArgs, count},
    crew::{Batch, Crew, Listener, News, identities},
    fleet::LinkFailure,
    outcome::Outcome,
    progress::Progress,
    report::{CheckReport, ConnectReport, Quantiles, Table},
    seen::Seen,
    setting::Setting,
    stamp::Stamp,
};
use crate::{
    mqtt::{Publish, QoS, ReasonCode, SubscriptionOptions, TopicFilter},
    time::Moment,
};

#[derive(Clone, Debug, Args)]
pub(super) struct RetainedArgs {
    /// Retained messages, each with a topic of its own.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = count())]
    pub messages: u32,
    /// Clients that subscribe to all of them with one wildcard.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count())]
    pub clients: u32,
    #[command(flatten)]
    pub batch: BatchArgs,
    /// Leave the messages with the broker.
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct RetainedReport {
    pub messages: u32,
    pub payload_bytes: u32,
    pub clients: u32,
    pub store_seconds: f64,
    pub stored_per_second: f64,
    pub broker_cpu_us_per_stored: Option<f64>,
    pub generator_cpu_us_per_stored: f64,
    /// Absent when the broker had room from before for most of them.
    pub broker_resident_bytes_per_message: Option<f64>,
    /// From the first SUBSCRIBE to the last message of the last client.
    pub deliver_seconds: f64,
    pub delivered_per_second: f64,
    /// From a client's SUBSCRIBE to the last message that it was sent.
    #[serde(flatten, serialize_with = "last_message_quantiles")]
    pub last_message_us: Quantiles,
    pub broker_cpu_us_per_delivery: Option<f64>,
    pub generator_cpu_us_per_delivery: f64,
    pub is_cleared: bool,
    #[serde(flatten)]
    pub check: CheckReport,
}

/// What the subscribers have got.
#[derive(Debug)]
struct Collection {
    messages: u32,
    payload_bytes: usize,
    seen: Vec<Seen>,
    last: Vec<Moment>,
    delivered: u64,
    duplicated: u64,
    foreign: u64,
    refused: Option<ReasonCode>,
}

pub(super) fn run(
    arguments: &RetainedArgs,
    setting: &Setting,
    progress: Progress,
) -> Result<(ConnectReport, Outcome), BenchError> {
    let RetainedArgs { messages, clients, .. } = *arguments;
    if u64::from(messages) * u64::from(clients) > DELIVERIES_MAX {
        return Err(BenchError::TooManyDeliveries { messages, clients });
    }
    let collection = Collection::new(clients, messages, arguments.batch.payload as usize);
    // The last one publishes.
    let members = identities(&setting.introduction.client_identifier_prefix, 'r', clients + 1, |_| None);
    let mut crew = Crew::new(setting.target.clone(), setting.introduction.clone(), members, collection, progress)?;
    let connect = crew.open(0..clients + 1, setting.broker)?;
    let mut report = RetainedReport {
        messages,
        clients,
        payload_bytes: arguments.batch.payload,
        is_cleared: !arguments.keep,
        ..RetainedReport::default()
    };
    let stored = store(&mut crew, arguments, setting, &mut report);
    let delivered = stored.and_then(|()| deliver(&mut crew, arguments, setting, &mut report));
    report.check.connections_lost = crew.lost();
    let cleared = if arguments.keep { Ok(()) } else { clear(&mut crew, arguments, setting) };
    delivered.and(cleared)?;
    crew.leave_all();
    crew.progress.clear();
    Ok((connect, Outcome::Retained(report)))
}

fn store(
    crew: &mut Crew<Collection>,
    arguments: &RetainedArgs,
    setting: &Setting,
    report: &mut RetainedReport,
) -> Result<(), BenchError> {
    let batch = Batch { rate: arguments.batch.rate, broker: setting.broker, ..batch("storing", arguments) };
    let published = crew.publish(arguments.clients, &batch, |number, now, topic, payload| {
        setting.write_topic(topic, number);
        Setting::fill(payload, Stamp { publisher: 0, sequence: number, sent: now }, arguments.batch.payload);
    })?;
    report.check.published = u64::from(arguments.messages);
    report.check.refused = published.refused;
    report.store_seconds = published.seconds;
    report.stored_per_second = published.per_second;
    report.broker_cpu_us_per_stored = published.broker_cpu_us;
    report.generator_cpu_us_per_stored = published.generator_cpu_us;
    report.broker_resident_bytes_per_message = published.resident_bytes;
    Ok(())
}

fn deliver(
    crew: &mut Crew<Collection>,
    arguments: &RetainedArgs,
    setting: &Setting,
    report: &mut RetainedReport,
) -> Result<(), BenchError> {
    let wildcard = setting.wildcard();
    let filter = TopicFilter::parse(&wildcard).expect("the filters of a run are topic filters");
    let options = SubscriptionOptions { qos: setting.introduction.qos, ..SubscriptionOptions::default() };
    let (span, started) = (setting.span(), crew.now());
    for client in 0..arguments.clients {
        crew.speak(client, |client, out| client.subscribe(&[(filter, options)], out)).map_err(LinkFailure::from)?;
    }
    let expected = u64::from(arguments.messages) * u64::from(arguments.clients);
    crew.wait_for(expected, "delivering", |collection| collection.delivered);
    let collection = crew.listener();
    let cpu = span.each(collection.delivered);
    if let Some(code) = collection.refused {
        return Err(LinkFailure::SubscriptionRefused(code).into());
    }
    let times: Vec<_> = collection.last.iter().map(|last| last.since(started)).collect();
    let seconds = times.iter().max().map_or(0.0, Duration::as_secs_f64);
    let micros: Vec<_> = times.iter().map(|time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX)).collect();
    report.deliver_seconds = seconds;
    report.delivered_per_second = collection.delivered as f64 / seconds.max(1e-6);
    report.last_message_us = Quantiles::of(&micros);
    report.broker_cpu_us_per_delivery = cpu.broker_us;
    report.generator_cpu_us_per_delivery = cpu.generator_us;
    let check = &mut report.check;
    (check.deliveries_expected, check.delivered) = (expected, collection.delivered);
    check.lost = collection.lost();
    (check.duplicated, check.foreign) = (collection.duplicated, collection.foreign);
    Ok(())
}

/// A retained message without a payload takes away the one that was there.
fn clear(crew: &mut Crew<Collection>, arguments: &RetainedArgs, setting: &Setting) -> Result<(), BenchError> {
    // Nobody is to be told of it.
    (0..arguments.clients).for_each(|client| crew.leave(client));
    crew.wait_closed();
    let batch = batch("clearing", arguments);
    crew.publish(arguments.clients, &batch, |number, _, topic, _| setting.write_topic(topic, number)).map(drop)
}

fn batch(what: &'static str, arguments: &RetainedArgs) -> Batch {
    let qos = arguments.common.qos.max(QoS::AtLeastOnce);
    Batch {
        what,
        count: arguments.messages,
        qos,
        retain: true,
        window: arguments.batch.window,
        rate: None,
        broker: None,
    }
}

impl Collection {
    fn new(clients: u32, messages: u32, payload_bytes: usize) -> Self {
        Collection {
            messages,
            payload_bytes,
            seen: vec![Seen::new(messages); clients as usize],
            last: vec![Moment::default(); clients as usize],
            delivered: 0,
            duplicated: 0,
            foreign: 0,
            refused: None,
        }
    }

    fn lost(&self) -> u64 {
        self.seen.iter().map(|seen| u64::from(seen.missing())).sum()
    }

    fn take(&mut self, member: u32, publish: &Publish<'_>, at: Moment) {
        let numbered = publish.topic.rsplit('/').next().and_then(|level| level.parse().ok());
        let ours = Stamp::decode(publish.payload).filter(|stamp| {
            publish.retain
                && publish.payload.len() == self.payload_bytes
                && stamp.publisher == 0
                && stamp.sequence < self.messages
                && numbered == Some(stamp.sequence)
        });
        let (Some(stamp), Some(seen)) = (ours, self.seen.get_mut(member as usize)) else {
            self.foreign += 1;
            return;
        };
        if seen.insert(stamp.sequence) {
            self.delivered += 1;
            self.last[member as usize] = at;
        } else {
            self.duplicated += 1;
        }
    }
}

impl Listener for Collection {
    fn hear(&mut self, member: u32, news: News<'_>, at: Moment) {
        match news {
            News::Received(publish) => self.take(member, &publish, at),
            News::Subscribed { refused } => self.refused = self.refused.or(refused),
            News::Ready { .. } | News::Pong | News::Gone(_) => {}
        }
    }
}

impl RetainedReport {
    pub fn tell(&self, table: &mut Table) {
        let RetainedReport { messages, payload_bytes, store_seconds, stored_per_second, .. } = self;
        table.line(
            "stored",
            format!("{messages} of {payload_bytes} bytes in {store_seconds:.2} s, {stored_per_second:.0} a second"),
        );
        table.cpu(self.broker_cpu_us_per_stored, self.generator_cpu_us_per_stored, "message");
        if let Some(bytes) = self.broker_resident_bytes_per_message {
            table.line("  memory", format!("{bytes:.0} bytes a message"));
        }
        let RetainedReport { clients, deliver_seconds, delivered_per_second, .. } = self;
        table.line("delivered", format!("to {clients} in {deliver_seconds:.3} s, {delivered_per_second:.0} a second"));
        table.line("to the last, us", self.last_message_us.text());
        table.cpu(self.broker_cpu_us_per_delivery, self.generator_cpu_us_per_delivery, "delivery");
        table.line("afterwards", if self.is_cleared { "cleared" } else { "kept by the broker" }.to_owned());
        self.check.tell(table);
    }
}

fn last_message_quantiles<S: Serializer>(quantiles: &Quantiles, serializer: S) -> Result<S::Ok, S::Error> {
    quantiles.serialize_as("last_message", serializer)
}

/// Deliveries of a run: each has a bit that says whether it has come.
const DELIVERIES_MAX: u64 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::PublishProperties;

    #[test]
    fn a_message_that_is_missing_comes_twice_or_is_not_retained_is_noticed() {
        let mut collection = Collection::new(2, 3, Stamp::BYTES);
        let mut send = |member: u32, topic: &str, sequence: u32, retain: bool| {
            let payload = Stamp { publisher: 0, sequence, sent: Moment::default() }.encode();
            let (dup, qos, packet_identifier, properties) =
                (false, QoS::AtMostOnce, None, PublishProperties::default());
            let publish = Publish { dup, qos, retain, topic, packet_identifier, properties, payload: &payload };
            collection.take(member, &publish, Moment::from_micros(7));
        };
        send(0, "bench/1/0000000", 0, true);
        send(0, "bench/1/0000001", 1, true);
        send(0, "bench/1/0000001", 1, true);
        send(1, "bench/1/0000002", 2, true);
        send(1, "bench/1/0000001", 0, true);
        send(1, "bench/1/0000003", 3, true);
        send(1, "bench/1/0000000", 0, false);
        assert_eq!((collection.delivered, collection.duplicated, collection.foreign), (3, 1, 3));
        assert_eq!(collection.lost(), 3);
        assert_eq!(collection.last, [Moment::from_micros(7); 2]);
    }
}
