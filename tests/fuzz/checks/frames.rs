//! A stream of packets is the same however it is cut.

use std::num::NonZeroU16;

use ringmq::mqtt::{
    Connect,
    frame::{Peek, peek},
};

use super::{VERSIONS, driver::Driver, script::Script};

/// The first byte says whether a CONNECT of which version comes before the stream, the second how many cuts there are;
/// the cuts follow, two bytes each, and then the stream.
pub fn check(data: &[u8]) {
    let mut script = Script::new(data);
    let (version, begins_with_connect) = (script.pick(&VERSIONS), script.byte() & 1 == 0);
    let cuts = script.below(CUTS_MAX + 1);
    let mut cuts: Vec<usize> =
        (0..cuts).map(|_| usize::from(script.byte()) << 8 | usize::from(script.byte())).collect();
    let mut stream = Vec::new();
    if begins_with_connect {
        let mut connect = Connect::new(version, "a");
        if version.has_properties() {
            connect.properties.receive_maximum = NonZeroU16::new(9);
            connect.properties.session_expiry_interval = Some(60);
        }
        connect.encode(&mut stream).expect("it is valid");
    }
    let rest = script.rest();
    stream.extend_from_slice(&rest[..rest.len().min(STREAM_BYTES_MAX)]);
    check_prefixes(&stream);
    cuts.iter_mut().for_each(|cut| *cut %= stream.len() + 1);
    cuts.sort_unstable();
    let whole = answers(&[&stream]);
    let mut pieces = Vec::new();
    let mut start = 0;
    for cut in cuts {
        pieces.push(&stream[start..cut]);
        start = cut;
    }
    pieces.push(&stream[start..]);
    let cut = answers(&pieces);
    assert_eq!(whole, cut, "in pieces of {:?}", pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>());
}

/// What a client is told that sends `pieces`, whether it is still there, and all that the shard has counted.
fn answers(pieces: &[&[u8]]) -> (Vec<u8>, bool, Vec<u64>) {
    let mut driver = Driver::new();
    let client = driver.accept();
    driver.turn();
    // Within one turn: what happens between turns may come before or after an answer.
    for piece in pieces {
        driver.deliver(client, piece);
    }
    driver.settle();
    let counters = driver.shard.counters().values().collect();
    let remote = &driver.remotes[client];
    (remote.told.clone(), remote.is_closed, counters)
}

/// A part of a packet is known as a part, and nothing that is said of it turns out wrong.
fn check_prefixes(stream: &[u8]) {
    let mut rest = stream;
    while !rest.is_empty() {
        let whole = peek(rest, u32::MAX);
        let total_len = match whole {
            Ok(Peek::Complete(header)) => header.total_len(),
            Ok(Peek::Incomplete { .. }) | Err(_) => rest.len(),
        };
        for len in 0..total_len {
            match (peek(&rest[..len], u32::MAX), whole) {
                (Ok(Peek::Incomplete { need }), Ok(Peek::Incomplete { need: most })) => {
                    assert!(len < need && need <= most, "{need} of {most} after {len}");
                }
                (Ok(Peek::Incomplete { need }), Ok(Peek::Complete(_))) => {
                    assert!(len < need && need <= total_len, "{need} after {len}");
                }
                // What it turns out to be may be refused before all that was asked for is there.
                (Ok(Peek::Incomplete { need }), Err(_)) => assert!(len < need, "{need} after {len}"),
                (Err(error), Err(at_the_end)) => assert_eq!(error, at_the_end, "after {len}"),
                (part, whole) => panic!("{part:?} after {len}, then {whole:?}"),
            }
        }
        let Ok(Peek::Complete(_)) = whole else { return };
        rest = &rest[total_len..];
    }
}

const CUTS_MAX: usize = 16;

/// Longer streams could fill a turn, and then answers come in another order.
const STREAM_BYTES_MAX: usize = 4096;
