"""kill -9 of control plane and agent at random moments: nothing is lost, nothing is doubled (C1, C2, C5).

MUSTER_ROUNDS says how often (default 5; `make soak` takes 50), MUSTER_SEED with which draws.
"""
import os
import random
import time

from harness import Case, CountingServer, eventually, main

CHECKS = ''.join(f'''---
apiVersion: muster/v1
kind: Check
metadata: {{{{name: hit-{i}}}}}
spec:
  every: 100ms
  timeout: 100ms
  probe: {{{{http: {{{{url: "http://127.0.0.1:{{port}}/{i}"}}}}}}}}
''' for i in range(3))


class Kill(Case):
    def test_every_result_is_stored_once_whoever_is_killed(self):
        rounds = int(os.environ.get('MUSTER_ROUNDS', '5'))
        plane = self.plane()
        server = CountingServer()
        agent = self.agent(plane)
        plane.apply(CHECKS.format(port=server.port))
        eventually('running', lambda: server.count() > 10)
        agent_kills = 0
        for _ in range(rounds):
            time.sleep(random.uniform(0.2, 1.5))
            victims = random.choice([(plane,), (agent,), (plane, agent)])
            for victim in victims:
                victim.process.kill()
            agent_kills += agent in victims
            time.sleep(random.uniform(0, 0.5))
            for victim in victims:
                victim.start()
        eventually('connected again', agent.connected)
        time.sleep(1)
        server.status = 503
        eventually('CRITICAL', lambda: all(plane.state(f'hit-{i}', 'host-1')['state'] == 'CRITICAL' for i in range(3)))
        eventually('alerts', lambda: len(plane.alerts(state='FIRING')) == 3)
        server.status = 200
        eventually('OK', lambda: all(plane.state(f'hit-{i}', 'host-1')['state'] == 'OK' for i in range(3)))
        eventually('resolved', lambda: not plane.alerts(state='FIRING'))
        agent.process.stop()  # flushes its log or keeps it
        requests = server.count()
        agent.start()
        eventually('connected', agent.connected)
        time.sleep(8)
        agent.process.kill()
        time.sleep(1)
        self.verify(plane, agent, requests, server.count(), agent_kills)

    def verify(self, plane, agent, requests, asked, agent_kills):
        entries = {}
        for i in range(3):
            for entry in plane.stream('history', f'hit-{i}', '--agent', 'host-1'):
                if entry.get('gap'):
                    continue
                self.assertNotIn(entry['seq'], entries, 'a result is doubled')
                entries[entry['seq']] = entry
        told = plane.agent('host-1')
        covered = sum(gap['last'] - gap['first'] + 1 for gap in told['gaps'])
        # Besides results the log holds one entry a plan that was taken.
        self.assertGreaterEqual(len(entries) + covered, told['committedSeq'] - 2 - agent_kills)
        self.assertLessEqual(len(entries) + covered, told['committedSeq'])
        # No result without its probe. A probe that timed out while the server was slow may not have been counted.
        self.assertLessEqual(len(entries), asked + 15)
        # A probe whose agent was killed before it wrote leaves a request and no record; with what is on
        # its way that is at most a recorder's linger of three checks for each kill.
        self.assertGreaterEqual(len(entries) + covered, requests - (agent_kills + 1) * 15)
        print(f'{len(entries)} results, {covered} in gaps, {requests} requests seen, {agent_kills} agent kills')


if __name__ == '__main__':
    main()
