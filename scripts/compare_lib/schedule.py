"""The order of the runs: round by round, in each round every run, in each run one broker after the other (A B A B ...).

So a machine that slows down or is disturbed for a while meets every broker alike, and what it does over minutes shows in
the spread between rounds. Keeps the progress line and the time that is left.
"""

import contextlib
import fcntl
import sys
import time
from dataclasses import dataclass, field

from .errors import RunFailed


FIRST_BROKERS = 2


@dataclass
class Outcome:
    """What one run gave with one broker: a report for each round, and why there are not more."""

    reports: list = field(default_factory=list)
    failures: list = field(default_factory=list)


class Schedule:
    def __init__(self, options, brokers, runs, generator, processes, broker_cpu, directory):
        self._options = options
        self._brokers = brokers
        self._runs = runs
        self._generator = generator
        self._processes = processes
        self._broker_cpu = broker_cpu
        self._directory = directory
        self._took = {}
        self._waited_s = 0.0
        self._started = time.monotonic()
        self._progress = Progress()
        self.rounds_done = 0
        self.outcomes = {(run.name, broker.name): Outcome() for run in runs for broker in brokers}

    def measure(self):
        """Runs everything, or as much as the time allows."""
        for number in range(1, self._options.rounds + 1):
            for run in self._runs:
                able = [broker for broker in self._brokers if self._may_run(run, broker, number)]
                # A later round is all brokers or none: else the one that got it would have met another machine.
                if number > 1 and not self._fits(sum(self._estimate(run, broker) for broker in able)):
                    continue
                with self._lock():
                    for broker in able:
                        self._measure_one(run, broker, number)
            self.rounds_done = number
        self._progress.clear()

    @property
    def measured_anything(self):
        return any(outcome.reports for outcome in self.outcomes.values())

    def close(self):
        self._progress.clear()

    def _may_run(self, run, broker, number):
        outcome = self.outcomes[run.name, broker.name]
        reasons = [broker.cannot[need] for need in sorted(run.needs) if need in broker.cannot]
        if reasons and number == 1:
            outcome.failures.append(reasons[0])
        return not outcome.failures

    def _measure_one(self, run, broker, number):
        outcome = self.outcomes[run.name, broker.name]
        if not self._fits(self._estimate(run, broker) + self._reserved(run, broker)):
            outcome.failures.append("no time was left for it")
            return
        self._progress.show(f"round {number} of {self._options.rounds}: {run.name}, {broker.name}", self._left(run, broker, number))
        started = time.monotonic()
        try:
            outcome.reports.append(self._run(run, broker))
        except RunFailed as failure:
            outcome.failures.append(str(failure))
        self._took[run.name, broker.name] = time.monotonic() - started

    def _run(self, run, broker):
        running = broker.start(self._processes, self._directory, self._options.ports, self._broker_cpu, run.small_pages)
        patience_s = self._options.patience_s + 3 * self._options.seconds
        try:
            return self._generator.run(run.arguments(self._options), running, patience_s)
        finally:
            broker.stop(self._processes, running)

    def _estimate(self, run, broker):
        """Seconds that a run takes: what it took before, else what it should."""
        guess = run.overhead_s + self._options.warmup + self._options.seconds + min(self._options.seconds, 1.0)
        return self._took.get((run.name, broker.name), guess)

    def _reserved(self, run, broker):
        """Seconds that a broker must leave to the first ones, RingMQ and mosquitto: these have every row before others do."""
        first = self._brokers[:FIRST_BROKERS]
        if broker in first:
            return 0.0
        behind = self._runs[self._runs.index(run) + 1 :]
        return sum(self._estimate(later, one) for later in behind for one in first if not self.outcomes[later.name, one.name].reports)

    def _left(self, run, broker, number):
        """Seconds until everything is measured, from the start of this run on."""
        each_round = {(run.name, broker.name): self._estimate(run, broker) for run in self._runs for broker in self._brokers}
        keys = list(each_round)
        rest = sum(each_round[key] for key in keys[keys.index((run.name, broker.name)) :] if not self.outcomes[key].failures)
        whole = sum(seconds for key, seconds in each_round.items() if not self.outcomes[key].failures)
        left = rest + whole * (self._options.rounds - number)
        return left if self._options.budget_s is None else min(left, max(self._options.budget_s - self._spent(), 0.0))

    def _spent(self):
        return time.monotonic() - self._started - self._waited_s

    def _fits(self, seconds):
        return self._options.budget_s is None or self._spent() + seconds <= self._options.budget_s

    @contextlib.contextmanager
    def _lock(self):
        """Holds the lock of the machine, if there is one; waiting for it is not counted as time spent."""
        if self._options.lock is None:
            yield
            return
        with open(self._options.lock, "a", encoding="utf-8") as lock:
            started = time.monotonic()
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._waited_s += time.monotonic() - started
            yield


class Progress:
    """One line on a terminal; a line for each run elsewhere."""

    def __init__(self):
        self._is_terminal = sys.stderr.isatty()

    def show(self, what, seconds_left):
        text = f"{what}; {_duration(seconds_left)} left"
        print(f"\r\x1b[K{text}" if self._is_terminal else text, end="" if self._is_terminal else "\n", file=sys.stderr, flush=True)

    def clear(self):
        if self._is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    return f"about {minutes} min {seconds:02} s" if minutes else f"about {seconds} s"
