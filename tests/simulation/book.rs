//! What was published: the memory that deliveries are compared with.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use ringmq::{config::Durability, mqtt::Publish};

use crate::failure::fail;

/// Names a message, in the order in which messages were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(pub u32);

/// A message.
#[derive(Clone, Debug)]
pub struct Message {
    /// The client.
    pub publisher: usize,
    /// Its place among the messages of its publisher.
    pub number: u32,
    pub topic: String,
    pub qos: u8,
    pub retain: bool,
    /// Its name and padding that depends on it; empty when it clears a retained message.
    pub payload: Vec<u8>,
    /// When it was first written.
    pub written: Option<u64>,
    /// When PUBACK or PUBREC came.
    pub acknowledged: Option<u64>,
    /// What was promised with that.
    pub promise: Durability,
    /// A crash may have taken it: that was not promised.
    pub may_be_lost: bool,
    /// Its publisher has sent it again.
    pub is_repeated: bool,
    /// The ClientId that its publisher had, by number: order holds within one only.
    pub life: u32,
}

/// What a crash leaves of what was promised before.
#[derive(Clone, Copy, Debug)]
pub struct Survival {
    /// What a `batched` listener promised until then.
    pub batched_until: u64,
}

impl Survival {
    /// Whether what was said at `time` with this promise still holds.
    pub fn holds(self, promise: Durability, time: u64) -> bool {
        match promise {
            Durability::Sync => true,
            Durability::Batched => time <= self.batched_until,
            Durability::Memory => false,
        }
    }
}

/// All messages, and the digest of everything that happened.
#[derive(Debug, Default)]
pub struct Book {
    /// Steps since the start.
    pub now: u64,
    /// When the broker died last.
    pub crashed_at: Option<u64>,
    messages: Vec<Message>,
    counts: BTreeMap<usize, u32>,
    /// Who retains in a topic, with which QoS.
    retainers: BTreeMap<String, BTreeSet<(usize, u8)>>,
    digest: DefaultHasher,
    traces: bool,
}

impl Book {
    /// An empty book. `traces`: it tells what happens.
    pub fn new(traces: bool) -> Book {
        Book { traces, ..Book::default() }
    }

    /// A new message of `publisher`, with at least `length` bytes; with none it clears what is retained.
    pub fn write(&mut self, publisher: usize, topic: &str, qos: u8, retain: bool, length: usize) -> Number {
        let number = Number(self.messages.len() as u32);
        let mut payload = Vec::new();
        if length > 0 {
            payload = format!("#{} ", number.0).into_bytes();
            payload.extend((payload.len()..length).map(|place| padding(number, place)));
        }
        let count = self.counts.entry(publisher).or_default();
        *count += 1;
        if retain {
            self.retainers.entry(topic.into()).or_default().insert((publisher, qos));
        }
        self.messages.push(Message {
            publisher,
            number: *count,
            topic: topic.into(),
            qos,
            retain,
            payload,
            written: None,
            acknowledged: None,
            promise: Durability::Sync,
            may_be_lost: false,
            is_repeated: false,
            life: 0,
        });
        number
    }

    /// Whether one client alone retains in `topic`, with one QoS.
    pub fn retains_in_order(&self, topic: &str) -> bool {
        self.retainers.get(topic).is_some_and(|retainers| retainers.len() == 1)
    }

    pub fn message(&self, number: Number) -> &Message {
        &self.messages[number.0 as usize]
    }

    pub fn message_mut(&mut self, number: Number) -> &mut Message {
        &mut self.messages[number.0 as usize]
    }

    /// The broker has died.
    pub fn note_crash(&mut self, survival: Survival) {
        self.crashed_at = Some(self.now);
        for message in &mut self.messages {
            message.may_be_lost |= message.acknowledged.is_some_and(|time| !survival.holds(message.promise, time));
        }
    }

    /// Whether the broker has died since the message was first written: then what it had not said may be done again.
    pub fn has_met_crash(&self, message: &Message) -> bool {
        self.crashed_at.is_some_and(|crashed| message.written.is_some_and(|written| written <= crashed))
    }

    /// All messages with their names.
    pub fn messages(&self) -> impl Iterator<Item = (Number, &Message)> {
        (0u32..).map(Number).zip(&self.messages)
    }

    /// The message that came in a PUBLISH, which must be as it was written. Nothing for one without a name.
    pub fn find(&self, publish: &Publish<'_>) -> Option<Number> {
        let text = publish.payload.strip_prefix(b"#")?;
        let end = text.iter().position(|byte| *byte == b' ')?;
        let number = std::str::from_utf8(&text[..end]).ok()?.parse().ok().map(Number)?;
        let message = self.messages.get(number.0 as usize)?;
        if message.topic != publish.topic || message.payload != publish.payload {
            fail("messages stay whole", format!("{number:?} of {} came as {publish:?}", message.topic));
        }
        Some(number)
    }

    /// Takes note of bytes that a client read or wrote.
    pub fn note(&mut self, client: usize, direction: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            (self.now, client, direction, bytes).hash(&mut self.digest);
        }
    }

    /// Two runs of a seed have the same.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// Tells what happens, when somebody listens.
    pub fn tell(&self, text: impl FnOnce() -> String) {
        if self.traces {
            println!("{:>7} {}", self.now, text());
        }
    }
}

fn padding(number: Number, place: usize) -> u8 {
    b'a' + ((number.0 as usize * 7 + place) % 26) as u8
}
