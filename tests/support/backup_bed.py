"""What tests of backups stand on: a PostgreSQL database whose every moment can be judged, restic repositories looked at
without muster, the programs of a run while it runs, and a search for passwords in all that others may read."""
import atexit
import base64
import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

from postgres_cluster import PostgresCluster

RESTIC = '/usr/bin/restic'
POSTGRES_BIN = '/usr/lib/postgresql/15/bin'
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
# What a note is of, by its number: anybody can tell whether a row is what was written.
NOTE = "repeat(md5({number}::text), 3)"
# Of a dump, into the database `ours`.
RESTORE_TO_DATABASE = '''---
apiVersion: muster/v1
kind: Job
metadata: {{name: restore}}
spec:
  agents: {{agent: host-1}}
  deadline: 1h
  restoreBackup:
    backup: {{snapshotId: {snapshot}, engine: postgresDump}}
    repository: {{path: {repository}, password: {{secret: "file:{key}"}}}}
    staging: {staging}
    postgres: {{dsn: "host=127.0.0.1 port={port} user=postgres dbname=postgres", database: ours, parallel: 2}}
'''
# What every password of this process holds.
WORD = f'canary-{os.getpid()}-{os.urandom(4).hex()}'


def write_secret(path, text):
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)
    os.chmod(path, 0o600)


class Source:
    """A server with the database "orders", into which a writer puts pairs of rows: transaction n adds the row n to both
    tables and nothing else. So each moment that the database was in is a number, and no other content is one."""

    def __init__(self, folder, port, password, bulk_rows=0):
        self.cluster = PostgresCluster(folder, port, 'source').make()
        self.port, self.password, self.written = port, password, 0
        self.stopping, self.writer, self.session = threading.Event(), None, None
        hba = os.path.join(self.cluster.data, 'pg_hba.conf')
        with open(hba, encoding='utf-8') as file:
            rest = file.read()
        with open(hba, 'w', encoding='utf-8') as file:
            file.write('host all keeper 127.0.0.1/32 scram-sha-256\n' + rest)
        self.cluster.start()
        self.cluster.sql('create database orders', 'postgres')
        self.make_keeper()
        self.sql(f'''create table orders (id bigint primary key, note text not null);
            create table payments (id bigint primary key references orders, note text not null);
            create schema "odd name"; create table "odd name"."a table" (id int); insert into "odd name"."a table" values (1), (2);
            create table bulk as select i as id, {NOTE.format(number='i')} as note from generate_series(1, {bulk_rows}) i''')
        self.bulk_rows = bulk_rows

    def dsn(self, password=None):
        return f'host=127.0.0.1 port={self.port} user=keeper password={password or self.password} dbname=orders'

    def psql(self, database):
        return ['psql', '-X', '-q', '-At', '-v', 'ON_ERROR_STOP=1', '-h', '127.0.0.1', '-p', str(self.port), '-U', 'postgres',
                '-d', database]

    def sql(self, text, database='orders'):
        """By stdin, for what it says may be secret."""
        ran = subprocess.run(self.psql(database), input=text, capture_output=True, text=True, check=False, timeout=60)
        if ran.returncode != 0:
            raise AssertionError(f'psql: {ran.stderr}')
        return ran.stdout.strip()

    def make_keeper(self):
        self.sql(f"create role keeper login password '{self.password}'; grant pg_read_all_data to keeper", 'postgres')

    def drop_keeper(self):
        self.sql('drop role keeper', 'postgres')

    def write(self, count=1):
        if self.session is None:
            # pylint: disable=consider-using-with
            self.session = subprocess.Popen(self.psql('orders'), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count):
            number = self.written + 1
            note = NOTE.format(number=number)
            self.session.stdin.write(f'begin; insert into orders values ({number}, {note}); insert into payments values '
                                     f'({number}, {note}); commit;\n\\echo written\n')
            self.session.stdin.flush()
            if self.session.stdout.readline() != 'written\n':
                raise AssertionError('the source took no row')
            self.written = number

    def start_writing(self):
        def work():
            while not self.stopping.wait(0.05):
                self.write()
        self.writer = threading.Thread(target=work, daemon=True)
        self.writer.start()

    def stop(self):
        self.stopping.set()
        if self.writer:
            self.writer.join()
        self.stop_session()
        self.cluster.stop()

    def stop_session(self):
        if self.session is not None:
            self.session.communicate()
            self.session = None

    def moment_of(self, database):
        """Which moment the database holds; fails if it holds none of this source."""
        facts = [self.sql(f'select count(*), coalesce(min(id), 1), coalesce(max(id), 0), '
                          f"coalesce(bool_and(note = {NOTE.format(number='id')}), true) from {table}", database)
                 for table in ('orders', 'payments')]
        count = int(facts[0].split('|')[0])
        want = f'{count}|1|{count}|t'
        bulk = self.sql(f"select count(*), coalesce(bool_and(note = {NOTE.format(number='id')}), true) from bulk", database)
        odd = self.sql('select string_agg(id::text, \',\' order by id) from "odd name"."a table"', database)
        if facts != [want, want] or bulk != f'{self.bulk_rows}|t' or odd != '1,2':
            raise AssertionError(f'no moment of the source: orders {facts[0]}, payments {facts[1]}, bulk {bulk}, others {odd}')
        return count

    def moment_of_dump(self, folder):
        """Restores what is in the folder with PostgreSQL's own programs, and says which moment it is."""
        name = f'judged_{os.path.basename(folder)[:16]}'
        self.sql(f'create database "{name}"', 'postgres')
        try:
            subprocess.run([f'{POSTGRES_BIN}/pg_restore', '--exit-on-error', '-h', '127.0.0.1', '-p', str(self.port), '-U',
                            'postgres', '-d', name, os.path.join(folder, 'dump')], check=True, timeout=300)
            return self.moment_of(name)
        finally:
            self.sql(f'drop database "{name}"', 'postgres')


_made = {}  # empty repositories by their password


class ResticRepository:
    """A repository as restic knows it, whatever muster says of it."""

    def __init__(self, path, key_file):
        self.path, self.key_file = path, key_file

    def restic(self, *argv, check=True, timeout=300):
        ran = subprocess.run([RESTIC, '--repo', self.path, '--password-file', self.key_file, '--no-cache', *argv],
                             capture_output=True, text=True, check=False, timeout=timeout)
        if check and ran.returncode != 0:
            raise AssertionError(f'restic {argv[0]}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}')
        return ran

    def make(self):
        """As `restic init`, but cheap to open; and made once, for that takes seconds."""
        with open(self.key_file, encoding='utf-8') as file:
            password = file.read()
        if password not in _made:
            folder = tempfile.mkdtemp(prefix='muster-empty-')
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            made = ResticRepository(os.path.join(folder, 'repository'), self.key_file)
            made.restic('init')
            make_cheap(made.path, self.key_file)
            _made[password] = made.path
        shutil.copytree(_made[password], self.path, dirs_exist_ok=True)
        return self

    def snapshots(self):
        """By id."""
        listed = json.loads(self.restic('snapshots', '--json', '--no-lock').stdout or '[]')
        return {one['id']: one for one in listed or []}

    def by_run(self):
        """Ids of snapshots by the run that made them."""
        found = {}
        for one in self.snapshots().values():
            run = next(tag[4:] for tag in one['tags'] if tag.startswith('run='))
            found.setdefault(run, []).append(one['id'])
        return found

    @contextlib.contextmanager
    def restored(self, snapshot):
        with tempfile.TemporaryDirectory(prefix='muster-judged-') as parent:
            target = os.path.join(parent, snapshot)
            self.restic('restore', snapshot, '--target', target, '--no-lock')
            yield target

    def locks(self):
        return os.listdir(os.path.join(self.path, 'locks'))

    def files(self):
        """Every file by its kind: config, data, index, keys, snapshots."""
        found = {'config': [os.path.join(self.path, 'config')]}
        for kind in ('data', 'index', 'keys', 'snapshots'):
            found[kind] = sorted(os.path.join(at, name) for at, _, names in os.walk(os.path.join(self.path, kind))
                                 for name in names)
        return found


def hashes(folder):
    found = {}
    for at, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(at, name)
            with open(path, 'rb') as file:
                found[os.path.relpath(path, folder)] = hashlib.sha256(file.read()).hexdigest()
    return found


def make_cheap(repository, key_file):
    """Lets the repository be opened in no time: restic makes each try of a password cost half a second of a core, by the
    factors that it keeps in the key's file. This is the same key under the same password, with the least factors."""
    folder = os.path.join(repository, 'keys')
    (name,) = os.listdir(folder)
    with open(os.path.join(folder, name), encoding='utf-8') as file:
        key = json.load(file)
    with open(key_file, 'rb') as file:
        password = file.read().strip()
    sealed = base64.b64decode(key['data'])
    cipher, authority = _key_of(password, key)
    if authority(sealed[:16], sealed[16:-16]) != sealed[-16:]:
        raise AssertionError('the key is not sealed as restic seals it')
    plain = _aes(cipher, modes.CTR(sealed[:16]), sealed[16:-16])
    key.update(N=2, r=1, p=1)
    cipher, authority = _key_of(password, key)
    nonce = os.urandom(16)
    body = _aes(cipher, modes.CTR(nonce), plain)
    key['data'] = base64.b64encode(nonce + body + authority(nonce, body)).decode()
    text = json.dumps(key, separators=(',', ':')).encode()
    os.unlink(os.path.join(folder, name))
    with open(os.path.join(folder, hashlib.sha256(text).hexdigest()), 'wb') as file:
        file.write(text)


def _aes(key, mode, data):
    cipher = Cipher(algorithms.AES(key), mode).encryptor()
    return cipher.update(data) + cipher.finalize()


def _key_of(password, key):
    """(AES key, its Poly1305-AES) as restic's design document derives them."""
    derived = hashlib.scrypt(password, salt=base64.b64decode(key['salt']), n=key['N'], r=key['r'], p=key['p'], dklen=64,
                             maxmem=1 << 30)
    cipher, k, r = derived[:32], derived[32:48], derived[48:]
    return cipher, lambda nonce, body: Poly1305.generate_tag(r + _aes(k, modes.ECB(), nonce), body)


def processes():
    """(pid, argv, environment) of those that can be looked at."""
    for name in os.listdir('/proc'):
        if not name.isdigit():
            continue
        try:
            with open(f'/proc/{name}/cmdline', 'rb') as file:
                argv = file.read()
            with open(f'/proc/{name}/environ', 'rb') as file:
                yield int(name), argv, file.read()
        except OSError:
            continue


# Of the programs of a run, by which stage it is in.
def _stage(argv):
    words = argv.decode('utf-8', 'replace').split('\0')
    program = os.path.basename(words[0])
    if program == 'restic':
        return {'backup': 'stores', 'restore': 'reads back', 'dump': 'reads back'}.get(
            next((word for word in words if word in ('backup', 'restore', 'dump')), ''))
    if program == 'pg_restore':
        return 'fills' if any(word.startswith('--dbname') for word in words) else None
    return {'pg_dump': 'dumps', 'initdb': 'makes a server', 'postgres': 'has a server',
            'sh': 'waits' if any(word.endswith('/waits') for word in words) else None}.get(program)


STAGES = ('dumps', 'stores', 'reads back', 'makes a server', 'has a server', 'fills')


def stages(run):
    """Which stages the run's programs show, of STAGES."""
    mark = b'MUSTER_RUN=' + run.encode()
    found = {_stage(argv) for _, argv, environment in processes() if mark in environment.split(b'\0')}
    found.discard(None)
    return found


def left_of_runs(folder, runs):
    """Processes that one of the runs left: marked as its, or at work in the folder. Others' runs may go on meanwhile."""
    inside, marks = folder.encode() + b'/', {b'MUSTER_RUN=' + run.encode() for run in runs}
    return [argv.replace(b'\0', b' ').decode('utf-8', 'replace') for _, argv, environment in processes()
            if not marks.isdisjoint(environment.split(b'\0')) or inside in argv]


class Canaries:
    """Passwords that hold a word of this process's own, and everybody who must not hold it."""

    def __init__(self):
        self.word = WORD
        self.seen, self.looked, self.programs = [], 0, set()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def password(self, of):
        return f'{self.word}-of-{of}'

    def _watch(self):
        word = self.word.encode()
        while not self.stopping.wait(0.05):
            for _, argv, environment in processes():
                self.looked += 1
                self.programs.add(argv.split(b'\0')[0].decode('utf-8', 'replace'))
                if word in argv or word in environment:
                    self.seen.append(argv.decode('utf-8', 'replace'))

    def stop(self):
        self.stopping.set()
        self.thread.join()

    def find_in(self, folder, but=()):
        """Files in it that hold the word, whether plain or inside a compressed value of a database."""
        word, found = self.word.encode(), []
        for at, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(at, name)
                if path in but or not os.path.isfile(path):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    with open(path, 'rb') as file:
                        data = file.read()
                    if word in data or (data.startswith(b'SQLite format 3') and self._in_database(path)):
                        found.append(path)
        return found

    def _in_database(self, path):
        word = self.word.encode()
        with contextlib.closing(sqlite3.connect(f'file:{path}?mode=ro', uri=True)) as database:
            tables = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
            return any(word in plain(value) for table in tables for row in database.execute(f'select * from "{table}"')
                       for value in row)


_zstd = ctypes.CDLL('libzstd.so.1')
_zstd.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
_zstd.ZSTD_decompress.restype = ctypes.c_size_t


def plain(value):
    """The bytes of a column, decompressed where they are a zstd frame."""
    data = value if isinstance(value, bytes) else str(value).encode()
    if not data.startswith(ZSTD_MAGIC):
        return data
    size = _zstd.ZSTD_getFrameContentSize(data, ctypes.c_size_t(len(data)))
    if size > 64 << 20:
        raise AssertionError('a zstd frame of unknown size')
    out = ctypes.create_string_buffer(size)
    got = _zstd.ZSTD_decompress(out, ctypes.c_size_t(size), data, ctypes.c_size_t(len(data)))
    if got != size:
        raise AssertionError('a zstd frame that cannot be read')
    return out.raw


def wait_for(holds, within=60.0, every=0.004):
    """Polls closely, for what lasts only a moment; None if it never was."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(every)
    return None
