//! `ringmq doctor`: says what this machine allows, and what to do about what it doesn't.

use std::io::{self, Write};

use clap::Args;

use super::{Exit, is_coloured};
use crate::runtime::probe::{self, Finding, Verdict};

/// Say what this machine allows: kernel, io_uring, limits; found, meaning, remedy.
///
/// Exit code 0: RingMQ can run here; 1: it can't.
#[derive(Debug, Args)]
#[command(after_help = "Run it as the user that runs RingMQ: limits are the user's.")]
pub(super) struct DoctorArgs {}

pub(super) fn doctor(_arguments: &DoctorArgs) -> Exit {
    let findings = probe::probe();
    let mut output = io::stdout().lock();
    let coloured = is_coloured(&output);
    let _ = write!(output, "{}", render(&findings, coloured));
    if probe::can_run(&findings) { Exit::Done } else { Exit::CannotRun }
}

/// The table: a line for each finding, and below those that aren't good what to do.
fn render(findings: &[Finding], coloured: bool) -> String {
    let widest = |width: fn(&Finding) -> usize| findings.iter().map(width).max().unwrap_or(0);
    let name_width = widest(|finding| finding.name.chars().count());
    let found_width = widest(|finding| finding.found.chars().count()).min(FOUND_WIDTH_MAX);
    let indent = " ".repeat(6 + name_width + 2 + found_width + 2);
    let mut text = String::new();
    for finding in findings {
        let (mark, colour) = match finding.verdict {
            Verdict::Fine => ("ok", "\u{1b}[32m"),
            Verdict::Poor => ("poor", "\u{1b}[33m"),
            Verdict::Fatal => ("FAIL", "\u{1b}[31;1m"),
        };
        let (colour, reset) = if coloured { (colour, "\u{1b}[0m") } else { ("", "") };
        let (name, found) = (finding.name, &finding.found);
        text.push_str(&format!("{colour}{mark:<4}{reset}  {name:<name_width$}  "));
        if found.chars().count() > found_width {
            text.push_str(&format!("{found}\n{indent}"));
        } else {
            text.push_str(&format!("{found:<found_width$}  "));
        }
        text.push_str(&wrap(finding.meaning, &indent));
        if !finding.is_ok() {
            let remedy = format!("needed: {}; remedy: {}", finding.required, finding.remedy);
            text.push_str(&indent);
            text.push_str(&wrap(&remedy, &indent));
        }
    }
    let verdict = match findings.iter().filter(|finding| finding.verdict == Verdict::Fatal).count() {
        0 => "RingMQ can run here.".to_owned(),
        1 => "RingMQ cannot run here: 1 check fails.".to_owned(),
        count => format!("RingMQ cannot run here: {count} checks fail."),
    };
    format!("{text}\n{verdict}\n")
}

/// `text` in lines that fit behind `indent`, which the first line has already.
fn wrap(text: &str, indent: &str) -> String {
    let width = LINE_WIDTH.saturating_sub(indent.len()).max(30);
    let mut wrapped = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            wrapped.push('\n');
            wrapped.push_str(indent);
            column = 0;
        } else if column > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        column += length;
    }
    wrapped.push('\n');
    wrapped
}

/// Lines of the table are at most this wide, when words allow.
const LINE_WIDTH: usize = 120;

/// What was found stands on a line of its own when it is wider.
const FOUND_WIDTH_MAX: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lines_up_and_says_what_to_do() {
        let finding = |verdict, name, found: &str, required: &str, meaning, remedy| {
            let (found, required) = (found.to_owned(), required.to_owned());
            Finding { name, found, required, verdict, meaning, remedy }
        };
        let findings = [
            finding(Verdict::Fine, "kernel", "6.18", "6.1 or newer", "new enough", "upgrade"),
            finding(Verdict::Poor, "nofile", "1024", "65536", "a descriptor for each", "raise LimitNOFILE"),
            finding(Verdict::Fatal, "io_uring", "forbidden by the administrator", "works", "the way in", "allow it"),
        ];
        let expected = "\
ok    kernel    6.18                      new enough
poor  nofile    1024                      a descriptor for each
                                          needed: 65536; remedy: raise LimitNOFILE
FAIL  io_uring  forbidden by the administrator
                                          the way in
                                          needed: works; remedy: allow it

RingMQ cannot run here: 1 check fails.
";
        assert_eq!(render(&findings, false), expected);
        assert!(render(&findings, true).contains("\u{1b}[32mok"));
    }

    #[test]
    fn long_text_is_wrapped_behind_its_column() {
        let text = "word ".repeat(30);
        let wrapped = wrap(&text, &" ".repeat(80));
        assert!(wrapped.lines().skip(1).all(|line| line.starts_with(&" ".repeat(80)) && line.len() <= LINE_WIDTH));
        assert_eq!(wrapped.split_whitespace().count(), 30);
    }
}
