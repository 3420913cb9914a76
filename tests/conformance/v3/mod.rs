//! MQTT 3.1.1: one test for each numbered statement that binds a server, and what users rely on beyond them.

mod ping;
