//! What several integration tests share. Each test binary uses its own part of it.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod broker;
pub mod counting;
pub mod packets;
pub mod pure;
pub mod random;
pub mod source;
pub mod traffic;
