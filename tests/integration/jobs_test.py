"""Jobs as their user meets them: a command runs by hand and by its schedule, its end is told, what fails raises an alert;
then control plane and agent are killed at random moments, and every effect happens at most once (C3, C4).

MUSTER_ROUNDS says how often they are killed (default 6; `make soak` takes 50), MUSTER_SEED with which draws.
"""
import collections
import datetime
import json
import os
import random
import time

from break_and_mend_test import Sink
from harness import Case, eventually, main

SCRIPT = '''#!/bin/sh
echo "begin $MUSTER_RUN $MUSTER_ATTEMPT" >> {effects}
echo "out of $MUSTER_JOB"
echo "err of $MUSTER_JOB" >&2
sleep {sleep}
echo "end $MUSTER_RUN $MUSTER_ATTEMPT" >> {effects}
exit {code}
'''

JOB = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: {name}}}
spec:
  agents: {{agent: host-1}}
{extra}
  command: {{argv: [{program}], repeatable: true}}
'''


class JobCase(Case):
    """Programs that note what they do in a file, jobs that run them, and the verdict on what came of it."""
    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        self.effects = os.path.join(self.folder, 'effects')

    def script(self, name, code=0, sleep=0):
        path = os.path.join(self.folder, name + '.sh')
        with open(path, 'w', encoding='utf-8') as file:
            file.write(SCRIPT.format(effects=self.effects, code=code, sleep=sleep))
        os.chmod(path, 0o755)
        return path

    def host(self, plane, *programs):
        policy = os.path.join(self.folder, 'policy.yaml')
        with open(policy, 'w', encoding='utf-8') as file:
            file.write(f'probes: [host]\njobs: [command]\ncommands: {json.dumps(list(programs))}\n')
        os.chmod(policy, 0o600)
        return self.agent(plane, config=f'policy: {policy}\n')

    def job(self, plane, name, program, extra='  deadline: 1m'):
        return plane.apply(JOB.format(name=name, program=program, extra=extra))

    def told(self):
        """(begun, ended) by run: how often each has had its effect."""
        begun, ended = collections.Counter(), collections.Counter()
        if os.path.exists(self.effects):
            with open(self.effects, encoding='utf-8') as file:
                for line in file:
                    what, run, _ = line.split()
                    (begun if what == 'begin' else ended)[run] += 1
        return begun, ended

    def verify(self, runs, kills):
        begun, ended = self.told()
        self.assertTrue(all(count == 1 for count in begun.values()), 'an effect happened twice')
        states = collections.Counter(run['state'] for run in runs)
        known = {run['id']: run['state'] for run in runs}
        self.assertEqual(set(begun) - set(known), set(), 'a run that nobody knows of')
        for run, state in known.items():
            if state == 'SUCCEEDED':
                self.assertEqual((begun[run], ended[run]), (1, 1), f'{run} did not succeed')
            elif state == 'MISSED':
                self.assertEqual(begun[run], 0, f'{run} began, and counts as missed')
            else:
                self.assertEqual(state, 'UNKNOWN')
        self.assertLessEqual(states['UNKNOWN'], 4 * kills)  # a host takes so many at once
        slots = sorted(run['slot'] for run in runs)
        parse = datetime.datetime.fromisoformat
        first, last = (parse(slots[at].replace('Z', '+00:00')) for at in (0, -1))
        covered = sum(run.get('slots', 1) for run in runs)
        self.assertEqual(covered, int((last - first).total_seconds()) + 1, 'a slot has no run, or two')
        print(f'{covered} slots: {dict(states)}, {kills} agent kills')


class Jobs(JobCase):
    def test_a_command_runs_and_its_end_is_told(self):
        plane = self.plane()
        program = self.script('good')
        self.host(plane, program)
        self.job(plane, 'good', program)
        ran = json.loads(plane.ctl('run', 'good', '--wait', '-o', 'json').stdout)
        self.assertEqual((ran['state'], ran['agent'], ran['exitCode'], ran['job']), ('SUCCEEDED', 'host-1', 0, 'good'))
        self.assertIn('startedAt', ran)
        self.assertIn('finishedAt', ran)
        begun, ended = self.told()
        self.assertEqual((begun[ran['id']], ended[ran['id']]), (1, 1))
        self.assertIn(ran['id'], [item['id'] for item in plane.items('get', 'runs')])
        log = plane.ctl('logs', ran['id'])
        self.assertIn('out of good', log.stdout)
        self.assertIn('err of good', log.stdout)
        self.assertIn('assigned', plane.ctl('describe', 'run', ran['id']).stdout)
        self.assertEqual(plane.ctl('run', 'nothing', check=False).returncode, 3)

    def test_what_fails_raises_an_alert_and_what_succeeds_resolves_it(self):
        sink = Sink()
        plane = self.plane()
        program = self.script('flaky', code=3)
        self.host(plane, program)
        plane.apply(f'apiVersion: muster/v1\nkind: Receiver\nmetadata: {{name: hook}}\n'
                    f'spec: {{webhook: {{url: "http://127.0.0.1:{sink.server_port}/hook"}}}}\n')
        self.job(plane, 'flaky', program)
        failed = plane.ctl('run', 'flaky', '--wait', '-o', 'json', check=False)
        self.assertEqual(failed.returncode, 1, failed.stderr)
        self.assertEqual(json.loads(failed.stdout)['reason'], 'exit code 3')
        alert = eventually('alert', lambda: plane.alerts(name='job/flaky', state='FIRING'))[0]
        self.assertIn('exit code 3', alert['summary'])
        eventually('told', lambda: 'raised' in self.events(sink))
        self.script('flaky', code=0)
        plane.ctl('run', 'flaky', '--wait')
        eventually('resolved', lambda: not plane.alerts(name='job/flaky', state='FIRING'))
        eventually('told', lambda: 'resolved' in self.events(sink))

    def test_what_the_host_does_not_allow_does_not_happen(self):
        plane = self.plane()
        program = self.script('other')
        self.host(plane, '/bin/true')
        self.job(plane, 'other', program)
        refused = plane.ctl('run', 'other', '--wait', '-o', 'json', check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn('commands', json.loads(refused.stdout)['reason'])
        self.assertFalse(os.path.exists(self.effects))

    def test_a_deadline_and_a_cancel_end_all_that_the_run_began(self):
        plane = self.plane()
        program = self.script('slow', sleep=600)
        self.host(plane, program)
        self.job(plane, 'slow', program, extra='  deadline: 2s')
        late = plane.ctl('run', 'slow', '--wait', '-o', 'json', check=False)
        self.assertEqual((late.returncode, json.loads(late.stdout)['state']), (1, 'TIMED_OUT'))
        self.job(plane, 'slow', program, extra='  deadline: 1h')
        run = json.loads(plane.ctl('run', 'slow', '-o', 'json').stdout)['id']
        eventually('begun', lambda: self.told()[0][run] == 1)
        plane.ctl('cancel', run, '--reason', 'not now')
        eventually('cancelled', lambda: self.state(plane, run) == 'CANCELLED')
        self.assertEqual(self.told()[1], {})

    @staticmethod
    def events(sink):
        return [body['event'] for body in sink.of('/hook') if body['alert']['name'] == 'job/flaky']

    def state(self, plane, run):
        return next(item['state'] for item in plane.items('get', 'runs') if item['id'] == run)

    def test_a_run_whose_agent_is_killed_is_unknown_and_not_repeated(self):
        plane = self.plane()
        program = self.script('cut', sleep=30)
        agent = self.host(plane, program)
        self.job(plane, 'cut', program, extra='  retry: {attempts: 3, wait: 1s}\n  deadline: 1h')
        run = json.loads(plane.ctl('run', 'cut', '-o', 'json').stdout)['id']
        eventually('begun', lambda: self.told()[0][run] == 1)
        agent.process.kill()
        agent.start()
        eventually('unknown', lambda: self.state(plane, run) == 'UNKNOWN')
        eventually('alert', lambda: plane.alerts(name='job/cut', state='FIRING'))
        waited = plane.ctl('describe', 'run', run).stdout
        self.assertIn('nobody saw its end', waited)
        time.sleep(3)
        self.assertEqual(self.told()[0][run], 1)
        self.assertEqual(self.told()[1][run], 0)  # what it left was ended

    def test_a_run_survives_the_control_plane(self):
        plane = self.plane()
        program = self.script('long', sleep=4)
        self.host(plane, program)
        self.job(plane, 'long', program)
        run = json.loads(plane.ctl('run', 'long', '-o', 'json').stdout)['id']
        eventually('begun', lambda: self.told()[0][run] == 1)
        plane.process.kill()
        time.sleep(5)
        plane.start()
        eventually('succeeded', lambda: self.state(plane, run) == 'SUCCEEDED')
        self.assertEqual((self.told()[0][run], self.told()[1][run]), (1, 1))

    def test_paused_slots_are_missed_and_can_be_filled(self):
        plane = self.plane()
        program = self.script('each')
        self.host(plane, program)
        self.job(plane, 'each', program, extra='  schedule: {every: 1s, overlap: allow}\n  deadline: 1m')
        eventually('runs', lambda: len(self.told()[1]) >= 2)
        plane.ctl('pause', 'each', '--reason', 'test')
        time.sleep(1)
        before = len(self.told()[0])
        since = datetime.datetime.now(datetime.timezone.utc)
        time.sleep(3)
        self.assertLessEqual(len(self.told()[0]), before + 1)
        until = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=1)
        plane.ctl('resume', 'each')
        eventually('missed', lambda: [run for run in plane.items('get', 'runs', '--state', 'missed')
                                      if 'paused' in run['reason']])
        self.assertFalse(plane.alerts(name='job/each'))
        plane.ctl('pause', 'each')
        stamp = '%Y-%m-%dT%H:%M:%S.%fZ'
        filled = plane.items('backfill', 'each', '--from', since.strftime(stamp), '--until', until.strftime(stamp))
        self.assertGreaterEqual(len(filled), 1)
        ids = {item['id'] for item in filled}
        eventually('filled', lambda: ids <= set(self.told()[1]))
        self.assertTrue(all(count == 1 for count in self.told()[0].values()))

    def test_every_effect_happens_at_most_once_whoever_is_killed(self):
        rounds = int(os.environ.get('MUSTER_ROUNDS', '6'))
        plane = self.plane()
        program = self.script('each', sleep=0.3)
        agent = self.host(plane, program)
        self.job(plane, 'each', program, extra='  schedule: {every: 1s, overlap: allow}\n  deadline: 1m')
        eventually('runs', lambda: len(self.told()[1]) >= 2)
        kills = 0
        for _ in range(rounds):
            time.sleep(random.uniform(0.2, 1.5))
            victims = random.choice([(plane,), (agent,), (plane, agent)])
            for victim in victims:
                victim.process.kill()
            kills += agent in victims
            time.sleep(random.uniform(0, 1.0))
            for victim in victims:
                victim.start()
        eventually('connected again', agent.connected)
        done = len(self.told()[1])
        eventually('runs again', lambda: len(self.told()[1]) > done + 2)
        plane.ctl('pause', 'each')
        eventually('all over', lambda: not [run for run in plane.items('get', 'runs', '--limit', '1000')
                                            if run['state'] in ('QUEUED', 'RUNNING')])
        self.verify(plane.items('get', 'runs', '--limit', '1000'), kills)


if __name__ == '__main__':
    main()
