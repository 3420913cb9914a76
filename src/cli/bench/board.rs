//! What the threads of a run tell each other: how far publishers have got, and how far their messages.
//!
//! Only publishers that somebody on another thread hears stand here. What always holds: a number is posted before the
//! messages below it can be received; news is posted once a turn, not per message, and whoever sleeps is woken by the
//! first of it.

use std::{
    mem,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use crate::runtime::Wake;

/// What all threads of a run share.
#[derive(Debug)]
pub(super) struct Board {
    /// Messages published so far, by publisher.
    published: Box<[AtomicU32]>,
    mailboxes: Box<[Mailbox]>,
}

/// News for one thread.
#[derive(Debug)]
struct Mailbox {
    /// Whether there may be any: spares the lock.
    has_news: AtomicBool,
    news: Mutex<Vec<Progress>>,
    wake: Wake,
}

/// All messages of a publisher below `base` have arrived on a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub publisher: u32,
    pub thread: u32,
    pub base: u32,
}

impl Board {
    /// For so many publishers, and the threads that are woken by these.
    pub fn new(publishers: usize, wakes: Vec<Wake>) -> Self {
        let mailbox = |wake| Mailbox { has_news: AtomicBool::new(false), news: Mutex::default(), wake };
        Board {
            published: (0..publishers).map(|_| AtomicU32::new(0)).collect(),
            mailboxes: wakes.into_iter().map(mailbox).collect(),
        }
    }

    /// The publisher has published so many messages.
    #[inline]
    pub fn set_published(&self, publisher: u32, count: u32) {
        self.published[publisher as usize].store(count, Ordering::Release);
    }

    /// How many messages the publisher has published.
    #[inline]
    pub fn published(&self, publisher: u32) -> u32 {
        self.published[publisher as usize].load(Ordering::Acquire)
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.mailboxes.len()
    }

    /// Tells `thread`, and wakes it if it has not been told of anything yet. Leaves `news` empty.
    pub fn post(&self, thread: usize, news: &mut Vec<Progress>) {
        if news.is_empty() {
            return;
        }
        let mailbox = &self.mailboxes[thread];
        // A panic of another thread ends the run anyway.
        mailbox.news.lock().unwrap_or_else(PoisonError::into_inner).append(news);
        if !mailbox.has_news.swap(true, Ordering::AcqRel) {
            mailbox.wake.wake();
        }
    }

    /// Takes what `thread` was told.
    #[inline]
    pub fn collect(&self, thread: usize, news: &mut Vec<Progress>) {
        let mailbox = &self.mailboxes[thread];
        if mailbox.has_news.load(Ordering::Relaxed) && mailbox.has_news.swap(false, Ordering::AcqRel) {
            mem::swap(&mut *mailbox.news.lock().unwrap_or_else(PoisonError::into_inner), news);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_arrives_once_and_wakes() {
        let wakes: Vec<_> = (0..2).map(|_| Wake::new().unwrap()).collect();
        let board = Board::new(3, wakes.clone());
        let told = Progress { publisher: 2, thread: 1, base: 7 };
        board.post(0, &mut vec![told]);
        board.post(0, &mut vec![told]);
        assert!(wakes[0].take() && !wakes[1].take());
        let mut news = Vec::new();
        board.collect(1, &mut news);
        assert!(news.is_empty());
        board.collect(0, &mut news);
        assert_eq!(news, [told, told]);
        news.clear();
        board.collect(0, &mut news);
        assert!(news.is_empty());
        board.post(0, &mut news);
        assert!(!wakes[0].take(), "no news");
        board.set_published(1, 5);
        assert_eq!((board.published(1), board.published(2)), (5, 0));
    }
}
