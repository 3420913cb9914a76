//! The closed loop of one publisher: how many of its messages may be under way at once.

/// Counts, for each message under way, what is still to happen: a delivery to each subscriber, and above QoS 0 the
/// acknowledgement. The window moves on when its oldest message is done.
#[derive(Debug)]
pub(super) struct Window {
    /// What each message still waits for, by sequence number modulo the length, a power of two.
    waiting: Box<[u32]>,
    /// The oldest message that is not done.
    base: u32,
    next: u32,
    size: u32,
}

impl Window {
    /// A window of `size` messages.
    pub fn new(size: u32) -> Self {
        Window { waiting: vec![0; size.next_power_of_two() as usize].into(), base: 0, next: 0, size }
    }

    /// Whether another message may be sent.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.next.wrapping_sub(self.base) < self.size
    }

    /// Whether every message is done.
    pub fn is_empty(&self) -> bool {
        self.base == self.next
    }

    /// The oldest message that is not done.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// The next message is sent and waits for `events`, at least one.
    #[inline]
    pub fn begin(&mut self, events: u32) {
        let place = self.place(self.next);
        self.waiting[place] = events;
        self.next += 1;
    }

    /// One of the events that a message waited for has come. Returns whether the window moved. Messages that are done, or
    /// were given up, are no longer in it.
    #[inline]
    pub fn event(&mut self, sequence: u32) -> bool {
        if sequence < self.base || sequence >= self.next {
            return false;
        }
        let place = self.place(sequence);
        self.waiting[place] = self.waiting[place].saturating_sub(1);
        let before = self.base;
        while self.base < self.next && self.waiting[self.place(self.base)] == 0 {
            self.base += 1;
        }
        self.base != before
    }

    /// Gives up all that is under way.
    pub fn give_up(&mut self) {
        self.base = self.next;
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
        let mut window = Window::new(3);
        for _ in 0..3 {
            assert!(window.has_room());
            window.begin(2);
        }
        assert!(!window.has_room());
        assert!(!window.event(1));
        assert!(!window.event(1), "done, but not the oldest");
        assert!(!window.event(0));
        assert!(window.event(0));
        assert_eq!(window.base(), 2);
        assert!(!window.event(0), "done long ago");
        assert!(window.has_room());
        window.begin(1);
        window.give_up();
        assert!(window.is_empty());
        assert!(!window.event(3));
    }
}
