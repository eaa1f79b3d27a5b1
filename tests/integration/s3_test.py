"""Backups in a repository that a service which speaks S3 keeps, over TLS: taken, listed, read back, restored, removed; and what
is said where it does not let the host in, is not trusted, has no such bucket, or is away.

The service is s3rver, an npm package, which `scripts/soak s3` installs; without it this is skipped. It believes every
signature, so a secret that is wrong is not tried here.
"""
import filecmp
import json
import os
import socket
import subprocess
import sys
import time
import unittest

from harness import SUPPORT, Case, Process, eventually, free_port, main

sys.path.insert(0, SUPPORT)
# pylint: disable=wrong-import-position
from backup_bed import write_secret  # noqa: E402

S3RVER = os.path.join(SUPPORT, 's3/node_modules/.bin/s3rver')
JOB = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: files}}
spec:
  agents: {{agent: host-1}}
  deadline: 2m
  backup:
    files: {{paths: [{tree}]}}
    repository: {{url: "s3:https://localhost:{port}/{bucket}/of-files", create: {create},
      password: {{secret: "file:{folder}/key"}}, credentialsFile: {folder}/{credentials}{authority}}}
    staging: {folder}/staging
    keep: {{last: 2}}
'''


@unittest.skipUnless(os.path.exists(S3RVER), 'needs s3rver: scripts/soak s3 installs it')
class InS3(Case):
    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o711)
        self.port = free_port()
        self.tree, self.certificate = (os.path.join(self.folder, name) for name in ('tree', 'server.pem'))
        os.makedirs(os.path.join(self.tree, 'deep'))
        for name, size in (('small', 100), ('deep/large', 3 << 20)):
            with open(os.path.join(self.tree, name), 'wb') as file:
                file.write(os.urandom(size))
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
                        '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout',
                        f'{self.folder}/server.key', '-out', self.certificate], check=True, capture_output=True)
        for name, key in (('aws', 'S3RVER'), ('stranger', 'NOBODY')):
            write_secret(os.path.join(self.folder, name),
                         f'[default]\naws_access_key_id = {key}\naws_secret_access_key = S3RVER\n')
        write_secret(os.path.join(self.folder, 'key'), 'of-the-repository')
        self.serve()
        self.control = self.plane()
        policy = os.path.join(self.folder, 'policy.yaml')
        write_secret(policy, f'jobs: [backup, restore, forget]\nnetworks: [127.0.0.0/8, "::1/128"]\npaths: [{self.folder}]\n')
        self.agent(self.control, config=f'policy: {policy}\n')

    def serve(self):
        data = os.path.join(self.folder, 's3')
        os.makedirs(data, exist_ok=True)
        self.service = Process([S3RVER, '-d', data, '-p', str(self.port), '-a', '127.0.0.1', '--key', f'{self.folder}/server.key',
                                '--cert', self.certificate, '--configure-bucket', 'backups'], f'{self.folder}/s3.log')
        self.addCleanup(self.service.kill)
        eventually('s3', self.answers)

    def answers(self):
        try:
            socket.create_connection(('127.0.0.1', self.port)).close()
            return True
        except OSError:
            return False

    def apply(self, bucket='backups', credentials='aws', authority=True, create=True):
        self.control.apply(JOB.format(folder=self.folder, tree=self.tree, port=self.port, bucket=bucket, credentials=credentials,
                                      create=str(create).lower(),
                                      authority=f', caFile: {self.certificate}' if authority else ''))

    def run_job(self):
        return json.loads(self.control.ctl('run', 'files', '--wait', '-o', 'json', check=False, timeout=200).stdout)

    def back_up(self):
        run = self.run_job()
        self.assertEqual(run['state'], 'SUCCEEDED', run['reason'])

    def listed(self):
        return json.loads(self.control.ctl('backup', 'list', 'files', '-o', 'json').stdout)['items']

    def test_taken_listed_verified_restored_and_removed(self):
        self.apply()
        self.back_up()
        with open(os.path.join(self.tree, 'later'), 'w', encoding='utf-8') as file:
            file.write('later')
        self.back_up()
        newest = self.listed()[0]
        self.assertEqual(newest['proof'], 'READ_BACK')
        self.control.ctl('backup', 'verify', 'files/latest', '--wait', timeout=200)
        restored = os.path.join(self.folder, 'restored')
        self.control.ctl('backup', 'restore', 'files/verified', '--folder', restored, '--wait', timeout=200)
        found = filecmp.dircmp(self.tree, restored + self.tree)
        self.assertEqual((found.left_only, found.right_only, found.diff_files), ([], [], []))
        self.assertTrue(filecmp.cmp(f'{self.tree}/deep/large', f'{restored}{self.tree}/deep/large', shallow=False))
        self.back_up()
        eventually('the oldest is removed', lambda: len(self.listed()) == 2, within=60)
        self.assertNotIn('of-the-repository', self.service.log())

    def test_what_does_not_work_is_said_with_what_to_do(self):
        self.apply(create=False)
        self.fails('there is no repository at s3:https://localhost', 'repository.create: true')
        self.apply(credentials='stranger')
        self.fails('does not let this host in: see to repository.credentialsFile', 'Access Key Id')
        self.apply(authority=False)
        self.fails('is not trusted; name the file of its authority in repository.caFile', 'x509: ')
        self.apply(bucket='other', create=False)
        self.fails('there is no repository at s3:https://localhost', 'are bucket and folder right?')
        self.apply()
        self.back_up()
        self.service.kill()
        self.fails('connection refused')
        self.serve()
        self.back_up()
        self.assertEqual(len(self.listed()), 2)

    def fails(self, *reasons):
        began = time.monotonic()
        run = self.run_job()
        self.assertEqual(run['state'], 'FAILED')
        for reason in reasons:
            self.assertIn(reason, run['reason'])
        print(f'{time.monotonic() - began:.0f} s: {run["reason"]}')
        self.assertTrue(self.control.alerts(name='job/files', state='FIRING'))


if __name__ == '__main__':
    main()
