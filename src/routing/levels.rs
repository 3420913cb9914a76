//! Levels of topics and filters, and the plain rule of matching, against which everything faster is tested.

/// Whether `filter` matches `topic`: the rule as the specification has it, level by level.
#[must_use]
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    if is_hidden(topic) && filter.starts_with(['+', '#']) {
        return false; // [v3 MQTT-4.7.2-1] [v5 MQTT-4.7.2-1]
    }
    matches!(match_levels(filter.as_bytes(), topic.as_bytes(), 0), LevelMatch::All | LevelMatch::Multi)
}

/// Whether wildcards in a filter's first level pass the topic by.
#[inline]
pub(super) fn is_hidden(topic: &str) -> bool {
    topic.starts_with('$')
}

/// How some levels of a filter fare against a topic from some offset on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LevelMatch {
    /// They do not match.
    No,
    /// They match, and the topic goes on at this offset.
    Until(usize),
    /// They match, and the topic ends with them.
    All,
    /// They end with `#`, and match what is left of the topic, be it nothing.
    Multi,
}

/// Matches the levels in `label`, at least one, against those of `topic` that begin at `at`. An `at` beyond the topic's
/// end says that it has no levels left, and then only `#` matches.
#[inline]
pub(super) fn match_levels(label: &[u8], topic: &[u8], mut at: usize) -> LevelMatch {
    let mut label_at = 0;
    loop {
        let (level, label_next) = level_at(label, label_at);
        if level == b"#" {
            return LevelMatch::Multi;
        }
        if at > topic.len() {
            return LevelMatch::No;
        }
        let (topic_level, topic_next) = level_at(topic, at);
        if level != b"+" && level != topic_level {
            return LevelMatch::No; // [v3 MQTT-4.7.3-4] [v5 MQTT-4.7.3-4]
        }
        at = topic_next;
        label_at = label_next;
        if label_at > label.len() {
            return if at > topic.len() { LevelMatch::All } else { LevelMatch::Until(at) };
        }
    }
}

/// The level that begins at `at`, and where the next begins; that is beyond the text's end after the last one.
#[inline]
pub(super) fn level_at(text: &[u8], at: usize) -> (&[u8], usize) {
    let rest = text.get(at..).unwrap_or_default();
    // Levels are short: a plain search beats the start-up of a vectorised one.
    let len = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    (rest.get(..len).unwrap_or_default(), at + len + 1)
}

/// How many bytes of whole levels, without the separator after them, `one` and `other` begin with in common.
pub(super) fn common_levels(one: &[u8], other: &[u8]) -> Option<usize> {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let ends = |text: &[u8]| text.get(same).is_none_or(|byte| *byte == b'/');
    if ends(one) && ends(other) {
        return Some(same);
    }
    one.get(..same)?.iter().rposition(|byte| *byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_matching_is_the_specifications() {
        let table = [
            ("a/b", "a/b", true),
            ("a/b", "a/B", false),
            ("a/b", "/a/b", false),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("+", "a", true),
            ("+", "/a", false),
            ("+/+", "/a", true),
            ("/+", "/a", true),
            ("a/#", "a", true),
            ("a/#", "a/", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("a/+/#", "a", false),
            ("a/+/#", "a/b", true),
            ("#", "a/b", true),
            ("#", "/", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/+", "$SYS/x", true),
            ("a/$x/+", "a/$x/y", true),
            ("+/$x", "a/$x", true),
            ("+/b/+/d", "a/b/c/d", true),
            ("a//b", "a/b", false),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
        ];
        for (filter, topic, expected) in table {
            assert_eq!(filter_matches(filter, topic), expected, "{filter} and {topic}");
        }
    }

    #[test]
    fn common_levels_are_whole_levels() {
        let table = [
            ("a", "a", Some(1)),
            ("a", "b", None),
            ("a", "ab", None),
            ("a/b", "a", Some(1)),
            ("a/b", "a/c", Some(1)),
            ("a/bc", "a/bd", Some(1)),
            ("", "/x", Some(0)),
            ("", "", Some(0)),
            ("/x", "/y", Some(0)),
            ("a/", "a/", Some(2)),
            ("a/b/c", "a/b/c/d", Some(5)),
        ];
        for (one, other, expected) in table {
            assert_eq!(common_levels(one.as_bytes(), other.as_bytes()), expected, "{one} and {other}");
            assert_eq!(common_levels(other.as_bytes(), one.as_bytes()), expected, "{other} and {one}");
        }
    }
}
