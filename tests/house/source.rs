//! Rust source as text: which files there are, and what in them is code and what is comment.
//!
//! A small scanner, not a parser: it knows comments, strings, raw strings, characters and lifetimes, which is what it
//! takes to tell a citation or an import from a mention of one.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One source file, split into code and comments; both keep the line structure of the file.
#[derive(Debug)]
pub struct Source {
    /// Relative to the root of the repository, with `/` between its parts.
    pub path: String,
    /// The file with comments and the contents of strings blanked out.
    pub code: String,
    /// The file with all but its comments blanked out.
    pub comments: String,
}

impl Source {
    /// Splits `text`.
    pub fn new(path: &str, text: &str) -> Source {
        let (code, comments) = split(text);
        Source { path: path.to_owned(), code, comments }
    }

    /// Lines of the file.
    pub fn lines(&self) -> usize {
        self.code.lines().count()
    }
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under `directory` (relative to the root), sorted by path. A directory that isn't there has none.
pub fn rust_files(directory: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&root().join(directory), &mut paths);
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let relative = path.strip_prefix(root()).expect("collected under the root");
        sources.push(Source::new(&relative.to_string_lossy(), &text));
    }
    sources
}

/// The identifiers of `code` with the lines they stand on, counted from 1.
pub fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(index, line)| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
            .map(move |word| (index + 1, word))
    })
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.expect("a readable directory").path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden && !path.ends_with("node_modules") && !path.ends_with("target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Code,
    LineComment,
    /// Nested this deep.
    BlockComment(usize),
    Text,
    /// A raw string that ends with a quote and this many hashes.
    RawText(usize),
}

/// `text` twice: its code and its comments, everything else turned into spaces.
fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
    let mut mode = Mode::Code;
    let mut at = 0;
    while at < chars.len() {
        let (next, length) = step(&chars, at, mode);
        for &c in &chars[at..at + length] {
            let comment = matches!(mode, Mode::LineComment | Mode::BlockComment(_))
                || matches!(next, Mode::LineComment | Mode::BlockComment(_));
            let is_code = mode == Mode::Code && matches!(next, Mode::Code | Mode::Text | Mode::RawText(_));
            code.push(if c == '\n' || is_code { c } else { ' ' });
            comments.push(if c == '\n' || comment { c } else { ' ' });
        }
        mode = next;
        at += length;
    }
    (code, comments)
}

/// The mode after the token at `at`, and how many characters that token has.
fn step(chars: &[char], at: usize, mode: Mode) -> (Mode, usize) {
    let two = |a, b| chars[at] == a && chars.get(at + 1) == Some(&b);
    match mode {
        Mode::Code if two('/', '/') => (Mode::LineComment, 2),
        Mode::Code if two('/', '*') => (Mode::BlockComment(1), 2),
        Mode::Code if chars[at] == '"' => (Mode::Text, 1),
        Mode::Code if chars[at] == 'r' && !follows_word(chars, at) => match raw_opening(chars, at + 1) {
            Some(hashes) => (Mode::RawText(hashes), hashes + 2),
            None => (Mode::Code, 1),
        },
        Mode::Code if chars[at] == '\'' => (Mode::Code, character_length(chars, at)),
        Mode::LineComment if chars[at] == '\n' => (Mode::Code, 1),
        Mode::BlockComment(depth) if two('/', '*') => (Mode::BlockComment(depth + 1), 2),
        Mode::BlockComment(1) if two('*', '/') => (Mode::Code, 2),
        Mode::BlockComment(depth) if two('*', '/') => (Mode::BlockComment(depth - 1), 2),
        Mode::Text if chars[at] == '\\' => (Mode::Text, 2.min(chars.len() - at)),
        Mode::Text if chars[at] == '"' => (Mode::Code, 1),
        Mode::RawText(hashes) if chars[at] == '"' && count_hashes(chars, at + 1) >= hashes => (Mode::Code, hashes + 1),
        other => (other, 1),
    }
}

fn follows_word(chars: &[char], at: usize) -> bool {
    // `br"…"` is a raw string as well: its `b` is the one letter that may stand before the `r`.
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') && chars[at - 1] != 'b'
}

fn raw_opening(chars: &[char], at: usize) -> Option<usize> {
    let hashes = count_hashes(chars, at);
    (chars.get(at + hashes) == Some(&'"')).then_some(hashes)
}

fn count_hashes(chars: &[char], at: usize) -> usize {
    chars[at.min(chars.len())..].iter().take_while(|&&c| c == '#').count()
}

/// `'x'`, `'\n'` and `'\u{1F600}'` are characters as a whole; `'a` of a lifetime is its quote alone.
fn character_length(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        // The escaped character may itself be a quote, so the search for the closing one starts behind it.
        let close = chars.iter().skip(at + 3).position(|&c| c == '\'');
        return close.map_or(1, |offset| offset + 4);
    }
    if chars.get(at + 2) == Some(&'\'') { 3 } else { 1 }
}
