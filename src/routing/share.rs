//! The share groups that have their home here, and who of their members is next.
//!
//! Owns, for each pair of group name and TopicFilter, the members on all shards and what they can take as last heard.
//! Always holds: a member stands in one list of its group, that of its state; a group exists as long as it has members.
//! Must never do: take what it heard for what is. A member's shard refuses a message for a client that it has just lost,
//! and the home picks again with that member among the refused.

use smallvec::SmallVec;

use super::{
    filter_table::{FilterTable, Matches},
    hash::HashKey,
    last_topic::KnownFilters,
    slab::ChunkedSlab,
    split_table::SplitTable,
    subscribers::{Subscriber, Subscribers},
};

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
    /// Online, but its queue is filling: taken when nobody else is, and what its full queue does is its shard's to say.
    Full,
    /// Offline with a session that lasts: queues when nobody is ready.
    Asleep,
    /// Offline with nothing that would queue: passed over.
    Away,
}

/// A group, until its last member leaves; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(test, derive(Default))]
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
pub struct ShareGroups {
    key: HashKey,
    hasher: ahash::RandomState,
    groups: ChunkedSlab<Group>,
    by_names: SplitTable<u32>,
    by_filter: FilterTable<GroupIdentifier>,
    generation: u32,
}

#[derive(Debug)]
struct Group {
    name: Box<str>,
    filter: Box<str>,
    generation: u32,
    /// The members by state, and for the states that are picked from, whose turn it is.
    members: [Subscribers<Member>; MemberState::ALL.len()],
    turns: [u32; MemberState::ALL.len()],
}

impl ShareGroups {
    /// No groups yet. `key` is the one that the topic hashes come from.
    #[must_use]
    pub fn new(key: HashKey) -> Self {
        let (one, other) = key.map_seeds();
        Self {
            key,
            hasher: ahash::RandomState::with_seeds(one, other, one.rotate_left(16), other.rotate_left(16)),
            groups: ChunkedSlab::new(),
            by_names: SplitTable::new(),
            by_filter: FilterTable::new(key),
            generation: 0,
        }
    }

    /// Adds a member to the group of `name` and `filter`, or replaces its entry.
    pub fn join(&mut self, name: &str, filter: &str, member: Member) -> Joined {
        if let Some(group) = self.find(name, filter)
            && let Some(found) = self.groups.at_mut(group.index)
        {
            let replaced = found.remove(&self.hasher, member.session_number);
            found.insert(&self.hasher, member);
            return Joined { group, group_is_new: false, filter_is_new: false, replaced };
        }
        let (group, filter_is_new) = self.create(name, filter, member);
        Joined { group, group_is_new: true, filter_is_new, replaced: None }
    }

    /// Takes a member out of a group.
    pub fn leave(&mut self, name: &str, filter: &str, session_number: u64) -> Option<Left> {
        let group = self.find(name, filter)?;
        let found = self.groups.at_mut(group.index)?;
        let member = found.remove(&self.hasher, session_number)?;
        let group_is_gone = found.len() == 0;
        let filter_is_gone = group_is_gone && self.delete(group);
        Some(Left { member, group_is_gone, filter_is_gone })
    }

    /// Notes what a member can take; false when it is no member.
    pub fn update(&mut self, name: &str, filter: &str, session_number: u64, state: MemberState) -> bool {
        self.find(name, filter).is_some_and(|group| self.update_at(group, session_number, state))
    }

    /// As [`update`](Self::update), for who has kept the group's identifier; also false when the group is gone.
    pub fn update_at(&mut self, group: GroupIdentifier, session_number: u64, state: MemberState) -> bool {
        let Some(found) = self.groups.at_mut(group.index).filter(|found| found.generation == group.generation) else {
            return false;
        };
        if found.members[state as usize].find(&self.hasher, &session_number).is_some() {
            return true;
        }
        let Some(member) = found.remove(&self.hasher, session_number) else { return false };
        found.insert(&self.hasher, Member { state, ..member });
        true
    }

    /// Appends the groups whose filter matches `topic`, whose whole hash is `topic_hash`. `known`: what is known of that topic.
    pub fn matches(
        &self,
        topic: &str,
        topic_hash: u64,
        known: Option<&mut KnownFilters>,
        found: &mut SmallVec<[GroupIdentifier; 8]>,
    ) {
        let mut slices = Matches::new();
        match known {
            Some(known) => self.by_filter.matches_again(topic, topic_hash, known, &mut slices),
            None => self.by_filter.matches(topic, topic_hash, &mut slices),
        }
        slices.iter().for_each(|groups| found.extend_from_slice(groups));
    }

    /// Whose turn it is: the next ready member, else the next one asleep, else the next full one. Never one whose session number is
    /// in `refused`, in which no number stands twice; takes time in proportion to these.
    // Into its caller, so that a member is not moved there through memory.
    #[inline]
    pub fn pick(&mut self, group: GroupIdentifier, refused: &[u64]) -> Option<Member> {
        let found = self.groups.at_mut(group.index).filter(|found| found.generation == group.generation)?;
        let mut states = [MemberState::Ready, MemberState::Asleep, MemberState::Full].into_iter();
        states.find_map(|state| found.next(state, refused))
    }

    /// The group of `name` and `filter`.
    #[must_use]
    pub fn find(&self, name: &str, filter: &str) -> Option<GroupIdentifier> {
        let is_same = |index: &u32| {
            let group = &self.groups[*index];
            *group.name == *name && *group.filter == *filter
        };
        let index = *self.by_names.find(self.key.share_group(name, filter), is_same)?;
        Some(GroupIdentifier { index, generation: self.groups[index].generation })
    }

    /// Name and filter of a group.
    #[must_use]
    pub fn names(&self, group: GroupIdentifier) -> Option<(&str, &str)> {
        self.at(group).map(|group| (&*group.name, &*group.filter))
    }

    /// How many members a group has, in all states.
    #[must_use]
    pub fn members(&self, group: GroupIdentifier) -> usize {
        self.at(group).map_or(0, Group::len)
    }

    /// How many groups there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// All groups, for who lists them.
    pub fn iter(&self) -> impl Iterator<Item = GroupIdentifier> {
        self.groups.iter().map(|(index, group)| GroupIdentifier { index, generation: group.generation })
    }

    fn at(&self, group: GroupIdentifier) -> Option<&Group> {
        self.groups.at(group.index).filter(|found| found.generation == group.generation)
    }

    /// Makes a group of one member; also whether its filter is new.
    fn create(&mut self, name: &str, filter: &str, member: Member) -> (GroupIdentifier, bool) {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let mut group = Group {
            name: name.into(),
            filter: filter.into(),
            generation,
            members: [const { Subscribers::None }; MemberState::ALL.len()],
            turns: [0; MemberState::ALL.len()],
        };
        group.insert(&self.hasher, member);
        let index = self.groups.insert(group);
        self.by_names.insert_unique(self.key.share_group(name, filter), index);
        let group = GroupIdentifier { index, generation };
        (group, self.by_filter.insert(filter, group).filter_is_new)
    }

    /// Removes a group; whether its filter is gone with it.
    fn delete(&mut self, group: GroupIdentifier) -> bool {
        let Some(gone) = self.groups.remove(group.index) else { return false };
        let hash = self.key.share_group(&gone.name, &gone.filter);
        self.by_names.remove(hash, |index| *index == group.index);
        self.by_filter.remove(&gone.filter, &group.index).is_some_and(|removed| removed.filter_is_gone)
    }
}

impl Group {
    fn len(&self) -> usize {
        self.members.iter().map(Subscribers::len).sum()
    }

    fn insert(&mut self, hasher: &ahash::RandomState, member: Member) {
        self.members[member.state as usize].insert(hasher, member);
    }

    fn remove(&mut self, hasher: &ahash::RandomState, session_number: u64) -> Option<Member> {
        self.members.iter_mut().find_map(|members| members.remove(hasher, &session_number))
    }

    /// The next member in `state` that has not refused, round robin.
    #[inline]
    fn next(&mut self, state: MemberState, refused: &[u64]) -> Option<Member> {
        let members = &self.members[state as usize];
        let turn = &mut self.turns[state as usize];
        let len = members.len();
        // It may be the end, or beyond it where members have left.
        let mut position = *turn as usize;
        for _ in 0..len.min(refused.len() + 1) {
            if position >= len {
                position = 0;
            }
            let member = members.at(position)?;
            position += 1;
            if !refused.contains(&member.session_number) {
                *turn = position as u32;
                return Some(*member);
            }
        }
        None
    }
}

impl MemberState {
    /// All of them, in the order of the lists that members stand in.
    const ALL: [Self; 4] = [Self::Ready, Self::Full, Self::Asleep, Self::Away];
}

impl Subscriber for Member {
    type Key = u64;

    fn key(&self) -> u64 {
        self.session_number
    }
}

impl Subscriber for GroupIdentifier {
    type Key = u32;

    fn key(&self) -> u32 {
        self.index
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn groups() -> ShareGroups {
        ShareGroups::new(HashKey::from_seed(42))
    }

    fn member(session_number: u64, state: MemberState) -> Member {
        Member { session_number, session: 1, subscription_identifier: 0, shard: 3, qos: 1, options: 0, state }
    }

    fn picked(groups: &mut ShareGroups, group: GroupIdentifier, refused: &[u64]) -> Option<u64> {
        groups.pick(group, refused).map(|member| member.session_number)
    }

    #[test]
    fn ready_members_take_turns() {
        let mut groups = groups();
        let group = groups.join("g", "a/+", member(1, MemberState::Ready)).group;
        for number in 2..=4 {
            groups.join("g", "a/+", member(number, MemberState::Ready));
        }
        let order: Vec<_> = (0..8).filter_map(|_| picked(&mut groups, group, &[])).collect();
        assert_eq!(order, [1, 2, 3, 4, 1, 2, 3, 4]);
        assert_eq!(picked(&mut groups, group, &[1, 2]), Some(3));
        assert_eq!(picked(&mut groups, group, &[4, 1, 2]), Some(3));
        assert_eq!(picked(&mut groups, group, &[1, 2, 3, 4]), None);
    }

    #[test]
    fn a_member_asleep_queues_when_nobody_is_ready() {
        let mut groups = groups();
        let group = groups.join("g", "a", member(1, MemberState::Away)).group;
        assert_eq!(picked(&mut groups, group, &[]), None);
        groups.join("g", "a", member(2, MemberState::Full));
        assert_eq!(picked(&mut groups, group, &[]), Some(2), "its queue may have room, and nobody else takes it");
        groups.join("g", "a", member(3, MemberState::Asleep));
        groups.join("g", "a", member(4, MemberState::Asleep));
        assert_eq!(picked(&mut groups, group, &[]), Some(3));
        assert_eq!(picked(&mut groups, group, &[]), Some(4));
        assert!(groups.update("g", "a", 2, MemberState::Ready));
        assert_eq!(picked(&mut groups, group, &[]), Some(2));
        assert_eq!(picked(&mut groups, group, &[2]), Some(3));
        assert!(!groups.update("g", "a", 9, MemberState::Ready));
        assert!(!groups.update("g", "b", 2, MemberState::Ready));
    }

    #[test]
    fn groups_and_filters_come_with_their_first_member_and_go_with_their_last() {
        let mut groups = groups();
        let one = groups.join("g", "a/#", member(1, MemberState::Ready));
        assert!(one.group_is_new && one.filter_is_new && one.replaced.is_none());
        let other = groups.join("h", "a/#", member(1, MemberState::Ready));
        assert!(other.group_is_new && !other.filter_is_new);
        let again = groups.join("g", "a/#", Member { qos: 2, ..member(1, MemberState::Full) });
        assert_eq!((again.group, again.group_is_new), (one.group, false));
        assert_eq!(again.replaced, Some(member(1, MemberState::Ready)));
        assert_eq!(groups.members(one.group), 1);
        groups.join("g", "a/#", member(2, MemberState::Away));
        assert_eq!(groups.members(one.group), 2);
        assert!(groups.leave("g", "a/#", 2).is_some_and(|left| !left.group_is_gone));
        let mut found = SmallVec::new();
        let hash = HashKey::from_seed(42).topic("a/b").whole;
        groups.matches("a/b", hash, None, &mut found);
        assert_eq!(found.len(), 2);
        assert_eq!(groups.leave("g", "a/#", 7), None);
        let left = groups.leave("g", "a/#", 1);
        assert!(left.is_some_and(|left| left.group_is_gone && !left.filter_is_gone && left.member.qos == 2));
        assert!(groups.leave("h", "a/#", 1).is_some_and(|left| left.group_is_gone && left.filter_is_gone));
        assert!(groups.is_empty());
        let new = groups.join("g", "a/#", member(5, MemberState::Ready)).group;
        assert_ne!(new, one.group);
        assert_eq!(groups.pick(one.group, &[]), None);
        assert!(!groups.update_at(one.group, 5, MemberState::Full));
        assert_eq!((groups.members(new), groups.members(one.group)), (1, 0));
        assert_eq!((groups.names(new), groups.names(one.group)), (Some(("g", "a/#")), None));
    }

    const STATES: [MemberState; 4] = MemberState::ALL;

    proptest! {
        #[test]
        fn whoever_is_picked_is_the_best_that_there_is(
            steps in prop::collection::vec((0_u8..6, 0_usize..2, 0_u64..200, 0_usize..4), 1..400),
            refused in prop::collection::btree_set(0_u64..200, 0..20),
        ) {
            let mut groups = groups();
            let names = [("g", "a/+"), ("h", "a/b")];
            let mut model: BTreeMap<(usize, u64), MemberState> = BTreeMap::new();
            for (kind, name, number, state) in steps {
                let ((group, filter), state) = (names[name], STATES[state]);
                match kind {
                    0..3 => {
                        let joined = groups.join(group, filter, member(number, state));
                        let replaced = joined.replaced.map(|member| member.state);
                        prop_assert_eq!(replaced, model.insert((name, number), state));
                    }
                    3 => {
                        let left = groups.leave(group, filter, number);
                        prop_assert_eq!(left.map(|left| left.member.state), model.remove(&(name, number)));
                    }
                    _ => {
                        let known = groups.update(group, filter, number, state);
                        let present = model.get_mut(&(name, number)).map(|present| *present = state);
                        prop_assert_eq!(known, present.is_some());
                    }
                }
            }
            let refused: Vec<u64> = refused.into_iter().collect();
            for (name, (group, filter)) in names.into_iter().enumerate() {
                let of = |state: MemberState| -> BTreeSet<u64> {
                    let members = model.iter().filter(|((of, number), has)| *of == name && **has == state && !refused.contains(number));
                    members.map(|((_, number), _)| *number).collect()
                };
                let states = [MemberState::Ready, MemberState::Asleep, MemberState::Full];
                let best = states.into_iter().map(of).find(|members| !members.is_empty()).unwrap_or_default();
                let Some(group) = groups.find(group, filter) else { continue };
                // One round visits each of the best once.
                let round: BTreeSet<u64> = best.iter().filter_map(|_| picked(&mut groups, group, &refused)).collect();
                prop_assert_eq!(&round, &best);
                prop_assert_eq!(picked(&mut groups, group, &refused).is_none(), best.is_empty());
            }
        }
    }
}
