"""mosquitto_pub and mosquitto_sub against a broker: MQTT 3.1, 3.1.1 and 5.0."""

import json
import queue
import subprocess
import threading

from scenarios import PATIENCE_SECONDS, Scenarios, equal, true, unique

SCENARIOS = Scenarios("mosquitto_pub/sub")
PROTOCOLS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5"}
# What mosquitto_sub prints of a message: RETAIN, QoS, topic, payload. Anything else in its output is its debug log.
MESSAGE_FORMAT = "MESSAGE %r %q %t %p"


def command(program, version, *arguments):
    address = ["-h", SCENARIOS.host, "-p", str(SCENARIOS.port), "-V", PROTOCOLS[version]]
    return [program, *address, *arguments]


def publish(version, topic, *payloads, qos=0, arguments=()):
    """Publishes each payload, all on one connection; returns when the broker has taken them over."""
    arguments = ["-t", topic, "-q", str(qos), *arguments, *(["-l"] if payloads else ["-n"])]
    lines = "".join(f"{payload}\n" for payload in payloads)
    run = subprocess.run(
        command("mosquitto_pub", version, *arguments),
        input=lines,
        text=True,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    equal((run.returncode, run.stderr), (0, ""), f"mosquitto_pub {' '.join(arguments)}")


class Subscriber:
    """A running mosquitto_sub; entered with `with` once the broker has granted its subscriptions."""

    def __init__(self, version, *filters, qos=2, arguments=(), output_format=MESSAGE_FORMAT):
        topics = [word for topic_filter in filters for word in ("-t", topic_filter)]
        arguments = ["-d", "-q", str(qos), "-F", output_format, *topics, *arguments]
        # Line by line: to a pipe, the debug log would wait for a full buffer.
        buffered = ["stdbuf", "-oL", *command("mosquitto_sub", version, *arguments)]
        self.process = subprocess.Popen(buffered, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.messages = queue.Queue()
        self.log = []
        self.granted = threading.Event()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            line = line.rstrip("\n")
            if line.startswith(("MESSAGE ", "{")):
                self.messages.put(line)
            else:
                self.log.append(line)
                if line.startswith("Subscribed"):
                    self.granted.set()

    def __enter__(self):
        true(self.granted.wait(PATIENCE_SECONDS), f"mosquitto_sub was not granted its filters: {self.log}")
        return self

    def __exit__(self, *_exception):
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)
        self.reader.join(PATIENCE_SECONDS)
        self.process.stdout.close()

    def receive(self, count):
        try:
            return [self.messages.get(timeout=PATIENCE_SECONDS) for _ in range(count)]
        except queue.Empty:
            raise AssertionError(f"not {count} messages in time: {self.log}") from None

    def finish(self):
        """Waits until mosquitto_sub ends by itself; what it printed of messages."""
        equal(self.process.wait(PATIENCE_SECONDS), 0, "exit code of mosquitto_sub")
        self.reader.join(PATIENCE_SECONDS)
        self.process.stdout.close()
        return list(self.messages.queue)


@SCENARIOS.add("3.1", "3.1.1", "5.0")
def round_trips_at_each_qos(version):
    topic = unique("mosquitto/round")
    for granted in (0, 1, 2):
        with Subscriber(version, f"{topic}/{granted}/+", qos=granted) as subscriber:
            for published in (0, 1, 2):
                publish(version, f"{topic}/{granted}/{published}", *range(20), qos=published)
                qos = min(granted, published)
                expected = [f"MESSAGE 0 {qos} {topic}/{granted}/{published} {number}" for number in range(20)]
                equal(subscriber.receive(20), expected, f"published at {published}, granted {granted}")


@SCENARIOS.add("3.1", "3.1.1", "5.0")
def retained_messages_are_stored_replayed_and_cleared(version):
    topic = unique("mosquitto/retained")
    for name in ("a", "b", "c"):
        publish(version, f"{topic}/{name}", "old", name, qos=1, arguments=["-r"])
    with Subscriber(version, f"{topic}/#") as subscriber:
        expected = [f"MESSAGE 1 1 {topic}/{name} {name}" for name in ("a", "b", "c")]
        equal(sorted(subscriber.receive(3)), expected, "replayed")
        publish(version, f"{topic}/a", "live", arguments=["-r"])
        equal(subscriber.receive(1), [f"MESSAGE 0 0 {topic}/a live"], "to an established subscription")
        for name in ("a", "b", "c"):
            publish(version, f"{topic}/{name}", qos=1, arguments=["-r"])
        equal([line.strip() for line in subscriber.receive(3)][-1], f"MESSAGE 0 1 {topic}/c", "the last that clears")
    with Subscriber(version, f"{topic}/#") as late:
        publish(version, f"{topic}/marker", "marker", qos=1)
        equal(late.receive(1), [f"MESSAGE 0 1 {topic}/marker marker"], "the first message after clearing")


@SCENARIOS.add("3.1", "3.1.1", "5.0")
def a_will_is_published_when_the_client_is_killed(version):
    topic = unique("mosquitto/will")
    will = ["--will-topic", f"{topic}/last", "--will-payload", "words", "--will-qos", "2", "--will-retain"]
    with Subscriber(version, f"{topic}/#") as watcher, Subscriber(version, f"{topic}/last") as exact_watcher:
        with Subscriber(version, f"{topic}/else", arguments=will) as mortal:
            mortal.process.kill()
            for each in (watcher, exact_watcher):
                equal(each.receive(1), [f"MESSAGE 0 2 {topic}/last words"], "the Will")
    with Subscriber(version, f"{topic}/#") as late:
        equal(late.receive(1), [f"MESSAGE 1 2 {topic}/last words"], "the retained Will")
    publish(version, f"{topic}/last", arguments=["-r"])


@SCENARIOS.add("3.1", "3.1.1", "5.0")
def a_will_is_dropped_on_disconnect(version):
    topic = unique("mosquitto/will")
    will = ["--will-topic", f"{topic}/last", "--will-payload", "words", "--will-qos", "1"]
    with Subscriber(version, f"{topic}/#") as watcher:
        Subscriber(version, f"{topic}/else", arguments=[*will, "-E"]).finish()
        publish(version, f"{topic}/marker", "marker", qos=1)
        equal(watcher.receive(1), [f"MESSAGE 0 1 {topic}/marker marker"], "the next message")


@SCENARIOS.add("3.1", "3.1.1", "5.0")
def a_session_resumes_with_its_offline_messages(version):
    topic, client_id = unique("mosquitto/resume"), unique("m")
    persistent = ["-c", "-i", client_id]
    Subscriber(version, f"{topic}/+", arguments=[*persistent, "-E"]).finish()
    for qos in (1, 2):
        publish(version, f"{topic}/{qos}", *range(15), qos=qos)
    found = Subscriber(version, f"{topic}/+", arguments=[*persistent, "-C", "30"]).finish()
    expected = [f"MESSAGE 0 {qos} {topic}/{qos} {number}" for qos in (1, 2) for number in range(15)]
    # Order holds within a topic and QoS.
    equal(sorted(found, key=lambda line: line.split()[2]), expected, "offline messages")
    with Subscriber(version, f"{topic}/+", arguments=persistent) as again:
        publish(version, f"{topic}/1", "live", qos=1)
        equal(again.receive(1), [f"MESSAGE 0 1 {topic}/1 live"], "the message after the offline ones")
    publish(version, f"{topic}/1", "bye", arguments=["-i", client_id])


@SCENARIOS.add("3.1.1", "5.0")
def a_share_group_gets_each_message_once(version):
    topic = unique("mosquitto/shared")
    shared = f"$share/group/{topic}/+"
    with (
        Subscriber(version, shared, f"{topic}/marker/a", qos=1) as one,
        Subscriber(version, shared, f"{topic}/marker/b", qos=1) as two,
    ):
        publish(version, f"{topic}/a", *range(100), qos=1)
        publish(version, f"{topic}/b", *range(100, 200), qos=2)
        received = []
        for name, member in (("a", one), ("b", two)):
            publish(version, f"{topic}/marker/{name}", "marker", qos=1)
            lines = list(iter(lambda member=member: member.receive(1)[0], f"MESSAGE 0 1 {topic}/marker/{name} marker"))
            true(lines, f"member {name} got no share")
            received += lines
        equal(sorted(int(line.split()[-1]) for line in received), list(range(200)), "each message once")


@SCENARIOS.add("5.0")
def publish_properties_arrive_as_sent(version):
    topic = unique("mosquitto/properties")
    properties = [
        ("content-type", "text/plain"),
        ("correlation-data", "1234"),
        ("response-topic", f"{topic}/answer"),
        ("payload-format-indicator", "1"),
        ("message-expiry-interval", "90"),
    ]
    arguments = [word for name, value in properties for word in ("-D", "publish", name, value)]
    for key, value in (("z", "1"), ("a", "2"), ("z", "3")):
        arguments += ["-D", "publish", "user-property", key, value]
    # %J would fold the two properties named z into one.
    output_format = "MESSAGE %C|%D|%R|%F|%E|%P|%p"
    for qos in (0, 1, 2):
        with Subscriber(version, topic, output_format=output_format) as subscriber:
            publish(version, topic, "payload", qos=qos, arguments=arguments)
            found = subscriber.receive(1)[0].removeprefix("MESSAGE ").split("|")
            true(0 < int(found.pop(4)) <= 90, "Message Expiry Interval counts down")
            equal(found, ["text/plain", "1234", f"{topic}/answer", "1", "z:1 a:2 z:3", "payload"], "properties")


@SCENARIOS.add("5.0")
def subscription_identifiers_come_with_the_message(version):
    topic = unique("mosquitto/identifier")
    identifier = ["-D", "subscribe", "subscription-identifier", "268435455"]
    with Subscriber(version, topic, arguments=identifier, output_format="MESSAGE %S") as subscriber:
        publish(version, topic, "payload", qos=1)
        equal(subscriber.receive(1), ["MESSAGE 268435455"], "Subscription Identifier")


@SCENARIOS.add("3.1.1", "5.0")
def json_output_shows_the_message(version):
    topic = unique("mosquitto/json")
    with Subscriber(version, topic, output_format="%j") as subscriber:
        publish(version, topic, "payload", qos=2)
        found = json.loads(subscriber.receive(1)[0])
        equal((found["topic"], found["qos"], found["retain"]), (topic, 2, 0), "as JSON")
        equal(found["payload"], "payload", "payload")


SCENARIOS.run()
