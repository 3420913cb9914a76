"""One run of the load generator, `ringmq bench`, against a running broker."""

import json

from .errors import RunFailed

PATIENCE_S = 120.0


class Generator:
    def __init__(self, program, processes, cpu):
        self._program = program
        self._processes = processes
        self._cpu = cpu

    def command(self, arguments, host, port, pid):
        """The command line; the broker's process is optional."""
        observed = [] if pid is None else ["--pid", str(pid)]
        return [str(self._program), "bench", *arguments, "--host", f"{host}:{port}", *observed, "--cpu", str(self._cpu), "--json"]

    def run(self, arguments, broker, seconds):
        """Runs it and returns its report; `seconds` are what it measures."""
        command = self.command(arguments, broker.host, broker.port, broker.pid)
        code, stdout, stderr = self._processes.run(command, timeout_s=seconds * 3 + PATIENCE_S)
        if broker.process is not None and broker.process.poll() is not None:
            raise RunFailed(f"the broker ended with {broker.process.returncode}")
        if code is None:
            raise RunFailed(f"took more than {seconds * 3 + PATIENCE_S:.0f} s")
        if code != 0:
            lines = stderr.strip().splitlines()
            raise RunFailed(lines[-1].removeprefix("error: ") if lines else f"the generator ended with {code}")
        report = json.loads(stdout)
        messages = report.get("messages")
        if messages and messages["delivered_per_second"] == 0:
            raise RunFailed("delivers nothing")
        return report
