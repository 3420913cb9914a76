//! The command line of `ringmq bench`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::{
    homes::HomesArgs,
    mix::{CompositeArgs, SharedsubArgs},
    offline::OfflineArgs,
    payload::PayloadLengths,
    preset::PresetArgs,
    retained::RetainedArgs,
    stamp::Stamp,
    storm::StormArgs,
    team::Threads,
};
use crate::mqtt::{ProtocolVersion, QoS};

/// Load an MQTT broker and measure it; every message is checked.
///
/// Works on any broker. With --pid, the broker's CPU time and memory are measured too.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct BenchArgs {
    #[command(subcommand)]
    pub(super) scenario: Scenario,
}

#[derive(Debug, Subcommand)]
pub(super) enum Scenario {
    /// Pairs of a publisher and a subscriber, each with a topic of its own.
    P2p {
        /// Pairs.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = count())]
        pairs: u32,
        #[command(flatten)]
        homes: HomesArgs,
        #[command(flatten)]
        traffic: TrafficArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Few publishers on one topic, which many subscribers hear.
    Fanout {
        /// Publishers.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = count())]
        publishers: u32,
        /// Subscribers.
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = count())]
        subscribers: u32,
        #[command(flatten)]
        traffic: TrafficArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Many publishers, each on a topic of its own, which few subscribers hear through one wildcard.
    Fanin {
        /// Publishers.
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = count())]
        publishers: u32,
        /// Subscribers.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = count())]
        subscribers: u32,
        #[command(flatten)]
        traffic: TrafficArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Many publishers, each on a topic of its own, whose messages a share group divides among few subscribers.
    Sharedsub(SharedsubArgs),
    /// Several of p2p, fanout, fanin and sharedsub at once, while other connections come and go; open loop by default.
    Composite(CompositeArgs),
    /// Retained messages are stored, then clients subscribe to all of them with one wildcard.
    Retained(RetainedArgs),
    /// Messages queue up for clients that are away, who then return for them.
    Offline(OfflineArgs),
    /// All clients are dropped at once and return at once, while a few that stayed measure how long a PINGREQ takes.
    Storm(StormArgs),
    /// A case of the Open MQTT Benchmark Suite by its name.
    Preset(PresetArgs),
    /// Connections with a subscription each, as fast as they come or at a rate.
    Conn {
        /// Connections.
        #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = count())]
        clients: u32,
        /// Connections a second; without it, as fast as the broker answers.
        #[arg(long, value_name = "N", value_parser = positive)]
        rate: Option<f64>,
        /// How long they are kept once all are open; none of them may be lost.
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
        hold: Duration,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Connections with a subscription each that do nothing: memory per connection, and idle CPU.
    Idle {
        /// Connections, at each of which memory is measured.
        #[arg(long, value_name = "N,N..", value_delimiter = ',', default_values_t = [5_000, 10_000, 15_000],
            value_parser = count())]
        clients: Vec<u32>,
        /// Filters that each of them subscribes to, no two alike.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        subscriptions: u32,
        /// With all of them open, each publishes one message to its own filter, hears it, and falls silent again: memory
        /// after that, and idle CPU.
        #[arg(long)]
        speak_once: bool,
        /// How long they have been left alone when idle CPU begins to be measured: what a broker does once behind a crowd, and
        /// its timers for those who connect, are over then.
        #[arg(long, value_name = "TIME", default_value = "12s", value_parser = duration)]
        settle: Duration,
        /// How long idle CPU is measured, with all of them open.
        #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
        duration: Duration,
        #[command(flatten)]
        common: CommonArgs,
    },
}

/// Messages that one client publishes and that stay with the broker for a while.
#[derive(Clone, Debug, Args)]
pub(super) struct BatchArgs {
    /// Messages that are published in a second; without it, as fast as the broker acknowledges them.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub rate: Option<f64>,
    /// Messages that may be unacknowledged. They are published at QoS 1 or, with --qos 2, at QoS 2.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub window: u32,
    /// Bytes of payload, 16 or more.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = payload())]
    pub payload: u32,
}

/// What every scenario takes.
#[derive(Clone, Debug, Args)]
pub(super) struct CommonArgs {
    /// The broker.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    pub host: String,
    /// The version of MQTT: 3.1, 3.1.1 or 5.
    #[arg(long = "version", value_name = "VERSION", default_value = "3.1.1", value_parser = version)]
    pub protocol_version: ProtocolVersion,
    /// The quality of service of messages and subscriptions: 0, 1 or 2.
    #[arg(long, value_name = "QOS", default_value = "0", value_parser = qos)]
    pub qos: QoS,
    /// The user name of every connection.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The password of every connection.
    #[arg(long, value_name = "TEXT", requires = "user")]
    pub password: Option<String>,
    /// Keep-alive in seconds; 0: none.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub keep_alive: u16,
    /// Connections that may wait for the broker's answer at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub opening: u32,
    /// Threads that make the load, each with its share of the connections. [default: one for each of --cpus, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: Option<u32>,
    /// Pin the threads to CPUs, such as 2-3,6, in turn; give the broker others.
    #[arg(long, visible_alias = "cpu", value_name = "LIST", value_parser = cpus)]
    cpus: Option<CpuList>,
    /// Local addresses that connections begin at, in turn: each has ports for about 28,000. [default: the kernel's choice,
    /// and to this machine one of 127.0.1.1 and those that follow for each 1,000 beyond the first]
    #[arg(long, value_name = "ADDR,ADDR..", value_delimiter = ',')]
    pub source: Vec<IpAddr>,
    /// The broker's process, if it runs on this machine: its CPU time, system calls and memory are measured.
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Print the report as JSON: one flat object, each name with its unit.
    #[arg(long)]
    pub json: bool,
    /// Draw the latencies and the throughput over time into an SVG file.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

impl CommonArgs {
    /// Where the load comes from.
    pub fn threads(&self) -> Threads {
        let cpus = self.cpus.clone().map(|list| list.0).unwrap_or_default();
        Threads { count: self.threads.unwrap_or(cpus.len().max(1) as u32), cpus }
    }
}

/// CPUs in the order in which they were named.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CpuList(Vec<usize>);

/// What the scenarios with messages take.
#[derive(Clone, Debug, Args)]
pub(super) struct TrafficArgs {
    /// Closed loop: at most N messages of each publisher are under way, that is not yet with every subscriber or, above
    /// QoS 0, not yet acknowledged. [default: 16, without --rate]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub window: Option<u32>,
    /// Open loop: messages a second by all publishers together; latency counts from the moment when a message was due.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub rate: Option<f64>,
    /// Bytes of payload, 16 or more: 64, or 16..1024 (any of them alike), or 64:9,4096:1 (nine of 64 to one of 4096).
    #[arg(long, value_name = "BYTES", default_value = "64")]
    pub payload: PayloadLengths,
    /// How long messages flow before anything is measured.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub warmup: Duration,
    /// How long is measured.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub duration: Duration,
}

impl TrafficArgs {
    /// The window that holds: the open loop has none unless one is asked for.
    pub fn window(&self) -> Option<u32> {
        self.window.or(self.rate.is_none().then_some(WINDOW_DEFAULT))
    }
}

const WINDOW_DEFAULT: u32 = 16;
/// The largest number that may be said for a CPU, whether there is one or not.
const CPU_MAX: usize = 65_535;

/// A number of connections.
pub(super) fn count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1_000_000)
}

/// One length of payloads.
pub(super) fn payload() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(Stamp::BYTES as i64..=268_000_000)
}

fn version(text: &str) -> Result<ProtocolVersion, &'static str> {
    match text {
        "3.1" | "3" => Ok(ProtocolVersion::V31),
        "3.1.1" | "4" => Ok(ProtocolVersion::V311),
        "5" | "5.0" => Ok(ProtocolVersion::V5),
        _ => Err("there are 3.1, 3.1.1 and 5"),
    }
}

fn qos(text: &str) -> Result<QoS, &'static str> {
    text.parse().ok().and_then(QoS::from_bits).ok_or("there are 0, 1 and 2")
}

/// Numbers and ranges, such as `0-3,6`.
fn cpus(text: &str) -> Result<CpuList, &'static str> {
    const WRONG: &str = "a list of CPUs such as 0-3,6 is wanted";
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>(), last.trim().parse::<usize>());
        match (first, last) {
            (Ok(first), Ok(last)) if first <= last && last <= CPU_MAX => cpus.extend(first..=last),
            _ => return Err(WRONG),
        }
    }
    Ok(CpuList(cpus))
}

pub(super) fn positive(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && (1e-3..=1e9).contains(number));
    number.ok_or("a number from 0.001 to 1000000000 is wanted")
}

/// Seconds, or a number with `ms`, `s` or `m` behind it.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return Err("a time such as 500ms, 5s or 2m is wanted"),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * scale);
    let seconds = seconds.filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or("a time such as 500ms, 5s or 2m is wanted")
}

const EXAMPLES: &str = "\
Examples:
  ringmq bench p2p --pairs 100 --window 64 --cpu 1 --pid $(pidof ringmq)
  ringmq bench p2p --homes apart --placement 7,2   beside: ringmq --shards 2 --set runtime.placement_seed=7
  ringmq bench fanout --subscribers 1000 --qos 1 --version 5
  ringmq bench fanin --rate 20000 --duration 30s --payload 64:9,4096:1 --plot fanin.svg
  ringmq bench p2p --pairs 20000 --cpus 2-3 --source 127.0.0.2,127.0.0.3 --json
  ringmq bench conn --clients 15000 --rate 1000 --hold 1m
  ringmq bench storm --clients 15000
  ringmq bench preset singlenode-p2p-1K-1K-1K-1K --duration 1m
  ringmq bench idle --clients 5000,10000,15000 --pid $(pidof ringmq)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_read_in_order() {
        assert_eq!(cpus("3,0-2"), Ok(CpuList(vec![3, 0, 1, 2])));
        for wrong in ["", "a", "1,", "3-1", "-1", "0-99999"] {
            assert!(cpus(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "-1s", "1h", "1e9s", "..s", "90000s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
