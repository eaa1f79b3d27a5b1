"""The whole bed: which parts there are, in the order in which they start, and what a person calls them."""
import fcntl
import os
import threading
from contextlib import contextmanager

from bed.agents import Agent, Ctl
from bed.balancer import Balancer
from bed.control import Replica
from bed.errors import BedError
from bed.etcd import Etcd
from bed.postgres import Postgres
from bed.redis import Redis, Sentinel
from bed.secrets import Secrets

# What one may say instead of a name: role, and the mark that the part has now.
MARKED = {'leader': ('replica', 'leader'), 'follower': ('replica', ''), 'primary': ('postgres', 'primary'),
          'standby': ('postgres', 'standby'), 'redis': ('redis', 'master'), 'redis-master': ('redis', 'master'),
          'redis-replica': ('redis', 'replica'), 'etcd-leader': ('etcd', 'leader')}
FIRST = {'haproxy': 'haproxy-1', 'etcd': 'etcd-1', 'sentinel': 'sentinel-1', 'agent': 'agent-1', 'replica': 'replica-1'}


class Bed:
    def __init__(self, settings):
        self.settings = settings
        self.secrets = Secrets(settings)
        self.context = settings.path('admin.context')
        self.ctl = Ctl(self)
        self.etcd = [Etcd(self, number) for number in range(1, settings.etcd + 1)]
        self.postgres = [Postgres(self, number) for number in (1, 2)]
        self.redis = [Redis(self, number) for number in (1, 2)]
        self.sentinels = [Sentinel(self, number) for number in (1, 2, 3)]
        self.balancers = [Balancer(self, number) for number in (1, 2)]
        self.replicas = [Replica(self, number) for number in (1, 2, 3)]
        self.agents = [Agent(self, f'agent-{number}') for number in range(1, settings.agents + 1)]
        self._known_agents = None
        self._asking = threading.Lock()

    def tiers(self):
        """Each needs those before it."""
        return [self.etcd, self.postgres, self.redis, self.sentinels, self.balancers, self.replicas[:1],
                self.replicas[1:], self.agents]

    def parts(self):
        return [part for tier in self.tiers() for part in tier]

    def front_doors(self):
        """Where operators knock: HAProxy, and each replica should it be gone."""
        return [one.agents for one in self.balancers] + [one.port for one in self.replicas]

    def known_agents(self):
        """What the control plane knows of its agents, asked once a survey; None if nobody answers."""
        with self._asking:
            if self._known_agents is None:
                self._known_agents = (self.ctl.agents(),)
            return self._known_agents[0]

    def forget_known_agents(self):
        self._known_agents = None

    def find(self, what):
        """The part of that name, or the one that has that mark now."""
        what = FIRST.get(what, what)
        for part in self.parts():
            if part.name == what:
                return part
        if what in MARKED:
            return self.find_marked(what, *MARKED[what])
        names = ', '.join([*MARKED, *(part.name for part in self.parts())])
        raise BedError(f'there is no "{what}"', remedy=f'there are: {names}')

    def find_marked(self, what, role, mark):
        """One that is well goes before one that is not; without a mark, only one that is well counts."""
        looks = [(part, part.look()) for part in self.parts() if part.role == role]
        bearers = [(part, health) for part, health in looks
                   if (health.mark.endswith(mark) if mark else health.well and not health.mark)]
        if not bearers:
            raise BedError(f'nobody is the {what} at the moment', remedy='`ha status` tells who is what')
        return max(bearers, key=lambda bearer: bearer[1].well)[0]

    @contextmanager
    def locked(self):
        """One `ha` at a time changes the bed."""
        with open(self.settings.path('lock'), 'w', encoding='ascii') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BedError(f'another `ha` is at work on {self.settings.data}', remedy='wait for it, or end it') from None
            yield

    def make_folders(self):
        for name in ('run', 'log', 'secrets'):
            os.makedirs(self.settings.path(name), mode=0o700, exist_ok=True)
