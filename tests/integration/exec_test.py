"""Runs that the host's own scheduler begins, and tells of through muster-agent exec: as their users meet them."""
import datetime
import json
import os
import random
import signal
import subprocess
import time
import unittest

from break_and_mend_test import Sink
from harness import BIN, Case, eventually, main, run

JOB = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: {name}}}
spec:
  agents: {{agent: host-1}}
{extra}
  reported: {{{task}}}
'''


def soon(seconds):
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return at.strftime('%Y-%m-%dT%H:%M:%SZ')


class Exec(Case):
    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        self.control = self.plane()
        self.policy = os.path.join(self.folder, 'policy.yaml')
        self.allow()
        self.host = self.agent(self.control, config=f'policy: {self.policy}\n')

    def allow(self, reports=None):
        with open(self.policy, 'w', encoding='utf-8') as file:
            file.write('probes: [host]\n' + (f'reports: {json.dumps(reports)}\n' if reports else ''))
        os.chmod(self.policy, 0o600)

    def job(self, name, extra='', task=''):
        self.control.apply(JOB.format(name=name, extra=extra, task=task))

    def argv(self, job, script):
        return [f'{BIN}/muster-agent', 'exec', '--data', self.host.data, '--job', job, '--', '/bin/sh', '-c', script]

    def exec(self, job, script, **options):
        return subprocess.run(self.argv(job, script), capture_output=True, text=True, check=False, timeout=60, **options)

    def begin(self, job, script):
        began = subprocess.Popen(self.argv(job, script), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        self.addCleanup(began.wait)
        self.addCleanup(began.kill)
        return began

    def runs(self, job, **want):
        return [item for item in self.control.items('get', 'runs', '--job', job, '--limit', '1000')
                if all(item.get(key) == value for key, value in want.items())]

    def firing(self, name):
        return self.control.alerts(name=name, state='FIRING')

    def test_a_run_is_told_and_the_caller_notices_nothing(self):
        self.job('report')
        told = self.exec('report', 'cat; pwd; echo "$DAY"; echo bad >&2; exit 0', input='from stdin\n', cwd='/usr',
                         env={**os.environ, 'DAY': 'monday'})
        self.assertEqual((told.returncode, told.stdout, told.stderr), (0, 'from stdin\n/usr\nmonday\n', 'bad\n'))
        ran = eventually('run', lambda: self.runs('report', state='SUCCEEDED'))[0]
        self.assertEqual((ran['agent'], ran['trigger'], ran['exitCode']), ('host-1', 'REPORTED', 0))
        log = self.control.ctl('logs', ran['id'])
        self.assertIn('monday', log.stdout)
        self.assertIn('bad', log.stdout)
        text = self.control.ctl('describe', 'run', ran['id']).stdout
        self.assertIn('root runs /bin/sh', text)
        self.assertIn('reported by the host', text)
        self.assertEqual(self.exec('report', 'exit 42').returncode, 42)
        self.assertEqual(self.exec('report', 'kill -TERM $$').returncode, 128 + signal.SIGTERM)
        eventually('both', lambda: len(self.runs('report', state='FAILED')) == 2)
        self.assertEqual(os.listdir(os.path.join(self.host.data, 'exec')), [])

    def test_a_failure_raises_an_alert_and_a_success_resolves_it(self):
        sink = Sink()
        self.control.apply(f'apiVersion: muster/v1\nkind: Receiver\nmetadata: {{name: hook}}\n'
                           f'spec: {{webhook: {{url: "http://127.0.0.1:{sink.server_port}/hook"}}}}\n')
        events = lambda: [body['event'] for body in sink.of('/hook') if body['alert']['name'] == 'job/report']
        self.job('report', task='success: [0, 3]')
        self.assertEqual(self.exec('report', 'exit 7').returncode, 7)
        self.assertIn('exit code 7', eventually('alert', lambda: self.firing('job/report'))[0]['summary'])
        eventually('told', lambda: 'raised' in events())
        self.assertEqual(self.exec('report', 'exit 3').returncode, 3)
        eventually('resolved', lambda: not self.firing('job/report'))
        eventually('told', lambda: 'resolved' in events())

    def test_a_report_is_the_run_of_its_slot(self):
        at = soon(3)
        self.job('report', extra=f'  schedule: {{at: "{at}", catchUp: 5m}}')
        waits = eventually('slot', lambda: self.runs('report', state='QUEUED'))[0]
        self.assertIn('waits to be told of by its host', waits['reason'])
        self.exec('report', 'echo done')
        ran = eventually('run', lambda: self.runs('report', state='SUCCEEDED'))
        self.assertEqual([(item['id'], item['trigger'], item['slot']) for item in ran], [(waits['id'], 'SCHEDULE', at)])
        self.assertEqual(len(self.runs('report')), 1)

    def test_what_nobody_tells_of_is_missed_and_told_late_it_is_not(self):
        self.job('report', extra=f'  schedule: {{at: "{soon(2)}", catchUp: 1m}}')
        eventually('slot', lambda: self.runs('report', state='QUEUED'))
        eventually('missed', lambda: self.runs('report', state='MISSED'), within=90)
        alert = eventually('alert', lambda: self.firing('job/report'))[0]
        self.assertIn('nobody has told of it by', alert['summary'])
        self.exec('report', 'exit 0')
        late = eventually('run', lambda: self.runs('report', state='SUCCEEDED'))
        self.assertEqual(len(self.runs('report')), 1)
        eventually('resolved', lambda: not self.firing('job/report'))
        text = self.control.ctl('describe', 'run', late[0]['id']).stdout
        self.assertIn('missed', text)
        self.assertIn('tells that its host began it', text)

    def test_an_exec_that_is_killed_is_unknown(self):
        self.job('report')
        began = self.begin('report', 'sleep 60')
        eventually('running', lambda: self.runs('report', state='RUNNING'))
        began.kill()
        ran = eventually('unknown', lambda: self.runs('report', state='UNKNOWN'))
        self.assertIn('muster-agent exec was killed: nobody saw its end', ran[0]['reason'])
        eventually('alert', lambda: self.firing('job/report'))

    def test_an_agent_and_a_control_plane_that_are_away_hear_of_it_later(self):
        self.job('report')
        self.host.process.stop()
        before = time.time()
        self.assertEqual(self.exec('report', 'echo while away; exit 0').returncode, 0)
        after = time.time()
        self.control.process.stop()
        self.host.start()
        time.sleep(3)
        self.assertEqual(self.exec('report', 'exit 9').returncode, 9)
        time.sleep(1)
        self.control.start()
        good = eventually('run', lambda: self.runs('report', state='SUCCEEDED'), within=60)[0]
        started = datetime.datetime.fromisoformat(good['startedAt'].replace('Z', '+00:00')).timestamp()
        self.assertTrue(before - 0.1 <= started <= after + 0.1, (before, started, after))
        eventually('run', lambda: self.runs('report', state='FAILED'), within=60)
        self.assertEqual(len(self.runs('report')), 2)

    def test_nothing_is_told_twice_whoever_is_killed(self):
        self.job('report')
        rounds = int(os.environ.get('MUSTER_ROUNDS', '12'))
        codes = []
        for number in range(rounds):
            code = random.choice([0, 3])
            began = self.begin('report', f'echo round {number}; sleep {random.uniform(0, 0.8):.2f}; exit {code}')
            time.sleep(random.uniform(0, 1.2))
            self.host.process.kill()
            time.sleep(random.uniform(0, 0.5))
            self.host.start()
            self.assertEqual(began.wait(30), code)
            codes.append(code)
        states = lambda: sorted(item['state'] for item in self.runs('report'))
        want = sorted('FAILED' if code else 'SUCCEEDED' for code in codes)
        eventually('all told', lambda: states() == want, within=60)
        time.sleep(2)
        self.assertEqual(states(), want)
        for item in self.runs('report'):
            self.assertEqual(self.control.ctl('logs', item['id']).stdout.count('round'), 1)
        self.assertEqual(os.listdir(os.path.join(self.host.data, 'exec')), [])

    @unittest.skipUnless(os.geteuid() == 0, 'needs root')
    def test_who_may_report_is_the_hosts_decision(self):
        self.job('report')
        refused = self.exec('report', 'sleep 2; exit 4', user='nobody')
        self.assertEqual(refused.returncode, 4)
        self.assertIn('job report is not reported', refused.stderr)  # the way into the folder is not open
        self.assertEqual(self.runs('report'), [])
        self.host.process.stop()
        self.allow(reports=['nobody:other'])
        self.host.start()
        eventually('connected', self.host.connected)
        refused = self.exec('report', 'sleep 2; exit 4', user='nobody')
        self.assertEqual(refused.returncode, 4)
        self.assertIn('"nobody:report" may be missing in reports of its policy file', refused.stderr)
        self.assertIn(r'add \"nobody:report\" to reports in', self.host.process.log())
        self.assertEqual(self.runs('report'), [])
        self.host.process.stop()
        self.allow(reports=['nobody:rep*'])
        self.host.start()
        taken = self.exec('report', 'exit 0', user='nobody')
        self.assertEqual((taken.returncode, taken.stderr), (0, ''))
        ran = eventually('run', lambda: self.runs('report', state='SUCCEEDED'))[0]
        self.assertIn('nobody runs /bin/sh', self.control.ctl('describe', 'run', ran['id']).stdout)

    def test_nobody_but_the_host_begins_it(self):
        self.job('report', extra='  schedule: {every: 1h}')
        refused = self.control.ctl('run', 'report', check=False)
        self.assertEqual(refused.returncode, 5, refused.stderr)
        self.assertIn('report is run by its host, which tells of it', refused.stderr)
        refused = self.control.ctl('backfill', 'report', '--from', soon(-7200), '--until', soon(0), check=False)
        self.assertEqual(refused.returncode, 5, refused.stderr)
        self.begin('report', 'sleep 30')
        ran = eventually('running', lambda: self.runs('report', state='RUNNING'))[0]
        refused = self.control.ctl('cancel', ran['id'], check=False)
        self.assertEqual(refused.returncode, 5, refused.stderr)
        self.assertIn('end it on host-1', refused.stderr)
        applied = run(f'{BIN}/musterctl', '--context', self.control.context, 'apply', '-f', '-',
                      stdin=JOB.format(name='bad', extra='  exclusive: [disk]', task=''))
        self.assertIn('spec.exclusive', applied.stderr + applied.stdout)
        self.assertNotEqual(applied.returncode, 0)

    def test_a_job_that_is_not_there_is_told_to_the_operator(self):
        self.assertEqual(self.exec('nothing', 'exit 0').returncode, 0)
        eventually('counted', lambda: 'muster_reports_refused_total 1' in self.control.metrics())
        self.assertIn('there is no such job', self.control.process.log())


if __name__ == '__main__':
    main()
