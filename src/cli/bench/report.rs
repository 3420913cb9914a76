//! What a run found, as a table for people and as JSON for programs.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use super::outcome::Outcome;

/// What a run found. Absent is what was not measured.
///
/// As JSON it is one flat object. A name ends with the unit: `_us` microseconds, `_seconds`, `_bytes`, `_percent` (CPU: of
/// one CPU), `_per_second`, `_per_delivery`; a name without one is a number of things, a text, or true or false.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Report {
    pub scenario: &'static str,
    pub host: String,
    pub protocol_version: String,
    pub qos: u8,
    pub threads: u32,
    pub publishers: u32,
    pub subscribers: u32,
    #[serde(flatten)]
    pub connect: ConnectReport,
    #[serde(flatten)]
    pub messages: Option<MessagesReport>,
    #[serde(flatten)]
    pub idle: Option<IdleReport>,
    #[serde(flatten)]
    pub outcome: Option<Outcome>,
}

/// How connections opened.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct ConnectReport {
    pub connections: usize,
    #[serde(rename = "connect_seconds")]
    pub seconds: f64,
    #[serde(rename = "connections_per_second")]
    pub per_second: f64,
    /// From the connect to the last answer (SUBACK, or CONNACK where nothing is subscribed to).
    #[serde(flatten, serialize_with = "connect_quantiles")]
    pub latency: Quantiles,
    /// CPU time of the broker for each connection with its subscription.
    #[serde(rename = "broker_cpu_us_per_connection", skip_serializing_if = "Option::is_none")]
    pub broker_cpu_us: Option<f64>,
    #[serde(rename = "generator_cpu_us_per_connection")]
    pub generator_cpu_us: f64,
}

/// What messages did. Rates and costs are of the measured time, checks are of the whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct MessagesReport {
    /// As it was asked for.
    pub payload: String,
    pub payload_bytes_mean: f64,
    pub window: Option<u32>,
    #[serde(rename = "rate_per_second")]
    pub rate: Option<f64>,
    pub warmup_seconds: f64,
    #[serde(rename = "measured_seconds")]
    pub seconds: f64,
    pub published_per_second: f64,
    pub delivered_per_second: f64,
    #[serde(flatten, serialize_with = "latency_quantiles")]
    pub latency: Quantiles,
    #[serde(flatten)]
    pub broker: Option<BrokerReport>,
    pub generator_cpu_us_per_delivery: f64,
    pub generator_cpu_percent: f64,
    pub generator_enters_per_delivery: f64,
    #[serde(flatten)]
    pub check: CheckReport,
}

/// What the broker used.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct BrokerReport {
    #[serde(rename = "broker_cpu_us_per_delivery")]
    pub cpu_us_per_delivery: f64,
    /// Of one CPU.
    #[serde(rename = "broker_cpu_percent")]
    pub cpu_percent: f64,
    /// What its threads could have run beyond that, had they got a CPU.
    #[serde(rename = "broker_cpu_wait_percent")]
    pub cpu_wait_percent: f64,
    /// CPUs that it could keep busy.
    #[serde(rename = "broker_cpus")]
    pub cpus: usize,
    /// Whether it had at least 95 % of these. If not, the rate of messages says nothing about the most that it can do.
    pub saturated: bool,
    /// Absent where counting them is not permitted.
    #[serde(rename = "broker_syscalls_per_delivery")]
    pub syscalls_per_delivery: Option<f64>,
    /// With all connections open and before the first message.
    #[serde(rename = "broker_resident_open_bytes")]
    pub resident_bytes_open: Option<u64>,
    /// After the measured time.
    #[serde(rename = "broker_resident_bytes")]
    pub resident_bytes: Option<u64>,
}

/// Every message of the whole run, warm-up included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct CheckReport {
    pub published: u64,
    pub deliveries_expected: u64,
    pub delivered: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// Acknowledged with an error.
    pub refused: u64,
    /// Arrived where they should not, or damaged.
    pub foreign: u64,
    /// Due in the open loop and not sent before the end.
    pub unsent: u64,
    pub connections_lost: u64,
}

/// Quantiles, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quantiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub max: u64,
}

/// What connections cost that do nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct IdleReport {
    pub steps: Vec<IdleStep>,
    /// The slope of memory over connections, by least squares over the steps.
    #[serde(rename = "broker_resident_bytes_per_connection", skip_serializing_if = "Option::is_none")]
    pub resident_bytes_per_connection: Option<f64>,
    #[serde(flatten)]
    pub spoken: Option<SpokenReport>,
    /// Of one CPU, with all connections open, at the end.
    #[serde(rename = "idle_broker_cpu_percent", skip_serializing_if = "Option::is_none")]
    pub broker_cpu_percent: Option<f64>,
    #[serde(rename = "idle_seconds")]
    pub seconds: f64,
    pub connections_lost: u64,
}

/// What connections cost that have said and heard one message each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct SpokenReport {
    /// Messages that came back.
    #[serde(rename = "spoken_heard")]
    pub heard: u64,
    #[serde(rename = "spoken_broker_resident_bytes", skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// What one takes that was always silent, and its part of what memory has grown by since.
    #[serde(rename = "spoken_broker_resident_bytes_per_connection", skip_serializing_if = "Option::is_none")]
    pub resident_bytes_per_connection: Option<f64>,
}

/// Memory at one number of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct IdleStep {
    pub connections: usize,
    #[serde(rename = "broker_resident_bytes")]
    pub resident_bytes: Option<u64>,
}

impl Quantiles {
    pub fn new(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Quantiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999), max: histogram.max() }
    }

    /// Of values in any order.
    pub fn of(values: &[u32]) -> Self {
        let mut histogram = Histogram::new_with_bounds(1, u64::from(u32::MAX), 3).expect("the bounds are in order");
        values.iter().for_each(|&value| histogram.saturating_record(u64::from(value)));
        Quantiles::new(&histogram)
    }
}

fn connect_quantiles<S: Serializer>(quantiles: &Quantiles, serializer: S) -> Result<S::Ok, S::Error> {
    quantiles.serialize_as("connect", serializer)
}

fn latency_quantiles<S: Serializer>(quantiles: &Quantiles, serializer: S) -> Result<S::Ok, S::Error> {
    quantiles.serialize_as("latency", serializer)
}

impl Quantiles {
    /// As `NAME_p50_us` and so on.
    pub fn serialize_as<S: Serializer>(&self, name: &str, serializer: S) -> Result<S::Ok, S::Error> {
        let Quantiles { p50, p90, p99, p99_9, max } = *self;
        let named = [("p50", p50), ("p90", p90), ("p99", p99), ("p99_9", p99_9), ("max", max)];
        serializer.collect_map(named.map(|(quantile, value)| (format!("{name}_{quantile}_us"), value)))
    }
}

impl IdleReport {
    /// Memory per connection, by least squares over the steps; at least two are needed.
    pub fn slope(steps: &[IdleStep]) -> Option<f64> {
        let points: Vec<(f64, f64)> =
            steps.iter().filter_map(|step| Some((step.connections as f64, step.resident_bytes? as f64))).collect();
        let count = points.len() as f64;
        let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        let (mean_x, mean_y) = (sum_x / count, sum_y / count);
        let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        (variance > 0.0).then_some(covariance / variance)
    }
}

impl Report {
    /// The report as a program reads it.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has nothing that JSON could not say")
    }

    /// The report as a person reads it.
    pub fn table(&self) -> String {
        let mut table = Table::default();
        let Report { scenario, host, protocol_version, qos, publishers, subscribers, .. } = self;
        table.line("scenario", format!("{scenario}, {host}, MQTT {protocol_version}, QoS {qos}"));
        table.line("connections", format!("{publishers} publish, {subscribers} subscribe"));
        self.connect.tell(&mut table);
        if let Some(messages) = &self.messages {
            messages.tell(&mut table);
        }
        if let Some(idle) = &self.idle {
            idle.tell(&mut table);
        }
        if let Some(outcome) = &self.outcome {
            outcome.tell(&mut table);
        }
        table.text
    }
}

impl ConnectReport {
    fn tell(&self, table: &mut Table) {
        let ConnectReport { connections, seconds, per_second, .. } = self;
        table.line("opened", format!("{connections} in {seconds:.2} s, {per_second:.0} a second"));
        table.line("opening, us", self.latency.text());
        table.cpu(self.broker_cpu_us, self.generator_cpu_us, "connection");
    }
}

impl MessagesReport {
    fn tell(&self, table: &mut Table) {
        let open = self.rate.map(|rate| format!("{rate} messages a second"));
        let closed = self.window.map(|window| format!("window {window}"));
        let how: Vec<_> = open.into_iter().chain(closed).collect();
        let how = how.join(", ");
        table.line("messages", format!("{} bytes, {how}, measured {:.1} s", self.payload, self.seconds));
        table.line("published", format!("{:.0} a second", self.published_per_second));
        table.line("delivered", format!("{:.0} a second", self.delivered_per_second));
        table.line("latency, us", self.latency.text());
        if let Some(broker) = &self.broker {
            let (cpu, percent) = (broker.cpu_us_per_delivery, broker.cpu_percent);
            table.line("broker", format!("{cpu:.2} us CPU a delivery, {percent:.0} % of a CPU"));
            table.line("", broker.saturation());
            if let Some(calls) = broker.syscalls_per_delivery {
                table.line("", format!("{calls:.3} system calls a delivery"));
            }
            if let Some(bytes) = broker.resident_bytes {
                let open = broker.resident_bytes_open.unwrap_or(bytes) as f64 / MIB;
                table.line("", format!("{:.1} MiB resident, {open:.1} before the first message", bytes as f64 / MIB));
            }
        }
        let (cpu, percent) = (self.generator_cpu_us_per_delivery, self.generator_cpu_percent);
        let enters = self.generator_enters_per_delivery;
        table.line(
            "generator",
            format!("{cpu:.2} us CPU a delivery, {percent:.0} % of a CPU, {enters:.3} enters a delivery"),
        );
        self.check.tell(table);
    }
}

impl BrokerReport {
    fn saturation(&self) -> String {
        let (percent, all) = (self.cpu_percent, self.cpus * 100);
        let wanted = percent + self.cpu_wait_percent;
        if self.saturated {
            format!("saturated: it had {percent:.0} of {all} % CPU")
        } else if wanted >= 0.95 * all as f64 {
            format!("not saturated: it had {percent:.0} of {all} % CPU and waited for more; give it CPUs of its own")
        } else {
            format!("not saturated: it had {percent:.0} of {all} % CPU; compare brokers at an equal --rate")
        }
    }
}

impl CheckReport {
    pub fn tell(&self, table: &mut Table) {
        let CheckReport { published, deliveries_expected, delivered, .. } = self;
        table.line("checked", format!("{published} published, {delivered} of {deliveries_expected} delivered"));
        let problems = [
            (self.lost, "lost"),
            (self.duplicated, "duplicated"),
            (self.reordered, "reordered"),
            (self.refused, "refused"),
            (self.foreign, "foreign or damaged"),
            (self.unsent, "due and not sent"),
            (self.connections_lost, "connections lost"),
        ];
        let told: Vec<_> = problems.iter().filter(|problem| problem.0 > 0).collect();
        if told.is_empty() {
            table.line("", "none lost, duplicated or reordered".to_owned());
        }
        for (count, what) in told {
            table.line("", format!("{count} {what}"));
        }
    }
}

impl IdleReport {
    fn tell(&self, table: &mut Table) {
        for step in &self.steps {
            let resident = step.resident_bytes.map_or_else(
                || "resident memory unknown; see --pid".to_owned(),
                |bytes| format!("{:.2} MiB resident", bytes as f64 / MIB),
            );
            table.line(&format!("{} idle", step.connections), resident);
        }
        if let Some(bytes) = self.resident_bytes_per_connection {
            table.line("slope", format!("{bytes:.0} bytes a connection"));
        }
        if let Some(spoken) = &self.spoken {
            table.line("spoke once", format!("{} messages came back", spoken.heard));
            if let Some((all, each)) = spoken.resident_bytes.zip(spoken.resident_bytes_per_connection) {
                table.line("", format!("{:.2} MiB resident, {each:.0} bytes a connection", all as f64 / MIB));
            }
        }
        if let Some(percent) = self.broker_cpu_percent {
            table.line("idle CPU", format!("{percent:.3} % of a CPU over {:.1} s", self.seconds));
        }
        if self.connections_lost > 0 {
            table.line("lost", format!("{} connections", self.connections_lost));
        }
    }
}

impl Quantiles {
    pub fn text(&self) -> String {
        let Quantiles { p50, p90, p99, p99_9, max } = self;
        format!("p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}, max {max}")
    }
}

/// Lines of a name and what is said of it.
#[derive(Default)]
pub(super) struct Table {
    text: String,
}

impl Table {
    /// CPU time for each of something, of the broker where it is known, and of this process.
    pub fn cpu(&mut self, broker_us: Option<f64>, generator_us: f64, each: &str) {
        if let Some(cpu) = broker_us {
            self.line("  broker CPU", format!("{cpu:.2} us a {each}"));
        }
        self.line("  own CPU", format!("{generator_us:.2} us a {each}"));
    }

    pub fn line(&mut self, name: &str, what: String) {
        let _ = writeln!(self.text, "{name:<14}{what}");
    }
}

const MIB: f64 = 1024.0 * 1024.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_line() {
        let step = |connections, resident_bytes| IdleStep { connections, resident_bytes: Some(resident_bytes) };
        let steps = [step(0, 1_000_000), step(5_000, 3_000_000), step(10_000, 5_000_000), step(15_000, 7_000_000)];
        assert_eq!(IdleReport::slope(&steps), Some(400.0));
        assert_eq!(IdleReport::slope(&steps[..1]), None);
        assert_eq!(IdleReport::slope(&[]), None);
    }

    #[test]
    fn a_report_says_what_went_wrong_and_leaves_out_what_was_not_measured() {
        let check = CheckReport { lost: 3, ..CheckReport::default() };
        let messages = Some(MessagesReport { check, ..MessagesReport::default() });
        let report = Report { scenario: "p2p", messages, ..Report::default() };
        assert!(report.table().contains("3 lost"));
        assert!(!report.table().contains("broker CPU"));
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["lost"], 3);
        assert_eq!(json["latency_p99_9_us"], 0);
        assert_eq!(json["connect_max_us"], 0);
        for absent in ["broker_cpu_percent", "idle_seconds", "steps", "saturated"] {
            assert!(json.get(absent).is_none(), "{absent}");
        }
        assert!(json.as_object().unwrap().values().all(|value| !value.is_object()), "it is flat");
    }

    #[test]
    fn a_broker_that_had_cpu_to_spare_is_not_called_saturated() {
        let broker = BrokerReport { cpus: 1, cpu_percent: 80.0, ..BrokerReport::default() };
        assert!(broker.saturation().contains("equal --rate"));
        assert!(BrokerReport { cpu_wait_percent: 18.0, ..broker.clone() }.saturation().contains("CPUs of its own"));
        assert!(BrokerReport { saturated: true, ..broker }.saturation().starts_with("saturated"));
    }
}
