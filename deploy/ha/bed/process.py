"""Processes in the background, known by pid and start time: a pid that was given out again is never touched."""
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass

from bed.settings import write_private


@dataclass(frozen=True)
class Identity:
    """One process and no other: a pid, when it started (ticks since boot), and in which boot."""
    pid: int
    started: int
    boot: str


def boot_id():
    with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as file:
        return file.read().strip()


def stat(pid):
    """(state letter, parent, start time) of a process; None if there is none."""
    try:
        with open(f'/proc/{pid}/stat', encoding='utf-8', errors='replace') as file:
            fields = file.read().rsplit(')', 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[1]), int(fields[19])


def identify(pid):
    seen = stat(pid)
    return Identity(pid, seen[2], boot_id()) if seen and seen[0] != 'Z' else None


def state(identity):
    """'running', 'paused' or 'gone'."""
    seen = stat(identity.pid) if identity and identity.boot == boot_id() else None
    if seen is None or seen[2] != identity.started or seen[0] in 'ZX':
        return 'gone'
    return 'paused' if seen[0] in 'Tt' else 'running'


def send(identity, number):
    """Signals exactly this process; whether it was there."""
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        # The handle holds on to one process; who that is has to be asked after it was taken.
        if state(identity) == 'gone':
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


def descendants(identity):
    """The processes below one, parents first."""
    children = {}
    for name in os.listdir('/proc'):
        seen = stat(int(name)) if name.isdigit() else None
        if seen:
            children.setdefault(seen[1], []).append(int(name))
    found, open_pids = [], list(children.get(identity.pid, []))
    while open_pids:
        pid = open_pids.pop(0)
        found.append(identify(pid))
        open_pids += children.get(pid, [])
    return [one for one in found if one]


def await_end(identities, within):
    """Those that are still there after so many seconds."""
    deadline = time.monotonic() + within
    left = list(identities)
    while True:
        left = [one for one in left if state(one) != 'gone']
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


class Launched:
    """A program that was started in the background, by this call of `ha` or an earlier one."""

    def __init__(self, record, log):
        self.record, self.log = record, log
        self.child = None

    def identity(self):
        try:
            with open(self.record, encoding='utf-8') as file:
                return Identity(**json.load(file))
        except (OSError, ValueError, TypeError):
            return None

    def state(self):
        if self.child is not None:
            self.child.poll()
        return state(self.identity())

    def start(self, argv, cwd, env=None, user=None):
        as_user = {'user': user.pw_uid, 'group': user.pw_gid, 'extra_groups': []} if user else {}
        with open(self.log, 'ab') as log:
            self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd,
                                          env={**os.environ, **(env or {})}, start_new_session=True, **as_user)
        seen = stat(self.child.pid)
        identity = Identity(self.child.pid, seen[2], boot_id())
        write_private(self.record, json.dumps(identity.__dict__) + '\n')

    def forget(self):
        if os.path.exists(self.record):
            os.unlink(self.record)
