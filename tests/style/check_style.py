#!/usr/bin/env python3
"""Checks what no compiler does: layers, purity, threads, clocks, unfinished work.

    check_style.py ROOT [layers|purity|threads|clocks|unfinished|headers]...

Prints one line a finding, PATH:LINE: what and the remedy; exits 1 if there is any.
"""
import os
import re
import subprocess
import sys

TEST_FILE = re.compile(r'(_test\.cc|_fuzz\.cc|_tool\.cc|_fixture\.h|/test_[a-z_]+\.(h|cc))$|^tests/|^lib/testing/')
INCLUDE = re.compile(r'^\s*#include\s+(["<])([^">]+)[">]')
IMPURE = re.compile(r'<(pqxx|sqlite3|hiredis|grpc|curl|thread|mutex|fstream|sys/|unistd|ares|libpq|spdlog)|'
                    r'absl/synchronization|lib/(exec|net|sql)/')
CLOCK = re.compile(r'absl::Now\(|absl::SleepFor|system_clock::now|steady_clock::now|clock_gettime|\btime\(nullptr\)|\btime\(NULL\)')
THREAD = re.compile(r'\bstd::(jthread|thread\b(?!::id))|\bstd::async|pthread_create\(')
# gRPC's own status of that name is no confession.
UNFINISHED = re.compile(r'\b(TODO|FIXME|XXX|HACK)\b|not (yet )?implemented|(?<!StatusCode::)UNIMPLEMENTED|DISABLED_')


def sources(root):
    listed = subprocess.run(['git', '-C', root, 'ls-files', '--cached', '--others', '--exclude-standard'],
                            capture_output=True, text=True, check=False)
    paths = listed.stdout.split('\n') if listed.returncode == 0 else []
    if not paths or paths == ['']:
        paths = [os.path.relpath(os.path.join(folder, name), root)
                 for folder, _, names in os.walk(root) for name in names]
    for path in sorted(paths):
        if path.endswith(('.h', '.cc')) and re.match(r'(lib|control-plane|agent|ctl|tests|proto)/', path):
            if os.path.exists(os.path.join(root, path)):
                yield path


def lines(root, path):
    with open(os.path.join(root, path), encoding='utf-8') as file:
        return list(enumerate(file, 1))


def read_layers(root):
    allowed, pure = {}, []
    with open(os.path.join(root, 'docs/layers.txt'), encoding='utf-8') as file:
        for line in file:
            line = line.split('#')[0].strip()
            if not line:
                continue
            folder, _, rest = line.partition(':')
            if folder == 'pure':
                pure = rest.split()
            else:
                allowed[folder] = rest.split()
    return allowed, pure


def folder_of(path, allowed):
    folder = os.path.dirname(path)
    while folder and folder not in allowed:
        folder = os.path.dirname(folder)
    return folder


def within(folder, allowed_folder):
    return folder == allowed_folder or folder.startswith(allowed_folder + '/')


def check_layers(root):
    allowed, _ = read_layers(root)
    for path in sources(root):
        if path.startswith(('tests/', 'proto/')):
            continue
        home = folder_of(path, allowed)
        if not home:
            yield f'{path}:1: its folder is not in docs/layers.txt: add it'
            continue
        for number, line in lines(root, path):
            match = INCLUDE.match(line)
            if not match or match.group(1) != '"':
                continue
            target = match.group(2)
            if not re.match(r'(lib|control-plane|agent|ctl|tests)/', target):
                continue
            there = folder_of(target, allowed) or os.path.dirname(target)
            if there == home or any(within(there, one) for one in allowed[home]):
                continue
            program = home.split('/')[0]
            if TEST_FILE.search(path) and (there.startswith(('lib/', program))):
                continue
            yield f'{path}:{number}: {home} must not include {target}: docs/layers.txt does not allow it'


def check_purity(root):
    _, pure = read_layers(root)
    for path in sources(root):
        if TEST_FILE.search(path) or not any(within(os.path.dirname(path), one) for one in pure):
            continue
        for number, line in lines(root, path):
            if INCLUDE.match(line) and IMPURE.search(line):
                yield f'{path}:{number}: a pure folder includes what acts: {line.strip()}'
            if CLOCK.search(line):
                yield f'{path}:{number}: a pure folder reads the clock: take the time as an argument'


def check_threads(root):
    for path in sources(root):
        if path.startswith(('lib/exec/', 'tests/')) or TEST_FILE.search(path):
            continue
        for number, line in lines(root, path):
            if THREAD.search(line) and not line.strip().startswith('//'):
                yield f'{path}:{number}: threads start in lib/exec and nowhere else'


def check_clocks(root):
    for path in sources(root):
        if path.startswith(('lib/base/clock', 'tests/', 'lib/testing/')):
            continue
        for number, line in lines(root, path):
            if CLOCK.search(line) and not line.strip().startswith('//'):
                yield f'{path}:{number}: the time is read through lib/base/clock.h alone'


def check_unfinished(root):
    for path in sources(root):
        for number, line in lines(root, path):
            if UNFINISHED.search(line):
                yield f'{path}:{number}: finish it, or say in docs/ what does not hold'


def check_headers(root):
    for path in sources(root):
        if not path.endswith('.h'):
            continue
        text = lines(root, path)
        if not any(line.startswith('#pragma once') for _, line in text):
            yield f'{path}:1: no #pragma once'
        if not text or not text[0][1].startswith('//'):
            yield f'{path}:1: a header begins with what it is for'


CHECKS = {'layers': check_layers, 'purity': check_purity, 'threads': check_threads,
          'clocks': check_clocks, 'unfinished': check_unfinished, 'headers': check_headers}


def main():
    root, names = sys.argv[1], sys.argv[2:] or list(CHECKS)
    found = [finding for name in names for finding in CHECKS[name](root)]
    print('\n'.join(found), end='\n' if found else '')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
