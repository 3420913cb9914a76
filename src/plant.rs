//! Deliberate bugs, for the simulation to find.
//!
//! Each [`Bug`] is the obvious version of something that was found broken in design. With the feature `planted-bugs` a
//! test plants one for its own thread and must see the simulation fail; without the feature [`planted`] is a constant
//! `false` and the code behind it is compiled out.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A slot is freed and its descriptor closed before its last completion is in.
    SlotFreedEarly,
    /// Completions are matched to a slot without looking at the generation.
    GenerationIgnored,
    /// Before CONNECT is parsed the multishot recv is armed already.
    MultishotBeforeConnect,
    /// Bytes pipelined behind CONNECT are dropped in the hand-off.
    PipelinedBytesLost,
    /// A CONNECT evicts a session's connection whatever its stamp.
    ConnectStampIgnored,
    /// A connection closes without lingering for its last DISCONNECT.
    CloseWithoutLinger,
    /// Interest bits are set after SUBACK has left, at the end of the next turn.
    InterestBitLate,
    /// An interest bit is cleared without counting the users of its slot.
    InterestBitUncounted,
    /// Which shards want a topic is remembered as long as it is the last one published.
    ReachKept,
    /// A retained question is answered at once, without the grace period.
    RetainedNoGrace,
    /// An older retained answer is delivered although a newer live message was.
    RetainedOlderAnswer,
    /// Retained messages are stored in order of arrival, whatever their stamps.
    RetainedStampIgnored,
    /// A socket is paused for lasting fullness of a session's queue.
    PauseForFullQueue,
    /// Keep-alive goes on while we have paused the connection.
    KeepAliveWhilePaused,
    /// One ring carries all ranks of mesh messages: what is left in it keeps everything behind it waiting.
    OneRank,
    /// PUBACK is sent when the publication was handed to the mesh, not when it was taken.
    AckBeforeTaken,
    /// Acknowledgements leave in order of completion instead of the order of the PUBLISHes.
    AckOutOfOrder,
    /// A packet identifier is reused while the client still holds it.
    PacketIdentifierReused,
    /// A QoS 2 PUBLISH received again is delivered again.
    Qos2DuplicateDelivered,
    /// What is left of a partial send is forgotten.
    PartialSendForgotten,
    /// A connection that met ENOBUFS is not armed again.
    EnobufsForgotten,
    /// The member's shard drops a shared message when it has just lost that client.
    ShareRefusalDropped,
    /// A Will is published although the client came back within its delay.
    WillAfterResume,
    /// A shard goes to sleep without looking at its inbound rings after it said so.
    SleepWithoutLook,
    /// A shard sleeps while connections wait to be armed again after ENOBUFS.
    StarvedLeftBehind,
    /// A shard sleeps while connections that begin or end wait for their turn.
    CrowdLeftBehind,
    /// A shard counts as parked while messages of its last turn wait behind a full ring.
    ParkedBeforeSent,
    /// A shared message that every member refused is dropped, although the session of one would queue it.
    SleepingMemberForgotten,
    /// Parts of a QoS 2 publication are committed as they come.
    GroupSplit,
    /// A QoS 2 PUBLISH is sent before the store has it.
    Qos2SentBeforeDurable,
    /// A QoS 2 PUBLISH that the store may lose is sent at a place that is not reserved.
    PlaceNotReserved,
    /// What clients may hold of messages that went with the machine is not released.
    HeldForgotten,
    /// Acknowledgements do not wait for the store.
    AckBeforeDurable,
    /// A shard reports a publication as taken before its own part is durable.
    ReportBeforeDurable,
    /// CONNACK does not wait for the store.
    ConnackBeforeDurable,
    /// CONNACK of a session that was there does not wait for what an earlier connection of it has asked the store for.
    ResumeBeforeDurable,
    /// PUBREL is sent before the store knows that the message has arrived.
    PubrelBeforeDurable,
    /// PUBCOMP is sent before the store knows that the identifier is free.
    PubcompBeforeDurable,
    /// What is parked is read before the store has what its shard asked for.
    SliceBeforeDurable,
    /// After a crash sequence numbers, and PacketIdentifiers with them, begin anew.
    SequenceNotKept,
    /// What a shard asks for behind a part of a group that is held is committed before it.
    HeldGroupOvertaken,
    /// A QoS 2 delivery that has arrived counts twice as a reference less to its chunk.
    BodyReleasedTwice,
    /// Which places of a queue are done with is not written.
    HeadForgotten,
    /// A chunk of which little is left is removed instead of being written anew.
    ThinnedChunkLost,
    /// A store that is opened again after a failure lacks the commit that failed.
    FailedCommitForgotten,
    /// A shard does not say that the store has failed before what it took was durable.
    UndoneReportedAsDone,
    /// What goes back to its share group leaves its member's queue in the store before another queue has it.
    ShareReturnedSplit,
    /// What a `batched` listener promises is said before it is written.
    BatchedBeforeWritten,
    /// What a `sync` listener promises is said when it is written, and may not be synced.
    SyncedWhenWritten,
    /// A session that was made through a listener that keeps nothing is kept.
    KeptThroughMemory,
}

impl Bug {
    /// All of them.
    pub const ALL: &[Bug] = &[
        Bug::SlotFreedEarly,
        Bug::GenerationIgnored,
        Bug::MultishotBeforeConnect,
        Bug::PipelinedBytesLost,
        Bug::ConnectStampIgnored,
        Bug::CloseWithoutLinger,
        Bug::InterestBitLate,
        Bug::InterestBitUncounted,
        Bug::ReachKept,
        Bug::RetainedNoGrace,
        Bug::RetainedOlderAnswer,
        Bug::RetainedStampIgnored,
        Bug::PauseForFullQueue,
        Bug::KeepAliveWhilePaused,
        Bug::OneRank,
        Bug::AckBeforeTaken,
        Bug::AckOutOfOrder,
        Bug::PacketIdentifierReused,
        Bug::Qos2DuplicateDelivered,
        Bug::PartialSendForgotten,
        Bug::EnobufsForgotten,
        Bug::ShareRefusalDropped,
        Bug::WillAfterResume,
        Bug::SleepWithoutLook,
        Bug::StarvedLeftBehind,
        Bug::CrowdLeftBehind,
        Bug::ParkedBeforeSent,
        Bug::SleepingMemberForgotten,
        Bug::GroupSplit,
        Bug::Qos2SentBeforeDurable,
        Bug::PlaceNotReserved,
        Bug::HeldForgotten,
        Bug::AckBeforeDurable,
        Bug::ReportBeforeDurable,
        Bug::ConnackBeforeDurable,
        Bug::ResumeBeforeDurable,
        Bug::PubrelBeforeDurable,
        Bug::PubcompBeforeDurable,
        Bug::SliceBeforeDurable,
        Bug::SequenceNotKept,
        Bug::HeldGroupOvertaken,
        Bug::BodyReleasedTwice,
        Bug::HeadForgotten,
        Bug::ThinnedChunkLost,
        Bug::FailedCommitForgotten,
        Bug::UndoneReportedAsDone,
        Bug::ShareReturnedSplit,
        Bug::BatchedBeforeWritten,
        Bug::SyncedWhenWritten,
        Bug::KeptThroughMemory,
    ];
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants `bug` (or none) for everything that runs on this thread.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.with(|planted| planted.set(bug));
}

/// Whether `bug` is planted on this thread.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn planted(bug: Bug) -> bool {
    PLANTED.with(|planted| planted.get() == Some(bug))
}

/// Whether `bug` is planted: never, in a build without the feature `planted-bugs`.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
#[must_use]
pub const fn planted(_bug: Bug) -> bool {
    false
}
