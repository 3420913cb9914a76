//! One ring for the shards of one CPU.
//!
//! Owns: the ring, and for each shard that sits at it what has completed of its own and is not yet taken.
//! Always: the kernel is entered by the table, once for all of them; the enter of a seat does nothing. Whoever asked for an
//! operation gets its completions, in order. Never: used by two threads.
//!
//! Threads that take turns on a CPU find its caches cold each time, and each has a system call, a wake-up and sends of its own
//! for what little came for it. Shards that take turns on a thread have them together.

#![allow(unsafe_code)]

use std::{cell::RefCell, collections::VecDeque, net::SocketAddr, rc::Rc};

use super::{SEATS_MAX, Uring};
use crate::{
    runtime::kernel::{BufferIndex, Completion, EnterWait, Errno, Kernel, ReceiveMode, Socket, Tag},
    transport::OutBuffer,
};

/// How many shards sit at a ring at most.
pub const SEATS: usize = SEATS_MAX as usize;

/// A ring, and who sits at it.
#[derive(Debug)]
pub struct Table {
    common: Rc<RefCell<Common>>,
}

/// A shard's place at a ring.
#[derive(Debug)]
pub struct Seat {
    common: Rc<RefCell<Common>>,
    number: u8,
}

#[derive(Debug)]
struct Common {
    ring: Uring,
    places: Vec<Place>,
}

#[derive(Debug, Default)]
struct Place {
    /// As many as the completion queue has entries at most, and some more when nobody takes them.
    completed: VecDeque<Completion>,
    /// How many the next enter is to bring.
    collect: u32,
}

impl Table {
    /// Seats for `seats` shards (at most [`SEATS`]) at `ring`.
    #[must_use]
    pub fn new(ring: Uring, seats: usize) -> (Self, Vec<Seat>) {
        let seats = seats.min(SEATS);
        let places = (0..seats).map(|_| Place::default()).collect();
        let common = Rc::new(RefCell::new(Common { ring, places }));
        let seat = |number| Seat { common: Rc::clone(&common), number: number as u8 };
        let seats = (0..seats).map(seat).collect();
        (Table { common }, seats)
    }

    /// Submits everything that was asked for at any seat, waits as `wait` says, and gives to each seat what is its own.
    pub fn enter(&self, wait: EnterWait) {
        let Common { ring, places } = &mut *self.common.borrow_mut();
        let is_left = places.iter().any(|place| !place.completed.is_empty());
        ring.collect(places.iter().map(|place| place.collect).max().unwrap_or_default());
        ring.enter(if is_left { EnterWait::No } else { wait });
        while let Some((seat, completion)) = ring.next() {
            if let Some(place) = places.get_mut(usize::from(seat)) {
                place.completed.push_back(completion);
            }
        }
    }
}

impl Seat {
    /// Asks the ring for something that completes as this seat's own.
    fn ask<R>(&mut self, ask: impl FnOnce(&mut Uring) -> R) -> R {
        let ring = &mut self.common.borrow_mut().ring;
        ring.seat = self.number;
        let answer = ask(ring);
        ring.seat = 0;
        answer
    }
}

impl Kernel for Seat {
    fn accept(&mut self, index: u16, listener: Socket) {
        self.ask(|ring| ring.accept(index, listener));
    }

    fn receive(&mut self, tag: Tag, socket: Socket, mode: ReceiveMode) {
        self.ask(|ring| ring.receive(tag, socket, mode));
    }

    fn send(&mut self, tag: Tag, socket: Socket, buffer: Box<OutBuffer>, skip_bytes: usize) {
        self.ask(|ring| ring.send(tag, socket, buffer, skip_bytes));
    }

    fn cancel_receive(&mut self, tag: Tag) {
        self.ask(|ring| ring.cancel_receive(tag));
    }

    fn cancel_accept(&mut self, index: u16) {
        self.ask(|ring| ring.cancel_accept(index));
    }

    fn accept_now(&mut self, listener: Socket) -> Result<Socket, Errno> {
        self.ask(|ring| ring.accept_now(listener))
    }

    fn shutdown_write(&mut self, socket: Socket) {
        self.ask(|ring| ring.shutdown_write(socket));
    }

    fn shutdown_both(&mut self, socket: Socket) {
        self.ask(|ring| ring.shutdown_both(socket));
    }

    fn reset_on_close(&mut self, socket: Socket) {
        self.ask(|ring| ring.reset_on_close(socket));
    }

    fn close(&mut self, socket: Socket) {
        self.ask(|ring| ring.close(socket));
    }

    fn peer(&mut self, socket: Socket) -> Option<SocketAddr> {
        self.ask(|ring| ring.peer(socket))
    }

    /// Nothing: see [`Table::enter`].
    fn enter(&mut self, _wait: EnterWait) {}

    fn collect(&mut self, completions: u32) {
        if let Some(place) = self.common.borrow_mut().places.get_mut(usize::from(self.number)) {
            place.collect = completions;
        }
    }

    fn next_completion(&mut self) -> Option<Completion> {
        let mut common = self.common.borrow_mut();
        let completed = &mut common.places.get_mut(usize::from(self.number))?.completed;
        let next = completed.pop_front();
        if next.is_none() && completed.capacity() > KEPT_MAX {
            *completed = VecDeque::new();
        }
        next
    }

    fn buffer(&mut self, buffer: BufferIndex, length: usize) -> &mut [u8] {
        let start = self.common.borrow_mut().ring.buffer(buffer, length).as_mut_ptr();
        // SAFETY: the ring has just shown these bytes. They lie in a mapping that lives as long as the ring, which this seat keeps
        // alive. A buffer is named by one completion, which went to one seat, and neither the kernel nor another seat touches
        // it until it is given back, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(start, length) }
    }

    fn give_back(&mut self, buffer: BufferIndex) {
        self.ask(|ring| ring.give_back(buffer));
    }

    fn buffer_count(&self) -> usize {
        self.common.borrow().ring.buffer_count()
    }

    /// Of all seats together.
    fn enters(&self) -> u64 {
        self.common.borrow().ring.enters()
    }
}

/// Room for completions that a place keeps while it has none.
const KEPT_MAX: usize = 1024;
