"""A storm over the leader: three replicas over one PostgreSQL, a fleet at work, and again and again whoever leads is
killed (kill -9) or put to sleep (SIGSTOP) and woken. At the end journals are held against one another.

MUSTER_ROUNDS says how often (default 4; `scripts/soak leader` takes 200), MUSTER_PAUSE how long at most (default 8
seconds; the soak takes 60), MUSTER_SEED with which draws.
"""
import os
import random
import signal
import time

from harness import eventually, main
from under_load import UnderLoad, percentiles, since

ROUNDS = int(os.environ.get('MUSTER_ROUNDS', '4'))
LONGEST_PAUSE = float(os.environ.get('MUSTER_PAUSE', '8'))
SHORTEST_PAUSE = 2.0
SHARE_OF_PAUSES = 0.4


def draw_pause():
    """Between the shortest and the longest, most of them short."""
    return SHORTEST_PAUSE * (LONGEST_PAUSE / SHORTEST_PAUSE) ** (random.random() ** 2)


class Seen:
    """What the rounds showed."""

    def __init__(self):
        self.after_kill, self.after_pause, self.steps_down, self.shown = [], [], [], []
        self.kept, self.refused, self.pauses_with_refusals = 0, 0, 0

    def show(self):
        both = self.after_kill + self.after_pause
        print(f'{ROUNDS} rounds\n  next leader: {percentiles(both)}\n  after kill -9: {percentiles(self.after_kill)}\n'
              f'  after SIGSTOP: {percentiles(self.after_pause)}; {self.kept} woke before anybody else led\n'
              f'  until the metrics say so, which are counted each second: {percentiles(self.shown)}\n'
              f'  woken until it knows that it leads no more: {percentiles(self.steps_down)}\n'
              f'  stale writes refused: {self.refused}, in {self.pauses_with_refusals} of '
              f'{self.kept + len(self.after_pause)} pauses')


class LeaderStorm(UnderLoad):
    def test_nothing_is_lost_doubled_or_untold_whoever_leads(self):
        self.start_fleet()
        seen = Seen()
        began = time.monotonic()
        for number in range(ROUNDS):
            victim = self.leader()
            time.sleep(random.uniform(0.2, 1.5))
            if number == 1 or number > 1 and random.random() < SHARE_OF_PAUSES:
                self.pause(victim, seen)
            else:
                self.kill(victim, seen)
            if number % 20 == 19:
                print(f'{number + 1} rounds after {since(began):.0f} s', flush=True)
        self.leader()
        eventually('all agents are connected', lambda: self.connected() == self.agents, within=60)
        report = self.stop_fleet()
        results, leaders = self.judge()
        seen.show()
        print(f'fleet: {report["results"]} results, {report["acknowledged"]} records acknowledged, '
              f'{report["steady"]["lost_sessions"]} sessions lost')
        self.show(results, leaders)
        self.expect_good(results, leaders)
        self.assertGreater(results['stored'], 100 * ROUNDS, 'too little for the test to mean anything')
        self.assertGreater(leaders['told'].seen['told'], 5 * ROUNDS)
        self.assertGreaterEqual(leaders['terms'].seen['terms'], len(seen.after_kill) + len(seen.after_pause))

    def others(self, victim):
        return [plane for plane in self.planes if plane is not victim]

    def taken_after(self, at):
        """Seconds from then until another took the lease, by the database; it is known that one has."""
        return int(self.postgres.sql('SELECT min(at) FROM witness.leases WHERE epoch <> epoch_before AND at > '
                                     f'{int(at * 1e6)}')) / 1e6 - at

    def kill(self, victim, seen):
        struck, at = time.monotonic(), time.time()
        victim.process.kill()
        eventually('another leads', lambda: any(plane.leads() for plane in self.others(victim)), within=60,
                   every=0.02)
        seen.shown.append(since(struck))
        seen.after_kill.append(self.taken_after(at))
        victim.start()

    def pause(self, victim, seen):
        refused = victim.refused()
        self.sleeps_while_telling(victim)
        struck, at = time.monotonic(), time.time()
        until = struck + draw_pause()
        another = False
        while time.monotonic() < until:
            if not another and any(plane.leads() for plane in self.others(victim)):
                seen.shown.append(since(struck))
                seen.after_pause.append(self.taken_after(at))
                another = True
            time.sleep(0.02)
        victim.process.process.send_signal(signal.SIGCONT)
        woken = time.monotonic()
        if another:
            eventually('the woken one leads no more', lambda: not victim.leads(), within=10, every=0.02)
            seen.steps_down.append(since(woken))
        else:
            seen.kept += 1
        eventually(f'{victim.name} is ready', victim.ready, within=30)
        self.leader()
        time.sleep(1.2)  # metrics are counted each second
        refused = victim.refused() - refused
        seen.refused += refused
        seen.pauses_with_refusals += refused > 0


if __name__ == '__main__':
    main()
