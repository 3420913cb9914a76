//! What a shard counts. Plain numbers of one core, read by whoever publishes them.

/// Counts since the start of the process, except where a level is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// CONNECTs that were accepted.
    pub connects_accepted: u64,
    /// CONNECTs that were refused, or never came in time.
    pub connects_refused: u64,
    /// Connections closed at once because there were too many.
    pub connections_over_limit: u64,
    /// Connections given to another shard.
    pub handed_off: u64,
    /// Sessions whose connection was taken over by a newer one.
    pub taken_over: u64,
    /// Connections closed because their client fell silent.
    pub keep_alive_timeouts: u64,
    /// Connections closed for a violation of the protocol.
    pub protocol_errors: u64,
    /// Packets received.
    pub packets_received: u64,
    /// PUBLISHes received, by QoS.
    pub publishes_received: [u64; 3],
    /// Deliveries sent or queued, by QoS.
    pub deliveries: [u64; 3],
    /// PUBLISHes that no subscription matched, as far as this shard knew.
    pub publishes_unmatched: u64,
    /// QoS 0 deliveries dropped because the client's out-buffer was full.
    pub dropped_out_buffer_full: u64,
    /// Deliveries dropped because the session's queue was full.
    pub dropped_queue_full: u64,
    /// QoS 0 deliveries dropped because the client was away.
    pub dropped_offline: u64,
    /// Deliveries dropped because they expired.
    pub dropped_expired: u64,
    /// Deliveries dropped because they are larger than the client takes.
    pub dropped_too_large: u64,
    /// Messages for a share group without a member that could take them.
    pub dropped_share_unserved: u64,
    /// Retained messages that were not stored because there were too many.
    pub retained_refused: u64,
    /// Wills published.
    pub wills_published: u64,
    /// Sessions that have expired.
    pub sessions_expired: u64,
    /// Publications that were delivered in slices.
    pub fan_out_jobs: u64,
    /// Times a connection was paused because the mesh was full.
    pub paused_for_mesh: u64,
    /// Messages from other shards.
    pub mesh_received: u64,
}
