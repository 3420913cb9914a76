//! From a publication to the sessions on this shard.
//!
//! Owns: the merging of overlapping subscriptions, the deliveries of a turn, and large fan-outs as jobs with a cursor.
//! Always: a session gets one copy of a publication, with the highest QoS and all identifiers of its matching
//! subscriptions [v3 MQTT-3.3.5-1] [v5 MQTT-3.3.4-2] [v5 MQTT-3.3.4-3] [v5 MQTT-3.3.4-4]. While a fan-out goes on as a
//! job its source waits, and only its source.
//! Never: more than a slice of a job in one turn.

use std::{borrow::Borrow, rc::Rc};

use smallvec::SmallVec;

use crate::{
    message::{ApplicationMessage, Envelope, Publication},
    mqtt::{QoS, RetainHandling},
    routing::Matches,
    runtime::ConnectionId,
    shard::{
        RANK_DELIVERY, Shard, Subscription, SubscriptionBits,
        clients::Order,
        connections::Flags,
        durable::{OpenGroup, UNKEPT, Waiter},
        exchange::Taken,
        frames::Frames,
        input::WORK_PER_DELIVERY,
        ledger::AnswerReference,
    },
    time::Moment,
};

/// Where a publication comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A client of this shard.
    Connection {
        /// Its connection.
        id: ConnectionId,
        /// Its session, for No Local.
        session: Option<u32>,
    },
    /// Another shard.
    Shard(u16),
    /// The broker: a Will, `$SYS`.
    Broker,
}

/// What is kept from one publication to the next.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    /// The frames of the publication under way.
    pub frames: Frames,
    /// Deliveries of the publication under way, where subscriptions overlap: empty between two.
    targets: Vec<Target>,
}

/// What fanning out on this shard came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Here {
    /// Whether any subscription matched.
    pub matched: bool,
    /// Whether the rest goes on as a job, the last of the list.
    pub job: bool,
}

/// A delivery that is worked out and not yet made.
#[derive(Clone, Debug)]
struct Target {
    session: u32,
    generation: u32,
    qos: QoS,
    retain: bool,
    identifiers: SmallVec<[u32; 2]>,
}

/// A large fan-out under way.
#[derive(Debug)]
pub(super) struct FanOutJob {
    message: Rc<ApplicationMessage>,
    targets: Vec<Target>,
    next: usize,
    source: Source,
    report: Taken,
    /// The acknowledgement that waits for it.
    pub answer: Option<AnswerReference>,
    /// The group that its deliveries belong to, and how many parts other shards add when it is made here.
    pub group: Option<OpenGroup>,
}

impl FanOutJob {
    /// Whether messages of this shard wait behind it.
    pub fn comes_from_shard(&self, shard: u16) -> bool {
        self.source == Source::Shard(shard)
    }
}

impl Shard {
    /// Delivers a publication to the subscribers of this shard.
    pub(super) fn fan_out_here(
        &mut self,
        publication: &Publication<'_>,
        source: Source,
        report: Taken,
        now: Moment,
    ) -> Here {
        self.fan_out_alike(&mut std::iter::once(publication), source, report, now)
    }

    /// Delivers publications that differ in their payloads and properties only, in their order, to the subscribers of this
    /// shard: the first, and those behind it as well when no job and no merging is needed for that. The others are left in `run`.
    pub(super) fn fan_out_alike<'a, P: Borrow<Publication<'a>>>(
        &mut self,
        run: &mut (impl ExactSizeIterator<Item = P> + Clone),
        source: Source,
        report: Taken,
        now: Moment,
    ) -> Here {
        let mut behind = run.clone();
        let Some(first) = behind.next() else { return Here::default() };
        let first = first.borrow();
        // [v3 MQTT-3.3.2-3] [v5 MQTT-3.3.2-3]
        let mut found = Matches::new();
        let (topic, topic_hash) = (first.topic, first.envelope.topic_hash);
        let known = match source {
            Source::Shard(_) => {
                self.last_mesh_topic.note_hashed(topic, topic_hash);
                self.last_mesh_topic.filters()
            }
            Source::Connection { .. } | Source::Broker => {
                debug_assert!(self.last_topic.is(topic), "`route` has noted it");
                self.last_topic.filters()
            }
        };
        match known {
            Some(known) => self.filters.matches_again(topic, topic_hash, known, &mut found),
            None => self.filters.matches(topic, topic_hash, &mut found),
        }
        let total: usize = found.iter().map(|slice| slice.len()).sum();
        if total == 0 {
            run.for_each(drop);
            return Here::default();
        }
        let publisher = match source {
            Source::Connection { session, .. } => session,
            _ => None,
        };
        if let ([only], true) = (found.as_slice(), total <= SLICE) {
            self.work_this_turn += run.len() * total * WORK_PER_DELIVERY;
            let Shard { clients, fan_out: FanOut { frames, .. }, retained_talk, .. } = self;
            let wants = |subscription: &&Subscription| {
                Some(subscription.session) != publisher || !subscription.options.no_local()
            };
            let others;
            let subscriptions = if run.len() > 1 && !first.envelope.has_expired(now) {
                frames.begin(first, total, now);
                others = deliver_run(clients, frames, only.iter().filter(wants), first, run, now);
                &others
            } else {
                *only
            };
            for publication in run {
                let publication = publication.borrow();
                retained_talk.note_live(publication);
                frames.begin(publication, total, now);
                for subscription in subscriptions.iter().filter(wants) {
                    let identifiers = [subscription.identifier];
                    let order = order_of(subscription, &publication.envelope, &identifiers);
                    clients.deliver(publication, frames, order, now);
                }
            }
            return Here { matched: true, job: false };
        }
        self.retained_talk.note_live(first);
        self.work_this_turn += total * WORK_PER_DELIVERY;
        merge(&mut self.clients, &mut self.fan_out.targets, &found, first, publisher);
        drop(found);
        let here = self.fan_out_to_targets(first, source, report, now);
        *run = behind;
        here
    }

    /// Makes the deliveries at once when they are few, as a job when they are many.
    fn fan_out_to_targets(
        &mut self,
        publication: &Publication<'_>,
        source: Source,
        report: Taken,
        now: Moment,
    ) -> Here {
        let targets = self.fan_out.targets.len();
        let matched = targets > 0;
        // The broker itself cannot wait. When many Wills come at once, those beyond the limit are delivered without slices.
        let is_job = targets > SLICE && (source != Source::Broker || !self.fan_outs_are_many());
        if is_job {
            self.clients.counters.fan_out_jobs += 1;
            let message = Rc::clone(publication.share());
            let targets = std::mem::take(&mut self.fan_out.targets);
            self.jobs.push_back(FanOutJob { message, targets, next: 0, source, report, answer: None, group: None });
            return Here { matched, job: true };
        }
        let Shard { clients, fan_out: FanOut { frames, targets }, .. } = self;
        frames.begin(publication, targets.len(), now);
        for target in targets.drain(..) {
            clients.deliver(publication, frames, target.order(), now);
        }
        targets.shrink_to(SLICE);
        Here { matched, job: false }
    }

    /// A slice of the oldest job, which then goes behind the others.
    pub(super) fn run_fan_out(&mut self, now: Moment) {
        let Some(mut job) = self.jobs.pop_front() else { return };
        let slice_end = (job.next + SLICE).min(job.targets.len());
        let message = Rc::clone(&job.message);
        let publication = Publication::of(&message);
        let asked = self.clients.durable.journal.awaited();
        if let Some(open) = job.group {
            self.clients.durable.journal.begin_part(open.group);
        }
        let Shard { clients, fan_out, .. } = self;
        fan_out.frames.begin(&publication, slice_end - job.next, now);
        for target in job.targets.get(job.next..slice_end).unwrap_or_default() {
            // The session may have ended, and another may stand in its place.
            if clients.session_mut(target.session, target.generation).is_some() {
                clients.deliver(&publication, &mut fan_out.frames, target.order(), now);
            }
        }
        job.next = slice_end;
        let is_over = job.next == job.targets.len();
        if let Some(open) = job.group {
            self.clients.durable.journal.end_part(is_over, open.others);
        }
        if let Source::Shard(shard) = job.source {
            self.note_asked_since(asked, shard, RANK_DELIVERY);
        }
        if !is_over {
            return self.jobs.push_back(job);
        }
        match job.source {
            Source::Connection { id, .. } => self.stop_waiting(id, Flags::WAITS_FOR_JOB),
            Source::Shard(shard) => self.ledger.count_received(shard, RANK_DELIVERY, 1, job.report.is_awaited()),
            Source::Broker => {}
        }
        let Some(answer) = job.answer else { return };
        let durability = self.durability_of(answer.connection);
        if self.clients.durable.is_settled(durability) {
            self.settled.push(answer);
        } else if self.clients.durable.journal.has_failed() {
            self.clients.condemned.push((answer.connection, UNKEPT));
        } else {
            self.clients.durable.wait(durability, Waiter::Answer(answer));
        }
    }

    /// A publication of another shard. Returns whether it is delivered already, not as a job.
    pub(super) fn deliver_from_shard(
        &mut self,
        from: u16,
        report: Taken,
        message: ApplicationMessage,
        now: Moment,
    ) -> bool {
        let message = Rc::new(message);
        let group = report.group(from).filter(|_| self.clients.durable.journal.is_on());
        if let Some(group) = group {
            self.clients.durable.journal.begin_part(group);
        }
        let is_job = self.fan_out_here(&Publication::of(&message), Source::Shard(from), report, now).job;
        if let Some(group) = group {
            self.clients.durable.journal.end_part(!is_job, 0);
            if let (true, Some(job)) = (is_job, self.jobs.back_mut()) {
                job.group = Some(OpenGroup { group, others: 0 });
            }
        }
        !is_job
    }
}

impl Target {
    fn order(&self) -> Order<'_> {
        Order { session: self.session, qos: self.qos, retain: self.retain, identifiers: &self.identifiers, share: None }
    }
}

/// Delivers a run that begins with `first`, which `frames` was begun with, at once to each subscriber where that can be.
/// Returns those whom it was not delivered to; of a run for one subscriber, what is left of it is left to be delivered.
fn deliver_run<'a, 's, P: Borrow<Publication<'a>>>(
    clients: &mut super::Clients,
    frames: &Frames,
    subscriptions: impl Iterator<Item = &'s Subscription>,
    first: &Publication<'_>,
    run: &mut (impl ExactSizeIterator<Item = P> + Clone),
    now: Moment,
) -> SmallVec<[Subscription; 4]> {
    debug_assert!(!first.envelope.retain, "each would have a stamp of its own");
    let mut subscriptions = subscriptions.peekable();
    let mut others = SmallVec::new();
    let mut is_only = true;
    while let Some(subscription) = subscriptions.next() {
        is_only &= subscriptions.peek().is_none();
        let identifiers = [subscription.identifier];
        let order = order_of(subscription, &first.envelope, &identifiers);
        if is_only {
            clients.deliver_alike(run, frames, order, now);
            others.push(*subscription);
            continue;
        }
        let mut all = run.clone();
        // What is kept for many is kept once: their QoS 1 and 2 go message by message.
        if order.qos == QoS::AtMostOnce {
            clients.deliver_alike(&mut all, frames, order, now);
        }
        if all.len() > 0 {
            others.push(*subscription);
        }
    }
    if !is_only && others.is_empty() {
        run.for_each(drop);
    }
    others
}

/// What a subscription asks for of a publication. `identifiers` has its own.
fn order_of<'a>(subscription: &Subscription, envelope: &Envelope, identifiers: &'a [u32; 1]) -> Order<'a> {
    Order {
        session: subscription.session,
        qos: envelope.qos.min(subscription.options.qos()),
        retain: envelope.retain && subscription.options.retain_as_published(),
        identifiers: if subscription.identifier == 0 { &[] } else { identifiers },
        share: None,
    }
}

/// One target for each session, however many of its subscriptions match.
fn merge(
    clients: &mut super::Clients,
    targets: &mut Vec<Target>,
    found: &Matches<'_, Subscription>,
    publication: &Publication<'_>,
    publisher: Option<u32>,
) {
    debug_assert!(targets.is_empty());
    targets.reserve(found.iter().map(|slice| slice.len()).sum());
    for subscription in found.iter().copied().flatten() {
        // [v5 MQTT-3.8.3-3]
        if Some(subscription.session) == publisher && subscription.options.no_local() {
            continue;
        }
        let Some(session) = clients.sessions.at_mut(subscription.session) else { continue };
        let qos = publication.envelope.qos.min(subscription.options.qos());
        let retain = publication.envelope.retain && subscription.options.retain_as_published();
        let identifier = (subscription.identifier != 0).then_some(subscription.identifier);
        // What the session says of its place may be left over from another publication: the place itself knows better.
        let met = targets.get_mut(session.fan_out_place as usize);
        if let Some(target) = met.filter(|target| target.session == subscription.session) {
            target.qos = target.qos.max(qos);
            target.retain |= retain;
            target.identifiers.extend(identifier);
            continue;
        }
        session.fan_out_place = targets.len() as u32;
        targets.push(Target {
            session: subscription.session,
            generation: session.generation,
            qos,
            retain,
            identifiers: identifier.into_iter().collect(),
        });
    }
}

impl SubscriptionBits {
    /// The options of a subscription, with the QoS that was granted.
    #[must_use]
    pub fn new(qos: QoS, no_local: bool, retain_as_published: bool) -> Self {
        Self(qos.value() | u8::from(no_local) << 2 | u8::from(retain_as_published) << 3)
    }

    /// The granted QoS.
    #[must_use]
    pub fn qos(self) -> QoS {
        QoS::from_bits(self.0 & 3).unwrap_or_default()
    }

    /// Whether the client does not want its own publications [v5 MQTT-3.8.3-3].
    #[must_use]
    pub fn no_local(self) -> bool {
        self.0 & 4 != 0
    }

    /// Whether RETAIN is passed on as it was published [v5 MQTT-3.3.1-12] [v5 MQTT-3.3.1-13] [v3 MQTT-3.3.1-9].
    #[must_use]
    pub fn retain_as_published(self) -> bool {
        self.0 & 8 != 0
    }
}

/// Whether a subscription is sent the retained messages that match.
#[must_use]
pub(super) fn wants_retained(handling: RetainHandling, is_new: bool) -> bool {
    match handling {
        // [v5 MQTT-3.3.1-9] [v5 MQTT-3.8.4-4] [v3 MQTT-3.8.4-3]
        RetainHandling::SendAtSubscribe => true,
        // [v5 MQTT-3.3.1-10]
        RetainHandling::SendIfNew => is_new,
        // [v5 MQTT-3.3.1-11]
        RetainHandling::DoNotSend => false,
    }
}

/// Deliveries of one job in one turn; a fan-out above it is a job.
const SLICE: usize = 1024;
