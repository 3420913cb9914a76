//! The threads of a run, each with an [`Engine`], and how they are told what to do.
//!
//! What always holds: all of them do the same step at the same time, and the next step begins when all have ended it. The
//! thread that commands only waits meanwhile, and shows how it goes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use core_affinity::CoreId;
use hdrhistogram::Histogram;

use super::{
    BenchError,
    engine::{Engine, Findings, Target, reserve_descriptors},
    fleet::Introduction,
    plan::Plan,
    progress::Progress,
    timeline::Timeline,
    traffic::Counts,
};
use crate::{
    runtime::{Clock, Wake},
    time::Moment,
};

/// Where the threads of a run are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Threads {
    pub count: u32,
    /// The CPUs that they are pinned to, in turn; without any they go where the kernel lets them.
    pub cpus: Vec<usize>,
}

/// What a thread shows while it works.
#[derive(Debug, Default)]
pub(super) struct Watch {
    opened: AtomicU64,
    delivered: AtomicU64,
}

/// All threads of a run.
pub(super) struct Team {
    members: Vec<Member>,
    clock: Clock,
    /// The thread of each connection, in the order in which they are opened.
    thread_of: Vec<u32>,
    opened: usize,
    progress: Progress,
}

struct Member {
    /// Gone when the team ends.
    orders: Option<Sender<Order>>,
    watch: Arc<Watch>,
    thread: Option<JoinHandle<()>>,
}

type Order = Box<dyn FnOnce(&mut Engine) + Send>;

impl Watch {
    /// So many more connections are open.
    pub fn opened(&self, more: usize) {
        self.opened.fetch_add(more as u64, Ordering::Relaxed);
    }

    /// So many messages were delivered so far.
    pub fn delivered(&self, count: u64) {
        self.delivered.store(count, Ordering::Relaxed);
    }
}

impl Team {
    /// Threads that have nothing open.
    pub fn start(
        threads: &Threads,
        target: &Target,
        introduction: &Introduction,
        plan: Plan,
        progress: Progress,
    ) -> Result<Self, BenchError> {
        reserve_descriptors(plan.links.len())?;
        let wakes = (0..threads.count).map(|_| Wake::new()).collect::<Result<Vec<_>, _>>().map_err(BenchError::Wake)?;
        let thread_of = plan.links.iter().map(|link| link.thread).collect();
        let clock = Clock::start();
        let mut team = Team { members: Vec::new(), clock, thread_of, opened: 0, progress };
        let mut started = Vec::new();
        for (number, (share, wake)) in plan.split(&wakes).into_iter().zip(wakes).enumerate() {
            let (orders, inbox) = mpsc::channel::<Order>();
            let (tell, told) = mpsc::channel();
            let watch = Arc::new(Watch::default());
            let cpu = threads.cpus.get(number % threads.cpus.len().max(1)).copied();
            let (target, introduction, watched) = (target.clone(), introduction.clone(), Arc::clone(&watch));
            let work = move || {
                if cpu.is_some_and(|id| !core_affinity::set_for_current(CoreId { id })) {
                    // The team hears of it before it gives an order.
                    let _ = tell.send(Err(BenchError::Cpu(cpu.unwrap_or_default())));
                    return;
                }
                match Engine::new(target, introduction, share, clock, watched, wake) {
                    Ok(engine) => {
                        let _ = tell.send(Ok(()));
                        obey(engine, &inbox);
                    }
                    Err(error) => {
                        let _ = tell.send(Err(error));
                    }
                }
            };
            let thread = thread::Builder::new().name(format!("bench-{number}")).spawn(work);
            let thread = Some(thread.map_err(BenchError::Thread)?);
            team.members.push(Member { orders: Some(orders), watch, thread });
            started.push(told);
        }
        for told in started {
            told.recv().map_err(|_| BenchError::ThreadDied)??;
        }
        Ok(team)
    }

    /// The moment.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Lets every thread do `work` at the same time, and returns what each found.
    pub fn all<T: Send + 'static>(
        &mut self,
        work: impl Fn(usize, &mut Engine) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, BenchError> {
        self.all_shown(work, |_, _| String::new())
    }

    /// The same; `text` says meanwhile how it goes.
    fn all_shown<T: Send + 'static>(
        &mut self,
        work: impl Fn(usize, &mut Engine) -> T + Clone + Send + 'static,
        mut text: impl FnMut(&[Member], Moment) -> String,
    ) -> Result<Vec<T>, BenchError> {
        let answers: Vec<_> = self.members.iter().enumerate().map(|(number, one)| one.order(number, &work)).collect();
        let mut found = Vec::with_capacity(answers.len());
        for answer in answers {
            let one = loop {
                match answer.recv_timeout(SHOWN_EVERY) {
                    Ok(one) => break one,
                    Err(RecvTimeoutError::Timeout) => {
                        let now = self.clock.now();
                        self.progress.show(now, || text(&self.members, now));
                    }
                    Err(RecvTimeoutError::Disconnected) => return Err(BenchError::ThreadDied),
                }
            };
            found.push(one);
        }
        Ok(found)
    }

    /// Opens connections until there are `count`, at most `rate` a second, and returns how long that took.
    pub fn open(&mut self, count: usize, rate: Option<f64>) -> Result<Duration, BenchError> {
        let mut counts = vec![0; self.members.len()];
        let mut new = vec![0; self.members.len()];
        for (place, thread) in self.thread_of[..count].iter().enumerate() {
            counts[*thread as usize] += 1;
            new[*thread as usize] += usize::from(place >= self.opened);
        }
        let all_new = count.saturating_sub(self.opened).max(1) as f64;
        let before = sum_of(&self.members, |watch| &watch.opened);
        let (started, already) = (self.now(), self.opened as u64);
        let open = move |thread: usize, engine: &mut Engine| {
            let rate = rate.map(|rate| rate * new[thread] as f64 / all_new);
            engine.open(counts[thread], rate)
        };
        let opened = self.all_shown(open, |members, _| {
            let ready = sum_of(members, |watch| &watch.opened) - before + already;
            format!("opening connections: {ready} of {count}")
        })?;
        opened.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.opened = count;
        Ok(self.now().since(started))
    }

    /// Lets the messages flow for that long; `what` is shown.
    pub fn run_for(&mut self, duration: Duration, what: &str) -> Result<Timeline, BenchError> {
        let started = self.now();
        let until = started.after(duration);
        let timeline = Timeline::new(started, duration);
        let (mut shown, mut seen) = (started, sum_of(&self.members, |watch| &watch.delivered));
        let run = move |_: usize, engine: &mut Engine| engine.run_along(timeline.clone(), until);
        let ran = self.all_shown(run, |members, now| {
            let delivered = sum_of(members, |watch| &watch.delivered);
            let rate = delivered.saturating_sub(seen) as f64 / now.since(shown).as_secs_f64().max(1e-6);
            (shown, seen) = (now, delivered);
            format!("{what}: {rate:.0} messages/s, {} s left", until.since(now).as_secs() + 1)
        })?;
        let mut ran = ran.into_iter();
        let mut first = ran.next().ok_or(BenchError::ThreadDied)??;
        for other in ran {
            first.add(&other?);
        }
        Ok(first)
    }

    /// Lets every connection publish one message to what it subscribes to, and returns how many came back.
    pub fn speak_once(&mut self) -> Result<u64, BenchError> {
        self.all(|_, engine| engine.speak_once())?.into_iter().sum()
    }

    /// From now on messages are published.
    pub fn start_messages(&mut self) -> Result<(), BenchError> {
        let now = self.now();
        self.all(move |_, engine| engine.traffic_mut().start(now)).map(drop)
    }

    /// From now on latencies are recorded, or not any more.
    pub fn record(&mut self, is_recording: bool) -> Result<(), BenchError> {
        self.all(move |_, engine| engine.traffic_mut().record(is_recording)).map(drop)
    }

    /// What happened to messages so far.
    pub fn counts(&mut self) -> Result<Counts, BenchError> {
        let mut sum = Counts::default();
        self.all(|_, engine| engine.counts())?.into_iter().for_each(|counts| sum += counts);
        Ok(sum)
    }

    /// System calls that entered the rings.
    pub fn enters(&mut self) -> Result<u64, BenchError> {
        Ok(self.all(|_, engine| engine.enters())?.iter().sum())
    }

    /// Microseconds that each connection took to be ready, from its connect on: those of each thread after another.
    pub fn opening_times(&mut self) -> Result<Vec<Vec<u32>>, BenchError> {
        self.all(|_, engine| engine.opening_times())
    }

    /// Connections that ended without being asked to.
    pub fn connections_lost(&mut self) -> Result<u64, BenchError> {
        Ok(self.all(|_, engine| engine.connections_lost())?.iter().sum())
    }

    /// Publishes no more, and waits until all that was published has arrived or nothing has for some time. Returns how
    /// many messages were due and never sent.
    pub fn settle(&mut self) -> Result<u64, BenchError> {
        let unsent = self.all(|_, engine| engine.traffic_mut().stop())?.iter().sum();
        let acknowledged = self.all(|_, engine| engine.traffic_mut().awaits_acknowledgements())?.contains(&true);
        let (mut counts, mut moved) = (self.counts()?, self.now());
        while counts.delivered < counts.expected || acknowledged && counts.acknowledged < counts.published {
            if self.now().since(moved) >= SETTLE_PATIENCE {
                break;
            }
            self.all(|_, engine| engine.linger(SETTLE_TICK))?;
            let counted = self.counts()?;
            if counted != counts {
                (counts, moved) = (counted, self.now());
            }
        }
        Ok(unsent)
    }

    /// What they have found.
    pub fn findings(&mut self) -> Result<Findings, BenchError> {
        let mut all = self.all(|_, engine| engine.findings())?.into_iter();
        let mut sum = all.next().ok_or(BenchError::ThreadDied)?;
        for one in all {
            sum.lost += one.lost;
            sum.connections_lost += one.connections_lost;
            add(&mut sum.latency, &one.latency);
        }
        Ok(sum)
    }

    /// Says goodbye on every connection.
    pub fn close(&mut self) -> Result<(), BenchError> {
        self.all(|_, engine| engine.close())?;
        self.progress.clear();
        Ok(())
    }
}

impl Drop for Team {
    /// Ends the threads, and their connections with them.
    fn drop(&mut self) {
        self.progress.clear();
        for member in &mut self.members {
            member.orders = None;
        }
        for thread in self.members.iter_mut().filter_map(|member| member.thread.take()) {
            // It has told of its panic on the standard error.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Team {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Team").field("members", &self.members.len()).finish_non_exhaustive()
    }
}

impl Member {
    /// Asks for `work`; the answer comes over the channel. Without an answer the thread has died.
    fn order<T: Send + 'static>(
        &self,
        number: usize,
        work: &(impl Fn(usize, &mut Engine) -> T + Clone + Send + 'static),
    ) -> Receiver<T> {
        let (answer, answered) = mpsc::channel();
        let work = work.clone();
        let order: Order = Box::new(move |engine| {
            // Nobody waits for it any more when another thread has failed.
            let _ = answer.send(work(number, engine));
        });
        if let Some(orders) = &self.orders {
            // A thread that has died leaves the channel without an answer.
            let _ = orders.send(order);
        }
        answered
    }
}

fn obey(mut engine: Engine, orders: &Receiver<Order>) {
    while let Ok(order) = orders.recv() {
        order(&mut engine);
    }
}

fn sum_of(members: &[Member], of: impl Fn(&Watch) -> &AtomicU64) -> u64 {
    members.iter().map(|member| of(&member.watch).load(Ordering::Relaxed)).sum()
}

fn add(sum: &mut Histogram<u64>, other: &Histogram<u64>) {
    let added = sum.add(other);
    debug_assert!(added.is_ok(), "all have the same bounds");
}

/// How often the progress is shown.
const SHOWN_EVERY: Duration = Duration::from_millis(250);
/// How long a message may be under way after the last one that came.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether all has arrived.
const SETTLE_TICK: Duration = Duration::from_millis(5);
