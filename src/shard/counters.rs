//! What a shard counts. Plain numbers of one core; a snapshot of them is published with each `$SYS` interval.

/// Declares the counters with their names, so that none is counted and never shown.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counts since the start of the process.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
            /// PUBLISHes received, by QoS.
            pub publishes_received: [u64; 3],
            /// Deliveries sent or queued, by QoS.
            pub deliveries: [u64; 3],
        }

        impl Counters {
            /// The names, in the order of [`Counters::values`].
            pub const NAMES: &'static [&'static str] = &[
                $(stringify!($name),)+
                "publishes_received_qos0", "publishes_received_qos1", "publishes_received_qos2",
                "deliveries_qos0", "deliveries_qos1", "deliveries_qos2",
            ];

            /// The values, in the order of [`Counters::NAMES`].
            pub fn values(&self) -> impl Iterator<Item = u64> {
                [$(self.$name),+].into_iter().chain(self.publishes_received).chain(self.deliveries)
            }
        }
    };
}

counters! {
    /// CONNECTs that were accepted.
    connects_accepted,
    /// CONNECTs that were refused, or never came in time.
    connects_refused,
    /// CONNECTs refused before they were complete because together they held too many bytes.
    connects_over_bytes,
    /// Connections closed at once because there were too many.
    connections_over_limit,
    /// Connections given to another shard.
    handed_off,
    /// Sessions whose connection was taken over by a newer one.
    taken_over,
    /// Connections closed because their client fell silent.
    keep_alive_timeouts,
    /// Connections closed for a violation of the protocol.
    protocol_errors,
    /// Packets received.
    packets_received,
    /// PUBLISHes that no subscription matched, as far as this shard knew.
    publishes_unmatched,
    /// QoS 0 deliveries dropped because the client's out-buffer was full.
    dropped_out_buffer_full,
    /// Deliveries dropped because the session's queue was full.
    dropped_queue_full,
    /// Deliveries dropped because the queues of all sessions together were full.
    dropped_all_queues_full,
    /// QoS 1 and 2 PUBLISHes refused for that.
    publishes_refused_full,
    /// Parts of queues that could not be read from the store.
    queue_read_errors,
    /// QoS 0 deliveries dropped because the client was away.
    dropped_offline,
    /// Deliveries dropped because they expired.
    dropped_expired,
    /// Deliveries dropped because they are larger than the client takes.
    dropped_too_large,
    /// Messages for a share group without a member that could take them.
    dropped_share_unserved,
    /// Retained messages that were not stored because there were too many, or the disk was nearly full.
    retained_refused,
    /// Times the store failed.
    store_failed,
    /// Times the disk had too little room for anything new to be kept.
    store_full,
    /// CONNECTs, PUBLISHes and subscriptions that were refused because of either.
    refused_unkept,
    /// PUBRELs for PacketIdentifiers that clients may hold of messages that the machine took with it.
    held_released,
    /// Wills published.
    wills_published,
    /// Sessions that have expired.
    sessions_expired,
    /// Publications that were delivered in slices.
    fan_out_jobs,
    /// Times a connection was paused because the mesh was full.
    paused_for_mesh,
    /// Times a connection's input was put off because the turn was full.
    paused_for_turn,
    /// Connections closed because they left too many answers unread.
    unread_over_limit,
    /// Messages from other shards.
    mesh_received,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_name() {
        assert_eq!(Counters::default().values().count(), Counters::NAMES.len());
    }
}
