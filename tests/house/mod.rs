//! What several integration tests share. Each test binary uses its own part of it.
#![allow(dead_code)]

pub mod source;
