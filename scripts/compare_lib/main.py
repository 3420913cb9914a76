"""The course of a comparison, from the command line to the report."""

import datetime
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path

from . import machine, markdown, options as command_line, own, plot, program, rows, summary
from .errors import CompareError
from .generator import Generator
from .install import Installer, tell
from .schedule import Schedule

REPOSITORY = Path(__file__).resolve().parents[2]
# A load above this when nothing has begun means that others use the machine.
LOAD_QUIET = 0.7

PICTURES = (
    ("cpu.svg", "CPU time of the broker per delivery", ("messages",)),
    ("connections.svg", "Connections, memory, and latency at a fixed rate", ("connections", "open loop")),
)


def main(description):
    options, only_list = command_line.parse(description)
    if only_list:
        settings = [row for experiment in own.EXPERIMENTS for row in experiment.rows]
        print("\n".join(f"{row.name:<22}{row.title}, {row.unit}" for row in (*rows.ROWS, *settings)))
        return 0
    return program.run("scripts/compare", lambda processes: _compare(options, processes))


def _compare(options, processes):
    chosen, experiments = rows.chosen(options.only), own.chosen(options)
    if not chosen and not experiments:
        raise CompareError(f"no row starts with '{options.only[0]}'; --list names them")
    about = machine.describe()
    broker_cpu, generator_cpu = machine.choose_cpus(options.cpus)
    _check_descriptors(chosen, machine.raise_descriptor_limit())
    installer = Installer(options, processes, REPOSITORY)
    brokers = installer.brokers()
    ringmq = next((broker for broker in brokers if broker.name == "ringmq"), None)
    experiments = [] if ringmq is None else [(one, chosen_of_it, one.variants(ringmq)) for one, chosen_of_it in experiments]
    tell("comparing " + ", ".join(f"{broker.name} {broker.version}" for broker in brokers))
    generator = Generator(installer.ringmq, processes, generator_cpu)
    if about["load_at_start"] > LOAD_QUIET:
        tell(f"this machine is busy (load {about['load_at_start']:.1f}): expect noise, above all in latencies and messages a second")
    ticks = machine.cpu_ticks()
    started, clock = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
    measured = {}
    with tempfile.TemporaryDirectory(prefix="ringmq-compare-") as work:
        Path(work).chmod(0o755)
        parts = [(chosen, brokers), *((chosen_of_it, variants) for _, chosen_of_it, variants in experiments)]
        interrupted = _measure(parts, measured, options, generator, processes, broker_cpu, Path(work) / "broker")
    stolen, all_ticks = (after - before for after, before in zip(machine.cpu_ticks(), ticks))
    about["load_at_end"] = os.getloadavg()[0]
    about["stolen_percent"] = 100.0 * stolen / max(all_ticks, 1)
    report = {
        "started": f"{started:%Y-%m-%d %H:%M} UTC",
        "took_s": round(time.monotonic() - clock),
        "mode": "quick" if options.quick else "full",
        "interrupted": interrupted,
        "command": shlex.join(["scripts/compare", *sys.argv[1:]]),
        "commit": _commit(processes),
        "machine": about,
        "cpus": {"broker": broker_cpu, "generator": generator_cpu},
        "settings": {"rounds": options.rounds, "seconds": options.seconds, "warmup_s": options.warmup},
        "brokers": {broker.name: broker.described(broker_cpu) for broker in brokers},
        "rows": summary.rows(chosen, measured, brokers, options, generator),
        "own_settings": [
            {"setting": one.setting, "about": one.about, "rows": summary.rows(chosen_of_it, measured, variants, options, generator)}
            for one, chosen_of_it, variants in experiments
        ],
    }
    directory = options.output or _directory(f"{started:%Y-%m-%d}-{machine.name(about)}")
    _write(report, directory, ours=["ringmq", *options.builds])
    tell(f"the report is {directory / 'report.md'}")
    return program.EXIT_INTERRUPTED if interrupted else 0


def _measure(parts, measured, options, generator, processes, broker_cpu, directory):
    """Measures each part, rows and the brokers for them, into `measured`; returns whether Ctrl-C ended that."""
    schedules = [
        Schedule(options, brokers, rows.runs_of(chosen), generator, processes, broker_cpu, directory) for chosen, brokers in parts if chosen
    ]
    for schedule in schedules:
        measured.update(schedule.outcomes)
    for schedule in schedules:
        try:
            schedule.measure()
        except KeyboardInterrupt:
            processes.stop_all()
            schedule.close()
            if schedules[0].rounds_done == 0:
                raise
            return True
    return False


def _write(report, directory, ours):
    directory.mkdir(parents=True, exist_ok=True)
    plots = []
    for file, title, groups in PICTURES:
        shown = [row for row in report["rows"] if row["group"] in groups]
        if shown:
            (directory / file).write_text(plot.bars(title, shown, list(report["brokers"]), ours))
            plots.append((title, file))
    (directory / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    (directory / "report.md").write_text(markdown.render(report, plots))


def _directory(name):
    """A directory for a report, beside those of the same day."""
    results = REPOSITORY / "perf" / "results"
    names = [name, *(f"{name}-{number}" for number in range(2, 1000))]
    return next(results / name for name in names if not (results / name).exists())


def _check_descriptors(chosen, limit):
    wanted = rows.CONNECTIONS + 500
    if limit < wanted and any(row.group == "connections" for row in chosen):
        raise CompareError(
            f"{rows.CONNECTIONS} connections need a limit of {wanted} open files, and it is {limit}: raise it (ulimit -n), or choose "
            "other rows with --only"
        )


def _commit(processes):
    code, stdout, _ = processes.run(["git", "describe", "--always", "--dirty"], 20, REPOSITORY)
    return stdout.strip() if code == 0 else "unknown"
