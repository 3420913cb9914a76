//! The shards of one thread.
//!
//! Owns: the order of their turns: all of them begin theirs, the kernel is entered once, all finish theirs.
//! Always: the thread sleeps only when each of its shards may, and before one of them goes on all of them say that they are
//! awake, so that no shard is kicked by one that runs on its own thread. Never: two shards at once, so what one sends another
//! here is handled by the next turn at the latest.

use super::{Driver, Rest};
use crate::runtime::{Clock, Kernel, Table, kernel::EnterWait};

/// A thread's shards.
#[derive(Debug)]
pub(super) struct Crew<K: Kernel> {
    /// Where they sit, when they are several.
    table: Option<Table>,
    drivers: Vec<Driver<K, Clock>>,
    /// Turns that have begun, kept for its memory.
    rests: Vec<Rest>,
}

impl<K: Kernel> Crew<K> {
    /// A shard with a ring of its own.
    pub fn alone(driver: Driver<K, Clock>) -> Self {
        Crew { table: None, drivers: vec![driver], rests: Vec::new() }
    }

    /// Shards that sit at `table`.
    pub fn at(table: Table, drivers: Vec<Driver<K, Clock>>) -> Self {
        Crew { table: Some(table), drivers, rests: Vec::new() }
    }

    /// A turn of each. `may_sleep`: the thread waits when none has anything to do.
    pub fn turn(&mut self, may_sleep: bool) {
        let Some(table) = &self.table else { return self.drivers.iter_mut().for_each(|driver| driver.turn(may_sleep)) };
        let mut wait = EnterWait::For(None);
        for driver in &mut self.drivers {
            // Once one has something to do, the others need not say that they sleep.
            let rest = driver.begin_turn(may_sleep && wait != EnterWait::No);
            wait = sooner(wait, rest.wait);
            self.rests.push(rest);
        }
        table.enter(wait);
        for (driver, rest) in self.drivers.iter_mut().zip(&mut self.rests) {
            *rest = driver.awaken(*rest);
        }
        for (driver, rest) in self.drivers.iter_mut().zip(self.rests.drain(..)) {
            driver.finish_turn(rest);
        }
    }

    /// Tells up to `max` clients of each shard to go. Returns whether any connection is left.
    pub fn drain(&mut self, max: usize) -> bool {
        self.drivers.iter_mut().fold(false, |is_left, driver| driver.drain(max) | is_left)
    }

    /// Hands what was asked for to the store.
    pub fn submit(&mut self) {
        self.drivers.iter_mut().for_each(Driver::submit);
    }
}

/// The wait that ends first.
fn sooner(one: EnterWait, other: EnterWait) -> EnterWait {
    match (one, other) {
        (EnterWait::No, _) | (_, EnterWait::No) => EnterWait::No,
        (EnterWait::For(one), EnterWait::For(other)) => EnterWait::For(one.into_iter().chain(other).min()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_thread_waits_as_long_as_each_of_its_shards_may() {
        let [short, long] = [1, 2].map(|seconds| EnterWait::For(Some(Duration::from_secs(seconds))));
        let for_ever = EnterWait::For(None);
        assert_eq!(sooner(short, long), short);
        assert_eq!(sooner(for_ever, long), long);
        assert_eq!(sooner(for_ever, for_ever), for_ever);
        assert_eq!(sooner(EnterWait::No, short), EnterWait::No);
        assert_eq!(sooner(for_ever, EnterWait::No), EnterWait::No);
    }
}
