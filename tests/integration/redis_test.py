"""Two replicas over one PostgreSQL and one Redis: hints make what one replica changed known to the other at once; a
Redis that is killed, emptied, paused or out of reach costs up to two seconds, and nothing else (C13)."""
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

from harness import BIN, ROOT, SUPPORT, Agent, Process, CountingServer, eventually, free_port, main, run
from replicas_test import Cluster, Replica

sys.path.insert(0, SUPPORT)
# pylint: disable=wrong-import-position
from tcp_proxy import TcpProxy  # noqa: E402

PASSWORD = 'sesame'
CHECK = '''
apiVersion: muster/v1
kind: Check
metadata: {{name: {name}}}
spec:
  agents: {{agent: {agent}}}
  every: 100ms
  timeout: 100ms
  probe: {{http: {{url: "http://127.0.0.1:{port}/"}}}}
'''
# What polling alone needs, and what a busy machine adds to it.
POLLED_WITHIN = 2.0
SLACK = 2.0


def acl():
    """The rights of the user that replicas sign in as, as deploy/ha gives them."""
    with open(os.path.join(ROOT, 'deploy', 'ha', 'templates', 'redis.conf'), encoding='utf-8') as file:
        line = re.search(r'^user muster .*$', file.read(), re.M).group(0)
    return line.replace('$muster_hash', hashlib.sha256(PASSWORD.encode()).hexdigest())


class RedisServer:
    def __init__(self, folder):
        self.port, self.folder, self.process = free_port(), folder, None
        self.config = os.path.join(folder, 'redis.conf')
        with open(self.config, 'w', encoding='utf-8') as file:
            file.write(f'bind 127.0.0.1\nport {self.port}\ndir {folder}\nsave ""\nappendonly no\n{acl()}\n')
        self.start()

    def start(self):
        self.process = Process(['redis-server', self.config], self.folder + '/redis.log')
        eventually('Redis answers', lambda: self.cli('PING') == 'PONG')

    def cli(self, *argv):
        return run('redis-cli', '-p', str(self.port), *argv).stdout.strip()

    def signal(self, number):
        self.process.process.send_signal(number)

    def end(self):
        self.signal(signal.SIGCONT)
        self.process.kill()


class OverRedis(Cluster):
    COUNT = 2

    def redis_url(self):
        self.redis = RedisServer(self.folder)
        self.addCleanup(lambda: self.redis.end())
        self.way = TcpProxy(self.redis.port)
        self.addCleanup(self.way.close)
        self.password = os.path.join(self.folder, 'redis.password')
        with open(os.open(self.password, os.O_WRONLY | os.O_CREAT, 0o600), 'w', encoding='utf-8') as file:
            file.write(PASSWORD + '\n')
        return f'redis://muster@127.0.0.1:{self.way.port}?password_file={self.password}'

    def setUp(self):
        super().setUp()
        self.checks = ['hit']
        eventually('hints go through Redis', lambda: self.all_up(1))

    def all_up(self, value):
        return all(plane.metric('muster_redis_up') == value for plane in self.planes)

    def across(self):
        """An agent that is connected, the replica that holds it, and another one."""
        name, home = next((name, home) for name, home in sorted(self.homes(self.planes[0]).items()) if home)
        there = next(plane for plane in self.planes if plane.id == home)
        return name, there, self.others(there)[0]

    def reach(self):
        """Seconds from a check's apply on one replica to its first run by an agent of the other."""
        server = CountingServer()
        self.addCleanup(server.close)
        name = f'extra-{len(self.checks)}'
        self.checks.append(name)
        agent, _, here = self.across()
        text = CHECK.format(name=name, agent=agent, port=server.port)
        began = time.time()
        here.apply(text)
        eventually('the check runs', lambda: server.count() > 0, every=0.01)
        return server.times[0] - began

    def doctor(self):
        """The level of what it says of Redis, and the words."""
        ran = self.planes[0].ctl('doctor', '-o', 'json', check=False)
        found = [item for item in json.loads(ran.stdout)['items'] if item['subject'] == 'redis'][0]
        return found['level'], found['message']

    def heard(self):
        return sum(plane.metric('muster_redis_hints_heard_total') for plane in self.planes)

    def test_a_hint_is_faster_than_looking(self):
        heard = self.heard()
        hinted = [self.reach() for _ in range(7)]
        eventually('heard', lambda: self.heard() >= heard + 7)
        self.assertIn('hints between replicas go through redis://127.0.0.1', self.doctor()[1])
        self.way.cut()
        eventually('Redis is away', lambda: self.all_up(0))
        polled = [self.reach() for _ in range(7)]
        print(f'apply to first run elsewhere: median {statistics.median(hinted):.2f} s, longest {max(hinted):.2f} s; '
              f'without Redis {statistics.median(polled):.2f} s, longest {max(polled):.2f} s')
        self.assertLess(max(polled), POLLED_WITHIN + SLACK)

    def test_whatever_happens_to_redis_costs_latency_only(self):
        here = self.planes[0]
        for name, lose, mend in (
                ('killed', lambda: self.redis.process.kill(), self.redis.start),
                ('paused', lambda: self.redis.signal(signal.SIGSTOP), lambda: self.redis.signal(signal.SIGCONT)),
                ('out of reach', self.way.cut, self.way.mend)):
            with self.subTest(name):
                lose()
                eventually('Redis is away', lambda: self.all_up(0))
                self.break_and_mend(here)
                polled = self.reach()
                self.assertLess(polled, POLLED_WITHIN + SLACK)
                level, said = self.doctor()
                self.assertIn('is away', said)
                self.assertEqual(level, 'WARNING')
                self.assertTrue(all(plane.ready() for plane in self.planes))
                mend()
                began = time.monotonic()
                eventually('Redis is back', lambda: self.all_up(1))
                print(f'{name}: apply to first run elsewhere {polled:.2f} s; used again after '
                      f'{time.monotonic() - began:.1f} s; {self.reach():.2f} s with it')
        self.flushed_all_the_time(here)
        self.assertNotIn(None, self.homes(here).values(), 'every agent is connected')
        self.assertEqual(sum(plane.metric('muster_sessions_opened_total') for plane in self.planes), len(self.agents),
                         'no agent lost its session')
        self.assertFalse([alert for alert in here.alerts() if alert['check'] == ''], 'nobody was missed')
        self.verify_history(here, self.checks)

    def flushed_all_the_time(self, here):
        done = threading.Event()

        def flush():
            while not done.is_set():
                self.redis.cli('FLUSHALL')
                time.sleep(0.02)
        flushing = threading.Thread(target=flush)
        flushing.start()
        try:
            self.break_and_mend(here)
            print(f'emptied all the time: apply to first run elsewhere {self.reach():.2f} s')
        finally:
            done.set()
            flushing.join()

    def test_a_revoked_agent_is_cut_by_the_replica_that_holds_it(self):
        for way in ('with hints', 'without'):
            name, there, here = self.across()
            before, seen = sum(home == there.id for home in self.homes(here).values()), len(there.process.log())
            eventually('counted', lambda: there.metric('muster_agents_connected') == before)
            here.ctl('agent', 'revoke', name, '--reason', 'a test', '--confirm', name)
            began = time.monotonic()
            # By the log: the metric is counted once a second.
            eventually('cut', lambda: any('was revoked' in line and name in line
                                          for line in there.process.log()[seen:].splitlines()),
                       within=POLLED_WITHIN + SLACK, every=0.01)
            print(f'revoked on one replica, cut by the other after {time.monotonic() - began:.2f} s {way}')
            eventually('gone', lambda: there.metric('muster_agents_connected') == before - 1)
            self.way.cut()
            eventually('Redis is away', lambda: self.all_up(0))

    def test_a_lease_that_is_given_back_is_taken_at_once(self):
        for way in ('with hints', 'without'):
            leader = self.leader()
            other = self.others(leader)[0]
            terms = self.terms(other)
            leader.process.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            eventually('the other one leads', lambda: self.terms(other) > terms, within=5, every=0.01)
            print(f'the other one leads {time.monotonic() - began:.2f} s after SIGTERM {way}')
            self.assertEqual(leader.process.stop(), 0)
            leader.start()
            self.way.cut()
            eventually('Redis is away', lambda: self.all_up(0))

    @contextlib.contextmanager
    def counts_seen(self):
        """The keys that attempts to join are counted by, meanwhile: they are gone soon after an attempt."""
        keys, over = set(), threading.Event()

        def look():
            while not over.is_set():
                keys.update(self.redis.cli('--scan', '--pattern', 'muster:*:join:rate:*').split())
        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield keys
        finally:
            over.set()
            thread.join()

    @staticmethod
    def terms(plane):
        return len(re.findall(r'this replica leads(?! no more)', plane.process.log()))

    def test_a_replica_starts_without_redis_and_counts_joins_with_the_others_when_it_has_it(self):
        self.redis.process.kill()
        third = Replica(self.folder, 'control-9', self.planes[0].store, self.planes[0], self.planes[0].redis)
        third.start()
        self.addCleanup(lambda: third.process.end())
        self.assertEqual(third.metric('muster_redis_up'), 0)
        Agent(third, self.folder, 'late-0')
        self.redis.start()
        self.planes.append(third)
        eventually('Redis is used', lambda: self.all_up(1))
        with self.counts_seen() as keys:
            for number, plane in enumerate(self.planes):
                Agent(plane, self.folder, f'late-{number + 1}')
        self.assertEqual(len(keys), 1, 'one count for all replicas')
        with self.exhausted(*keys):
            for plane in self.planes:
                self.assertIn('too many attempts to join', self.join(plane, 'somebody').stderr)
        # Nobody's enrolment ends with Redis.
        self.redis.process.kill()
        eventually('Redis is away', lambda: self.all_up(0))
        Agent(third, self.folder, 'late-9')
        self.redis.start()

    @contextlib.contextmanager
    def exhausted(self, key):
        """As if the address tried all the time: its 200 at once are gone until 20 s from now, whenever now is."""
        done = threading.Event()

        def exhaust():
            with socket.create_connection(('127.0.0.1', self.redis.port)) as redis:
                while not done.wait(0.005):
                    redis.sendall(f'SET {key} {int((time.time() + 19.999) * 1e6)}\r\n'.encode())
                    redis.recv(100)
        exhausting = threading.Thread(target=exhaust)
        exhausting.start()
        try:
            yield
        finally:
            done.set()
            exhausting.join()

    def join(self, plane, name):
        token = plane.ctl('token', 'create', '--agent', name).stdout
        return run(f'{BIN}/muster-agent', 'join', '--data', os.path.join(self.folder, f'joining-{plane.port}'),
                   '--server', f'127.0.0.1:{plane.enroll_port}', '--token-file', '-', stdin=token)

    def test_a_redis_url_that_cannot_be_is_refused_before_anything_starts(self):
        for url, said in ((f'redis://muster:{PASSWORD}@127.0.0.1', 'password'),
                          ('http://127.0.0.1', 'cannot be read; write redis://'),
                          ('redis://127.0.0.1?password_file=/nonexistent', '/nonexistent')):
            ran = run(f'{BIN}/muster-control', 'run', '--data', os.path.join(self.folder, 'nobody'), '--redis', url)
            self.assertNotEqual(ran.returncode, 0)
            self.assertIn(said, ran.stderr)
            self.assertNotIn(PASSWORD, ran.stdout + ran.stderr)
            self.assertFalse(os.path.exists(os.path.join(self.folder, 'nobody')))

    def test_the_metrics_are_as_prometheus_wants_them(self):
        checked = subprocess.run(['promtool', 'check', 'metrics'], input=self.planes[0].metrics(), text=True,
                                 capture_output=True, check=False)
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ''))


if __name__ == '__main__':
    main()
