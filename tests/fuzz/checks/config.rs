//! The configuration: no text makes its parser panic, and every error stands somewhere.

use ringmq::config::{Config, Origin, SourceFile, Sources};

/// `data` is the file; behind each null stands something else: after `s` a `--set`, after `l` a `--listen`, after
/// anything else a variable of the environment.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0');
    let file = parts.next().map(|text| SourceFile { path: "ringmq.toml".to_owned(), text: text.to_owned() });
    let mut sources = Sources { file, ..Sources::default() };
    for part in parts {
        if let Some(assignment) = part.strip_prefix('s') {
            sources.sets.push(assignment.to_owned());
        } else if let Some(address) = part.strip_prefix('l') {
            sources.listen.push(address.to_owned());
        } else if let Some((variable, value)) = part.split_once('=') {
            sources.environment.push((variable.to_owned(), value.to_owned()));
        }
    }
    match Config::load(&sources) {
        Ok(config) => {
            assert!(!config.listeners.is_empty(), "a configuration without a listener");
            assert_eq!(Config::load(&sources).as_ref(), Ok(&config), "the same text, another configuration");
        }
        Err(errors) => {
            assert!(!errors.0.is_empty(), "refused without an error");
            for error in &errors.0 {
                let text = &error.place.text;
                let (line, column) = error.place.line_and_column();
                // An error at the end of a text that ends with its line stands in the line after.
                let there = text.split('\n').nth(line - 1).unwrap_or_else(|| panic!("no line {line}: {error:?}"));
                assert!(column <= there.chars().count() + 1, "no column {column} in line {line}: {error:?}");
                assert!(text.get(error.place.span.clone()).is_some(), "{error:?}");
                let is_file = matches!(error.place.origin, Origin::File(_));
                assert_eq!(error.place.origin_name() == "ringmq.toml", is_file);
                assert!(!error.violation.to_string().is_empty());
            }
            assert!(errors.render(false).contains("error"), "{errors:?}");
            assert!(!errors.render(true).is_empty());
        }
    }
}
