"""The control plane on PostgreSQL 15, whose server is killed, restarted, failed over from, slow or alone.

Acknowledged results are never lost: what a promoted standby lacks, the agents offer again (C2).
"""
import os
import sqlite3
import sys
import time

from harness import BIN, SUPPORT, Case, CountingServer, eventually, free_port, http_get, http_status, main, run

sys.path.insert(0, SUPPORT)
# pylint: disable=wrong-import-position
from postgres_cluster import PostgresCluster  # noqa: E402
from tcp_proxy import TcpProxy  # noqa: E402

CHECK = '''---
apiVersion: muster/v1
kind: Check
metadata: {{name: {name}}}
spec:
  every: 100ms
  timeout: 100ms
  confirm: {{failures: 3, successes: 2}}
  probe: {{http: {{url: "http://127.0.0.1:{port}/{name}"}}}}
'''
NAMES = ('a', 'b', 'c')


def url(*ports):
    return 'postgresql://postgres@' + ','.join(f'127.0.0.1:{port}' for port in ports) + '/muster'


def acknowledged(agent):
    """What the agent's own log on disk knows to be stored elsewhere."""
    log = sqlite3.connect(f'file:{agent.data}/log.db?mode=ro', uri=True)
    try:
        row = log.execute("select value from meta where key = 'acknowledged'").fetchone()
    finally:
        log.close()
    return int(row[0]) if row else 0


def while_away(look):
    """What `look` gives; None while the control plane cannot say."""
    def tried():
        try:
            return look()
        except (AssertionError, ValueError):
            return None
    return tried


class PostgresCase(Case):
    """A server of PostgreSQL, alone or with a standby that can be cut off."""
    def primary(self):
        primary = PostgresCluster(self.folder, free_port()).make()
        self.addCleanup(primary.stop)
        primary.start().sql('CREATE DATABASE muster', database='postgres')
        return primary

    def pair(self):
        """A primary, a standby that follows it, and the way between them."""
        primary = self.primary()
        way = TcpProxy(primary.port)
        self.addCleanup(way.close)
        standby = PostgresCluster(self.folder, free_port(), 'standby').make_standby(way.port)
        self.addCleanup(standby.stop)
        standby.start()
        self.follows(primary)
        return primary, standby, way

    @staticmethod
    def follows(primary):
        eventually('the standby follows', lambda: primary.sql(
            'SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn() - 65536') == '1')


class OnPostgres(PostgresCase):
    def setUp(self):
        super().setUp()
        self.server = CountingServer()
        self.addCleanup(self.server.close)

    def running(self, plane):
        agent = self.agent(plane)
        plane.apply(''.join(CHECK.format(name=name, port=self.server.port) for name in NAMES))
        self.all_in(plane, 'OK', 60)
        return agent

    def all_in(self, plane, state, within=30.0):
        def states():
            found = {item['check']: item for item in plane.items('get', 'states')}
            return all(name in found and found[name]['state'] == state and found[name]['hard'] for name in NAMES)
        eventually(f'all {state}', while_away(states), within=within)

    @staticmethod
    def stored(plane, more_than, within=60):
        eventually(f'stored beyond {more_than}', while_away(
            lambda: (plane.agent('host-1') or {}).get('committedSeq', 0) > more_than), within=within)

    def expect_each_once(self, plane, postgres, at_least):
        """The log is in the store from its first record on, without a hole and nothing twice."""
        self.assertGreaterEqual(plane.agent('host-1')['committedSeq'], at_least)
        spans = postgres.sql("SELECT string_agg(first_sequence || ' ' || last_sequence, ',' "
                             'ORDER BY first_sequence) FROM segments').split(',')
        expected = 1
        for first, last in (map(int, span.split()) for span in spans):
            self.assertEqual(first, expected, 'a hole, or a batch that came twice')
            expected = last + 1
        self.assertEqual(plane.agent('host-1').get('gaps', []), [])
        seen = set()
        for name in NAMES:
            for entry in plane.stream('history', name, '--agent', 'host-1'):
                self.assertNotIn(entry['seq'], seen, 'a result is doubled')
                seen.add(entry['seq'])

    def expect_transitions_to_follow(self, postgres):
        """Each transition of a check begins in the state in which the one before it ended."""
        rows = postgres.sql('SELECT check_id, from_status, to_status FROM transitions ORDER BY check_id, at, id')
        last = {}
        for check, before, after in (row.split('|') for row in rows.splitlines()):
            self.assertEqual(before, last.get(check, before), f'transition of check {check}')
            last[check] = after

    def test_an_asynchronous_standby_that_lags_is_promoted(self):
        primary, standby, way = self.pair()
        plane = self.plane(store=url(primary.port, standby.port))
        agent = self.running(plane)
        self.follows(primary)
        way.cut()
        # None of this is on the standby: a check, its results, an outage, its alerts.
        plane.apply(CHECK.format(name='lost', port=self.server.port))
        eventually('the lost check runs', lambda: plane.state('lost', 'host-1'))
        self.server.status = 503
        self.all_in(plane, 'CRITICAL')
        eventually('alerts', lambda: len(plane.alerts(state='FIRING')) == 4)
        lost_id = primary.sql("SELECT id FROM check_names WHERE name = 'lost'")
        held = int(standby.sql('SELECT max(committed) FROM logs'))
        eventually('the standby lags', lambda: acknowledged(agent) > held + 20)
        told = acknowledged(agent)
        primary.kill()
        began = time.monotonic()
        standby.promote()
        promoted = time.monotonic()
        eventually('ready', plane.ready, within=30)
        ready = time.monotonic()
        self.stored(plane, told)
        reconciled = time.monotonic()
        self.assertLess(reconciled - promoted, 60)
        self.all_in(plane, 'CRITICAL')
        eventually('alerts again', while_away(lambda: len(plane.alerts(state='FIRING')) == 3))
        plane.apply(CHECK.format(name='another', port=self.server.port))
        eventually('the other check runs', lambda: plane.state('another', 'host-1'))
        self.assertIsNone(plane.state('lost', 'host-1'))
        self.assertGreater(int(standby.sql("SELECT id FROM check_names WHERE name = 'another'")), int(lost_id))
        self.server.status = 200
        self.all_in(plane, 'OK')
        eventually('resolved', lambda: not plane.alerts(state='FIRING'))
        self.assertEqual(standby.sql("SELECT count(*) FROM audit WHERE action = 'store.recovered'"), '1')
        self.expect_each_once(plane, standby, told)
        self.expect_transitions_to_follow(standby)
        print(f'acknowledged {told}, of which the standby held {held}; promoted after {promoted - began:.1f} s, '
              f'ready {ready - promoted:.1f} s and reconciled {reconciled - promoted:.1f} s after that')

    def test_killed_and_restarted_under_load(self):
        primary = self.primary()
        plane = self.plane(store=url(primary.port))
        agent = self.running(plane)
        for _ in range(int(os.environ.get('MUSTER_ROUNDS', '3'))):
            told = acknowledged(agent)
            primary.kill()
            time.sleep(1)
            told = max(told, acknowledged(agent))
            primary.start()
            back = time.monotonic()
            self.assertGreaterEqual(int(primary.sql('SELECT max(committed) FROM logs')), told)
            eventually('ready', plane.ready, within=30, every=0.02)
            took = time.monotonic() - back
            self.assertLess(took, 5)
            print(f'{told} acknowledged; ready {took:.2f} s after the server')
            self.stored(plane, told + 10)
        self.expect_each_once(plane, primary, told)
        self.assertEqual(primary.sql("SELECT count(*) FROM audit WHERE action = 'store.recovered'"), '0')

    def test_a_synchronous_standby_is_lost_comes_back_and_is_promoted(self):
        primary, standby, way = self.pair()
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.sql('SELECT pg_reload_conf()')
        plane = self.plane(store=url(primary.port, standby.port))
        agent = self.running(plane)
        # Longer than the control plane waits for a commit, which is in doubt from then on.
        self.expect_no_false_acknowledgement(agent, standby, way, 24)
        self.assertFalse(plane.ready())
        way.mend()
        eventually('ready', plane.ready, within=60)
        self.stored(plane, acknowledged(agent) + 50)
        self.expect_no_false_acknowledgement(agent, standby, way, 4)
        told = acknowledged(agent)
        primary.kill()
        standby.promote()
        eventually('ready', plane.ready, within=60)
        self.stored(plane, told + 200)
        self.expect_each_once(plane, standby, told)

    def expect_no_false_acknowledgement(self, agent, standby, way, seconds):
        way.cut()
        cut = time.monotonic()
        while time.monotonic() - cut < seconds:
            told = acknowledged(agent)
            self.assertLessEqual(told, int(standby.sql('SELECT max(committed) FROM logs')))
            time.sleep(0.2)

    def test_a_control_plane_that_starts_before_its_database_waits_for_it(self):
        primary = self.primary()
        plane = self.plane(store=url(primary.port))
        agent = self.running(plane)
        told = acknowledged(agent)
        self.assertEqual(plane.process.stop(), 0)
        primary.stop()
        plane.start(wait=False)
        eventually('it says so', lambda: 'waits for the store' in plane.process.log())
        time.sleep(3)
        self.assertTrue(plane.process.running())
        self.assertEqual(http_status(plane.http_port, '/-/healthy'), 200)
        self.assertEqual(http_status(plane.http_port, '/-/ready'), 503)
        self.assertIn('waits for the store', http_get(plane.http_port, '/-/ready'))
        self.assertIn('muster_leader 0', plane.metrics())
        self.assertIn('start PostgreSQL', plane.process.log())
        self.assertEqual(plane.process.log().count('waits for the store'), 1, 'once for each reason')
        self.assertEqual(plane.process.stop(), 0, 'it can be told to stop')
        plane.start(wait=False)
        primary.start()
        began = time.monotonic()
        eventually('ready', plane.ready, within=30)
        print(f'ready {time.monotonic() - began:.1f} s after the server')
        self.stored(plane, told)
        self.expect_each_once(plane, primary, told)

    def test_what_waiting_does_not_mend_ends_at_once(self):
        primary = self.primary()
        plane = self.plane(store=url(primary.port))
        plane.process.stop()
        primary.sql("CREATE USER guest PASSWORD 'sesame'")
        for store, code, said in (
                (url(primary.port).replace('/muster', '/nothing'), 3, 'make the database, or name another'),
                (url(primary.port).replace('postgres@', 'nobody@'), 4, 'see to the user, the password, and pg_hba.conf'),
                ('postgresql://127.0.0.1:1:2/muster', 2, 'is not a number')):
            ran = run(f'{BIN}/muster-control', 'run', '--data', plane.data, '--store', store,
                      '--listen', f'127.0.0.1:{free_port()}', timeout=20)
            self.assertEqual(ran.returncode, code, ran.stderr)
            self.assertIn(said, ran.stderr)
            self.assertNotIn('waits for the store', ran.stderr)
        made = run(f'{BIN}/muster-control', 'init', '--data', os.path.join(self.folder, 'new'), '--store',
                   url(free_port()), timeout=20)
        self.assertEqual(made.returncode, 6, 'init does not wait')

    def test_half_a_second_a_statement(self):
        primary = self.primary()
        way = TcpProxy(primary.port)
        self.addCleanup(way.close)
        plane = self.plane(store=url(way.port))
        agent = self.running(plane)
        way.delay = 0.25
        time.sleep(2)
        told = acknowledged(agent)
        self.server.status = 503
        self.all_in(plane, 'CRITICAL', 90)
        eventually('alerts', while_away(lambda: len(plane.alerts(state='FIRING')) == 3), within=90)
        eventually('goes on', lambda: acknowledged(agent) > told + 100, within=90)
        way.delay = 0
        eventually('ready', plane.ready)
        self.expect_each_once(plane, primary, told)


if __name__ == '__main__':
    main()
