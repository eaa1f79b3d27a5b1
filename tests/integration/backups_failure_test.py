"""Whatever else goes wrong with a backup, end to end: dumps cut short, servers down, users gone, full disks, locks, wrong
passwords, programs too old. Each run fails and says what to do, an alert says it too, no backup that was there is lost,
nothing half done stays; and when it is mended the next run is good and the alert resolved.
"""
import contextlib
import json
import os
import subprocess
import sys
import unittest

from backups_test import BACKUP, BackupCase
from harness import SUPPORT, Process, eventually, free_port, main

sys.path.insert(0, SUPPORT)
# pylint: disable=wrong-import-position
from backup_bed import stages, wait_for, write_secret  # noqa: E402

POSTGRES = '/usr/lib/postgresql'
# Stands where pg_dump does, and spoils what that wrote as the file FAULT says.
DUMP_WRAPPER = '''#!/bin/sh
{folder}/waits "$@"
{folder}/pg_dump "$@" || exit $?
for argument; do case "$argument" in --file=*) target=${{argument#--file=}};; esac; done
[ -n "$target" ] || exit 0
largest=$(ls -S "$target"/*.dat | head -n 1)
case "$(cat {folder}/fault)" in
  truncated) truncate --size=$(($(stat -c %s "$largest") / 2)) "$largest" ;;
  empty) for file in "$target"/*; do : > "$file"; done ;;
  "no table") rm "$largest" ;;
esac
exit 0
'''
# Before it begins, as the fault says: holds on until that has gone, or fills the disk that it is to write to.
WAITS = '''#!/bin/sh
for argument; do case "$argument" in --file=*) target=${{argument#--file=}};; esac; done
[ -n "$target" ] || exit 0
while [ "$(cat {folder}/fault)" = held ]; do sleep 0.05; done
[ "$(cat {folder}/fault)" = full ] && head -c 1G /dev/zero > {folder}/staging/filler
exit 0
'''
GONE = r'see to the user, the password and the database in the connection string'


@unittest.skipUnless(os.geteuid() == 0, 'needs to mount')
class Failed(BackupCase):
    """The agent lives in a mount namespace of its own, where pg_dump is another program."""
    ALLOWED_IN_STAGING = frozenset({'filler'})

    def setUp(self):
        super().setUp()
        for name, size in (('staging', '200m'), ('repository', '64m')):
            self.small_disk(name, size)
        self.repository.make()
        for name, text in (('wrapper', DUMP_WRAPPER), ('waits', WAITS)):
            self.write_program(name, text.format(folder=self.folder))
        subprocess.run(['cp', f'{POSTGRES}/15/bin/pg_dump', self.folder], check=True)
        self.fault('')
        self.host(['unshare', '--mount', '--propagation', 'private', 'sh', '-c',
                   f'mount --bind {self.folder}/wrapper {POSTGRES}/15/bin/pg_dump && exec "$@"', 'sh'])
        self.postgres_job('nightly')
        self.expect_good(self.run_job('nightly'))

    def small_disk(self, name, size):
        path = os.path.join(self.folder, name)
        os.makedirs(path)
        if subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size},mode=0711', 'tmpfs', path], check=False,
                          capture_output=True).returncode != 0:
            self.skipTest('this machine lets nobody mount a file system')
        self.addCleanup(subprocess.run, ['umount', '-l', path], check=False)

    def write_program(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        os.chmod(path, 0o755)

    def fault(self, name):
        write_secret(os.path.join(self.folder, 'fault'), name)

    def for_agent(self, *argv):
        """Runs a program where the agent lives."""
        subprocess.run(['nsenter', '-t', str(self.host_1.process.pid), '-m', *argv], check=True)

    @contextlib.contextmanager
    def broken(self, job, *reasons, during=None):
        """What the body breaks makes the job fail for the reasons; what it yields to `mends` mends it."""
        before, mends = self.repository.snapshots(), []
        with self.subTest(reasons[0]):
            yield mends.append
            try:
                failed = during() if during else self.run_job(job)
                self.expect_told(job, failed, reasons)
                self.expect_nothing_left()
            finally:
                for mend in mends:
                    mend()
            made = self.repository.by_run()
            self.assertNotIn(failed['id'], made, 'half a backup counts as one')
            self.assertEqual({one for ones in made.values() for one in ones}, set(before), 'a failed run costs a backup')
            self.expect_good(self.run_job(job))
            eventually('resolved', lambda: not self.plane.alerts(name=f'job/{job}', state='FIRING'))

    def expect_told(self, job, failed, reasons):
        self.assertEqual(failed['state'], 'FAILED')
        for reason in reasons:
            self.assertRegex(failed['reason'], reason)
        alert = eventually('alert', lambda: self.plane.alerts(name=f'job/{job}', state='FIRING'))[0]
        self.assertIn(failed['reason'][:80], alert['summary'])

    def held(self, meanwhile):
        """A run while whose dump has not begun something happens."""
        def during():
            self.fault('held')
            run = json.loads(self.ctl('run', 'nightly', '-o', 'json').stdout)['id']
            self.assertTrue(wait_for(lambda: 'waits' in stages(run)), 'the dump was not seen')
            meanwhile()
            self.fault('')
            return self.waited_for(run)
        return during

    def waited_for(self, run):
        def look():
            found = next(item for item in self.runs('nightly') if item['id'] == run)
            return found if found['state'] not in ('QUEUED', 'RUNNING') else None
        return eventually('over', look, within=60)

    def test_a_dump_that_is_not_whole_is_none(self):
        for fault, reason in (('truncated', r'the dump holds \d+ rows of public.bulk, and the database 2000'),
                              ('empty', r'the dump cannot be read'),
                              ('no table', r'the dump does not hold the table public.bulk')):
            with self.broken('nightly', reason, r'nothing was put into the repository') as mends:
                self.fault(fault)
                mends(lambda: self.fault(''))

    def test_a_server_that_is_away(self):
        with self.broken('nightly', r'Connection refused', r'Is the server running') as mends:
            self.stop_source()
            mends(self.source.cluster.start)
        with self.broken('nightly', r'pg_dump: ', r'connection', during=self.held(self.stop_source)) as mends:
            mends(self.source.cluster.start)

    def stop_source(self):
        self.source.stop_session()
        self.source.cluster.kill()

    def test_a_user_that_is_gone_or_has_another_password(self):
        with self.broken('nightly', r'authentication failed for user "keeper"', GONE) as mends:
            self.source.drop_keeper()
            mends(self.source.make_keeper)
        with self.broken('nightly', r'authentication failed for user "keeper"', GONE,
                         during=self.held(self.source.drop_keeper)) as mends:
            mends(self.source.make_keeper)
        with self.broken('nightly', r'authentication failed for user "keeper"', GONE) as mends:
            write_secret(self.dsn, self.source.dsn(self.canaries.password('nobody')))
            mends(lambda: write_secret(self.dsn, self.source.dsn()))

    def test_a_repository_whose_password_is_another(self):
        with self.broken('nightly', r'the password of .* is wrong: it must be what the repository was made with') as mends:
            self.key_away()
            mends(self.key_back)

    def key_away(self):
        self.repository.key_file = os.path.join(self.folder, 'right.key')
        os.rename(self.key, self.repository.key_file)
        write_secret(self.key, self.canaries.password('another-repository'))

    def key_back(self):
        os.rename(self.repository.key_file, self.key)
        self.repository.key_file = self.key

    def test_full_disks(self):
        staging, repository = self.staging, self.repository.path
        with self.broken('nightly', r'free, and the backup needs about', r'make room, or choose another') as mends:
            subprocess.run(['mount', '-o', 'remount,size=66m', staging], check=True)
            mends(lambda: subprocess.run(['mount', '-o', 'remount,size=200m', staging], check=True))
        with self.broken('nightly', r'is nearly full', r'Make room, or choose another') as mends:
            self.fault('full')
            mends(lambda: (self.fault(''), os.unlink(os.path.join(staging, 'filler'))))
        self.source.sql('create table fat as select i, encode(sha256(i::text::bytea), \'hex\') || md5(i::text) as note '
                        'from generate_series(1, 60000) i')
        with self.broken('nightly', r'the disk of .* is full: make room, or keep fewer backups') as mends:
            filler = os.path.join(repository, 'filler')
            room = os.statvfs(repository)
            with open(filler, 'wb') as file:
                file.write(bytes(room.f_bavail * room.f_frsize - (256 << 10)))
            mends(lambda: os.unlink(filler))
        self.repository.restic('check', '--read-data')

    def test_a_repository_that_somebody_holds(self):
        # 64 KiB a second: it holds the repository for as long as this needs.
        self.source.sql('create table fat as select i, encode(sha256(i::text::bytea), \'hex\') || md5(i::text) as note '
                        'from generate_series(1, 60000) i')
        self.expect_good(self.run_job('nightly'))
        check = self.hold()
        with self.broken('nightly', r'is locked by somebody who is at work', r'restic unlock') as mends:
            mends(check.stop)
        check = self.hold()
        check.kill()
        self.assertEqual(len(self.repository.locks()), 1)
        good = self.run_job('nightly')
        self.expect_good(good)
        self.assertIn('stale locks are removed', self.ctl('logs', good['id']).stdout)

    def hold(self):
        check = self.own(Process(['/usr/bin/restic', '--repo', self.repository.path, '--password-file', self.key, '--no-cache',
                                  '--limit-download', '64', 'check', '--read-data'], os.path.join(self.folder, 'check.log')))
        eventually('held', self.repository.locks)
        return check

    def test_a_server_that_is_newer_than_the_programs(self):
        old = os.path.join(self.folder, 'old')
        os.makedirs(f'{old}/14/bin')
        subprocess.run(['cp', '/bin/true', f'{old}/14/bin/pg_dump'], check=True)
        with self.broken('nightly', r'the server is PostgreSQL 15, and this host has pg_dump of PostgreSQL 14 at most',
                         r'apt-get install postgresql-client-15') as mends:
            self.for_agent('mount', '--bind', old, POSTGRES)
            mends(lambda: self.for_agent('umount', POSTGRES))
        self.expect_no_canary()

    def test_a_redis_that_is_away_or_has_another_password(self):
        secret, config = (os.path.join(self.folder, name) for name in ('redis.key', 'redis-server.key'))
        port, password = free_port(), self.canaries.password('redis')
        write_secret(secret, password)
        write_secret(config, f'bind 127.0.0.1\nport {port}\ndir {self.folder}\nsave ""\nappendonly no\nrequirepass {password}\n')
        redis = [self.own(Process(['redis-server', config], os.path.join(self.folder, 'redis.log')))]
        self.ctl('apply', '-f', '-', stdin=BACKUP.format(
            name='redis', extra='', source=f'redis: {{address: "127.0.0.1:{port}", auth: {{secret: "file:{secret}"}}}}',
            restore='true', queries='[]', **self.places()))
        self.expect_good(self.run_job('redis'))
        with self.broken('redis', r'Redis cannot be reached: connection refused', r'start it, or correct the address') as mends:
            redis[0].stop()
            mends(lambda: redis.append(self.own(Process(['redis-server', config], os.path.join(self.folder, 'redis.log')))))
        with self.broken('redis', r'WRONGPASS', r'signing in to 127.0.0.1') as mends:
            write_secret(secret, 'another')
            mends(lambda: write_secret(secret, password))
        self.expect_no_canary()


if __name__ == '__main__':
    main()
