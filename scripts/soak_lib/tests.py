"""What holds of ledger, verdict and packets."""

import unittest

from . import packets, plot, verdict
from .ledger import Ledger


class LedgerTests(unittest.TestCase):
    def setUp(self):
        self.ledger = Ledger()
        self.ledger.subscribed("one", "stream")

    def test_what_arrives_before_and_after_its_acknowledgement_is_owed_no_more(self):
        self.ledger.is_acknowledged("stream", 0)
        self.assertEqual(self.ledger.owed(), 1)
        self.ledger.delivers("one", "stream", 0, 1)
        self.ledger.delivers("one", "stream", 1, 1)
        self.ledger.is_acknowledged("stream", 1)
        self.ledger.gives_up()
        self.assertEqual((self.ledger.owed(), self.ledger.violations), (0, []))

    def test_a_loss_a_repetition_at_qos_2_and_another_order_are_found(self):
        self.ledger.is_acknowledged("stream", 0)
        self.ledger.gives_up()
        for number, qos in ((2, 1), (2, 1), (1, 2), (1, 2)):
            self.ledger.delivers("one", "stream", number, qos)
        self.assertEqual(len(self.ledger.violations), 3)

    def test_what_is_retained_is_the_last_value_that_was_acknowledged(self):
        for topic, payload in (("a", b"1"), ("a", b"2"), ("b", b"1"), ("b", b"")):
            self.ledger.retains(topic, payload)
            self.ledger.has_retained(topic, payload)
        self.ledger.looks({"a": b"2"})
        self.assertEqual(self.ledger.violations, [])
        self.ledger.looks({"a": b"1", "b": b"1"})
        self.assertEqual(len(self.ledger.violations), 2)


class VerdictTests(unittest.TestCase):
    def samples(self, grows_by):
        level = 100 * verdict.MIB
        return [
            {"second": second, "resident_bytes": level + grows_by * second / 600, "disk_bytes": level, "descriptors": 50,
             "sessions": 10, "retained": None, "owed": 0, "p99_ms": 1.0, "cpu_percent": 2.0}
            for second in range(0, 601, 5)
        ]

    def test_only_what_rises_in_the_second_half_is_not_flat(self):
        flat = {found["name"]: found["is_flat"] for found in verdict.of(self.samples(0), 600)}
        self.assertEqual(flat, {"resident_bytes": True, "disk_bytes": True, "descriptors": True, "sessions": True,
                                "retained": False})
        memory = verdict.of(self.samples(40 * verdict.MIB), 600)[0]
        self.assertAlmostEqual(memory["rise"], 20 * verdict.MIB, delta=verdict.MIB / 100)
        self.assertFalse(memory["is_flat"])

    def test_a_picture_has_a_line_for_each_level(self):
        samples = self.samples(0)
        picture = plot.draw("title", "subtitle", samples, [60], verdict.of(samples, 600))
        self.assertEqual(picture.count('<polyline'), len(plot.PANELS) + 4)


class PacketTests(unittest.TestCase):
    def test_packets_are_taken_when_they_are_whole(self):
        sent = packets.publish("a/b", b"x" * 200, 1, 7, retain=True) + packets.acknowledgement(packets.PUBREL, 9)
        buffer, taken = bytearray(), []
        for byte in sent:
            buffer.append(byte)
            taken += packets.take(buffer)
        (first, body), (kind, released) = taken
        self.assertEqual(packets.read_publish(first, body), ("a/b", b"x" * 200, 1, True, 7))
        self.assertEqual((kind >> 4, packets.read_acknowledgement(released)), (packets.PUBREL, (9, 0)))
        self.assertEqual(buffer, b"")

    def test_a_length_of_five_bytes_is_refused(self):
        with self.assertRaises(packets.Malformed):
            packets.take(bytearray(b"\x30\xff\xff\xff\xff\x01"))


if __name__ == "__main__":
    unittest.main()
