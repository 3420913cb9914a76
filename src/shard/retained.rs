//! Retained messages: their home, and the questions of those who subscribe.
//!
//! Owns: the retained messages of the topics that are at home here, questions from other shards that wait for their
//! grace period, and this shard's own open questions.
//! Always: of two retained publications to a topic the one with the larger stamp stays. A question is answered only after
//! every shard has passed it and everything sent before that has been handled here; so what a subscriber does not see
//! live it gets from the answer. While a question is open, a live message newer than an answer makes the answer void: to
//! get a message live and retained is allowed, to miss it or to go back in time is not.
//! Never: more than a slice of an answer at a time, nor the next slice before the subscriber has room for it.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use crate::{
    config::Durability,
    message::{ApplicationMessage, Publication, RetainedMessage, Stamp},
    mqtt::{QoS, ReasonCode, TopicFilter, TopicName},
    plant::{Bug, planted},
    routing::{Clear, Cursor, Grace, HasTopic, Put, home},
    session::RetainedRequest,
    shard::{
        MeshMessage, Shard,
        clients::Order,
        connections::Flags,
        exchange::{RetainedAnswer, RetainedQuestion},
        timers::Timer,
    },
    store::{Condition, Operation},
    time::Moment,
};

/// A question of ours that is not answered to the end.
#[derive(Debug)]
struct Question {
    session: u32,
    request: RetainedRequest,
    /// Homes whose answer is due.
    due: u32,
    /// Homes that have more, with the place to go on from.
    more: Vec<(u16, Cursor)>,
    /// Live messages of matching topics, newer than what an answer may bring.
    live: BTreeMap<Box<str>, Stamp>,
}

/// What is asked and not answered, in both directions.
#[derive(Debug, Default)]
pub(super) struct RetainedTalk {
    /// By session, then in order: the number's upper half is the session.
    asked: BTreeMap<u64, Question>,
    next_number: u32,
    /// Questions that no longer wait for their client to have room.
    hurried: Vec<u64>,
    /// Questions of this turn.
    arrived: Vec<RetainedQuestion>,
    /// Questions that wait until every shard has passed them: one wait for all questions of a turn.
    waiting: Vec<(Grace, Vec<RetainedQuestion>)>,
    /// Questions that everyone has passed; what was sent before is yet to be handled.
    passed: Vec<RetainedQuestion>,
    /// Questions that may be answered now.
    ready: VecDeque<RetainedQuestion>,
    sweep: Option<Cursor>,
}

impl HasTopic for RetainedMessage {
    fn topic(&self) -> &str {
        RetainedMessage::topic(self)
    }

    fn topic_bytes(&self) -> &[u8] {
        RetainedMessage::topic_bytes(self)
    }

    fn stamp(&self) -> Stamp {
        RetainedMessage::stamp(self)
    }

    fn bytes(&self) -> usize {
        self.charged_bytes()
    }
}

impl RetainedTalk {
    /// Questions of this shard that are not answered to the end.
    #[cfg(test)]
    pub fn open_questions(&self) -> usize {
        self.asked.len()
    }

    /// Whether there is something to do now.
    pub fn has_work(&self) -> bool {
        !(self.arrived.is_empty() && self.ready.is_empty() && self.hurried.is_empty())
    }

    /// Whether a question waits for other shards to go on.
    pub fn waits_for_grace(&self) -> bool {
        !(self.waiting.is_empty() && self.passed.is_empty())
    }

    /// A retained publication passes by live: older answers about its topic are void from here on.
    pub fn note_live(&mut self, publication: &Publication<'_>) {
        if self.asked.is_empty() || !publication.envelope.retain || planted(Bug::RetainedOlderAnswer) {
            return;
        }
        let Ok(topic) = TopicName::parse(publication.topic) else { return };
        for (&number, question) in &mut self.asked {
            let matches = TopicFilter::parse(&question.request.filter).is_ok_and(|filter| filter.matches(&topic));
            if matches {
                let newest = question.live.entry(publication.topic.into()).or_default();
                *newest = publication.envelope.stamp.max(*newest);
                if question.live.len() == LIVE_MAX && !question.more.is_empty() {
                    self.hurried.push(number);
                }
            }
        }
    }

    /// A session has ended.
    pub fn forget_session(&mut self, session: u32) {
        self.forget(session, |_| true);
    }

    /// A session has unsubscribed.
    pub fn forget_filter(&mut self, session: u32, filter: &str) {
        self.forget(session, |question| &*question.request.filter == filter);
    }

    /// A session asks anew: what waits for it to have room for the same filter is asked again with that.
    fn forget_stalled(&mut self, session: u32, filter: &str) {
        self.forget(session, |question| question.due == 0 && &*question.request.filter == filter);
    }

    fn forget(&mut self, session: u32, is_over: impl Fn(&Question) -> bool) {
        let over: Vec<u64> = self.of(session).filter(|(_, asked)| is_over(asked)).map(|(&number, _)| number).collect();
        for number in over {
            self.asked.remove(&number);
        }
    }

    fn of(&self, session: u32) -> impl Iterator<Item = (&u64, &Question)> {
        self.asked.range(number_of(session, 0)..=number_of(session, u32::MAX))
    }
}

fn number_of(session: u32, number: u32) -> u64 {
    u64::from(session) << 32 | u64::from(number)
}

impl Shard {
    /// Retains a publication whose topic is at home here, or clears what is retained.
    ///
    /// # Errors
    /// When there are too many: it is delivered all the same, but not retained.
    pub(super) fn retain(&mut self, publication: &Publication<'_>, now: Moment) -> Result<(), ReasonCode> {
        // What the broker says of itself is said anew after a start.
        if !self.clients.durable.journal.is_on() || publication.topic.starts_with("$SYS/") {
            return self.put_retained(publication, now).map(drop);
        }
        let is_full = self.clients.durable.journal.condition() == Condition::Full;
        if is_full && publication.envelope.qos == QoS::AtMostOnce && !publication.payload.is_empty() {
            // What was retained is discarded, and this may be at any time. QoS 1 and 2 were refused where they came in, but
            // for Wills, for which there is room.
            self.clients.counters.retained_refused += 1;
            let nothing = Rc::new(ApplicationMessage::new(publication.topic, &[], &[], publication.envelope));
            return self.retain(&Publication::of(&nothing), now);
        }
        let has_changed = self.put_retained(publication, now)?;
        if has_changed {
            let stands = (!publication.payload.is_empty()).then(|| ApplicationMessage::clone(publication.share()));
            self.clients.durable.journal.ask(retained_operation(publication.topic, stands));
        } else if !self.clients.durable.is_settled(Durability::Sync) {
            // What made it come to nothing may not be durable yet, and its publisher is told that it is done.
            let stands = self.retained.exact(publication.topic).map(RetainedMessage::to_message);
            self.clients.durable.journal.ask(retained_operation(publication.topic, stands));
        }
        Ok(())
    }

    /// Returns whether anything has changed.
    pub(super) fn put_retained(&mut self, publication: &Publication<'_>, now: Moment) -> Result<bool, ReasonCode> {
        let mut stamp = publication.envelope.stamp;
        if planted(Bug::RetainedStampIgnored) {
            stamp = self.next_stamp(now);
        }
        if publication.payload.is_empty() {
            // [v3 MQTT-3.3.1-10] [v5 MQTT-3.3.1-6] [v3 MQTT-3.3.1-11] [v5 MQTT-3.3.1-7]
            if let Clear::Cleared(old) = self.retained.clear(publication.topic, stamp) {
                self.shared.retained_messages.take(1);
                self.shared.retained_bytes.take(old.charged_bytes() as u64);
                return Ok(true);
            }
            return Ok(false);
        }
        let old_bytes = self.retained.exact(publication.topic).map(|old| old.charged_bytes() as u64);
        let is_new = old_bytes.is_none();
        let message = RetainedMessage::new(publication, stamp);
        let (bytes, old_bytes) = (message.charged_bytes() as u64, old_bytes.unwrap_or(0));
        let limits = &self.config.mqtt;
        if is_new && !self.shared.retained_messages.add_within(1, limits.retained_messages_max) {
            self.clients.counters.retained_refused += 1;
            return Err(ReasonCode::QuotaExceeded);
        }
        // What it replaces makes room for it.
        let (more, less) = (bytes.saturating_sub(old_bytes), old_bytes.saturating_sub(bytes));
        if more > 0 && !self.shared.retained_bytes.add_within(more, limits.retained_bytes_max) {
            self.clients.counters.retained_refused += 1;
            self.shared.retained_messages.take(u64::from(is_new));
            return Err(ReasonCode::QuotaExceeded);
        }
        // [v3 MQTT-3.3.1-7] [v3 MQTT-3.1.2-7] Retained messages belong to no session.
        match self.retained.put(message) {
            Put::Stored | Put::Replaced(_) => {
                self.shared.retained_bytes.take(less);
                Ok(true)
            }
            Put::Older => {
                self.shared.retained_messages.take(u64::from(is_new));
                self.shared.retained_bytes.take(more);
                Ok(false)
            }
        }
    }

    /// Asks for the retained messages that match a new subscription.
    pub(super) fn ask_retained(&mut self, session: u32, request: &RetainedRequest) {
        let filter = &*request.filter;
        self.retained_talk.forget_stalled(session, filter);
        self.retained_talk.next_number = self.retained_talk.next_number.wrapping_add(1);
        let number = number_of(session, self.retained_talk.next_number);
        let is_wildcard = TopicFilter::parse(filter).is_ok_and(|filter| filter.has_wildcard());
        let nothing_is_here =
            if is_wildcard { self.retained.is_empty() } else { self.retained.exact(filter).is_none() };
        if nothing_is_here && self.shards == 1 {
            // Nothing is under way either, for there is nobody else: a client with many filters costs no questions.
            return;
        }
        let homes = if is_wildcard {
            0..self.shards
        } else {
            let at_home = home(self.shared.key.topic(filter).whole, usize::from(self.shards)) as u16;
            at_home..at_home + 1
        };
        let question = Question {
            session,
            request: request.clone(),
            due: homes.len() as u32,
            more: Vec::new(),
            live: BTreeMap::new(),
        };
        self.retained_talk.asked.insert(number, question);
        for shard in homes {
            let question = RetainedQuestion { asker: self.index, number, filter: filter.into(), cursor: None };
            self.send(shard, MeshMessage::RetainedQuestion(Box::new(question)));
        }
    }

    /// A question came; it is answered when every shard has passed it.
    pub(super) fn handle_retained_question(&mut self, question: RetainedQuestion) {
        let needs_grace = question.cursor.is_none() && self.shards > 1 && !planted(Bug::RetainedNoGrace);
        if needs_grace {
            self.retained_talk.arrived.push(question);
        } else {
            self.retained_talk.ready.push_back(question);
        }
    }

    /// Looks whether questions have been passed by every shard. The driver calls this before it takes messages out of
    /// the mesh, and `handle_mesh_drained` once it has taken out all that were in it then.
    pub fn check_grace(&mut self) {
        let talk = &mut self.retained_talk;
        let clocks = &self.shared.clocks;
        for (mut grace, questions) in std::mem::take(&mut talk.waiting) {
            if grace.has_passed(clocks) {
                talk.passed.extend(questions);
            } else {
                talk.waiting.push((grace, questions));
            }
        }
    }

    /// Everything that other shards had sent at `check_grace` has been handled.
    pub fn handle_mesh_drained(&mut self) {
        let talk = &mut self.retained_talk;
        talk.ready.extend(talk.passed.drain(..));
    }

    /// Answers what may be answered, and starts the wait for what came in this turn.
    pub(super) fn run_retained(&mut self, now: Moment) {
        for number in std::mem::take(&mut self.retained_talk.hurried) {
            self.continue_question(number);
        }
        // The rest waits for the next turn: each may take a scan.
        for _ in 0..self.retained_talk.ready.len().min(ANSWERS_PER_TURN) {
            let Some(question) = self.retained_talk.ready.pop_front() else { break };
            let answer = self.answer_retained(&question, now);
            self.send(question.asker, MeshMessage::RetainedAnswer(Box::new(answer)));
        }
        let arrived = std::mem::take(&mut self.retained_talk.arrived);
        if !arrived.is_empty() {
            let grace = Grace::begin(&self.shared.clocks, usize::from(self.index));
            self.retained_talk.waiting.push((grace, arrived));
        }
    }

    fn answer_retained(&self, question: &RetainedQuestion, now: Moment) -> RetainedAnswer {
        let mut messages = Vec::new();
        let mut visit = |message: &RetainedMessage| {
            // [v5 MQTT-3.3.2-5]
            if message.expires_at() > now {
                messages.push(message.clone());
            }
        };
        let is_wildcard = TopicFilter::parse(&question.filter).is_ok_and(|filter| filter.has_wildcard());
        let cursor = if is_wildcard {
            let cursor = question.cursor.clone();
            self.retained.scan(&question.filter, cursor, SCAN_STEPS, SCAN_FOUND, &mut visit)
        } else {
            if let Some(message) = self.retained.exact(&question.filter) {
                visit(message);
            }
            None
        };
        RetainedAnswer { number: question.number, home: self.index, messages, cursor }
    }

    /// A slice of an answer.
    pub(super) fn handle_retained_answer(&mut self, answer: RetainedAnswer, now: Moment) {
        let Some(question) = self.retained_talk.asked.get_mut(&answer.number) else { return };
        question.due -= 1;
        question.more.extend(answer.cursor.map(|cursor| (answer.home, cursor)));
        let (session, request) = (question.session, question.request.clone());
        let mut messages = answer.messages;
        messages.retain(|message| question.live.get(message.topic()).is_none_or(|&live| live < message.stamp()));
        let identifiers = [request.subscription_identifier];
        for message in messages {
            message.publish(|publication| {
                let order = Order {
                    session,
                    qos: publication.envelope.qos.min(request.qos),
                    // [v3 MQTT-3.3.1-8]
                    retain: true,
                    identifiers: if request.subscription_identifier == 0 { &[] } else { &identifiers },
                    share: None,
                };
                self.deliver_one(publication, order, now)
            });
        }
        self.continue_question(answer.number);
    }

    /// A client that asks has room again.
    pub(super) fn continue_retained(&mut self, session: u32) {
        let numbers: Vec<u64> = self.retained_talk.of(session).map(|(&number, _)| number).collect();
        if numbers.is_empty()
            && let Some(id) = self.connection_of(session)
            && let Some(connection) = self.clients.connections.open_mut(id)
        {
            connection.flags.set(Flags::ASKS_RETAINED, false);
        }
        for number in numbers {
            self.continue_question(number);
        }
    }

    /// Asks for the next slice when the client has room for it; forgets the question when there is none.
    fn continue_question(&mut self, number: u64) {
        let Some(question) = self.retained_talk.asked.get_mut(&number) else { return };
        let session = question.session;
        if question.more.is_empty() {
            if question.due == 0 {
                self.retained_talk.asked.remove(&number);
            }
            return;
        }
        let slot = self.clients.sessions.at(session).map_or(u32::MAX, |session| session.connection);
        if let Some(connection) = self.clients.connections.at_mut(slot)
            && connection.outbound_bytes() > ANSWER_ROOM_BYTES
            // A client that is so slow gets the rest as any slow subscriber does: QoS 0 that has no room is dropped.
            && question.live.len() < LIVE_MAX
        {
            connection.flags.set(Flags::ASKS_RETAINED, true);
            return;
        }
        let more = std::mem::take(&mut question.more);
        question.due += more.len() as u32;
        let filter = question.request.filter.clone();
        for (shard, cursor) in more {
            let question = RetainedQuestion { asker: self.index, number, filter: filter.clone(), cursor: Some(cursor) };
            // It goes out with the next turn: an answer is of a higher rank than a question.
            self.send(shard, MeshMessage::RetainedQuestion(Box::new(question)));
        }
    }

    /// Frees a slice of the retained messages that have expired.
    pub(super) fn on_retained_sweep(&mut self, now: Moment) {
        let cursor = self.retained_talk.sweep.take();
        let (mut count, mut bytes) = (0, 0);
        let journal = &mut self.clients.durable.journal;
        let mut removed = |message: RetainedMessage| {
            count += 1;
            if journal.is_on() {
                journal.ask_lazily(Operation::RetainedEnd(message.topic().into()));
            }
            bytes += message.charged_bytes() as u64;
        };
        let mut is_over = |message: &RetainedMessage| message.expires_at() <= now;
        self.retained_talk.sweep = self.retained.remove_if(cursor, SWEEP_STEPS, &mut is_over, &mut removed);
        self.shared.retained_messages.take(count);
        self.shared.retained_bytes.take(bytes);
        let pause = if self.retained_talk.sweep.is_some() { SWEEP_PAUSE } else { super::RETAINED_SWEEP_INTERVAL };
        self.timers.set(now.after(pause), Timer::RetainedSweep);
    }
}

/// Topics looked at for one slice of an answer.
const SCAN_STEPS: usize = 1024;
/// Messages in one slice of an answer.
const SCAN_FOUND: usize = 64;
/// A client with more than this on its way is not asked for.
const ANSWER_ROOM_BYTES: usize = 64 * 1024;
/// Questions answered in one turn.
const ANSWERS_PER_TURN: usize = 32;
/// Topics of live messages that an open question remembers before it waits for its client no longer.
const LIVE_MAX: usize = 1024;
/// Topics looked at in one slice of the sweep.
const SWEEP_STEPS: usize = 1024;
/// Between two slices of the sweep.
const SWEEP_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// What the store is to hold for `topic`, where `stands` is retained.
fn retained_operation(topic: &str, stands: Option<ApplicationMessage>) -> Operation {
    stands.map_or_else(|| Operation::RetainedEnd(topic.into()), Operation::Retained)
}
