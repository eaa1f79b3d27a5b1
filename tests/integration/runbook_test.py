"""docs/runbooks/backup-and-restore.md, followed as it is written: every command in its order, against a real PostgreSQL, a
repository, a control plane and an agent. Only the places that the runbook names are moved into the test's folder.
"""
import os
import re
import subprocess

from break_and_mend_test import Postgres
from harness import BIN, Case, main

RUNBOOK = os.path.join(os.path.dirname(__file__), '../../docs/runbooks/backup-and-restore.md')

JOB = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: orders-nightly}}
spec:
  agents: {{agent: host-1}}
  deadline: 10m
  backup:
    postgres: {{dsn: "host=127.0.0.1 port={port} user=postgres dbname=orders"}}
    repository: {{path: {folder}/repository, password: {{secret: "file:{folder}/secrets/backup.key"}}, create: true}}
    staging: {folder}/staging
    verify: {{restore: true, queries: ["select count(*) = 1000 from orders"]}}
    verifiedWithin: 26h
'''


def commands():
    """The shell blocks of the runbook, each with the heading that it stands under."""
    with open(RUNBOOK, encoding='utf-8') as file:
        text = file.read()
    heading, blocks = '', []
    for found in re.finditer(r'^## ([^\n]*)$|^```sh\n(.*?)^```$', text, re.M | re.S):
        if found[1]:
            heading = found[1]
        else:
            blocks.append((heading, found[2]))
    return blocks


class Runbook(Case):
    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        self.database = Postgres(self.folder)
        self.addCleanup(self.database.stop)
        self.psql('create database orders')
        self.psql('create table orders as select n as id, now() as created_at from generate_series(1, 1000) n', 'orders')
        os.makedirs(os.path.join(self.folder, 'secrets'))
        self.write('secrets/backup.key', 'a password')
        self.write('secrets/orders-admin.dsn', f'host=127.0.0.1 port={self.database.port} user=postgres dbname=postgres')
        self.write('policy.yaml', f'probes: [host]\njobs: [backup, restore, forget]\nnetworks: [127.0.0.0/8]\n'
                                  f'paths: [{self.folder}]\n')
        self.control = self.plane()
        self.agent(self.control, config=f'policy: {self.folder}/policy.yaml\n')
        self.control.apply(JOB.format(folder=self.folder, port=self.database.port))

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        os.chmod(path, 0o600)

    def psql(self, sql, database='postgres'):
        ran = subprocess.run(['psql', '-X', '-At', '-h', '127.0.0.1', '-p', str(self.database.port), '-U', 'postgres',
                              '-d', database, '-c', sql], capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    def moved(self, block):
        for place, here in (('/etc/muster/secrets', 'secrets'), ('/var/backups/muster', 'repository'),
                            ('/srv/restored', 'restored')):
            block = block.replace(place, os.path.join(self.folder, here))
        return block

    def test_every_step_works_as_it_is_written(self):
        ran = self.control.ctl('run', 'orders-nightly', '--wait', check=False, timeout=300)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        # What went wrong: it is found again after the restore.
        self.psql('delete from orders where id > 10', 'orders')
        blocks = commands()
        self.assertGreaterEqual(len(blocks), 10)
        script = 'set -euo pipefail\n' + ''.join(
            f'echo "== {heading}" >&2\n{self.moved(block)}' for heading, block in blocks)
        environment = dict(os.environ, PATH=f'{BIN}:{os.environ["PATH"]}', MUSTER_CONTEXT=self.control.context,
                           PGHOST='127.0.0.1', PGPORT=str(self.database.port), PGUSER='postgres')
        done = subprocess.run(['bash', '-c', script], env=environment, capture_output=True, text=True, timeout=500,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-4000:])
        self.assertEqual(self.psql('select count(*) from orders', 'orders'), '1000')
        self.assertEqual(self.psql('select count(*) from orders', 'orders_by_hand'), '1000')
        self.assertEqual(self.psql("select count(*) from pg_database where datname like 'orders_%'"), '1')
        self.assertTrue(all(item['state'] == 'RESOLVED' for item in self.control.alerts()))
        self.assertTrue(all(not item['heldBecause'] for item in self.control.items('backup', 'list')))


if __name__ == '__main__':
    main()
