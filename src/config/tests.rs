//! Tables: what is written against what is understood, and what is wrong against what is said.

use std::time::Duration;

use super::*;

/// Loads a file alone.
fn load_file(text: &str) -> Result<Config, ConfigErrors> {
    let file = SourceFile { path: "test.toml".to_owned(), text: text.to_owned() };
    Config::load(&Sources { file: Some(file), ..Sources::default() })
}

/// Loads `--set` arguments alone.
fn load_sets(sets: &[&str]) -> Result<Config, ConfigErrors> {
    Config::load(&Sources { sets: sets.iter().map(|&set| set.to_owned()).collect(), ..Sources::default() })
}

/// Each error as `line:column: what; help`.
fn told(result: Result<Config, ConfigErrors>) -> Vec<String> {
    let errors = result.expect_err("the configuration is wrong").0;
    errors
        .iter()
        .map(|error| {
            let (line, column) = error.place.line_and_column();
            let help = error.violation.help().map_or(String::new(), |help| format!("; {help}"));
            format!("{line}:{column}: {}{help}", error.violation)
        })
        .collect()
}

const REWRITE: &str =
    "ringmq.toml is not what the declarations say: RINGMQ_WRITE_REFERENCE=1 makes this test rewrite it";

#[test]
fn the_reference_file_is_complete_and_equals_the_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/ringmq.toml");
    if std::env::var_os("RINGMQ_WRITE_REFERENCE").is_some() {
        std::fs::write(path, reference()).expect("ringmq.toml can be written");
    }
    let text = std::fs::read_to_string(path).expect("ringmq.toml stands in the repository's root");
    let expected = reference();
    if let Some((found, expected)) = text.lines().zip(expected.lines()).find(|(found, expected)| found != expected) {
        panic!("{REWRITE}\n   found: {found}\nexpected: {expected}");
    }
    assert_eq!(text.len(), expected.len(), "{REWRITE}");
    assert_eq!(load_file(&text), Ok(Config::default()));
    for names in super::reference::names() {
        let section = text.split("\n[").map(|part| part.trim_start_matches('[')).find_map(|part| {
            let (name, keys) = part.split_once(']')?;
            (name == names.section).then_some(keys)
        });
        let section = section.unwrap_or_else(|| panic!("[{}] is missing", names.section));
        for key in names.keys {
            assert!(section.contains(&format!("\n{key} = ")), "{key} is missing in [{}]", names.section);
        }
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "a line of ringmq.toml is too long");
}

#[test]
fn nothing_at_all_gives_the_defaults() {
    assert_eq!(Config::load(&Sources::default()), Ok(Config::default()));
    assert_eq!(load_file(""), Ok(Config::default()));
    assert_eq!(load_file("[mqtt]\n# nothing\n"), Ok(Config::default()));
}

#[test]
fn every_key_of_a_file_is_read() {
    let config = load_file(
        r#"
        [node]
        name = "broker-1"
        [runtime]
        shards = 8
        cpus = "0-3, 6"
        receive_buffer_bytes = "8KiB"
        connect_timeout = "250ms"
        linger_timeout = 5
        interest_slots = 0x10_0000
        [[listener]]
        address = "0.0.0.0:1883"
        name = "public"
        allow_anonymous = true
        connections_max = 10_000
        [[listener]]
        address = "[::1]:1884"
        protocol = "tcp"
        allow_anonymous = "inherit"
        connections_max = "unlimited"
        [auth]
        allow_anonymous = false
        [mqtt]
        packet_bytes_max = 1_000
        keep_alive_max = "5m"
        session_expiry_max = "unlimited"
        session_expiry_v3 = "1h30m"
        queue_bytes_max = "1GiB"
        queue_full = "drop-newest"
        retained_available = false
        retained_bytes_max = "unlimited"
        maximum_qos = 1
        slow_subscriber = "disconnect"
        response_information = "answers/"
        [share]
        strategy = "round-robin"
        [sys]
        enabled = false
        interval = "1m"
        [log]
        level = "trace"
        format = "json"
        "#,
    )
    .expect("the file is right");
    assert_eq!(config.node.name, "broker-1");
    assert_eq!(config.runtime.shards, 8);
    assert_eq!(config.runtime.cpus, [0, 1, 2, 3, 6]);
    assert_eq!(config.runtime.receive_buffer_bytes, 8192);
    assert_eq!(config.runtime.connect_timeout, Duration::from_millis(250));
    assert_eq!(config.runtime.linger_timeout, Duration::from_secs(5));
    assert_eq!(config.runtime.interest_slots, 1 << 20);
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.listeners[0].display_name(), "public");
    assert_eq!(config.listeners[0].connections_max, 10_000);
    assert_eq!(config.listeners[1].display_name(), "tcp:[::1]:1884");
    assert_eq!(config.listeners[1].connections_max, u32::MAX);
    assert!(config.admits_anonymous(&config.listeners[0]));
    assert!(!config.admits_anonymous(&config.listeners[1]));
    assert_eq!(config.mqtt.packet_bytes_max, 1000);
    assert_eq!(config.mqtt.keep_alive_max, Duration::from_secs(300));
    assert_eq!(whole_seconds(config.mqtt.session_expiry_max), u32::MAX);
    assert_eq!(config.mqtt.session_expiry_v3, Duration::from_secs(5400));
    assert_eq!(config.mqtt.queue_bytes_max, 1 << 30);
    assert_eq!(config.mqtt.queue_full, QueueFull::DropNewest);
    assert!(!config.mqtt.retained_available);
    assert_eq!(config.mqtt.retained_bytes_max, UNLIMITED);
    assert_eq!(config.mqtt.maximum_qos, 1);
    assert_eq!(config.mqtt.slow_subscriber, SlowSubscriber::Disconnect);
    assert_eq!(config.mqtt.response_information, "answers/");
    assert!(!config.sys.enabled);
    assert_eq!(config.sys.interval, Duration::from_secs(60));
    assert_eq!((config.log.level, config.log.format), (LogLevel::Trace, LogFormat::Json));
}

/// A file and all that is said about it.
const WRONG_FILES: &[(&str, &[&str])] = &[
    ("[mqt]\n", &["1:2: there is no section `mqt`; did you mean `mqtt`?"]),
    ("[zzzzzzzz]\n", &["1:2: there is no section `zzzzzzzz`"]),
    ("inflight_max = 3\n", &["1:1: `inflight_max` stands outside of its section; it belongs in [mqtt]"]),
    ("mqtt = 3\n", &["1:1: `mqtt` is a section, not a key; write [mqtt] and its keys below"]),
    ("[[mqtt]]\n", &["1:3: `mqtt` is a section, not a key; write [mqtt] and its keys below"]),
    ("[mqtt]\ninflight_mx = 3\n", &["2:1: [mqtt] has no key `inflight_mx`; did you mean `inflight_max`?"]),
    ("[mqtt]\nshards = 3\n", &["2:1: [mqtt] has no key `shards`; it belongs in [runtime]"]),
    ("[mqtt]\nxyzzy = 3\n", &["2:1: [mqtt] has no key `xyzzy`"]),
    ("[mqtt]\ninflight_max = \"many\"\n", &["2:16: expected a number, found text"]),
    ("[mqtt]\ninflight_max = 1.5\n", &["2:16: expected a number, found a fraction"]),
    ("[mqtt]\ninflight_max = 0\n", &["2:16: out of range; allowed: 1 to 65535"]),
    ("[mqtt]\ninflight_max = -1\n", &["2:16: out of range; allowed: 1 to 65535"]),
    ("[mqtt]\ninflight_max = 65536\n", &["2:16: out of range; allowed: 1 to 65535"]),
    ("[mqtt]\ninflight_max = 99999999999999999999\n", &["2:16: out of range; allowed: 1 to 65535"]),
    ("[mqtt]\ninflight_max = \"unlimited\"\n", &["2:16: expected a number, found text"]),
    ("[mqtt]\nsessions_max = 0\n", &["2:16: out of range; allowed: 1 to 4294967295, or \"unlimited\""]),
    ("[mqtt]\npacket_bytes_max = 1\n", &["2:20: out of range; allowed: 128 to 268435460"]),
    (
        "[mqtt]\npacket_bytes_max = \"1MB\"\n",
        &["2:20: not a size; allowed: a number of bytes, or one with KiB, MiB, GiB or TiB, such as \"256KiB\""],
    ),
    ("[mqtt]\npacket_bytes_max = true\n", &["2:20: expected a size, found true or false"]),
    (
        "[sys]\ninterval = \"soon\"\n",
        &["2:12: not a duration; allowed: a number of seconds, or numbers with ms, s, m, h or d, such as \"250ms\" \
           or \"1h30m\""],
    ),
    ("[sys]\ninterval = \"1ms\"\n", &["2:12: out of range; allowed: 1s to 1d"]),
    ("[sys]\ninterval = -1\n", &["2:12: out of range; allowed: 1s to 1d"]),
    ("[sys]\ninterval = []\n", &["2:12: expected a duration, found a list"]),
    ("[sys]\nenabled = \"yes\"\n", &["2:11: expected true or false, found text"]),
    ("[mqtt]\nkeep_alive_max = \"1500ms\"\n", &["2:18: not a whole number of seconds"]),
    ("[runtime]\nring_entries = 1000\n", &["2:16: not a power of two; the nearest are 512 and 1024"]),
    ("[runtime]\ncpus = \"0-\"\n", &["2:8: not a list of CPUs; allowed: numbers and ranges, such as \"0-3,6\""]),
    ("[runtime]\ncpus = \"3-1\"\n", &["2:8: not a list of CPUs; allowed: numbers and ranges, such as \"0-3,6\""]),
    ("[runtime]\ncpus = \"0-4000000000\"\n", &["2:8: no such CPU; the largest that can be named is 1023"]),
    (
        "[log]\nlevel = \"verbose\"\n",
        &["2:9: unknown value; allowed: \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\""],
    ),
    (
        "[mqtt]\nqueue_full = \"drop_oldest\"\n",
        &["2:14: unknown value; allowed: \"drop-oldest\", \"drop-newest\", \"disconnect\"; \
             did you mean \"drop-oldest\"?"],
    ),
    ("[auth]\nallow_anonymous = 1\n", &["2:19: expected true, false or text, found a number"]),
    ("[node]\nname = \"a/b\"\n", &["2:8: '/' is not allowed here"]),
    ("[node]\nname = \"\"\n", &["2:8: empty or too long; allowed: 1 to 128 bytes"]),
    (
        "[listener]\naddress = \"[::]:1883\"\n",
        &["1:2: `listener` is a list of sections; write [[listener]] once for each, and its keys below"],
    ),
    ("[mqtt]\nresponse_information = \"a/+\"\n", &["2:24: '+' is not allowed here"]),
    ("[[listener]]\n", &["1:1: this listener has no address; add a line such as address = \"0.0.0.0:1883\""]),
    (
        "[[listener]]\naddress = \"localhost\"\n",
        &["2:11: not an IP address with a port; allowed: for example \"127.0.0.1:1883\", \"0.0.0.0:1883\" or \
           \"[::]:1883\""],
    ),
    ("[[listener]]\naddress = \"[::]:1\"\nprotocol = \"quic\"\n", &["3:12: unknown value; allowed: \"tcp\""]),
    (
        "[[listener]]\naddress = \"[::]:1\"\nallow_anonymous = \"loopbak\"\n",
        &["3:19: unknown value; allowed: \"inherit\", \"true\", \"false\", \"loopback\"; did you mean \"loopback\"?"],
    ),
    (
        "[[listener]]\naddress = \"[::]:1\"\ndurability = \"batch\"\n",
        &["3:14: unknown value; allowed: \"inherit\", \"sync\", \"batched\", \"memory\"; did you mean \"batched\"?"],
    ),
    (
        "[[listener]]\naddress = \"[::]:1\"\ndurability = \"sync\"\n[store]\ndurability = \"batched\"\n",
        &["3:14: the store promises less: \"batched\"; raise `durability` in [store], or leave it out here"],
    ),
    (
        "[[listener]]\naddress = \"[::]:1\"\n[[listener]]\naddress = \"[::]:1\"\n",
        &["4:11: another listener has this address"],
    ),
    (
        "[[listener]]\naddress = \"[::]:1\"\nname = \"a\"\n[[listener]]\naddress = \"[::]:2\"\nname = \"a\"\n",
        &["6:8: another listener has this name"],
    ),
    // All errors, by line, and columns count characters.
    (
        "[sys]\nintervall = 1\n[mqtt] # größer\ninflight_max = 0\n[log]\n\"größe\" = \"é\"\nlevel = \"é\"\n",
        &[
            "2:1: [sys] has no key `intervall`; did you mean `interval`?",
            "4:16: out of range; allowed: 1 to 65535",
            "6:1: [log] has no key `größe`",
            "7:9: unknown value; allowed: \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        ],
    ),
];

#[test]
fn what_is_wrong_with_a_file_is_said_with_line_and_column() {
    for (text, errors) in WRONG_FILES {
        assert_eq!(told(load_file(text)), *errors, "\n{text}");
    }
}

#[test]
fn errors_of_syntax_are_said_once_a_line_and_alone() {
    for (text, lines) in [
        ("[mqtt]\ninflight_max = \n", &[2][..]),
        ("[mqtt\ninflight_mx = 3\n", &[1]),
        ("[mqtt]\ninflight_max = 3\ninflight_max = 4\n", &[3]),
        ("[sys]\ninterval = 'x\n[log]\nlevel = = 3\n", &[2, 4]),
        ("\u{0}\n", &[1]),
    ] {
        let errors = load_file(text).expect_err("this is not TOML").0;
        assert!(errors.iter().all(|error| matches!(error.violation, Violation::Syntax { .. })), "{text:?}");
        assert_eq!(errors.iter().map(|error| error.place.line_and_column().0).collect::<Vec<_>>(), lines, "{text:?}");
    }
}

#[test]
fn an_error_is_shown_with_its_line_underlined() {
    let errors = load_file("[mqtt]\ninflight_mx = 3\n").expect_err("the key is unknown");
    let expected = "\
error: [mqtt] has no key `inflight_mx`
 --> test.toml:2:1
  |
2 | inflight_mx = 3
  | ^^^^^^^^^^^
  |
  = help: did you mean `inflight_max`?";
    assert_eq!(errors.to_string(), expected);
    assert!(errors.render(true).contains('\u{1b}') && !errors.render(false).contains('\u{1b}'));
}

#[test]
fn stronger_sources_win() {
    let mut sources = Sources {
        file: Some(SourceFile { path: "test.toml".to_owned(), text: "[runtime]\nshards = 2\n".to_owned() }),
        ..Sources::default()
    };
    let shards = |sources: &Sources| Config::load(sources).expect("all are right").runtime.shards;
    assert_eq!(shards(&Sources::default()), 0);
    assert_eq!(shards(&sources), 2);
    sources.environment.push(("RINGMQ_RUNTIME__SHARDS".to_owned(), "3".to_owned()));
    assert_eq!(shards(&sources), 3);
    sources.sets.push("runtime.shards=4".to_owned());
    assert_eq!(shards(&sources), 4);
    sources.sets.push("runtime.shards=5".to_owned());
    assert_eq!(shards(&sources), 5);
    sources.flags.push(Flag { flag: "--shards", section: "runtime", key: "shards", value: "6".to_owned() });
    assert_eq!(shards(&sources), 6);
}

#[test]
fn values_without_quotes_are_understood() {
    let config = load_sets(&[
        "node.name=123",
        "mqtt.packet_bytes_max=2MiB",
        "mqtt.inflight_max = 1_000",
        "mqtt.session_expiry_max=unlimited",
        "sys.interval=1h30m",
        "sys.enabled=false",
        "log.level=\"debug\"",
        "auth.allow_anonymous=true",
        "runtime.cpus=",
        "runtime.connect_timeout=3",
        "mqtt.response_information=a=b",
    ])
    .expect("all are right");
    assert_eq!(config.node.name, "123");
    assert_eq!(config.mqtt.packet_bytes_max, 2 << 20);
    assert_eq!(config.mqtt.inflight_max, 1000);
    assert_eq!(config.mqtt.session_expiry_max, Duration::MAX);
    assert_eq!(config.sys.interval, Duration::from_secs(5400));
    assert!(!config.sys.enabled);
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.auth.allow_anonymous, AllowAnonymous::Everywhere);
    assert!(config.runtime.cpus.is_empty());
    assert_eq!(config.runtime.connect_timeout, Duration::from_secs(3));
    assert_eq!(config.mqtt.response_information, "a=b");
}

#[test]
fn errors_in_the_environment_and_on_the_command_line_name_the_variable_or_flag() {
    let environment = [
        ("PATH", "/bin"),
        ("RINGMQ_SERVICE_HOST", "10.0.0.1"),
        ("RINGMQ_LOG__LEVEL", "loud"),
        ("RINGMQ_MQTT__INFLIGHT", "3"),
        ("RINGMQ_MQTT__INFLIGHT_MAX", "bytes \u{fffd}"),
        ("RINGMQ_LISTENER__1__ADDRESS", "[::]:1"),
    ];
    let sources = Sources {
        environment: environment.iter().map(|(variable, value)| (variable.to_string(), value.to_string())).collect(),
        sets: ["mqtt.keep_alive=3", "mqtt", "mqtt=3", "log.levl=off", "listener.0=3"].map(str::to_owned).to_vec(),
        flags: vec![Flag { flag: "--shards", section: "runtime", key: "shards", value: "many".to_owned() }],
        listen: vec!["localhost:1883".to_owned()],
        ..Sources::default()
    };
    let errors = Config::load(&sources).expect_err("nearly all are wrong").0;
    let told: Vec<(&str, &str, &str)> = errors
        .iter()
        .map(|error| {
            let place = &error.place;
            (place.origin_name(), place.text.as_ref(), &place.text[place.span.clone()])
        })
        .collect();
    let expected = [
        ("environment", "RINGMQ_LISTENER__1__ADDRESS=[::]:1", "RINGMQ_LISTENER__1__ADDRESS"),
        ("environment", "RINGMQ_LOG__LEVEL=loud", "loud"),
        ("environment", "RINGMQ_MQTT__INFLIGHT=3", "RINGMQ_MQTT__INFLIGHT"),
        ("environment", "RINGMQ_MQTT__INFLIGHT_MAX=bytes \u{fffd}", "bytes \u{fffd}"),
        ("command line", "--set mqtt.keep_alive=3", "mqtt.keep_alive"),
        ("command line", "--set mqtt", "mqtt"),
        ("command line", "--set mqtt=3", "mqtt"),
        ("command line", "--set log.levl=off", "log.levl"),
        ("command line", "--set listener.0=3", "listener.0"),
        ("command line", "--shards many", "many"),
        ("command line", "--listen localhost:1883", "localhost:1883"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_listener_promises_what_the_store_does_or_less() {
    let load = |store: &str, listener: &str| {
        let set = [format!("store.durability={store}"), format!("listener.0.durability={listener}")];
        load_sets(&["listener.0.address=127.0.0.1:0", &set[0], &set[1]])
    };
    let all = [("sync", Durability::Sync), ("batched", Durability::Batched), ("memory", Durability::Memory)];
    for (place, (store, given)) in all.iter().enumerate() {
        let config = load(store, "inherit").expect("right");
        assert_eq!(config.durability_of(&config.listeners[0]), *given);
        for (other, (listener, asked)) in all.iter().enumerate() {
            match load(store, listener) {
                Ok(config) => {
                    assert!(other >= place, "{listener} from {store}");
                    assert_eq!(config.durability_of(&config.listeners[0]), *asked);
                }
                Err(errors) => {
                    assert!(other < place, "{listener} from {store}");
                    assert!(errors.render(false).contains(&format!("the store promises less: \"{store}\"")));
                }
            }
        }
    }
}

#[test]
fn listeners_are_numbered_outside_of_the_file_and_listen_replaces_them() {
    let addresses = |config: &Config| config.listeners.iter().map(|it| it.address.to_string()).collect::<Vec<_>>();
    let mut sources = Sources {
        environment: vec![("RINGMQ_LISTENER__0__ADDRESS".to_owned(), "0.0.0.0:1883".to_owned())],
        sets: vec!["listener.0.allow_anonymous=true".to_owned(), "listener.1.address=[::]:1883".to_owned()],
        ..Sources::default()
    };
    let config = Config::load(&sources).expect("all are right");
    assert_eq!(addresses(&config), ["0.0.0.0:1883", "[::]:1883"]);
    assert_eq!(config.listeners.iter().map(|it| config.admits_anonymous(it)).collect::<Vec<_>>(), [true, false]);

    sources.listen = vec!["127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()];
    assert_eq!(addresses(&Config::load(&sources).expect("port 0 is no conflict")), ["127.0.0.1:0", "127.0.0.1:0"]);

    let too_many: Vec<String> =
        (0..65).map(|number| format!("[[listener]]\naddress = \"[::]:{}\"\n", number + 1)).collect();
    assert_eq!(told(load_file(&too_many.concat())), ["129:1: more than 64 listeners"]);
}

#[test]
fn anonymous_clients_are_admitted_on_loopback_unless_told_otherwise() {
    let config = Config::default();
    assert!(config.listeners.iter().all(|listener| config.admits_anonymous(listener)));
    for (setting, public, loopback) in [("loopback", false, true), ("true", true, true), ("false", false, false)] {
        let set = format!("auth.allow_anonymous={setting}");
        let config = load_sets(&[&set, "listener.0.address=0.0.0.0:1", "listener.1.address=[::1]:1"]).expect("right");
        let admitted: Vec<bool> = config.listeners.iter().map(|listener| config.admits_anonymous(listener)).collect();
        assert_eq!(admitted, [public, loopback], "{setting}");
    }
}

#[test]
fn hostile_text_never_panics() {
    // A linear congruential generator over pieces of the syntax; the seed is in the message.
    const PIECES: &[&str] = &[
        "[",
        "]",
        "[[",
        "]]",
        "mqtt",
        "listener",
        "=",
        "\n",
        "\"",
        "'",
        "é",
        "\u{0}",
        "1",
        "-",
        ".",
        "_",
        "inflight_max",
        "address",
        "\"[::]:1\"",
        "{",
        "}",
        ",",
        "#",
        "99999999999999999999",
        "0x",
        "true",
        "1979-05-27",
        "\"\"\"",
        "\u{feff}",
    ];
    for seed in 0..2000_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut text = String::new();
        for _ in 0..(seed % 24) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(PIECES[(state >> 33) as usize % PIECES.len()]);
        }
        let rendered = load_file(&text).map_err(|errors| errors.render(true));
        let set = load_sets(&[&text]).map_err(|errors| errors.render(false));
        assert!(rendered.is_ok() || !text.is_empty(), "seed {seed}");
        drop(set);
    }
}
