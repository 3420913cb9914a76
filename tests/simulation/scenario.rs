//! What happens in a run. Most seeds aim at one race each; the general ones let everything happen at once.

use ringmq::{config::QueueFull, mqtt::ProtocolVersion, runtime::fake::FakeFaults};

use crate::{
    client::{Phase, Profile},
    failure::fail,
    oracle::{check_deliveries, finale},
    random::Random,
    world::{Setup, World},
};

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    General,
    Interest,
    TakeOver,
    Retained,
    Acknowledgements,
    CrossTraffic,
    Share,
    KeepAlive,
    Wills,
    Expiry,
    Churn,
    Scarcity,
    Limits,
    OwnQueue,
    Drain,
    Crowd,
    Identifiers,
}

/// Thirty-two seeds in a row run these.
const ROUND: [Scenario; 32] = [
    Scenario::General,
    Scenario::Interest,
    Scenario::TakeOver,
    Scenario::Retained,
    Scenario::General,
    Scenario::Acknowledgements,
    Scenario::Share,
    Scenario::Churn,
    Scenario::General,
    Scenario::KeepAlive,
    Scenario::Wills,
    Scenario::Retained,
    Scenario::General,
    Scenario::Scarcity,
    Scenario::OwnQueue,
    Scenario::Churn,
    Scenario::General,
    Scenario::Interest,
    Scenario::TakeOver,
    Scenario::Retained,
    Scenario::General,
    Scenario::CrossTraffic,
    Scenario::Share,
    Scenario::Limits,
    Scenario::General,
    Scenario::Expiry,
    Scenario::Drain,
    Scenario::Retained,
    Scenario::General,
    Scenario::CrossTraffic,
    Scenario::Churn,
    Scenario::General,
];

impl Scenario {
    /// What `seed` is about.
    pub fn of(seed: u64) -> Scenario {
        match seed % 128 {
            // These take long: once in 128 seeds is enough.
            100 => Scenario::Identifiers,
            120 => Scenario::Crowd,
            _ => ROUND[(seed % 32) as usize],
        }
    }
}

/// Runs a seed. Returns the digest of what happened.
pub fn run(seed: u64, traces: bool) -> u64 {
    let mut random = Random::part(seed, 0);
    let mut world = match Scenario::of(seed) {
        Scenario::General => general(seed, &mut random, traces),
        Scenario::Interest => interest(seed, &mut random, traces),
        Scenario::TakeOver => take_over(seed, &mut random, traces),
        Scenario::Retained => retained(seed, &mut random, traces),
        Scenario::Acknowledgements => acknowledgements(seed, &mut random, traces),
        Scenario::CrossTraffic => cross_traffic(seed, &mut random, traces),
        Scenario::Share => share(seed, &mut random, traces),
        Scenario::KeepAlive => keep_alive(seed, &mut random, traces),
        Scenario::Wills => wills(seed, &mut random, traces),
        Scenario::Expiry => expiry(seed, &mut random, traces),
        Scenario::Churn => churn(seed, &mut random, traces),
        Scenario::Scarcity => scarcity(seed, &mut random, traces),
        Scenario::Limits => limits(seed, &mut random, traces),
        Scenario::OwnQueue => own_queue(seed, &mut random, traces),
        Scenario::Drain => drain(seed, &mut random, traces),
        Scenario::Crowd => crowd(seed, &mut random, traces),
        Scenario::Identifiers => identifiers(seed, &mut random, traces),
    };
    if world.is_draining {
        world.check_drained();
    } else {
        finale(&mut world);
    }
    world.book.digest()
}

const TOPICS: [&str; 6] = ["t/0", "t/1", "t/2", "u/x/y", "u/x", "v"];
const FILTERS: [&str; 8] = ["t/0", "t/1", "t/+", "#", "u/#", "u/x/y", "+/x", "v"];

/// Clients of all kinds do what they please.
fn general(seed: u64, random: &mut Random, traces: bool) -> World {
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

/// Filters come and go in few slots, and messages are published the moment that SUBACK is there.
fn interest(seed: u64, random: &mut Random, traces: bool) -> World {
    let setup = Setup { interest_slots: 64, ..Setup::of_many_shards(random) };
    let mut world = World::new(seed, setup, traces);
    let (here, there) = two_shards(&world, random);
    let publisher = world.add_at("publisher", here, |profile| profile);
    let subscriber = world.add_at("subscriber", there, |profile| profile);
    let other = world.add_at("other", there, |profile| profile);
    [publisher, subscriber, other].into_iter().for_each(|client| world.connect(client));
    let topics: Vec<String> = (0..40).map(|number| format!("i/{number}/x")).collect();
    for _ in 0..random.between(4, 12) {
        let topic = random.pick(&topics).clone();
        let filter = if random.once_in(3) { topic.replace("/x", "/+") } else { topic.clone() };
        for _ in 0..random.below(20) {
            let topic = random.pick(&topics).clone();
            world.subscribe(other, &topic, 0);
        }
        world.subscribe(subscriber, &filter, 1);
        world.run_until("a SUBACK", |world| world.clients[subscriber].is_subscribed(&filter));
        for _ in 0..random.below(20) {
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

/// Connections of one ClientId come on several shards at once: the newest stays.
fn take_over(seed: u64, random: &mut Random, traces: bool) -> World {
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

/// Retained messages meet new subscriptions.
fn retained(seed: u64, random: &mut Random, traces: bool) -> World {
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

/// Acknowledgements wait for shards that are slow, and come in order.
fn acknowledgements(seed: u64, random: &mut Random, traces: bool) -> World {
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
fn cross_traffic(seed: u64, random: &mut Random, traces: bool) -> World {
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
fn share(seed: u64, random: &mut Random, traces: bool) -> World {
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

/// A client whom we do not listen to is not silent; one who says nothing is.
fn keep_alive(seed: u64, random: &mut Random, traces: bool) -> World {
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
fn wills(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut world = World::new(seed, Setup::random(random), traces);
    let watcher = world.add_at("watcher", random.below(world.shards()), |profile| profile);
    world.connect(watcher);
    world.subscribe(watcher, "will/#", 1);
    world.settle();
    for round in 0..random.between(2, 6) {
        let delay_s = if random.once_in(3) { 0 } else { 5 };
        let payload = format!("will {round}");
        let will = crate::client::WillSpec { topic: format!("will/{round}"), payload: payload.clone(), delay_s };
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
fn expiry(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut world = World::new(seed, Setup::random(random), traces);
    let watcher = world.add_at("watcher", random.below(world.shards()), |profile| profile);
    world.connect(watcher);
    world.subscribe(watcher, "will/#", 2);
    world.settle();
    for round in 0..random.between(2, 6) {
        let payload = format!("will {round}");
        let will = crate::client::WillSpec { topic: format!("will/{round}"), payload: payload.clone(), delay_s: 1000 };
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

/// Connections come and go so fast that their slots and descriptors are used again within a turn.
fn churn(seed: u64, random: &mut Random, traces: bool) -> World {
    let mut setup = Setup::random(random);
    setup.shards = random.between(1, 2);
    setup.faults.delay = setup.faults.delay.min(30);
    let mut world = World::new(seed, setup, traces);
    let clients: Vec<usize> = (0..8)
        .map(|number| {
            let version = *random.pick(&[ProtocolVersion::V311, ProtocolVersion::V5]);
            world.add(Profile { reads: 100, ..Profile::new(format!("client-{number}"), version) })
        })
        .collect();
    for round in 0..random.between(40, 150) {
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

/// Buffers and descriptors run out, and everybody is served in the end.
fn scarcity(seed: u64, random: &mut Random, traces: bool) -> World {
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
fn limits(seed: u64, random: &mut Random, traces: bool) -> World {
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
fn own_queue(seed: u64, random: &mut Random, traces: bool) -> World {
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

/// The broker is told to stop while everybody is busy: everybody is told to go, and goes.
fn drain(seed: u64, random: &mut Random, traces: bool) -> World {
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

/// So many subscribers on a shard that a fan-out takes several turns; the order of what is published stands.
fn crowd(seed: u64, random: &mut Random, traces: bool) -> World {
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
fn identifiers(seed: u64, random: &mut Random, traces: bool) -> World {
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

/// Two shards that differ.
fn two_shards(world: &World, random: &mut Random) -> (usize, usize) {
    let one = random.below(world.shards());
    (one, (one + 1 + random.below(world.shards() - 1)) % world.shards())
}
