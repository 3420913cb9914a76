"""paho-mqtt against a broker: MQTT 3.1, 3.1.1 and 5.0."""

import queue
import socket
import threading

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from scenarios import PATIENCE_SECONDS, Scenarios, equal, true, unique

SCENARIOS = Scenarios("paho-mqtt")
PROTOCOLS = {"3.1": paho.MQTTv31, "3.1.1": paho.MQTTv311, "5.0": paho.MQTTv5}


class Client:
    """A connected paho client with its network loop in a thread; what arrives lands in `inbox`."""

    def __init__(self, version, client_id=None, resume=False, will=None, will_properties=None, keep_alive=60):
        self.version = version
        self.inbox = queue.Queue()
        self.answers = queue.Queue()
        self.ended = threading.Event()
        persistent = {} if version == "5.0" else {"clean_session": not resume}
        self.paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=client_id or unique("paho")[:23],
            protocol=PROTOCOLS[version],
            reconnect_on_failure=False,
            **persistent,
        )
        self.paho.on_connect = lambda _c, _u, flags, reason, properties: self.answers.put((flags, reason, properties))
        self.paho.on_subscribe = lambda _c, _u, _mid, reasons, _properties: self.answers.put(reasons)
        self.paho.on_unsubscribe = lambda _c, _u, _mid, reasons, _properties: self.answers.put(reasons)
        self.paho.on_message = lambda _c, _u, message: self.inbox.put(message)
        self.paho.on_disconnect = lambda *_arguments: self.ended.set()
        if will:
            self.paho.will_set(*will, properties=will_properties)
        extra = {}
        if version == "5.0":
            extra["clean_start"] = not resume
            extra["properties"] = Properties(PacketTypes.CONNECT)
            extra["properties"].SessionExpiryInterval = 300 if resume else 0
        self.paho.connect(SCENARIOS.host, SCENARIOS.port, keepalive=keep_alive, **extra)
        self.paho.loop_start()
        flags, reason, self.connack = self.answer()
        true(not reason.is_failure, f"CONNACK says {reason}")
        self.session_present = flags.session_present

    def answer(self):
        return self.answers.get(timeout=PATIENCE_SECONDS)

    def subscribe(self, topic_filter, qos, **options):
        if self.version == "5.0":
            result, _ = self.paho.subscribe(topic_filter, options=SubscribeOptions(qos=qos, **options))
        else:
            result, _ = self.paho.subscribe(topic_filter, qos)
        equal(result, paho.MQTT_ERR_SUCCESS, "subscribe")
        equal([reason.value for reason in self.answer()], [qos], f"granted for {topic_filter}")
        return self

    def unsubscribe(self, topic_filter):
        self.paho.unsubscribe(topic_filter)
        return self.answer()

    def publish(self, topic, payload, qos=0, retain=False, properties=None):
        """Publishes and waits until the broker has taken the message over (for QoS 0: until it is written)."""
        self.paho.publish(topic, payload, qos, retain, properties).wait_for_publish(PATIENCE_SECONDS)

    def receive(self, count):
        return [self.inbox.get(timeout=PATIENCE_SECONDS) for _ in range(count)]

    def nothing_until(self, marker, publisher):
        """Fails if anything comes before a marker that is published to `marker`, to which this client subscribed."""
        publisher.publish(marker, "marker", 1)
        message = self.inbox.get(timeout=PATIENCE_SECONDS)
        equal((message.topic, message.payload), (marker, b"marker"), "the next message")

    def vanish(self):
        """Ends the connection without a DISCONNECT."""
        self.paho.socket().shutdown(socket.SHUT_RDWR)
        true(self.ended.wait(PATIENCE_SECONDS), "the connection did not end")
        self.paho.loop_stop()

    def close(self):
        self.paho.disconnect()
        true(self.ended.wait(PATIENCE_SECONDS), "the connection did not end after DISCONNECT")
        self.paho.loop_stop()


@SCENARIOS.add("3.1", "3.1.1", "5.0")
def round_trips_at_each_qos(version):
    topic = unique("paho/round")
    publisher = Client(version)
    for granted in (0, 1, 2):
        subscriber = Client(version).subscribe(f"{topic}/{granted}/#", granted)
        for published in (0, 1, 2):
            for number in range(20):
                publisher.publish(f"{topic}/{granted}/{published}", f"{number}", published)
            received = subscriber.receive(20)
            equal([message.payload for message in received], [b"%d" % n for n in range(20)], "payloads in order")
            equal({message.qos for message in received}, {min(granted, published)}, "the lower QoS")
            equal({message.retain for message in received}, {False}, "RETAIN of live messages")
        subscriber.close()
    publisher.close()


@SCENARIOS.add("3.1", "3.1.1", "5.0")
def large_payloads_arrive_whole(version):
    topic = unique("paho/large")
    publisher, subscriber = Client(version), Client(version).subscribe(topic, 1)
    payloads = [bytes([number]) * (150_000 + number) for number in range(5)]
    for payload in payloads:
        publisher.publish(topic, payload, 1)
    equal([message.payload for message in subscriber.receive(5)] == payloads, True, "payloads unchanged")
    publisher.close()
    subscriber.close()


@SCENARIOS.add("3.1", "3.1.1", "5.0")
def unsubscribed_topics_are_silent(version):
    topic = unique("paho/unsubscribe")
    publisher, subscriber = Client(version), Client(version)
    subscriber.subscribe(f"{topic}/a", 1).subscribe(f"{topic}/marker", 1)
    publisher.publish(f"{topic}/a", "before", 1)
    equal(subscriber.receive(1)[0].payload, b"before", "before UNSUBSCRIBE")
    subscriber.unsubscribe(f"{topic}/a")
    publisher.publish(f"{topic}/a", "after", 1)
    subscriber.nothing_until(f"{topic}/marker", publisher)
    publisher.close()
    subscriber.close()


@SCENARIOS.add("3.1", "3.1.1", "5.0")
def retained_messages_are_stored_replayed_and_cleared(version):
    topic = unique("paho/retained")
    publisher = Client(version)
    names = [f"{topic}/{name}" for name in ("a", "b", "c")]
    for name in names:
        publisher.publish(name, "old", 1, retain=True)
        publisher.publish(name, name, 1, retain=True)
    subscriber = Client(version).subscribe(f"{topic}/+", 1)
    received = subscriber.receive(3)
    equal(sorted(message.topic for message in received), names, "topics replayed")
    equal([message.payload.decode() for message in received], [message.topic for message in received], "the last payload")
    equal({message.retain for message in received}, {True}, "RETAIN of replayed messages")
    publisher.publish(names[0], "live", 1, retain=True)
    equal(subscriber.receive(1)[0].retain, False, "RETAIN to an established subscription")
    for name in names:
        publisher.publish(name, b"", 1, retain=True)
    subscriber.receive(3)
    late = Client(version).subscribe(f"{topic}/+", 1).subscribe(f"{topic}/marker/deep", 1)
    late.nothing_until(f"{topic}/marker/deep", publisher)
    for client in (publisher, subscriber, late):
        client.close()


@SCENARIOS.add("3.1", "3.1.1", "5.0")
def a_will_is_published_when_the_client_vanishes(version):
    topic = unique("paho/will")
    watcher = Client(version).subscribe(f"{topic}/#", 2)
    mortal = Client(version, will=(f"{topic}/last", "words", 2, True))
    mortal.vanish()
    message = watcher.receive(1)[0]
    equal((message.topic, message.payload, message.qos), (f"{topic}/last", b"words", 2), "the Will")
    late = Client(version).subscribe(f"{topic}/#", 1)
    equal(late.receive(1)[0].retain, True, "RETAIN of the retained Will")
    publisher = Client(version)
    publisher.publish(f"{topic}/last", b"", 1, retain=True)
    for client in (watcher, late, publisher):
        client.close()


@SCENARIOS.add("3.1", "3.1.1", "5.0")
def a_will_is_dropped_on_disconnect(version):
    topic = unique("paho/will")
    watcher = Client(version).subscribe(f"{topic}/#", 1)
    Client(version, will=(f"{topic}/last", "words", 1, False)).close()
    publisher = Client(version)
    watcher.nothing_until(f"{topic}/marker", publisher)
    watcher.close()
    publisher.close()


@SCENARIOS.add("3.1", "3.1.1", "5.0")
def a_session_resumes_with_its_offline_messages(version):
    topic, client_id = unique("paho/resume"), unique("r")
    first = Client(version, client_id, resume=True)
    equal(first.session_present, False, "session present at first")
    first.subscribe(f"{topic}/1", 1).subscribe(f"{topic}/2", 2)
    first.close()
    publisher = Client(version)
    for number in range(30):
        publisher.publish(f"{topic}/{1 + number % 2}", f"{number}", 1 + number % 2)
    second = Client(version, client_id, resume=True)
    if version != "3.1":
        equal(second.session_present, True, "session present on resumption")
    received = second.receive(30)
    for qos in (1, 2):
        payloads = [int(message.payload) for message in received if message.qos == qos]
        equal(payloads, [n for n in range(30) if n % 2 == qos - 1], f"offline messages of QoS {qos}")
    publisher.publish(f"{topic}/2", "live", 2)
    equal(second.receive(1)[0].payload, b"live", "the message after the offline ones")
    second.close()
    Client(version, client_id).close()
    publisher.close()


@SCENARIOS.add("3.1.1", "5.0")
def a_clean_start_discards_the_session(version):
    topic, client_id = unique("paho/clean"), unique("c")
    Client(version, client_id, resume=True).subscribe(topic, 1).close()
    clean = Client(version, client_id)
    equal(clean.session_present, False, "session present after a clean start")
    publisher = Client(version)
    publisher.publish(topic, "for the old session", 1)
    clean.subscribe(f"{topic}/marker", 1)
    clean.nothing_until(f"{topic}/marker", publisher)
    clean.close()
    publisher.close()


@SCENARIOS.add("3.1.1", "5.0")
def a_share_group_gets_each_message_once(version):
    topic = unique("paho/shared")
    members = [Client(version), Client(version)]
    arrivals = queue.Queue()
    for index, member in enumerate(members):
        member.paho.on_message = lambda _c, _u, message, index=index: arrivals.put((index, message.payload))
        member.subscribe(f"$share/group/{topic}/+", 1).subscribe(f"{topic}/marker/{index}", 1)
    publisher = Client(version)
    for number in range(200):
        publisher.publish(f"{topic}/{number % 7}", f"{number}", 1)
    received = [arrivals.get(timeout=PATIENCE_SECONDS) for _ in range(200)]
    equal(sorted(int(payload) for _, payload in received), list(range(200)), "each message once")
    equal({index for index, _ in received}, {0, 1}, "the members that got a share")
    # A marker behind the last message to each member: nothing more had been sent to it.
    for index in (0, 1):
        publisher.publish(f"{topic}/marker/{index}", "marker", 1)
        equal(arrivals.get(timeout=PATIENCE_SECONDS), (index, b"marker"), "the next message")
    for client in (publisher, *members):
        client.close()


@SCENARIOS.add("5.0")
def publish_properties_arrive_as_sent(version):
    topic = unique("paho/properties")
    publisher, subscriber = Client(version), Client(version).subscribe(topic, 2)
    pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("ü", "ö")]
    sent = Properties(PacketTypes.PUBLISH)
    sent.UserProperty = pairs
    sent.ResponseTopic = f"{topic}/answer"
    sent.CorrelationData = b"\x00\x01\xff"
    sent.ContentType = "text/plain"
    sent.PayloadFormatIndicator = 1
    sent.MessageExpiryInterval = 120
    for qos in (0, 1, 2):
        publisher.publish(topic, "payload", qos, properties=sent)
        found = subscriber.receive(1)[0].properties
        equal(found.UserProperty, pairs, "User Properties in order")
        equal(found.ResponseTopic, f"{topic}/answer", "Response Topic")
        equal(found.CorrelationData, b"\x00\x01\xff", "Correlation Data")
        equal(found.ContentType, "text/plain", "Content Type")
        equal(found.PayloadFormatIndicator, 1, "Payload Format Indicator")
        true(0 < found.MessageExpiryInterval <= 120, "Message Expiry Interval counts down")
    publisher.close()
    subscriber.close()


@SCENARIOS.add("5.0")
def subscription_options_and_identifiers_are_honoured(version):
    topic = unique("paho/options")
    client = Client(version)
    identified = Properties(PacketTypes.SUBSCRIBE)
    identified.SubscriptionIdentifier = 77
    client.publish(f"{topic}/kept", "kept", 1, retain=True)
    client.paho.subscribe(f"{topic}/+", options=SubscribeOptions(qos=1, noLocal=True, retainHandling=2), properties=identified)
    equal([reason.value for reason in client.answer()], [1], "granted")
    other = Client(version)
    client.publish(f"{topic}/local", "from myself", 1)
    other.publish(f"{topic}/other", "from another", 1)
    message = client.receive(1)[0]
    equal(message.payload, b"from another", "No Local and Retain Handling 2")
    equal(message.properties.SubscriptionIdentifier, [77], "Subscription Identifier")
    faithful = Client(version).subscribe(f"{topic}/live", 1, retainAsPublished=True)
    other.publish(f"{topic}/live", "retained", 1, retain=True)
    equal(faithful.receive(1)[0].retain, True, "Retain As Published")
    for name in ("kept", "live"):
        other.publish(f"{topic}/{name}", b"", 1, retain=True)
    for each in (client, other, faithful):
        each.close()


@SCENARIOS.add("5.0")
def a_delayed_will_is_cancelled_by_the_resumption(version):
    topic, client_id = unique("paho/delay"), unique("d")
    watcher = Client(version).subscribe(f"{topic}/#", 1)
    delayed = Properties(PacketTypes.WILLMESSAGE)
    delayed.WillDelayInterval = 1
    Client(version, client_id, resume=True, will=(f"{topic}/one", "words", 1, False), will_properties=delayed).vanish()
    back = Client(version, client_id, resume=True, will=(f"{topic}/two", "words", 1, False), will_properties=delayed)
    back.vanish()
    # Both delays are alike and the first began earlier: had it not been cancelled, its Will would come first.
    equal(watcher.receive(1)[0].topic, f"{topic}/two", "the only Will")
    Client(version, client_id).close()
    watcher.close()


@SCENARIOS.add("5.0")
def a_take_over_tells_the_older_connection(version):
    client_id = unique("t")
    reasons = queue.Queue()
    older = Client(version, client_id)
    older.paho.on_disconnect = lambda _c, _u, _flags, reason, _properties: reasons.put(reason)
    newer = Client(version, client_id)
    equal(reasons.get(timeout=PATIENCE_SECONDS).value, 0x8E, "the reason in DISCONNECT")
    older.paho.loop_stop()
    newer.close()


SCENARIOS.run()
