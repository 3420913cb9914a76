"""What is measured. A row measures one round of itself into what was found."""

from __future__ import annotations

import shutil
import statistics
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from compare_lib.errors import RunFailed

from . import client, disk
from .brokers import Server

SMALL, PAYLOAD = 64, 100
MODES = ("sync", "batched")
SETTLE_S = 1.0
RESTART_PATIENCE_S = 60.0
MIB = 1 << 20


@dataclass
class Setup:
    """What all rows need."""

    processes: object
    directory: Path
    ports: range
    cpu: int
    ringmq: object
    peers: list
    missing: list
    seconds: float
    is_quick: bool

    def in_mode(self, durability):
        return replace(self.ringmq, durability=durability)


def _publishers(port, topics_of_each, payload_bytes, window):
    return [
        client.Publisher(port, f"publisher-{number}", topics, payload_bytes, window) for number, topics in enumerate(topics_of_each)
    ]


def _close(publishers):
    for publisher in publishers:
        publisher.link.close()


# --- Into sessions that are away --------------------------------------------------------------------------------------------

OFFLINE_SESSIONS, OFFLINE_WINDOW, WARMUP_S = 10, 64, 0.5
OFFLINE_CPU_MAX_US = 3.0


def offline(setup, found):
    ours = [(f"RingMQ {mode}", setup.in_mode(mode)) for mode in MODES]
    for name, broker in [*ours, *((peer.name, peer) for peer in setup.peers)]:
        topics = [f"offline/{number}" for number in range(OFFLINE_SESSIONS)]
        with Server(setup, broker) as server:
            client.make_sessions(server.port, [(f"away-{number}", topic) for number, topic in enumerate(topics)])
            publishers = _publishers(server.port, [[topic] for topic in topics], SMALL, OFFLINE_WINDOW)
            began = []
            count, seconds = client.publish(
                publishers, seconds=setup.seconds, warmup_s=WARMUP_S, on_warm=lambda: began.append(server.cpu_s())
            )
            cpu_s = server.cpu_s() - began[0]
            _close(publishers)
            client.drained(server.port, "away-0", topics[0], SMALL, publishers[0].acknowledged)
        found.add(
            f"{name}: CPU per acknowledged message", "µs", 1e6 * cpu_s / count, at_most=OFFLINE_CPU_MAX_US if name == "RingMQ sync" else None
        )
        found.add(f"{name}: acknowledged", "messages/s", count / seconds)
        found.add(f"{name}: CPU used", "% of one", 100 * cpu_s / seconds)
    for name in setup.missing:
        found.note(f"{name} is not installed and was left out.")
    found.note(
        "Payloads of 64 bytes. After each run one of the ten sessions came back and got every message that had been acknowledged. "
        "mosquitto writes its snapshot later, and nats-server syncs at intervals: only RingMQ in `sync` has each message on the disk when "
        "it acknowledges it."
    )


# --- One message in flight ----------------------------------------------------------------------------------------------------

ACK_SLICES, ACK_SLICE_COUNT, ACK_SLICE_S = 8, 100, 0.5
ACK_RATIO_MAX = 1.6


def ack(setup, found):
    times = {"bare": [], "bare, written before": [], "sync": [], "memory": []}
    server = {}
    with Server(setup, setup.in_mode("sync")) as broker:
        server["sync"] = broker
        logs = {
            "bare": disk.Log(broker.directory / "bare-1"),
            "bare, written before": disk.Log(broker.directory / "bare-2", MIB),
        }
        client.make_sessions(broker.port, [("away", "ack")])
        link = client.open_connection(broker.port, "publisher")
        frames = client.Frames(["ack"], PAYLOAD)
        # In alternation, so that all meet the same disk.
        for _ in range(ACK_SLICES):
            for name, log in logs.items():
                _slice(log.append, times[name])
            _slice(lambda: _round_trip(link, frames), times["sync"])
        link.close()
        for log in logs.values():
            log.close()
    with Server(setup, setup.in_mode("memory")) as broker:
        client.make_sessions(broker.port, [("away", "ack")])
        link = client.open_connection(broker.port, "publisher")
        frames = client.Frames(["ack"], PAYLOAD)
        for _ in range(ACK_SLICES):
            _slice(lambda: _round_trip(link, frames), times["memory"])
        link.close()
    middle = {name: statistics.median(values) for name, values in times.items()}
    found.add(
        "acknowledgement p50 ÷ bare append and fdatasync p50", "×", middle["sync"] / middle["bare"], at_most=ACK_RATIO_MAX
    )
    found.add("the same ÷ append into blocks written before", "×", middle["sync"] / middle["bare, written before"])
    for name, title in (
        ("bare", "bare append and fdatasync, file grows"),
        ("bare, written before", "bare append and fdatasync, blocks written before"),
        ("sync", "acknowledgement, RingMQ sync"),
        ("memory", "acknowledgement, RingMQ memory"),
    ):
        found.add(f"{title}: p50", "µs", 1e6 * middle[name])
        found.add(f"{title}: p99", "µs", 1e6 * sorted(times[name])[len(times[name]) * 99 // 100])
    found.note(
        f"Appends of {disk.APPEND_BYTES} bytes, messages of {PAYLOAD}; slices of at most {ACK_SLICE_COUNT} in alternation. What `memory` takes "
        "is the way there and back with this program at its end, which `sync` has on top of the disk. Where the bare append takes "
        "milliseconds, the wait that both share hides what RingMQ adds: the ratio is to be read where it is fast."
    )


def _slice(act, times):
    until = time.monotonic() + ACK_SLICE_S
    for _ in range(ACK_SLICE_COUNT):
        times.append(act())
        if time.monotonic() > until:
            return


def _round_trip(link, frames):
    frame = frames.take(1)
    begin = time.perf_counter()
    link.sendall(frame)
    answer = client.read(link, 4)
    took = time.perf_counter() - begin
    if answer[0] != client.PUBACK:
        raise RunFailed("a publisher got what is no PUBACK")
    return took


# --- Subscribers that are there -----------------------------------------------------------------------------------------------

PAIRS, PAIRS_WINDOW = 100, 64
ONLINE_SHARE_MIN = 50


def online(setup, found):
    rates, cpu = {}, {}
    for mode in ("memory", *MODES):
        with Server(setup, setup.in_mode(mode)) as server:
            topics = [f"online/{number}" for number in range(PAIRS)]
            subscribers = [client.Subscriber(server.port, f"here-{number}", topic, SMALL) for number, topic in enumerate(topics)]
            publishers = _publishers(server.port, [[topic] for topic in topics], SMALL, PAIRS_WINDOW)
            began = []
            count, seconds = client.exchange(
                list(zip(publishers, subscribers)), setup.seconds, WARMUP_S, lambda: began.append(server.cpu_s())
            )
            cpu_s = server.cpu_s() - began[0]
            _close([*publishers, *subscribers])
        rates[mode], cpu[mode] = count / seconds, 1e6 * cpu_s / count
        found.add(f"{mode}: delivered", "messages/s", rates[mode])
        found.add(f"{mode}: CPU per message", "µs", cpu[mode])
        found.add(f"{mode}: CPU used", "% of one", 100 * cpu_s / seconds)
    for mode in MODES:
        wanted = ONLINE_SHARE_MIN if mode == "sync" else None
        found.add(f"messages/s in {mode}, of those in memory", "%", 100 * rates[mode] / rates["memory"], at_least=wanted)
        found.add(f"CPU per message in memory, of that in {mode}", "%", 100 * cpu["memory"] / cpu[mode])
    found.note(
        "Payloads of 64 bytes. Where `memory` leaves the broker much of its CPU, the load was the limit, and its messages a second would "
        "be more with a faster one: the share by CPU tells what is left then."
    )


# --- One message for many sessions ----------------------------------------------------------------------------------------------

FANOUT_SESSIONS, FANOUT_MESSAGES, FANOUT_MESSAGES_QUICK = 10_000, 50, 10
# It takes ten times as long.
FANOUT_MESSAGES_PEER = 10
REFERENCE_BYTES_MAX, REFERENCE_CPU_MAX_US = 46, 1.3


def fanout(setup, found):
    ours = FANOUT_MESSAGES_QUICK if setup.is_quick else FANOUT_MESSAGES
    for name, broker in [("RingMQ sync", setup.in_mode("sync")), *((peer.name, peer) for peer in setup.peers if peer.name == "mosquitto")]:
        is_ours = name.startswith("RingMQ")
        messages = ours if is_ours else FANOUT_MESSAGES_PEER
        references = FANOUT_SESSIONS * messages
        with Server(setup, broker) as server:
            client.make_sessions(server.port, [(f"away-{number}", "all") for number in range(FANOUT_SESSIONS)])
            server.terminate()
            before = disk.taken_bytes(server.directory / "data")
            server.start_again()
            client.first_acknowledgement(server.port, "nobody", PAYLOAD, server.process, RESTART_PATIENCE_S)
            time.sleep(SETTLE_S)
            began, begin = server.cpu_s(), time.monotonic()
            publishers = _publishers(server.port, [["all"]], PAYLOAD, 16)
            client.publish(publishers, each=messages)
            took = time.monotonic() - begin
            time.sleep(SETTLE_S)
            cpu_s = server.cpu_s() - began
            _close(publishers)
            server.terminate()
            after = disk.taken_bytes(server.directory / "data")
            server.start_again()
            client.first_acknowledgement(server.port, "nobody", PAYLOAD, server.process, RESTART_PATIENCE_S)
            client.drained(server.port, "away-7", "all", PAYLOAD, messages)
        found.add(
            f"{name}: CPU per reference", "µs", 1e6 * cpu_s / references, at_most=REFERENCE_CPU_MAX_US if is_ours else None
        )
        found.add(
            f"{name}: on disk per reference", "bytes", (after - before) / references, at_most=REFERENCE_BYTES_MAX if is_ours else None
        )
        found.add(f"{name}: references stored", "per second", references / took)
    found.note(
        f"{ours} messages of {PAYLOAD} bytes (mosquitto: {FANOUT_MESSAGES_PEER}) for {FANOUT_SESSIONS:,} sessions each, one publisher with 16 "
        f"in flight. Bytes are the blocks that the data directory takes after SIGTERM, less those with the sessions alone. CPU time is from the first message to "
        f"{SETTLE_S:g} s after the last PUBACK, so what mosquitto writes at its end is not in it. After a restart one session came back and "
        "got all."
    )


# --- Restart ----------------------------------------------------------------------------------------------------------------------

QUEUED, QUEUED_QUICK = 1_000_000, 100_000
RESTART_SESSIONS_PER_QUEUED = 10
RESTART_MAX_S = 2.0
RESTARTS = 2


def restart(setup, found):
    queued = QUEUED_QUICK if setup.is_quick else QUEUED
    sessions = queued // RESTART_SESSIONS_PER_QUEUED
    with Server(setup, setup.in_mode("batched")) as server:
        client.make_sessions(server.port, [(f"away-{number}", f"restart/{number:06}") for number in range(sessions)])
        _fill(server, [f"restart/{number:06}" for number in range(sessions)], queued)
        data, killed = server.directory / "data", server.directory / "killed"
        server.kill()
        shutil.copytree(data, killed)
        for _ in range(RESTARTS):
            # Each time what the first kill left.
            shutil.rmtree(data)
            shutil.copytree(killed, data)
            _settle(data)
            _started(server, setup, found, "after SIGKILL")
            found.add("SIGTERM, until the process has ended", "s", server.terminate())
            _settle(data)
            _started(server, setup, found, "after SIGTERM")
            client.drained(server.port, "away-1", "restart/000001", PAYLOAD, RESTART_SESSIONS_PER_QUEUED)
            server.kill()
        found.add("on disk after SIGKILL", "MiB", disk.taken_bytes(killed) / MIB)
    found.note(
        f"{queued:,} messages of {PAYLOAD} bytes in {sessions:,} sessions. Filled in `batched`, started again in `sync` on what the first "
        "SIGKILL left: a copy that is on the disk, and in the kernel's cache as well, having been written just before. The PUBACK is for a message that a durable session keeps. After each "
        "restart that followed a SIGTERM a session came back and got all of its messages."
    )
    if setup.is_quick:
        found.note("A short run: a tenth of the messages and sessions that the target is for.")


def _settle(directory):
    """Waits until the files are on the disk, lest the broker's first fsync wait for what was not its own."""
    for path in directory.rglob("*"):
        if path.is_file():
            disk.sync(path)


def _started(server, setup, found, how):
    begin = time.monotonic()
    server.start_again(setup.in_mode("sync"))
    first = client.first_acknowledgement(server.port, "restart/000000", PAYLOAD, server.process, RESTART_PATIENCE_S)
    found.add(f"{how}: start to the first PUBACK", "s", first - begin, at_most=None if setup.is_quick else RESTART_MAX_S)
    found.add(f"{how}: CPU until then", "s", server.cpu_s())
    found.add(f"{how}: resident memory then", "MiB", server.resident_bytes() / MIB)


def _fill(server, topics, queued, publishers=10, window=640):
    """Publishes so many messages to the topics in turn."""
    parts = [topics[number::publishers] for number in range(publishers)]
    ends = _publishers(server.port, parts, PAYLOAD, window)
    client.publish(ends, each=queued // publishers)
    _close(ends)


# --- Memory -----------------------------------------------------------------------------------------------------------------------

MEMORY_SESSIONS = 100
# The queue grows to eight times `QUEUED` in steps of an eighth of it: each leaves as much behind in the store's write buffers.
STEPS_OF_QUEUED = 8
MEMORY_TIMES_QUEUED = 8
SAMPLE_EVERY_S = 0.05
MEMORY_SETTLE_S = 2.0
# Where nothing is read: the store's thread has come to rest.
MEMORY_PAUSE_S = 0.7
RESIDENT_MAX_MB = 150
# A hundredth of a message's payload.
GROWTH_MAX_BYTES = 1


class Samples:
    """The resident memory of a server, many times a second while the block runs."""

    def __init__(self, server):
        self._server = server
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.megabytes = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()

    def _run(self):
        while not self._is_over.wait(SAMPLE_EVERY_S):
            self.megabytes.append(self._server.resident_bytes() / 1e6)


def memory(setup, found):
    queued = QUEUED_QUICK if setup.is_quick else QUEUED
    topics = [f"memory/{number:02}" for number in range(MEMORY_SESSIONS)]
    step = queued // STEPS_OF_QUEUED
    with Server(setup, setup.in_mode("batched")) as server:
        client.make_sessions(server.port, [(f"away-{number}", topic) for number, topic in enumerate(topics)])
        found.add("resident, nothing queued", "MB", server.resident_bytes() / 1e6)
        highest = []

        def grown(pause_s=MEMORY_SETTLE_S):
            """What is resident, in MB, a while after each step of `queued` messages more."""
            resident = []
            for _ in range(STEPS_OF_QUEUED):
                with Samples(server) as samples:
                    _fill(server, topics, step)
                highest.append(max(samples.megabytes, default=0))
                time.sleep(pause_s)
                resident.append(server.resident_bytes() / 1e6)
            return resident

        until = grown()
        highest_until = max(highest)
        first = grown()
        for _ in range(MEMORY_TIMES_QUEUED - 3):
            grown(MEMORY_PAUSE_S)
        last = grown()
        client.drained(server.port, "away-1", topics[1], PAYLOAD, queued * MEMORY_TIMES_QUEUED // MEMORY_SESSIONS)
    at_most = None if setup.is_quick else RESIDENT_MAX_MB
    found.add(f"resident, {queued:,} queued", "MB", until[-1], at_most=at_most)
    found.add("highest until then", "MB", highest_until, at_most=at_most)
    for times, readings in ((2, first), (MEMORY_TIMES_QUEUED, last)):
        title = f"resident, {queued * (times - 1) + step:,} to {queued * times:,} queued"
        found.add(f"{title}: median of {len(readings)}", "MB", statistics.median(readings))
    growth = statistics.median(last) - statistics.median(first)
    messages = queued * (MEMORY_TIMES_QUEUED - 2)
    at_most = None if setup.is_quick else GROWTH_MAX_BYTES
    found.add("growth between these, per message that is queued more", "bytes", growth * 1e6 / messages, at_most=at_most)
    found.add("the same, of what was resident", "%", 100 * growth / statistics.median(first))
    found.add(f"highest until {queued * MEMORY_TIMES_QUEUED:,} were queued", "MB", max(highest))
    found.note(
        f"Messages of {PAYLOAD} bytes in {MEMORY_SESSIONS} sessions, in `batched`: {step:,} more at a time, as fast as the store takes them; "
        f"what is resident {MEMORY_SETTLE_S:g} s after the last PUBACK of each, and the highest of {1 / SAMPLE_EVERY_S:g} samples a second "
        "before it. What is resident sways by half a write buffer of 8 MiB."
    )
    if setup.is_quick:
        found.note("A short run: a tenth of the messages that the target is for.")


# Name, title, function, whether each round is one of its own (else it is measured once).
ROWS = (
    ("offline", "QoS 1 into 10 durable sessions that are away, 10 publishers, window 64", offline, True),
    ("ack", "One publisher, one message in flight", ack, True),
    ("online", "100 pairs at QoS 1 with durable subscribers that are there, window 64", online, True),
    ("fanout", f"A message to {FANOUT_SESSIONS:,} sessions that are away", fanout, True),
    ("restart", "Restart with queued messages", restart, False),
    ("memory", "Memory with queued messages", memory, False),
)
