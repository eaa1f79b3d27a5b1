"""What `ha` does: one function a command, each returns the exit code."""
import json
import os
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from bed import table
from bed.agents import apply_checks
from bed.bed import Bed
from bed.errors import BedError, last_lines
from bed.postgres import Postgres, await_primary
from bed.settings import SPAN, Settings, load

WELL_WITHIN = 120.0
CHOICES = ('bin', 'port', 'etcd', 'agents', 'replication', 'redis', 'every')
FIXED = ('port', 'etcd', 'replication')  # what the files of the first `up` already say


def say(text):
    print(text, file=sys.stderr, flush=True)


def existing(args):
    settings = load(args.data)
    if settings is None:
        raise BedError(f'there is no bed in {args.data}', remedy='`ha up` makes one')
    return Bed(settings)


def chosen(args):
    """The settings of the bed, or of the one that is to be made; what the caller says changes them."""
    known = load(args.data)
    settings = known or Settings(data=args.data)
    at_least = known.agents if known else 0
    for name in CHOICES:
        value = getattr(args, name)
        if value is None:
            continue
        if known and name in FIXED and value != getattr(known, name):
            raise BedError(f'the bed in {args.data} was made with --{name} {getattr(known, name)}',
                           remedy='`down --delete-data` first, or make another one: `up --data DIR`')
        setattr(settings, name, value)
    if settings.agents < at_least:
        raise BedError(f'the bed in {args.data} has {at_least} agents', remedy='it can get more, not fewer')
    if not 1024 <= settings.port <= 65535 - SPAN:
        raise BedError(f'--port {settings.port}: the bed takes {SPAN} ports from there on', remedy='take 1024 to 65435')
    return settings


def up(args):
    settings = chosen(args)
    os.makedirs(settings.data, mode=0o711, exist_ok=True)
    os.chmod(settings.data, 0o711)  # the server's user goes through it; every folder below is closed
    bed = Bed(settings)
    bed.make_folders()
    settings.save()
    with bed.locked():
        for tier in bed.tiers():
            start_tier(bed, tier)
        apply_checks(bed)
        await_all_well(bed)
    say(f'all is well: {len(bed.parts())} parts in {settings.data}')
    say(f'  export MUSTER_CONTEXT={bed.context}')
    return show(bed, False)


def start_tier(bed, tier):
    began = time.monotonic()
    started = [part.name for part in tier if part.start()]
    if tier and isinstance(tier[0], Postgres):
        await_primary(bed)
    for part in tier:
        part.await_serving()
    if started:
        say(f'{", ".join(started)}: started ({time.monotonic() - began:.1f} s)')


def await_all_well(bed, within=WELL_WITHIN):
    deadline = time.monotonic() + within
    for part in bed.parts():
        while not part.look().well:
            if time.monotonic() > deadline:
                raise BedError(f'{part.name} is not well after {within:.0f} s: {part.look().detail}', part.log,
                               '`up` again, or look at `ha status`')
            time.sleep(0.3)
            bed.forget_known_agents()


def status(args):
    return show(existing(args), args.json)


def show(bed, as_json):
    with ThreadPoolExecutor(max_workers=8) as pool:  # one that does not answer holds up none of the others
        rows = list(pool.map(row_of, bed.parts()))
    if as_json:
        print(json.dumps({'items': rows}, indent=2))
    else:
        print(table.render(['NAME', 'ROLE', 'PID', 'PORT', 'STATE', 'IS', 'DETAIL'],
                           [[row['name'], row['role'], row['pid'] or '-', row['port'] or '-',
                             'well' if row['well'] else 'NOT WELL', row['is'], row['detail']] for row in rows]))
    return 0 if all(row['well'] for row in rows) else 1


def row_of(part):
    health = part.look()
    return {'name': part.name, 'role': part.role, 'pid': part.pid(), 'port': next(iter(part.ports()), None),
            'well': health.well, 'is': health.mark, 'detail': health.detail}


def kill(args):
    bed = existing(args)
    with bed.locked():
        part = bed.find(args.what)
        number = getattr(signal, 'SIG' + args.signal)
        mark = part.look().mark
        hit = part.signal(number, args.only)
        if hit == 0:
            raise BedError(f'{part.name} does not run', remedy=f'`ha start {part.name}` starts it')
    print(f'SIG{args.signal} to {part.name}{f" ({mark})" if mark else ""}: {hit} process{"es" if hit > 1 else ""}')
    return 0


def start(args):
    bed = existing(args)
    with bed.locked():
        part = bed.find(args.what)
        paused = part.paused()
        part.start()
        part.await_serving()
    print(f'{part.name}: {"goes on" if paused else "runs"}, pid {part.pid()}')
    return 0


def logs(args):
    part = existing(args).find(args.what)
    if args.follow:
        os.execvp('tail', ['tail', '-n', '50', '-F', part.log])
    print('\n'.join(last_lines(part.log, 50)))
    return 0


def context(args):
    print(existing(args).context)
    return 0


def down(args):
    settings = load(args.data)
    if settings is None:
        say(f'there is no bed in {args.data}')
        return 0
    bed = Bed(settings)
    with bed.locked():
        ended = sum(end_tier(tier) for tier in stop_order(bed))
        if args.delete_data:
            shutil.rmtree(settings.data)
    say(f'{ended} processes ended' + (f'; {settings.data} deleted' if args.delete_data else
                                      f'; data stays in {settings.data}'))
    return 0


def stop_order(bed):
    """Those who need others first; the standby before its primary."""
    order = list(reversed(bed.tiers()))
    at = order.index(bed.postgres)
    order[at:at + 1] = [[node] for node in sorted(bed.postgres, key=lambda node: node.look().mark == 'primary')]
    return order


def end_tier(tier):
    asked = {part: part.processes() for part in tier}
    for part in tier:
        part.ask_to_end()
    for part in tier:
        part.end(asked[part])
    return sum(map(len, asked.values()))
