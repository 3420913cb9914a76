//! What the broker publishes about itself.
//!
//! Owns: the `$SYS` topics. Clients' comings and goings are told on the topics and in the JSON that users of EMQX know:
//! `$SYS/brokers/<node>/clients/<ClientId>/connected` and `…/disconnected`.
//! Always: QoS 0 and not retained. Nothing is put together that nobody has subscribed to.

use serde_json::json;

use crate::{
    message::ApplicationMessage,
    mqtt::{Connect, QoS, TopicName},
    runtime::ConnectionId,
    shard::{Connection, Shard, connections::Flags, exchange::Taken, timers::Timer},
    time::Moment,
};

/// What CONNACK granted, as an event tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectFacts {
    /// KeepAlive in force, in seconds.
    pub keep_alive_s: u16,
    /// Session Expiry Interval in force, in seconds.
    pub session_expiry_interval_s: u32,
}

impl Shard {
    /// A client has connected.
    pub(super) fn publish_connected(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        client_id: &str,
        facts: &ConnectFacts,
        now: Moment,
    ) {
        let Some(connection) = self.clients.connections.open_mut(id) else { return };
        let peer = connection.peer.address();
        let listener = connection.listener;
        if self.config.log.connections {
            let (version, clean_start) = (connect.version, connect.clean_start);
            tracing::info!(client_id, %peer, %version, clean_start, "connected");
        }
        let Some(topic) = self.client_event_topic(client_id, "connected") else { return };
        let event = json!({
            "clientid": client_id,
            "username": connect.user_name.unwrap_or("undefined"),
            "ipaddress": peer.ip().to_string(),
            "sockport": self.listeners.get(usize::from(listener)).map_or(0, |listener| listener.port),
            "protocol": "mqtt",
            "proto_name": connect.version.protocol_name(),
            "proto_ver": connect.version.level(),
            "keepalive": facts.keep_alive_s,
            "clean_start": connect.clean_start,
            "expiry_interval": facts.session_expiry_interval_s,
            "connack": 0,
            "connected_at": now.millis(),
            "ts": now.millis(),
        });
        self.publish_sys(&topic, event.to_string().as_bytes(), now);
    }

    /// A connection has ended.
    pub(super) fn publish_disconnected(&mut self, connection: &Connection, reason: &str, now: Moment) {
        let Some(session) = self.clients.sessions.at(connection.session) else { return };
        let client_id = session.client_id.clone();
        let expiry_interval = session.expiry_interval_s;
        let Some(topic) = self.client_event_topic(&client_id, "disconnected") else { return };
        let event = json!({
            "clientid": &*client_id,
            "username": connection.user_name.as_deref().unwrap_or("undefined"),
            "ipaddress": connection.peer.address().ip().to_string(),
            "sockport": self.listeners.get(usize::from(connection.listener)).map_or(0, |listener| listener.port),
            "protocol": "mqtt",
            "proto_name": connection.version.protocol_name(),
            "proto_ver": connection.version.level(),
            "keepalive": connection.keep_alive_s,
            "clean_start": connection.flags.any(Flags::CLEAN_START),
            "expiry_interval": expiry_interval,
            "connected_at": u64::from(connection.connected_at_s) * 1000,
            "disconnected_at": now.millis(),
            "reason": reason,
            "ts": now.millis(),
        });
        self.publish_sys(&topic, event.to_string().as_bytes(), now);
    }

    /// The topic of an event, when someone may want it.
    fn client_event_topic(&self, client_id: &str, event: &str) -> Option<String> {
        if !self.config.sys.enabled || !self.config.sys.client_events {
            return None;
        }
        let topic = format!("$SYS/brokers/{}/clients/{client_id}/{event}", self.config.node.name);
        // A ClientId may hold what no TopicName may.
        (self.is_wanted(&topic) && TopicName::parse(&topic).is_ok()).then_some(topic)
    }

    fn publish_sys(&mut self, topic: &str, payload: &[u8], now: Moment) {
        let envelope = self.envelope(QoS::AtMostOnce, false, None, now);
        let message = ApplicationMessage::new(topic, &[], payload, envelope);
        self.publish_internal(&message, envelope, Taken::Ignore, now);
    }

    /// Every shard publishes its counters for shard 0, which puts them out.
    pub(super) fn on_sys_interval(&mut self, now: Moment) {
        self.timers.set(now.after(self.config.sys.interval), Timer::SysInterval);
        self.shared.publish_counters(self.index, &self.clients.counters);
        if self.index != 0 {
            return;
        }
        let node = self.config.node.name.clone();
        let shared = crate::sync::Arc::clone(&self.shared);
        let uptime_s = now.since(self.started_at).as_secs();
        let levels = [
            ("stats/connections/count", shared.connections.now()),
            ("stats/sessions/count", shared.sessions.now()),
            ("stats/store/condition", u64::from(self.clients.durable.journal.condition().as_u8())),
            ("stats/retained/count", shared.retained_messages.now()),
            ("stats/retained/bytes", shared.retained_bytes.now()),
            ("stats/queued/count", shared.queued_messages.now()),
            ("stats/queued/bytes", shared.queued_bytes.now()),
            ("uptime", uptime_s),
        ];
        let counters = shared.counters().map(|(name, value)| (format!("metrics/{name}"), value));
        let levels = levels.into_iter().map(|(name, value)| (name.to_owned(), value));
        for (name, value) in levels.chain(counters) {
            self.publish_sys_if_wanted(&format!("$SYS/brokers/{node}/{name}"), &value.to_string(), now);
        }
        self.publish_sys_if_wanted(&format!("$SYS/brokers/{node}/version"), env!("CARGO_PKG_VERSION"), now);
        self.publish_sys_if_wanted(&format!("$SYS/brokers/{node}/sysdescr"), "RingMQ", now);
        self.publish_sys_if_wanted("$SYS/brokers", &node, now);
    }

    fn publish_sys_if_wanted(&mut self, topic: &str, payload: &str, now: Moment) {
        if self.is_wanted(topic) {
            self.publish_sys(topic, payload.as_bytes(), now);
        }
    }
}
