"""PostgreSQL 15 servers of one test: a primary, and a standby that follows it through a proxy."""
import os
import signal
import subprocess
import time

BIN = '/usr/lib/postgresql/15/bin/'


def as_server_user(argv):
    """The server refuses to run as root: its programs then run as Debian's user "postgres"."""
    return (['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups'] if os.geteuid() == 0 else []) + argv


def run(argv, timeout=60):
    ran = subprocess.run(as_server_user(argv), capture_output=True, text=True, check=False, timeout=timeout, cwd='/')
    if ran.returncode != 0:
        raise AssertionError(f'{argv[0]}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}')
    return ran.stdout


class PostgresCluster:
    def __init__(self, folder, port, name='primary', address='127.0.0.1', prefix=()):
        """`prefix` begins the server's command line: where it runs; `address` is where it is reached then."""
        self.port, self.process, self.address, self.prefix = port, None, address, list(prefix)
        self.base = os.path.join(folder, name)
        os.makedirs(self.base)
        if os.geteuid() == 0:
            subprocess.run(['chown', 'postgres', self.base], check=True)
            subprocess.run(['chmod', 'a+x', folder], check=True)
        self.data, self.log = os.path.join(self.base, 'data'), os.path.join(self.base, 'log')

    def make(self):
        run([BIN + 'initdb', '-D', self.data, '-A', 'trust', '-U', 'postgres', '--no-sync', '-E', 'UTF8'])
        self.configure(max_connections=40, wal_keep_size='256MB')
        with open(os.path.join(self.data, 'pg_hba.conf'), 'a', encoding='utf-8') as file:
            file.write(f'host all all {self.address}/16 trust\n')
        return self

    def make_standby(self, primary_port):
        run([BIN + 'pg_basebackup', '-D', self.data, '-R', '-X', 'stream', '-c', 'fast', '--no-sync',
             '-d', f'host=127.0.0.1 port={primary_port} user=postgres'])
        self.configure()
        return self

    def configure(self, **settings):
        settings = {'port': self.port, 'listen_addresses': self.address, 'unix_socket_directories': self.base,
                    'fsync': 'off', 'shared_buffers': '16MB', 'wal_retrieve_retry_interval': '200ms',
                    'wal_receiver_timeout': '2s', 'wal_sender_timeout': '2s', **settings}
        with open(os.path.join(self.data, 'postgresql.auto.conf'), 'a', encoding='utf-8') as file:
            for key, value in settings.items():
                file.write(f"{key} = '{value}'\n")

    def start(self):
        """Waits until it takes connections; its recovery after a kill counts as part of the start."""
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen([*self.prefix, *as_server_user([BIN + 'postgres', '-D', self.data])], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL, cwd='/')
        deadline = time.monotonic() + 60
        while subprocess.run([BIN + 'pg_isready', '-q', '-h', self.address, '-p', str(self.port)],
                             check=False).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                with open(self.log, encoding='utf-8', errors='replace') as log:
                    raise AssertionError('PostgreSQL does not start:\n' + log.read()[-2000:])
            time.sleep(0.02)
        return self

    def stop(self):
        """At once, as pg_ctl's immediate mode does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)

    def promote(self):
        run([BIN + 'pg_ctl', '-D', self.data, '-w', 'promote'])

    def kill(self):
        """kill -9 of the server and of each of its processes."""
        children = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(self.process.pid)], capture_output=True,
                                  text=True, check=False).stdout.split()
        for pid in [self.process.pid, *map(int, children)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        # What the server left behind with nobody to wait for it must be gone before it starts again.
        while any(self._lives(pid) for pid in children):
            time.sleep(0.01)

    @staticmethod
    def _lives(pid):
        try:
            with open(f'/proc/{pid}/stat', encoding='ascii') as file:
                return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
        except OSError:
            return False

    def sql(self, text, database='muster'):
        ran = subprocess.run(['psql', '-X', '-q', '-At', '-v', 'ON_ERROR_STOP=1', '-h', self.address, '-p',
                              str(self.port), '-U', 'postgres', '-d', database, '-c', text],
                             capture_output=True, text=True, check=False, timeout=60)
        if ran.returncode != 0:
            raise AssertionError(f'psql: {ran.stderr}')
        return ran.stdout.strip()
