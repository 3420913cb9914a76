//! A PUBLISH that is encoded once and sent often.

use bytes::Bytes;

use crate::{
    mqtt::{
        Encode, EncodeError, PacketIdentifier, ProtocolVersion, Publish, PublishProperties, QoS, TopicName,
        write::{VARIABLE_INTEGER_MAX, push_variable_integer, variable_integer_len},
    },
    transport::{OutBuffer, SHARED_BYTES_MIN},
};

/// A PUBLISH whose packet identifier, first payload bytes and length are filled in with each use.
///
/// What comes after those bytes is shared by all uses, so a large payload is referenced and never copied.
#[derive(Clone, Debug)]
pub struct PublishTemplate {
    qos: QoS,
    /// The packet with the longest payload: up to the end of the stamp if the rest is large, else all of it.
    packet: Box<[u8]>,
    /// Where its variable header begins.
    header_len: usize,
    /// Where the packet identifier stands in it, above QoS 0.
    identifier_at: Option<usize>,
    stamp_at: usize,
    stamp_bytes: usize,
    /// The payload behind the stamp.
    tail: Bytes,
}

impl PublishTemplate {
    /// Encodes a PUBLISH whose payload is `stamp_bytes` that change with each use, and then `tail` or a part of it.
    ///
    /// # Errors
    /// When it is too large for a packet.
    pub fn new(
        version: ProtocolVersion,
        topic: TopicName<'_>,
        qos: QoS,
        retain: bool,
        stamp_bytes: usize,
        tail: Bytes,
    ) -> Result<Self, EncodeError> {
        let packet_identifier = (qos != QoS::AtMostOnce).then_some(PacketIdentifier::MIN);
        let payload = [&vec![0; stamp_bytes], &tail[..]].concat();
        let properties = PublishProperties::default();
        let topic = topic.as_str();
        let publish = Publish { dup: false, qos, retain, topic, packet_identifier, properties, payload: &payload };
        let mut packet = Vec::new();
        publish.encode(version, &mut packet)?;
        let total = packet.len();
        let header_len = (2..=5).find(|len| 1 + variable_integer_len((total - len) as u32) == *len).unwrap_or(2);
        let identifier_at = packet_identifier.map(|_| header_len + 2 + topic.len());
        let stamp_at = total - tail.len() - stamp_bytes;
        if tail.len() >= SHARED_BYTES_MIN {
            packet.truncate(total - tail.len());
        }
        Ok(PublishTemplate { qos, packet: packet.into(), header_len, identifier_at, stamp_at, stamp_bytes, tail })
    }

    /// Its Quality of Service.
    #[inline]
    #[must_use]
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// The length of the longest payload in bytes.
    #[inline]
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        self.stamp_bytes + self.tail.len()
    }

    /// The length of the whole packet with the longest payload in bytes.
    #[must_use]
    pub fn packet_bytes(&self) -> usize {
        self.stamp_at + self.payload_bytes_max()
    }

    /// Appends the packet with a payload of `payload_bytes`: at least the stamp, at most [`Self::payload_bytes_max`].
    /// `stamp` is as long as was said; what is longer is cut off.
    #[inline]
    pub fn append(
        &self,
        packet_identifier: Option<PacketIdentifier>,
        stamp: &[u8],
        payload_bytes: usize,
        out: &mut OutBuffer,
    ) {
        let bytes = out.bytes_mut();
        let start = bytes.len();
        let tail_bytes = payload_bytes.saturating_sub(self.stamp_bytes).min(self.tail.len());
        let is_shared = tail_bytes >= SHARED_BYTES_MIN;
        let packet_end = self.stamp_at + self.stamp_bytes + if is_shared { 0 } else { tail_bytes };
        // How much shorter the fixed header is than that of the longest packet.
        let mut shift = 0;
        if tail_bytes == self.tail.len() {
            bytes.extend_from_slice(self.packet.get(..packet_end).unwrap_or(&self.packet));
        } else {
            shift = self.append_shorter(tail_bytes, packet_end, bytes);
        }
        if let Some(packet) = bytes.get_mut(start..) {
            if let (Some(at), Some(identifier)) = (self.identifier_at, packet_identifier) {
                overwrite(packet, at - shift, &identifier.value().to_be_bytes());
            }
            overwrite(packet, self.stamp_at - shift, stamp.get(..self.stamp_bytes).unwrap_or(stamp));
        }
        if is_shared {
            out.push_shared(self.tail.slice(..tail_bytes));
        }
    }

    /// Appends the packet with a fixed header of its own; returns how much shorter that is than the longest packet's.
    fn append_shorter(&self, tail_bytes: usize, packet_end: usize, bytes: &mut Vec<u8>) -> usize {
        let start = bytes.len();
        let remaining = self.stamp_at - self.header_len + self.stamp_bytes + tail_bytes;
        bytes.extend(self.packet.first());
        // The longest packet can be encoded, so a shorter one can.
        push_variable_integer(bytes, u32::try_from(remaining).unwrap_or(VARIABLE_INTEGER_MAX));
        let header_len = bytes.len() - start;
        let encoded_end = packet_end.min(self.packet.len());
        bytes.extend_from_slice(self.packet.get(self.header_len..encoded_end).unwrap_or_default());
        // Of a large payload only the stamp is encoded.
        let missing = packet_end - encoded_end;
        bytes.extend_from_slice(self.tail.get(..missing).unwrap_or_default());
        self.header_len - header_len
    }
}

#[inline]
fn overwrite(packet: &mut [u8], at: usize, with: &[u8]) {
    if let Some(place) = packet.get_mut(at..at + with.len()) {
        place.copy_from_slice(with);
    }
}
