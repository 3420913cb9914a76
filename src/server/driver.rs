//! One shard's turns: marries the shard's state machine to its sockets and to the mesh.
//!
//! Owns: the order of a turn, and nothing of the protocol. A turn is: completions, messages of other shards, timers and
//! jobs, then what they asked for: messages into the mesh, kicks, sends.
//! Always: the shard's turn counter moves on only when the messages of the turn lie in the rings, not behind them; a
//! shard sleeps only after it said so and looked again. Every connection with something to send gets one send a turn.
//! Never: waits for anything but its ring. Time, kernel and mesh come in, so the simulation runs this very code.

use std::{net::SocketAddr, time::Duration};

use crate::{
    plant::{Bug, planted},
    runtime::{Close, CloseCause, ConnectionId, Kernel, MeshPort, Wait, WireHandler, Wires, kernel::EnterWait, memory},
    shard::{ConnectionEffect, Ending, MeshMessage, RANK_DELIVERY, RANK_HOME, RANK_REPLY, RANKS, Shard, Shared},
    store::StorePort,
    sync::Arc,
    time::Moment,
    transport::OutBuffer,
};

/// What a driver reads the time from.
pub trait Time {
    /// The moment.
    fn now(&self) -> Moment;
}

impl Time for crate::runtime::Clock {
    fn now(&self) -> Moment {
        crate::runtime::Clock::now(self)
    }
}

/// A turn between its halves.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// What the kernel waits for.
    pub wait: EnterWait,
    /// Whether others were told that this shard sleeps.
    pub sleeps: bool,
}

/// A shard with its sockets and its end of the mesh.
#[derive(Debug)]
pub struct Driver<K: Kernel, T: Time> {
    index: u16,
    shards: u16,
    wires: Wires<K>,
    shard: Shard,
    mesh: MeshPort<MeshMessage>,
    shared: Arc<Shared>,
    time: T,
    /// Messages that one turn takes from one ring: all that can have been there when it began.
    mesh_messages_per_turn: usize,
    /// Ranks that are not taken from the mesh, bit by bit: for the simulation.
    held_ranks: u8,
    /// Replies of other shards, kept for its memory.
    replies: Vec<(u16, MeshMessage)>,
    /// The way to the store, when anything is kept.
    store: Option<Box<dyn StorePort>>,
    /// Connections to send for, kept for its memory.
    sends: Vec<(ConnectionId, Box<OutBuffer>)>,
}

impl<K: Kernel, T: Time> Driver<K, T> {
    /// A driver of `shard`. `mesh_capacity` is that of the largest ring of the mesh.
    #[must_use]
    pub fn new(
        wires: Wires<K>,
        shard: Shard,
        mesh: MeshPort<MeshMessage>,
        shared: Arc<Shared>,
        time: T,
        mesh_capacity: usize,
    ) -> Self {
        // From its first turn on it may probe, also when it never sleeps.
        shared.clocks.unpark(usize::from(shard.index()));
        Self {
            index: shard.index(),
            shards: shared.shards,
            wires,
            shard,
            mesh,
            shared,
            time,
            mesh_messages_per_turn: mesh_capacity,
            held_ranks: 0,
            replies: Vec::new(),
            store: None,
            sends: Vec::new(),
        }
    }

    /// From now on what the shard asks to be kept goes to `store`.
    pub fn set_store(&mut self, store: Box<dyn StorePort>) {
        self.store = Some(store);
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The sockets.
    pub fn wires_mut(&mut self) -> &mut Wires<K> {
        &mut self.wires
    }

    /// From now on ranks whose bit is set are left in the mesh: for the simulation.
    pub fn hold_ranks(&mut self, ranks: u8) {
        self.held_ranks = ranks;
    }

    /// One turn. `may_sleep`: it waits when there is nothing to do. One entry into the kernel takes the submissions of
    /// the turn before along, and waits with them.
    pub fn turn(&mut self, may_sleep: bool) {
        let rest = self.begin_turn(may_sleep);
        self.finish_turn(rest);
    }

    /// The first half of a turn, up to the entry into the kernel. The simulation leaves a shard that sleeps here, and
    /// finishes its turn when something would have woken it.
    pub fn begin_turn(&mut self, may_sleep: bool) -> Rest {
        let now = self.time.now();
        let sleep_until = if may_sleep { self.sleep_until(now) } else { None };
        let wait = sleep_until.map_or(Wait::No, Wait::Until);
        let Self { wires, shard, time, .. } = self;
        let mut handler = Handler { shard, time, now: None, sleeper: None };
        Rest { wait: wires.begin_turn(&mut handler, wait, now), sleeps: sleep_until.is_some() }
    }

    /// Says that the shard is awake, when its turn is not finished at once.
    pub fn awaken(&mut self, rest: Rest) -> Rest {
        if rest.sleeps {
            end_sleep(self.index, &self.shared, &self.mesh);
        }
        Rest { sleeps: false, ..rest }
    }

    /// The second half of a turn: into the kernel and back, and everything that follows from what it brought.
    pub fn finish_turn(&mut self, rest: Rest) {
        let Self { wires, shard, mesh, shared, time, .. } = self;
        let sleeper = rest.sleeps.then_some((&**shared, &*mesh));
        let mut handler = Handler { shard, time, now: None, sleeper };
        wires.finish_turn(&mut handler, rest.wait);
        let now = handler.now();
        if let Some(store) = &self.store {
            let durable = store.durable();
            self.shard.handle_written(store.written(), now);
            self.shard.handle_store(durable, store.condition(), now);
        }
        while let Some(slice) = self.store.as_mut().and_then(|store| store.take_slice()) {
            self.shard.handle_slice(slice, now);
        }
        self.shard.check_grace();
        if self.take_messages(now) {
            self.shard.handle_mesh_drained();
        }
        self.shard.handle_time(now);
        self.shard.run_jobs(now);
        self.shard.end_turn(now);
        self.act_on_connections();
        self.submit();
        self.send_messages();
        self.send_buffers(now);
        if std::mem::take(&mut self.shard.effects_mut().gives_back_memory) {
            memory::give_back_free_pages();
        }
    }

    /// Hands what the turn asked for to the store.
    pub fn submit(&mut self) {
        let Some(store) = &mut self.store else { return };
        if let Some(batch) = self.shard.take_batch() {
            store.submit(batch);
        }
        self.shard.take_reads().for_each(|request| store.read(request));
    }

    /// Tells up to `max` clients to go. Returns whether any connection is left, on any shard, closing ones included.
    pub fn drain(&mut self, max: usize) -> bool {
        self.wires.stop_accepting();
        let now = self.time.now();
        // A client on its way between shards is at home on one of them, which must still be there to tell it.
        let has_connections = !self.wires.is_empty() || self.shared.connections.now() > 0;
        self.shard.drain(max, now) || has_connections || self.wires.is_accepting()
    }

    /// Until when the shard may sleep (`Some(None)`: until something happens), after it has said that it will. `None`:
    /// there is something to do.
    fn sleep_until(&mut self, now: Moment) -> Option<Option<Moment>> {
        let due = self.shard.next_due();
        if self.shard.has_work() || due.is_some_and(|due| due <= now) {
            return None;
        }
        // What waits for another shard is looked at again soon: that shard may run on this very CPU.
        let all_sent = self.outbound_is_empty();
        let waits_for_others = self.shard.waits_for_others() || !all_sent;
        if !self.mesh.about_to_sleep() {
            return None;
        }
        if all_sent || planted(Bug::ParkedBeforeSent) {
            // Otherwise its turn has not ended: who waits for that would take what lies behind the rings for sent.
            self.shared.clocks.park(usize::from(self.index));
        }
        Some(if waits_for_others { Some(now.after(PATIENCE_WITH_SHARDS)) } else { due })
    }

    fn outbound_is_empty(&mut self) -> bool {
        let effects = self.shard.effects_mut();
        (0..RANKS).all(|rank| effects.waiting(rank) == 0)
    }

    /// Handles what other shards have sent. Returns whether everything of rank 0 that was there at the start has been
    /// handled. Replies are taken out first and handled after the deliveries: a retained answer was preceded by the live
    /// message that it tells of, which makes it void.
    fn take_messages(&mut self, now: Moment) -> bool {
        let me = self.index;
        let others = move |shards: u16| (0..shards).filter(move |&from| from != me);
        let mut replies = std::mem::take(&mut self.replies);
        if !self.holds(RANK_REPLY) {
            for from in others(self.shards) {
                let max = if self.is_stuck_behind(from, RANK_REPLY) { 0 } else { self.mesh_messages_per_turn };
                self.mesh.drain(usize::from(from), RANK_REPLY, max, |reply| replies.push((from, reply)));
            }
        }
        if !self.holds(RANK_DELIVERY) {
            for from in others(self.shards) {
                self.take_ring(from, RANK_DELIVERY, now);
            }
        }
        for (from, reply) in replies.drain(..) {
            self.shard.handle_mesh(from, reply, now);
        }
        self.replies = replies;
        let mut home_is_drained = !self.holds(RANK_HOME);
        if home_is_drained {
            for from in others(self.shards) {
                home_is_drained &= self.take_ring(from, RANK_HOME, now);
            }
        }
        home_is_drained
    }

    fn holds(&self, rank: usize) -> bool {
        self.held_ranks & (1 << rank) != 0
    }

    /// Whether what is left in a ring keeps a higher rank waiting, as it would if all ranks shared one.
    fn is_stuck_behind(&self, from: u16, rank: usize) -> bool {
        planted(Bug::OneRank) && (0..rank).any(|lower| self.shard.leaves_in_mesh(from, lower))
    }

    fn take_ring(&mut self, from: u16, rank: usize, now: Moment) -> bool {
        for _ in 0..self.mesh_messages_per_turn {
            if self.shard.leaves_in_mesh(from, rank) || self.is_stuck_behind(from, rank) {
                return false;
            }
            match self.mesh.pop(usize::from(from), rank) {
                None => return true,
                Some(MeshMessage::Arrival(mut arrival)) => {
                    let Some(socket) = arrival.socket.take() else { continue };
                    let (listener, peer) = (socket.listener, socket.peer);
                    match self.wires.adopt(socket) {
                        Ok(id) => self.shard.handle_arrival(id, listener, peer, &arrival, now),
                        // [v3 MQTT-4.8.0-2] No room for it here: what it sent cannot be handled.
                        Err(socket) => {
                            self.wires.discard(socket);
                            self.shared.connection_goes(listener);
                        }
                    }
                    self.shard.handle_mesh(from, MeshMessage::Arrival(arrival), now);
                }
                Some(message) => self.shard.handle_mesh(from, message, now),
            }
        }
        true
    }

    /// Does to connections what was asked for.
    fn act_on_connections(&mut self) {
        let mut asked = std::mem::take(&mut self.shard.effects_mut().connections);
        for effect in asked.drain(..) {
            match effect {
                ConnectionEffect::ReceiveOnce(id) => self.wires.receive_once(id),
                ConnectionEffect::Receive(id) => self.wires.receive(id),
                ConnectionEffect::Pause(id) => self.wires.pause(id),
                ConnectionEffect::Resume(id) => self.wires.resume(id),
                ConnectionEffect::Close(id, last, ending) => self.close(id, last, ending),
                ConnectionEffect::HandOff(id, to, mut arrival) => match self.wires.release(id) {
                    Some(socket) => {
                        arrival.socket = Some(socket);
                        self.shard.send_arrival(to, arrival);
                    }
                    // The client was gone before it could be given away.
                    None => self.shared.connection_goes(arrival.listener),
                },
            }
        }
        // Nothing was asked for meanwhile: acting asks for nothing.
        self.shard.effects_mut().connections = asked;
    }

    fn close(&mut self, id: ConnectionId, last: Option<Box<OutBuffer>>, ending: Ending) {
        if let Some(last) = last
            && let Err(buffer) = self.wires.send(id, last)
        {
            self.shard.recycle(buffer);
        }
        let close = match ending {
            Ending::Linger if !planted(Bug::CloseWithoutLinger) => Close::Linger,
            _ => Close::Reset,
        };
        self.wires.close(id, close);
    }

    /// Puts messages into the mesh, and wakes who sleeps. The turn is published once none is left behind.
    fn send_messages(&mut self) {
        let mut all_sent = true;
        let me = self.index;
        // Deliveries lie in the rings before anyone can hear from their topic's home.
        for rank in [RANK_DELIVERY, RANK_HOME, RANK_REPLY] {
            for to in (0..self.shards).filter(|&to| to != me) {
                let mesh = &mut self.mesh;
                let sent = self.shard.effects_mut().take_out(to, rank, |waiting| {
                    mesh.push(usize::from(to), rank, waiting);
                    waiting.is_empty()
                });
                if let Some(sent) = sent {
                    all_sent &= sent;
                    self.mesh.kick(usize::from(to));
                }
            }
        }
        if all_sent {
            self.shared.clocks.publish_turn(usize::from(self.index));
        }
        self.shard.handle_mesh_room();
    }

    /// One send for each connection with something to send.
    fn send_buffers(&mut self, now: Moment) {
        let sends = &mut self.sends;
        self.shard.drain_dirty(now, |id, buffer| sends.push((id, buffer)));
        for (id, buffer) in self.sends.drain(..) {
            if let Err(buffer) = self.wires.send(id, buffer) {
                // The connection has ended and the shard is about to hear of it.
                self.shard.recycle(buffer);
            }
        }
    }
}

/// Tells the others that a shard is awake, before it handles anything: what is handled may probe the tables of interest.
fn end_sleep(shard: u16, shared: &Shared, mesh: &MeshPort<MeshMessage>) {
    shared.clocks.unpark(usize::from(shard));
    mesh.awake();
}

/// Hands what happens on the sockets to the shard, with the moment of the turn.
struct Handler<'a, T: Time> {
    shard: &'a mut Shard,
    time: &'a T,
    /// Read once a turn, after the kernel was entered.
    now: Option<Moment>,
    /// Who was told that this shard sleeps.
    sleeper: Option<(&'a Shared, &'a MeshPort<MeshMessage>)>,
}

impl<T: Time> Handler<'_, T> {
    fn now(&mut self) -> Moment {
        *self.now.get_or_insert_with(|| self.time.now())
    }
}

impl<T: Time> WireHandler for Handler<'_, T> {
    fn on_entered(&mut self) {
        if let Some((shared, mesh)) = self.sleeper.take() {
            end_sleep(self.shard.index(), shared, mesh);
        }
    }

    fn on_accepted(&mut self, id: ConnectionId, listener: u16, peer: SocketAddr) {
        let now = self.now();
        self.shard.handle_accepted(id, listener, peer, now);
    }

    fn on_received(&mut self, id: ConnectionId, bytes: &mut [u8]) {
        let now = self.now();
        self.shard.handle_received(id, bytes, now);
    }

    fn is_over_without_input(&mut self, id: ConnectionId) -> bool {
        self.shard.handle_input_ended(id)
    }

    fn on_sent(&mut self, id: ConnectionId, buffer: Box<OutBuffer>, bytes: usize) {
        let now = self.now();
        self.shard.handle_sent(id, buffer, bytes, now);
    }

    fn on_closed(&mut self, id: ConnectionId, cause: CloseCause, buffer: Option<Box<OutBuffer>>) {
        let now = self.now();
        if let Some(buffer) = buffer {
            self.shard.recycle(buffer);
        }
        self.shard.handle_closed(id, cause, now);
    }
}

/// How long a shard that waits for another one leaves the CPU to it.
const PATIENCE_WITH_SHARDS: Duration = Duration::from_micros(50);
