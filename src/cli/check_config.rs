//! `ringmq check-config FILE`: says what is wrong with a file, without starting anything.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;

use super::{Exit, is_coloured, sources};
use crate::config::{Config, Sources};

/// Say what is wrong with a configuration file.
///
/// The file alone is checked: the environment is left out. Exit code 0: nothing is wrong; 2: something is.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ringmq check-config /etc/ringmq/ringmq.toml")]
pub(super) struct CheckConfigArgs {
    /// The file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn check_config(arguments: &CheckConfigArgs) -> Exit {
    let file = match sources::read_file(&arguments.file) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("error: {error}");
            return Exit::BadUsage;
        }
    };
    match Config::load(&Sources { file: Some(file), ..Sources::default() }) {
        Ok(config) => {
            let mut output = io::stdout().lock();
            let _ = writeln!(output, "{}: ok", arguments.file.display());
            for listener in &config.listeners {
                let anonymous = if config.admits_anonymous(listener) { "admitted" } else { "refused" };
                let _ = writeln!(output, "  {}: anonymous clients are {anonymous}", listener.display_name());
            }
            Exit::Done
        }
        Err(errors) => {
            eprintln!("{}", errors.render(is_coloured(&io::stderr())));
            let count = errors.0.len();
            eprintln!("\n{}: {count} {}", arguments.file.display(), if count == 1 { "error" } else { "errors" });
            Exit::BadUsage
        }
    }
}
