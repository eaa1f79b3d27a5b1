"""etcd: where Patroni keeps who leads. Three members survive the loss of one."""
from bed import ask
from bed.part import Health, Part

CLIENT, PEER = 40, 41


class Etcd(Part):
    role, packages = 'etcd', 'etcd-server'
    stop_within = 2.0  # together they would look for one another for longer; each is safe against a kill

    def __init__(self, bed, number):
        super().__init__(bed, f'etcd-{number}')
        self.client, self.peer = (self.settings.port + offset + 2 * (number - 1) for offset in (CLIENT, PEER))

    def ports(self):
        return [self.client, self.peer]

    def argv(self):
        client, peer = f'http://127.0.0.1:{self.client}', f'http://127.0.0.1:{self.peer}'
        members = ','.join(f'{one.name}=http://127.0.0.1:{one.peer}' for one in self.bed.etcd)
        # Elections wait for longer than the default second: here everything shares one machine's processors.
        return ['etcd', '--name', self.name, '--data-dir', self.folder + '/data',
                '--listen-client-urls', client, '--advertise-client-urls', client,
                '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer,
                '--initial-cluster', members, '--initial-cluster-token', 'muster-ha', '--initial-cluster-state', 'new',
                '--heartbeat-interval', '200', '--election-timeout', '2000',
                '--auto-compaction-retention', '1', '--logger', 'zap', '--log-level', 'warn']

    def health(self):
        status, answer = ask.http_json(self.client, '/health')
        if status != 200 or answer.get('health') != 'true':
            return Health(False, detail=f'/health: {status or "no answer"}')
        _, told = ask.http_json(self.client, '/v3/maintenance/status', 'POST', '{}')
        leads = told.get('leader') is not None and told.get('leader') == told.get('header', {}).get('member_id')
        return Health(True, 'leader' if leads else '')
