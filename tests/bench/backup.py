#!/usr/bin/python3
"""A PostgreSQL database backed up and restored by muster, next to the bare programs on the same server in the same run.

    backup.py [--smoke] [--mib 2048] [--tables 8] [--runs 1] [--json]

Bare is `pg_dump -Fd -j2`, then `restic backup` of it into a repository of its own; and `restic restore`, then
`pg_restore -j2` into a new database of the same server. muster does more: it counts every row in the dump's own
snapshot, hashes what it dumped, reads all of it back and compares. Its backup is shown without and with a restore into a
throw-away server. Each run of either begins with an empty repository, whose key costs nothing to try.

--smoke is small and quick, and fails unless every run succeeded and what was restored holds what the source holds.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '..', 'integration'), os.path.join(HERE, '..', 'support')]
from harness import Agent, Plane, eventually, free_port  # noqa: E402
from backup_bed import POSTGRES_BIN, ResticRepository, write_secret  # noqa: E402
from postgres_cluster import PostgresCluster  # noqa: E402

BACKUP = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: {name}}}
spec:
  agents: {{agent: host-1}}
  deadline: 6h
  backup:
    postgres: {{dsn: "host=127.0.0.1 port={port} user=postgres dbname=orders", parallel: 2}}
    repository: {{path: {repository}, password: {{secret: "file:{key}"}}}}
    staging: {staging}
    verify: {{restore: {restore}}}
'''
RESTORE = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: restore}}
spec:
  agents: {{agent: host-1}}
  deadline: 6h
  restoreBackup:
    backup: {{snapshotId: {snapshot}, engine: postgresDump}}
    repository: {{path: {repository}, password: {{secret: "file:{key}"}}}}
    staging: {staging}
    postgres: {{dsn: "host=127.0.0.1 port={port} user=postgres dbname=postgres", database: ours, parallel: 2}}
'''
ROW_BYTES = 700  # of a row's text


def timed(work, *arguments):
    began = time.monotonic()
    work(*arguments)
    return time.monotonic() - began


def program(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd='/')


class Bench:
    def __init__(self, folder, options):
        os.chmod(folder, 0o711)
        self.folder, self.options = folder, options
        self.key, self.staging = self.file('repository.key'), self.file('staging')
        write_secret(self.key, 'of-the-bench')
        self.empty = ResticRepository(self.file('empty'), self.key)
        self.empty.make()
        self.repository = ResticRepository(self.file('repository'), self.key)
        self.source = PostgresCluster(folder, free_port(), 'source').make()
        self.source.configure(shared_buffers='256MB', max_wal_size='4GB', maintenance_work_mem='128MB')
        self.source.start()
        self.plane = Plane(folder).start()
        policy = self.file('policy.yaml')
        write_secret(policy, f'jobs: [backup, restore]\nnetworks: [127.0.0.0/8]\npaths: [{folder}]\n')
        self.agent = Agent(self.plane, folder, 'host-1', config=f'policy: {policy}\n').start()
        eventually('agent connected', self.agent.connected)

    def file(self, name):
        return os.path.join(self.folder, name)

    def close(self):
        self.agent.process.stop()
        self.plane.process.stop()
        self.source.stop()

    def fill(self):
        """Hex digits of hashes: text that compresses to half, as much of real text does, and of which no piece is twice."""
        self.source.sql('create database orders', 'postgres')
        rows = self.options.mib * (1 << 20) // self.options.tables // ROW_BYTES
        parts = ' || '.join(f"encode(sha512((i * 8 + {part})::text::bytea), 'hex')" for part in range(5))
        for table in range(self.options.tables):
            self.source.sql(f'create table t{table} as select i as id, {parts} || md5(i::text) as note from '
                            f'generate_series({table * rows + 1}::bigint, {(table + 1) * rows}::bigint) i', 'orders')
            self.source.sql(f'alter table t{table} add primary key (id)', 'orders')
        self.source.sql('vacuum analyze', 'orders')
        self.source.sql('checkpoint', 'orders')

    def bytes(self):
        return int(self.source.sql("select pg_database_size('orders')", 'postgres'))

    def counts(self, database):
        return [self.source.sql(f'select count(*), sum(hashtext(note)::bigint) from t{table}', database)
                for table in range(self.options.tables)]

    def fresh(self):
        """An empty repository, and no database but the source's."""
        subprocess.run(['rm', '-rf', self.repository.path, self.file('bare'), self.file('restored')], check=True)
        subprocess.run(['cp', '-r', self.empty.path, self.repository.path], check=True)
        for name in ('bare', 'ours'):
            self.source.sql(f'drop database if exists {name}', 'postgres')
        self.source.sql('checkpoint', 'postgres')

    def bare_dump(self):
        program(f'{POSTGRES_BIN}/pg_dump', '-Fd', '-j2', '--compress=0', '-h', '127.0.0.1', '-p', str(self.source.port), '-U',
                'postgres', '-d', 'orders', '-f', self.file('bare'))

    def bare_store(self):
        self.repository.restic('backup', self.file('bare'), timeout=None)

    def bare_fetch(self):
        self.repository.restic('restore', 'latest', '--target', self.file('restored'), timeout=None)

    def bare_restore(self):
        self.source.sql('create database bare template template0', 'postgres')
        program(f'{POSTGRES_BIN}/pg_restore', '-j2', '--exit-on-error', '-h', '127.0.0.1', '-p', str(self.source.port), '-U',
                'postgres', '-d', 'bare', self.file('restored') + self.file('bare'))

    def job(self, text, name, **facts):
        self.plane.apply(text.format(name=name, port=self.source.port, repository=self.repository.path, key=self.key,
                                     staging=self.staging, **facts))
        ran = self.plane.ctl('run', name, '--wait', '-o', 'json', check=False, timeout=6 * 3600)
        run = json.loads(ran.stdout)
        if run['state'] != 'SUCCEEDED':
            sys.exit(f'{name}: {run["state"]}: {run["reason"]}')
        return run

    def measure(self):
        found = {}
        self.fresh()
        found['pg_dump -Fd -j2'] = timed(self.bare_dump)
        found['restic backup'] = timed(self.bare_store)
        found['restic restore'] = timed(self.bare_fetch)
        found['pg_restore -j2'] = timed(self.bare_restore)
        self.fresh()
        found['muster: backup, read back'] = timed(lambda: self.job(BACKUP, 'plain', restore='false'))
        (snapshot,) = self.repository.snapshots()
        found['muster: restored to a database'] = timed(lambda: self.job(RESTORE, 'restore', snapshot=snapshot))
        if self.counts('ours') != self.counts('orders'):
            sys.exit('what muster restored is not what the source holds')
        self.fresh()
        found['muster: backup, restored and compared'] = timed(lambda: self.job(BACKUP, 'proven', restore='true'))
        return found


def report(size, runs, options):
    seen = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    taken = seen['pg_dump -Fd -j2'] + seen['restic backup']
    fetched = seen['restic restore'] + seen['pg_restore -j2']
    limits = {'muster: backup, read back': taken, 'muster: restored to a database': fetched,
              'muster: backup, restored and compared': taken + fetched}
    if options.json:
        print(json.dumps({'bytes': size, 'seconds': seen, 'ratios': {name: limits[name] / seen[name] for name in limits}}))
        return
    print(f'a database of {size / (1 << 20):.0f} MiB in {options.tables} tables, medians of {len(runs)}')
    for name, seconds in seen.items():
        beside = f', {seconds / limits[name]:.2f} of the bare programs’ {limits[name]:.1f} s' if name in limits else ''
        print(f'  {name}: {seconds:.1f} s, {size / (1 << 20) / seconds:.0f} MiB/s{beside}')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--smoke', action='store_true')
    parser.add_argument('--mib', type=int, default=2048)
    parser.add_argument('--tables', type=int, default=8)
    parser.add_argument('--runs', type=int, default=1)
    parser.add_argument('--json', action='store_true')
    options = parser.parse_args()
    if options.smoke:
        options.mib, options.tables = 8, 2
    # The database stands where this is started: /tmp may be memory.
    with tempfile.TemporaryDirectory(prefix='muster-backup-', dir=os.environ.get('TMPDIR', '/tmp')) as folder:
        bench = Bench(folder, options)
        try:
            bench.fill()
            runs = [bench.measure() for _ in range(options.runs)]
            report(bench.bytes(), runs, options)
        finally:
            bench.close()


if __name__ == '__main__':
    main()
