//! Puts the settings together from their sources, and finds all that is wrong with them.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

use std::{net::SocketAddr, ops::Range, sync::Arc};

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    Config,
    choice::Words as _,
    listener::Listener,
    nearest::nearest,
    place::{Origin, Place},
    reference::names,
    report::{ConfigError, ConfigErrors},
    rule::Raw,
    schema::Section,
    violation::{KeyHint, SectionHint, Violation},
};

/// What the settings are put together from, weakest first. The caller has read it all.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file.
    pub file: Option<SourceFile>,
    /// The environment. Variables that aren't `RINGMQ_SECTION__KEY` are passed over.
    pub environment: Vec<(String, String)>,
    /// What followed each `--set`.
    pub sets: Vec<String>,
    /// Dedicated flags.
    pub flags: Vec<Flag>,
    /// What followed each `--listen`: when any is given, these are the listeners, and no others.
    pub listen: Vec<String>,
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path as the user wrote it.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// A command line flag that stands for a key.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag, such as `--shards`.
    pub flag: &'static str,
    /// The section of its key.
    pub section: &'static str,
    /// Its key.
    pub key: &'static str,
    /// The value that was given.
    pub value: String,
}

pub(super) fn load(sources: &Sources) -> Result<Config, ConfigErrors> {
    let mut draft = Draft::default();
    if let Some(file) = &sources.file {
        draft.read_file(file);
    }
    let mut environment: Vec<&(String, String)> = sources.environment.iter().collect();
    environment.sort();
    for (variable, value) in environment {
        draft.read_variable(variable, value);
    }
    for assignment in &sources.sets {
        draft.read_assignment(assignment);
    }
    for flag in &sources.flags {
        let place = Written::new(Origin::CommandLine, format!("{} {}", flag.flag, flag.value), 0, flag.flag.len() + 1);
        draft.assign(flag.section, flag.key, Raw::Loose(&flag.value), &place.key, &place.value);
    }
    if !sources.listen.is_empty() {
        draft.listeners = sources.listen.iter().map(|address| draft.errors.listen(address)).collect();
    }
    draft.finish()
}

/// The settings so far.
#[derive(Default)]
struct Draft {
    config: Config,
    listeners: Vec<DraftListener>,
    errors: Errors,
}

/// A listener so far.
struct DraftListener {
    listener: Listener,
    /// Where it begins.
    place: Place,
    /// Where its address was last given.
    address: Option<Place>,
    /// Where its name was last given.
    name: Option<Place>,
    /// Where its durability was last given.
    durability: Option<Place>,
    /// Its address was given but can't be read: that it has none need not be said again.
    address_is_wrong: bool,
}

#[derive(Default)]
struct Errors(Vec<ConfigError>);

impl Errors {
    fn add(&mut self, violation: Violation, place: &Place) {
        self.0.push(ConfigError { violation, place: place.clone() });
    }

    /// The listener of `--listen address`.
    fn listen(&mut self, address: &str) -> DraftListener {
        let written = Written::new(Origin::CommandLine, format!("--listen {address}"), 0, "--listen ".len());
        let parsed = address.parse::<SocketAddr>();
        if parsed.is_err() {
            self.add(Violation::NotAnAddress, &written.value);
        }
        let listener = parsed.as_ref().map_or_else(|_| Listener::default(), |address| Listener::on(*address));
        DraftListener {
            listener,
            place: written.key,
            address: parsed.is_ok().then_some(written.value),
            name: None,
            durability: None,
            address_is_wrong: parsed.is_err(),
        }
    }
}

/// An assignment outside of a file: the places of its key and of its value.
struct Written {
    key: Place,
    value: Place,
}

impl Written {
    /// In `text`, the key begins at `key`, and the value at `value`, which comes after one character more.
    fn new(origin: Origin, text: String, key: usize, value: usize) -> Self {
        let text: Arc<str> = text.into();
        Self {
            key: Place::new(origin.clone(), &text, key..value.saturating_sub(1)),
            value: Place::new(origin, &text, value..text.len()),
        }
    }
}

impl Draft {
    fn read_file(&mut self, file: &SourceFile) {
        let origin = Origin::File(file.path.as_str().into());
        let text: Arc<str> = file.text.as_str().into();
        let place = |span: Range<usize>| Place::new(origin.clone(), &text, span);
        let (table, syntax_errors) = DeTable::parse_recoverable(&text);
        if !syntax_errors.is_empty() {
            // What the parser makes of a broken file would only bring errors that aren't there. One mistake often gives
            // several errors in its line; the first tells.
            let mut errors: Vec<(Place, Violation)> = syntax_errors
                .iter()
                .map(|error| {
                    let violation = Violation::Syntax { message: error.message().to_owned() };
                    (place(error.span().unwrap_or(0..0)), violation)
                })
                .collect();
            errors.sort_by_key(|(place, _)| place.line_and_column().0);
            errors.dedup_by_key(|(place, _)| place.line_and_column().0);
            errors.iter().for_each(|(place, violation)| self.errors.add(violation.clone(), place));
            return;
        }
        for (section, value) in table.get_ref() {
            let (name, header) = (section.get_ref().as_ref(), place(section.span()));
            match (name, value.get_ref()) {
                ("listener", DeValue::Array(list)) => {
                    for listener in list {
                        self.read_listener(listener, &place);
                    }
                }
                ("listener", _) => self.errors.add(Violation::NotAListOfListeners, &header),
                (_, DeValue::Table(keys)) if section_name(name).is_some() => {
                    for (key, value) in keys {
                        let (key_place, value_place) = (place(key.span()), place(value.span()));
                        self.assign(name, key.get_ref(), Raw::Toml(value.get_ref()), &key_place, &value_place);
                    }
                }
                _ => match section_name(name) {
                    Some(section) => self.errors.add(Violation::NotASection { section }, &header),
                    None => self.errors.add(unknown_section(name), &header),
                },
            }
        }
        // The parser gives keys by name; people read by line.
        self.errors.0.sort_by_key(|error| error.place.span.start);
    }

    fn read_listener(&mut self, listener: &Spanned<DeValue<'_>>, place: &impl Fn(Range<usize>) -> Place) {
        let header = place(listener.span());
        let DeValue::Table(keys) = listener.get_ref() else {
            return self.errors.add(Violation::NotAListOfListeners, &header);
        };
        let number = self.listeners.len();
        if !self.add_listener(header) {
            return;
        }
        for (key, value) in keys {
            let (key_place, value_place) = (place(key.span()), place(value.span()));
            self.assign_listener(number, key.get_ref(), Raw::Toml(value.get_ref()), &key_place, &value_place);
        }
    }

    /// `RINGMQ_SECTION__KEY` or `RINGMQ_LISTENER__0__KEY`. A variable without the double underscore is not ours:
    /// container platforms make up some, such as `RINGMQ_SERVICE_HOST` for a service of that name.
    fn read_variable(&mut self, variable: &str, value: &str) {
        let Some(path) = variable.strip_prefix("RINGMQ_").filter(|path| path.contains("__")) else { return };
        let written = Written::new(Origin::Environment, format!("{variable}={value}"), 0, variable.len() + 1);
        if value.contains(char::REPLACEMENT_CHARACTER) {
            return self.errors.add(Violation::NotUtf8, &written.value);
        }
        self.assign_path(&path.to_ascii_lowercase().replace("__", "."), value, &written);
    }

    /// `section.key=value` or `listener.0.key=value`.
    fn read_assignment(&mut self, assignment: &str) {
        const FLAG: &str = "--set ";
        let key_length = assignment.find('=').unwrap_or(assignment.len());
        let written =
            Written::new(Origin::CommandLine, format!("{FLAG}{assignment}"), FLAG.len(), FLAG.len() + key_length + 1);
        match assignment.split_once('=') {
            Some((path, value)) if path.contains('.') => self.assign_path(path.trim(), value.trim(), &written),
            _ => self.errors.add(Violation::NotAnAssignment, &written.key),
        }
    }

    fn assign_path(&mut self, path: &str, value: &str, written: &Written) {
        let Some((section, key)) = path.split_once('.') else {
            return self.errors.add(Violation::NotAnAssignment, &written.key);
        };
        if section != Listener::NAME {
            return self.assign(section, key, Raw::Loose(value), &written.key, &written.value);
        }
        let listeners = self.listeners.len();
        let numbered = key.split_once('.').and_then(|(number, key)| Some((number.parse::<usize>().ok()?, key)));
        let Some((number, key)) = numbered.filter(|(number, _)| *number <= listeners) else {
            return self.errors.add(Violation::ListenerNumber { listeners }, &written.key);
        };
        if number < listeners || self.add_listener(written.key.clone()) {
            self.assign_listener(number, key, Raw::Loose(value), &written.key, &written.value);
        }
    }

    fn assign(&mut self, section: &str, key: &str, raw: Raw<'_>, key_place: &Place, value_place: &Place) {
        let config = &mut self.config;
        let result = match section {
            "node" => config.node.assign(key, raw),
            "runtime" => config.runtime.assign(key, raw),
            "auth" => config.auth.assign(key, raw),
            "mqtt" => config.mqtt.assign(key, raw),
            "share" => config.share.assign(key, raw),
            "store" => config.store.assign(key, raw),
            "sys" => config.sys.assign(key, raw),
            "log" => config.log.assign(key, raw),
            _ => return self.errors.add(unknown_section(section), key_place),
        };
        match result {
            Some(Ok(())) => {}
            Some(Err(violation)) => self.errors.add(violation, value_place),
            None => self.errors.add(unknown_key(section, key), key_place),
        }
    }

    fn assign_listener(&mut self, number: usize, key: &str, raw: Raw<'_>, key_place: &Place, value_place: &Place) {
        let Some(draft) = self.listeners.get_mut(number) else { return };
        let result = draft.listener.assign(key, raw);
        match key {
            "address" => {
                draft.address_is_wrong = !matches!(result, Some(Ok(())));
                draft.address = (!draft.address_is_wrong).then(|| value_place.clone());
            }
            "name" => draft.name = Some(value_place.clone()),
            "durability" => draft.durability = Some(value_place.clone()),
            _ => {}
        }
        match result {
            Some(Ok(())) => {}
            Some(Err(violation)) => self.errors.add(violation, value_place),
            None => self.errors.add(unknown_key(Listener::NAME, key), key_place),
        }
    }

    /// Adds a listener that begins at `place`; says whether there was room.
    fn add_listener(&mut self, place: Place) -> bool {
        if self.listeners.len() == LISTENERS_MAX {
            self.errors.add(Violation::TooManyListeners { listeners_max: LISTENERS_MAX }, &place);
            return false;
        }
        let listener = Listener::default();
        let draft =
            DraftListener { listener, place, address: None, name: None, durability: None, address_is_wrong: false };
        self.listeners.push(draft);
        true
    }

    fn finish(mut self) -> Result<Config, ConfigErrors> {
        for (number, draft) in self.listeners.iter().enumerate() {
            let before = self.listeners.get(..number).unwrap_or_default();
            let given = self.config.store.durability;
            if let (Some(place), Some(asked)) = (&draft.durability, draft.listener.durability)
                && asked.promises_more_than(given)
            {
                self.errors.add(Violation::ListenerDurability { store: given.word() }, place);
            }
            let Some(address) = &draft.address else {
                if !draft.address_is_wrong {
                    self.errors.add(Violation::ListenerWithoutAddress, &draft.place);
                }
                continue;
            };
            // Port 0 asks for any free port, so it is no conflict.
            let same_address = |other: &DraftListener| other.listener.address == draft.listener.address;
            if draft.listener.address.port() != 0 && before.iter().any(same_address) {
                self.errors.add(Violation::ListenerAddressTaken, address);
            }
            let same_name = |other: &DraftListener| other.listener.name == draft.listener.name;
            if let Some(name) = &draft.name
                && !draft.listener.name.is_empty()
                && before.iter().any(same_name)
            {
                self.errors.add(Violation::ListenerNameTaken, name);
            }
        }
        if !self.errors.0.is_empty() {
            return Err(ConfigErrors(self.errors.0));
        }
        if !self.listeners.is_empty() {
            self.config.listeners = self.listeners.into_iter().map(|draft| draft.listener).collect();
        }
        Ok(self.config)
    }
}

/// The section called `name`.
fn section_name(name: &str) -> Option<&'static str> {
    names().iter().map(|names| names.section).find(|section| *section == name)
}

fn unknown_section(name: &str) -> Violation {
    let sections = names();
    let hint = match sections.iter().find(|names| names.keys.contains(&name)) {
        Some(names) => SectionHint::KeyOf(names.section),
        None => {
            nearest(name, sections.iter().map(|names| names.section)).map_or(SectionHint::Nothing, SectionHint::Nearest)
        }
    };
    Violation::UnknownSection { section: name.to_owned(), hint }
}

fn unknown_key(section: &str, key: &str) -> Violation {
    let sections = names();
    let section = section_name(section).unwrap_or_default();
    let keys = sections.iter().filter(|names| names.section == section).flat_map(|names| names.keys.iter().copied());
    let elsewhere = sections.iter().find(|names| names.keys.contains(&key));
    let hint = match (elsewhere, nearest(key, keys)) {
        (Some(names), _) => KeyHint::InSection(names.section),
        (None, Some(key)) => KeyHint::Nearest(key),
        (None, None) => KeyHint::Nothing,
    };
    Violation::UnknownKey { section, key: key.to_owned(), hint }
}

/// More listeners than this are an error: each costs a socket per shard.
const LISTENERS_MAX: usize = 64;
