"""What the Python client scripts share: naming and running scenarios, and the addresses of the broker.

A scenario is a function that raises when what must hold does not. Scripts register them with a protocol version, run all
of them, print one line each, and exit 1 if any failed: a failure in one does not hide the others.
"""

import argparse
import inspect
import asyncio
import secrets
import sys
import time
import traceback

# How long a scenario waits for what must come. Nothing waits this long when all is well.
PATIENCE_SECONDS = 15


class Scenarios:
    """The scenarios of one client, in the order in which they were registered."""

    def __init__(self, client):
        self.client = client
        self.scenarios = []
        parser = argparse.ArgumentParser(description=f"Drives {client} against an MQTT broker.")
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, required=True)
        parser.add_argument("--only", default="", help="run the scenarios whose name contains this")
        arguments = parser.parse_args()
        self.host, self.port, self.only = arguments.host, arguments.port, arguments.only

    def add(self, *versions):
        """Registers the decorated function once for each protocol version, which it takes as its argument."""

        def register(function):
            for version in versions:
                name = f"{self.client} {version}: {function.__name__.replace('_', ' ')}"
                self.scenarios.append((name, function, version))
            return function

        return register

    def run(self):
        """Runs all and exits the process."""
        passed, failed = 0, 0
        for name, function, version in self.scenarios:
            if self.only not in name:
                continue
            started = time.monotonic()
            try:
                result = function(version)
                if inspect.iscoroutine(result):
                    asyncio.run(result)
                passed += 1
                print(f"ok   {name} ({time.monotonic() - started:.2f} s)", flush=True)
            except Exception:  # A scenario may fail in any way; the next one is run all the same.
                failed += 1
                print(f"FAIL {name} ({time.monotonic() - started:.2f} s)", flush=True)
                traceback.print_exc(file=sys.stdout)
        print(f"{self.client}: {passed} scenarios held, {failed} did not", flush=True)
        sys.exit(1 if failed or not passed else 0)


def unique(prefix):
    """A name that no other scenario and no earlier run against the same broker has used."""
    return f"{prefix}-{secrets.token_hex(6)}"


def equal(found, expected, what):
    """Fails with both sides in the message."""
    if found != expected:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def true(holds, what):
    """Fails with `what` as the message; unlike `assert` it is there under -O as well."""
    if not holds:
        raise AssertionError(what)
