//! A PUBLISH that is encoded once and sent often.

use bytes::Bytes;

use crate::{
    mqtt::{
        Encode, EncodeError, PacketIdentifier, ProtocolVersion, Publish, PublishProperties, QoS, TopicName,
        write::variable_integer_len,
    },
    transport::OutBuffer,
};

/// A PUBLISH whose packet identifier and first payload bytes are filled in with each use.
///
/// What comes after those bytes is shared by all uses, so a large payload is referenced and never copied.
#[derive(Clone, Debug)]
pub struct PublishTemplate {
    qos: QoS,
    /// The packet up to the end of the stamp.
    head: Vec<u8>,
    /// Where the packet identifier stands in it, above QoS 0.
    identifier_at: Option<usize>,
    stamp_at: usize,
    /// The payload behind the stamp.
    tail: Bytes,
}

impl PublishTemplate {
    /// Encodes a PUBLISH whose payload is `stamp_bytes` that change with each use, and then `tail`.
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
        let mut head = Vec::new();
        publish.encode(version, &mut head)?;
        head.truncate(head.len() - tail.len());
        head.shrink_to_fit();
        let total = head.len() + tail.len();
        let header_len = (2..=5).find(|len| 1 + variable_integer_len((total - len) as u32) == *len).unwrap_or(2);
        let identifier_at = packet_identifier.map(|_| header_len + 2 + topic.len());
        let stamp_at = head.len() - stamp_bytes;
        Ok(PublishTemplate { qos, head, identifier_at, stamp_at, tail })
    }

    /// Its Quality of Service.
    #[inline]
    #[must_use]
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// The length of the whole packet in bytes.
    #[must_use]
    pub fn packet_bytes(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Appends the packet. `stamp` is as long as was said; what is longer is cut off.
    #[inline]
    pub fn append(&self, packet_identifier: Option<PacketIdentifier>, stamp: &[u8], out: &mut OutBuffer) {
        let bytes = out.bytes_mut();
        let start = bytes.len();
        bytes.extend_from_slice(&self.head);
        if let Some(packet) = bytes.get_mut(start..) {
            if let (Some(at), Some(identifier)) = (self.identifier_at, packet_identifier) {
                overwrite(packet, at, &identifier.value().to_be_bytes());
            }
            overwrite(packet, self.stamp_at, stamp);
        }
        out.push_payload(&self.tail);
    }
}

#[inline]
fn overwrite(packet: &mut [u8], at: usize, with: &[u8]) {
    for (byte, new) in packet.iter_mut().skip(at).zip(with) {
        *byte = *new;
    }
}
