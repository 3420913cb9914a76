//! `offline`: clients leave their sessions behind, messages queue up there, and the clients return for them.

use clap::Args;
use serde::Serialize;

use super::{
    BenchError,
    arguments::{BatchArgs, CommonArgs, count},
    crew::{Batch, Crew, Listener, News, identities},
    flow::{Arrival, Flow},
    outcome::Outcome,
    progress::Progress,
    report::{CheckReport, ConnectReport, Table},
    setting::Setting,
    stamp::Stamp,
};
use crate::{
    mqtt::{ProtocolVersion, Publish, QoS},
    time::Moment,
};

#[derive(Clone, Debug, Args)]
pub(super) struct OfflineArgs {
    /// Clients, each with a session that is kept and a subscription.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count())]
    pub clients: u32,
    /// Messages that are queued for each; brokers limit them, often to 1000.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = count())]
    pub messages: u32,
    #[command(flatten)]
    pub batch: BatchArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct OfflineReport {
    pub clients: u32,
    pub messages_per_client: u32,
    pub payload_bytes: u32,
    pub queue_seconds: f64,
    pub queued_per_second: f64,
    pub broker_cpu_us_per_queued: Option<f64>,
    pub generator_cpu_us_per_queued: f64,
    /// Absent when the broker had room from before for most of them.
    pub broker_resident_bytes_per_queued: Option<f64>,
    /// From the first connect to the last message.
    pub drain_seconds: f64,
    pub drained_per_second: f64,
    pub broker_cpu_us_per_drained: Option<f64>,
    pub generator_cpu_us_per_drained: f64,
    /// Sessions that the broker had forgotten. MQTT 3.1 has no word for it.
    pub sessions_lost: Option<u32>,
    #[serde(flatten)]
    pub check: CheckReport,
}

/// What the clients have got.
#[derive(Debug)]
struct Mail {
    messages: u32,
    payload_bytes: usize,
    /// For each client, its own messages.
    flows: Vec<Flow>,
    last: Moment,
    delivered: u64,
    duplicated: u64,
    reordered: u64,
    foreign: u64,
    sessions: u32,
}

pub(super) fn run(
    arguments: &OfflineArgs,
    setting: &Setting,
    progress: Progress,
) -> Result<(ConnectReport, Outcome), BenchError> {
    let OfflineArgs { clients, messages, .. } = *arguments;
    let BatchArgs { payload: payload_bytes, window, rate } = arguments.batch;
    let queued = clients.checked_mul(messages).ok_or(BenchError::TooManyDeliveries { messages, clients })?;
    let qos = setting.introduction.qos.max(QoS::AtLeastOnce);
    let mut introduction = setting.introduction.clone();
    introduction.qos = qos;
    let mut members =
        identities(&introduction.client_identifier_prefix, 'o', clients + 1, |number| Some(setting.topic(number)));
    for member in &mut members {
        (member.clean_start, member.keeps_session) = (false, true);
    }
    // The last one publishes.
    if let Some(publisher) = members.last_mut() {
        (publisher.filter, publisher.clean_start, publisher.keeps_session) = (None, true, false);
    }
    let mail = Mail::new(clients, messages, payload_bytes as usize);
    let mut crew = Crew::new(setting.target.clone(), introduction, members, mail, progress)?;
    let connect = crew.open(0..clients + 1, setting.broker)?;
    (0..clients).for_each(|client| crew.leave(client));
    crew.wait_closed();
    let batch = Batch { what: "queueing", count: queued, qos, retain: false, window, rate, broker: setting.broker };
    let mut report =
        OfflineReport { clients, payload_bytes, messages_per_client: messages, ..OfflineReport::default() };
    let outcome =
        queue(&mut crew, &batch, setting, &mut report).and_then(|()| drain(&mut crew, &batch, setting, &mut report));
    report.check.connections_lost = crew.lost();
    let ended = end_sessions(&mut crew, clients);
    outcome.and(ended)?;
    crew.leave_all();
    crew.progress.clear();
    Ok((connect, Outcome::Offline(report)))
}

/// One message for each client, then the next for each.
fn queue(
    crew: &mut Crew<Mail>,
    batch: &Batch,
    setting: &Setting,
    report: &mut OfflineReport,
) -> Result<(), BenchError> {
    let (clients, payload_bytes) = (report.clients, report.payload_bytes);
    let published = crew.publish(clients, batch, |number, now, topic, payload| {
        let (client, sequence) = (number % clients, number / clients);
        setting.write_topic(topic, client);
        Setting::fill(payload, Stamp { publisher: client, sequence, sent: now }, payload_bytes);
    })?;
    report.queue_seconds = published.seconds;
    report.queued_per_second = published.per_second;
    report.broker_cpu_us_per_queued = published.broker_cpu_us;
    report.generator_cpu_us_per_queued = published.generator_cpu_us;
    report.broker_resident_bytes_per_queued = published.resident_bytes;
    (report.check.published, report.check.refused) = (u64::from(batch.count), published.refused);
    Ok(())
}

/// All return, without subscribing again, and are given what waits for them.
fn drain(
    crew: &mut Crew<Mail>,
    batch: &Batch,
    setting: &Setting,
    report: &mut OfflineReport,
) -> Result<(), BenchError> {
    (0..report.clients).for_each(|client| crew.identity_mut(client).filter = None);
    crew.listener_mut().sessions = 0;
    let (span, started, expected) = (setting.span(), crew.now(), u64::from(batch.count));
    crew.open(0..report.clients, None)?;
    crew.wait_for(expected, "draining", |mail| mail.delivered);
    let mail = crew.listener();
    let cpu = span.each(mail.delivered);
    report.drain_seconds = mail.last.since(started).as_secs_f64();
    report.drained_per_second = mail.delivered as f64 / report.drain_seconds.max(1e-6);
    report.broker_cpu_us_per_drained = cpu.broker_us;
    report.generator_cpu_us_per_drained = cpu.generator_us;
    let tells = setting.introduction.options.version != ProtocolVersion::V31;
    report.sessions_lost = tells.then_some(report.clients - mail.sessions);
    let check = &mut report.check;
    (check.deliveries_expected, check.delivered, check.lost) = (expected, mail.delivered, mail.lost());
    (check.duplicated, check.reordered, check.foreign) = (mail.duplicated, mail.reordered, mail.foreign);
    Ok(())
}

/// A session ends when its client begins anew and keeps nothing.
fn end_sessions(crew: &mut Crew<Mail>, clients: u32) -> Result<(), BenchError> {
    for client in 0..clients {
        crew.leave(client);
        let identity = crew.identity_mut(client);
        (identity.filter, identity.clean_start, identity.keeps_session) = (None, true, false);
    }
    crew.wait_closed();
    crew.open(0..clients, None).map(drop)
}

impl Mail {
    fn new(clients: u32, messages: u32, payload_bytes: usize) -> Self {
        Mail {
            messages,
            payload_bytes,
            flows: (0..clients).map(|_| Flow::default()).collect(),
            last: Moment::default(),
            delivered: 0,
            duplicated: 0,
            reordered: 0,
            foreign: 0,
            sessions: 0,
        }
    }

    fn lost(&self) -> u64 {
        self.flows.iter().map(|flow| flow.lost(self.messages)).sum()
    }

    fn take(&mut self, member: u32, publish: &Publish<'_>, at: Moment) {
        let ours = Stamp::decode(publish.payload).filter(|stamp| {
            stamp.publisher == member && stamp.sequence < self.messages && publish.payload.len() == self.payload_bytes
        });
        let (Some(stamp), Some(flow)) = (ours, self.flows.get_mut(member as usize)) else {
            self.foreign += 1;
            return;
        };
        let arrival = flow.arrive(stamp.sequence);
        if arrival == Arrival::Repeated {
            self.duplicated += 1;
            return;
        }
        self.delivered += 1;
        self.reordered += u64::from(arrival == Arrival::Late);
        self.last = at;
    }
}

impl Listener for Mail {
    fn hear(&mut self, member: u32, news: News<'_>, at: Moment) {
        match news {
            News::Received(publish) => self.take(member, &publish, at),
            News::Ready { session_present, .. } => self.sessions += u32::from(session_present),
            News::Subscribed { .. } | News::Pong | News::Gone(_) => {}
        }
    }
}

impl OfflineReport {
    pub fn tell(&self, table: &mut Table) {
        let OfflineReport { clients, messages_per_client, payload_bytes, .. } = self;
        table.line("sessions", format!("{clients}, {messages_per_client} messages of {payload_bytes} bytes for each"));
        let OfflineReport { queue_seconds, queued_per_second, drain_seconds, drained_per_second, .. } = self;
        table.line("queued", format!("in {queue_seconds:.2} s, {queued_per_second:.0} a second"));
        table.cpu(self.broker_cpu_us_per_queued, self.generator_cpu_us_per_queued, "message");
        if let Some(bytes) = self.broker_resident_bytes_per_queued {
            table.line("  memory", format!("{bytes:.0} bytes a message"));
        }
        table.line("drained", format!("in {drain_seconds:.2} s, {drained_per_second:.0} a second"));
        table.cpu(self.broker_cpu_us_per_drained, self.generator_cpu_us_per_drained, "message");
        if let Some(lost) = self.sessions_lost.filter(|lost| *lost > 0) {
            table.line("", format!("{lost} sessions were forgotten"));
        }
        self.check.tell(table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::PublishProperties;

    #[test]
    fn a_message_that_is_missing_comes_twice_or_too_late_is_noticed() {
        let mut mail = Mail::new(2, 4, Stamp::BYTES);
        let mut send = |member: u32, publisher: u32, sequence: u32| {
            let payload = Stamp { publisher, sequence, sent: Moment::default() }.encode();
            let (dup, retain, qos, topic, packet_identifier) = (false, false, QoS::AtMostOnce, "t", None);
            let properties = PublishProperties::default();
            let publish = Publish { dup, qos, retain, topic, packet_identifier, properties, payload: &payload };
            mail.take(member, &publish, Moment::from_micros(1));
        };
        for sequence in [0, 2, 1, 2] {
            send(0, 0, sequence);
        }
        send(1, 1, 0);
        send(1, 0, 3);
        send(1, 1, 4);
        assert_eq!((mail.delivered, mail.duplicated, mail.reordered, mail.foreign), (4, 1, 1, 2));
        assert_eq!(mail.lost(), 1 + 3);
    }
}
