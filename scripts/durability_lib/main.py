"""The command line, and the course of a run."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import shutil
import sys
import time
from pathlib import Path

from compare_lib import machine, program
from compare_lib.brokers import version_of
from compare_lib.errors import CompareError, RunFailed
from compare_lib.install import tell

from . import disk, report
from .brokers import Durable, peers
from .rows import ROWS, Setup

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD_PATIENCE_S = 1800
PORTS = range(26000, 27000)
ROUNDS, SECONDS = 3, 3.0
QUICK_ROUNDS, QUICK_SECONDS = 1, 1.0


def main(description):
    options = parse(description)
    return program.run("scripts/durability", lambda processes: _measure(options, processes))


def parse(description, arguments=None):
    parser = argparse.ArgumentParser(
        prog="scripts/durability", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round of short runs with fewer messages")
    parser.add_argument("--rounds", type=_bounded(int, 1, 100), metavar="N", help=f"rounds ({ROUNDS}; quick: {QUICK_ROUNDS})")
    parser.add_argument(
        "--seconds", type=_bounded(float, 0.1, 600), metavar="N",
        help=f"how long messages are measured ({SECONDS:g}; quick: {QUICK_SECONDS:g})"
    )
    parser.add_argument("--rows", type=_rows, default=[row[0] for row in ROWS], metavar="A,B", help="these rows only")
    parser.add_argument("--broker", type=Path, metavar="PATH", help="another build of RingMQ")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="where brokers keep their data (target/durability)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the report goes (perf/durability)")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    return options


def _bounded(kind, least, most):
    def read(text):
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{least} to {most} are wanted")
        return value

    return read


def _rows(text):
    names, known = text.split(","), [row[0] for row in ROWS]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"no row '{name}'; there are: {', '.join(known)}")
    return names


def _measure(options, processes):
    about, commit = machine.describe(), _commit(processes)
    cpu, _ = machine.choose_cpus(None)
    machine.raise_descriptor_limit()
    program = _program(options, processes)
    ringmq = Durable("ringmq", program, version_of([program, "--version"], r"(\d\S*)"))
    others, missing = peers(REPOSITORY)
    directory = (options.directory or _target() / "durability").resolve() / f"run-{os.getpid()}"
    directory.mkdir(parents=True)
    # Some brokers give up root, and still must get at their files.
    directory.chmod(0o755)
    setup = Setup(processes, directory, PORTS, cpu, ringmq, others, missing, options.seconds, options.quick)
    started, clock, ticks = datetime.datetime.now(datetime.timezone.utc), time.monotonic(), machine.cpu_ticks()
    try:
        kind = disk.file_system(directory)
        rows = [_row(row, options, setup) for row in ROWS if row[0] in options.rows]
    finally:
        processes.stop_all()
        shutil.rmtree(directory, ignore_errors=True)
    stolen, all_ticks = (after - before for after, before in zip(machine.cpu_ticks(), ticks))
    about["load_at_end"] = os.getloadavg()[0]
    about["stolen_percent"] = 100.0 * stolen / max(all_ticks, 1)
    found = {
        "started": f"{started:%Y-%m-%d %H:%M} UTC",
        "took_s": round(time.monotonic() - clock),
        "mode": "quick" if options.quick else "full",
        "rounds": options.rounds,
        "seconds": options.seconds,
        "command": _command(),
        "commit": commit,
        "is_given": options.broker is not None,
        "file_system": kind,
        "machine": about,
        "brokers": {broker.name: broker.described(cpu) for broker in (ringmq, *others)},
        "rows": [row.as_json() for row in rows],
    }
    _write(found, rows, options.output or REPOSITORY / "perf" / "durability", f"{started:%Y-%m-%d}-{machine.name(about)}")


def _row(row, options, setup):
    """All rounds of a row. One that fails leaves its reason, and what was found until then."""
    name, title, function, has_rounds = row
    found = report.Found(name, title)
    for number in range(options.rounds if has_rounds else 1):
        tell(f"{name}, round {number + 1} ...")
        try:
            function(setup, found)
        except (RunFailed, OSError) as error:
            tell(f"{name}: {error}")
            found.note(f"**Round {number + 1} failed: {error}.**")
            setup.processes.stop_all()
    return found


def _write(found, rows, directory, name):
    directory.mkdir(parents=True, exist_ok=True)
    # Beside those of the same day.
    names = [name, *(f"{name}-{number}" for number in range(2, 1000))]
    name = next(free for free in names if not (directory / f"{free}.md").exists())
    (directory / f"{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    path = directory / f"{name}.md"
    path.write_text(report.render(found, rows))
    tell(f"the report is {path}")


def _target():
    return Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))


def _program(options, processes):
    """The build that is measured; made if it is not there."""
    program = options.broker or _target() / "release" / "ringmq"
    if not program.is_file():
        if options.broker:
            raise CompareError(f"there is no {program}")
        command = ["cargo", "build", "--quiet", "--release", "--bin", "ringmq"]
        code, _, stderr = processes.run(command, BUILD_PATIENCE_S, REPOSITORY)
        if code != 0:
            raise CompareError(f"the broker was not built: {stderr.strip()}")
    return program.resolve()


def _command():
    """The command line, without where things are on this machine."""
    words, at = [], iter(sys.argv[1:])
    for word in at:
        option, separator, _ = word.partition("=")
        if option in ("--broker", "--directory", "--output"):
            words += [option, {"--broker": "PATH"}.get(option, "DIR")]
            if not separator:
                next(at)
        else:
            words.append(word)
    return shlex.join(["scripts/durability", *words])


def _commit(processes):
    code, stdout, _ = processes.run(["git", "describe", "--always", "--dirty"], 20, REPOSITORY)
    return stdout.strip() if code == 0 else "unknown"
