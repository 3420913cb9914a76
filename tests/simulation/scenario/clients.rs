//! Clients that come, go, and do what they please.

use ringmq::mqtt::ProtocolVersion;

use super::{FILTERS, TOPICS};
use crate::{
    client::Profile,
    failure::fail,
    random::Random,
    world::{Setup, World},
};

/// Clients of all kinds do what they please.
pub fn general(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut world = World::new(seed, Setup::random(random), traces);
    let count = random.between(2, 8);
    for number in 0..count {
        let version =
            *random.pick(&[ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5, ProtocolVersion::V5]);
        let profile = Profile::new(format!("client-{number}"), version).whimsical(random);
        let profile = if random.once_in(2) { profile.lasting() } else { profile };
        let client = world.add(profile);
        world.connect(client);
    }
    world.holds = random.once_in(2);
    for _ in 0..random.between(20, 400) {
        let client = random.below(count);
        act(&mut world, client, random);
        let steps = random.below(60);
        world.bustle(steps);
    }
    world
}

/// One random thing that a client does.
fn act(world: &mut World, client: usize, random: &mut Random) {
    let choice = random.below(100);
    if world.clients[client].is_down() {
        world.connect(client);
    }
    let link = world.clients[client].link.as_ref();
    if link.is_some_and(|link| link.expects_end) {
        return;
    }
    let is_up = world.clients[client].is_up();
    match choice {
        0..50 => {
            let topic = *random.pick(&TOPICS);
            // One client retains in a topic, with one QoS; the others' messages pass by.
            let retain = random.once_in(2) && TOPICS.iter().position(|other| *other == topic) == Some(client);
            let qos = if retain { client % 3 } else { random.below(3) } as u8;
            let length = if retain && random.once_in(5) { 0 } else { *random.pick(&[12, 12, 40, 5000]) };
            world.publish_bytes(client, topic, qos, retain, length);
        }
        50..70 => {
            let place = random.below(FILTERS.len());
            world.subscribe(client, FILTERS[place], ((client + place) % 3) as u8);
        }
        70..75 => world.unsubscribe(client, FILTERS[random.below(FILTERS.len())]),
        75..82 => world.clients[client].ping(),
        82..86 if is_up => world.clients[client].disconnect(false),
        86..92 if is_up => world.clients[client].vanish(random.once_in(2)),
        92..96 if is_up => world.connect(client),
        96..98 if is_up => world.clients[client].send_garbage(),
        _ => {}
    }
}

/// Connections of one ClientId come on several shards at once: the newest stays.
pub fn take_over(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut world = World::new(seed, Setup::of_many_shards(random), traces);
    let at_home = random.below(world.shards());
    let name = world.name_at("contender", at_home);
    let is_lasting = random.once_in(2);
    let contenders: Vec<usize> = (0..random.between(2, 4))
        .map(|_| {
            let version = *random.pick(&[ProtocolVersion::V311, ProtocolVersion::V5, ProtocolVersion::V5]);
            let profile = Profile { contends: true, ..Profile::new(name.clone(), version) };
            let profile = if is_lasting { profile.lasting() } else { profile };
            world.add(Profile { window: *random.pick(&[64, 1 << 20]), ..profile })
        })
        .collect();
    for _ in 0..random.between(2, 6) {
        if random.once_in(2) {
            race(&mut world, &contenders, random);
        } else {
            overtake(&mut world, &contenders, at_home, random);
        }
    }
    world
}

fn race(world: &mut World, contenders: &[usize], random: &mut Random) {
    world.holds = random.once_in(2);
    for &client in contenders {
        if !world.clients[client].is_down() {
            world.clients[client].disconnect(false);
        }
        world.run_until("the end of a connection", |world| world.clients[client].is_down());
        let (shard, clean_start) = (random.below(world.shards()), world.clients[client].profile.expiry_s == 0);
        world.connect_at(client, shard, clean_start);
        world.bustle(random.below(40));
    }
    world.settle();
    let up = contenders.iter().filter(|&&client| world.clients[client].is_up()).count();
    if up != 1 {
        fail("one live connection", format!("{up} of {} are up", contenders.len()));
    }
}

/// A CONNECT is parsed and waits on its way home, when a newer one comes.
fn overtake(world: &mut World, contenders: &[usize], at_home: usize, random: &mut Random) {
    let (older, newer) = (contenders[0], contenders[1]);
    for client in contenders {
        world.clients[*client].disconnect(false);
    }
    world.settle();
    world.hold(at_home, 1);
    let elsewhere = (at_home + 1 + random.below(world.shards() - 1)) % world.shards();
    let clean_start = world.clients[older].profile.expiry_s == 0;
    world.connect_at(older, elsewhere, clean_start);
    world.run_others(&[at_home]);
    let shard = random.below(world.shards());
    world.connect_at(newer, shard, clean_start);
    world.bustle(random.below(300));
    world.settle();
    let is_up = |client: usize| world.clients[client].is_up();
    if !is_up(newer) || is_up(older) {
        fail("the newest CONNECT stays", format!("newer: {}, older: {}", is_up(newer), is_up(older)));
    }
}

/// Connections come and go so fast that their slots and descriptors are used again within a turn.
pub fn churn(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut setup = Setup::random(random);
    setup.shards = random.between(1, 2);
    setup.faults.delay = setup.faults.delay.min(30);
    setup.completions_per_turn_max = *random.pick(&[4, 16, 256]);
    // Who waits in a crowd keeps its slot; here slots are to come into other hands at once.
    setup.crowd_per_turn_max = 64;
    let mut world = World::new(seed, setup, traces);
    let clients: Vec<usize> = (0..8)
        .map(|number| {
            let version = *random.pick(&[ProtocolVersion::V311, ProtocolVersion::V5]);
            world.add(Profile { reads: 100, ..Profile::new(format!("client-{number}"), version) })
        })
        .collect();
    for round in 0..random.between(100, 400) {
        let client = *random.pick(&clients);
        if world.clients[client].is_down() {
            // What is left of an old connection must not take the new one over.
            world.clients[client].rename(format!("client-{client}-{round}"));
            world.connect_at(client, 0, true);
            if random.once_in(2) {
                world.subscribe(client, "c", 1);
            }
        } else if world.clients[client].link.as_ref().is_some_and(|link| !link.expects_end) {
            match random.below(6) {
                0 => world.clients[client].send_garbage(),
                1 => world.clients[client].vanish(true),
                2 => world.clients[client].vanish(false),
                3 => {
                    world.publish(client, "c", 1, false);
                }
                4 if world.clients[client].is_up() => world.clients[client].disconnect(false),
                _ => {
                    // The end comes right behind what ends it.
                    world.clients[client].send_garbage();
                    world.step_clients();
                    world.clients[client].vanish(random.once_in(2));
                }
            }
        }
        world.bustle(random.below(8));
    }
    world
}

/// The broker is told to stop while everybody is busy: everybody is told to go, and goes.
pub fn drain(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut world = World::new(seed, Setup::random(random), traces);
    let count = random.between(1, 10);
    for number in 0..count {
        let version = *random.pick(&[ProtocolVersion::V311, ProtocolVersion::V5]);
        let profile = Profile::new(format!("client-{number}"), version).whimsical(random);
        let client = world.add(if random.once_in(2) { profile.lasting() } else { profile });
        world.connect(client);
        world.subscribe(client, "t/#", 1);
    }
    for _ in 0..random.between(1, 20) {
        let client = random.below(count);
        let (topic, qos) = (*random.pick(&TOPICS), random.below(3) as u8);
        world.publish(client, topic, qos, false);
        let steps = random.below(60);
        world.bustle(steps);
    }
    world.drain();
    world
}
