"""The stated figures: perf/instructions.toml, and what a run comes to beside it."""

import re

# A case may cost that much more than stated, in percent; one that costs that much less is to be restated.
TOLERANCE_PERCENT = 5.0

HEADING = """\
# Instructions of each case of benches/instructions.rs: per delivery, packet, match, or client that connects.
# Written by `scripts/instructions --restate`, which a change that means to cost more (or less) runs. What they depend on
# beside the code stands in [tools].
"""


class Malformed(Exception):
    """A line of the file that is neither a table nor `name = value`."""


def written(tools, counts):
    """The text of the file."""
    lines = [HEADING, "[tools]"]
    lines += [f'{name} = "{version}"' for name, version in tools.items()]
    lines += ["", "[instructions]"]
    lines += [f"{name} = {count}" for name, count in counts.items()]
    return "\n".join(lines) + "\n"


def read(text):
    """The tools and the counts of a file that `written` wrote; Python before 3.11 has no parser of TOML."""
    tables = {"tools": {}, "instructions": {}}
    table = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if heading := re.fullmatch(r"\[(tools|instructions)\]", line):
            table = tables[heading[1]]
        elif table is tables["tools"] and (pair := re.fullmatch(r'([\w-]+) = "([^"]*)"', line)):
            table[pair[1]] = pair[2]
        elif table is tables["instructions"] and (pair := re.fullmatch(r"([\w-]+) = (\d+)", line)):
            table[pair[1]] = int(pair[2])
        else:
            raise Malformed(f"line {number}: {line}")
    return tables["tools"], tables["instructions"]


def rise_percent(stated, counted):
    return 100.0 * (counted - stated) / max(stated, 1)


def compared(stated, counted, is_whole):
    """The lines of a table, and the names of the cases that rose, that fell, and that only one side has.

    `is_whole` says whether every case was counted, so that a stated one that was not is one that is gone.
    """
    rose, fell, unmatched = [], [], []
    width = max(map(len, [*counted, *(stated if is_whole else []), "case"]))
    lines = [f"{'case':<{width}} {'stated':>8} {'counted':>8} {'':>8}"]
    for name, count in counted.items():
        if name not in stated:
            unmatched.append(name)
            lines.append(f"{name:<{width}} {'-':>8} {count:>8} {'':>8}  NOT STATED")
            continue
        percent = rise_percent(stated[name], count)
        note = ""
        if percent > TOLERANCE_PERCENT:
            rose.append(name)
            note = "  ROSE"
        elif percent < -TOLERANCE_PERCENT:
            fell.append(name)
            note = "  fell: restate it"
        lines.append(f"{name:<{width}} {stated[name]:>8} {count:>8} {percent:>+7.1f}%{note}")
    for name in stated:
        if is_whole and name not in counted:
            unmatched.append(name)
            lines.append(f"{name:<{width}} {stated[name]:>8} {'-':>8} {'':>8}  GONE")
    return lines, rose, fell, unmatched


def differing(stated, found):
    """A line for each tool that is not the one that the figures were stated with."""
    return [
        f"{name} is {found[name]}, the figures were stated with {stated.get(name, 'an unknown one')}"
        for name in found
        if stated.get(name) != found[name]
    ]
