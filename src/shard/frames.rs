//! PUBLISH frames for many subscribers.
//!
//! Owns: the encoded form of one publication for each kind of subscriber that it met, so that a thousand alike
//! subscribers cost one encoding and a thousand copies.
//! Always: belongs to one publication; `begin` forgets the one before and keeps the memory.

use std::cell::Cell;

use crate::{
    message::Publication,
    mqtt::{PacketIdentifier, ProtocolVersion, QoS, publish},
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

/// The frames of one publication.
#[derive(Debug, Default)]
pub struct Frames {
    kept: Vec<Kept>,
    used: usize,
    expected: usize,
    message_expiry_interval: Cell<Option<u32>>,
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
        self.message_expiry_interval.set(publication.envelope.message_expiry_interval(now));
    }

    /// Bytes that the frame takes on the wire.
    #[must_use]
    pub fn encoded_len(&self, publication: &Publication<'_>, kind: FrameKind, identifiers: &[u32]) -> usize {
        publish::encoded_len(
            kind.version,
            publication.topic,
            kind.qos != QoS::AtMostOnce,
            publication.properties,
            self.message_expiry_interval.get(),
            None,
            identifiers,
            publication.payload.len(),
        )
    }

    /// Appends the frame to `out`.
    pub fn append(
        &mut self,
        out: &mut OutBuffer,
        publication: &Publication<'_>,
        kind: FrameKind,
        identifier: Option<PacketIdentifier>,
        subscription_identifiers: &[u32],
    ) {
        let is_large = publication.payload.len() >= SHARED_PAYLOAD_BYTES_MIN;
        if self.expected < 2 || is_large || !subscription_identifiers.is_empty() {
            let expiry = self.message_expiry_interval.get();
            encode(out.bytes_mut(), publication, kind, identifier, expiry, subscription_identifiers, is_large);
            if is_large {
                out.push_payload(&publication.share().payload_shared());
            }
            return;
        }
        let kept = self.kept(publication, kind);
        let bytes = out.bytes_mut();
        let start = bytes.len();
        bytes.extend_from_slice(&kept.bytes);
        if let (Some(at), Some(identifier)) = (kept.identifier_at, identifier)
            && let Some(place) = bytes.get_mut(start + at..start + at + 2)
        {
            place.copy_from_slice(&identifier.value().to_be_bytes());
        }
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
            let expiry = self.message_expiry_interval.get();
            kept.identifier_at = encode(&mut kept.bytes, publication, kind, identifier, expiry, &[], false);
            self.used += 1;
            self.used - 1
        });
        &self.kept[index]
    }
}

/// Appends a frame, without its payload when that is shared, and returns where its PacketIdentifier stands.
fn encode(
    out: &mut Vec<u8>,
    publication: &Publication<'_>,
    kind: FrameKind,
    identifier: Option<PacketIdentifier>,
    message_expiry_interval: Option<u32>,
    subscription_identifiers: &[u32],
    payload_is_shared: bool,
) -> Option<usize> {
    // [v3 MQTT-3.3.1-3] [v5 MQTT-3.3.1-3] [v3 MQTT-3.3.1-2] [v5 MQTT-3.3.1-2] A first delivery has DUP 0.
    let flags = publish::PublishFlags { dup: false, qos: kind.qos, retain: kind.retain };
    let start = out.len();
    let at = publish::encode_head(
        out,
        kind.version,
        flags,
        publication.topic,
        identifier,
        publication.properties,
        message_expiry_interval,
        None,
        subscription_identifiers,
        publication.payload.len(),
    );
    if !payload_is_shared {
        out.extend_from_slice(publication.payload);
    }
    at.map(|at| at - start)
}

/// From here on a payload is not copied into each out-buffer: below it a copy is cheaper than one more iovec.
pub const SHARED_PAYLOAD_BYTES_MIN: usize = 4096;
