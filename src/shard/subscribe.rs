//! SUBSCRIBE and UNSUBSCRIBE.
//!
//! Owns: what a subscription is granted, and the order of its steps: into the filter table, then the interest bit, then
//! SUBACK. So every shard knows of a subscription before its client is told that it stands.
//! Never: says SUBACK for a share group before the group's home has heard of the member.

use smallvec::SmallVec;

use crate::{
    message::Publication,
    mqtt::{
        EncodeWithin, PacketIdentifier, QoS, ReasonCode, ReasonCodes, SubAck, Subscribe, SubscriptionOptions,
        TopicFilter, UnsubAck, Unsubscribe,
    },
    plant::{Bug, planted},
    routing::{FilterHash, FilterIndex, Matches, Prefixes},
    runtime::ConnectionId,
    session::{Answer, HeldSubscription, RetainedRequest},
    shard::{
        Shard, Subscription, SubscriptionBits,
        connections::Flags,
        fan_out::wants_retained,
        ledger::{AnswerReference, Wait},
        packets::Reader,
    },
    time::Moment,
};

/// What one entry of a SUBSCRIBE came to.
struct Subscribed {
    reason: ReasonCode,
    /// The home of a share group that has yet to hear of it.
    wait: Option<Wait>,
    /// Whether retained messages are to be sent.
    asks: bool,
}

impl Shard {
    /// [v3 MQTT-3.8.4-1] [v5 MQTT-3.8.4-1]
    pub(super) fn on_subscribe(&mut self, id: ConnectionId, subscribe: &Subscribe<'_>) {
        let Some(session) = self.session_of(id) else { return };
        let identifier = subscribe.subscription_identifier.map_or(0, |identifier| identifier.get());
        let is_bridge =
            self.clients.connections.open_mut(id).is_some_and(|connection| connection.flags.any(Flags::BRIDGE));
        // The identifier belongs to a QoS 2 exchange that the client has not completed.
        let in_use = self.is_received(id, subscribe.packet_identifier);
        let mut reasons = Vec::with_capacity(subscribe.filters_len());
        let mut waits = Vec::new();
        let mut requests = Vec::new();
        // [v3 MQTT-3.8.4-4] [v5 MQTT-3.8.4-5] One after the other, as if each had come alone.
        for (filter, mut options) in subscribe.filters() {
            // A bridge of mosquitto gets nothing back that it sent, and RETAIN as it was published.
            options.no_local |= is_bridge;
            options.retain_as_published |= is_bridge;
            let subscribed = match filter {
                _ if in_use => Subscribed { reason: ReasonCode::PacketIdentifierInUse, wait: None, asks: false },
                Ok(filter) => self.subscribe_one(session, filter, options, identifier),
                Err(_) => Subscribed { reason: ReasonCode::TopicFilterInvalid, wait: None, asks: false },
            };
            // [v3 MQTT-3.8.4-5] [v5 MQTT-3.8.4-6] [v5 MQTT-3.8.4-7] [v3 MQTT-3.9.3-1] [v5 MQTT-3.9.3-1]
            reasons.push(subscribed.reason);
            waits.extend(subscribed.wait);
            if let (true, Ok(filter)) = (subscribed.asks, filter) {
                let (filter, qos) = (filter.as_str().into(), self.granted(options.qos));
                requests.push(RetainedRequest { filter, qos, subscription_identifier: identifier });
            }
        }
        // [v3 MQTT-3.3.1-6] They are asked for once SUBACK has left.
        let answer = Answer::SubAck(subscribe.packet_identifier, reasons.into(), requests);
        let durability = self.durability_of(id);
        if let Some(number) = self.owe(id, answer, waits.len() as u32) {
            for wait in waits {
                self.ledger.wait(wait, durability, AnswerReference { connection: id, number });
            }
        }
    }

    /// One filter of a SUBSCRIBE.
    fn subscribe_one(
        &mut self,
        session: u32,
        filter: TopicFilter<'_>,
        options: SubscriptionOptions,
        identifier: u32,
    ) -> Subscribed {
        let refused = |reason| Subscribed { reason, wait: None, asks: false };
        if let Err(reason) = self.check_filter(session, &filter) {
            return refused(reason);
        }
        let is_held = self.is_subscribed(session, &filter);
        if let Some(reason) = self.store_refuses_subscription(session, is_held) {
            return refused(reason);
        }
        let qos = self.granted(options.qos);
        let granted = ReasonCode::granted(qos);
        if let Some(shared) = filter.shared() {
            let wait = self.join_group(session, &filter, &shared, qos, identifier, options.retain_as_published);
            let bits = SubscriptionBits::new(qos, options.no_local, options.retain_as_published);
            self.keep_subscription(session, filter.as_str(), bits, identifier);
            // Shared subscriptions get no retained messages.
            return Subscribed { reason: granted, wait, asks: false };
        }
        let bits = SubscriptionBits::new(qos, options.no_local, options.retain_as_published);
        let is_new = self.insert_subscription(session, &filter, bits, identifier);
        self.keep_subscription(session, filter.as_str(), bits, identifier);
        Subscribed { reason: granted, wait: None, asks: wants_retained(options.retain_handling, is_new) }
    }

    /// Puts a subscription into the filter table, and its filter into the table of interest. Returns whether it is new.
    pub(super) fn insert_subscription(
        &mut self,
        session: u32,
        filter: &TopicFilter<'_>,
        options: SubscriptionBits,
        identifier: u32,
    ) -> bool {
        let subscription = Subscription { session, identifier, options };
        // [v3 MQTT-3.8.4-3] [v5 MQTT-3.8.4-3] One with the same filter is replaced, and no message is lost by it.
        let inserted = self.filters.insert(filter.as_str(), subscription);
        if inserted.filter_is_new {
            if planted(Bug::InterestBitLate) {
                self.late_interest[1].push(filter.as_str().into());
            } else {
                self.add_interest(filter.as_str());
            }
        }
        let is_new = inserted.replaced.is_none();
        if is_new && let Some(session) = self.clients.sessions.at_mut(session) {
            session.subscriptions.push(HeldSubscription::Plain(inserted.filter));
        }
        is_new
    }

    /// Whether the configuration lets a client subscribe to this.
    fn check_filter(&self, session: u32, filter: &TopicFilter<'_>) -> Result<(), ReasonCode> {
        let limits = &self.config.mqtt;
        if filter.as_str().len() > limits.topic_bytes_max as usize
            || filter.levels().count() > limits.topic_levels_max as usize
        {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        // [v3 MQTT-3.8.3-2]
        if !limits.wildcard_available && filter.has_wildcard() {
            return Err(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        if !limits.shared_available && filter.shared().is_some() {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        let held = self.clients.sessions.at(session).map_or(0, |session| session.subscriptions.len());
        if held >= limits.filters_per_client_max as usize && !self.is_subscribed(session, filter) {
            return Err(ReasonCode::QuotaExceeded);
        }
        Ok(())
    }

    fn is_subscribed(&self, session: u32, filter: &TopicFilter<'_>) -> bool {
        match filter.shared() {
            Some(_) => self.memberships.find(session, filter.as_str()).is_some(),
            None => self.filters.find(filter.as_str(), &session).is_some(),
        }
    }

    /// [v3 MQTT-3.8.4-6] [v5 MQTT-3.8.4-8] [v5 MQTT-3.2.2-10]
    fn granted(&self, asked: QoS) -> QoS {
        asked.min(QoS::from_bits(self.config.mqtt.maximum_qos).unwrap_or(QoS::ExactlyOnce))
    }

    /// [v3 MQTT-3.10.4-5] [v5 MQTT-3.10.4-4]
    pub(super) fn on_unsubscribe(&mut self, id: ConnectionId, unsubscribe: &Unsubscribe<'_>) {
        let Some(session) = self.session_of(id) else { return };
        // [v3 MQTT-3.10.4-6] [v5 MQTT-3.10.4-6]
        let in_use = self.is_received(id, unsubscribe.packet_identifier);
        let reasons = unsubscribe.filters().map(|filter| match filter {
            _ if in_use => ReasonCode::PacketIdentifierInUse,
            Ok(filter) => self.unsubscribe_one(session, &filter),
            Err(_) => ReasonCode::TopicFilterInvalid,
        });
        let reasons: Box<[ReasonCode]> = reasons.collect();
        self.owe(id, Answer::UnsubAck(unsubscribe.packet_identifier, reasons), 0);
    }

    fn unsubscribe_one(&mut self, session: u32, filter: &TopicFilter<'_>) -> ReasonCode {
        // [v3 MQTT-3.10.4-1] [v5 MQTT-3.10.4-1] Character for character, `$share/NAME/` included.
        if filter.shared().is_some() {
            let Some(membership) = self.memberships.find(session, filter.as_str()) else {
                return ReasonCode::NoSubscriptionExisted;
            };
            self.release_held(session, HeldSubscription::Shared(membership));
            self.leave_group(membership);
            self.keep_unsubscription(session, filter.as_str());
            return ReasonCode::Success;
        }
        let Some(index) = self.filters.index_of(filter.as_str()) else { return ReasonCode::NoSubscriptionExisted };
        // [v3 MQTT-3.10.4-2] [v5 MQTT-3.10.4-2] [v3 MQTT-3.10.4-3] [v5 MQTT-3.10.4-3] What is in the outbox stays.
        let Some(removed) = self.filters.remove(filter.as_str(), &session) else {
            return ReasonCode::NoSubscriptionExisted;
        };
        if removed.filter_is_gone {
            self.remove_interest(self.shared.key.filter(filter.as_str()));
        }
        self.release_held(session, HeldSubscription::Plain(index));
        self.retained_talk.forget_filter(session, filter.as_str());
        self.keep_unsubscription(session, filter.as_str());
        ReasonCode::Success
    }

    fn release_held(&mut self, session: u32, held: HeldSubscription) {
        if let Some(session) = self.clients.sessions.at_mut(session)
            && let Some(position) = session.subscriptions.iter().position(|entry| *entry == held)
        {
            session.subscriptions.swap_remove(position);
        }
    }

    /// Takes a subscription of a session that has ended out of the filter table.
    pub(super) fn drop_subscription(&mut self, filter: FilterIndex, session: u32) {
        let hash = self.filters.filter_hash(filter);
        let Some(removed) = self.filters.remove_at(filter, &session) else { return };
        if let (true, Some(hash)) = (removed.filter_is_gone, hash) {
            self.remove_interest(hash);
        }
    }

    /// Other shards are to know of a filter that is new here. Where there are none nobody asks, and the table, which is too
    /// large for the caches, is left alone.
    pub(super) fn add_interest(&mut self, filter: &str) {
        if self.shards > 1 {
            self.interest.add(&self.shared.interest, self.shared.key.filter(filter));
        }
    }

    fn remove_interest(&mut self, filter: FilterHash) {
        if self.shards > 1 {
            self.interest.remove(&self.shared.interest, filter);
        }
    }

    /// Whether anyone here or on another shard wants `topic`, as far as can be told.
    pub(super) fn is_wanted(&self, topic: &str) -> bool {
        let mut prefixes = Prefixes::new();
        let shared = &self.shared;
        if self.shards == 1 {
            let hash = shared.key.topic_with_prefixes(topic, 0, &mut prefixes).whole;
            let (mut found, mut groups) = (Matches::new(), SmallVec::new());
            self.filters.matches(topic, hash, &mut found);
            if found.is_empty() && !self.groups.is_empty() {
                self.groups.matches(topic, hash, None, &mut groups);
            }
            return !(found.is_empty() && groups.is_empty());
        }
        let depth_mask = shared.interest.depth_mask() | shared.share_interest.depth_mask();
        let hash = shared.key.topic_with_prefixes(topic, depth_mask, &mut prefixes);
        shared.interest.probe(hash, &prefixes) | shared.share_interest.probe(hash, &prefixes) != 0
    }

    /// Delivers one message to one session outside of a fan-out: a retained one, or one for a share group.
    pub(super) fn deliver_one(
        &mut self,
        publication: &Publication<'_>,
        order: super::clients::Order<'_>,
        now: Moment,
    ) -> super::clients::Delivered {
        let Shard { clients, fan_out, .. } = self;
        fan_out.frames.begin(publication, 1, now);
        clients.deliver(publication, &mut fan_out.frames, order, now)
    }
}

/// Writes SUBACK. Returns whether it could be said: 3.1 knows no refusal, and a client may take no packet of this size.
pub(super) fn write_suback(
    reader: Reader,
    identifier: PacketIdentifier,
    reasons: &[ReasonCode],
    out: &mut Vec<u8>,
) -> bool {
    let refused = reasons.iter().find(|reason| reason.is_error());
    // [v3 MQTT-3.8.4-2] [v5 MQTT-3.8.4-2] [v3 MQTT-2.3.1-7] [v5 MQTT-2.2.1-6]
    let mut suback = SubAck::new(identifier, ReasonCodes::new(reasons));
    // [v5 MQTT-3.1.2-29]
    suback.reason_string = refused.filter(|_| reader.wants_problem_information).map(|reason| reason.name());
    suback.encode_within(reader.version, reader.packet_bytes_max, out)
}

/// Writes UNSUBACK.
pub(super) fn write_unsuback(
    reader: Reader,
    identifier: PacketIdentifier,
    reasons: &[ReasonCode],
    out: &mut Vec<u8>,
) -> bool {
    // [v3 MQTT-3.10.4-4] [v5 MQTT-3.10.4-5] [v5 MQTT-3.11.3-1]
    let unsuback = UnsubAck::new(identifier, ReasonCodes::new(reasons));
    unsuback.encode_within(reader.version, reader.packet_bytes_max, out)
}
