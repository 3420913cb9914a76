//! PINGREQ and DISCONNECT.

use crate::client::Client;
use crate::server::on_each_shard_count;
use crate::wire::{Connect, Packet};

#[test]
fn v3_mqtt_3_12_4_1_pingreq_is_answered_with_pingresp() {
    on_each_shard_count(|server| {
        let mut client = Client::connect(server, Connect::v311(&server.unique("ping")));
        for _ in 0..3 {
            client.send(Packet::PingReq).expect(Packet::PingResp);
        }
        // Several in one segment are answered one by one.
        client.send_raw(&[0xC0, 0, 0xC0, 0, 0xC0, 0]);
        client.expect(Packet::PingResp).expect(Packet::PingResp).expect(Packet::PingResp);
        client.expect_nothing_within_roundtrip();
    });
}
