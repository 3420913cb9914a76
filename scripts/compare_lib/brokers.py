"""How each broker is started: one CPU, one worker where that can be set, and no limits that a closed loop would meet.

Every start is a process of its own on a free port with an empty directory, so that no run inherits from another.
"""

from __future__ import annotations

import random
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from .errors import CompareError, RunFailed

READY_PATIENCE_S = 15.0
PORT_TRIES = 5
COLOURS = r"\x1b\[[0-9;]*m"


@dataclass
class Running:
    """A broker that answers."""

    host: str
    port: int
    pid: int | None
    process: subprocess.Popen | None = None
    # What the generator is told because of this broker.
    generator_arguments: tuple = ()


@dataclass
class Broker:
    """A broker that this program starts. A kind of broker fills in `command` and, if it has one, `configuration`."""

    name: str
    program: Path
    version: str
    # What it cannot do, by the need of a row, with the reason that stands in the report.
    cannot: dict = field(default_factory=dict)

    note = ""
    configuration_name = "configuration"
    generator_arguments = ()

    def command(self, port, directory, cpu):
        """The command line, without what pins it."""
        raise NotImplementedError

    def configuration(self, port, directory):
        """The text of its configuration file."""
        return ""

    def environment(self):
        return {}

    @property
    def pins_itself(self):
        return False

    def start(self, processes, directory, ports, cpu, small_pages=False):
        """Starts it and waits until it answers a CONNECT."""
        for _ in range(PORT_TRIES):
            port = free_port(ports)
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            # Some brokers give up root, and still must get at their files.
            directory.chmod(0o777)
            configuration = self.configuration(port, directory)
            if configuration:
                (directory / self.configuration_name).write_text(configuration)
            log = directory / "log"
            process = processes.start(
                self.command(port, directory, cpu),
                log,
                None if self.pins_itself else cpu,
                small_pages=small_pages,
                directory=directory,
                environment=self.environment(),
            )
            if _wait_until_ready(process, port):
                return Running("127.0.0.1", port, process.pid, process, self.generator_arguments)
            processes.stop(process)
        said = re.sub(COLOURS, "", log.read_text(errors="replace")).strip().splitlines()
        told = [line for line in said if "error" in line.lower()] or said[-1:] or ["it says nothing"]
        raise RunFailed(f"does not start: {told[0]}")

    def stop(self, processes, running):
        processes.stop(running.process)

    def described(self, cpu):
        """How it is started, as it stands in the report."""
        directory = Path("DIR")
        # Programs by name: where they are on this machine tells nothing.
        command = [part.name if part == self.program else str(part) for part in self.command("PORT", directory, cpu)]
        pinned = command if self.pins_itself else ["taskset", "-c", str(cpu), *command]
        return {
            "version": self.version,
            "command": " ".join(pinned),
            "configuration": self.configuration("PORT", directory).strip(),
            "environment": self.environment(),
            "note": self.note,
            "cannot": self.cannot,
        }


@dataclass
class RingMq(Broker):
    # Keys of its configuration beside those that every comparison sets, as KEY=VALUE.
    settings: tuple = ()

    note = "With room in its queues for the 8,000 messages that a closed loop keeps under way towards one subscriber."
    pins_itself = True

    def command(self, port, directory, cpu):
        arguments = ["serve", "--listen", f"127.0.0.1:{port}", "--allow-anonymous", "--durability", "memory", "--shards", "1", "--cpus", str(cpu)]
        settings = ("mqtt.queue_messages_max=100000", *self.settings)
        return [self.program, *arguments, *(part for setting in settings for part in ("--set", setting))]


class Mosquitto(Broker):
    note = "Without its limits on queues, which would drop messages of a closed loop."

    def command(self, port, directory, cpu):
        return [self.program, "-c", directory / self.configuration_name]

    def configuration(self, port, directory):
        return (
            f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest stdout\nlog_type error\n"
            "max_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\n"
        )


class Rumqttd(Broker):
    note = (
        "Its threads share the one CPU; the delay between two accepts is off. It refuses clients without a KeepAlive, so here they have "
        "one, which no run lasts long enough to need."
    )
    generator_arguments = ("--keep-alive", "3600")
    configuration_name = "rumqttd.toml"

    def command(self, port, directory, cpu):
        return [self.program, "-q", "-c", directory / self.configuration_name]

    def configuration(self, port, directory):
        return (
            "id = 0\n[router]\nid = 0\nmax_connections = 40000\nmax_outgoing_packet_count = 200\n"
            "max_segment_size = 104857600\nmax_segment_count = 10\n"
            f'[v4.1]\nname = "v4-1"\nlisten = "127.0.0.1:{port}"\nnext_connection_delay_ms = 0\n'
            "[v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 1048576\n"
            "max_inflight_count = 1000\ndynamic_filters = true\n"
        )


class Nats(Broker):
    note = "A NATS server that speaks MQTT; its MQTT needs JetStream, whose store is in the temporary directory."

    def command(self, port, directory, cpu):
        return [self.program, "-c", directory / self.configuration_name]

    def configuration(self, port, directory):
        return (
            f'server_name: compare\nhost: "127.0.0.1"\nport: -1\njetstream {{ store_dir: "{directory}/store" }}\n'
            f'mqtt {{ host: "127.0.0.1", port: {port} }}\n'
        )


class Aedes(Broker):
    note = "On Node.js; its JavaScript is one thread by nature."

    def command(self, port, directory, cpu):
        return ["node", self.program, str(port)]


class FlashMq(Broker):
    def command(self, port, directory, cpu):
        return [self.program, "--config-file", directory / self.configuration_name]

    def configuration(self, port, directory):
        return (
            "allow_anonymous true\nthread_count 1\nquiet true\nlog_file /dev/stdout\n"
            "max_qos_msg_pending_per_client 65535\nmax_qos_bytes_pending_per_client 67108864\n"
            "client_max_write_buffer_size 67108864\n"
            f"listen {{\n  protocol mqtt\n  inet_protocol ip4\n  inet4_bind_address 127.0.0.1\n  port {port}\n}}\n"
        )


class AttachedBroker(Broker):
    """One that somebody else runs: it is neither started nor stopped here."""

    def __init__(self, attached):
        cannot = {} if attached.pid else {"pid": "its process is not known here"}
        super().__init__(attached.name, None, "unknown", cannot)
        self.attached = attached
        self.note = "Runs on its own; how it is set up, pinned and warmed is not known here."

    def start(self, processes, directory, ports, cpu, small_pages=False):
        if not _answers(self.attached.host, self.attached.port):
            raise RunFailed(f"does not answer at {self.attached.host}:{self.attached.port}")
        return Running(self.attached.host, self.attached.port, self.attached.pid)

    def stop(self, processes, running):
        pass

    def described(self, cpu):
        return {"version": self.version, "command": "", "configuration": "", "environment": {}, "note": self.note, "cannot": self.cannot}


def version_of(command, pattern):
    """What a program says of its version; some end with an error where others help."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise CompareError(f"{command[0]} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        return "unknown"
    match = re.search(pattern, said.stdout + said.stderr)
    return match.group(1) if match else "unknown"


def free_port(ports):
    """A port of the range that nobody listens on now."""
    for port in random.sample(ports, len(ports)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RunFailed("no port of the range is free")


def _wait_until_ready(process, port):
    until = time.monotonic() + READY_PATIENCE_S
    while process.poll() is None and time.monotonic() < until:
        if _answers("127.0.0.1", port):
            return process.poll() is None
        time.sleep(0.02)
    return False


def _answers(host, port):
    """Whether a broker accepts a connection there, and a client."""
    client = b"compare"
    # With a KeepAlive of a minute, because not every broker takes clients without.
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(client).to_bytes(2, "big") + client
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(bytes([0x10, len(body)]) + body)
            answer = connection.recv(4)
            connection.sendall(b"\xe0\x00")
            return answer[:1] == b"\x20" and answer[3:4] == b"\x00"
    except OSError:
        return False
