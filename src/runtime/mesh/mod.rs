//! The core-to-core channels.
//!
//! Owns: a bounded single-producer single-consumer ring per (from, to, rank), and for each shard the flag that says it
//! sleeps. What always holds: a ring is written by one port and read by one port; a shard that said it sleeps is woken by
//! whoever pushes next, or it saw the message itself before it slept. It must never block, never grow, and never touch
//! an eventfd of a shard that is awake.
//!
//! # The sleep protocol
//!
//! ```text
//!   sleeper: asleep = true;  fence;  look at the inbound rings;  sleep if they are empty
//!   pusher:  store the tail; fence;  look at asleep;             write the eventfd if it is set
//! ```
//!
//! Both fences are sequentially consistent: at least one of the two sees what the other stored.

mod ring;

use std::{collections::VecDeque, io};

use self::ring::{Consumer, Padded, Producer};
use super::wake::Wake;
use crate::{
    plant::{Bug, planted},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
};

/// Mesh messages have ranks, a ring each: handling one rank emits higher ranks only, so no cycle of full rings stands.
pub const RANKS: usize = 3;

/// Builds the mesh.
#[derive(Debug)]
pub struct Mesh;

impl Mesh {
    /// A port for each of `shards` shards. From each shard to each other there is a ring per rank that holds
    /// `capacities[rank]` messages (at least one).
    ///
    /// # Errors
    ///
    /// When descriptors for the wake-ups ran out.
    pub fn build<T>(shards: usize, capacities: [usize; RANKS]) -> io::Result<Vec<MeshPort<T>>> {
        let sleepers = Arc::new((0..shards).map(|_| Sleeper::new()).collect::<io::Result<Vec<_>>>()?);
        let mut ports: Vec<MeshPort<T>> = (0..shards)
            .map(|shard| MeshPort {
                shard,
                sleepers: sleepers.clone(),
                outbound: Vec::with_capacity(shards),
                inbound: Vec::with_capacity(shards),
            })
            .collect();
        for from in 0..shards {
            for to in 0..shards {
                if from == to {
                    ports[from].outbound.push(None);
                    ports[to].inbound.push(None);
                    continue;
                }
                let [(out_0, in_0), (out_1, in_1), (out_2, in_2)] = capacities.map(ring::channel::<T>);
                ports[from].outbound.push(Some([out_0, out_1, out_2]));
                ports[to].inbound.push(Some([in_0, in_1, in_2]));
            }
        }
        Ok(ports)
    }
}

/// One shard's end of the mesh. There is no ring from a shard to itself: such messages need no mesh.
#[derive(Debug)]
pub struct MeshPort<T> {
    shard: usize,
    sleepers: Arc<Vec<Sleeper>>,
    outbound: Vec<Option<[Producer<T>; RANKS]>>,
    inbound: Vec<Option<[Consumer<T>; RANKS]>>,
}

/// Whether a shard sleeps, and what wakes it.
#[derive(Debug)]
struct Sleeper {
    asleep: Padded<AtomicBool>,
    wake: Wake,
}

impl<T> MeshPort<T> {
    /// Whose port this is.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// How many shards the mesh connects.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.sleepers.len()
    }

    /// Moves as many messages as fit from the front of `messages` to shard `to`, with one store for all of them, and
    /// returns how many. The receiver may have to be woken: see [`MeshPort::kick`].
    pub fn push(&mut self, to: usize, rank: usize, messages: &mut VecDeque<T>) -> usize {
        self.producer(to, rank).map_or(0, |producer| producer.push(messages))
    }

    /// How many more messages the ring to shard `to` takes now. It may take more when it is asked again.
    #[must_use]
    pub fn room(&mut self, to: usize, rank: usize) -> usize {
        self.producer(to, rank).map_or(0, Producer::room)
    }

    /// The oldest message from shard `from`. For many, [`MeshPort::drain`] is cheaper.
    pub fn pop(&mut self, from: usize, rank: usize) -> Option<T> {
        let mut popped = None;
        self.drain(from, rank, 1, |message| popped = Some(message));
        popped
    }

    /// Gives at most `max` messages from shard `from` to `take`, oldest first, and returns how many. Their places become
    /// free with one store, after the last.
    pub fn drain(&mut self, from: usize, rank: usize, max: usize, take: impl FnMut(T)) -> usize {
        let consumer = self.inbound.get_mut(from).and_then(Option::as_mut).and_then(|ranks| ranks.get_mut(rank));
        consumer.map_or(0, |consumer| consumer.drain(max, take))
    }

    /// Whether no ring has a message for this shard.
    #[must_use]
    pub fn inbound_is_empty(&mut self) -> bool {
        self.inbound.iter_mut().flatten().flatten().all(Consumer::is_empty)
    }

    /// Wakes shard `to` if it said that it sleeps, after messages were pushed to it. Returns whether it had to.
    pub fn kick(&self, to: usize) -> bool {
        let Some(sleeper) = self.sleepers.get(to) else { return false };
        fence(Ordering::SeqCst);
        let must_wake = sleeper.asleep.0.load(Ordering::Relaxed) && sleeper.asleep.0.swap(false, Ordering::SeqCst);
        if must_wake {
            sleeper.wake.wake();
        }
        must_wake
    }

    /// Says that this shard is about to sleep. Returns whether it may: not when a message is there. Once it returned
    /// true, whoever pushes wakes this shard, until [`MeshPort::awake`].
    #[must_use]
    pub fn about_to_sleep(&mut self) -> bool {
        self.asleep().store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.inbound_is_empty() || planted(Bug::SleepWithoutLook) {
            return true;
        }
        self.asleep().store(false, Ordering::SeqCst);
        false
    }

    /// Says that this shard is awake. Everything that was pushed before is seen from here on.
    pub fn awake(&self) {
        self.asleep().store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Whether shard `shard` says that it sleeps. A hint, stale when it is read.
    #[must_use]
    pub fn is_asleep(&self, shard: usize) -> bool {
        self.sleepers.get(shard).is_some_and(|sleeper| sleeper.asleep.0.load(Ordering::Relaxed))
    }

    /// What wakes this shard.
    #[must_use]
    pub fn wake(&self) -> &Wake {
        &self.sleepers[self.shard].wake
    }

    fn asleep(&self) -> &AtomicBool {
        &self.sleepers[self.shard].asleep.0
    }

    fn producer(&mut self, to: usize, rank: usize) -> Option<&mut Producer<T>> {
        debug_assert_ne!(to, self.shard, "a shard has no ring to itself");
        self.outbound.get_mut(to)?.as_mut()?.get_mut(rank)
    }
}

impl Sleeper {
    fn new() -> io::Result<Self> {
        Ok(Sleeper { asleep: Padded(AtomicBool::new(false)), wake: Wake::new()? })
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_order_per_rank_and_shard() {
        let mut ports = Mesh::build::<(usize, u32)>(3, [4, 2, 1]).unwrap();
        let mut batch: VecDeque<_> = (0..6).map(|number| (0, number)).collect();
        assert_eq!(ports[0].push(2, 0, &mut batch), 4);
        assert_eq!(batch.len(), 2);
        assert_eq!(ports[0].room(2, 0), 0);
        assert_eq!(ports[0].push(2, 2, &mut batch), 1);
        let mut other: VecDeque<_> = [(1, 9)].into();
        assert_eq!(ports[1].push(2, 0, &mut other), 1);
        assert!(!ports[2].inbound_is_empty());
        let mut seen = Vec::new();
        assert_eq!(ports[2].drain(0, 0, 3, |message| seen.push(message)), 3);
        assert_eq!(seen, [(0, 0), (0, 1), (0, 2)]);
        assert_eq!(ports[2].pop(0, 0), Some((0, 3)));
        assert_eq!(ports[2].pop(0, 0), None);
        assert_eq!(ports[2].pop(0, 2), Some((0, 4)));
        assert_eq!(ports[2].pop(1, 0), Some((1, 9)));
        assert!(ports[2].inbound_is_empty());
        assert_eq!(ports[0].room(2, 0), 4);
    }

    #[test]
    fn only_a_sleeper_is_kicked_and_only_once() {
        let mut ports = Mesh::build::<u32>(2, [1; RANKS]).unwrap();
        assert!(!ports[0].kick(1));
        assert!(ports[1].about_to_sleep());
        assert!(ports[0].kick(1));
        assert!(!ports[0].kick(1));
        assert!(ports[1].wake().take());
        ports[1].awake();
        let _ = ports[0].push(1, 1, &mut [7].into());
        assert!(!ports[1].about_to_sleep());
        assert!(!ports[0].kick(1));
    }

    #[cfg(feature = "planted-bugs")]
    #[test]
    fn a_shard_that_sleeps_without_a_look_is_found() {
        let mut ports = Mesh::build::<u32>(2, [1; RANKS]).unwrap();
        let _ = ports[0].push(1, 0, &mut [7].into());
        assert!(!ports[0].kick(1));
        crate::plant::plant(Some(Bug::SleepWithoutLook));
        let sleeps = ports[1].about_to_sleep();
        crate::plant::plant(None);
        assert!(sleeps, "with a message in its ring and nobody to wake it");
    }

    #[test]
    fn a_million_messages_cross_threads_with_sleep() {
        let mut ports = Mesh::build::<u64>(2, [64, 1, 1]).unwrap();
        let (mut receiver, mut sender) = (ports.pop().unwrap(), ports.pop().unwrap());
        let count = 1_000_000_u64;
        let sending = std::thread::spawn(move || {
            let mut queue = VecDeque::new();
            let mut next = 0;
            while next < count || !queue.is_empty() {
                while next < count && queue.len() < 32 {
                    queue.push_back(next);
                    next += 1;
                }
                if sender.push(1, 0, &mut queue) == 0 {
                    std::thread::yield_now();
                }
                sender.kick(1);
            }
        });
        let mut expected = 0;
        while expected < count {
            let drained = receiver.drain(0, 0, 64, |message| {
                assert_eq!(message, expected);
                expected += 1;
            });
            if drained == 0 && expected < count && receiver.about_to_sleep() {
                let mut poll = libc::pollfd { fd: receiver.wake().descriptor(), events: libc::POLLIN, revents: 0 };
                // SAFETY: one `pollfd` that lives through the call.
                #[allow(unsafe_code)]
                let woken = unsafe { libc::poll(&raw mut poll, 1, 10_000) };
                assert_eq!(woken, 1, "a sleeper was not woken");
                let _ = receiver.wake().take();
                receiver.awake();
            }
        }
        sending.join().unwrap();
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use super::*;

    #[test]
    fn a_push_is_seen_by_the_sleeper_or_wakes_it() {
        loom::model(|| {
            let mut ports = Mesh::build::<u32>(2, [1; RANKS]).unwrap();
            let (mut sleeper, mut pusher) = (ports.pop().unwrap(), ports.pop().unwrap());
            let pushing = loom::thread::spawn(move || {
                assert_eq!(pusher.push(1, 0, &mut VecDeque::from([7])), 1);
                pusher.kick(1)
            });
            let slept = sleeper.about_to_sleep();
            let kicked = pushing.join().unwrap();
            assert!(!slept || kicked, "a sleeper missed a message");
            sleeper.awake();
            assert_eq!(sleeper.pop(0, 0), Some(7));
        });
    }

    #[test]
    fn nobody_sleeps_on_a_message_that_two_shards_send() {
        loom::model(|| {
            let mut ports = Mesh::build::<u32>(3, [1; RANKS]).unwrap();
            let (mut sleeper, mut second, mut first) =
                (ports.pop().unwrap(), ports.pop().unwrap(), ports.pop().unwrap());
            let pushing = loom::thread::spawn(move || {
                let _ = first.push(2, 0, &mut VecDeque::from([1]));
                first.kick(2)
            });
            let _ = second.push(2, 1, &mut VecDeque::from([2]));
            let kicked_second = second.kick(2);
            let slept = sleeper.about_to_sleep();
            let kicked_first = pushing.join().unwrap();
            // The second message was there before the look, so sleeping would be wrong whatever the first did.
            assert!(!slept);
            let _ = (kicked_first, kicked_second);
            assert_eq!(sleeper.pop(0, 0), Some(1));
            assert_eq!(sleeper.pop(1, 1), Some(2));
        });
    }
}
