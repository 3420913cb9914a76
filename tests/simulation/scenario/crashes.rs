//! The broker dies, and starts again with what was committed.

use ringmq::{config::Durability, mqtt::ProtocolVersion, store::Fault};

use crate::{
    book::Number,
    client::{Profile, WillSpec},
    failure::fail,
    oracle::finale,
    random::Random,
    world::{Setup, World},
};

/// Brokers die, one world after the other: each ends with a reckoning of its own.
pub fn crashes(seed: u64, random: &mut Random, traces: bool) -> World {
    for round in 1..WORLDS {
        let mut world = crash(seed.wrapping_add(round << 32), random, traces);
        finale(&mut world);
    }
    crash(seed, random, traces)
}

fn crash(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut setup = Setup::random(random);
    setup.store_pace = Some(*random.pick(&PACES));
    let kind = random.below(14);
    setup.shards = if kind < 5 { random.between(1, 4) } else { random.between(3, 4) };
    let is_short = kind == 10 && random.once_in(2);
    if is_short {
        setup.config.mqtt.queue_messages_max = QUEUE_SHORT as u32;
    }
    if kind > 10 {
        setup.promises = if kind > 12 { vec![Durability::Batched] } else { PROMISES.to_vec() };
    }
    let mut world = World::new(seed, setup, traces);
    world.drops = is_short;
    match kind {
        0..5 => lives(&mut world, random),
        5 | 6 => wills(&mut world, random),
        7 | 8 => groups(&mut world, random),
        9 => cleared(&mut world, random),
        10 => handed_on(&mut world, random),
        _ => promises(&mut world, random),
    }
    world
}

/// The broker dies again and again while everybody goes on: who kept its session, and its PacketIdentifiers, misses
/// nothing that was acknowledged.
fn lives(world: &mut World, random: &mut Random) {
    populate(world, random);
    world.holds = random.once_in(3);
    for _ in 0..random.between(1, 6) {
        live(world, random);
        if random.once_in(3) {
            fail_disk(world, random);
        }
        for _ in 0..random.below(2) {
            fail_disk(world, random);
            mend_disk(world, random);
            if random.once_in(2) {
                live(world, random);
            }
        }
        begin_life(world, random);
        if random.once_in(4) {
            settle_all(world);
        }
    }
}

/// Listeners promise more and less, or all of them `batched` and the store no more, and the broker dies, alone or with the
/// machine: nobody misses what was promised.
fn promises(world: &mut World, random: &mut Random) {
    populate(world, random);
    world.holds = random.once_in(3);
    for _ in 0..random.between(1, 6) {
        live(world, random);
        for client in 0..world.clients.len() {
            if random.once_in(4) {
                world.clients[client].profile.through = world.any_promise();
            }
        }
        if random.once_in(2) {
            if random.once_in(2) {
                // Between a commit and its sync.
                world.set_store_pace(*random.pick(&[20, 60]));
                let subscribers = subscribers(world);
                for client in (0..world.clients.len()).filter(|client| !subscribers.contains(client)) {
                    world.publish_bytes(client, random.pick::<&str>(&TOPICS), 1, false, 12);
                }
                world.bustle_until_commit(600);
                world.bustle(random.below(60));
            }
            let shards = random.between(1, 4);
            world.cut_power(shards);
            if random.once_in(2) {
                // Before anybody is back.
                world.crash(shards);
            }
            come_back(world, random);
        } else {
            begin_life(world, random);
        }
        if random.once_in(4) {
            settle_all(world);
        }
    }
}

/// The broker dies and starts again, and most clients come back.
fn begin_life(world: &mut World, random: &mut Random) {
    let shards = random.between(1, 4);
    world.crash(shards);
    come_back(world, random);
}

/// The broker has started again: most clients come back.
fn come_back(world: &mut World, random: &mut Random) {
    world.set_store_fault(None);
    world.set_store_full(false);
    world.clients.iter_mut().for_each(|client| client.profile.is_refused = false);
    world.set_store_pace(*random.pick(&PACES));
    for client in 0..world.clients.len() {
        if !random.once_in(5) {
            world.connect(client);
        }
    }
}

/// A publication waits for one of its shards; others, that take part in what waits, are asked for more meanwhile.
fn groups(world: &mut World, random: &mut Random) {
    let held = random.below(world.shards());
    let (at_home, origin) = ((held + 1) % world.shards(), (held + 2) % world.shards());
    let slow = world.add_at("slow", held, Profile::lasting);
    let subscriber = world.add_at("subscriber", at_home, Profile::lasting);
    let publisher = world.add_at("publisher", origin, Profile::lasting);
    let retainer = world.add_at("retainer", random.below(world.shards()), Profile::lasting);
    let topic = world.topic_at("r", at_home);
    settle_all(world);
    for client in [slow, subscriber] {
        world.subscribe(client, "g", random.between(1, 2) as u8);
    }
    world.subscribe(subscriber, &topic, 2);
    settle_all(world);
    for _ in 0..random.between(1, 3) {
        world.set_store_pace(*random.pick(&PACES));
        world.hold(held % world.shards(), 2);
        for _ in 0..random.between(1, 3) {
            world.publish_bytes(publisher, "g", 2, false, 12);
            world.bustle(random.between(50, 200));
        }
        for _ in 0..random.between(2, 5) {
            let (client, qos) = (*random.pick(&[retainer, retainer, publisher]), random.between(1, 2) as u8);
            world.publish_bytes(client, &topic, qos, random.once_in(2), 12);
            world.bustle(random.below(100));
        }
        world.bustle(random.below(300));
        if random.once_in(2) {
            world.release_all();
            world.bustle_until_commit(600);
        } else if random.once_in(2) {
            settle_all(world);
        }
        begin_life(world, random);
    }
}

/// What is retained is cleared by several at once.
fn cleared(world: &mut World, random: &mut Random) {
    let clients = [(); 2].map(|()| {
        let shard = random.below(world.shards());
        world.add_at("retainer", shard, Profile::lasting)
    });
    settle_all(world);
    for _ in 0..random.between(1, 3) {
        world.publish_bytes(clients[0], "r", 1, true, 12);
        settle_all(world);
        world.set_store_pace(*random.pick(&PACES));
        for client in clients {
            let length = if random.once_in(8) { 12 } else { 0 };
            world.publish_bytes(client, "r", 1, true, length);
            world.bustle(random.below(200));
        }
        begin_life(world, random);
    }
}

/// What waits for a member of a share group goes back to the group, because its session ends or its queue is full, and the broker
/// dies meanwhile: somebody gets it.
fn handed_on(world: &mut World, random: &mut Random) {
    let [giver, taker, publisher] = ["giver", "taker", "publisher"].map(|name| {
        let shard = random.below(world.shards());
        // A clean session of 3.x ends with its connection.
        world.add_at(name, shard, |profile| Profile { version: ProtocolVersion::V5, ..profile.lasting() })
    });
    let qos = random.between(1, 2) as u8;
    settle_all(world);
    for _ in 0..random.between(1, 3) {
        world.subscribe(giver, SHARED_FILTER, qos);
        world.subscribe(giver, "plain", 1);
        world.unsubscribe(taker, SHARED_FILTER);
        world.settle();
        world.clients[giver].disconnect(false);
        world.settle();
        let given: Vec<Number> = (0..random.between(1, QUEUE_SHORT))
            .map(|_| world.publish_bytes(publisher, "shared", qos, false, 12))
            .collect();
        world.settle();
        world.subscribe(taker, SHARED_FILTER, qos);
        world.settle();
        if random.once_in(2) {
            world.clients[taker].disconnect(false);
            world.settle();
        }
        world.set_store_pace(*random.pick(&PACES));
        world.holds = random.once_in(2);
        if world.drops {
            for _ in 0..random.between(1, QUEUE_SHORT) {
                world.publish_bytes(publisher, "plain", 1, false, 12);
                world.bustle(random.below(60));
            }
        } else {
            let shard = random.below(world.shards());
            world.connect_at(giver, shard, true);
        }
        world.bustle(random.below(300));
        (0..random.below(3)).for_each(|_| world.bustle_until_commit(300));
        let shards = random.between(1, 4);
        world.crash(shards);
        // It takes what is there before more comes that may have to take its place.
        world.connect(giver);
        world.settle();
        settle_all(world);
        for number in given {
            let has_come = |client: usize| world.clients[client].deliveries.contains_key(&number);
            if !has_come(giver) && !has_come(taker) {
                fail("some member of a group", format!("nobody got {:?}", world.book.message(number)));
            }
        }
    }
}

/// Publishers of QoS 1 and 2, and subscribers, most of whose sessions last.
fn populate(world: &mut World, random: &mut Random) {
    for number in 0..random.between(2, 4) {
        let version = *random.pick(&[ProtocolVersion::V311, ProtocolVersion::V5]);
        let profile = Profile::new(format!("subscriber-{number}"), version);
        let profile = Profile { is_prompt: random.once_in(2), ..profile };
        let profile = Profile { receive_maximum: *random.pick(&[None, Some(1), Some(3)]), ..profile };
        let profile = Profile { through: world.any_promise(), ..profile };
        let client = world.add(if random.once_in(6) { profile } else { profile.lasting() });
        world.connect(client);
    }
    for number in 0..random.between(1, 3) {
        let version = *random.pick(&[ProtocolVersion::V311, ProtocolVersion::V5]);
        let profile = Profile::new(format!("publisher-{number}"), version).lasting();
        let profile = Profile { reuses_identifiers: random.once_in(2), under_way_max: random.between(1, 8), ..profile };
        let profile = Profile { through: world.any_promise(), ..profile };
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

/// The disk fails, or is nearly full: nobody is told what is not so.
fn fail_disk(world: &mut World, random: &mut Random) {
    match random.below(7) {
        0 => world.set_store_full(true),
        1 | 2 => world.set_store_fault(Some(Fault::Denied)),
        3 | 4 => world.set_store_fault(Some(Fault::Unsynced)),
        _ => world.set_store_fault(Some(Fault::Refused)),
    }
    world.clients.iter_mut().for_each(|client| client.profile.is_refused = true);
    let publishers: Vec<usize> =
        (0..world.clients.len()).filter(|client| !subscribers(world).contains(client)).collect();
    for _ in 0..random.between(1, 6) {
        let client = *random.pick(&publishers);
        if world.clients[client].is_down() {
            world.connect(client);
        }
        for _ in 0..random.between(1, 4) {
            // At QoS 1 a publisher may wait for other shards alone.
            let (topic, qos) = (*random.pick(&TOPICS), if random.once_in(4) { 2 } else { 1 });
            world.publish_bytes(client, topic, qos, false, 12);
        }
        world.bustle(random.below(200));
    }
}

/// The disk works again, and so does the store, while the broker goes on: who comes back meets its session.
fn mend_disk(world: &mut World, random: &mut Random) {
    world.set_store_fault(None);
    world.set_store_full(false);
    world.run_until("the store is open again", World::is_store_good);
    world.bustle(random.below(200));
    // Whoever was on its way while the store was closed has been told.
    world.settle_without_check();
    world.clients.iter_mut().for_each(|client| client.profile.is_refused = false);
    if random.once_in(2) {
        settle_all(world);
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
            if random.once_in(2) {
                world.bustle(random.below(100));
            }
            (0..random.below(4)).for_each(|_| world.bustle_until_commit(200));
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

/// What listeners promise, each something else.
const PROMISES: [Durability; 3] = [Durability::Sync, Durability::Batched, Durability::Memory];
const SHARED_FILTER: &str = "$share/g/shared";
/// Messages in the longest queue, where queues are short.
const QUEUE_SHORT: usize = 4;
const TOPICS: [&str; 4] = ["a", "b/x", "b/y", "c"];
const FILTERS: [&str; 4] = ["a", "b/+", "b/y", "c"];
/// Worlds of one seed.
const WORLDS: u64 = 12;
/// How often the store does something: at once, or late.
const PACES: [usize; 4] = [2, 8, 40, 200];
