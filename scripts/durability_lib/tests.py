"""What holds of frames, figures and the command line."""

import contextlib
import io
import socket
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from compare_lib.errors import RunFailed

from . import client, disk, main, report


class FrameTests(unittest.TestCase):
    def test_topics_and_identifiers_go_round(self):
        frames = client.Frames(["a", "b"], 1)
        self.assertEqual(frames.take(2), b"\x32\x06\0\x01a\0\x01x" + b"\x32\x06\0\x01b\0\x02x")
        frames.take(65533)
        # 65536 messages later the identifier is the first again, and never 0.
        self.assertEqual(frames.take(1), b"\x32\x06\0\x01b\0\x01x")

    def test_a_length_above_127_takes_two_bytes(self):
        self.assertEqual(client.packet(0x32, bytes(200))[:3], b"\x32\xc8\x01")

    def test_a_subscriber_counts_messages_and_acknowledges_each_however_they_are_cut(self):
        here, there = socket.socketpair()
        with here, there, mock.patch.object(client, "open_connection", return_value=here):
            subscriber = client.Subscriber(0, "c", "t", 4, is_new=False)
            whole = client.Frames(["t"], 4).take(3)
            there.sendall(whole[:17])
            subscriber.receive()
            self.assertEqual(subscriber.received, 1)
            there.sendall(whole[17:])
            subscriber.receive()
            self.assertEqual(subscriber.received, 3)
            self.assertEqual(client.read(there, 12), b"\x40\2\0\1\x40\2\0\2\x40\2\0\3")

    def test_a_message_that_is_missing_fails_the_row(self):
        here, there = socket.socketpair()
        with here, there, mock.patch.object(client, "open_connection", return_value=here):
            here.settimeout(0.05)
            there.sendall(client.Frames(["t"], 4).take(2))
            with self.assertRaisesRegex(RunFailed, "1 of 3"):
                client.drained(0, "c", "t", 4, 3)

    def test_a_publisher_takes_nothing_but_puback(self):
        here, there = socket.socketpair()
        with here, there, mock.patch.object(client, "open_connection", return_value=here):
            publisher = client.Publisher(0, "c", ["t"], 4, 2)
            publisher.send(0)
            self.assertEqual(publisher.frames.made, 2)
            there.sendall(b"\x40\2\0")
            publisher.receive()
            self.assertEqual(publisher.acknowledged, 0)
            there.sendall(b"\1\xe0\0\0\0")
            with self.assertRaises(RunFailed):
                publisher.receive()


class FigureTests(unittest.TestCase):
    def test_a_target_is_judged_by_the_median(self):
        found = report.Found("row", "Title")
        for value in (1.0, 9.0, 2.0):
            found.add("cost", "µs", value, at_most=2)
            found.add("share", "%", 10 * value, at_least=50)
            found.add("other", "s", value)
        cost, share, other = found.figures.values()
        self.assertEqual((cost.is_met, share.is_met, other.is_met), (True, False, None))
        self.assertEqual(cost.spread(), "2.00 (1.00–9.00)")


class DiskTests(unittest.TestCase):
    def test_holes_take_nothing(self):
        with tempfile.TemporaryDirectory() as directory:
            with open(Path(directory) / "file", "wb") as file:
                file.truncate(1 << 24)
            self.assertLess(disk.taken_bytes(directory), 1 << 20)
            self.assertNotEqual(disk.file_system(directory), "unknown")


class OptionTests(unittest.TestCase):
    def test_a_row_that_is_not_there_is_refused(self):
        with contextlib.redirect_stderr(io.StringIO()) as said, self.assertRaises(SystemExit):
            main.parse("", ["--rows", "offline,ofline"])
        self.assertIn("no row 'ofline'", said.getvalue())

    def test_the_report_tells_no_paths(self):
        with mock.patch.object(sys, "argv", ["x", "--broker", "/a/b", "--directory=/c", "--rounds", "2"]):
            self.assertEqual(main._command(), "scripts/durability --broker PATH --directory DIR --rounds 2")


if __name__ == "__main__":
    unittest.main()
