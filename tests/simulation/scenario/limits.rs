//! What runs out: buffers, descriptors, room in queues and tables.

use ringmq::{config::QueueFull, mqtt::ProtocolVersion};

use super::{FILTERS, TOPICS};
use crate::{
    client::{Phase, Profile},
    failure::fail,
    random::Random,
    world::{Setup, World},
};

/// Buffers and descriptors run out, and everybody is served in the end.
pub fn scarcity(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut setup = Setup::random(random);
    setup.buffers = (random.between(1, 2) as u16, *random.pick(&[16, 64]));
    setup.shards = random.between(1, 3);
    let lacks_descriptors = random.once_in(2);
    if lacks_descriptors {
        setup.descriptors_max = Some(setup.shards + 3);
        setup.patience = 400_000;
    }
    let mut world = World::new(seed, setup, traces);
    let count = if lacks_descriptors { 6 } else { 10 };
    for number in 0..count {
        let profile = Profile::new(format!("client-{number}"), ProtocolVersion::V5).lasting();
        let client = world.add(profile);
        world.connect(client);
        world.subscribe(client, "s/#", 1);
        world.bustle(random.below(30));
        for _ in 0..random.below(5) {
            world.publish(client, "s/x", random.below(3) as u8, false);
        }
    }
    if !lacks_descriptors {
        world.settle();
        return world;
    }
    // Those who are served leave, and make room for those who wait.
    for _ in 0..count {
        world.settle_without_check();
        let done = world.clients.iter().position(|client| client.is_up() && client.unfinished() == 0);
        let Some(done) = done else { break };
        world.clients[done].disconnect(false);
        world.settle_without_check();
    }
    if let Some(client) =
        world.clients.iter().find(|client| client.link.as_ref().is_some_and(|link| link.phase != Phase::Over))
    {
        fail("progress", format!("{} is not served", client.profile.name));
    }
    world.lift_limits();
    world
}

/// Limits so low that they are reached: what is above them is refused, what is below is served.
pub fn limits(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut setup = Setup::random(random);
    setup.config.runtime.connections_max = random.between(2, 5) as u32;
    setup.config.runtime.pending_connects_max = random.between(2, 5) as u32;
    setup.config.mqtt.sessions_max = random.between(2, 5) as u32;
    setup.config.mqtt.retained_messages_max = random.between(1, 3) as u64;
    setup.config.mqtt.retained_bytes_max = 100;
    setup.config.mqtt.filters_per_client_max = 2;
    setup.config.mqtt.queue_messages_max = 2;
    setup.config.mqtt.out_buffer_bytes_max = 4096;
    setup.config.mqtt.queue_full = *random.pick(&[QueueFull::DropOldest, QueueFull::DropNewest, QueueFull::Disconnect]);
    let mut world = World::new(seed, setup, traces);
    world.is_limited = true;
    for number in 0..8 {
        let version = *random.pick(&[ProtocolVersion::V311, ProtocolVersion::V5]);
        let profile = Profile { is_refused: true, ..Profile::new(format!("client-{number}"), version) };
        let profile = Profile { window: *random.pick(&[48, 1 << 20]), ..profile };
        world.add(profile);
    }
    for _ in 0..random.between(40, 150) {
        let client = random.below(8);
        if world.clients[client].is_down() {
            world.connect(client);
            let count = world.clients[client].profile.name.len();
            world.clients[client].rename(format!("client-{client}-{count}"));
            continue;
        }
        match random.below(8) {
            0 => world.clients[client].vanish(true),
            1 if world.clients[client].is_up() => world.clients[client].disconnect(false),
            2 | 3 => world.subscribe(client, FILTERS[random.below(FILTERS.len())], 1),
            _ => {
                let (topic, qos) = (*random.pick(&TOPICS), random.below(3) as u8);
                world.publish(client, topic, qos, random.once_in(3));
            }
        }
        let steps = random.below(30);
        world.bustle(steps);
    }
    world
}

/// A client publishes to itself faster than it acknowledges, and its queue is short.
pub fn own_queue(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut setup = Setup::random(random);
    setup.config.mqtt.queue_messages_max = random.between(1, 3) as u32;
    setup.config.mqtt.inflight_max = 1;
    setup.config.mqtt.receive_maximum = 64;
    let mut world = World::new(seed, setup, traces);
    world.drops = true;
    let client =
        world.add_at("client", random.below(world.shards()), |profile| Profile { is_prompt: false, ..profile });
    world.connect(client);
    world.subscribe(client, "own", 1);
    world.settle();
    for _ in 0..random.between(10, 40) {
        world.publish(client, "own", 1, false);
        world.bustle(random.below(20));
    }
    world
}
