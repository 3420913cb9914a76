//! MQTT 5.0: one test for each numbered statement that binds a server, and what users rely on beyond them.

mod acks;
mod connack;
mod connect;
mod connect_properties;
mod data;
mod ending;
mod flow;
mod kit;
mod limits;
mod publish;
mod publish_properties;
mod qos;
mod session;
mod shared;
mod subscribe;
mod topics;
mod unsubscribe;
mod wills;
