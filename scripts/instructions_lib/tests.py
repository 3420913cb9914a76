"""What holds of the comparison: cd scripts && python3 -m unittest instructions_lib.tests"""

import unittest

from . import stated
from .main import FILE

TOOLS = {"rustc": "1.95.0", "valgrind": "3.19.0"}


class Stated(unittest.TestCase):
    def test_what_is_written_is_read(self):
        counts = {"qos0-1-to-1": 3000, "match": 7}
        self.assertEqual(stated.read(stated.written(TOOLS, counts)), (TOOLS, counts))

    def test_what_nobody_wrote_is_refused_with_its_line(self):
        for text, line in [("qos0 = 1\n", 1), ("[tools]\nrustc = 1\n", 2), ("[instructions]\n\nqos0 = many\n", 3)]:
            with self.assertRaisesRegex(stated.Malformed, f"^line {line}: "):
                stated.read(text)

    def test_the_file_of_the_repository_can_be_read(self):
        tools, counts = stated.read(FILE.read_text())
        self.assertIn("rustc", tools)
        self.assertIn("qos0-1-to-1", counts)

    def test_more_than_five_percent_up_or_down_is_told(self):
        before = {"a": 1000, "b": 1000, "c": 1000, "d": 1000}
        lines, rose, fell, unmatched = stated.compared(before, {"a": 1050, "b": 1051, "c": 950, "d": 949}, True)
        self.assertEqual((rose, fell, unmatched), (["b"], ["d"], []))
        self.assertRegex(lines[2], r"^b +1000 +1051 +\+5\.1%  ROSE$")
        self.assertRegex(lines[4], r"^d +1000 +949 +-5\.1%  fell: restate it$")

    def test_a_case_on_one_side_alone_is_told_when_all_were_counted(self):
        self.assertEqual(stated.compared({"a": 1, "b": 1}, {"a": 1, "c": 1}, True)[3], ["c", "b"])
        self.assertEqual(stated.compared({"a": 1, "b": 1}, {"a": 1}, False)[3], [])

    def test_another_tool_is_told(self):
        self.assertEqual(stated.differing(TOOLS, TOOLS), [])
        (line,) = stated.differing(TOOLS, {**TOOLS, "rustc": "1.96.0"})
        self.assertEqual(line, "rustc is 1.96.0, the figures were stated with 1.95.0")


if __name__ == "__main__":
    unittest.main()
