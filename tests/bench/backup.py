#!/usr/bin/python3
"""A PostgreSQL server backed up and restored by muster, next to the bare programs on the same server in the same run.

    backup.py [--smoke] [--mib 2048] [--tables 8] [--runs 1] [--only dump,base,pgbackrest] [--json]

dump: bare is `pg_dump -Fd -j2`, then `restic backup` of it into a repository of its own; and `restic restore`, then
`pg_restore -j2` into a new database of the same server, and the removal of what was fetched, without and with --verify, by
which restic looks at what it has written, as muster always does. muster does more: it counts every row in the dump's own
snapshot, hashes what it dumped, reads all of it back and compares. Its backup is shown without and with a restore into a
throw-away server. Each run of either begins with an empty repository, whose key costs nothing to try, with all of the log
archived, and with the server's files read once.

base: bare is `pg_basebackup`, then `restic backup`; and `restic restore`, without and with --verify. pgbackrest: bare is its own `backup --type=full`
and `restore`, by two processes as muster runs it. muster proves what it took: by pg_verifybackup, by the archive, by reading it back. How long the taking
itself took is shown apart, as the catalogue knows it.

--smoke is small and quick, and fails unless every run succeeded and what was restored holds what the source holds.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '..', 'integration'), os.path.join(HERE, '..', 'support')]
from archived_server import PGBACKREST, ArchivedServer, started  # noqa: E402
from backup_bed import POSTGRES_BIN, RESTORE_TO_DATABASE, ResticRepository, write_secret  # noqa: E402
from harness import Agent, Plane, eventually, free_port  # noqa: E402
from postgres_cluster import as_server_user  # noqa: E402

BACKUP = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: {name}}}
spec:
  agents: {{agent: host-1}}
  deadline: 6h
  backup:
    {source}
    staging: {staging}
    verify: {{restore: {restore}}}
'''
IN_RESTIC = '''
    repository: {{path: {repository}, password: {{secret: "file:{key}"}}}}'''
DUMP = 'postgres: {{dsn: "host=127.0.0.1 port={port} user=postgres dbname=orders", parallel: 2}}' + IN_RESTIC
BASE = 'postgres: {{dsn: "host=127.0.0.1 port={port} user=postgres dbname=postgres", method: base}}' + IN_RESTIC
STANZA = 'pgbackrest: {{stanza: main, configFile: {config}, type: full}}'
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
        self.server = ArchivedServer(folder, free_port(), 'of-the-bench')
        self.source = self.server.cluster
        self.source.stop()
        self.source.configure(shared_buffers='256MB', max_wal_size='4GB', maintenance_work_mem='128MB', archive_command='/bin/true')
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
        rows = self.options.mib * (1 << 20) // self.options.tables // ROW_BYTES
        parts = ' || '.join(f"encode(sha512((i * 8 + {part})::text::bytea), 'hex')" for part in range(5))
        for table in range(self.options.tables):
            self.source.sql(f'create table t{table} as select i as id, {parts} || md5(i::text) as note from '
                            f'generate_series({table * rows + 1}::bigint, {(table + 1) * rows}::bigint) i', 'orders')
            self.source.sql(f'alter table t{table} add primary key (id)', 'orders')
        self.source.sql('vacuum analyze', 'orders')
        self.source.sql('checkpoint', 'orders')
        self.source.configure(archive_command=self.server.archive_command())
        self.source.sql('select pg_reload_conf()', 'orders')

    def bytes(self):
        return int(self.source.sql("select pg_database_size('orders')", 'postgres'))

    def counts(self, database, sql=None):
        return [(sql or self.source.sql)(f'select count(*), sum(hashtext(note)::bigint) from t{table}', database)
                for table in range(self.options.tables)]

    def fresh(self):
        """An empty repository, and no database but the source's."""
        subprocess.run(['rm', '-rf', self.repository.path, self.file('bare'), self.file('restored')], check=True)
        subprocess.run(['cp', '-r', self.empty.path, self.repository.path], check=True)
        for name in ('bare', 'ours'):
            self.source.sql(f'drop database if exists {name}', 'postgres')
        self.source.sql('checkpoint', 'postgres')
        self.server.switch(within=600)
        # Else whoever comes first finds a cold cache, and pays for it.
        subprocess.run(f'cat {self.source.data}/base/*/* > /dev/null', shell=True, check=True)

    def bare_dump(self):
        program(f'{POSTGRES_BIN}/pg_dump', '-Fd', '-j2', '--compress=0', '-h', '127.0.0.1', '-p', str(self.source.port), '-U',
                'postgres', '-d', 'orders', '-f', self.file('bare'))

    def bare_store(self):
        self.repository.restic('backup', self.file('bare'), timeout=None)

    def bare_fetch(self, *how):
        self.repository.restic('restore', 'latest', '--target', self.file('restored'), *how, timeout=None)

    def remove_fetched(self):
        program('rm', '-rf', self.file('restored'))

    def bare_restore(self):
        self.source.sql('create database bare template template0', 'postgres')
        program(f'{POSTGRES_BIN}/pg_restore', '-j2', '--exit-on-error', '-h', '127.0.0.1', '-p', str(self.source.port), '-U',
                'postgres', '-d', 'bare', self.file('restored') + self.file('bare'))

    def places(self):
        return {'port': self.source.port, 'repository': self.repository.path, 'key': self.key, 'config': self.server.config,
                'staging': self.staging}

    def back_up(self, name, source, restore='false'):
        self.job(BACKUP, name, source=source.format(**self.places()), restore=restore)

    def job(self, text, name, **facts):
        self.plane.apply(text.format(name=name, **self.places(), **facts))
        ran = self.plane.ctl('run', name, '--wait', '-o', 'json', check=False, timeout=6 * 3600)
        run = json.loads(ran.stdout)
        if run['state'] != 'SUCCEEDED':
            sys.exit(f'{name}: {run["state"]}: {run["reason"]}')
        return run

    def measure(self):
        works = {'dump': self.measure_dump, 'base': self.measure_base, 'pgbackrest': self.measure_pgbackrest}
        return {kind: works[kind]() for kind in self.options.only}

    def measure_dump(self):
        found = {}
        self.fresh()
        found['pg_dump -Fd -j2'] = timed(self.bare_dump)
        found['restic backup'] = timed(self.bare_store)
        found['restic restore --verify'] = timed(self.bare_fetch, '--verify')
        self.remove_fetched()
        found['restic restore'] = timed(self.bare_fetch)
        found['pg_restore -j2'] = timed(self.bare_restore)
        found['rm'] = timed(self.remove_fetched)
        self.fresh()
        found['muster: backup, read back'] = timed(self.back_up, 'plain', DUMP)
        found['muster: of that, taken'] = self.took('plain')
        (snapshot,) = self.repository.snapshots()
        found['muster: restored to a database'] = timed(lambda: self.job(RESTORE_TO_DATABASE, 'restore', snapshot=snapshot))
        if self.counts('ours') != self.counts('orders'):
            sys.exit('what muster restored is not what the source holds')
        self.fresh()
        found['muster: backup, restored and compared'] = timed(self.back_up, 'proven', DUMP, 'true')
        return found

    def took(self, job):
        """How long the newest backup was taken, without its proof."""
        return seconds_of(self.plane.items('backup', 'list', job)[0]['took'])

    def restore(self, job):
        ran = self.plane.ctl('backup', 'restore', f'{job}/latest', '--folder', self.file('ours'), '--wait', check=False,
                             timeout=6 * 3600)
        if ran.returncode != 0:
            sys.exit(f'restore {job}: {ran.stderr}')

    def of_muster(self, job, source, data=''):
        """Of a whole server: taken, with its proof, restored to a folder, in which it is `data`."""
        found = {'muster: backup, read back': timed(self.back_up, job, source)}
        found['muster: of that, taken'] = self.took(job)
        found['muster: restored to a folder'] = timed(lambda: self.restore(job))
        with started(self.file('ours') + data, free_port()) as sql:
            if self.counts('orders', sql) != self.counts('orders'):
                sys.exit('what muster restored is not what the source holds')
        subprocess.run(['rm', '-rf', self.file('ours')], check=True)
        return found

    def measure_base(self):
        self.fresh()
        bare = self.file('bare')
        found = {'pg_basebackup': timed(program, f'{POSTGRES_BIN}/pg_basebackup', '-D', bare, '-X', 'stream', '-c', 'fast', '-h',
                                        '127.0.0.1', '-p', str(self.source.port), '-U', 'postgres')}
        found['restic backup'] = timed(self.bare_store)
        found['restic restore'] = timed(self.bare_fetch)
        self.remove_fetched()
        found['restic restore --verify'] = timed(self.bare_fetch, '--verify')
        self.fresh()
        return found | self.of_muster('base', BASE, '/base')

    def pgbackrest(self, *argv):
        program(*as_server_user([PGBACKREST, f'--config={self.server.config}', '--stanza=main', '--log-level-stderr=error', *argv]))

    def measure_pgbackrest(self):
        self.fresh()
        # As many processes as muster gives it.
        found = {'pgbackrest backup': timed(self.pgbackrest, 'backup', '--type=full', '--no-expire-auto', '--process-max=2')}
        bare = self.file('source/bare')
        found['pgbackrest restore'] = timed(self.pgbackrest, 'restore', f'--pg1-path={bare}', '--process-max=2')
        subprocess.run(['rm', '-rf', bare], check=True)
        self.fresh()
        return found | self.of_muster('stanza', STANZA)


def seconds_of(duration):
    """Of 1h2m3.5s and its parts."""
    parts = re.findall(r'([0-9.]+)(ms|h|m|s)', duration)
    return sum(float(number) * {'ms': 0.001, 's': 1, 'm': 60, 'h': 3600}[unit] for number, unit in parts)


# What the bare programs take for as much.
LIMITS = {
    'dump': {'muster: of that, taken': ('pg_dump -Fd -j2', 'restic backup'),
             'muster: backup, read back': ('pg_dump -Fd -j2', 'restic backup', 'restic restore'),
             'muster: restored to a database': ('restic restore', 'pg_restore -j2', 'rm'),
             'muster: backup, restored and compared': ('pg_dump -Fd -j2', 'restic backup', 'restic restore', 'pg_restore -j2')},
    'base': {'muster: of that, taken': ('pg_basebackup', 'restic backup'),
             'muster: backup, read back': ('pg_basebackup', 'restic backup', 'restic restore'),
             'muster: restored to a folder': ('restic restore',)},
    'pgbackrest': {'muster: of that, taken': ('pgbackrest backup',),
                   'muster: backup, read back': ('pgbackrest backup', 'pgbackrest restore'),
                   'muster: restored to a folder': ('pgbackrest restore',)},
}
# The same, where a bare program can prove as much of what it does.
PROVEN = {'dump': {'muster: restored to a database': ('restic restore --verify', 'pg_restore -j2', 'rm')},
          'base': {'muster: restored to a folder': ('restic restore --verify',)}}


def report(size, runs, options):
    if not options.json:
        print(f'a database of {size / (1 << 20):.0f} MiB in {options.tables} tables, medians of {len(runs)}')
    found = {'bytes': size}
    for kind in options.only:
        seen = {name: statistics.median(run[kind][name] for run in runs) for name in runs[0][kind]}
        limits, proven = ({name: sum(seen[part] for part in parts) for name, parts in of.get(kind, {}).items()} for of in (LIMITS, PROVEN))
        found[kind] = {'seconds': seen, 'ratios': {name: limits[name] / seen[name] for name in limits}}
        if options.json:
            continue
        print(f' {kind}')
        for name, seconds in seen.items():
            beside = f', {seconds / limits[name]:.2f} of the bare programs’ {limits[name]:.1f} s' if name in limits else ''
            if name in proven:
                beside += f', {seconds / proven[name]:.2f} of {proven[name]:.1f} s with as much proof'
            print(f'  {name}: {seconds:.1f} s, {size / (1 << 20) / seconds:.0f} MiB/s{beside}')
    if options.json:
        print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--smoke', action='store_true')
    parser.add_argument('--mib', type=int, default=2048)
    parser.add_argument('--tables', type=int, default=8)
    parser.add_argument('--runs', type=int, default=1)
    parser.add_argument('--only', default='dump,base,pgbackrest', type=lambda text: text.split(','))
    parser.add_argument('--json', action='store_true')
    options = parser.parse_args()
    if not set(options.only) <= set(LIMITS):
        parser.error(f'--only takes some of {", ".join(LIMITS)}')
    if options.smoke:
        options.mib, options.tables = 8, 2
    # The database stands where this is started: /tmp may be memory.
    with tempfile.TemporaryDirectory(prefix='muster-backup-', dir=os.environ.get('TMPDIR', '/tmp')) as folder:
        bench = Bench(folder, options)
        try:
            bench.fill()
            runs = []
            for number in range(1, options.runs + 1):
                runs.append(bench.measure())
                print(f'run {number} of {options.runs} is done', file=sys.stderr, flush=True)
            report(bench.bytes(), runs, options)
        finally:
            bench.close()


if __name__ == '__main__':
    main()
