//! What the fuzzers begin with, made by code. Also what once made a check fail, so that it is looked at with every run.

use ringmq::config;

use crate::packets;

/// A fuzzer: its name, what it checks, and its seeds.
pub type Fuzzer = (&'static str, fn(&[u8]), Vec<Vec<u8>>);

/// The fuzzers.
pub fn all() -> [Fuzzer; 5] {
    use crate::checks;
    [
        ("decode", checks::decode::check, decode()),
        ("frames", checks::frames::check, frames()),
        ("config", checks::config::check, config()),
        ("topic", checks::topic::check, topic()),
        ("shard", checks::shard::check, shard()),
    ]
}

/// Every packet of the table, valid or not.
fn decode() -> Vec<Vec<u8>> {
    let empty_filter = vec![0x82, 6, 0, 1, 0, 0, 0, 0];
    packets::cases().into_iter().map(|case| case.bytes).chain([empty_filter]).collect()
}

/// Each packet behind a CONNECT, cut in the middle, and all that clients send in one stream.
fn frames() -> Vec<Vec<u8>> {
    let cases = packets::valid::cases();
    let stream = |version: u8, bytes: &[u8]| {
        let middle = (bytes.len() / 2 + 14) as u16;
        [&[version, 0, 2], &middle.to_be_bytes()[..], &[0, 3], bytes].concat()
    };
    let mut seeds = Vec::new();
    for (number, version) in crate::checks::VERSIONS.into_iter().enumerate() {
        let of_clients =
            || cases.iter().filter(move |case| case.version == version && case.sender == ringmq::mqtt::Sender::Client);
        seeds.extend(of_clients().map(|case| stream(number as u8, &case.bytes)));
        let many = of_clients().filter(|case| matches!(case.bytes[0] >> 4, 3 | 8 | 10 | 12));
        seeds.push(stream(number as u8, &many.flat_map(|case| case.bytes.clone()).collect::<Vec<u8>>()));
    }
    seeds
}

/// The reference with its sections, and one wrong thing of each kind.
fn config() -> Vec<Vec<u8>> {
    let reference = config::reference();
    // A seed that is all of it would be changed where it is comment.
    let keys = reference.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| line.contains('='));
    let mut seeds: Vec<Vec<u8>> = keys.map(|line| line.trim().as_bytes().to_vec()).collect();
    let texts = [
        "",
        "[mqtt]\nqos_max = 1\n",
        "[mqtt]\nqos_max = 3\n[nonsense]\nkey = 1",
        "[[listener]]\naddress = \"127.0.0.1:1883\"\nname = \"a\"\n[[listener]]\naddress = \"[::1]:1883\"\n",
        "[[listener]]\naddress = \"\u{e9}\u{1F600}\"\r\n",
        "listener = 1\nmqtt = 2\n",
        "[runtime]\ncpus = \"0-3,6\"\nconnect_timeout = \"1.5s\"\nring_entries = 1000\n",
        "[mqtt\n\"",
        "\0RINGMQ_MQTT__QOS_MAX=1\0smqtt.session_expiry_max=1h\0l127.0.0.1:1884",
        "\0RINGMQ_LISTENER__0__ADDRESS=127.0.0.1:1\0slistener.1.address=x\0s\0l",
    ];
    seeds.extend(texts.map(|text| text.as_bytes().to_vec()));
    seeds
}

/// Scripts of filters that share levels, and topics that they match or don't.
fn topic() -> Vec<Vec<u8>> {
    let scripts = [
        "+0a/b\n+1a/+\n+2#\n+3+/b\n+4a/#\na/b\na\na/c\n-0a/b\n-2#\na/b",
        "+0a/b/c\n+0a/b/d\n+0a/b\n+1+/b/+\n+2a/+/#\na/b/c\na/b\n-0a/b\n-0a/b/c\na/b/d",
        "+0$SYS/#\n+1+/x\n+2#\n$SYS/x\n$SYS\n+3$share/g/$SYS/+\n$SYS/x",
        "+0/\n+1//\n+2+/+\n+3/+\n/\n//\n-0/\n/a",
        "+0$share/g/$share/h/#\n$share/h/a\n+1\u{e9}/+\n\u{e9}/e\u{301}",
        "+0$share/g/$share\n$share\n/sh/\n-0$share/g/$share",
    ];
    scripts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Scripts of a few clients: what each byte means is said in `checks/shard.rs`.
fn shard() -> Vec<Vec<u8>> {
    let connect = |client: u8, version: u8, id: u8| vec![client << 4 | 1, version, 1, id, 0];
    let v5 = |client: u8, id: u8| [connect(client, 0, id), vec![3, 0, 2, 0]].concat();
    let settle = vec![13];
    let two = [vec![0, 0], v5(0, 0), v5(1, 1), settle.clone()].concat();
    let behind = |bytes: &[u8]| [&two[..], bytes, &[13]].concat();
    vec![
        two.clone(),
        // A client whose window is full is owed more.
        vec![
            0, 0, 1, 0, 0, 0, 3, 0, 1, 2, 0, 17, 0, 0, 1, 1, 0, 2, 0, 2, 0, 0, 13, 20, 0, 2, 0, 0, 0, 13, 20, 0, 2, 0,
            0, 0, 13, 2, 0, 2, 0, 2, 0, 0, 17, 0, 13, 20, 40, 13, 13,
        ],
        // A client is gone in the turn in which it was told to go.
        vec![
            0, 0, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 10, 0, 17, 2, 0, 17, 0, 1, 1, 0, 3, 1, 0, 0, 13, 14, 0xFF,
            0, 0, 0xFA, 18, 0, 8, 0, 64, 0, 13, 3, 8, 8, 0, 13,
        ],
        // Subscribes to `#` at QoS 2, publishes at QoS 2, acknowledges.
        behind(&[0x02, 0, 2, 0, 2, 0, 0, 13, 0x14, 0, 2, 0, 0, 1, 0, 0, 13, 0x16, 2, 0, 0, 0x06, 1, 0, 0, 13]),
        // A share group with both as members, a retained message, and an unsubscription.
        behind(&[0x02, 0, 8, 0, 1, 0, 0, 0x12, 0, 8, 0, 1, 0, 0, 13, 0x14, 2, 1, 0, 0, 0, 0, 0, 13, 0x03, 8, 8, 0]),
        // Stops reading, is sent much, falls silent, is away, comes back.
        behind(&[
            0x02, 0, 2, 0, 1, 0, 0, 13, 0x09, 0x14, 0, 1, 0, 0, 0, 0, 3, 0x14, 0, 0, 0, 0, 0, 3, 12, 5, 0x0A, 12, 6,
        ]),
        // 3.1.1 and 3.1.
        [vec![0, 0], connect(0, 1, 0), connect(1, 2, 1), settle, vec![0x02, 0, 2, 0, 1, 0, 0, 13, 0x14, 2, 1, 1, 0, 0]]
            .concat(),
        // The server stops.
        behind(&[14, 0xFF, 13, 12, 2, 14, 0xFF]),
        // Raw bytes: a PINGREQ in two pieces, then garbage.
        behind(&[0x08, 1, 0xC0, 15, 0x08, 1, 0, 13, 0x18, 3, 0xFF, 0xFF, 0xFF]),
    ]
}
