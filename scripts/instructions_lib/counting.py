"""Builds the bench and runs its cases under callgrind."""

import os
import platform
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Derived from the release profile, in Cargo.toml.
PROFILE = "counted"

# No case takes more than a few seconds.
CASE_PATIENCE_S = 120


class CountingFailed(Exception):
    """Why there is no figure, in a line."""


def target_directory():
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target")


def tools():
    """What the figures depend on beside the code. The C library brings memcpy, the CPU chooses between kinds of it."""
    cpu = Path("/proc/cpuinfo").read_text()
    flags = set(cpu.partition("flags")[2].partition("\n")[0].split())
    return {
        "rustc": output(["rustc", "--version"]).split()[1],
        "valgrind": output(["valgrind", "--version"]).strip().removeprefix("valgrind-"),
        "libc": " ".join(platform.libc_ver()),
        "machine": platform.machine() + (" with AVX2" if "avx2" in flags else ""),
    }


def build():
    """The bench, optimized as what is shipped is."""
    command = ["cargo", "build", "--quiet", "--profile", PROFILE, "--example", "instructions"]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        raise CountingFailed("cargo cannot build the example `instructions`")
    return target_directory() / PROFILE / "examples" / "instructions"


def cases(bench):
    """The cases by name, each with the number of things that its counted rounds make."""
    pairs = (line.split() for line in output([bench, "--list"]).splitlines())
    return {name: int(things) for name, things in pairs}


def count(bench, chosen):
    """The instructions for each thing of the chosen cases, rounded: as many cases at a time as there are CPUs."""
    profiles = target_directory() / "instructions"
    profiles.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        totals = pool.map(lambda name: count_case(bench, name, profiles / f"{name}.out"), chosen)
        return {name: round(total / chosen[name]) for name, total in zip(chosen, totals)}


def count_case(bench, name, profile):
    command = ["valgrind", "--tool=callgrind", "--toggle-collect=*counted_rounds*", f"--callgrind-out-file={profile}"]
    # An environment of its own: its size moves the stack, and mimalloc takes settings from it.
    told = output([*command, bench, name], environment={"PATH": os.environ.get("PATH", os.defpath)}, stream="stderr")
    collected = re.search(r"Collected : (\d+)", told)
    if not collected or int(collected[1]) == 0:
        raise CountingFailed(f"{name}: callgrind counted nothing:\n{told}")
    return int(collected[1])


def output(command, environment=None, stream="stdout"):
    if shutil.which(command[0]) is None:
        raise CountingFailed(f"{command[0]} is not installed")
    try:
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=CASE_PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise CountingFailed(f"{command[0]} takes more than {CASE_PATIENCE_S} s") from None
    if run.returncode != 0:
        raise CountingFailed(f"{' '.join(map(str, command))} fails:\n{run.stderr}")
    return getattr(run, stream)
