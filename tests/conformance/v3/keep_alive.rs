//! Keep-alive: what counts as silence, and how long it may last.
//!
//! These are the only scripts in which time itself passes.

use std::thread;
use std::time::{Duration, Instant};

use super::connect;
use crate::client::Client;
use crate::server::on_each_shard_count;
use crate::wire::{Connect, Packet, Publish, Subscribe, Will};

/// One and a half keep-alive periods of `SECONDS`, less what clocks and wheels may round, up to what a busy machine may add.
const SECONDS: u16 = 2;
const EARLIEST: Duration = Duration::from_millis(2_950);
const LATEST: Duration = Duration::from_millis(6_000);

#[test]
fn v3_mqtt_3_1_2_24_silence_for_one_and_a_half_keep_alive_periods_closes() {
    on_each_shard_count(|server| {
        let topic = server.unique("silent");
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 1);
        let started = Instant::now();
        let keep_alive = Connect::v311(&server.unique("silent")).keep_alive(SECONDS);
        let mut silent = Client::connect(server, keep_alive.will(Will::new(&topic, "silent").qos(1)));
        silent.expect_closed();
        let passed = started.elapsed();
        assert!((EARLIEST..LATEST).contains(&passed), "closed after {passed:?}");
        // As if the network had failed: the Will goes out.
        observer.receive(&topic, "silent", 1);
    });
}

#[test]
fn any_packet_of_the_client_counts_against_silence() {
    on_each_shard_count(|server| {
        let topic = server.unique("active");
        let keep_alive = || Connect::v311(&server.unique("active")).keep_alive(SECONDS);
        let mut clients = [(); 4].map(|()| Client::connect(server, keep_alive()));
        let mut without_limit = Client::connect(server, keep_alive().keep_alive(0));
        // Each sends a packet of another kind once a second, through twice the time after which silence closes.
        for _ in 0..6 {
            thread::sleep(Duration::from_secs(1));
            let [ping, zero, one, subscribe] = &mut clients;
            ping.send(Packet::PingReq).expect(Packet::PingResp);
            zero.send(Publish::new(&topic, "x"));
            one.publish(&topic, "x", 1);
            let id = subscribe.next_id();
            subscribe.send(Subscribe::new(id, "elsewhere", 0)).expect_suback(id, &[0]);
        }
        for client in &mut clients {
            client.expect_nothing_within_roundtrip();
        }
        without_limit.expect_nothing_within_roundtrip();
    });
}

#[test]
fn what_the_server_sends_does_not_end_silence() {
    on_each_shard_count(|server| {
        let topic = server.unique("deaf");
        let keep_alive = Connect::v311(&server.unique("deaf")).keep_alive(SECONDS);
        let started = Instant::now();
        let mut listener = Client::connect(server, keep_alive);
        listener.subscribe(&topic, 0);
        // The server sends to this client all the time, but hears nothing from it.
        let mut publisher = connect(server, "p");
        while listener.next_or_closed_while(&mut publisher, &topic) {
            assert!(started.elapsed() < LATEST, "still connected after {:?}", started.elapsed());
        }
        assert!(started.elapsed() >= EARLIEST, "closed after {:?}", started.elapsed());
    });
}

impl Client {
    /// Lets `publisher` send a message and takes it here; false once this connection is closed.
    fn next_or_closed_while(&mut self, publisher: &mut Client, topic: &str) -> bool {
        publisher.publish(topic, "busy", 1);
        thread::sleep(Duration::from_millis(100));
        self.next_or_closed().is_some()
    }
}
