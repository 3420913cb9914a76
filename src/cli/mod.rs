//! The commands of the `ringmq` binary.
//!
//! Owns the command line, the exit codes, the log's output, and all reading of files and environment that
//! [`crate::config`] is fed with. Always holds: what a program might read goes to standard output, what a person
//! should know to standard error; colours appear on terminals only, and not when `NO_COLOR` is set.
//! Must never: decide anything about MQTT.
//!
//! A command is a variant of `Command`, and a file with its arguments (clap `Args`) and a function from them to an
//! `Exit`.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done, or stopped by a signal and drained |
//! | 1 | can't run here: kernel, limits, addresses, a data directory that is in use or damaged |
//! | 2 | the command line or the configuration is wrong |

mod bench;
mod check_config;
mod doctor;
pub mod log;
mod serve;
mod sources;
mod starting;
mod store;

use std::{io::IsTerminal, process::ExitCode};

use clap::{Parser, Subcommand, builder::styling};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// It did what it should.
    Done = 0,
    /// It can't run on this machine, or not now.
    CannotRun = 1,
    /// The command line or the configuration is wrong.
    BadUsage = 2,
}

/// An MQTT broker for Linux servers: thread per core on io_uring. MQTT 3.1, 3.1.1 and 5.0.
#[derive(Debug, Parser)]
#[command(
    name = "ringmq",
    version,
    long_version = LONG_VERSION,
    styles = STYLES,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = EXAMPLES,
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    /// Without a command, `ringmq` serves.
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    CheckConfig(check_config::CheckConfigArgs),
    Bench(bench::BenchArgs),
    Doctor(doctor::DoctorArgs),
    Store(store::StoreArgs),
}

/// Runs the command line and returns the process's exit code.
#[must_use]
pub fn main() -> ExitCode {
    let exit = match CommandLine::try_parse() {
        Ok(command_line) => run(command_line),
        Err(error) => {
            // Help and version come as errors too, with exit code 0. There is nobody to tell when printing fails.
            let _ = error.print();
            if error.exit_code() == 0 { Exit::Done } else { Exit::BadUsage }
        }
    };
    ExitCode::from(exit as u8)
}

fn run(command_line: CommandLine) -> Exit {
    match command_line.command.unwrap_or(Command::Serve(command_line.serve)) {
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::CheckConfig(arguments) => check_config::check_config(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
        Command::Store(arguments) => store::run(&arguments),
    }
}

/// Whether what is written to `stream` may have colours.
fn is_coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

const LONG_VERSION: &str = if cfg!(debug_assertions) {
    concat!(env!("CARGO_PKG_VERSION"), " (debug build, MQTT 3.1, 3.1.1 and 5.0, io_uring)")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (release build, MQTT 3.1, 3.1.1 and 5.0, io_uring)")
};

const EXAMPLES: &str = "\
Examples:
  ringmq                                     serve on port 1883 of this machine only
  ringmq serve --config ringmq.toml          serve as the file says
  ringmq serve --listen 0.0.0.0:1883 --allow-anonymous
  ringmq check-config ringmq.toml            say what is wrong with a file
  ringmq bench p2p --pairs 100               load a broker and measure it
  ringmq doctor                              say what this machine allows
  ringmq store check --data-dir DIR          say what is wrong with what a broker keeps

Exit codes: 0 done, 1 cannot run here, 2 wrong command line or configuration.";

const STYLES: styling::Styles = styling::Styles::styled()
    .header(styling::AnsiColor::Green.on_default().bold())
    .usage(styling::AnsiColor::Green.on_default().bold())
    .literal(styling::AnsiColor::Cyan.on_default().bold())
    .placeholder(styling::AnsiColor::Cyan.on_default());

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::CommandLine::command().debug_assert();
    }
}
