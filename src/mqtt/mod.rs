//! MQTT packets: wire types, properties, topics, reason codes, frames.
