//! The broker dies, and starts again with what was committed.

use ringmq::mqtt::ProtocolVersion;

use crate::{
    client::{Profile, WillSpec},
    failure::fail,
    random::Random,
    world::{Setup, World},
};

/// The broker dies again and again while everybody goes on: who kept its session, and its PacketIdentifiers, misses
/// nothing that was acknowledged.
pub fn crashes(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut setup = Setup::random(random);
    setup.shards = random.between(1, 4);
    setup.store_pace = Some(*random.pick(&PACES));
    let mut world = World::new(seed, setup, traces);
    if random.once_in(4) {
        wills(&mut world, random);
        return world;
    }
    populate(&mut world, random);
    world.holds = random.once_in(3);
    for _ in 0..random.between(4, 9) {
        live(&mut world, random);
        if random.once_in(8) {
            fail_disk(&mut world, random);
        }
        let shards = random.between(1, 4);
        world.crash(shards);
        world.set_store_fails(false);
        world.clients.iter_mut().for_each(|client| client.profile.is_refused = false);
        world.set_store_pace(*random.pick(&PACES));
        for client in 0..world.clients.len() {
            if !random.once_in(5) {
                world.connect(client);
            }
        }
        if random.once_in(4) {
            settle_all(&mut world);
        }
    }
    world
}

/// Publishers of QoS 1 and 2, and subscribers, most of whose sessions last.
fn populate(world: &mut World, random: &mut Random) {
    for number in 0..random.between(2, 4) {
        let version = *random.pick(&[ProtocolVersion::V311, ProtocolVersion::V5]);
        let profile = Profile::new(format!("subscriber-{number}"), version);
        let profile = Profile { is_prompt: random.once_in(2), ..profile };
        let profile = Profile { receive_maximum: *random.pick(&[None, Some(1), Some(3)]), ..profile };
        let client = world.add(if random.once_in(6) { profile } else { profile.lasting() });
        world.connect(client);
    }
    for number in 0..random.between(1, 3) {
        let version = *random.pick(&[ProtocolVersion::V311, ProtocolVersion::V5]);
        let profile = Profile::new(format!("publisher-{number}"), version).lasting();
        let profile = Profile { reuses_identifiers: random.once_in(2), under_way_max: random.between(1, 8), ..profile };
        let client = world.add(profile);
        world.connect(client);
    }
    settle_all(world);
    for client in subscribers(world) {
        for filter in FILTERS {
            if random.once_in(2) {
                let qos = random.between(1, 2) as u8;
                world.subscribe(client, filter, qos);
            }
        }
    }
    if random.once_in(2) {
        settle_all(world);
    }
}

fn subscribers(world: &World) -> Vec<usize> {
    let is_subscriber = |client: &usize| world.clients[*client].profile.name.starts_with("subscriber");
    (0..world.clients.len()).filter(is_subscriber).collect()
}

/// Everybody is there and nothing is left to do.
fn settle_all(world: &mut World) {
    for client in 0..world.clients.len() {
        if world.clients[client].is_down() {
            world.connect(client);
        }
    }
    let holds = world.holds;
    world.settle();
    world.check_store_quiet();
    world.holds = holds;
}

/// What happens between two deaths.
fn live(world: &mut World, random: &mut Random) {
    let subscribers = subscribers(world);
    for _ in 0..random.between(1, 20) {
        let client = random.below(world.clients.len());
        let is_subscriber = subscribers.contains(&client);
        match random.below(20) {
            0 if world.clients[client].is_up() => world.clients[client].disconnect(false),
            1 | 2 if world.clients[client].is_up() => {
                world.clients[client].vanish(random.once_in(2));
                if random.once_in(2) {
                    world.connect(client);
                }
            }
            3 if world.clients[client].is_up() => world.connect(client),
            4 if is_subscriber && world.clients[client].is_up() => {
                let filter = *random.pick(&FILTERS);
                world.unsubscribe(client, filter);
            }
            5 if is_subscriber && world.clients[client].is_up() => {
                let place = random.below(FILTERS.len());
                world.subscribe(client, FILTERS[place], 1 + ((client + place) % 2) as u8);
            }
            _ if world.clients[client].is_down() => world.connect(client),
            _ if !is_subscriber => {
                let topic = *random.pick(&TOPICS);
                let retain = random.once_in(3);
                let length = if retain && random.once_in(4) { 0 } else { 12 };
                world.publish_bytes(client, topic, random.between(1, 2) as u8, retain, length);
            }
            _ => {}
        }
        world.bustle(random.below(60));
    }
    match random.below(3) {
        // Right after a commit.
        0 => world.bustle_until_commit(600),
        1 => world.bustle(random.below(300)),
        _ => {}
    }
}

/// The disk fails: nobody is told what is not so. The broker is started anew when it works again.
fn fail_disk(world: &mut World, random: &mut Random) {
    world.set_store_fails(true);
    world.clients.iter_mut().for_each(|client| client.profile.is_refused = true);
    let publishers: Vec<usize> =
        (0..world.clients.len()).filter(|client| !subscribers(world).contains(client)).collect();
    for _ in 0..random.between(1, 6) {
        let client = *random.pick(&publishers);
        if world.clients[client].is_down() {
            world.connect(client);
        }
        let topic = *random.pick(&TOPICS);
        world.publish_bytes(client, topic, random.between(1, 2) as u8, false, 12);
        world.bustle(random.below(100));
    }
}

/// Wills of clients that do not come back are published, also when the broker has died meanwhile.
fn wills(world: &mut World, random: &mut Random) {
    let watcher = world.add(Profile::new("watcher", ProtocolVersion::V5).lasting());
    world.connect(watcher);
    settle_all(world);
    world.subscribe(watcher, "will/#", random.between(1, 2) as u8);
    settle_all(world);
    for round in 0..random.between(2, 4) {
        let delay_s = if random.once_in(3) { 0 } else { 5 };
        let payload = format!("will {round}");
        let will = WillSpec { topic: format!("will/{round}"), payload: payload.clone(), delay_s };
        let profile = Profile::new(format!("mortal-{round}"), ProtocolVersion::V5).lasting();
        let mortal = world.add(Profile { will: Some(will), ..profile });
        world.connect(mortal);
        world.run_until("CONNACK", |world| world.clients[mortal].is_up());
        let says_goodbye = random.once_in(5);
        let goes_first = says_goodbye || random.once_in(2);
        if says_goodbye {
            world.clients[mortal].disconnect(false);
            world.settle();
        } else if goes_first {
            world.clients[mortal].vanish(random.once_in(2));
            world.bustle(random.below(200));
        }
        let shards = random.between(1, 4);
        world.crash(shards);
        world.connect(watcher);
        let comes_back = random.once_in(2);
        if comes_back {
            world.connect(mortal);
        }
        world.settle();
        let count = |world: &World| world.clients[watcher].wills.iter().filter(|will| **will == payload).count();
        let early = count(world);
        world.advance(20_000_000);
        world.settle();
        let late = count(world);
        let what = format!("{payload}: {early}, then {late}; delay {delay_s}, goodbye {says_goodbye}, {comes_back}");
        if says_goodbye && late > 0 || delay_s > 0 && (early > 0 || comes_back && late > 0) {
            fail("Wills when they are due", what);
        } else if !says_goodbye && (delay_s == 0 || !comes_back) && late == 0 {
            fail("Wills outlive the broker", what);
        }
        if comes_back {
            world.clients[mortal].disconnect(false);
            world.settle();
        }
    }
    // Their Wills are settled: whoever comes back later has none to leave.
    world.settle();
}

const TOPICS: [&str; 4] = ["a", "b/x", "b/y", "c"];
const FILTERS: [&str; 4] = ["a", "b/+", "b/y", "c"];
/// How often the store does something: at once, or late.
const PACES: [usize; 4] = [2, 8, 40, 200];
