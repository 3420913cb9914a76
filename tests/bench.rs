//! `ringmq bench` against the real broker: what it counts must add up, and nothing may be lost, repeated or reordered.

mod house;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use house::broker::Broker;
use serde_json::Value;

/// Runs `ringmq bench` with `arguments` against `host`.
fn bench(host: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmq"))
        .arg("bench")
        .args(arguments)
        .args(["--host", host])
        .output()
        .expect("ringmq can be started")
}

/// Its report, when it ends well.
fn report(host: &str, arguments: &[&str]) -> Value {
    let output = bench(host, &[arguments, &["--json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn number(report: &Value, name: &str) -> f64 {
    report.get(name).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number {name} in {report:#}"))
}

/// Checks what every run with messages must hold; `receivers` hear each publisher.
fn check_messages(report: &Value, receivers: f64) {
    let check = |name: &str| number(report, name);
    assert!(check("published") > 0.0, "{report:#}");
    assert_eq!(check("deliveries_expected"), check("published") * receivers, "{report:#}");
    assert_eq!(check("delivered"), check("deliveries_expected"), "{report:#}");
    for wrong in ["lost", "duplicated", "reordered", "refused", "foreign", "connections_lost"] {
        assert_eq!(check(wrong), 0.0, "{wrong}: {report:#}");
    }
    assert!(number(report, "delivered_per_second") > 0.0, "{report:#}");
    let latency = |name: &str| number(report, &format!("latency_{name}_us"));
    assert!(latency("p50") <= latency("p99") && latency("p99") <= latency("max"), "{report:#}");
}

const SHORT: [&str; 4] = ["--warmup", "50ms", "--duration", "200ms"];

#[test]
fn pairs_lose_nothing_at_any_qos_in_any_version() {
    let broker = Broker::start(2, &["127.0.0.1"], &[]);
    let host = broker.address().to_string();
    for qos in ["0", "1", "2"] {
        for version in ["3.1", "3.1.1", "5"] {
            for window in ["1", "20"] {
                let arguments = ["p2p", "--pairs", "8", "--qos", qos, "--version", version, "--window", window];
                let report = report(&host, &[&arguments[..], &SHORT].concat());
                check_messages(&report, 1.0);
                assert_eq!(number(&report, "qos").to_string(), qos);
                assert_eq!(number(&report, "connections"), 16.0);
            }
        }
    }
}

#[test]
fn every_subscriber_of_a_fan_out_and_a_fan_in_hears_everything() {
    let broker = Broker::start(2, &["127.0.0.1"], &[]);
    let host = broker.address().to_string();
    for (scenario, publishers, subscribers) in [("fanout", "2", "30"), ("fanin", "30", "2")] {
        for qos in ["0", "1"] {
            let who = [scenario, "--publishers", publishers, "--subscribers", subscribers, "--qos", qos];
            let report = report(&host, &[&who[..], &["--window", "4"], &SHORT].concat());
            check_messages(&report, subscribers.parse().unwrap());
        }
    }
}

#[test]
fn large_payloads_arrive_whole() {
    let broker = Broker::start(1, &["127.0.0.1"], &[]);
    let host = broker.address().to_string();
    for payload in ["16", "3000", "100000"] {
        let arguments = ["p2p", "--pairs", "2", "--payload", payload, "--window", "2", "--qos", "1"];
        check_messages(&report(&host, &[&arguments[..], &SHORT].concat()), 1.0);
    }
}

#[test]
fn payloads_of_many_lengths_arrive_with_their_own() {
    let broker = Broker::start(1, &["127.0.0.1"], &[]);
    let host = broker.address().to_string();
    for (payload, mean) in [("16..1024", 520.0), ("64:9,20000:1", 2057.6)] {
        for qos in ["0", "2"] {
            let arguments = ["p2p", "--pairs", "3", "--payload", payload, "--window", "4", "--qos", qos];
            let report = report(&host, &[&arguments[..], &SHORT].concat());
            check_messages(&report, 1.0);
            let told = number(&report, "payload_bytes_mean");
            assert!((told / mean - 1.0).abs() < 0.01, "{payload}: {told}");
        }
    }
}

#[test]
fn threads_share_the_messages_and_lose_none() {
    let broker = Broker::start(2, &["127.0.0.1"], &[]);
    let host = broker.address().to_string();
    for (scenario, counts, receivers) in [
        ("p2p", ["--pairs", "5", "--opening", "3"], 1.0),
        ("fanout", ["--publishers", "2", "--subscribers", "21"], 21.0),
        ("fanin", ["--publishers", "21", "--subscribers", "2"], 2.0),
    ] {
        for qos in ["0", "1"] {
            for loop_ in [["--window", "3"], ["--rate", "2000"]] {
                let more = ["--qos", qos, "--threads", "3", "--source", "127.0.0.2,127.0.0.3"];
                let report = report(&host, &[&[scenario][..], &counts, &loop_, &more, &SHORT].concat());
                check_messages(&report, receivers);
                assert_eq!(number(&report, "threads"), 3.0);
            }
        }
    }
}

#[test]
fn mosquitto_sub_counts_what_bench_says_it_published() {
    let broker = Broker::start(2, &["127.0.0.1"], &[]);
    let address = broker.addresses[0];
    for (qos, version) in [("0", "311"), ("1", "5"), ("2", "311")] {
        let mut listener = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "stdbuf",
                "-oL",
                "mosquitto_sub",
                "-h",
                "127.0.0.1",
                "-p",
                &address.port().to_string(),
            ])
            .args(["-q", qos, "-V", if version == "5" { "5" } else { "311" }, "-t", "bench/#", "-F", "%t %l", "-d"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto_sub, from the package mosquitto-clients");
        let mut lines = BufReader::new(listener.stdout.take().expect("its output")).lines().map_while(Result::ok);
        lines.find(|line| line.contains("SUBACK") || line.starts_with("Subscribed")).expect("it subscribes");
        let arguments = ["fanin", "--publishers", "7", "--rate", "3000", "--payload", "16..300", "--qos", qos];
        let report = report(&address.to_string(), &[&arguments[..], &SHORT].concat());
        check_messages(&report, 1.0);
        // What ends its count: a message of ours behind all of those, on a topic that it hears too.
        let ended = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &address.port().to_string(), "-q", qos, "-t", "bench/end", "-m", "."])
            .status();
        assert!(ended.is_ok_and(|status| status.success()));
        let heard: Vec<String> =
            lines.filter(|line| line.starts_with("bench/")).take_while(|line| line != "bench/end 1").collect();
        assert_eq!(heard.len() as f64, number(&report, "published"), "QoS {qos}");
        let bytes = |line: &String| line.rsplit(' ').next().and_then(|length| length.parse::<f64>().ok());
        let mean = heard.iter().filter_map(bytes).sum::<f64>() / heard.len() as f64;
        assert!((mean / number(&report, "payload_bytes_mean") - 1.0).abs() < 0.2, "{mean}");
        listener.kill().and_then(|()| listener.wait()).expect("it ends");
    }
}

#[test]
fn a_picture_is_drawn() {
    let broker = Broker::start(1, &["127.0.0.1"], &[]);
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench.svg");
    let told = picture.to_str().expect("a name in UTF-8");
    let host = broker.address().to_string();
    check_messages(&report(&host, &[&["p2p", "--pairs", "2", "--plot", told][..], &SHORT].concat()), 1.0);
    let svg = fs::read_to_string(&picture).expect("a picture");
    for part in ["<svg", "99 %", "Latency by percentile", "Deliveries over time", "</svg>"] {
        assert!(svg.contains(part), "{part}");
    }
    let output = bench(&host, &[&["p2p", "--pairs", "2", "--plot", "/nowhere/at/all.svg"][..], &SHORT].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: /nowhere/at/all.svg: it cannot be written"));
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let broker = Broker::start(1, &["127.0.0.1"], &[]);
    let host = broker.address().to_string();
    let arguments = ["p2p", "--pairs", "5", "--rate", "500", "--warmup", "100ms", "--duration", "1s"];
    let report = report(&host, &arguments);
    check_messages(&report, 1.0);
    assert_eq!(report.get("window"), Some(&Value::Null));
    // 1.1 s and what counting system calls adds, at 500 a second; a machine under load is late, never early.
    let published = number(&report, "published");
    assert!((100.0..=1100.0).contains(&published), "{report:#}");
}

#[test]
fn connections_are_opened_counted_and_held() {
    let broker = Broker::start(2, &["127.0.0.1"], &[]);
    let (host, pid) = (broker.address().to_string(), broker.pid().map(|pid| pid.to_string()));
    let conn = report(&host, &["conn", "--clients", "300", "--version", "5"]);
    assert_eq!(number(&conn, "connections"), 300.0);
    assert!(conn.get("published").is_none());
    let mut arguments =
        vec!["idle", "--clients", "100,200,300", "--subscriptions", "20", "--settle", "0s", "--duration", "200ms"];
    if let Some(pid) = &pid {
        arguments.extend(["--pid", pid]);
    }
    let idle = report(&host, &arguments);
    assert_eq!(idle.get("steps").and_then(Value::as_array).map(Vec::len), Some(4));
    assert_eq!(number(&idle["steps"][3], "connections"), 300.0);
    assert_eq!(number(&idle, "connections_lost"), 0.0);
    if pid.is_some() {
        assert!(number(&idle["steps"][3], "broker_resident_bytes") > 0.0);
        assert!(number(&idle, "idle_broker_cpu_percent") >= 0.0);
    }
}

#[test]
fn a_share_group_hears_everything_once_in_every_version() {
    let broker = Broker::start(2, &["127.0.0.1"], &[]);
    let host = broker.address().to_string();
    for (version, qos, groups) in [("3.1.1", "1", "1"), ("5", "0", "2"), ("5", "2", "3")] {
        let who = ["sharedsub", "--publishers", "20", "--subscribers", "5", "--groups", groups, "--version", version];
        let report = report(&host, &[&who[..], &["--qos", qos, "--window", "4"], &SHORT].concat());
        check_messages(&report, groups.parse().unwrap());
        assert_eq!(number(&report, "connections"), 25.0);
    }
}

#[test]
fn several_scenarios_go_on_at_once_while_connections_come_and_go() {
    let broker = Broker::start(2, &["127.0.0.1"], &[]);
    let host = broker.address().to_string();
    let shares = ["composite", "--publishers", "20", "--shares", "p2p=40,fanout=10,fanin=30,sharedsub=20"];
    let parts = ["--fanout-subscribers", "5", "--fanin-subscribers", "2", "--sharedsub-subscribers", "3"];
    let churn = ["--churn-clients", "10", "--churn", "100", "--rate", "2000", "--qos", "1"];
    let report = report(&host, &[&shares[..], &parts, &churn, &SHORT].concat());
    // Of every 20 messages 8 go to one subscriber, 2 to five, 6 to two, and 4 to one of a group.
    let check = |name: &str| number(&report, name);
    let (published, delivered) = (check("published"), check("delivered"));
    assert!(published >= 20.0, "{report:#}");
    assert_eq!(check("deliveries_expected"), delivered, "{report:#}");
    assert!((delivered / published - 34.0 / 20.0).abs() < 0.5, "{report:#}");
    for wrong in ["lost", "duplicated", "reordered", "refused", "foreign", "connections_lost"] {
        assert_eq!(check(wrong), 0.0, "{wrong}: {report:#}");
    }
    assert_eq!(number(&report, "connections"), 8.0 + 5.0 + 2.0 + 3.0 + 20.0);
    assert_eq!(report.pointer("/window"), Some(&Value::Null), "an open loop");
    assert!(number(&report, "churn_reconnects") > 0.0, "{report:#}");
    assert_eq!(number(&report, "churn_failures"), 0.0, "{report:#}");
}

/// Checks what a scenario found of which the number of messages is known.
fn check_exactly(report: &Value, published: f64, expected: f64) {
    let check = |name: &str| number(report, name);
    assert_eq!(check("published"), published, "{report:#}");
    assert_eq!(check("deliveries_expected"), expected, "{report:#}");
    assert_eq!(check("delivered"), expected, "{report:#}");
    for wrong in ["lost", "duplicated", "reordered", "refused", "foreign", "connections_lost"] {
        assert_eq!(check(wrong), 0.0, "{wrong}: {report:#}");
    }
}

#[test]
fn every_client_is_sent_every_retained_message_once_and_they_are_cleared() {
    let broker = Broker::start(2, &["127.0.0.1"], &[]);
    let (host, pid) = (broker.address().to_string(), broker.pid().map(|pid| pid.to_string()));
    let arguments = ["retained", "--messages", "500", "--clients", "3", "--qos", "1", "--payload", "100"];
    for version in ["3.1.1", "5"] {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--version", version]);
        if let Some(pid) = &pid {
            arguments.extend(["--pid", pid]);
        }
        let report = report(&host, &arguments);
        check_exactly(&report, 500.0, 1500.0);
        assert!(number(&report, "deliver_seconds") > 0.0, "{report:#}");
        assert_eq!(pid.is_some(), report.pointer("/broker_cpu_us_per_delivery").is_some_and(Value::is_number));
    }
    // What an earlier run left would be more than a broker keeps in this one.
    let broker = Broker::start(1, &["127.0.0.1"], &["--set", "mqtt.retained_messages_max=500"]);
    let host = broker.address().to_string();
    let rated = ["retained", "--messages", "500", "--clients", "1", "--rate", "5000"];
    for keep in [&[][..], &["--keep"]] {
        check_exactly(&report(&host, &[&rated[..], keep].concat()), 500.0, 500.0);
    }
    let full = report(&host, &rated);
    assert_eq!(number(&full, "lost"), 500.0, "{full:#}");
}

#[test]
fn what_queued_for_clients_that_were_away_is_drained_once_and_in_order() {
    let broker = Broker::start(2, &["127.0.0.1"], &[]);
    let (host, pid) = (broker.address().to_string(), broker.pid().map(|pid| pid.to_string()));
    for (version, qos) in [("3.1", "1"), ("3.1.1", "0"), ("5", "2")] {
        let mut arguments = vec!["offline", "--clients", "10", "--messages", "50", "--version", version, "--qos", qos];
        if let Some(pid) = &pid {
            arguments.extend(["--pid", pid]);
        }
        let report = report(&host, &arguments);
        check_exactly(&report, 500.0, 500.0);
        let lost = report.get("sessions_lost").and_then(Value::as_u64);
        assert_eq!(lost, (version != "3.1").then_some(0), "3.1 has no session present flag: {report:#}");
        assert!(number(&report, "drained_per_second") > 0.0);
    }
}

#[test]
fn a_queue_that_is_too_short_is_noticed() {
    let broker = Broker::start(1, &["127.0.0.1"], &["--set", "mqtt.queue_messages_max=20"]);
    let arguments = ["offline", "--clients", "4", "--messages", "50"];
    let report = report(&broker.address().to_string(), &arguments);
    assert_eq!(number(&report, "lost"), 4.0 * 30.0, "{report:#}");
    assert_eq!(number(&report, "delivered"), 4.0 * 20.0, "{report:#}");
}

#[test]
fn all_clients_return_from_a_storm_and_those_that_stay_are_answered() {
    let broker = Broker::start(2, &["127.0.0.1"], &[]);
    let arguments = ["storm", "--clients", "300", "--stay", "3", "--calm", "100ms", "--version", "5"];
    let report = report(&broker.address().to_string(), &arguments);
    for wrong in ["failures", "retries", "missing", "pings_unanswered", "ping_connections_lost"] {
        assert_eq!(number(&report, wrong), 0.0, "{report:#}");
    }
    assert_eq!(number(&report, "connections"), 300.0);
    assert!(number(&report, "storm_seconds") > 0.0, "{report:#}");
    assert!(number(&report, "pings_in_storm") > 0.0, "{report:#}");
    assert!(number(&report, "ping_storm_max_us") > 0.0, "{report:#}");
}

#[test]
fn connections_that_have_spoken_once_take_what_silent_ones_take() {
    let broker = Broker::start(1, &["127.0.0.1"], &[]);
    let pid = broker.pid().map(|pid| pid.to_string());
    let mut arguments =
        vec!["idle", "--clients", "2000,8000", "--speak-once", "--qos", "1", "--settle", "0s", "--duration", "100ms"];
    if let Some(pid) = &pid {
        arguments.extend(["--pid", pid]);
    }
    let report = report(&broker.address().to_string(), &arguments);
    assert_eq!(number(&report, "spoken_heard"), 8000.0, "{report:#}");
    assert_eq!(number(&report, "connections_lost"), 0.0, "{report:#}");
    if pid.is_some() {
        let each = number(&report, "spoken_broker_resident_bytes_per_connection");
        // An out-buffer, an outbox or a receive buffer that stayed behind would take more than the rest of it.
        assert!(each < SPOKEN_BYTES_MAX, "{report:#}");
    }
}

#[test]
fn a_preset_is_arguments_that_further_ones_replace() {
    let output = Command::new(env!("CARGO_BIN_EXE_ringmq")).args(["bench", "preset", "--list"]).output();
    let list = String::from_utf8(output.expect("ringmq can be started").stdout).expect("text");
    for case in ["p2p-1K-1K-1K-1K", "fanout-1-1K-1-1K", "sharedsub-1K-5-1K-1K", "conn-tcp-10K-100"] {
        assert!(list.contains(&format!("singlenode-{case}")), "{list}");
    }
    let broker = Broker::start(1, &["127.0.0.1"], &[]);
    let host = broker.address().to_string();
    let name = ["preset", "singlenode-sharedsub-1K-5-1K-1K"];
    let shared = report(&host, &[&name[..], &["--publishers", "10", "--rate", "500"], &SHORT].concat());
    check_messages(&shared, 1.0);
    assert_eq!(number(&shared, "connections"), 15.0);
    assert_eq!((number(&shared, "qos"), number(&shared, "payload_bytes_mean")), (1.0, 16.0));
    let arguments = ["preset", "conn-tcp-10K-100", "--clients", "50", "--hold", "200ms", "--rate", "1000"];
    let conn = report(&host, &arguments);
    assert_eq!(number(&conn, "connections"), 50.0);
    assert!(number(&conn, "connect_seconds") >= 0.045, "50 at 1000 a second: {conn:#}");
    assert_eq!(number(&conn, "connections_lost"), 0.0);
    assert!(number(&conn, "hold_seconds") >= 0.2);
}

#[test]
fn the_broker_is_measured_when_its_process_is_known() {
    let broker = Broker::start(1, &["127.0.0.1"], &[]);
    let Some(pid) = broker.pid().map(|pid| pid.to_string()) else { return };
    let arguments = ["p2p", "--pairs", "4", "--pid", &pid];
    let report = report(&broker.address().to_string(), &[&arguments[..], &SHORT].concat());
    assert!(number(&report, "broker_cpu_us_per_delivery") > 0.0);
    assert!(number(&report, "broker_resident_bytes") > 1e6);
    assert!(number(&report, "broker_cpus") >= 1.0);
    let is_saturated = number(&report, "broker_cpu_percent") >= 95.0 * number(&report, "broker_cpus");
    assert_eq!(report.get("saturated"), Some(&Value::Bool(is_saturated)), "{report:#}");
}

/// The names that perf/README.md gives to what a scenario reports, in order.
fn documented(scenario: &str) -> BTreeSet<String> {
    const MESSAGES: [&str; 5] = ["p2p", "fanout", "fanin", "sharedsub", "composite"];
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("perf/README.md")).expect("perf/README.md");
    let rows =
        text.lines().skip_while(|line| *line != "| in | name | meaning |").take_while(|line| line.starts_with('|'));
    let mut names = BTreeSet::new();
    for row in rows.skip(2) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let is_here = match cells[1] {
            "all" => true,
            "messages" => MESSAGES.contains(&scenario),
            "checks" => MESSAGES.contains(&scenario) || ["retained", "offline"].contains(&scenario),
            one => one == scenario,
        };
        for name in cells[2].split('`').skip(1).step_by(2).filter(|_| is_here) {
            match name.strip_suffix("*_us") {
                Some(start) => {
                    names.extend(["p50", "p90", "p99", "p99_9", "max"].map(|quantile| format!("{start}{quantile}_us")));
                }
                None => names.extend([name.to_owned()]),
            }
        }
    }
    names
}

#[test]
fn every_scenario_reports_what_is_documented_and_nothing_else() {
    let broker = Broker::start(1, &["127.0.0.1"], &[]);
    let host = broker.address().to_string();
    let Some(pid) = broker.pid().map(|pid| pid.to_string()) else { return };
    for arguments in [
        &["p2p", "--pairs", "2"][..],
        &["fanout", "--subscribers", "3"],
        &["fanin", "--publishers", "3"],
        &["sharedsub", "--publishers", "3"],
        &["composite", "--publishers", "10", "--churn-clients", "2", "--rate", "1000"],
        &["conn", "--clients", "5", "--hold", "50ms"],
        &["idle", "--clients", "5,10,15", "--speak-once", "--settle", "0s", "--duration", "50ms"],
        &["retained", "--messages", "50", "--clients", "2"],
        &["offline", "--clients", "2", "--messages", "10"],
        &["storm", "--clients", "5", "--stay", "1", "--calm", "50ms"],
    ] {
        let has_messages = ["p2p", "fanout", "fanin", "sharedsub", "composite"].contains(&arguments[0]);
        let short = if has_messages { &SHORT[..] } else { &[] };
        let report = report(&host, &[arguments, short, &["--pid", &pid]].concat());
        let told: BTreeSet<String> = report.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(told, documented(arguments[0]), "{arguments:?}");
    }
}

#[test]
fn a_person_gets_a_table() {
    let broker = Broker::start(1, &["127.0.0.1"], &[]);
    let output = bench(&broker.address().to_string(), &[&["p2p", "--pairs", "2"][..], &SHORT].concat());
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("none lost, duplicated or reordered"), "{table}");
    assert!(!table.contains('\u{1b}'), "{table}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_unreachable_broker_and_wrong_flags_get_one_clear_line() {
    // A port that was free a moment ago and that nobody listens on.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let free = free.to_string();
    for (host, arguments, code, told) in [
        (free.as_str(), &["p2p"][..], 1, "error: cannot connect to 127.0.0.1:"),
        ("nowhere", &["p2p"], 2, "error: nowhere: no such host, or no port"),
        (&free, &["p2p", "--pid", "4194305"], 2, "error: there is no process 4194305"),
        (&free, &["p2p", "--cpu", "4096"], 2, "error: CPU 4096 is not one"),
        (&free, &["p2p", "--qos", "3"], 2, "error: invalid value '3' for '--qos"),
        (&free, &["p2p", "--payload", "15"], 2, "error: invalid value '15' for '--payload"),
        (&free, &["p2p", "--payload", "64:0"], 2, "error: invalid value '64:0' for '--payload"),
        (&free, &["p2p", "--cpus", "1-"], 2, "error: invalid value '1-' for '--cpus"),
        (&free, &["p2p", "--threads", "0"], 2, "error: invalid value '0' for '--threads"),
        (&free, &["p2p", "--source", "::1"], 2, "error: ::1 is no address to reach 127.0.0.1:"),
        (&free, &["p2p", "--source", "192.0.2.1"], 1, "error: cannot connect to 127.0.0.1:"),
        (&free, &["conn", "--plot", "conn.svg"], 2, "error: --plot draws messages"),
        (&free, &["fanout", "--version", "6"], 2, "error: invalid value '6' for '--version"),
        (&free, &["conn", "--rate", "0"], 2, "error: invalid value '0' for '--rate"),
        (&free, &["retained"], 1, "error: cannot connect to 127.0.0.1:"),
        (&free, &["offline"], 1, "error: cannot connect to 127.0.0.1:"),
        (&free, &["storm"], 1, "error: cannot connect to 127.0.0.1:"),
        (&free, &["composite"], 1, "error: cannot connect to 127.0.0.1:"),
        (&free, &["preset", "p2p-1K-1K-1K-1K"], 1, "error: cannot connect to 127.0.0.1:"),
        (&free, &["preset", "p2p-1K"], 2, "error: there is no preset 'p2p-1K'"),
        (&free, &["composite", "--shares", "p2p=50"], 2, "error: invalid value 'p2p=50' for '--shares"),
        (&free, &["storm", "--ping", "0ms"], 2, "error: invalid value '0ms' for '--ping"),
        (&free, &["storm", "--threads", "2"], 2, "error: storm works on one thread"),
        (&free, &["retained", "--messages", "1000000", "--clients", "1000000"], 2, "error: 1000000 messages"),
        (&free, &["fanin", "--publishers", "1000000", "--subscribers", "1000000"], 2, "error: 1000000 publishers"),
    ] {
        let output = bench(host, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.starts_with(told), "{arguments:?}: {errors}");
        assert!(output.stdout.is_empty());
        assert!(code == 2 || errors.lines().count() == 1, "{errors}");
    }
}

#[test]
fn a_refused_connection_ends_the_run_with_the_brokers_reason() {
    for scenario in [&["p2p", "--pairs", "1"][..], &["storm", "--clients", "1"]] {
        refused(scenario);
    }
}

fn refused(scenario: &[&str]) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let refusing = thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a connection");
        let mut connect = [0; 64];
        let _ = connection.read(&mut connect).expect("CONNECT");
        // CONNACK of 3.1.1 with return code 5.
        connection.write_all(&[0x20, 2, 0, 5]).expect("CONNACK");
        // Open until the client goes: a reset could overtake the answer.
        while connection.read(&mut connect).is_ok_and(|length| length > 0) {}
    });
    let output = bench(&address, &[scenario, &["--opening", "1"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.starts_with("error: the server refused the connection: "), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    refusing.join().expect("the server that refuses ends well");
}

/// Of memory for each connection, twice what one takes: a few thousand are few beside what a process has anyway.
const SPOKEN_BYTES_MAX: f64 = 1000.0;
