//! Well-formed packets of a client, as bytes, for tests that then break them.
//!
//! Written without the crate's codec: what that would never write must be there too.

/// The protocol level of a CONNECT: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0.
pub type Level = u8;

/// All levels that the broker serves.
pub const LEVELS: [Level; 3] = [3, 4, 5];

/// A fixed header and its body.
pub fn frame(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first_byte];
    packet.extend(variable_integer(body.len()));
    packet.extend(body);
    packet
}

/// `value` as a Variable Byte Integer; above 268,435,455 it has five bytes and is malformed.
pub fn variable_integer(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value % 128).expect("below 128");
        value /= 128;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A two-byte length and as many bytes.
pub fn text(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("at most 65,535 bytes");
    [&length.to_be_bytes(), bytes].concat()
}

/// CONNECT with a clean start, a keep-alive and nothing else.
pub fn connect(level: Level, client_id: &str, keep_alive_s: u8) -> Vec<u8> {
    let name: &[u8] = if level == 3 { b"MQIsdp" } else { b"MQTT" };
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    frame(0x10, &[&text(name), &[level, 0x02, 0, keep_alive_s][..], properties, &text(client_id.as_bytes())].concat())
}

/// CONNECT with a keep-alive, a Will, a user name, a password and, in 5.0, properties of every kind.
pub fn connect_with_everything(level: Level, client_id: &str, keep_alive_s: u8, topic: &str) -> Vec<u8> {
    let name: &[u8] = if level == 3 { b"MQIsdp" } else { b"MQTT" };
    let mut body = [&text(name), &[level, 0xEE, 0, keep_alive_s][..]].concat();
    if level == 5 {
        let properties = [
            &[0x11, 0, 0, 0, 1, 0x21, 0, 20, 0x27, 0, 1, 0, 0, 0x22, 0, 9, 0x19, 1, 0x17, 1][..],
            &user_property("a", "b"),
        ]
        .concat();
        body.extend(with_length(&properties));
    }
    body.extend(text(client_id.as_bytes()));
    if level == 5 {
        let properties =
            [&[0x18, 0, 0, 0, 1, 0x01, 1, 0x02, 0, 0, 0, 9, 0x03][..], &text(b"text/plain"), &[0x08], &text(b"answer")];
        body.extend(with_length(&properties.concat()));
    }
    body.extend([text(topic.as_bytes()), text(b"the Will"), text(b"user"), text(b"password")].concat());
    frame(0x10, &body)
}

/// PUBLISH; `properties` are written in 5.0 only.
pub fn publish(level: Level, topic: &str, qos: u8, retain: bool, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic.as_bytes());
    if qos > 0 {
        body.extend([0, 7]);
    }
    if level == 5 {
        body.extend(with_length(properties));
    }
    body.extend(payload);
    frame(0x30 | qos << 1 | u8::from(retain), &body)
}

/// Properties of a PUBLISH, one of every kind that a client may send.
pub fn publish_properties() -> Vec<u8> {
    [
        &[0x01, 1, 0x02, 0, 0, 0, 60, 0x23, 0, 1, 0x08][..],
        &text(b"answer/here"),
        &[0x09],
        &text(b"correlation"),
        &user_property("key", "value"),
        &user_property("key", "other"),
        &[0x03],
        &text(b"text/plain"),
    ]
    .concat()
}

/// SUBSCRIBE to each filter with the options beside it.
pub fn subscribe(level: Level, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = vec![0, 9];
    if level == 5 {
        body.extend([2, 0x0B, 5]);
    }
    for (filter, options) in filters {
        body.extend(text(filter.as_bytes()));
        body.push(*options);
    }
    frame(0x82, &body)
}

/// UNSUBSCRIBE from each filter.
pub fn unsubscribe(level: Level, filters: &[&str]) -> Vec<u8> {
    let mut body = vec![0, 10];
    if level == 5 {
        body.push(0);
    }
    body.extend(filters.iter().flat_map(|filter| text(filter.as_bytes())));
    frame(0xA2, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP by its first byte, for packet identifier 7.
pub fn acknowledgement(level: Level, first_byte: u8) -> Vec<u8> {
    let body: &[u8] = if level == 5 { &[0, 7, 0x10, 0] } else { &[0, 7] };
    frame(first_byte, body)
}

/// DISCONNECT that, in 5.0, asks for the Will.
pub fn disconnect(level: Level) -> Vec<u8> {
    let body: &[u8] = if level == 5 { &[0x04, 5, 0x11, 0, 0, 0, 0] } else { &[] };
    frame(0xE0, body)
}

/// PINGREQ.
pub fn pingreq() -> Vec<u8> {
    frame(0xC0, &[])
}

/// AUTH with a method.
pub fn auth() -> Vec<u8> {
    let properties = [&[0x15][..], &text(b"method")].concat();
    frame(0xF0, &[&[0x18][..], &with_length(&properties)].concat())
}

fn user_property(key: &str, value: &str) -> Vec<u8> {
    [&[0x26][..], &text(key.as_bytes()), &text(value.as_bytes())].concat()
}

fn with_length(properties: &[u8]) -> Vec<u8> {
    [&variable_integer(properties.len()), properties].concat()
}
