//! Everything that matches topics against filters agrees with the rule, written here once more.

use std::collections::BTreeMap;

use ringmq::{
    mqtt::{TopicFilter, TopicName},
    routing::{
        FilterTable, HashKey, InterestCounts, InterestTable, Matches, Prefixes, Subscriber, levels::filter_matches,
    },
};

/// `data` is lines: `+nFILTER` subscribes client `n`, `-nFILTER` unsubscribes it, any other line is a topic.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut world = World::new();
    for line in text.split('\n') {
        match line.as_bytes() {
            [b'+', client @ b'0'..=b'9', ..] => world.subscribe(*client, &line[2..]),
            [b'-', client @ b'0'..=b'9', ..] => world.unsubscribe(*client, &line[2..]),
            _ => world.publish(line),
        }
    }
    world.end();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Subscription {
    client: u8,
    serial: u32,
}

impl Subscriber for Subscription {
    type Key = u8;

    fn key(&self) -> u8 {
        self.client
    }
}

struct World {
    key: HashKey,
    table: FilterTable<Subscription>,
    interest: InterestTable,
    counts: InterestCounts,
    model: BTreeMap<(String, u8), Subscription>,
    serial: u32,
}

impl World {
    fn new() -> Self {
        let key = HashKey::from_seed(42);
        let interest = InterestTable::new(64, 1);
        let counts = InterestCounts::new(&interest, 0);
        Self { key, table: FilterTable::new(key), interest, counts, model: BTreeMap::new(), serial: 0 }
    }

    fn subscribe(&mut self, client: u8, text: &str) {
        let Ok(parsed) = TopicFilter::parse(text) else { return };
        let filter = parsed.shared().map_or(parsed, |shared| shared.filter).as_str();
        self.serial += 1;
        let subscription = Subscription { client, serial: self.serial };
        let is_new = !self.has(filter);
        let inserted = self.table.insert(filter, subscription);
        assert_eq!(inserted.filter_is_new, is_new, "{filter:?}");
        assert_eq!(inserted.replaced, self.model.insert((filter.to_owned(), client), subscription), "{filter:?}");
        let mut written = String::new();
        assert!(self.table.write_filter(inserted.filter, &mut written));
        assert_eq!(written, filter);
        if is_new {
            self.counts.add(&self.interest, self.key.filter(filter));
        }
        assert_eq!(self.table.find(filter, &client), Some(&subscription));
        self.check_counts();
    }

    fn unsubscribe(&mut self, client: u8, filter: &str) {
        let removed = self.table.remove(filter, &client);
        let expected = self.model.remove(&(filter.to_owned(), client));
        assert_eq!(removed.map(|removed| removed.value), expected, "{filter:?}");
        if let Some(removed) = removed {
            assert_eq!(removed.filter_is_gone, !self.has(filter), "{filter:?}");
            if removed.filter_is_gone {
                self.counts.remove(&self.interest, self.key.filter(filter));
            }
        }
        self.check_counts();
    }

    fn publish(&self, text: &str) {
        let Ok(topic) = TopicName::parse(text) else { return };
        let mut expected = Vec::new();
        for ((filter, _), subscription) in &self.model {
            let wanted = matches(filter, text);
            assert_eq!(filter_matches(filter, text), wanted, "{filter:?} and {text:?}");
            // A filter that was shared may itself look like a share once its own share is taken away.
            if filter.split('/').next() != Some("$share") {
                let parsed = TopicFilter::parse(filter).expect("it was parsed before");
                assert_eq!(parsed.matches(&topic), wanted, "{filter:?} and {text:?}");
            }
            expected.extend(wanted.then_some(*subscription));
        }
        let mut prefixes = Prefixes::new();
        let hash = self.key.topic_with_prefixes(text, self.interest.depth_mask(), &mut prefixes);
        assert_eq!(hash, self.key.topic(text));
        let mut found = Matches::new();
        self.table.matches(text, hash.whole, &mut found);
        let mut found: Vec<Subscription> = found.iter().flat_map(|slice| slice.iter().copied()).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{text:?}");
        let is_interesting = self.interest.probe(hash, &prefixes) != 0;
        assert!(is_interesting || expected.is_empty(), "nobody is said to want {text:?}");
    }

    /// Whoever is left unsubscribes, and nothing stays behind.
    fn end(mut self) {
        for (filter, client) in self.model.keys().cloned().collect::<Vec<_>>() {
            self.unsubscribe(client, &filter);
        }
        assert!(self.table.is_empty());
    }

    fn has(&self, filter: &str) -> bool {
        let same = self.model.range((filter.to_owned(), 0)..).next();
        same.is_some_and(|((other, _), _)| other == filter)
    }

    fn check_counts(&self) {
        assert_eq!(self.table.subscribers(), self.model.len());
        let mut filters: Vec<&str> = self.model.keys().map(|(filter, _)| &**filter).collect();
        filters.dedup();
        assert_eq!(self.table.filters(), filters.len());
    }
}

/// Whether `filter` matches `topic`, as one would write it after reading section 4.7 and nothing else.
fn matches(filter: &str, topic: &str) -> bool {
    fn levels_match(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            ([wanted, filter @ ..], [level, topic @ ..]) if wanted == level || *wanted == "+" => {
                levels_match(filter, topic)
            }
            _ => false,
        }
    }
    let begins_with_wildcard = filter.starts_with('#') || filter.starts_with('+');
    if topic.starts_with('$') && begins_with_wildcard {
        return false;
    }
    levels_match(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
}
