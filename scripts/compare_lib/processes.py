"""Child processes. What always holds: each is known here by its process id, and none outlives this process.

Each has a process group of its own, so that the terminal's Ctrl-C is this process's to handle, and all are of this process's
session: Linux shares the CPU among sessions first (sched(7), autogroup), and an idle process of another session would have as much of it
as a broker.
"""

import ctypes
import os
import signal
import subprocess

PR_SET_PDEATHSIG = 1
PR_SET_THP_DISABLE = 41
TERMINATE_PATIENCE_S = 8.0

_libc = ctypes.CDLL(None, use_errno=True)


class Processes:
    """The children that run."""

    def __init__(self):
        self._running = []

    def start(self, command, log, cpu, small_pages=False, directory=None, environment=None):
        """Starts `command` pinned to `cpu`, with what it writes in the file `log`.

        With `small_pages` it gets no transparent huge pages, so that its resident memory is what it touched.
        """
        parent = os.getpid()

        def prepare():
            os.setpgrp()
            # A child ends with this process even when that is killed.
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if small_pages and _libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "prctl(PR_SET_THP_DISABLE)")
            if os.getppid() != parent:
                os._exit(1)

        pinned = command if cpu is None else pinned_command(command, cpu)
        with open(log, "ab") as output:
            process = subprocess.Popen(
                pinned,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env={**os.environ, **(environment or {})},
                preexec_fn=prepare,
            )
        self._running.append(process)
        return process

    def stop(self, process):
        """Ends a child: asks first, insists after a while."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(TERMINATE_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self._running:
            self._running.remove(process)

    def run(self, command, timeout_s, directory=None):
        """Runs a command to its end and returns (exit code, stdout, stderr); None as the code when time ran out."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=directory,
            preexec_fn=os.setpgrp,
        )
        self._running.append(process)
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
            return process.returncode, stdout, stderr
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            return None, stdout, stderr
        finally:
            self.stop(process)

    def stop_all(self):
        """Ends every child, the youngest first."""
        for process in reversed(list(self._running)):
            self.stop(process)


def pinned_command(command, cpu):
    """`command` on one CPU only. taskset becomes the command, so the process id is the command's own."""
    return ["taskset", "-c", str(cpu), *command]
