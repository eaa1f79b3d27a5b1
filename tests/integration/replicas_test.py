"""Three replicas over one PostgreSQL: the leader is killed, paused and drained, and nothing is lost, doubled or
forgotten. Then the same programs with the embedded store alone."""
import json
import os
import shutil
import signal
import time

from break_and_mend_test import Postgres, Sink
from harness import BIN, Case, CountingServer, Plane, Process, eventually, free_port, http_status, main, run

CHECKS = '''
apiVersion: muster/v1
kind: Check
metadata: {{name: hit}}
spec:
  every: 200ms
  timeout: 200ms
  confirm: {{failures: 2, retryEvery: 100ms}}
  probe: {{http: {{url: "http://127.0.0.1:{port}/"}}}}
---
apiVersion: muster/v1
kind: Receiver
metadata: {{name: hook}}
spec: {{webhook: {{url: "http://127.0.0.1:{sink}/hook"}}}}
'''


class Replica(Plane):
    """One of several: a folder that holds only a copy of cluster.key, and the common store."""

    def __init__(self, folder, name, store, first=None, redis=None):  # pylint: disable=super-init-not-called
        self.data, self.store, self.redis = os.path.join(folder, name), store, redis
        self.port, self.enroll_port, self.http_port = free_port(), free_port(), free_port()
        self.log_path = os.path.join(folder, name + '.log')
        self.process = None
        if first is None:
            made = run(f'{BIN}/muster-control', 'init', '--data', self.data, '--store', store,
                       '--advertise', f'{self.address}:{self.port}')
            assert made.returncode == 0, made.stderr
            self.context = os.path.join(self.data, 'admin.context')
        else:
            os.makedirs(self.data, mode=0o700)
            shutil.copy(os.path.join(first.data, 'cluster.key'), self.data)
            self.context = first.context

    def start(self, wait=True, prefix=(), env=None):
        self.process = Process([*prefix, f'{BIN}/muster-control', 'run', '--data', self.data, '--store', self.store,
                                '--advertise', f'127.0.0.1:{self.port}',
                                '--listen', f'127.0.0.1:{self.port}',
                                '--enroll-listen', f'127.0.0.1:{self.enroll_port}',
                                '--http-listen', f'127.0.0.1:{self.http_port}',
                                *(['--redis', self.redis] if self.redis else [])], self.log_path, env)
        if wait:
            eventually('control plane ready', self.ready)
        return self

    @property
    def id(self):
        with open(os.path.join(self.data, 'replica.id'), encoding='utf-8') as file:
            return file.read().strip()

    def ctl(self, *argv, check=True, stdin='', timeout=60):
        return super().ctl('--server', f'{self.address}:{self.port}', *argv, check=check, stdin=stdin, timeout=timeout)

    def metric(self, name):
        for line in self.metrics().splitlines():
            if line.startswith(name + ' '):
                return float(line.split()[-1])
        raise AssertionError(f'no metric {name}')

    def leads(self):
        return self.process is not None and self.process.running() and self.metric('muster_leader') == 1

    def replicas(self):
        return {item['id']: item for item in self.items('get', 'replicas')}


class Cluster(Case):
    """Replicas with two agents each, and one check that all agents run."""
    COUNT = 3

    def redis_url(self):
        return None

    def setUp(self):
        super().setUp()
        self.postgres = Postgres(self.folder)
        self.addCleanup(self.postgres.stop)
        store, redis = f'postgresql://postgres@127.0.0.1:{self.postgres.port}/postgres', self.redis_url()
        first = Replica(self.folder, 'control-0', store, redis=redis)
        self.planes = [first] + [Replica(self.folder, f'control-{i}', store, first, redis)
                                 for i in range(1, self.COUNT)]
        for plane in self.planes:
            plane.start()
            self.addCleanup(lambda plane=plane: plane.process.end())
        self.sink, self.server = Sink(), CountingServer()
        self.addCleanup(self.sink.shutdown)
        self.addCleanup(self.server.close)
        # Two agents on each replica.
        self.agents = [self.agent(self.planes[i % self.COUNT], f'host-{i}')
                       for i in range(2 * self.COUNT)]
        first.apply(CHECKS.format(port=self.server.port, sink=self.sink.server_port))
        eventually('all OK', lambda: self.all_are('OK', first))
        eventually('one leads', lambda: len(self.leaders()) == 1)

    def leaders(self):
        return [plane for plane in self.planes if plane.process.running() and plane.leads()]

    def leader(self):
        return eventually('one leads', lambda: (found := self.leaders()) and len(found) == 1 and found)[0]

    def all_are(self, state, plane):
        states = plane.items('get', 'states')
        mine = [item for item in states if item['check'] == 'hit']
        return len(mine) == len(self.agents) and all(item['state'] == state for item in mine)

    def others(self, plane):
        return [other for other in self.planes if other is not plane]

    def told(self, event, check='hit'):
        return [body for body in self.sink.of('/hook') if body['event'] == event and body['alert']['check'] == check]

    def break_and_mend(self, plane):
        """Each agent's check fails and recovers, and each is told of once."""
        before = len(self.told('raised')), len(self.told('resolved'))
        self.server.status = 503
        eventually('all CRITICAL', lambda: self.all_are('CRITICAL', plane))
        eventually('all raised', lambda: len(self.told('raised')) >= before[0] + len(self.agents))
        self.server.status = 200
        eventually('all OK', lambda: self.all_are('OK', plane))
        eventually('all resolved', lambda: len(self.told('resolved')) >= before[1] + len(self.agents))
        self.assertEqual(len(self.told('raised')), before[0] + len(self.agents), 'each is told once')
        self.assertEqual(len(self.told('resolved')), before[1] + len(self.agents), 'each is told once')

    def homes(self, plane):
        """Which replica holds each agent."""
        database = run('psql', '-h', '127.0.0.1', '-p', str(self.postgres.port), '-U', 'postgres', '-AtF', ' ', '-c',
                       'SELECT name, replica, connected, orphaned FROM agents ORDER BY name')
        assert database.returncode == 0, database.stderr
        rows = [line.split(' ') for line in database.stdout.splitlines()]
        return {row[0]: (row[1] if row[2] == '1' else None) for row in rows}

    def verify_history(self, plane, checks=('hit',)):
        """No sequence twice, and each is there or in a gap, but for those of plans."""
        for agent in plane.items('get', 'agents'):
            sequences = [entry['seq'] for check in checks
                         for entry in plane.stream('history', check, '--agent', agent['name']) if not entry.get('gap')]
            self.assertEqual(len(sequences), len(set(sequences)), 'a result is doubled')
            self.assertEqual(agent['gaps'], [], agent)
            self.assertGreater(len(sequences), 20)
            missing = set(range(1, max(sequences) + 1)) - set(sequences)
            self.assertLessEqual(len(missing), 3 * len(checks), f'{agent["name"]}: {missing}')


class Replicas(Cluster):
    def test_the_leader_is_killed_and_all_goes_on(self):
        leader = self.leader()
        others = self.others(leader)
        lost = leader.id
        leader.process.kill()
        killed = time.monotonic()
        eventually('another leads', lambda: any(plane.leads() for plane in others), within=5)
        print(f'next leader after {time.monotonic() - killed:.1f} s')
        here = others[0]
        eventually('agents are elsewhere', lambda: all(home not in (None, lost) for home in self.homes(here).values()),
                   within=15)
        print(f'agents elsewhere after {time.monotonic() - killed:.1f} s')
        self.break_and_mend(here)
        alert = eventually('the loss is an alert', lambda: [a for a in here.alerts(state='FIRING')
                                                            if a['name'] == f'replica/{lost} lost'])[0]
        self.assertEqual(alert['severity'], 'critical')
        self.assertEqual(here.replicas()[lost]['state'], 'LOST')
        doctor = here.ctl('doctor', check=False)
        self.assertEqual(doctor.returncode, 1)
        self.assertIn(f'replica {lost}', doctor.stdout)
        self.assertFalse([a for a in here.alerts() if a['name'].endswith(' absent')], 'no agent was absent')
        audit = [entry for entry in here.items('get', 'audit') if entry['action'] == 'leader.take']
        self.assertGreaterEqual(len(audit), 2)
        # It comes back as itself, at once.
        leader.start()
        eventually('resolved', lambda: not [a for a in here.alerts(state='FIRING') if a['name'].startswith('replica/')])
        self.assertEqual(here.replicas()[lost]['state'], 'LIVE')
        self.assertEqual(here.replicas()[lost]['incarnation'], 2)
        self.verify_history(here)

    def test_a_leader_that_was_paused_writes_nothing_and_carries_on_as_a_follower(self):
        leader = self.leader()
        others = self.others(leader)
        before = leader.metric('muster_leader_terms_total')
        leader.process.process.send_signal(signal.SIGSTOP)
        eventually('another leads', lambda: any(plane.leads() for plane in others), within=5)
        successor = [plane for plane in others if plane.leads()][0]
        eventually('it is lost', lambda: successor.replicas()[leader.id]['state'] == 'LOST'
                   and 'replica lost' in successor.process.log(), within=12)
        leader.process.process.send_signal(signal.SIGCONT)
        eventually('it is back', lambda: 'had been declared lost' in leader.process.log(), within=10)
        eventually('reclaimed', lambda: 'reclaimed sessions' in leader.process.log(), within=10)
        eventually('one leads', lambda: [plane.id for plane in self.leaders()] == [successor.id], within=5)
        self.assertEqual(leader.metric('muster_leader_terms_total'), before)
        self.assertIn('this replica leads no more', leader.process.log())
        eventually('all connected', lambda: None not in self.homes(successor).values(), within=20)
        self.break_and_mend(successor)
        self.assertFalse([a for a in successor.alerts() if a['name'].endswith(' absent')], 'no agent was absent')
        self.verify_history(successor)

    def test_a_drained_replica_sends_its_agents_elsewhere_within_seconds(self):
        leader = self.leader()
        here = self.others(leader)[0]
        gone = leader.id
        stopped = time.monotonic()
        self.assertEqual(leader.process.stop(), 0)
        print(f'stopped after {time.monotonic() - stopped:.1f} s')
        eventually('another leads', lambda: any(plane.leads() for plane in self.others(leader)), within=3)
        eventually('agents are elsewhere', lambda: all(home not in (None, gone) for home in self.homes(here).values()),
                   within=8)
        print(f'agents elsewhere after {time.monotonic() - stopped:.1f} s')
        self.assertNotIn(gone, here.replicas(), 'a clean end leaves nothing behind')
        self.break_and_mend(here)
        self.assertFalse([a for a in here.alerts() if a['check'] == '' or 'no data' in a['name']], 'nobody was missed')
        self.verify_history(here)

    def test_the_database_is_away_and_nobody_is_declared_lost_for_it(self):
        here = self.planes[0]
        self.postgres.stop()
        eventually('nobody leads', lambda: not self.leaders(), within=10)
        time.sleep(8)  # longer than a replica may go unseen
        self.postgres.start()
        self.leader()
        eventually('all connected', lambda: None not in self.homes(here).values(), within=20)
        self.break_and_mend(here)
        self.assertEqual([item['state'] for item in here.replicas().values()], ['LIVE'] * 3)
        self.assertFalse([a for a in here.alerts() if a['check'] == ''], 'neither replica nor agent was missed')
        self.verify_history(here)

    def test_an_operator_sees_and_forgets_replicas(self):
        leader = self.leader()
        here, lost = self.others(leader)
        seen = here.replicas()
        self.assertEqual(len(seen), 3)
        self.assertEqual([item['id'] for item in seen.values() if item['leader']], [leader.id])
        self.assertEqual(seen[here.id]['addresses'], [f'127.0.0.1:{here.port}'])
        self.assertEqual(sum(item['agents'] for item in seen.values()), 6)
        for output in ('table', 'wide', 'yaml', 'name', 'json'):
            self.assertIn(leader.id, here.ctl('get', 'replicas', '-o', output).stdout)
        self.assertIn('LIVE', here.ctl('describe', 'replica', here.id).stdout)
        refused = here.ctl('delete', 'replica', here.id, '--yes', check=False)
        self.assertEqual(refused.returncode, 5, refused.stderr)
        lost_id = lost.id
        lost.process.kill()
        eventually('lost', lambda: [a for a in here.alerts(state='FIRING') if a['name'] == f'replica/{lost_id} lost'])
        self.assertIn(lost_id, here.ctl('delete', 'replica', lost_id, '--yes').stdout)
        eventually('resolved', lambda: not [a for a in here.alerts(state='FIRING') if a['name'].startswith('replica/')])
        self.assertEqual(len(here.replicas()), 2)
        self.assertEqual(here.ctl('doctor', '-o', 'json', check=False).stdout.count('"LOST"'), 0)

    def test_agents_learn_of_a_replica_that_starts_later_and_of_one_that_goes(self):
        here = self.planes[0]
        late = Replica(self.folder, 'control-late', here.store, here).start()
        self.addCleanup(lambda: late.process.end())
        began = time.monotonic()
        eventually('every agent has written it down', lambda: all(self.knows(agent, late) for agent in self.agents))
        print(f'agents know of a new replica after {time.monotonic() - began:.1f} s')
        self.assertEqual(sum(plane.metric('muster_sessions_opened_total') for plane in self.planes), len(self.agents),
                         'in the session that they had')
        gone = self.planes[2]
        gone.process.stop()
        self.planes.remove(gone)
        eventually('every agent has forgotten it', lambda: not any(self.knows(agent, gone) for agent in self.agents))
        eventually('agents are elsewhere', lambda: None not in self.homes(here).values(), within=20)
        for plane in self.planes:
            plane.process.kill()
        eventually('all are with the newcomer', lambda: set(self.homes(late).values()) == {late.id}, within=30)
        self.planes = [late]
        self.leader()
        self.break_and_mend(late)
        self.verify_history(late)

    @staticmethod
    def knows(agent, plane):
        with open(os.path.join(agent.data, 'agent.yaml'), encoding='utf-8') as file:
            return f'127.0.0.1:{plane.port}' in file.read()

    def test_two_programs_never_share_a_data_folder(self):
        plane = self.planes[1]
        second = run(f'{BIN}/muster-control', 'run', '--data', plane.data, '--store', plane.store,
                     '--listen', f'127.0.0.1:{free_port()}', timeout=20)
        self.assertNotEqual(second.returncode, 0)
        self.assertTrue(plane.process.running())
        # A copy of it: the newer one goes on, the older one ends by itself and says why.
        copy = os.path.join(self.folder, 'copy')
        os.makedirs(copy, mode=0o700)
        for name in ('cluster.key', 'replica.id'):
            shutil.copy(os.path.join(plane.data, name), copy)
        impostor = Process([f'{BIN}/muster-control', 'run', '--data', copy, '--store', plane.store,
                            '--listen', f'127.0.0.1:{free_port()}', '--enroll-listen', 'off',
                            '--http-listen', 'off'], self.folder + '/copy.log')
        self.addCleanup(impostor.end)
        eventually('the older one ended', lambda: not plane.process.running(), within=20)
        self.assertIn('two must not share a data folder', plane.process.log())
        self.assertTrue(impostor.running())


class Alone(Case):
    def test_one_replica_leads_at_once_after_a_crash(self):
        plane = self.plane()
        agent = self.agent(plane)
        server, sink = CountingServer(), Sink()
        self.addCleanup(server.close)
        self.addCleanup(sink.shutdown)
        plane.apply(CHECKS.format(port=server.port, sink=sink.server_port))
        eventually('OK', lambda: (s := plane.state('hit', 'host-1')) and s['state'] == 'OK')
        for _ in range(3):
            plane.process.kill()
            started = time.monotonic()
            plane.start()
            eventually('leads', lambda: 'muster_leader 1' in plane.metrics(), within=3)
            print(f'leads {time.monotonic() - started:.1f} s after its start')
        eventually('connected', agent.connected)
        server.status = 503
        eventually('told', lambda: [b for b in sink.of('/hook') if b['event'] == 'raised'])
        replicas = json.loads(plane.ctl('get', 'replicas', '-o', 'json').stdout)['items']
        self.assertEqual([(r['state'], r['leader'], r['incarnation']) for r in replicas], [('LIVE', True, 4)])
        self.assertEqual(http_status(plane.http_port, '/-/ready'), 200)


if __name__ == '__main__':
    main()
