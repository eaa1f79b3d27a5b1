"""A replica of muster-control. The first one makes the cluster; the others need its cluster.key and the store alone."""
import os
import re
import shutil
import subprocess

from bed import ask
from bed.errors import BedError
from bed.part import Health, Part
from bed.postgres import DATABASE, USER, await_primary, make_database
from bed.settings import write_private

LISTEN, ENROL, HTTP = range(3)


class Replica(Part):
    role = 'replica'

    def __init__(self, bed, number):
        super().__init__(bed, f'replica-{number}')
        self.first = number == 1
        self.port, self.enrol, self.http = (self.settings.port + 10 * number + offset
                                            for offset in (LISTEN, ENROL, HTTP))

    def ports(self):
        return [self.port, self.enrol, self.http]

    def argv(self):
        redis = ['--redis', self.redis_url()] if self.settings.redis else []
        return [self.settings.program('muster-control'), 'run', '--data', self.folder, '--store', self.store_url(),
                '--listen', f'127.0.0.1:{self.port}', '--enroll-listen', f'127.0.0.1:{self.enrol}',
                '--http-listen', f'127.0.0.1:{self.http}', *self.advertised(), *redis]

    def store_url(self):
        """Both HAProxies, each of which leads to the primary. The password stands in a file."""
        hosts = ','.join(f'127.0.0.1:{one.postgres}' for one in self.bed.balancers)
        return f'postgresql://{USER}@{hosts}/{DATABASE}?passfile={self.bed.secrets.passfile()}'

    def redis_url(self):
        """Through one HAProxy: while it is away, hints are too, and nothing else. The password stands in a file."""
        self.bed.secrets.of('redis-muster')
        return f'redis://muster@127.0.0.1:{self.bed.balancers[0].redis}' \
               f'?password_file={self.bed.secrets.path("redis-muster.password")}'

    def advertised(self):
        """What agents are told: both HAProxies, and the replicas themselves should these be gone."""
        ports = [one.agents for one in self.bed.balancers] + [self.port]
        return [word for port in ports for word in ('--advertise', f'127.0.0.1:{port}')]

    def prepare(self):
        await_primary(self.bed)  # it would wait by itself; `init`, and who looks at `up`, would not
        if self.first and not os.path.exists(self.key()):
            make_database(self.bed)
            self.init()
        elif not self.first and not os.path.exists(self.key()):
            shutil.copy(self.bed.replicas[0].key(), self.key())
            os.chmod(self.key(), 0o600)

    def key(self):
        return self.folder + '/cluster.key'

    def init(self):
        ran = subprocess.run([self.settings.program('muster-control'), 'init', '--data', self.folder, '--store',
                              self.store_url(), *self.advertised()],
                             capture_output=True, text=True, check=False, timeout=60)
        if ran.returncode != 0:
            raise BedError(f'muster-control init: exit {ran.returncode}: {(ran.stderr or ran.stdout).strip()}',
                           remedy='`down --delete-data` and `up` begin anew')
        write_context(self.folder + '/admin.context', self.bed.context,
                      [f'127.0.0.1:{port}' for port in self.bed.front_doors()])

    def metrics(self):
        _, text = ask.http_get(self.http, '/metrics')
        return dict(re.findall(r'^([a-z_]+) ([0-9.e+]+)$', text, re.M))

    def identity(self):
        """What the control plane calls it; '' where it has no name."""
        try:
            with open(self.folder + '/replica.id', encoding='utf-8') as file:
                return file.read().strip()
        except OSError:
            return ''

    def health(self):
        status, said = ask.http_get(self.http, '/-/ready')
        if status != 200:
            return Health(False, detail=f'/-/ready: {status or "no answer"} {said.strip()}')
        metrics = self.metrics()
        leads = float(metrics.get('muster_leader', 0)) == 1
        agents = int(float(metrics.get('muster_agents_connected', 0)))
        return Health(True, 'leader' if leads else '', f'{self.identity()} {agents} agents'.strip())


def write_context(source, target, servers):
    """The operator's context, with the bed's own addresses for those that `init` assumes."""
    with open(source, encoding='utf-8') as file:
        text = file.read()
    listed = 'servers:\n' + ''.join(f'  - "{server}"\n' for server in servers)
    changed, count = re.subn(r'^servers:\n(?:\s+- .*\n)+', lambda _: listed, text, flags=re.M)
    if count != 1:
        raise BedError(f'{source} has no list of servers', remedy='is this muster-control older than this checkout?')
    write_private(target, changed)
