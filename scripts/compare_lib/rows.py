"""What is measured: runs of the load generator, and the rows of the report that come from them.

One run may fill several rows: connecting 15,000 clients tells what a connect costs and what they cost when idle.
"""

from dataclasses import dataclass, field
from typing import Callable

PAIRS = 100
FAN = 1000
LARGE_FAN = 100
LARGE_PAYLOAD = 256 * 1024
SHARED_SUBSCRIBERS = 5
CONNECTIONS = 15_000
RETAINED_MESSAGES = 50_000
FILTERS_PER_CLIENT = 500
FILTER_CLIENTS = (50, 100, 150, 200)
OPEN_LOOP_RATE = 10_000
# Deliveries a second in rows whose broker the generator cannot use up: on loopback whoever sends does the receiver's TCP
# work as well. Slower brokers manage it too.
EQUAL_RATE = 100_000


@dataclass(frozen=True)
class Run:
    """One command of the load generator. `arguments` are what follows `ringmq bench`."""

    name: str
    arguments: Callable
    # What a broker must be able to do: a key of `Broker.cannot`.
    needs: frozenset = frozenset()
    # Whether messages flow as fast as they can, so that the broker's CPU should be used up.
    saturates: bool = False
    # Whether the broker runs without huge pages, because its memory is measured.
    small_pages: bool = False
    # Seconds that it takes beside the time that is measured, as a first guess.
    overhead_s: float = 2.0


@dataclass(frozen=True)
class Row:
    """A row of the report: a figure of a run. `figure` takes the generator's report and gives a number or None."""

    name: str
    title: str
    unit: str
    run: Run
    figure: Callable
    group: str
    needs: frozenset = frozenset()
    # Other figures of the same run, for the details: (title, digits, function).
    details: tuple = field(default=())


def at(*names):
    """A function that finds the first of these names that a report has, or None."""
    return lambda report: next((report[name] for name in names if report.get(name) is not None), None)


def message_arguments(scenario, qos, window, payload=64):
    def arguments(options):
        return [
            *scenario,
            *("--qos", str(qos), "--window", str(window), "--payload", str(payload)),
            *("--warmup", f"{options.warmup:g}s", "--duration", f"{options.seconds:g}s"),
        ]

    return arguments


def _rate_arguments(scenario, rate):
    def arguments(options):
        return [
            *scenario,
            *("--qos", "0", "--rate", str(rate), "--payload", "64"),
            *("--warmup", f"{options.warmup:g}s", "--duration", f"{max(options.seconds, 1):g}s"),
        ]

    return arguments


def _equal_rate_row(name, title, scenario, rate, needs=()):
    needs = frozenset({"pid", *needs})
    run = Run(name, _rate_arguments(scenario, rate), needs)
    return Row(name, title, "CPU µs per delivery", run, CPU_PER_DELIVERY, "open loop", needs, MESSAGE_DETAILS)


def _per_mib(payload):
    """CPU µs of the broker per MiB of payload that is delivered."""

    def figure(report):
        cpu = at("broker_cpu_us_per_delivery", "messages_broker_cpu_us_per_delivery")(report)
        return None if cpu is None else cpu * 2**20 / payload

    return figure


def _message_row(name, title, scenario, qos, window, payload=64, needs=()):
    needs = frozenset(needs) | ({"qos2"} if qos == 2 else frozenset())
    run = Run(name, message_arguments(scenario, qos, window, payload), needs=needs, saturates=True)
    return Row(name, title, "CPU µs per delivery", run, CPU_PER_DELIVERY, "messages", frozenset({"pid"}), MESSAGE_DETAILS)


def _latency(quantile):
    return at(f"latency_{quantile}_us", f"messages_latency_us_{quantile}")


CPU_PER_DELIVERY = at("broker_cpu_us_per_delivery", "messages_broker_cpu_us_per_delivery")
BROKER_CPU_PERCENT = at("broker_cpu_percent", "messages_broker_cpu_percent")
DELIVERED_PER_SECOND = at("delivered_per_second", "messages_delivered_per_second")
RESIDENT_PER_CONNECTION = at("broker_resident_bytes_per_connection", "idle_resident_bytes_per_connection")
LOST = at("lost", "messages_check_lost")
MESSAGE_DETAILS = (
    ("messages/s", 0, DELIVERED_PER_SECOND),
    ("broker CPU %", 0, BROKER_CPU_PERCENT),
    ("syscalls per delivery", 3, at("broker_syscalls_per_delivery", "messages_broker_syscalls_per_delivery")),
    ("p50 µs", 0, _latency("p50")),
    ("p99 µs", 0, _latency("p99")),
    ("generator CPU µs", 2, at("generator_cpu_us_per_delivery", "messages_generator_cpu_us_per_delivery")),
    ("lost", 0, LOST),
    ("duplicated", 0, at("duplicated", "messages_check_duplicated")),
    ("reordered", 0, at("reordered", "messages_check_reordered")),
)

P2P = ("p2p", "--pairs", str(PAIRS))
FANOUT = ("fanout", "--publishers", "1", "--subscribers", str(FAN))
FANIN = ("fanin", "--publishers", str(FAN), "--subscribers", "1")
LARGE_FANOUT = ("fanout", "--publishers", "1", "--subscribers", str(LARGE_FAN))
SHARED = ("sharedsub", "--publishers", str(FAN), "--subscribers", str(SHARED_SUBSCRIBERS))


def _connections(options):
    return ["idle", "--clients", str(CONNECTIONS), "--duration", f"{max(options.seconds, 1):g}s"]


def _connection_memory(_options):
    steps = ",".join(str(CONNECTIONS * part // 3) for part in (1, 2, 3))
    return ["idle", "--clients", steps, "--settle", "0s", "--duration", "0.1s"]


def _spoken_memory(_options):
    return [*_connection_memory(_options)[:-2], "--speak-once", "--qos", "1", "--duration", "2s"]


def _subscription_memory(_options):
    steps = ",".join(map(str, FILTER_CLIENTS))
    return ["idle", "--clients", steps, "--subscriptions", str(FILTERS_PER_CLIENT), "--settle", "0s", "--duration", "0.1s"]


def _retained_memory(_options):
    return ["retained", "--messages", str(RETAINED_MESSAGES), "--clients", "1", "--payload", "64"]


open_loop_arguments = _rate_arguments(P2P, OPEN_LOOP_RATE)
CONNECTIONS_RUN = Run("connections", _connections, overhead_s=3.5)
CONNECTION_MEMORY_RUN = Run("connection-memory", _connection_memory, frozenset({"pid"}), small_pages=True, overhead_s=5.5)
SPOKEN_RUN = Run("spoken-memory", _spoken_memory, frozenset({"pid"}), small_pages=True, overhead_s=13.0)
RETAINED_RUN = Run("retained-memory", _retained_memory, frozenset({"pid", "retained"}), small_pages=True, overhead_s=3.0)
SUBSCRIPTION_RUN = Run("subscription-memory", _subscription_memory, frozenset({"pid"}), small_pages=True, overhead_s=5.0)
OPEN_LOOP_RUN = Run("open-loop", open_loop_arguments)


def _per_subscription(report):
    per_connection = RESIDENT_PER_CONNECTION(report)
    return None if per_connection is None else per_connection / FILTERS_PER_CLIENT


ROWS = (
    _message_row("p2p-q0-w64", "100 pairs, QoS 0, window 64", P2P, 0, 64),
    _message_row("p2p-q0-w1", "100 pairs, QoS 0, window 1", P2P, 0, 1),
    _message_row("p2p-q0-1k-w64", "100 pairs, QoS 0, 1 KiB, window 64", P2P, 0, 64, 1024),
    _message_row("p2p-q1-w64", "100 pairs, QoS 1, window 64", P2P, 1, 64),
    _message_row("p2p-q1-w1", "100 pairs, QoS 1, window 1", P2P, 1, 1),
    _message_row("p2p-q2-w64", "100 pairs, QoS 2, window 64", P2P, 2, 64),
    _message_row("p2p-q2-w1", "100 pairs, QoS 2, window 1", P2P, 2, 1),
    _message_row("fanout-q0-w4", "fan-out 1→1000, QoS 0, window 4", FANOUT, 0, 4),
    _message_row("fanout-q1-w4", "fan-out 1→1000, QoS 1, window 4", FANOUT, 1, 4),
    Row(
        "fanout-large",
        "fan-out 1→100, QoS 0, 256 KiB, window 2",
        "CPU µs per delivered MiB",
        Run("fanout-large", message_arguments(LARGE_FANOUT, 0, 2, LARGE_PAYLOAD), saturates=True),
        _per_mib(LARGE_PAYLOAD),
        "messages",
        frozenset({"pid"}),
        MESSAGE_DETAILS,
    ),
    _message_row("fanin-q0-w8", "fan-in 1000→1, QoS 0, window 8", FANIN, 0, 8),
    _message_row("fanin-q1-w8", "fan-in 1000→1, QoS 1, window 8", FANIN, 1, 8),
    _message_row("shared-q0-w8", "shared 1000→5, QoS 0, window 8", SHARED, 0, 8, needs=["shared"]),
    Row(
        "connect",
        "connect + subscribe, 15,000 clients",
        "CPU µs each",
        CONNECTIONS_RUN,
        at("broker_cpu_us_per_connection", "connect_broker_cpu_us_per_connection"),
        "connections",
        frozenset({"pid"}),
        (
            ("connections/s", 0, at("connections_per_second", "connect_per_second")),
            ("p50 µs", 0, at("connect_p50_us", "connect_latency_us_p50")),
            ("p99 µs", 0, at("connect_p99_us", "connect_latency_us_p99")),
            ("generator CPU µs", 1, at("generator_cpu_us_per_connection", "connect_generator_cpu_us_per_connection")),
        ),
    ),
    Row(
        "idle-memory",
        "memory per idle connection with a subscription",
        "bytes",
        CONNECTION_MEMORY_RUN,
        RESIDENT_PER_CONNECTION,
        "connections",
        frozenset({"pid"}),
    ),
    Row(
        "spoken-memory",
        "memory per connection that has spoken once (QoS 1)",
        "bytes",
        SPOKEN_RUN,
        at("spoken_broker_resident_bytes_per_connection"),
        "connections",
        frozenset({"pid"}),
        (
            ("always silent, bytes", 0, RESIDENT_PER_CONNECTION),
            ("idle CPU % afterwards", 3, at("idle_broker_cpu_percent")),
            ("heard", 0, at("spoken_heard")),
        ),
    ),
    Row(
        "retained-memory",
        "memory per retained message of 64 B",
        "bytes",
        RETAINED_RUN,
        at("broker_resident_bytes_per_message"),
        "connections",
        frozenset({"pid"}),
    ),
    Row(
        "subscription-memory",
        "memory per distinct subscription",
        "bytes",
        SUBSCRIPTION_RUN,
        _per_subscription,
        "connections",
        frozenset({"pid"}),
    ),
    Row(
        "idle-cpu",
        "idle, 15,000 connections",
        "CPU %",
        CONNECTIONS_RUN,
        at("idle_broker_cpu_percent"),
        "connections",
        frozenset({"pid"}),
    ),
    Row(
        "open-loop-latency",
        "100 pairs, QoS 0, 10,000 messages/s",
        "p50 µs",
        OPEN_LOOP_RUN,
        _latency("p50"),
        "open loop",
        frozenset(),
        (
            ("p90 µs", 0, _latency("p90")),
            ("p99 µs", 0, _latency("p99")),
            ("p99.9 µs", 0, _latency("p99_9")),
            ("max µs", 0, _latency("max")),
            ("messages/s", 0, DELIVERED_PER_SECOND),
            ("lost", 0, LOST),
        ),
    ),
    Row(
        "open-loop-cpu",
        "100 pairs, QoS 0, 10,000 messages/s",
        "broker CPU %",
        OPEN_LOOP_RUN,
        BROKER_CPU_PERCENT,
        "open loop",
        frozenset({"pid"}),
    ),
    _equal_rate_row("rate-fanout-q0", "fan-out 1→1000, QoS 0, 100,000 deliveries/s", FANOUT, EQUAL_RATE // FAN),
    _equal_rate_row("rate-fanin-q0", "fan-in 1000→1, QoS 0, 100,000 messages/s", FANIN, EQUAL_RATE),
    _equal_rate_row("rate-shared-q0", "shared 1000→5, QoS 0, 100,000 messages/s", SHARED, EQUAL_RATE, needs=["shared"]),
)


def chosen(starts):
    """The rows whose names start with one of `starts`, all of them when there is none."""
    return starting_with(starts, ROWS)


def starting_with(starts, rows):
    """Of `rows`, those whose names start with one of `starts`; all of them when there is none."""
    return [row for row in rows if not starts or any(row.name.startswith(start) for start in starts)]


def runs_of(rows):
    """The runs that these rows need, each once, in order."""
    return list(dict.fromkeys(row.run for row in rows))
