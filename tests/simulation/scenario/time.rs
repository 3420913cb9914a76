//! What is due: keep-alives, Wills, the ends of sessions.

use ringmq::mqtt::ProtocolVersion;

use super::two_shards;
use crate::{
    client::{Profile, WillSpec},
    failure::fail,
    random::Random,
    world::{Setup, World},
};

/// A client whom we do not listen to is not silent; one who says nothing is.
pub fn keep_alive(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut setup = Setup::of_many_shards(random);
    setup.config.mqtt.receive_maximum = random.between(1, 3) as u16;
    setup.jump_max = 100;
    let mut world = World::new(seed, setup, traces);
    let (here, there) = two_shards(&world, random);
    let name = world.name_at("publisher", here);
    let publisher = Profile { keep_alive_s: 1, under_way_max: 100, ..Profile::new(name, ProtocolVersion::V311) };
    let publisher = world.add(publisher);
    let subscriber = world.add_at("subscriber", there, |profile| profile);
    world.connect(publisher);
    world.connect(subscriber);
    world.subscribe(subscriber, "k", 1);
    world.settle();
    world.hold(there, 2);
    for _ in 0..random.between(4, 12) {
        world.publish(publisher, "k", 1, false);
    }
    for _ in 0..random.between(10, 30) {
        world.bustle(100);
        world.advance(250_000);
        world.clients[publisher].ping();
    }
    world.bustle(100);
    world.hold(there, 0);
    world.settle();
    if !world.clients[publisher].is_up() {
        fail("keep-alive waits while we pause", "the publisher was disconnected");
    }
    if let Some(link) = &mut world.clients[publisher].link {
        link.expects_end = true;
    }
    world.advance(1_700_000);
    world.settle_without_check();
    if !world.clients[publisher].is_down() {
        fail("keep-alive ends", "the publisher has said nothing for long");
    }
    world
}

/// Wills are published exactly when they are due.
pub fn wills(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut world = World::new(seed, Setup::random(random), traces);
    let watcher = world.add_at("watcher", random.below(world.shards()), |profile| profile);
    world.connect(watcher);
    world.subscribe(watcher, "will/#", 1);
    world.settle();
    for round in 0..random.between(2, 6) {
        let delay_s = if random.once_in(3) { 0 } else { 5 };
        let payload = format!("will {round}");
        let will = WillSpec { topic: format!("will/{round}"), payload: payload.clone(), delay_s };
        let profile = Profile::new(format!("mortal-{round}"), ProtocolVersion::V5).lasting();
        let mortal = world.add(Profile { will: Some(will), ..profile });
        world.connect(mortal);
        world.settle();
        let says_goodbye = random.once_in(4);
        if says_goodbye {
            world.clients[mortal].disconnect(false);
        } else {
            world.clients[mortal].vanish(random.once_in(2));
        }
        world.settle();
        let check = |world: &World, expected: usize| {
            let count = world.clients[watcher].wills.iter().filter(|will| **will == payload).count();
            if count != expected {
                fail("Wills when they are due", format!("{count} of {expected} of {payload}, delay {delay_s}"));
            }
        };
        let at_once = usize::from(delay_s == 0 && !says_goodbye);
        check(&world, at_once);
        world.advance(4_000_000);
        world.settle();
        check(&world, at_once);
        let comes_back = random.once_in(2);
        if comes_back {
            world.connect(mortal);
            world.settle();
        }
        world.advance(2_000_000);
        world.settle();
        let later = usize::from(!says_goodbye && (delay_s == 0 || !comes_back));
        check(&world, later);
        if comes_back {
            world.clients[mortal].disconnect(false);
            world.settle();
        }
        check(&world, later);
    }
    world
}

/// Sessions end when their time is over, and no sooner; a Will is published with the end of its session at the latest.
pub fn expiry(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut world = World::new(seed, Setup::random(random), traces);
    let watcher = world.add_at("watcher", random.below(world.shards()), |profile| profile);
    world.connect(watcher);
    world.subscribe(watcher, "will/#", 2);
    world.settle();
    for round in 0..random.between(2, 6) {
        let payload = format!("will {round}");
        let will = WillSpec { topic: format!("will/{round}"), payload: payload.clone(), delay_s: 1000 };
        let profile = Profile::new(format!("mortal-{round}"), ProtocolVersion::V5).lasting();
        let mortal = world.add(Profile { will: Some(will), expiry_s: 10, ..profile });
        world.connect(mortal);
        world.subscribe(mortal, "to/mortals", 1);
        world.settle();
        let sessions = world.shared.sessions.now();
        world.clients[mortal].vanish(random.once_in(2));
        world.settle();
        world.advance(9_000_000);
        world.settle();
        let is_kept = world.shared.sessions.now() == sessions;
        let comes_back = random.once_in(2);
        if comes_back {
            // With CONNACK it says whether its session was kept.
            world.connect(mortal);
            world.settle();
            world.advance(20_000_000);
            world.settle();
        } else {
            world.advance(1_500_000);
            world.settle();
            world.clients[mortal].forget_session();
        }
        let count = world.clients[watcher].wills.iter().filter(|will| **will == payload).count();
        let expected = (usize::from(!comes_back), sessions - u64::from(!comes_back));
        if !is_kept || (count, world.shared.sessions.now()) != expected {
            fail(
                "sessions end when due",
                format!("{payload}: {count} Wills, kept: {is_kept}, came back: {comes_back}"),
            );
        }
        if comes_back {
            world.clients[mortal].disconnect(true);
            world.clients[mortal].forget_session();
            world.settle();
        }
    }
    world
}
