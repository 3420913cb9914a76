//! Where a session's messages are: which places of its queue in which chunk.
//!
//! Owns: runs of places that lie in one chunk, in order of the places. The first and the last run stand as they are, those
//! between take one or two bytes each where they are short and follow each other, and about four otherwise: a queue on the
//! disk costs little memory however long it is.
//! Always: in order, and no place twice.

use std::collections::VecDeque;

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
    /// Those between. Absent for most.
    packed: Option<Box<Packed>>,
    count: u32,
}

/// Runs that each say how they differ from the one before, in blocks of a limited size: there are as many of these as
/// sessions, and what grew in one piece would leave the pieces that it outgrew all over the memory.
#[derive(Debug)]
struct Packed {
    /// Not one of them is empty.
    blocks: VecDeque<Vec<u8>>,
    /// What was packed before in the first block is read.
    from: usize,
    /// What the next run that is packed differs from.
    last: Base,
}

/// Where a run ends, and its chunk.
type Base = (u64, u64);

impl Packed {
    fn behind(base: Base) -> Self {
        Self { blocks: VecDeque::with_capacity(1), from: 0, last: base }
    }

    fn push(&mut self, run: Run) {
        if self.blocks.back().is_none_or(|block| block.len() >= BLOCK_BYTES) {
            self.blocks.push_back(Vec::new());
        }
        if let Some(block) = self.blocks.back_mut() {
            if block.capacity() - block.len() < GROWTH_MIN {
                block.reserve_exact((block.len() / GROWTH_PART).max(GROWTH_MIN));
            }
            pack(block, self.last, run);
            self.last = (run.below, run.chunk);
        }
    }

    /// The first run, which follows `base`.
    fn pop(&mut self, base: Base) -> Option<Run> {
        let block = self.blocks.front()?;
        let mut rest = block.get(self.from..)?;
        let run = unpack(&mut rest, base);
        self.from = block.len() - rest.len();
        if rest.is_empty() {
            self.blocks.pop_front();
            self.from = 0;
        }
        run
    }

    /// All runs, of which the first follows `base`.
    fn iter(&self, mut base: Base) -> impl Iterator<Item = Run> + '_ {
        let mut blocks = self.blocks.iter();
        let mut rest = blocks.next().and_then(|block| block.get(self.from..)).unwrap_or_default();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                rest = blocks.next()?;
            }
            let run = unpack(&mut rest, base)?;
            base = (run.below, run.chunk);
            Some(run)
        })
    }
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
                let back = std::mem::replace(&mut self.back, run);
                let base = self.front_base();
                self.packed.get_or_insert_with(|| Box::new(Packed::behind(base))).push(back);
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
                let base = self.front_base();
                if let Some(run) = self.packed.as_mut().and_then(|packed| packed.pop(base)) {
                    self.front = run;
                }
                if self.count == 3 {
                    self.packed = None;
                }
            }
        }
        self.count -= 1;
    }

    /// The first run.
    pub fn front(&self) -> Option<Run> {
        (self.count > 0).then_some(self.front)
    }

    fn front_base(&self) -> Base {
        (self.front.below, self.front.chunk)
    }

    /// Every run, in order.
    pub fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        let packed = self.packed.iter().flat_map(|packed| packed.iter(self.front_base()));
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

/// Run `run` behind another that ends at `base.0` and lies in chunk `base.1`: one number that is not zero for a short one that
/// follows at once in a later chunk, or zero and all there is to say.
fn pack(out: &mut Vec<u8>, base: Base, run: Run) {
    let (gap, len) = (run.first.wrapping_sub(base.0), run.below - run.first);
    let chunks = run.chunk.wrapping_sub(base.1);
    if gap == 0 && (1..=SHORT_LEN).contains(&len) && (1..=SHORT_CHUNKS).contains(&chunks) {
        return write_length(out, len + SHORT_LEN * (chunks - 1));
    }
    let chunks = chunks as i64;
    write_length(out, 0);
    write_length(out, gap);
    write_length(out, len);
    write_length(out, ((chunks << 1) ^ (chunks >> 63)) as u64);
}

fn unpack(packed: &mut &[u8], base: Base) -> Option<Run> {
    let mut reader = Reader(packed);
    let (first, len, chunk) = match reader.length()?.checked_sub(1) {
        Some(short) => (base.0, short % SHORT_LEN + 1, base.1.wrapping_add(short / SHORT_LEN + 1)),
        None => {
            let (first, len, chunks) = (base.0.wrapping_add(reader.length()?), reader.length()?, reader.length()?);
            (first, len, base.1.wrapping_add((chunks >> 1) ^ (chunks & 1).wrapping_neg()))
        }
    };
    *packed = reader.0;
    Some(Run { first, below: first.checked_add(len)?, chunk })
}

/// Places of a run that is short.
const SHORT_LEN: u64 = 16;
/// How many chunks later it may lie; seven of them in one byte.
const SHORT_CHUNKS: u64 = 1 << 32;
/// A block of packed runs takes in no more when it has so many bytes.
const BLOCK_BYTES: usize = 1000;
/// A block gets room for one part in so many more than it has, and for this many bytes at least.
const GROWTH_PART: usize = 4;
const GROWTH_MIN: usize = 4;

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
            steps in prop::collection::vec((0u8..10, 0u64..3, 0u64..4, 1u64..24), 1..200), first in 0u64..1 << 40,
        ) {
            let (mut runs, mut model) = (Runs::beginning_at(first), BTreeMap::new());
            let (mut next, mut chunk) = (first, 7);
            for (kind, gap, chunks, len) in steps {
                match kind {
                    0..6 => {
                        let far = SHORT_CHUNKS * u64::from(kind == 0) * chunks;
                        (next, chunk) = (next + gap / 2, chunk + chunks + far);
                        for _ in 0..len {
                            runs.push(next, chunk);
                            model.insert(next, chunk);
                            next += 1;
                        }
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
