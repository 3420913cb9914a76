//! The codec: every packet of MQTT 3.1, 3.1.1 and 5.0, in both directions.
//!
//! Owns: wire types, properties, topics, reason codes, frames. [`frame::peek`] finds a packet in a stream of bytes,
//! [`Packet::decode`] reads it, [`Encode::encode`] writes one.
//!
//! What always holds: a decoded packet borrows from its bytes, decoding allocates nothing, and what is decoded is valid
//! in its version and from its sender as far as one packet alone can tell. What depends on the connection (a second
//! CONNECT, an alias above the maximum, an identifier in use) is decided above.
//!
//! What it must never do: panic, whatever the bytes; hold state; know of sockets or time.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod ack;
pub mod auth;
pub mod connack;
pub mod connect;
pub mod disconnect;
pub mod error;
pub mod frame;
mod packet;
pub mod ping;
pub mod properties;
pub mod publish;
mod read;
pub mod reason;
pub mod suback;
pub mod subscribe;
pub mod topic;
pub mod types;
pub mod unsuback;
pub mod unsubscribe;
pub mod write;

pub use ack::{Ack, AckKind};
pub use auth::Auth;
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{Connect, ConnectProperties, WillPacket, WillProperties};
pub use disconnect::Disconnect;
pub use error::{DecodeError, EncodeError, InvalidTopicFilter, InvalidTopicName};
pub use frame::{FrameHeader, Peek};
pub use packet::Packet;
pub use properties::{PayloadFormatIndicator, SubscriptionIdentifiers, UserProperties};
pub use publish::{Publish, PublishFlags, PublishHead, PublishProperties};
pub use reason::{ConnectReturnCode, ReasonCode, ReasonCodeSet, ReasonCodes};
pub use suback::SubAck;
pub use subscribe::{RetainHandling, Subscribe, SubscriptionOptions};
pub use topic::{SharedFilter, TopicFilter, TopicName};
pub use types::{PacketIdentifier, PacketType, ProtocolVersion, QoS, Sender};
pub use unsuback::UnsubAck;
pub use unsubscribe::Unsubscribe;
pub use write::{Encode, EncodeWithin};
