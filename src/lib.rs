//! RingMQ: an MQTT 3.1, 3.1.1 and 5.0 broker for Linux, thread per core on io_uring.
//!
//! The floors, lowest first. A module imports only from floors below its own and, on F1 and F3, from its neighbours on the same floor;
//! `tests/floors.rs` checks it.
//!
//! | floor | module | what it owns | pure |
//! |---|---|---|---|
//! | F0 | `sync`, [`time`], [`plant`] | the atomics that loom can replace, moments, deliberate bugs for the simulation | yes |
//! | F1 | [`mqtt`] | wire types, packets, properties, topics, reason codes, frames | yes |
//! | F1 | [`transport`] | bytes in, bytes out: the layers between socket and frame | yes |
//! | F1 | [`config`] | every setting and every limit, parsed once | yes |
//! | F1 | [`runtime`] | executors, the ring, the mesh: all that names glommio or io_uring | no |
//! | F2 | [`message`] | the shared, immutable ApplicationMessage | yes |
//! | F2 | [`auth`] | who a client is and what it may do | yes |
//! | F2 | [`client`] | an MQTT client, for the load generator and tests | yes |
//! | F3 | [`routing`] | filters, interest, share groups, retained messages | yes |
//! | F3 | [`session`] | packet identifiers, windows, aliases, outbox, Will, session | yes |
//! | F3 | [`store`] | what is durable | no |
//! | F4 | [`shard`] | the state machine of one core | yes |
//! | F5 | [`admin`] | HTTP API, metrics | no |
//! | F5 | [`gateway`] | bridge, cluster | no |
//! | F6 | [`server`] | marries the runtime to the pure rooms | no |
//! | F7 | [`cli`] | the commands of the `ringmq` binary | no |
//!
//! *Pure* means: no socket, no clock, no thread, no randomness and no `async`. Time comes in as an argument, effects go
//! out as values.

pub mod plant;
#[allow(dead_code, unused_imports)]
pub(crate) mod sync;
pub mod time;

pub mod config;
pub mod mqtt;
pub mod runtime;
pub mod transport;

pub mod auth;
pub mod client;
pub mod message;

pub mod routing;
pub mod session;
pub mod store;

pub mod shard;

pub mod admin;
pub mod gateway;

pub mod server;

pub mod cli;
