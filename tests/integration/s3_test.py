"""Backups in a repository that a service which speaks S3 keeps, over TLS, by restic's and by pgBackRest's own driver: taken,
listed, read back, restored, removed; and what is said where it does not let the host in, is not trusted, has no such bucket, or
is away.

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
from archived_server import ROWS, ArchivedServer, started  # noqa: E402
from backup_bed import write_secret  # noqa: E402

SERVICE = os.path.join(SUPPORT, 's3')
INSTALLED = os.path.exists(os.path.join(SERVICE, 'node_modules/s3rver'))
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


STANZA = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: server}}
spec:
  agents: {{agent: host-1}}
  deadline: 5m
  backup:
    pgbackrest: {{stanza: main, configFile: {config}, type: incremental}}
    staging: {folder}/staging
    verify: {{restore: true, queries: ["/* database: orders */ select count(*) >= 500 from orders"]}}
'''
# pgBackRest's own driver. It tries for a minute at each step where nobody says otherwise.
STORAGE = '''repo1-path=/of-servers
repo1-type=s3
repo1-s3-bucket=backups
repo1-s3-endpoint=localhost
repo1-s3-region=us-east-1
repo1-s3-uri-style=path
repo1-s3-key={key}
repo1-s3-key-secret=S3RVER
repo1-storage-port={port}
repo1-storage-ca-file={certificate}
io-timeout=5'''


class WithS3(Case):
    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o711)
        self.port = free_port()
        self.certificate = os.path.join(self.folder, 'server.pem')
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
                        '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout',
                        f'{self.folder}/server.key', '-out', self.certificate], check=True, capture_output=True)
        self.serve()
        self.control = self.plane()
        policy = os.path.join(self.folder, 'policy.yaml')
        write_secret(policy, f'jobs: [backup, restore, forget]\nnetworks: [127.0.0.0/8, "::1/128"]\npaths: [{self.folder}]\n')
        self.agent(self.control, config=f'policy: {policy}\n')

    def serve(self):
        data = os.path.join(self.folder, 's3')
        os.makedirs(data, exist_ok=True)
        self.service = Process(['node', os.path.join(SERVICE, 'serve.js'), data, str(self.port), f'{self.folder}/server.key',
                                self.certificate, 'backups'], f'{self.folder}/s3.log')
        self.addCleanup(self.service.kill)
        eventually('s3', self.answers)

    def answers(self):
        try:
            socket.create_connection(('127.0.0.1', self.port)).close()
            return True
        except OSError:
            return False

    def run_job(self, job):
        return json.loads(self.control.ctl('run', job, '--wait', '-o', 'json', check=False, timeout=200).stdout)

    def back_up(self, job):
        run = self.run_job(job)
        self.assertEqual(run['state'], 'SUCCEEDED', run['reason'])
        return self.control.items('backup', 'list', job)[0]

    def fails(self, job, *reasons):
        began = time.monotonic()
        run = self.run_job(job)
        self.assertEqual(run['state'], 'FAILED')
        for reason in reasons:
            self.assertIn(reason, run['reason'])
        print(f'{time.monotonic() - began:.0f} s: {run["reason"]}')
        self.assertTrue(self.control.alerts(name=f'job/{job}', state='FIRING'))


@unittest.skipUnless(INSTALLED, 'needs s3rver: scripts/soak s3 installs it')
class ByRestic(WithS3):
    def setUp(self):
        super().setUp()
        self.tree = os.path.join(self.folder, 'tree')
        os.makedirs(os.path.join(self.tree, 'deep'))
        for name, size in (('small', 100), ('deep/large', 3 << 20)):
            with open(os.path.join(self.tree, name), 'wb') as file:
                file.write(os.urandom(size))
        for name, key in (('aws', 'S3RVER'), ('stranger', 'NOBODY')):
            write_secret(os.path.join(self.folder, name),
                         f'[default]\naws_access_key_id = {key}\naws_secret_access_key = S3RVER\n')
        write_secret(os.path.join(self.folder, 'key'), 'of-the-repository')

    def apply(self, bucket='backups', credentials='aws', authority=True, create=True):
        self.control.apply(JOB.format(folder=self.folder, tree=self.tree, port=self.port, bucket=bucket, credentials=credentials,
                                      create=str(create).lower(),
                                      authority=f', caFile: {self.certificate}' if authority else ''))

    def listed(self):
        return json.loads(self.control.ctl('backup', 'list', 'files', '-o', 'json').stdout)['items']

    def test_taken_listed_verified_restored_and_removed(self):
        self.apply()
        self.back_up('files')
        with open(os.path.join(self.tree, 'later'), 'w', encoding='utf-8') as file:
            file.write('later')
        self.back_up('files')
        newest = self.listed()[0]
        self.assertEqual(newest['proof'], 'READ_BACK')
        self.control.ctl('backup', 'verify', 'files/latest', '--wait', timeout=200)
        restored = os.path.join(self.folder, 'restored')
        self.control.ctl('backup', 'restore', 'files/verified', '--folder', restored, '--wait', timeout=200)
        found = filecmp.dircmp(self.tree, restored + self.tree)
        self.assertEqual((found.left_only, found.right_only, found.diff_files), ([], [], []))
        self.assertTrue(filecmp.cmp(f'{self.tree}/deep/large', f'{restored}{self.tree}/deep/large', shallow=False))
        self.back_up('files')
        eventually('the oldest is removed', lambda: len(self.listed()) == 2, within=60)
        self.assertNotIn('of-the-repository', self.service.log())

    def test_what_does_not_work_is_said_with_what_to_do(self):
        self.apply(create=False)
        self.fails('files', 'there is no repository at s3:https://localhost', 'repository.create: true')
        self.apply(credentials='stranger')
        self.fails('files', 'does not let this host in: see to repository.credentialsFile', 'Access Key Id')
        self.apply(authority=False)
        self.fails('files', 'is not trusted; name the file of its authority in repository.caFile', 'x509: ')
        self.apply(bucket='other', create=False)
        self.fails('files', 'there is no repository at s3:https://localhost', 'are bucket and folder right?')
        self.apply()
        self.back_up('files')
        self.service.kill()
        self.fails('files', 'connection refused')
        self.serve()
        self.back_up('files')
        self.assertEqual(len(self.listed()), 2)


@unittest.skipUnless(INSTALLED, 'needs s3rver: scripts/soak s3 installs it')
class ByPgBackRest(WithS3):
    def setUp(self):
        super().setUp()
        self.server = ArchivedServer(self.folder, free_port(), 'of-the-cipher', storage=self.storage(),
                                     repository=f'{self.folder}/s3/backups/of-servers')
        self.addCleanup(self.server.stop)
        self.server.add(1, 500)
        self.control.apply(STANZA.format(folder=self.folder, config=self.server.config))

    def storage(self, key='S3RVER'):
        return STORAGE.format(port=self.port, certificate=self.certificate, key=key)

    def configure(self, storage):
        self.server.storage = storage
        self.server.write_config('of-the-cipher')

    def test_taken_verified_restored_and_restored_to_a_moment(self):
        full = self.back_up('server')
        self.assertEqual((full['engine'], full['proof']), ('PGBACKREST', 'RESTORED'))
        self.server.switch()
        early = self.server.rows()
        time.sleep(1.1)
        moment = self.server.sql("select to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
        time.sleep(1.1)
        self.server.add(501, 700)
        self.server.switch()
        late = self.server.rows()
        chained = self.back_up('server')
        self.assertEqual((chained['priorId'], chained['proof']), (full['snapshotId'], 'RESTORED'))
        self.control.ctl('backup', 'verify', 'server/latest', '--restore', '--wait', timeout=200)
        for backup, rows, flags in (('server/latest', late, ()), (full['snapshotId'], early, ('--target-time', moment))):
            target = f'{self.folder}/restored-{len(flags)}'
            self.control.ctl('backup', 'restore', backup, '--folder', target, *flags, '--wait', timeout=200)
            with started(target, free_port()) as sql:
                self.assertEqual(sql(ROWS), rows)
        self.assertNotIn('of-the-cipher', self.service.log())

    def test_what_does_not_work_is_said(self):
        self.back_up('server')
        self.configure(self.storage('NOBODY'))
        self.fails('server', 'does not let this host in: see to the key in pgBackRest', '403 (Forbidden)')
        self.configure(self.storage().replace('repo1-storage-ca-file', '#'))
        self.fails('server', 'is not trusted; name the file of its authority in repo1-storage-ca-file')
        self.configure(self.storage())
        self.service.kill()
        self.fails('server', 'Connection refused')
        self.serve()
        self.back_up('server')


if __name__ == '__main__':
    main()
