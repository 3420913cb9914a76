//! The lines of an export.
//!
//! Owns: the shape of each line, from and to what is kept. Bytes that are no UTF-8 stand in a field of their own, in Base64.
//! Always: what is exported, imported and exported again is the same.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    message::{ApplicationMessage, Envelope, Origin, Stamp},
    mqtt::QoS,
    session::Will,
    store::ReceivedRecord,
    time::Moment,
};

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    /// The first.
    Export {
        version: u32,
    },
    /// A message that several queues share.
    Body {
        body: u64,
        message: MessageLine,
    },
    Session(SessionLine),
    /// A message in the queue of the session before, in order.
    Queued(QueuedLine),
    Retained {
        message: MessageLine,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionLine {
    pub client_id: String,
    /// `4294967295`: never.
    pub expiry_interval_s: u32,
    /// Since the Unix epoch; absent while the client is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_since_us: Option<u64>,
    /// Messages before this sequence number have been sent to the client.
    pub sent_below: u64,
    /// Sequence numbers before this one are not used again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub used_below: u64,
    /// QoS 2 messages may have been sent up to this sequence number before the store has them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reserved_below: u64,
    /// Of messages in these ranges of sequence numbers, which were lost, the client may hold the PacketIdentifiers: the first,
    /// and the first one behind them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<(u64, u64)>,
    pub subscriptions: Vec<SubscriptionLine>,
    /// QoS 2 identifiers received and not released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub received: Vec<ReceivedLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub will: Option<WillLine>,
}

/// A QoS 2 identifier, alone when no more is known of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum ReceivedLine {
    Alone(u16),
    Known(KnownLine),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KnownLine {
    pub identifier: u16,
    /// Tells its message from others; 0 or absent: unknown.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fingerprint: u64,
    /// It may have been released.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_doubted: bool,
}

impl ReceivedLine {
    pub fn of(record: ReceivedRecord) -> Self {
        match record {
            ReceivedRecord { identifier, fingerprint: 0, is_doubted: false } => Self::Alone(identifier),
            ReceivedRecord { identifier, fingerprint, is_doubted } => {
                Self::Known(KnownLine { identifier, fingerprint, is_doubted })
            }
        }
    }

    pub fn record(&self) -> ReceivedRecord {
        match *self {
            Self::Alone(identifier) => ReceivedRecord { identifier, fingerprint: 0, is_doubted: false },
            Self::Known(KnownLine { identifier, fingerprint, is_doubted }) => {
                ReceivedRecord { identifier, fingerprint, is_doubted }
            }
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubscriptionLine {
    pub filter: String,
    /// As in SUBSCRIBE: QoS, No Local, Retain As Published.
    pub options: u8,
    #[serde(default, skip_serializing_if = "is_default")]
    pub identifier: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WillLine {
    pub delay_s: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_expiry_interval_s: Option<u32>,
    pub message: MessageLine,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueuedLine {
    pub sequence: u64,
    pub qos: u8,
    #[serde(default, skip_serializing_if = "is_default")]
    pub retain: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscription_identifiers: Vec<u32>,
    /// The message, or
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageLine>,
    /// the body that it shares; neither: it has arrived, and only its PUBREL is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageLine {
    pub topic: String,
    pub qos: u8,
    #[serde(default, skip_serializing_if = "is_default")]
    pub retain: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// In wire form.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub properties_base64: String,
    /// Since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_us: Option<u64>,
    /// When the broker took it over: microseconds since the Unix epoch, a counter, the shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<(u64, u32, u16)>,
}

impl MessageLine {
    pub fn of(message: &ApplicationMessage) -> Self {
        let envelope = message.envelope;
        let text = std::str::from_utf8(message.payload()).ok();
        Self {
            topic: message.topic().into(),
            qos: envelope.qos.value(),
            retain: envelope.retain,
            payload: text.map(Into::into),
            payload_base64: text.is_none().then(|| STANDARD.encode(message.payload())),
            properties_base64: STANDARD.encode(message.properties()),
            expires_at_us: (envelope.expires_at != Moment::NEVER).then(|| envelope.expires_at.micros()),
            stamp: (envelope.stamp != Stamp::default()).then_some((
                envelope.stamp.micros,
                envelope.stamp.counter,
                envelope.stamp.shard,
            )),
        }
    }

    pub fn message(&self) -> Result<ApplicationMessage, String> {
        let decode = |what: &str, text: &str| STANDARD.decode(text).map_err(|error| format!("{what}: {error}"));
        let payload = match (&self.payload, &self.payload_base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(text)) => decode("payload_base64", text)?,
            (None, None) => Vec::new(),
            (Some(_), Some(_)) => return Err("payload and payload_base64 cannot both be given".into()),
        };
        let properties = decode("properties_base64", &self.properties_base64)?;
        let (micros, counter, shard) = self.stamp.unwrap_or_default();
        let envelope = Envelope {
            qos: qos(self.qos)?,
            retain: self.retain,
            expires_at: self.expires_at_us.map_or(Moment::NEVER, Moment::from_micros),
            topic_hash: 0,
            stamp: Stamp { micros, counter, shard },
            origin: Origin::default(),
        };
        check_topic(&self.topic)?;
        Ok(ApplicationMessage::new(&self.topic, &properties, &payload, envelope))
    }
}

impl WillLine {
    pub fn of(will: &Will) -> Self {
        Self {
            delay_s: will.delay_s,
            message_expiry_interval_s: will.message_expiry_interval_s,
            message: MessageLine::of(&will.message),
        }
    }

    pub fn will(&self) -> Result<Will, String> {
        Ok(Will {
            message: self.message.message()?,
            message_expiry_interval_s: self.message_expiry_interval_s,
            delay_s: self.delay_s,
        })
    }
}

pub(super) fn qos(value: u8) -> Result<QoS, String> {
    QoS::from_bits(value).ok_or_else(|| format!("there is no QoS {value}"))
}

fn check_topic(topic: &str) -> Result<(), String> {
    let is_good = !topic.is_empty() && topic.len() <= usize::from(u16::MAX) && !topic.contains(['+', '#', '\0']);
    is_good.then_some(()).ok_or_else(|| format!("{topic:?} is no topic name"))
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The version of these lines.
pub(super) const VERSION: u32 = 3;
