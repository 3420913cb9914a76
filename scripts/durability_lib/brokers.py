"""Brokers that keep what they acknowledge, on one CPU or with one shard."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from compare_lib.brokers import Mosquitto, Nats, RingMq, version_of
from compare_lib.errors import RunFailed
from compare_lib.install import NATS

STOP_PATIENCE_S = 60
# So that no queue is full: what is dropped costs nothing.
QUEUES = ("mqtt.queue_messages_max=10000000", "mqtt.queue_bytes_max=4GiB")


@dataclass
class Durable(RingMq):
    durability: str = "sync"

    note = "One shard on one CPU; the thread of its store is where the kernel puts it. Queues without limits."

    def command(self, port, directory, cpu):
        arguments = ["serve", "--listen", f"127.0.0.1:{port}", "--allow-anonymous", "--shards", "1", "--cpus", str(cpu)]
        arguments += ["--durability", self.durability]
        if self.durability != "memory":
            arguments += ["--data-dir", str(directory / "data")]
        return [self.program, *arguments, *(part for setting in QUEUES for part in ("--set", setting))]


class MosquittoKept(Mosquitto):
    note = "With persistence as it is by default: a snapshot every half an hour and at its end, so a crash loses what came since."

    def configuration(self, port, directory):
        return super().configuration(port, directory).replace(
            "persistence false\n", f"persistence true\npersistence_location {directory}/data/\n"
        )

    def command(self, port, directory, cpu):
        if directory.is_dir():
            # It gives up root, and must write there.
            (directory / "data").mkdir(exist_ok=True)
            (directory / "data").chmod(0o777)
        return super().command(port, directory, cpu)


class NatsKept(Nats):
    note = "JetStream on files as it is by default: they are synced at intervals and not for each message, so a power cut loses what came since."


def peers(repository):
    """Those that are installed, and the names of those that are not."""
    found, missing = [], []
    mosquitto = _program("mosquitto")
    if mosquitto:
        found.append(MosquittoKept("mosquitto", mosquitto, version_of([mosquitto, "-h"], r"version (\S+)")))
    else:
        missing.append("mosquitto")
    ours = repository / "target" / "peers" / f"nats-server-{NATS}" / "bin" / "nats-server"
    nats = ours if ours.is_file() else _program("nats-server")
    if nats:
        found.append(NatsKept("nats-server", nats, version_of([nats, "--version"], r"v(\d\S*)")))
    else:
        missing.append("nats-server")
    return found, missing


def _program(name):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    return path and Path(path)


class Server:
    """A broker on a directory of its own, which may end and start again there."""

    def __init__(self, setup, broker):
        self.broker = broker
        self.directory = setup.directory / "broker"
        self._setup = setup
        self._running = broker.start(setup.processes, self.directory, setup.ports, setup.cpu)
        self.port = self._running.port
        self.process = self._running.process

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._setup.processes.stop(self.process)
        shutil.rmtree(self.directory, ignore_errors=True)

    def start_again(self, broker=None):
        """Starts it on what is there, and does not wait; `broker` is another setting of it."""
        broker = broker or self.broker
        command = broker.command(self.port, self.directory, self._setup.cpu)
        pinned_to = None if broker.pins_itself else self._setup.cpu
        self.process = self._setup.processes.start(command, self.directory / "log", pinned_to, directory=self.directory)

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def terminate(self):
        """SIGTERM; the seconds that it took to end."""
        begin = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise RunFailed(f"the broker did not end within {STOP_PATIENCE_S} s of SIGTERM") from None
        return time.monotonic() - begin

    def cpu_s(self):
        """CPU time of all its threads so far, those that have ended included."""
        # The clock of a process by its id, as clock_getcpuclockid(3) makes it.
        return time.clock_gettime_ns((~self.process.pid << 3) | 2) / 1e9

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
