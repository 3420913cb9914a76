//! CONNECT: what the connect flags promise about the payload.

use super::connect_fields::raw_connect;
use super::{assert_closes_unconnected, connect};
use crate::client::Client;
use crate::server::{Server, on_each_shard_count};
use crate::wire::{Connect, Version, field};

const CLEAN: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

/// Connects with raw flags and payload fields; the connection must be closed without CONNACK.
fn assert_refused(server: &Server, flags: u8, fields: &[&str]) {
    let id = server.unique("flags");
    let payload = std::iter::once(id.as_str()).chain(fields.iter().copied()).flat_map(field).collect::<Vec<u8>>();
    assert_closes_unconnected(server, &format!("flags {flags:#010b} with {fields:?}"), &raw_connect(flags, &payload));
}

/// The same, and it must be accepted.
fn accepted(server: &Server, flags: u8, fields: &[&str]) -> Client {
    let id = server.unique("flags");
    let payload = std::iter::once(id.as_str()).chain(fields.iter().copied()).flat_map(field).collect::<Vec<u8>>();
    let mut client = Client::dial(server, Version::V311);
    client.send_raw(&raw_connect(flags, &payload)).expect_connack(0);
    client
}

#[test]
fn v3_mqtt_3_1_2_3_the_reserved_connect_flag_must_be_zero() {
    on_each_shard_count(|server| {
        for flags in [1, CLEAN | 1] {
            assert_refused(server, flags, &[]);
        }
        assert_refused(server, CLEAN | WILL | USER_NAME | PASSWORD | 1, &["topic", "payload", "user", "password"]);
    });
}

#[test]
fn v3_mqtt_3_1_2_9_a_will_flag_needs_topic_and_message() {
    on_each_shard_count(|server| {
        assert_refused(server, CLEAN | WILL, &[]);
        assert_refused(server, CLEAN | WILL, &["topic"]);
        assert_refused(server, CLEAN | WILL | USER_NAME, &["topic", "payload"]);
        // An empty Will message is a message; an empty topic is none.
        accepted(server, CLEAN | WILL, &["topic", ""]).disconnect();
        assert_refused(server, CLEAN | WILL, &["", "payload"]);
    });
}

#[test]
fn v3_mqtt_3_1_2_11_without_will_flag_there_are_no_will_fields() {
    on_each_shard_count(|server| {
        assert_refused(server, CLEAN, &["topic", "payload"]);
        assert_refused(server, CLEAN, &["topic"]);
        assert_refused(server, CLEAN | 0x28, &[]);
        assert_refused(server, CLEAN | 0x28, &["topic", "payload"]);
    });
}

#[test]
fn v3_mqtt_3_1_2_12_without_will_flag_no_will_is_published() {
    on_each_shard_count(|server| {
        // The earlier connection of the same id had a Will: it must not come back with this one.
        let (id, topic) = (server.unique("nowill"), server.unique("nowill"));
        let mut observer = connect(server, "o");
        observer.subscribe(&topic, 1);
        for clean in [true, false] {
            let will = crate::wire::Will::new(&topic, "will");
            Client::connect(server, Connect::v311(&id).clean(clean).will(will)).disconnect();
            Client::connect(server, Connect::v311(&id).clean(clean)).vanish_noticed();
        }
        let mut publisher = connect(server, "p");
        observer.expect_nothing_from(&mut publisher);
    });
}

#[test]
fn v3_mqtt_3_1_2_13_without_will_flag_the_will_qos_is_zero() {
    on_each_shard_count(|server| {
        for qos in 1..=3 {
            assert_refused(server, CLEAN | qos << 3, &[]);
            assert_refused(server, CLEAN | qos << 3, &["topic", "payload"]);
        }
    });
}

#[test]
fn v3_mqtt_3_1_2_14_a_will_qos_of_3_is_refused() {
    on_each_shard_count(|server| {
        for other in [0, WILL_RETAIN, USER_NAME] {
            assert_refused(
                server,
                CLEAN | WILL | 0x18 | other,
                &["topic", "payload", "user"][..2 + usize::from(other == USER_NAME)],
            );
        }
        for qos in 0..=2 {
            accepted(server, CLEAN | WILL | qos << 3, &["topic", "payload"]).disconnect();
        }
    });
}

#[test]
fn v3_mqtt_3_1_2_15_without_will_flag_the_will_retain_is_zero() {
    on_each_shard_count(|server| {
        assert_refused(server, CLEAN | WILL_RETAIN, &[]);
        assert_refused(server, CLEAN | WILL_RETAIN, &["topic", "payload"]);
    });
}

#[test]
fn v3_mqtt_3_1_2_18_without_user_name_flag_there_is_no_user_name() {
    on_each_shard_count(|server| {
        assert_refused(server, CLEAN, &["user"]);
        assert_refused(server, CLEAN | WILL, &["topic", "payload", "user"]);
        accepted(server, CLEAN, &[]).disconnect();
    });
}

#[test]
fn v3_mqtt_3_1_2_19_a_user_name_flag_needs_a_user_name() {
    on_each_shard_count(|server| {
        assert_refused(server, CLEAN | USER_NAME, &[]);
        assert_refused(server, CLEAN | WILL | USER_NAME, &["topic", "payload"]);
        accepted(server, CLEAN | USER_NAME, &["user"]).disconnect();
        accepted(server, CLEAN | USER_NAME, &[""]).disconnect();
    });
}

#[test]
fn v3_mqtt_3_1_2_20_without_password_flag_there_is_no_password() {
    on_each_shard_count(|server| {
        assert_refused(server, CLEAN | USER_NAME, &["user", "password"]);
        assert_refused(server, CLEAN | WILL | USER_NAME, &["topic", "payload", "user", "password"]);
    });
}

#[test]
fn v3_mqtt_3_1_2_21_a_password_flag_needs_a_password() {
    on_each_shard_count(|server| {
        assert_refused(server, CLEAN | USER_NAME | PASSWORD, &["user"]);
        assert_refused(server, CLEAN | USER_NAME | PASSWORD, &[]);
        accepted(server, CLEAN | USER_NAME | PASSWORD, &["user", "password"]).disconnect();
        accepted(server, CLEAN | USER_NAME | PASSWORD, &["user", ""]).disconnect();
    });
}

#[test]
fn v3_mqtt_3_1_2_22_without_user_name_there_is_no_password_flag() {
    on_each_shard_count(|server| {
        assert_refused(server, CLEAN | PASSWORD, &["password"]);
        assert_refused(server, CLEAN | PASSWORD, &[]);
        assert_refused(server, CLEAN | WILL | PASSWORD, &["topic", "payload", "password"]);
    });
}
