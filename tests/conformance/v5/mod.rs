//! MQTT 5.0: one test for each numbered statement that binds a server, and what users rely on beyond them.

mod connect;
mod data;
mod kit;
