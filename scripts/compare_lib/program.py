"""How the programs that load brokers end: with the processes that they started, and an exit code that says how."""

import signal
import sys

from .errors import CompareError, RunFailed
from .processes import Processes

EXIT_FAILED, EXIT_INTERRUPTED = 2, 130


def run(name, work):
    """The exit code of `work`, a function of the Processes that end with it; `name` is what its errors are told under."""
    # Whoever ends this program ends it as Ctrl-C does: with its children.
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    processes = Processes()
    try:
        return work(processes) or 0
    except (CompareError, RunFailed) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        processes.stop_all()


def _interrupt():
    raise KeyboardInterrupt
