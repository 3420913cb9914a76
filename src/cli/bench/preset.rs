//! The cases of the Open MQTT Benchmark Suite by their names: a preset is nothing but arguments.

use clap::{Args, Parser};

use super::arguments::Scenario;

#[derive(Clone, Debug, Args)]
pub(super) struct PresetArgs {
    /// Its name; `singlenode-` may be left out.
    #[arg(value_name = "NAME", required_unless_present = "list")]
    pub name: Option<String>,
    /// Tell the presets and what they stand for.
    #[arg(long)]
    pub list: bool,
    /// Further arguments of the scenario; they take the place of the preset's.
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub further: Vec<String>,
}

/// A case of the suite.
struct Preset {
    name: &'static str,
    arguments: &'static str,
}

/// The suite sends 16 bytes at QoS 1, each publisher once a second, with a keep-alive of 300 s; shares need 5.0 by its book.
const PRESETS: [Preset; 4] = [
    Preset {
        name: "singlenode-p2p-1K-1K-1K-1K",
        arguments: "p2p --pairs 1000 --rate 1000 --payload 16 --qos 1 --keep-alive 300",
    },
    Preset {
        name: "singlenode-fanout-1-1K-1-1K",
        arguments: "fanout --publishers 1 --subscribers 1000 --rate 1 --payload 16 --qos 1 --keep-alive 300",
    },
    Preset {
        name: "singlenode-sharedsub-1K-5-1K-1K",
        arguments: "sharedsub --publishers 1000 --subscribers 5 --rate 1000 --payload 16 --qos 1 --version 5 \
                    --keep-alive 300",
    },
    Preset {
        name: "singlenode-conn-tcp-10K-100",
        arguments: "conn --clients 10000 --rate 100 --hold 10s --keep-alive 300",
    },
];

/// A scenario with its arguments, as the command line would have it.
#[derive(Debug, Parser)]
#[command(name = "ringmq bench", args_override_self = true)]
struct Expanded {
    #[command(subcommand)]
    scenario: Scenario,
}

/// The presets, one a line.
pub(super) fn list() -> String {
    PRESETS.iter().map(|preset| format!("{:<33}{}\n", preset.name, preset.arguments)).collect()
}

/// What `arguments` stand for.
///
/// # Errors
///
/// What is wrong with them.
pub(super) fn expand(arguments: &PresetArgs) -> Result<Scenario, clap::Error> {
    let wanted = arguments.name.as_deref().unwrap_or_default();
    let is_meant = |preset: &&Preset| preset.name == wanted || preset.name.strip_prefix("singlenode-") == Some(wanted);
    let preset = PRESETS.iter().find(is_meant).ok_or_else(|| {
        let known: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
        let message = format!("there is no preset '{wanted}'; there are {}\n", known.join(", "));
        clap::Error::raw(clap::error::ErrorKind::InvalidValue, message)
    })?;
    let words = preset.arguments.split_whitespace().chain(arguments.further.iter().map(String::as_str));
    Ok(Expanded::try_parse_from(std::iter::once("ringmq bench").chain(words))?.scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preset(name: &str, further: &[&str]) -> Result<Scenario, clap::Error> {
        let further = further.iter().map(|&word| word.to_owned()).collect();
        expand(&PresetArgs { name: Some(name.to_owned()), list: false, further })
    }

    #[test]
    fn every_preset_is_a_scenario_and_its_arguments_can_be_replaced() {
        for case in &PRESETS {
            assert!(preset(case.name, &[]).is_ok(), "{}", case.name);
            assert!(list().contains(case.name));
        }
        let scenario = preset("p2p-1K-1K-1K-1K", &["--pairs", "7", "--host", "127.0.0.1:1"]).unwrap();
        let Scenario::P2p { pairs, traffic, common, .. } = scenario else { panic!("{scenario:?}") };
        assert_eq!((pairs, traffic.rate, traffic.payload.to_string().as_str()), (7, Some(1000.0), "16"));
        assert_eq!((common.qos.value(), common.keep_alive, common.host.as_str()), (1, 300, "127.0.0.1:1"));
    }

    #[test]
    fn an_unknown_preset_and_a_wrong_argument_are_refused() {
        assert!(preset("p2p-2K", &[]).unwrap_err().to_string().contains("there is no preset 'p2p-2K'"));
        assert!(preset("conn-tcp-10K-100", &["--pairs", "7"]).is_err());
        assert!(preset("conn-tcp-10K-100", &["preset", "conn-tcp-10K-100"]).is_err());
    }
}
