//! The share groups that have their home here, and who of their members is next.

use smallvec::SmallVec;

use super::hash::HashKey;

/// A member of a share group, on whatever shard its session is at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The session's number, never used again: it tells members apart.
    pub session_number: u64,
    /// The session's slot on its shard.
    pub session: u32,
    /// The subscription identifier, 0 for none.
    pub subscription_identifier: u32,
    /// The session's shard.
    pub shard: u16,
    /// The granted QoS, 0 to 2.
    pub qos: u8,
    /// Any further options of the subscription, as the caller packs them.
    pub options: u8,
    /// What the session can take at present.
    pub state: MemberState,
}

/// What a member can take, as its shard last reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberState {
    /// Online, with room: takes its turn.
    Ready,
    /// Online, but its queue is full: passed over.
    Full,
    /// Offline with a session that lasts: queues when nobody is ready.
    Asleep,
    /// Offline with nothing that would queue: passed over.
    Away,
}

/// A group, until its last member leaves; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupIdentifier {
    index: u32,
    generation: u32,
}

/// What [`ShareGroups::join`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The group.
    pub group: GroupIdentifier,
    /// Whether this is its first member.
    pub group_is_new: bool,
    /// Whether it is the first group with this filter: then the share interest is to be added.
    pub filter_is_new: bool,
    /// What the member was before, when it was one.
    pub replaced: Option<Member>,
}

/// What [`ShareGroups::leave`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The member that left.
    pub member: Member,
    /// Whether it was the last one.
    pub group_is_gone: bool,
    /// Whether no group with this filter is left: then the share interest is to be removed.
    pub filter_is_gone: bool,
}

/// The share groups of one home.
#[derive(Debug)]
pub struct ShareGroups {}

impl ShareGroups {
    /// No groups yet.
    #[must_use]
    pub fn new(_key: HashKey) -> Self {
        todo!()
    }

    /// Adds a member to the group of `name` and `filter`, or replaces its entry.
    pub fn join(&mut self, _name: &str, _filter: &str, _member: Member) -> Joined {
        todo!()
    }

    /// Takes a member out of a group.
    pub fn leave(&mut self, _name: &str, _filter: &str, _session_number: u64) -> Option<Left> {
        todo!()
    }

    /// Notes what a member can take; false when it is no member.
    pub fn update(&mut self, _name: &str, _filter: &str, _session_number: u64, _state: MemberState) -> bool {
        todo!()
    }

    /// Appends the groups whose filter matches `topic`.
    pub fn matches(&self, _topic: &str, _topic_hash: u64, _found: &mut SmallVec<[GroupIdentifier; 8]>) {
        todo!()
    }

    /// Whose turn it is: the next ready member, else the next one asleep, else nobody. Never one whose session number is
    /// in `refused`.
    pub fn pick(&mut self, _group: GroupIdentifier, _refused: &[u64]) -> Option<Member> {
        todo!()
    }

    /// Name and filter of a group.
    #[must_use]
    pub fn names(&self, _group: GroupIdentifier) -> Option<(&str, &str)> {
        todo!()
    }
}
