"""The catalogue of backups as its user meets it: what is taken is listed with its proof, verified and restored by name, kept by
rule or by hand, found again in the repository, and somebody is told when it is too old.
"""
import json
import os
import re
import shutil

from break_and_mend_test import Sink
from harness import Case, eventually, main

JOB = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: tree}}
spec:
  agents: {{agent: host-1}}
  deadline: 5m
  backup:
    files: {{paths: [{folder}/source]}}
    repository: {{path: {folder}/repository, password: {{secret: "file:{folder}/repository.key"}}, create: true}}
    staging: {folder}/staging
{extra}
'''


class Catalogue(Case):
    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        os.makedirs(os.path.join(self.folder, 'source'))
        self.write('source/one', 'first')
        self.write('repository.key', 'canary-of-the-repository')
        os.chmod(os.path.join(self.folder, 'repository.key'), 0o600)
        self.control = self.plane()

    def write(self, name, text):
        with open(os.path.join(self.folder, name), 'w', encoding='utf-8') as file:
            file.write(text)

    def host(self, jobs='[backup, restore, forget]'):
        self.write('policy.yaml', f'probes: [host]\njobs: {jobs}\npaths: [{self.folder}]\n')
        os.chmod(os.path.join(self.folder, 'policy.yaml'), 0o600)
        return self.agent(self.control, config=f'policy: {self.folder}/policy.yaml\n')

    def job(self, extra=''):
        self.control.apply(JOB.format(folder=self.folder, extra=extra))

    def back_up(self):
        run = json.loads(self.control.ctl('run', 'tree', '--wait', '-o', 'json', timeout=120).stdout)
        self.assertEqual(run['state'], 'SUCCEEDED', run['reason'])
        return self.listed()[0]

    def listed(self, *flags):
        return self.control.items('backup', 'list', 'tree', *flags)

    def test_what_is_taken_is_listed_verified_and_restored(self):
        self.host()
        self.job()
        taken = self.back_up()
        self.assertEqual((taken['job'], taken['agent'], taken['proof'], taken['verified']),
                         ('tree', 'host-1', 'READ_BACK', True))
        short = taken['snapshotId'][:8]
        self.assertIn(short, self.control.ctl('backup', 'list').stdout)
        self.assertIn('READ_BACK at', self.control.ctl('backup', 'describe', 'tree/latest').stdout)

        verify = self.control.ctl('backup', 'verify', short, '--wait', '-o', 'json', timeout=120)
        self.assertEqual(json.loads(verify.stdout)['action'], 'verify')
        self.assertEqual(json.loads(verify.stdout)['state'], 'SUCCEEDED')
        target = os.path.join(self.folder, 'restored')
        restore = self.control.ctl('backup', 'restore', 'tree/verified', '--folder', target, '--wait', timeout=120)
        self.assertIn('restore', restore.stdout)
        with open(target + self.folder + '/source/one', encoding='utf-8') as file:
            self.assertEqual(file.read(), 'first')
        again = self.control.ctl('backup', 'restore', 'tree/verified', '--folder', target, '--wait', check=False, timeout=120)
        self.assertEqual(again.returncode, 1)
        self.assertIn('not empty', again.stderr)
        # What was done beside it is not the job's own.
        latest = json.loads(self.control.ctl('describe', 'job', 'tree', '-o', 'json').stdout)['lastRun']
        self.assertEqual((latest['action'], latest['state']), ('', 'SUCCEEDED'))
        self.assertEqual(self.control.alerts(name='job/tree'), [])
        metrics = self.control.metrics()
        self.assertRegex(metrics, r'muster_backups_verified\{job="tree"\} 1')
        seconds = float(re.search(r'muster_backup_last_verified_timestamp_seconds\{job="tree"\} (\S+)', metrics)[1])
        self.assertGreater(seconds, 1.7e9)

    def test_a_damaged_backup_is_told_and_nothing_is_removed_for_it(self):
        sink = Sink()
        self.host()
        self.control.apply('apiVersion: muster/v1\nkind: Receiver\nmetadata: {name: hook}\n'
                           f'spec: {{webhook: {{url: "http://127.0.0.1:{sink.server_port}/hook"}}}}\n')
        self.write('source/large', os.urandom(200_000).hex())
        self.job('    keep: {last: 1}')
        self.back_up()
        pack = max((os.path.join(place, name) for place, _, names in os.walk(os.path.join(self.folder, 'repository', 'data'))
                    for name in names), key=os.path.getsize)
        os.chmod(pack, 0o600)
        with open(pack, 'r+b') as file:
            file.seek(1000)
            file.write(b'spoilt')
        verify = self.control.ctl('backup', 'verify', 'tree/latest', '--wait', check=False, timeout=120)
        self.assertEqual(verify.returncode, 1)
        self.assertIn('damaged', verify.stderr)
        self.assertEqual((self.listed()[0]['verified'], 'damaged' in self.listed()[0]['problem']), (False, True))
        eventually('the alert', lambda: self.control.alerts(name='backup/tree', state='FIRING'))
        missing = self.control.ctl('backup', 'describe', 'tree/verified', check=False)
        self.assertEqual(missing.returncode, 3)
        self.assertIn('no verified backup', missing.stderr)

    def test_what_no_rule_keeps_is_removed_and_what_is_held_is_not(self):
        self.host()
        self.job('    keep: {last: 1}')
        first = self.back_up()['snapshotId']
        self.control.ctl('backup', 'hold', first[:8], '--reason', 'an audit')
        self.write('source/one', 'second')
        second = self.back_up()['snapshotId']
        self.write('source/one', 'third')
        third = self.back_up()['snapshotId']
        eventually('the removal', lambda: [item['snapshotId'] for item in self.listed()] == [third, first], within=60)
        self.assertNotIn(second, os.listdir(os.path.join(self.folder, 'repository', 'snapshots')))
        self.assertIn(first, os.listdir(os.path.join(self.folder, 'repository', 'snapshots')))
        gone = next(item for item in self.listed('--all') if item['snapshotId'] == second)
        self.assertTrue(gone['forgottenAt'] and gone['forgottenBy'])
        plan = self.control.items('backup', 'prune', 'tree', '--dry-run')
        self.assertEqual([(item['decision'], item['reason']) for item in plan],
                         [('keep', 'as new as the newest verified one, or newer'), ('keep', 'held: an audit')])
        self.control.ctl('backup', 'release', first[:8])
        self.control.ctl('backup', 'prune', 'tree', '--yes', '--wait', timeout=120)
        self.assertEqual([item['snapshotId'] for item in self.listed()], [third])
        actions = [item['action'] for item in self.control.items('get', 'audit')]
        for action in ('backup.hold', 'backup.release', 'backup.forget', 'backup.forgotten'):
            self.assertIn(action, actions)

    def test_a_drill_proves_the_newest_backup_of_another_job(self):
        self.host()
        self.job()
        self.control.apply('apiVersion: muster/v1\nkind: Job\nmetadata: {name: drill}\n'
                           'spec: {deadline: 5m, drillBackup: {job: tree}}\n')
        waits = json.loads(self.control.ctl('run', 'drill', '-o', 'json').stdout)
        eventually('why it waits', lambda: 'no whole backup of tree' in self.run_of(waits['id'])['reason'])
        self.back_up()
        eventually('its end', lambda: self.run_of(waits['id'])['state'] == 'SUCCEEDED', within=60)
        first = self.listed()[0]
        self.assertGreater(first['provenAt'], self.run_of(waits['id'])['startedAt'])
        self.write('source/one', 'second')
        newest = self.back_up()
        self.assertNotEqual(newest['snapshotId'], first['snapshotId'])
        again = json.loads(self.control.ctl('run', 'drill', '--wait', '-o', 'json', timeout=120).stdout)
        self.assertEqual(again['state'], 'SUCCEEDED', again['reason'])
        self.assertEqual((again['agent'], again.get('action', '')), ('host-1', ''))
        by_id = {backup['snapshotId']: backup for backup in self.listed()}
        self.assertGreater(by_id[newest['snapshotId']]['provenAt'], again['startedAt'])
        self.assertEqual(by_id[first['snapshotId']]['provenAt'], first['provenAt'])
        # A drill that fails is told of both: the drill and the backup.
        for place, _, names in os.walk(os.path.join(self.folder, 'repository', 'data')):
            for name in names:
                os.chmod(os.path.join(place, name), 0o600)
                with open(os.path.join(place, name), 'r+b') as file:
                    file.write(b'spoilt')
        spoilt = self.control.ctl('run', 'drill', '--wait', check=False, timeout=120)
        self.assertEqual(spoilt.returncode, 1)
        eventually('both alerts', lambda: self.control.alerts(name='backup/tree', state='FIRING') and
                   self.control.alerts(name='job/drill', state='FIRING'))

    def run_of(self, run):
        return json.loads(self.control.ctl('describe', 'run', run, '-o', 'json').stdout)

    def test_a_host_that_only_adds_says_so(self):
        self.host(jobs='[backup]')
        self.job('    keep: {last: 1}')
        self.back_up()
        self.write('source/one', 'second')
        self.back_up()
        alert = eventually('the alert', lambda: self.control.alerts(name='backup/tree', state='FIRING'), within=60)
        self.assertIn('add forget to jobs', alert[0]['summary'])
        self.assertEqual(len(self.listed()), 2)

    def test_a_lost_catalogue_comes_back_from_the_repository(self):
        agent = self.host()
        self.job()
        known = self.back_up()
        agent.process.stop()
        self.control.process.stop()
        shutil.rmtree(agent.data)
        other = self.control = self.plane('other')
        self.host(jobs='[backup]')
        self.job()
        self.assertEqual(self.listed(), [])
        other.ctl('backup', 'import', 'tree', '--wait', timeout=120)
        found = self.listed()[0]
        self.assertEqual((found['snapshotId'], found['run'], found['proof'], found['verified']),
                         (known['snapshotId'], known['run'], 'TAKEN', False))
        other.ctl('backup', 'verify', 'tree/latest', '--wait', timeout=120)
        self.assertTrue(self.listed()[0]['verified'])

    def test_too_old_is_an_alert_and_a_new_one_ends_it(self):
        self.job('    verifiedWithin: 1m')
        self.assertEqual(self.control.alerts(name='backup/tree'), [])
        eventually('the alert', lambda: self.control.alerts(name='backup/tree', state='FIRING'), within=90)
        self.host()
        self.back_up()
        eventually('its end', lambda: self.control.alerts(name='backup/tree', state='RESOLVED'))


if __name__ == '__main__':
    main()
