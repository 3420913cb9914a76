//! The messages on their way to one client: the in-flight window and the queue behind it.
//!
//! Owns: the QoS 1 and 2 messages that a session has taken over and that its client has not acknowledged, in order.
//! Always: a message gets its sequence number when it is queued, and its PacketIdentifier is 1 + (sequence mod 65,535):
//! what the client holds can be told from the sequence alone, so identifiers survive a crash without being stored. The
//! span from the oldest unacknowledged message to the newest sent one stays below 65,535, so no identifier is in use
//! twice. At most `quota` messages are sent on one connection and unacknowledged. When the client comes back, what is
//! in flight is sent again first, in order and within the new connection's quota, and new messages after it. Memory
//! follows what is unacknowledged, not the span: a client that leaves one message unacknowledged costs one entry. What a
//! session that ends with its connection has been sent is not kept: only that it is in flight.
//! What is stored may be parked: the store has it, and the outbox knows only how many there are and between which sequence
//! numbers. Parked messages come back in slices, oldest first; everything that is queued behind them stays behind them.
//! Never: an opinion about the socket, about time, or about which message to drop when the queue is full.
//!
//! ```text
//!            queue_push          take_next             PUBACK
//!   message ───────────► queued ───────────► Sent ──────────────────► gone          QoS 1
//!                                             │ PUBREC       PUBCOMP
//!                                             └──────► Released ─────► gone          QoS 2
//!
//!   queue (messages) ◄── slice ── rest: parked, messages that cannot be parked, parked, …
//! ```

#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::VecDeque, rc::Rc};

use crate::{
    message::ApplicationMessage,
    mqtt::{PacketIdentifier, QoS},
    plant::{Bug, planted},
    session::{
        delivery::{Delivery, ShareOrigin, Stored},
        parked::{Parked, QueueSummary, Rest, Segment, SliceRange},
    },
};

/// What the store holds of a delivery that is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Its place in the queue.
    pub sequence: u64,
    /// The number of its message.
    pub number: u64,
    /// Its message had arrived before, and the store has let go of it.
    pub is_released: bool,
}

/// How far the store is, for what a client is sent.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// The last batch of which everything is kept that the client's listener promises.
    pub promised: u64,
    /// The last batch that outlives the machine.
    pub synced: u64,
    /// Places before this one are reserved.
    pub reserved_below: u64,
}

impl Reached {
    /// Everything is kept.
    pub const ALL: Reached = Reached { promised: u64::MAX, synced: u64::MAX, reserved_below: u64::MAX };

    /// Whether a message of QoS 2 may not be sent yet that was asked for with `batch`.
    fn keeps_waiting(self, sequence: u64, batch: u64) -> bool {
        let is_promised = batch <= self.promised || planted(Bug::Qos2SentBeforeDurable);
        let is_reserved = batch <= self.synced || sequence < self.reserved_below || planted(Bug::PlaceNotReserved);
        !(is_promised && is_reserved)
    }
}

/// A delivery that waits behind the in-flight window.
#[derive(Debug)]
pub(super) struct Queued {
    pub sequence: u64,
    pub delivery: Delivery,
}

impl Queued {
    pub fn bytes(&self) -> u64 {
        self.delivery.message.charged_bytes() as u64
    }

    /// The batch that the store was asked for it with.
    pub fn batch(&self) -> u64 {
        self.delivery.stored().map_or(0, |stored| stored.batch)
    }

    /// Whether the store has it, with everything that there is to know: it knows no group that gave it.
    fn may_be_parked(&self) -> bool {
        self.delivery.stored().is_some() && self.delivery.share().is_none()
    }
}

/// A parked delivery that was read back.
#[derive(Debug)]
pub struct Unparked {
    /// Its place in the queue.
    pub sequence: u64,
    /// The number of its message in the store.
    pub number: u64,
    /// What is delivered; absent when it has arrived and only PUBREL is open.
    pub delivery: Option<Delivery>,
}

/// What a slice of a queue comes to.
#[derive(Debug, Default)]
pub struct Slice {
    /// Deliveries that were dropped while they were parked: the store may forget them.
    pub dropped: Vec<Settled>,
    /// So many that had been parked were not found.
    pub missing: u64,
    /// It was asked for before something was parked in front of it, and tells nothing.
    pub is_stale: bool,
}

/// What was dropped to make room.
#[derive(Debug)]
pub enum Dropped {
    /// This one.
    Delivery(Delivery),
    /// One that was parked.
    Parked,
    /// There was none.
    Nothing,
}

/// A delivery that was sent.
#[derive(Debug)]
struct InFlight {
    sequence: u64,
    stage: Stage,
}

/// Where a sent delivery stands.
#[derive(Debug)]
enum Stage {
    /// PUBLISH was sent; PUBACK or PUBREC is due. `counts`: it was sent on this connection, against its quota.
    Sent { delivery: Delivery, counts: bool },
    /// As `Sent`, of a session that ends with its connection: nothing would send it again, so nothing more is known of it.
    Unkept { qos: QoS, counts: bool },
    /// QoS 2: PUBREC came and PUBREL was sent; PUBCOMP is due. The message is not needed any more, only its number in the
    /// store.
    Released { number: Option<u64>, counts: bool },
    /// Acknowledged before an older one was: goes with that, or when there are too many of its kind.
    Gone,
}

impl Stage {
    fn counts(&self) -> bool {
        match self {
            Stage::Sent { counts, .. } | Stage::Unkept { counts, .. } | Stage::Released { counts, .. } => *counts,
            Stage::Gone => false,
        }
    }

    /// The QoS of what waits for PUBACK or PUBREC.
    fn sent_with(&self) -> Option<QoS> {
        match self {
            Stage::Sent { delivery, .. } => Some(delivery.qos),
            Stage::Unkept { qos, .. } => Some(*qos),
            Stage::Released { .. } | Stage::Gone => None,
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self, Stage::Gone)
    }

    fn number(&self) -> Option<u64> {
        match self {
            Stage::Sent { delivery, .. } => delivery.stored().map(|stored| stored.number),
            Stage::Released { number, .. } => *number,
            Stage::Unkept { .. } | Stage::Gone => None,
        }
    }
}

/// What an acknowledgement met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// The exchange is complete.
    Completed,
    /// QoS 2: PUBREL is to be sent.
    Release,
    /// The identifier is not in flight.
    Unknown,
    /// It is in flight, and this is not what answers it: the client breaks the protocol.
    Mismatch,
}

/// What is to be sent again when a client resumes its session.
#[derive(Clone, Debug)]
pub enum Resend {
    /// PUBLISH with DUP.
    Publish(PacketIdentifier, Delivery),
    /// PUBREL.
    PubRel(PacketIdentifier),
}

/// The messages on their way to one client. See the module's header.
#[derive(Debug, Default)]
pub struct Outbox {
    /// By sequence number; the first one is not gone.
    in_flight: VecDeque<InFlight>,
    /// Of `in_flight`, those that are gone.
    gone: u32,
    queue: VecDeque<Queued>,
    /// What waits behind that, when some of it is parked.
    rest: Option<Box<Rest>>,
    next_sequence: u64,
    /// PUBLISHes sent on this connection whose exchange is not complete.
    counted: u32,
    /// Of `in_flight`, those before this one need not be sent again on this connection.
    resend_from: usize,
    queued_bytes: u64,
    /// The delivery that the last call was done with or saw released, for the store to hear of.
    settled: Option<Settled>,
}

impl Outbox {
    /// An empty outbox whose next delivery gets this sequence number.
    #[must_use]
    pub fn starting_at(next_sequence: u64) -> Self {
        Self { next_sequence, ..Self::default() }
    }

    /// The sequence number of the next delivery.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Deliveries before this one have been sent.
    #[must_use]
    pub fn sent_below(&self) -> u64 {
        match (self.queue.front(), self.rest.as_ref().and_then(|rest| rest.parked())) {
            (Some(queued), _) => queued.sequence,
            (None, Some(parked)) => parked.first.max(parked.sent_below),
            (None, None) => self.next_sequence,
        }
    }

    /// What the store holds of the delivery that was done with, or saw PUBREC, since the last call.
    pub fn take_settled(&mut self) -> Option<Settled> {
        self.settled.take()
    }

    /// Parks what was in the outbox when the broker stopped.
    pub fn restore(&mut self, summary: QueueSummary) {
        self.next_sequence = self.next_sequence.max(summary.last + 1).max(summary.sent_below);
        self.queued_bytes = summary.bytes;
        self.rest = Some(Box::new(Rest::of(summary)));
    }

    /// The place of the delivery at the front of the queue and the batch that it was asked for with, when it is one of QoS 2
    /// that waits for the store.
    #[must_use]
    pub fn waits_for_store(&self, reached: Reached) -> Option<(u64, u64)> {
        let Queued { sequence, delivery } = self.queue.front()?;
        let Stored { batch, .. } = delivery.stored().filter(|_| delivery.qos == QoS::ExactlyOnce)?;
        reached.keeps_waiting(*sequence, batch).then_some((*sequence, batch))
    }

    /// Whether nothing is in flight or queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.queue.is_empty() && self.rest.is_none()
    }

    /// Whether nothing waits to be sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.resend_from >= self.in_flight.len() && self.rest.is_none()
    }

    /// PUBLISHes sent on this connection and not completed: they count against the client's Receive Maximum.
    #[must_use]
    pub fn unacknowledged(&self) -> u32 {
        self.counted
    }

    /// Whether there may be something to send while no more than `quota` PUBLISHes may be unacknowledged.
    #[must_use]
    pub fn may_send(&self, quota: u32) -> bool {
        let next = self.queue.front();
        self.resend_from < self.in_flight.len()
            || next.is_some_and(|next| self.counted < quota || next.delivery.qos == QoS::AtMostOnce)
    }

    /// Messages that wait behind the window.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len() + self.rest.as_ref().map_or(0, |rest| rest.queued())
    }

    /// Bytes that the waiting messages are charged with. After parked ones were dropped an estimate.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// Whether any message is parked.
    #[must_use]
    pub fn has_parked(&self) -> bool {
        self.rest.is_some()
    }

    /// Whether a slice of them is on its way.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.is_asked)
    }

    /// Appends a delivery to the queue. `memory_max`: with so many messages in memory one that the store has is parked; none
    /// is, when absent.
    pub fn push(&mut self, delivery: Delivery, memory_max: Option<usize>) {
        let queued = Queued { sequence: self.next_sequence, delivery };
        self.next_sequence += 1;
        self.queued_bytes += queued.bytes();
        let is_parked = memory_max.is_some_and(|max| {
            let is_full = self.queue.len() >= max || self.queued_bytes > MEMORY_BYTES_MAX || self.rest.is_some();
            is_full && queued.may_be_parked()
        });
        match &mut self.rest {
            Some(rest) if is_parked => rest.park_back(&queued),
            Some(rest) => rest.push(queued),
            None if is_parked => {
                let mut rest = Box::<Rest>::default();
                rest.park_back(&queued);
                self.rest = Some(rest);
            }
            None => self.queue.push_back(queued),
        }
    }

    /// The client has gone: what the store has need not be in memory.
    pub fn park(&mut self) {
        let sent_below = self.rest.as_ref().and_then(|rest| rest.parked()).map_or(0, |parked| parked.sent_below);
        let may_be_parked = |last: &mut Queued| last.may_be_parked() && last.sequence >= sent_below;
        while let Some(last) = self.queue.pop_back_if(may_be_parked) {
            self.rest.get_or_insert_default().park_front(&last);
        }
        self.queue.shrink_to(SPARE_ENTRIES);
    }

    /// What to read of the parked messages, when any are needed and none are on their way.
    pub fn ask_slice(&mut self, is_online: bool) -> Option<SliceRange> {
        let to_send = self.queue.len() + self.in_flight.len() - self.resend_from;
        self.rest.as_mut()?.ask(is_online, to_send)
    }

    /// The slice that was asked for cannot be read.
    pub fn lose_slice(&mut self) {
        if let Some(rest) = &mut self.rest {
            rest.is_asked = false;
        }
    }

    /// Takes in what was read of the parked messages from `range.from` on: all up to `range.upto`, when `is_complete`.
    pub fn take_slice(
        &mut self,
        range: SliceRange,
        unparked: Vec<Unparked>,
        is_complete: bool,
        is_online: bool,
    ) -> Slice {
        let mut slice = Slice::default();
        let Some(mut rest) = self.rest.take() else { return slice };
        rest.is_asked = false;
        slice.is_stale = rest.parked().is_some_and(|parked| parked.first != range.from);
        if let Some(parked) = rest.parked_mut().filter(|parked| parked.first == range.from) {
            let mut is_read = is_complete && parked.last <= range.upto;
            for entry in unparked {
                let is_sent = entry.sequence < parked.sent_below || entry.delivery.is_none();
                if !is_sent && parked.dropped == 0 && !is_online {
                    is_read = false;
                    break;
                }
                parked.first = entry.sequence + 1;
                self.unpark(parked, entry, is_sent, &mut slice);
            }
            if is_read || parked.is_empty() {
                slice.missing = parked.sent + parked.count + parked.dropped;
                self.queued_bytes -= parked.bytes;
                rest.segments.pop_front();
                while let Some(Segment::Message(_)) = rest.segments.front() {
                    if let Some(Segment::Message(queued)) = rest.segments.pop_front() {
                        self.queue.push_back(queued);
                    }
                }
            }
        }
        if !rest.segments.is_empty() {
            rest.recount();
            self.rest = Some(rest);
        }
        slice
    }

    fn unpark(&mut self, parked: &mut Parked, entry: Unparked, is_sent: bool, slice: &mut Slice) {
        let Unparked { mut sequence, number, mut delivery } = entry;
        // The store may have written it and not more.
        if let Some(delivery) = &mut delivery {
            delivery.set_batch(parked.batch);
        }
        if planted(Bug::SequenceNotKept) {
            let sent = self.in_flight.back().map(|last| last.sequence);
            sequence = self.queue.back().map(|last| last.sequence).or(sent).map_or(0, |last| last + 1);
        }
        let Some(delivery) = delivery else {
            parked.sent = parked.sent.saturating_sub(1);
            let stage = Stage::Released { number: Some(number), counts: false };
            return self.in_flight.push_back(InFlight { sequence, stage });
        };
        // Where one had no room among the identifiers it was not sent, nor was anything behind it.
        if is_sent && self.queue.is_empty() && self.has_span_for(sequence) {
            parked.sent = parked.sent.saturating_sub(1);
            // The client may hold it.
            let stage = Stage::Sent { delivery, counts: false };
            return self.in_flight.push_back(InFlight { sequence, stage });
        }
        if is_sent {
            parked.sent = parked.sent.saturating_sub(1);
        } else if parked.dropped > 0 {
            parked.dropped -= 1;
            return slice.dropped.push(Settled { sequence, number, is_released: false });
        } else {
            self.queued_bytes -= parked.take_one(delivery.message.charged_bytes() as u64);
        }
        self.queued_bytes += delivery.message.charged_bytes() as u64;
        self.queue.push_back(Queued { sequence, delivery });
    }

    /// Drops the oldest delivery that waits behind the window.
    pub fn drop_oldest(&mut self) -> Dropped {
        let queued = match self.queue.pop_front() {
            Some(queued) => queued,
            None => match self.rest.as_mut().map(|rest| rest.drop_oldest()) {
                Some(Segment::Message(queued)) => queued,
                Some(Segment::Parked(parked)) => {
                    self.queued_bytes -= parked.bytes;
                    return if parked.count > 0 { Dropped::Parked } else { Dropped::Nothing };
                }
                None => return Dropped::Nothing,
            },
        };
        self.queued_bytes -= queued.bytes();
        self.settled = queued.delivery.stored().map(|stored| Settled {
            sequence: queued.sequence,
            number: stored.number,
            is_released: false,
        });
        Dropped::Delivery(queued.delivery)
    }

    /// Moves the next waiting delivery into the in-flight window, when fewer than `quota` are unacknowledged, and
    /// returns it with its PacketIdentifier. A QoS 0 delivery that waited for an offline client has none and leaves. One of
    /// QoS 2 leaves once the store is far enough. `is_kept`: it may have to be sent again.
    pub fn take_next(
        &mut self,
        quota: u32,
        reached: Reached,
        is_kept: bool,
    ) -> Option<(Option<PacketIdentifier>, Cow<'_, Delivery>)> {
        let front = self.queue.front()?;
        if front.delivery.qos == QoS::AtMostOnce {
            let Queued { delivery, .. } = self.queue.pop_front()?;
            self.queued_bytes -= delivery.message.charged_bytes() as u64;
            return Some((None, Cow::Owned(delivery)));
        }
        // [v5 MQTT-4.9.0-2] [v5 MQTT-3.3.4-9]
        if self.counted >= quota || self.resend_from < self.in_flight.len() || !self.has_span_for(front.sequence) {
            return None;
        }
        if self.waits_for_store(reached).is_some() {
            return None;
        }
        // [v5 MQTT-4.3.2-1] [v5 MQTT-4.3.3-1] The next sequence number has an identifier that is not in use.
        let Queued { sequence, delivery } = self.queue.pop_front()?;
        self.queued_bytes -= delivery.message.charged_bytes() as u64;
        // [v5 MQTT-4.3.2-3] [v5 MQTT-4.3.3-3] Unacknowledged from here on.
        if !is_kept && delivery.share().is_none() {
            self.send(sequence, Stage::Unkept { qos: delivery.qos, counts: true });
            return Some((Some(identifier_of(sequence)), Cow::Owned(delivery)));
        }
        self.send(sequence, Stage::Sent { delivery, counts: true });
        match &self.in_flight.back()?.stage {
            Stage::Sent { delivery, .. } => Some((Some(identifier_of(sequence)), Cow::Borrowed(delivery))),
            _ => None,
        }
    }

    /// Puts a delivery into the in-flight window that is sent at once and kept by nobody, because the session ends with its
    /// connection. Returns its PacketIdentifier; `None` when something is to be sent before it, or `quota` are unacknowledged.
    pub fn send_unkept(&mut self, qos: QoS, quota: u32) -> Option<PacketIdentifier> {
        let sequence = self.next_sequence;
        // [v5 MQTT-4.9.0-2] [v5 MQTT-3.3.4-9]
        if !self.is_idle() || self.counted >= quota || !self.has_span_for(sequence) {
            return None;
        }
        self.next_sequence += 1;
        self.send(sequence, Stage::Unkept { qos, counts: true });
        Some(identifier_of(sequence))
    }

    fn send(&mut self, sequence: u64, stage: Stage) {
        self.in_flight.push_back(InFlight { sequence, stage });
        self.resend_from = self.in_flight.len();
        self.counted += 1;
    }

    /// Forgets the delivery in flight as `identifier`, as if acknowledged: it turned out too large for the client.
    pub fn abandon(&mut self, identifier: PacketIdentifier) {
        if let Some(index) = self.find(identifier)
            && self.in_flight[index].stage.sent_with().is_some()
        {
            self.complete(index);
        }
    }

    /// PUBACK came: a QoS 1 exchange is complete.
    pub fn handle_puback(&mut self, identifier: PacketIdentifier) -> Acknowledged {
        let Some(index) = self.find(identifier) else { return Acknowledged::Unknown };
        match &self.in_flight[index].stage {
            Stage::Gone => Acknowledged::Unknown,
            // [v3 MQTT-4.3.2-1] [v5 MQTT-4.3.2-3] [v5 MQTT-4.4.0-2]
            stage if stage.sent_with() == Some(QoS::AtLeastOnce) => {
                self.complete(index);
                Acknowledged::Completed
            }
            _ => Acknowledged::Mismatch,
        }
    }

    /// PUBREC came. `refused`: it carries a ReasonCode of 0x80 or more, which ends the exchange.
    pub fn handle_pubrec(&mut self, identifier: PacketIdentifier, refused: bool) -> Acknowledged {
        let Some(index) = self.find(identifier) else { return Acknowledged::Unknown };
        let stage = &mut self.in_flight[index].stage;
        match stage.sent_with() {
            Some(QoS::ExactlyOnce) => {
                if refused {
                    // [v5 MQTT-4.4.0-2] [v5 MQTT-4.8.2-6]
                    self.complete(index);
                    return Acknowledged::Completed;
                }
                // [v3 MQTT-4.3.3-1] [v5 MQTT-4.3.3-4] [v5 MQTT-4.3.3-6]
                let (number, counts) = (stage.number(), stage.counts());
                *stage = Stage::Released { number, counts };
                let sequence = self.in_flight[index].sequence;
                self.settled = number.map(|number| Settled { sequence, number, is_released: false });
                Acknowledged::Release
            }
            Some(_) => Acknowledged::Mismatch,
            None if matches!(stage, Stage::Released { .. }) && !refused => Acknowledged::Release,
            None => Acknowledged::Unknown,
        }
    }

    /// PUBCOMP came: a QoS 2 exchange is complete.
    pub fn handle_pubcomp(&mut self, identifier: PacketIdentifier) -> Acknowledged {
        let Some(index) = self.find(identifier) else { return Acknowledged::Unknown };
        match self.in_flight[index].stage {
            // [v5 MQTT-4.3.3-5]
            Stage::Released { .. } => {
                self.complete(index);
                Acknowledged::Completed
            }
            Stage::Gone => Acknowledged::Unknown,
            Stage::Sent { .. } | Stage::Unkept { .. } => Acknowledged::Mismatch,
        }
    }

    /// The client has come back: what is in flight is to be sent again before anything else.
    pub fn begin_resume(&mut self) {
        self.resend_from = 0;
        self.counted = 0;
        for entry in &mut self.in_flight {
            match &mut entry.stage {
                Stage::Sent { counts, .. } | Stage::Unkept { counts, .. } | Stage::Released { counts, .. } => {
                    *counts = false;
                }
                Stage::Gone => {}
            }
        }
    }

    /// The next one, oldest first, of what was in flight when the client came back; nothing while `quota` PUBLISHes are
    /// unacknowledged.
    pub fn next_resend(&mut self, quota: u32) -> Option<Resend> {
        // [v3 MQTT-4.4.0-1] [v5 MQTT-4.4.0-1] [v3 MQTT-4.6.0-1]
        while let Some(entry) = self.in_flight.get_mut(self.resend_from) {
            let identifier = identifier_of(entry.sequence);
            match &mut entry.stage {
                Stage::Unkept { .. } | Stage::Gone => self.resend_from += 1,
                Stage::Released { .. } => {
                    self.resend_from += 1;
                    return Some(Resend::PubRel(identifier));
                }
                Stage::Sent { .. } if self.counted >= quota => return None,
                Stage::Sent { delivery, counts } => {
                    *counts = true;
                    let delivery = delivery.clone();
                    self.counted += 1;
                    self.resend_from += 1;
                    return Some(Resend::Publish(identifier, delivery));
                }
            }
        }
        None
    }

    /// Of a session that has ended: what another member of a share group may still get, oldest first. That is what was
    /// never sent, and what was sent at QoS 1 and not acknowledged. An exchange of QoS 2 that was begun is its client's
    /// alone.
    pub fn into_shared_rest(self) -> impl Iterator<Item = (ShareOrigin, Rc<ApplicationMessage>)> {
        // [v5 MQTT-4.8.2-5]
        let begun = self.in_flight.into_iter().filter_map(|entry| match entry.stage {
            Stage::Sent { delivery, .. } if delivery.qos == QoS::AtLeastOnce => Some(delivery),
            _ => None,
        });
        let unsent = self.queue.into_iter().map(|queued| queued.delivery);
        let behind = self.rest.into_iter().flat_map(|rest| rest.into_messages()).map(|queued| queued.delivery);
        begun
            .chain(unsent)
            .chain(behind)
            .filter_map(|delivery| delivery.share().map(|origin| (origin, delivery.message)))
    }

    /// Lets go of spare memory. Called when the outbox has drained.
    pub fn shrink(&mut self) {
        self.in_flight.shrink_to(SPARE_ENTRIES);
        self.queue.shrink_to(SPARE_ENTRIES);
    }

    /// Panics when what always holds does not.
    #[cfg(any(test, debug_assertions))]
    pub fn check_invariants(&self) {
        let counted = self.in_flight.iter().filter(|entry| entry.stage.counts()).count();
        assert_eq!(counted as u32, self.counted);
        let gone = self.in_flight.iter().filter(|entry| entry.stage.is_gone()).count();
        assert_eq!(gone as u32, self.gone);
        assert!(gone < GONE_MIN as usize || gone * 2 <= self.in_flight.len(), "what is gone takes no room for long");
        assert!(self.resend_from <= self.in_flight.len());
        assert!(self.in_flight.iter().is_sorted_by(|one, next| one.sequence < next.sequence));
        if let (Some(first), Some(last)) = (self.in_flight.front(), self.in_flight.back()) {
            assert!(!first.stage.is_gone(), "the window begins with what is unacknowledged");
            assert!(last.sequence - first.sequence < SPAN_MAX - 1 || planted(Bug::PacketIdentifierReused));
            let is_before = self.queue.front().is_none_or(|queued| last.sequence < queued.sequence);
            assert!(is_before || planted(Bug::SequenceNotKept), "what waits is behind what is in flight");
        }
        let bytes: u64 = self.queue.iter().map(Queued::bytes).sum();
        let rest = self.rest.as_ref();
        assert_eq!(bytes + rest.map_or(0, |rest| rest.bytes()), self.queued_bytes);
        if let Some(rest) = rest {
            assert!(rest.parked().is_some(), "what waits in the rest waits for what is parked");
            assert!(self.queue.back().is_none_or(|last| last.sequence < rest.first()));
        }
    }

    /// Whether `sequence` may be sent while the oldest unacknowledged message is what it is.
    fn has_span_for(&self, sequence: u64) -> bool {
        if planted(Bug::PacketIdentifierReused) {
            return true;
        }
        // [v3 MQTT-2.3.1-4] [v5 MQTT-2.2.1-4] [v3 MQTT-2.3.1-3]
        self.in_flight.front().is_none_or(|first| sequence - first.sequence < SPAN_MAX - 1)
    }

    /// Where the delivery in flight with this identifier stands.
    fn find(&self, identifier: PacketIdentifier) -> Option<usize> {
        let first = self.in_flight.front()?.sequence;
        let offset = (u64::from(identifier.value()) + SPAN_MAX - u64::from(identifier_of(first).value())) % SPAN_MAX;
        let sequence = first + offset;
        // Where nothing was dropped or let go of before it, it stands at its offset.
        match self.in_flight.get(offset as usize) {
            Some(entry) if entry.sequence == sequence => Some(offset as usize),
            _ => self.in_flight.binary_search_by_key(&sequence, |entry| entry.sequence).ok(),
        }
    }

    /// The exchange at `index` is complete: moves the window on past everything that is gone.
    fn complete(&mut self, index: usize) {
        let entry = &mut self.in_flight[index];
        let stage = std::mem::replace(&mut entry.stage, Stage::Gone);
        let is_released = matches!(stage, Stage::Released { .. });
        self.settled = stage.number().map(|number| Settled { sequence: entry.sequence, number, is_released });
        self.counted -= u32::from(stage.counts());
        self.gone += 1;
        while self.in_flight.pop_front_if(|entry| entry.stage.is_gone()).is_some() {
            self.gone -= 1;
            self.resend_from = self.resend_from.saturating_sub(1);
        }
        if self.gone >= GONE_MIN && self.gone as usize * 2 > self.in_flight.len() {
            self.let_go();
        }
    }

    /// Takes out what is gone and was kept only because something older is not.
    fn let_go(&mut self) {
        let before = self.in_flight.iter().take(self.resend_from);
        self.resend_from -= before.filter(|entry| entry.stage.is_gone()).count();
        self.in_flight.retain(|entry| !entry.stage.is_gone());
        self.gone = 0;
    }
}

/// There are 65,535 PacketIdentifiers.
pub(super) const SPAN_MAX: u64 = 65_535;
const SPARE_ENTRIES: usize = 4;
/// With so many bytes queued what the store has is parked.
const MEMORY_BYTES_MAX: u64 = 1 << 20;
/// So many entries that are gone are worth taking out of the middle of the window.
const GONE_MIN: u32 = 32;

pub(super) fn identifier_of(sequence: u64) -> PacketIdentifier {
    let value = 1 + (sequence % SPAN_MAX) as u16;
    PacketIdentifier::new(value).unwrap_or(PacketIdentifier::MIN)
}
