//! A Network Connection, seen from its client.

use std::collections::VecDeque;

use ringmq::{
    config::Durability,
    mqtt::{Packet, Peek, ProtocolVersion, ReasonCode, Sender, frame::peek},
    runtime::fake::FakeClient,
};

use crate::{failure::fail, profile::Profile};

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// CONNECT is on its way.
    Connecting,
    /// CONNACK came.
    Up,
    /// It is over.
    Over,
}

/// What the client waits for the broker to answer, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    PubAck(u16),
    PubRec(u16),
    SubAck(u16),
    UnsubAck(u16),
}

/// A Network Connection, seen from the client.
#[derive(Debug)]
pub struct Link {
    pub socket: FakeClient,
    /// The shard that it was accepted on.
    pub shard: usize,
    pub phase: Phase,
    /// The reason in the DISCONNECT that came.
    pub disconnect: Option<ReasonCode>,
    /// The broker has cause to end it.
    pub expects_end: bool,
    /// What its listener promises.
    pub promise: Durability,
    /// CONNECT asked for a clean start.
    pub is_clean: bool,
    pub out: Vec<u8>,
    pub input: Vec<u8>,
    /// The client ends it.
    pub leaves: bool,
    pub answers: VecDeque<Answer>,
    pub pings: usize,
}

/// A v5 client is told why, before the broker ends the connection.
pub fn check_last_words(profile: &Profile, link: &Link) {
    let is_told = link.disconnect.is_some() || link.leaves;
    if profile.version == ProtocolVersion::V5 && !is_told {
        fail("last DISCONNECT", format!("{}: {:?}, {:?}", profile.name, link.phase, link.socket.view()));
    }
}

/// An abandoned connection's packets are not handled, but its last one counts.
pub fn note_last_packets(link: &mut Link, version: ProtocolVersion) {
    let profile = Profile::new("an abandoned connection", version);
    let input = std::mem::take(&mut link.input);
    let mut used = 0;
    while let Some((packet, length)) = next_packet(&profile, &input[used..]) {
        used += length;
        if let Packet::Disconnect(disconnect) = packet {
            link.disconnect = Some(disconnect.reason_code);
        }
    }
    link.input = input[used..].to_vec();
}

pub fn next_packet<'a>(profile: &Profile, bytes: &'a [u8]) -> Option<(Packet<'a>, usize)> {
    let broken = |error: &dyn std::fmt::Debug| fail("the stream decodes", format!("{}: {error:?}", profile.name));
    match peek(bytes, u32::MAX) {
        Err(error) => broken(&error),
        Ok(Peek::Incomplete { .. }) => None,
        Ok(Peek::Complete(header)) => {
            let body = &bytes[usize::from(header.header_len)..header.total_len()];
            match Packet::decode(header, body, profile.version, Sender::Server) {
                Ok(packet) => Some((packet, header.total_len())),
                Err(error) => broken(&error),
            }
        }
    }
}
