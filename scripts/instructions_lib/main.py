"""The command line of scripts/instructions."""

import argparse
import sys

from . import counting, stated

FILE = counting.ROOT / "perf" / "instructions.toml"


def main(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    does = parser.add_mutually_exclusive_group()
    does.add_argument("--check", action="store_true", help="fail when a case rose by more than 5 %%")
    does.add_argument("--restate", action="store_true", help="write perf/instructions.toml")
    parser.add_argument("--only", metavar="NAME", action="append", help="cases by the start of their names")
    given = parser.parse_args()
    if given.only and given.restate:
        parser.error("--restate counts every case")
    try:
        return run(given)
    except (counting.CountingFailed, stated.Malformed) as error:
        print(f"scripts/instructions: {error}", file=sys.stderr)
        return 2


def run(given):
    tools = counting.tools()
    bench = counting.build()
    chosen = counting.cases(bench)
    if given.only:
        chosen = {name: things for name, things in chosen.items() if name.startswith(tuple(given.only))}
        if not chosen:
            raise counting.CountingFailed(f"no case begins with {' or '.join(given.only)}")
    counted = counting.count(bench, chosen)
    stated_tools, stated_counts = stated.read(FILE.read_text()) if FILE.exists() else ({}, {})
    lines, rose, fell, unmatched = stated.compared(stated_counts, counted, is_whole=not given.only)
    print("\n".join(lines))
    if given.restate:
        FILE.write_text(stated.written(tools, counted))
        print(f"wrote {FILE.relative_to(counting.ROOT)}")
        return 0
    for line in stated.differing(stated_tools, tools):
        print(f"note: {line}; that alone can move them")
    if fell:
        print(f"fell by more than {stated.TOLERANCE_PERCENT:g} %, to be restated: {', '.join(fell)}")
    if rose:
        print(f"rose by more than {stated.TOLERANCE_PERCENT:g} %: {', '.join(rose)}")
    if unmatched:
        print(f"stated or counted alone: {', '.join(unmatched)}")
    if rose or unmatched:
        print("if that is meant, `scripts/instructions --restate` belongs into the same change")
    return 1 if given.check and (rose or unmatched) else 0
