//! Arbitrary valid packets of each type and version. Their strings and lists live for ever: a test run makes few.

use std::num::{NonZeroU16, NonZeroU32};

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use ringmq::mqtt::{
    Ack, AckKind, Auth, ConnAck, ConnAckProperties, Connect, ConnectProperties, Disconnect, Packet, PacketIdentifier,
    PayloadFormatIndicator, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, ReasonCodeSet, ReasonCodes,
    RetainHandling, Sender, SubAck, Subscribe, SubscriptionIdentifiers, SubscriptionOptions, TopicFilter, TopicName,
    UnsubAck, Unsubscribe, UserProperties, WillPacket, WillProperties,
};

use super::leak;

/// A version, a side, and a packet that this side may send in that version.
pub fn packet() -> impl Strategy<Value = (ProtocolVersion, Sender, Packet<'static>)> {
    let version = select(&[ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5][..]);
    version.prop_flat_map(|version| {
        prop_oneof![of_client(version).boxed(), of_server(version).boxed()]
            .prop_map(move |(sender, packet)| (version, sender, packet))
    })
}

type Sent = (Sender, Packet<'static>);

fn of_client(version: ProtocolVersion) -> impl Strategy<Value = Sent> {
    let packets = prop_oneof![
        connect(version).prop_map(Packet::Connect),
        publish(version, Sender::Client).prop_map(Packet::Publish),
        ack(version),
        subscribe(version).prop_map(Packet::Subscribe),
        unsubscribe(version).prop_map(Packet::Unsubscribe),
        Just(Packet::PingReq),
        disconnect(version, Sender::Client).prop_map(Packet::Disconnect),
        if version == ProtocolVersion::V5 { auth(Sender::Client).boxed() } else { Just(Packet::PingReq).boxed() },
    ];
    packets.prop_map(|packet| (Sender::Client, packet))
}

fn of_server(version: ProtocolVersion) -> impl Strategy<Value = Sent> {
    let ends = || {
        if version == ProtocolVersion::V5 {
            prop_oneof![disconnect(version, Sender::Server).prop_map(Packet::Disconnect), auth(Sender::Server)].boxed()
        } else {
            Just(Packet::PingResp).boxed()
        }
    };
    let packets = prop_oneof![
        connack(version).prop_map(Packet::ConnAck),
        publish(version, Sender::Server).prop_map(Packet::Publish),
        ack(version),
        suback(version).prop_map(Packet::SubAck),
        unsuback(version).prop_map(Packet::UnsubAck),
        ends(),
    ];
    packets.prop_map(|packet| (Sender::Server, packet))
}

fn text() -> impl Strategy<Value = &'static str> {
    prop_oneof!["[a-z/ ]{0,40}", "[^\u{0}]{0,12}"].prop_map(|text| &*text.leak())
}

fn binary() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..200).prop_map(leak)
}

fn topic_name() -> impl Strategy<Value = TopicName<'static>> {
    prop_oneof!["[a-z0-9/]{1,60}", "[^\u{0}+#]{1,20}"]
        .prop_map(|text| TopicName::parse(text.leak()).expect("the pattern makes topic names"))
}

fn topic_filter() -> impl Strategy<Value = TopicFilter<'static>> {
    let level = prop_oneof![Just("+".to_owned()), "[a-c]{0,3}", "[^\u{0}+#/]{1,4}"];
    let levels = vec(level, 1..5);
    (select(&["", "$share/g/", "$share/\u{e9} $/"][..]), levels, select(&["", "/#"][..]))
        .prop_map(|(share, levels, end)| format!("{share}{}{end}", levels.join("/")))
        .prop_filter_map("some are empty or look like a share", |text| TopicFilter::parse(text.leak()).ok())
}

fn user_properties(version: ProtocolVersion) -> impl Strategy<Value = UserProperties<'static>> {
    let most = if version == ProtocolVersion::V5 { 3 } else { 0 };
    vec((text(), text()), 0..=most).prop_map(|pairs| UserProperties::new(leak(pairs)))
}

fn packet_identifier() -> impl Strategy<Value = PacketIdentifier> {
    (1..=u16::MAX).prop_filter_map("zero is none", PacketIdentifier::new)
}

fn qos() -> impl Strategy<Value = QoS> {
    select(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][..])
}

fn reason(allowed: ReasonCodeSet) -> impl Strategy<Value = ReasonCode> {
    select(ReasonCode::ALL.iter().copied().filter(|&code| allowed.contains(code)).collect::<Vec<_>>())
}

fn reason_string(version: ProtocolVersion) -> impl Strategy<Value = Option<&'static str>> {
    of(text()).prop_map(move |text| text.filter(|_| version == ProtocolVersion::V5))
}

fn payload_format() -> impl Strategy<Value = Option<PayloadFormatIndicator>> {
    of(select(&[PayloadFormatIndicator::Unspecified, PayloadFormatIndicator::Utf8][..]))
}

/// Data, if there is any, comes with a method.
fn authentication() -> impl Strategy<Value = (Option<&'static str>, Option<&'static [u8]>)> {
    of((text(), of(binary()))).prop_map(|both| both.map_or((None, None), |(method, data)| (Some(method), data)))
}

fn connect(version: ProtocolVersion) -> impl Strategy<Value = Connect<'static>> {
    let flags = (any::<bool>(), any::<bool>(), any::<u16>());
    let names = (text(), of(will(version)), of(text()), of(binary()));
    (flags, names, connect_properties()).prop_map(
        move |((bridge, clean_start, keep_alive_s), (client_id, will, user_name, password), properties)| Connect {
            version,
            bridge: bridge && version != ProtocolVersion::V5,
            clean_start,
            keep_alive_s,
            client_id,
            will,
            user_name,
            password: password.filter(|_| user_name.is_some() || version == ProtocolVersion::V5),
            properties: if version == ProtocolVersion::V5 { properties } else { ConnectProperties::default() },
        },
    )
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties<'static>> {
    let numbers = (of(any::<u32>()), of(any::<NonZeroU16>()), of(any::<NonZeroU32>()), any::<u16>());
    let wishes = (any::<bool>(), any::<bool>());
    (numbers, wishes, user_properties(ProtocolVersion::V5), authentication()).prop_map(
        |(numbers, wishes, user_properties, authentication)| ConnectProperties {
            session_expiry_interval: numbers.0,
            receive_maximum: numbers.1,
            maximum_packet_size: numbers.2,
            topic_alias_maximum: numbers.3,
            request_response_information: wishes.0,
            request_problem_information: wishes.1,
            user_properties,
            authentication_method: authentication.0,
            authentication_data: authentication.1,
        },
    )
}

fn will(version: ProtocolVersion) -> impl Strategy<Value = WillPacket<'static>> {
    let numbers = (of(any::<u32>()), payload_format(), of(any::<u32>()));
    let texts = (of(text()), of(topic_name()), of(binary()), user_properties(version));
    let properties = (numbers, texts).prop_map(|(numbers, texts)| WillProperties {
        will_delay_interval: numbers.0,
        payload_format_indicator: numbers.1,
        message_expiry_interval: numbers.2,
        content_type: texts.0,
        response_topic: texts.1,
        correlation_data: texts.2,
        user_properties: texts.3,
    });
    (topic_name(), binary(), qos(), any::<bool>(), properties).prop_map(
        move |(topic, payload, qos, retain, properties)| {
            let properties = if version == ProtocolVersion::V5 { properties } else { WillProperties::default() };
            WillPacket { topic, payload, qos, retain, properties }
        },
    )
}

fn connack(version: ProtocolVersion) -> impl Strategy<Value = ConnAck<'static>> {
    let codes = ReasonCode::ALL.iter().copied().filter(move |&code| {
        let is_return_code = |code: ReasonCode| code.to_connect_return_code().map(|code| code.to_reason_code());
        ReasonCodeSet::CONNACK.contains(code) && (version == ProtocolVersion::V5 || is_return_code(code) == Some(code))
    });
    (any::<bool>(), select(codes.collect::<Vec<_>>()), connack_properties()).prop_map(
        move |(session_present, reason_code, properties)| ConnAck {
            session_present: session_present && reason_code == ReasonCode::Success && version != ProtocolVersion::V31,
            reason_code,
            properties: if version == ProtocolVersion::V5 { properties } else { ConnAckProperties::default() },
        },
    )
}

fn connack_properties() -> impl Strategy<Value = ConnAckProperties<'static>> {
    let limits = (of(any::<u32>()), of(any::<NonZeroU16>()), of(any::<NonZeroU32>()), any::<u16>(), of(any::<u16>()));
    let maximum_qos = of(select(&[QoS::AtMostOnce, QoS::AtLeastOnce][..]));
    let available = (of(any::<bool>()), of(any::<bool>()), of(any::<bool>()), of(any::<bool>()));
    let texts = (of(text()), of(text()), of(text()), of(text()));
    let rest = (user_properties(ProtocolVersion::V5), authentication());
    (limits, maximum_qos, available, texts, rest).prop_map(|(limits, maximum_qos, available, texts, rest)| {
        ConnAckProperties {
            session_expiry_interval: limits.0,
            receive_maximum: limits.1,
            maximum_packet_size: limits.2,
            topic_alias_maximum: limits.3,
            server_keep_alive: limits.4,
            maximum_qos,
            retain_available: available.0,
            wildcard_subscription_available: available.1,
            subscription_identifiers_available: available.2,
            shared_subscription_available: available.3,
            assigned_client_identifier: texts.0,
            reason_string: texts.1,
            response_information: texts.2,
            server_reference: texts.3,
            user_properties: rest.0,
            authentication_method: rest.1.0,
            authentication_data: rest.1.1,
        }
    })
}

fn publish(version: ProtocolVersion, sender: Sender) -> impl Strategy<Value = Publish<'static>> {
    let flags = (any::<bool>(), qos(), any::<bool>(), packet_identifier());
    let fields = (topic_name(), any::<bool>(), binary());
    (flags, fields, publish_properties(sender)).prop_map(
        move |((dup, qos, retain, packet_identifier), (topic, hides_topic, payload), properties)| {
            let properties = if version == ProtocolVersion::V5 { properties } else { PublishProperties::default() };
            let is_at_most_once = qos == QoS::AtMostOnce;
            Publish {
                dup: dup && !is_at_most_once,
                qos,
                retain,
                topic: if hides_topic && properties.topic_alias.is_some() { "" } else { topic.as_str() },
                packet_identifier: Some(packet_identifier).filter(|_| !is_at_most_once),
                properties,
                payload,
            }
        },
    )
}

fn publish_properties(sender: Sender) -> impl Strategy<Value = PublishProperties<'static>> {
    let most = if sender == Sender::Server { 3 } else { 0 };
    let identifiers = vec((1..=268_435_455_u32).prop_filter_map("zero is none", NonZeroU32::new), 0..=most);
    let numbers = (payload_format(), of(any::<u32>()), of(1..=u16::MAX));
    let texts = (of(topic_name()), of(binary()), of(text()), user_properties(ProtocolVersion::V5));
    (identifiers, numbers, texts).prop_map(|(identifiers, numbers, texts)| PublishProperties {
        payload_format_indicator: numbers.0,
        message_expiry_interval: numbers.1,
        topic_alias: numbers.2,
        response_topic: texts.0,
        correlation_data: texts.1,
        content_type: texts.2,
        user_properties: texts.3,
        subscription_identifiers: SubscriptionIdentifiers::new(leak(identifiers)),
    })
}

fn ack(version: ProtocolVersion) -> impl Strategy<Value = Packet<'static>> {
    let kinds = [AckKind::PubAck, AckKind::PubRec, AckKind::PubRel, AckKind::PubComp];
    select(kinds.to_vec()).prop_flat_map(move |kind| {
        let fields =
            (packet_identifier(), reason(kind.reason_codes()), reason_string(version), user_properties(version));
        fields.prop_map(move |(packet_identifier, code, reason_string, user_properties)| {
            let reason_code = if version == ProtocolVersion::V5 { code } else { ReasonCode::Success };
            let ack = Ack { kind, packet_identifier, reason_code, reason_string, user_properties };
            match kind {
                AckKind::PubAck => Packet::PubAck(ack),
                AckKind::PubRec => Packet::PubRec(ack),
                AckKind::PubRel => Packet::PubRel(ack),
                AckKind::PubComp => Packet::PubComp(ack),
            }
        })
    })
}

fn options(version: ProtocolVersion) -> impl Strategy<Value = SubscriptionOptions> {
    let handling = [RetainHandling::SendAtSubscribe, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    (qos(), any::<bool>(), any::<bool>(), select(handling.to_vec())).prop_map(
        move |(qos, no_local, retain_as_published, retain_handling)| match version {
            ProtocolVersion::V5 => SubscriptionOptions { qos, no_local, retain_as_published, retain_handling },
            ProtocolVersion::V31 | ProtocolVersion::V311 => SubscriptionOptions::with_qos(qos),
        },
    )
}

fn subscribe(version: ProtocolVersion) -> impl Strategy<Value = Subscribe<'static>> {
    let entry = (topic_filter(), options(version)).prop_map(|(filter, options)| {
        let no_local = options.no_local && filter.shared().is_none();
        (filter, SubscriptionOptions { no_local, ..options })
    });
    let identifier = of((1..=268_435_455_u32).prop_filter_map("zero is none", NonZeroU32::new));
    (packet_identifier(), vec(entry, 1..4), identifier, user_properties(version)).prop_map(
        move |(packet_identifier, entries, identifier, user_properties)| {
            let mut subscribe = Subscribe::new(packet_identifier, leak(entries));
            subscribe.subscription_identifier = identifier.filter(|_| version == ProtocolVersion::V5);
            subscribe.user_properties = user_properties;
            subscribe
        },
    )
}

fn unsubscribe(version: ProtocolVersion) -> impl Strategy<Value = Unsubscribe<'static>> {
    (packet_identifier(), vec(topic_filter(), 1..4), user_properties(version)).prop_map(
        |(packet_identifier, filters, user_properties)| {
            let mut unsubscribe = Unsubscribe::new(packet_identifier, leak(filters));
            unsubscribe.user_properties = user_properties;
            unsubscribe
        },
    )
}

fn suback(version: ProtocolVersion) -> impl Strategy<Value = SubAck<'static>> {
    let codes = vec(reason(SubAck::reason_codes_allowed(version)), 1..5);
    (packet_identifier(), codes, reason_string(version), user_properties(version)).prop_map(
        |(packet_identifier, codes, reason_string, user_properties)| SubAck {
            packet_identifier,
            reason_codes: ReasonCodes::new(leak(codes)),
            reason_string,
            user_properties,
        },
    )
}

fn unsuback(version: ProtocolVersion) -> impl Strategy<Value = UnsubAck<'static>> {
    let codes = vec(reason(ReasonCodeSet::UNSUBACK), 1..5);
    (packet_identifier(), codes, reason_string(version), user_properties(version)).prop_map(
        move |(packet_identifier, codes, reason_string, user_properties)| UnsubAck {
            packet_identifier,
            reason_codes: ReasonCodes::new(if version == ProtocolVersion::V5 { leak(codes) } else { &[] }),
            reason_string,
            user_properties,
        },
    )
}

fn disconnect(version: ProtocolVersion, sender: Sender) -> impl Strategy<Value = Disconnect<'static>> {
    let texts = (reason_string(version), of(text()), user_properties(version));
    (reason(ReasonCodeSet::disconnect(sender)), of(any::<u32>()), texts).prop_map(move |(code, expiry, texts)| {
        if version != ProtocolVersion::V5 {
            return Disconnect::new(ReasonCode::Success);
        }
        Disconnect {
            reason_code: code,
            session_expiry_interval: expiry.filter(|_| sender == Sender::Client),
            reason_string: texts.0,
            user_properties: texts.2,
            server_reference: texts.1.filter(|_| sender == Sender::Server),
        }
    })
}

fn auth(sender: Sender) -> impl Strategy<Value = Packet<'static>> {
    let rest = (of(binary()), reason_string(ProtocolVersion::V5), user_properties(ProtocolVersion::V5));
    (reason(ReasonCodeSet::auth(sender)), text(), rest).prop_map(|(code, method, rest)| {
        Packet::Auth(Auth {
            authentication_data: rest.0,
            reason_string: rest.1,
            user_properties: rest.2,
            ..Auth::new(code, method)
        })
    })
}
