//! `storm`: all clients lose their connection at once and all return at once, while a few that stayed ask for a PINGRESP.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use clap::Args;
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use super::{
    BenchError,
    arguments::{CommonArgs, count, duration},
    companion::{Beside, Companion, Phase},
    crew::{Crew, Listener, News, identities},
    outcome::Outcome,
    progress::Progress,
    report::{ConnectReport, Quantiles, Table},
    setting::Setting,
};
use crate::{runtime::executor::raise_thread_priority, time::Moment};

#[derive(Clone, Debug, Args)]
pub(super) struct StormArgs {
    /// Clients, each with a subscription, that are dropped. (--opening holds for their first connect, not for the return.)
    #[arg(long, value_name = "N", default_value_t = 15_000, value_parser = count())]
    pub clients: u32,
    /// Clients that stay and send PINGREQ.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub stay: u32,
    /// Time between two PINGREQs of one client; they don't wait for each other.
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = interval)]
    pub ping: Duration,
    /// How long pings are measured before the storm.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub calm: Duration,
    /// How long the clients may take to return.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub patience: Duration,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct StormReport {
    pub clients: u32,
    /// From the first connection dropped to the last client that is back.
    #[serde(rename = "storm_seconds")]
    pub seconds: f64,
    #[serde(rename = "reconnects_per_second")]
    pub per_second: f64,
    /// From a client's first connect to its SUBACK, failures in between included.
    #[serde(flatten, serialize_with = "reconnect_quantiles")]
    pub opening_us: Quantiles,
    /// Connections that were refused, reset or timed out.
    pub failures: u64,
    pub retries: u64,
    /// Clients that never came back.
    pub missing: u64,
    pub first_failure: Option<String>,
    pub broker_cpu_us_per_client: Option<f64>,
    /// How long the broker could have run in the storm and got no CPU: pings waited for other programs meanwhile.
    pub broker_cpu_wait_ms: Option<f64>,
    pub generator_cpu_us_per_client: f64,
    #[serde(flatten)]
    pub pings: PingsReport,
}

/// PINGREQs of the clients that stayed, each timed from the moment when it was due.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct PingsReport {
    #[serde(rename = "ping_clients")]
    pub clients: u32,
    #[serde(flatten, serialize_with = "ping_calm_quantiles")]
    pub calm_us: Quantiles,
    #[serde(flatten, serialize_with = "ping_storm_quantiles")]
    pub storm_us: Quantiles,
    /// How much later than due the generator came to send them in the storm: so much of the times above is its own.
    #[serde(flatten, serialize_with = "ping_late_quantiles")]
    pub late_us: Quantiles,
    /// During the storm.
    #[serde(rename = "pings_in_storm")]
    pub sent: u64,
    /// Of all.
    #[serde(rename = "pings_unanswered")]
    pub unanswered: u64,
    /// Connections of clients that should have stayed.
    #[serde(rename = "ping_connections_lost")]
    pub connections_lost: u64,
}

pub(super) fn run(
    arguments: &StormArgs,
    setting: &Setting,
    progress: Progress,
) -> Result<(ConnectReport, Outcome), BenchError> {
    let clients = arguments.clients;
    let prefix = &setting.introduction.client_identifier_prefix;
    let members = identities(prefix, 's', clients, |number| Some(setting.topic(number)));
    let returned = Returned::new(clients);
    let mut crew = Crew::new(setting.target.clone(), setting.introduction.clone(), members, returned, progress)?;
    let connect = crew.open(0..clients, setting.broker)?;
    let pings = {
        let (setting, stay, ping) = (setting.clone(), arguments.stay, arguments.ping);
        Companion::start(move |beside| run_pings(&setting, stay, ping, beside))?
    };
    crew.rest(arguments.calm, "calm")?;
    pings.enter(Phase::Storm);
    let span = setting.span();
    let mut report = weather(&mut crew, arguments);
    let cpu = span.each(u64::from(clients));
    report.broker_cpu_us_per_client = cpu.broker_us;
    report.broker_cpu_wait_ms = span.broker_waited().map(|waited| waited.as_secs_f64() * 1e3);
    report.generator_cpu_us_per_client = cpu.generator_us;
    report.pings = pings.finish()?;
    crew.leave_all();
    crew.progress.clear();
    Ok((connect, Outcome::Storm(report)))
}

/// Drops all and brings all back.
fn weather(crew: &mut Crew<Returned>, arguments: &StormArgs) -> StormReport {
    let clients = arguments.clients;
    let mut report = StormReport { clients, ..StormReport::default() };
    let dropped = crew.now();
    (0..clients).for_each(|client| crew.cut(client));
    crew.wait_closed();
    let now = crew.now();
    let deadline = now.after(arguments.patience);
    crew.listener_mut().start(now);
    let mut waiting: BinaryHeap<_> = (0..clients).map(|client| Reverse((Moment::default(), client))).collect();
    loop {
        let now = crew.now();
        let mut begun = 0;
        while begun < BEGUN_PER_TURN && waiting.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            let Some(Reverse((_, client))) = waiting.pop() else { break };
            begun += 1;
            crew.listener_mut().attempt(client, now);
            if let Err(errno) = crew.begin(client) {
                crew.listener_mut().fail(client, || errno.to_string());
            }
        }
        let next = waiting.peek().map_or(Moment::NEVER, |Reverse((due, _))| *due);
        crew.turn(next.min(now.after(TICK)));
        let now = crew.now();
        while let Some(client) = crew.listener_mut().failed.pop_front() {
            report.failures += 1;
            let tries = &mut crew.listener_mut().tries[client as usize];
            *tries += 1;
            if *tries < TRIES_MAX {
                report.retries += 1;
                waiting.push(Reverse((now.after(BACKOFF * u32::from(*tries)), client)));
            }
        }
        let (back, last) = (crew.ready(), crew.listener().last);
        // A little longer, for those that are dropped again.
        let is_over = waiting.is_empty() && crew.opening() == 0 && now.since(last) > AFTERWARDS;
        if is_over || now > deadline {
            break;
        }
        crew.progress.show(now, || format!("storm: {back} of {clients} are back"));
    }
    let returned = crew.listener();
    report.missing = u64::from(clients) - crew.ready() as u64;
    report.seconds = returned.last.since(dropped).as_secs_f64();
    report.per_second = crew.ready() as f64 / report.seconds.max(1e-6);
    report.opening_us = Quantiles::of(&returned.took_us);
    report.first_failure.clone_from(&returned.first_failure);
    report
}

/// Who came back, when, and who failed.
#[derive(Debug)]
struct Returned {
    is_storm: bool,
    first_attempt: Vec<Option<Moment>>,
    took_us: Vec<u32>,
    tries: Vec<u8>,
    failed: VecDeque<u32>,
    first_failure: Option<String>,
    last: Moment,
}

impl Returned {
    fn new(clients: u32) -> Self {
        Returned {
            is_storm: false,
            first_attempt: vec![None; clients as usize],
            took_us: Vec::new(),
            tries: vec![0; clients as usize],
            failed: VecDeque::new(),
            first_failure: None,
            last: Moment::default(),
        }
    }

    fn start(&mut self, now: Moment) {
        (self.is_storm, self.last) = (true, now);
    }

    fn attempt(&mut self, client: u32, now: Moment) {
        self.first_attempt[client as usize].get_or_insert(now);
    }

    fn fail(&mut self, client: u32, why: impl FnOnce() -> String) {
        self.first_failure.get_or_insert_with(why);
        self.failed.push_back(client);
    }
}

impl Listener for Returned {
    fn hear(&mut self, member: u32, news: News<'_>, at: Moment) {
        match news {
            News::Ready { .. } if self.is_storm => {
                if let Some(first) = self.first_attempt[member as usize] {
                    self.took_us.push(u32::try_from(at.since(first).as_micros()).unwrap_or(u32::MAX));
                }
                self.last = at;
            }
            News::Gone(failure) if self.is_storm => self.fail(member, || failure.to_string()),
            _ => {}
        }
    }
}

/// PINGREQs under way, and how long those took that were answered.
#[derive(Debug)]
struct Pings {
    /// For each client, when each was due and in which phase.
    waiting: Vec<VecDeque<(Moment, Phase)>>,
    calm: Histogram<u64>,
    storm: Histogram<u64>,
    late: Histogram<u64>,
    sent: u64,
}

fn run_pings(setting: &Setting, clients: u32, interval: Duration, beside: &Beside) -> Result<PingsReport, BenchError> {
    let prefix = &setting.introduction.client_identifier_prefix;
    let members = identities(prefix, 'p', clients, |_| None);
    let progress = Progress::new(true);
    let pings = Pings::new(clients);
    let mut crew = Crew::new(setting.target.clone(), setting.introduction.clone(), members, pings, progress)?;
    crew.open(0..clients, None)?;
    // The storm works on the same CPU: what it takes must not look like the broker's time. Where that is not allowed, the
    // lateness tells of it.
    let _ = raise_thread_priority();
    beside.ready();
    let mut due = crew.now();
    loop {
        let (now, phase) = (crew.now(), beside.phase());
        if phase == Phase::Over {
            break;
        }
        while due <= now {
            crew.listener_mut().note_late(now.since(due), phase);
            for client in 0..clients {
                // One that is gone pings no more; that it is gone is told by itself.
                if crew.speak(client, |client, out| client.ping(out)).is_ok() {
                    crew.listener_mut().send(client, due, phase);
                }
            }
            due = due.after(interval);
        }
        crew.turn(due);
    }
    let until = crew.now().after(ANSWER_PATIENCE);
    while crew.listener().unanswered() > 0 && crew.ready() > 0 && crew.now() < until {
        crew.turn(until);
    }
    let now = crew.now();
    let connections_lost = crew.lost();
    let unanswered = crew.listener().unanswered();
    crew.listener_mut().give_up(now);
    let report = crew.listener().report(clients, unanswered, connections_lost);
    crew.leave_all();
    Ok(report)
}

impl Pings {
    fn new(clients: u32) -> Self {
        let histogram = || Histogram::new_with_bounds(1, PING_MAX_US, 3).expect("the bounds are in order");
        let waiting = vec![VecDeque::new(); clients as usize];
        Pings { waiting, calm: histogram(), storm: histogram(), late: histogram(), sent: 0 }
    }

    fn note_late(&mut self, late: Duration, phase: Phase) {
        if phase == Phase::Storm {
            self.late.saturating_record(late.as_micros() as u64);
        }
    }

    fn send(&mut self, client: u32, due: Moment, phase: Phase) {
        self.waiting[client as usize].push_back((due, phase));
        self.sent += u64::from(phase == Phase::Storm);
    }

    /// The oldest PINGREQ of the client is answered, or will never be.
    fn answer(&mut self, client: u32, at: Moment) {
        let Some((due, phase)) = self.waiting[client as usize].pop_front() else { return };
        let histogram = if phase == Phase::Calm { &mut self.calm } else { &mut self.storm };
        histogram.saturating_record(at.since(due).as_micros() as u64);
    }

    fn unanswered(&self) -> u64 {
        self.waiting.iter().map(|waiting| waiting.len() as u64).sum()
    }

    /// What was not answered took at least as long as until now.
    fn give_up(&mut self, now: Moment) {
        for client in 0..self.waiting.len() as u32 {
            while !self.waiting[client as usize].is_empty() {
                self.answer(client, now);
            }
        }
    }

    fn report(&self, clients: u32, unanswered: u64, connections_lost: u64) -> PingsReport {
        let (calm_us, storm_us) = (Quantiles::new(&self.calm), Quantiles::new(&self.storm));
        let late_us = Quantiles::new(&self.late);
        PingsReport { clients, calm_us, storm_us, late_us, sent: self.sent, unanswered, connections_lost }
    }
}

impl Listener for Pings {
    fn hear(&mut self, member: u32, news: News<'_>, at: Moment) {
        if let News::Pong = news {
            self.answer(member, at);
        }
    }
}

impl StormReport {
    pub fn tell(&self, table: &mut Table) {
        let StormReport { clients, seconds, per_second, failures, retries, missing, .. } = self;
        table.line("storm", format!("{clients} dropped; back after {seconds:.2} s, {per_second:.0} a second"));
        table.line("  opening, us", self.opening_us.text());
        table.cpu(self.broker_cpu_us_per_client, self.generator_cpu_us_per_client, "client");
        if let Some(waited) = self.broker_cpu_wait_ms {
            table.line("  no CPU", format!("{waited:.0} ms, in which the broker could have run"));
        }
        let why = self.first_failure.as_ref().map_or_else(String::new, |why| format!(" (the first: {why})"));
        table.line("  failed", format!("{failures} connections{why}, {retries} tried again, {missing} missing"));
        let PingsReport { clients, sent, unanswered, connections_lost, .. } = &self.pings;
        table.line("ping, calm, us", self.pings.calm_us.text());
        table.line("  in the storm", self.pings.storm_us.text());
        table.line("  sent late", self.pings.late_us.text());
        table.line(
            "",
            format!("{sent} by {clients} that stayed; {unanswered} unanswered, {connections_lost} connections lost"),
        );
    }
}

fn reconnect_quantiles<S: Serializer>(quantiles: &Quantiles, serializer: S) -> Result<S::Ok, S::Error> {
    quantiles.serialize_as("reconnect", serializer)
}

fn ping_calm_quantiles<S: Serializer>(quantiles: &Quantiles, serializer: S) -> Result<S::Ok, S::Error> {
    quantiles.serialize_as("ping_calm", serializer)
}

fn ping_storm_quantiles<S: Serializer>(quantiles: &Quantiles, serializer: S) -> Result<S::Ok, S::Error> {
    quantiles.serialize_as("ping_storm", serializer)
}

fn ping_late_quantiles<S: Serializer>(quantiles: &Quantiles, serializer: S) -> Result<S::Ok, S::Error> {
    quantiles.serialize_as("ping_late", serializer)
}

/// A time that is not too short to be kept.
fn interval(text: &str) -> Result<Duration, &'static str> {
    let interval = duration(text)?;
    (interval >= INTERVAL_MIN).then_some(interval).ok_or("at least 1ms is wanted")
}

const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// Connects between two turns: on loopback each does the work of both sides at once, and answers wait meanwhile.
const BEGUN_PER_TURN: usize = 16;
const TICK: Duration = Duration::from_millis(100);
/// A client waits so long before it tries again, twice as long before the time after that, and so on.
const BACKOFF: Duration = Duration::from_millis(100);
/// Connections that a client tries; then it is missing.
const TRIES_MAX: u8 = 20;
/// How long all must have been back.
const AFTERWARDS: Duration = Duration::from_millis(300);
/// How long an answer to the last PINGREQs may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Longer times are recorded as this one.
const PING_MAX_US: u64 = 120_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_counts_from_when_it_was_due_in_the_phase_of_then() {
        let at = Moment::from_micros;
        let mut pings = Pings::new(1);
        pings.send(0, at(1000), Phase::Calm);
        pings.send(0, at(2000), Phase::Storm);
        pings.send(0, at(3000), Phase::Storm);
        pings.hear(0, News::Pong, at(2100));
        pings.hear(0, News::Pong, at(2300));
        assert_eq!(pings.unanswered(), 1);
        pings.give_up(at(9000));
        let report = pings.report(1, 1, 0);
        assert_eq!((report.calm_us.max, report.storm_us.p50, report.sent), (1100, 300, 2));
        assert!(report.storm_us.max >= 6000);
    }

    #[test]
    fn a_client_that_returns_late_or_fails_is_noticed() {
        let at = Moment::from_micros;
        let mut returned = Returned::new(2);
        returned.start(at(0));
        returned.attempt(0, at(10));
        returned.hear(0, News::Gone(super::super::fleet::LinkFailure::Closed), at(20));
        assert_eq!(returned.failed.pop_front(), Some(0));
        returned.attempt(0, at(30));
        returned.hear(0, News::Ready { took: Duration::ZERO, session_present: false }, at(50));
        assert_eq!(returned.took_us, [40], "from the first attempt on");
    }
}
