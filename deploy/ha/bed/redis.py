"""Redis: a master and a replica, and three Sentinels that decide who is which."""
import hashlib
import os
import re
from collections import Counter

from bed import ask
from bed.part import Health, Part

SERVER, SENTINEL = 60, 65
MASTER = 'muster'  # what Sentinels call it
QUORUM = 2


class Redis(Part):
    role, packages = 'redis', 'redis-server'

    def __init__(self, bed, number):
        super().__init__(bed, f'redis-{number}')
        self.port = self.settings.port + SERVER + number - 1

    def ports(self):
        return [self.port]

    def argv(self):
        return ['redis-server', self.folder + '/redis.conf']

    def prepare(self):
        """Sentinels have Redis write into the file who follows whom; at a start it is asked anew: a former master
        that begins as one again would be the second until the Sentinels see it, some ten seconds later."""
        master = master_of(self.bed.sentinels) or self.bed.redis[0].port
        follows = '' if master == self.port else f'replicaof 127.0.0.1 {master}'
        self.fill('redis.conf', 'redis.conf', port=self.port, folder=self.folder, follows=follows,
                  password=self.bed.secrets.of('redis'),
                  muster_hash=hashlib.sha256(self.bed.secrets.of('redis-muster').encode()).hexdigest())

    def info(self):
        return ask.redis_info(self.port, 'replication', self.bed.secrets.of('redis'))

    def health(self):
        try:
            info = self.info()
        except ask.RedisError as error:
            return Health(False, detail=str(error))
        if info.get('role') == 'master':
            return Health(True, 'master', f'{info.get("connected_slaves", 0)} replica')
        link = info.get('master_link_status')
        return Health(link == 'up', 'replica', f'of {info.get("master_port")}, link {link}')

    def serves(self):
        try:
            return ask.redis(self.port, 'PING', password=self.bed.secrets.of('redis')) == 'PONG'
        except ask.RedisError:
            return False


class Sentinel(Part):
    role, packages = 'sentinel', 'redis-sentinel'

    def __init__(self, bed, number):
        super().__init__(bed, f'sentinel-{number}')
        self.port = self.settings.port + SENTINEL + number - 1

    def ports(self):
        return [self.port]

    def argv(self):
        return ['redis-sentinel', self.folder + '/sentinel.conf']

    def prepare(self):
        # Only once: a Sentinel keeps what it has seen in this file.
        if not os.path.exists(self.folder + '/sentinel.conf'):
            self.fill('sentinel.conf', 'sentinel.conf', port=self.port, folder=self.folder, master=MASTER,
                      redis=self.bed.redis[0].port, quorum=QUORUM, password=self.bed.secrets.of('redis'))

    def health(self):
        try:
            told = ask.redis(self.port, 'SENTINEL', 'MASTER', MASTER)
            master = dict(zip(told[::2], told[1::2]))
            ask.redis(self.port, 'SENTINEL', 'CKQUORUM', MASTER)
        except ask.RedisError as error:
            return Health(False, detail=str(error))
        return Health(master['flags'] == 'master', detail=f'master {master["port"]}, flags {master["flags"]}, '
                                                          f'{master["num-other-sentinels"]} others')

    def serves(self):
        return ask.listens(self.port)

    def master(self):
        """The port of who it takes for the master; what it remembers if it does not run, None before its first start."""
        try:
            return int(ask.redis(self.port, 'SENTINEL', 'GET-MASTER-ADDR-BY-NAME', MASTER)[1])
        except (ask.RedisError, TypeError, IndexError):
            return self.remembered()

    def remembered(self):
        try:
            with open(self.folder + '/sentinel.conf', encoding='utf-8') as file:
                found = re.search(rf'^sentinel monitor {MASTER} \S+ (\d+)', file.read(), re.M)
        except OSError:
            return None
        return int(found.group(1)) if found else None


def master_of(sentinels):
    """The port that most Sentinels take for the master's; None before there are any."""
    votes = Counter(port for port in (one.master() for one in sentinels) if port)
    return votes.most_common(1)[0][0] if votes else None
