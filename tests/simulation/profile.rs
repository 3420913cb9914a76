//! What kinds of clients there are.

use ringmq::{config::Durability, mqtt::ProtocolVersion};

use crate::random::Random;

/// What a client is like.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    pub version: ProtocolVersion,
    /// Asks for a clean start with each CONNECT.
    pub clean_start: bool,
    /// How long its session outlives its connection; 3.x: 0 or for long.
    pub expiry_s: u32,
    pub keep_alive_s: u16,
    pub will: Option<WillSpec>,
    /// QoS 1 and 2 messages that it takes at once, in 5.0.
    pub receive_maximum: Option<u16>,
    /// Bytes that it takes before it reads.
    pub window: usize,
    /// How often it reads, in percent of its steps.
    pub reads: usize,
    /// Writes a byte or a few at a time.
    pub dribbles: bool,
    /// Acknowledges at once, not some time later.
    pub is_prompt: bool,
    /// Messages that it has under way to a broker that does not say how many it may.
    pub under_way_max: usize,
    /// Another client with its name may take its connection at any time.
    pub contends: bool,
    /// The broker may refuse it, or send it away, for want of room.
    pub is_refused: bool,
    /// Uses the lowest free PacketIdentifier, not the next one.
    pub reuses_identifiers: bool,
    /// What the listener promises that it connects through next.
    pub through: Durability,
}

/// A Will that a client leaves with each CONNECT.
#[derive(Clone, Debug)]
pub struct WillSpec {
    pub topic: String,
    pub payload: String,
    pub delay_s: u32,
}

impl Profile {
    /// A client without special traits.
    pub fn new(name: impl Into<String>, version: ProtocolVersion) -> Profile {
        Profile {
            name: name.into(),
            version,
            clean_start: true,
            expiry_s: 0,
            keep_alive_s: 0,
            will: None,
            receive_maximum: None,
            window: 1 << 20,
            reads: 70,
            dribbles: false,
            is_prompt: true,
            under_way_max: 16,
            contends: false,
            is_refused: false,
            reuses_identifiers: false,
            through: Durability::Sync,
        }
    }

    /// Its session lasts.
    pub fn lasting(self) -> Profile {
        Profile { clean_start: false, expiry_s: 100_000, ..self }
    }

    /// With random habits of reading, writing and acknowledging.
    pub fn whimsical(self, random: &mut Random) -> Profile {
        Profile {
            window: *random.pick(&[48, 300, 1 << 20]),
            reads: *random.pick(&[10, 70, 100]),
            dribbles: random.once_in(4),
            is_prompt: !random.once_in(3),
            receive_maximum: *random.pick(&[None, Some(1), Some(3), Some(40)]),
            ..self
        }
    }
}
