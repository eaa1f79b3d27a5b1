"""Jobs on replicas over one PostgreSQL: the leader is killed or paused while a job runs each second, and every slot is
decided once, every effect happens at most once, and a woken leader gives nothing away (C3, C4, C9).

MUSTER_ROUNDS says how often (default 4), MUSTER_SEED with which draws.
"""
import os
import random
import signal
import time

from break_and_mend_test import Postgres
from harness import eventually, main
from jobs_test import JobCase
from replicas_test import Replica


class JobsOnReplicas(JobCase):
    COUNT = 3

    def setUp(self):
        super().setUp()
        self.postgres = Postgres(self.folder)
        self.addCleanup(self.postgres.stop)
        store = f'postgresql://postgres@127.0.0.1:{self.postgres.port}/postgres'
        first = Replica(self.folder, 'control-0', store)
        self.planes = [first] + [Replica(self.folder, f'control-{i}', store, first) for i in range(1, self.COUNT)]
        for plane in self.planes:
            plane.start()
            self.addCleanup(lambda plane=plane: plane.process.end())

    def leader(self, among=None):
        def leaders():
            return [plane for plane in among or self.planes if plane.process.running() and plane.leads()]
        return eventually('one leads', lambda: (found := leaders()) and len(found) == 1 and found)[0]

    def test_every_slot_is_decided_once_whoever_leads(self):
        rounds = int(os.environ.get('MUSTER_ROUNDS', '4'))
        program = self.script('each', sleep=0.3)
        agent = self.host(self.planes[0], program)
        # The agent knows the other replicas before the first one goes.
        eventually('learned', lambda: all(f':{plane.port}' in self.addresses(agent) for plane in self.planes))
        self.job(self.planes[0], 'each', program, extra='  schedule: {every: 1s, overlap: allow}\n  deadline: 1m')
        eventually('runs', lambda: len(self.told()[1]) >= 2)
        for _ in range(rounds):
            leader = self.leader()
            others = [plane for plane in self.planes if plane is not leader]
            pause = random.uniform(4, 10) if random.random() < 0.5 else None
            if pause is None:
                leader.process.kill()
            else:
                leader.process.process.send_signal(signal.SIGSTOP)
            self.leader(others)
            done = len(self.told()[1])
            eventually('runs again', lambda: len(self.told()[1]) > done + 1)
            if pause is None:
                leader.start()
            else:
                time.sleep(pause)
                leader.process.process.send_signal(signal.SIGCONT)
            eventually('ready', leader.ready)
        here = self.leader()
        here.ctl('pause', 'each')
        eventually('all over', lambda: not [run for run in here.items('get', 'runs', '--limit', '1000')
                                            if run['state'] in ('QUEUED', 'RUNNING')])
        self.verify(here.items('get', 'runs', '--limit', '1000'), kills=0)

    @staticmethod
    def addresses(agent):
        with open(os.path.join(agent.data, 'agent.yaml'), encoding='utf-8') as file:
            return file.read()


if __name__ == '__main__':
    main()
