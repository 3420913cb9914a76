//! What a start makes of a store whose last commits may have gone with the machine.
//!
//! Owns: the marks that say so, in the store before anybody is served: a broker that dies before it has met each client again
//! doubts the same at its next start.
//! Always: all marks are one commit, the first after the store was opened. A start that dies before it leaves the store as it was
//! found, lacking what it lacked.

use super::{Recovered, Space, Store, StoreError, WriteSet, record};
use crate::plant::{Bug, planted};

/// Takes every session of `recovered`, which was read from `store`, for one whose client was told or sent more than the store
/// knows: an identifier that is received may have been released, and of messages that are forgotten its client may hold the
/// PacketIdentifiers of all places that were reserved.
///
/// # Errors
/// When the store cannot be written to.
pub fn doubt(recovered: &mut Recovered, store: &mut dyn Store) -> Result<(), StoreError> {
    let mut writes = WriteSet::default();
    for session in &mut recovered.sessions {
        let queue = session.queue.map_or(0, |queue| queue.sent_below.max(queue.last.saturating_add(1)));
        let next = session.record.sent_below.max(session.used_below).max(queue);
        if let Some(reserve) =
            session.reserve.as_mut().filter(|reserve| reserve.below > next && !planted(Bug::HeldForgotten))
        {
            session.used_below = reserve.doubt(next);
            let key = record::session_key(record::tag::RESERVE, session.number);
            writes.put(Space::State, &key, record::write_reserve(reserve));
        }
        for received in session.received.iter_mut().filter(|received| !received.is_doubted) {
            received.is_doubted = true;
            let key = record::received_key(session.number, received.identifier);
            writes.put(Space::State, &key, record::write_received(*received));
        }
    }
    if writes.is_empty() {
        return Ok(());
    }
    recovered.commit_number += 1;
    writes.put(Space::State, record::COMMIT_KEY, recovered.commit_number.to_le_bytes().to_vec());
    store.commit(&writes, true)
}
