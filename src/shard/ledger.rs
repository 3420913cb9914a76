//! Who waits for which shard.
//!
//! Owns: for each other shard and rank, how many messages went there, how many of those it has handled, and which
//! acknowledgements wait for which of them.
//! Always: messages of one rank between two shards are handled in order, so one number says it for all: a shard reports
//! how many it has handled, at most once a turn, and no message carries a number of its own.
//! Never: loses a wait. A connection that is gone leaves its waits behind; they settle into nothing.

use std::collections::VecDeque;

use crate::{config::Durability, runtime::ConnectionId, session::AnswerNumber, shard::exchange::RANKS};

/// An acknowledgement that a connection owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerReference {
    /// Whose.
    pub connection: ConnectionId,
    /// Which.
    pub number: AnswerNumber,
}

/// A place in the stream of messages to another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    shard: u16,
    rank: u8,
    count: u64,
}

#[derive(Debug, Default)]
struct Promised {
    count: u64,
    waits: VecDeque<(u64, AnswerReference)>,
}

#[derive(Debug, Default)]
struct Stream {
    /// Messages sent to the other shard.
    sent: u64,
    /// By what is waited for: up to which of those that can be promised, as it reported, and who waits.
    promised: [Promised; Durability::COUNT],
    /// Messages from the other shard that we handled.
    received: u64,
    /// Whether it waits to hear of them.
    report_due: bool,
    /// The last batch in which the store was asked for something on their behalf.
    asked_batch: u64,
}

/// The waits of one shard.
#[derive(Debug)]
pub struct Ledger {
    streams: Vec<Stream>,
}

impl Ledger {
    /// A ledger towards `shards` shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self { streams: (0..shards * RANKS).map(|_| Stream::default()).collect() }
    }

    /// Counts messages to shard `to`, and returns what an acknowledgement of the last would wait for.
    pub fn count_sent(&mut self, to: u16, rank: usize, count: u64) -> Wait {
        let stream = &mut self.streams[usize::from(to) * RANKS + rank];
        stream.sent += count;
        Wait { shard: to, rank: rank as u8, count: stream.sent }
    }

    /// Makes the acknowledgement `answer`, which promises `durability`, wait. Waits of one stream are given in order.
    pub fn wait(&mut self, wait: Wait, durability: Durability, answer: AnswerReference) {
        let stream = &mut self.streams[usize::from(wait.shard) * RANKS + usize::from(wait.rank)];
        let Promised { count, waits } = &mut stream.promised[durability as usize];
        debug_assert!(waits.back().is_none_or(|last| last.0 <= wait.count) && wait.count > *count);
        waits.push_back((wait.count, answer));
    }

    /// Counts messages that were handled here.
    pub fn count_received(&mut self, from: u16, rank: usize, count: u64, wants_report: bool) {
        let stream = &mut self.streams[usize::from(from) * RANKS + rank];
        stream.received += count;
        stream.report_due |= wants_report;
    }

    /// Messages of shard `from` have the store asked for something with this batch.
    pub fn note_asked(&mut self, from: u16, rank: usize, batch: u64) {
        self.streams[usize::from(from) * RANKS + rank].asked_batch = batch;
    }

    /// Calls `report` with (shard, rank, count, batch) for each shard that waits to hear of us; what was handled is
    /// durable when that batch is. `is_last_word`: whoever waits hears now, whatever became of it, so later reports say
    /// nothing of that batch.
    pub fn poll_reports(&mut self, is_last_word: bool, mut report: impl FnMut(u16, u8, u64, u64)) {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            if std::mem::take(&mut stream.report_due) {
                report((index / RANKS) as u16, (index % RANKS) as u8, stream.received, stream.asked_batch);
                if is_last_word {
                    stream.asked_batch = 0;
                }
            }
        }
    }

    /// Shard `from` has handled `count` of our messages of `rank`, and promises as much of what it keeps of them: `settle` is
    /// called for each wait that ends.
    pub fn handle_report(
        &mut self,
        from: u16,
        rank: u8,
        count: u64,
        promise: Durability,
        mut settle: impl FnMut(AnswerReference),
    ) {
        let Some(stream) = self.streams.get_mut(usize::from(from) * RANKS + usize::from(rank)) else { return };
        // Who waits for less waits no longer either.
        for promised in stream.promised.iter_mut().skip(promise as usize) {
            promised.count = promised.count.max(count);
            while let Some((_, answer)) = promised.waits.pop_front_if(|(due, _)| *due <= promised.count) {
                settle(answer);
            }
        }
    }

    /// Which message of shard `from` is being handled, counted from the first.
    #[must_use]
    pub fn count_of_current(&self, from: u16, rank: usize) -> u64 {
        self.streams[usize::from(from) * RANKS + rank].received + 1
    }

    /// Shard `from` could not handle our message `count` of `rank` as asked: `refuse` is called for what waits for it.
    pub fn handle_refusal(&self, from: u16, rank: u8, count: u64, refuse: impl FnMut(AnswerReference)) {
        let Some(stream) = self.streams.get(usize::from(from) * RANKS + usize::from(rank)) else { return };
        let waits = stream.promised.iter().flat_map(|promised| &promised.waits);
        waits.filter(|wait| wait.0 == count).map(|wait| wait.1).for_each(refuse);
    }

    /// How many waits are open.
    #[cfg(test)]
    pub fn waits(&self) -> usize {
        self.streams.iter().flat_map(|stream| &stream.promised).map(|promised| promised.waits.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mqtt::{PacketIdentifier, ReasonCode},
        session::{Acknowledgements, Answer},
    };

    #[test]
    fn a_report_settles_every_wait_up_to_its_count() {
        let mut ledger = Ledger::new(2);
        let mut owed = Acknowledgements::default();
        let connection = ConnectionId { slot: 0, generation: 0 };
        let mut answers = Vec::new();
        for value in 1..=3 {
            let wait = ledger.count_sent(1, 1, 1);
            let answer = Answer::PubAck(PacketIdentifier::new(value).unwrap(), ReasonCode::Success);
            let reference = AnswerReference { connection, number: owed.push(answer, 1) };
            ledger.wait(wait, Durability::Sync, reference);
            answers.push(reference);
        }
        let mut settled = Vec::new();
        ledger.handle_report(1, 0, 3, Durability::Sync, |answer| settled.push(answer));
        assert!(settled.is_empty(), "another rank");
        ledger.handle_report(1, 1, 2, Durability::Batched, |answer| settled.push(answer));
        assert!(settled.is_empty(), "less than is waited for");
        ledger.handle_report(1, 1, 2, Durability::Sync, |answer| settled.push(answer));
        assert_eq!(settled, answers[..2]);
        assert_eq!(ledger.waits(), 1);
    }

    #[test]
    fn a_report_is_due_once_for_a_turn() {
        let mut ledger = Ledger::new(2);
        ledger.count_received(1, 1, 1, false);
        let mut reports = Vec::new();
        ledger.poll_reports(false, |shard, rank, count, _| reports.push((shard, rank, count)));
        assert!(reports.is_empty());
        ledger.count_received(1, 1, 1, true);
        ledger.count_received(1, 1, 1, false);
        ledger.poll_reports(false, |shard, rank, count, _| reports.push((shard, rank, count)));
        ledger.poll_reports(false, |shard, rank, count, _| reports.push((shard, rank, count)));
        assert_eq!(reports, [(1, 1, 3)]);
    }

    #[test]
    fn what_was_said_to_be_undone_is_said_once() {
        let mut ledger = Ledger::new(2);
        let mut reports = Vec::new();
        ledger.note_asked(1, 1, 7);
        for is_last_word in [false, true, false] {
            ledger.count_received(1, 1, 1, true);
            ledger.poll_reports(is_last_word, |_, _, count, batch| reports.push((count, batch)));
        }
        assert_eq!(reports, [(1, 7), (2, 7), (3, 0)]);
    }
}
