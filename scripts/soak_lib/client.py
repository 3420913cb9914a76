"""A client that keeps its promises over every connection of a session."""

import asyncio
import socket
from collections import OrderedDict
from dataclasses import dataclass

from . import packets

CONNECT_PATIENCE_S, RETRY_S = 20, 0.2
# What the kernel keeps for one that reads slowly.
SLOW_RECEIVE_BYTES = 16 << 10


@dataclass
class _Outgoing:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    tag: object
    is_released: bool = False


class Client:
    """One session. What it hears goes to the hooks, which are functions and may be replaced."""

    def __init__(self, load, client_id, expiry_s=0, filters=()):
        self.load, self.client_id, self.expiry_s, self.filters = load, client_id, expiry_s, tuple(filters)
        self.on_message = lambda topic, payload, qos, retain: None
        self.on_acknowledged = lambda tag: None
        self.is_known = False  # Its session is there, as far as it knows.
        self.is_subscribed = False
        self.granted = asyncio.Event()
        self.wanted = asyncio.Event()
        self.wanted.set()
        self._connection = None
        self._outgoing = OrderedDict()
        self._received = set()
        self._last_identifier = 0
        self.read_bytes_per_s = None

    @property
    def is_up(self):
        return self._connection is not None and self._connection.is_up

    def under_way(self):
        return len(self._outgoing)

    # --- Connections ----------------------------------------------------------------------------------------------------

    async def stay(self):
        """Comes back whenever it is wanted and has no connection."""
        while True:
            await self.wanted.wait()
            if self._connection is None and not await self.connect():
                await asyncio.sleep(RETRY_S)
                continue
            await self._connection.gone.wait()
            await asyncio.sleep(0)

    async def connect(self):
        """Connects, and waits until its subscriptions stand. Whether that came about."""
        if self.load.broker.port is None or not self.load.broker.is_up:
            return False
        loop = asyncio.get_running_loop()
        link = socket.socket()
        link.setblocking(False)
        if self.read_bytes_per_s is not None:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_RECEIVE_BYTES)
        try:
            await loop.sock_connect(link, ("127.0.0.1", self.load.broker.port))
            _, connection = await loop.create_connection(lambda: _Connection(self), sock=link)
        except OSError:
            link.close()
            return False
        self._connection = connection
        connection.send(packets.connect(self.client_id, not self.expiry_s, self.expiry_s))
        try:
            await asyncio.wait_for(_first(connection.settled, connection.gone), CONNECT_PATIENCE_S)
        except asyncio.TimeoutError:
            self.load.ledger.violate(f"{self.client_id} waits for an answer to what it asked when it came")
            connection.close()
        return connection.is_up

    def leave(self, politely=True):
        """Ends its connection."""
        if self._connection is not None:
            if politely:
                self._connection.send(packets.disconnect())
            self._connection.close()

    def lost(self, connection):
        if self._connection is connection:
            self._connection = None

    # --- What it sends --------------------------------------------------------------------------------------------------

    def publish(self, topic, payload, qos=0, retain=False, tag=None):
        """Only while it is up."""
        if qos == 0:
            return self._connection.send(packets.publish(topic, payload, retain=retain))
        identifier = self._take_identifier()
        self._outgoing[identifier] = _Outgoing(topic, payload, qos, retain, tag)
        return self._connection.send(packets.publish(topic, payload, qos, identifier, retain=retain))

    def _take_identifier(self):
        while True:
            self._last_identifier = self._last_identifier % 65535 + 1
            if self._last_identifier not in self._outgoing:
                return self._last_identifier

    # --- What comes -----------------------------------------------------------------------------------------------------

    def on_connack(self, connection, body):
        present, reason = packets.read_connack(body)
        if reason:
            self.load.ledger.violate(f"{self.client_id} was refused with {reason:#x}")
            return connection.close()
        if self.is_known and not present:
            self.load.ledger.violate(f"{self.client_id} has lost its session")
        self.is_known = self.expiry_s > 0
        if not present:
            self._received.clear()
            self.is_subscribed = False
        connection.is_up = True
        for identifier, sent in self._outgoing.items():
            if sent.is_released:
                connection.send(packets.acknowledgement(packets.PUBREL, identifier))
            else:
                connection.send(packets.publish(sent.topic, sent.payload, sent.qos, identifier, present, sent.retain))
        if self.is_subscribed or not self.filters:
            connection.settled.set()
        else:
            connection.requests = len(self.filters)
            for topic_filter, qos in self.filters:
                connection.send(packets.subscribe(self._take_identifier(), topic_filter, qos))
        return None

    def on_suback(self, connection, body):
        if body[-1] > 2:
            self.load.ledger.violate(f"{self.client_id} was refused a subscription with {body[-1]:#x}")
        connection.requests -= 1
        if connection.requests == 0:
            self.is_subscribed = self.expiry_s > 0
            connection.settled.set()
            self.granted.set()

    def on_publish(self, connection, first, body):
        topic, payload, qos, retain, identifier = packets.read_publish(first, body)
        if qos == 1:
            connection.send(packets.acknowledgement(packets.PUBACK, identifier))
        elif qos == 2:
            connection.send(packets.acknowledgement(packets.PUBREC, identifier))
            if identifier in self._received:
                return
            self._received.add(identifier)
        self.on_message(topic, payload, qos, retain)

    def on_acknowledgement(self, connection, kind, body):
        identifier, reason = packets.read_acknowledgement(body)
        if kind == packets.PUBREL:
            self._received.discard(identifier)
            return connection.send(packets.acknowledgement(packets.PUBCOMP, identifier))
        sent = self._outgoing.get(identifier)
        # 0x92: it was released before the connection ended.
        if sent is None or (reason >= 0x80 and not (kind == packets.PUBCOMP and reason == 0x92)):
            return self.load.ledger.violate(f"{self.client_id} got {kind} for {identifier} with {reason:#x}")
        if kind == packets.PUBREC:
            if not sent.is_released:
                sent.is_released = True
                self.on_acknowledged(sent.tag)
            return connection.send(packets.acknowledgement(packets.PUBREL, identifier))
        del self._outgoing[identifier]
        if kind == packets.PUBACK:
            self.on_acknowledged(sent.tag)
        return None


class _Connection(asyncio.Protocol):
    """A Network Connection."""

    def __init__(self, client):
        self.client = client
        self.is_up = False
        self.requests = 0
        self.settled, self.gone = asyncio.Event(), asyncio.Event()
        self._buffer = bytearray()
        self._transport = None

    def connection_made(self, transport):
        self._transport = transport

    def connection_lost(self, error):
        self.is_up = False
        self.client.lost(self)
        self.gone.set()

    def send(self, data):
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self):
        self.is_up = False
        self._transport.close()
        self.client.lost(self)
        self.gone.set()

    def data_received(self, data):
        self._buffer += data
        for first, body in packets.take(self._buffer):
            kind = first >> 4
            if kind == packets.PUBLISH:
                self.client.on_publish(self, first, body)
            elif kind in (packets.PUBACK, packets.PUBREC, packets.PUBREL, packets.PUBCOMP):
                self.client.on_acknowledgement(self, kind, body)
            elif kind == packets.CONNACK:
                self.client.on_connack(self, body)
            elif kind == packets.SUBACK:
                self.client.on_suback(self, body)
            elif kind == packets.DISCONNECT:
                self.client.load.disconnected(self.client, body[0] if body else 0)
                self.close()
        if self.client.read_bytes_per_s is not None:
            self._transport.pause_reading()
            pause = len(data) / self.client.read_bytes_per_s
            asyncio.get_running_loop().call_later(pause, self._go_on)

    def _go_on(self):
        if not self._transport.is_closing():
            self._transport.resume_reading()


async def _first(*events):
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
