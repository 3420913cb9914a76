"""The command line, and the course of a run."""

import argparse
import asyncio
import datetime
import json
import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import plot, verdict
from .broker import Broker, BrokerFailed
from .client import Client
from .load import Load, QUEUE_BYTES_MAX
from .packets import Malformed
from .verdict import MIB

REPOSITORY = Path(__file__).resolve().parents[2]
BUILT = REPOSITORY / "target" / "release" / "ringmq"
SAMPLE_EVERY_S, KILL_EVERY_S, DOWN_S = 5, (40, 80), (0.1, 2)
# Kills end so long before the half that is judged, as a share of the run: until then it has grown to its size.
KILLS_UNTIL = 0.4
END_PATIENCE_S = 30
DESCRIPTORS = 4096
EXIT_VIOLATION, EXIT_FAILED = 1, 2


def main(description):
    options = _parse(description)
    _raise_descriptor_limit()
    if options.broker is None and not BUILT.exists():
        if subprocess.run(["cargo", "build", "--release"], cwd=REPOSITORY, check=False).returncode:
            return EXIT_FAILED
    directory = Path(tempfile.mkdtemp(prefix="ringmq-soak-", dir=options.dir))
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    arguments = ["--shards", str(options.shards), "--durability", options.durability, "--set", "sys.interval=5s",
                 "--set", f"mqtt.queue_bytes_max={QUEUE_BYTES_MAX}"]
    broker = Broker(options.broker or BUILT, directory, arguments)
    run = Run(broker, options)
    print(f"seed {options.seed}, {options.minutes:g} minutes, data in {directory}", flush=True)
    try:
        asyncio.run(run.go())
        exit_code = broker.stop()
        if exit_code != 0:
            run.load.ledger.violate(f"the broker ended with {exit_code} after SIGTERM")
        is_good = run.report(options.out, arguments)
    except (BrokerFailed, Malformed, OSError) as error:
        print(f"scripts/soak: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130
    finally:
        broker.stop()
    if is_good:
        shutil.rmtree(directory)
        return 0
    print(f"the data and the broker's log are in {directory}")
    return EXIT_VIOLATION


def _parse(description):
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="how long (30)")
    parser.add_argument("--no-kills", action="store_true", help="the broker lives throughout")
    parser.add_argument("--durability", choices=("sync", "batched"), default="sync", help="mode of the store (sync)")
    parser.add_argument("--shards", type=int, default=2, help="shards of the broker (2)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the load (random)")
    parser.add_argument("--broker", type=Path, help="the broker's program (target/release/ringmq)")
    parser.add_argument("--dir", type=Path, default=REPOSITORY / "target", help="where the data lie meanwhile (target)")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "perf" / "soak", help="where the report goes (perf/soak)")
    options = parser.parse_args()
    if options.minutes <= 0 or options.shards < 1:
        parser.error("--minutes and --shards are more than 0")
    return options


def _interrupt():
    raise KeyboardInterrupt


def _raise_descriptor_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Run:
    """One run, and what was seen of it."""

    def __init__(self, broker, options):
        self.broker = broker
        self.seconds = options.minutes * 60
        self.with_kills = not options.no_kills
        self.options = options
        self.load = Load(broker, options.seed)
        self.random = random.Random(options.seed + 1)
        self.samples, self.kills = [], []
        self._stats = {}
        self._began = self._own_cpu_began = 0.0

    async def go(self):
        self.broker.start()
        await self.load.begin()
        watcher = Client(self.load, "watcher", 0, [("$SYS/brokers/+/stats/#", 0)])
        watcher.on_message = self._hears_stats
        watching = asyncio.ensure_future(watcher.stay())
        self._began, self._own_cpu_began = time.monotonic(), time.process_time()
        cpu_s, last = self.broker.cpu_s(), self._began
        next_kill = self._next_kill(0.0)
        while time.monotonic() - self._began < self.seconds:
            await asyncio.sleep(max(last + SAMPLE_EVERY_S - time.monotonic(), 0))
            self.broker.check()
            self.load.check()
            now, cpu_now = time.monotonic(), self.broker.cpu_s()
            self._sample(now - self._began, 100 * (cpu_now - cpu_s) / (now - last))
            cpu_s, last = cpu_now, now
            if next_kill is not None and now - self._began >= next_kill:
                self.broker.kill()
                self.kills.append(now - self._began)
                await asyncio.sleep(self.random.uniform(*DOWN_S))
                await asyncio.to_thread(self.broker.start)
                next_kill = self._next_kill(now - self._began)
        await self.load.end(END_PATIENCE_S)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    def _next_kill(self, after):
        at = after + self.random.uniform(*KILL_EVERY_S)
        return at if self.with_kills and at < KILLS_UNTIL * self.seconds else None

    def _hears_stats(self, topic, payload, _qos, _retain):
        self._stats[topic.partition("/stats/")[2]] = int(payload)

    def _sample(self, second, cpu_percent):
        latencies, self.load.latencies_ms = sorted(self.load.latencies_ms), []
        ledger = self.load.ledger
        sample = {
            "second": round(second, 1),
            "life": len(self.broker.starts_s),
            "resident_bytes": self.broker.resident_bytes(),
            "disk_bytes": self.broker.disk_bytes(),
            "descriptors": self.broker.descriptors(),
            "connections": self._stats.get("connections/count"),
            "sessions": self._stats.get("sessions/count"),
            "retained": self._stats.get("retained/count"),
            "owed": ledger.owed(),
            "acknowledged": ledger.acknowledged,
            "delivered": ledger.delivered,
            "p50_ms": round(latencies[len(latencies) // 2], 2) if latencies else None,
            "p99_ms": round(latencies[int(len(latencies) * 0.99)], 2) if latencies else None,
            "cpu_percent": round(cpu_percent, 1),
        }
        self.samples.append(sample)
        if len(self.samples) % 12 == 1:
            print(f"{second / 60:5.1f} min: memory {sample['resident_bytes'] / MIB:.0f} MiB, disk {sample['disk_bytes'] / MIB:.0f} "
                  f"MiB, {sample['sessions']} sessions, {sample['owed']} owed, {sample['acknowledged']} acknowledged, "
                  f"{sample['delivered']} delivered, p99 {sample['p99_ms']} ms, CPU {sample['cpu_percent']} %, "
                  f"{len(self.kills)} kills, {len(ledger.violations)} violations", flush=True)

    def report(self, out, arguments):
        """Writes it, and returns whether all was as it should be."""
        seconds = self.samples[-1]["second"]
        verdicts = verdict.of(self.samples, seconds)
        violations, complaints = self.load.ledger.violations, self.broker.complaints()
        own_cpu = 100 * (time.process_time() - self._own_cpu_began) / (time.monotonic() - self._began)
        about = {
            "date": datetime.date.today().isoformat(),
            "machine": f"{_cpu_name()}, {os.cpu_count()} CPUs, Linux {platform.release()}",
            "minutes": round(seconds / 60, 1),
            "seed": self.options.seed,
            "arguments": arguments,
            "kills": [round(kill, 1) for kill in self.kills],
            "starts_s": [round(start, 2) for start in self.broker.starts_s],
            "load_cpu_percent": round(own_cpu, 1),
            "counts": self.load.counts,
            "acknowledged": self.load.ledger.acknowledged,
            "delivered": self.load.ledger.delivered,
            "violations": violations,
            "complaints": complaints,
            "verdicts": verdicts,
        }
        out.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(json.dumps(sample) for sample in self.samples)
        head = json.dumps(about, indent=1)
        (out / "soak.json").write_text(f'{head[:-2]},\n "samples": [\n{lines}\n]}}\n', encoding="utf-8")
        subtitle = (f"{about['date']}, {about['machine']}; {seconds / 60:.0f} minutes, {len(self.kills)} kills; "
                    f"{about['acknowledged']:,} acknowledged, {about['delivered']:,} delivered, {len(violations)} violations")
        picture = plot.draw("RingMQ under a changing load", subtitle, self.samples, self.kills, verdicts)
        (out / "soak.svg").write_text(picture, encoding="utf-8")
        for found in verdicts:
            print(_told(found))
        for complaint in complaints:
            print(f"the broker said: {complaint}")
        print(f"{about['acknowledged']} acknowledged, {about['delivered']} delivered, {len(violations)} violations")
        return not violations and not complaints and all(found["is_flat"] for found in verdicts)


def _told(found):
    if "mean" not in found:
        return f"{found['title']}: {found['reason']}"
    unit, name = (MIB, " MiB") if found["name"].endswith("_bytes") else (1, "")
    state = "flat" if found["is_flat"] else "NOT FLAT"
    return (f"{found['title']}: {state}; {found['least'] / unit:.1f} to {found['most'] / unit:.1f}{name} in the second half, "
            f"rises by {found['rise'] / unit:.1f}{name} (at most {found['rise_allowed'] / unit:.1f})")


def _cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        names = (line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name"))
        return next(names, platform.machine())
