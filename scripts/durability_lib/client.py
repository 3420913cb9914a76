"""The load: MQTT 3.1.1, as much of it as the rows need. All frames of a load have one length, so that they can be counted."""

import select
import socket
import struct
import time

from compare_lib.errors import RunFailed

PATIENCE_S = 60.0
# Connections that are open at once while sessions are made, each slice from an address of its own: ports last that way.
SLICE = 1000
SOURCES = 250
PUBACK = 0x40
_IDENTIFIERS = [struct.pack(">H", number) for number in range(1, 65536)]
_RECEIVE_BYTES = 1 << 18


def packet(first, body):
    length, digits = len(body), bytearray()
    while True:
        length, digit = length >> 7, length & 127
        digits.append(digit | (128 if length else 0))
        if not length:
            return bytes([first]) + bytes(digits) + body


def connect(client_id, clean):
    return packet(0x10, text("MQTT") + bytes([4, 2 if clean else 0, 0, 0]) + text(client_id))


def subscribe(topic_filter):
    return packet(0x82, b"\0\1" + text(topic_filter) + b"\1")


def text(value):
    data = value.encode()
    return struct.pack(">H", len(data)) + data


class Frames:
    """PUBLISH packets at QoS 1 to topics in turn, identifiers in turn."""

    def __init__(self, topics, payload_bytes):
        self._payload = b"x" * payload_bytes
        self._heads = []
        for topic in topics:
            whole = packet(0x32, text(topic) + b"\0\0" + self._payload)
            self._heads.append(whole[: -2 - payload_bytes])
        self.made = 0

    def take(self, count):
        """The next so many, in one."""
        heads, payload, begin = self._heads, self._payload, self.made
        self.made += count
        topics, identifiers = len(heads), len(_IDENTIFIERS)
        return b"".join(
            [heads[at % topics] + _IDENTIFIERS[at % identifiers] + payload for at in range(begin, self.made)]
        )


def open_connection(port, client_id, clean=True, source="127.0.0.1"):
    """A connection that the broker has accepted."""
    link = begin_connection(port, source)
    link.sendall(connect(client_id, clean))
    read_connack(link)
    return link


def begin_connection(port, source="127.0.0.1"):
    link = socket.socket()
    link.settimeout(PATIENCE_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.bind((source, 0))
    link.connect(("127.0.0.1", port))
    return link


def read_connack(link):
    answer = read(link, 4)
    if answer[0] != 0x20 or answer[3] != 0:
        raise RunFailed(f"a client was refused with {answer[3]}")


def read_suback(link):
    answer = read(link, 5)
    if answer[0] != 0x90 or answer[4] != 1:
        raise RunFailed("a subscription was refused")


def read(link, count):
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise RunFailed("the broker closed a connection")
        data += part
    return data


def make_sessions(port, sessions):
    """Durable sessions with a subscription each, (ClientId, filter), whose clients then leave."""
    for number, begin in enumerate(range(0, len(sessions), SLICE)):
        chosen = sessions[begin : begin + SLICE]
        links = [begin_connection(port, f"127.0.1.{number % SOURCES + 1}") for _ in chosen]
        try:
            for link, (client_id, _) in zip(links, chosen):
                link.sendall(connect(client_id, clean=False))
            for link in links:
                read_connack(link)
            for link, (_, topic_filter) in zip(links, chosen):
                link.sendall(subscribe(topic_filter))
            for link in links:
                read_suback(link)
            for link in links:
                link.sendall(b"\xe0\0")
            # The broker has let go of the connection when it ends.
            for link in links:
                while link.recv(16):
                    pass
        finally:
            for link in links:
                link.close()


class Publisher:
    """One connection that publishes at QoS 1 with a window."""

    def __init__(self, port, client_id, topics, payload_bytes, window):
        self.link = open_connection(port, client_id)
        self.frames = Frames(topics, payload_bytes)
        self.acknowledged = 0
        self._window = window
        self._rest = b""

    def send(self, done, most=None):
        """Fills the window up; `done` counts what has left it. Sends at most `most` in all."""
        room = done + self._window - self.frames.made
        if most is not None:
            room = min(room, most - self.frames.made)
        if room > 0:
            self.link.sendall(self.frames.take(room))

    def receive(self):
        data = self.link.recv(_RECEIVE_BYTES)
        if not data:
            raise RunFailed("the broker closed a publisher's connection")
        data = self._rest + data
        whole = len(data) // 4
        if data[: 4 * whole : 4].count(PUBACK) != whole:
            raise RunFailed("a publisher got what is no PUBACK")
        self._rest = data[4 * whole :]
        self.acknowledged += whole


class Subscriber:
    """A durable one that is there, of messages of one length."""

    def __init__(self, port, client_id, topic, payload_bytes, is_new=True):
        self.link = open_connection(port, client_id, clean=False)
        if is_new:
            self.link.sendall(subscribe(topic))
            read_suback(self.link)
        whole = packet(0x32, text(topic) + b"\0\0" + b"x" * payload_bytes)
        self._length = len(whole)
        self._identifier_at = len(whole) - payload_bytes - 2
        self._rest = b""
        self.received = 0

    def receive(self):
        data = self.link.recv(_RECEIVE_BYTES)
        if not data:
            raise RunFailed("the broker closed a subscriber's connection")
        data = self._rest + data
        length, at = self._length, self._identifier_at
        whole = len(data) // length
        if any(first >> 4 != 3 for first in data[: whole * length : length]):
            raise RunFailed("a subscriber got what is no PUBLISH of this load")
        self.link.sendall(b"".join([b"\x40\2" + data[begin + at : begin + at + 2] for begin in range(0, whole * length, length)]))
        self._rest = data[whole * length :]
        self.received += whole


def publish(publishers, seconds=None, each=None, on_warm=None, warmup_s=0.0):
    """Lets publishers publish for so long, or so many messages each, until all are acknowledged.

    `on_warm` is called once, when the warm-up is over. Returns the messages acknowledged between it and the end, and the seconds.
    """
    poll, by_descriptor = _polled((publisher.link, publisher) for publisher in publishers)
    begin = time.monotonic()
    warm_at, warm_count, counted = None, 0, None
    for publisher in publishers:
        publisher.send(publisher.acknowledged, each)
    while True:
        for descriptor, _ in _ready(poll):
            publisher = by_descriptor[descriptor]
            publisher.receive()
            if counted is None:
                publisher.send(publisher.acknowledged, each)
        now = time.monotonic()
        acknowledged = sum(publisher.acknowledged for publisher in publishers)
        if warm_at is None and now - begin >= warmup_s:
            warm_at, warm_count = now, acknowledged
            if on_warm:
                on_warm()
        if counted is None and seconds is not None and now - begin >= warmup_s + seconds:
            counted = True
        if (counted or each) and acknowledged == sum(publisher.frames.made for publisher in publishers):
            if each is None or acknowledged == each * len(publishers):
                return acknowledged - warm_count, now - warm_at


def exchange(pairs, seconds, warmup_s, on_warm):
    """Lets (publisher, subscriber) pairs work in a closed loop; returns deliveries and seconds after the warm-up."""
    poll, _ = _polled(())
    receivers = {}
    for publisher, subscriber in pairs:
        for end in (publisher, subscriber):
            receivers[end.link.fileno()] = (end, publisher, subscriber)
            poll.register(end.link.fileno(), select.EPOLLIN)
    begin = time.monotonic()
    warm_at, warm_count = None, 0
    for publisher, _ in pairs:
        publisher.send(0)
    while True:
        for descriptor, _ in _ready(poll):
            end, publisher, subscriber = receivers[descriptor]
            end.receive()
            publisher.send(min(publisher.acknowledged, subscriber.received))
        now = time.monotonic()
        if warm_at is None and now - begin >= warmup_s:
            warm_at, warm_count = now, sum(subscriber.received for _, subscriber in pairs)
            on_warm()
        elif warm_at is not None and now - warm_at >= seconds:
            return sum(subscriber.received for _, subscriber in pairs) - warm_count, now - warm_at


def drained(port, client_id, topic, payload_bytes, expected):
    """Comes back as a client that was away, and raises unless it gets so many messages."""
    subscriber = Subscriber(port, client_id, topic, payload_bytes, is_new=False)
    try:
        while subscriber.received < expected:
            try:
                subscriber.receive()
            except socket.timeout:
                break
    finally:
        subscriber.link.close()
    if subscriber.received < expected:
        raise RunFailed(f"{expected - subscriber.received} of {expected} acknowledged messages did not arrive")


def first_acknowledgement(port, topic, payload_bytes, process, patience_s):
    """Tries until a QoS 1 message is acknowledged; returns when that was."""
    frame = Frames([topic], payload_bytes).take(1)
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RunFailed(f"the broker ended with {process.returncode}")
        try:
            with open_connection(port, "first") as link:
                link.sendall(frame)
                if read(link, 4)[0] == PUBACK:
                    return time.monotonic()
        except (OSError, RunFailed):
            # Not yet: it does not listen, or does not serve.
            time.sleep(0.002)
    raise RunFailed(f"no PUBACK within {patience_s:.0f} s of the start")


def _polled(ends):
    poll, by_descriptor = select.epoll(), {}
    for link, end in ends:
        by_descriptor[link.fileno()] = end
        poll.register(link.fileno(), select.EPOLLIN)
    return poll, by_descriptor


def _ready(poll):
    events = poll.poll(PATIENCE_S)
    if not events:
        raise RunFailed(f"the broker answered nothing for {PATIENCE_S:.0f} s")
    return events
