//! Keeps the numbered statements, their citations in `src/` and their tests in step.
//!
//! `tests/conformance/statements.txt` lists the statements that bind a server. Each one is cited as `[v3 MQTT-…]` or
//! `[v5 MQTT-…]` where the code decides it, and a test's name contains it as `v3_mqtt_3_1_2_24`; what isn't met yet stands
//! in `tests/conformance/exceptions.toml` with its reason, and only the statements of [`EXCEPTABLE`] may.

mod house;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
};

use house::source::{self, Source};
use serde::Deserialize;

/// A statement by its version (`v3` or `v5`) and its id without the `MQTT-` in front: `3.1.2-24`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Statement {
    version: String,
    id: String,
}

impl Statement {
    fn new(version: &str, id: &str) -> Statement {
        Statement { version: version.to_owned(), id: id.to_owned() }
    }

    /// As it stands in a test's name. One statement of 3.1.1 is printed `MQTT-3-8.3-4`; it comes out like the others.
    fn in_test_name(&self) -> String {
        format!("{}_mqtt_{}", self.version, self.id.replace(['.', '-'], "_"))
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{} MQTT-{}]", self.version, self.id)
    }
}

#[derive(Deserialize)]
struct Exceptions {
    exception: Vec<Exception>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    version: String,
    id: String,
    reason: String,
}

/// What may wait: WebSocket, and authentication methods. `(version, id)`.
const EXCEPTABLE: [(&str, &str); 10] = [
    ("v3", "6.0.0-1"),
    ("v3", "6.0.0-2"),
    ("v3", "6.0.0-4"),
    ("v5", "6.0.0-1"),
    ("v5", "6.0.0-2"),
    ("v5", "6.0.0-4"),
    ("v5", "4.12.0-2"),
    ("v5", "4.12.0-4"),
    ("v5", "4.12.0-5"),
    ("v5", "4.12.1-2"),
];

#[test]
fn every_statement_is_cited_where_the_code_decides_it() {
    let cited: BTreeSet<Statement> = citations().0.into_keys().collect();
    let missing: Vec<Statement> = required().difference(&cited).cloned().collect();
    assert!(missing.is_empty(), "{} statements are not cited in src/:\n{}", missing.len(), lines(&missing));
}

#[test]
fn every_statement_has_a_test_named_after_it() {
    let tested: BTreeSet<Statement> = tests().0.into_keys().collect();
    let missing: Vec<Statement> = required().difference(&tested).cloned().collect();
    assert!(missing.is_empty(), "{} statements have no test:\n{}", missing.len(), lines(&missing));
}

#[test]
fn every_citation_names_a_version_and_a_statement_that_exists() {
    let (citations, malformed) = citations();
    let listed = listed();
    let mut wrong = malformed;
    for (statement, places) in citations {
        if !listed.contains(&statement) {
            wrong.push(format!("{statement} is no listed statement: {}", places.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "{} wrong citations:\n{}", wrong.len(), lines(&wrong));
}

#[test]
fn every_test_name_names_a_statement_that_exists() {
    let (_, unknown) = tests();
    assert!(unknown.is_empty(), "{} test names name no listed statement:\n{}", unknown.len(), lines(&unknown));
}

#[test]
fn exceptions_are_allowed_reasoned_and_still_needed() {
    let (cited, tested) = (citations().0, tests().0);
    let allowed: BTreeSet<Statement> = EXCEPTABLE.iter().map(|(version, id)| Statement::new(version, id)).collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (statement, reason) in exceptions() {
        if !allowed.contains(&statement) {
            wrong.push(format!("{statement} may not be excepted"));
        }
        if !listed().contains(&statement) {
            wrong.push(format!("{statement} is no listed statement"));
        }
        if reason.trim().len() < 20 {
            wrong.push(format!("{statement} has no reason that says anything: {reason:?}"));
        }
        if cited.contains_key(&statement) && tested.contains_key(&statement) {
            wrong.push(format!("{statement} is cited and tested: it is no exception any more"));
        }
        if !seen.insert(statement.clone()) {
            wrong.push(format!("{statement} stands there twice"));
        }
    }
    assert!(wrong.is_empty(), "exceptions.toml:\n{}", lines(&wrong));
}

#[test]
fn the_list_is_whole() {
    // The counts are those of the two specifications' statements that bind a server; a lost line must not go unnoticed.
    let listed = listed();
    let count = |version: &str| listed.iter().filter(|statement| statement.version == version).count();
    assert_eq!((count("v3"), count("v5")), (134, 227));
}

#[test]
fn citations_are_found_and_mentions_without_a_version_are_refused() {
    let text =
        "let a = 1; // [v3 MQTT-3-8.3-4] and [v5 MQTT-4.2-1]\nlet b = \"[v5 MQTT-1.5.4-1]\"; // [MQTT-3.1.0-1]\n";
    let mut found = BTreeMap::new();
    let malformed = citations_in(&Source::new("src/x.rs", text), &mut found);
    let found: Vec<Statement> = found.into_keys().collect();
    assert_eq!(found, [Statement::new("v3", "3-8.3-4"), Statement::new("v5", "4.2-1")]);
    assert_eq!(malformed, ["src/x.rs:2: write [v3 MQTT-…] or [v5 MQTT-…]: // [MQTT-3.1.0-1]"]);
}

#[test]
fn a_test_name_is_not_mistaken_for_that_of_a_shorter_id() {
    let listed = [Statement::new("v3", "3.1.2-2"), Statement::new("v3", "3.1.2-24"), Statement::new("v3", "3.1.0-1")];
    let names = |name: &str| statements_in_name(name, &listed).ok();
    assert_eq!(names("v3_mqtt_3_1_2_24_silence_closes"), Some(vec![listed[1].clone()]));
    assert_eq!(names("v3_mqtt_3_1_0_1_v3_mqtt_3_1_2_2"), Some(vec![listed[2].clone(), listed[0].clone()]));
    assert_eq!(names("v3_mqtt_3_1_2_25_nothing"), None);
    assert_eq!(names("overlapping_filters_give_one_copy"), Some(vec![]));
}

/// The statements that need a citation and a test.
fn required() -> BTreeSet<Statement> {
    let excepted: BTreeSet<Statement> = exceptions().into_iter().map(|(statement, _)| statement).collect();
    listed().into_iter().filter(|statement| !excepted.contains(statement)).collect()
}

fn listed() -> BTreeSet<Statement> {
    let mut statements = BTreeSet::new();
    for line in read("tests/conformance/statements.txt").lines().filter(|line| !line.starts_with('#')) {
        let (version, id) = line.split_once(" MQTT-").unwrap_or_else(|| panic!("statements.txt: {line:?}"));
        assert!(matches!(version, "v3" | "v5"), "statements.txt: {line:?}");
        assert!(statements.insert(Statement::new(version, id)), "statements.txt has {line:?} twice");
    }
    statements
}

fn exceptions() -> Vec<(Statement, String)> {
    let parsed: Exceptions =
        toml::from_str(&read("tests/conformance/exceptions.toml")).unwrap_or_else(|error| panic!("{error}"));
    let statement = |exception: &Exception| {
        let id = exception.id.strip_prefix("MQTT-").unwrap_or_else(|| panic!("exceptions.toml: {:?}", exception.id));
        Statement::new(&exception.version, id)
    };
    parsed.exception.iter().map(|exception| (statement(exception), exception.reason.clone())).collect()
}

/// Where each statement is cited in `src/`, and the citations that are not in the one form.
fn citations() -> (BTreeMap<Statement, Vec<String>>, Vec<String>) {
    let mut found = BTreeMap::new();
    let mut malformed = Vec::new();
    for file in source::rust_files("src") {
        malformed.extend(citations_in(&file, &mut found));
    }
    (found, malformed)
}

fn citations_in(file: &Source, found: &mut BTreeMap<Statement, Vec<String>>) -> Vec<String> {
    let mut malformed = Vec::new();
    for (index, line) in file.comments.lines().enumerate() {
        let place = format!("{}:{}", file.path, index + 1);
        for (at, _) in line.match_indices("MQTT-") {
            let id_length =
                line[at + 5..].find(|c: char| !matches!(c, '0'..='9' | '.' | '-')).unwrap_or(line.len() - at - 5);
            let (before, id, after) = (&line[..at], &line[at + 5..at + 5 + id_length], &line[at + 5 + id_length..]);
            let version = ["v3", "v5"].into_iter().find(|version| before.ends_with(&format!("[{version} ")));
            match version {
                Some(version) if after.starts_with(']') && !id.is_empty() => {
                    found.entry(Statement::new(version, id)).or_default().push(place.clone());
                }
                // "MQTT-style" and the like are words, not citations.
                _ if id.is_empty() => {}
                _ => malformed.push(format!("{place}: write [v3 MQTT-…] or [v5 MQTT-…]: {}", line.trim())),
            }
        }
    }
    malformed
}

/// The tests of each statement, and the names that name a statement that doesn't exist.
fn tests() -> (BTreeMap<Statement, Vec<String>>, Vec<String>) {
    let listed: Vec<Statement> = listed().into_iter().collect();
    let mut found: BTreeMap<Statement, Vec<String>> = BTreeMap::new();
    let mut unknown = Vec::new();
    let this_file = "tests/statements.rs";
    let files = ["src", "tests"].into_iter().flat_map(source::rust_files).filter(|file| file.path != this_file);
    for file in files {
        for (line, name) in source::identifiers(&file.code) {
            match statements_in_name(name, &listed) {
                Ok(statements) => {
                    for statement in statements {
                        found.entry(statement).or_default().push(name.to_owned());
                    }
                }
                Err(rest) => unknown.push(format!("{}:{line}: {rest}", file.path)),
            }
        }
    }
    (found, unknown)
}

/// The statements that `name` names, in order; the part that names none of `listed` as an error.
fn statements_in_name(name: &str, listed: &[Statement]) -> Result<Vec<Statement>, String> {
    let starts = name.match_indices("_mqtt_").map(|(at, _)| at).filter(|&at| {
        let version = name[..at].rsplit('_').next().unwrap_or_default();
        matches!(version, "v3" | "v5") && name[at + 6..].starts_with(|c: char| c.is_ascii_digit())
    });
    let mut statements = Vec::new();
    for at in starts {
        let rest = &name[at - 2..];
        // An id ends where no further number follows, so that 3.1.2-2 isn't found in 3.1.2-24.
        let named = listed.iter().find(|statement| {
            let tail = rest.strip_prefix(&statement.in_test_name());
            let next = tail.map(|tail| tail.strip_prefix('_').unwrap_or(tail));
            next.is_some_and(|next| !next.starts_with(|c: char| c.is_ascii_digit()))
        });
        statements.push(named.ok_or_else(|| rest.to_owned())?.clone());
    }
    Ok(statements)
}

fn read(path: &str) -> String {
    let path = source::root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("  {item}\n")).collect()
}
