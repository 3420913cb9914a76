//! The `ringmq` binary's command line: what it prints where, and its exit codes.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// Runs `ringmq` with `arguments` and nothing of this process's environment.
fn ringmq(arguments: &[&str]) -> Output {
    ringmq_with(arguments, &[])
}

fn ringmq_with(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmq"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("ringmq can be started")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("ringmq ends by itself")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file of its own for each test, in the directory that cargo gives to integration tests.
fn file(name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the test's file can be written");
    path
}

#[test]
fn help_and_version_are_printed() {
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["serve", "--help"],
        &["check-config", "--help"],
        &["doctor", "--help"],
        &["bench", "--help"],
        &["bench", "p2p", "--help"],
        &["bench", "p2p", "--help"],
        &["store", "--help"],
        &["store", "check", "--help"],
        &["store", "salvage", "--help"],
        &["store", "stats", "--help"],
        &["store", "export", "--help"],
        &["store", "import", "--help"],
    ] {
        let output = ringmq(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}");
        assert!(stdout(&output).contains("Usage: ringmq"), "{arguments:?}");
        assert!(!stdout(&output).contains('\u{1b}'), "colours are for terminals: {arguments:?}");
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
    let help = stdout(&ringmq(&["serve", "--help"]));
    for flag in ["--config", "--listen", "--shards", "--cpus", "--allow-anonymous", "--log", "--set"] {
        assert!(help.contains(flag), "{flag}");
    }
    let version = ringmq(&["--version"]);
    assert_eq!(code(&version), 0);
    assert!(stdout(&version).starts_with(concat!("ringmq ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["--no-such-flag"][..],
        &["no-such-command"],
        &["serve", "--shards"],
        &["check-config"],
        &["check-config", "/no/such/file"],
        &["serve", "--config", "/no/such/file"],
        &["doctor", "extra"],
    ] {
        let output = ringmq(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(stderr(&output).starts_with("error: "), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn wrong_settings_of_the_command_line_and_environment_are_shown() {
    for (arguments, environment, told) in [
        (&["--shards", "many"][..], &[][..], "--> command line:1:10"),
        (&["serve", "--shards", "-1"], &[], "--shards -1"),
        (&["serve", "--listen", "1883"], &[], "--listen 1883"),
        (&["serve", "--cpus", "x"], &[], "--cpus x"),
        (&["serve", "--log", "loud"], &[], "--log loud"),
        (&["serve", "--set", "mqtt.inflight=3"], &[], "did you mean `inflight_max`?"),
        (&["serve"], &[("RINGMQ_LOG__LEVEL", "loud")], "RINGMQ_LOG__LEVEL=loud"),
    ] {
        let output = ringmq_with(arguments, environment);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(stderr(&output).contains(told), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn doctor_says_what_it_found_and_whether_ringmq_can_run() {
    let output = ringmq(&["doctor"]);
    let report = stdout(&output);
    for name in ["kernel", "io_uring", "nofile", "memlock", "somaxconn", "port range"] {
        assert!(report.lines().any(|line| line.contains(name)), "{name}: {report}");
    }
    let fails = report.lines().any(|line| line.starts_with("FAIL"));
    let (verdict, expected_code) = if fails { ("cannot run here", 1) } else { ("can run here", 0) };
    assert!(report.contains(verdict), "{report}");
    assert_eq!(code(&output), expected_code);
}

#[test]
fn a_right_file_is_ok() {
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/ringmq.toml");
    let output = ringmq_with(&["check-config", reference], &[("RINGMQ_LOG__LEVEL", "loud")]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    let expected = format!(
        "{reference}: ok\n  tcp:127.0.0.1:1883: anonymous clients are admitted\n  \
         tcp:[::1]:1883: anonymous clients are admitted\n"
    );
    assert_eq!(stdout(&output), expected);
}

#[test]
fn a_wrong_file_is_shown_with_all_its_errors() {
    let path = file("wrong.toml", "[mqtt]\ninflight_mx = 3\n\n[log]\nlevel = \"loud\"\n");
    let output = ringmq(&["check-config", &path.to_string_lossy()]);
    assert_eq!(code(&output), 2);
    assert_eq!(stdout(&output), "");
    let path = path.display();
    let expected = format!(
        "\
error: [mqtt] has no key `inflight_mx`
 --> {path}:2:1
  |
2 | inflight_mx = 3
  | ^^^^^^^^^^^
  |
  = help: did you mean `inflight_max`?

error: unknown value
 --> {path}:5:9
  |
5 | level = \"loud\"
  |         ^^^^^^
  |
  = help: allowed: \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"

{path}: 2 errors
"
    );
    assert_eq!(stderr(&output), expected);
}

#[test]
fn files_that_are_no_text_or_too_large_are_refused() {
    for (name, bytes, told) in [
        ("latin1.toml", b"[node]\nname = \"gr\xf6\xdfer\"\n".to_vec(), "is not UTF-8: byte 11 of line 2"),
        ("large.toml", vec![b'#'; (1 << 20) + 1], "is larger than 1024 KiB"),
    ] {
        let output = ringmq(&["check-config", &file(name, bytes).to_string_lossy()]);
        assert_eq!(code(&output), 2, "{name}");
        assert!(stderr(&output).contains(told), "{name}: {}", stderr(&output));
    }
}
