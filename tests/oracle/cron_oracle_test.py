#!/usr/bin/env python3
"""The oracle itself, held against dates and clock changes that are on record, so that it is not wrong with muster."""
import datetime as dt
import unittest
import zoneinfo

import cron_oracle as oracle


def readings(name, text, first, days):
    zone = oracle.Zone(name, first, days)
    at, out = zone.begin, []
    distances = zone.expected(oracle.Expression(text))
    for distance, in oracle.struct.iter_unpack('=i', distances):
        at += distance
        out.append(dt.datetime.fromtimestamp(at, zone.zone).isoformat(' '))
    return out


class Oracle(unittest.TestCase):
    def test_finds_the_changes_that_are_on_record(self):
        berlin = oracle.changes(zoneinfo.ZoneInfo('Europe/Berlin'), 1767225600, 1798761600)
        self.assertEqual(berlin, [(1774746000, 3600, 7200), (1792890000, 7200, 3600)])

    def test_a_time_in_a_gap_comes_right_after_it(self):
        self.assertEqual(readings('Europe/Berlin', '30 2 * * *', dt.date(2026, 3, 28), 3),
                         ['2026-03-28 02:30:00+01:00', '2026-03-29 03:00:00+02:00', '2026-03-30 02:30:00+02:00'])

    def test_a_time_that_is_read_twice_comes_at_the_first(self):
        self.assertEqual(readings('Europe/Berlin', '30 2 * * *', dt.date(2026, 10, 24), 3)[1],
                         '2026-10-25 02:30:00+02:00')

    def test_every_hour_is_25_times_on_a_long_day(self):
        self.assertEqual(len(readings('Europe/Berlin', '30 * * * *', dt.date(2026, 10, 24), 3)), 24 + 25 + 24)

    def test_days_are_those_of_the_calendar(self):
        def days(text, year=2026):
            return [r[:10] for r in readings('UTC', text, dt.date(year, 1, 1), 60)]
        self.assertEqual(days('0 0 LW * *'), ['2026-01-30', '2026-02-27'])
        self.assertEqual(days('0 0 * * FRI#2'), ['2026-01-09', '2026-02-13'])
        self.assertEqual(days('0 0 1W * *'), ['2026-01-01', '2026-02-02'])
        self.assertEqual(days('0 0 L-30 * MON#1'), ['2026-01-01', '2026-01-05', '2026-02-02', '2026-03-01'])

    def test_tells_a_difference(self):
        zone = oracle.Zone('Europe/Berlin', dt.date(2026, 3, 28), 3)
        expression = oracle.Expression('30 2 * * *')
        right = zone.expected(expression)
        wrong = right[:4] + oracle.struct.pack('=i', 90000) + right[8:]
        self.assertIn("occurrence 1: expected 2026-03-29T03:00:00+02:00", oracle.explain(zone, expression, right, wrong))


if __name__ == '__main__':
    unittest.main()
