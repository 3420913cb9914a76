//! One thread's turns: marries its connections to a ring, opens them, lets them run, and ends them.
//!
//! What always holds: one thread, one ring, one entry into the kernel a turn. Every loop ends: by its goal, or when nothing
//! moved for [`PATIENCE`].

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hdrhistogram::Histogram;

use super::{
    BenchError,
    fleet::{Fleet, Introduction, LinkFailure, LinkPlan},
    plan::Share,
    team::Watch,
    timeline::Timeline,
    traffic::{Counts, Traffic},
};
use crate::{
    runtime::{
        Clock, Errno, Uring, UringParameters, Wait, Wake, Wires, WiresParameters, connector,
        descriptors::{grow_descriptor_table, raise_descriptor_limit},
    },
    time::Moment,
};

/// Where connections go, and how.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The broker.
    pub address: SocketAddr,
    /// Connections of a thread that may wait for an answer at once.
    pub opening_max: usize,
    /// Local addresses that connections begin at, in turn; without any, that is the kernel's choice.
    pub sources: Arc<[IpAddr]>,
}

/// What an engine has found in the end.
#[derive(Debug)]
pub(super) struct Findings {
    pub lost: u64,
    pub connections_lost: u64,
    pub latency: Histogram<u64>,
}

/// One thread of the load generator.
#[derive(Debug)]
pub(super) struct Engine {
    wires: Wires<Uring>,
    fleet: Fleet,
    plans: VecDeque<LinkPlan>,
    target: Target,
    clock: Clock,
    watch: Arc<Watch>,
    next_second: Moment,
}

impl Engine {
    /// An engine on the calling thread that has nothing open. It shows itself to `watch`, and `wake` wakes it.
    pub fn new(
        target: Target,
        introduction: Introduction,
        share: Share,
        clock: Clock,
        watch: Arc<Watch>,
        wake: Wake,
    ) -> Result<Self, BenchError> {
        let wires = wires_on(wake)?;
        let fleet = Fleet::new(clock, introduction, share.traffic);
        let next_second = clock.now();
        Ok(Engine { wires, fleet, plans: share.links.into(), target, clock, watch, next_second })
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

    /// What happened to messages so far.
    pub fn counts(&self) -> Counts {
        self.fleet.traffic.counts()
    }

    /// Microseconds that each connection took to be ready, from its connect on.
    pub fn opening_times(&self) -> Vec<u32> {
        self.fleet.opening_times().to_vec()
    }

    /// Connections that ended without being asked to.
    pub fn connections_lost(&self) -> u64 {
        self.fleet.lost()
    }

    /// What it has found.
    pub fn findings(&self) -> Findings {
        Findings {
            lost: self.fleet.traffic.lost(),
            connections_lost: self.fleet.lost(),
            latency: self.fleet.traffic.latency().clone(),
        }
    }

    /// Opens connections until there are `count`, at most `rate` a second.
    pub fn open(&mut self, count: usize, rate: Option<f64>) -> Result<(), BenchError> {
        let (started, already) = (self.now(), self.fleet.len());
        let (mut ready, mut moved) = (self.fleet.ready(), started);
        while self.fleet.ready() < count {
            let now = self.now();
            let due = rate.map(|rate| already + (now.since(started).as_secs_f64() * rate) as usize);
            let may_open = self.open_some(count.min(due.unwrap_or(count)))?;
            self.turn(if may_open { now } else { now.after(OPENING_TICK) });
            if let Some(failure) = self.fleet.failure() {
                return Err(self.target.opening_error(failure, self.fleet.ready()));
            }
            if self.fleet.ready() != ready || self.fleet.opening() == 0 {
                self.watch.opened(self.fleet.ready() - ready);
                (ready, moved) = (self.fleet.ready(), now);
            } else if now.since(moved) > PATIENCE {
                return Err(BenchError::OpeningStalled { ready, count });
            }
        }
        Ok(())
    }

    /// Begins to open a few connections, of `count` in all. Returns whether more could be opened at once.
    fn open_some(&mut self, count: usize) -> Result<bool, BenchError> {
        for _ in 0..OPENED_PER_TURN {
            if self.fleet.len() >= count || self.fleet.opening() >= self.target.opening_max {
                return Ok(false);
            }
            let Some(plan) = self.plans.pop_front() else { return Ok(false) };
            let opened = self.now();
            let from = self.target.source(plan.number as usize);
            let begun =
                connector::begin(self.target.address, from).map_err(|errno| self.target.connect_error(from, errno))?;
            let id = self.wires.adopt(begun).map_err(|socket| {
                self.wires.discard(socket);
                BenchError::TooManyConnections { connections: count, limit: self.fleet.len() as u64 }
            })?;
            self.wires.receive(id);
            self.fleet.add(id, plan, opened)?;
        }
        Ok(true)
    }

    /// Lets the messages flow until then.
    pub fn run_until(&mut self, until: Moment) -> Result<(), BenchError> {
        loop {
            let now = self.now();
            if now >= until {
                return Ok(());
            }
            self.turn(until);
            if self.fleet.ready() == 0 && self.fleet.len() > 0 {
                return Err(self.fleet.failure().map_or(BenchError::NothingOpen, BenchError::from));
            }
            self.watch.delivered(self.counts().delivered);
        }
    }

    /// The same, and takes down how many messages come when.
    pub fn run_along(&mut self, mut timeline: Timeline, until: Moment) -> Result<Timeline, BenchError> {
        timeline.begin(self.counts().delivered);
        while let Some(step) = timeline.next_step().filter(|step| *step <= until) {
            self.run_until(step)?;
            timeline.take_down(self.counts().delivered);
        }
        self.run_until(until)?;
        Ok(timeline)
    }

    /// Every connection publishes one message to what it subscribes to; waits until all that was said is heard, or nothing
    /// comes any more. Returns how many were.
    pub fn speak_once(&mut self) -> Result<u64, BenchError> {
        let (mut begun, mut heard, mut moved) = (0, self.fleet.heard(), self.now());
        let all = heard + self.fleet.ready() as u64;
        while heard < all {
            let next = (begun + SPOKEN_PER_TURN).min(self.fleet.len());
            self.fleet.speak(begun..next)?;
            begun = next;
            let now = self.now();
            self.turn(if begun < self.fleet.len() { now } else { now.after(OPENING_TICK) });
            if self.fleet.heard() > heard || begun < self.fleet.len() {
                (heard, moved) = (self.fleet.heard(), now);
            } else if now.since(moved) > PATIENCE || self.fleet.ready() == 0 {
                break;
            }
        }
        Ok(self.fleet.heard())
    }

    /// Turns for `duration`, whatever happens meanwhile.
    pub fn linger(&mut self, duration: Duration) {
        let until = self.now().after(duration);
        while self.now() < until && self.fleet.ready() > 0 {
            self.turn(until);
        }
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
    }

    /// One turn: publish, send, wait for what comes until `until` at the latest, take it.
    fn turn(&mut self, until: Moment) {
        let now = self.clock.now();
        self.fleet.traffic.collect();
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
        self.fleet.traffic.report();
    }
}

impl Target {
    /// Where a connection begins. The kernel looks for a free port longer and longer the more of one address towards a
    /// server are in use, and there are about 28,000: on this machine there are addresses for all.
    pub fn source(&self, number: usize) -> Option<IpAddr> {
        if !self.sources.is_empty() {
            return self.sources.get(number % self.sources.len()).copied();
        }
        let SocketAddr::V4(to) = self.address else { return None };
        let block = u16::try_from(number / CONNECTIONS_PER_SOURCE).unwrap_or(u16::MAX).min(BLOCKS_MAX);
        let [high, low] = (FIRST_BLOCK + block).to_be_bytes();
        (to.ip().is_loopback() && block > 0).then(|| Ipv4Addr::new(127, 0, high, low).into())
    }

    /// What a failure while connections open is to whoever started the run: as long as none is `ready`, one that the
    /// kernel tells of is about the address.
    pub fn opening_error(&self, failure: LinkFailure, ready: usize) -> BenchError {
        match failure {
            LinkFailure::Failed(errno) if ready == 0 => self.connect_error(None, errno),
            failure => failure.into(),
        }
    }

    /// What the kernel said of a connection that was to begin at `from`.
    pub fn connect_error(&self, from: Option<IpAddr>, errno: Errno) -> BenchError {
        let address = self.address;
        match from.filter(|_| !self.sources.is_empty()) {
            Some(from) => BenchError::ConnectFrom { address, from, errno },
            None => BenchError::Connect { address, errno },
        }
    }
}

/// Makes room for the descriptors of so many connections.
pub(super) fn reserve_descriptors(connections: usize) -> Result<(), BenchError> {
    let limit = raise_descriptor_limit().map_err(BenchError::Descriptors)?.soft;
    let wanted = connections as u64 + DESCRIPTORS_RESERVED;
    if wanted > limit {
        return Err(BenchError::TooManyConnections { connections, limit });
    }
    grow_descriptor_table(wanted).map_err(BenchError::Descriptors)
}

/// A ring of this thread, woken by `wake`, without connections.
pub(super) fn wires_on(wake: Wake) -> Result<Wires<Uring>, BenchError> {
    let parameters =
        UringParameters { submissions: 4096, completions: 1 << 16, buffers: 1024, buffer_bytes: 8192, drain: 0 };
    let uring = Uring::new(parameters, wake)?;
    let limits = WiresParameters {
        lingering_max: 1 << 20,
        // Clients that come and go are what it is there for.
        crowd_per_turn_max: usize::MAX,
        ..WiresParameters::default()
    };
    Ok(Wires::new(uring, limits))
}

/// With more, finding a port takes the kernel longer than all the rest of a connect.
const CONNECTIONS_PER_SOURCE: usize = 1000;
/// The first address that is used beside the kernel's choice is 127.0.1.1.
const FIRST_BLOCK: u16 = 0x0100;
const BLOCKS_MAX: u16 = 0xFE00;
/// Connects between two turns: on loopback each does the work of both sides at once.
const OPENED_PER_TURN: usize = 16;
/// Connections that say something between two turns.
const SPOKEN_PER_TURN: usize = 256;
const OPENING_TICK: Duration = Duration::from_millis(1);
/// A turn never sleeps longer, so that the progress line moves.
const TICK: Duration = Duration::from_millis(200);
/// How long an answer to a connect or a CONNECT may take.
const PATIENCE: Duration = Duration::from_secs(10);
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// Descriptors that are no connections.
const DESCRIPTORS_RESERVED: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_spread_over_addresses_of_this_machine_or_those_asked_for() {
        let target = |address: &str, sources: &[&str]| Target {
            address: address.parse().unwrap(),
            opening_max: 1,
            sources: sources.iter().map(|source| source.parse().unwrap()).collect(),
        };
        let here = target("127.0.0.1:1883", &[]);
        for (number, from) in [
            (0, None),
            (CONNECTIONS_PER_SOURCE - 1, None),
            (CONNECTIONS_PER_SOURCE, Some("127.0.1.1")),
            (255 * CONNECTIONS_PER_SOURCE, Some("127.0.1.255")),
            (256 * CONNECTIONS_PER_SOURCE, Some("127.0.2.0")),
            (usize::MAX, Some("127.0.255.0")),
        ] {
            assert_eq!(here.source(number), from.map(|from| from.parse().unwrap()), "{number}");
        }
        assert_eq!(target("10.0.0.1:1883", &[]).source(1_000_000), None);
        let asked = target("127.0.0.1:1883", &["127.0.0.2", "127.0.0.3"]);
        assert_eq!(asked.source(3), Some("127.0.0.3".parse().unwrap()));
    }
}
