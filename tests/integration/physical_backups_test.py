"""Whole PostgreSQL servers: copied by pg_basebackup and by pgBackRest, proven, restored, restored as of a moment; what breaks is
told, and nothing half done is left.
"""
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../support'))
# pylint: disable=wrong-import-position
from archived_server import ROWS, ArchivedServer, started
from backup_bed import Canaries, ResticRepository, write_secret
from harness import BIN, Case, eventually, free_port, main

RUNBOOK = os.path.join(os.path.dirname(__file__), '../../docs/runbooks/point-in-time.md')

BASE = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: base}}
spec:
  agents: {{agent: host-1}}
  deadline: 5m
  backup:
    postgres: {{connection: {{secret: "file:{folder}/{dsn}"}}, method: base}}
    repository: {{path: {folder}/restic, password: {{secret: "file:{folder}/restic.key"}}}}
    staging: {folder}/staging
    verify: {{restore: true, queries: ["select count(*) >= 500 from orders", "/* database: postgres */ select true"]}}
'''

STANZA = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: stanza}}
spec:
  agents: {{agent: host-1}}
  deadline: 5m
  backup:
    pgbackrest: {{stanza: {stanza}, configFile: {config}, type: {type}}}
    staging: {folder}/staging
    verify: {{restore: {restore}, queries: [{queries}]}}
{extra}
'''

PROBE = '''---
apiVersion: muster/v1
kind: Check
metadata: {{name: archive}}
spec:
  agents: {{agent: host-1}}
  every: 5s
  timeout: 5s
  confirm: {{failures: 1, successes: 1}}
  probe:
    walArchive: {{stanza: main, configFile: {config}, dsn: "host=127.0.0.1 port={port} user=postgres dbname=postgres"}}
'''


class Physical(Case):
    """One server and one control plane for all of it."""
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.shared = tempfile.mkdtemp(prefix='muster-it-')
        cls.addClassCleanup(shutil.rmtree, cls.shared, ignore_errors=True)
        os.chmod(cls.shared, 0o755)
        cls.canaries = Canaries()
        cls.addClassCleanup(cls.canaries.stop)
        cls.password = cls.canaries.password('of-the-server')
        cls.cipher = cls.canaries.password('of-the-cipher')
        cls.server = ArchivedServer(cls.shared, free_port(), cls.cipher)
        cls.addClassCleanup(cls.server.stop)
        cls.server.sql_unseen(f"create role keeper login replication password '{cls.password}'; grant pg_read_all_data to "
                              f"keeper; create role weak login password '{cls.password}'")
        cls.server.add(1, 500)

    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        for role in ('keeper', 'weak'):
            write_secret(os.path.join(self.folder, role), f'host=127.0.0.1 port={self.server.port} user={role} '
                                                          f'password={self.password} dbname=orders')
        write_secret(os.path.join(self.folder, 'restic.key'), self.canaries.password('of-the-repository'))
        self.control = self.plane()
        with open(os.path.join(self.folder, 'policy.yaml'), 'w', encoding='utf-8') as file:
            file.write(f'probes: [wal_archive]\njobs: [backup, restore, forget]\nnetworks: [127.0.0.0/8]\n'
                       f'paths: [{self.folder}, {self.server.base}]\n')
        os.chmod(os.path.join(self.folder, 'policy.yaml'), 0o600)
        self.agent(self.control, config=f'policy: {self.folder}/policy.yaml\n')

    def apply_stanza(self, kind='full', restore=False, queries='', extra='', stanza='main'):
        self.control.apply(STANZA.format(folder=self.folder, config=self.server.config, type=kind, stanza=stanza,
                                         restore=str(restore).lower(), queries=queries, extra=extra))

    def run_job(self, job='stanza'):
        ran = self.control.ctl('run', job, '--wait', '-o', 'json', check=False, timeout=200)
        return json.loads(ran.stdout)

    def back_up(self, job='stanza'):
        run = self.run_job(job)
        self.assertEqual(run['state'], 'SUCCEEDED', run['reason'])
        return self.listed(job)[0]

    def fails(self, job='stanza'):
        run = self.run_job(job)
        self.assertEqual(run['state'], 'FAILED', run)
        return run['reason']

    def listed(self, job='stanza', *flags):
        return self.control.items('backup', 'list', job, *flags)

    def ends_well(self, *argv):
        ran = self.control.ctl('backup', *argv, '--wait', '-o', 'json', check=False, timeout=200)
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        return json.loads(ran.stdout)

    def refused(self, *argv):
        ran = self.control.ctl('backup', *argv, '--wait', check=False, timeout=200)
        self.assertNotEqual(ran.returncode, 0, ran.stdout)
        return ran.stderr

    def assert_nothing_left(self):
        self.assertEqual([name for name in os.listdir(os.path.join(self.folder, 'staging')) if name != '.lock'], [])
        self.assertEqual(self.canaries.seen, [])

    def test_a_base_backup_is_a_server_that_starts(self):
        ResticRepository(os.path.join(self.folder, 'restic'), os.path.join(self.folder, 'restic.key')).make()
        self.control.apply(BASE.format(folder=self.folder, dsn='weak'))
        self.assertIn('run ALTER ROLE "weak" REPLICATION', self.fails('base'))
        self.control.apply(BASE.format(folder=self.folder, dsn='keeper'))
        before = self.server.rows()
        taken = self.back_up('base')
        self.assertEqual((taken['engine'], taken['proof'], taken['verified']), ('POSTGRES_BASE', 'RESTORED', True))
        self.assertEqual(taken['systemIdentifier'], self.server.sql('select system_identifier from pg_control_system()'))
        self.assertIn('restoreTook', taken)
        self.ends_well('verify', 'base/latest', '--restore')
        target = os.path.join(self.folder, 'restored')
        run = self.ends_well('restore', 'base/verified', '--folder', target)
        self.assertIn(f'pg_ctl -D {target}/base start', run['reason'])
        with started(target + '/base', free_port()) as sql:
            self.assertEqual(sql(ROWS), before)
        self.assertIn('only one by pgBackRest leads to others',
                      self.refused('restore', 'base/latest', '--folder', target + '2', '--target-time', '2030-01-01T00:00:00Z'))
        self.assertIn('restore it to a folder',
                      self.refused('restore', 'base/latest', '--database', 'x', '--dsn', 'host=127.0.0.1'))
        self.assert_nothing_left()

        self.server.sql(f"create tablespace elsewhere location '{self.elsewhere()}'", 'postgres')
        self.addCleanup(self.server.sql, 'drop tablespace elsewhere', 'postgres')
        self.assertIn('in the tablespaces elsewhere', self.fails('base'))
        self.assert_nothing_left()

    def elsewhere(self):
        place = os.path.join(self.shared, 'elsewhere')
        os.makedirs(place)
        subprocess.run(['chown', 'postgres', place], check=True)
        return place

    def test_a_chain_is_proven_and_leads_to_any_moment(self):
        self.apply_stanza('incremental', True, '"select count(*) >= 500 from orders"')
        full = self.back_up()
        self.assertTrue(full['snapshotId'].endswith('F'), full)
        self.assertEqual((full['engine'], full['proof'], full['verified']), ('PGBACKREST', 'RESTORED', True))
        self.server.add(501, 600)
        self.server.switch()
        early = self.server.rows()
        time.sleep(1.1)
        moment = self.server.sql("select to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
        time.sleep(1.1)
        self.server.add(601, 700)
        self.server.switch()
        late = self.server.rows()
        target = os.path.join(self.folder, 'early')
        run = self.ends_well('restore', full['snapshotId'], '--folder', target, '--target-time', moment)
        self.assertIn('archives nothing until', run['reason'])
        with started(target, free_port()) as sql:
            self.assertEqual(sql(ROWS), early)
            self.assertEqual(sql('show archive_mode'), 'off')
        # Nothing was committed between this moment and the end of the archive, and what is later is not in it.
        time.sleep(1.1)
        quiet = self.server.sql("select to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
        time.sleep(1.1)
        for _ in range(2):
            self.server.switch()
        for place in ('-quiet', '-loud'):
            run = self.ends_well('restore', full['snapshotId'], '--folder', target + place, '--target-time', quiet)
            self.assertIn('nothing was committed after ' + quiet, self.control.ctl('logs', run['id']).stdout)
        with started(target + '-quiet', free_port()) as sql:
            self.assertEqual(sql(ROWS), late)
        self.server.add(701, 800)
        self.server.switch()
        with started(target + '-loud', free_port()) as sql:
            self.assertEqual(sql(ROWS), late)
        late = self.server.rows()
        # Not even a timeline of it came to the archive.
        self.assertEqual([name for _, _, names in os.walk(os.path.join(self.server.repository, 'archive')) for name in names
                          if name.startswith('00000002')], [])

        chained = self.back_up()
        self.assertEqual((chained['priorId'], chained['proof']), (full['snapshotId'], 'RESTORED'))
        self.assertIn(full['snapshotId'], self.control.ctl('backup', 'describe', 'stanza/latest').stdout)
        self.ends_well('verify', 'stanza/latest')
        self.assertIn('choose an older backup', self.refused('restore', 'stanza/latest', '--folder', target + '2',
                                                              '--target-time', moment))
        beyond = self.refused('restore', 'stanza/latest', '--folder', target + '2', '--target-time', '2099-01-01T00:00:00Z')
        self.assertRegex(beyond, 'leads to moments from 20.* to 20.*what came later is not in the archive')
        self.assertFalse(os.path.exists(target + '2'))
        self.ends_well('restore', 'stanza/verified', '--folder', target + '3')
        with started(target + '3', free_port()) as sql:
            self.assertEqual(sql(ROWS), late)

        # The newest needs the oldest.
        self.apply_stanza('incremental', extra='    keep: {last: 1}')
        plan = {one['snapshotId']: (one['decision'], one['reason']) for one in self.control.items('backup', 'prune', 'stanza',
                                                                                                    '--dry-run')}
        self.assertEqual(plan[full['snapshotId']][0], 'keep')
        self.assertIn('needed by ' + chained['snapshotId'], plan[full['snapshotId']][1])
        self.apply_stanza('full', extra='    keep: {last: 1}')
        last = self.back_up()
        eventually('the removal', lambda: [one['snapshotId'] for one in self.listed()] == [last['snapshotId']], within=60)
        self.assertEqual([one['label'] for one in self.server.info()['backup']], [last['snapshotId']])
        self.assertEqual(self.server.info()['archive'][0]['min'], self.server.info()['backup'][0]['archive']['start'])
        # A catalogue that was lost comes back.
        other = self.plane('other')
        self.control, lost = other, last
        self.agent(other, 'host-2', config=f'policy: {self.folder}/policy.yaml\n')
        other.apply(STANZA.format(folder=self.folder, config=self.server.config, type='full', stanza='main', restore='false',
                                  queries='', extra='').replace('host-1', 'host-2'))
        self.ends_well('import', 'stanza')
        self.assertEqual([(one['snapshotId'], one['proof'], one['run']) for one in self.listed()],
                         [(lost['snapshotId'], 'TAKEN', lost['run'])])
        self.assert_nothing_left()

    def test_the_runbook_works_as_it_is_written(self):
        self.control.apply(STANZA.format(folder=self.folder, config=self.server.config, type='full', stanza='main',
                                         restore='false', queries='', extra='').replace('{name: stanza}', '{name: server-nightly}'))
        self.back_up('server-nightly')
        self.server.sql('create database told', 'postgres')
        self.addCleanup(self.server.sql, 'drop database told', 'postgres')
        self.server.sql('create table orders as select n as id, now() as created_at from generate_series(1, 77) n', 'told')
        time.sleep(1.1)
        moment = self.server.sql("select to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
        time.sleep(1.1)
        self.server.sql('drop table orders', 'told')
        with open(RUNBOOK, encoding='utf-8') as file:
            blocks = re.findall(r'^```sh\n(.*?)^```$', file.read(), re.M | re.S)
        self.assertEqual(len(blocks), 7)
        port = free_port()
        script = 'set -eu\n' + '\n'.join(blocks)
        for is_there, here in (('2026-11-28T14:02:59Z', moment), ('DATABASE=orders', 'DATABASE=told'), ('-p 5433', f'-p {port}'),
                               ('/srv/restored', self.folder + '/restored')):
            self.assertIn(is_there, script)
            script = script.replace(is_there, here)
        ran = subprocess.run(['bash', '-c', script], capture_output=True, text=True, check=False, timeout=200, env={
            'PATH': f'{BIN}:/usr/sbin:/usr/bin:/sbin:/bin', 'MUSTER_CONTEXT': self.control.context, 'PGHOST': self.server.base,
            'PGPORT': str(self.server.port), 'PGUSER': 'postgres', 'HOME': self.folder})
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        self.assertRegex(ran.stdout, r'77 \|')
        self.assertEqual(self.listed('server-nightly')[0].get('heldBecause', ''), '')

    def test_damage_is_found_and_told(self):
        self.apply_stanza()
        label = self.back_up()['snapshotId']
        files = [os.path.join(at, name) for at, _, names in os.walk(os.path.join(self.server.repository, 'backup/main', label))
                 for name in names if name.endswith('.gz')]
        largest = max(files, key=os.path.getsize)
        with open(largest, 'r+b') as file:
            file.seek(2000)
            was = file.read(3)
            file.seek(2000)
            file.write(bytes(255 - byte for byte in was))
        self.assertIn(os.path.basename(largest), self.refused('verify', 'stanza/latest'))
        self.assertEqual((self.listed()[0]['verified'], 'damaged' in self.listed()[0]['problem']), (False, True))
        with open(largest, 'r+b') as file:
            file.seek(2000)
            file.write(was)
        self.ends_well('verify', 'stanza/latest')
        self.assertTrue(self.listed()[0]['verified'])
        # A segment that the backup needs is gone; pgbackrest verify does not miss it.
        segment = self.server.segment(self.server.info()['backup'][-1]['archive']['start'])
        os.rename(segment, self.folder + '/segment')
        self.assertIn('is missing in the archive, and the backup', self.refused('verify', 'stanza/latest'))
        self.assertFalse(self.listed()[0]['verified'])
        shutil.move(self.folder + '/segment', segment)
        self.assert_nothing_left()

    def test_what_is_wrong_is_said_with_its_remedy(self):
        self.apply_stanza(stanza='other')
        self.assertIn('stanza-create', self.fails())
        self.apply_stanza()
        before = [one['label'] for one in self.server.info()['backup']]
        self.server.sql("alter system set archive_command = '/bin/false'", 'postgres')
        self.server.sql('select pg_reload_conf()', 'postgres')
        self.assertIn('archive-push %p', self.fails())
        self.server.sql('alter system reset archive_command', 'postgres')
        self.server.cluster.configure(archive_command=self.server.archive_command())
        self.server.sql('select pg_reload_conf()', 'postgres')
        self.server.write_config('another password')
        self.assertIn('repo-cipher-pass', self.fails())
        self.server.write_config(self.cipher)
        os.chmod(self.server.repository, 0o000)
        self.assertIn('Permission denied', self.fails())
        os.chmod(self.server.repository, 0o750)
        self.assertEqual([one['label'] for one in self.server.info()['backup']], before)
        self.assert_nothing_left()

    def test_a_lock_that_another_holds_is_said(self):
        self.apply_stanza()
        before = [one['label'] for one in self.server.info()['backup']]
        path = os.path.join(self.server.base, 'lock', 'main-backup.lock')
        with open(path, 'w', encoding='utf-8') as lock:
            shutil.chown(path, 'postgres')
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assertIn('another pgbackrest is at work on stanza main: wait until it is done', self.fails())
        self.assertEqual([one['label'] for one in self.server.info()['backup']], before)
        self.back_up()
        self.assert_nothing_left()

    def test_a_full_repository_is_said_and_the_next_run_is_good(self):
        server = ArchivedServer(self.folder, free_port(), self.cipher, 'small')
        self.addCleanup(server.stop)
        server.switch()  # the rest of the log is small
        if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=2m,mode=0750,uid=postgres', 'tmpfs', server.repository], check=False,
                          capture_output=True).returncode != 0:
            self.skipTest('this machine lets nobody mount a file system')
        self.addCleanup(subprocess.run, ['umount', '-l', server.repository], check=False)
        server.pgbackrest('stanza-create')
        self.control.apply(STANZA.format(folder=self.folder, config=server.config, type='full', stanza='main', restore='true',
                                         queries='', extra=''))
        reason = self.fails()
        self.assertRegex(reason, "pgBackRest.s disk is full: .*: make room, or keep fewer backups")
        self.assertEqual((server.info()['backup'], self.listed()), ([], []))
        subprocess.run(['mount', '-o', 'remount,size=200m', server.repository], check=True)
        taken = self.back_up()
        self.assertEqual((taken['proof'], [one['label'] for one in server.info()['backup']]), ('RESTORED', [taken['snapshotId']]))
        self.assert_nothing_left()

    def test_the_archive_is_watched(self):
        self.server.pgbackrest('backup', '--type=full', '--no-expire-auto', '--log-level-console=off')
        self.server.switch()
        self.control.apply(PROBE.format(config=self.server.config, port=self.server.port))
        self.told('OK', 'the archive is whole and keeps up')
        lost = self.server.switch()
        self.server.switch()
        path = self.server.segment(lost)
        os.rename(path, self.folder + '/segment')
        self.told('CRITICAL', f'1 segments are missing in the archive: {lost}')
        shutil.move(self.folder + '/segment', path)
        self.told('OK', 'the archive is whole and keeps up')
        self.server.sql("alter system set archive_command = '/bin/false'", 'postgres')
        self.server.sql('select pg_reload_conf()', 'postgres')
        self.server.sql("select pg_logical_emit_message(true, 'muster', 'x')", 'postgres')
        self.server.sql('select pg_switch_wal()', 'postgres')
        self.told('CRITICAL', 'archive_command fails: the last attempt to archive')
        self.server.cluster.configure(archive_command=self.server.archive_command())
        self.server.sql('select pg_reload_conf()', 'postgres')
        self.told('OK', 'the archive is whole and keeps up')
        self.assertEqual(self.canaries.seen, [])

    def told(self, state, summary):
        def holds():
            found = self.control.state('archive', 'host-1')
            return found and (found['state'] == state and summary in found['summary'] or None)
        try:
            eventually(f'{state}: {summary}', holds, within=75, every=0.3)
        except AssertionError as error:
            raise AssertionError(f'{error}: {self.control.state("archive", "host-1")}') from error


if __name__ == '__main__':
    unittest.installHandler()
    main()
