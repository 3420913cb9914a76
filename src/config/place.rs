//! Where a value came from.

use std::{ops::Range, sync::Arc};

/// What a value was written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, by its path.
    File(Arc<str>),
    /// The process's environment.
    Environment,
    /// The command line.
    CommandLine,
}

/// Where in which text something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What the text is.
    pub origin: Origin,
    /// The whole text: the file, `VARIABLE=value`, or `--flag value`.
    pub text: Arc<str>,
    /// The bytes of `text` that are meant. Both ends are boundaries of characters.
    pub span: Range<usize>,
}

impl Place {
    /// The place `span` of `text`, with the span moved to the nearest boundaries of characters within the text.
    pub(super) fn new(origin: Origin, text: &Arc<str>, span: Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
        Self { origin, text: Arc::clone(text), span: start..end }
    }

    /// Line and column of the first character, both from 1; a column is a character.
    #[must_use]
    pub fn line_and_column(&self) -> (usize, usize) {
        let before = self.text.get(..self.span.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = 1 + before.matches('\n').count();
        (line, 1 + before.get(line_start..).unwrap_or_default().chars().count())
    }

    /// What the text is called: the file's path, "environment" or "command line".
    #[must_use]
    pub fn origin_name(&self) -> &str {
        match &self.origin {
            Origin::File(path) => path,
            Origin::Environment => "environment",
            Origin::CommandLine => "command line",
        }
    }
}
