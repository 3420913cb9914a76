//! How much memory each of many things takes that a process is given one after another.
//!
//! A process that had more before gives back what it no longer needs while new things come, or puts them into the room that
//! it kept. Either way its resident memory at the end minus that at the begin says little: it may even be negative. What
//! always holds: only memory beyond the most that the process ever had counts, for that cannot be room from before.

/// Resident memory, by how many things there are.
#[derive(Debug)]
pub(super) struct Growth {
    peak_before: u64,
    points: Vec<(u32, u64)>,
}

impl Growth {
    /// The process never had more than so many bytes.
    pub fn new(peak_before: u64) -> Self {
        Growth { peak_before, points: Vec::new() }
    }

    /// It has so many bytes now that it has `count` things. They come in order.
    pub fn take_down(&mut self, count: u32, resident_bytes: u64) {
        self.points.push((count, resident_bytes));
    }

    /// Bytes for each. Nothing when most of them found room that was there.
    pub fn bytes_each(&self) -> Option<f64> {
        let (&(_, first), &(all, last)) = (self.points.first()?, self.points.last()?);
        let room = first.max(self.peak_before) + NOISE_BYTES;
        let &(count, resident) = self.points.iter().rev().find(|(_, resident)| *resident <= room)?;
        let beyond = all - count;
        (beyond > 0 && beyond >= all / 2).then(|| (last as f64 - resident as f64) / f64::from(beyond))
    }
}

/// The kernel counts pages on each CPU by itself for a while, and a program has a few for other things.
const NOISE_BYTES: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn bytes_each(peak_before: u64, points: &[(u32, u64)]) -> Option<f64> {
        let mut growth = Growth::new(peak_before);
        points.iter().for_each(|&(count, resident)| growth.take_down(count, resident));
        growth.bytes_each()
    }

    #[test]
    fn a_fresh_process_grows_from_the_first_on() {
        assert_eq!(bytes_each(20 * MIB, &[(0, 20 * MIB), (512, 21 * MIB), (1024, 22 * MIB)]), Some(2048.0));
    }

    #[test]
    fn room_that_was_kept_or_given_back_does_not_count() {
        let kept = [(0, 40 * MIB), (256, 40 * MIB), (512, 40 * MIB), (768, 41 * MIB), (1024, 42 * MIB)];
        assert_eq!(bytes_each(40 * MIB, &kept), Some(4096.0));
        let given_back = [(0, 30 * MIB), (256, 25 * MIB), (512, 40 * MIB), (768, 41 * MIB), (1024, 42 * MIB)];
        assert_eq!(bytes_each(40 * MIB, &given_back), Some(4096.0));
    }

    #[test]
    fn what_fits_into_room_from_before_tells_nothing() {
        assert_eq!(bytes_each(60 * MIB, &[(0, 40 * MIB), (512, 30 * MIB), (1024, 50 * MIB)]), None);
        assert_eq!(bytes_each(40 * MIB, &[(0, 40 * MIB), (768, 40 * MIB), (1024, 41 * MIB)]), None);
        assert_eq!(bytes_each(0, &[(0, MIB), (10, MIB + 4096)]), None);
        assert_eq!(bytes_each(0, &[]), None);
    }
}
