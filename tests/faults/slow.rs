//! A disk on which each sync takes long: it slows who waits for it, and nobody else.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use ringmq::mqtt::{
    Connect, Encode as _, Packet, PacketIdentifier, Peek, ProtocolVersion, Publish, PublishProperties, QoS, Sender,
    Subscribe, SubscriptionOptions, TopicFilter, frame,
};

use crate::{
    disk::{Faults, FaultyDisk},
    house::broker::Broker,
};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// A client that waits for each answer.
struct Client {
    socket: TcpStream,
    input: Vec<u8>,
}

impl Client {
    fn connect(broker: &Broker, name: &str, expiry_s: Option<u32>) -> Client {
        let socket = TcpStream::connect(broker.address()).expect("it listens");
        socket.set_nodelay(true).expect("a socket can be told not to wait");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket can be told to wait");
        let mut client = Client { socket, input: Vec::new() };
        let mut connect = Connect::new(V5, name);
        connect.clean_start = true;
        connect.properties.session_expiry_interval = expiry_s;
        let mut bytes = Vec::new();
        connect.encode(&mut bytes).expect("a CONNECT");
        client.ask(&bytes);
        client
    }

    /// Sends bytes and waits for a packet; returns how long that took.
    fn ask(&mut self, bytes: &[u8]) -> Duration {
        let began = Instant::now();
        self.socket.write_all(bytes).expect("it is open");
        let mut chunk = [0; 4096];
        loop {
            if let Peek::Complete(header) = frame::peek(&self.input, u32::MAX).expect("the broker sends packets") {
                let rest = self.input.split_off(header.total_len());
                let packet = std::mem::replace(&mut self.input, rest);
                let body = &packet[usize::from(header.header_len)..];
                let packet = Packet::decode(header, body, V5, Sender::Server).expect("the broker sends packets");
                assert!(!matches!(packet, Packet::Disconnect(_)), "{packet:?}");
                return began.elapsed();
            }
            let length = self.socket.read(&mut chunk).expect("an answer comes");
            assert!(length > 0, "the connection is over");
            self.input.extend_from_slice(&chunk[..length]);
        }
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) {
        let filters = [(TopicFilter::parse(filter).expect("a filter"), SubscriptionOptions::with_qos(qos))];
        let mut bytes = Vec::new();
        Subscribe::new(PacketIdentifier::MIN, &filters).encode(V5, &mut bytes).expect("a SUBSCRIBE");
        self.ask(&bytes);
    }
}

fn publish(topic: &str, qos: QoS) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_identifier: (qos != QoS::AtMostOnce).then_some(PacketIdentifier::MIN),
        properties: PublishProperties::default(),
        payload: b"payload",
    };
    let mut bytes = Vec::new();
    publish.encode(V5, &mut bytes).expect("a PUBLISH");
    bytes
}

#[test]
fn a_slow_disk_slows_who_waits_for_it_and_nobody_else() {
    let Some(disk) = FaultyDisk::new() else { return println!("left out: there is no C compiler") };
    let data = disk.data().display().to_string();
    let variables = disk.variables();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let broker = Broker::start_in(1, &["127.0.0.1"], &["--durability", "sync", "--data-dir", &data], &variables);
    let mut keeper = Client::connect(&broker, "keeper", Some(3600));
    keeper.subscribe("kept/#", QoS::AtLeastOnce);
    drop(keeper);
    let mut publisher = Client::connect(&broker, "publisher", None);
    let mut bystander = Client::connect(&broker, "bystander", None);
    bystander.subscribe("live", QoS::AtMostOnce);
    disk.set(Faults { sync_ms: SYNC_MS as i32, ..Faults::default() });
    let busy = thread::spawn(move || {
        (0..10).map(|_| publisher.ask(&publish("kept/a", QoS::AtLeastOnce))).collect::<Vec<Duration>>()
    });
    let mut waits = Vec::new();
    while !busy.is_finished() {
        waits.push(bystander.ask(&[0xC0, 0]));
        waits.push(bystander.ask(&publish("live", QoS::AtMostOnce)));
    }
    let acknowledged = busy.join().expect("it publishes");
    assert!(acknowledged.iter().all(|wait| *wait >= Duration::from_millis(SYNC_MS)), "{acknowledged:?}");
    waits.sort();
    // A loaded machine may stop anyone for a while; a shard that waited for the disk would be late each time.
    let (median, late) = (waits[waits.len() / 2], waits.len() / 100);
    let wait = waits[waits.len() - 1 - late];
    println!("{} answers, half within {median:?}, 99 % within {wait:?}", waits.len());
    assert!(waits.len() > 100 && median < Duration::from_millis(20), "half come after {median:?}");
    assert!(wait < Duration::from_millis(SYNC_MS / 2), "1 % come after {wait:?}");
}

/// How much longer each sync takes.
const SYNC_MS: u64 = 200;
