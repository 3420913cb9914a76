//! The retained messages of the topics that have their home here, ordered by stamp, found by filter.

/// When and where a retained publish was accepted: of two for one topic the larger wins, whatever the order of arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Microseconds since the Unix epoch on the shard that took the PUBLISH.
    pub micros: u64,
    /// Counts that shard's retained publishes, to tell those of one microsecond apart.
    pub counter: u32,
    /// That shard.
    pub shard: u16,
}

/// A message that knows its topic, so that the store need not keep the text again. Neither answer may change.
pub trait HasTopic {
    /// The TopicName.
    fn topic(&self) -> &str;

    /// What the message counts for in [`RetainedStore::bytes`]: its topic, payload and properties.
    fn bytes(&self) -> usize;
}

/// What [`RetainedStore::put`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put<M> {
    /// The topic had no message.
    Stored,
    /// The topic had this one, which was older.
    Replaced(M),
    /// The topic has, or had until it was cleared, a newer one: this one was dropped.
    Older,
}

/// What [`RetainedStore::clear`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clear<M> {
    /// The topic had no message; an older one that comes late will be refused.
    Nothing,
    /// The topic had this one.
    Cleared(M),
    /// The topic has, or had, something newer: nothing was done.
    Older,
}

/// Where a job in slices goes on. It survives all changes of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Box<str>);

/// Retained messages by topic.
#[derive(Debug)]
pub struct RetainedStore<M> {
    _stub: Vec<M>,
}

impl<M: HasTopic> RetainedStore<M> {
    /// An empty store.
    #[must_use]
    pub fn new(_key: super::HashKey) -> Self {
        todo!()
    }

    /// Stores a message unless the topic has, or had until it was cleared, one with a larger stamp.
    pub fn put(&mut self, _stamp: Stamp, _message: M) -> Put<M> {
        todo!()
    }

    /// Clears a topic unless what it has is newer, and refuses older messages that come later.
    pub fn clear(&mut self, _topic: &str, _stamp: Stamp) -> Clear<M> {
        todo!()
    }

    /// The message of a topic.
    #[must_use]
    pub fn exact(&self, _topic: &str) -> Option<(Stamp, &M)> {
        todo!()
    }

    /// Visits messages whose topics match `filter`, from `cursor` on (`None`: from the first), in order of topic.
    ///
    /// Looks at no more than `max_steps` topics and finds no more than `max_found`. Returns where to go on, `None` at the end.
    pub fn scan(
        &self,
        _filter: &str,
        _cursor: Option<Cursor>,
        _max_steps: usize,
        _max_found: usize,
        _visit: &mut dyn FnMut(Stamp, &M),
    ) -> Option<Cursor> {
        todo!()
    }

    /// Takes out messages for which `is_over` holds, looking at no more than `max_steps`, and hands them to `removed`.
    /// Returns where to go on, `None` at the end.
    pub fn remove_if(
        &mut self,
        _cursor: Option<Cursor>,
        _max_steps: usize,
        _is_over: &mut dyn FnMut(&M) -> bool,
        _removed: &mut dyn FnMut(M),
    ) -> Option<Cursor> {
        todo!()
    }

    /// How many messages are stored.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of the messages' [`HasTopic::bytes`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        todo!()
    }
}
