#!/usr/bin/env python3
"""Holds muster's cron against Python's zoneinfo: every zone, some years, a hundred expressions.

    cron_oracle.py --driver PATH [--sample] [--from YEAR] [--years N] [--zones REGEXP]

What is to come is worked out here from docs/reference/schedules.md alone, and in another way: each date of the
window is asked whether it matches, each matching time of a date whether a clock of the zone reads it (by zoneinfo,
with both folds), and when clocks change is found by looking at every hour. Prints what was compared; exits 1 at the
first difference. --sample: zones with odd clocks, the year in which Samoa skipped a day, in some seconds.
"""
import argparse
import calendar
import datetime as dt
import os
import re
import struct
import subprocess
import sys
import time
import zoneinfo

UTC = dt.timezone.utc
DAY = 86400
SAMPLE = ('Europe/Berlin America/Havana Asia/Beirut Africa/Casablanca Australia/Lord_Howe Antarctica/Troll '
          'America/Godthab Pacific/Apia Asia/Kathmandu UTC').split()
MACROS = {'@yearly': '0 0 1 1 *', '@annually': '0 0 1 1 *', '@monthly': '0 0 1 * *', '@weekly': '0 0 * * 0',
          '@daily': '0 0 * * *', '@midnight': '0 0 * * *', '@hourly': '0 * * * *'}
MONTHS = [name.upper() for name in calendar.month_abbr]
WEEKDAYS = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT']


# --- The expression: is this number, is this date in it?

def number(text, names):
    return names.index(text) if text in names else int(text)


def in_item(value, item, low, high, names=()):
    base, _, step = item.partition('/')
    if base == '*':
        first, last = low, high
    elif '-' in base:
        first, last = (number(end, names) for end in base.split('-'))
        if names is WEEKDAYS and last == 0:
            last = 7
    else:
        first = last = number(base, names)
    steps = range(first, last + 1, int(step or 1))
    return value in steps or (names is WEEKDAYS and value == 0 and 7 in steps)


def in_field(value, field, low, high, names=()):
    return any(in_item(value, item, low, high, names) for item in field.split(','))


def weekday(date):
    return date.isoweekday() % 7


def days_of_month(date):
    return calendar.monthrange(date.year, date.month)[1]


def nearest_workday(date):
    """The date itself, or the closest of its month that is neither Saturday nor Sunday."""
    near = [date + dt.timedelta(days) for days in (0, -1, 1, -2, 2)]
    return next(d for d in near if d.month == date.month and weekday(d) not in (0, 6))


def in_day_item(date, item):
    length = days_of_month(date)
    if item in ('L', 'LW') or item.startswith('L-'):
        target = length - (int(item[2:]) if item.startswith('L-') else 0)
        if target < 1:
            return False
        wanted = date.replace(day=target)
        return date == (nearest_workday(wanted) if item == 'LW' else wanted)
    if item.endswith('W'):
        day = int(item[:-1])
        return day <= length and date == nearest_workday(date.replace(day=day))
    return in_item(date.day, item, 1, 31)


def in_weekday_item(date, item):
    if '#' in item:
        name, nth = item.split('#')
        return weekday(date) == number(name, WEEKDAYS) % 7 and (date.day - 1) // 7 + 1 == int(nth)
    if len(item) > 1 and item.endswith('L'):
        is_last = date.day + 7 > days_of_month(date)
        return is_last and weekday(date) == number(item[:-1], WEEKDAYS) % 7
    return in_item(weekday(date), item, 0, 6, WEEKDAYS)


class Expression:
    def __init__(self, text):
        self.text = text
        fields = MACROS.get(text, text).upper().replace('?', '*').split()
        second = fields.pop(0) if len(fields) == 6 else '0'
        minute, hour, self.day, self.month, self.weekday = fields
        hours = [h for h in range(24) if in_field(h, hour, 0, 23)]
        self.every_hour = len(hours) == 24
        self.times = [h * 3600 + m * 60 + s for h in hours
                      for m in range(60) if in_field(m, minute, 0, 59)
                      for s in range(60) if in_field(s, second, 0, 59)]
        self.tail = struct.pack(f'={len(self.times) - 1}i', *(b - a for a, b in zip(self.times, self.times[1:])))
        self.span = self.times[-1] - self.times[0]
        self.dates = {}

    def matches(self, date):
        if date not in self.dates:
            self.dates[date] = in_field(date.month, self.month, 1, 12, MONTHS) and self._day_matches(date)
        return self.dates[date]

    def _day_matches(self, date):
        by_day = any(in_day_item(date, item) for item in self.day.split(','))
        by_weekday = any(in_weekday_item(date, item) for item in self.weekday.split(','))
        either = not self.day.startswith('*') and not self.weekday.startswith('*')
        return by_day or by_weekday if either else by_day and by_weekday


# --- The zone: when do its clocks change, what do they read?

def offset(zone, at):
    return round(dt.datetime.fromtimestamp(at, zone).utcoffset().total_seconds())


def changes(zone, begin, end):
    """(instant, offset before, offset after), found by looking at each hour and halving those that differ."""
    found = []
    before = offset(zone, begin)
    for hour in range(begin, end, 3600):
        after = offset(zone, hour + 3600)
        if after != before:
            low, high = hour, hour + 3600  # before at low, after at high
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(zone, middle) == before else (low, middle)
            found.append((high, before, after))
        before = after
    return found


def local_date(second):
    return dt.date(1970, 1, 1) + dt.timedelta(second // DAY)


def odd_dates(found):
    """Dates some of whose times clocks skip or read twice."""
    odd = set()
    for at, before, after in found:
        first, last = local_date(at + min(before, after)), local_date(at + max(before, after))
        odd.update(first + dt.timedelta(days) for days in range((last - first).days + 1))
    return odd


def instants(expression, zone, date, found):
    """Of a date near a change: each matching time, asked of zoneinfo with both folds."""
    out = set()
    for seconds in expression.times:
        naive = dt.datetime.combine(date, dt.time()) + dt.timedelta(seconds=seconds)
        read = []
        for fold in (0, 1):
            at = round(naive.replace(tzinfo=zone, fold=fold).timestamp())
            if dt.datetime.fromtimestamp(at, zone).replace(tzinfo=None) == naive:
                read.append(at)
        if expression.every_hour:
            out.update(read)
        elif read:
            out.add(min(read))
        else:
            wall = calendar.timegm(naive.timetuple())
            out.update(at for at, before, after in found if at + before <= wall < at + after)
    return out


class Zone:
    def __init__(self, name, first, days):
        self.name, self.zone, self.days = name, zoneinfo.ZoneInfo(name), days
        rough = calendar.timegm(first.timetuple())
        self.found = changes(self.zone, rough - 3 * DAY, rough + (days + 3) * DAY)
        odd = odd_dates(self.found)
        while first in odd or first + dt.timedelta(days) in odd:
            first += dt.timedelta(1)
        self.first, self.odd = first, odd
        self.begin, self.end = self.midnight(first), self.midnight(first + dt.timedelta(days))

    def midnight(self, date):
        return round(dt.datetime(date.year, date.month, date.day, tzinfo=self.zone).timestamp())

    def expected(self, expression):
        """The occurrences as the driver writes them: seconds from one to the next, int32."""
        out, last, odd = [], self.begin, set()
        head, offsets = struct.Struct('=i').pack, self.offsets()
        for number_of_day in range(self.days):
            date, shift = offsets[number_of_day]
            if date in self.odd:
                if expression.matches(date):
                    odd |= instants(expression, self.zone, date, self.found)
                continue
            if odd:
                for at in sorted(odd):
                    out.append(head(at - last))
                    last = at
                odd = set()
            if expression.matches(date):
                start = calendar_second(date) - shift + expression.times[0]
                out.append(head(start - last))
                out.append(expression.tail)
                last = start + expression.span
        return b''.join(out)

    def offsets(self):
        """Each date of the window, and the offset that holds on it where clocks do not change."""
        if not hasattr(self, '_offsets'):
            dates = [self.first + dt.timedelta(i) for i in range(self.days)]
            self._offsets = [(date, calendar_second(date) - self.midnight(date)) for date in dates]
        return self._offsets


def calendar_second(date):
    return (date.toordinal() - 719163) * DAY


# --- The comparison

class Driver:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, zone, text):
        self.process.stdin.write(f'{zone.name}\t{zone.begin}\t{zone.end}\t{text}\n'.encode())
        self.process.stdin.flush()
        count, = struct.unpack('=q', self.process.stdout.read(8) or b'\xff' * 8)
        if count < 0:
            sys.exit(f'{zone.name}: the driver refuses {text!r}, or has ended')
        return self.process.stdout.read(4 * count)

    def close(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            sys.exit('the driver failed')


def explain(zone, expression, expected, answered):
    def times(distances):
        at, out = zone.begin, []
        for distance, in struct.iter_unpack('=i', distances):
            at += distance
            out.append(at)
        return out
    want, got = times(expected), times(answered)
    for index, (a, b) in enumerate(zip(want + [None], got + [None])):
        if a != b:
            show = [at and dt.datetime.fromtimestamp(at, zone.zone).isoformat() for at in (a, b)]
            return f'{expression.text!r} in {zone.name}, occurrence {index}: expected {show[0]}, muster says {show[1]}'
    return f'{expression.text!r} in {zone.name}: {len(want)} expected, {len(got)} said'


def file_of(name):
    for folder in zoneinfo.TZPATH:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, 'rb') as file:
                return file.read()
    return name.encode()


def compare(driver, zones, expressions):
    """Zones whose clocks read the same all the time; the driver is asked for each."""
    count = 0
    for expression in expressions:
        expected = zones[0].expected(expression)
        for zone in zones:
            answered = driver.ask(zone, expression.text)
            if expected != answered:
                sys.exit(explain(zone, expression, expected, answered))
        count += len(zones) * len(expected) // 4
    return count


def read_expressions():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'cron_expressions.txt')
    with open(path, encoding='utf-8') as file:
        return [Expression(line.rstrip('\n')) for line in file if line.strip()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--driver', required=True)
    parser.add_argument('--sample', action='store_true')
    parser.add_argument('--from', type=int, default=2016, dest='first')
    parser.add_argument('--years', type=int, default=10)
    parser.add_argument('--zones', default='.')
    options = parser.parse_args()
    names = sorted(n for n in zoneinfo.available_timezones() - {'Factory', 'localtime'} if re.search(options.zones, n))
    if options.sample:
        names, options.first, options.years = SAMPLE, 2011, 1
    expressions, driver = read_expressions(), Driver(options.driver)
    started, occurrences, done = time.monotonic(), 0, 0
    days = (dt.date(options.first + options.years, 1, 8) - dt.date(options.first, 1, 8)).days
    groups, aliases, seen = {}, {}, {}
    for name in names:
        zone = Zone(name, dt.date(options.first, 1, 8), days)
        alike = aliases if file_of(name) in seen else groups
        seen.setdefault(file_of(name), zone)
        alike.setdefault((zone.begin, zone.end, tuple(zone.found)), []).append(zone)
    for zones in groups.values():
        occurrences += compare(driver, zones, expressions)
        done += len(zones)
        if not options.sample:
            print(f'  {done} zones, {occurrences:,} occurrences, {time.monotonic() - started:.0f} s', flush=True)
    # A name whose file is that of a name before is asked for one expression: it must be that zone.
    for zones in aliases.values():
        occurrences += compare(driver, zones, [Expression('30 2 * * *')])
    driver.close()
    clocks = sum(len(zone.found) for zone in seen.values())
    print(f'{len(names)} names of {len(seen)} zones, {len(groups)} of them unlike in these years, x {len(expressions)} '
          f'expressions x {days} days from {options.first}-01-08, {clocks} changes of clocks: {occurrences:,} '
          f'occurrences, all the same, in {time.monotonic() - started:.0f} s')


if __name__ == '__main__':
    main()
