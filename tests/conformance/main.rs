//! The conformance tests: a real `ringmq` process, real sockets, and byte-level scripts.
//!
//! A test that proves a numbered statement carries its id in its name, `v3_mqtt_3_1_2_24_...` for `[MQTT-3.1.2-24]` of
//! MQTT 3.1.1 and `v5_mqtt_...` for MQTT 5.0. Each script runs against a broker of one shard and a broker of four. With
//! `RINGMQ_TEST_BROKER=host:port` the scripts run against that broker instead, whatever it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[allow(dead_code, reason = "a script may drop a verb that another one still needs")]
mod client;
#[allow(dead_code, clippy::enum_variant_names, reason = "complete as the specification is, and named as it names them")]
mod property;
#[allow(dead_code, reason = "see `client`")]
mod server;
mod v3;
mod v31;
mod v5;
#[allow(dead_code, reason = "see `client`")]
mod wire;
