//! A client's PUBLISH, and where a publication goes from here.
//!
//! Owns: the checks of PUBLISH, and the routing of what the broker takes over: to subscribers here, to shards that are
//! interested, to homes of share groups, to the home of its retained message.
//! Always: publications of one client leave in its order [v3 MQTT-4.6.0-5] [v3 MQTT-4.6.0-6] [v5 MQTT-4.6.0-5]
//! [v5 MQTT-4.6.0-6]; an acknowledgement waits until every shard that got the message has taken it.
//! Never: allocates for a QoS 0 message that only passes through to clients of this shard.

use std::time::Duration;

use smallvec::SmallVec;

use crate::{
    config::Durability,
    message::{ApplicationMessage, Envelope, Origin, Publication, Stamp},
    mqtt::{PacketIdentifier, PayloadFormatIndicator, Publish, QoS, ReasonCode},
    plant::{Bug, planted},
    routing::{InterestTable, Reach, TopicHash, home},
    runtime::ConnectionId,
    session::{AliasError, Answer, UNKNOWN_MESSAGE, fingerprint},
    shard::{
        RANK_DELIVERY, RANK_HOME, Shard,
        connections::Flags,
        durable::OpenGroup,
        exchange::{MeshMessage, Taken},
        fan_out::Source,
        ledger::{AnswerReference, Wait},
        parcel::Parcel,
    },
    store::{Operation, ReceivedRecord},
    time::Moment,
};

/// What routing a publication left behind.
#[derive(Debug, Default)]
pub(super) struct Routed {
    /// Whether anyone wanted it, as far as can be told here.
    pub matched: bool,
    /// Other shards that have yet to take it.
    pub waits: SmallVec<[Wait; 4]>,
    /// Whether a subscription here matched.
    pub here: bool,
    /// Whether its fan-out here goes on as a job.
    pub job: bool,
    /// Why it was not retained, when it was to be and the home of its topic is here.
    pub refused: Option<ReasonCode>,
}

impl Shard {
    /// A client's PUBLISH.
    pub(super) fn on_publish(&mut self, id: ConnectionId, publish: &Publish<'_>, now: Moment) {
        self.clients.counters.publishes_received[usize::from(publish.qos.value())] += 1;
        let mut aliased = None;
        if publish.properties.topic_alias.is_some() || publish.topic.is_empty() {
            match self.resolve_alias(id, publish) {
                Ok(topic) => aliased = topic,
                Err(reason) => return self.refuse(id, reason, now),
            }
        }
        let topic = aliased.as_deref().unwrap_or(publish.topic);
        if let Err(reason) = self.check_publish(publish, topic) {
            return self.reject_publish(id, publish, reason, now);
        }
        let Some(identifier) = publish.packet_identifier else {
            return self.take_over_publish(id, publish, topic, None, now);
        };
        // [v5 MQTT-4.9.0-3] Only PUBLISHes are counted; everything else is handled at any time.
        // [v5 MQTT-4.3.2-5] Nothing is remembered of an identifier of QoS 1, so it is a new message each time.
        let mut is_open = self.is_received(id, identifier);
        if is_open && self.is_new_under(id, identifier, publish, topic) {
            self.release_received(id, identifier);
            is_open = false;
        }
        if is_open && publish.qos == QoS::ExactlyOnce {
            return self.answer_duplicate(id, publish, topic, identifier, now);
        }
        if is_open {
            return self.reject_publish(id, publish, Rejection::Publish(ReasonCode::PacketIdentifierInUse), now);
        }
        if self.version_of(id).is_some_and(|version| version.has_properties()) && self.receive_maximum_is_reached(id) {
            return self.refuse(id, ReasonCode::ReceiveMaximumExceeded, now);
        }
        // One that came before was answered above: only what is new is refused.
        if self.clients.queues.refuse_publishers() {
            self.clients.counters.publishes_refused_full += 1;
            return self.reject_publish(id, publish, Rejection::NotTaken(ReasonCode::QuotaExceeded), now);
        }
        if let Some(reason) = self.store_refuses_publish(publish.retain) {
            return self.reject_publish(id, publish, Rejection::NotTaken(reason), now);
        }
        self.take_over_publish(id, publish, topic, Some(identifier), now);
    }

    /// A QoS 2 PUBLISH that came before is not delivered again [v5 MQTT-4.3.3-10]; it is answered, once.
    fn answer_duplicate(
        &mut self,
        id: ConnectionId,
        publish: &Publish<'_>,
        topic: &str,
        identifier: PacketIdentifier,
        now: Moment,
    ) {
        if planted(Bug::Qos2DuplicateDelivered) {
            return self.take_over_publish(id, publish, topic, Some(identifier), now);
        }
        let Some(connection) = self.clients.connections.open_mut(id) else { return };
        let owed = connection.inbound.as_ref().is_some_and(|inbound| inbound.acknowledgements.owes_pubrec(identifier));
        if !owed {
            self.owe(id, Answer::PubRec(identifier, ReasonCode::Success), 0);
        }
    }

    /// The topic behind an alias, or the alias set to the topic.
    fn resolve_alias(&mut self, id: ConnectionId, publish: &Publish<'_>) -> Result<Option<Box<str>>, ReasonCode> {
        let maximum = self.config.mqtt.topic_alias_max;
        let Some(alias) = publish.properties.topic_alias else { return Err(ReasonCode::ProtocolError) };
        let Some(connection) = self.clients.connections.open_mut(id) else { return Ok(None) };
        let aliases = &mut connection.inbound_mut().aliases;
        let resolved = if publish.topic.is_empty() {
            aliases.topic(alias, maximum).map(|topic| Some(topic.into()))
        } else {
            aliases.set(alias, publish.topic, maximum).map(|()| None)
        };
        resolved.map_err(|error| match error {
            AliasError::Invalid => ReasonCode::TopicAliasInvalid,
            AliasError::Unknown => ReasonCode::ProtocolError,
        })
    }

    /// Whether the configuration lets a client publish this.
    pub(super) fn check_publish(&self, publish: &Publish<'_>, topic: &str) -> Result<(), Rejection> {
        let limits = &self.config.mqtt;
        if publish.qos.value() > limits.maximum_qos {
            return Err(Rejection::Connection(ReasonCode::QoSNotSupported));
        }
        if publish.retain && !limits.retained_available {
            return Err(Rejection::Connection(ReasonCode::RetainNotSupported));
        }
        // `$SYS` is the broker's own; other topics with `$` are the clients'.
        if topic.starts_with("$SYS/") {
            return Err(Rejection::Publish(ReasonCode::NotAuthorized));
        }
        let (bytes_max, levels_max) = (limits.topic_bytes_max as usize, limits.topic_levels_max as usize);
        // A text with fewer bytes than levels are allowed need not be counted, which is almost every topic.
        let has_too_many_levels = || memchr::memchr_iter(b'/', topic.as_bytes()).take(levels_max).count() >= levels_max;
        if topic.len() > bytes_max || (topic.len() >= levels_max && has_too_many_levels()) {
            return Err(Rejection::Topic(ReasonCode::TopicNameInvalid));
        }
        if limits.payload_format_check
            && publish.properties.payload_format_indicator == Some(PayloadFormatIndicator::Utf8)
            && std::str::from_utf8(publish.payload).is_err()
        {
            return Err(Rejection::Publish(ReasonCode::PayloadFormatInvalid));
        }
        Ok(())
    }

    /// A PUBLISH that is not taken over: a v5 client of QoS 1 or 2 is told in the acknowledgement, at QoS 0 it is
    /// dropped; a 3.x client is acknowledged all the same where nothing is wrong with the protocol, since its version
    /// has no words for it [v3 MQTT-3.3.5-2].
    fn reject_publish(&mut self, id: ConnectionId, publish: &Publish<'_>, rejection: Rejection, now: Moment) {
        let is_v5 = self.version_of(id).is_some_and(|version| version.has_properties());
        let reason = match rejection {
            Rejection::Topic(reason) if is_v5 => reason,
            Rejection::Connection(reason) | Rejection::Topic(reason) => return self.refuse(id, reason, now),
            // It does nothing wrong, but an acknowledgement would say that its message is taken care of.
            Rejection::NotTaken(reason) if !is_v5 => return self.disconnect(id, reason, now),
            Rejection::Publish(reason) | Rejection::NotTaken(reason) => reason,
        };
        let reason = if is_v5 { reason } else { ReasonCode::Success };
        match (publish.qos, publish.packet_identifier) {
            (QoS::AtLeastOnce, Some(identifier)) => {
                self.owe(id, Answer::PubAck(identifier, reason), 0);
            }
            (QoS::ExactlyOnce, Some(identifier)) => {
                if !reason.is_error() {
                    self.receive(id, identifier, publish.topic, publish.payload);
                }
                // [v5 MQTT-4.3.3-9] A refused identifier is free again.
                self.owe(id, Answer::PubRec(identifier, reason), 0);
            }
            _ => {}
        }
    }

    /// Takes a PUBLISH over: from here on it is the broker's.
    fn take_over_publish(
        &mut self,
        id: ConnectionId,
        publish: &Publish<'_>,
        topic: &str,
        identifier: Option<PacketIdentifier>,
        now: Moment,
    ) {
        let mut properties = std::mem::take(&mut self.scratch);
        properties.clear();
        // [v5 MQTT-3.3.2-4] [v5 MQTT-3.3.2-15] [v5 MQTT-3.3.2-16] [v5 MQTT-3.3.2-17] [v5 MQTT-3.3.2-18] [v5 MQTT-3.3.2-20]
        publish.properties.write_forwarded(&mut properties);
        let envelope = self.envelope(publish.qos, publish.retain, publish.properties.message_expiry_interval, now);
        let packet = self.packet.take();
        let publication = Publication::new(topic, &properties, publish.payload, envelope).in_packet(packet.as_ref());
        let publisher = self.session_of(id);
        let is_durable = publish.qos == QoS::ExactlyOnce && self.begin_group(publisher);
        if publish.qos == QoS::ExactlyOnce
            && let Some(identifier) = identifier
        {
            self.receive(id, identifier, topic, publish.payload);
        }
        let report = if identifier.is_some() { Taken::Report } else { Taken::Ignore };
        let source = Source::Connection { id, session: publisher };
        let routed = self.route(publication, source, report, now);
        self.scratch = properties;
        if is_durable {
            self.end_group(routed.job);
        }
        if let Some(identifier) = identifier {
            self.owe_publish(id, publish.qos, identifier, &routed);
        }
        if routed.job {
            self.start_waiting(id, Flags::WAITS_FOR_JOB, true);
        }
        self.wait_for_mesh(id);
    }

    /// Has a publisher wait when too much waits for room in the mesh. Returns whether it does.
    pub(super) fn wait_for_mesh(&mut self, id: ConnectionId) -> bool {
        let pauses_for_queue = planted(Bug::PauseForFullQueue) && self.own_queue_is_full(id);
        let waits = self.waits_for_mesh() > MESH_WAITING_MAX || pauses_for_queue;
        if waits {
            self.clients.counters.paused_for_mesh += 1;
            self.start_waiting(id, Flags::WAITS_FOR_MESH, true);
            self.waiting_for_mesh.push(id);
        }
        waits
    }

    /// Messages that wait for room in the mesh.
    fn waits_for_mesh(&self) -> usize {
        self.effects.waiting(RANK_HOME) + self.effects.waiting(RANK_DELIVERY)
    }

    /// Whether the publisher's own session has no room for what it publishes: only asked with a planted bug.
    pub(super) fn own_queue_is_full(&mut self, id: ConnectionId) -> bool {
        let queue_messages_max = self.config.mqtt.queue_messages_max as usize;
        let session = self.session_of(id).and_then(|session| self.clients.sessions.at(session));
        session.and_then(|session| session.outbox.as_ref()).is_some_and(|outbox| outbox.queued() >= queue_messages_max)
    }

    /// Owes PUBACK or PUBREC until everyone has taken the message.
    fn owe_publish(&mut self, id: ConnectionId, qos: QoS, identifier: PacketIdentifier, routed: &Routed) {
        // [v5 MQTT-3.4.2-1] [v5 MQTT-3.5.2-1] Said only when it is certain.
        let has_words = self.version_of(id).is_some_and(|version| version.has_properties());
        let reason = match routed.refused {
            _ if !has_words => ReasonCode::Success,
            Some(reason) => reason,
            None if routed.matched => ReasonCode::Success,
            None => ReasonCode::NoMatchingSubscribers,
        };
        let answer = match qos {
            QoS::ExactlyOnce => Answer::PubRec(identifier, reason),
            _ => Answer::PubAck(identifier, reason),
        };
        let waiting = if planted(Bug::AckBeforeTaken) { 0 } else { routed.waits.len() as u32 + u32::from(routed.job) };
        let Some(number) = self.owe(id, answer, waiting) else { return };
        let reference = AnswerReference { connection: id, number };
        let durability = self.durability_of(id);
        if waiting > 0 {
            for wait in &routed.waits {
                self.ledger.wait(*wait, durability, reference);
            }
            if routed.job
                && let Some(job) = self.jobs.back_mut()
            {
                job.answer = Some(reference);
            }
        }
        let is_v5 = self.version_of(id).is_some_and(|version| version.has_properties());
        if !is_v5 && self.receive_window_is_full(id) {
            self.start_waiting(id, Flags::WAITS_FOR_ACKNOWLEDGEMENTS, true);
        }
    }

    /// What travels with a publication that is taken over now. `None` as its expiry means the configured one.
    pub(super) fn envelope(
        &mut self,
        qos: QoS,
        retain: bool,
        message_expiry_interval_s: Option<u32>,
        now: Moment,
    ) -> Envelope {
        let longest = self.config.mqtt.message_expiry_max;
        let asked = message_expiry_interval_s.map_or(Duration::MAX, |seconds| Duration::from_secs(seconds.into()));
        let life = asked.min(longest);
        Envelope {
            qos,
            retain,
            expires_at: if life == Duration::MAX { Moment::NEVER } else { now.after(life) },
            topic_hash: 0,
            stamp: if retain { self.next_stamp(now) } else { Stamp::default() },
            origin: Origin { shard: self.index, hops: 0 },
        }
    }

    /// Sends a publication wherever it belongs.
    pub(super) fn route(
        &mut self,
        mut publication: Publication<'_>,
        source: Source,
        report: Taken,
        now: Moment,
    ) -> Routed {
        let mut routed = Routed::default();
        let (hash, reach) = self.reach_of(publication.topic, source);
        publication.envelope.topic_hash = hash.whole;
        if publication.envelope.retain {
            self.send_retain(&publication, hash, report, &mut routed, now);
        }
        self.send_interested(&publication, reach.interested, report, &mut routed);
        self.send_shared(&publication, reach.shared, report, &mut routed, now);
        let here = self.fan_out_here(&publication, source, report, now);
        routed.matched |= here.matched;
        (routed.here, routed.job) = (here.matched, here.job);
        if !routed.matched {
            self.clients.counters.publishes_unmatched += 1;
        }
        routed
    }

    /// The hash of a topic, and which shards it concerns.
    fn reach_of(&mut self, topic: &str, source: Source) -> (TopicHash, Reach) {
        // Borrowed, never cloned: all cores would write to that reference count with each publication.
        let shared = &*self.shared;
        if self.shards == 1 {
            // Without a look into tables that are too large for the caches.
            let hash = self.last_topic.note(&shared.key, topic, 0);
            return (hash, Reach { interested: 0, shared: u64::from(!self.groups.is_empty()) });
        }
        if matches!(source, Source::Connection { .. })
            && let Some(known) = self.last_topic.note_again(topic)
        {
            return known;
        }
        let depth_mask = shared.interest.depth_mask() | shared.share_interest.depth_mask();
        let hash = self.last_topic.note(&shared.key, topic, depth_mask);
        let prefixes = self.last_topic.prefixes();
        let reach = Reach {
            interested: shared.interest.probe(hash, prefixes),
            shared: shared.share_interest.probe(hash, prefixes),
        };
        self.last_topic.set_reach(reach);
        (hash, reach)
    }

    /// To the shards that may have a subscriber.
    fn send_interested(&mut self, publication: &Publication<'_>, mask: u64, report: Taken, routed: &mut Routed) {
        let me = self.index;
        for shard in shards_of(mask, self.shards).filter(|&shard| shard != me) {
            routed.matched = true;
            let report = self.together(report);
            // What is committed together with its identifier travels alone.
            if report.is_grouped() || !Parcel::takes(publication) {
                let message = ApplicationMessage::clone(publication.share());
                self.forward(shard, MeshMessage::Deliver(report, message), routed);
                continue;
            }
            let wait = self.ledger.count_sent(shard, RANK_DELIVERY, 1);
            if report.is_awaited() {
                routed.waits.push(wait);
            }
            let Shard { effects, parcels, .. } = self;
            effects.send_copy(shard, publication, report, || parcels.empty());
        }
    }

    /// Sends publications of QoS 0 after one that was routed just now, concerned nobody here, and is like them but for its
    /// payload; theirs are as long. As many of `payloads` are taken as may be, `count` at most. Returns how many that are: none
    /// when they have to be routed one by one.
    #[inline(never)]
    pub(super) fn send_alike<'a, P: Iterator<Item = &'a [u8]> + Clone>(
        &mut self,
        mut publication: Publication<'_>,
        payloads: &mut P,
        count: usize,
    ) -> usize {
        debug_assert!(publication.envelope.qos == QoS::AtMostOnce && !publication.envelope.retain);
        let Some((hash, reach)) = self.last_topic.note_again(publication.topic) else { return 0 };
        if reach.shared != 0 || !Parcel::takes(&publication) {
            return 0;
        }
        publication.envelope.topic_hash = hash.whole;
        let me = self.index;
        let mut others = shards_of(reach.interested, self.shards).filter(|&shard| shard != me);
        let Some(last) = others.next() else { return 0 };
        let room = MESH_WAITING_MAX.saturating_sub(self.waits_for_mesh());
        let count = count.min(room / (1 + others.clone().count()));
        let Shard { effects, parcels, ledger, .. } = self;
        let mut send = |shard, payloads: &mut P| {
            let sent =
                effects.send_copies(shard, &publication, Taken::Ignore, payloads.take(count), || parcels.empty());
            ledger.count_sent(shard, RANK_DELIVERY, sent as u64);
            sent
        };
        others.for_each(|shard| _ = send(shard, &mut payloads.clone()));
        send(last, payloads)
    }

    /// The same for publications that concern share groups whose home is here, and nobody else.
    #[inline(never)]
    pub(super) fn share_alike<'a>(
        &mut self,
        publication: Publication<'_>,
        payloads: &mut impl Iterator<Item = &'a [u8]>,
        count: usize,
        now: Moment,
    ) -> usize {
        let Publication { topic, properties, mut envelope, .. } = publication;
        let known = match self.shards {
            1 => Some((self.last_topic.note(&self.shared.key, topic, 0), Reach { interested: 0, shared: 1 })),
            _ => self.last_topic.note_again(topic),
        };
        let Some((hash, reach)) = known else { return 0 };
        let concerns_others = |mask| shards_of(mask, self.shards).any(|shard| shard != self.index);
        if reach.shared == 0 || concerns_others(reach.interested | reach.shared) {
            return 0;
        }
        envelope.topic_hash = hash.whole;
        let mut groups = SmallVec::new();
        self.groups.matches(topic, hash.whole, self.last_topic.share_filters(), &mut groups);
        let mut shared = 0;
        for payload in payloads.take(count) {
            let publication = Publication::new(topic, properties, payload, envelope);
            self.share_publish(&publication, &groups, Taken::Ignore, now);
            shared += 1;
            if self.waits_for_mesh() > MESH_WAITING_MAX {
                break;
            }
        }
        shared
    }

    /// To the homes of share groups that may want it.
    fn send_shared(
        &mut self,
        publication: &Publication<'_>,
        mask: u64,
        report: Taken,
        routed: &mut Routed,
        now: Moment,
    ) {
        for shard in shards_of(mask, self.shards) {
            if shard == self.index {
                let (known, mut groups) = (self.last_topic.share_filters(), SmallVec::new());
                self.groups.matches(publication.topic, publication.envelope.topic_hash, known, &mut groups);
                routed.matched |= !groups.is_empty();
                self.share_publish(publication, &groups, report, now);
                continue;
            }
            routed.matched = true;
            let message = ApplicationMessage::clone(publication.share());
            self.forward(shard, MeshMessage::SharePublish(report, message), routed);
        }
    }

    /// To the home of its topic, to be retained there.
    fn send_retain(
        &mut self,
        publication: &Publication<'_>,
        hash: TopicHash,
        report: Taken,
        routed: &mut Routed,
        now: Moment,
    ) {
        // [v3 MQTT-3.3.1-5] [v5 MQTT-3.3.1-5] [v3 MQTT-3.3.1-12] [v5 MQTT-3.3.1-8]
        let at_home = home(hash.whole, usize::from(self.shards)) as u16;
        if at_home == self.index {
            routed.refused = self.retain(publication, now).err();
            return;
        }
        let report = self.together(report);
        let message = ApplicationMessage::clone(publication.share());
        self.forward(at_home, MeshMessage::Retain(report, message), routed);
    }

    /// Sends a part of a publication to another shard; its acknowledgement waits for it where that was asked for.
    fn forward(&mut self, to: u16, message: MeshMessage, routed: &mut Routed) {
        let wait = self.ledger.count_sent(to, message.rank(), 1);
        if message.wants_report() {
            routed.waits.push(wait);
        }
        self.effects.send(to, message);
    }

    /// A QoS 2 publication of a durable session, or its Will, begins: what it changes on all shards is committed together with its
    /// identifier. Returns whether that is so.
    pub(super) fn begin_group(&mut self, publisher: Option<u32>) -> bool {
        let session = publisher.and_then(|session| self.clients.sessions.at(session));
        if session.is_none_or(|session| session.kept.is_none()) {
            return false;
        }
        let durable = &mut self.clients.durable;
        let group = durable.journal.new_group();
        durable.journal.begin_part(group);
        durable.group = Some(OpenGroup { group, others: 0 });
        true
    }

    /// How a part of the publication travels: with its group, when it has one.
    pub(super) fn together(&mut self, report: Taken) -> Taken {
        match &mut self.clients.durable.group {
            Some(open) if report == Taken::Report => {
                open.others += 1;
                Taken::Together(open.group.number)
            }
            _ => report,
        }
    }

    /// The publication has been routed. `job`: its fan-out here goes on.
    pub(super) fn end_group(&mut self, job: bool) {
        let Some(open) = self.clients.durable.group.take() else { return };
        if open.others == 0 && !job {
            // It is all in one batch, which is whole anyway.
            return self.clients.durable.journal.drop_part();
        }
        self.clients.durable.journal.end_part(!job, open.others);
        if let (true, Some(job)) = (job, self.jobs.back_mut()) {
            job.group = Some(open);
        }
    }

    /// Publishes a message of the broker itself. Returns whether its fan-out here goes on as a job.
    pub(super) fn publish_internal(
        &mut self,
        message: &ApplicationMessage,
        envelope: Envelope,
        report: Taken,
        now: Moment,
    ) -> bool {
        let publication = Publication::new(message.topic(), message.properties(), message.payload(), envelope);
        self.route(publication, Source::Broker, report, now).job
    }

    /// What acknowledgements to a connection wait for.
    pub(super) fn durability_of(&mut self, id: ConnectionId) -> Durability {
        self.clients.connections.open_mut(id).map_or(Durability::Sync, |connection| connection.durability)
    }

    fn version_of(&mut self, id: ConnectionId) -> Option<crate::mqtt::ProtocolVersion> {
        self.clients.connections.open_mut(id).map(|connection| connection.version)
    }

    pub(super) fn is_received(&mut self, id: ConnectionId, identifier: PacketIdentifier) -> bool {
        self.session_of(id)
            .and_then(|session| self.clients.sessions.at(session))
            .and_then(|session| session.received.as_ref())
            .is_some_and(|received| received.contains(identifier))
    }

    /// Whether a PUBLISH under an identifier that is open is a new message: PUBREL had come, and its commit went with the
    /// machine. What came before would come with DUP [v3 MQTT-3.3.1-1] [v5 MQTT-3.3.1-1], and the same.
    fn is_new_under(
        &mut self,
        id: ConnectionId,
        identifier: PacketIdentifier,
        publish: &Publish<'_>,
        topic: &str,
    ) -> bool {
        let received = self
            .session_of(id)
            .and_then(|session| self.clients.sessions.at(session))
            .and_then(|session| session.received.as_ref());
        let Some(known) = received.and_then(|received| received.doubted(identifier)) else { return false };
        let is_another = || known != UNKNOWN_MESSAGE && known != fingerprint(topic, publish.payload);
        !publish.dup || publish.qos != QoS::ExactlyOnce || is_another()
    }

    fn receive(&mut self, id: ConnectionId, identifier: PacketIdentifier, topic: &str, payload: &[u8]) {
        let Some(connection) = self.clients.connections.open_mut(id) else { return };
        let Some(session) = self.clients.sessions.at_mut(connection.session) else { return };
        let is_new = session.received.get_or_insert_default().insert(identifier);
        if let (true, Some(number)) = (is_new, session.number()) {
            let fingerprint = fingerprint(topic, payload);
            let received = ReceivedRecord { identifier: identifier.value(), fingerprint, is_doubted: false };
            self.clients.durable.journal.ask(Operation::Received(number, received));
        }
        connection.received_here = connection.received_here.saturating_add(u16::from(is_new));
    }
}

/// Why a PUBLISH is not taken over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rejection {
    /// The connection ends with this reason.
    Connection(ReasonCode),
    /// As `Publish` for a v5 client; the connection of a 3.x client ends, since it could not be told.
    Topic(ReasonCode),
    /// The acknowledgement carries this reason; a QoS 0 message is dropped.
    Publish(ReasonCode),
    /// There is no room for what would have to wait, or the store cannot take it: as `Publish` for a v5 client; the connection
    /// of a 3.x client ends without an acknowledgement.
    NotTaken(ReasonCode),
}

/// The shards whose bits are set. A bit stands for every shard of its number modulo 64.
fn shards_of(mut mask: u64, shards: u16) -> impl Iterator<Item = u16> + Clone {
    let mut other_of_bit = None;
    std::iter::from_fn(move || {
        let shard = match other_of_bit {
            Some(shard) => shard,
            None if mask == 0 => return None,
            None => {
                let lowest = mask.trailing_zeros() as u16;
                mask &= mask - 1;
                lowest
            }
        };
        other_of_bit = shard.checked_add(InterestTable::BITS as u16).filter(|other| *other < shards);
        Some(shard)
    })
}

/// Messages that may wait for room in the mesh before publishers wait as well: what a turn adds on top is bounded by its
/// budget.
const MESH_WAITING_MAX: usize = 4096;
