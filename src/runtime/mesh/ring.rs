//! A bounded ring for one producer and one consumer.
//!
//! What always holds: the cells between head and tail hold messages and belong to the consumer, the others are empty
//! and belong to the producer. The tail is stored by the producer only, the head by the consumer only, each once a batch.

#![allow(unsafe_code)]

use std::{collections::VecDeque, mem::MaybeUninit};

use crate::sync::{
    Arc, UnsafeCell,
    atomic::{AtomicUsize, Ordering},
};

/// Keeps what two cores write off each other's cache lines (two lines: the prefetcher fetches pairs).
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub T);

/// The shared part.
struct Ring<T> {
    head: Padded<AtomicUsize>,
    tail: Padded<AtomicUsize>,
    /// A power of two, of which `capacity` are in use at most.
    cells: Box<[UnsafeCell<MaybeUninit<T>>]>,
    capacity: usize,
}

// SAFETY: a cell is accessed by the one side that it belongs to; it changes sides by the store of tail or head (Release)
// that the other side loads (Acquire). `channel` makes exactly one producer and one consumer, and their methods that
// touch cells take `&mut self`. Messages move between threads, hence `T: Send`.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Ring<T> {}

/// The end that pushes.
pub(super) struct Producer<T> {
    ring: Arc<Ring<T>>,
    tail: usize,
    /// The head when it was last looked at: the real one is there or further on.
    head_seen: usize,
}

/// The end that takes.
pub(super) struct Consumer<T> {
    ring: Arc<Ring<T>>,
    head: usize,
    /// The tail when it was last looked at: the real one is there or further on.
    tail_seen: usize,
}

/// A ring that holds `capacity` messages, at least one.
pub(super) fn channel<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.max(1);
    let cells = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let ring = Arc::new(Ring { head: Padded(AtomicUsize::new(0)), tail: Padded(AtomicUsize::new(0)), cells, capacity });
    let producer = Producer { ring: ring.clone(), tail: 0, head_seen: 0 };
    (producer, Consumer { ring, head: 0, tail_seen: 0 })
}

impl<T> Producer<T> {
    /// Moves what fits from the front of `messages`; one store for all.
    pub fn push(&mut self, messages: &mut VecDeque<T>) -> usize {
        if messages.len() > self.room_seen() {
            self.look();
        }
        let count = messages.len().min(self.room_seen());
        if count == 0 {
            return 0;
        }
        for message in messages.drain(..count) {
            // SAFETY: `tail` is less than `capacity` ahead of the head, so this cell is empty and belongs to us, the only
            // producer, until the store below.
            self.ring.cell(self.tail).with_mut(|cell| unsafe { (*cell).write(message) });
            self.tail = self.tail.wrapping_add(1);
        }
        self.ring.tail.0.store(self.tail, Ordering::Release);
        count
    }

    /// How many messages fit now.
    pub fn room(&mut self) -> usize {
        self.look();
        self.room_seen()
    }

    fn room_seen(&self) -> usize {
        self.ring.capacity - self.tail.wrapping_sub(self.head_seen)
    }

    fn look(&mut self) {
        self.head_seen = self.ring.head.0.load(Ordering::Acquire);
    }
}

impl<T> Consumer<T> {
    /// Gives at most `max` messages to `take`; one store for all, also when `take` unwinds.
    pub fn drain(&mut self, max: usize, mut take: impl FnMut(T)) -> usize {
        if self.tail_seen.wrapping_sub(self.head) < max {
            self.look();
        }
        let count = self.tail_seen.wrapping_sub(self.head).min(max);
        if count == 0 {
            return 0;
        }
        let taken = Taken { ring: &self.ring, head: &mut self.head };
        for _ in 0..count {
            // SAFETY: `head` is behind the tail, so this cell holds a message and belongs to us, the only consumer. It is
            // read once: the head moves past it before `take` could unwind, and `Taken` publishes the head in any case.
            let message = self.ring.cell(*taken.head).with_mut(|cell| unsafe { (*cell).assume_init_read() });
            *taken.head = taken.head.wrapping_add(1);
            take(message);
        }
        count
    }

    /// Whether no message is there.
    pub fn is_empty(&mut self) -> bool {
        if self.tail_seen == self.head {
            self.look();
        }
        self.tail_seen == self.head
    }

    fn look(&mut self) {
        self.tail_seen = self.ring.tail.0.load(Ordering::Acquire);
    }
}

impl<T> Ring<T> {
    fn cell(&self, position: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.cells[position & (self.cells.len() - 1)]
    }
}

/// Publishes the head when a batch ends, however it ends.
struct Taken<'a, T> {
    ring: &'a Ring<T>,
    head: &'a mut usize,
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        self.ring.head.0.store(*self.head, Ordering::Release);
    }
}

impl<T> Drop for Ring<T> {
    /// Both ends are gone: what nobody took is dropped.
    fn drop(&mut self) {
        let tail = self.tail.0.load(Ordering::Acquire);
        let mut head = self.head.0.load(Ordering::Acquire);
        while head != tail {
            // SAFETY: the cells between head and tail hold messages, and nobody else has the ring any more.
            self.cell(head).with_mut(|cell| unsafe { (*cell).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

impl<T> std::fmt::Debug for Producer<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Producer").field("tail", &self.tail).finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Consumer<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Consumer").field("head", &self.head).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn a_ring_of_one_holds_one() {
        let (mut producer, mut consumer) = channel(1);
        let mut queue: VecDeque<_> = (0..3).collect();
        for expected in 0..3 {
            assert_eq!(producer.push(&mut queue), 1);
            assert_eq!(producer.push(&mut queue), 0);
            let mut seen = None;
            assert_eq!(consumer.drain(9, |message| seen = Some(message)), 1);
            assert_eq!(seen, Some(expected));
            assert!(consumer.is_empty());
        }
    }

    #[test]
    fn what_nobody_takes_is_dropped_once() {
        let witness = std::rc::Rc::new(());
        let (mut producer, consumer) = channel(8);
        producer.push(&mut (0..5).map(|_| witness.clone()).collect());
        assert_eq!(std::rc::Rc::strong_count(&witness), 6);
        drop(consumer);
        producer.push(&mut (0..2).map(|_| witness.clone()).collect());
        drop(producer);
        assert_eq!(std::rc::Rc::strong_count(&witness), 1);
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use super::*;

    #[test]
    fn messages_cross_once_and_in_order() {
        loom::model(|| {
            let (mut producer, mut consumer) = channel(2);
            let pushing = loom::thread::spawn(move || {
                let mut queue: VecDeque<_> = (0..3).map(Box::new).collect();
                while !queue.is_empty() {
                    if producer.push(&mut queue) == 0 {
                        loom::thread::yield_now();
                    }
                }
            });
            let mut expected = 0;
            while expected < 3 {
                let drained = consumer.drain(2, |message| {
                    assert_eq!(*message, expected);
                    expected += 1;
                });
                if drained == 0 {
                    loom::thread::yield_now();
                }
            }
            pushing.join().unwrap();
        });
    }
}
