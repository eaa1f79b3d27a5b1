"""A PostgreSQL server whose log goes to pgBackRest, as an operator sets it up; and servers that were restored, started to be
asked."""
import contextlib
import json
import os
import shutil
import subprocess
import time

from postgres_cluster import BIN, PostgresCluster, as_server_user, run

PGBACKREST = '/usr/bin/pgbackrest'


class ArchivedServer:
    """`storage`: lines of pgBackRest's that put its repository elsewhere; `repository`: the folder that it is to be found in then."""
    def __init__(self, folder, port, password, name='source', storage='', repository=None):
        self.cluster = PostgresCluster(folder, port, name).make()
        self.port, self.base = port, self.cluster.base
        self.config = os.path.join(self.base, 'pgbackrest.conf')
        self.storage = storage
        self.repository = repository or os.path.join(self.base, 'repository')
        for path in ('repository', 'lock', 'spool'):
            os.makedirs(os.path.join(self.base, path))
        self.write_config(password)
        self.cluster.configure(archive_mode='on', archive_command=self.archive_command(), archive_timeout=0,
                               listen_addresses='127.0.0.1')
        with open(os.path.join(self.cluster.data, 'pg_hba.conf'), encoding='utf-8') as file:
            rest = file.read()
        with open(os.path.join(self.cluster.data, 'pg_hba.conf'), 'w', encoding='utf-8') as file:
            file.write('host all,replication keeper,weak 127.0.0.1/32 scram-sha-256\n' + rest)
        subprocess.run(['chown', '-R', 'postgres', self.base], check=True)
        self.cluster.start()
        self.sql('create database orders', 'postgres')
        self.sql('create table orders (id bigint primary key, note text not null)')
        self.pgbackrest('stanza-create')

    def archive_command(self):
        return f'pgbackrest --config={self.config} --stanza=main archive-push %p'

    def write_config(self, password):
        place = self.storage or f'repo1-path={self.repository}'
        with open(self.config, 'w', encoding='utf-8') as file:
            file.write(f'''[global]
{place}
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass={password}
log-level-file=off
log-path={self.base}
lock-path={self.base}/lock
spool-path={self.base}/spool
archive-timeout=10
start-fast=y
compress-level=1
[main]
pg1-path={self.cluster.data}
pg1-port={self.port}
pg1-socket-path={self.base}
''')
        os.chmod(self.config, 0o640)
        subprocess.run(['chown', 'root:postgres', self.config], check=True)

    def pgbackrest(self, *argv):
        return run([PGBACKREST, f'--config={self.config}', '--stanza=main', *argv])

    def info(self):
        return json.loads(self.pgbackrest('info', '--output=json'))[0]

    def sql(self, text, database='orders'):
        return self.cluster.sql(text, database)

    def sql_unseen(self, text):
        """Of what nobody is to find among the arguments of a process."""
        subprocess.run(['psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', self.base, '-p', str(self.port), '-U', 'postgres', '-d',
                        'postgres'], input=text, text=True, check=True, timeout=60, cwd='/')

    def add(self, first, last):
        self.sql(f'insert into orders select i, md5(i::text) from generate_series({first}, {last}) i')

    def rows(self):
        return self.sql(ROWS)

    def switch(self, within=20):
        """Ends the segment, and waits until it is in the archive."""
        self.sql("select pg_logical_emit_message(false, 'muster', 'so that there is something to archive')", 'postgres')
        name = self.sql('select pg_walfile_name(pg_switch_wal())', 'postgres')
        for _ in range(within * 20):
            if self.segment(name):
                return name
            self.sql('select pg_sleep(0.05)', 'postgres')
        raise AssertionError(f'{name} did not come to the archive')

    def segment(self, name):
        for at, _, names in os.walk(os.path.join(self.repository, 'archive')):
            for file in names:
                if file.startswith(name + '-') and not file.endswith('.tmp'):
                    return os.path.join(at, file)
        return None

    def stop(self):
        self.cluster.stop()


# What the table holds, in one word.
ROWS = "select count(*) || ' ' || md5(coalesce(string_agg(id || note, ',' order by id), '')) from orders"


@contextlib.contextmanager
def started(data, port):
    """The restored server, as its operator starts it; answers what SQL says."""
    folder = data + '.socket'
    os.makedirs(folder)
    subprocess.run(['chown', 'postgres', folder], check=True)
    run([BIN + 'pg_ctl', '-D', data, '-l', folder + '/log', '-w', '-t', '60', '-o',
         f"-p {port} -c listen_addresses='' -c unix_socket_directories={folder}", 'start'])
    try:
        def sql(text, database='orders'):
            for _ in range(200):
                # Until it has been promoted it may refuse to be asked.
                ran = subprocess.run(as_server_user(['psql', '-X', '-At', '-h', folder, '-p', str(port), '-d', database, '-c',
                                                     text]), capture_output=True, text=True, check=False, cwd='/')
                if ran.returncode == 0:
                    return ran.stdout.strip()
                subprocess.run(['sleep', '0.1'], check=True)
            raise AssertionError(ran.stderr)
        for _ in range(300):
            if sql('select pg_is_in_recovery()', 'postgres') == 'f':
                break
            time.sleep(0.1)
        yield sql
    finally:
        run([BIN + 'pg_ctl', '-D', data, '-m', 'immediate', '-w', 'stop'])
        shutil.rmtree(folder, ignore_errors=True)
