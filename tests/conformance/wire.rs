//! MQTT packets at the level of bytes: a builder and a strict parser written for the tests alone.
//!
//! Nothing here uses the broker's codec, so that a mistake there cannot hide behind the same mistake here. The builder
//! writes what it is told, also what no client may send; the parser accepts only what a server may send.

use crate::property::{Property, put_properties, read_properties};

/// The protocol version that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V31,
    V311,
    V5,
}

/// Any packet. The kinds that only clients send can be built, the others parsed as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect(Connect),
    ConnAck(ConnAck),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe),
    SubAck(SubAck),
    Unsubscribe(Unsubscribe),
    UnsubAck(SubAck),
    PingReq,
    PingResp,
    Disconnect(Disconnect),
    Auth(Disconnect),
}

/// CONNECT. Flags follow from the fields unless `flags` overrides them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub version: Version,
    pub name: Vec<u8>,
    pub level: u8,
    pub clean: bool,
    pub flags: Option<u8>,
    pub keep_alive: u16,
    pub properties: Vec<Property>,
    pub client_id: Vec<u8>,
    pub will: Option<Will>,
    pub user_name: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
}

/// The Will inside a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Vec<Property>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnAck {
    pub session_present: bool,
    pub code: u8,
    pub properties: Vec<Property>,
}

/// PUBLISH; `id` is 0 when there is none (QoS 0).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    pub id: u16,
    pub properties: Vec<Property>,
    pub payload: Vec<u8>,
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    pub id: u16,
    pub code: u8,
    pub properties: Vec<Property>,
}

/// SUBSCRIBE: each filter with its options byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe {
    pub id: u16,
    pub properties: Vec<Property>,
    pub filters: Vec<(String, u8)>,
}

/// SUBACK and UNSUBACK; before 5.0 an UNSUBACK has no codes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubAck {
    pub id: u16,
    pub properties: Vec<Property>,
    pub codes: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsubscribe {
    pub id: u16,
    pub properties: Vec<Property>,
    pub filters: Vec<String>,
}

/// DISCONNECT and AUTH: before 5.0 a DISCONNECT has neither code nor properties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disconnect {
    pub code: u8,
    pub properties: Vec<Property>,
}

impl Connect {
    /// MQTT 3.1, clean session, keep-alive 60 s.
    pub fn v31(client_id: &str) -> Connect {
        Connect { version: Version::V31, name: b"MQIsdp".to_vec(), level: 3, ..Connect::v311(client_id) }
    }

    /// MQTT 3.1.1, clean session, keep-alive 60 s.
    pub fn v311(client_id: &str) -> Connect {
        Connect {
            version: Version::V311,
            name: b"MQTT".to_vec(),
            level: 4,
            clean: true,
            flags: None,
            keep_alive: 60,
            properties: Vec::new(),
            client_id: client_id.as_bytes().to_vec(),
            will: None,
            user_name: None,
            password: None,
        }
    }

    /// MQTT 5.0, clean start, keep-alive 60 s, no properties.
    pub fn v5(client_id: &str) -> Connect {
        Connect { version: Version::V5, level: 5, ..Connect::v311(client_id) }
    }

    /// CleanSession (3.1, 3.1.1) or Clean Start (5.0).
    pub fn clean(mut self, clean: bool) -> Connect {
        self.clean = clean;
        self
    }

    pub fn keep_alive(mut self, seconds: u16) -> Connect {
        self.keep_alive = seconds;
        self
    }

    pub fn will(mut self, will: Will) -> Connect {
        self.will = Some(will);
        self
    }

    pub fn user_name(mut self, user_name: &str) -> Connect {
        self.user_name = Some(user_name.as_bytes().to_vec());
        self
    }

    pub fn password(mut self, password: &[u8]) -> Connect {
        self.password = Some(password.to_vec());
        self
    }

    pub fn property(mut self, property: Property) -> Connect {
        self.properties.push(property);
        self
    }

    /// The level byte as it stands on the wire, for instance a bridge's 0x83 or 0x84.
    pub fn level(mut self, level: u8) -> Connect {
        self.level = level;
        self
    }

    /// The connect flags as they stand on the wire, whatever the fields say.
    pub fn flags(mut self, flags: u8) -> Connect {
        self.flags = Some(flags);
        self
    }

    /// The connect flags that the fields call for.
    pub fn natural_flags(&self) -> u8 {
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags | u8::from(self.password.is_some()) << 6 | u8::from(self.user_name.is_some()) << 7
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_binary(&mut out, &self.name);
        out.push(self.level);
        out.push(self.flags.unwrap_or_else(|| self.natural_flags()));
        out.extend(self.keep_alive.to_be_bytes());
        if self.version == Version::V5 {
            put_properties(&mut out, &self.properties);
        }
        put_binary(&mut out, &self.client_id);
        if let Some(will) = &self.will {
            if self.version == Version::V5 {
                put_properties(&mut out, &will.properties);
            }
            put_binary(&mut out, &will.topic);
            put_binary(&mut out, &will.payload);
        }
        for field in [&self.user_name, &self.password].into_iter().flatten() {
            put_binary(&mut out, field);
        }
        out
    }
}

impl Will {
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Will {
        let payload = payload.as_ref().to_vec();
        Will { topic: topic.as_bytes().to_vec(), payload, qos: 0, retain: false, properties: Vec::new() }
    }

    pub fn qos(mut self, qos: u8) -> Will {
        self.qos = qos;
        self
    }

    pub fn retain(mut self) -> Will {
        self.retain = true;
        self
    }

    pub fn property(mut self, property: Property) -> Will {
        self.properties.push(property);
        self
    }
}

impl Publish {
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Publish {
        Publish { topic: topic.to_owned(), payload: payload.as_ref().to_vec(), ..Publish::default() }
    }

    /// QoS and PacketIdentifier together, for QoS 1 and 2.
    pub fn qos(mut self, qos: u8, id: u16) -> Publish {
        self.qos = qos;
        self.id = id;
        self
    }

    pub fn retain(mut self) -> Publish {
        self.retain = true;
        self
    }

    pub fn dup(mut self) -> Publish {
        self.dup = true;
        self
    }

    pub fn property(mut self, property: Property) -> Publish {
        self.properties.push(property);
        self
    }
}

impl Ack {
    pub fn new(id: u16) -> Ack {
        Ack { id, ..Ack::default() }
    }

    pub fn code(mut self, code: u8) -> Ack {
        self.code = code;
        self
    }
}

impl Subscribe {
    pub fn new(id: u16, filter: &str, options: u8) -> Subscribe {
        Subscribe { id, properties: Vec::new(), filters: vec![(filter.to_owned(), options)] }
    }

    pub fn and(mut self, filter: &str, options: u8) -> Subscribe {
        self.filters.push((filter.to_owned(), options));
        self
    }

    pub fn property(mut self, property: Property) -> Subscribe {
        self.properties.push(property);
        self
    }
}

impl Unsubscribe {
    pub fn new(id: u16, filter: &str) -> Unsubscribe {
        Unsubscribe { id, properties: Vec::new(), filters: vec![filter.to_owned()] }
    }

    pub fn and(mut self, filter: &str) -> Unsubscribe {
        self.filters.push(filter.to_owned());
        self
    }
}

impl Disconnect {
    pub fn code(code: u8) -> Disconnect {
        Disconnect { code, properties: Vec::new() }
    }

    pub fn property(mut self, property: Property) -> Disconnect {
        self.properties.push(property);
        self
    }
}

macro_rules! into_packet {
    ($($kind:ident),*) => {
        $(impl From<$kind> for Packet {
            fn from(packet: $kind) -> Packet {
                Packet::$kind(packet)
            }
        })*
    };
}

into_packet!(Connect, ConnAck, Publish, Subscribe, Unsubscribe, Disconnect);

impl Packet {
    /// The packet's bytes in `version`; a CONNECT carries its own version.
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let v5 = version == Version::V5;
        let (first, body) = match self {
            Packet::Connect(connect) => (0x10, connect.body()),
            Packet::Publish(publish) => (publish_first(publish), publish_body(publish, v5)),
            Packet::PubAck(ack) => (0x40, ack_body(ack, v5)),
            Packet::PubRec(ack) => (0x50, ack_body(ack, v5)),
            Packet::PubRel(ack) => (0x62, ack_body(ack, v5)),
            Packet::PubComp(ack) => (0x70, ack_body(ack, v5)),
            Packet::Subscribe(subscribe) => {
                let mut body = request_body(subscribe.id, &subscribe.properties, v5);
                for (filter, options) in &subscribe.filters {
                    put_string(&mut body, filter);
                    body.push(*options);
                }
                (0x82, body)
            }
            Packet::Unsubscribe(unsubscribe) => {
                let mut body = request_body(unsubscribe.id, &unsubscribe.properties, v5);
                for filter in &unsubscribe.filters {
                    put_string(&mut body, filter);
                }
                (0xA2, body)
            }
            Packet::PingReq => (0xC0, Vec::new()),
            Packet::Disconnect(disconnect) => (0xE0, reason_body(disconnect, v5)),
            Packet::Auth(auth) => (0xF0, reason_body(auth, v5)),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                panic!("only a server sends {self:?}")
            }
        };
        frame(first, &body)
    }

    /// Takes one packet from the front of `bytes`: the packet and its length, nothing while it is incomplete.
    pub fn decode(version: Version, bytes: &[u8]) -> Result<Option<(Packet, usize)>, String> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let mut reader = Reader(rest);
        if rest.len() < 4 && rest.iter().all(|byte| byte & 0x80 != 0) {
            return Ok(None);
        }
        let length = reader.variable()? as usize;
        if reader.0.len() < length {
            return Ok(None);
        }
        let used = bytes.len() - reader.0.len() + length;
        let mut body = reader.part(length)?;
        let packet = decode_body(version, first, &mut body)?;
        if !body.is_empty() {
            return Err(format!("{} bytes too many at the end of {packet:?}", body.0.len()));
        }
        Ok(Some((packet, used)))
    }
}

fn decode_body(version: Version, first: u8, body: &mut Reader<'_>) -> Result<Packet, String> {
    let v5 = version == Version::V5;
    let (kind, flags) = (first >> 4, first & 0x0F);
    let flags_wanted = if kind == 6 { 2 } else { 0 };
    if kind != 3 && flags != flags_wanted {
        return Err(format!("reserved flags {flags:#x} in a packet of kind {kind}"));
    }
    Ok(match kind {
        2 => {
            let (acknowledge, code) = (body.byte()?, body.byte()?);
            if acknowledge > 1 || (version == Version::V31 && acknowledge != 0) {
                return Err(format!("CONNACK flags {acknowledge:#x} in {version:?}"));
            }
            let properties = if v5 { read_properties(body, kind)? } else { Vec::new() };
            Packet::ConnAck(ConnAck { session_present: acknowledge == 1, code, properties })
        }
        3 => Packet::Publish(read_publish(body, flags, v5)?),
        4 => Packet::PubAck(read_ack(body, kind, v5)?),
        5 => Packet::PubRec(read_ack(body, kind, v5)?),
        6 => Packet::PubRel(read_ack(body, kind, v5)?),
        7 => Packet::PubComp(read_ack(body, kind, v5)?),
        9 | 11 => {
            let id = nonzero(body.two()?)?;
            let properties = if v5 { read_properties(body, kind)? } else { Vec::new() };
            let codes = if kind == 9 || v5 { body.rest().to_vec() } else { Vec::new() };
            let ack = SubAck { id, properties, codes };
            if kind == 9 { Packet::SubAck(ack) } else { Packet::UnsubAck(ack) }
        }
        13 => Packet::PingResp,
        14 if v5 => Packet::Disconnect(read_reason(body, kind)?),
        15 if v5 => Packet::Auth(read_reason(body, kind)?),
        _ => return Err(format!("a server sends no packet of kind {kind} in {version:?}")),
    })
}

fn read_publish(body: &mut Reader<'_>, flags: u8, v5: bool) -> Result<Publish, String> {
    let (dup, qos, retain) = (flags & 8 != 0, flags >> 1 & 3, flags & 1 != 0);
    if qos == 3 || (qos == 0 && dup) {
        return Err(format!("PUBLISH flags {flags:#x}"));
    }
    let topic = body.string()?;
    if (topic.is_empty() && !v5) || topic.contains(['+', '#', '\0']) {
        return Err(format!("TopicName {topic:?}"));
    }
    let id = if qos == 0 { 0 } else { nonzero(body.two()?)? };
    let properties = if v5 { read_properties(body, 3)? } else { Vec::new() };
    Ok(Publish { dup, qos, retain, topic, id, properties, payload: body.rest().to_vec() })
}

fn read_ack(body: &mut Reader<'_>, kind: u8, v5: bool) -> Result<Ack, String> {
    let id = nonzero(body.two()?)?;
    let code = if v5 && !body.is_empty() { body.byte()? } else { 0 };
    let properties = if v5 && !body.is_empty() { read_properties(body, kind)? } else { Vec::new() };
    Ok(Ack { id, code, properties })
}

fn read_reason(body: &mut Reader<'_>, kind: u8) -> Result<Disconnect, String> {
    let code = if body.is_empty() { 0 } else { body.byte()? };
    let properties = if body.is_empty() { Vec::new() } else { read_properties(body, kind)? };
    Ok(Disconnect { code, properties })
}

fn nonzero(id: u16) -> Result<u16, String> {
    if id == 0 { Err("PacketIdentifier 0".to_owned()) } else { Ok(id) }
}

fn publish_first(publish: &Publish) -> u8 {
    0x30 | u8::from(publish.dup) << 3 | publish.qos << 1 | u8::from(publish.retain)
}

fn publish_body(publish: &Publish, v5: bool) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, &publish.topic);
    if publish.qos > 0 {
        body.extend(publish.id.to_be_bytes());
    }
    if v5 {
        put_properties(&mut body, &publish.properties);
    }
    body.extend(&publish.payload);
    body
}

fn ack_body(ack: &Ack, v5: bool) -> Vec<u8> {
    let mut body = ack.id.to_be_bytes().to_vec();
    if v5 && (ack.code != 0 || !ack.properties.is_empty()) {
        body.push(ack.code);
        put_properties(&mut body, &ack.properties);
    }
    body
}

fn request_body(id: u16, properties: &[Property], v5: bool) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if v5 {
        put_properties(&mut body, properties);
    }
    body
}

fn reason_body(reason: &Disconnect, v5: bool) -> Vec<u8> {
    let mut body = Vec::new();
    if v5 && (reason.code != 0 || !reason.properties.is_empty()) {
        body.push(reason.code);
        put_properties(&mut body, &reason.properties);
    }
    body
}

/// A packet of any first byte and any body, with its remaining length.
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    put_variable(&mut out, body.len() as u32);
    out.extend(body);
    out
}

/// A string or binary field: two bytes of length, then the bytes.
pub fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    put_binary(&mut out, bytes.as_ref());
    out
}

pub fn put_string(out: &mut Vec<u8>, text: &str) {
    put_binary(out, text.as_bytes());
}

pub fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("a field of at most 65,535 bytes");
    out.extend(length.to_be_bytes());
    out.extend(bytes);
}

pub fn put_variable(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What is left to read of a packet.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn part(&mut self, length: usize) -> Result<Reader<'a>, String> {
        if length > self.0.len() {
            return Err(format!("{length} bytes wanted, {} left", self.0.len()));
        }
        let (part, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(Reader(part))
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub fn byte(&mut self) -> Result<u8, String> {
        Ok(self.part(1)?.0[0])
    }

    pub fn two(&mut self) -> Result<u16, String> {
        let bytes = self.part(2)?.0;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub fn four(&mut self) -> Result<u32, String> {
        Ok(u32::from(self.two()?) << 16 | u32::from(self.two()?))
    }

    /// A variable byte integer in its shortest form.
    pub fn variable(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for position in 0..4 {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7F) << (7 * position);
            if byte & 0x80 == 0 {
                let shortest = position == 0 || byte != 0;
                return if shortest { Ok(value) } else { Err("a variable byte integer too long".to_owned()) };
            }
        }
        Err("a variable byte integer of more than four bytes".to_owned())
    }

    pub fn binary(&mut self) -> Result<Vec<u8>, String> {
        let length = self.two()?;
        Ok(self.part(usize::from(length))?.0.to_vec())
    }

    pub fn string(&mut self) -> Result<String, String> {
        let text = String::from_utf8(self.binary()?).map_err(|error| error.to_string())?;
        if text.contains('\0') { Err("U+0000 in a string".to_owned()) } else { Ok(text) }
    }
}
