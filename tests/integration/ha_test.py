"""The test bed of deploy/ha: each part dies once under running checks; who is left takes over, and no result is lost.

MUSTER_HA_ROUNDS asks for that many rounds of killing and pausing whoever the draw names; MUSTER_SEED is its seed.
"""
import datetime
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from harness import BIN, PYTHON, ROOT, eventually, main, run

HA = os.path.join(ROOT, 'deploy', 'ha', 'ha')
PROGRAMS = ('/usr/bin/etcd', '/usr/bin/patroni', '/usr/bin/redis-server', '/usr/bin/redis-sentinel',
            '/usr/sbin/haproxy', '/usr/lib/postgresql/15/bin/postgres')
AGENTS = 3
CHECKS = ('store', 'cache', 'front-door', 'replica-1-ready')
ROUNDS = int(os.environ.get('MUSTER_HA_ROUNDS', '0'))
VICTIMS = ('leader', 'leader', 'follower', 'primary', 'standby', 'redis', 'redis-replica', 'sentinel-2', 'haproxy-1',
           'haproxy-2', 'etcd-leader')
# A check a second; what a busy machine may delay it by.
LONGEST_PAUSE = 6.0

_ports = iter(range(20000 + os.getpid() * 300 % 9000, 29900, 100))


def missing_programs():
    return [path for path in PROGRAMS if not os.access(path, os.X_OK)]


def processes_of(folder):
    """Every process that was started with a path in that folder, or works in it."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/cmdline', 'rb') as file:
                words = file.read().decode('utf-8', 'replace')
            if int(pid) != os.getpid() and (folder in words or os.readlink(f'/proc/{pid}/cwd').startswith(folder)):
                found.append(f'{pid} {words.replace(chr(0), " ")}')
        except OSError:
            continue
    return found


@unittest.skipIf(missing_programs(), f'not installed: {", ".join(missing_programs())}; `scripts/install-deps test`')
class Bed(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='muster-ha-')
        os.chmod(self.folder, 0o711)  # PostgreSQL's user goes through it
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(self.ha, 'down')
        self.data, self.port = os.path.join(self.folder, 'bed'), next(_ports)

    def ha(self, *argv, timeout=300):
        return run(PYTHON, HA, argv[0], '--data', self.data, *argv[1:], timeout=timeout)

    def do(self, *argv):
        ran = self.ha(*argv)
        self.assertEqual(ran.returncode, 0, f'ha {" ".join(argv)}\n{ran.stdout}{ran.stderr}')
        return ran.stdout

    def up(self):
        return self.do('up', '--bin', BIN, '--port', str(self.port), '--agents', str(AGENTS), '--every', '1s')

    def rows(self):
        return {row['name']: row for row in json.loads(self.ha('status', '--json').stdout)['items']}

    def marked(self, role, mark):
        return next((name for name, row in self.rows().items() if (row['role'], row['is']) == (role, mark)), None)

    def ctl(self, *argv):
        ran = run(f'{BIN}/musterctl', '--context', self.do('context').strip(), *argv)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return ran.stdout

    def stored(self):
        """{agent: records stored}; None while nobody answers."""
        ran = run(f'{BIN}/musterctl', '--context', f'{self.data}/admin.context', 'get', 'agents', '-o', 'json')
        if ran.returncode != 0:
            return None
        return {item['name']: int(item['committedSeq']) for item in json.loads(ran.stdout)['items'] if item['connected']}

    def everybody_is_stored_again(self):
        before = eventually('agents are known', self.stored, within=60)

        def grown():
            now = self.stored() or {}
            return len(now) == AGENTS and all(now[name] > before.get(name, 0) + len(CHECKS) for name in now)
        eventually('results of every agent are stored', grown, within=60)

    def verify_histories(self):
        for agent in json.loads(self.ctl('get', 'agents', '-o', 'json'))['items']:
            self.assertEqual(agent['gaps'], [])
            histories = {check: self.history(check, agent['name']) for check in CHECKS}
            self.verify_sequence(agent['name'], histories)
            for check, entries in histories.items():
                self.verify_cadence(f'{check} on {agent["name"]}', entries)

    def history(self, check, agent):
        text = self.ctl('history', check, '--agent', agent, '--since', '24h', '-o', 'json')
        entries = [json.loads(line) for line in text.splitlines()]
        self.assertFalse([entry for entry in entries if entry.get('gap')])
        return sorted(entries, key=lambda entry: int(entry['seq']))

    def verify_sequence(self, agent, histories):
        """Once every check has begun, the log holds nothing but results: each number is there, and once."""
        begun = max(int(entries[0]['seq']) for entries in histories.values())
        seqs = sorted(int(entry['seq']) for entries in histories.values() for entry in entries)
        late = [seq for seq in seqs if seq >= begun]
        last = min(int(entries[-1]['seq']) for entries in histories.values())
        self.assertEqual(len(seqs), len(set(seqs)), f'{agent}: a result is doubled')
        self.assertEqual([seq for seq in late if seq <= last], list(range(begun, last + 1)), f'{agent}: a result is lost')

    def verify_cadence(self, what, entries):
        times = sorted(datetime.datetime.fromisoformat(entry['observedAt'][:26].rstrip('Z')) for entry in entries)
        pause, since = max(((after - before).total_seconds(), before) for before, after in zip(times, times[1:]))
        self.assertLess(pause, LONGEST_PAUSE, f'{what}: the schedule was not kept from {since} on')

    def verify_down(self):
        before = processes_of(self.data)
        self.assertGreater(len(before), 15)
        self.do('down')
        self.assertEqual(processes_of(self.data), [])


class Whole(Bed):
    def test_each_part_dies_once_and_no_result_is_lost(self):
        self.up()
        pids = {name: row['pid'] for name, row in self.rows().items()}
        self.up()
        self.assertEqual(pids, {name: row['pid'] for name, row in self.rows().items()}, 'up twice starts nothing')
        self.everybody_is_stored_again()
        self.dies('leader', 'replica', 'leader')
        self.dies('primary', 'postgres', 'primary')
        self.dies('redis', 'redis', 'master')
        self.dies('haproxy')
        self.everybody_is_stored_again()
        self.verify_histories()
        self.verify_down()

    def dies(self, what, role=None, mark=None):
        """kill -9; another one has its mark; agents are served; it comes back."""
        victim = self.do('kill', what).split()[2].rstrip(':')
        began = time.monotonic()
        row = self.rows()[victim]
        self.assertEqual(self.ha('status').returncode, 1)
        self.assertEqual((row['well'], row['detail']), (False, 'does not run'))
        taken_over = ''
        if mark:
            heir = eventually(f'another {mark}', lambda: self.marked(role, mark), within=60)
            self.assertNotEqual(heir, victim)
            taken_over = f'taken over after {time.monotonic() - began:.1f} s, '
        self.everybody_is_stored_again()
        served = time.monotonic() - began
        self.do('start', victim)
        eventually('all is well', lambda: self.ha('status').returncode == 0, within=90)
        print(f'{what} ({victim}): {taken_over}every agent stored after {served:.1f} s', file=sys.stderr)


@unittest.skipUnless(ROUNDS, 'the long form: MUSTER_HA_ROUNDS says how many rounds; `make soak` does')
class Storm(Bed):
    def test_no_result_is_lost_whoever_dies_or_sleeps(self):
        self.up()
        self.everybody_is_stored_again()
        for number in range(ROUNDS):
            victim, how = self.strike(number)
            time.sleep(random.uniform(2, 20))
            self.do('start', victim)
            eventually(f'all is well after round {number}: {how} {victim}',
                       lambda: self.ha('status').returncode == 0, within=120)
        self.everybody_is_stored_again()
        self.verify_histories()
        self.verify_down()

    def strike(self, number):
        what, how = random.choice(VICTIMS), random.choice(['KILL', 'STOP'])
        said = self.do('kill', what, '--signal', how)
        print(f'round {number}: {what}: {said.strip()}', file=sys.stderr)
        return said.split()[2].rstrip(':'), how


class Faults(Bed):
    def test_a_taken_port_is_named_with_the_remedy(self):
        self.port = next(_ports)
        taken = subprocess.Popen([PYTHON, '-c', 'import socket, sys; s = socket.create_server(("127.0.0.1", '
                                  f'{self.port + 40})); print("up", flush=True); sys.stdin.read()'],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(taken.communicate)
        taken.stdout.readline()
        ran = self.ha('up', '--bin', BIN, '--port', str(self.port))
        self.assertEqual(ran.returncode, 1)
        self.assertIn(f'etcd-1: port {self.port + 40} is taken', ran.stderr)
        self.assertIn('--port FIRST', ran.stderr)

    def test_a_pid_that_was_given_out_again_is_left_alone(self):
        os.makedirs(os.path.join(self.data, 'run'))
        with open(os.path.join(self.data, 'ha.json'), 'w', encoding='utf-8') as file:
            json.dump({'data': self.data, 'bin': BIN, 'port': self.port}, file)
        bystander = subprocess.Popen(['sleep', '60'])
        self.addCleanup(bystander.wait)
        self.addCleanup(bystander.kill)
        with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as file:
            record = {'pid': bystander.pid, 'started': 1, 'boot': file.read().strip()}
        with open(os.path.join(self.data, 'run', 'etcd-1.json'), 'w', encoding='utf-8') as file:
            json.dump(record, file)
        self.do('down')
        self.assertIsNone(bystander.poll())

    def test_what_is_not_there_is_said_with_what_is(self):
        self.assertIn('`ha up` makes one', self.ha('status').stderr)
        os.makedirs(self.data)
        with open(os.path.join(self.data, 'ha.json'), 'w', encoding='utf-8') as file:
            json.dump({'data': self.data, 'bin': BIN, 'port': self.port}, file)
        ran = self.ha('kill', 'nonsense')
        self.assertEqual(ran.returncode, 1)
        self.assertIn('sentinel-3', ran.stderr)


if __name__ == '__main__':
    main()
