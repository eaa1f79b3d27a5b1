"""HAProxy, twice: in front of the replicas, of the PostgreSQL primary, and of the Redis master."""
import csv
import io

from bed import ask
from bed.part import Health, Part

AGENTS, ENROL, POSTGRES, REDIS, STATS = range(5)


class Balancer(Part):
    role, packages = 'balancer', 'haproxy'

    def __init__(self, bed, number):
        super().__init__(bed, f'haproxy-{number}')
        first = self.settings.port + 5 * (number - 1)
        self.agents, self.enrol, self.postgres, self.redis, self.stats = range(first, first + 5)

    def ports(self):
        return [self.agents, self.enrol, self.postgres, self.redis, self.stats]

    def argv(self):
        return ['/usr/sbin/haproxy', '-db', '-f', self.folder + '/haproxy.cfg']

    def prepare(self):
        replicas = self.bed.replicas
        self.fill('haproxy.cfg', 'haproxy.cfg', agents=self.agents, enrol=self.enrol, postgres=self.postgres,
                  redis=self.redis, stats=self.stats, redis_password=self.bed.secrets.of('redis'),
                  agent_servers=servers((one.name, one.port, one.http) for one in replicas),
                  enrol_servers=servers((one.name, one.enrol, one.http) for one in replicas),
                  postgres_servers=servers((one.name, one.server, one.rest) for one in self.bed.postgres),
                  redis_servers=servers((one.name, one.port, one.port) for one in self.bed.redis))

    def up(self):
        """{backend: names of the servers that are up in it}; empty if HAProxy does not answer. A server counts from
        its first check on: HAProxy itself takes it for up before."""
        status, text = ask.http_get(self.stats, '/;csv')
        found = {}
        for row in csv.DictReader(io.StringIO(text.lstrip('# '))) if status == 200 else []:
            if row['svname'] not in ('FRONTEND', 'BACKEND'):
                names = found.setdefault(row['pxname'], [])
                if row['status'].startswith('UP') and 'L7OK' in row['check_status']:
                    names.append(row['svname'])
        return found

    def health(self):
        up = self.up()
        if not up:
            return Health(False, detail='its statistics do not answer')
        detail = f'agents to {len(up["agents"])}, postgres to {", ".join(up["postgres"]) or "nobody"}, ' \
                 f'redis to {", ".join(up["redis"]) or "nobody"}'
        well = up['agents'] and up['enrolment'] and len(up['postgres']) == 1 and len(up['redis']) == 1
        return Health(bool(well), detail=detail)

    def serves(self):
        return bool(self.up().get('postgres'))


def servers(rows):
    return '\n'.join(f'    server {name} 127.0.0.1:{port} check port {checked}' for name, port, checked in rows)
