//! What the scenarios of clients that come and go have in common: where, who, and under which topics.

use super::{engine::Target, fleet::Introduction, observed::Observed, stamp::Stamp};

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
    pub fn cpu_ns(&self) -> Option<u64> {
        self.broker.map(Observed::cpu_ns)
    }

    pub fn cpu_ns_since(&self, before: Option<u64>) -> Option<u64> {
        Some(self.cpu_ns()?.saturating_sub(before?))
    }

    pub fn resident_bytes(&self) -> Option<u64> {
        self.broker.and_then(Observed::resident_bytes)
    }

    /// The topic of that number.
    pub fn topic(&self, number: u32) -> String {
        super::plan::topic(self.run, number)
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
