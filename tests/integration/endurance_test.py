"""Three replicas over one PostgreSQL and a fleet at work, and every so often a fault that ends none of them: the leader
sleeps, PostgreSQL is killed and started again, every agent falls silent and comes back, operators come in crowds and leave
without a word, strangers knock. Memory and file descriptors of the replicas stay what they are, and nothing is lost.

MUSTER_MINUTES says how long (default 1.2; `scripts/soak endurance` takes 30), MUSTER_EVERY how many seconds from fault to fault
(default 6; the soak 30), MUSTER_SEED with which draws. A minute says something of descriptors; memory is judged from ten on.
"""
import os
import random
import signal
import socket
import statistics
import time

from harness import BIN, Process, eventually, main
from under_load import UnderLoad, since

MINUTES = float(os.environ.get('MUSTER_MINUTES', '1.2'))
EVERY = float(os.environ.get('MUSTER_EVERY', '6'))
CHECK = '''---
apiVersion: muster/v1
kind: Check
metadata: {{name: passing-{number}}}
spec:
  agents: {{agent: nobody}}
  probe: {{http: {{url: "http://127.0.0.1:1/"}}}}
'''
MORE_DESCRIPTORS = 6   # in the last third than in the one before
MORE_MEMORY = 1.05     # times, and so many MiB
MORE_MIB = 4


def look(pid):
    """(descriptors, resident MiB) of the process."""
    with open(f'/proc/{pid}/status', encoding='ascii') as file:
        resident = next(int(line.split()[1]) for line in file if line.startswith('VmRSS'))
    return len(os.listdir(f'/proc/{pid}/fd')), resident / 1024


class Endurance(UnderLoad):
    def test_memory_and_descriptors_stay_what_they_are(self):
        self.start_fleet()
        faults = [self.leader_sleeps, self.postgres_is_killed, self.agents_fall_silent, self.operators_come_and_go,
                  self.strangers_knock]
        looks = []
        began, number = time.monotonic(), 0
        while since(began) < MINUTES * 60:
            ends = time.monotonic() + EVERY
            fault = faults[number % len(faults)] if number < len(faults) else random.choice(faults)
            fault()
            number += 1
            # What a fault leaves for a moment is no leak.
            eventually('all agents are connected', lambda: self.connected() == self.agents, within=90, every=0.5)
            eventually('all are ready', lambda: all(plane.ready() for plane in self.planes), within=60)
            while time.monotonic() < ends:
                time.sleep(0.2)
            looks.append(self.look())
            if number % 10 == 0:
                print(f'{number} faults after {since(began):.0f} s', flush=True)
        self.stop_fleet()
        results, leaders = self.judge()
        print(f'{number} faults in {since(began):.0f} s')
        self.expect_flat(looks)
        self.show(results, leaders)
        self.expect_good(results, leaders)
        self.assertGreater(results['stored'], 1000)

    def look(self):
        """Of all replicas together, for agents go from one to the other."""
        each = [look(plane.process.pid) for plane in self.planes]
        return [sum(one[what] for one in each) for what in (0, 1)]

    def expect_flat(self, looks):
        third = len(looks) // 3
        (fds, fds_after), (mib, mib_after) = ([statistics.median(one[what] for one in part) for part in
                                               (looks[third:2 * third], looks[-third:])] for what in (0, 1))
        print(f'descriptors {fds:.0f}, then {fds_after:.0f}, most {max(one[0] for one in looks)}; resident '
              f'{looks[0][1]:.0f} MiB at first, {mib:.1f}, then {mib_after:.1f}, most {max(one[1] for one in looks):.0f}')
        self.assertLessEqual(fds_after, fds + MORE_DESCRIPTORS, 'descriptors grow')
        if MINUTES >= 10:
            self.assertLessEqual(mib_after, mib * MORE_MEMORY + MORE_MIB, 'memory grows')

    # Faults. Each is over when it returns, but for what it left behind.

    def leader_sleeps(self):
        victim = self.leader()
        self.asleep(victim.process, random.uniform(2, 12))

    def agents_fall_silent(self):
        self.asleep(self.fleet, 9)

    @staticmethod
    def asleep(process, seconds):
        process.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.process.send_signal(signal.SIGCONT)

    def postgres_is_killed(self):
        self.postgres.kill()
        time.sleep(1)
        self.postgres.start()

    def operators_come_and_go(self):
        plane = random.choice(self.planes)
        watchers = [Process([f'{BIN}/musterctl', '--context', plane.context, '--server', f'{plane.address}:{plane.port}',
                             'watch'], f'{self.folder}/watch.log') for _ in range(12)]
        try:
            for number in range(3):
                plane.apply(CHECK.format(number=number))
                plane.ctl('get', 'states', '-o', 'json')
                plane.ctl('delete', 'check', f'passing-{number}', '--yes')
        finally:
            for watcher in watchers:
                watcher.kill()

    def strangers_knock(self):
        """Some say nothing, some speak no TLS; they leave when they have been told so, or after a while."""
        knocks = []
        for number in range(60):
            knock = socket.create_connection(('127.0.0.1', self.planes[number % len(self.planes)].port))
            knocks.append(knock)
            if number % 2:
                knock.sendall(os.urandom(200))
        time.sleep(2)
        for knock in knocks:
            knock.close()


if __name__ == '__main__':
    main()
