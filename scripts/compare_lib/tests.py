"""What holds of the parts that need no broker: cd scripts && python3 -m unittest compare_lib.tests"""

import contextlib
import io
import os
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

from . import crosscheck, machine, markdown, options, own, plot, rows, summary
from .brokers import AttachedBroker, Broker, RingMq, free_port, version_of
from .errors import CompareError, RunFailed
from .generator import Generator, flattened
from .options import Attached
from .processes import Processes
from .schedule import Schedule


def parsed(*arguments):
    return options.parse("", list(arguments))[0]


class FakeBroker(Broker):
    """Answers nothing; the fake generator does not ask."""

    def command(self, port, directory, cpu):
        return [self.program, port]

    def start(self, processes, directory, ports, cpu, small_pages=False):
        return self

    def stop(self, processes, running):
        pass


class FakeGenerator(Generator):
    """Gives every broker the figures that were laid out for it, one a round, and notes who came when."""

    def __init__(self, figures):
        super().__init__("ringmq", None, 1)
        self.figures = {name: list(values) for name, values in figures.items()}
        self.order = []

    def run(self, arguments, broker, patience_s):
        self.order.append(broker.name)
        value = self.figures[broker.name].pop(0)
        if isinstance(value, str):
            raise RunFailed(value)
        return {"broker_cpu_us_per_delivery": value, "broker_cpu_percent": 99.0, "delivered_per_second": 5.0, "lost": 0}


def compared(figures, *arguments, cannot=None):
    """The schedule after a comparison of these figures, and the rows of its report."""
    given = parsed("--only", "p2p-q2-w1", *arguments)
    brokers = [FakeBroker(name, Path(name), "1.0", (cannot or {}).get(name, {})) for name in figures]
    chosen = rows.chosen(given.only)
    generator = FakeGenerator(figures)
    schedule = Schedule(given, brokers, rows.runs_of(chosen), generator, None, 0, Path("."))
    with contextlib.redirect_stderr(io.StringIO()):
        schedule.measure()
    return generator, summary.rows(chosen, schedule.outcomes, brokers, given, generator), brokers


class Measuring(unittest.TestCase):
    def test_brokers_alternate_and_every_round_counts(self):
        generator, found, _ = compared({"ringmq": [1.0, 3.0, 2.0], "other": [4.0, 6.0, 5.0]}, "--rounds", "3")
        self.assertEqual(generator.order, ["ringmq", "other"] * 3)
        cell = found[0]["cells"]["ringmq"]
        self.assertEqual((cell["median"], cell["low"], cell["high"], cell["saturated"]), (2.0, 1.0, 3.0, True))

    def test_what_a_broker_cannot_do_is_not_tried_and_has_its_reason(self):
        generator, found, _ = compared({"ringmq": [1.0], "other": []}, "--rounds", "1", cannot={"other": {"qos2": "no QoS 2"}})
        self.assertEqual(generator.order, ["ringmq"])
        self.assertEqual(found[0]["cells"]["other"]["reason"], "no QoS 2")

    def test_a_failure_ends_the_rounds_of_that_broker_alone(self):
        generator, found, _ = compared({"ringmq": [1.0, 2.0, 3.0], "other": [4.0, "it broke"]}, "--rounds", "3")
        self.assertEqual(generator.order, ["ringmq", "other", "ringmq", "other", "ringmq"])
        self.assertEqual(found[0]["cells"]["other"]["failed_later"], "it broke")
        self.assertEqual(found[0]["cells"]["other"]["values"], [4.0])

    def test_a_broker_whose_process_is_unknown_has_no_cpu_time(self):
        broker = AttachedBroker(Attached("far", "10.0.0.1", 1883))
        self.assertIn("pid", broker.cannot)
        self.assertNotIn("pid", AttachedBroker(Attached("near", "127.0.0.1", 1883, 7)).cannot)

    def test_reports_are_read_flat(self):
        self.assertEqual(flattened({"a": {"b": {"c": 1}, "d": [2]}, "e": None}), {"a_b_c": 1, "a_d": [2], "e": None})


class Reports(unittest.TestCase):
    def report(self):
        _, found, brokers = compared({"ringmq": [0.5, 0.6], "other": [40.0, 41.0], "third": ["it broke"]}, "--rounds", "2")
        return {
            "started": "today",
            "took_s": 60,
            "mode": "quick",
            "interrupted": False,
            "command": "scripts/compare",
            "commit": "abc",
            "machine": {**machine.describe(), "load_at_end": 0.0, "stolen_percent": 0.0},
            "cpus": {"broker": 0, "generator": 1},
            "settings": {"rounds": 2, "seconds": 1.0},
            "brokers": {broker.name: broker.described(0) for broker in brokers},
            "rows": found,
            "own_settings": [{"setting": "runtime.some_setting", "about": "What it does.", "rows": found[:1]}],
        }

    def test_the_text_names_the_best_the_ratio_and_the_reason(self):
        text = markdown.render(self.report(), [("title", "cpu.svg")])
        self.assertIn("**0.55**", text)
        self.assertIn("0.01×", text)
        self.assertIn("- third: p2p-q2-w1: it broke", text)
        self.assertIn("0.55 (0.50–0.60)", text)

    def test_a_picture_is_well_formed_and_says_when_its_scale_is_logarithmic(self):
        report = self.report()
        picture = plot.bars("A < B", report["rows"], list(report["brokers"]), ["ringmq"])
        xml.etree.ElementTree.fromstring(picture)
        self.assertIn("logarithmic scale", picture)
        self.assertIn("it broke", picture)

    def test_scales_hold_every_value_they_are_made_for(self):
        for medians in ([1.0, 2.0], [0.01, 500.0], [0.0, 0.0], [0.0, 3.0], [1.0, 1000.0]):
            cells = [{"median": value, "low": value, "high": value} for value in medians]
            scale = plot._scale(cells)
            for value in medians:
                self.assertTrue(0.0 <= scale.place(value) <= 1.0, (medians, value))
            self.assertGreater(len(scale.ticks()), 1)

    def test_a_machine_has_a_name_that_is_a_directory(self):
        name = machine.name({"cpu": "Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", "cpus": 8})
        self.assertEqual(name, "intel-xeon-e5-2680-v4-8-cpus")


class OwnSettings(unittest.TestCase):
    def test_each_value_is_a_broker_of_its_own_that_is_started_with_it(self):
        ringmq = RingMq("ringmq", Path("/somewhere/ringmq"), "1.0")
        for experiment in own.EXPERIMENTS:
            variants = experiment.variants(ringmq)
            self.assertEqual(len({variant.name for variant in variants}), len(experiment.values))
            for variant, value in zip(variants, experiment.values):
                self.assertEqual(variant.command(1883, Path("."), 0)[-2:], ["--set", f"{experiment.setting}={value}"])
        self.assertNotIn("runtime.delivery_delay_us=0", ringmq.command(1883, Path("."), 0))

    def test_a_quick_run_has_them_only_where_they_are_named(self):
        self.assertEqual(own.chosen(parsed("--quick")), [])
        self.assertEqual(len(own.chosen(parsed())), len(own.EXPERIMENTS))
        (experiment, found), = own.chosen(parsed("--quick", "--only", "own-delay"))
        self.assertEqual((experiment.setting, len(found)), ("runtime.delivery_delay_us", 2))
        self.assertEqual(own.chosen(parsed("--only", "p2p")), [])

    def test_the_report_has_a_section_for_them(self):
        text = markdown.render(Reports().report(), [])
        self.assertIn("## RingMQ's own settings", text)
        self.assertIn("`runtime.some_setting`: What it does.", text)


class CommandLine(unittest.TestCase):
    def test_attached_brokers_have_a_name_an_address_and_perhaps_a_process(self):
        given = parsed("--broker", "mine=localhost:1884,42", "--emqx", "10.0.0.2:1883")
        self.assertEqual(given.attached, [Attached("emqx", "10.0.0.2", 1883), Attached("mine", "localhost", 1884, 42)])

    def test_wrong_arguments_end_with_usage(self):
        for wrong in (["--broker", "mine"], ["--rounds", "0"], ["--cpus", "1"], ["--ports", "9-3"], ["--flashmq", "/nowhere"], ["--flashmq", __file__]):
            with self.subTest(wrong), contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit) as end:
                parsed(*wrong)
            self.assertEqual(end.exception.code, 2)

    def test_a_program_that_this_machine_cannot_run_is_said_so(self):
        with tempfile.TemporaryDirectory() as directory:
            program = Path(directory) / "broker"
            program.write_bytes(b"\x7fELF of another kind of machine")
            program.chmod(0o755)
            with self.assertRaisesRegex(CompareError, "broker cannot be run: "):
                version_of([program, "--version"], r"(\d+)")

    def test_the_names_of_rows_are_their_own(self):
        names = [row.name for row in (*rows.ROWS, *(row for experiment in own.EXPERIMENTS for row in experiment.rows))]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual([row.name for row in rows.chosen(["fanin"])], ["fanin-q0-w8", "fanin-q1-w8"])


class Crosscheck(unittest.TestCase):
    WORK = crosscheck.Work(publishers=10, subscribers=2, rate=100, seconds=5, qos=1)

    def differences(self, **changed):
        agreeing = {"published": 5000, "received": 10_000, "received_per_second": 1990.0, "counted": 5000}
        return crosscheck.differing(self.WORK, {"it": crosscheck.Seen(**{**agreeing, **changed})}, 3.0)

    def test_counts_must_agree_exactly_and_rates_nearly(self):
        self.assertEqual(self.differences(), [])
        for changed in ({"counted": 4999}, {"counted": 5001}, {"received": 9999}, {"received_per_second": 1930.0}):
            self.assertEqual(len(self.differences(**changed)), 1, changed)

    def test_what_the_other_generator_says_is_read(self):
        said = (
            "Aggregate PubStats: PubStats {\n    outgoing_publish: 2500,\n    throughput: 125250.625,\n    reconnects: 0,\n}\n"
            "Aggregate SubStats: SubStats {\n    publish_count: 5000,\n    puback_count: 5000,\n    throughput: 217391.3,\n}\n"
        )
        self.assertEqual(crosscheck.mqttwrk_report(said), (2500, 5000, 217391.3))
        with self.assertRaises(RunFailed):
            crosscheck.mqttwrk_report("it panicked")


class Children(unittest.TestCase):
    def test_none_outlives_the_end_and_its_process_is_the_program(self):
        processes = Processes()
        cpu = min(os.sched_getaffinity(0))
        with tempfile.TemporaryDirectory() as directory:
            child = processes.start(["sleep", "100"], Path(directory) / "log", cpu)
            self.assertEqual(os.getpgid(child.pid), child.pid)
            processes.stop_all()
            self.assertIsNotNone(child.returncode)

    def test_a_command_that_takes_too_long_is_ended(self):
        code, _, _ = Processes().run(["sleep", "100"], 0.1)
        self.assertIsNone(code)

    def test_a_free_port_is_of_the_range(self):
        self.assertIn(free_port(range(24000, 25000)), range(24000, 25000))


if __name__ == "__main__":
    unittest.main()
