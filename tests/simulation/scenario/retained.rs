//! Retained messages meet new subscriptions.

use super::two_shards;
use crate::{
    failure::fail,
    random::Random,
    world::{Setup, World},
};

/// Retained messages meet new subscriptions.
pub fn retained(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut setup = Setup::of_many_shards(random);
    setup.mesh[0] = *random.pick(&[1, 1, 2, 64]);
    let mut world = World::new(seed, setup, traces);
    for _ in 0..random.between(1, 4) {
        match random.below(4) {
            0 => retained_answer_overtaken(&mut world, random),
            1 => retained_by_stamp(&mut world, random),
            _ => retained_while_subscribing(&mut world, random),
        }
        world.settle();
    }
    world
}

/// Messages queue on their way to their home while somebody subscribes.
fn retained_while_subscribing(world: &mut World, random: &mut Random) {
    let (at_home, publishing) = two_shards(world, random);
    let subscribing = random.below(world.shards());
    let publisher = world.add_at("publisher", publishing, |profile| profile);
    let subscriber = world.add_at("subscriber", subscribing, |profile| profile);
    world.connect(publisher);
    world.connect(subscriber);
    world.settle();
    let prefix = format!("r{publisher}/");
    let topics: Vec<String> = (0..4).map(|number| world.topic_at(&format!("{prefix}{number}-"), at_home)).collect();
    let qos = random.below(2) as u8;
    for _ in 0..random.between(1, 3) {
        world.hold(at_home, 1);
        for _ in 0..random.between(1, 8) {
            let topic = random.pick(&topics).clone();
            world.publish(publisher, &topic, qos, true);
        }
        world.bustle(random.below(300));
        let filter = if random.once_in(3) { format!("{prefix}+") } else { random.pick(&topics).clone() };
        world.subscribe(subscriber, &filter, 1);
        world.bustle(random.below(200));
        world.hold(at_home, 0);
        world.bustle(random.below(400));
    }
}

/// An answer is under way when a newer message passes it.
fn retained_answer_overtaken(world: &mut World, random: &mut Random) {
    let (at_home, subscribing) = two_shards(world, random);
    let publishing = random.below(world.shards());
    let publisher = world.add_at("publisher", publishing, |profile| profile);
    let subscriber = world.add_at("subscriber", subscribing, |profile| profile);
    world.connect(publisher);
    world.connect(subscriber);
    let topic = world.topic_at(&format!("r{publisher}/"), at_home);
    world.publish(publisher, &topic, 1, true);
    world.settle();
    world.hold(subscribing, 4);
    world.subscribe(subscriber, &topic, 1);
    world.bustle(random.between(100, 500));
    world.publish(publisher, &topic, 1, true);
    world.bustle(random.between(100, 500));
}

/// An older message comes to its topic's home after a newer one.
fn retained_by_stamp(world: &mut World, random: &mut Random) {
    let (at_home, publishing) = two_shards(world, random);
    let older = world.add_at("older", publishing, |profile| profile);
    let newer = world.add_at("newer", at_home, |profile| profile);
    let subscriber = world.add_at("subscriber", random.below(world.shards()), |profile| profile);
    [older, newer, subscriber].into_iter().for_each(|client| world.connect(client));
    world.settle();
    let topic = world.topic_at(&format!("r{older}/"), at_home);
    world.hold(at_home, 1);
    world.publish(older, &topic, 0, true);
    world.run_others(&[at_home]);
    let number = world.publish(newer, &topic, 1, true);
    world.bustle(random.below(200));
    world.settle();
    world.subscribe(subscriber, &topic, 1);
    world.settle();
    let found = world.clients[subscriber].retained.get(&topic).copied();
    if found != Some(number) {
        fail("the newest is retained", format!("{topic}: {found:?} instead of {number:?}"));
    }
}
