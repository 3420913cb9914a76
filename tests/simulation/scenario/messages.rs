//! Messages on their way between shards: interest, acknowledgements, groups, rings that are full, identifiers.

use ringmq::runtime::fake::FakeFaults;

use super::two_shards;
use crate::{
    client::Profile,
    failure::fail,
    oracle::check_deliveries,
    random::Random,
    world::{Setup, World},
};

/// Filters come and go in few slots, and messages are published the moment that SUBACK is there.
pub fn interest(seed: u64, random: &mut Random, traces: bool) -> World {
    // Few slots have many users; of many slots each has one.
    let interest_slots = *random.pick(&[64, 1 << 14]);
    let others = if interest_slots == 64 { 20 } else { 2 };
    let setup = Setup { interest_slots, ..Setup::of_many_shards(random) };
    let mut world = World::new(seed, setup, traces);
    let (here, there) = two_shards(&world, random);
    let publisher = world.add_at("publisher", here, |profile| profile);
    let subscriber = world.add_at("subscriber", there, |profile| profile);
    let other = world.add_at("other", there, |profile| profile);
    [publisher, subscriber, other].into_iter().for_each(|client| world.connect(client));
    let topics: Vec<String> = (0..40).map(|number| format!("i/{number}/x")).collect();
    for _ in 0..random.between(8, 30) {
        let topic = random.pick(&topics).clone();
        let filter = if random.once_in(3) { topic.replace("/x", "/+") } else { topic.clone() };
        for _ in 0..random.below(others) {
            let topic = random.pick(&topics).clone();
            world.subscribe(other, &topic, 0);
        }
        world.subscribe(subscriber, &filter, 1);
        if random.once_in(2) {
            world.run_one(there, |world| world.clients[subscriber].is_subscribed(&filter));
        }
        world.run_until("a SUBACK", |world| world.clients[subscriber].is_subscribed(&filter));
        for _ in 0..random.below(others) {
            let topic = random.pick(&topics).clone();
            world.unsubscribe(other, &topic);
        }
        if random.once_in(2) {
            world.settle();
        }
        world.publish(publisher, &topic, 1, false);
        world.run_others(&[there]);
        world.bustle(50);
    }
    world
}

/// Acknowledgements wait for shards that are slow, and come in order.
pub fn acknowledgements(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut world = World::new(seed, Setup::of_many_shards(random), traces);
    let (here, there) = two_shards(&world, random);
    let publisher = world.add_at("publisher", here, |profile| profile);
    let subscriber = world.add_at("subscriber", there, Profile::lasting);
    world.connect(publisher);
    world.connect(subscriber);
    world.subscribe(subscriber, "far", 1);
    world.settle();
    world.clients[subscriber].disconnect(false);
    world.settle();
    world.hold(there, 2);
    for _ in 0..random.between(2, 20) {
        let topic = *random.pick(&["far", "near", "far"]);
        world.publish(publisher, topic, random.between(1, 2) as u8, false);
    }
    for _ in 0..random.between(5, 40) {
        world.bustle(10);
        check_taken(&world, publisher, subscriber, there);
        if random.once_in(20) {
            world.hold(there, 0);
        }
    }
    world
}

/// What is acknowledged lies in the queue of the subscriber, who is away.
fn check_taken(world: &World, publisher: usize, subscriber: usize, there: usize) {
    let sent = world.book.messages().filter(|(_, message)| message.publisher == publisher && message.topic == "far");
    let acknowledged = sent.filter(|(_, message)| message.acknowledged.is_some()).count();
    let clients = world.shard(there).clients();
    let session =
        clients.find(&world.clients[subscriber].profile.name).and_then(|session| clients.sessions.at(session));
    let queued = session.and_then(|session| session.outbox.as_ref()).map_or(0, |outbox| outbox.queued());
    if acknowledged > queued {
        fail("acknowledged when taken", format!("{acknowledged} are acknowledged, {queued} are queued"));
    }
}

/// Everybody publishes to everybody on the other shards at once, through rings of one message.
pub fn cross_traffic(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut setup = Setup::of_many_shards(random);
    setup.shards = setup.shards.min(4);
    setup.mesh = [*random.pick(&[1, 2]), *random.pick(&[1, 2]), *random.pick(&[1, 2])];
    setup.buffers = (8, 4096);
    setup.config.mqtt.receive_maximum = 64;
    setup.config.mqtt.inflight_max = 64;
    let mut world = World::new(seed, setup, traces);
    let count = world.shards();
    let publishers: Vec<usize> = (0..count)
        .map(|shard| world.add_at("client", shard, |profile| Profile { under_way_max: 64, ..profile }))
        .collect();
    for &client in &publishers {
        world.connect(client);
        world.subscribe(client, "x/#", random.below(3) as u8);
        if random.once_in(3) {
            world.subscribe(client, "x/+", 1);
        }
    }
    world.settle();
    world.holds = random.once_in(2);
    for _ in 0..random.between(1, 3) {
        let is_flood = random.once_in(8);
        for (number, &client) in publishers.iter().enumerate() {
            let topic = format!("x/{number}");
            let retain = random.once_in(4);
            let burst = if is_flood && !retain { 1500 } else { random.between(10, 60) };
            for _ in 0..burst {
                let qos = if is_flood { 0 } else { random.below(3) };
                let qos = if retain { number % 3 } else { qos } as u8;
                world.publish_bytes(client, &topic, qos, retain, 12);
            }
        }
        let steps = random.below(400);
        world.bustle(steps);
    }
    world
}

/// Members of share groups come and go while messages are under way to them.
pub fn share(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut world = World::new(seed, Setup::of_many_shards(random), traces);
    let filter = *random.pick(&["$share/group/s/+", "$share/group/s/x"]);
    let members: Vec<usize> = (0..random.between(2, 4))
        .map(|number| {
            let shard = random.below(world.shards());
            world.add_at(&format!("member{number}-"), shard, Profile::lasting)
        })
        .collect();
    let publisher = world.add_at("publisher", random.below(world.shards()), |profile| profile);
    world.connect(publisher);
    for &member in &members {
        world.connect(member);
        world.subscribe(member, filter, random.between(1, 2) as u8);
    }
    world.settle();
    for _ in 0..random.between(3, 10) {
        if random.once_in(3) {
            leave_together(&mut world, &members, publisher, filter, random);
        }
        let member = *random.pick(&members);
        let shard = world.home_of(member);
        if random.once_in(2) {
            world.hold(shard, 2);
        }
        for _ in 0..random.between(1, 6) {
            world.publish(publisher, "s/x", random.between(1, 2) as u8, false);
        }
        world.bustle(random.between(20, 300));
        if world.clients[member].is_up() {
            world.clients[member].vanish(random.once_in(2));
        }
        world.bustle(random.below(200));
        world.hold(shard, 0);
        if random.once_in(2) {
            world.settle();
        }
        for &member in &members {
            if world.clients[member].is_down() && random.once_in(2) {
                world.connect_at(member, random.below(world.shards()), false);
            }
        }
    }
    world
}

/// Every member goes while a message is on its way to one of them, and the group's home does not hear of it.
fn leave_together(world: &mut World, members: &[usize], publisher: usize, filter: &str, random: &mut Random) {
    world.settle();
    let group_filter = filter.trim_start_matches("$share/group/");
    let at_home = world.home_of_group("group", group_filter);
    let shards: Vec<usize> = members.iter().map(|&member| world.home_of(member)).collect();
    shards.iter().for_each(|&shard| world.hold(shard, 2));
    world.publish(publisher, "s/x", random.between(1, 2) as u8, false);
    let steps = random.between(100, 400);
    world.bustle(steps);
    world.hold(at_home, 1);
    for &member in members {
        if world.clients[member].is_up() {
            world.clients[member].vanish(true);
        }
    }
    let steps = random.between(100, 400);
    world.bustle(steps);
    shards.iter().filter(|&&shard| shard != at_home).for_each(|&shard| world.hold(shard, 0));
    let steps = random.between(100, 400);
    world.bustle(steps);
    world.settle();
    for &member in members.iter().filter(|_| random.once_in(2)) {
        let shard = world.home_of(member);
        world.connect_at(member, shard, false);
    }
}

/// So many subscribers on a shard that a fan-out takes several turns; the order of what is published stands.
pub fn crowd(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut setup = Setup::of_many_shards(random);
    setup.shards = 2;
    setup.faults = FakeFaults::NONE;
    setup.buffers = (256, 4096);
    setup.completions_per_turn_max = 256;
    let mut world = World::new(seed, setup, traces);
    let crowded = random.below(2);
    for _ in 0..1100 {
        let client = world.add_at("c", crowded, |profile| Profile { reads: 100, ..profile });
        world.connect_at(client, crowded, true);
        let qos = random.below(3) as u8;
        world.subscribe(client, "crowd/#", qos);
    }
    world.settle();
    let publishers = [0, 1].map(|shard| world.add_at("publisher", shard, |profile| profile));
    publishers.into_iter().for_each(|client| world.connect(client));
    for _ in 0..random.between(2, 6) {
        for publisher in publishers {
            let (qos, topic) = (random.below(3) as u8, *random.pick(&["crowd/1", "crowd/2"]));
            world.publish_bytes(publisher, topic, qos, false, 12);
        }
        let steps = random.below(20);
        world.bustle(steps);
    }
    let leaving = random.below(1100);
    world.clients[leaving].vanish(true);
    world
}

/// A client sits on one message while 65,535 others pass.
pub fn identifiers(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut setup = Setup::random(random);
    setup.shards = 1;
    setup.faults = FakeFaults::NONE;
    setup.buffers = (64, 4096);
    setup.completions_per_turn_max = 256;
    setup.config.mqtt.receive_maximum = 1024;
    setup.config.mqtt.inflight_max = 512;
    let mut world = World::new(seed, setup, traces);
    let subscriber = world.add_at("subscriber", 0, |profile| Profile { reads: 100, ..profile });
    let publisher = world.add_at("publisher", 0, |profile| Profile { reads: 100, under_way_max: 1000, ..profile });
    world.connect(subscriber);
    world.connect(publisher);
    world.subscribe(subscriber, "n", 1);
    world.settle();
    // The first identifier that the broker uses.
    world.clients[subscriber].sits_on = Some(1);
    for _ in 0..65_600 {
        world.publish_bytes(publisher, "n", 1, false, 8);
    }
    world.settle_without_check();
    world.clients[subscriber].sits_on = None;
    world.settle();
    check_deliveries(&world);
    world
}
