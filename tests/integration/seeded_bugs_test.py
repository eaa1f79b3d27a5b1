"""The checkers see what they are for: with each fault of lib/base/seeded_bugs.h in the control plane, and no other
difference, they report it and name the right counter; without any they report nothing.

build/broken/muster-control is the program that can be told a fault by its environment; the one that is shipped cannot.
"""
import os
import signal
import sys
import time
import unittest

from harness import BIN, SUPPORT, eventually, main
from under_load import UnderLoad

sys.path.insert(0, SUPPORT)
from tcp_proxy import TcpProxy  # noqa: E402  pylint: disable=wrong-import-position

BROKEN = os.path.join(os.path.dirname(BIN), 'broken', 'muster-control')
# A statement takes so long in each direction: what is on its way to the store can be struck.
SLOW = 0.1


class Broken(UnderLoad):
    """Two replicas of the breakable program, which are struck as the storm does."""
    COUNT, PROGRAM = 2, BROKEN
    FLEET = {'agents': 30, 'checks': 10, 'every': '1s', 'failing': '3%', 'period': '5s'}
    BUG = ''

    def setUp(self):
        self.ENV = {'MUSTER_SEEDED_BUG': self.BUG}  # pylint: disable=invalid-name
        self.ways = {}
        super().setUp()

    def store(self, number):
        self.ways[number] = TcpProxy(self.postgres.port)
        self.addCleanup(self.ways[number].close)
        return f'postgresql://postgres@127.0.0.1:{self.ways[number].port}/muster'

    def ended(self):
        """The fleet has sent what it has; what the checkers say."""
        eventually('all agents are connected', lambda: self.connected() == self.agents, within=60)
        self.stop_fleet()
        return self.judge()

    def sleeps(self, leader):
        other = next(plane for plane in self.planes if plane is not leader)
        self.sleeps_while_telling(leader)
        eventually('another leads', other.leads)
        leader.process.process.send_signal(signal.SIGCONT)
        eventually('it leads no more', lambda: not leader.leads())
        time.sleep(0.5)

    def killed(self, plane, way):
        """In the middle of a commit."""
        way.delay = SLOW
        time.sleep(2)
        plane.process.kill()
        way.delay = 0
        plane.start(env=self.ENV)


class NoBug(Broken):
    def test_nothing_is_reported_without_a_fault(self):
        self.start_fleet()
        self.sleeps(self.leader())
        self.killed(self.planes[0], self.ways[0])
        results, leaders = self.ended()
        self.show(results, leaders)
        self.expect_good(results, leaders)
        self.assertGreater(results['stored'], 100)
        self.assertGreater(leaders['told'].seen['told'], 10)


class Shipped(unittest.TestCase):
    def test_the_program_that_is_shipped_holds_no_fault(self):
        for program, holds in ((BROKEN, True), (f'{BIN}/muster-control', False)):
            with open(program, 'rb') as file:
                self.assertEqual(b'MUSTER_SEEDED_BUG' in file.read(), holds, program)


class FenceOff(Broken):
    BUG = 'fence-off'

    def test_a_write_of_a_leader_whose_term_is_over_is_seen(self):
        self.start_fleet()
        for _ in range(5):
            self.sleeps(self.leader())
            leaders = self.check_leaders()
            if not leaders['writes'].good:
                break
        print(leaders['writes'])
        self.assertGreater(leaders['writes'].wrong['stale'], 0)


class AckBeforeCommit(Broken):
    BUG = 'ack-before-commit'

    def test_an_acknowledged_record_that_is_not_stored_is_seen(self):
        self.start_fleet()
        # The one that the agents are with.
        self.killed(self.planes[0], self.ways[0])
        results, _ = self.ended()
        print(f"lost {results['lost']}: {results['findings'][:1]}")
        self.assertGreater(results['lost'], 0)
        self.assertEqual((results['doubled'], results['altered'], results['unknown']), (0, 0, 0))


class DropRecord(Broken):
    BUG = 'drop-record'

    def test_a_record_that_was_dropped_is_seen(self):
        self.start_fleet()
        time.sleep(3)
        results, leaders = self.ended()
        print(f"lost {results['lost']}: {results['findings'][:1]}")
        self.assertGreater(results['lost'], 0)
        self.assertEqual(results['doubled'], 0)
        self.assertTrue(leaders['told'].good, leaders['told'])


class ForgetOutbox(Broken):
    BUG = 'forget-outbox'

    def test_alerts_that_nobody_was_told_of_are_seen(self):
        self.start_fleet(tells=False)
        eventually('alerts', lambda: self.rows('SELECT id FROM alerts WHERE fired_at IS NOT NULL'))
        results, leaders = self.ended()
        print(leaders['told'])
        self.assertGreater(leaders['told'].wrong['forgotten'], 0)
        self.assertEqual(leaders['told'].wrong['untold'], 0)
        self.assertEqual(results['lost'], 0)


if __name__ == '__main__':
    main()
