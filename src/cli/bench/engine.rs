//! The load generator's turns: marries the connections to a ring, opens them, lets them run, and ends them.
//!
//! What always holds: one thread, one ring, one entry into the kernel a turn. Every loop ends: by its goal, or when nothing
//! moved for [`PATIENCE`].

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    BenchError,
    fleet::{Fleet, Introduction, LinkPlan},
    progress::Progress,
    traffic::Traffic,
};
use crate::{
    runtime::{
        Clock, Uring, UringParameters, Wait, Wake, Wires, WiresParameters, connector,
        descriptors::{grow_descriptor_table, raise_descriptor_limit},
    },
    time::Moment,
};

/// Where connections go, and how.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The broker.
    pub address: SocketAddr,
    /// Connections that may wait for an answer at once.
    pub opening_max: usize,
}

/// The load generator.
#[derive(Debug)]
pub(super) struct Engine {
    wires: Wires<Uring>,
    fleet: Fleet,
    plans: VecDeque<LinkPlan>,
    target: Target,
    clock: Clock,
    progress: Progress,
    next_second: Moment,
}

impl Engine {
    /// A generator that has nothing open. `plans` are the connections, in the order in which they will be opened.
    pub fn new(
        target: Target,
        introduction: Introduction,
        plans: Vec<LinkPlan>,
        traffic: Traffic,
        progress: Progress,
    ) -> Result<Self, BenchError> {
        let limit = raise_descriptor_limit().map_err(BenchError::Descriptors)?.soft;
        let wanted = plans.len() as u64 + DESCRIPTORS_RESERVED;
        if wanted > limit {
            return Err(BenchError::TooManyConnections { connections: plans.len(), limit });
        }
        grow_descriptor_table(wanted).map_err(BenchError::Descriptors)?;
        let wake = Wake::new().map_err(BenchError::Wake)?;
        let parameters =
            UringParameters { submissions: 4096, completions: 1 << 16, buffers: 1024, buffer_bytes: 8192, drain: 0 };
        let uring = Uring::new(parameters, wake)?;
        let wires = Wires::new(uring, WiresParameters { lingering_max: 1 << 20, ..WiresParameters::default() });
        let clock = Clock::start();
        let fleet = Fleet::new(clock, introduction, traffic);
        let next_second = clock.now();
        Ok(Engine { wires, fleet, plans: plans.into(), target, clock, progress, next_second })
    }

    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    pub fn traffic_mut(&mut self) -> &mut Traffic {
        &mut self.fleet.traffic
    }

    /// The moment.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// System calls that entered the ring.
    pub fn enters(&self) -> u64 {
        self.wires.enters()
    }

    /// Opens connections until there are `count`, at most `rate` a second, and returns how long that took.
    pub fn open(&mut self, count: usize, rate: Option<f64>) -> Result<Duration, BenchError> {
        let (started, already) = (self.now(), self.fleet.len());
        let (mut ready, mut moved) = (self.fleet.ready(), started);
        while self.fleet.ready() < count {
            let now = self.now();
            let due = rate.map(|rate| already + (now.since(started).as_secs_f64() * rate) as usize);
            let may_open = self.open_some(count.min(due.unwrap_or(count)))?;
            self.turn(if may_open { now } else { now.after(OPENING_TICK) });
            if let Some(failure) = self.fleet.failure() {
                return Err(failure.into());
            }
            if self.fleet.ready() != ready || self.fleet.opening() == 0 {
                (ready, moved) = (self.fleet.ready(), now);
            } else if now.since(moved) > PATIENCE {
                return Err(BenchError::OpeningStalled { ready, count });
            }
            self.progress.show(now, || format!("opening connections: {ready} of {count}"));
        }
        Ok(self.now().since(started))
    }

    /// Opens a few connections, of `count` in all. Returns whether more could be opened at once.
    fn open_some(&mut self, count: usize) -> Result<bool, BenchError> {
        for _ in 0..OPENED_PER_TURN {
            if self.fleet.len() >= count || self.fleet.opening() >= self.target.opening_max {
                return Ok(false);
            }
            let Some(plan) = self.plans.pop_front() else { return Ok(false) };
            let opened = self.now();
            let from = source(self.target.address, self.fleet.len());
            let connected = connector::connect(self.target.address, from, PATIENCE)
                .map_err(|errno| BenchError::Connect { address: self.target.address, errno })?;
            let id = self.wires.adopt(connected).map_err(|socket| {
                self.wires.discard(socket);
                BenchError::TooManyConnections { connections: count, limit: self.fleet.len() as u64 }
            })?;
            self.wires.receive(id);
            self.fleet.add(id, plan, opened)?;
        }
        Ok(true)
    }

    /// Lets the messages flow for that long; `what` is shown.
    pub fn run_for(&mut self, duration: Duration, what: &str) -> Result<(), BenchError> {
        let until = self.now().after(duration);
        let (mut shown, mut delivered) = (self.now(), self.fleet.traffic.counts().delivered);
        loop {
            let now = self.now();
            if now >= until {
                return Ok(());
            }
            self.turn(until);
            if self.fleet.ready() == 0 {
                return Err(self.fleet.failure().map_or(BenchError::NothingOpen, BenchError::from));
            }
            let counts = self.fleet.traffic.counts();
            self.progress.show(now, || {
                let rate = (counts.delivered - delivered) as f64 / now.since(shown).as_secs_f64().max(1e-6);
                (shown, delivered) = (now, counts.delivered);
                let left = until.since(now).as_secs() + 1;
                format!("{what}: {rate:.0} messages/s, {left} s left")
            });
        }
    }

    /// Publishes no more, and waits until all that was published has arrived or nothing has for some time. Returns how
    /// many messages were due and never sent.
    pub fn settle(&mut self) -> u64 {
        let unsent = self.fleet.traffic.stop();
        let (mut counts, mut moved) = (self.fleet.traffic.counts(), self.now());
        while !self.fleet.traffic.is_settled() && self.now().since(moved) < SETTLE_PATIENCE && self.fleet.ready() > 0 {
            self.turn(self.now().after(TICK));
            if self.fleet.traffic.counts() != counts {
                (counts, moved) = (self.fleet.traffic.counts(), self.now());
            }
        }
        unsent
    }

    /// Says goodbye on every connection.
    pub fn close(&mut self) {
        self.fleet.disconnect();
        let until = self.now().after(CLOSE_PATIENCE);
        let mut all_closed = false;
        while (!all_closed || !self.wires.is_empty()) && self.now() < until {
            self.turn(self.now().after(OPENING_TICK));
            all_closed = all_closed || self.fleet.close_flushed(&mut self.wires);
        }
        self.progress.clear();
    }

    /// One turn: publish, send, wait for what comes until `until` at the latest, take it.
    fn turn(&mut self, until: Moment) {
        let now = self.clock.now();
        self.fleet.publish(now);
        if now >= self.next_second {
            self.next_second = now.after(Duration::from_secs(1));
            self.fleet.traffic.give_up_stalled();
            self.fleet.keep_alive(now);
        }
        self.fleet.flush(&mut self.wires);
        let until = until.min(now.after(TICK)).min(self.fleet.traffic.next_due().unwrap_or(Moment::NEVER));
        let wait = if until > now { Wait::Until(Some(until)) } else { Wait::No };
        self.wires.turn(&mut self.fleet, wait, now);
    }
}

/// The local address of a connection to this machine: one address has ports for about 28,000 connections to a server.
fn source(to: SocketAddr, number: usize) -> Option<IpAddr> {
    let SocketAddr::V4(to) = to else { return None };
    let block = u8::try_from(number / CONNECTIONS_PER_SOURCE).unwrap_or(u8::MAX);
    (to.ip().is_loopback() && block > 0).then(|| Ipv4Addr::new(127, 0, 1, block).into())
}

const CONNECTIONS_PER_SOURCE: usize = 20_000;
/// Connects between two turns: each is a blocking call.
const OPENED_PER_TURN: usize = 16;
const OPENING_TICK: Duration = Duration::from_millis(1);
/// A turn never sleeps longer, so that the progress line moves.
const TICK: Duration = Duration::from_millis(200);
/// How long an answer to a connect or a CONNECT may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a message may be under way after the last one that came.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// Descriptors that are no connections.
const DESCRIPTORS_RESERVED: u64 = 32;
