//! Holds `src/` to the house rules that no lint knows: the floors, who may name the runtime, purity, sizes, leftovers.
//!
//! The floors come from the table at the top of `src/lib.rs`, so that what a reader sees there is what is checked.

mod house;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use house::source::{self, Source};

/// A row of the table in `src/lib.rs`.
#[derive(Debug)]
struct Room {
    floor: u32,
    /// Its place in the table, from the top.
    row: usize,
    pure: bool,
}

/// On these floors a room may use the rooms above it in the table: transport carries mqtt's frames, runtime moves
/// transport's buffers; a session keeps what routing gave it for its subscriptions. Elsewhere neighbours don't know each
/// other.
const FLOORS_WITH_AN_ORDER: [u32; 2] = [1, 3];

const FILE_LINES_MAX: usize = 800;

/// Files that may be longer, each with the reason: tables of packets or clauses.
const LONG_FILES: [(&str, &str); 0] = [];

/// Files outside the runtime that may be unsafe, each with the reason.
const UNSAFE_FILES: [(&str, &str); 2] = [
    ("benches/routing.rs", "an allocator that counts; implementing one is unsafe"),
    ("tests/house/counting.rs", "an allocator that counts; implementing one is unsafe"),
];

/// What a pure room must not name, as (word, what it would bring in).
const IMPURE_WORDS: [(&str, &str); 11] = [
    ("TcpStream", "a socket"),
    ("TcpListener", "a socket"),
    ("UdpSocket", "a socket"),
    ("UnixStream", "a socket"),
    ("UnixListener", "a socket"),
    ("Instant", "a clock"),
    ("SystemTime", "a clock"),
    ("JoinHandle", "a thread"),
    ("getrandom", "randomness"),
    ("async", "async"),
    ("await", "async"),
];

/// The same for what is more than a word. A hasher whose seeds come in as an argument is no randomness, a new one is.
const IMPURE_CALLS: [(&str, &str); 3] =
    [("thread::", "a thread"), ("RandomState::new", "randomness"), ("RandomState::default", "randomness")];

/// Impure words that a file may have outside its tests all the same: (file, word, reason).
const IMPURE_WORDS_ALLOWED: [(&str, &str, &str); 0] = [];

#[test]
fn a_room_imports_from_lower_floors_only() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    for file in source::rust_files("src") {
        let Some(name) = room_of(&file.path) else { continue };
        let own = rooms.get(name).unwrap_or_else(|| panic!("src/lib.rs has no row for `{name}` ({})", file.path));
        for (line, used) in imports(&file) {
            // What is no room is an item of the crate's root, of which there should be none.
            let Some(other) = rooms.get(used.as_str()) else {
                wrong.push(format!("{}:{line}: crate::{used} is no room", file.path));
                continue;
            };
            let lower =
                other.floor < own.floor || (other.floor == own.floor && FLOORS_WITH_AN_ORDER.contains(&own.floor));
            if used != name && !(lower && other.row < own.row) {
                wrong.push(format!("{}:{line}: {name} (F{}) uses {used} (F{})", file.path, own.floor, other.floor));
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the floors:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_of_floors_is_in_order_and_names_what_is_there() {
    let rooms = rooms();
    let mut floors: Vec<(usize, u32)> = rooms.values().map(|room| (room.row, room.floor)).collect();
    floors.sort_unstable();
    assert!(floors.is_sorted_by_key(|&(_, floor)| floor), "the rows of src/lib.rs are not sorted by floor");
    let there: BTreeSet<String> =
        source::rust_files("src").iter().filter_map(|file| room_of(&file.path).map(str::to_owned)).collect();
    let named: BTreeSet<String> = rooms.into_keys().collect();
    assert_eq!(there, named, "the rooms in src/ and the rows of the table differ");
}

#[test]
fn only_the_runtime_names_glommio_and_io_uring() {
    let mut wrong = Vec::new();
    for file in source::rust_files("src").iter().filter(|file| room_of(&file.path) != Some("runtime")) {
        for (line, word) in source::identifiers(&file.code) {
            if matches!(word, "glommio" | "io_uring") {
                wrong.push(format!("{}:{line}: {word}", file.path));
            }
        }
    }
    assert!(wrong.is_empty(), "outside src/runtime:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_runtime_is_unsafe() {
    let mut wrong = Vec::new();
    for directory in ["src", "tests", "benches"] {
        for file in source::rust_files(directory) {
            let lines = source::identifiers(&file.code).filter(|&(_, word)| word == "unsafe").map(|(line, _)| line);
            let exempt = UNSAFE_FILES.iter().any(|&(path, _)| path == file.path);
            if room_of(&file.path) != Some("runtime") && !exempt {
                wrong.extend(lines.map(|line| format!("{}:{line}", file.path)));
            }
        }
    }
    assert!(wrong.is_empty(), "unsafe outside src/runtime:\n{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_have_no_socket_clock_thread_randomness_or_async() {
    let rooms = rooms();
    let files = source::rust_files("src");
    let tests = test_files(&files);
    let pure = |file: &&Source| {
        let room = room_of(&file.path).and_then(|name| rooms.get(name));
        room.is_some_and(|room| room.pure) && !tests.contains(&file.path)
    };
    let mut wrong = Vec::new();
    for file in files.iter().filter(pure) {
        let code = without_tests(&file.code);
        for (line, word) in source::identifiers(&code) {
            let allowed = IMPURE_WORDS_ALLOWED.iter().any(|&(path, allowed, _)| path == file.path && allowed == word);
            let impure = IMPURE_WORDS.iter().find(|&&(impure, _)| impure == word);
            if let Some((_, what)) = impure.filter(|_| !allowed) {
                wrong.push(format!("{}:{line}: {word} is {what}", file.path));
            }
        }
        for (index, line) in code.lines().enumerate() {
            for (_, what) in IMPURE_CALLS.iter().filter(|&&(call, _)| line.contains(call)) {
                wrong.push(format!("{}:{}: {} is {what}", file.path, index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "in rooms that the table calls pure:\n{}", wrong.join("\n"));
}

#[test]
fn what_parses_input_denies_panics() {
    let module = source::rust_files("src/mqtt").into_iter().find(|file| file.path == "src/mqtt/mod.rs");
    let code = module.expect("src/mqtt/mod.rs").code;
    for lint in ["unwrap_used", "indexing_slicing", "panic"] {
        let denied = source::identifiers(&code).any(|(_, word)| word == lint);
        assert!(denied, "src/mqtt/mod.rs does not deny clippy::{lint}");
    }
}

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    for file in ["src", "tests", "benches"].into_iter().flat_map(source::rust_files) {
        let exempt = LONG_FILES.iter().any(|&(path, _)| path == file.path);
        if file.lines() > FILE_LINES_MAX && !exempt {
            wrong.push(format!("{} has {} lines", file.path, file.lines()));
        }
    }
    assert!(wrong.is_empty(), "files over {FILE_LINES_MAX} lines:\n{}", wrong.join("\n"));
}

#[test]
fn files_open_with_what_they_are() {
    let mut wrong = Vec::new();
    for file in ["src", "tests", "benches"].into_iter().flat_map(source::rust_files) {
        if !file.comments.starts_with("//!") {
            wrong.push(file.path);
        }
    }
    assert!(wrong.is_empty(), "files without a module header:\n{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    let mut wrong = Vec::new();
    for file in ["src", "tests", "benches"].into_iter().flat_map(source::rust_files) {
        let mut check = |text: &str, leftovers: &[&str]| {
            for (index, line) in text.lines().enumerate() {
                if leftovers.iter().any(|leftover| line.contains(leftover)) {
                    wrong.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
                }
            }
        };
        check(&file.comments, &["TODO", "FIXME", "XXX"]);
        check(&file.code, &["todo!", "unimplemented!", "dbg!"]);
    }
    assert!(wrong.is_empty(), "left for later:\n{}", wrong.join("\n"));
}

#[test]
fn the_scanner_tells_code_from_comments_and_strings() {
    let text =
        "let a = \"crate::x // \\\" no\"; // crate::y\nlet b = r#\"crate::\"z\"#; let c = '\"'; crate::w::f('\\'');";
    let file = Source::new("src/shard/a.rs", text);
    assert_eq!(imports(&file), [(2, "w".to_owned())]);
    assert!(file.comments.contains("// crate::y") && !file.comments.contains("no"));
    let grouped = Source::new("src/shard/a.rs", "use crate::{mqtt::{self, Packet}, time::Moment,\n routing};");
    let names: Vec<String> = imports(&grouped).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["mqtt", "time", "routing"]);
    let rest = without_tests("a {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nc");
    assert_eq!(rest.split_whitespace().collect::<Vec<_>>(), ["a", "{}", "c"]);
    assert_eq!(rest.lines().count(), 6);
}

/// The rows of the table of floors, by the name of the room.
fn rooms() -> BTreeMap<String, Room> {
    let text = fs::read_to_string(source::root().join("src/lib.rs")).expect("src/lib.rs");
    let mut rooms = BTreeMap::new();
    for (row, line) in text.lines().filter(|line| line.starts_with("//! | F")).enumerate() {
        let cells: Vec<&str> = line.trim_start_matches("//! |").split('|').map(str::trim).collect();
        let floor = cells[0].trim_start_matches('F').parse().unwrap_or_else(|_| panic!("no floor in {line:?}"));
        for name in cells[1].split(',').map(|name| name.trim().trim_matches(['[', ']', '`'])) {
            rooms.insert(name.to_owned(), Room { floor, row, pure: cells[3] == "yes" });
        }
    }
    assert!(rooms.len() > 10, "the table of floors was not found in src/lib.rs");
    rooms
}

/// `src/mqtt/frame.rs` and `src/message.rs` belong to rooms, `src/lib.rs` and `src/main.rs` to none.
fn room_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    match rest.split_once('/') {
        Some((room, _)) => Some(room),
        None => rest.strip_suffix(".rs").filter(|name| !matches!(*name, "lib" | "main")),
    }
}

/// The rooms that a file names, with the lines: `crate::x`, each first name of `crate::{x, y::z}`, and `super::x` where
/// `super` is the crate's root.
fn imports(file: &Source) -> Vec<(usize, String)> {
    let code = &file.code;
    let at_the_root = file.path.matches('/').count() == 1 || file.path.ends_with("/mod.rs");
    let mut found = Vec::new();
    for (at, matched) in code.match_indices("crate::") {
        // `pub(in crate::x)` names a room as well, `mycrate::` does not.
        let standing_alone = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        let line = code[..at].matches('\n').count() + 1;
        if standing_alone {
            found.extend(first_names(&code[at + matched.len()..]).into_iter().map(|name| (line, name)));
        }
    }
    if at_the_root {
        let room_names: BTreeSet<String> = rooms().into_keys().collect();
        // In a nested module `super` is the room itself, so only the outermost code counts.
        for (at, matched) in code.match_indices("super::") {
            let outermost = code[..at].matches('{').count() == code[..at].matches('}').count();
            let line = code[..at].matches('\n').count() + 1;
            let names = first_names(&code[at + matched.len()..]);
            let rooms = names.into_iter().filter(|name| outermost && room_names.contains(name));
            found.extend(rooms.map(|name| (line, name)));
        }
    }
    found
}

/// The name that `rest` begins with, or the first name of each path of the group that it begins with.
fn first_names(rest: &str) -> Vec<String> {
    let word = |text: &str| -> String { text.chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect() };
    let Some(group) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut names, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(word(group[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Files that are compiled for tests only: `#[cfg(test)] mod name;` somewhere beside them.
fn test_files(files: &[Source]) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for file in files {
        let mut pending = false;
        for line in file.code.lines().map(str::trim) {
            let module =
                line.trim_start_matches("pub(crate) ").strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
            if let Some(name) = module.filter(|_| pending) {
                let stem = file.path.trim_end_matches("mod.rs").trim_end_matches(".rs").trim_end_matches('/');
                paths.insert(format!("{stem}/{name}.rs"));
                paths.insert(format!("{stem}/{name}/mod.rs"));
            }
            pending = is_test_attribute(line) || (pending && line.starts_with("#["));
        }
    }
    paths
}

fn is_test_attribute(line: &str) -> bool {
    line.starts_with("#[cfg(test)") || line.starts_with("#[cfg(all(test,")
}

/// `code` with each `#[cfg(test)] mod … { … }` blanked out, lines kept.
fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        if !is_test_attribute(line.trim()) {
            continue;
        }
        // Blank from the module's opening brace to the line of its closing one; an item without a body ends at once.
        out.truncate(out.len() - line.len() - 1);
        out.push('\n');
        let (mut depth, mut opened) = (0_isize, false);
        for line in lines.by_ref() {
            out.push('\n');
            depth += line.matches('{').count() as isize - line.matches('}').count() as isize;
            opened |= line.contains('{');
            if (opened && depth <= 0) || (!opened && line.trim_end().ends_with(';')) {
                break;
            }
        }
    }
    out
}
