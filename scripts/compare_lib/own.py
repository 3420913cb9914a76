"""What RingMQ's own settings cost and bring: one build beside itself, each time with another value of one setting."""

from dataclasses import dataclass

from .brokers import RingMq
from .rows import (
    BROKER_CPU_PERCENT,
    DELIVERED_PER_SECOND,
    FANIN,
    FANOUT,
    MESSAGE_DETAILS,
    P2P,
    CPU_PER_DELIVERY,
    Row,
    Run,
    message_arguments,
    open_loop_arguments,
    starting_with,
)


@dataclass(frozen=True)
class Experiment:
    """A setting, its values (the default first), and the rows that they are measured in."""

    setting: str
    values: tuple
    about: str
    rows: tuple

    def variants(self, ringmq):
        """RingMQ with each of the values."""
        short = self.setting.rpartition(".")[2]
        return [
            RingMq(f"{short} {value}", ringmq.program, ringmq.version, settings=(f"{self.setting}={value}",)) for value in self.values
        ]


def _row(name, title, arguments, saturates):
    details = (("broker CPU %", 1, BROKER_CPU_PERCENT), *(detail for detail in MESSAGE_DETAILS if detail[2] is not BROKER_CPU_PERCENT))
    return Row(name, title, "CPU µs per delivery", Run(name, arguments, saturates=saturates), CPU_PER_DELIVERY, "own", details=details)


EXPERIMENTS = (
    Experiment(
        "runtime.delivery_delay_us",
        (0, 100, 1000),
        "Microseconds that deliveries may wait for others to the same client: latency for fewer sends. With one message in flight "
        "nobody can come to share a send, so there it shows the price alone.",
        (
            _row("own-delay-open-loop", "100 pairs, QoS 0, 10,000 messages/s", open_loop_arguments, False),
            _row("own-delay-fanout-w1", "fan-out 1→1000, QoS 0, window 1", message_arguments(FANOUT, 0, 1), True),
        ),
    ),
    Experiment(
        "runtime.enter_completions_min",
        (0, 1024),
        "Completions that a look at the ring tries to collect; 0 lets the shard choose from turn to turn.",
        (
            _row("own-drain-p2p-w64", "100 pairs, QoS 0, window 64", message_arguments(P2P, 0, 64), True),
            _row("own-drain-fanin-w8", "fan-in 1000→1, QoS 0, window 8", message_arguments(FANIN, 0, 8), True),
        ),
    ),
)


def chosen(options):
    """The experiments with the rows that are asked for: none in a quick run, unless they are named."""
    if options.quick and not options.only:
        return []
    found = [(experiment, starting_with(options.only, experiment.rows)) for experiment in EXPERIMENTS]
    return [(experiment, rows) for experiment, rows in found if rows]
