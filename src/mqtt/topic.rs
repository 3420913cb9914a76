//! Topic names and topic filters.
//!
//! What always holds: a [`TopicName`] or [`TopicFilter`] that exists is valid: not empty, at most 65,535 bytes, without
//! U+0000, wildcards only where they may stand. Texts are compared byte by byte; nothing is normalised.
//! // [v3 MQTT-4.7.3-4] [v5 MQTT-4.7.3-4]

use std::fmt;

use memchr::{memchr, memchr2};

use super::error::{InvalidTopicFilter, InvalidTopicName};
use super::read::contains_any_of;

/// The longest topic name or filter in bytes. // [v3 MQTT-4.7.3-3] [v5 MQTT-4.7.3-3]
pub const TOPIC_BYTES_MAX: usize = 65_535;

/// A valid topic name: what a message is published to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Makes a topic name of `text`.
    ///
    /// # Errors
    /// The first rule that `text` breaks.
    pub fn parse(text: &'a str) -> Result<TopicName<'a>, InvalidTopicName> {
        if text.is_empty() {
            return Err(InvalidTopicName::Empty); // [v3 MQTT-4.7.3-1] [v5 MQTT-4.7.3-1]
        }
        if text.len() > TOPIC_BYTES_MAX {
            return Err(InvalidTopicName::TooLong); // [v3 MQTT-4.7.3-3] [v5 MQTT-4.7.3-3]
        }
        TopicName::parse_bounded(text)
    }

    /// Like [`TopicName::parse`] for a text that is known to be neither empty nor too long, such as one off the wire.
    #[inline]
    pub(crate) fn parse_bounded(text: &'a str) -> Result<TopicName<'a>, InvalidTopicName> {
        debug_assert!(!text.is_empty() && text.len() <= TOPIC_BYTES_MAX, "the caller has looked at the length");
        if contains_any_of(text.as_bytes(), [0, b'+', b'#']) {
            return Err(if memchr(0, text.as_bytes()).is_some() {
                InvalidTopicName::ContainsNull // [v3 MQTT-4.7.3-2] [v5 MQTT-4.7.3-2]
            } else {
                InvalidTopicName::ContainsWildcard // [v3 MQTT-4.7.1-1] [v5 MQTT-4.7.0-1]
            });
        }
        Ok(TopicName(text))
    }

    /// The text.
    #[inline]
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// The levels, separated by `/`; empty levels count.
    pub fn levels(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.split('/')
    }

    /// Whether the name begins with `$`: leading wildcards do not match it.
    #[inline]
    #[must_use]
    pub fn starts_with_dollar(&self) -> bool {
        self.0.as_bytes().first() == Some(&b'$')
    }
}

impl fmt::Debug for TopicName<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A valid topic filter: what a subscription asks for. `$share/GROUP/FILTER` is one too, in every version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a str);

/// The two parts of the topic filter of a shared subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SharedFilter<'a> {
    /// The name of the share group.
    pub group: &'a str,
    /// What the group subscribes to.
    pub filter: TopicFilter<'a>,
}

impl<'a> TopicFilter<'a> {
    /// Makes a topic filter of `text`.
    ///
    /// # Errors
    /// The first rule that `text` breaks.
    pub fn parse(text: &'a str) -> Result<TopicFilter<'a>, InvalidTopicFilter> {
        if text.is_empty() {
            return Err(InvalidTopicFilter::Empty); // [v3 MQTT-4.7.3-1] [v5 MQTT-4.7.3-1]
        }
        if text.len() > TOPIC_BYTES_MAX {
            return Err(InvalidTopicFilter::TooLong); // [v3 MQTT-4.7.3-3] [v5 MQTT-4.7.3-3]
        }
        if memchr(0, text.as_bytes()).is_some() {
            return Err(InvalidTopicFilter::ContainsNull); // [v3 MQTT-4.7.3-2] [v5 MQTT-4.7.3-2]
        }
        match text.strip_prefix(SHARE) {
            Some("") => return Err(InvalidTopicFilter::ShareGroupInvalid),
            Some(rest) if rest.starts_with('/') => check_shared(rest.get(1..).unwrap_or_default())?,
            Some(_) | None => check_wildcards(text)?,
        }
        Ok(TopicFilter(text))
    }

    /// The text, `$share/GROUP/` included.
    #[inline]
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// Group and filter when this is the filter of a shared subscription.
    #[must_use]
    pub fn shared(&self) -> Option<SharedFilter<'a>> {
        let (group, filter) = self.0.strip_prefix(SHARE)?.strip_prefix('/')?.split_once('/')?;
        Some(SharedFilter { group, filter: TopicFilter(filter) })
    }

    /// Whether `+` or `#` stands in it.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        memchr2(b'+', b'#', self.0.as_bytes()).is_some()
    }

    /// The levels, separated by `/`; empty levels count, and so do `$share` and the group.
    pub fn levels(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.split('/')
    }

    /// Whether a message published to `name` is for this filter; of a shared subscription the inner filter decides.
    ///
    /// This is the reference that faster matchers are tested against.
    #[must_use]
    pub fn matches(&self, name: &TopicName<'_>) -> bool {
        let filter = self.shared().map_or(self.0, |shared| shared.filter.0);
        if name.starts_with_dollar() && filter.starts_with(['+', '#']) {
            return false; // [v3 MQTT-4.7.2-1] [v5 MQTT-4.7.2-1]
        }
        let mut levels = name.levels();
        for wanted in filter.split('/') {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                (_, None) => return false,
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                (_, Some(_)) => return false,
            }
        }
        levels.next().is_none()
    }
}

impl fmt::Debug for TopicFilter<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for TopicFilter<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The first level of a shared subscription's filter. `$share` alone is refused too: no client can mean it.
const SHARE: &str = "$share";

/// Checks `GROUP/FILTER`. // [v5 MQTT-4.8.2-1] [v5 MQTT-4.8.2-2]
fn check_shared(text: &str) -> Result<(), InvalidTopicFilter> {
    let (group, filter) = match text.split_once('/') {
        Some((group, filter)) => (group, Some(filter)),
        None => (text, None),
    };
    if group.is_empty() || memchr2(b'+', b'#', group.as_bytes()).is_some() {
        return Err(InvalidTopicFilter::ShareGroupInvalid);
    }
    match filter {
        Some(filter) if !filter.is_empty() => check_wildcards(filter),
        Some(_) | None => Err(InvalidTopicFilter::SharedFilterMissing),
    }
}

fn check_wildcards(text: &str) -> Result<(), InvalidTopicFilter> {
    if memchr2(b'+', b'#', text.as_bytes()).is_none() {
        return Ok(());
    }
    let mut levels = text.split('/');
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.next().is_some()) {
            return Err(InvalidTopicFilter::MultiLevelWildcardMisplaced); // [v3 MQTT-4.7.1-2] [v5 MQTT-4.7.1-1]
        }
        if level.contains('+') && level != "+" {
            return Err(InvalidTopicFilter::SingleLevelWildcardMisplaced); // [v3 MQTT-4.7.1-3] [v5 MQTT-4.7.1-2]
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn name(text: &str) -> TopicName<'_> {
        TopicName::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn mqtt_4_7_3_names_have_1_to_65535_bytes_without_null_and_wildcards() {
        let (longest, longer) = ("x".repeat(65_535), "x".repeat(65_536));
        for valid in ["a", "/", "//", "a b", "$SYS/x", "\u{FEFF}", "$share/g/x", longest.as_str()] {
            assert_eq!(TopicName::parse(valid).map(|name| name.as_str()), Ok(valid));
        }
        assert_eq!(TopicName::parse(""), Err(InvalidTopicName::Empty));
        assert_eq!(TopicName::parse(&longer), Err(InvalidTopicName::TooLong));
        assert_eq!(TopicName::parse("a\0+"), Err(InvalidTopicName::ContainsNull));
        for wildcard in ["+", "#", "a/+/b", "abcdefgh#", "a+"] {
            assert_eq!(TopicName::parse(wildcard), Err(InvalidTopicName::ContainsWildcard));
        }
    }

    #[test]
    fn mqtt_4_7_1_wildcards_fill_whole_levels_and_the_many_level_one_is_last() {
        let (longest, longer) = ("x".repeat(65_535), "x".repeat(65_536));
        let valid = ["#", "+", "/", "a/#", "+/+", "+/a/#", "/+", "a//b", "sport/+/player1", "$SYS/#", longest.as_str()];
        for text in valid {
            assert_eq!(filter(text).as_str(), text);
            assert_eq!(filter(text).has_wildcard(), text.contains(['+', '#']));
            assert_eq!(filter(text).shared(), None);
        }
        let invalid = [
            ("", InvalidTopicFilter::Empty),
            (longer.as_str(), InvalidTopicFilter::TooLong),
            ("a\0", InvalidTopicFilter::ContainsNull),
            ("a#", InvalidTopicFilter::MultiLevelWildcardMisplaced),
            ("#/a", InvalidTopicFilter::MultiLevelWildcardMisplaced),
            ("a/#/b", InvalidTopicFilter::MultiLevelWildcardMisplaced),
            ("#/", InvalidTopicFilter::MultiLevelWildcardMisplaced),
            ("##", InvalidTopicFilter::MultiLevelWildcardMisplaced),
            ("+#", InvalidTopicFilter::MultiLevelWildcardMisplaced),
            ("a+", InvalidTopicFilter::SingleLevelWildcardMisplaced),
            ("+a", InvalidTopicFilter::SingleLevelWildcardMisplaced),
            ("++", InvalidTopicFilter::SingleLevelWildcardMisplaced),
            ("a/b+/c", InvalidTopicFilter::SingleLevelWildcardMisplaced),
        ];
        for (text, error) in invalid {
            assert_eq!(TopicFilter::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn mqtt_4_8_2_1_shares_have_a_group_without_wildcards_and_a_filter() {
        let shares = [("$share/g/a", "g", "a"), ("$share/g h/+/#", "g h", "+/#"), ("$share/g//", "g", "/")];
        for (text, group, inner) in shares {
            assert_eq!(filter(text).shared(), Some(SharedFilter { group, filter: filter(inner) }));
        }
        for ordinary in ["$shared/g/a", "$SHARE/g/a", "a/$share/g/a", "$shar/g/a"] {
            assert_eq!(filter(ordinary).shared(), None);
        }
        let invalid = [
            ("$share", InvalidTopicFilter::ShareGroupInvalid),
            ("$share/", InvalidTopicFilter::ShareGroupInvalid),
            ("$share//a", InvalidTopicFilter::ShareGroupInvalid),
            ("$share/+/a", InvalidTopicFilter::ShareGroupInvalid),
            ("$share/g#/a", InvalidTopicFilter::ShareGroupInvalid),
            ("$share/#", InvalidTopicFilter::ShareGroupInvalid),
            ("$share/g", InvalidTopicFilter::SharedFilterMissing),
            ("$share/g/", InvalidTopicFilter::SharedFilterMissing),
            ("$share/g/a+", InvalidTopicFilter::SingleLevelWildcardMisplaced),
        ];
        for (text, error) in invalid {
            assert_eq!(TopicFilter::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn filters_match_as_the_specification_shows() {
        let matching = [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("#", "a/b"),
            ("#", "/"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("$SYS/#", "$SYS/monitor"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("a/+/c", "a//c"),
            ("a/$x/+", "a/$x/y"),
            ("+/b", "a/b"),
            ("$share/g/a/#", "a/b"),
            ("$share/g/$SYS/#", "$SYS/x"),
        ];
        for (wanted, text) in matching {
            assert!(filter(wanted).matches(&name(text)), "{wanted} matches {text}");
        }
        let different = [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/monitor"),
            ("+/monitor", "$SYS/monitor"),
            ("$share/g/#", "$SYS/monitor"),
            ("ACCOUNTS", "Accounts"),
            ("/a", "a"),
            ("a/", "a"),
            ("a", "a/"),
            ("a/b", "a"),
            ("\u{E9}", "e\u{301}"),
            ("$share/g/a", "$share/g/a"),
        ];
        for (wanted, text) in different {
            assert!(!filter(wanted).matches(&name(text)), "{wanted} does not match {text}");
        }
    }
}
