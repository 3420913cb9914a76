//! Share groups: their home, and the members that are at home here.
//!
//! Owns: which member of a group gets a message (at the group's home), which session a membership belongs to and what its
//! group knows of it (at the member's home), and messages that were refused and wait for another member.
//! Always: a message that a group took is delivered to one member, queued for one, or counted as unserved; a member that
//! cannot take it sends it back, and it is not offered to that member again. After it was sent to a client it stays
//! with that client's session [v5 MQTT-4.8.2-4] [v5 MQTT-4.8.2-6]. When the session ends first, what was not sent or
//! not acknowledged at QoS 1 goes back to the group; what was sent at QoS 2 goes to no other [v5 MQTT-4.8.2-5]. So does
//! what had to make room for plain messages in a full queue. A message of a group never takes another one's place there:
//! it is refused. What goes back leaves its member's queue in the store in one commit with its way into another one.
//! Never: waits for a member.

use std::{
    collections::{VecDeque, hash_map::Entry},
    rc::Rc,
};

use ahash::AHashMap;
use smallvec::SmallVec;

use crate::{
    message::{ApplicationMessage, Publication},
    mqtt::{QoS, SharedFilter, TopicFilter},
    plant::{Bug, planted},
    routing::{ChunkedSlab, GroupIdentifier, Member, MemberState, home},
    session::{HeldSubscription, ShareOrigin},
    shard::{
        MeshMessage, RANK_HOME, Shard,
        clients::{Delivered, Displaced, Order},
        durable::Durable,
        exchange::{ShareDelivery, ShareJoin, ShareLeave, ShareState, Taken},
        ledger::Wait,
    },
    store::{Group, Operation},
    time::Moment,
};

/// A session's part in a share group.
#[derive(Debug)]
struct Membership {
    number: u64,
    session: u32,
    filter: Box<str>,
}

/// What the groups of a session know of it.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// The groups' homes were told this, all of them.
    state: MemberState,
    /// The session is in the list of those to look at.
    due: bool,
    memberships: u32,
}

/// The memberships of the sessions that are at home here.
#[derive(Debug)]
pub(super) struct Memberships {
    entries: ChunkedSlab<Membership>,
    by_filter: AHashMap<(u32, Box<str>), u32>,
    /// By session.
    told: AHashMap<u32, Told>,
    /// Sessions of which the groups may have to be told something new.
    due: Vec<u32>,
    next_number: u64,
    retries: VecDeque<Unserved>,
}

/// A message that a group has taken and no member has.
#[derive(Debug)]
struct Unserved {
    group: GroupIdentifier,
    message: ApplicationMessage,
    /// As in [`ShareDelivery`].
    refused: Vec<u64>,
    /// As in [`ShareDelivery`].
    asleep: Option<Member>,
    /// As in [`ShareDelivery`].
    taken: Taken,
}

impl Memberships {
    /// None yet, on shard `index`.
    pub fn new(index: u16) -> Self {
        Self {
            entries: ChunkedSlab::default(),
            by_filter: AHashMap::new(),
            told: AHashMap::new(),
            due: Vec::new(),
            // Numbers of different shards never meet.
            next_number: u64::from(index) << 48,
            retries: VecDeque::new(),
        }
    }

    /// The membership of a session in the group of a filter.
    pub fn find(&self, session: u32, filter: &str) -> Option<u32> {
        self.by_filter.get(&(session, Box::from(filter))).copied()
    }

    /// Whether a message waits for another member, or a group has to be told of one.
    pub fn has_work(&self) -> bool {
        !self.retries.is_empty() || !self.due.is_empty()
    }

    /// A member has refused a message: another one is picked with the next turn.
    pub fn retry_later(&mut self, delivery: ShareDelivery) {
        let ShareDelivery { group, message, refused, asleep, taken, .. } = delivery;
        self.retries.push_back(Unserved { group, message, refused, asleep, taken });
    }
}

impl Shard {
    /// Makes a session a member. Returns what SUBACK waits for.
    pub(super) fn join_group(
        &mut self,
        session: u32,
        filter: &TopicFilter<'_>,
        shared: &SharedFilter<'_>,
        qos: QoS,
        subscription_identifier: u32,
        retain_as_published: bool,
    ) -> Option<Wait> {
        let known = self.memberships.find(session, filter.as_str());
        let index = known.unwrap_or_else(|| self.add_membership(session, filter.as_str()));
        // What the other groups of this session were told. When that has changed, all are told.
        let state = self.memberships.told.get(&session)?.state;
        let entry = self.memberships.entries.at(index)?;
        let member = Member {
            session_number: entry.number,
            session: index,
            subscription_identifier,
            shard: self.index,
            qos: qos.value(),
            options: u8::from(retain_as_published),
            state,
        };
        let at_home = self.group_home(shared);
        if at_home == self.index {
            self.handle_share_join(&ShareJoin { filter: filter.as_str().into(), member, taken: Taken::Ignore });
            return None;
        }
        let join = ShareJoin { filter: filter.as_str().into(), member, taken: Taken::Report };
        let wait = self.ledger.count_sent(at_home, RANK_HOME, 1);
        self.effects.send(at_home, MeshMessage::ShareJoin(Box::new(join)));
        Some(wait)
    }

    fn add_membership(&mut self, session: u32, filter: &str) -> u32 {
        self.memberships.next_number += 1;
        let number = self.memberships.next_number;
        let entry = Membership { number, session, filter: filter.into() };
        let index = self.memberships.entries.insert(entry);
        self.memberships.by_filter.insert((session, filter.into()), index);
        let state = self.member_state(session);
        let told = self.memberships.told.entry(session);
        told.or_insert(Told { state, due: false, memberships: 0 }).memberships += 1;
        if let Some(session) = self.clients.sessions.at_mut(session) {
            session.subscriptions.push(HeldSubscription::Shared(index));
        }
        index
    }

    /// Ends a membership.
    pub(super) fn leave_group(&mut self, membership: u32) {
        let Some(entry) = self.memberships.entries.remove(membership) else { return };
        self.memberships.by_filter.remove(&(entry.session, entry.filter.clone()));
        if let Entry::Occupied(mut told) = self.memberships.told.entry(entry.session) {
            told.get_mut().memberships -= 1;
            if told.get().memberships == 0 {
                told.remove();
            }
        }
        if let Some(at_home) = self.home_of(&entry.filter) {
            let leave = ShareLeave { filter: entry.filter, number: entry.number };
            self.send(at_home, MeshMessage::ShareLeave(Box::new(leave)));
        }
    }

    fn group_home(&self, shared: &SharedFilter<'_>) -> u16 {
        let hash = self.shared.key.share_group(shared.group, shared.filter.as_str());
        home(hash, usize::from(self.shards)) as u16
    }

    fn home_of(&self, filter: &str) -> Option<u16> {
        let filter = TopicFilter::parse(filter).ok()?;
        Some(self.group_home(&filter.shared()?))
    }

    /// What a session can take at the moment.
    fn member_state(&self, session: u32) -> MemberState {
        let Some(session) = self.clients.sessions.at(session) else { return MemberState::Away };
        if !session.is_online() {
            return if session.expiry_interval_s > 0 { MemberState::Asleep } else { MemberState::Away };
        }
        let queued = session.outbox.as_ref().map_or(0, |outbox| outbox.queued());
        let is_full = queued * 2 > self.config.mqtt.queue_messages_max as usize;
        if is_full { MemberState::Full } else { MemberState::Ready }
    }

    /// A session has come, gone, filled up or drained: the homes of its groups are told later in the turn, when that
    /// changes anything and there is room for it.
    pub(super) fn note_share_state(&mut self, session: u32) {
        if self.memberships.told.is_empty() {
            return;
        }
        let state = self.member_state(session);
        if let Some(told) = self.memberships.told.get_mut(&session)
            && told.state != state
            && !std::mem::replace(&mut told.due, true)
        {
            self.memberships.due.push(session);
        }
    }

    /// Tells groups what has changed with their members, as long as the mesh has room. No message is handled meanwhile: one
    /// of rank 1 must not make one of rank 0.
    pub(super) fn run_share_reports(&mut self) {
        while self.effects.waiting(RANK_HOME) < REPORTS_WAITING_MAX
            && let Some(session) = self.memberships.due.pop()
        {
            self.report_share_state(session);
        }
    }

    fn report_share_state(&mut self, session: u32) {
        let state = self.member_state(session);
        let Some(told) = self.memberships.told.get_mut(&session) else { return };
        told.due = false;
        if std::mem::replace(&mut told.state, state) == state {
            return;
        }
        let Some(found) = self.clients.sessions.at(session) else { return };
        let memberships = found.subscriptions.iter().filter_map(|held| match held {
            HeldSubscription::Shared(membership) => self.memberships.entries.at(*membership),
            HeldSubscription::Plain(_) => None,
        });
        let reports: Vec<ShareState> =
            memberships.map(|entry| ShareState { filter: entry.filter.clone(), number: entry.number, state }).collect();
        for report in reports {
            if let Some(at_home) = self.home_of(&report.filter) {
                self.send(at_home, MeshMessage::ShareState(Box::new(report)));
            }
        }
    }

    /// At home: a member joins, or its entry changes.
    pub(super) fn handle_share_join(&mut self, join: &ShareJoin) {
        let Some((name, filter)) = split(&join.filter) else { return };
        let joined = self.groups.join(name, filter, join.member);
        if joined.filter_is_new {
            // Who joins and publishes in one breath.
            self.last_topic.forget_reach();
            if self.shards > 1 {
                self.share_interest.add(&self.shared.share_interest, self.shared.key.filter(filter));
            }
        }
    }

    /// At home: a member leaves.
    pub(super) fn handle_share_leave(&mut self, leave: &ShareLeave) {
        let Some((name, filter)) = split(&leave.filter) else { return };
        let left = self.groups.leave(name, filter, leave.number);
        if self.shards > 1 && left.is_some_and(|left| left.filter_is_gone) {
            self.share_interest.remove(&self.shared.share_interest, self.shared.key.filter(filter));
        }
    }

    /// At home: a member has come or gone.
    pub(super) fn handle_share_state(&mut self, state: &ShareState) {
        let Some((name, filter)) = split(&state.filter) else { return };
        self.groups.update(name, filter, state.number, state.state);
    }

    /// At home: each of the groups that want it gets it once.
    pub(super) fn share_publish(
        &mut self,
        publication: &Publication<'_>,
        groups: &[GroupIdentifier],
        report: Taken,
        now: Moment,
    ) {
        for &group in groups {
            self.offer(group, publication, report, Vec::new(), None, now);
        }
    }

    /// At home: picks a member and gives or sends it the message. One that is at home here too gets it like any
    /// subscriber: nothing is kept of a message that is only passed on. `report`: whether the publisher waits, or, when the
    /// message was refused before, what it waits for.
    fn offer(
        &mut self,
        group: GroupIdentifier,
        publication: &Publication<'_>,
        report: Taken,
        refused: Vec<u64>,
        mut asleep: Option<Member>,
        now: Moment,
    ) {
        let Some(member) = self.groups.pick(group, &refused).or_else(|| asleep.take()) else {
            self.clients.counters.dropped_share_unserved += 1;
            // Nobody is going to keep it.
            return self.stand_in(report, |_| true);
        };
        let origin = ShareOrigin { group, home: self.index };
        let is_here = member.shard == self.index;
        let mut is_delivered = false;
        if is_here {
            self.stand_in(report, |shard| {
                is_delivered = shard.deliver_to_member(&member, origin, publication, now);
                is_delivered
            });
        }
        if is_delivered {
            return;
        }
        let message = ApplicationMessage::clone(publication.share());
        let taken = self.part_elsewhere(report);
        let delivery = ShareDelivery { home: self.index, group, member, refused, asleep, taken, message };
        if is_here {
            self.refuse_share_delivery(delivery);
        } else {
            self.send(member.shard, MeshMessage::ShareDeliver(Box::new(delivery)));
        }
    }

    /// At the member's home: delivers, or refuses.
    pub(super) fn handle_share_delivery(&mut self, delivery: ShareDelivery, now: Moment) {
        let origin = ShareOrigin { group: delivery.group, home: delivery.home };
        let message = Rc::new(delivery.message.clone());
        let group = delivery.taken.group(delivery.home);
        if let Some(group) = group {
            self.clients.durable.journal.begin_part(group);
        }
        let is_delivered = self.deliver_to_member(&delivery.member, origin, &Publication::of(&message), now);
        if is_delivered {
            self.clients.durable.journal.end_part(true, 0);
        } else {
            // Whoever takes it in the end adds that part.
            self.clients.durable.journal.drop_part();
            self.refuse_share_delivery(delivery);
        }
    }

    /// At home: does `deliver` for a message that a member elsewhere had refused. When that settles the matter it is the part
    /// of the group that the member was to add.
    fn stand_in(&mut self, report: Taken, deliver: impl FnOnce(&mut Self) -> bool) {
        let group = report.group(self.index);
        if let Some(group) = group {
            self.clients.durable.journal.begin_part(group);
        }
        let is_settled = deliver(self);
        match group {
            Some(_) if is_settled => self.clients.durable.journal.end_part_of_other(),
            Some(_) => self.clients.durable.journal.drop_part(),
            None => {}
        }
    }

    /// What whoever takes a publication in the end does for it is committed before whoever waits for it hears that it was
    /// taken: how it travels to them.
    fn part_elsewhere(&mut self, report: Taken) -> Taken {
        if report.is_grouped() {
            return report;
        }
        if !report.is_awaited() || !self.clients.durable.journal.is_on() {
            return Taken::Ignore;
        }
        if self.clients.durable.group.is_some() {
            return self.together(report);
        }
        let journal = &mut self.clients.durable.journal;
        let group = journal.new_group();
        journal.begin_part(group);
        journal.end_part(true, 1);
        Taken::Together(group.number)
    }

    /// At the member's home: returns whether the message is done with.
    fn deliver_to_member(
        &mut self,
        member: &Member,
        origin: ShareOrigin,
        publication: &Publication<'_>,
        now: Moment,
    ) -> bool {
        let session = self.session_of_member(member);
        let delivered =
            session.map_or(Delivered::Gone, |session| self.deliver_shared(session, member, origin, publication, now));
        // What is sent at QoS 0 fills no queue.
        let may_wait = publication.envelope.qos != QoS::AtMostOnce && member.qos > 0;
        if let (Delivered::Yes, Some(session), true) = (delivered, session, may_wait) {
            self.note_share_state(session);
        }
        delivered == Delivered::Yes || (delivered == Delivered::Gone && planted(Bug::ShareRefusalDropped))
    }

    /// The session that a membership belongs to, while it lasts.
    fn session_of_member(&self, member: &Member) -> Option<u32> {
        let membership = self.memberships.entries.at(member.session)?;
        (membership.number == member.session_number).then_some(membership.session)
    }

    /// At the member's home: the message goes back to be offered to another one.
    fn refuse_share_delivery(&mut self, mut delivery: ShareDelivery) {
        let member = delivery.member;
        if !delivery.refused.contains(&member.session_number) {
            delivery.refused.push(member.session_number);
        }
        let would_queue = self
            .session_of_member(&member)
            .and_then(|session| self.clients.sessions.at(session))
            .is_some_and(|session| !session.is_online() && session.expiry_interval_s > 0);
        if would_queue && member.state == MemberState::Ready && !planted(Bug::SleepingMemberForgotten) {
            delivery.asleep = Some(Member { state: MemberState::Asleep, ..member });
        }
        if delivery.home == self.index {
            self.memberships.retry_later(delivery);
        } else {
            self.send(delivery.home, MeshMessage::ShareRefused(Box::new(delivery)));
        }
    }

    fn deliver_shared(
        &mut self,
        session: u32,
        member: &Member,
        origin: ShareOrigin,
        publication: &Publication<'_>,
        now: Moment,
    ) -> Delivered {
        // [v5 MQTT-4.8.2-3]
        let granted = QoS::from_bits(member.qos).unwrap_or_default();
        // A member that has just gone gives the message to one that is there; asleep it was picked for want of others.
        let is_online = self.clients.sessions.at(session).is_some_and(|session| session.is_online());
        if !is_online && member.state == MemberState::Ready {
            return Delivered::Gone;
        }
        // [v5 MQTT-3.3.4-5] A copy of its own, with the identifier of this subscription.
        let identifiers = [member.subscription_identifier];
        let order = Order {
            session,
            qos: publication.envelope.qos.min(granted),
            retain: publication.envelope.retain && member.options & 1 != 0,
            identifiers: if member.subscription_identifier == 0 { &[] } else { &identifiers },
            share: Some(origin),
        };
        self.deliver_one(publication, order, now)
    }

    /// Plain messages have taken the place of these in a queue that was full: other members get them.
    pub(super) fn return_displaced(&mut self) {
        if self.clients.displaced.is_empty() {
            return;
        }
        let displaced = std::mem::take(&mut self.clients.displaced);
        let stored = displaced.iter().filter_map(|displaced| displaced.stored);
        let removals = stored.map(|(session, settled)| Durable::end_of(session, settled)).collect();
        self.return_shared(displaced.into_iter().map(|Displaced { origin, message, .. }| (origin, message)), removals);
    }

    /// What share groups may give to others goes back to their homes. Where it was stored, `removals` take it out of the store,
    /// in one commit with what becomes of it: a crash finds it in its old queue or in a new one.
    pub(super) fn return_shared(
        &mut self,
        messages: impl Iterator<Item = (ShareOrigin, Rc<ApplicationMessage>)>,
        removals: Vec<Operation>,
    ) {
        let mut by_home: SmallVec<[Returned; 1]> = SmallVec::new();
        for (origin, message) in messages {
            let returned = (origin.group, ApplicationMessage::clone(&message));
            match by_home.iter_mut().find(|(at_home, _)| *at_home == origin.home) {
                Some((_, messages)) => messages.push(returned),
                None => by_home.push((origin.home, vec![returned])),
            }
        }
        let journal = &mut self.clients.durable.journal;
        let is_together = !by_home.is_empty() && !removals.is_empty() && !planted(Bug::ShareReturnedSplit);
        let group = is_together.then(|| journal.new_group());
        if let Some(group) = group {
            journal.begin_part(group);
        }
        removals.into_iter().for_each(|removal| journal.ask(removal));
        if group.is_some() {
            journal.end_part(true, by_home.len() as u16);
        }
        let taken = group.map_or(Taken::Ignore, |group| Taken::Together(group.number));
        for (at_home, messages) in by_home {
            self.send(at_home, MeshMessage::ShareReturned(taken, messages));
        }
    }

    /// At home: messages that a member elsewhere, or here, could not deliver. Others are picked in the turns that follow. Their
    /// publishers were answered.
    pub(super) fn take_back(&mut self, from: u16, taken: Taken, messages: Vec<(GroupIdentifier, ApplicationMessage)>) {
        let mut messages = messages.into_iter();
        let left = taken.group(from);
        let mut opened: SmallVec<[(Group, u16); 1]> = SmallVec::new();
        while messages.len() > 0 {
            let some = messages.by_ref().take(RETURNED_TOGETHER_MAX);
            let group = left.map(|_| self.clients.durable.journal.new_group());
            opened.extend(group.map(|group| (group, some.len() as u16)));
            let taken = group.map_or(Taken::Ignore, |group| Taken::Together(group.number));
            let unserved = |(group, message)| Unserved { group, message, refused: Vec::new(), asleep: None, taken };
            self.memberships.retries.extend(some.map(unserved));
        }
        let Some(left) = left else { return };
        // The sender's group stands behind the first part and before the last part of each group that its messages settle in:
        // neither is committed without the other.
        let journal = &mut self.clients.durable.journal;
        for &(group, _) in &opened {
            journal.begin_part(group);
            journal.end_part(false, 0);
        }
        journal.begin_part(left);
        if from == self.index {
            journal.end_part_of_other();
        } else {
            journal.end_part(true, 0);
        }
        for (group, others) in opened {
            journal.begin_part(group);
            journal.end_part(true, others);
        }
    }

    /// At home: refused and returned messages go to another member, as long as the mesh and the turn have room.
    pub(super) fn run_share_retries(&mut self, now: Moment) {
        for _ in 0..self.memberships.retries.len().min(RETRIES_PER_TURN) {
            if self.effects.waiting(super::RANK_DELIVERY) > 0 {
                return;
            }
            let Some(unserved) = self.memberships.retries.pop_front() else { return };
            let message = Rc::new(unserved.message);
            let publication = Publication::of(&message);
            self.offer(unserved.group, &publication, unserved.taken, unserved.refused, unserved.asleep, now);
        }
    }
}

/// A home, and what goes back to its groups.
type Returned = (u16, Vec<(GroupIdentifier, ApplicationMessage)>);

/// With so many messages to homes waiting for room in the mesh, groups are told of no further session.
const REPORTS_WAITING_MAX: usize = 1024;

/// Returned messages whose parts one group gathers.
const RETURNED_TOGETHER_MAX: usize = 1024;

/// Messages that another member is picked for in one turn; the rest waits for the next.
const RETRIES_PER_TURN: usize = 1024;

/// Group name and filter of a `$share` filter.
fn split(filter: &str) -> Option<(&str, &str)> {
    let shared = TopicFilter::parse(filter).ok()?.shared()?;
    Some((shared.group, shared.filter.as_str()))
}
