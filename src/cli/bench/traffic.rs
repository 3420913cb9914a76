//! The messages: who publishes what and when, and whether each arrives where it should, once and in order.
//!
//! What always holds: every message that was published is counted once as delivered to each of its subscribers or as lost;
//! a message counts as delivered only when its stamp names a publisher that the subscriber hears and a sequence number that
//! this publisher has used, and its length is right. It must never know of sockets.

use hdrhistogram::Histogram;

use super::{
    flow::{Arrival, Flow},
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
}

/// One that publishes.
#[derive(Debug)]
pub(super) struct Publisher {
    /// Its connection.
    pub link: u32,
    /// What it publishes.
    pub template: PublishTemplate,
    /// How many subscribers hear it.
    pub receivers: u32,
    next: u32,
    window: Option<Window>,
    /// Messages that the schedule wants sent and that are not yet.
    owed: u32,
    is_ready: bool,
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

/// All messages of a run.
#[derive(Debug)]
pub(super) struct Traffic {
    publishers: Vec<Publisher>,
    ready: Vec<u32>,
    flows: Vec<Flow>,
    audiences: Vec<Audience>,
    payload_bytes: usize,
    counts: Counts,
    latency: Histogram<u64>,
    is_recording: bool,
    is_publishing: bool,
    schedule: Option<Schedule>,
}

/// The open loop: message `k` of all is due `k / rate` after the start, and is publisher `k % publishers`'s.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    micros_per_message: f64,
    started: Moment,
    scheduled: u64,
}

impl Publisher {
    /// A publisher that has not published. With a `window`, at most so many of its messages are under way.
    pub fn new(link: u32, template: PublishTemplate, receivers: u32, window: Option<u32>) -> Self {
        let window = window.map(Window::new);
        let (next, owed, is_ready, base_seen, stalled) = (0, 0, false, 0, 0);
        Publisher { link, template, receivers, next, window, owed, is_ready, base_seen, stalled }
    }

    /// Whether the loop wants another message.
    #[inline]
    fn wants_to_send(&self, is_scheduled: bool) -> bool {
        (!is_scheduled || self.owed > 0) && self.window.as_ref().is_none_or(Window::has_room)
    }
}

impl Traffic {
    /// No message yet. With a `rate`, so many messages a second are due in all.
    pub fn new(publishers: Vec<Publisher>, audiences: Vec<Audience>, payload_bytes: usize, rate: Option<f64>) -> Self {
        let flows = audiences.iter().map(|audience| audience.first_flow + audience.publishers as usize).max();
        let schedule =
            rate.map(|rate| Schedule { micros_per_message: 1e6 / rate, started: Moment::NEVER, scheduled: 0 });
        Traffic {
            publishers,
            ready: Vec::new(),
            flows: (0..flows.unwrap_or(0)).map(|_| Flow::default()).collect(),
            audiences,
            payload_bytes,
            counts: Counts::default(),
            latency: Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are in order"),
            is_recording: false,
            is_publishing: false,
            schedule,
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
        self.is_recording = is_recording;
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Microseconds from the sending (at a fixed rate: from the moment when it was due) to the arrival.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Whether every message has arrived everywhere and, above QoS 0, is acknowledged.
    pub fn is_settled(&self) -> bool {
        let acknowledgements = self.publishers.first().is_some_and(|first| first.template.qos() != QoS::AtMostOnce);
        self.counts.delivered >= self.counts.expected
            && (!acknowledgements || self.counts.acknowledged >= self.counts.published)
    }

    /// Deliveries that did not happen.
    pub fn lost(&self) -> u64 {
        let lost_of = |audience: &Audience| -> u64 {
            let flows = &self.flows[audience.first_flow..][..audience.publishers as usize];
            let publishers = &self.publishers[audience.first_publisher as usize..];
            flows.iter().zip(publishers).map(|(flow, publisher)| flow.lost(publisher.next)).sum()
        };
        self.audiences.iter().map(lost_of).sum()
    }

    /// When the next message is due, if a schedule says so.
    pub fn next_due(&self) -> Option<Moment> {
        let schedule = self.schedule.as_ref().filter(|_| self.is_publishing)?;
        Some(schedule.due(schedule.scheduled))
    }

    /// Makes ready whoever has messages that are due.
    pub fn schedule(&mut self, now: Moment) {
        let Some(mut schedule) = self.schedule.filter(|_| self.is_publishing) else { return };
        while schedule.due(schedule.scheduled) <= now {
            let publisher = (schedule.scheduled % self.publishers.len() as u64) as u32;
            self.publishers[publisher as usize].owed += 1;
            self.make_ready(publisher);
            schedule.scheduled += 1;
        }
        self.schedule = Some(schedule);
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
        if self.is_publishing && !place.is_ready {
            place.is_ready = true;
            self.ready.push(publisher);
        }
    }

    pub fn publisher(&self, publisher: u32) -> &Publisher {
        &self.publishers[publisher as usize]
    }

    /// The stamp of the publisher's next message, if it wants to send one. Follow it with [`Traffic::published`].
    #[inline]
    pub fn next_stamp(&self, publisher: u32, now: Moment) -> Option<Stamp> {
        let place = &self.publishers[publisher as usize];
        if !self.is_publishing || !place.wants_to_send(self.schedule.is_some()) {
            return None;
        }
        let sent = match &self.schedule {
            // The moment when it was due: what waited for the broker counts as latency.
            Some(schedule) => schedule.due(u64::from(place.next) * self.publishers.len() as u64 + u64::from(publisher)),
            None => now,
        };
        Some(Stamp { publisher, sequence: place.next, sent })
    }

    /// The message of the last stamp is on its way.
    #[inline]
    pub fn published(&mut self, publisher: u32) {
        let place = &mut self.publishers[publisher as usize];
        let events = place.receivers + u32::from(place.template.qos() != QoS::AtMostOnce);
        if let Some(window) = &mut place.window {
            window.begin(events);
        }
        place.next += 1;
        place.owed = place.owed.saturating_sub(1);
        self.counts.published += 1;
        self.counts.expected += u64::from(place.receivers);
    }

    /// A message came to a subscriber.
    #[inline]
    pub fn on_received(&mut self, audience: Audience, payload: &[u8], at: Moment) {
        let ours = Stamp::decode(payload).filter(|stamp| {
            stamp.publisher.wrapping_sub(audience.first_publisher) < audience.publishers
                && stamp.sequence < self.publishers[stamp.publisher as usize].next
                && payload.len() == self.payload_bytes
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
            self.latency.saturating_record(at.since(stamp.sent).as_micros() as u64);
        }
        match arrival {
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
            let Some(window) = &mut place.window else { continue };
            let is_stalled = !window.is_empty() && window.base() == place.base_seen;
            place.stalled = if is_stalled { place.stalled + 1 } else { 0 };
            place.base_seen = window.base();
            if place.stalled == STALLED_MAX {
                window.give_up();
                self.make_ready(publisher);
            }
        }
    }

    #[inline]
    fn event(&mut self, publisher: u32, sequence: u32) {
        let window = self.publishers[publisher as usize].window.as_mut();
        if window.is_some_and(|window| window.event(sequence)) {
            self.make_ready(publisher);
        }
    }
}

impl Schedule {
    fn due(&self, message: u64) -> Moment {
        let micros = (message as f64 * self.micros_per_message) as u64;
        Moment::from_micros(self.started.micros().saturating_add(micros))
    }
}

/// Larger latencies are recorded as this one.
const LATENCY_MAX_US: u64 = 120_000_000;
/// A window that did not move for so many seconds waits for messages that are lost.
const STALLED_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mqtt::{ProtocolVersion, TopicName};

    /// Two publishers that one subscriber hears.
    fn traffic(qos: QoS, window: Option<u32>, rate: Option<f64>) -> Traffic {
        let topic = TopicName::parse("t").unwrap();
        let template = PublishTemplate::new(ProtocolVersion::V311, topic, qos, false, Stamp::BYTES, Bytes::new());
        let template = template.unwrap();
        let publisher = |link| Publisher::new(link, template.clone(), 1, window);
        let audience = Audience { first_publisher: 0, publishers: 2, first_flow: 0 };
        Traffic::new(vec![publisher(0), publisher(1)], vec![audience], Stamp::BYTES, rate)
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
            while let Some(stamp) = traffic.next_stamp(publisher, now) {
                traffic.published(publisher);
                stamps.push(stamp);
            }
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
        assert!(!traffic.is_settled());
        assert_eq!(traffic.lost(), 4);
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
