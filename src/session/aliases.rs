//! Topic Aliases: those that a client has set for its own PUBLISHes, and those that we set for what it is sent.
//!
//! Owns: alias → TopicName of one Network Connection in the one direction, TopicName → alias in the other.
//! Always: no alias above the Topic Alias Maximum that we announced is held, so memory is bounded by that number times
//! the longest topic; none is sent above the one that the client announced. Dies with the connection
//! [v5 MQTT-3.3.2-7].

use ahash::AHashMap;

/// The aliases in use on one connection.
#[derive(Debug, Default)]
pub struct TopicAliases {
    topics: Vec<Option<Box<str>>>,
}

/// Why an alias cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasError {
    /// Zero, or above the Topic Alias Maximum that we announced: 0x94.
    Invalid,
    /// No topic was set for it: 0x82.
    Unknown,
}

impl TopicAliases {
    /// Whether none is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Sets `alias` to `topic`. `maximum` is what we announced.
    pub fn set(&mut self, alias: u16, topic: &str, maximum: u16) -> Result<(), AliasError> {
        // [v5 MQTT-3.3.2-12] [v5 MQTT-3.3.2-8]
        if alias == 0 || alias > maximum {
            return Err(AliasError::Invalid);
        }
        let index = usize::from(alias) - 1;
        if self.topics.len() <= index {
            self.topics.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.topics.get_mut(index)
            && slot.as_deref() != Some(topic)
        {
            *slot = Some(topic.into());
        }
        Ok(())
    }

    /// The topic that `alias` stands for.
    pub fn topic(&self, alias: u16, maximum: u16) -> Result<&str, AliasError> {
        if alias == 0 || alias > maximum {
            return Err(AliasError::Invalid);
        }
        self.topics.get(usize::from(alias) - 1).and_then(Option::as_deref).ok_or(AliasError::Unknown)
    }
}

/// The aliases that we have set on one connection: the first topics that are worth one, until there are `maximum`.
#[derive(Debug)]
pub struct SentAliases {
    by_topic: AHashMap<Box<str>, u16>,
    maximum: u16,
}

/// A Topic Alias for one PUBLISH to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentAlias {
    /// The alias.
    pub alias: u16,
    /// Whether the client knows it, and needs no TopicName.
    pub is_known: bool,
}

impl SentAliases {
    /// None yet, of up to `maximum`.
    #[must_use]
    pub fn new(maximum: u16) -> Self {
        Self { by_topic: AHashMap::new(), maximum }
    }

    /// The alias for a PUBLISH of `topic` that is sent now, when there is one for it.
    pub fn next(&mut self, topic: &str) -> Option<SentAlias> {
        if let Some(&alias) = self.by_topic.get(topic) {
            return Some(SentAlias { alias, is_known: true });
        }
        // [v5 MQTT-3.1.2-26] [v5 MQTT-3.3.2-11]
        if self.by_topic.len() >= usize::from(self.maximum) || !WORTH_AN_ALIAS.contains(&topic.len()) {
            return None;
        }
        let alias = self.by_topic.len() as u16 + 1;
        self.by_topic.insert(topic.into(), alias);
        Some(SentAlias { alias, is_known: false })
    }
}

/// Bytes of a topic that is worth an alias: an alias takes three bytes each time. A longer topic would take much memory
/// for a client that may never hear of it again.
const WORTH_AN_ALIAS: std::ops::RangeInclusive<usize> = 4..=1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_stands_for_the_topic_last_set() {
        let mut aliases = TopicAliases::default();
        assert_eq!(aliases.topic(1, 2), Err(AliasError::Unknown));
        assert_eq!(aliases.set(2, "a", 2), Ok(()));
        assert_eq!(aliases.topic(2, 2), Ok("a"));
        assert_eq!(aliases.topic(1, 2), Err(AliasError::Unknown));
        assert_eq!(aliases.set(2, "b", 2), Ok(()));
        assert_eq!(aliases.topic(2, 2), Ok("b"));
        assert_eq!(aliases.set(3, "c", 2), Err(AliasError::Invalid));
        assert_eq!(aliases.set(0, "c", 2), Err(AliasError::Invalid));
        assert_eq!(aliases.topic(3, 2), Err(AliasError::Invalid));
    }

    #[test]
    fn topics_worth_it_get_the_aliases_that_the_client_allows() {
        let mut sent = SentAliases::new(2);
        let new = |alias| Some(SentAlias { alias, is_known: false });
        let known = |alias| Some(SentAlias { alias, is_known: true });
        assert_eq!(sent.next("abc"), None);
        assert_eq!(sent.next(&"l".repeat(1025)), None);
        assert_eq!(sent.next("sensors/1"), new(1));
        assert_eq!(sent.next("sensors/2"), new(2));
        assert_eq!(sent.next("sensors/3"), None, "there are no more");
        assert_eq!((sent.next("sensors/2"), sent.next("sensors/1")), (known(2), known(1)));
        assert_eq!(SentAliases::new(0).next("sensors/1"), None);
    }
}
