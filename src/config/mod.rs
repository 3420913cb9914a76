//! Every setting and every limit, parsed once.
//!
//! Owns [`Config`]: the sections as plain typed fields that the other rooms take by reference (a shard takes
//! [`MqttLimits`]), the defaults, and the reading of `ringmq.toml`, of the environment and of the command line.
//!
//! Always holds: a [`Config`] that [`Config::load`] returned is within every range that its keys state, and nobody has
//! to check it again. Each key is declared once, in `settings.rs`, with its type, default, range and meaning; the
//! parser, the hints in errors and the text of `ringmq.toml` all come from that declaration.
//!
//! Must never: read a file, the environment or the clock (what is read comes in as [`Sources`]), nor stop at the first
//! error. That is why nothing here derives `Deserialize`: serde gives up at the first value that doesn't fit, and can't
//! say which key was meant.
//!
//! Precedence, weakest first: defaults, file, environment (`RINGMQ_SECTION__KEY=value`), `--set section.key=value`,
//! dedicated flags such as `--shards`.

mod choice;
mod listener;
mod load;
mod nearest;
mod place;
mod reference;
mod report;
mod rule;
mod schema;
mod settings;
mod units;
mod violation;

pub use choice::{
    AllQueuesFull, AllowAnonymous, Durability, LogFormat, LogLevel, Protocol, QueueFull, ShareStrategy, SlowSubscriber,
    UnknownWord, Words,
};
pub use listener::Listener;
pub use load::{Flag, SourceFile, Sources};
pub use place::{Origin, Place};
pub use reference::reference;
pub use report::{ConfigError, ConfigErrors};
pub use settings::{
    AuthSettings, LogSettings, MqttLimits, NodeSettings, RuntimeLimits, ShareSettings, StoreSettings, SysSettings,
};
pub use units::{UNLIMITED, whole_seconds};
pub use violation::{KeyHint, Quantity, SectionHint, Violation};

/// All settings of one broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[node]`: who this broker is.
    pub node: NodeSettings,
    /// `[runtime]`: shards, rings, buffers and the limits on connections.
    pub runtime: RuntimeLimits,
    /// `[[listener]]`: where clients connect. Never empty.
    pub listeners: Vec<Listener>,
    /// `[auth]`: who may connect.
    pub auth: AuthSettings,
    /// `[mqtt]`: what a client may ask of the broker.
    pub mqtt: MqttLimits,
    /// `[store]`: what outlives the process.
    pub store: StoreSettings,
    /// `[share]`: shared subscriptions.
    pub share: ShareSettings,
    /// `[sys]`: what the broker publishes about itself.
    pub sys: SysSettings,
    /// `[log]`: what is logged and how.
    pub log: LogSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: NodeSettings::default(),
            runtime: RuntimeLimits::default(),
            listeners: Listener::loopback(),
            auth: AuthSettings::default(),
            mqtt: MqttLimits::default(),
            store: StoreSettings::default(),
            share: ShareSettings::default(),
            sys: SysSettings::default(),
            log: LogSettings::default(),
        }
    }
}

impl Config {
    /// Puts the settings together from `sources`.
    ///
    /// # Errors
    /// Every violation that was found, in the order of the sources and, within the file, of the lines.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        load::load(sources)
    }

    /// What acknowledgements to those who connect through `listener` promise: its own `durability`, or else that of `[store]`.
    #[must_use]
    pub fn durability_of(&self, listener: &Listener) -> Durability {
        listener.durability.unwrap_or(self.store.durability)
    }

    /// Whether `listener` admits clients that present no credentials: its own `allow_anonymous`, or else that of
    /// `[auth]`, where `"loopback"` means that only listeners on a loopback address do.
    #[must_use]
    pub fn admits_anonymous(&self, listener: &Listener) -> bool {
        match listener.allow_anonymous.unwrap_or(self.auth.allow_anonymous) {
            AllowAnonymous::Everywhere => true,
            AllowAnonymous::Nowhere => false,
            AllowAnonymous::Loopback => listener.address.ip().is_loopback(),
        }
    }
}

#[cfg(test)]
mod tests;
