//! What is known of each chunk of queued messages.
//!
//! Owns: the counts of all chunks that are there, sixteen to a page. Chunks are numbered one after the other and most go in
//! that order too, so that one takes little more than its count: there are as many as there are queues on the disk.
//! Always: a page goes with its last chunk.

use ahash::AHashMap;

/// What is known of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// References that are not done with.
    pub live: u32,
    /// References in it.
    pub total: u32,
    /// Its size.
    pub bytes: u32,
}

impl Count {
    /// Whether little is left of the chunk.
    pub fn is_sparse(self) -> bool {
        self.live <= self.total / SPARSE_PART
    }
}

/// See the module's header.
#[derive(Debug, Default)]
pub struct Counts {
    pages: AHashMap<u64, Box<Page>>,
}

#[derive(Debug, Default)]
struct Page {
    /// A bit for each chunk that is there.
    present: u16,
    counts: [Count; PAGE_CHUNKS as usize],
}

impl Counts {
    /// That of a chunk that is there.
    pub fn get(&self, chunk: u64) -> Option<&Count> {
        let (page, at) = place(chunk);
        let page = self.pages.get(&page).filter(|page| page.present >> at & 1 == 1)?;
        page.counts.get(at)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, chunk: u64) -> Option<&mut Count> {
        let (page, at) = place(chunk);
        let page = self.pages.get_mut(&page).filter(|page| page.present >> at & 1 == 1)?;
        page.counts.get_mut(at)
    }

    /// That of a chunk, which is there from now on.
    pub fn get_or_add(&mut self, chunk: u64) -> &mut Count {
        let (page, at) = place(chunk);
        let page = self.pages.entry(page).or_default();
        if page.present >> at & 1 == 0 {
            page.present |= 1 << at;
            page.counts[at] = Count::default();
        }
        &mut page.counts[at]
    }

    /// A chunk is there no more.
    pub fn remove(&mut self, chunk: u64) {
        let (number, at) = place(chunk);
        let Some(page) = self.pages.get_mut(&number) else { return };
        page.present &= !(1 << at);
        if page.present == 0 {
            self.pages.remove(&number);
        }
    }
}

/// The page of a chunk, and which one it is there.
fn place(chunk: u64) -> (u64, usize) {
    (chunk / PAGE_CHUNKS, (chunk % PAGE_CHUNKS) as usize)
}

/// Chunks of a page: as many as its bits.
const PAGE_CHUNKS: u64 = u16::BITS as u64;
/// Little is left of a chunk when it is one in so many of its references.
const SPARSE_PART: u32 = 4;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_chunk_takes_little_more_than_its_count() {
        assert!(size_of::<Page>() <= size_of::<Count>() * PAGE_CHUNKS as usize + 4);
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_map(steps in prop::collection::vec((0u8..4, 0u64..70, 1u32..9), 1..300)) {
            let (mut counts, mut model) = (Counts::default(), BTreeMap::new());
            for (kind, chunk, live) in steps {
                match kind {
                    0 | 1 => {
                        counts.get_or_add(chunk).live += live;
                        *model.entry(chunk).or_insert(0) += live;
                    }
                    2 => {
                        counts.remove(chunk);
                        model.remove(&chunk);
                    }
                    _ => {
                        let found = counts.get_mut(chunk).map(|count| { count.live += 1; count.live });
                        prop_assert_eq!(found, model.get_mut(&chunk).map(|count| { *count += 1; *count }));
                    }
                }
                for chunk in 0..70 {
                    prop_assert_eq!(counts.get(chunk).map(|count| count.live), model.get(&chunk).copied());
                }
                let pages: Vec<u64> = model.keys().map(|&chunk| place(chunk).0).collect();
                prop_assert_eq!(counts.pages.len(), pages.chunk_by(|first, second| first == second).count());
            }
        }
    }
}
