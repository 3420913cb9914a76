//! What a shard wants done: values that its driver carries out after the inputs of a turn.
//!
//! Owns: the lists that are filled during a turn and drained after it, their memory kept from turn to turn.
//! Always: nothing here needs an allocation per message.

use std::collections::VecDeque;

use crate::{
    runtime::ConnectionId,
    shard::exchange::{Arrival, MeshMessage, RANKS},
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
    /// Messages to other shards: `outbound[shard * RANKS + rank]`. What the mesh has no room for stays.
    pub outbound: Vec<VecDeque<MeshMessage>>,
}

impl Effects {
    /// No effects, towards `shards` shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self { connections: Vec::new(), outbound: (0..shards * RANKS).map(|_| VecDeque::new()).collect() }
    }

    /// Sends `message` to shard `to`.
    pub fn send(&mut self, to: u16, message: MeshMessage) {
        let index = usize::from(to) * RANKS + message.rank();
        if let Some(queue) = self.outbound.get_mut(index) {
            queue.push_back(message);
        }
    }

    /// What waits for shard `to` at `rank`.
    pub fn outbound_mut(&mut self, to: u16, rank: usize) -> Option<&mut VecDeque<MeshMessage>> {
        self.outbound.get_mut(usize::from(to) * RANKS + rank)
    }

    /// Messages at `rank` that wait for room in the mesh, to all shards.
    #[must_use]
    pub fn waiting(&self, rank: usize) -> usize {
        self.outbound.iter().skip(rank).step_by(RANKS).map(VecDeque::len).sum()
    }
}
