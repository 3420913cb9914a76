//! `ringmq bench`: a load generator for any MQTT broker, on the broker's own ring.
//!
//! | file | what it owns |
//! |---|---|
//! | [`arguments`], [`payload`] | the command line |
//! | [`plan`] | who connects, subscribes and publishes in each scenario, and on which thread |
//! | [`team`] | the threads, and the steps of a run that they take together |
//! | [`engine`], [`fleet`] | one thread's turns of its ring, and its connections with their clients |
//! | [`traffic`], [`flow`], [`window`], [`stamp`] | the messages, and the check that each arrives once and in order |
//! | [`board`] | what threads must know of each other's messages |
//! | [`homes`] | ClientIds by the shard of RingMQ that they belong to |
//! | [`mix`] | who there is where a message goes to one of a group, or where several scenarios go on at once |
//! | [`crew`], [`setting`] | clients that come and go, on a ring of their own |
//! | [`retained`], [`offline`], [`storm`], [`churn`] | what these do, and what is counted; [`seen`] has each message once |
//! | [`companion`] | what goes on beside a run, on a thread of its own |
//! | [`preset`] | the cases of the Open MQTT Benchmark Suite |
//! | [`observed`], [`growth`] | CPU time and memory of a process |
//! | [`report`], [`outcome`], [`timeline`], [`plot`], [`progress`] | what is told, at the end and meanwhile |
//!
//! What always holds: a thread has one ring and shares nothing per message; every message is checked; the time in a message is when it was handed to
//! its connection or, at a fixed rate, when it was due, and its arrival is when the kernel had it, so that the generator's
//! own work counts against nobody but itself.

mod arguments;
mod board;
mod churn;
mod companion;
mod crew;
mod engine;
mod fleet;
mod flow;
mod growth;
mod homes;
mod mix;
mod observed;
mod offline;
mod outcome;
mod payload;
mod plan;
mod plot;
mod preset;
mod progress;
mod report;
mod retained;
mod seen;
mod setting;
mod stamp;
mod storm;
mod team;
mod timeline;
mod traffic;
mod window;

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

pub(super) use arguments::BenchArgs;
use core_affinity::CoreId;

use self::{
    arguments::{CommonArgs, Scenario, TrafficArgs},
    companion::Companion,
    engine::Target,
    fleet::{Introduction, LinkFailure},
    mix::SharedsubArgs,
    observed::{CpuTimes, CpuUse, Observed},
    outcome::{HoldReport, Outcome},
    plot::PlotError,
    progress::Progress,
    report::{
        BrokerReport, CheckReport, ConnectReport, IdleReport, IdleStep, MessagesReport, Quantiles, Report, SpokenReport,
    },
    setting::Setting,
    team::Team,
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
    #[error("cannot connect to {address} from {from}: {errno}")]
    ConnectFrom { address: SocketAddr, from: IpAddr, errno: Errno },
    #[error("{from} is no address to reach {address} from: one is IPv4, the other IPv6")]
    SourceFamily { address: SocketAddr, from: IpAddr },
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
    #[error("{messages} messages for each of {clients} clients are too many to check")]
    TooManyDeliveries { messages: u32, clients: u32 },
    #[error("the broker stopped acknowledging: it has {acknowledged} of {count} messages")]
    Unacknowledged { acknowledged: u32, count: u32 },
    #[error("one shard has no pairs apart")]
    OneShard,
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
    #[error("a thread could not be made: {0}")]
    Thread(std::io::Error),
    #[error("a thread of the load generator has failed")]
    ThreadDied,
    #[error("{}: {error}", path.display())]
    Plot { path: PathBuf, error: PlotError },
    #[error("{0} works on one thread: leave out --threads, and give --cpus one CPU")]
    OneThread(&'static str),
    #[error("--plot draws messages, and this scenario has none")]
    NothingToPlot,
}

impl BenchError {
    /// Whether the command line is to blame.
    fn exit(&self) -> Exit {
        match self {
            BenchError::Unresolved(_)
            | BenchError::TooManyFlows { .. }
            | BenchError::TooManyDeliveries { .. }
            | BenchError::PayloadTooLarge(_)
            | BenchError::NoProcess(_)
            | BenchError::SourceFamily { .. }
            | BenchError::NothingToPlot
            | BenchError::OneThread(_)
            | BenchError::Cpu(_) => Exit::BadUsage,
            _ => Exit::CannotRun,
        }
    }
}

pub(super) fn bench(arguments: &BenchArgs) -> Exit {
    match &arguments.scenario {
        Scenario::Preset(preset) if preset.list => {
            print(&preset::list());
            Exit::Done
        }
        Scenario::Preset(preset) => match preset::expand(preset) {
            Ok(scenario) => bench_scenario(&scenario),
            Err(error) => {
                // There is nobody to tell when printing fails.
                let _ = error.print();
                if error.exit_code() == 0 { Exit::Done } else { Exit::BadUsage }
            }
        },
        scenario => bench_scenario(scenario),
    }
}

fn print(text: &str) {
    // Nobody is left to tell when the output is closed.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn bench_scenario(scenario: &Scenario) -> Exit {
    let Some(common) = scenario.common() else { return Exit::BadUsage };
    match run(scenario, common) {
        Ok(report) => {
            let text = if common.json { report.json() + "\n" } else { report.table() };
            print(&text);
            Exit::Done
        }
        Err(error) => {
            eprintln!("error: {error}");
            error.exit()
        }
    }
}

impl Scenario {
    /// What every scenario takes; a preset stands for one and is none.
    fn common(&self) -> Option<&CommonArgs> {
        Some(match self {
            Scenario::P2p { common, .. }
            | Scenario::Fanout { common, .. }
            | Scenario::Fanin { common, .. }
            | Scenario::Conn { common, .. }
            | Scenario::Idle { common, .. } => common,
            Scenario::Sharedsub(arguments) => &arguments.common,
            Scenario::Composite(arguments) => &arguments.common,
            Scenario::Retained(arguments) => &arguments.common,
            Scenario::Offline(arguments) => &arguments.common,
            Scenario::Storm(arguments) => &arguments.common,
            Scenario::Preset(_) => return None,
        })
    }

    fn has_messages(&self) -> bool {
        matches!(
            self,
            Scenario::P2p { .. }
                | Scenario::Fanout { .. }
                | Scenario::Fanin { .. }
                | Scenario::Sharedsub(_)
                | Scenario::Composite(_)
        )
    }

    /// Whether its clients come and go.
    fn has_a_crew(&self) -> bool {
        matches!(self, Scenario::Retained(_) | Scenario::Offline(_) | Scenario::Storm(_))
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
            Scenario::Sharedsub(_) => "sharedsub",
            Scenario::Composite(_) => "composite",
            Scenario::Retained(_) => "retained",
            Scenario::Offline(_) => "offline",
            Scenario::Storm(_) => "storm",
            Scenario::Preset(_) => "preset",
        }
    }
}

fn run(scenario: &Scenario, common: &CommonArgs) -> Result<Report, BenchError> {
    let resolved = common.host.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let address = resolved.ok_or_else(|| BenchError::Unresolved(common.host.clone()))?;
    let broker = match common.pid {
        Some(pid) => Some(Observed::new(pid).ok_or(BenchError::NoProcess(pid))?),
        None => None,
    };
    if let Some(&from) = common.source.iter().find(|source| source.is_ipv4() != address.is_ipv4()) {
        return Err(BenchError::SourceFamily { address, from });
    }
    if common.plot.is_some() && !scenario.has_messages() {
        return Err(BenchError::NothingToPlot);
    }
    let threads = common.threads();
    if threads.count > 1 && scenario.has_a_crew() {
        return Err(BenchError::OneThread(scenario.name()));
    }
    let may_use = allowed_cpus();
    if let Some(cpu) = threads.cpus.iter().find(|cpu| !may_use.contains(cpu)) {
        return Err(BenchError::Cpu(*cpu));
    }
    let run = random_seed() & 0xFF_FFFF;
    let plan = plan::plan(scenario, threads.count, run)?;
    let introduction = Introduction {
        options: ClientOptions { version: common.protocol_version, ..ClientOptions::default() },
        client_identifier_prefix: format!("bench-{run:06x}-"),
        keep_alive_s: common.keep_alive,
        qos: common.qos,
        subscriptions: scenario.subscriptions(),
        user_name: common.user.clone(),
        password: common.password.clone(),
    };
    let opening_max = common.opening.div_ceil(threads.count) as usize;
    let target = Target { address, opening_max, sources: common.source.clone().into() };
    let setting = Setting { target: target.clone(), introduction: introduction.clone(), broker, run };
    let (connections, publishers, subscribers) = (plan.links.len(), plan.publishers, plan.subscribers);
    let mut report = Report {
        scenario: scenario.name(),
        host: address.to_string(),
        protocol_version: common.protocol_version.to_string(),
        qos: common.qos.value(),
        threads: threads.count,
        publishers,
        subscribers,
        ..Report::default()
    };
    if let Some(outcome) = run_crew(scenario, &setting, threads.cpus.first().copied(), Progress::new(common.json)) {
        let (connect, outcome) = outcome?;
        return Ok(Report { connect, outcome: Some(outcome), ..report });
    }
    let team = Team::start(&threads, &target, &introduction, plan, Progress::new(common.json))?;
    let title = format!("{}, MQTT {}, QoS {}", scenario.name(), common.protocol_version, common.qos.value());
    let plot = common.plot.clone().map(|path| (path, title));
    let mut bench = Bench { team, broker, plot };
    match scenario {
        Scenario::P2p { traffic, .. } | Scenario::Fanout { traffic, .. } | Scenario::Fanin { traffic, .. } => {
            report.connect = bench.open(connections, None)?;
            report.messages = Some(bench.messages(traffic)?);
        }
        Scenario::Sharedsub(SharedsubArgs { traffic, .. }) => {
            report.connect = bench.open(connections, None)?;
            report.messages = Some(bench.messages(traffic)?);
        }
        Scenario::Composite(arguments) => {
            report.connect = bench.open(connections, None)?;
            let churn = match arguments.churn {
                0.0 => None,
                rate => Some(churn::start(&setting, arguments.churn_clients, rate)?),
            };
            report.messages = Some(bench.messages(&arguments.traffic())?);
            report.outcome = churn.map(Companion::finish).transpose()?.map(Outcome::Churn);
        }
        Scenario::Conn { rate, hold, .. } => {
            report.connect = bench.open(connections, *rate)?;
            if !hold.is_zero() {
                report.outcome = Some(Outcome::Hold(bench.hold(*hold)?));
            }
        }
        Scenario::Idle { clients, speak_once, settle, duration, .. } => {
            let (connect, idle) = bench.idle(clients, *speak_once, *settle, *duration)?;
            (report.connect, report.idle) = (connect, Some(idle));
        }
        Scenario::Retained(_) | Scenario::Offline(_) | Scenario::Storm(_) | Scenario::Preset(_) => {}
    }
    bench.team.close()?;
    Ok(report)
}

/// Runs the scenarios whose clients come and go, on `cpu`; nothing for any other.
fn run_crew(
    scenario: &Scenario,
    setting: &Setting,
    cpu: Option<usize>,
    progress: Progress,
) -> Option<Result<(ConnectReport, Outcome), BenchError>> {
    if let Some(id) = cpu
        && !core_affinity::set_for_current(CoreId { id })
    {
        return Some(Err(BenchError::Cpu(id)));
    }
    match scenario {
        Scenario::Retained(arguments) => Some(retained::run(arguments, setting, progress)),
        Scenario::Offline(arguments) => Some(offline::run(arguments, setting, progress)),
        Scenario::Storm(arguments) => Some(storm::run(arguments, setting, progress)),
        _ => None,
    }
}

/// A team, and the broker that it loads.
struct Bench {
    team: Team,
    broker: Option<Observed>,
    /// Where a picture goes, and its title.
    plot: Option<(PathBuf, String)>,
}

/// The state of things at a moment.
#[derive(Clone)]
struct Sample {
    at: Moment,
    counts: Counts,
    enters: u64,
    own_cpu_ns: u64,
    broker: Option<CpuTimes>,
}

impl Bench {
    fn sample(&mut self) -> Result<Sample, BenchError> {
        Ok(Sample {
            at: self.team.now(),
            counts: self.team.counts()?,
            enters: self.team.enters()?,
            own_cpu_ns: Observed::own().cpu_ns(),
            broker: self.broker.map(Observed::cpu_times),
        })
    }

    fn broker_use(&self, before: &Sample, after: &Sample) -> Option<CpuUse> {
        let elapsed = after.at.since(before.at);
        Some(self.broker?.cpu_use(before.broker.as_ref()?, after.broker.as_ref()?, elapsed))
    }

    /// Opens connections until there are `count`.
    fn open(&mut self, count: usize, rate: Option<f64>) -> Result<ConnectReport, BenchError> {
        let before = self.sample()?;
        let times_before = self.team.opening_times()?;
        let took = self.team.open(count, rate)?;
        let after = self.sample()?;
        let times = self.team.opening_times()?;
        let new = times.iter().zip(&times_before).map(|(times, before)| &times[before.len()..]);
        let times: Vec<u32> = new.flatten().copied().collect();
        let each = |ns: u64| ns as f64 / 1e3 / times.len().max(1) as f64;
        let seconds = took.as_secs_f64();
        Ok(ConnectReport {
            connections: times.len(),
            seconds,
            per_second: times.len() as f64 / seconds.max(1e-6),
            latency: Quantiles::of(&times),
            broker_cpu_us: self.broker_use(&before, &after).map(|used| each(used.ran_ns)),
            generator_cpu_us: each(after.own_cpu_ns - before.own_cpu_ns),
        })
    }

    /// Lets messages flow, measures, and checks them all.
    fn messages(&mut self, arguments: &TrafficArgs) -> Result<MessagesReport, BenchError> {
        let resident_before = self.resident_bytes();
        self.team.start_messages()?;
        self.team.run_for(arguments.warmup, "warming up")?;
        let before = self.sample()?;
        self.team.record(true)?;
        let timeline = self.team.run_for(arguments.duration, "measuring")?;
        self.team.record(false)?;
        let after = self.sample()?;
        let resident_bytes = self.resident_bytes();
        let syscalls_per_delivery = self.syscalls_per_delivery(arguments.duration)?;
        let unsent = self.team.settle()?;
        let (counts, findings) = (self.team.counts()?, self.team.findings()?);
        let seconds = after.at.since(before.at).as_secs_f64().max(1e-6);
        let delivered = after.counts.delivered - before.counts.delivered;
        let each = |amount: f64| amount / delivered.max(1) as f64;
        let own_cpu_ns = after.own_cpu_ns - before.own_cpu_ns;
        if let Some((path, title)) = &self.plot {
            plot::draw(title, path, &findings.latency, &timeline.rates())
                .map_err(|error| BenchError::Plot { path: path.clone(), error })?;
        }
        Ok(MessagesReport {
            payload: arguments.payload.to_string(),
            payload_bytes_mean: arguments.payload.table().mean(),
            window: arguments.window(),
            rate: arguments.rate,
            warmup_seconds: arguments.warmup.as_secs_f64(),
            seconds,
            published_per_second: (after.counts.published - before.counts.published) as f64 / seconds,
            delivered_per_second: delivered as f64 / seconds,
            latency: Quantiles::new(&findings.latency),
            broker: self.broker_use(&before, &after).map(|used| BrokerReport {
                cpu_us_per_delivery: each(used.ran_ns as f64 / 1e3),
                cpu_percent: used.percent(seconds),
                cpu_wait_percent: used.wait_percent(seconds),
                cpus: used.cpus,
                saturated: used.is_saturated(seconds),
                syscalls_per_delivery,
                resident_bytes_open: resident_before,
                resident_bytes,
            }),
            generator_cpu_us_per_delivery: each(own_cpu_ns as f64 / 1e3),
            generator_cpu_percent: own_cpu_ns as f64 / 1e7 / seconds,
            generator_enters_per_delivery: each((after.enters - before.enters) as f64),
            check: CheckReport {
                published: counts.published,
                deliveries_expected: counts.expected,
                delivered: counts.delivered,
                lost: findings.lost,
                duplicated: counts.duplicated,
                reordered: counts.reordered,
                refused: counts.refused,
                foreign: counts.foreign,
                unsent,
                connections_lost: findings.connections_lost,
            },
        })
    }

    /// Counts the broker's system calls for a while, after all else is measured: counting slows them.
    fn syscalls_per_delivery(&mut self, duration: Duration) -> Result<Option<f64>, BenchError> {
        let Some(counter) = self.broker.and_then(|broker| SyscallCounter::start(broker.pid())) else { return Ok(None) };
        let (calls, delivered) = (counter.count(), self.team.counts()?.delivered);
        self.team.run_for(duration.min(SYSCALLS_COUNTED), "counting system calls")?;
        let delivered = self.team.counts()?.delivered - delivered;
        Ok((delivered > 0).then(|| (counter.count() - calls) as f64 / delivered as f64))
    }

    /// Opens connections step by step and leaves them alone, but for one message of each if they are to speak.
    fn idle(
        &mut self,
        steps: &[u32],
        speak_once: bool,
        settle: Duration,
        duration: Duration,
    ) -> Result<(ConnectReport, IdleReport), BenchError> {
        let mut steps = steps.to_vec();
        steps.sort_unstable();
        let mut measured = vec![IdleStep { connections: 0, resident_bytes: self.resident_bytes() }];
        let mut connect = ConnectReport::default();
        for step in steps {
            connect = self.open(step as usize, None)?;
            self.team.run_for(SETTLE_BEFORE_IDLE, "settling")?;
            measured.push(IdleStep { connections: step as usize, resident_bytes: self.resident_bytes() });
        }
        // Without the first step: what a broker allocates once, with its first connection, is no cost of each.
        let resident_bytes_per_connection = IdleReport::slope(&measured[1..]).or_else(|| IdleReport::slope(&measured));
        let spoken = match measured.last() {
            Some(silent) if speak_once => Some(self.speak_once(*silent, resident_bytes_per_connection)?),
            _ => None,
        };
        self.team.run_for(settle, "settling")?;
        let before = self.sample()?;
        self.team.run_for(duration, "idle")?;
        let after = self.sample()?;
        let seconds = after.at.since(before.at).as_secs_f64().max(1e-6);
        let idle = IdleReport {
            resident_bytes_per_connection,
            steps: measured,
            spoken,
            broker_cpu_percent: self.broker_use(&before, &after).map(|used| used.percent(seconds)),
            seconds,
            connections_lost: self.team.connections_lost()?,
        };
        Ok((connect, idle))
    }

    /// Lets every connection say and hear one message, and waits until all is put away. What they took that were `silent`
    /// is known.
    fn speak_once(&mut self, silent: IdleStep, bytes_per_connection: Option<f64>) -> Result<SpokenReport, BenchError> {
        let heard = self.team.speak_once()?;
        self.team.run_for(SETTLE_AFTER_SPEAKING, "settling")?;
        let resident_bytes = self.resident_bytes();
        let growth = resident_bytes.zip(silent.resident_bytes).map(|(after, before)| after as f64 - before as f64);
        let each = growth.zip(bytes_per_connection).map(|(growth, each)| each + growth / silent.connections as f64);
        Ok(SpokenReport { heard, resident_bytes, resident_bytes_per_connection: each })
    }

    /// Leaves all connections alone for a while.
    fn hold(&mut self, duration: Duration) -> Result<HoldReport, BenchError> {
        let before = self.sample()?;
        self.team.run_for(duration, "holding")?;
        let after = self.sample()?;
        let seconds = after.at.since(before.at).as_secs_f64().max(1e-6);
        Ok(HoldReport {
            seconds,
            connections_lost: self.team.connections_lost()?,
            broker_cpu_percent: self.broker_use(&before, &after).map(|used| used.percent(seconds)),
        })
    }

    fn resident_bytes(&self) -> Option<u64> {
        self.broker.and_then(Observed::resident_bytes)
    }
}

/// How long system calls are counted at most.
const SYSCALLS_COUNTED: Duration = Duration::from_secs(1);
/// Memory is measured when what opening left behind is put away.
const SETTLE_BEFORE_IDLE: Duration = Duration::from_secs(1);
/// And when what messages left behind is: a broker may wait a few seconds for more of them.
const SETTLE_AFTER_SPEAKING: Duration = Duration::from_secs(5);
