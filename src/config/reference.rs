//! The text of `ringmq.toml`: every key with its default and its explanation.

use std::fmt::Write;

use super::{
    Config,
    listener::Listener,
    schema::{Key, Section},
    settings::{
        AuthSettings, LogSettings, MqttLimits, NodeSettings, RuntimeLimits, ShareSettings, StoreSettings, SysSettings,
    },
};

/// The file `ringmq.toml` in the repository's root. Loading it gives [`Config::default`].
#[must_use]
pub fn reference() -> String {
    let config = Config::default();
    let mut text = HEAD.to_owned();
    write_section(&mut text, &config.node);
    write_section(&mut text, &config.runtime);
    for (number, listener) in config.listeners.iter().enumerate() {
        write_listener(&mut text, listener, number == 0);
    }
    write_section(&mut text, &config.auth);
    write_section(&mut text, &config.mqtt);
    write_section(&mut text, &config.store);
    write_section(&mut text, &config.share);
    write_section(&mut text, &config.sys);
    write_section(&mut text, &config.log);
    text
}

/// A section's name and its keys.
pub(super) struct SectionNames {
    pub(super) section: &'static str,
    pub(super) keys: Vec<&'static str>,
}

/// All sections and their keys, in the order of the file.
pub(super) fn names() -> Vec<SectionNames> {
    fn of<S: Section>() -> SectionNames {
        SectionNames { section: S::NAME, keys: S::KEYS.iter().map(|key| key.name).collect() }
    }
    vec![
        of::<NodeSettings>(),
        of::<RuntimeLimits>(),
        of::<Listener>(),
        of::<AuthSettings>(),
        of::<MqttLimits>(),
        of::<StoreSettings>(),
        of::<ShareSettings>(),
        of::<SysSettings>(),
        of::<LogSettings>(),
    ]
}

fn write_section<S: Section>(text: &mut String, section: &S) {
    text.push('\n');
    write_comment(text, S::DOC);
    let _ = writeln!(text, "[{}]", S::NAME);
    for key in S::KEYS {
        write_comment(text, key.doc);
        write_key(text, section, key);
    }
}

/// The second listener needs no explanations any more.
fn write_listener(text: &mut String, listener: &Listener, explain: bool) {
    text.push('\n');
    if explain {
        write_comment(text, Listener::DOC);
    }
    let _ = writeln!(text, "[[{}]]", Listener::NAME);
    for key in Listener::KEYS {
        if explain {
            write_comment(text, key.doc);
        }
        write_key(text, listener, key);
    }
}

/// The documentation's backquotes are for rustdoc.
fn write_comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(text, "#{}", line.replace('`', ""));
    }
}

fn write_key<S>(text: &mut String, section: &S, key: &Key<S>) {
    let _ = writeln!(text, "{} = {}", key.name, (key.write)(section));
}

const HEAD: &str = "\
# Every key of RingMQ with its default. Leave out what you don't change.
#
# Sizes are bytes, or text such as \"256KiB\" (KiB, MiB, GiB, TiB); durations are seconds, or text such as \"250ms\" or
# \"1h30m\" (ms, s, m, h, d). Hexadecimal codes are the MQTT 5 reason codes that clients see.
#
# Stronger than this file are, in this order: the environment (RINGMQ_MQTT__PACKET_BYTES_MAX=2MiB,
# RINGMQ_LISTENER__0__ADDRESS=0.0.0.0:1883), `ringmq serve --set mqtt.packet_bytes_max=2MiB`, and flags such as
# --shards.
# `ringmq check-config FILE` says what is wrong with a file.
";
