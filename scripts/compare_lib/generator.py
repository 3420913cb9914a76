"""One run of the load generator, `ringmq bench`, against a running broker."""

import json

from .errors import RunFailed
from .rows import DELIVERED_PER_SECOND

class Generator:
    def __init__(self, program, processes, cpu):
        self._program = program
        self._processes = processes
        self._cpu = cpu

    def command(self, arguments, host, port, pid):
        """The command line; the broker's process is optional."""
        observed = [] if pid is None else ["--pid", str(pid)]
        return [str(self._program), "bench", *arguments, "--host", f"{host}:{port}", *observed, "--cpu", str(self._cpu), "--json"]

    def run(self, arguments, broker, patience_s):
        """Runs it and returns its report, unless it takes longer than `patience_s`."""
        command = self.command([*arguments, *broker.generator_arguments], broker.host, broker.port, broker.pid)
        code, stdout, stderr = self._processes.run(command, timeout_s=patience_s)
        if broker.process is not None and broker.process.poll() is not None:
            raise RunFailed(f"the broker ended with {broker.process.returncode}")
        if code is None:
            raise RunFailed(f"took more than {patience_s:.0f} s")
        if code != 0:
            raise RunFailed(_reason(stderr) or f"the generator ended with {code}")
        report = flattened(json.loads(stdout))
        if DELIVERED_PER_SECOND(report) == 0:
            raise RunFailed("delivered nothing while it was measured")
        return report


def flattened(report, prefix=""):
    """One level of names: objects in the report give theirs to what is in them, with an underscore between."""
    flat = {}
    for name, value in report.items():
        flat.update(flattened(value, f"{prefix}{name}_") if isinstance(value, dict) else {prefix + name: value})
    return flat


def _reason(stderr):
    """The line that says why; hints may follow it."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("error: ")] or lines[-1:]
    return told[0].removeprefix("error: ") if told else ""
