//! The acknowledgements that one Network Connection owes its client.
//!
//! Owns: PUBACK, PUBREC, SUBACK and UNSUBACK packets whose packet was handled here while something elsewhere (another
//! shard, the store) has yet to take its part; of PUBREL and PUBCOMP those that wait for the store.
//! Always: they leave in the order of the packets that they answer [v3 MQTT-4.6.0-2] [v3 MQTT-4.6.0-3], so one that is
//! ready waits for those before it.
//! Never: outlives the connection. A client that comes back sends its packets again.

use std::collections::VecDeque;

use crate::{
    mqtt::{PacketIdentifier, QoS, ReasonCode},
    plant::{Bug, planted},
};

/// An acknowledgement that is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a QoS 1 PUBLISH.
    PubAck(PacketIdentifier, ReasonCode),
    /// To a QoS 2 PUBLISH.
    PubRec(PacketIdentifier, ReasonCode),
    /// To a SUBSCRIBE: a ReasonCode for each filter, and what is asked for once it has left.
    SubAck(PacketIdentifier, Box<[ReasonCode]>, Vec<RetainedRequest>),
    /// To an UNSUBSCRIBE: a ReasonCode for each filter.
    UnsubAck(PacketIdentifier, Box<[ReasonCode]>),
    /// To a PUBREC that the store has to hear of.
    PubRel(PacketIdentifier),
    /// To a PUBREL that the store has to hear of.
    PubComp(PacketIdentifier, ReasonCode),
}

/// A new subscription that is to be sent the retained messages that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedRequest {
    /// The filter.
    pub filter: Box<str>,
    /// The granted QoS.
    pub qos: QoS,
    /// The Subscription Identifier, 0 for none.
    pub subscription_identifier: u32,
}

/// Names an owed acknowledgement of one connection; numbers are never reused within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnswerNumber(u64);

#[derive(Debug)]
struct Owed {
    answer: Answer,
    /// How many others have yet to take their part.
    waiting: u32,
}

/// The acknowledgements owed on one connection, oldest first.
#[derive(Debug, Default)]
pub struct Acknowledgements {
    base: u64,
    owed: VecDeque<Owed>,
    publishes: u32,
    pubacks: u32,
}

impl Acknowledgements {
    /// Whether nothing is owed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// How many are owed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owed.len()
    }

    /// How many of those answer a PUBLISH: they count against the Receive Maximum that we announced.
    #[must_use]
    pub fn publishes(&self) -> u32 {
        self.publishes
    }

    /// How many of those are PUBACKs.
    #[must_use]
    pub fn puback_owed(&self) -> u32 {
        self.pubacks
    }

    /// Whether a PUBREC for `identifier` is owed: its PUBLISH came twice before we answered.
    #[must_use]
    pub fn owes_pubrec(&self, identifier: PacketIdentifier) -> bool {
        self.owed.iter().any(|owed| matches!(owed.answer, Answer::PubRec(owed, _) if owed == identifier))
    }

    /// Owes `answer`, which `waiting` others have yet to make true.
    pub fn push(&mut self, answer: Answer, waiting: u32) -> AnswerNumber {
        self.publishes += u32::from(answers_publish(&answer));
        self.pubacks += u32::from(matches!(answer, Answer::PubAck(..)));
        self.owed.push_back(Owed { answer, waiting });
        AnswerNumber(self.base + self.owed.len() as u64 - 1)
    }

    /// One of those that `number` waited for has taken its part.
    pub fn settle(&mut self, number: AnswerNumber) {
        let Some(index) = number.0.checked_sub(self.base) else { return };
        if let Some(owed) = self.owed.get_mut(index as usize) {
            owed.waiting = owed.waiting.saturating_sub(1);
        }
    }

    /// One of those that `number` waits for could not do all that was asked: a PUBACK or PUBREC says so.
    pub fn refuse(&mut self, number: AnswerNumber, reason: ReasonCode) {
        let Some(index) = number.0.checked_sub(self.base) else { return };
        if let Some(Owed { answer: Answer::PubAck(_, said) | Answer::PubRec(_, said), .. }) =
            self.owed.get_mut(index as usize)
        {
            *said = reason;
        }
    }

    /// The next acknowledgement that may leave.
    pub fn poll_ready(&mut self) -> Option<Answer> {
        if planted(Bug::AckOutOfOrder) {
            let index = self.owed.iter().position(|owed| owed.waiting == 0)?;
            self.base += 1;
            return self.owed.remove(index).map(|owed| self.leave(owed));
        }
        if self.owed.front()?.waiting > 0 {
            return None;
        }
        self.base += 1;
        self.owed.pop_front().map(|owed| self.leave(owed))
    }

    fn leave(&mut self, owed: Owed) -> Answer {
        self.publishes -= u32::from(answers_publish(&owed.answer));
        self.pubacks -= u32::from(matches!(owed.answer, Answer::PubAck(..)));
        owed.answer
    }
}

fn answers_publish(answer: &Answer) -> bool {
    matches!(answer, Answer::PubAck(..) | Answer::PubRec(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn puback(value: u16) -> Answer {
        Answer::PubAck(PacketIdentifier::new(value).unwrap(), ReasonCode::Success)
    }

    #[test]
    fn they_leave_in_order_however_they_become_ready() {
        let mut owed = Acknowledgements::default();
        let first = owed.push(puback(1), 2);
        let second = owed.push(puback(2), 1);
        owed.push(puback(3), 0);
        owed.settle(second);
        owed.settle(first);
        assert_eq!(owed.poll_ready(), None);
        assert_eq!((owed.publishes(), owed.len()), (3, 3));
        owed.settle(first);
        assert_eq!(owed.poll_ready(), Some(puback(1)));
        assert_eq!(owed.poll_ready(), Some(puback(2)));
        assert_eq!(owed.poll_ready(), Some(puback(3)));
        assert_eq!(owed.poll_ready(), None);
        owed.settle(first);
        assert_eq!((owed.is_empty(), owed.len()), (true, 0));
        let later = owed.push(puback(4), 1);
        assert!(later > second);
        owed.settle(second);
        assert_eq!(owed.poll_ready(), None, "a number is never reused");
    }
}
