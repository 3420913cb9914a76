"""The process under test: started, killed, measured."""

import os
import signal
import socket
import subprocess
import time

START_PATIENCE_S = 60
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class BrokerFailed(Exception):
    """It ended by itself, or does not start."""


class Broker:
    """One data directory, and the process on it, if there is one."""

    def __init__(self, program, directory, arguments):
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "broker.log"
        self.port = _free_port()
        self.is_up = False
        self.starts_s = []
        self._cpu_s_before = 0.0
        self._command = [str(program), "serve", "--allow-anonymous", "--listen", f"127.0.0.1:{self.port}",
                         "--data-dir", str(self.data), *arguments]
        self._process = None

    def start(self):
        began = time.monotonic()
        with self.log.open("ab") as log:
            before = log.tell()
            self._process = subprocess.Popen(self._command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not self._is_ready(before):
            if self._process.poll() is not None or time.monotonic() - began > START_PATIENCE_S:
                raise BrokerFailed(f"the broker did not start; {self.log} says why")
            time.sleep(0.005)
        self.starts_s.append(time.monotonic() - began)
        self.is_up = True

    def _is_ready(self, before):
        with self.log.open("rb") as log:
            log.seek(before)
            return any(line.strip() == b"ready" for line in log)

    def kill(self):
        """SIGKILL."""
        self.check()
        self.is_up = False
        self._cpu_s_before = self.cpu_s()
        self._process.kill()
        self._process.wait()

    def stop(self):
        """SIGTERM, and waits; its exit code."""
        if self._process is None or self._process.poll() is not None:
            return None
        self.is_up = False
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return None

    def check(self):
        if self._process.poll() is not None:
            raise BrokerFailed(f"the broker ended by itself with {self._process.returncode}; {self.log} says why")

    def complaints(self):
        """Lines of its log at level error, and of panics."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if " ERROR " in line or "panicked" in line]

    # --- Measured -------------------------------------------------------------------------------------------------------

    def resident_bytes(self):
        with open(f"/proc/{self._process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * _PAGE

    def descriptors(self):
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def cpu_s(self):
        """Of all its processes so far."""
        with open(f"/proc/{self._process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return self._cpu_s_before + (int(fields[11]) + int(fields[12])) / _TICKS

    def disk_bytes(self):
        """What its files take up on the disk: journals are made larger than what is in them."""
        taken = {}
        for place, _, names in os.walk(self.data):
            for name in names:
                try:
                    status = os.stat(os.path.join(place, name))
                except FileNotFoundError:
                    continue
                taken[status.st_ino] = status.st_blocks * 512
        return sum(taken.values())


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
