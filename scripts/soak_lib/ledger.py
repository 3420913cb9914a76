"""What was acknowledged, what arrived, and what does not agree."""

SHOWN_MAX = 50


class Ledger:
    """Judges at once what can be judged at once; what is still owed is asked for at the end."""

    def __init__(self):
        self.violations = []
        self.acknowledged = 0
        self.delivered = 0
        self._audiences = {}
        self._owed = {}
        self._seen = {}
        self._latest = {}
        self._retained = {}
        self._retained_open = {}

    # --- Messages to durable subscriptions ------------------------------------------------------------------------------

    def subscribed(self, subscriber, stream):
        """From now on what is sent in `stream` is owed to `subscriber`."""
        self._audiences.setdefault(stream, set()).add(subscriber)
        self._owed.setdefault(subscriber, set())
        self._seen.setdefault((subscriber, stream), bytearray())

    def is_acknowledged(self, stream, number):
        """The broker has taken the message over."""
        self.acknowledged += 1
        for subscriber in self._audiences.get(stream, ()):
            if not self._count(subscriber, stream, number):
                self._owed[subscriber].add((stream, number))

    def delivers(self, subscriber, stream, number, qos):
        """The message is handed to the subscriber's application."""
        self.delivered += 1
        seen = self._seen.get((subscriber, stream))
        if seen is None:
            return self.violate(f"{subscriber} got {number} of {stream} without a subscription")
        self._owed[subscriber].discard((stream, number))
        if number >= len(seen):
            seen.extend(bytes(number + 1 - len(seen)))
        seen[number] = min(seen[number] + 1, 255)
        if seen[number] > 1:
            if qos == 2:
                self.violate(f"{subscriber} got {number} of {stream} twice")
            return None
        latest = self._latest.get((subscriber, stream), -1)
        if number < latest:
            self.violate(f"{subscriber} got {number} of {stream} after {latest}")
        self._latest[subscriber, stream] = max(number, latest)
        return None

    def owed(self):
        """How many messages are acknowledged and have not arrived."""
        return sum(len(owed) for owed in self._owed.values())

    def _count(self, subscriber, stream, number):
        seen = self._seen[subscriber, stream]
        return seen[number] if number < len(seen) else 0

    # --- Retained messages ----------------------------------------------------------------------------------------------

    def retains(self, topic, payload):
        """The value is sent; empty removes it."""
        self._retained_open.setdefault(topic, []).append(payload)

    def has_retained(self, topic, payload):
        """It is acknowledged."""
        self._retained_open[topic].remove(payload)
        self._retained[topic] = payload

    def retained_values(self):
        return sum(1 for payload in self._retained.values() if payload)

    def looks(self, found):
        """All that is retained, when every write is acknowledged."""
        expected = {topic: payload for topic, payload in self._retained.items() if payload}
        for topic in sorted(expected.keys() | found.keys()):
            if expected.get(topic) != found.get(topic):
                self.violate(f"{topic} retains {_short(found.get(topic))} and not {_short(expected.get(topic))}")

    # --- The end --------------------------------------------------------------------------------------------------------

    def gives_up(self):
        """All have had the time to arrive that will."""
        for subscriber, owed in self._owed.items():
            for stream, number in sorted(owed):
                self.violate(f"{number} of {stream} never reached {subscriber}")

    def violate(self, what):
        self.violations.append(what)
        if len(self.violations) <= SHOWN_MAX:
            print(f"\nVIOLATION: {what}", flush=True)


def _short(payload):
    return "nothing" if payload is None else repr(payload[:16])
