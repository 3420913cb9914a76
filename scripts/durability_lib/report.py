"""Figures with their targets, and the report of them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from compare_lib.numbers import number


@dataclass
class Figure:
    """What was measured in each round, and what is wanted of its median."""

    title: str
    unit: str
    values: list = field(default_factory=list)
    bound: float | None = None
    at_most: bool = True

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def is_met(self):
        """None where nothing is wanted."""
        if self.bound is None:
            return None
        return self.median <= self.bound if self.at_most else self.median >= self.bound

    def spread(self):
        if len(self.values) == 1:
            return number(self.values[0])
        return f"{number(self.median)} ({number(min(self.values))}–{number(max(self.values))})"

    def target(self):
        return "" if self.bound is None else f"{'at most' if self.at_most else 'at least'} {self.bound:g}"

    def verdict(self):
        return {None: "", True: "met", False: "**missed**"}[self.is_met]

    def as_json(self):
        return {
            "title": self.title,
            "unit": self.unit,
            "median": self.median,
            "values": self.values,
            "target": self.target(),
            "is_met": self.is_met,
        }


class Found:
    """The figures of a row, by title, in the order of their first value."""

    def __init__(self, name, title):
        self.name = name
        self.title = title
        self.figures = {}
        self.notes = []

    def add(self, title, unit, value, at_most=None, at_least=None):
        bound = at_least if at_most is None else at_most
        figure = self.figures.setdefault(title, Figure(title, unit, bound=bound, at_most=at_least is None))
        figure.values.append(value)

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def as_json(self):
        figures = [figure.as_json() for figure in self.figures.values()]
        return {"name": self.name, "title": self.title, "figures": figures, "notes": self.notes}


def render(report, rows):
    """The report for people."""
    machine = report["machine"]
    built = ", the broker a build of its own" if report["is_given"] else ""
    parts = [
        "# What durability costs",
        f"Measured on {report['started']} in {report['took_s'] / 60:.0f} minutes ({report['mode']} mode, {_rounds(report['rounds'])}) on "
        f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['memory_gib']:g} GiB, Linux {machine['kernel']}, "
        f"data on {report['file_system']}, over loopback; source {report['commit']}{built}. "
        f"The load was {machine['load_at_start']:.1f} at the start and {machine['load_at_end']:.1f} at the end"
        f"{', in a virtual machine' if machine['virtual_machine'] else ''}; a hypervisor took {machine['stolen_percent']:.1f} %. "
        "Medians, smallest–largest in brackets. CPU time is that of all threads of the broker. The load comes from one process in "
        "Python, which takes a CPU: messages a second are what it and the broker came to, not the most that a broker can do.",
    ]
    if machine["load_at_start"] > 0.7:
        parts.append(
            "**The machine had other work while this was measured.** Times and messages a second suffer from that, CPU time per message "
            "less, ratios within a round least."
        )
    parts += [_targets(rows), *(_row(row) for row in rows), _brokers(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rounds(count):
    return "one round" if count == 1 else f"{count} rounds"


def _targets(rows):
    wanted = [figure for row in rows for figure in row.figures.values() if figure.bound is not None]
    if not wanted:
        return ""
    lines = ["## Targets", "", "| figure | measured | target | |", "|---|---|---|---|"]
    lines += [f"| {figure.title}, {figure.unit} | {figure.spread()} | {figure.target()} | {figure.verdict()} |" for figure in wanted]
    return "\n".join(lines)


def _row(row):
    lines = [f"## {row.title}", "", "| | unit | measured |", "|---|---|---|"]
    lines += [f"| {figure.title} | {figure.unit} | {figure.spread()} |" for figure in row.figures.values()]
    if not row.figures:
        lines = [f"## {row.title}", "", "Not measured."]
    lines += [line for note in row.notes for line in ("", note)]
    return "\n".join(lines)


def _brokers(report):
    lines = ["## Brokers", ""]
    for name, about in report["brokers"].items():
        lines.append(f"- **{name}** {about['version']}: {about['note']} `{about['command']}`")
    lines += ["", "RingMQ is started with the `--durability` that stands beside its figures.", f"The command was `{report['command']}`."]
    return "\n".join(lines)
