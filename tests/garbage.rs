//! Garbage: mutated and random bytes on very many connections; the broker serves on and keeps nothing of it.
//!
//! Each connection is decided by the seed, its round and its number: what it sends, in how many pieces, and how it ends.
//! After each round, a client from before the round and a new one are served, every connection is gone, and what the
//! broker's memory has grown by between the first round and the last is next to nothing.
//!
//! `SEED=` replays a run, `RINGMQ_GARBAGE_CONNECTIONS=` and `RINGMQ_GARBAGE_ROUNDS=` make it shorter or longer.

mod house;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use house::{
    broker::Broker,
    packets::{self, LEVELS, Level},
    random::Random,
};

/// Each address has its own 28,000 client ports, so that ports which wait out their TIME_WAIT are not missed.
const HOSTS: [&str; 8] =
    ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6", "127.0.0.7", "127.0.0.8"];

/// What the broker may keep must be bounded where garbage can ask it to keep something: sessions that outlive their
/// connection end within a second, and the retained messages are as many after the first round as after the last.
const SETTINGS: [&str; 8] = [
    "--set",
    "mqtt.session_expiry_max=1s",
    "--set",
    "mqtt.session_expiry_v3=1s",
    "--set",
    "mqtt.retained_messages_max=200",
    "--set",
    "log.level=error",
];

const SHARDS: usize = 2;

/// Connections at once. Most of their time they wait for the broker's answer.
const WORKERS: usize = 32;

/// How long the broker may take to answer or to close. It needs milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A timer that lost its connection may stand until it is due: it must be due before memory is looked at.
const KEEP_ALIVE_S: u8 = 1;

/// Memory is read again and again for this long, and the lowest counts: expiry and the allocator take a moment.
const SETTLING: Duration = Duration::from_secs(4);

const GROWTH_BYTES_MAX: u64 = 2 << 20;

#[test]
fn garbage_on_100_000_connections_a_round_leaves_no_trace() {
    let seed = Random::seed_from_environment();
    let connections = number_from_environment("RINGMQ_GARBAGE_CONNECTIONS", 100_000);
    let rounds = number_from_environment("RINGMQ_GARBAGE_ROUNDS", 4).max(2);
    let mut broker = Broker::start(SHARDS, &HOSTS, &SETTINGS);
    let mut canary = Canary::connect(broker.address(), "canary");
    canary.check();
    let descriptors_at_rest = settled_descriptors(&broker, &mut canary);
    let mut resident = Vec::new();
    for round in 0..rounds {
        let started = Instant::now();
        run_round(&broker.addresses, seed, round, connections);
        let took = started.elapsed();
        assert!(broker.is_running(), "the broker ended in round {round}:\n{}", broker.log());
        canary.check();
        Canary::connect(broker.address(), "late-canary").check();
        wait_until_all_are_gone(&broker, &mut canary, descriptors_at_rest);
        let settled = settled_resident_bytes(&broker, &mut canary);
        println!("round {round}: {connections} connections in {took:.1?}, then {} KiB resident", settled / 1024);
        resident.push(settled);
    }
    // The first round makes what stays: in six rounds 31.0, 32.3, 32.3, 32.8, 33.1 and 33.1 MiB were resident.
    let (first, last) = (resident[1], resident[resident.len() - 1]);
    assert!(
        last <= first + GROWTH_BYTES_MAX,
        "memory grew from {} KiB after the second round to {} KiB after the last (SEED={seed})",
        first / 1024,
        last / 1024
    );
}

#[test]
fn a_connection_is_decided_by_its_seed_and_number() {
    let bytes = |seed, number| garbage(&mut Random::part(seed, number));
    assert_eq!(bytes(1, 2), bytes(1, 2));
    let different = (0..100).filter(|&number| bytes(1, number) != bytes(2, number)).count();
    assert_eq!(different, 100);
}

/// All connections of a round, [`WORKERS`] at a time.
fn run_round(addresses: &[SocketAddr], seed: u64, round: u64, connections: u64) {
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= connections {
                        return;
                    }
                    let address = addresses[usize::try_from(number).expect("a number") % addresses.len()];
                    let mut random = Random::part(seed, round << 40 | number);
                    if let Err(failure) = run_connection(address, &mut random) {
                        failed.store(true, Ordering::Relaxed);
                        panic!("SEED={seed}, round {round}, connection {number}: {failure}");
                    }
                }
            });
        }
    });
}

/// One connection; what the broker did that it must not do, as an error.
fn run_connection(address: SocketAddr, random: &mut Random) -> Result<(), String> {
    let bytes = garbage(random);
    let failure = |what: &str| format!("{what}; sent were {}", hexadecimal(&bytes));
    let mut stream = TcpStream::connect(address).map_err(|error| failure(&format!("no connection: {error}")))?;
    // Whatever a socket option cannot do here it will not do to the test's result either.
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let cut = random.below(bytes.len() + 1);
    let pieces = if random.once_in(4) { [&bytes[..cut], &bytes[cut..]] } else { [&bytes[..], &[]] };
    for piece in pieces {
        if let Err(error) = stream.write_all(piece) {
            // The broker may have closed at the first bad byte; not reading what is sent is another matter.
            return if is_timeout(&error) { Err(failure("the broker does not read")) } else { Ok(()) };
        }
    }
    if random.once_in(4) {
        // Gone without a word: if the broker has answered already, the kernel sends it a reset.
        return Ok(());
    }
    // A half-closed connection is one whose client will say nothing more: the broker must close it.
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = [0; 2048];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => return Err(failure("the broker does not close")),
            Err(_) => return Ok(()),
        }
    }
}

/// What one connection sends.
fn garbage(random: &mut Random) -> Vec<u8> {
    let level = *random.pick(&LEVELS);
    let client_id = format!("garbage-{}", random.below(5_000));
    match random.below(8) {
        0 => {
            let length = random.between(1, 600);
            random.bytes(length)
        }
        // A packet type that could be, a length that claims more or less than there is.
        1 => {
            let length = *random.pick(&[0, 1, 2, 127, 128, 16_383, 16_384, 2_097_152, 268_435_455, 300_000_000]);
            let mut bytes = vec![random.number().to_le_bytes()[0]];
            bytes.extend(packets::variable_integer(length));
            let more = random.below(200);
            bytes.extend(random.bytes(more));
            bytes
        }
        // A CONNECT that was broken.
        2 | 3 => {
            let mut bytes = if random.once_in(2) {
                packets::connect(level, &client_id, KEEP_ALIVE_S)
            } else {
                packets::connect_with_everything(level, &client_id, KEEP_ALIVE_S, "garbage/will")
            };
            mutate(&mut bytes, random);
            bytes
        }
        // A good CONNECT and broken packets behind it, in one go.
        4..=6 => {
            let mut bytes = packets::connect(level, &client_id, KEEP_ALIVE_S);
            let mut behind = session(level, random);
            mutate(&mut behind, random);
            bytes.extend(behind);
            bytes
        }
        // A good CONNECT and random bytes.
        _ => {
            let mut bytes = packets::connect(level, &client_id, KEEP_ALIVE_S);
            let more = random.between(1, 300);
            bytes.extend(random.bytes(more));
            bytes
        }
    }
}

/// One to six good packets of a connected client.
fn session(level: Level, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.between(1, 6) {
        let topic = format!("garbage/{}", random.below(500));
        let payload_length = random.below(120);
        let payload = random.bytes(payload_length);
        let properties = if random.once_in(2) { packets::publish_properties() } else { Vec::new() };
        bytes.extend(match random.below(12) {
            0..=3 => {
                let (qos, retain) = (*random.pick(&[0, 1, 2]), random.once_in(4));
                packets::publish(level, &topic, qos, retain, &properties, &payload)
            }
            4 => packets::subscribe(level, &[(&topic, 1), ("garbage/+", 2)]),
            5 => packets::subscribe(level, &[("$share/garbage/garbage/#", 1)]),
            6 => packets::unsubscribe(level, &[&topic, "garbage/+"]),
            7 | 8 => packets::acknowledgement(level, *random.pick(&[0x40, 0x50, 0x62, 0x70])),
            9 => packets::pingreq(),
            10 => packets::auth(),
            _ => packets::disconnect(level),
        });
    }
    bytes
}

/// Breaks `bytes` in one to four places.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.between(1, 4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        let end = (at + random.between(1, 8)).min(bytes.len());
        match random.below(8) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = *random.pick(&[0x00, 0x01, 0x7F, 0x80, 0xFF, 0xC0, 0xED, 0xF4]),
            3 => bytes[at] = bytes[at].wrapping_add(*random.pick(&[1, 2, 254, 255])),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let length = random.between(1, 8);
                bytes.splice(at..at, random.bytes(length));
            }
            6 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => bytes.truncate(at),
        }
    }
}

/// A well-behaved client that must be served whatever the others send.
struct Canary {
    stream: TcpStream,
    topic: String,
    next: u16,
}

impl Canary {
    fn connect(address: SocketAddr, name: &str) -> Canary {
        let stream = TcpStream::connect(address).expect("the broker accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        // What garbage subscribes to begins with "garbage", except where a mutation made it `#`.
        let mut canary = Canary { stream, topic: format!("{name}/{}", std::process::id()), next: 0 };
        canary.send(&packets::connect(4, &format!("{name}-{}", std::process::id()), 0));
        assert_eq!(canary.receive(), (0x20, vec![0, 0]), "CONNACK for {name}");
        canary.send(&packets::subscribe(4, &[(&canary.topic, 0)]));
        assert_eq!(canary.receive(), (0x90, vec![0, 9, 0]), "SUBACK for {name}");
        canary
    }

    /// Publishes, and receives its own message unchanged.
    fn check(&mut self) {
        self.next += 1;
        let payload = self.next.to_be_bytes();
        self.send(&packets::publish(4, &self.topic, 0, false, &[], &payload));
        let expected = [packets::text(self.topic.as_bytes()), payload.to_vec()].concat();
        assert_eq!(self.receive(), (0x30, expected), "the message of {}", self.topic);
    }

    /// One round trip, which also keeps the connection alive.
    fn ping(&mut self) {
        self.send(&packets::pingreq());
        assert_eq!(self.receive(), (0xD0, vec![]), "PINGRESP");
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker reads");
    }

    /// The next packet: its first byte and its body, which here is never longer than 127 bytes.
    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 2];
        self.stream.read_exact(&mut header).expect("the broker answers");
        let mut body = vec![0; usize::from(header[1])];
        self.stream.read_exact(&mut body).expect("the broker answers whole packets");
        (header[0], body)
    }
}

/// Returns once the broker has no more sockets open than at rest; the canary's round trips set the pace.
fn wait_until_all_are_gone(broker: &Broker, canary: &mut Canary, at_rest: Option<usize>) {
    let deadline = Instant::now() + PATIENCE;
    while broker.open_descriptors() > at_rest {
        let open = (broker.open_descriptors(), at_rest);
        assert!(Instant::now() < deadline, "(descriptors open, open at rest) is still {open:?}");
        canary.ping();
    }
}

/// The most descriptors open within [`SETTLING`]: a broker that answers already may still be starting shards.
fn settled_descriptors(broker: &Broker, canary: &mut Canary) -> Option<usize> {
    let deadline = Instant::now() + SETTLING;
    let mut most = broker.open_descriptors();
    while Instant::now() < deadline {
        canary.ping();
        most = most.max(broker.open_descriptors());
    }
    most
}

/// The lowest memory use within [`SETTLING`]; 0 for a broker from outside.
fn settled_resident_bytes(broker: &Broker, canary: &mut Canary) -> u64 {
    let deadline = Instant::now() + SETTLING;
    let mut lowest = u64::MAX;
    while Instant::now() < deadline {
        lowest = lowest.min(broker.resident_bytes().unwrap_or(0));
        canary.ping();
    }
    lowest
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn number_from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(number) => number.parse().unwrap_or_else(|_| panic!("{name} is no number: {number:?}")),
        Err(_) => default,
    }
}
