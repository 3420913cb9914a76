//! One client that publishes as fast as it can does not keep the others waiting.

mod house;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use house::broker::Broker;

/// CONNECT of MQTT 3.1.1 with a clean session, and its CONNACK.
fn connect(address: &str, client_id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the broker accepts");
    stream.set_nodelay(true).expect("a socket option");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
    let mut packet = vec![0x10, 12 + client_id.len() as u8, 0, 4];
    packet.extend_from_slice(b"MQTT\x04\x02\x00\x3c\x00");
    packet.push(client_id.len() as u8);
    packet.extend_from_slice(client_id.as_bytes());
    stream.write_all(&packet).expect("CONNECT is taken");
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).expect("CONNACK");
    assert_eq!(connack, [0x20, 2, 0, 0]);
    stream
}

#[test]
fn a_quiet_client_is_answered_while_another_publishes_without_end() {
    let broker = Broker::start(1, &["127.0.0.1"], &[]);
    let address = broker.addresses[0].to_string();
    let mut subscriber = connect(&address, "subscriber");
    subscriber.write_all(b"\x82\x06\x00\x01\x00\x01t\x00").expect("SUBSCRIBE is taken");
    let mut suback = [0; 5];
    subscriber.read_exact(&mut suback).expect("SUBACK");
    let drain = thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while subscriber.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    let stop = Arc::new(AtomicBool::new(false));
    let firehose = {
        let (stop, mut stream) = (Arc::clone(&stop), connect(&address, "firehose"));
        // 64 bytes on the wire, a thousand at a time.
        let frame = [&b"\x30\x3e\x00\x01t"[..], &[b'x'; 59]].concat();
        let frames = frame.repeat(1000);
        thread::spawn(move || while !stop.load(Ordering::Relaxed) && stream.write_all(&frames).is_ok() {})
    };
    let mut quiet = connect(&address, "quiet");
    let mut waits: Vec<Duration> = (0..300)
        .map(|_| {
            let asked = Instant::now();
            quiet.write_all(&[0xC0, 0]).expect("PINGREQ is taken");
            quiet.read_exact(&mut [0; 2]).expect("PINGRESP");
            asked.elapsed()
        })
        .collect();
    stop.store(true, Ordering::Relaxed);
    firehose.join().expect("the firehose ends");
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    println!("PINGREQ beside a firehose: p50 {:?}, p99 {p99:?}", waits[waits.len() / 2]);
    assert!(p99 < Duration::from_millis(50), "p99 is {p99:?}");
    drop(broker);
    drain.join().expect("the subscriber ends");
}

#[test]
fn a_quiet_client_is_answered_while_a_crowd_leaves_at_once() {
    let broker = Broker::start(1, &["127.0.0.1"], &[]);
    let address = broker.addresses[0].to_string();
    let mut quiet = connect(&address, "quiet");
    // The best of a few, for the machine may stop anyone at any time.
    let share = (0..ROUNDS).map(|_| share_of_wait(&address, &mut quiet)).fold(f64::MAX, f64::min);
    assert!(share < 0.3, "PINGREQ waits for {share:.2} of the crowd");
    drop(broker);
}

/// How much of the time that the broker takes to part with a crowd a client waits that has stayed.
fn share_of_wait(address: &str, quiet: &mut TcpStream) -> f64 {
    let crowd: Vec<_> = (0..CROWD).map(|number| connect(address, &format!("crowd-{number}"))).collect();
    let began = Instant::now();
    drop(crowd);
    let asked = Instant::now();
    quiet.write_all(&[0xC0, 0]).expect("PINGREQ is taken");
    quiet.read_exact(&mut [0; 2]).expect("PINGRESP");
    let waited = asked.elapsed();
    // Who comes after them is served when they are gone.
    connect(address, "newcomer");
    let all = began.elapsed();
    println!("PINGREQ beside {CROWD} that leave: {waited:?} of {all:?}");
    waited.as_secs_f64() / all.as_secs_f64()
}

/// Connections that leave together.
const CROWD: usize = 800;
const ROUNDS: usize = 3;
