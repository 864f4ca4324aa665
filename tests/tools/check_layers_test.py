"""Tests of tools/check_layers.py: small trees, each with one thing wrong."""
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
sys.dont_write_bytecode = True
import check_layers  # noqa: E402

RULES = """
room base:
room low: base   # a comment
room high: low
header lib/*: molt/low/one.cc
if ALLOWED OK_*: molt/low/*
long molt/high/long.h 300
"""


class CheckLayers(unittest.TestCase):
    def errors(self, **files):
        """Errors of a tree; keys are paths below molt/ with '__' for '/', and '_h' or '_cc' at the end for the suffix."""
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            (root / "tools").mkdir()
            (root / "tools/layers.txt").write_text(RULES)
            for key, text in files.items():
                stem, _, suffix = key.rpartition("_")
                path = root / "molt" / (stem.replace("__", "/") + "." + suffix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return check_layers.check(root)

    def test_lower_rooms_may_be_included_through_any_number_of_steps(self):
        self.assertEqual(self.errors(base__a_h="// a\n", high__b_cc='#include "molt/base/a.h"\n#include <vector>\n'), [])

    def test_upper_rooms_may_not(self):
        found = self.errors(high__a_h="// a\n", base__b_cc='#include "molt/high/a.h"\n')
        self.assertEqual(found, ["molt/base/b.cc:1: base may not include molt/high/a.h"])

    def test_unknown_rooms_and_files(self):
        found = self.errors(new__a_h="// a\n", base__b_cc='#include "molt/base/gone.h"\n')
        self.assertEqual(found, ["molt/base/b.cc:1: no file molt/base/gone.h", "molt/new/a.h: no room is called 'new'"])

    def test_outside_headers_stay_in_their_place(self):
        self.assertEqual(self.errors(low__one_cc="#include <lib/x.h>\n"), [])
        self.assertEqual(self.errors(low__two_cc="#  include <lib/x.h>\n"),
                         ["molt/low/two.cc:1: <lib/x.h> may not be included here"])
        self.assertEqual(len(self.errors(low__one_cc="#include <other.h>\n")), 1)

    def test_conditions(self):
        self.assertEqual(self.errors(low__a_cc="#if defined(ALLOWED) && OK_3  // about FOO\n#endif\n"), [])
        for line in ("#ifdef __AVX2__", "#ifndef FOO", "#if 1 && __aarch64__", "#elif FOO"):
            self.assertEqual(len(self.errors(low__a_cc=line + "\n")), 1, line)
        self.assertEqual(len(self.errors(base__a_cc="#if ALLOWED\n")), 1)

    def test_headers_open_with_a_comment(self):
        self.assertEqual(len(self.errors(base__a_h="#pragma once\n// late\n")), 1)
        self.assertEqual(len(self.errors(base__a_h="//\n#pragma once\n")), 1)

    def test_long_files(self):
        self.assertEqual(self.errors(base__a_h="// a\n" * 250, base__b_cc="\n" * 500, high__long_h="// a\n" * 300), [])
        self.assertEqual(len(self.errors(base__a_h="// a\n" * 251, base__b_cc="\n" * 501, high__long_h="// a\n" * 301)), 3)

    def test_cycles(self):
        found = self.errors(base__a_h='// a\n#include "molt/base/b.h"\n', base__b_h='// b\n#include "molt/base/c.h"\n',
                            base__c_h='// c\n#include "molt/base/b.h"\n')
        self.assertEqual(found, ["cycle of includes: molt/base/b.h -> molt/base/c.h -> molt/base/b.h"])


if __name__ == "__main__":
    unittest.main()
