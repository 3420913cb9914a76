//! What a shard wants done: values that its driver carries out after the inputs of a turn.
//!
//! Owns: the lists that are filled during a turn and drained after it, their memory kept from turn to turn.
//! Always: nothing here needs an allocation per message.

use std::collections::VecDeque;

use crate::{
    message::Publication,
    runtime::ConnectionId,
    shard::{
        exchange::{Arrival, MeshMessage, RANK_DELIVERY, RANKS, Taken},
        parcel::Parcel,
    },
    transport::OutBuffer,
};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// What was written is delivered first, then both directions are closed.
    Linger,
    /// At once: there is nothing to say, or nobody to say it to.
    Reset,
}

/// Something to do to a connection.
#[derive(Debug)]
pub enum ConnectionEffect {
    /// Receive once more: CONNECT is not complete.
    ReceiveOnce(ConnectionId),
    /// CONNECT was handled here: receive from now on.
    Receive(ConnectionId),
    /// Stop receiving until `Resume`.
    Pause(ConnectionId),
    /// Receive again.
    Resume(ConnectionId),
    /// Send the last bytes and close.
    Close(ConnectionId, Option<Box<OutBuffer>>, Ending),
    /// Give the socket to the shard where its client is at home.
    HandOff(ConnectionId, u16, Box<Arrival>),
}

/// What one turn of a shard wants done.
#[derive(Debug, Default)]
pub struct Effects {
    /// What to do to connections, in order.
    pub connections: Vec<ConnectionEffect>,
    /// Much memory was freed a while ago: pages that hold nothing any more are to go back to the kernel.
    pub gives_back_memory: bool,
    /// Messages to other shards: `outbound[shard * RANKS + rank]`. What the mesh has no room for stays.
    outbound: Vec<VecDeque<MeshMessage>>,
    /// How many those are, by rank: asked for with every publish.
    waiting: [usize; RANKS],
}

impl Effects {
    /// No effects, towards `shards` shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        let outbound = (0..shards * RANKS).map(|_| VecDeque::new()).collect();
        Self { connections: Vec::new(), gives_back_memory: false, outbound, waiting: [0; RANKS] }
    }

    /// Sends `message` to shard `to`.
    pub fn send(&mut self, to: u16, message: MeshMessage) {
        let rank = message.rank();
        if let Some(queue) = self.outbound.get_mut(usize::from(to) * RANKS + rank) {
            queue.push_back(message);
            self.waiting[rank] += 1;
        }
    }

    /// Sends a copy of `publication` to the subscribers of shard `to`, in the parcel that waits for it, else in one that
    /// `empty` gives.
    pub fn send_copy(&mut self, to: u16, publication: &Publication<'_>, report: Taken, empty: impl FnOnce() -> Parcel) {
        let Some(queue) = self.outbound.get_mut(usize::from(to) * RANKS + RANK_DELIVERY) else { return };
        self.waiting[RANK_DELIVERY] += 1;
        if let Some(MeshMessage::Parcel(parcel)) = queue.back_mut()
            && parcel.has_room(publication)
        {
            return parcel.push(publication, report);
        }
        let mut parcel = empty();
        parcel.push(publication, report);
        queue.push_back(MeshMessage::Parcel(parcel));
    }

    /// The same with publications like `publication`, which differ in their `payloads`, all of one length. Returns how many that
    /// are.
    pub fn send_copies<'a>(
        &mut self,
        to: u16,
        publication: &Publication<'_>,
        report: Taken,
        payloads: impl Iterator<Item = &'a [u8]>,
        mut empty: impl FnMut() -> Parcel,
    ) -> usize {
        let Some(queue) = self.outbound.get_mut(usize::from(to) * RANKS + RANK_DELIVERY) else { return 0 };
        let mut payloads = payloads.peekable();
        let mut sent = 0;
        while payloads.peek().is_some() {
            if let Some(MeshMessage::Parcel(parcel)) = queue.back_mut()
                && parcel.has_room(publication)
            {
                sent += parcel.push_alike(publication, report, &mut payloads);
                continue;
            }
            queue.push_back(MeshMessage::Parcel(empty()));
        }
        self.waiting[RANK_DELIVERY] += sent;
        sent
    }

    /// Lets `take` have what waits for shard `to` at `rank`, when anything does, and returns what it returns.
    pub fn take_out<R>(
        &mut self,
        to: u16,
        rank: usize,
        take: impl FnOnce(&mut VecDeque<MeshMessage>) -> R,
    ) -> Option<R> {
        let queue = self.outbound.get_mut(usize::from(to) * RANKS + rank).filter(|queue| !queue.is_empty())?;
        let messages = |queue: &VecDeque<MeshMessage>| queue.iter().map(MeshMessage::count).sum::<usize>();
        let before = messages(queue);
        let result = take(queue);
        self.waiting[rank] = self.waiting[rank] - before + messages(queue);
        Some(result)
    }

    /// Messages at `rank` that wait for room in the mesh, to all shards.
    #[must_use]
    pub fn waiting(&self, rank: usize) -> usize {
        self.waiting[rank]
    }
}
