//! What must be true at the end: who got what, and what is left.

use std::collections::{BTreeMap, BTreeSet};

use ringmq::mqtt::ProtocolVersion;

use crate::{
    book::{Message, Number},
    client::{Client, Held, Profile, matches},
    failure::fail,
    world::World,
};

/// Ends a run: everybody whose session lasts comes back, everything is delivered, everybody leaves.
pub fn finale(world: &mut World) {
    world.settle();
    if world.is_limited {
        leave(world);
        let auditor = world.add(Profile::new("auditor", ProtocolVersion::V5));
        world.connect(auditor);
        world.settle();
        let topics = retained_topics(world);
        clear(world, auditor, &topics);
        return part(world);
    }
    for client in 0..world.clients.len() {
        let is_lasting = world.clients[client].profile.expiry_s > 0 && !world.clients[client].profile.contends;
        if is_lasting && world.clients[client].is_down() {
            let shard = world.random.below(world.shards());
            world.connect_at(client, shard, false);
        }
    }
    world.settle();
    world.check_store_quiet();
    if !world.drops {
        check_deliveries(world);
        check_groups(world);
    }
    check_retained(world);
    leave(world);
    part(world);
}

/// Everything that the broker acknowledged has reached everyone who had subscribed before.
pub fn check_deliveries(world: &World) {
    // One that clears has no name to find it by.
    for (number, message) in world.book.messages().filter(|(_, message)| !message.payload.is_empty()) {
        let (Some(written), Some(acknowledged)) = (message.written, taken(world, message)) else { continue };
        for client in &world.clients {
            let has_stayed = client.is_up() && client.up_since < written;
            let owed = client.subscriptions.iter().any(|held| {
                // At QoS 0 it is owed to those only who have stayed connected.
                let is_kept = held.qos > 0 && message.qos > 0 || has_stayed;
                held.shared().is_none() && is_kept && is_owed(held, message, written, acknowledged)
            });
            if owed && client.deliveries.get(&number).is_none_or(|count| *count == 0) {
                let held: Vec<&Held> =
                    client.subscriptions.iter().filter(|held| matches(held, &message.topic)).collect();
                fail("acknowledged is delivered", format!("{} misses {message:?}, has {held:?}", client.profile.name));
            }
        }
    }
}

/// When the broker had certainly taken a message: it said so, or its publisher has stayed and all is quiet.
fn taken(world: &World, message: &Message) -> Option<u64> {
    if message.may_be_lost {
        return None;
    }
    let publisher = &world.clients[message.publisher];
    let has_stayed = publisher.is_up() && message.written.is_some_and(|written| publisher.up_since <= written);
    message.acknowledged.or(has_stayed.then_some(world.book.now))
}

/// Whether a subscription stood from before the message was written until it was acknowledged, and still has its session.
fn is_owed(held: &Held, message: &Message, written: u64, acknowledged: u64) -> bool {
    held.acknowledged.is_some_and(|since| since < written)
        && held.ended.is_none_or(|ended| ended > acknowledged)
        && !held.is_lost
        && matches(held, &message.topic)
}

/// Each share group has got each acknowledged message once. Groups whose members may lose their sessions owe nothing.
fn check_groups(world: &World) {
    let mut groups: BTreeMap<&str, Vec<(&Client, &Held)>> = BTreeMap::new();
    for client in &world.clients {
        for held in client.subscriptions.iter().filter(|held| held.shared().is_some()) {
            groups.entry(&held.filter).or_default().push((client, held));
        }
    }
    for (filter, members) in groups {
        for (number, message) in world.book.messages() {
            let clients: BTreeSet<usize> = members.iter().map(|(client, _)| client.index).collect();
            let copies: u32 =
                clients.iter().map(|&client| world.clients[client].deliveries.get(&number).copied().unwrap_or(0)).sum();
            let holders =
                clients.iter().filter(|&&client| world.clients[client].deliveries.contains_key(&number)).count();
            // One of QoS 1 may have been sent before it had left the queue of another member for good.
            let is_lower = message.qos == 1 || members.iter().any(|(_, held)| held.qos == 1);
            let may_repeat = message.is_repeated || is_lower && world.book.has_met_crash(message);
            if holders > 1 && !may_repeat {
                fail("one member of a group", format!("{filter}: {holders} got {message:?}"));
            }
            let (Some(written), Some(acknowledged)) = (message.written, message.acknowledged) else { continue };
            let last = members.iter().all(|(_, held)| !held.is_lost && held.ended.is_none() && held.qos > 0);
            let owed = members.iter().any(|(_, held)| is_owed(held, message, written, acknowledged));
            if owed && last && copies == 0 {
                fail("some member of a group", format!("{filter}: nobody got {message:?}"));
            }
        }
    }
}

/// The topics in which anything was ever retained.
fn retained_topics(world: &World) -> BTreeSet<String> {
    let retained = world.book.messages().filter(|(_, message)| message.retain && message.written.is_some());
    retained.map(|(_, message)| message.topic.clone()).collect()
}

/// What is retained is the newest, for one who comes now and for all who have listened.
fn check_retained(world: &mut World) {
    let topics = retained_topics(world);
    if topics.is_empty() {
        return;
    }
    let mut auditor = Profile::new("auditor", ProtocolVersion::V5);
    auditor.under_way_max = 1;
    let auditor = world.add(auditor);
    world.connect(auditor);
    world.subscribe(auditor, "#", 1);
    world.settle();
    for topic in &topics {
        let found = world.clients[auditor].retained.get(topic).copied();
        check_newest(world, topic, found);
        check_listeners(world, auditor, topic, found);
    }
    clear(world, auditor, &topics);
}

/// No acknowledged message to `topic` is certainly newer than what was found there.
fn check_newest(world: &World, topic: &str, found: Option<Number>) {
    let book = &world.book;
    let retained = |message: &Message| message.retain && message.topic == topic && message.written.is_some();
    for (number, message) in book.messages().filter(|(_, message)| retained(message)) {
        if message.acknowledged.is_none() || message.may_be_lost || Some(number) == found {
            continue;
        }
        let is_newer = match found.map(|number| book.message(number)) {
            Some(value) => is_certainly_newer(message, value),
            // Nothing is there: it was cleared, by a message that is not older than this one.
            None => {
                let clears = |other: &Message| retained(other) && other.payload.is_empty();
                !message.payload.is_empty()
                    && !book.messages().any(|(_, other)| clears(other) && !is_certainly_newer(message, other))
            }
        };
        if is_newer {
            fail("the newest is retained", format!("{topic}: {found:?} instead of {message:?}"));
        }
    }
}

/// Messages of one publisher are in its order; of two others one is older when it was acknowledged before the other
/// was written. One of QoS 1 that was sent again may have been taken again, after others.
fn is_certainly_newer(message: &Message, than: &Message) -> bool {
    if than.is_repeated && than.qos == 1 {
        return false;
    }
    if message.publisher == than.publisher {
        return message.number > than.number;
    }
    than.acknowledged.is_some_and(|known| Some(known) < message.written)
}

/// A subscriber that has stayed connected has seen the newest value last, live or retained.
fn check_listeners(world: &World, auditor: usize, topic: &str, found: Option<Number>) {
    let has_repeated = world.book.messages().any(|(_, message)| message.topic == topic && message.is_repeated);
    // What was seen and not acknowledged may be gone after a crash.
    if has_repeated || world.book.crashed_at.is_some() || !world.book.retains_in_order(topic) {
        return;
    }
    let stands = |held: &Held| {
        let is_plain = held.shared().is_none() && held.ended.is_none() && !held.is_lost;
        is_plain && held.acknowledged.is_some() && matches(held, topic)
    };
    for client in world.clients.iter().filter(|client| client.index != auditor && client.is_up()) {
        if client.has_resumed || !client.subscriptions.iter().any(stands) {
            continue;
        }
        let latest = client.latest.get(topic).copied().flatten();
        if latest != found {
            let who = &client.profile.name;
            fail("retained values converge", format!("{who} saw {latest:?} of {topic} last, retained is {found:?}"));
        }
    }
}

fn clear(world: &mut World, auditor: usize, topics: &BTreeSet<String>) {
    for topic in topics {
        world.publish_bytes(auditor, topic, 1, true, 0);
    }
    world.settle();
}

/// Everybody ends its session and leaves.
fn leave(world: &mut World) {
    for client in 0..world.clients.len() {
        let profile = world.clients[client].profile.clone();
        let lasts_v3 = profile.expiry_s > 0 && profile.version != ProtocolVersion::V5;
        let needs_connection = profile.expiry_s > 0 && (world.clients[client].is_down() || lasts_v3);
        if needs_connection {
            // A clean session of 3.x ends with its connection.
            world.clients[client].profile.expiry_s = if lasts_v3 { 0 } else { profile.expiry_s };
            if !world.clients[client].is_down() {
                world.clients[client].disconnect(false);
                world.settle();
            }
            let shard = world.random.below(world.shards());
            world.connect_at(client, shard, true);
            world.settle();
        }
        if world.clients[client].is_up() {
            world.clients[client].disconnect(true);
        }
    }
    world.settle();
}

/// Who is still there leaves too, and nothing stays behind.
fn part(world: &mut World) {
    for client in &mut world.clients {
        if client.is_up() {
            client.disconnect(true);
        }
    }
    world.settle();
    // Those who linger are waited for no longer than this.
    world.advance(3_000_000);
    world.settle();
    world.check_empty();
}
