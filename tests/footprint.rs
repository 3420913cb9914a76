//! What rests in memory: bytes per idle connection, per retained message and per subscription, rounded up to the size
//! classes of the broker's allocator.

mod house;

use house::{
    counting::{Counting, counted},
    pure::PureShard,
};
use ringmq::{
    message::{ApplicationMessage, Envelope, Origin, Stamp},
    mqtt::{ProtocolVersion, QoS},
    routing::{FilterTable, HashKey, RetainedStore},
    session::Session,
    shard::{Connection, Subscription, SubscriptionBits},
    time::Moment,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that each of `count` things takes, which `make` makes one of.
fn bytes_each(what: &str, count: usize, mut make: impl FnMut(usize)) -> i64 {
    let before = counted().bytes;
    (0..count).for_each(&mut make);
    let each = (counted().bytes - before) / count as i64;
    println!("{what}: {each} bytes each");
    each
}

#[test]
fn an_idle_connection_with_a_session_and_a_subscription_is_small() {
    assert_eq!((size_of::<Session>(), size_of::<Connection>()), (112, 88));
    let mut shard = PureShard::new();
    // A whole number of chunks of everything that grows by chunks.
    let each = bytes_each("connection, session, subscription", 16_384, |number| {
        let id = shard.connect(ProtocolVersion::V311, &format!("client-{number:013}"));
        shard.subscribe(id, ProtocolVersion::V311, &format!("building/dev{number:08}/temperatu"), QoS::AtMostOnce);
    });
    assert!(each <= CONNECTION_BYTES_MAX, "{each}");
}

#[test]
fn a_retained_message_is_small() {
    let mut store = RetainedStore::new(HashKey::from_seed(7));
    let each = bytes_each("retained message, 64 bytes on 30", 100_000, |number| {
        let topic = format!("building/dev{number:08}/temperatu");
        let stamp = Stamp { micros: number as u64, ..Stamp::default() };
        let (qos, expires_at, origin) = (QoS::AtMostOnce, Moment::NEVER, Origin::default());
        let envelope = Envelope { qos, retain: true, expires_at, topic_hash: 0, stamp, origin };
        store.put(stamp, ApplicationMessage::new(&topic, &[], &[b'x'; 64], envelope));
    });
    assert!(each <= RETAINED_BYTES_MAX, "{each}");
}

#[test]
fn a_distinct_filter_is_small() {
    let kinds = [("exact", "temperatu", EXACT_FILTER_BYTES_MAX), ("wildcard", "temp/+/+/", WILDCARD_FILTER_BYTES_MAX)];
    for (kind, pattern, bytes_max) in kinds {
        let mut table = FilterTable::new(HashKey::from_seed(7));
        let each = bytes_each(kind, 100_000, |number| {
            let filter = format!("building/dev{number:08}/{pattern}");
            let options = SubscriptionBits(0);
            table.insert(&filter, Subscription { session: number as u32, identifier: 0, options });
        });
        assert!(each <= bytes_max, "{kind}: {each}");
    }
}

/// Of which Session has 112 and Connection 88; the wires' slot of 32 is not in it.
const CONNECTION_BYTES_MAX: i64 = 380;
/// Payload and topic are 94 of them.
const RETAINED_BYTES_MAX: i64 = 220;
/// The filter's text of 30 is in both.
const EXACT_FILTER_BYTES_MAX: i64 = 85;
const WILDCARD_FILTER_BYTES_MAX: i64 = 110;
