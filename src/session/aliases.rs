//! Topic Aliases that a client has set for its own PUBLISHes.
//!
//! Owns: alias → TopicName of one Network Connection.
//! Always: no alias above the Topic Alias Maximum that we announced is held, so memory is bounded by that number times
//! the longest topic. Dies with the connection [v5 MQTT-3.3.2-7].

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
}
