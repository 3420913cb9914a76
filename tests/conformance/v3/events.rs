//! `$SYS/brokers/<node>/clients/<clientid>/connected` and `.../disconnected`, as users of EMQX know them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::connect;
use crate::client::Client;
use crate::server::{Server, on_each_shard_count_with};
use crate::wire::{Connect, Packet};

/// Watches both events of `client_id`.
fn watch(server: &Server, client_id: &str) -> Client {
    let mut observer = connect(server, "o");
    observer.subscribe(&format!("$SYS/brokers/+/clients/{client_id}/connected"), 0);
    observer.subscribe(&format!("$SYS/brokers/+/clients/{client_id}/disconnected"), 0);
    observer
}

/// The next event must be `kind` of `client_id`, on the topic that names this node.
#[track_caller]
fn expect_event(observer: &mut Client, client_id: &str, kind: &str) -> Value {
    let publish = observer.expect_any_publish();
    let levels: Vec<&str> = publish.topic.split('/').collect();
    assert_eq!(levels.len(), 6, "{}", publish.topic);
    assert_eq!(
        (levels[..2].join("/"), levels[3], levels[4], levels[5]),
        ("$SYS/brokers".to_owned(), "clients", client_id, kind)
    );
    assert!(!levels[2].is_empty());
    let event: Value = serde_json::from_slice(&publish.payload).expect("an event is JSON");
    assert_eq!(event["clientid"], client_id);
    assert_eq!(event["ipaddress"], "127.0.0.1");
    let milliseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    for moment in ["ts", &format!("{kind}_at")] {
        let at = event[moment].as_u64().unwrap_or_else(|| panic!("no {moment} in {event}"));
        assert!(milliseconds.abs_diff(at) < 60_000, "{moment} is not in milliseconds of now: {event}");
    }
    event
}

#[test]
fn a_connect_is_announced_with_its_fields() {
    on_each_shard_count_with(&["sys.client_events=true"], |server| {
        let port: u64 = server.address().rsplit(':').next().unwrap().parse().unwrap();
        type Version = fn(&str) -> Connect;
        let versions = [(Connect::v31 as Version, 3, "MQIsdp"), (Connect::v311, 4, "MQTT"), (Connect::v5, 5, "MQTT")];
        for (connect, level, name) in versions {
            for clean in [true, false] {
                let id = server.unique("event");
                let mut observer = watch(server, &id);
                let connect = connect(&id).clean(clean).keep_alive(77).user_name("someone").password(b"secret");
                let client = Client::connect(server, connect);
                let event = expect_event(&mut observer, &id, "connected");
                assert_eq!(event["username"], "someone");
                assert_eq!(event["proto_ver"], level);
                assert_eq!(event["proto_name"], name);
                assert_eq!(event["keepalive"], 77);
                assert_eq!(event["clean_start"], clean);
                assert_eq!(event["connack"], 0);
                assert_eq!(event["sockport"], port);
                let expiry =
                    event["expiry_interval"].as_u64().unwrap_or_else(|| panic!("no expiry_interval in {event}"));
                assert_eq!(expiry > 0, !clean && level < 5, "{event}");
                assert!(!event.to_string().contains("secret"));
                client.disconnect();
                let event = expect_event(&mut observer, &id, "disconnected");
                assert_eq!(event["reason"], "normal");
                assert_eq!(event["username"], "someone");
                assert_eq!(event["proto_ver"], level);
                assert_eq!(event["proto_name"], name);
                assert_eq!(event["sockport"], port);
            }
        }
    });
}

#[test]
fn each_end_of_a_connection_is_announced_with_its_reason() {
    on_each_shard_count_with(&["sys.client_events=true"], |server| {
        type End = fn(&Server, &str, Client);
        let ends: [(&str, End); 4] = [
            ("tcp_closed", |_, _, client| client.vanish_noticed()),
            ("keepalive_timeout", |_, _, mut client| client.expect_closed()),
            ("takenover", |server, id, mut client| {
                let _successor = Client::connect(server, Connect::v311(id).clean(false));
                client.expect_closed();
            }),
            ("discarded", |server, id, mut client| {
                let _successor = Client::connect(server, Connect::v311(id));
                client.expect_closed();
            }),
        ];
        for (reason, end) in ends {
            let id = server.unique("end");
            let mut observer = watch(server, &id);
            let keep_alive = if reason == "keepalive_timeout" { 1 } else { 60 };
            let client = Client::connect(server, Connect::v311(&id).clean(false).keep_alive(keep_alive));
            expect_event(&mut observer, &id, "connected");
            end(server, &id, client);
            assert_eq!(expect_event(&mut observer, &id, "disconnected")["reason"], reason);
        }
        // A violation has a reason, too; which one, the packet decides.
        let id = server.unique("end");
        let mut observer = watch(server, &id);
        let mut client = Client::connect(server, Connect::v311(&id));
        expect_event(&mut observer, &id, "connected");
        client.send_raw(&[0xF0, 0]).expect_closed();
        assert!(
            expect_event(&mut observer, &id, "disconnected")["reason"].as_str().is_some_and(|word| !word.is_empty())
        );
    });
}

#[test]
fn names_in_events_are_escaped_as_json_asks() {
    on_each_shard_count_with(&["sys.client_events=true"], |server| {
        let id = server.unique("json");
        let mut observer = watch(server, &id);
        let user_name = "quote \" backslash \\ newline \n größe \u{1}";
        let client = Client::connect(server, Connect::v311(&id).user_name(user_name));
        assert_eq!(expect_event(&mut observer, &id, "connected")["username"], user_name);
        client.disconnect();
    });
}

#[test]
fn a_refused_connect_is_not_announced() {
    on_each_shard_count_with(&["sys.client_events=true"], |server| {
        let id = server.unique("refused");
        let mut observer = watch(server, &id);
        Client::connect_refused(server, Connect::v311(&id).level(9), 1);
        observer.expect_nothing_within_roundtrip();
        // The next event of that id is the good one's.
        let mut client = Client::connect(server, Connect::v311(&id));
        expect_event(&mut observer, &id, "connected");
        client.send(Packet::PingReq).expect(Packet::PingResp);
    });
}

#[test]
fn client_events_can_be_switched_off() {
    on_each_shard_count_with(&["sys.client_events=false"], |server| {
        let id = server.unique("silent");
        let mut observer = watch(server, &id);
        Client::connect(server, Connect::v311(&id)).disconnect();
        let mut publisher = connect(server, "p");
        observer.expect_nothing_from(&mut publisher);
    });
}
