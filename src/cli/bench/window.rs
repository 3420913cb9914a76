//! The closed loop of one publisher: which of its messages are still under way, as one thread sees them.

/// Counts, for each message, what is still to happen on this thread: a delivery to each subscriber here and, above QoS 0
/// and where the publisher lives, the acknowledgement. The base moves on when the oldest message is done.
#[derive(Debug)]
pub(super) struct Window {
    /// What each message still waits for, by sequence number modulo the length, a power of two.
    waiting: Box<[u32]>,
    /// What a message waits for at first.
    events: u32,
    /// The oldest message that is not done.
    base: u32,
}

impl Window {
    /// For at most `size` messages under way that wait for `events` each, at least one.
    pub fn new(size: u32, events: u32) -> Self {
        debug_assert!(events > 0);
        Window { waiting: vec![events; size.next_power_of_two() as usize].into(), events, base: 0 }
    }

    /// The oldest message that is not done.
    #[inline]
    pub fn base(&self) -> u32 {
        self.base
    }

    /// One of the events that a message waited for has come. Returns whether the base moved. Messages that are done, or
    /// were given up, are no longer waited for; a message far ahead gives up those that are too old.
    #[inline]
    pub fn event(&mut self, sequence: u32) -> bool {
        if sequence < self.base {
            return false;
        }
        let before = self.base;
        if sequence - self.base >= self.waiting.len() as u32 {
            self.give_up(sequence - (self.waiting.len() as u32 - 1));
        }
        let place = self.place(sequence);
        self.waiting[place] = self.waiting[place].saturating_sub(1);
        loop {
            let oldest = self.place(self.base);
            if self.waiting[oldest] != 0 {
                return self.base != before;
            }
            self.waiting[oldest] = self.events;
            self.base += 1;
        }
    }

    /// Gives up all messages below `base`.
    pub fn give_up(&mut self, base: u32) {
        if base.saturating_sub(self.base) >= self.waiting.len() as u32 {
            self.waiting.fill(self.events);
            self.base = base;
        }
        while self.base < base {
            let oldest = self.place(self.base);
            self.waiting[oldest] = self.events;
            self.base += 1;
        }
    }

    #[inline]
    fn place(&self, sequence: u32) -> usize {
        sequence as usize & (self.waiting.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_moves_when_its_oldest_message_is_done() {
        let mut window = Window::new(3, 2);
        assert!(!window.event(1));
        assert!(!window.event(1), "done, but not the oldest");
        assert!(!window.event(0));
        assert!(window.event(0));
        assert_eq!(window.base(), 2);
        assert!(!window.event(0), "done long ago");
        assert!(!window.event(2));
        window.give_up(3);
        assert_eq!(window.base(), 3);
        assert!(!window.event(2), "given up");
    }

    #[test]
    fn a_message_far_ahead_gives_up_what_is_too_old() {
        let mut window = Window::new(4, 1);
        assert!(!window.event(2));
        assert!(window.event(5), "0 and 1 are given up, 2 was done");
        assert_eq!(window.base(), 3);
        assert!(window.event(1000));
        assert_eq!(window.base(), 997);
        assert!(window.event(997) && window.event(998) && window.event(999));
        assert_eq!(window.base(), 1001);
    }
}
