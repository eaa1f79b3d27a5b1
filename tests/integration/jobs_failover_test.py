"""Jobs when a standby is promoted that never heard of what was scheduled last: what ran does not run again, and is known.

MUSTER_ROUNDS says for how many seconds more than the usual 15 the standby hears nothing.
"""
import os
import time

from failover_test import PostgresCase, url, while_away
from harness import eventually, main
from jobs_test import JobCase


class JobsFailover(PostgresCase, JobCase):
    def test_runs_that_the_promoted_standby_never_heard_of_happen_once(self):
        primary, standby, way = self.pair()
        plane = self.plane(store=url(primary.port, standby.port))
        quick, slow = self.script('quick', sleep=0.2), self.script('slow', sleep=40)
        self.host(plane, quick, slow)
        self.job(plane, 'quick', quick, extra='  schedule: {every: 1s, overlap: allow}\n  deadline: 1m')
        self.job(plane, 'slow', slow, extra='  deadline: 5m')
        eventually('runs', lambda: len(self.told()[1]) >= 3)
        self.follows(primary)
        way.cut()
        known = set(standby.sql('SELECT id FROM runs').split())
        by_hand = plane.ctl('run', 'slow', '-o', 'name').stdout.strip().split('/')[-1]
        eventually('begun', lambda: self.told()[0][by_hand] == 1)
        time.sleep(15 + int(os.environ.get('MUSTER_ROUNDS', '0')))
        lost = set(self.told()[1]) - known
        self.assertGreater(len(lost), 8, 'the standby knows of it all')
        primary.kill()
        standby.promote()
        eventually('ready', plane.ready, within=60)
        done = len(self.told()[1])
        eventually('runs go on', lambda: len(self.told()[1]) > done + 3)
        plane.ctl('pause', 'quick')
        self.assertEqual(self.told()[0][by_hand], 1)

        def runs():
            found = plane.items('get', 'runs', '--limit', '1000')
            return None if any(run['state'] in ('QUEUED', 'RUNNING') for run in found if run['job'] == 'quick') else found
        found = eventually('all over', while_away(runs), within=60)
        scheduled = [run for run in found if run['job'] == 'quick']
        begun, _ = self.told()
        states = {run['id']: run['state'] for run in scheduled}
        print(f'{len(lost)} runs were lost with the primary: '
              f'{sorted(states.get(run, "not known") for run in lost)}')
        self.assertIn(next((run['state'] for run in found if run['id'] == by_hand), 'not known'), ('RUNNING', 'SUCCEEDED'))
        del begun[by_hand]
        self.assertTrue(all(count == 1 for count in begun.values()), 'an effect happened twice')
        for run in begun:
            self.assertEqual(states.get(run), 'SUCCEEDED', f'{run} happened')


if __name__ == '__main__':
    main()
