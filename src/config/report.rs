//! Errors in a configuration, and how people see them: with the line they are in and the place underlined.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::{place::Place, violation::Violation};

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong.
    pub violation: Violation,
    /// Where it was written.
    pub place: Place,
}

/// All that is wrong with a configuration: one error at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// The errors for a person to read, with colours when `coloured`.
    #[must_use]
    pub fn render(&self, coloured: bool) -> String {
        let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for error in &self.0 {
            text.push_str(&error.render(&renderer));
            text.push_str("\n\n");
        }
        text.truncate(text.trim_end().len());
        text
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigErrors {}

impl ConfigError {
    fn render(&self, renderer: &Renderer) -> String {
        let title = self.violation.to_string();
        let help = self.violation.help();
        let snippet = Snippet::source(self.place.text.as_ref())
            .path(self.place.origin_name())
            .annotation(AnnotationKind::Primary.span(self.place.span.clone()));
        let mut group = Level::ERROR.primary_title(title).element(snippet);
        if let Some(help) = help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }
}
