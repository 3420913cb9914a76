//! The messages: who publishes what and when, and whether each arrives where it should, once and in order.
//!
//! Each thread of a run has its own share: the publishers and the subscribers that live there. What it must know of those
//! that live elsewhere goes over the [`Board`].
//!
//! What always holds: every message that was published is counted once as delivered to each of its subscribers or as lost;
//! a message counts as delivered only when its stamp names a publisher that the subscriber hears and a sequence number that
//! this publisher has used, and its length is right. It must never know of sockets.

use std::{ops::AddAssign, sync::Arc};

use hdrhistogram::Histogram;

use super::{
    board::{Board, Progress},
    flow::{Arrival, Flow},
    payload::PayloadTable,
    stamp::Stamp,
    window::Window,
};
use crate::{client::PublishTemplate, mqtt::QoS, time::Moment};

/// Which publishers a subscriber hears, and where its flows stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Audience {
    /// The first of the publishers that it hears.
    pub first_publisher: u32,
    /// How many it hears, one after the other.
    pub publishers: u32,
    /// Where its flow of the first one stands.
    pub first_flow: usize,
    /// It shares these flows with others: each message comes to one of them, in any order among them.
    pub is_shared: bool,
}

/// How a publisher's messages reach the threads of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Where the publisher lives.
    pub home: u32,
    /// Deliveries that each message should cause, by thread.
    pub receivers: Vec<u32>,
}

/// One that publishes, as one thread sees it.
#[derive(Debug)]
pub(super) struct Publisher {
    /// Its connection on this thread, where it lives here.
    pub link: u32,
    /// What it publishes.
    pub template: PublishTemplate,
    /// Deliveries that each message should cause, on all threads.
    receivers: u32,
    home: u32,
    is_here: bool,
    /// Messages that may be under way; as good as no limit in an open loop.
    window: u32,
    /// What they wait for on this thread; nothing in an open loop, or when they wait for nothing here.
    here: Option<Window>,
    /// How far they have come on other threads: thread, and the oldest message that is not done there.
    elsewhere: Box<[(u32, u32)]>,
    /// The oldest message that is not done somewhere.
    base: u32,
    next: u32,
    /// Messages that the schedule wants sent and that are not yet.
    owed: u32,
    is_ready: bool,
    /// It lives elsewhere, and its home is to be told that the base has moved here.
    is_moved: bool,
    /// The window's base when it was last looked at.
    base_seen: u32,
    /// How often in a row it had not moved.
    stalled: u32,
}

/// What happened to messages, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Handed to a connection.
    pub published: u64,
    /// Deliveries that these should cause.
    pub expected: u64,
    /// Arrived where they should, for the first time.
    pub delivered: u64,
    /// Acknowledged by the broker, refusals included.
    pub acknowledged: u64,
    /// Acknowledged with a reason code that is an error.
    pub refused: u64,
    /// Arrived again.
    pub duplicated: u64,
    /// Arrived behind one with a larger number.
    pub reordered: u64,
    /// Arrived and were none of ours.
    pub foreign: u64,
}

/// What a thread's share of the messages is made of.
#[derive(Debug)]
pub(super) struct TrafficParts {
    /// Which thread it is.
    pub thread: u32,
    /// All publishers of the run, by number.
    pub publishers: Vec<Publisher>,
    /// Whom the subscribers of this thread hear.
    pub audiences: Vec<Audience>,
    /// How long messages are.
    pub payloads: PayloadTable,
    /// Open loop: messages a second by all publishers of the run together.
    pub rate: Option<f64>,
    /// What the threads tell each other.
    pub board: Arc<Board>,
}

/// The messages of a thread.
#[derive(Debug)]
pub(super) struct Traffic {
    thread: u32,
    publishers: Vec<Publisher>,
    ready: Vec<u32>,
    flows: Vec<Flow>,
    audiences: Vec<Audience>,
    payloads: PayloadTable,
    awaits_acknowledgements: bool,
    counts: Counts,
    latency: Histogram<u64>,
    /// A latency that was seen last, and how often in a row: most messages of a batch share theirs.
    latency_run: (u64, u64),
    is_recording: bool,
    is_publishing: bool,
    schedule: Option<Schedule>,
    board: Arc<Board>,
    /// Publishers that live elsewhere, whose home is to be told.
    moved: Vec<u32>,
    /// What other threads are told with the next report, by thread; kept for its memory.
    outgoing: Vec<Vec<Progress>>,
    incoming: Vec<Progress>,
}

/// The open loop: message `k` of all is due `k / rate` after the start, and is publisher `k % publishers`'s.
#[derive(Clone, Debug)]
struct Schedule {
    micros_per_message: f64,
    started: Moment,
    /// The publishers of this thread.
    here: Vec<u32>,
    publishers: u64,
    /// Messages of each that were scheduled; those before `place` have one more.
    round: u64,
    place: usize,
}

impl Publisher {
    /// A publisher that has not published, as `thread` sees it. `link` is its connection where it lives. With a `window`,
    /// at most so many of its messages are under way.
    pub fn new(thread: u32, link: u32, template: PublishTemplate, reach: &Reach, window: Option<u32>) -> Self {
        let is_here = thread == reach.home;
        let acknowledgements = u32::from(is_here && template.qos() != QoS::AtMostOnce);
        let events = reach.receivers.get(thread as usize).copied().unwrap_or(0) + acknowledgements;
        let here = window.filter(|_| events > 0).map(|window| Window::new(window, events));
        let others = (0..).zip(&reach.receivers).filter(|&(other, receivers)| other != thread && *receivers > 0);
        let waits_for_others = is_here && window.is_some();
        Publisher {
            link,
            template,
            receivers: reach.receivers.iter().sum(),
            home: reach.home,
            is_here,
            window: window.unwrap_or(u32::MAX),
            here,
            elsewhere: others.filter(|_| waits_for_others).map(|(other, _)| (other, 0)).collect(),
            base: 0,
            next: 0,
            owed: 0,
            is_ready: false,
            is_moved: false,
            base_seen: 0,
            stalled: 0,
        }
    }

    /// How many messages the loop wants sent now.
    #[inline]
    fn room(&self, is_scheduled: bool) -> u32 {
        let room = self.window.saturating_sub(self.next - self.base);
        let room = if is_scheduled { room.min(self.owed) } else { room };
        room.min(SEQUENCES_MAX - self.next)
    }

    /// Finds out how far its messages are everywhere. Returns whether that has changed.
    fn update_base(&mut self) -> bool {
        let here = self.here.as_ref().map_or(self.next, Window::base);
        let base = self.elsewhere.iter().fold(here, |base, (_, other)| base.min(*other));
        std::mem::replace(&mut self.base, base) != base
    }
}

impl Traffic {
    /// No message yet.
    pub fn new(parts: TrafficParts) -> Self {
        let TrafficParts { thread, publishers, audiences, payloads, rate, board } = parts;
        let flows = audiences.iter().map(|audience| audience.first_flow + audience.publishers as usize).max();
        let here = (0..).zip(&publishers).filter(|(_, publisher)| publisher.is_here).map(|(number, _)| number);
        let schedule = rate.map(|rate| Schedule {
            micros_per_message: 1e6 / rate,
            started: Moment::NEVER,
            here: here.collect(),
            publishers: publishers.len() as u64,
            round: 0,
            place: 0,
        });
        Traffic {
            thread,
            awaits_acknowledgements: publishers.first().is_some_and(|one| one.template.qos() != QoS::AtMostOnce),
            outgoing: (0..board.threads()).map(|_| Vec::new()).collect(),
            publishers,
            ready: Vec::new(),
            flows: (0..flows.unwrap_or(0)).map(|_| Flow::default()).collect(),
            audiences,
            payloads,
            counts: Counts::default(),
            latency: Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are in order"),
            latency_run: (0, 0),
            is_recording: false,
            is_publishing: false,
            schedule,
            board,
            moved: Vec::new(),
            incoming: Vec::new(),
        }
    }

    /// From now on messages are published.
    pub fn start(&mut self, now: Moment) {
        self.is_publishing = true;
        match &mut self.schedule {
            Some(schedule) => schedule.started = now,
            None => (0..self.publishers.len() as u32).for_each(|publisher| self.make_ready(publisher)),
        }
    }

    /// From now on none is. What was due and not sent is returned.
    pub fn stop(&mut self) -> u64 {
        self.is_publishing = false;
        self.ready.clear();
        self.publishers.iter().map(|publisher| u64::from(publisher.owed)).sum()
    }

    /// From now on latencies are recorded, or not any more.
    pub fn record(&mut self, is_recording: bool) {
        self.record_run();
        self.is_recording = is_recording;
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Microseconds from the sending (at a fixed rate: from the moment when it was due) to the arrival, of all messages
    /// until [`Traffic::record`] was called last.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Whether messages are acknowledged.
    pub fn awaits_acknowledgements(&self) -> bool {
        self.awaits_acknowledgements
    }

    /// Deliveries that did not happen.
    pub fn lost(&self) -> u64 {
        let lost_of = |audience: &Audience| -> u64 {
            let flows = &self.flows[audience.first_flow..][..audience.publishers as usize];
            let publishers = audience.first_publisher..;
            flows.iter().zip(publishers).map(|(flow, publisher)| flow.lost(self.published_by(publisher))).sum()
        };
        self.audiences.iter().map(lost_of).sum()
    }

    /// When the next message is due, if a schedule says so.
    pub fn next_due(&self) -> Option<Moment> {
        let schedule = self.schedule.as_ref().filter(|_| self.is_publishing)?;
        schedule.next().map(|(_, due)| due)
    }

    /// Makes ready whoever has messages that are due.
    pub fn schedule(&mut self, now: Moment) {
        let Some(mut schedule) = self.schedule.take() else { return };
        while let Some((publisher, due)) = schedule.next().filter(|&(_, due)| self.is_publishing && due <= now) {
            debug_assert!(due <= now);
            self.publishers[publisher as usize].owed += 1;
            self.make_ready(publisher);
            schedule.advance();
        }
        self.schedule = Some(schedule);
    }

    /// Hears how far messages have come on other threads.
    pub fn collect(&mut self) {
        let mut incoming = std::mem::take(&mut self.incoming);
        self.board.collect(self.thread as usize, &mut incoming);
        for progress in incoming.drain(..) {
            let place = &mut self.publishers[progress.publisher as usize];
            for (thread, base) in &mut place.elsewhere {
                if *thread == progress.thread {
                    *base = progress.base.max(*base);
                }
            }
            if place.update_base() {
                self.make_ready(progress.publisher);
            }
        }
        self.incoming = incoming;
    }

    /// Tells other threads how far their messages have come on this one.
    pub fn report(&mut self) {
        if self.moved.is_empty() {
            return;
        }
        for publisher in self.moved.drain(..) {
            let place = &mut self.publishers[publisher as usize];
            place.is_moved = false;
            let base = place.here.as_ref().map_or(0, Window::base);
            self.outgoing[place.home as usize].push(Progress { publisher, thread: self.thread, base });
        }
        for (thread, news) in self.outgoing.iter_mut().enumerate() {
            self.board.post(thread, news);
        }
    }

    /// Takes the publishers that may have something to send.
    pub fn take_ready(&mut self, into: &mut Vec<u32>) {
        into.clear();
        std::mem::swap(&mut self.ready, into);
        for &publisher in &*into {
            self.publishers[publisher as usize].is_ready = false;
        }
    }

    /// The publisher may have something to send.
    #[inline]
    pub fn make_ready(&mut self, publisher: u32) {
        let place = &mut self.publishers[publisher as usize];
        if self.is_publishing && place.is_here && !place.is_ready {
            place.is_ready = true;
            self.ready.push(publisher);
        }
    }

    pub fn publisher(&self, publisher: u32) -> &Publisher {
        &self.publishers[publisher as usize]
    }

    /// Publishes what the publisher may, as long as `write` takes it: a template, the stamp, and the payload's length.
    /// Returns whether it took any.
    #[inline]
    pub fn publish(
        &mut self,
        publisher: u32,
        now: Moment,
        mut write: impl FnMut(&PublishTemplate, Stamp, u32) -> bool,
    ) -> bool {
        let place = &mut self.publishers[publisher as usize];
        if !self.is_publishing {
            return false;
        }
        let (first, end) = (place.next, place.next + place.room(self.schedule.is_some()));
        while place.next < end {
            let sequence = place.next;
            // The moment when it was due: what waited for the broker counts as latency.
            let sent = self.schedule.as_ref().map_or(now, |schedule| schedule.due(publisher, sequence));
            let length = self.payloads.length(publisher, sequence);
            if !write(&place.template, Stamp { publisher, sequence, sent }, length) {
                break;
            }
            place.next += 1;
        }
        let sent = place.next - first;
        place.owed = place.owed.saturating_sub(sent);
        self.counts.published += u64::from(sent);
        self.counts.expected += u64::from(sent) * u64::from(place.receivers);
        if self.outgoing.len() > 1 {
            self.board.set_published(publisher, place.next);
        }
        if place.here.is_none() {
            // It waits for nothing here, and if it waits for nothing elsewhere either, it may go on.
            place.update_base();
        }
        sent > 0
    }

    /// A message came to a subscriber.
    #[inline]
    pub fn on_received(&mut self, audience: Audience, payload: &[u8], at: Moment) {
        let ours = Stamp::decode(payload).filter(|stamp| {
            stamp.publisher.wrapping_sub(audience.first_publisher) < audience.publishers
                && stamp.sequence < self.published_by(stamp.publisher)
                && payload.len() == self.payloads.length(stamp.publisher, stamp.sequence) as usize
        });
        let Some(stamp) = ours else {
            self.counts.foreign += 1;
            return;
        };
        let flow = &mut self.flows[audience.first_flow + (stamp.publisher - audience.first_publisher) as usize];
        let arrival = flow.arrive(stamp.sequence);
        if arrival == Arrival::Repeated {
            self.counts.duplicated += 1;
            return;
        }
        self.counts.delivered += 1;
        if self.is_recording {
            self.record_latency(at.micros().saturating_sub(stamp.sent.micros()));
        }
        match arrival {
            // Another of the group may still get, or have got, what this one was not sent.
            _ if audience.is_shared => self.event(stamp.publisher, stamp.sequence),
            Arrival::InOrder { missing: 0 } => self.event(stamp.publisher, stamp.sequence),
            Arrival::InOrder { missing } => {
                // What was passed over is not waited for any longer.
                for sequence in stamp.sequence - missing..=stamp.sequence {
                    self.event(stamp.publisher, sequence);
                }
            }
            Arrival::Late => self.counts.reordered += 1,
            Arrival::Repeated => {}
        }
    }

    /// The broker acknowledged a message.
    #[inline]
    pub fn on_acknowledged(&mut self, publisher: u32, sequence: u32, is_refused: bool) {
        self.counts.acknowledged += 1;
        self.counts.refused += u64::from(is_refused);
        self.event(publisher, sequence);
        // The client has room again, even where the window has not moved.
        self.make_ready(publisher);
    }

    /// Called about once a second: gives up what is under way where nothing has moved for some time.
    pub fn give_up_stalled(&mut self) {
        for publisher in 0..self.publishers.len() as u32 {
            let place = &mut self.publishers[publisher as usize];
            if !place.is_here {
                continue;
            }
            let is_stalled = place.base < place.next && place.base == place.base_seen;
            place.stalled = if is_stalled { place.stalled + 1 } else { 0 };
            place.base_seen = place.base;
            if place.stalled == STALLED_MAX {
                let next = place.next;
                place.elsewhere.iter_mut().for_each(|(_, base)| *base = next);
                if let Some(window) = &mut place.here {
                    window.give_up(next);
                }
                place.update_base();
                self.make_ready(publisher);
            }
        }
    }

    #[inline]
    fn event(&mut self, publisher: u32, sequence: u32) {
        let place = &mut self.publishers[publisher as usize];
        if !place.here.as_mut().is_some_and(|window| window.event(sequence)) {
            return;
        }
        if place.is_here {
            if place.update_base() {
                self.make_ready(publisher);
            }
        } else if !place.is_moved {
            place.is_moved = true;
            self.moved.push(publisher);
        }
    }

    #[inline]
    fn published_by(&self, publisher: u32) -> u32 {
        let place = &self.publishers[publisher as usize];
        if place.is_here { place.next } else { self.board.published(publisher) }
    }

    #[inline]
    fn record_latency(&mut self, micros: u64) {
        if micros != self.latency_run.0 {
            self.record_run();
            self.latency_run.0 = micros;
        }
        self.latency_run.1 += 1;
    }

    fn record_run(&mut self) {
        let (micros, count) = std::mem::take(&mut self.latency_run);
        if count > 0 {
            self.latency.saturating_record_n(micros, count);
        }
    }
}

impl Schedule {
    /// The message that is due next on this thread.
    #[inline]
    fn next(&self) -> Option<(u32, Moment)> {
        let publisher = *self.here.get(self.place)?;
        Some((publisher, self.due_at(self.round * self.publishers + u64::from(publisher))))
    }

    fn advance(&mut self) {
        self.place += 1;
        if self.place == self.here.len() {
            self.place = 0;
            self.round += 1;
        }
    }

    #[inline]
    fn due(&self, publisher: u32, sequence: u32) -> Moment {
        self.due_at(u64::from(sequence) * self.publishers + u64::from(publisher))
    }

    #[inline]
    fn due_at(&self, message: u64) -> Moment {
        let micros = (message as f64 * self.micros_per_message) as u64;
        Moment::from_micros(self.started.micros().saturating_add(micros))
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.published += other.published;
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
    }
}

/// Larger latencies are recorded as this one.
pub(super) const LATENCY_MAX_US: u64 = 120_000_000;
/// A window that did not move for so many seconds waits for messages that are lost.
const STALLED_MAX: u32 = 5;
/// A publisher that has used so many sequence numbers falls silent.
const SEQUENCES_MAX: u32 = u32::MAX - 1;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        cli::bench::payload::PayloadLengths,
        mqtt::{ProtocolVersion, TopicName},
        runtime::Wake,
    };

    /// A thread's part of two publishers that live on thread 0 and are heard as `receivers` says, by thread.
    fn part(thread: u32, receivers: &[u32], board: &Arc<Board>, loops: Loops) -> Traffic {
        let topic = TopicName::parse("t").unwrap();
        let template = PublishTemplate::new(ProtocolVersion::V311, topic, loops.0, false, Stamp::BYTES, Bytes::new());
        let (template, reach) = (template.unwrap(), Reach { home: 0, receivers: receivers.to_vec() });
        let publisher = |link| Publisher::new(thread, link, template.clone(), &reach, loops.1);
        let hears = receivers[thread as usize] > 0;
        Traffic::new(TrafficParts {
            thread,
            publishers: vec![publisher(0), publisher(1)],
            audiences: hears.then_some(EVERYBODY).into_iter().collect(),
            payloads: PayloadLengths::Fixed(Stamp::BYTES as u32).table(),
            rate: loops.2,
            board: Arc::clone(board),
        })
    }

    /// QoS, window, rate.
    type Loops = (QoS, Option<u32>, Option<f64>);

    const EVERYBODY: Audience = Audience { first_publisher: 0, publishers: 2, first_flow: 0, is_shared: false };

    fn board(threads: usize) -> Arc<Board> {
        Arc::new(Board::new(2, (0..threads).map(|_| Wake::new().unwrap()).collect()))
    }

    /// Two publishers that one subscriber hears.
    fn traffic(qos: QoS, window: Option<u32>, rate: Option<f64>) -> Traffic {
        part(0, &[1], &board(1), (qos, window, rate))
    }

    fn at(micros: u64) -> Moment {
        Moment::from_micros(1_000_000 + micros)
    }

    /// Sends all that may be sent now, and returns the stamps.
    fn send(traffic: &mut Traffic, now: Moment) -> Vec<Stamp> {
        let (mut stamps, mut ready) = (Vec::new(), Vec::new());
        traffic.schedule(now);
        traffic.take_ready(&mut ready);
        for publisher in ready {
            traffic.publish(publisher, now, |_, stamp, _| {
                stamps.push(stamp);
                true
            });
        }
        stamps
    }

    fn receive(traffic: &mut Traffic, stamp: Stamp, now: Moment) {
        traffic.on_received(traffic.audiences[0], &stamp.encode(), now);
    }

    #[test]
    fn a_closed_loop_sends_when_its_oldest_message_has_arrived_and_is_acknowledged() {
        let mut traffic = traffic(QoS::AtLeastOnce, Some(2), None);
        traffic.start(at(0));
        let sent = send(&mut traffic, at(0));
        assert_eq!(
            sent.iter().map(|stamp| (stamp.publisher, stamp.sequence)).collect::<Vec<_>>(),
            [(0, 0), (0, 1), (1, 0), (1, 1)]
        );
        receive(&mut traffic, sent[0], at(50));
        assert!(send(&mut traffic, at(50)).is_empty(), "not acknowledged");
        traffic.on_acknowledged(0, 0, false);
        assert_eq!(send(&mut traffic, at(60)), [Stamp { publisher: 0, sequence: 2, sent: at(60) }]);
        assert_eq!(traffic.lost(), 4);
    }

    #[test]
    fn a_window_waits_for_the_subscribers_of_other_threads() {
        let board = board(2);
        let loops = (QoS::AtMostOnce, Some(1), None);
        let (mut home, mut away) = (part(0, &[1, 2], &board, loops), part(1, &[1, 2], &board, loops));
        away.audiences.push(Audience { first_flow: 2, ..EVERYBODY });
        away.flows.extend([Flow::default(), Flow::default()]);
        home.start(at(0));
        away.start(at(0));
        assert!(send(&mut away, at(0)).is_empty(), "they live elsewhere");
        let sent = send(&mut home, at(0));
        assert_eq!(sent.len(), 2);
        let step = |home: &mut Traffic, away: &mut Traffic| {
            away.report();
            home.collect();
            send(home, at(9)).len()
        };
        receive(&mut away, sent[0], at(5));
        receive(&mut home, sent[0], at(5));
        assert_eq!(step(&mut home, &mut away), 0, "the second subscriber there has not heard it");
        away.on_received(away.audiences[1], &sent[0].encode(), at(6));
        assert_eq!(step(&mut home, &mut away), 1);
        assert_eq!((home.counts().expected, home.lost(), away.lost()), (9, 2, 4));
        let never_sent = Stamp { sequence: 2, ..sent[0] };
        receive(&mut away, never_sent, at(7));
        assert_eq!((away.counts().delivered, away.counts().foreign), (2, 1));
    }

    #[test]
    fn a_publisher_that_nobody_hears_is_not_held_up() {
        let mut traffic = part(0, &[0], &board(1), (QoS::AtMostOnce, Some(2), None));
        traffic.start(at(0));
        for _ in 0..3 {
            assert_eq!(send(&mut traffic, at(0)).len(), 4);
            (0..2).for_each(|publisher| traffic.make_ready(publisher));
        }
    }

    #[test]
    fn an_open_loop_stamps_the_moment_when_a_message_was_due() {
        let mut traffic = traffic(QoS::AtMostOnce, None, Some(10_000.0));
        traffic.record(true);
        assert!(send(&mut traffic, at(0)).is_empty(), "not started");
        traffic.start(at(0));
        assert_eq!(traffic.next_due(), Some(at(0)));
        let sent = send(&mut traffic, at(350));
        let mut due: Vec<_> = sent.iter().map(|stamp| stamp.sent).collect();
        due.sort_unstable();
        assert_eq!(due, [at(0), at(100), at(200), at(300)]);
        assert_eq!(traffic.next_due(), Some(at(400)));
        receive(&mut traffic, sent[0], at(500));
        traffic.record(false);
        assert_eq!(traffic.latency().max(), 500, "waiting for the generator counts too");
        assert_eq!(traffic.stop(), 0);
        assert_eq!(traffic.next_due(), None);
    }

    #[test]
    fn lost_repeated_late_and_foreign_messages_are_counted() {
        let mut traffic = traffic(QoS::AtMostOnce, Some(4), None);
        traffic.start(at(0));
        let sent = send(&mut traffic, at(0));
        receive(&mut traffic, sent[0], at(1));
        receive(&mut traffic, sent[0], at(1));
        receive(&mut traffic, sent[3], at(2));
        assert_eq!(send(&mut traffic, at(3)).len(), 4, "what was passed over is not waited for");
        receive(&mut traffic, sent[2], at(4));
        let never_sent = Stamp { publisher: 0, sequence: 100, sent: at(0) };
        let nobody = Stamp { publisher: 2, sequence: 0, sent: at(0) };
        receive(&mut traffic, never_sent, at(5));
        receive(&mut traffic, nobody, at(5));
        traffic.on_received(traffic.audiences[0], b"retained by somebody", at(5));
        let counts = traffic.counts();
        assert_eq!((counts.delivered, counts.duplicated, counts.reordered, counts.foreign), (3, 1, 1, 3));
        assert_eq!(traffic.lost(), 12 - 3);
    }

    #[test]
    fn a_group_may_get_messages_in_any_order_but_each_once() {
        let mut traffic = traffic(QoS::AtMostOnce, Some(4), None);
        traffic.start(at(0));
        let sent = send(&mut traffic, at(0));
        let group = Audience { is_shared: true, ..traffic.audiences[0] };
        let receive = |traffic: &mut Traffic, stamp: Stamp| traffic.on_received(group, &stamp.encode(), at(1));
        receive(&mut traffic, sent[2]);
        assert!(send(&mut traffic, at(2)).is_empty(), "those before it may still come");
        receive(&mut traffic, sent[0]);
        assert_eq!(send(&mut traffic, at(2)).len(), 1);
        receive(&mut traffic, sent[2]);
        let counts = traffic.counts();
        assert_eq!((counts.delivered, counts.duplicated, counts.reordered), (2, 1, 0));
        assert_eq!(traffic.lost(), 9 - 2);
    }

    #[test]
    fn a_window_without_any_answer_is_given_up_after_a_while() {
        let mut traffic = traffic(QoS::AtMostOnce, Some(1), None);
        traffic.start(at(0));
        assert_eq!(send(&mut traffic, at(0)).len(), 2);
        for _ in 0..STALLED_MAX - 1 {
            traffic.give_up_stalled();
            assert!(send(&mut traffic, at(1)).is_empty());
        }
        traffic.give_up_stalled();
        assert_eq!(send(&mut traffic, at(2)).len(), 2);
    }
}
