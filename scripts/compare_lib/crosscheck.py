"""The course of scripts/crosscheck: the same work by two load generators, counted by a third program.

What is compared exactly: what a generator says it published, what its subscribers received, and what mosquitto_sub counted.
What is compared within a tolerance: how fast messages arrived, at the same open-loop rate.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from . import machine, options as command_line, program
from .errors import CompareError, RunFailed
from .install import Installer
from .processes import pinned_command

REPOSITORY = Path(__file__).resolve().parents[2]
EXIT_DIFFERS = 1
PATIENCE_S = 20.0
# mqttwrk counts its interval in whole milliseconds.
RATES = tuple(rate for rate in range(1, 1001) if 1000 % rate == 0)
PAYLOAD_BYTES = 64


@dataclass(frozen=True)
class Work:
    """What both generators do: each publisher sends at `rate` a second for `seconds`, each subscriber hears all."""

    publishers: int
    subscribers: int
    rate: int
    seconds: int
    qos: int

    @property
    def per_second(self):
        return self.publishers * self.rate

    @property
    def each(self):
        """Messages of one publisher."""
        return self.rate * self.seconds


@dataclass(frozen=True)
class Seen:
    """What was seen of one generator's run."""

    published: int
    # By all its subscribers together.
    received: int
    received_per_second: float
    # By mosquitto_sub, which heard every message once.
    counted: int


def main(description):
    given = _parse(description)
    return program.run("scripts/crosscheck", lambda processes: _crosscheck(given, processes))


def _parse(description):
    parser = argparse.ArgumentParser(
        prog="scripts/crosscheck", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--publishers", type=_count, default=20, metavar="N", help="publishers, with a topic each (20)")
    parser.add_argument("--subscribers", type=_count, default=3, metavar="N", help="subscribers, which hear all of them (3)")
    parser.add_argument("--rate", type=int, choices=RATES, default=100, metavar="N", help="messages a second of each publisher (100)")
    parser.add_argument("--seconds", type=_count, default=5, metavar="N", help="how long (5)")
    parser.add_argument("--qos", type=int, choices=(0, 1), action="append", help="0 or 1 (both)")
    parser.add_argument("--brokers", type=lambda text: text.split(","), default=["ringmq", "mosquitto"], metavar="A,B")
    parser.add_argument("--tolerance", type=float, default=3.0, metavar="PERCENT", help="how far rates may differ (3)")
    parser.add_argument("--mqttwrk", type=Path, metavar="PATH", help="an mqttwrk that is there already")
    return parser.parse_args()


def _count(text):
    number = int(text)
    if not 1 <= number <= 1000:
        raise argparse.ArgumentTypeError("a number from 1 to 1000 is wanted")
    return number


def _crosscheck(given, processes):
    options, _ = command_line.parse("", ["--brokers", ",".join(given.brokers)])
    installer = Installer(options, processes, REPOSITORY)
    brokers = installer.brokers()
    mqttwrk = given.mqttwrk or installer.mqttwrk()
    if mqttwrk is None or not mqttwrk.is_file():
        raise CompareError(f"there is no {given.mqttwrk or 'mqttwrk'}")
    for program in ("mosquitto_sub", "mosquitto_pub"):
        if shutil.which(program) is None:
            raise CompareError(f"there is no {program}; apt-get install mosquitto-clients")
    cpus = machine.choose_cpus(None)
    generators = {"ringmq bench": lambda *run: _bench(installer.ringmq, *run), "mqttwrk": lambda *run: _mqttwrk(mqttwrk, *run)}
    print(
        f"{given.publishers} publishers with a topic each, {given.rate} messages a second each for {given.seconds} s, payloads of "
        f"{PAYLOAD_BYTES} bytes, {given.subscribers} subscribers that hear all.\n"
    )
    print("| broker | QoS | generator | published | counted by mosquitto_sub | received | received/s |\n|---|---|---|---|---|---|---|")
    differences = []
    with tempfile.TemporaryDirectory(prefix="ringmq-crosscheck-") as directory:
        work_directory = Path(directory)
        work_directory.chmod(0o755)
        for broker in brokers:
            for qos in given.qos or [0, 1]:
                work = Work(given.publishers, given.subscribers, given.rate, given.seconds, qos)
                seen = {}
                for name, generate in generators.items():
                    running = broker.start(processes, work_directory / "broker", options.ports, cpus[0])
                    try:
                        seen[name] = _run(name, generate, work, running, cpus[1], processes, work_directory)
                    finally:
                        broker.stop(processes, running)
                    one = seen[name]
                    counts = f"{one.published:,} | {one.counted:,} | {one.received:,} | {one.received_per_second:,.0f}"
                    print(f"| {broker.name} | {qos} | {name} | {counts} |", flush=True)
                where = f"{broker.name}, QoS {qos}"
                differences += [f"{where}: {text}" for text in differing(work, seen, given.tolerance)]
    if differences:
        print("\nThey disagree:\n\n" + "\n".join(f"- {text}" for text in differences))
        return EXIT_DIFFERS
    print(f"\nAll counts agree exactly, and all rates within {given.tolerance:g} %.")
    return 0


def differing(work, seen, tolerance_percent):
    """What is not as it should be, as texts. `seen` is by the name of the generator."""
    found = []
    for name, one in seen.items():
        if one.counted != one.published:
            found.append(f"{name} says that it published {one.published}, mosquitto_sub counted {one.counted}")
        if one.received != one.published * work.subscribers:
            found.append(f"{name} received {one.received} of {one.published * work.subscribers}")
        wanted = work.per_second * work.subscribers
        if abs(one.received_per_second / wanted - 1) * 100 > tolerance_percent:
            found.append(f"{name} received {one.received_per_second:.0f} a second instead of {wanted}")
    return found


def _run(name, generate, work, running, cpu, processes, directory):
    """Lets a generator run, while mosquitto_sub counts."""
    log, topics = directory / "counted", TOPICS[name]
    log.unlink(missing_ok=True)
    where = ["-h", running.host, "-p", str(running.port), "-q", str(work.qos)]
    # Debug messages tell when it has subscribed; each message is a line of its own.
    filters = [part for topic in topics for part in ("-t", topic)]
    counter = processes.start(["stdbuf", "-oL", "mosquitto_sub", *where, "-d", "-F", f"{HEARD}%t", *filters], log, cpu)
    try:
        _wait_for(log, "Subscribed", counter)
        published, received, per_second = generate(work, running, cpu, processes)
        # What ends the count: a message behind all of those, on a topic that it hears too.
        ended = processes.run(["mosquitto_pub", *where, "-t", END_TOPIC, "-m", "."], PATIENCE_S)
        if ended[0] != 0:
            raise RunFailed(f"mosquitto_pub: {ended[2].strip()}")
        heard = _wait_for(log, HEARD + END_TOPIC, counter)
    finally:
        processes.stop(counter)
    return Seen(published, received, per_second, sum(line.startswith(HEARD) for line in heard) - 1)


HEARD = "heard: "
END_TOPIC = "crosscheck/end"
TOPICS = {"ringmq bench": ("bench/#", END_TOPIC), "mqttwrk": ("hello/+/world", END_TOPIC)}


def _wait_for(log, start, process):
    """Waits for a line that starts so, and returns all lines until it."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        lines = log.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if line.startswith(start):
                return lines[: number + 1]
        time.sleep(0.05)
    raise RunFailed(f"mosquitto_sub did not say '{start}': {log.read_text(errors='replace')[-200:]}")


def _bench(program, work, running, cpu, processes):
    command = [program, "bench", "fanin", "--host", f"{running.host}:{running.port}", "--cpu", cpu, "--json"]
    command += ["--publishers", work.publishers, "--subscribers", work.subscribers, "--qos", work.qos]
    command += ["--payload", PAYLOAD_BYTES, "--rate", work.per_second, "--warmup", "0s", "--duration", f"{work.seconds}s"]
    code, stdout, stderr = processes.run([str(part) for part in command], work.seconds + PATIENCE_S)
    if code != 0:
        raise RunFailed(f"ringmq bench: {stderr.strip() or code}")
    report = json.loads(stdout)
    wrong = [name for name in ("lost", "duplicated", "reordered", "refused", "foreign", "unsent") if report[name]]
    if wrong:
        raise RunFailed(f"ringmq bench tells of messages that were {', '.join(wrong)}")
    return report["published"], report["delivered"], report["delivered_per_second"]


def _mqttwrk(program, work, running, cpu, processes):
    command = [program, "bench", "--server", running.host, "--port", running.port, "--count", work.each]
    command += ["--publishers", work.publishers, "--subscribers", work.subscribers, "--payload-size", PAYLOAD_BYTES]
    command += ["--publish-qos", work.qos, "--subscribe-qos", work.qos, "--rate", work.rate]
    pinned = pinned_command([str(part) for part in command], cpu)
    code, stdout, stderr = processes.run(pinned, work.seconds + PATIENCE_S)
    if code != 0:
        raise RunFailed(f"mqttwrk: {stderr.strip()[-200:] or code}")
    return mqttwrk_report(stdout)


def mqttwrk_report(said):
    """Messages published, received, and received a second, from what mqttwrk prints at its end."""
    found = {}
    for part in ("Pub", "Sub"):
        block = re.search(rf"Aggregate {part}Stats: \w+ {{(.*?)}}", said, re.DOTALL)
        numbers = re.findall(r"(\w+): ([\d.]+)", block.group(1)) if block else []
        found.update({f"{part} {name}": float(number) for name, number in numbers})
    try:
        return int(found["Pub outgoing_publish"]), int(found["Sub publish_count"]), found["Sub throughput"]
    except KeyError as missing:
        raise RunFailed(f"mqttwrk did not tell its {missing}: {said[-200:]}") from None
