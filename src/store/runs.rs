//! Where a session's messages are: which places of its queue in which chunk.
//!
//! Owns: runs of places that lie in one chunk, in order of the places. The first and the last run stand as they are, those
//! between take about three bytes each: a queue on the disk costs little memory however long it is.
//! Always: in order, and no place twice.

use super::record::{Reader, write_length};

/// Places of a queue that one chunk has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The first place.
    pub first: u64,
    /// The first one behind it.
    pub below: u64,
    /// The chunk.
    pub chunk: u64,
}

/// The runs of a queue. See the module's header.
#[derive(Debug, Default)]
pub struct Runs {
    /// Its first place stays when there are no runs any more.
    front: Run,
    back: Run,
    /// What the next run that is packed differs from.
    packed_last: (u64, u64),
    packed: Vec<u8>,
    /// What was packed before is read.
    packed_from: u32,
    count: u32,
}

impl Runs {
    /// Those of a queue that begins at `first` and has nothing.
    pub fn beginning_at(first: u64) -> Self {
        Self { front: Run { first, below: first, chunk: 0 }, ..Self::default() }
    }

    /// There are none, and everything before `first` is done with.
    pub fn begin_at(&mut self, first: u64) {
        if self.is_empty() {
            *self = Self::beginning_at(first.max(self.front.first));
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first place, or the one behind the last when there is none.
    pub fn first(&self) -> u64 {
        self.front.first
    }

    /// The place behind the last one.
    pub fn below(&self) -> u64 {
        if self.count > 1 { self.back.below } else { self.front.below }
    }

    /// Adds a place.
    pub fn push(&mut self, place: u64, chunk: u64) {
        let run = Run { first: place, below: place + 1, chunk };
        if self.count > 0 && place < self.below() {
            let mut all: Vec<Run> = self.iter().collect();
            let at = all.partition_point(|run| run.first <= place);
            all.insert(at, run);
            return self.set(all);
        }
        self.append(run);
    }

    fn append(&mut self, run: Run) {
        let last = if self.count > 1 { &mut self.back } else { &mut self.front };
        if self.count > 0 && (last.below, last.chunk) == (run.first, run.chunk) {
            last.below = run.below;
            return;
        }
        match self.count {
            // Nothing before it is left.
            0 => self.front = run,
            1 => self.back = run,
            _ => {
                let base = if self.count == 2 { (self.front.below, self.front.chunk) } else { self.packed_last };
                let back = std::mem::replace(&mut self.back, run);
                pack(&mut self.packed, base, back);
                self.packed_last = (back.below, back.chunk);
            }
        }
        self.count += 1;
    }

    fn set(&mut self, runs: impl IntoIterator<Item = Run>) {
        *self = Self::beginning_at(self.front.first);
        runs.into_iter().for_each(|run| self.append(run));
    }

    /// The first `count` places of the first run are done with.
    pub fn advance(&mut self, count: u64) {
        self.front.first = (self.front.first + count).min(self.front.below);
        if self.front.first < self.front.below || self.count == 0 {
            return;
        }
        match self.count {
            1 => {}
            2 => self.front = self.back,
            _ => {
                let packed = self.packed.get(self.packed_from as usize..).unwrap_or_default();
                let mut rest = packed;
                if let Some(run) = unpack(&mut rest, (self.front.below, self.front.chunk)) {
                    self.front = run;
                }
                self.packed_from += (packed.len() - rest.len()) as u32;
                if rest.is_empty() {
                    (self.packed, self.packed_from) = (Vec::new(), 0);
                } else if self.packed_from as usize >= READ_MAX && self.packed_from as usize > rest.len() {
                    (self.packed, self.packed_from) = (rest.to_vec(), 0);
                }
            }
        }
        self.count -= 1;
    }

    /// The first run.
    pub fn front(&self) -> Option<Run> {
        (self.count > 0).then_some(self.front)
    }

    /// Every run, in order.
    pub fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        let mut rest = self.packed.get(self.packed_from as usize..).unwrap_or_default();
        let mut base = (self.front.below, self.front.chunk);
        let packed = std::iter::from_fn(move || {
            let run = unpack(&mut rest, base)?;
            base = (run.below, run.chunk);
            Some(run)
        });
        let back = (self.count > 1).then_some(self.back);
        self.front().into_iter().chain(packed).chain(back)
    }

    /// The run that has a place.
    pub fn find(&self, place: u64) -> Option<Run> {
        self.iter().take_while(|run| run.first <= place).find(|run| place < run.below)
    }

    /// Forgets runs but for those that are wanted.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&Run) -> bool) {
        let wanted: Vec<Run> = self.iter().filter(|run| is_wanted(run)).collect();
        self.set(wanted);
    }
}

/// Run `run` behind another that ends at `base.0` and lies in chunk `base.1`.
fn pack(out: &mut Vec<u8>, base: (u64, u64), run: Run) {
    let chunks = run.chunk.wrapping_sub(base.1) as i64;
    write_length(out, run.first.wrapping_sub(base.0));
    write_length(out, run.below - run.first);
    write_length(out, ((chunks << 1) ^ (chunks >> 63)) as u64);
}

fn unpack(packed: &mut &[u8], base: (u64, u64)) -> Option<Run> {
    let mut reader = Reader(packed);
    let first = base.0.wrapping_add(reader.length()?);
    let below = first.checked_add(reader.length()?)?;
    let chunks = reader.length()?;
    let chunk = base.1.wrapping_add((chunks >> 1) ^ (chunks & 1).wrapping_neg());
    *packed = reader.0;
    Some(Run { first, below, chunk })
}

/// What was read of the packed runs is kept until it is as much.
const READ_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn places(runs: &Runs) -> BTreeMap<u64, u64> {
        runs.iter().flat_map(|run| (run.first..run.below).map(move |place| (place, run.chunk))).collect()
    }

    proptest! {
        #[test]
        fn runs_say_what_a_map_of_every_place_says(
            steps in prop::collection::vec((0u8..10, 0u64..3, 0u64..3), 1..200), first in 0u64..1 << 40,
        ) {
            let (mut runs, mut model) = (Runs::beginning_at(first), BTreeMap::new());
            let (mut next, mut chunk) = (first, 7);
            for (kind, gap, chunks) in steps {
                match kind {
                    0..6 => {
                        (next, chunk) = (next + gap / 2, chunk + chunks);
                        runs.push(next, chunk);
                        model.insert(next, chunk);
                        next += 1;
                    }
                    6 => {
                        // One that comes late.
                        let place = next.saturating_sub(gap + 2).max(first);
                        if place >= runs.first() && place < next && !model.contains_key(&place) {
                            runs.push(place, chunk);
                            model.insert(place, chunk);
                        }
                    }
                    7 => {
                        let wanted = |place: u64| !(place / 4).is_multiple_of(gap + 2);
                        runs.retain(|run| wanted(run.first));
                        let firsts: Vec<(u64, u64)> = model.iter().map(|(&place, &chunk)| (place, chunk)).collect();
                        let mut begin = (0, 0, 0);
                        for (place, chunk) in firsts {
                            if (begin.1, begin.2) != (place, chunk) {
                                begin.0 = place;
                            }
                            (begin.1, begin.2) = (place + 1, chunk);
                            if !wanted(begin.0) {
                                model.remove(&place);
                            }
                        }
                    }
                    _ => if let Some(front) = runs.front() {
                        let count = gap.clamp(1, front.below - front.first);
                        runs.advance(count);
                        model.retain(|&place, _| place >= front.first + count);
                    },
                }
                prop_assert_eq!(&places(&runs), &model);
                prop_assert_eq!(runs.is_empty(), model.is_empty());
                for (&place, &chunk) in model.iter().take(2).chain(model.iter().next_back()) {
                    prop_assert_eq!(runs.find(place).map(|run| run.chunk), Some(chunk));
                }
                if let Some((&first, _)) = model.first_key_value() {
                    prop_assert_eq!(runs.front().map(|run| run.first), Some(first));
                    prop_assert!(runs.find(first.wrapping_sub(1)).is_none());
                }
                prop_assert!(runs.is_empty() || runs.below() == model.last_key_value().map_or(0, |(&last, _)| last + 1));
            }
        }
    }
}
