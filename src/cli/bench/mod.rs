//! `ringmq bench`: a load generator for any MQTT broker, on the broker's own ring.
//!
//! | file | what it owns |
//! |---|---|
//! | [`arguments`] | the command line |
//! | [`plan`] | who connects, subscribes and publishes in each scenario |
//! | [`engine`], [`fleet`] | the turns of the ring, and the connections with their clients |
//! | [`traffic`], [`flow`], [`window`], [`stamp`] | the messages, and the check that each arrives once and in order |
//! | [`observed`] | CPU time and memory of a process |
//! | [`report`], [`progress`] | what is told, at the end and meanwhile |
//!
//! What always holds: one thread and one ring; every message is checked; the time in a message is when it was handed to
//! its connection or, at a fixed rate, when it was due, and its arrival is when the kernel had it, so that the generator's
//! own work counts against nobody but itself.

mod arguments;
mod engine;
mod fleet;
mod flow;
mod observed;
mod plan;
mod progress;
mod report;
mod stamp;
mod traffic;
mod window;

use std::{
    io::Write as _,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

pub(super) use arguments::BenchArgs;
use core_affinity::CoreId;

use self::{
    arguments::{CommonArgs, Scenario, TrafficArgs},
    engine::{Engine, Target},
    fleet::{Introduction, LinkFailure},
    observed::Observed,
    progress::Progress,
    report::{BrokerReport, CheckReport, ConnectReport, IdleReport, IdleStep, LatencyReport, MessagesReport, Report},
    traffic::Counts,
};
use super::Exit;
use crate::{
    client::ClientOptions,
    runtime::{Errno, clock::random_seed, executor::allowed_cpus, syscalls::SyscallCounter, uring::UringError},
    time::Moment,
};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("{0}: no such host, or no port")]
    Unresolved(String),
    #[error("cannot connect to {address}: {errno}")]
    Connect { address: SocketAddr, errno: Errno },
    #[error("{0}")]
    Link(#[from] LinkFailure),
    #[error("the broker stopped answering: {ready} of {count} connections are open")]
    OpeningStalled { ready: usize, count: usize },
    #[error("no connection is open any more")]
    NothingOpen,
    #[error("{connections} connections are more than the limit on file descriptors allows ({limit}); see `ulimit -n`")]
    TooManyConnections { connections: usize, limit: u64 },
    #[error("{publishers} publishers times {subscribers} subscribers are too many to check")]
    TooManyFlows { publishers: u32, subscribers: u32 },
    #[error("a payload of {0} bytes does not fit into a packet")]
    PayloadTooLarge(u32),
    #[error("the limit on file descriptors: {0}")]
    Descriptors(Errno),
    #[error("cannot make an eventfd: {0}")]
    Wake(std::io::Error),
    #[error("io_uring cannot be used here: {0}; `ringmq doctor` says more")]
    Ring(#[from] UringError),
    #[error("there is no process {0}, or it may not be looked at")]
    NoProcess(u32),
    #[error("CPU {0} is not one that this process may use")]
    Cpu(usize),
}

impl BenchError {
    /// Whether the command line is to blame.
    fn exit(&self) -> Exit {
        match self {
            BenchError::Unresolved(_)
            | BenchError::TooManyFlows { .. }
            | BenchError::PayloadTooLarge(_)
            | BenchError::NoProcess(_)
            | BenchError::Cpu(_) => Exit::BadUsage,
            _ => Exit::CannotRun,
        }
    }
}

pub(super) fn bench(arguments: &BenchArgs) -> Exit {
    let common = arguments.scenario.common();
    match run(&arguments.scenario) {
        Ok(report) => {
            let text = if common.json { report.json() + "\n" } else { report.table() };
            // Nobody is left to tell when the output is closed.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
            Exit::Done
        }
        Err(error) => {
            eprintln!("error: {error}");
            error.exit()
        }
    }
}

impl Scenario {
    fn common(&self) -> &CommonArgs {
        match self {
            Scenario::P2p { common, .. }
            | Scenario::Fanout { common, .. }
            | Scenario::Fanin { common, .. }
            | Scenario::Conn { common, .. }
            | Scenario::Idle { common, .. } => common,
        }
    }

    /// Filters that each subscriber subscribes to.
    fn subscriptions(&self) -> u32 {
        match self {
            Scenario::Idle { subscriptions, .. } => *subscriptions,
            _ => 1,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Scenario::P2p { .. } => "p2p",
            Scenario::Fanout { .. } => "fanout",
            Scenario::Fanin { .. } => "fanin",
            Scenario::Conn { .. } => "conn",
            Scenario::Idle { .. } => "idle",
        }
    }
}

fn run(scenario: &Scenario) -> Result<Report, BenchError> {
    let common = scenario.common();
    let resolved = common.host.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let address = resolved.ok_or_else(|| BenchError::Unresolved(common.host.clone()))?;
    let broker = match common.pid {
        Some(pid) => Some(Observed::new(pid).ok_or(BenchError::NoProcess(pid))?),
        None => None,
    };
    if let Some(cpu) = common.cpu {
        // Asked for first, because core_affinity panics beyond the CPUs that its set has room for.
        let pinned = allowed_cpus().contains(&cpu) && core_affinity::set_for_current(CoreId { id: cpu });
        pinned.then_some(()).ok_or(BenchError::Cpu(cpu))?;
    }
    let run = random_seed() & 0xFF_FFFF;
    let plan = plan::plan(scenario, run)?;
    let introduction = Introduction {
        options: ClientOptions { version: common.protocol_version, ..ClientOptions::default() },
        client_identifier_prefix: format!("bench-{run:06x}-"),
        keep_alive_s: common.keep_alive,
        qos: common.qos,
        subscriptions: scenario.subscriptions(),
        user_name: common.user.clone(),
        password: common.password.clone(),
    };
    let target = Target { address, opening_max: common.opening as usize };
    let (connections, publishers, subscribers) = (plan.links.len(), plan.publishers, plan.subscribers);
    let engine = Engine::new(target, introduction, plan.links, plan.traffic, Progress::new(common.json))?;
    let mut bench = Bench { engine, broker };
    let mut report = Report {
        scenario: scenario.name(),
        host: address.to_string(),
        protocol_version: common.protocol_version.to_string(),
        qos: common.qos.value(),
        publishers,
        subscribers,
        ..Report::default()
    };
    match scenario {
        Scenario::P2p { traffic, .. } | Scenario::Fanout { traffic, .. } | Scenario::Fanin { traffic, .. } => {
            report.connect = bench.open(connections, None)?;
            report.messages = Some(bench.messages(traffic)?);
        }
        Scenario::Conn { rate, .. } => report.connect = bench.open(connections, *rate)?,
        Scenario::Idle { clients, duration, .. } => {
            let (connect, idle) = bench.idle(clients, *duration)?;
            (report.connect, report.idle) = (connect, Some(idle));
        }
    }
    bench.engine.close();
    Ok(report)
}

/// An engine, and the broker that it loads.
struct Bench {
    engine: Engine,
    broker: Option<Observed>,
}

/// The state of things at a moment.
#[derive(Clone, Copy)]
struct Sample {
    at: Moment,
    counts: Counts,
    enters: u64,
    own_cpu_ns: u64,
    broker_cpu_ns: Option<u64>,
}

impl Bench {
    fn sample(&self) -> Sample {
        Sample {
            at: self.engine.now(),
            counts: self.engine.fleet().traffic.counts(),
            enters: self.engine.enters(),
            own_cpu_ns: Observed::own().cpu_ns(),
            broker_cpu_ns: self.broker.map(Observed::cpu_ns),
        }
    }

    /// Opens connections until there are `count`.
    fn open(&mut self, count: usize, rate: Option<f64>) -> Result<ConnectReport, BenchError> {
        let before = self.sample();
        let opened_before = self.engine.fleet().ready();
        let took = self.engine.open(count, rate)?;
        let after = self.sample();
        let connections = self.engine.fleet().ready() - opened_before;
        let each = |ns: u64| ns as f64 / 1e3 / connections.max(1) as f64;
        Ok(ConnectReport {
            connections,
            seconds: took.as_secs_f64(),
            per_second: connections as f64 / took.as_secs_f64().max(1e-6),
            latency_us: LatencyReport::of(&self.engine.fleet().opening_times()[opened_before..]),
            broker_cpu_us_per_connection: after.broker_cpu_since(&before).map(each),
            generator_cpu_us_per_connection: each(after.own_cpu_ns - before.own_cpu_ns),
        })
    }

    /// Lets messages flow, measures, and checks them all.
    fn messages(&mut self, arguments: &TrafficArgs) -> Result<MessagesReport, BenchError> {
        let now = self.engine.now();
        self.engine.traffic_mut().start(now);
        self.engine.run_for(arguments.warmup, "warming up")?;
        let before = self.sample();
        self.engine.traffic_mut().record(true);
        self.engine.run_for(arguments.duration, "measuring")?;
        self.engine.traffic_mut().record(false);
        let after = self.sample();
        let resident_bytes = self.broker.and_then(Observed::resident_bytes);
        let syscalls_per_delivery = self.syscalls_per_delivery(arguments.duration)?;
        let unsent = self.engine.settle();
        let traffic = &self.engine.fleet().traffic;
        let seconds = after.at.since(before.at).as_secs_f64().max(1e-6);
        let delivered = after.counts.delivered - before.counts.delivered;
        let each = |amount: f64| amount / delivered.max(1) as f64;
        let percent = |ns: u64| ns as f64 / 1e7 / seconds;
        let own_cpu_ns = after.own_cpu_ns - before.own_cpu_ns;
        Ok(MessagesReport {
            payload_bytes: arguments.payload,
            window: arguments.window(),
            rate: arguments.rate,
            seconds,
            published_per_second: (after.counts.published - before.counts.published) as f64 / seconds,
            delivered_per_second: delivered as f64 / seconds,
            latency_us: LatencyReport::new(traffic.latency()),
            broker: after.broker_cpu_since(&before).map(|ns| BrokerReport {
                cpu_us_per_delivery: each(ns as f64 / 1e3),
                cpu_percent: percent(ns),
                syscalls_per_delivery,
                resident_bytes,
            }),
            generator_cpu_us_per_delivery: each(own_cpu_ns as f64 / 1e3),
            generator_cpu_percent: percent(own_cpu_ns),
            generator_enters_per_delivery: each((after.enters - before.enters) as f64),
            check: CheckReport::new(&self.engine, unsent),
        })
    }

    /// Counts the broker's system calls for a while, after all else is measured: counting slows them.
    fn syscalls_per_delivery(&mut self, duration: Duration) -> Result<Option<f64>, BenchError> {
        let Some(counter) = self.broker.and_then(|broker| SyscallCounter::start(broker.pid())) else { return Ok(None) };
        let (calls, delivered) = (counter.count(), self.engine.fleet().traffic.counts().delivered);
        self.engine.run_for(duration.min(SYSCALLS_COUNTED), "counting system calls")?;
        let delivered = self.engine.fleet().traffic.counts().delivered - delivered;
        Ok((delivered > 0).then(|| (counter.count() - calls) as f64 / delivered as f64))
    }

    /// Opens connections step by step and leaves them alone.
    fn idle(&mut self, steps: &[u32], duration: Duration) -> Result<(ConnectReport, IdleReport), BenchError> {
        let mut steps = steps.to_vec();
        steps.sort_unstable();
        let mut measured = vec![IdleStep { connections: 0, resident_bytes: self.resident_bytes() }];
        let mut connect = ConnectReport::default();
        for step in steps {
            connect = self.open(step as usize, None)?;
            self.engine.run_for(SETTLE_BEFORE_IDLE, "settling")?;
            measured.push(IdleStep { connections: step as usize, resident_bytes: self.resident_bytes() });
        }
        let before = self.sample();
        self.engine.run_for(duration, "idle")?;
        let after = self.sample();
        let seconds = after.at.since(before.at).as_secs_f64();
        // Without the first step: what a broker allocates once, with its first connection, is no cost of each.
        let resident_bytes_per_connection = IdleReport::slope(&measured[1..]).or_else(|| IdleReport::slope(&measured));
        let idle = IdleReport {
            resident_bytes_per_connection,
            steps: measured,
            broker_cpu_percent: after.broker_cpu_since(&before).map(|ns| ns as f64 / 1e7 / seconds.max(1e-6)),
            seconds,
            connections_lost: self.engine.fleet().lost(),
        };
        Ok((connect, idle))
    }

    fn resident_bytes(&self) -> Option<u64> {
        self.broker.and_then(Observed::resident_bytes)
    }
}

impl Sample {
    fn broker_cpu_since(&self, before: &Sample) -> Option<u64> {
        Some(self.broker_cpu_ns?.saturating_sub(before.broker_cpu_ns?))
    }
}

impl CheckReport {
    fn new(engine: &Engine, unsent: u64) -> Self {
        let (traffic, counts) = (&engine.fleet().traffic, engine.fleet().traffic.counts());
        CheckReport {
            published: counts.published,
            deliveries_expected: counts.expected,
            delivered: counts.delivered,
            lost: traffic.lost(),
            duplicated: counts.duplicated,
            reordered: counts.reordered,
            refused: counts.refused,
            foreign: counts.foreign,
            unsent,
            connections_lost: engine.fleet().lost(),
        }
    }
}

/// How long system calls are counted at most.
const SYSCALLS_COUNTED: Duration = Duration::from_secs(1);
/// Memory is measured when what opening left behind is put away.
const SETTLE_BEFORE_IDLE: Duration = Duration::from_secs(1);
