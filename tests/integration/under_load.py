"""Replicas over one PostgreSQL with a fleet of simulated agents, a receiver that keeps a journal, and the verdict on
what they left behind: `fleet check` for results and transitions, tests/support/judge.py for alerts and terms.
"""
import json
import os
import signal
import sys
import time

from harness import BIN, SUPPORT, Case, Process, eventually, free_port, main, run
from replicas_test import Replica

sys.path.insert(0, SUPPORT)
# pylint: disable=wrong-import-position
import judge  # noqa: E402
import lease_witness  # noqa: E402
from postgres_cluster import PostgresCluster  # noqa: E402
from told_sink import ToldSink  # noqa: E402

__all__ = ['FleetReplica', 'UnderLoad', 'main', 'percentiles']

# One that answers at once, and one that takes its time: its messages are on their way when a leader is struck.
RECEIVERS = {'/quick': 0.0, '/slow': 0.2}
RECEIVER = '''---
apiVersion: muster/v1
kind: Receiver
metadata: {{name: {name}}}
spec: {{webhook: {{url: "http://127.0.0.1:{port}/{name}"}}}}
'''


def percentiles(seconds):
    """p50, p99 and the most, for people."""
    if not seconds:
        return 'none'
    ordered = sorted(seconds)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99))
    return f'p50 {p50:.2f} s, p99 {p99:.2f} s, most {ordered[-1]:.2f} s of {len(ordered)}'


class FleetReplica(Replica):
    """A replica that the database knows by name. `program` may be another build of muster-control, `inside` begins
    the command line of where it runs, and `advertised` is a way to its port that stands in front of it.
    """

    def __init__(self, folder, name, store, first=None, program=None, address='127.0.0.1', inside=()):
        self.name, self.program, self.address, self.inside = name, program or f'{BIN}/muster-control', address, inside
        super().__init__(folder, name, lease_witness.url(store, name), first)
        self.advertised = self.port

    def start(self, wait=True, prefix=(), env=None):
        self.process = Process([*self.inside, *prefix, self.program, 'run', '--data', self.data, '--store', self.store,
                                '--advertise', f'{self.address}:{self.advertised}',
                                '--listen', f'{self.address}:{self.port}',
                                '--enroll-listen', f'{self.address}:{self.enroll_port}',
                                '--http-listen', f'{self.address}:{self.http_port}'], self.log_path, env)
        if wait:
            eventually(f'{self.name} ready', self.ready)
        return self

    def leads(self):
        """False as long as it cannot say."""
        try:
            return super().leads()
        except (OSError, AssertionError, ValueError, IndexError):
            return False

    def refused(self):
        return int(self.metric('muster_leader_writes_refused_total'))


class UnderLoad(Case):
    COUNT, PROGRAM, ENV = 3, None, None
    FLEET = {'agents': 200, 'checks': 5, 'every': '2s', 'failing': '1%', 'period': '8s'}

    def setUp(self):
        super().setUp()
        self.postgres = PostgresCluster(self.folder, free_port()).make()
        self.addCleanup(self.postgres.stop)
        self.postgres.start().sql('CREATE DATABASE muster', database='postgres')
        self.sink = ToldSink(RECEIVERS)
        self.addCleanup(self.sink.server_close)
        self.addCleanup(self.sink.shutdown)
        self.fleet = None
        first = FleetReplica(self.folder, 'control-0', self.store(0), program=self.PROGRAM)
        self.planes = [first] + [FleetReplica(self.folder, f'control-{i}', self.store(i), first, self.PROGRAM)
                                 for i in range(1, self.COUNT)]
        lease_witness.install(self.postgres)
        for plane in self.planes:
            plane.start(env=self.ENV)
            self.addCleanup(lambda plane=plane: self.end(plane))
        first.apply(''.join(RECEIVER.format(name=path[1:], port=self.sink.server_port) for path in RECEIVERS))
        self.names = {plane.id: plane.name for plane in self.planes}

    def store(self, number):
        """Where that replica finds the store."""
        del number
        return f'postgresql://postgres@127.0.0.1:{self.postgres.port}/muster'

    @staticmethod
    def end(plane):
        if plane.process.running():
            plane.process.process.send_signal(signal.SIGCONT)
        plane.process.end()

    # The fleet.

    def start_fleet(self, tells=True, **differently):
        options = {**self.FLEET, **differently}
        bundle = os.path.join(self.folder, 'bundle')
        made = run(f'{BIN}/fleet', 'enroll', '--data', self.planes[0].data, '--store', self.planes[0].store,
                   '--agents', str(options['agents']), '--out', bundle)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.fleet = Process([f'{BIN}/fleet', 'run', '--context', self.planes[0].context, '--bundle', bundle,
                              '--journal', self.journal, '--warm-up', '0', '--seconds', '86400', '--json',
                              *(part for name in ('checks', 'every', 'failing', 'period')
                                for part in (f'--{name}', str(options[name])))], self.folder + '/fleet.log')
        self.addCleanup(self.fleet.kill)
        self.agents = options['agents']
        eventually('all agents are connected', lambda: self.connected() == self.agents, within=90)
        if tells:
            eventually('alerts are told', lambda: len(self.sink.told()) > 1, within=60)

    @property
    def journal(self):
        return os.path.join(self.folder, 'journal')

    def connected(self):
        return int(self.postgres.sql('SELECT count(*) FROM agents WHERE connected = 1'))

    def stop_fleet(self, within=180):
        """It sends what it has, and ends; what it found."""
        code = self.fleet.stop(within)
        report = json.loads(self.fleet.log().strip().splitlines()[-1])
        self.assertEqual((code, report['settled']), (0, self.agents), self.fleet.log()[-2000:])
        return report

    # Leaders.

    def leading(self):
        return [plane for plane in self.planes if plane.leads()]

    def leader(self, within=30):
        return eventually('one leads', lambda: (found := self.leading()) and len(found) == 1 and found, within)[0]

    def sleeps_while_telling(self, leader):
        """SIGSTOP in the middle of a message, whose outcome is to be written down when it wakes."""
        told = len(self.sink.told())
        eventually('somebody is being told', lambda: any(entry['receiver'] == 'slow' for entry in
                                                         self.sink.told()[told:]), every=0.002)
        leader.process.process.send_signal(signal.SIGSTOP)

    # The verdict.

    def judge(self, settled=True):
        """Once the fleet has ended. Ends the planes; (verdict of fleet check, those of the judge by name)."""
        if settled:
            eventually('every transition was decided and told', self.quiet, within=120)
        for plane in self.planes:
            plane.process.kill()
        return self.check_results(), self.check_leaders()

    def quiet(self):
        return self.postgres.sql(
            "SELECT (SELECT coalesce(max(id), 0) FROM transitions) <= (SELECT value FROM counters WHERE name = "
            "'alert_cursor') AND NOT EXISTS (SELECT 1 FROM outbox WHERE state = 1)") == 't'

    def check_results(self):
        ran = run(f'{BIN}/fleet', 'check', '--journal', self.journal, '--store', self.store_url, '--json', timeout=600)
        self.assertIn(ran.returncode, (0, 1), ran.stderr)
        return json.loads(ran.stdout)

    @property
    def store_url(self):
        return f'postgresql://postgres@127.0.0.1:{self.postgres.port}/muster'

    def rows(self, query):
        return lease_witness.rows(self.postgres, query)

    def check_leaders(self):
        alerts = self.rows('SELECT id, key, name, state, fired_at, inhibited_by, told FROM alerts')
        leases = lease_witness.leases(self.postgres)
        audit = self.rows("SELECT sequence, subject, detail FROM audit WHERE action = 'leader.take' ORDER BY sequence")
        return {
            'told': judge.told(self.rows('SELECT id, alert_id, receiver, event, state FROM outbox ORDER BY id'), alerts,
                               self.rows('SELECT alert_id, what FROM alert_events ORDER BY id'), self.sink.told(),
                               [path[1:] for path in RECEIVERS]),
            'raised': judge.raised(self.rows('SELECT id, agent, check_id, to_status, hard FROM transitions ORDER BY id'),
                                   alerts),
            'terms': judge.terms(audit, leases, self.names),
            'writes': judge.writes(lease_witness.writes(self.postgres), leases, self.names),
        }

    def expect_good(self, results, leaders):
        wrong = {what: results[what] for what in ('lost', 'uncovered', 'doubled', 'out_of_order', 'altered', 'unknown',
                                                  'wrong_histories') if results[what]}
        self.assertEqual(wrong, {}, '\n'.join(results['findings']))
        for name, verdict in leaders.items():
            self.assertTrue(verdict.good, f'{name}: {verdict}')

    @staticmethod
    def show(results, leaders):
        print(f"{results['agents']} agents: {results['generated']} results found, {results['stored']} stored, lost "
              f"{results['lost']}, doubled {results['doubled']}; {results['transitions']} transitions, wrong "
              f"{results['wrong_histories']}; {results['gaps']} records in gaps")
        for name, verdict in leaders.items():
            print(f'{name}: {verdict}')
        sys.stdout.flush()


def since(moment):
    return time.monotonic() - moment
