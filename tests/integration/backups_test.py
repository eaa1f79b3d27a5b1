"""Backups whose programs are killed: agent and control plane, at any moment of a backup and in each of its stages, by control
plane, agent, PostgreSQL and restic as they are.

A run that says SUCCEEDED has a backup in the repository that holds what the source held; one that was cut off says
UNKNOWN; nothing of it is left, and the next one is good. backups_damage_test.py turns bits of a repository,
backups_failure_test.py lets everything else go wrong.

MUSTER_ROUNDS says how often is killed (default 2; `scripts/soak backups` takes 50), MUSTER_SEED with which draws.
"""
import collections
import datetime
import itertools
import json
import os
import random
import sys
import time
import unittest

from harness import SUPPORT, Agent, Case, Plane, eventually, free_port, main

sys.path.insert(0, SUPPORT)
# pylint: disable=wrong-import-position
from backup_bed import STAGES, Canaries, ResticRepository, Source, left_of_runs, stages, wait_for, write_secret  # noqa: E402

BACKUP = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: {name}}}
spec:
  agents: {{agent: host-1}}
  deadline: 5m
{extra}
  backup:
    {source}
    repository: {{path: {repository}, password: {{secret: "file:{key}"}}, create: true}}
    staging: {staging}
    verify: {{restore: {restore}, queries: {queries}}}
'''
FORGET = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: forget}}
spec:
  agents: {{agent: host-1}}
  forgetBackups:
    snapshotIds: {snapshots}
    prune: true
    repository: {{path: {repository}, password: {{secret: "file:{key}"}}}}
    staging: {staging}
'''
EVERY = 2  # seconds from slot to slot
WITHIN = 180  # of a run on a machine that is busy with other work


class BackupCase(Case):
    """A source, a repository, a host that may back up, and who judges what comes of it."""
    BULK_ROWS = 2000

    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o711)
        self.canaries = Canaries()
        self.addCleanup(self.canaries.stop)
        self.said = []  # all that musterctl printed
        self.staging = os.path.join(self.folder, 'staging')
        self.key, self.dsn = (os.path.join(self.folder, name) for name in ('repository.key', 'pg.dsn'))
        write_secret(self.key, self.canaries.password('the-repository'))
        self.repository = ResticRepository(os.path.join(self.folder, 'repository'), self.key)
        self.source = Source(self.folder, free_port(), self.canaries.password('postgres'), self.BULK_ROWS)
        self.addCleanup(self.source.stop)
        write_secret(self.dsn, self.source.dsn())
        self.source.write(3)

    def host(self, prefix=()):
        self.plane = Plane(self.folder).start()
        self.addCleanup(lambda: self.plane.process.end())
        policy = os.path.join(self.folder, 'policy.yaml')
        write_secret(policy, f'jobs: [backup, restore, forget]\nnetworks: [127.0.0.0/8]\npaths: [{self.folder}]\n')
        self.host_1 = Agent(self.plane, self.folder, 'host-1', config=f'policy: {policy}\n')
        self.start_agent = lambda: self.host_1.start(prefix)
        self.start_agent()
        self.addCleanup(lambda: self.host_1.process.end())
        eventually('agent connected', self.host_1.connected)

    def ctl(self, *argv, check=True, stdin=''):
        ran = self.plane.ctl(*argv, check=check, stdin=stdin, timeout=WITHIN)
        self.said.append(ran.stdout + ran.stderr)
        return ran

    def places(self):
        return {'repository': self.repository.path, 'key': self.key, 'staging': self.staging}

    def postgres_job(self, name, restore=False, queries=(), extra=''):
        self.ctl('apply', '-f', '-', stdin=BACKUP.format(
            name=name, extra=extra, source=f'postgres: {{connection: {{secret: "file:{self.dsn}"}}, parallel: 2}}',
            restore=str(restore).lower(), queries=json.dumps(list(queries)), **self.places()))

    def run_job(self, name):
        """By hand, to its end."""
        ran = self.ctl('run', name, '--wait', '-o', 'json', check=False)
        self.assertIn(ran.returncode, (0, 1, 8), ran.stderr)
        return json.loads(ran.stdout)

    def runs(self, job):
        return json.loads(self.ctl('get', 'runs', '--job', job, '--limit', '1000', '-o', 'json').stdout)['items']

    def begun_runs(self):
        return {run['id'] for job in json.loads(self.ctl('get', 'jobs', '-o', 'json').stdout)['items']
                for run in self.runs(job['name']) if run['state'] != 'MISSED'}

    def expect_good(self, run):
        self.assertEqual(run['state'], 'SUCCEEDED', f'{run["reason"]}\n{self.ctl("logs", run["id"]).stdout}')

    def expect_nothing_left(self):
        """Of a run that is over, whatever became of it."""
        self.assertLessEqual(set(os.listdir(self.staging)), {'.lock'} | self.ALLOWED_IN_STAGING)
        self.assertEqual(left_of_runs(self.staging, self.begun_runs()), [])

    ALLOWED_IN_STAGING = frozenset()

    def expect_no_canary(self):
        """In no argument or environment of any process, nothing that was said, and no file but those of the secrets."""
        for run_id in self.begun_runs():
            self.ctl('logs', run_id)
            self.ctl('describe', 'run', run_id)
        self.ctl('get', 'alerts', '-o', 'json')
        self.canaries.stop()
        self.assertEqual(self.canaries.seen, [])
        self.assertIn('/usr/bin/restic', self.canaries.programs)
        self.assertNotIn(self.canaries.word, ''.join(self.said))
        secrets = [os.path.join(self.folder, name) for name in os.listdir(self.folder) if name.endswith(('.key', '.dsn'))]
        self.assertEqual(self.canaries.find_in(self.folder, but=secrets), [])
        # The search itself finds what is there.
        self.assertEqual(len(self.canaries.find_in(self.folder)), len(secrets))
        print(f'no password in {self.canaries.looked} looks at processes of {len(self.canaries.programs)} programs')


@unittest.skipUnless(os.geteuid() == 0, 'needs to look at processes of others')
class Killed(BackupCase):
    BULK_ROWS = 60000

    def setUp(self):
        super().setUp()
        self.source.start_writing()
        self.host()
        self.moments = {}  # of a run: the first and last one that it may hold
        self.postgres_job('nightly', restore=True, extra=f'  schedule: {{every: {EVERY}s, catchUp: 1m}}', queries=[
            'select count(*) = (select count(*) from payments) from orders',
            f'select count(*) = {self.BULK_ROWS} from bulk'])
        self.ctl('pause', 'nightly', '--reason', 'one at a time')
        for run in self.runs('nightly'):  # of a slot that was quicker
            self.moments[run['id']] = [0, None]
            self.over(run['id'])

    def begin(self):
        """The next slot's run, and none after it."""
        known = {run['id'] for run in self.runs('nightly')}
        first = self.source.written
        self.ctl('resume', 'nightly')
        begun = eventually('begun', lambda: [run for run in self.runs('nightly') if run['id'] not in known
                                             and run['state'] == 'RUNNING'], within=60)
        self.ctl('pause', 'nightly', '--reason', 'one at a time')
        self.moments[begun[0]['id']] = [first, None]
        return begun[0]['id']

    def over(self, run):
        def look():
            found = next(item for item in self.runs('nightly') if item['id'] == run)
            return found if found['state'] not in ('QUEUED', 'RUNNING') else None
        found = eventually('over', look, within=WITHIN, every=0.2)
        self.moments[run][1] = self.source.written + 1  # one may be on its way
        return found

    def is_over(self, run):
        return next(item for item in self.runs('nightly') if item['id'] == run)['state'] not in ('QUEUED', 'RUNNING')

    def reach(self, run, stage):
        """Until the run is there, and a moment more; None is anywhere in a run, or shortly after it."""
        if stage is None:
            time.sleep(random.uniform(0, 1.2 * self.lasts))
        else:
            self.assertTrue(wait_for(lambda: stage in stages(run), within=60), f'{stage} was not seen')
            time.sleep(random.choice([0, random.uniform(0, 0.3)]))
        return ','.join(sorted(stages(run))) or 'between'

    def kill(self, victims):
        for victim in victims:
            victim.process.kill()
        time.sleep(random.uniform(0, 2))
        for victim in random.sample(victims, len(victims)):
            (self.start_agent if victim is self.host_1 else self.plane.start)()

    def a_good_one(self):
        began = time.monotonic()
        good = self.over(self.begin())
        self.expect_good(good)
        self.lasts = time.monotonic() - began
        self.expect_nothing_left()
        return good

    def test_a_green_run_is_a_good_backup_whoever_is_killed(self):
        rounds = int(os.environ.get('MUSTER_ROUNDS', '2'))
        who = {'agent': [self.host_1], 'control plane': [self.plane], 'both': [self.plane, self.host_1]}
        plan = list(itertools.product([*STAGES, None], who))
        random.shuffle(plan)
        plan = [('stores', 'agent'), *(at for at in plan if at != ('stores', 'agent'))]
        self.a_good_one()
        hits, killed = collections.Counter(), {}
        for stage, whom in itertools.islice(itertools.cycle(plan), rounds):
            cut = self.begin()
            hits[self.reach(cut, stage)] += 1
            self.kill(who[whom])
            eventually('connected again', self.host_1.connected, within=60)
            killed[cut] = whom
            state = self.over(cut)['state']
            if state == 'UNKNOWN':
                eventually('alert', lambda: self.plane.alerts(name='job/nightly', state='FIRING'))
            print(f'{whom} killed, {stage or "anywhere"}: {state}', flush=True)
            self.a_good_one()
            eventually('resolved', lambda: not self.plane.alerts(name='job/nightly', state='FIRING'))
        if rounds >= len(plan):
            self.assertEqual({stage for stage in STAGES if not any(stage in hit for hit in hits)}, set())
        runs = self.runs('nightly')
        self.judge_slots(runs)
        self.judge_outcomes(runs, killed)
        print(f'killed while: {dict(hits)}; {len(self.repository.locks())} locks of the dead are left')
        self.forget_what_nobody_saw(runs)
        self.expect_no_canary()

    def judge_slots(self, runs):
        slots = sorted(run['slot'] for run in runs)
        self.assertEqual(len(slots), len(set(slots)), 'a slot has two runs')
        first, last = (datetime.datetime.fromisoformat(slots[at].replace('Z', '+00:00')) for at in (0, -1))
        last_covers = max(runs, key=lambda run: run['slot']).get('slots', 1)
        covered = sum(run.get('slots', 1) for run in runs) - (last_covers - 1)
        self.assertEqual(covered, int((last - first).total_seconds()) // EVERY + 1, 'a slot has no run, or two')

    def judge_outcomes(self, runs, killed):
        snapshots = self.repository.by_run()
        states = collections.Counter()
        for run in runs:
            made = snapshots.pop(run['id'], [])
            states[run['state']] += 1
            if run['state'] == 'SUCCEEDED':
                self.assertEqual(len(made), 1, 'a green run without its backup')
                self.assertIn(f'snapshot {made[0][:8]}', run['reason'])
                self.judge_backup(run['id'], made[0])
            elif run['state'] == 'UNKNOWN':
                self.assertIn(killed.get(run['id']), ('agent', 'both'), 'a run whose agent lived is known')
                self.assertIn('nobody saw its end', run['reason'])
                self.assertLessEqual(len(made), 1)
                states['UNKNOWN, with a snapshot'] += len(made)
            else:
                self.assertEqual((run['state'], made), ('MISSED', []))
        self.assertEqual(snapshots, {}, 'snapshots that no run explains')
        print(f'{dict(states)}; every backup of a green run was restored and is a moment of the source')

    def judge_backup(self, run, snapshot):
        first, last = self.moments[run]
        with self.repository.restored(snapshot) as folder:
            moment = self.source.moment_of_dump(folder)
        self.assertTrue(first <= moment <= last, f'the backup is of moment {moment}, the run of {first} to {last}')

    def forget_what_nobody_saw(self, runs):
        """Removing and pruning needs the repository alone: locks of the killed must not stand in its way."""
        known = {run['id']: run['state'] for run in runs}
        made = self.repository.by_run()
        gone = [one for run, ones in made.items() if known[run] == 'UNKNOWN' for one in ones] or [next(iter(made.values()))[0]]
        self.ctl('apply', '-f', '-', stdin=FORGET.format(snapshots=json.dumps(gone), **self.places()))
        self.expect_good(self.run_job('forget'))
        left = set(self.repository.snapshots())
        self.assertEqual(left, {one for ones in made.values() for one in ones} - set(gone))
        self.repository.restic('check', '--read-data')


if __name__ == '__main__':
    main()
