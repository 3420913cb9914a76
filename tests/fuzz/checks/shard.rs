//! A shard under a script of clients: connections, packets and bytes, time, and ends of all kinds.

use std::{num::NonZeroU32, time::Duration};

use ringmq::mqtt::{
    Ack, AckKind, Connect, Disconnect, Encode, PacketIdentifier, ProtocolVersion, Publish, PublishProperties, QoS,
    ReasonCode, RetainHandling, Subscribe, SubscriptionOptions, TopicFilter, TopicName, Unsubscribe, WillPacket,
    WillProperties,
};

use super::{VERSIONS, driver::Driver, script::Script};

/// Every step of `data` is a byte that says what happens, and what that needs to know behind it.
pub fn check(data: &[u8]) {
    let mut play = Play { script: Script::new(data), driver: Driver::new(), versions: Vec::new() };
    for _ in 0..STEPS_MAX {
        if play.script.is_over() {
            break;
        }
        play.step();
    }
    play.driver.end();
}

struct Play<'a> {
    script: Script<'a>,
    driver: Driver,
    /// The version that each client says its packets in.
    versions: Vec<ProtocolVersion>,
}

impl Play<'_> {
    fn step(&mut self) {
        let what = self.script.byte();
        if what & 0x0F == 0 || self.versions.is_empty() {
            return self.accept();
        }
        let client = usize::from(what >> 4) % self.versions.len();
        match what & 0x0F {
            1 => self.connect(client),
            2 => self.subscribe(client),
            3 => self.unsubscribe(client),
            4 | 5 => self.publish(client),
            6 => self.ack(client),
            7 => self.disconnect(client),
            8 => {
                let len = usize::from(self.script.byte());
                let bytes = self.script.bytes(len);
                self.driver.send(client, bytes);
            }
            9 => {
                let reads = self.driver.remotes[client].reads;
                self.driver.remotes[client].reads = !reads;
            }
            10 => self.driver.reset(client),
            11 => self.driver.end_input(client),
            12 => self.pass(),
            13 => self.driver.settle(),
            // A server that stops does so once; a byte more makes it rare.
            14 if self.script.byte() == 0xFF => self.driver.drain(2),
            _ => {
                self.driver.turn();
            }
        }
    }

    fn accept(&mut self) {
        if self.versions.len() < CLIENTS_MAX {
            self.driver.accept();
            self.versions.push(VERSIONS[0]);
        }
    }

    fn pass(&mut self) {
        let millis = self.script.pick(&[1, 999, 1_000, 1_500, 10_000, 60_000, 3_600_000]);
        self.driver.pass(Duration::from_millis(millis));
        self.driver.turn();
    }

    fn say(&mut self, client: usize, packet: impl Encode) {
        let mut bytes = Vec::new();
        if packet.encode(self.versions[client], &mut bytes).is_ok() {
            self.driver.send(client, &bytes);
        }
    }

    fn connect(&mut self, client: usize) {
        let version = self.script.pick(&VERSIONS);
        self.versions[client] = version;
        let flags = self.script.byte();
        let mut connect = Connect::new(version, self.script.pick(&["a", "b", "c", ""]));
        connect.clean_start = flags & 1 != 0;
        connect.keep_alive_s = self.script.pick(&[0, 1, 60]);
        if flags & 2 != 0 {
            connect.will = Some(WillPacket {
                topic: TopicName::parse(self.script.pick(&TOPICS)).expect("a topic"),
                payload: b"will",
                qos: self.script.pick(&QOS),
                retain: flags & 4 != 0,
                properties: WillProperties::default(),
            });
        }
        if version.has_properties() {
            connect.properties.session_expiry_interval = self.script.pick(&[None, Some(0), Some(5), Some(u32::MAX)]);
            connect.properties.receive_maximum = self.script.pick(&[None, Some(1), Some(2)]).and_then(|most| {
                let most: u16 = most;
                most.try_into().ok()
            });
            connect.properties.topic_alias_maximum = self.script.pick(&[0, 1, 10]);
            let packet_bytes_max = self.script.pick(&[0, 12, 40]);
            connect.properties.maximum_packet_size = NonZeroU32::new(packet_bytes_max);
            if let Some(will) = &mut connect.will {
                will.properties.will_delay_interval = self.script.pick(&[None, Some(1), Some(7)]);
            }
        }
        // CONNECT is written in its own version.
        let mut bytes = Vec::new();
        if connect.encode(&mut bytes).is_ok() {
            self.driver.send(client, &bytes);
        }
    }

    fn subscribe(&mut self, client: usize) {
        let count = 1 + self.script.below(3);
        let filters: Vec<(TopicFilter<'_>, SubscriptionOptions)> =
            (0..count).map(|_| (self.filter(), self.options())).collect();
        let mut subscribe = Subscribe::new(self.identifier(), &filters);
        subscribe.subscription_identifier = NonZeroU32::new(self.script.pick(&[0, 1, 200]));
        self.say(client, subscribe);
    }

    fn unsubscribe(&mut self, client: usize) {
        let filters = [self.filter(), self.filter()];
        let identifier = self.identifier();
        self.say(client, Unsubscribe::new(identifier, &filters));
    }

    fn publish(&mut self, client: usize) {
        let (flags, qos) = (self.script.byte(), self.script.pick(&QOS));
        let mut properties = PublishProperties::default();
        if self.versions[client].has_properties() {
            properties.message_expiry_interval = self.script.pick(&[None, Some(1), Some(30)]);
            properties.topic_alias = self.script.pick(&[None, Some(1), Some(2)]);
        }
        let topic = if flags & 4 != 0 { "" } else { self.script.pick(&TOPICS) };
        let long = [b'x'; 3000];
        let publish = Publish {
            dup: flags & 1 != 0 && qos != QoS::AtMostOnce,
            qos,
            retain: flags & 2 != 0,
            topic,
            packet_identifier: (qos != QoS::AtMostOnce).then(|| self.identifier()),
            properties,
            // Long ones are shared between buffers, empty ones clear what is retained.
            payload: self.script.pick(&[&b"m"[..], &b""[..], &b"a longer message"[..], &long[..]]),
        };
        self.say(client, publish);
    }

    fn ack(&mut self, client: usize) {
        let kind = self.script.pick(&[AckKind::PubAck, AckKind::PubRec, AckKind::PubRel, AckKind::PubComp]);
        let reason = self.script.pick(&[ReasonCode::Success, ReasonCode::UnspecifiedError]);
        let identifier = self.identifier();
        self.say(client, Ack::new(kind, identifier, reason));
    }

    fn disconnect(&mut self, client: usize) {
        let reasons = [ReasonCode::Success, ReasonCode::DisconnectWithWillMessage];
        let mut disconnect = Disconnect::new(self.script.pick(&reasons));
        disconnect.session_expiry_interval = self.script.pick(&[None, Some(0), Some(9)]);
        self.say(client, disconnect);
    }

    fn filter(&mut self) -> TopicFilter<'static> {
        TopicFilter::parse(self.script.pick(&FILTERS)).expect("a filter")
    }

    fn options(&mut self) -> SubscriptionOptions {
        let flags = self.script.byte();
        SubscriptionOptions {
            qos: self.script.pick(&QOS),
            no_local: flags & 1 != 0,
            retain_as_published: flags & 2 != 0,
            retain_handling: match flags >> 2 & 3 {
                0 | 3 => RetainHandling::SendAtSubscribe,
                1 => RetainHandling::SendIfNew,
                _ => RetainHandling::DoNotSend,
            },
        }
    }

    fn identifier(&mut self) -> PacketIdentifier {
        PacketIdentifier::new(self.script.pick(&[1, 2, 3, 65_535])).expect("not zero")
    }
}

const TOPICS: [&str; 6] = ["a", "a/b", "b", "a//b", "/", "$x/y"];
const FILTERS: [&str; 12] =
    ["a", "a/+", "#", "+/b", "a/#", "b", "$x/#", "$SYS/#", "$share/g/a/#", "$share/g/#", "$share/h/b", "a/b"];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const CLIENTS_MAX: usize = 12;
const STEPS_MAX: usize = 1000;
