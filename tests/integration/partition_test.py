"""Partitions between agent and replica, and between replica and PostgreSQL, both ways and one way: by a proxy that
holds back what comes (connections stand, and later go on or are cut), and by network namespaces whose packets vanish.

Agents go on probing and keep what they find; what is cut off from the store acknowledges nothing and leads nobody;
after healing everything is stored, once. MUSTER_ROUNDS (default: each kind of partition once, by one of the two) and MUSTER_CUT
(seconds at most, default 6) ask for more, MUSTER_SEED says with which draws; `scripts/soak partitions` does.
"""
import os
import random
import sqlite3
import sys
import time
import unittest

from harness import SUPPORT, Agent, Case, CountingServer, eventually, free_port, main
from under_load import FleetReplica, percentiles, since

sys.path.insert(0, SUPPORT)
# pylint: disable=wrong-import-position
import lease_witness  # noqa: E402
import network  # noqa: E402
from postgres_cluster import PostgresCluster  # noqa: E402
from tcp_proxy import DOWN, UP, TcpProxy  # noqa: E402

ROUNDS = int(os.environ.get('MUSTER_ROUNDS', '0'))
LONGEST_CUT = float(os.environ.get('MUSTER_CUT', '6'))
REPLICAS, AGENTS = 2, 4
EVERY = 0.2
CHECK = '''---
apiVersion: muster/v1
kind: Check
metadata: {{name: {name}}}
spec:
  agents: {{host: {name}}}
  every: 200ms
  timeout: 200ms
  probe: {{http: {{url: "http://{address}:{port}/"}}}}
'''
# What is cut from what, and which way: UP is towards the replica, or towards the database.
AGENTS_UP, AGENTS_DOWN, AGENTS_BOTH = (('agents', ways) for ways in ((UP,), (DOWN,), (UP, DOWN)))
DATABASE_UP, DATABASE_DOWN, DATABASE_BOTH = (('database', ways) for ways in ((UP,), (DOWN,), (UP, DOWN)))
KINDS = (AGENTS_UP, AGENTS_DOWN, AGENTS_BOTH, DATABASE_UP, DATABASE_DOWN, DATABASE_BOTH)
NO_NETWORK = 'not tried'


def setUpModule():  # pylint: disable=invalid-name
    global NO_NETWORK  # pylint: disable=global-statement
    NO_NETWORK = network.enter()


class Seen:
    def __init__(self):
        self.elsewhere, self.next_leader, self.connected, self.stored, self.longest_pause = [], [], [], [], []

    def show(self, kind):
        print(f'{kind}: {len(self.connected)} partitions\n'
              f'  during one, agents of the cut replica are with another: {percentiles(self.elsewhere)}\n'
              f'  during one, another leads: {percentiles(self.next_leader)}\n'
              f'  after healing, all agents have a session: {percentiles(self.connected)}\n'
              f'  after healing, all that was found until then is stored: {percentiles(self.stored)}\n'
              f'  longest pause between two probes of one check: {percentiles(self.longest_pause)}', flush=True)


class Partitions(Case):
    """How things are wired is the subclasses'."""

    def setUp(self):
        super().setUp()
        self.wire()
        self.addCleanup(self.postgres.stop)
        self.postgres.start().sql('CREATE DATABASE muster', database='postgres')
        self.planes = []
        for number in range(REPLICAS):
            self.planes.append(self.replica(number, self.planes[0] if self.planes else None))
        for plane in self.planes:
            plane.start()
            self.addCleanup(lambda plane=plane: plane.process.end())
        self.names = {plane.id: plane.name for plane in self.planes}
        self.servers = [CountingServer(self.probed) for _ in range(AGENTS)]
        for server in self.servers:
            self.addCleanup(server.close)
        self.agents = [self.joined(number) for number in range(AGENTS)]
        self.planes[0].apply(''.join(CHECK.format(name=f'h{number}', address=self.probed, port=server.port)
                                     for number, server in enumerate(self.servers)))
        eventually('all OK', lambda: sum(s['state'] == 'OK' for s in self.planes[0].items('get', 'states')) == AGENTS)
        self.seen = Seen()

    def joined(self, number):
        agent = Agent(self.planes[number % REPLICAS], self.folder, f'h{number}', [f'host=h{number}'],
                      prefix=self.agents_inside)
        agent.start(self.agents_inside)
        self.addCleanup(agent.process.end)
        return agent

    def homes(self):
        """{agent: replica's name}; None for one without a session."""
        rows = lease_witness.rows(self.postgres, 'SELECT name, replica, connected FROM agents')
        return {row['name']: self.names.get(row['replica']) if row['connected'] else None for row in rows}

    def leader(self):
        return eventually('one leads', lambda: (found := [p for p in self.planes if p.leads()]) and len(found) == 1
                          and found)[0]

    @staticmethod
    def log_of(agent):
        """(written, acknowledged) of the agent's own log on disk."""
        log = sqlite3.connect(f'file:{agent.data}/log.db?mode=ro', uri=True, timeout=10)
        try:
            meta = dict(log.execute("SELECT key, value FROM meta WHERE key = 'acknowledged'").fetchall())
            written = log.execute('SELECT coalesce(max(sequence), 0) FROM log').fetchone()[0]
        finally:
            log.close()
        return written, int(meta.get('acknowledged', 0))

    def committed(self):
        return {row['name']: row['committed'] for row in lease_witness.rows(
            self.postgres, 'SELECT a.name, max(l.committed) AS committed FROM agents a '
                           'JOIN logs l ON l.agent_id = a.id GROUP BY a.name')}

    def partition(self, what, ways, seconds, victim):
        """One of them, from its beginning until all is well again."""
        led, no_data = self.leader() is victim, self.no_data()
        counts = [server.count() for server in self.servers]
        began = time.monotonic()
        moved = victim.name not in self.homes().values()
        led_elsewhere = False
        self.cut(what, ways, victim)
        while since(began) < seconds:
            self.expect_no_false_acknowledgement()
            homes = self.homes()
            if not moved and None not in homes.values() and victim.name not in homes.values():
                moved = self.note(self.seen.elsewhere, began)
            if what == 'database' and led and not led_elsewhere and any(p.leads() for p in self.others(victim)):
                led_elsewhere = self.note(self.seen.next_leader, began)
            time.sleep(0.1)
        if what == 'database' and seconds > 5:
            self.assertFalse(victim.leads(), f'{victim.name} cannot reach the database, and leads')
        lasted = since(began)
        for number, server in enumerate(self.servers):
            probes = server.count() - counts[number]
            self.assertGreater(probes, lasted / EVERY / 3, f'h{number} did not keep its schedule')
        self.heal(what, victim)
        self.expect_well()
        # Results that an agent with a session cannot send are late after eleven seconds, and said to be.
        if what == 'database':
            self.assertEqual(self.no_data(), no_data, f'nobody was silent: {what} {ways}')

    def no_data(self):
        return int(self.postgres.sql('SELECT count(*) FROM transitions WHERE to_status = 5'))

    @staticmethod
    def note(times, began):
        times.append(since(began))
        return True

    def others(self, victim):
        return [plane for plane in self.planes if plane is not victim]

    def expect_no_false_acknowledgement(self):
        """No agent believes more to be stored than is."""
        told = {agent.name: self.log_of(agent)[1] for agent in self.agents}
        committed = self.committed()
        for name, number in told.items():
            self.assertLessEqual(number, committed[name], name)

    def expect_well(self):
        healed = time.monotonic()
        written = {agent.name: self.log_of(agent)[0] for agent in self.agents}
        eventually('all agents are connected', lambda: None not in self.homes().values(), within=60)
        self.note(self.seen.connected, healed)
        eventually('all that was found is stored', lambda: all(
            self.committed()[name] >= number for name, number in written.items()), within=60)
        self.note(self.seen.stored, healed)
        self.leader()

    def rounds(self, kinds):
        for what, ways in kinds:
            victim = self.victim(what)
            # Long enough for the next leader, in the default.
            seconds = random.uniform(5, max(LONGEST_CUT, 5.5))
            print(f'{what} {"+".join(ways)} {seconds:.1f} s, {victim.name}', file=sys.stderr, flush=True)
            self.partition(what, ways, seconds, victim)

    def victim(self, what):
        """For the database half the time the leader; for agents a replica that holds some."""
        if what == 'database':
            return self.leader() if random.random() < 0.5 else random.choice(self.planes)
        home = random.choice([name for name in self.homes().values() if name])
        return next(plane for plane in self.planes if plane.name == home)

    def draw(self):
        return [random.choice(KINDS) for _ in range(ROUNDS)] if ROUNDS else self.ONCE

    def verify(self):
        here = self.leader()
        self.assertEqual([alert['name'] for alert in here.alerts() if alert['name'].endswith(' absent')], [])
        eventually('no alert is left', lambda: not here.alerts(state='FIRING'))
        for number, agent in enumerate(self.agents):
            entries = here.stream('history', agent.name, '--agent', agent.name, '--since', '24h')
            self.assertFalse([entry for entry in entries if entry.get('gap')])
            sequences = [int(entry['seq']) for entry in entries]
            self.assertEqual(len(sequences), len(set(sequences)), 'a result is doubled')
            missing = set(range(min(sequences), max(sequences) + 1)) - set(sequences)
            self.assertLessEqual(len(missing), 1, f'{agent.name}: {missing}')  # a plan that was taken
            times = sorted(self.servers[number].times)
            self.seen.longest_pause.append(max(after - before for before, after in zip(times, times[1:])))
        self.assertTrue(all(agent['gaps'] == [] for agent in here.items('get', 'agents')))


class ByProxy(Partitions):
    """A way that can hold back bytes stands before each replica, and another between it and the database."""
    ONCE = (AGENTS_UP, AGENTS_DOWN, DATABASE_BOTH)
    probed, agents_inside = '127.0.0.1', ()

    def wire(self):
        self.postgres = PostgresCluster(self.folder, free_port()).make()
        self.ways = {'agents': {}, 'database': {}}

    def replica(self, number, first):
        store = self.way('database', f'control-{number}', self.postgres.port)
        plane = FleetReplica(self.folder, f'control-{number}', f'postgresql://postgres@127.0.0.1:{store.port}/muster',
                             first)
        plane.advertised = self.way('agents', plane.name, plane.port).port
        return plane

    def way(self, what, name, target):
        way = self.ways[what][name] = TcpProxy(target)
        self.addCleanup(way.close)
        return way

    def cut(self, what, ways, victim):
        self.ways[what][victim.name].hold(*ways)

    def heal(self, what, victim):
        way = self.ways[what][victim.name]
        if random.random() < 0.5:
            way.cut()
        way.mend()

    def test_what_is_held_back_is_stored_after_healing(self):
        self.rounds(self.draw())
        self.verify()
        self.seen.show('by proxy')

    @staticmethod
    def known(agent):
        """How many addresses of the control plane it has written down."""
        with open(os.path.join(agent.data, 'agent.yaml'), encoding='utf-8') as file:
            return file.read().partition('servers:')[2].partition('enroll:')[0].count('127.0.0.1:')

    def test_agents_of_a_replica_without_its_database_go_on_elsewhere(self):
        eventually('all know both replicas', lambda: all(self.known(agent) == REPLICAS for agent in self.agents))
        victim = self.victim('agents')
        began = time.monotonic()
        self.cut('database', (UP, DOWN), victim)
        eventually('all are with the other', lambda: set(self.homes().values()) == {self.others(victim)[0].name},
                   within=60)
        self.note(self.seen.elsewhere, began)
        written = {agent.name: self.log_of(agent)[0] for agent in self.agents}
        eventually('all that was found is stored', lambda: all(
            self.committed()[name] >= number for name, number in written.items()))
        self.assertEqual(self.no_data(), 0)
        self.heal('database', victim)
        self.expect_well()
        self.verify()
        self.seen.show('without the database')


class ByNamespace(Partitions):
    """Agents, replicas and the database are hosts; what they send to one another vanishes."""
    ONCE = (AGENTS_BOTH, DATABASE_UP, DATABASE_DOWN)

    def setUp(self):
        if NO_NETWORK:
            raise unittest.SkipTest(NO_NETWORK)
        super().setUp()

    def wire(self):
        hosts = [self.host(number) for number in range(2 + REPLICAS)]
        self.agents_host, self.database, self.plane_hosts = hosts[0], hosts[1], hosts[2:]
        self.addCleanup(network.mend)
        self.probed, self.agents_inside = self.agents_host.router, self.agents_host.inside
        self.postgres = PostgresCluster(self.folder, free_port(), address=self.database.address,
                                        prefix=self.database.inside).make()

    def host(self, number):
        host = network.Host(number)
        self.addCleanup(host.end)
        return host

    def replica(self, number, first):
        host = self.plane_hosts[number]
        store = f'postgresql://postgres@{self.database.address}:{self.postgres.port}/muster'
        return FleetReplica(self.folder, f'control-{number}', store, first, address=host.address, inside=host.inside)

    def cut(self, what, ways, victim):
        plane = self.plane_hosts[self.planes.index(victim)]
        below, above = (self.agents_host, plane) if what == 'agents' else (plane, self.database)
        if UP in ways:
            network.cut(below, above)
        if DOWN in ways:
            network.cut(above, below)

    def heal(self, what, victim):
        network.mend()

    def test_what_vanished_is_sent_again_after_healing(self):
        self.rounds(self.draw())
        self.verify()
        self.seen.show('by namespace')


if __name__ == '__main__':
    main()
