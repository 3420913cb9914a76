//! The clients that people use, against the real broker with one shard and with four.
//!
//! The scenarios are scripts in the clients' own languages, in `tests/clients/`; `scripts/test` installs the clients. One
//! that is missing fails its tests. `RINGMQ_TEST_BROKER=127.0.0.1:1883` runs the scripts against a broker that runs already.

mod house;

use std::{path::PathBuf, process::Command};

use house::{broker::Broker, source};

#[test]
fn mosquitto_clients_work_with_one_shard() {
    run_scenarios(1, &python(), "mosquitto_scenarios.py");
}

#[test]
fn mosquitto_clients_work_with_four_shards() {
    run_scenarios(4, &python(), "mosquitto_scenarios.py");
}

#[test]
fn paho_mqtt_works_with_one_shard() {
    run_scenarios(1, &python(), "paho_scenarios.py");
}

#[test]
fn paho_mqtt_works_with_four_shards() {
    run_scenarios(4, &python(), "paho_scenarios.py");
}

#[test]
fn aiomqtt_works_with_one_shard() {
    run_scenarios(1, &python(), "aiomqtt_scenarios.py");
}

#[test]
fn aiomqtt_works_with_four_shards() {
    run_scenarios(4, &python(), "aiomqtt_scenarios.py");
}

#[test]
fn mqtt_js_works_with_one_shard() {
    run_scenarios(1, &PathBuf::from("node"), "mqttjs_scenarios.mjs");
}

#[test]
fn mqtt_js_works_with_four_shards() {
    run_scenarios(4, &PathBuf::from("node"), "mqttjs_scenarios.mjs");
}

fn run_scenarios(shards: usize, interpreter: &PathBuf, script: &str) {
    let mut broker = Broker::start(shards, &["127.0.0.1"], &[]);
    let address = broker.address();
    let output = Command::new(interpreter)
        .arg(source::root().join("tests/clients").join(script))
        .args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; scripts/test installs it", interpreter.display()));
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(broker.is_running(), "the broker ended while {script} ran:\n{}", broker.log());
    assert!(output.status.success(), "{script} with {shards} shards: {}", output.status);
}

/// The Python that has paho-mqtt and aiomqtt at their pinned versions.
fn python() -> PathBuf {
    source::root().join("tests/clients/.venv/bin/python")
}
