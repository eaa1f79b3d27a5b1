#!/usr/bin/python3
"""A fleet against a server that only greets it; then against a control plane of its own, without checks, and at work,
with a check more for all; each time all are cut at once and come back; and at the end the store against the fleet's
journal. Then some agents of such a fleet fall silent without a word, as hosts do that lose their power.

    fleet.py [--smoke] [--agents 1000,10000] [--checks 50] [--seconds 60] [--only run|loss] [--json]

--smoke is small and quick, and fails unless everything that was acknowledged is stored exactly once.
"""
import argparse
import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(TESTS, 'integration'), os.path.join(TESTS, 'support')]
import network  # noqa: E402
from harness import BIN, Plane, Process, eventually, run  # noqa: E402


def fleet(*argv, timeout):
    ran = run(f'{BIN}/fleet', *argv, timeout=timeout)
    if ran.returncode != 0:
        sys.exit(f'fleet {" ".join(argv)}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}')
    return ran.stdout


def greet(plane, common):
    """The same agents connect to a server that greets them and does nothing besides, and come back to it."""
    greeter = Process([f'{BIN}/fleet', 'greet', '--data', plane.data, '--listen', f'127.0.0.1:{plane.port}'],
                      plane.data + '-greeter.log')
    try:
        return json.loads(fleet('run', *common, '--unapplied', '--checks', '0', '--warm-up', '1s', '--seconds', '1',
                                '--reconnect-storm', '--plane-pid', str(greeter.pid), timeout=900))
    finally:
        greeter.stop()


def measure(agents, options):
    """The two runs' reports and the verdict."""
    found = {'agents': agents}
    # The database stands where this is started: /tmp may be memory.
    with tempfile.TemporaryDirectory(prefix='muster-fleet-', dir=os.environ.get('TMPDIR', '.')) as folder:
        plane = Plane(folder)
        bundle, journal = os.path.join(folder, 'bundle'), os.path.join(folder, 'journal')
        fleet('enroll', '--data', plane.data, '--agents', str(agents), '--out', bundle, timeout=600)
        common = ['--context', plane.context, '--servers', f'127.0.0.1:{plane.port}', '--bundle', bundle, '--json']
        found['greeted'] = greet(plane, common)
        plane.start()
        common += ['--journal', journal, '--plane-pid', str(plane.process.pid)]
        try:
            if not options.smoke:
                found['idle'] = json.loads(fleet('run', *common, '--checks', '0', '--seconds', '20', '--reconnect-storm',
                                                 timeout=900))
            found['work'] = json.loads(fleet(
                'run', *common, '--checks', str(options.checks), '--every', options.every, '--failing',
                options.failing, '--period', options.period, '--warm-up', options.warm_up, '--seconds',
                options.seconds, '--spec-change', '--reconnect-storm', timeout=1800))
        finally:
            plane.process.stop(within=60)
        found['verdict'] = json.loads(fleet('check', '--journal', journal, '--store',
                                            f'sqlite:{plane.data}/muster.db', '--json', timeout=900))
    return found


MUTE = 50  # agents that fall silent


def metric(plane, name):
    return sum(float(line.split()[-1]) for line in plane.metrics().splitlines() if line.startswith(name + ' '))


def context_of(plane, server):
    """The admin's, for who reaches the control plane under another address."""
    path = f'{plane.context}-{server}'
    with open(plane.context, encoding='utf-8') as file, open(path, 'w', encoding='utf-8') as other:
        other.write(file.read().replace(plane.address, server))
    os.chmod(path, 0o600)
    return path


def lose(agents, vanish):
    """Seconds from the silence of some agents among many until each of three things is so. They vanish with their host,
    whose packets are dropped, or their program is frozen while its host answers for it."""
    found = {'agents': agents, 'how': 'vanish' if vanish else 'freeze'}
    with contextlib.ExitStack() as ends, tempfile.TemporaryDirectory(prefix='muster-fleet-', dir=os.environ.get('TMPDIR', '.')) as folder:
        plane = Plane(folder)
        plane.listen = '0.0.0.0'
        host = network.Host(1) if vanish else None
        address, inside = (host.router, host.inside) if vanish else (plane.address, ())
        if vanish:
            ends.callback(host.end)
        fleets = {}
        for prefix, count in (('here', agents - MUTE), ('mute', MUTE)):
            fleet('enroll', '--data', plane.data, '--agents', str(count), '--prefix', prefix, '--out',
                  os.path.join(folder, prefix), timeout=600)
        plane.start()
        dialled = time.monotonic()
        try:
            for prefix, server, within in (('here', plane.address, ()), ('mute', address, inside)):
                fleets[prefix] = Process(
                    [*within, f'{BIN}/fleet', 'run', '--context', context_of(plane, server), '--servers',
                     f'{server}:{plane.port}', '--bundle', os.path.join(folder, prefix), '--checks', '1', '--failing', '0',
                     '--seconds', '600'], os.path.join(folder, prefix + '.log'))
                count = agents - MUTE if prefix == 'here' else agents
                eventually(f'{count} are connected', lambda count=count:
                           metric(plane, 'muster_agents_connected') == count, within=300)
            found['connected'] = round(time.monotonic() - dialled, 1)
            time.sleep(15)  # each has told something
            before = metric(plane, 'muster_no_data_transitions_total')
            goals = {'session_ended': lambda: metric(plane, 'muster_agents_connected') <= agents - MUTE,
                     'no_data': lambda: metric(plane, 'muster_no_data_transitions_total') >= before + MUTE,
                     'told': lambda: metric(plane, 'muster_alerts_firing') >= MUTE}
            if vanish:
                host.vanish()
            else:
                os.kill(fleets['mute'].pid, signal.SIGSTOP)
            began = time.monotonic()
            while not all(name in found for name in goals) and time.monotonic() < began + 100:
                for name, reached in goals.items():
                    if name not in found and reached():
                        found[name] = round(time.monotonic() - began, 1)
                time.sleep(0.2)
        finally:
            for process in fleets.values():
                os.kill(process.pid, signal.SIGCONT)
                process.kill()
            plane.process.stop(within=60)
    return found


def loss_lines(found):
    yield (f"{found['agents']} agents, connected within {found['connected']} s; {MUTE} {found['how']}: the last session "
           f"ends after {found.get('session_ended')} s, the last state is NO_DATA after {found.get('no_data')} s, somebody is "
           f"told of the last after {found.get('told')} s")


def lines(found):
    """For people."""
    yield f"{found['agents']} agents"
    limit = found['greeted']
    for name in ('connect', 'storm'):
        yield f"  a server that only greets, {name}: {limit[name]['seconds']:.1f} s until all were welcomed"
    for what in ('idle', 'work'):
        if what not in found:
            continue
        seen = found[what]
        for name in ('connect', 'storm'):
            rush = seen[name]
            if rush['welcome']['count']:
                yield (f"  {what}, {name}: {rush['seconds']:.1f} s until all were welcomed, "
                       f"{rush['seconds'] / limit[name]['seconds']:.2f} of what it takes to greet them; welcome p50 "
                       f"{rush['welcome']['p50']:.0f} ms, p99 {rush['welcome']['p99']:.0f} ms; plane "
                       f"{rush['plane']['cores']:.2f} cores")
        change = seen['change']
        if change['reached']['count']:
            yield (f"  {what}, a check more for all: reached them after p50 {change['reached']['p50']:.0f} ms, p99 "
                   f"{change['reached']['p99']:.0f} ms, the last after {change['reached']['most']:.0f} ms")
        steady = seen['steady']
        yield (f"  {what}: {steady['acknowledged_a_second']:.0f} records/s acknowledged in "
               f"{steady['batches_a_second']:.0f} batches/s, p50 {steady['acknowledged_in']['p50']:.0f} ms, p99 "
               f"{steady['acknowledged_in']['p99']:.0f} ms; plane {steady['plane']['cores']:.2f} cores, "
               f"{steady['plane']['resident_mib']:.0f} MiB ({seen['plane_mib_a_session']:.3f} a session); fleet "
               f"{steady['fleet']['cores']:.2f} cores, {steady['fleet']['resident_mib']:.0f} MiB; "
               f"{steady['lost_sessions']} sessions lost")
        for why, count in seen['ends'].items():
            yield f'  {what}, ended: {count} × {why}'
    verdict = found['verdict']
    yield (f"  stored: {verdict['stored']} results, {verdict['transitions']} transitions ({verdict['no_data']} to "
           f"NO_DATA, {verdict['moved']} with a corrected time); lost {verdict['lost']}, doubled {verdict['doubled']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--smoke', action='store_true')
    parser.add_argument('--agents', default='1000,10000')
    parser.add_argument('--checks', type=int, default=50)
    parser.add_argument('--every', default='10s')
    parser.add_argument('--failing', default='1%')
    parser.add_argument('--period', default='1m')
    parser.add_argument('--warm-up', default='15s')
    parser.add_argument('--seconds', default='60')
    parser.add_argument('--only', choices=['run', 'loss'])
    parser.add_argument('--json', action='store_true')
    options = parser.parse_args()
    if options.smoke:
        options.agents, options.checks, options.every, options.failing = '50', 10, '500ms', '20%'
        options.period, options.warm_up, options.seconds, options.only = '3s', '1s', '5', 'run'
    # The control plane inherits it: a descriptor a session.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    why = network.enter() if options.only != 'run' else None
    for agents in options.agents.split(','):
        if options.only != 'run':
            for vanish in (True, False):
                if vanish and why:
                    print(f'no host vanishes: {why}', file=sys.stderr)
                    continue
                lost = lose(int(agents), vanish)
                print(json.dumps(lost) if options.json else '\n'.join(loss_lines(lost)), flush=True)
        if options.only == 'loss':
            continue
        found = measure(int(agents), options)
        print(json.dumps(found) if options.json else '\n'.join(lines(found)), flush=True)
        if options.smoke and not (found['verdict']['stored'] > 1000 and found['verdict']['transitions'] > 100):
            sys.exit('too little was stored for the test to mean anything')


if __name__ == '__main__':
    main()
