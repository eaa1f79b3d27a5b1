#!/usr/bin/env python3
"""The examples of docs/reference/schedules.md, as muster answers them.

    schedules_page_test.py DRIVER

An example is a line `"EXPRESSION" in ZONE after TIME` and, below it, what comes, in order. The table of macros and that
of refusals are tried as well.
"""
import os
import re
import subprocess
import sys
import unittest

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../docs/reference/schedules.md')
DRIVER = sys.argv.pop() if len(sys.argv) > 1 else 'build/bin/cron_driver'


def ask(zone, after, count, expression):
    done = subprocess.run([DRIVER, zone, after, str(count), expression], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr


class Page(unittest.TestCase):
    def setUp(self):
        with open(PAGE, encoding='utf-8') as file:
            self.text = file.read()

    def test_examples_come_as_written(self):
        examples = re.findall(r'^"([^"]+)" in (\S+) after (\S+)\n((?:\d.*\n)+)', self.text, re.M)
        self.assertGreaterEqual(len(examples), 12)
        for expression, zone, after, lines in examples:
            wanted = lines.splitlines()
            with self.subTest(expression=expression, zone=zone):
                self.assertEqual(ask(zone, after, len(wanted), expression), (0, wanted, ''))

    def test_macros_are_what_they_stand_for(self):
        macros = re.findall(r'^\| `(@\w+)`(?:, `(@\w+)`)? \| `([^`]+)` \|', self.text, re.M)
        self.assertEqual(sum(2 if second else 1 for _, second, _ in macros), 7)
        for first, second, text in macros:
            for macro in filter(None, (first, second)):
                with self.subTest(macro=macro):
                    self.assertEqual(ask('Europe/Berlin', '2026-01-01T00:00:00Z', 40, macro),
                                     ask('Europe/Berlin', '2026-01-01T00:00:00Z', 40, text))

    def test_what_is_refused_is_refused(self):
        section = self.text.split('## What is refused')[1].split('\n## ')[0]
        refused = [text for row in re.findall(r'^\| (`.*?) \| ', section, re.M) for text in re.findall(r'`([^`]+)`', row)]
        self.assertGreaterEqual(len(refused), 8)
        for text in refused:
            with self.subTest(text=text):
                code, lines, error = ask('UTC', '2026-01-01T00:00:00Z', 1, text)
                self.assertEqual((code, lines), (1, []))
                self.assertIn('INVALID_ARGUMENT: cron', error)


if __name__ == '__main__':
    unittest.main()
