#!/usr/bin/python3
"""A fleet against a control plane of its own: idle, then at work, then all cut at once; and at the end the store
against the fleet's journal.

    fleet.py [--smoke] [--agents 1000,10000] [--checks 50] [--seconds 60] [--json]

--smoke is small and quick, and fails unless everything that was acknowledged is stored exactly once.
"""
import argparse
import json
import os
import resource
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'integration'))
from harness import BIN, Plane, run  # noqa: E402


def fleet(*argv, timeout):
    ran = run(f'{BIN}/fleet', *argv, timeout=timeout)
    if ran.returncode != 0:
        sys.exit(f'fleet {" ".join(argv)}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}')
    return ran.stdout


def measure(agents, options):
    """The two runs' reports and the verdict."""
    found = {'agents': agents}
    # The database stands where this is started: /tmp may be memory.
    with tempfile.TemporaryDirectory(prefix='muster-fleet-', dir=os.environ.get('TMPDIR', '.')) as folder:
        plane = Plane(folder)
        bundle, journal = os.path.join(folder, 'bundle'), os.path.join(folder, 'journal')
        fleet('enroll', '--data', plane.data, '--agents', str(agents), '--out', bundle, timeout=600)
        plane.start()
        common = ['--context', plane.context, '--servers', f'127.0.0.1:{plane.port}', '--bundle', bundle, '--json',
                  '--journal', journal, '--plane-pid', str(plane.process.pid)]
        try:
            if not options.smoke:
                found['idle'] = json.loads(fleet('run', *common, '--checks', '0', '--seconds', '20', timeout=900))
            found['work'] = json.loads(fleet(
                'run', *common, '--checks', str(options.checks), '--every', options.every, '--failing',
                options.failing, '--period', options.period, '--warm-up', options.warm_up, '--seconds',
                options.seconds, '--reconnect-storm', timeout=1800))
        finally:
            plane.process.stop(within=60)
        found['verdict'] = json.loads(fleet('check', '--journal', journal, '--store',
                                            f'sqlite:{plane.data}/muster.db', '--json', timeout=900))
    return found


def lines(found):
    """For people."""
    yield f"{found['agents']} agents"
    for what in ('idle', 'work'):
        if what not in found:
            continue
        seen = found[what]
        for name in ('connect', 'storm'):
            rush = seen[name]
            if rush['welcome']['count']:
                yield (f"  {what}, {name}: {rush['seconds']:.1f} s until all were welcomed; welcome p50 "
                       f"{rush['welcome']['p50']:.0f} ms, p99 {rush['welcome']['p99']:.0f} ms; plane "
                       f"{rush['plane']['cores']:.2f} cores")
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
    parser.add_argument('--json', action='store_true')
    options = parser.parse_args()
    if options.smoke:
        options.agents, options.checks, options.every, options.failing = '50', 10, '500ms', '20%'
        options.period, options.warm_up, options.seconds = '3s', '1s', '5'
    # The control plane inherits it: a descriptor a session.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for agents in options.agents.split(','):
        found = measure(int(agents), options)
        print(json.dumps(found) if options.json else '\n'.join(lines(found)), flush=True)
        if options.smoke and not (found['verdict']['stored'] > 1000 and found['verdict']['transitions'] > 100):
            sys.exit('too little was stored for the test to mean anything')


if __name__ == '__main__':
    main()
