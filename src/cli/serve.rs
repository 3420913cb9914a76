//! `ringmq serve`: runs the broker until a signal stops it.

use std::{io, path::PathBuf};

use clap::{ArgAction, Args};

use super::{Exit, is_coloured, log, sources, starting::Starting};
use crate::config::{Config, Flag, LogFormat, LogLevel, Sources};

/// Run the broker (the default command).
///
/// Settings come from, weakest first: defaults, the file, the environment (RINGMQ_MQTT__PACKET_BYTES_MAX=2MiB), --set,
/// and the other flags. SIGTERM and SIGINT drain connections and stop it.
#[derive(Debug, Default, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServeArgs {
    /// Read settings from this file; ringmq.toml in the source tree holds them all.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen on this IP address and port (repeatable); replaces the listeners of the file.
    #[arg(long, value_name = "ADDR", action = ArgAction::Append)]
    listen: Vec<String>,
    /// Shards, a thread each; 0: one per CPU [runtime.shards].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shards: Option<String>,
    /// CPUs to pin the shards to, such as 0-3,6 [runtime.cpus].
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Keep sessions and retained messages in this directory [store.data_dir].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// What an acknowledgement promises: sync, batched or memory [store.durability].
    #[arg(long, value_name = "MODE")]
    durability: Option<String>,
    /// Admit clients without credentials on every listener [auth.allow_anonymous].
    #[arg(long)]
    allow_anonymous: bool,
    /// Log level: off, error, warn, info, debug or trace [log.level].
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Set any key, such as mqtt.keep_alive_max=5m (repeatable).
    #[arg(long, value_name = "KEY=VALUE", action = ArgAction::Append)]
    set: Vec<String>,
}

pub(super) fn serve(arguments: &ServeArgs) -> Exit {
    let config = match arguments.load() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let log = config.log.clone();
    let guard = match log::init(&log) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("error: {error}");
            return Exit::CannotRun;
        }
    };
    for listener in config.listeners.iter().filter(|listener| !config.admits_anonymous(listener)) {
        tracing::warn!(
            listener = listener.display_name(),
            "nobody is admitted here: there are no users, and anonymous clients are refused; see auth.allow_anonymous"
        );
    }
    let mut starting = Starting::begin();
    let result = crate::server::run(config, &mut |read| starting.note(read));
    starting.clear();
    if let Err(error) = &result
        && log.format == LogFormat::Json
    {
        tracing::error!("{error}");
    }
    // What is logged is written out before the last word.
    drop(guard);
    match result {
        Ok(()) => Exit::Done,
        Err(error) => {
            // People see it as other errors of the command line, and also when nothing is logged.
            if log.format == LogFormat::Text || log.level == LogLevel::Off {
                eprintln!("error: {error}");
            }
            Exit::CannotRun
        }
    }
}

impl ServeArgs {
    fn load(&self) -> Result<Config, Exit> {
        let file = match self.config.as_deref().map(sources::read_file).transpose() {
            Ok(file) => file,
            Err(error) => {
                eprintln!("error: {error}");
                return Err(Exit::BadUsage);
            }
        };
        let sources = Sources {
            file,
            environment: sources::environment(),
            sets: self.set.clone(),
            flags: self.flags(),
            listen: self.listen.clone(),
        };
        Config::load(&sources).map_err(|errors| {
            eprintln!("{}", errors.render(is_coloured(&io::stderr())));
            Exit::BadUsage
        })
    }

    /// The flags that stand for a key.
    fn flags(&self) -> Vec<Flag> {
        let anonymous = self.allow_anonymous.then(|| "true".to_owned());
        [
            ("--shards", "runtime", "shards", &self.shards),
            ("--cpus", "runtime", "cpus", &self.cpus),
            ("--allow-anonymous", "auth", "allow_anonymous", &anonymous),
            ("--log", "log", "level", &self.log),
            ("--data-dir", "store", "data_dir", &self.data_dir),
            ("--durability", "store", "durability", &self.durability),
        ]
        .into_iter()
        .filter_map(|(flag, section, key, value)| Some(Flag { flag, section, key, value: value.clone()? }))
        .collect()
    }
}

const EXAMPLES: &str = "\
Examples:
  ringmq serve
  ringmq serve --config /etc/ringmq/ringmq.toml --log debug
  ringmq serve --listen 0.0.0.0:1883 --listen [::]:1883 --allow-anonymous
  ringmq serve --data-dir /var/lib/ringmq --durability batched
  ringmq serve --shards 4 --cpus 0-3 --set mqtt.packet_bytes_max=256KiB
  RINGMQ_LISTENER__0__ADDRESS=0.0.0.0:1883 ringmq serve";
