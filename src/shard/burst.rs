//! Publications that a client sends alike, one behind the other.
//!
//! Owns: finding them where they were received: PUBLISHes of QoS 0 that are the same byte for byte up to their payloads.
//! Always: what becomes of each is what would become of it alone, in its order; only what is the same for all is decoded and
//! checked once, and what nobody here wants but share groups is not routed one by one: it is copied to the other shards, or
//! given to the groups, which are looked up once.
//! Never: what has an identifier, properties or RETAIN, and what is refused: that goes one by one.

use crate::{
    message::Publication,
    mqtt::{PacketType, ProtocolVersion, Publish, QoS, Sender},
    runtime::ConnectionId,
    shard::{Shard, connections::Flags, exchange::Taken, fan_out::Source, input::WORK_PER_PACKET},
    time::Moment,
};

/// PUBLISHes of QoS 0, without properties, that differ in their payloads only. There are two at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Burst<'a> {
    /// They, and what lies behind.
    bytes: &'a [u8],
    /// Bytes of each.
    frame_len: usize,
    /// Bytes of each before its body.
    fixed_len: usize,
    /// Bytes of each before its payload.
    head_len: usize,
}

impl<'a> Burst<'a> {
    /// The one that `bytes` begins with. The packet there has `frame_len` bytes, its body begins behind `fixed_len`, and the
    /// client speaks `version`.
    #[inline]
    pub fn find(bytes: &'a [u8], fixed_len: usize, frame_len: usize, version: ProtocolVersion) -> Option<Self> {
        // Most packets stand alone, or before one of another kind or length.
        if bytes.first() != Some(&PUBLISH) || bytes.get(frame_len..frame_len + 2)? != bytes.get(..2)? {
            return None;
        }
        let (topic_len, behind) = bytes.get(fixed_len..frame_len)?.split_first_chunk()?;
        let topic_len = usize::from(u16::from_be_bytes(*topic_len));
        let mut head_len = fixed_len + size_of::<u16>() + topic_len;
        if version.has_properties() {
            // Their length, which is 0.
            behind.get(topic_len).filter(|len| **len == 0)?;
            head_len += 1;
        }
        // One without a topic has an alias, or is malformed.
        let head = bytes.get(..frame_len)?.get(..head_len).filter(|_| topic_len > 0)?;
        let second = bytes.get(frame_len..)?.get(..frame_len)?;
        second.starts_with(head).then_some(Self { bytes, frame_len, fixed_len, head_len })
    }

    /// Each is compared with the first only when it is asked for.
    fn payloads(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let head = self.bytes.get(..self.head_len).unwrap_or_default();
        self.bytes.chunks_exact(self.frame_len).map_while(move |frame| frame.strip_prefix(head)).take(BURST_MAX)
    }
}

impl Shard {
    /// Takes over the publications of a burst until the connection waits or `allowed` is done in this turn. Returns how many
    /// bytes were handled: none when the first packet has to be looked at alone.
    pub(super) fn on_burst(
        &mut self,
        id: ConnectionId,
        burst: Burst<'_>,
        version: ProtocolVersion,
        allowed: usize,
        now: Moment,
    ) -> usize {
        let body = burst.bytes.get(burst.fixed_len..burst.frame_len).unwrap_or_default();
        let Ok(publish) = Publish::decode(PUBLISH, body, version, Sender::Client) else { return 0 };
        if self.check_publish(&publish, publish.topic).is_err() {
            return 0;
        }
        let envelope = self.envelope(QoS::AtMostOnce, false, None, now);
        let source = Source::Connection { id, session: self.session_of(id) };
        let mut payloads = burst.payloads();
        let mut taken = 0;
        while !self.has_done(allowed)
            && let Some(payload) = payloads.next()
        {
            self.count_of_burst(1);
            self.clients.durable.begin();
            let publication = |payload| Publication::new(publish.topic, &[], payload, envelope);
            let routed = self.route(publication(payload), source, Taken::Ignore, now);
            taken += 1;
            if routed.job {
                self.start_waiting(id, Flags::WAITS_FOR_JOB, true);
            }
            if self.wait_for_mesh(id) || routed.job {
                break;
            }
            if routed.matched && !routed.here {
                // Nothing is left to do for those behind it but to copy them, or to pick members of a share group.
                let count = allowed.saturating_sub(self.work_this_turn) / WORK_PER_PACKET;
                let mut together = self.send_alike(publication(payload), &mut payloads, count);
                if together == 0 {
                    together = self.share_alike(publication(payload), &mut payloads, count, now);
                }
                self.count_of_burst(together);
                taken += together;
                if self.wait_for_mesh(id) {
                    break;
                }
            }
        }
        taken * burst.frame_len
    }

    fn count_of_burst(&mut self, packets: usize) {
        let counters = &mut self.clients.counters;
        counters.packets_received += packets as u64;
        counters.publishes_received[usize::from(QoS::AtMostOnce.value())] += packets as u64;
        self.work_this_turn += packets * WORK_PER_PACKET;
    }
}

/// The first byte of a PUBLISH of QoS 0 without RETAIN.
const PUBLISH: u8 = (PacketType::Publish as u8) << 4;
/// Packets handled before what else there is about the connection is looked at again.
const BURST_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{Encode, PublishProperties};

    /// A PUBLISH, and the bytes of its fixed header.
    fn frame(topic: &str, payload: &str, version: ProtocolVersion) -> Vec<u8> {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_identifier: None,
            properties: PublishProperties::default(),
            payload: payload.as_bytes(),
        };
        let mut bytes = Vec::new();
        publish.encode(version, &mut bytes).expect("it fits a packet");
        bytes
    }

    fn found<'a>(bytes: &'a [u8], version: ProtocolVersion) -> Option<Vec<&'a [u8]>> {
        let frame_len = 2 + usize::from(bytes[1]);
        Burst::find(bytes, 2, frame_len, version).map(|burst: Burst<'a>| burst.payloads().collect())
    }

    #[test]
    fn a_burst_ends_with_the_last_that_is_alike() {
        for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
            let one = frame("a/b", "one", version);
            let two = frame("a/b", "two", version);
            let other_topic = frame("a/c", "one", version);
            let longer = frame("a/b", "longer", version);
            let all = [&*one, &*two, &*other_topic].concat();
            assert_eq!(found(&all, version), Some(vec![b"one".as_slice(), b"two"]));
            assert_eq!(found(&all[..all.len() - 1], version), Some(vec![b"one".as_slice(), b"two"]));
            assert_eq!(found(&[&*one, &*two, &one[..3]].concat(), version), Some(vec![b"one".as_slice(), b"two"]));
            for alone in [
                [&*one, &*other_topic].concat(),
                [&*one, &*longer].concat(),
                [&*one, &two[..two.len() - 1]].concat(),
                one.clone(),
            ] {
                assert_eq!(found(&alone, version), None, "{alone:?}");
            }
        }
        let many = frame("a", "", ProtocolVersion::V311).repeat(BURST_MAX + 1);
        assert_eq!(found(&many, ProtocolVersion::V311).map(|payloads| payloads.len()), Some(BURST_MAX));
    }

    #[test]
    fn what_has_to_be_looked_at_alone_is_no_burst() {
        let twice = |frame: &[u8]| frame.repeat(2);
        for (frame, version) in [
            // QoS 1, RETAIN, DUP.
            (&[0x32, 6, 0, 1, b'a', 0, 1, b'p'][..], ProtocolVersion::V311),
            (&[0x31, 4, 0, 1, b'a', b'p'], ProtocolVersion::V311),
            (&[0x38, 4, 0, 1, b'a', b'p'], ProtocolVersion::V311),
            // No topic, an alias, a property, a topic longer than the packet, one without the length of its properties.
            (&[0x30, 3, 0, 0, b'p'], ProtocolVersion::V311),
            (&[0x30, 7, 0, 0, 3, 0x23, 0, 1, b'p'], ProtocolVersion::V5),
            (&[0x30, 7, 0, 1, b'a', 2, 1, 0, b'p'], ProtocolVersion::V5),
            (&[0x30, 4, 0, 9, b'a', b'p'], ProtocolVersion::V311),
            (&[0x30, 3, 0, 1, b'a'], ProtocolVersion::V5),
            (&[0x30, 1, 0], ProtocolVersion::V311),
            (&[0xC0, 0], ProtocolVersion::V311),
        ] {
            assert_eq!(found(&twice(frame), version), None, "{frame:?}");
        }
    }
}
