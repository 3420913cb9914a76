//! What a client tells, and how its connection can end.

use crate::mqtt::{DecodeError, EncodeError, PacketIdentifier, PacketType, Publish, ReasonCode, ReasonCodes};

/// What a client learnt from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEvent<'a> {
    /// The server accepted the connection.
    Connected {
        /// Whether it goes on with a session that it had.
        session_present: bool,
    },
    /// The answer to a SUBSCRIBE.
    Subscribed {
        /// The identifier that the SUBSCRIBE was sent with.
        packet_identifier: PacketIdentifier,
        /// One for each filter, in order.
        reason_codes: ReasonCodes<'a>,
    },
    /// The answer to an UNSUBSCRIBE.
    Unsubscribed {
        /// The identifier that the UNSUBSCRIBE was sent with.
        packet_identifier: PacketIdentifier,
    },
    /// A message. It is acknowledged already, and one of QoS 2 is told once however often it comes.
    Received(Publish<'a>),
    /// A message above QoS 0 is with the server, or was refused.
    Acknowledged {
        /// What it was published with.
        token: u32,
        /// Success, or why it was refused.
        reason_code: ReasonCode,
    },
    /// The server answered a PINGREQ.
    Pong,
}

/// Why a client can't go on, or can't do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The server's bytes are no packet of this version.
    #[error("the server sent a malformed packet: {0}")]
    Malformed(#[from] DecodeError),
    /// The server refused the connection.
    #[error("the server refused the connection: {}", .0.name())]
    Refused(ReasonCode),
    /// The server ended the connection.
    #[error("the server disconnected: {}", .0.name())]
    Disconnected(ReasonCode),
    /// The packet is not allowed at this point.
    #[error("the server sent {0} where it must not")]
    UnexpectedPacket(PacketType),
    /// An acknowledgement answers nothing that was sent.
    #[error("the server sent {0} for packet identifier {1}, which is not in use")]
    UnknownPacketIdentifier(PacketType, PacketIdentifier),
    /// The server used a topic alias that the client never allowed.
    #[error("the server used a topic alias that was not allowed")]
    TopicAliasNotAllowed,
    /// As many messages or requests are in flight as may be.
    #[error("too many messages are in flight")]
    InFlightFull,
    /// The client isn't connected, or was connected before.
    #[error("the client is not in the state for this")]
    WrongState,
    /// What was to be sent can't be encoded.
    #[error("it cannot be encoded: {0}")]
    Unencodable(#[from] EncodeError),
}
