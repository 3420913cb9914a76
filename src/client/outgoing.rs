//! What a client sent and the server has not finished with.

use std::collections::VecDeque;

use super::ClientError;
use crate::mqtt::{AckKind, PacketIdentifier};

/// Messages above QoS 0 in flight, and requests without an answer.
///
/// Identifiers are given in a cycle and messages are kept in the order in which they got theirs. So the next identifier in
/// use behind the cycle's head is the oldest message's, and a message lies where its distance from the oldest says, unless
/// an identifier between them went to a request or was finished out of order.
#[derive(Debug)]
pub(super) struct Outgoing {
    messages: VecDeque<InFlight>,
    requests: Vec<PacketIdentifier>,
    next_identifier: PacketIdentifier,
    messages_max: u16,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    identifier: PacketIdentifier,
    /// The packet that it waits for: PUBACK, or PUBREC and then PUBCOMP.
    awaited: AckKind,
    token: u32,
}

/// SUBSCRIBEs and UNSUBSCRIBEs without an answer; one more is refused.
const REQUESTS_MAX: usize = 64;

impl Outgoing {
    pub const fn new(messages_max: u16) -> Self {
        Outgoing {
            messages: VecDeque::new(),
            requests: Vec::new(),
            next_identifier: PacketIdentifier::MIN,
            messages_max,
        }
    }

    /// Takes a limit of the server's.
    pub fn limit(&mut self, messages_max: u16) {
        self.messages_max = self.messages_max.min(messages_max);
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    #[inline]
    pub fn has_room(&self) -> bool {
        self.messages.len() < usize::from(self.messages_max)
    }

    /// Gives a message its identifier.
    #[inline]
    pub fn begin(&mut self, awaited: AckKind, token: u32) -> Result<PacketIdentifier, ClientError> {
        if !self.has_room() {
            return Err(ClientError::InFlightFull);
        }
        let identifier = self.take_identifier()?;
        self.messages.push_back(InFlight { identifier, awaited, token });
        Ok(identifier)
    }

    /// Gives a request its identifier.
    pub fn begin_request(&mut self) -> Result<PacketIdentifier, ClientError> {
        if self.requests.len() == REQUESTS_MAX {
            return Err(ClientError::InFlightFull);
        }
        let identifier = self.take_identifier()?;
        self.requests.push(identifier);
        Ok(identifier)
    }

    /// Ends a request; false when there is none of that identifier.
    pub fn end_request(&mut self, identifier: PacketIdentifier) -> bool {
        let found = self.requests.iter().position(|&request| request == identifier);
        if let Some(place) = found {
            self.requests.swap_remove(place);
            if self.requests.is_empty() {
                self.requests = Vec::new();
            }
        }
        found.is_some()
    }

    /// PUBREC came: PUBCOMP is awaited now. A second PUBREC changes nothing. False when no QoS 2 message has that
    /// identifier.
    pub fn advance(&mut self, identifier: PacketIdentifier) -> bool {
        let Some(message) = self.place(identifier).and_then(|place| self.messages.get_mut(place)) else { return false };
        if message.awaited == AckKind::PubAck {
            return false;
        }
        message.awaited = AckKind::PubComp;
        true
    }

    /// Ends the message of that identifier if it waits for `came`, and returns its token.
    #[inline]
    pub fn finish(&mut self, identifier: PacketIdentifier, came: AckKind) -> Option<u32> {
        let place = self.place(identifier)?;
        let message = *self.messages.get(place)?;
        if message.awaited != came {
            return None;
        }
        self.messages.remove(place);
        Some(message.token)
    }

    #[inline]
    fn place(&self, identifier: PacketIdentifier) -> Option<usize> {
        let oldest = self.messages.front()?.identifier;
        let guess = usize::from(distance(oldest, identifier));
        if self.messages.get(guess).is_some_and(|message| message.identifier == identifier) {
            return Some(guess);
        }
        self.messages.iter().position(|message| message.identifier == identifier)
    }

    #[inline]
    fn take_identifier(&mut self) -> Result<PacketIdentifier, ClientError> {
        // At most as many steps as there are requests, and one.
        loop {
            let identifier = self.next_identifier;
            if self.messages.front().is_some_and(|oldest| oldest.identifier == identifier) {
                return Err(ClientError::InFlightFull);
            }
            self.next_identifier = identifier.following();
            if self.requests.is_empty() || !self.requests.contains(&identifier) {
                return Ok(identifier);
            }
        }
    }
}

/// How many identifiers after `from` comes `to`, in the cycle of 65,535.
#[inline]
fn distance(from: PacketIdentifier, to: PacketIdentifier) -> u16 {
    let (from, to) = (from.value(), to.value());
    if to >= from { to - from } else { to + (u16::MAX - from) }
}
