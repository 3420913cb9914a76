//! What the scenarios of clients that come and go have in common: where, who, and under which topics.

use super::{
    engine::Target,
    fleet::Introduction,
    observed::{Observed, Span},
    stamp::Stamp,
};

/// Where a run takes place.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub target: Target,
    pub introduction: Introduction,
    pub broker: Option<Observed>,
    /// Keeps the topics of this run apart from those of any other.
    pub run: u64,
}

impl Setting {
    /// From now on, what the broker and this process do.
    pub fn span(&self) -> Span {
        Span::begin(self.broker)
    }

    /// The topic of that number.
    pub fn topic(&self, number: u32) -> String {
        super::plan::topic(self.run, number)
    }

    /// The same, behind what `topic` has.
    pub fn write_topic(&self, topic: &mut String, number: u32) {
        super::plan::write_topic(topic, self.run, number);
    }

    /// What matches all of them.
    pub fn wildcard(&self) -> String {
        format!("bench/{:06x}/#", self.run)
    }

    /// Makes `payload` that of a message, `bytes` long.
    pub fn fill(payload: &mut Vec<u8>, stamp: Stamp, bytes: u32) {
        payload.extend_from_slice(&stamp.encode());
        payload.resize(bytes as usize, super::plan::FILLING);
    }
}
