//! Knows every promise that the broker made and everything that came, and finds what does not agree.
//!
//! It is told of what happens in the order in which it happens, and judges at once; only what is still owed has to be asked
//! for, once everything has had the time to arrive. It knows nothing of sockets, brokers and kills but their number.

#[path = "checker/rollback.rs"]
mod rollback;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt,
    time::Duration,
};

use ringmq::mqtt::{Publish, QoS, TopicFilter, TopicName};

use rollback::Forgiven;

/// The number of a message, which its payload begins with. Messages are numbered in the order in which they are sent.
pub type Number = usize;

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// An acknowledged message, or a Will that was due, did not reach a subscription that stood before it was sent.
    Loss,
    /// A message of QoS 2 was handed to an application of QoS 2 twice.
    Duplicate,
    /// First deliveries of a publisher, topic and QoS came in another order than they were published in.
    Order,
    /// A message came that nobody sent, or that its payload or topic has changed of.
    Alien,
    /// A message came for a subscription that had ended before it, or that began after it.
    Ghost,
    /// A session is gone that was there, or there that never was.
    Session,
    /// A retained value is missing, or older than one that was acknowledged.
    Retained,
    /// A Will was published too early, or though its client came back in time.
    Will,
    /// The broker sent what it must not, or ended by itself.
    Protocol,
    /// An exchange did not come to its end.
    Unfinished,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Violation {
    pub rule: Rule,
    /// Kills up to then.
    pub kill: u32,
    pub who: String,
    pub what: String,
}

/// How a message is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Live,
    Retained,
    /// Retained and empty: the value of its topic is removed. It has no number on the wire.
    Clear,
    /// With this delay.
    Will(Duration),
}

/// A message that was sent.
#[derive(Clone, Debug)]
pub struct Message {
    pub publisher: usize,
    pub topic: String,
    pub qos: QoS,
    pub kind: Kind,
    pub payload_bytes: usize,
    sent: Moment,
    acknowledged: Option<Moment>,
    sent_after_kill: u32,
    acknowledged_after_kill: u32,
    /// A power cut may have taken it, after its acknowledgement or before.
    is_forgiven: bool,
}

/// A point in the order of what happens.
pub type Moment = u64;

/// What is known of a client.
#[derive(Debug, Default)]
struct Watched {
    name: String,
    held: Vec<Held>,
    /// How often each message was handed to its application, retained copies not counted.
    deliveries: Vec<u8>,
    /// The last first delivery of a publisher, topic and QoS.
    latest: HashMap<(usize, String, QoS), Number>,
    /// Acknowledged messages that it has not received yet.
    owed: BTreeSet<Number>,
    session: Session,
    /// When the session that is there was made.
    session_since: Moment,
    is_starting_clean: bool,
    wills: BTreeMap<Number, Will>,
    /// When the CONNACK came for the CONNECT with the Will.
    armed: BTreeMap<Number, Moment>,
    forgiven: Forgiven,
}

/// What a client may expect of its next CONNACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Session {
    #[default]
    Absent,
    /// A CONNECT was sent and never answered.
    Possible,
    Present,
}

/// A subscription, from its SUBSCRIBE on.
#[derive(Debug)]
struct Held {
    filter: String,
    qos: QoS,
    asked: Moment,
    /// When SUBACK came.
    stands: Option<Moment>,
    /// When UNSUBSCRIBE was sent, or CONNECT with a clean start.
    leaving: Option<Moment>,
    /// When UNSUBACK came.
    ended: Option<Moment>,
    /// When it went with its session.
    gone: Option<Moment>,
}

/// Where the Will of a connection stands.
///
/// ```text
///   Offered ──CONNACK──► Armed ──DISCONNECT──► Open
///      │                   └──connection lost──► Due ──CONNACK before the delay is over──► Forbidden
///      └──connection lost──► Open
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Will {
    Offered,
    Armed,
    /// Since then its delay runs.
    Due(Duration),
    /// It may come or not.
    Open,
    Forbidden,
}

/// The retained message of a topic, as far as its writer knows it.
#[derive(Debug, Default)]
struct Value {
    acknowledged: Option<Number>,
    /// The last one that clears, acknowledged or not.
    cleared: Option<Number>,
}

/// A look at all retained messages.
#[derive(Debug)]
struct Look {
    client: usize,
    /// What was acknowledged last when it began.
    floors: BTreeMap<String, Number>,
    /// Topics whose value must still come.
    missing: BTreeSet<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Checker {
    clients: Vec<Watched>,
    messages: Vec<Message>,
    values: BTreeMap<String, Value>,
    look: Option<Look>,
    moment: Moment,
    /// The moments of the last seconds.
    clock: VecDeque<(Duration, Moment)>,
    /// When something was acknowledged last.
    last_acknowledged: Duration,
    /// The power is off, and the broker does not know what to make of that.
    pub is_dark: bool,
    kills: u32,
    acknowledged: u64,
    delivered: u64,
    violations: Vec<Violation>,
}

impl Checker {
    /// Another client, which is known by the index that is returned.
    pub fn client(&mut self, name: &str) -> usize {
        self.clients.push(Watched { name: name.to_owned(), ..Watched::default() });
        self.clients.len() - 1
    }

    pub fn message(&self, number: Number) -> &Message {
        &self.messages[number]
    }

    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// What time it is.
    pub fn is_now(&mut self, now: Duration) {
        self.clock.push_back((now, self.moment));
        while self.clock.front().is_some_and(|&(time, _)| time + CLOCK_KEPT < now) {
            self.clock.pop_front();
        }
    }

    /// When something was acknowledged last.
    pub fn last_acknowledged(&self) -> Duration {
        self.last_acknowledged
    }

    /// The last moment of which it is certain that it was not later than `time`.
    pub fn moment_at(&self, time: Duration) -> Moment {
        let later = self.clock.partition_point(|&(known, _)| known <= time);
        later.checked_sub(1).map_or(0, |place| self.clock[place].1)
    }

    /// How often the broker was killed.
    pub fn kills(&self) -> u32 {
        self.kills
    }

    /// Messages that were acknowledged, and deliveries, so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.acknowledged, self.delivered)
    }

    /// Whether a message is still owed to anybody.
    pub fn is_owed(&self, number: Number) -> bool {
        self.clients.iter().any(|client| client.owed.contains(&number))
    }

    /// Whether nothing is owed to anybody.
    pub fn owes_nothing(&self) -> bool {
        self.clients.iter().all(|client| client.owed.is_empty())
    }

    /// Whether the look at the retained messages has found all that must be there.
    pub fn has_seen_all_retained(&self) -> bool {
        self.look.as_ref().is_some_and(|look| look.missing.is_empty())
    }

    // --- What publishers do -----------------------------------------------------------------------------------------

    /// A message is sent for the first time.
    pub fn sends(&mut self, publisher: usize, topic: &str, qos: QoS, kind: Kind, payload_bytes: usize) -> Number {
        let number = self.messages.len();
        let sent = self.tick();
        self.messages.push(Message {
            publisher,
            topic: topic.to_owned(),
            qos,
            kind,
            payload_bytes,
            sent,
            acknowledged: None,
            sent_after_kill: self.kills,
            acknowledged_after_kill: 0,
            is_forgiven: false,
        });
        match kind {
            Kind::Live | Kind::Will(_) => {}
            Kind::Retained => drop(self.values.entry(topic.to_owned()).or_default()),
            Kind::Clear => {
                self.values.entry(topic.to_owned()).or_default().cleared = Some(number);
                if let Some(look) = &mut self.look {
                    look.missing.remove(topic);
                }
            }
        }
        number
    }

    /// PUBACK or the first PUBREC came.
    pub fn acknowledged(&mut self, number: Number) {
        let now = self.tick();
        self.acknowledged += 1;
        self.last_acknowledged = self.clock.back().map_or(self.last_acknowledged, |&(time, _)| time);
        let message = &mut self.messages[number];
        message.acknowledged = Some(now);
        message.acknowledged_after_kill = self.kills;
        if matches!(message.kind, Kind::Retained | Kind::Clear) && !message.is_forgiven {
            let value = self.values.entry(message.topic.clone()).or_default();
            value.acknowledged = value.acknowledged.max(Some(number));
        }
        self.owe(number);
    }

    /// The message must reach all whose subscriptions stood before it was sent.
    fn owe(&mut self, number: Number) {
        let message = &self.messages[number];
        // What clears has no number to find it by.
        if message.kind == Kind::Clear || message.is_forgiven {
            return;
        }
        for client in &mut self.clients {
            let stood = |held: &Held| {
                let is_in_time = held.stands.is_some_and(|since| since < message.sent);
                is_in_time && held.leaving.is_none() && matches(&held.filter, &message.topic)
            };
            if client.count(number) == 0 && client.held.iter().any(stood) {
                client.owed.insert(number);
            }
        }
    }

    // --- What subscribers do ----------------------------------------------------------------------------------------

    /// SUBSCRIBE is sent.
    pub fn subscribes(&mut self, client: usize, filter: &str, qos: QoS) {
        let asked = self.tick();
        let client = &mut self.clients[client];
        if !client.held.iter().any(|held| held.filter == filter && held.leaving.is_none()) {
            let filter = filter.to_owned();
            client.held.push(Held { filter, qos, asked, stands: None, leaving: None, ended: None, gone: None });
        }
    }

    /// SUBACK came.
    pub fn subscribed(&mut self, client: usize, filter: &str) {
        let now = self.tick();
        let mut held = self.clients[client].held.iter_mut();
        if let Some(held) = held.find(|held| held.filter == filter && held.leaving.is_none()) {
            held.stands.get_or_insert(now);
        }
    }

    /// UNSUBSCRIBE is sent: from now on the broker may forget what it has not sent yet.
    pub fn unsubscribes(&mut self, client: usize, filter: &str) {
        let now = self.tick();
        let client = &mut self.clients[client];
        for held in client.held.iter_mut().filter(|held| held.filter == filter) {
            held.leaving.get_or_insert(now);
        }
        let messages = &self.messages;
        client.owed.retain(|&number| !matches(filter, &messages[number].topic));
        client.forgiven.retain(|number| !matches(filter, &messages[number].topic));
    }

    /// UNSUBACK came.
    pub fn unsubscribed(&mut self, client: usize, filter: &str) {
        let now = self.tick();
        for held in self.clients[client].held.iter_mut().filter(|held| held.filter == filter) {
            held.ended.get_or_insert(now);
        }
    }

    /// A message is handed to the client's application.
    pub fn delivers(&mut self, client: usize, publish: &Publish<'_>, now: Duration) {
        let moment = self.tick();
        self.delivered += 1;
        if publish.payload.is_empty() {
            return;
        }
        let number = number(publish.payload).filter(|&number| self.is_as_sent(number, publish));
        let Some(number) = number else {
            let start = String::from_utf8_lossy(&publish.payload[..publish.payload.len().min(24)]).into_owned();
            let what = format!("nobody published {start:?} to {}", publish.topic);
            return self.violate(Rule::Alien, client, what);
        };
        if publish.retain {
            return self.looks_at(client, number);
        }
        self.check_held(client, number, publish.qos, moment);
        self.check_will(client, number, now);
        let watched = &mut self.clients[client];
        watched.owed.remove(&number);
        if publish.qos == QoS::ExactlyOnce {
            watched.forgiven.settles(number, moment);
        }
        if watched.deliveries.len() <= number {
            watched.deliveries.resize(number + 1, 0);
        }
        watched.deliveries[number] = watched.deliveries[number].saturating_add(1);
        if watched.deliveries[number] > 1 {
            if publish.qos == QoS::ExactlyOnce && !watched.forgiven.may_repeat(number) {
                self.violate(Rule::Duplicate, client, format!("{} came again", self.describe(number)));
            }
            return;
        }
        self.check_order(client, number);
        self.check_tail(client, number);
    }

    /// A message has come for the first time: after none that was published later.
    fn check_order(&mut self, client: usize, number: Number) {
        let message = &self.messages[number];
        // A Will whose CONNECT was never answered is none of those that its client counts on.
        let is_open_will = self.clients[message.publisher].wills.get(&number) == Some(&Will::Open);
        if is_open_will {
            return;
        }
        let watched = &mut self.clients[client];
        // One that was sent before the subscription stood may have been too early for it, and is published once more when its
        // publisher has not got its acknowledgement: then it comes behind what was in time.
        let stood = |held: &Held| {
            held.leaving.is_none()
                && held.stands.is_some_and(|since| since < message.sent)
                && matches(&held.filter, &message.topic)
        };
        let was_in_time = watched.held.iter().any(stood);
        let stream = (message.publisher, message.topic.clone(), message.qos);
        let latest = watched.latest.entry(stream).or_insert(number);
        let before = *latest;
        *latest = number.max(before);
        if number < before && was_in_time {
            let what = format!("{} came after {}", self.describe(number), self.describe(before));
            self.violate(Rule::Order, client, what);
        }
    }

    /// PUBREL came for the message.
    pub fn releases(&mut self, client: usize, number: Number) {
        let now = self.tick();
        self.clients[client].forgiven.settles(number, now);
    }

    fn is_as_sent(&self, number: Number, publish: &Publish<'_>) -> bool {
        self.messages.get(number).is_some_and(|message| {
            message.topic == publish.topic && publish.payload == payload(number, message.payload_bytes)
        })
    }

    /// There is a subscription that the message may have come for.
    fn check_held(&mut self, client: usize, number: Number, qos: QoS, now: Moment) {
        let message = &self.messages[number];
        let routed_before = message.acknowledged.unwrap_or(now);
        let covers = |held: &&Held| {
            let is_in_time = held.asked < routed_before && held.ended.is_none_or(|ended| ended > message.sent);
            is_in_time && held.gone.is_none() && matches(&held.filter, &message.topic)
        };
        match self.clients[client].held.iter().find(covers) {
            None => {
                let what = format!("{} came for no subscription of that time", self.describe(number));
                self.violate(Rule::Ghost, client, what);
            }
            Some(held) if qos != held.qos.min(message.qos) => {
                let what = format!("{} came at {qos:?} for a subscription of {:?}", self.describe(number), held.qos);
                self.violate(Rule::Protocol, client, what);
            }
            Some(_) => {}
        }
    }

    // --- Retained messages ------------------------------------------------------------------------------------------

    /// `client`, which has no session, asks for all retained messages.
    pub fn begins_to_look(&mut self, client: usize) {
        let known = self.values.iter();
        let floors: BTreeMap<String, Number> =
            known.filter_map(|(topic, value)| Some((topic.clone(), value.acknowledged?))).collect();
        let stays = |(topic, floor): &(&String, &Number)| self.values[*topic].cleared < Some(**floor);
        let missing = floors.iter().filter(stays).map(|(topic, _)| topic.clone()).collect();
        self.look = Some(Look { client, floors, missing });
    }

    fn looks_at(&mut self, client: usize, number: Number) {
        let topic = &self.messages[number].topic;
        let Some(look) = self.look.as_mut().filter(|look| look.client == client) else { return };
        look.missing.remove(topic);
        let floor = look.floors.get(topic).copied().filter(|&floor| floor > number);
        if self.messages[number].kind != Kind::Retained {
            self.violate(Rule::Retained, client, format!("{} was not to be retained", self.describe(number)));
        } else if let Some(floor) = floor {
            let what = format!("{} is retained, behind {}", self.describe(number), self.describe(floor));
            self.violate(Rule::Retained, client, what);
        }
    }

    // --- Sessions and Wills -----------------------------------------------------------------------------------------

    /// CONNECT is sent.
    pub fn connects(&mut self, client: usize, clean_start: bool, will: Option<Number>, now: Duration) {
        let moment = self.tick();
        let watched = &mut self.clients[client];
        watched.is_starting_clean = clean_start;
        if clean_start {
            watched.session = Session::Possible;
            watched.owed.clear();
            watched.forgiven.retain(|_| false);
            for held in &mut watched.held {
                held.leaving.get_or_insert(moment);
            }
        }
        // A Will whose client may have come back before its delay was over need not come.
        let wills = &watched.wills;
        let is_early = |number: Number, state: &Will| matches!(state, Will::Due(since) if now < *since + delay(&self.messages, number));
        let early: Vec<Number> =
            wills.iter().filter(|&(&number, state)| is_early(number, state)).map(|(&number, _)| number).collect();
        for number in early {
            for client in &mut self.clients {
                client.owed.remove(&number);
            }
        }
        if let Some(will) = will {
            self.clients[client].wills.insert(will, Will::Offered);
        }
    }

    /// CONNACK came.
    pub fn connected(&mut self, client: usize, session_present: bool, now: Duration) {
        let moment = self.tick();
        let watched = &mut self.clients[client];
        let is_clean = watched.is_starting_clean;
        if is_clean {
            for held in watched.held.iter_mut().filter(|held| held.leaving.is_some()) {
                held.gone.get_or_insert(moment);
            }
        }
        for (&number, state) in &mut watched.wills {
            match *state {
                Will::Offered => {
                    *state = Will::Armed;
                    watched.armed.insert(number, moment);
                }
                Will::Due(since) if now < since + delay(&self.messages, number) => *state = Will::Forbidden,
                _ => {}
            }
        }
        let before = std::mem::replace(&mut watched.session, Session::Present);
        if !session_present {
            watched.session_since = moment;
        }
        match (before, session_present) {
            _ if is_clean && session_present => {
                self.violate(Rule::Session, client, "its session is present after a clean start".to_owned());
            }
            (Session::Absent, true) => {
                self.violate(Rule::Session, client, "a session is present that never was".to_owned());
            }
            (Session::Present, false) if !is_clean => {
                self.violate(Rule::Session, client, "its session is gone".to_owned());
            }
            _ => {}
        }
    }

    /// DISCONNECT is sent.
    pub fn leaves(&mut self, client: usize) {
        let open = self.clients[client].wills.values_mut().filter(|state| matches!(state, Will::Armed | Will::Offered));
        open.for_each(|state| *state = Will::Open);
    }

    /// The connection is over without DISCONNECT: its Will, if CONNACK had come, is due after its delay.
    pub fn loses_connection(&mut self, client: usize, now: Duration) {
        let mut due = Vec::new();
        let watched = &mut self.clients[client];
        if watched.session == Session::Absent {
            watched.session = Session::Possible;
        }
        for (&number, state) in &mut watched.wills {
            match *state {
                Will::Offered => *state = Will::Open,
                Will::Armed => {
                    *state = Will::Due(now);
                    due.push(number);
                }
                _ => {}
            }
        }
        for number in due {
            self.owe(number);
        }
    }

    fn check_will(&mut self, client: usize, number: Number, now: Duration) {
        let message = &self.messages[number];
        let Some(state) = self.clients[message.publisher].wills.get(&number) else { return };
        let why = match state {
            Will::Armed => "while its client was connected",
            Will::Forbidden => "though its client had come back before its delay was over",
            Will::Due(since) if now + WILL_SLACK < *since + delay(&self.messages, number) => {
                "before its delay was over"
            }
            _ => return,
        };
        self.violate(Rule::Will, client, format!("{} came {why}", self.describe(number)));
    }

    // --- The end ----------------------------------------------------------------------------------------------------

    /// The broker was killed.
    pub fn killed(&mut self) {
        self.kills += 1;
        self.look = None;
    }

    /// All had the time to arrive that will: what is still owed is lost, and not asked for again.
    pub fn gives_up(&mut self) {
        for client in 0..self.clients.len() {
            for number in std::mem::take(&mut self.clients[client].owed) {
                self.violate(Rule::Loss, client, format!("{} never came", self.describe(number)));
            }
        }
        if let Some(look) = &mut self.look {
            let client = look.client;
            for topic in std::mem::take(&mut look.missing) {
                let what = match look_up(&self.values, &topic) {
                    Some(number) => format!("{} is not retained", self.describe(number)),
                    None => format!("{topic} has no retained message"),
                };
                self.violate(Rule::Retained, client, what);
            }
        }
    }

    /// Something is wrong at `client`.
    pub fn violate(&mut self, rule: Rule, client: usize, what: String) {
        let who = self.clients[client].name.clone();
        self.violations.push(Violation { rule, kill: self.kills, who, what });
    }

    fn describe(&self, number: Number) -> String {
        let message = &self.messages[number];
        let acknowledged = match message.acknowledged {
            Some(_) => format!("acknowledged after kill {}", message.acknowledged_after_kill),
            None => "not acknowledged".to_owned(),
        };
        let Message { publisher, topic, qos, kind, sent_after_kill, .. } = message;
        let publisher = &self.clients[*publisher].name;
        format!(
            "message {number} ({kind:?} of {publisher} to {topic}, {qos:?}, sent after kill {sent_after_kill}, {acknowledged})"
        )
    }

    fn tick(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }
}

/// How far back the clock goes.
const CLOCK_KEPT: Duration = Duration::from_secs(10);

/// How much earlier than this side the broker may have noticed that a connection was over.
const WILL_SLACK: Duration = Duration::from_millis(250);

impl Watched {
    fn count(&self, number: Number) -> u8 {
        self.deliveries.get(number).copied().unwrap_or(0)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "after kill {}: {:?}: {}: {}", self.kill, self.rule, self.who, self.what)
    }
}

/// The payload of a message: its number, and bytes that follow from it.
pub fn payload(number: Number, payload_bytes: usize) -> Vec<u8> {
    let mut payload = format!("{number:08} ").into_bytes();
    let filling = b'a' + (number % 26) as u8;
    payload.resize(payload_bytes.max(payload.len()), filling);
    payload
}

/// The number that a payload begins with.
pub fn number(payload: &[u8]) -> Option<Number> {
    std::str::from_utf8(payload.get(..8)?).ok()?.parse().ok()
}

fn delay(messages: &[Message], number: Number) -> Duration {
    match messages[number].kind {
        Kind::Will(delay) => delay,
        _ => Duration::ZERO,
    }
}

fn look_up(values: &BTreeMap<String, Value>, topic: &str) -> Option<Number> {
    values.get(topic)?.acknowledged
}

fn matches(filter: &str, topic: &str) -> bool {
    let topic = TopicName::parse(topic).expect("a topic name");
    TopicFilter::parse(filter).expect("a filter").matches(&topic)
}
