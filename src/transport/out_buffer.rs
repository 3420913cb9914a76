//! The bytes on their way to one connection.
//!
//! Owns: encoded frames, and references to payloads that are large enough to go out without a copy. What always holds:
//! shared segments lie in order of their offsets, none is empty, and the bytes that go out are the concatenation of
//! what was appended. It must never grow a pool: [`OutBuffer::clear`] lets go of a giant's memory.

use std::io::IoSlice;

use bytes::Bytes;

/// A payload from this size on is cheaper to reference than to copy (measured: copying wins up to 2-4 KiB).
pub const SHARED_BYTES_MIN: usize = 4096;

/// The capacity that a cleared buffer keeps at most, so that a pool of buffers holds no giants.
pub const KEPT_CAPACITY_MAX: usize = 16 * 1024;

/// Bytes on their way to one connection: encoded frames with shared payloads in between.
#[derive(Debug, Default)]
pub struct OutBuffer {
    bytes: Vec<u8>,
    shared: Vec<SharedSegment>,
    shared_bytes: usize,
}

/// A payload that goes out after the first `at` bytes of the buffer's own.
#[derive(Debug)]
struct SharedSegment {
    at: usize,
    bytes: Bytes,
}

impl OutBuffer {
    /// An empty buffer; it allocates with the first byte.
    #[must_use]
    pub const fn new() -> Self {
        OutBuffer { bytes: Vec::new(), shared: Vec::new(), shared_bytes: 0 }
    }

    /// All bytes that are to go out, shared ones included.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.shared_bytes
    }

    /// Whether nothing is to go out.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.shared.is_empty()
    }

    /// Where encoded frames are appended. Only append: removing bytes would move the shared segments behind them.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a payload by reference. Worth it from [`SHARED_BYTES_MIN`] on.
    pub fn push_shared(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.shared_bytes += bytes.len();
        self.shared.push(SharedSegment { at: self.bytes.len(), bytes });
    }

    /// Appends a payload in the cheaper way for its size.
    #[inline]
    pub fn push_payload(&mut self, payload: &Bytes) {
        if payload.len() < SHARED_BYTES_MIN {
            self.bytes.extend_from_slice(payload);
        } else {
            self.push_shared(payload.clone());
        }
    }

    /// Appends all of `other` and leaves it empty.
    pub fn append(&mut self, other: &mut OutBuffer) {
        let start = self.bytes.len();
        self.bytes.append(&mut other.bytes);
        self.shared_bytes += std::mem::take(&mut other.shared_bytes);
        self.shared.extend(other.shared.drain(..).map(|segment| SharedSegment { at: start + segment.at, ..segment }));
    }

    /// Empties the buffer. Its memory is kept for the next use, up to [`KEPT_CAPACITY_MAX`].
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_CAPACITY_MAX);
        self.shared.clear();
        self.shared.shrink_to(KEPT_CAPACITY_MAX / size_of::<SharedSegment>());
        self.shared_bytes = 0;
    }

    /// Heap memory that the buffer itself holds (not the shared payloads), in bytes.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        self.bytes.capacity() + self.shared.capacity() * size_of::<SharedSegment>()
    }

    /// Whether shared segments make this a gathering send.
    #[inline]
    #[must_use]
    pub fn has_shared(&self) -> bool {
        !self.shared.is_empty()
    }

    /// The runs of bytes that are still to go out after the first `skip_bytes`, in order, none empty.
    pub fn slices(&self, skip_bytes: usize) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        let own_then_shared = self.shared.iter().flat_map(move |segment| {
            let own = self.bytes.get(start..segment.at).unwrap_or_default();
            start = segment.at;
            [own, &segment.bytes[..]]
        });
        let last_at = self.shared.last().map_or(0, |segment| segment.at);
        let tail = self.bytes.get(last_at..).unwrap_or_default();
        let mut skip = skip_bytes;
        own_then_shared.chain(std::iter::once(tail)).filter_map(move |slice| {
            let skipped = skip.min(slice.len());
            skip -= skipped;
            slice.get(skipped..).filter(|rest| !rest.is_empty())
        })
    }

    /// Appends to `slices` what is still to go out after the first `skip_bytes`.
    pub fn fill_slices<'a>(&'a self, skip_bytes: usize, slices: &mut Vec<IoSlice<'a>>) {
        slices.extend(self.slices(skip_bytes).map(IoSlice::new));
    }
}

impl From<&[u8]> for OutBuffer {
    fn from(bytes: &[u8]) -> Self {
        OutBuffer { bytes: bytes.to_vec(), ..OutBuffer::default() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(buffer: &OutBuffer, skip: usize) -> Vec<u8> {
        buffer.slices(skip).flatten().copied().collect()
    }

    proptest! {
        #[test]
        fn slices_are_the_concatenation_after_any_skip(parts in prop::collection::vec((any::<bool>(), 0_usize..20), 0..12)) {
            let mut buffer = OutBuffer::new();
            let mut other = OutBuffer::new();
            let mut expected = Vec::new();
            let half = parts.len() / 2;
            for (index, (shared, length)) in parts.iter().enumerate() {
                let bytes: Vec<u8> = (0..*length).map(|byte| (index * 20 + byte) as u8).collect();
                expected.extend_from_slice(&bytes);
                let target = if index < half { &mut buffer } else { &mut other };
                if *shared { target.push_shared(Bytes::from(bytes)) } else { target.bytes_mut().extend_from_slice(&bytes) }
            }
            buffer.append(&mut other);
            prop_assert!(other.is_empty());
            prop_assert_eq!(buffer.len(), expected.len());
            for skip in 0..=expected.len() {
                prop_assert_eq!(all(&buffer, skip), &expected[skip..]);
                prop_assert!(buffer.slices(skip).all(|slice| !slice.is_empty()));
            }
        }
    }

    #[test]
    fn a_cleared_buffer_keeps_no_giant() {
        let mut buffer = OutBuffer::new();
        buffer.bytes_mut().resize(1 << 20, 0);
        buffer.clear();
        assert!(buffer.is_empty());
        assert!(buffer.capacity_bytes() <= 2 * KEPT_CAPACITY_MAX);
    }
}
