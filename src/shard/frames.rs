//! PUBLISH frames for many subscribers.
//!
//! Owns: the encoded form of one publication for each kind of subscriber that it met, so that a thousand alike
//! subscribers cost one encoding and a thousand copies.
//! Always: belongs to one publication, or to a run of those that are alike; `begin` forgets the one before and keeps the memory.

use std::{borrow::Borrow, ops::Range};

use crate::{
    message::Publication,
    mqtt::{PacketIdentifier, ProtocolVersion, PublishFlags, PublishHead, QoS, publish},
    session::SentAlias,
    time::Moment,
    transport::OutBuffer,
};

/// What makes two subscribers' frames differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameKind {
    /// Whether it has properties.
    pub version: ProtocolVersion,
    /// The delivery's QoS.
    pub qos: QoS,
    /// The delivery's RETAIN flag.
    pub retain: bool,
}

/// Whether a frame is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// At QoS 0, unless its payload is longer.
    Unless(usize),
    /// At QoS 1 or 2, with this identifier.
    As(PacketIdentifier),
    /// Neither it nor what is behind it.
    No,
}

/// A frame that others are like.
#[derive(Debug)]
struct Appended<'a> {
    /// Where all before its payload stands.
    head: Range<usize>,
    /// Where its identifier is in that.
    identifier_at: Option<usize>,
    properties: &'a [u8],
    payload_len: usize,
}

/// The frames of one publication.
#[derive(Debug, Default)]
pub struct Frames {
    kept: Vec<Kept>,
    used: usize,
    expected: usize,
    message_expiry_interval: Option<u32>,
}

#[derive(Debug)]
struct Kept {
    kind: FrameKind,
    bytes: Vec<u8>,
    identifier_at: Option<usize>,
}

impl Frames {
    /// Starts a publication that about `expected` subscribers get.
    pub fn begin(&mut self, publication: &Publication<'_>, expected: usize, now: Moment) {
        self.used = 0;
        self.expected = expected;
        self.message_expiry_interval = publication.envelope.message_expiry_interval(now);
    }

    /// Bytes that the frame takes on the wire.
    #[must_use]
    pub fn encoded_len(&self, publication: &Publication<'_>, kind: FrameKind, identifiers: &[u32]) -> usize {
        let identifier = (kind.qos != QoS::AtMostOnce).then_some(PacketIdentifier::MIN);
        let head = head(publication, kind, identifier, self.message_expiry_interval, identifiers);
        publish::encoded_len(kind.version, &head, publication.payload.len())
    }

    /// Appends the frame to `out`. With an alias it is this subscriber's alone.
    pub fn append(
        &mut self,
        out: &mut OutBuffer,
        publication: &Publication<'_>,
        kind: FrameKind,
        identifier: Option<PacketIdentifier>,
        subscription_identifiers: &[u32],
        alias: Option<SentAlias>,
    ) {
        let payload = publication.payload;
        let is_shared = self.expected > 1 && subscription_identifiers.is_empty() && alias.is_none();
        if is_shared && payload.len() < SHARED_PAYLOAD_BYTES_MIN {
            let kept = self.kept(publication, kind);
            let bytes = out.bytes_mut();
            let start = bytes.len();
            bytes.extend_from_slice(&kept.bytes);
            if let (Some(at), Some(identifier), Some(frame)) = (kept.identifier_at, identifier, bytes.get_mut(start..))
            {
                publish::patch_packet_identifier(frame, at, identifier);
            }
            return;
        }
        let mut head = head(publication, kind, identifier, self.message_expiry_interval, subscription_identifiers);
        if let Some(alias) = alias {
            head.set_alias(alias.alias, alias.is_known);
        }
        if payload.len() >= SHARED_PAYLOAD_BYTES_MIN {
            if publish::encode_head(out.bytes_mut(), kind.version, &head, payload.len()).is_ok() {
                out.push_payload(&publication.share().payload_shared());
            }
            return;
        }
        // Lengths were checked when the message was taken over: it fits a packet.
        let encoded = publish::encode(out.bytes_mut(), kind.version, &head, payload);
        debug_assert!(encoded.is_ok());
    }

    /// Appends the frames of publications that differ in their payloads and properties only, the first of which was begun with
    /// and none of which is large enough to be shared. Before each, `admit` is given the bytes in `out`. Returns how many were
    /// appended; the first that was not admitted and those behind it are left in `run`.
    pub fn append_alike<'a, P: Borrow<Publication<'a>>>(
        &self,
        out: &mut OutBuffer,
        run: &mut impl ExactSizeIterator<Item = P>,
        kind: FrameKind,
        subscription_identifiers: &[u32],
        mut admit: impl FnMut(usize) -> Admission,
    ) -> usize {
        let shared_bytes = out.len() - out.bytes_mut().len();
        let bytes = out.bytes_mut();
        let mut last: Option<Appended<'_>> = None;
        let mut appended = 0;
        while run.len() > 0 {
            let (identifier, payload_max) = match admit(shared_bytes + bytes.len()) {
                Admission::Unless(payload_max) => (None, payload_max),
                Admission::As(identifier) => (Some(identifier), usize::MAX),
                Admission::No => break,
            };
            let Some(publication) = run.next() else { break };
            let publication = publication.borrow();
            let Publication { properties, payload, .. } = *publication;
            debug_assert!(payload.len() < SHARED_PAYLOAD_BYTES_MIN);
            if payload.len() > payload_max {
                continue;
            }
            appended += 1;
            let start = bytes.len();
            match &last {
                Some(last) if last.payload_len == payload.len() && last.properties == properties => {
                    bytes.extend_from_within(last.head.clone());
                    bytes.extend_from_slice(payload);
                    if let (Some(at), Some(identifier), Some(frame)) =
                        (last.identifier_at, identifier, bytes.get_mut(start..))
                    {
                        publish::patch_packet_identifier(frame, at, identifier);
                    }
                }
                _ => {
                    let head =
                        head(publication, kind, identifier, self.message_expiry_interval, subscription_identifiers);
                    // Lengths were checked when the message was taken over: it fits a packet.
                    let encoded = publish::encode(bytes, kind.version, &head, payload);
                    debug_assert!(encoded.is_ok());
                    let head = start..bytes.len() - payload.len();
                    let identifier_at = encoded.unwrap_or_default();
                    last = Some(Appended { head, identifier_at, properties, payload_len: payload.len() });
                }
            }
        }
        appended
    }

    fn kept(&mut self, publication: &Publication<'_>, kind: FrameKind) -> &Kept {
        let found = self.kept[..self.used].iter().position(|kept| kept.kind == kind);
        let index = found.unwrap_or_else(|| {
            if self.used == self.kept.len() {
                self.kept.push(Kept { kind, bytes: Vec::new(), identifier_at: None });
            }
            let kept = &mut self.kept[self.used];
            kept.kind = kind;
            kept.bytes.clear();
            let identifier = (kind.qos != QoS::AtMostOnce).then_some(PacketIdentifier::MIN);
            let head = head(publication, kind, identifier, self.message_expiry_interval, &[]);
            let encoded = publish::encode(&mut kept.bytes, kind.version, &head, publication.payload);
            kept.identifier_at = encoded.unwrap_or_default();
            self.used += 1;
            self.used - 1
        });
        &self.kept[index]
    }
}

/// What a PUBLISH says before its payload.
fn head<'a>(
    publication: &Publication<'a>,
    kind: FrameKind,
    packet_identifier: Option<PacketIdentifier>,
    message_expiry_interval: Option<u32>,
    subscription_identifiers: &'a [u32],
) -> PublishHead<'a> {
    PublishHead {
        // [v3 MQTT-3.3.1-3] [v5 MQTT-3.3.1-3] [v3 MQTT-3.3.1-2] [v5 MQTT-3.3.1-2] A first delivery has DUP 0.
        flags: PublishFlags { dup: false, qos: kind.qos, retain: kind.retain },
        topic: publication.topic.as_bytes(),
        packet_identifier,
        forwarded: publication.properties,
        message_expiry_interval,
        topic_alias: None,
        subscription_identifiers,
    }
}

/// From here on a payload is not copied into each out-buffer: below it a copy is cheaper than one more iovec.
pub const SHARED_PAYLOAD_BYTES_MIN: usize = 4096;
