"""Damage done to a file of a restic repository, and undone: a bit turned, the file cut, emptied, removed. And which bits
no restore ever looks at."""
import base64
import binascii
import contextlib
import json
import os
import random


class Flip:
    """One bit of one byte, turned while it is held."""

    def __init__(self, path, offset, bit):
        self.path, self.offset, self.bit = path, offset, bit
        with open(path, 'rb') as file:
            self.before = file.read()
        turned = bytearray(self.before)
        turned[offset] ^= 1 << bit
        self.after = bytes(turned)

    @staticmethod
    def drawn(path):
        return Flip(path, random.randrange(os.path.getsize(path)), random.randrange(8))

    def __enter__(self):
        _put(self.path, self.after)
        return self

    def __exit__(self, *_):
        _put(self.path, self.before)

    def __str__(self):
        return f'bit {self.bit} of byte {self.offset} of {len(self.before)} of {self.path}'


def _put(path, data):
    """In place: the file keeps its number, mode and owner. restic makes its files read-only."""
    mode = os.stat(path).st_mode
    os.chmod(path, mode | 0o200)
    with open(path, 'r+b') as file:
        file.write(data)
        file.truncate()
    os.chmod(path, mode)


@contextlib.contextmanager
def _as(path, data):
    with open(path, 'rb') as file:
        before = file.read()
    _put(path, data(before))
    try:
        yield
    finally:
        _put(path, before)


def cut(path):
    return _as(path, lambda data: data[:random.randrange(1, len(data))])


def emptied(path):
    return _as(path, lambda data: b'')


@contextlib.contextmanager
def gone(path):
    os.rename(path, path + '.away')
    try:
        yield
    finally:
        os.rename(path + '.away', path)


DAMAGES = (cut, emptied, gone)


def is_harmless(kind, flip):
    """Why no restore can notice the bit, or None if it must be found.

    Of a pack that is its own list of contents, at its end: the index says the same, and is what is read. Of a key those
    of its file that are not of the key: who made it, where and when. The file is no secret, is not sealed, and restic
    does not compare it with its name."""
    if kind == 'data' and flip.offset >= len(flip.before) - 4 - int.from_bytes(flip.before[-4:], 'little'):
        return "a pack's own list of contents"
    if kind == 'keys' and key_facts(flip.after) == key_facts(flip.before):
        return 'what a key file says beside the key'
    return None


def key_facts(data):
    """What restic makes a key of: names in any case, as Go reads JSON, and the last of those that are said twice."""
    try:
        pairs = json.loads(data.decode('utf-8', 'replace'), object_pairs_hook=list)
        facts = {name.lower(): value for name, value in pairs}
        secrets = [base64.b64decode(facts[name], validate=True) for name in ('salt', 'data')]
        return [facts['kdf'], facts['n'], facts['r'], facts['p'], *secrets]
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
