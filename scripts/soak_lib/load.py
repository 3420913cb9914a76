"""Who the clients are and what each does."""

import asyncio
import random
import time

from .client import Client
from .ledger import Ledger

# Messages a second of each durable publisher: QoS 1, QoS 2, QoS 1.
STREAMS = ((0, 1, 15.0), (1, 2, 15.0), (2, 1, 5.0))
PAYLOADS = (64, 256, 1024, 4096)
WINDOW = 64
# Seconds that some are away, and there.
AWAY_S, THERE_S = (20, 60), (8, 20)
DURABLE_EXPIRY_S = 24 * 3600
# Clients a second that come for a moment, and how long the sessions of some of them last.
PASSERS_PER_S, NEW_SESSIONS_PER_S, NEW_SESSION_EXPIRY_S = 5.0, 2.0, 30
STORM_CLIENTS, STORM_EVERY_S = 200, 60
FLOOD_BYTES, FLOOD_PER_S, SLOW_BYTES_PER_S = 16 << 10, 20.0, 8 << 10
RETAINED_TOPICS, RETAINED_PER_S, RETAINED_PAYLOADS = 1000, 10.0, (64, 1024)
PROBES_PER_S = 10.0
QUEUE_BYTES_MAX = "8MiB"


class Load:
    """All clients."""

    def __init__(self, broker, seed):
        self.broker = broker
        self.ledger = Ledger()
        self.random = random.Random(seed)
        self.latencies_ms = []
        self.is_ending = False
        self.counts = {"passers": 0, "new sessions": 0, "storms": 0, "slow clients disconnected": 0, "leaves": 0}
        self._tasks = []
        self._publishers, self._away, self._there, self._storm = [], [], [], []
        self._writer = None
        self._probe_sent = {}
        self._number = 0

    def disconnected(self, client, reason):
        """The broker ended a connection with a reason."""
        if client.read_bytes_per_s is not None and reason == 0x97:
            self.counts["slow clients disconnected"] += 1
        elif reason != 0x8B:  # It shuts down.
            self.ledger.violate(f"{client.client_id} was disconnected with {reason:#x}")

    async def begin(self):
        """Everybody comes; the durable subscriptions stand before anything is published."""
        for qos in (1, 2):
            for name, group in (("there", self._there), ("away", self._away), ("away-too", self._away)):
                client = self._durable(f"{name}-{qos}", [("stream/#", qos)])
                client.on_message = self._hears(client.client_id)
                group.append(client)
                for index, _, _ in STREAMS:
                    self.ledger.subscribed(client.client_id, f"stream/{index}")
        for client in self._there + self._away:
            self._go(client.stay())
            await client.granted.wait()
        for index, qos, per_s in STREAMS:
            client = self._durable(f"publisher-{index}", [])
            client.on_acknowledged = lambda tag: self.ledger.is_acknowledged(*tag)
            self._publishers.append(client)
            self._go(client.stay())
            self._go(self._publishes(client, f"stream/{index}", qos, per_s))
        for client in self._away:
            self._go(self._comes_and_goes(client))
        self._writer = self._durable("writer", [])
        self._writer.on_acknowledged = lambda tag: self.ledger.has_retained(*tag)
        self._go(self._writer.stay())
        self._go(self._retains())
        self._go(self._floods())
        for client in (Client(self, "slow-0", 0, [("flood", 0)]), Client(self, "slow-1", 0, [("flood", 1)]),
                       self._durable("slow-durable", [("flood", 1)])):
            client.read_bytes_per_s = SLOW_BYTES_PER_S
            self._go(client.stay())
        for index in range(STORM_CLIENTS):
            client = Client(self, f"storm-{index}", 0, [(f"storm/{index}", 0)])
            self._storm.append(client)
            self._go(client.stay())
        self._go(self._storms())
        self._go(self._every(1 / PASSERS_PER_S, self._passes_by))
        self._go(self._every(1 / NEW_SESSIONS_PER_S, self._leaves_a_session))
        self._go(self._probes())

    def check(self):
        """What a task met that it did not expect."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception():
                raise task.exception()

    async def end(self, patience_s):
        """Nothing new is published; everybody comes, until all has arrived or nothing has for long."""
        self.is_ending = True
        for client in self._away:
            client.wanted.set()
        last, changed = None, time.monotonic()
        while True:
            under_way = sum(client.under_way() for client in [*self._publishers, self._writer])
            state = self.ledger.owed(), under_way, self.ledger.delivered
            if not state[0] and not state[1]:
                break
            if state != last:
                last, changed = state, time.monotonic()
            if time.monotonic() - changed > patience_s:
                break
            await asyncio.sleep(0.1)
        self.ledger.gives_up()
        await self._looks(patience_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- What each does -------------------------------------------------------------------------------------------------

    def _durable(self, client_id, filters):
        return Client(self, client_id, DURABLE_EXPIRY_S, filters)

    def _go(self, work):
        self._tasks.append(asyncio.ensure_future(work))

    def _hears(self, subscriber):
        def hears(topic, payload, qos, _retain):
            self.ledger.delivers(subscriber, topic, int(payload[:10]), qos)

        return hears

    async def _publishes(self, client, topic, qos, per_s):
        number = 0
        while not self.is_ending:
            await asyncio.sleep(self.random.expovariate(per_s))
            if client.is_up and client.under_way() < WINDOW and not self.is_ending:
                payload = b"%010d" % number + b"." * (self.random.choice(PAYLOADS) - 10)
                client.publish(topic, payload, qos, tag=(topic, number))
                number += 1

    async def _comes_and_goes(self, client):
        while not self.is_ending:
            await asyncio.sleep(self.random.uniform(*THERE_S))
            if self.is_ending:
                break
            client.wanted.clear()
            client.leave(politely=self.random.random() < 0.5)
            await asyncio.sleep(self.random.uniform(*AWAY_S))
            client.wanted.set()

    async def _retains(self):
        number = 0
        while not self.is_ending:
            await asyncio.sleep(1 / RETAINED_PER_S)
            if not self._writer.is_up or self._writer.under_way() >= WINDOW or self.is_ending:
                continue
            topic = f"retained/{self.random.randrange(RETAINED_TOPICS)}"
            payload = b"%010d" % number + b"." * self.random.choice(RETAINED_PAYLOADS)
            number += 1
            if self.random.random() < 1 / 3:
                payload = b""
            self.ledger.retains(topic, payload)
            self._writer.publish(topic, payload, 1, retain=True, tag=(topic, payload))

    async def _looks(self, patience_s):
        found, last = {}, [time.monotonic()]

        def hears(topic, payload, _qos, _retain):
            found[topic] = payload
            last[0] = time.monotonic()

        looker = Client(self, "looker", 0, [("retained/#", 1)])
        looker.on_message = hears
        if not await looker.connect():
            return self.ledger.violate("nobody can look at what is retained")
        while time.monotonic() - last[0] < min(patience_s, 2):
            await asyncio.sleep(0.1)
        looker.leave()
        return self.ledger.looks(found)

    async def _floods(self):
        client = Client(self, "flooder")
        self._go(client.stay())
        while not self.is_ending:
            await asyncio.sleep(1 / FLOOD_PER_S)
            if client.is_up and client.under_way() < WINDOW:
                client.publish("flood", b"." * FLOOD_BYTES, 1)

    async def _storms(self):
        while not self.is_ending:
            await asyncio.sleep(STORM_EVERY_S)
            self.counts["storms"] += 1
            for client in self._storm:
                client.leave(politely=False)

    async def _passes_by(self):
        """No session, a few subscriptions, a few messages of QoS 0."""
        self.counts["passers"] += 1
        number = self.counts["passers"]
        client = Client(self, f"passer-{number}", 0, [(f"pass/{number}/{part}", part) for part in range(3)])
        if await client.connect():
            for part in range(3):
                client.publish(f"pass/{number}/{part}", b"." * 64)
            await asyncio.sleep(self.random.uniform(0.1, 2))
        client.leave(politely=self.random.random() < 0.5)

    async def _leaves_a_session(self):
        """A session under a new name, in which messages queue up until it expires."""
        self.counts["new sessions"] += 1
        client = Client(self, f"new-{self.counts['new sessions']}", NEW_SESSION_EXPIRY_S, [("stream/2", 1)])
        if await client.connect():
            await asyncio.sleep(self.random.uniform(0.1, 1))
        client.leave(politely=self.random.random() < 0.5)
        self.counts["leaves"] += 1

    async def _probes(self):
        """A message at QoS 1 to itself, from when it is sent to when it is there; what the load itself takes counts in."""
        client = Client(self, "probe", 0, [("probe", 1)])

        def hears(_topic, payload, _qos, _retain):
            self.latencies_ms.append((time.monotonic() - float(payload)) * 1000)

        client.on_message = hears
        self._go(client.stay())
        while not self.is_ending:
            await asyncio.sleep(1 / PROBES_PER_S)
            if client.is_up and client.granted.is_set():
                client.publish("probe", b"%.6f" % time.monotonic(), 1)

    async def _every(self, period_s, work):
        under_way = set()
        while not self.is_ending:
            await asyncio.sleep(period_s)
            task = asyncio.ensure_future(work())
            under_way.add(task)
            for done in [task for task in under_way if task.done()]:
                under_way.discard(done)
                done.result()
