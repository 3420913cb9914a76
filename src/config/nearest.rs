//! Which known word a misspelt one was probably meant to be.

/// The candidate that takes the fewest edits to reach from `word`, if that is at most a third of its length.
pub(super) fn nearest(word: &str, candidates: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (edits(&word, &candidate.replace('-', "_")), candidate))
        .filter(|(edits, candidate)| *edits <= candidate.len().max(3) / 3)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The least number of characters to insert, delete, replace or swap with their neighbour that turns `from` into `to`.
fn edits(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().take(CHARACTERS_MAX).collect();
    let to: Vec<char> = to.chars().take(CHARACTERS_MAX).collect();
    // Three rows of the table of distances between prefixes: two back, for swaps; one back; and the one being filled.
    let mut before_last: Vec<usize> = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let replaced = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

/// More of a word is not looked at: no key is longer, and the table is quadratic.
const CHARACTERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in [
            ("", "", 0),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("abc", "abd", 1),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(from, to), count, "{from} {to}");
            assert_eq!(edits(to, from), count, "{to} {from}");
        }
    }

    #[test]
    fn only_a_near_word_is_offered() {
        let words = || ["keep_alive_max", "inflight_max", "level"];
        assert_eq!(nearest("keepalive_max", words()), Some("keep_alive_max"));
        assert_eq!(nearest("Inflight-Max", words()), Some("inflight_max"));
        assert_eq!(nearest("lvel", words()), Some("level"));
        assert_eq!(nearest("colour", words()), None);
        assert_eq!(nearest(&"x".repeat(100_000), words()), None);
    }
}
