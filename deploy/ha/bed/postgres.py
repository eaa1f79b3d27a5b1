"""PostgreSQL under Patroni: two nodes, one of them the primary. A node is Patroni and the server that it runs."""
import json
import os
import pwd
import signal
import subprocess
import time

from bed import ask, process
from bed.errors import BedError
from bed.part import Health, Part

PROGRAMS = '/usr/lib/postgresql/15/bin'
SERVER, REST = 50, 51
DATABASE = USER = 'muster'


def server_user():
    """The server refuses to run as root: then it is the user of Debian's package. None: as whoever calls."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam('postgres')
    except KeyError:
        raise BedError('there is no user "postgres"', remedy='`scripts/install-deps ha` installs postgresql-15') from None


class Postgres(Part):
    role, packages = 'postgres', 'patroni, python3-etcd, postgresql-15'

    def __init__(self, bed, number):
        super().__init__(bed, f'pg-{number}')
        self.server, self.rest = (self.settings.port + offset + 2 * (number - 1) for offset in (SERVER, REST))
        self.data = self.folder + '/data'
        self.environment = {'HOME': self.folder, 'PATRONI_LOG_LEVEL': 'INFO'}

    @property
    def user(self):
        return server_user()

    def ports(self):
        return [self.server, self.rest]

    def ports_to_take(self):
        """A Patroni that starts finds the server that its predecessor left."""
        return [self.rest] if self.postmaster() else self.ports()

    def argv(self):
        return ['patroni', self.folder + '/patroni.yml']

    def prepare(self):
        self.refuse_unreachable_folder()
        for folder in (self.folder, self.folder + '/run'):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            if self.user:
                os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        self.fill('patroni.yml', 'patroni.yml', name=self.name, folder=self.folder, port=self.server, rest=self.rest,
                  etcd=', '.join(f'"127.0.0.1:{one.client}"' for one in self.bed.etcd), programs=PROGRAMS,
                  synchronous=json.dumps(self.settings.replication == 'sync'), **self.bed.secrets.postgres())

    def refuse_unreachable_folder(self):
        """As root the bed may lie where the server's user cannot go: /root, for one."""
        if not self.user:
            return
        folder = self.settings.data
        while folder != '/':
            if not os.stat(folder).st_mode & 0o001:
                raise BedError(f'the user "postgres" cannot enter {folder}',
                               remedy='make the bed elsewhere: `up --data /var/tmp/muster-ha`')
            folder = os.path.dirname(folder)

    def postmaster(self):
        """The server itself. Patroni starts it as a process of its own, which outlives a killed Patroni."""
        try:
            with open(self.data + '/postmaster.pid', encoding='ascii') as file:
                pid = int(file.readline())
            found = process.identify(pid)
            return found if found and os.readlink(f'/proc/{pid}/cwd') == self.data else None
        except (OSError, ValueError):
            return None

    def server_processes(self):
        server = self.postmaster()
        return [server, *process.descendants(server)] if server else []

    def processes(self):
        own, below = super().processes(), self.server_processes()
        return own + [one for one in below if one not in own]

    def half(self, which):
        """Of a node, the server with its processes, or Patroni alone."""
        server = self.server_processes()
        return server if which == 'server' else [one for one in self.processes() if one not in server]

    def ask_to_end(self):
        super().ask_to_end()
        if self.state() == 'gone' and (server := self.postmaster()):
            process.send(server, signal.SIGINT)  # the server's "fast" shutdown

    def health(self):
        status, told = ask.http_json(self.rest, '/patroni')
        if told.get('state') != 'running':
            return Health(False, detail=f'Patroni: {told.get("state", "no answer" if not status else status)}')
        timeline = f'timeline {told.get("timeline", "?")}'
        if told.get('role') in ('master', 'primary'):
            return self.primary_health(told, timeline)
        mark = 'sync standby' if told.get('sync_standby') else 'standby'
        return self.standby_health(mark, timeline)

    def primary_health(self, told, timeline):
        status, _ = ask.http_get(self.rest, '/primary')
        followers = [one for one in told.get('replication', []) if one.get('state') == 'streaming']
        detail = f'{timeline}, {len(followers)} streaming'
        return Health(status == 200, 'primary' if status == 200 else 'without the lock', detail)

    def standby_health(self, mark, timeline):
        """A standby is well if its primary says that it streams; with synchronous replication, if it could take over."""
        for other in self.bed.postgres:
            if other is self:
                continue
            _, told = ask.http_json(other.rest, '/patroni')
            for one in told.get('replication', []):
                if one.get('application_name') == self.name:
                    could = mark == 'sync standby' or self.settings.replication == 'async'
                    return Health(could and one.get('state') == 'streaming', mark, f'{timeline}, {one.get("state")}')
        return Health(False, mark, f'{timeline}, follows nobody')

    def serves(self):
        status, _ = ask.http_get(self.rest, '/health')
        return status == 200

    def takes_writes(self):
        """Patroni says that it is the primary from the moment it holds the lock, the server itself a little later."""
        if ask.http_get(self.rest, '/primary')[0] != 200:
            return False
        try:
            return self.sql('select pg_is_in_recovery()') == 'f'
        except BedError:
            return False

    def sql(self, text, database='postgres'):
        """Runs it as the superuser; SQL goes in by stdin, the password by file."""
        ran = subprocess.run([f'{PROGRAMS}/psql', '-X', '-q', '-At', '-v', 'ON_ERROR_STOP=1', '-h', '127.0.0.1',
                              '-p', str(self.server), '-U', 'postgres', '-d', database, '-f', '-'],
                             input=text, capture_output=True, text=True, check=False, timeout=60,
                             env={**os.environ, 'PGPASSFILE': self.bed.secrets.admin_passfile()})
        if ran.returncode != 0:
            raise BedError(f'{self.name}: psql: {ran.stderr.strip()}', self.log)
        return ran.stdout.strip()


def await_primary(bed, within=90.0):
    """The node that takes writes."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        for node in bed.postgres:
            if node.takes_writes():
                return node
        time.sleep(0.2)
    raise BedError(f'no PostgreSQL primary within {within:.0f} s', bed.postgres[0].log, '`up` again, or `ha status`')


def make_database(bed):
    """The role and the database of the control plane, if they are not there."""
    primary = await_primary(bed)
    if primary.sql(f"select 1 from pg_roles where rolname = '{USER}'") != '1':
        primary.sql(f"create role {USER} login password '{bed.secrets.of('muster')}'")
    if primary.sql(f"select 1 from pg_database where datname = '{DATABASE}'") != '1':
        primary.sql(f'create database {DATABASE} owner {USER}')
