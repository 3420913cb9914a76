//! What must hold for any input: one check per fuzzer. A check panics when it does not hold.

#![allow(dead_code, reason = "each fuzzer takes its own check")]

pub mod config;
pub mod decode;
mod driver;
pub mod frames;
mod script;
pub mod shard;
pub mod topic;

use ringmq::mqtt::ProtocolVersion;

/// The versions, in the order in which scripts number them.
pub const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V5, ProtocolVersion::V311, ProtocolVersion::V31];
