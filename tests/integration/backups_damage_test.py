"""A restic repository that is damaged: single bits of it are turned, its files cut, emptied and removed. A verification by
muster finds each, says that it is damage and what to do, and blames neither password nor disk; and where no restore can
notice a bit, that is said exactly and tried.

MUSTER_FLIPS says how many bits (default 5; `scripts/soak backups` takes 1,000), MUSTER_SEED with which draws.
"""
import collections
import json
import os
import random
import subprocess
import sys
import time

from backups_test import BackupCase
from harness import SUPPORT, main

sys.path.insert(0, SUPPORT)
# pylint: disable=wrong-import-position
from backup_bed import RESTIC, RESTORE_TO_DATABASE, hashes  # noqa: E402
from repository_damage import DAMAGES, Flip, gone, is_harmless  # noqa: E402

VERIFY = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: {name}}}
spec:
  agents: {{agent: host-1}}
  deadline: 5m
  verifyBackup:
    backup: {{snapshotId: {snapshot}, engine: postgresDump, manifestHash: {manifest_hash}}}
    repository: {{path: {repository}, password: {{secret: "file:{key}"}}}}
    staging: {staging}
    verify: {{restore: {restore}}}
'''


class Damaged(BackupCase):
    BULK_ROWS = 20000

    def setUp(self):
        super().setUp()
        self.repository.make()
        self.host()
        self.postgres_job('nightly')
        self.expect_good(self.run_job('nightly'))
        ((self.snapshot, _),) = self.repository.snapshots().items()
        with self.repository.restored(self.snapshot) as folder:
            self.good = hashes(folder)
        for name, restore in (('verify', 'false'), ('verify-restored', 'true')):
            self.ctl('apply', '-f', '-', stdin=VERIFY.format(
                name=name, restore=restore, snapshot=self.snapshot, manifest_hash=self.good['manifest.json'], **self.places()))
        self.expect_good(self.run_job('verify'))
        self.whole = hashes(self.repository.path)

    def test_a_bit_that_turned_is_found(self):
        flips = int(os.environ.get('MUSTER_FLIPS', '5'))
        found, took = collections.Counter(), []
        for number in range(flips):
            kind, path = self.draw(number)
            flip = Flip.drawn(path)
            with flip:
                began = time.monotonic()
                ran = self.run_job('verify')
                took.append(time.monotonic() - began)
                found[kind, self.judge(kind, flip, ran)] += 1
            if number % 50 == 49:
                print(f'{number + 1} bits turned: {dict(found)}', flush=True)
        self.expect_good(self.run_job('verify'))
        self.assertEqual(hashes(self.repository.path), self.whole)
        self.expect_nothing_left()
        print(f'{flips} bits turned, up to {max(took):.1f} s each: {dict(found)}')

    def draw(self, number):
        """Kinds in turn, for nearly every byte of a repository is of data."""
        files = self.repository.files()
        kind = sorted(files)[number % len(files)]
        return kind, random.choice(files[kind])

    def judge(self, kind, flip, ran):
        if ran['state'] == 'SUCCEEDED':
            self.assertTrue(is_harmless(kind, flip), f'{flip} was not found')
            with self.repository.restored(self.snapshot) as folder:
                self.assertEqual(hashes(folder), self.good, f'{flip} is said to be harmless')
            return f'harmless: {is_harmless(kind, flip)}'
        self.expect_damage_told(ran, flip)
        return 'found'

    def expect_damage_told(self, ran, what):
        """It says that the repository is damaged and what to do; and blames neither the password nor the disk."""
        self.assertEqual(ran['state'], 'FAILED', what)
        self.assertRegex(ran['reason'], r'is damaged', what)
        self.assertIn('restic check --read-data', ran['reason'], what)
        self.assertNotRegex(ran['reason'], r'password|mounted|locked|is full', what)

    def test_a_file_that_is_cut_emptied_or_gone_is_found(self):
        every = [(kind, damage) for kind in self.repository.files() for damage in DAMAGES]
        chosen = every * 2 if int(os.environ.get('MUSTER_FLIPS', '5')) >= 100 else random.sample(every, 4)
        for kind, damage in chosen:
            path = random.choice(self.repository.files()[kind])
            job = random.choice(('verify', 'verify-restored'))
            with self.subTest(kind=kind, damage=damage.__name__, job=job), damage(path):
                ran = self.run_job(job)
                if (kind, damage) == ('snapshots', gone):  # as if it had been forgotten: nobody can tell
                    self.assertEqual(ran['state'], 'FAILED')
                    self.assertRegex(ran['reason'], 'has no snapshot .*: it was removed, or its file was lost')
                else:
                    self.expect_damage_told(ran, f'{damage.__name__} {path}')
        self.expect_good(self.run_job('verify-restored'))
        self.assertEqual(hashes(self.repository.path), self.whole)
        self.expect_no_canary()

    def test_no_backup_begins_anew_over_a_damaged_repository(self):
        """`create: true` is for a place where there is nothing."""
        for path in (os.path.join(self.repository.path, 'config'), self.repository.files()['keys'][0]):
            os.rename(path, path + '.away')
            before = hashes(self.repository.path)
            failed = self.run_job('nightly')
            self.expect_damage_told(failed, f'without {path}')
            self.assertEqual(hashes(self.repository.path), before)
            os.rename(path + '.away', path)
        self.expect_good(self.run_job('nightly'))

    def restore(self, snapshot):
        self.ctl('apply', '-f', '-', stdin=RESTORE_TO_DATABASE.format(snapshot=snapshot, port=self.source.port, **self.places()))
        return self.run_job('restore')

    def with_other_counts(self):
        """The snapshot, but that its manifest says bulk had one row more."""
        before = set(self.repository.snapshots())
        with self.repository.restored(self.snapshot) as folder:
            path = os.path.join(folder, 'manifest.json')
            with open(path, encoding='utf-8') as file:
                manifest = json.load(file)
            bulk = next(table for table in manifest['tables'] if table['table'] == 'public.bulk')
            bulk['rows'] = str(int(bulk['rows']) + 1)
            with open(path, 'w', encoding='utf-8') as file:
                json.dump(manifest, file)
            subprocess.run([RESTIC, '--repo', self.repository.path, '--password-file', self.key, '--no-cache', '--quiet', 'backup',
                            '--tag', 'muster', '.'], cwd=folder, check=True)
        (made,) = set(self.repository.snapshots()) - before
        return made

    def test_a_restored_database_with_other_rows_than_the_backup_is_dropped(self):
        databases = "select string_agg(datname, ',' order by datname) from pg_database where datname in ('ours', 'orders')"
        other = self.with_other_counts()
        for counted_by in ('statistics', 'reading'):
            with self.subTest(counted_by):
                failed = self.restore(other)
                self.assertEqual(failed['state'], 'FAILED')
                self.assertIn('public.bulk has 20000 rows, and 20001 in the manifest', failed['reason'])
                self.assertEqual(self.source.sql(databases), 'orders')
                self.expect_good(self.restore(self.snapshot))
                self.source.moment_of('ours')
                self.assertEqual(self.source.sql(databases), 'orders,ours')
                self.source.sql('drop database ours')
            # Then nobody but the tables themselves can say how many rows they have.
            self.source.sql('alter role postgres set track_counts = off', 'postgres')


if __name__ == '__main__':
    main()
