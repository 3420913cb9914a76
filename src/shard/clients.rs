//! Sessions and connections together: how one delivery reaches one client.
//!
//! Owns: the sessions and connections of the shard, and what is written to a client.
//! Always: a QoS 1 or 2 delivery enters the session's outbox and is sent from there, in order, unless nothing goes before it and
//! nothing would send it again: then it is written at once, and the outbox knows only that it is in flight. A QoS 0 delivery is
//! written at once or dropped. What waits for a slow client is bounded by its out-buffer and its queue, and costs nobody
//! else anything [v3 MQTT-4.5.0-1] [v5 MQTT-4.5.0-1].
//! Never: waits. A full queue drops or disconnects as configured.

use std::{
    borrow::{Borrow, Cow},
    rc::Rc,
    time::Duration,
};

use ahash::AHashMap;

use crate::{
    config::{AllQueuesFull, Config, Durability, QueueFull, SlowSubscriber},
    message::{ApplicationMessage, Publication, SubscriptionIdentifiers},
    mqtt::{
        AckKind, PacketIdentifier, ProtocolVersion, PublishFlags, PublishHead, QoS, ReasonCode, ack::encode_success,
        publish,
    },
    routing::{ChunkedSlab, HashKey, SplitTable, home},
    runtime::ConnectionId,
    session::{Delivery, Dropped, Reached, Resend, SentAlias, SentAliases, Session, Settled, ShareOrigin},
    shard::{
        Shared,
        connections::{Connection, Connections, Flags},
        counters::Counters,
        durable::{Durable, Waiter},
        frames::{Admission, FrameKind, Frames, SHARED_PAYLOAD_BYTES_MIN},
        queues::{Queues, Waiting},
        reserve::may_hold,
    },
    store::{Journal, SliceRequest},
    sync::Arc,
    time::Moment,
    transport::OutBuffer,
};

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Written or queued.
    Yes,
    /// The client is away and its session keeps nothing of this kind.
    Offline,
    /// No room.
    Full,
    /// Larger than the client takes.
    TooLarge,
    /// There is no such session.
    Gone,
}

/// A delivery as a subscription asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// To this session.
    pub session: u32,
    /// With this QoS.
    pub qos: QoS,
    /// With this RETAIN flag.
    pub retain: bool,
    /// With these Subscription Identifiers.
    pub identifiers: &'a [u32],
    /// On behalf of this share group.
    pub share: Option<ShareOrigin>,
}

/// A message of a share group that a plain one has taken the place of in a full queue.
#[derive(Debug)]
pub struct Displaced {
    /// The group.
    pub origin: ShareOrigin,
    /// The message.
    pub message: Rc<ApplicationMessage>,
    /// What the store still holds of it, and in which session's queue.
    pub stored: Option<(u64, Settled)>,
}

/// The sessions and connections of a shard.
#[derive(Debug)]
pub struct Clients {
    /// The connections.
    pub connections: Connections,
    /// The sessions.
    pub sessions: ChunkedSlab<Session>,
    /// ClientId → session.
    by_client_id: SplitTable<u32>,
    key: HashKey,
    /// What is counted.
    pub counters: Counters,
    /// Connections to close at the end of the turn, with the reason.
    pub condemned: Vec<(ConnectionId, ReasonCode)>,
    /// Messages of share groups that were dropped from a full queue: other members may have them.
    pub displaced: Vec<Displaced>,
    /// The Topic Aliases that were sent, by slot, of connections that take some.
    pub sent_aliases: AHashMap<u32, SentAliases>,
    /// What the store is asked for.
    pub durable: Durable,
    /// What waits in all queues together.
    pub queues: Queues,
    /// The settings.
    pub config: Rc<Config>,
    next_generation: u32,
}

impl Clients {
    /// No clients yet.
    #[must_use]
    pub fn new(shared: &Arc<Shared>, config: Rc<Config>) -> Self {
        let key = shared.key;
        Self {
            connections: Connections::new(Duration::from_micros(config.runtime.delivery_delay_us.into())),
            sessions: ChunkedSlab::default(),
            by_client_id: SplitTable::default(),
            key,
            counters: Counters::default(),
            condemned: Vec::new(),
            displaced: Vec::new(),
            sent_aliases: AHashMap::new(),
            durable: Durable::new(Journal::off()),
            queues: Queues::new(Arc::clone(shared), Rc::clone(&config)),
            config,
            next_generation: 0,
        }
    }

    /// The shard, of `shards`, where the client is at home.
    #[must_use]
    pub fn home(&self, client_id: &str, shards: u16) -> u16 {
        home(self.key.client_id(client_id), usize::from(shards)) as u16
    }

    /// The session of a client.
    #[must_use]
    pub fn find(&self, client_id: &str) -> Option<u32> {
        let hash = self.key.client_id(client_id);
        let sessions = &self.sessions;
        self.by_client_id
            .find(hash, |&index| sessions.at(index).is_some_and(|session| &*session.client_id == client_id))
            .copied()
    }

    /// Makes a session for a client that has none.
    pub fn create(&mut self, client_id: &str) -> u32 {
        self.next_generation = self.next_generation.wrapping_add(1);
        let index = self.sessions.insert(Session::new(client_id, self.next_generation));
        self.by_client_id.insert_unique(self.key.client_id(client_id), index);
        index
    }

    /// Takes a session out. Its subscriptions are the caller's to end.
    pub fn remove(&mut self, session: u32) -> Option<Session> {
        let removed = self.sessions.remove(session)?;
        let waiting = removed.outbox.as_deref().map_or(Waiting::default(), Waiting::of);
        self.queues.note(waiting, Waiting::default());
        self.by_client_id.remove(self.key.client_id(&removed.client_id), |&index| index == session);
        Some(removed)
    }

    /// The session, when its generation is the one named.
    pub fn session_mut(&mut self, session: u32, generation: u32) -> Option<&mut Session> {
        self.sessions.at_mut(session).filter(|found| found.generation == generation)
    }

    /// Delivers a publication to one session.
    pub fn deliver(
        &mut self,
        publication: &Publication<'_>,
        frames: &mut Frames,
        order: Order<'_>,
        now: Moment,
    ) -> Delivered {
        let Some(session) = self.sessions.at_mut(order.session) else { return Delivered::Gone };
        let (slot, is_online) = (session.connection, session.is_online());
        let identifier = match order.qos {
            // [v5 MQTT-3.3.4-10] Past the window: that holds up QoS 1 and 2 only.
            QoS::AtMostOnce if is_online => None,
            QoS::AtMostOnce if !self.config.mqtt.queue_qos0_offline => {
                self.counters.dropped_offline += 1;
                return Delivered::Offline;
            }
            QoS::AtMostOnce => return self.enqueue(publication, order, now),
            _ => match self.begin_unkept(publication, order, now) {
                Some(identifier) => Some(identifier),
                None => return self.enqueue(publication, order, now),
            },
        };
        self.write_at_once(publication, frames, slot, order, identifier, now)
    }

    /// Begins a QoS 1 or 2 delivery that need not go through the queue: it may be sent at once, and nothing would send it
    /// again, because its session ends with its connection. So the message is not kept.
    fn begin_unkept(
        &mut self,
        publication: &Publication<'_>,
        order: Order<'_>,
        now: Moment,
    ) -> Option<PacketIdentifier> {
        let session = self.sessions.at_mut(order.session)?;
        let connection = self.connections.at(session.connection)?;
        // What a share group gave goes back to it.
        let is_kept = !session.ends_with_connection() || order.share.is_some();
        let has_room = connection.outbound_bytes() < pump_bytes_max(&self.config);
        if is_kept || !has_room || publication.envelope.has_expired(now) || !fits(connection, publication, order) {
            return None;
        }
        session.outbox_mut().send_unkept(order.qos, u32::from(connection.receive_maximum))
    }

    /// Writes a delivery to a connection. One of QoS 0, which has no identifier, is dropped where it has no room.
    fn write_at_once(
        &mut self,
        publication: &Publication<'_>,
        frames: &mut Frames,
        slot: u32,
        order: Order<'_>,
        identifier: Option<PacketIdentifier>,
        now: Moment,
    ) -> Delivered {
        let Some(connection) = self.connections.at(slot) else { return Delivered::Gone };
        let outbound_bytes = connection.outbound_bytes();
        // One packet is always taken, however large.
        if identifier.is_none()
            && outbound_bytes > 0
            && outbound_bytes + publication.payload.len() > self.config.mqtt.out_buffer_bytes_max as usize
        {
            self.counters.dropped_out_buffer_full += 1;
            return Delivered::Full;
        }
        let version = connection.version;
        let identifiers = if version == ProtocolVersion::V5 { order.identifiers } else { &[] };
        let kind = FrameKind { version, qos: order.qos, retain: order.retain };
        let mut takes_alias = connection.flags.any(Flags::TAKES_ALIASES);
        // [v5 MQTT-3.1.2-24] [v5 MQTT-3.1.2-25]
        if connection.packet_bytes_max != u32::MAX {
            let len = frames.encoded_len(publication, kind, identifiers);
            if len > connection.packet_bytes_max as usize {
                self.counters.dropped_too_large += 1;
                return Delivered::TooLarge;
            }
            takes_alias &= len + ALIAS_BYTES_MAX <= connection.packet_bytes_max as usize;
        }
        let alias = if takes_alias { next_alias(&mut self.sent_aliases, slot, publication.topic) } else { None };
        // [v3 MQTT-4.3.1-1] [v5 MQTT-4.3.1-1] [v5 MQTT-4.3.2-2] [v5 MQTT-4.3.3-2]
        let Some(out) = self.connections.out_for_delivery(slot, now) else { return Delivered::Gone };
        frames.append(out, publication, kind, identifier, identifiers, alias);
        self.counters.deliveries[usize::from(order.qos.value())] += 1;
        Delivered::Yes
    }

    /// Delivers publications that differ in their payloads and properties only to one session, as far as what is asked of each
    /// is written at once: then that is looked up once for all, and their head made once while they are of one length. The
    /// others are left in `run`. `frames` was begun with the first.
    pub fn deliver_alike<'a, P: Borrow<Publication<'a>>>(
        &mut self,
        run: &mut impl ExactSizeIterator<Item = P>,
        frames: &Frames,
        order: Order<'_>,
        now: Moment,
    ) {
        let Some(session) = self.sessions.at_mut(order.session) else { return };
        let slot = session.connection;
        let Some(connection) = self.connections.at(slot) else { return };
        let is_limited = connection.packet_bytes_max != u32::MAX || connection.flags.any(Flags::TAKES_ALIASES);
        let is_kept = order.qos != QoS::AtMostOnce && !session.ends_with_connection();
        if is_limited || is_kept {
            return;
        }
        let version = connection.version;
        let identifiers = if version == ProtocolVersion::V5 { order.identifiers } else { &[] };
        let kind = FrameKind { version, qos: order.qos, retain: order.retain };
        let (quota, unsent) = (u32::from(connection.receive_maximum), connection.unsent_bytes as usize);
        let bytes_max = self.config.mqtt.out_buffer_bytes_max as usize;
        let pump_bytes_max = pump_bytes_max(&self.config);
        let count = run.len();
        // [v3 MQTT-4.3.1-1] [v5 MQTT-4.3.1-1] [v5 MQTT-4.3.2-2] [v5 MQTT-4.3.3-2]
        let Some(out) = self.connections.out_for_delivery(slot, now) else { return };
        let appended = if order.qos == QoS::AtMostOnce {
            frames.append_alike(out, run, kind, identifiers, |bytes| match unsent + bytes {
                // One packet is always taken, however large.
                0 => Admission::Unless(usize::MAX),
                outbound => Admission::Unless(bytes_max.saturating_sub(outbound)),
            })
        } else {
            let outbox = session.outbox_mut();
            frames.append_alike(out, run, kind, identifiers, |bytes| {
                let has_room = unsent + bytes < pump_bytes_max;
                let identifier = has_room.then(|| outbox.send_unkept(order.qos, quota)).flatten();
                identifier.map_or(Admission::No, Admission::As)
            })
        };
        self.counters.deliveries[usize::from(order.qos.value())] += appended as u64;
        self.counters.dropped_out_buffer_full += (count - run.len() - appended) as u64;
    }

    /// Puts a delivery into the session's outbox and sends what may be sent.
    fn enqueue(&mut self, publication: &Publication<'_>, order: Order<'_>, now: Moment) -> Delivered {
        let Some(session) = self.sessions.at_mut(order.session) else { return Delivered::Gone };
        let connection = self.connections.at(session.connection);
        if let Some(connection) = connection
            && !fits(connection, publication, order)
        {
            // [v5 MQTT-3.1.2-25]
            self.counters.dropped_too_large += 1;
            return Delivered::TooLarge;
        }
        // What was written in this turn says nothing of the client; what it has not taken of an earlier one does.
        let slow = connection.is_some_and(|connection| {
            connection.unsent_bytes > 0 && connection.outbound_bytes() >= pump_bytes_max(&self.config)
        });
        let id = connection.map(|connection| id_of(session.connection, connection));
        let durability = connection.map_or(Durability::Memory, |connection| connection.durability);
        let limits = &self.config.mqtt;
        let is_away = id.is_none();
        if slow && limits.slow_subscriber == SlowSubscriber::Disconnect {
            self.condemned.extend(id.map(|id| (id, ReasonCode::QuotaExceeded)));
        }
        let bytes = (publication.topic.len() + publication.properties.len() + publication.payload.len()) as u64;
        let queue = session.outbox.as_deref().map_or(Waiting::default(), Waiting::of);
        // What is sent at once waits for nothing.
        if (is_away || queue.messages > 0)
            && !(has_own_room(&self.config, queue, bytes) && self.queues.has_room(bytes))
            && let Err(delivered) = self.make_room(order, bytes, id)
        {
            return delivered;
        }
        let Some(session) = self.sessions.at_mut(order.session) else { return Delivered::Gone };
        let (number, generation) = (session.number(), session.generation);
        let outbox = session.outbox_mut();
        let before = Waiting::of(outbox);
        let message = publication.share();
        let stored = number.and_then(|number| self.durable.queue(number, outbox.next_sequence(), message, order));
        if stored.is_some() && order.qos == QoS::ExactlyOnce && durability != Durability::Memory {
            self.durable.wait(durability, Waiter::Session(order.session, generation));
        }
        let is_reserved =
            stored.is_some() && order.qos == QoS::ExactlyOnce && !is_away && durability != Durability::Sync;
        let place = is_reserved.then_some(outbox.next_sequence());
        let memory_max = if is_away { 0 } else { self.config.mqtt.queue_memory_messages as usize };
        let identifiers = SubscriptionIdentifiers::of(order.identifiers);
        let delivery = Delivery::new(Rc::clone(message), order.qos, order.retain, identifiers, order.share, stored);
        outbox.push(delivery, Some(memory_max));
        self.counters.deliveries[usize::from(order.qos.value())] += 1;
        if let Some(place) = place {
            self.reserve(order.session, place);
        }
        self.pump_from(before, order.session, now);
        Delivered::Yes
    }

    /// Makes room in a session's queue for a message of so many bytes, which is to wait there, as far as the limits let it.
    /// `id`: the client's connection, if there is one. An error when the message is not to be queued.
    fn make_room(&mut self, order: Order<'_>, bytes: u64, id: Option<ConnectionId>) -> Result<(), Delivered> {
        let limits = &self.config.mqtt;
        let Some(session) = self.sessions.at_mut(order.session) else { return Err(Delivered::Gone) };
        let number = session.number();
        let outbox = session.outbox_mut();
        loop {
            let queue = Waiting::of(outbox);
            let own_is_full = !has_own_room(&self.config, queue, bytes);
            let all_are_full = (id.is_none() || queue.messages > 0) && !self.queues.has_room(bytes);
            let drops_oldest = match limits.all_queues_full {
                _ if own_is_full => limits.queue_full == QueueFull::DropOldest,
                _ if !all_are_full => return Ok(()),
                // It was taken over when there was room.
                AllQueuesFull::Refuse if order.qos != QoS::AtMostOnce => return Ok(()),
                act => act == AllQueuesFull::DropOldest && queue.messages > 0,
            };
            if own_is_full && limits.queue_full == QueueFull::Disconnect {
                self.condemned.extend(id.map(|id| (id, ReasonCode::QuotaExceeded)));
            }
            // Its group has other members, or counts it as unserved.
            if order.share.is_some() {
                return Err(Delivered::Full);
            }
            let counters = &mut self.counters;
            let counter =
                if own_is_full { &mut counters.dropped_queue_full } else { &mut counters.dropped_all_queues_full };
            if !drops_oldest {
                *counter += 1;
                return Err(Delivered::Full);
            }
            let dropped = outbox.drop_oldest();
            let settled = outbox.take_settled();
            self.queues.note(queue, Waiting::of(outbox));
            match dropped {
                Dropped::Delivery(delivery) => match delivery.share() {
                    Some(origin) => {
                        let (message, stored) = (delivery.message, number.zip(settled));
                        self.displaced.push(Displaced { origin, message, stored });
                        continue;
                    }
                    None => *counter += 1,
                },
                Dropped::Parked => *counter += 1,
                Dropped::Nothing => return Ok(()),
            }
            self.durable.end_queued(number, settled);
        }
    }

    /// A client has come back to its session: what is in flight is sent again, then what is queued.
    pub fn resume(&mut self, session: u32, now: Moment) {
        if let Some(outbox) = self.sessions.at_mut(session).and_then(|session| session.outbox.as_deref_mut()) {
            outbox.begin_resume();
        }
        self.resume_held(session);
        self.pump(session, now);
    }

    /// Sends from a session's outbox what its window and its out-buffer have room for, and has more read when that is needed.
    pub fn pump(&mut self, session: u32, now: Moment) {
        let Some(found) = self.sessions.at(session) else { return };
        let busy = found.outbox.as_deref().filter(|outbox| !outbox.is_idle()).map(Waiting::of);
        if may_hold(found) {
            self.release_held(session, now);
        }
        if let Some(before) = busy {
            self.pump_from(before, session, now);
        }
    }

    /// What waits in a session's queue.
    pub fn waiting(&self, session: u32) -> Waiting {
        let outbox = self.sessions.at(session).and_then(|session| session.outbox.as_deref());
        outbox.map_or(Waiting::default(), Waiting::of)
    }

    /// As [`Clients::pump`]. `before`: what of the session's queue is counted.
    fn pump_from(&mut self, before: Waiting, session: u32, now: Moment) {
        let Some(found) = self.sessions.at_mut(session) else { return };
        let (number, slot, is_kept) = (found.number(), found.connection, !found.ends_with_connection());
        let Some(outbox) = found.outbox.as_deref_mut() else { return };
        let mut waits = None;
        if let Some(connection) = self.connections.at(slot) {
            let version = connection.version;
            let packet_bytes_max = connection.packet_bytes_max as usize;
            let quota = u32::from(connection.receive_maximum);
            let room = pump_bytes_max(&self.config);
            let unsent_bytes = connection.unsent_bytes as usize;
            let takes_aliases = connection.flags.any(Flags::TAKES_ALIASES);
            let durability = connection.durability;
            let kept = found.kept.as_deref_mut();
            let reached = kept.map_or(Reached::ALL, |kept| self.durable.reached_for(durability, kept));
            while outbox.may_send(quota) {
                let Some(out) = self.connections.out_for_delivery(slot, now) else { break };
                if unsent_bytes + out.len() >= room {
                    break;
                }
                let (identifier, delivery, is_again) = match outbox.next_resend(quota) {
                    Some(Resend::PubRel(identifier)) => {
                        encode_success(out.bytes_mut(), AckKind::PubRel, identifier);
                        continue;
                    }
                    Some(Resend::Publish(identifier, delivery)) => (Some(identifier), Cow::Owned(delivery), true),
                    None => match outbox.take_next(quota, reached, is_kept) {
                        Some((identifier, delivery)) => (identifier, delivery, false),
                        None => break,
                    },
                };
                // [v5 MQTT-3.3.2-5] It was not begun, so it may go. Once sent it is completed [v5 MQTT-4.3.3-7].
                let expired = !is_again && delivery.message.envelope.has_expired(now);
                // [v5 MQTT-3.1.2-24] The client that took the session over may take less than the one before.
                let is_limited = packet_bytes_max != u32::MAX as usize;
                let len = if is_limited { delivery_len(version, &delivery, now) } else { 0 };
                let too_large = len > packet_bytes_max;
                if !expired && !too_large {
                    let takes_alias = takes_aliases && len + ALIAS_BYTES_MAX <= packet_bytes_max;
                    let alias = takes_alias
                        .then(|| next_alias(&mut self.sent_aliases, slot, delivery.message.topic()))
                        .flatten();
                    // [v3 MQTT-3.3.1-1] [v5 MQTT-3.3.1-1] [v5 MQTT-4.3.2-2] [v5 MQTT-4.3.3-2]
                    write_publish(out, version, identifier, &delivery, is_again, alias, now);
                    continue;
                }
                drop(delivery);
                self.counters.dropped_expired += u64::from(expired);
                self.counters.dropped_too_large += u64::from(too_large && !expired);
                if let Some(identifier) = identifier {
                    outbox.abandon(identifier);
                    self.durable.end_queued(number, outbox.take_settled());
                }
            }
            if number.is_some() && durability != Durability::Sync {
                waits = outbox.waits_for_store(reached);
            }
        }
        self.queues.note(before, Waiting::of(outbox));
        if outbox.has_parked() {
            self.ask_slice(session);
        }
        if let Some((sequence, batch)) = waits {
            self.await_reserve(session, sequence, batch);
        }
    }

    /// Has more of what is parked read, when it is time for that.
    #[cold]
    fn ask_slice(&mut self, session: u32) {
        let Some(found) = self.sessions.at_mut(session) else { return };
        let (is_online, generation) = (found.is_online(), found.generation);
        if let (Some(number), Some(outbox)) = (found.number(), found.outbox.as_deref_mut())
            && let Some(range) = outbox.ask_slice(is_online)
        {
            let session = (session, generation);
            self.durable.reads.push(SliceRequest { number, session, range, batch: 0 });
        }
    }
}

/// Whether a session's own limits let a message of so many bytes wait in its queue; one is always taken.
fn has_own_room(config: &Config, queue: Waiting, bytes: u64) -> bool {
    let limits = &config.mqtt;
    queue.messages == 0
        || (queue.messages < u64::from(limits.queue_messages_max) && queue.bytes + bytes <= limits.queue_bytes_max)
}

/// Bytes on their way to a client from which on no more of its queue is written.
pub(super) fn pump_bytes_max(config: &Config) -> usize {
    PUMP_BYTES_MAX.min(config.mqtt.out_buffer_bytes_max as usize)
}

/// The alias for a topic that is sent to the connection in `slot`. Whoever asks sends it: the client knows it from then on.
fn next_alias(sent: &mut AHashMap<u32, SentAliases>, slot: u32, topic: &str) -> Option<SentAlias> {
    sent.get_mut(&slot)?.next(topic)
}

/// Whether a connection takes a packet of this size.
fn fits(connection: &Connection, publication: &Publication<'_>, order: Order<'_>) -> bool {
    if connection.packet_bytes_max == u32::MAX {
        return true;
    }
    let head = PublishHead {
        flags: PublishFlags { dup: false, qos: order.qos, retain: order.retain },
        topic: publication.topic.as_bytes(),
        packet_identifier: (order.qos != QoS::AtMostOnce).then_some(PacketIdentifier::MIN),
        forwarded: publication.properties,
        message_expiry_interval: (publication.envelope.expires_at != Moment::NEVER).then_some(0),
        topic_alias: None,
        subscription_identifiers: order.identifiers,
    };
    publish::encoded_len(connection.version, &head, publication.payload.len()) <= connection.packet_bytes_max as usize
}

/// The name of a connection.
#[must_use]
pub fn id_of(slot: u32, connection: &Connection) -> ConnectionId {
    ConnectionId { slot, generation: connection.generation }
}

/// Bytes that a delivery takes on the wire.
fn delivery_len(version: ProtocolVersion, delivery: &Delivery, now: Moment) -> usize {
    delivery.with_identifiers(|identifiers| {
        let head = delivery_head(Some(PacketIdentifier::MIN), delivery, identifiers, false, now);
        publish::encoded_len(version, &head, delivery.message.payload().len())
    })
}

fn write_publish(
    out: &mut OutBuffer,
    version: ProtocolVersion,
    identifier: Option<PacketIdentifier>,
    delivery: &Delivery,
    dup: bool,
    alias: Option<SentAlias>,
    now: Moment,
) {
    let payload = delivery.message.payload();
    let encoded = delivery.with_identifiers(|identifiers| {
        let mut head = delivery_head(identifier, delivery, identifiers, dup, now);
        if let Some(alias) = alias {
            head.set_alias(alias.alias, alias.is_known);
        }
        publish::encode_head(out.bytes_mut(), version, &head, payload.len())
    });
    debug_assert!(encoded.is_ok());
    if payload.len() >= SHARED_PAYLOAD_BYTES_MIN {
        out.push_payload(&delivery.message.payload_shared());
    } else {
        out.bytes_mut().extend_from_slice(payload);
    }
}

fn delivery_head<'a>(
    packet_identifier: Option<PacketIdentifier>,
    delivery: &'a Delivery,
    subscription_identifiers: &'a [u32],
    dup: bool,
    now: Moment,
) -> PublishHead<'a> {
    let message = &delivery.message;
    PublishHead {
        flags: PublishFlags { dup, qos: delivery.qos, retain: delivery.retain },
        topic: message.topic_bytes(),
        packet_identifier,
        forwarded: message.properties(),
        message_expiry_interval: message.envelope.message_expiry_interval(now),
        topic_alias: None,
        subscription_identifiers,
    }
}

/// Bytes that an alias adds to a packet at most: the property, and a byte more for each of the two lengths.
const ALIAS_BYTES_MAX: usize = 5;
/// Bytes of QoS 1 and 2 deliveries written ahead of the socket: more would only wait there instead of in the queue.
const PUMP_BYTES_MAX: usize = 256 * 1024;
