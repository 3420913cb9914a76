//! `ringmq store`: what its commands print, change and refuse.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A directory of its own for each test.
fn room(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("store-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("room on the disk");
    path
}

/// Runs `ringmq store COMMAND` on a directory; the exit code, and what was printed where.
fn store(command: &str, directory: &Path, further: &[&str]) -> (i32, String, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    process.args(["store", command, "--data-dir"]).arg(directory).args(further);
    let Output { status, stdout, stderr } = process.output().expect("ringmq starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().expect("it ends by itself"), text(stdout), text(stderr))
}

fn import(directory: &Path, lines: &str) -> (i32, String, String) {
    let file = directory.with_extension("jsonl");
    fs::write(&file, lines).expect("room on the disk");
    store("import", directory, &[&*file.to_string_lossy()])
}

/// A store made of [`LINES`].
fn made(room: &Path) -> PathBuf {
    let directory = room.join("data");
    let (code, _, errors) = import(&directory, LINES);
    assert_eq!((code, &*errors), (0, ""));
    directory
}

fn find(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    assert!(path.is_file(), "{}", path.display());
    path
}

#[test]
fn what_is_imported_is_exported_the_same_and_salvaged_the_same() {
    let room = room("round-trip");
    let directory = made(&room);
    assert_eq!(store("export", &directory, &[]), (0, LINES.into(), String::new()));
    let output = room.join("out.jsonl");
    assert_eq!(store("export", &directory, &["--output", &output.to_string_lossy()]).0, 0);
    assert_eq!(fs::read_to_string(output).expect("written"), LINES);
    let salvaged = room.join("salvaged");
    let (code, text, _) = store("salvage", &directory, &["--to", &salvaged.to_string_lossy()]);
    assert!(code == 0 && text.contains("queued messages: 4 copied, 0") && !text.contains("missing: "), "{text}");
    assert_eq!(store("export", &salvaged, &[]).1, LINES);
    for directory in [directory, salvaged] {
        let (code, text, errors) = store("check", &directory, &[]);
        assert!(code == 0 && text.contains("ok: commit") && errors.is_empty(), "{text}{errors}");
    }
}

#[test]
fn what_an_older_version_exported_is_imported() {
    let directory = room("older");
    let older = LINES.replace(r#""version":3"#, r#""version":1"#);
    let (code, _, errors) = import(&directory, &older);
    assert_eq!((code, store("export", &directory, &[]).1), (0, LINES.into()), "{errors}");
}

#[test]
fn stats_count_each_kind() {
    let directory = made(&room("stats"));
    let (code, text, _) = store("stats", &directory, &["--queues", "1"]);
    assert_eq!(code, 0);
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.trim_start_matches(name).split_whitespace().next().expect("a count").to_owned()
    };
    let names = ["sessions", "subscriptions", "QoS 2 identifiers", "Wills", "retained messages", "queued messages"];
    assert_eq!(names.map(of), ["2", "1", "3", "1", "1", "4"]);
    assert_eq!((of("distinct messages"), of("first")), ("2".into(), "3".into()), "{text}");
    assert!(!text.contains("second"), "one queue was asked for: {text}");
}

#[test]
fn a_directory_in_use_missing_or_newer_is_refused_by_every_command() {
    let room = room("refused");
    let directory = made(&room);
    let target = room.join("target");
    let commands = |directory: &Path| {
        let to = target.to_string_lossy().into_owned();
        let salvage = store("salvage", directory, &["--to", &to]);
        [store("check", directory, &[]), store("stats", directory, &[]), store("export", directory, &[]), salvage]
    };
    let lock = File::open(find(&directory, "lock")).expect("readable");
    lock.lock().expect("free");
    for (code, text, errors) in commands(&directory) {
        assert!(code == 1 && text.is_empty() && errors.contains("another process uses"), "{errors}");
    }
    drop(lock);
    for (code, _, errors) in commands(&room.join("nowhere")) {
        assert!(code == 1 && errors.contains("no data directory"), "{errors}");
    }
    assert!(!room.join("nowhere").exists());
    fs::write(find(&directory, "format"), "7").expect("room on the disk");
    for (code, _, errors) in commands(&directory) {
        assert!(code == 1 && errors.contains("format 7 by a newer RingMQ"), "{errors}");
    }
    assert!(!target.exists());
}

#[test]
fn damage_is_told_line_by_line_and_the_rest_is_salvaged() {
    let room = room("damage");
    let directory = made(&room);
    let journal = find(&directory, "db/1.jnl");
    let mut bytes = fs::read(&journal).expect("readable");
    let at = bytes.windows(4).position(|bytes| bytes == b"kept").expect("the retained message is there");
    bytes[at] ^= 1;
    fs::write(&journal, &bytes).expect("room on the disk");
    fs::write(find(&directory, "watermark"), "").expect("room on the disk");
    let (code, text, errors) = store("check", &directory, &[]);
    assert_eq!(code, 1);
    assert!(text.lines().any(|line| line.contains("1.jnl: ")) && text.lines().any(|line| line.contains("watermark: ")));
    assert!(errors.contains("ringmq store salvage"), "{errors}");
    assert_eq!(fs::read(&journal).expect("readable"), bytes);
    for command in ["stats", "export"] {
        let (code, text, errors) = store(command, &directory, &[]);
        assert!(code == 1 && text.is_empty() && errors.contains("ringmq store salvage"), "{errors}");
    }
    let target = room.join("new");
    let to = target.to_string_lossy().into_owned();
    let (code, text, _) = store("salvage", &directory, &["--to", &to]);
    assert!(code == 0 && text.contains("missing: ") && text.contains("1.jnl"), "{text}");
    assert_eq!(store("check", &target, &[]).0, 0);
    let (code, _, errors) = store("salvage", &directory, &["--to", &to]);
    assert!(code == 1 && errors.contains("is not empty"), "{errors}");
}

#[test]
fn what_is_no_export_is_refused_with_its_line_and_leaves_nothing() {
    let room = room("import");
    let session = r#"{"kind":"session","client_id":"a","expiry_interval_s":1,"sent_below":0,"subscriptions":[]}"#;
    let queued = |rest: &str| format!("{HEAD}\n{session}\n{{\"kind\":\"queued\",\"sequence\":1,\"qos\":1{rest}}}\n");
    let cases = [
        (String::new(), "line 1: the file is empty"),
        ("{}\n".into(), "line 1: missing field `kind`"),
        (format!("{session}\n"), "line 1: the first line"),
        (r#"{"kind":"export","version":4}"#.into(), "line 1: version 4 was written by a newer"),
        (format!("{HEAD}\n{session}\n{session}\n"), "line 3: there is a session of \"a\" already"),
        (format!("{HEAD}\n{{\"kind\":\"queued\",\"sequence\":1,\"qos\":1}}"), "line 2: a queued message comes after"),
        (
            format!("{HEAD}\n{}\n", session.replace("0,", r#"0,"used_below":9,"held":[[4,9],[2,3]],"#)),
            "line 2: the ranges that are held",
        ),
        (
            format!("{HEAD}\n{}\n", session.replace("0,", r#"0,"held":[[4,18446744073709551615]],"#)),
            "line 2: there is no sequence number 18446744073709551615",
        ),
        (queued(r#","body":9"#), "line 3: there is no body 9"),
        (queued(r#","message":{"topic":"a/+","qos":1}"#), "line 3: \"a/+\" is no topic name"),
        (queued(r#","message":{"topic":"a","qos":3}"#), "line 3: there is no QoS 3"),
        (queued(r#","message":{"topic":"a","qos":1,"payload_base64":"?"}"#), "line 3: payload_base64: "),
        (queued(r#","message":{"topic":"a","qos":1,"colour":1}"#), "line 3: unknown field `colour`"),
    ];
    for (lines, expected) in cases {
        let directory = room.join("data");
        let (code, _, errors) = import(&directory, &lines);
        assert!(code == 1 && errors.contains(expected), "{expected}: {errors}");
        assert!(!directory.exists(), "{expected}");
    }
    let directory = made(&room);
    let (code, _, errors) = import(&directory, LINES);
    assert!(code == 1 && errors.contains("is not empty"), "{errors}");
    assert_eq!(store("export", &directory, &[]).1, LINES, "what was there is as it was");
}

const HEAD: &str = r#"{"kind":"export","version":3}"#;

/// An export with everything in it.
const LINES: &str = r#"{"kind":"export","version":3}
{"kind":"body","body":1,"message":{"topic":"a/b","qos":1,"payload":"for both"}}
{"kind":"session","client_id":"first","expiry_interval_s":4294967295,"offline_since_us":5,"sent_below":2,"used_below":20,"reserved_below":30,"held":[[5,7],[9,20]],"subscriptions":[{"filter":"a/#","options":1,"identifier":7}],"received":[3,{"identifier":4,"fingerprint":18446744073709551615},{"identifier":5,"fingerprint":7,"is_doubted":true}],"will":{"delay_s":1,"message_expiry_interval_s":2,"message":{"topic":"w","qos":0,"payload":""}}}
{"kind":"queued","sequence":1,"qos":2}
{"kind":"queued","sequence":2,"qos":1,"subscription_identifiers":[7,8],"body":1}
{"kind":"queued","sequence":4,"qos":2,"retain":true,"message":{"topic":"a/b","qos":2,"payload_base64":"/w==","properties_base64":"AQE=","expires_at_us":9}}
{"kind":"session","client_id":"second","expiry_interval_s":60,"sent_below":0,"subscriptions":[]}
{"kind":"queued","sequence":0,"qos":1,"body":1}
{"kind":"retained","message":{"topic":"kept","qos":1,"retain":true,"payload":"value","stamp":[1,2,3]}}
"#;
