#!/usr/bin/python3
"""A fleet over three replicas that share a PostgreSQL, all on this machine: how long until all are connected, what each program
takes at rest and with a check a minute; and how long the agents of a replica take to the others once it is killed.

    wide_fleet.py [--smoke] [--agents 50000] [--replicas 3] [--checks 1] [--every 60s] [--seconds 30]

Prints one JSON object, and how far it has come to stderr. A process may open so many descriptors (ulimit -Hn): a replica is
killed only where the others may take all agents. --smoke is small and quick, and fails unless all are back.
"""
import argparse
import json
import os
import resource
import sys
import tempfile
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(TESTS, 'integration'), os.path.join(TESTS, 'support')]
from harness import BIN, Process, eventually, free_port, run  # noqa: E402
from postgres_cluster import PostgresCluster  # noqa: E402
from replicas_test import Replica  # noqa: E402

CHECKS = '''
apiVersion: muster/v1
kind: Check
metadata: {{name: wide-{number}}}
spec:
  every: {every}
  timeout: 1s
  probe: {{tcp: {{address: "127.0.0.1:9"}}}}
'''


def usage(pid):
    """Seconds of CPU, and MiB that are resident."""
    with open(f'/proc/{pid}/stat', encoding='ascii') as file:
        fields = file.read().rsplit(')', 1)[1].split()
    with open(f'/proc/{pid}/statm', encoding='ascii') as file:
        pages = int(file.read().split()[1])
    return ((int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK'), pages * os.sysconf('SC_PAGE_SIZE') / 2**20)


def of_database(database):
    """Seconds of CPU of a PostgreSQL server and its processes."""
    pids = [database.process.pid, *map(int, run('ps', '-o', 'pid=', '--ppid', str(database.process.pid)).stdout.split())]
    return sum(usage(pid)[0] for pid in pids if os.path.exists(f'/proc/{pid}'))


class Bench:
    def __init__(self, folder, options):
        self.options, self.folder = options, folder
        # Durable as in life: the tests' servers do without.
        self.database = PostgresCluster(folder, free_port()).make()
        self.database.configure(fsync='on', shared_buffers='512MB', max_wal_size='2GB', max_connections='60')
        self.database.start()
        self.database.sql("create role muster login superuser password 'unused'", database='postgres')
        self.database.sql('create database muster owner muster', database='postgres')
        store = f'postgresql://muster@127.0.0.1:{self.database.port}/muster'
        self.replicas = []
        for number in range(options.replicas):
            self.replicas.append(Replica(folder, f'replica-{number}', store, self.replicas[0] if self.replicas else None))
            with open(os.path.join(self.replicas[-1].data, 'control.yaml'), 'a', encoding='utf-8') as file:
                file.write('maxConnectionsPerAddress: 18000\n')
        self.fleets = []

    def close(self):
        for process in [*self.fleets, *(replica.process for replica in self.replicas)]:
            if process is not None:
                process.kill()
        self.database.stop()

    def share(self, number):
        each, more = divmod(self.options.agents, self.options.replicas)
        return each + (number < more)

    def enroll(self):
        each = [Process([f'{BIN}/fleet', 'enroll', '--data', self.replicas[0].data, '--store', self.replicas[0].store,
                         '--agents', str(self.share(number)), '--prefix', f'wide{number}', '--out', self.bundle(number)],
                        os.path.join(self.folder, f'enroll-{number}.log')) for number in range(self.options.replicas)]
        for process in each:
            assert process.process.wait(3600) == 0, process.log()
            process.kill()

    def bundle(self, number):
        return os.path.join(self.folder, f'bundle-{number}')

    def connected(self):
        return [int(replica.metric('muster_agents_connected')) for replica in self.replicas if replica.process.running()]

    def dial(self):
        for number, replica in enumerate(self.replicas):
            self.fleets.append(Process(
                [f'{BIN}/fleet', 'run', '--context', replica.context, '--servers',
                 *(f'127.0.0.1:{each.port}' for each in self.replicas), '--bundle', self.bundle(number), '--unapplied', '--checks', '0', '--dialling', '200', '--seconds', '3600',
                 '--connect-within', '30m'], os.path.join(self.folder, f'fleet-{number}.log')))

    def until(self, what, holds, within):
        began, said = time.monotonic(), 0.0
        while not holds():
            passed = time.monotonic() - began
            if passed > within:
                print(f'{what}: not within {within} s; connected {self.connected()}', file=sys.stderr, flush=True)
                return None
            if passed - said > 15:
                said = passed
                print(f'{what}: {passed:.0f} s, connected {self.connected()}', file=sys.stderr, flush=True)
            time.sleep(0.5)
        return round(time.monotonic() - began, 1)

    def costs(self, seconds):
        """Cores and MiB of each program over so long."""
        programs = {**{f'replica {number}': replica.process.pid for number, replica in enumerate(self.replicas)},
                    **{f'fleet {number}': process.pid for number, process in enumerate(self.fleets)}}
        before = {name: usage(pid)[0] for name, pid in programs.items()}
        database = of_database(self.database)
        time.sleep(seconds)
        found = {name: {'cores': round((usage(pid)[0] - before[name]) / seconds, 3), 'mib': round(usage(pid)[1])}
                 for name, pid in programs.items()}
        found['postgresql'] = {'cores': round((of_database(self.database) - database) / seconds, 3)}
        return found

    def measure(self):
        options = self.options
        found = {'agents': options.agents, 'replicas': options.replicas}
        for replica in self.replicas:
            replica.start()
        self.enroll()
        print('enrolled', file=sys.stderr, flush=True)
        self.dial()
        found['connected'] = self.until('connect', lambda: sum(self.connected()) >= options.agents, 1800)
        found['idle'] = self.costs(options.seconds)
        print(json.dumps(found), file=sys.stderr, flush=True)
        for number in range(options.checks):
            self.replicas[0].ctl('apply', '-f', '-', stdin=CHECKS.format(number=number, every=options.every))
        found['states'] = self.until('states', lambda: int(self.database.sql('select count(*) from states')) >=
                                     options.agents * options.checks, 600)
        time.sleep(min(30, options.seconds))
        found['work'] = self.costs(options.seconds)
        if options.agents <= (options.replicas - 1) * int(self.replicas[0].metric('muster_connections_limit')):
            self.replicas[-1].process.kill()
            found['back'] = self.until('back', lambda: sum(self.connected()) >= options.agents, 900)
        found['no_data'] = int(self.database.sql('select count(*) from transitions where to_status = 5'))
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--smoke', action='store_true')
    parser.add_argument('--agents', type=int, default=50000)
    parser.add_argument('--replicas', type=int, default=3)
    parser.add_argument('--checks', type=int, default=1)
    parser.add_argument('--every', default='60s')
    parser.add_argument('--seconds', type=int, default=30)
    options = parser.parse_args()
    if options.smoke:
        options.agents, options.every, options.seconds = 60, '1s', 2
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # What is measured is measured where this is started: /tmp may be memory. The server's user must get there.
    where = None if options.smoke else os.path.abspath(os.environ.get('TMPDIR', '.'))
    with tempfile.TemporaryDirectory(prefix='muster-wide-', dir=where) as folder:
        bench = Bench(folder, options)
        try:
            found = bench.measure()
            print(json.dumps(found))
            if options.smoke and None in (found['connected'], found['states'], found['back']):
                sys.exit('not all agents came')
        finally:
            bench.close()


if __name__ == '__main__':
    main()
