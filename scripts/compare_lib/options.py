"""The command line."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Attached:
    """A broker that somebody else runs."""

    name: str
    host: str
    port: int
    pid: int | None = None


@dataclass
class Options:
    """What the user asked for."""

    quick: bool
    rounds: int
    seconds: float
    only: list
    brokers: list
    install: bool
    attached: list
    builds: dict
    flashmq: Path | None
    mosquitto: Path | None
    cpus: tuple | None
    ports: range
    output: Path | None
    lock: Path | None
    budget_s: float | None = field(default=None)

    @property
    def warmup(self):
        """Seconds in which messages flow before anything is measured."""
        return 0.25 if self.quick else 1.0

    @property
    def patience_s(self):
        """Seconds that a run may take beyond what it measures."""
        return QUICK_PATIENCE_S if self.quick else FULL_PATIENCE_S


QUICK_ROUNDS, QUICK_SECONDS = 2, 0.6
FULL_ROUNDS, FULL_SECONDS = 3, 3.0
# With the patience for the last run it stays under five minutes.
QUICK_BUDGET_S = 265.0
QUICK_PATIENCE_S, FULL_PATIENCE_S = 30.0, 120.0


def parse(description, arguments=None):
    """Reads the command line; ends the program with a message when it is wrong."""
    parser = argparse.ArgumentParser(
        prog="scripts/compare", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs of what is installed; under five minutes")
    parser.add_argument("--rounds", type=_count, metavar="N", help=f"rounds ({FULL_ROUNDS}; quick: {QUICK_ROUNDS})")
    parser.add_argument(
        "--seconds", type=_seconds, metavar="N", help=f"how long messages are measured ({FULL_SECONDS:g}; quick: {QUICK_SECONDS:g})"
    )
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help="rows whose name starts so (repeatable)")
    parser.add_argument("--list", action="store_true", help="print the names of the rows, and end")
    parser.add_argument("--brokers", type=_names, default=[], metavar="A,B", help="these brokers only")
    parser.add_argument("--no-install", action="store_true", help="install nothing; use what is there")
    parser.add_argument("--mosquitto", type=_program, metavar="PATH", help="another mosquitto than that of the system")
    parser.add_argument("--flashmq", type=_program, metavar="PATH", help="a FlashMQ to start")
    parser.add_argument("--emqx", type=lambda text: _attached("emqx=" + text), metavar="HOST:PORT[,PID]", help="an EMQX that runs")
    parser.add_argument(
        "--broker", type=_attached, action="append", default=[], metavar="NAME=HOST:PORT[,PID]", help="any broker that runs (repeatable)"
    )
    parser.add_argument(
        "--ringmq", type=_build, action="append", default=[], metavar="NAME=PATH", help="another build of RingMQ (repeatable)"
    )
    parser.add_argument("--cpus", type=_cpus, metavar="B,G", help="the CPUs of broker and generator (the first two that share no core)")
    parser.add_argument("--ports", type=_ports, default=range(24000, 25000), metavar="A-B", help="where brokers listen (24000-24999)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the report goes")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="hold this lock while measuring, on a machine that others measure on")
    given = parser.parse_args(arguments)
    options = Options(
        quick=given.quick,
        rounds=given.rounds or (QUICK_ROUNDS if given.quick else FULL_ROUNDS),
        seconds=given.seconds or (QUICK_SECONDS if given.quick else FULL_SECONDS),
        only=given.only,
        brokers=given.brokers,
        install=not (given.quick or given.no_install),
        attached=[attached for attached in [given.emqx, *given.broker] if attached],
        builds=dict(given.ringmq),
        flashmq=given.flashmq,
        mosquitto=given.mosquitto,
        cpus=given.cpus,
        ports=given.ports,
        output=given.output,
        lock=given.lock,
        budget_s=QUICK_BUDGET_S if given.quick else None,
    )
    return options, given.list


def _count(text):
    number = int(text)
    if not 1 <= number <= 100:
        raise argparse.ArgumentTypeError("a number from 1 to 100 is wanted")
    return number


def _seconds(text):
    number = float(text)
    if not 0.1 <= number <= 600:
        raise argparse.ArgumentTypeError("0.1 to 600 seconds are wanted")
    return number


def _names(text):
    return [name for name in text.split(",") if name]


def _program(text):
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no {path}")
    if not os.access(path, os.X_OK):
        raise argparse.ArgumentTypeError(f"{path} is no program: it cannot be executed")
    return path


def _build(text):
    name, separator, path = text.partition("=")
    if not separator or not re.fullmatch(NAME, name):
        raise argparse.ArgumentTypeError("NAME=PATH is wanted")
    return name, _program(path)


def _attached(text):
    match = re.fullmatch(rf"({NAME})=([^,=]+):(\d+)(?:,(\d+))?", text)
    if not match or not 0 < int(match.group(3)) < 65536:
        raise argparse.ArgumentTypeError("NAME=HOST:PORT or NAME=HOST:PORT,PID is wanted")
    pid = int(match.group(4)) if match.group(4) else None
    return Attached(match.group(1), match.group(2), int(match.group(3)), pid)


def _cpus(text):
    match = re.fullmatch(r"(\d+),(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError("two numbers are wanted, such as 0,1")
    return int(match.group(1)), int(match.group(2))


def _ports(text):
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    if not match or not 1024 <= int(match.group(1)) < int(match.group(2)) < 65536:
        raise argparse.ArgumentTypeError("a range of ports is wanted, such as 24000-24999")
    return range(int(match.group(1)), int(match.group(2)) + 1)


NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
