//! The shard alone, fed bytes: what its driver cannot see from outside.

use std::rc::Rc;

use super::super::{ConnectionEffect, ListenerFacts, Shard, Shared};
use crate::{
    config::{Config, Durability, SlowSubscriber},
    routing::HashKey,
    runtime::ConnectionId,
    sync::Arc,
    time::Moment,
};

/// A shard of one, with the clock in the test's hand.
struct Alone {
    shard: Shard,
    now: Moment,
    sent: Vec<(u32, Vec<u8>)>,
    effects: Vec<ConnectionEffect>,
}

impl Alone {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.sys.enabled = false;
        change(&mut config);
        let now = Moment::from_micros(1_000_000_000);
        let shared = Arc::new(Shared::new(1, 1, HashKey::from_seed(1), 1 << 12));
        let listener = ListenerFacts { admits_anonymous: true, port: 1883, durability: Durability::Sync };
        let shard = Shard::new(0, Rc::new(config), shared, vec![listener], now);
        Self { shard, now, sent: Vec::new(), effects: Vec::new() }
    }

    fn turn(&mut self) {
        self.shard.handle_time(self.now);
        self.shard.run_jobs(self.now);
        self.shard.end_turn(self.now);
        self.effects.append(&mut self.shard.effects_mut().connections);
        let sent = &mut self.sent;
        let mut buffers = Vec::new();
        self.shard.drain_dirty(self.now, |id, buffer| buffers.push((id, buffer)));
        for (id, buffer) in buffers {
            let bytes: Vec<u8> = buffer.slices(0).flatten().copied().collect();
            let length = bytes.len();
            sent.push((id.slot, bytes));
            self.shard.handle_sent(id, buffer, length, self.now);
        }
        self.shard.handle_mesh_room();
        self.shard.check_invariants();
    }

    fn run(&mut self) {
        self.turn();
        for _ in 0..10_000 {
            if !self.shard.has_work() {
                return;
            }
            self.turn();
        }
        panic!("there is always more to do");
    }

    fn give(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.shard.handle_received(id, bytes, self.now);
        self.run();
    }

    fn connect(&mut self, slot: u32, generation: u32, connect: &[u8]) -> ConnectionId {
        let id = ConnectionId { slot, generation };
        self.shard.handle_accepted(id, 0, "127.0.0.1:1".parse().unwrap(), self.now);
        self.give(id, connect);
        id
    }

    /// What a connection was sent since the last look.
    fn heard(&mut self, id: ConnectionId) -> Vec<u8> {
        let heard = self.sent.iter().filter(|(slot, _)| *slot == id.slot).flat_map(|(_, bytes)| bytes.clone());
        let heard = heard.collect();
        self.sent.retain(|(slot, _)| *slot != id.slot);
        heard
    }

    fn closes(&self, id: ConnectionId) -> bool {
        self.effects.iter().any(|effect| matches!(effect, ConnectionEffect::Close(closed, ..) if *closed == id))
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128, "one byte of length is enough here");
    [&[first, body.len() as u8], body].concat()
}

/// CONNECT of version 5. `flags`: 2 is a clean start, 4 a Will to the topic `will`.
fn connect_v5(client_id: &str, flags: u8, keep_alive_s: u16, expiry_s: u32) -> Vec<u8> {
    let mut body = [&text("MQTT")[..], &[5, flags], &keep_alive_s.to_be_bytes(), &[5, 0x11]].concat();
    body.extend(expiry_s.to_be_bytes());
    body.extend(text(client_id));
    if flags & 4 != 0 {
        body.extend([&[0][..], &text("will"), &text("gone")].concat());
    }
    packet(0x10, &body)
}

/// PUBLISH of version 5, `first` with its flags.
fn publish_v5(first: u8, topic: &str, identifier: u16, payload: &str) -> Vec<u8> {
    let identifier = if first & 6 == 0 { vec![] } else { identifier.to_be_bytes().to_vec() };
    packet(first, &[&text(topic)[..], &identifier, &[0], payload.as_bytes()].concat())
}

fn subscribe_v5(filter: &str, options: u8) -> Vec<u8> {
    packet(0x82, &[&[0, 1, 0][..], &text(filter), &[options]].concat())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn room_in_the_mesh_that_lets_a_connection_receive_is_work() {
    let mut alone = Alone::new(|_| {});
    let id = alone.connect(0, 1, &connect_v5("a", 2, 0, 0));
    alone.shard.start_waiting(id, super::super::connections::Flags::WAITS_FOR_MESH, true);
    alone.shard.waiting_for_mesh.push(id);
    alone.shard.handle_mesh_room();
    assert!(alone.shard.has_work(), "the driver has acted for this turn, and must not sleep before it resumes");
}

#[test]
fn input_that_was_put_off_is_handled_before_the_end_of_its_connection() {
    let mut alone = Alone::new(|_| {});
    let hears = alone.connect(0, 1, &connect_v5("hears", 2, 0, 0));
    alone.give(hears, &subscribe_v5("will", 0));
    let id = alone.connect(1, 1, &connect_v5("leaves", 2 | 4, 0, 0));
    alone.shard.start_waiting(id, super::super::connections::Flags::WAITS_FOR_JOB, false);
    alone.shard.handle_received(id, &[0xE0, 0x00], alone.now);
    assert!(!alone.shard.handle_input_ended(id));
    alone.shard.stop_waiting(id, super::super::connections::Flags::WAITS_FOR_JOB);
    alone.run();
    assert!(alone.closes(id));
    assert!(alone.shard.handle_input_ended(id), "it is over");
    assert!(!contains(&alone.heard(hears), b"gone"), "it took its leave [v5 MQTT-3.14.4-3]");
}

#[test]
fn a_client_that_asks_on_and_never_reads_has_to_go() {
    let mut alone = Alone::new(|config| config.mqtt.packet_bytes_max = 1024);
    let id = alone.connect(0, 1, &connect_v5("a", 2, 0, 0));
    let asks = [0xC0, 0x00].repeat(2048);
    let max = alone.shard.config.mqtt.outbound_bytes_max();
    for _ in 0..max / asks.len() + 2 {
        alone.shard.handle_received(id, &asks, alone.now);
        // Its turns end, and nothing of what is written leaves.
        alone.shard.end_turn(alone.now);
    }
    assert!(alone.shard.clients().connections.at(0).is_none());
    assert_eq!(alone.shard.counters().unread_over_limit, 1);
}

#[test]
fn input_beyond_a_turns_deliveries_waits_for_the_next_turn() {
    let mut alone = Alone::new(|config| config.runtime.turn_deliveries_max = 64);
    let hears = alone.connect(0, 1, &connect_v5("hears", 2, 0, 0));
    alone.give(hears, &subscribe_v5("t", 0));
    let sends = alone.connect(1, 1, &connect_v5("sends", 2, 0, 0));
    alone.sent.clear();
    alone.shard.handle_received(sends, &publish_v5(0x30, "t", 0, "x").repeat(200), alone.now);
    assert_eq!(alone.shard.counters().paused_for_turn, 1);
    assert!(alone.shard.counters().deliveries[0] <= 64, "{:?}", alone.shard.counters().deliveries);
    alone.run();
    assert_eq!(alone.shard.counters().deliveries[0], 200, "nothing of it is lost");
}

#[test]
fn incomplete_connects_hold_only_so_many_bytes() {
    let mut alone = Alone::new(|config| config.runtime.connect_bytes_max = 64 * 1024);
    // The start of a CONNECT of 60,000 bytes, and its user name for ever.
    let start = [&[0x10, 0xE0, 0xD4, 0x03][..], &[0, 4], b"MQTT", &[5]].concat();
    for slot in 0..3 {
        let id = ConnectionId { slot, generation: 1 };
        alone.shard.handle_accepted(id, 0, std::net::SocketAddr::from(([127, 0, 0, 1], 9)), alone.now);
        alone.shard.handle_received(id, &[&start[..], &[b'x'; 30_000]].concat(), alone.now);
    }
    assert_eq!(alone.shard.counters().connects_over_bytes, 1, "the third is one too many");
    assert_eq!(alone.shard.clients().connections.pending_ids().count(), 2);
}

#[test]
fn a_refused_qos_2_identifier_is_free_for_the_next_message() {
    let mut alone = Alone::new(|config| config.mqtt.retained_messages_max = 0);
    let hears = alone.connect(0, 1, &connect_v5("hears", 2, 0, 0));
    alone.give(hears, &subscribe_v5("t", 0));
    let id = alone.connect(1, 1, &connect_v5("sends", 2, 0, 0));
    alone.give(id, &publish_v5(0x35, "t", 7, "first"));
    assert!(contains(&alone.heard(id), &[0, 7, 0x97]), "PUBREC refuses");
    alone.give(id, &publish_v5(0x34, "t", 7, "second"));
    // [v5 MQTT-4.3.3-9]
    assert!(contains(&alone.heard(hears), b"second"), "a new message, not a duplicate");
}

#[test]
fn what_an_earlier_connection_left_open_does_not_count_against_the_receive_maximum() {
    let mut alone = Alone::new(|config| config.mqtt.receive_maximum = 2);
    let id = alone.connect(0, 1, &connect_v5("a", 0, 0, 100));
    for identifier in 1..=2 {
        alone.give(id, &publish_v5(0x34, "t", identifier, ""));
    }
    alone.shard.handle_closed(id, crate::runtime::CloseCause::EndOfStream, alone.now);
    let id = alone.connect(0, 2, &connect_v5("a", 0, 0, 100));
    alone.give(id, &publish_v5(0x34, "t", 3, ""));
    assert!(!alone.closes(id), "its quota begins anew [v5 MQTT-4.9.0-1]");
    alone.give(id, &publish_v5(0x34, "t", 4, ""));
    alone.give(id, &publish_v5(0x34, "t", 5, ""));
    assert!(alone.closes(id), "0x93");
}

#[test]
fn fan_outs_under_way_are_few_and_a_will_that_comes_on_top_is_delivered() {
    let mut alone = Alone::new(|_| {});
    for slot in 0..1100 {
        let id = alone.connect(slot, 1, &connect_v5(&format!("s{slot}"), 2, 0, 0));
        alone.give(id, &subscribe_v5("will", 0));
    }
    for slot in 2000..2100 {
        alone.connect(slot, 1, &connect_v5(&format!("w{slot}"), 2 | 4, 0, 0));
    }
    alone.sent.clear();
    for slot in 2000..2100 {
        let id = ConnectionId { slot, generation: 1 };
        alone.shard.handle_closed(id, crate::runtime::CloseCause::EndOfStream, alone.now);
        assert!(alone.shard.jobs.len() <= alone.shard.config.runtime.fan_out_jobs_max as usize);
    }
    alone.run();
    let heard = alone.heard(ConnectionId { slot: 1099, generation: 1 });
    assert_eq!(heard.windows(4).filter(|window| *window == b"gone").count(), 100);
}

fn advance(alone: &mut Alone, seconds: u64) {
    alone.now = alone.now.after(std::time::Duration::from_secs(seconds));
    alone.run();
}

#[test]
fn a_client_that_comes_and_goes_sets_no_more_timers_and_its_session_ends_in_time() {
    for flags in [0, 2] {
        let mut alone = Alone::new(|_| {});
        for generation in 0..500 {
            let id = alone.connect(0, generation, &connect_v5("a", flags, 60_000, 100_000));
            alone.shard.handle_closed(id, crate::runtime::CloseCause::EndOfStream, alone.now);
            advance(&mut alone, 1);
        }
        // Deadlines of CONNECT of the last ten seconds are the rest.
        assert!(alone.shard.timers.len() < 20, "{}", alone.shard.timers.len());
        advance(&mut alone, 99_990);
        assert!(alone.shard.clients().find("a").is_some());
        advance(&mut alone, 20);
        assert!(alone.shard.clients().find("a").is_none());
    }
}

#[test]
fn keep_alive_is_that_of_the_connection_in_the_slot() {
    for (earlier, later) in [(100, 10), (10, 100)] {
        let mut alone = Alone::new(|_| {});
        let id = alone.connect(0, 1, &connect_v5("a", 2, earlier, 0));
        alone.shard.handle_closed(id, crate::runtime::CloseCause::EndOfStream, alone.now);
        let id = alone.connect(0, 2, &connect_v5("b", 2, later, 0));
        advance(&mut alone, u64::from(later) * 3 / 2 - 1);
        assert!(!alone.closes(id), "{earlier} {later}");
        advance(&mut alone, 2);
        assert!(alone.closes(id), "{earlier} {later}");
    }
}

#[test]
fn a_question_that_waits_for_its_client_is_asked_once_and_ends_with_the_connection() {
    let mut alone = Alone::new(|_| {});
    let sends = alone.connect(0, 1, &connect_v5("sends", 2, 0, 0));
    for number in 0..500 {
        alone.give(sends, &publish_v5(0x31, &format!("r/{number}"), 0, "kept"));
    }
    let id = alone.connect(1, 1, &connect_v5("asks", 0, 0, 1000));
    let connection = alone.shard.clients.connections.open_mut(id).unwrap();
    connection.unsent_bytes = 1 << 19;
    for _ in 0..10 {
        alone.give(id, &subscribe_v5("r/#", 1));
        assert_eq!(alone.shard.retained_talk.open_questions(), 1);
    }
    alone.shard.handle_closed(id, crate::runtime::CloseCause::EndOfStream, alone.now);
    alone.run();
    assert_eq!(alone.shard.retained_talk.open_questions(), 0);
}

#[test]
fn a_question_does_not_remember_live_messages_without_end() {
    let mut alone = Alone::new(|_| {});
    let sends = alone.connect(0, 1, &connect_v5("sends", 2, 0, 0));
    for number in 0..500 {
        alone.give(sends, &publish_v5(0x31, &format!("r/{number}"), 0, "kept"));
    }
    let id = alone.connect(1, 1, &connect_v5("asks", 2, 0, 0));
    alone.shard.clients.connections.open_mut(id).unwrap().unsent_bytes = 1 << 19;
    alone.give(id, &subscribe_v5("r/#", 0));
    assert_eq!(alone.shard.retained_talk.open_questions(), 1);
    for number in 0..1100 {
        alone.give(sends, &publish_v5(0x31, &format!("r/new/{number}"), 0, ""));
    }
    assert_eq!(alone.shard.retained_talk.open_questions(), 0);
}

#[test]
fn a_drain_ends_connections_without_connect_as_well() {
    let mut alone = Alone::new(|_| {});
    let id = ConnectionId { slot: 0, generation: 1 };
    alone.shard.handle_accepted(id, 0, "127.0.0.1:1".parse().unwrap(), alone.now);
    alone.shard.drain(10, alone.now);
    advance(&mut alone, 0);
    assert!(!alone.closes(id), "its CONNECT may be on its way");
    advance(&mut alone, 2);
    alone.shard.drain(10, alone.now);
    alone.run();
    assert!(alone.closes(id));
    assert_eq!((alone.shard.shared.connections.now(), alone.shard.shared.pending_connects.now()), (0, 0));
}

#[test]
fn a_listener_admits_as_many_connections_as_it_may() {
    let mut alone = Alone::new(|config| config.listeners[0].connections_max = 1);
    for generation in 1..4 {
        let id = alone.connect(0, generation, &connect_v5("a", 2, 0, 0));
        let second = ConnectionId { slot: 1, generation };
        alone.shard.handle_accepted(second, 0, "127.0.0.1:1".parse().unwrap(), alone.now);
        alone.run();
        assert!(alone.closes(second) && !alone.closes(id));
        alone.give(id, &[0xE0, 0x00]);
        assert!(alone.closes(id));
    }
}

#[test]
fn a_subscriber_that_falls_behind_is_disconnected_where_that_is_configured() {
    for (act, goes) in [(SlowSubscriber::Queue, false), (SlowSubscriber::Disconnect, true)] {
        let mut alone = Alone::new(|config| config.mqtt.slow_subscriber = act);
        let id = alone.connect(0, 1, &connect_v5("slow", 2, 0, 0));
        alone.give(id, &subscribe_v5("t", 1));
        let sends = alone.connect(1, 1, &connect_v5("sends", 2, 0, 0));
        alone.shard.clients.connections.open_mut(id).unwrap().unsent_bytes = 512 * 1024;
        alone.give(sends, &publish_v5(0x32, "t", 1, "more"));
        assert_eq!(alone.closes(id), goes);
    }
}

#[test]
fn connects_that_never_end_hold_no_more_than_a_shard_gives_them() {
    let mut alone = Alone::new(|_| {});
    // 700 KB of a CONNECT that announces 900 KB, each.
    let begun = [&[0x10, 0xA0, 0xF7, 0x36][..], &[b'x'; 700_000]].concat();
    let ids = (0..200).map(|slot| ConnectionId { slot, generation: 1 });
    for id in ids.clone() {
        alone.shard.handle_accepted(id, 0, "127.0.0.1:1".parse().unwrap(), alone.now);
        alone.shard.handle_received(id, &begun, alone.now);
    }
    assert!(alone.shard.pending_bytes <= 65 << 20);
    alone.run();
    let client = alone.connect(500, 1, &connect_v5("a", 2, 0, 0));
    assert!(!alone.closes(client), "who says all at once is served");
    for id in ids {
        alone.shard.handle_closed(id, crate::runtime::CloseCause::EndOfStream, alone.now);
    }
    assert_eq!(alone.shard.pending_bytes, 0);
}
