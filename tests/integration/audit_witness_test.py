"""Agents as witnesses: whoever cuts the audit chain in the store is found out when an agent comes back."""
import contextlib
import json
import os
import sqlite3

from harness import Case, eventually, main


def entries(plane):
    with contextlib.closing(sqlite3.connect(os.path.join(plane.data, 'muster.db'))) as store:
        return store.execute('SELECT count(*) FROM audit').fetchone()[0]


def cut(plane, keep):
    with contextlib.closing(sqlite3.connect(os.path.join(plane.data, 'muster.db'))) as store:
        store.execute('DELETE FROM audit WHERE sequence > ?', (keep,))
        store.commit()


def findings(plane):
    """The exit code, and what doctor says of the audit: subject to list of (level, message, remedy)."""
    ran = plane.ctl('doctor', '-o', 'json', check=False)
    said = {'audit chain': [], 'audit witnesses': []}
    for item in json.loads(ran.stdout)['items']:
        if item['subject'] in said:
            said[item['subject']].append((item['level'], item['message'], item.get('remedy', '')))
    return ran.returncode, said


def read(path):
    with open(path, 'rb') as file:
        return file.read()


def held_sequence(witness):
    """Of the checkpoint in the agent's folder: a message whose first field is a number below 128."""
    return read(witness)[1] if os.path.exists(witness) else 0


class AuditWitness(Case):
    @contextlib.contextmanager
    def while_stopped(self, plane, agent):
        """Stops the control plane, and waits after its start for the agent's next session."""
        before = plane.agent(agent.name)['lastSeenAt']
        plane.process.stop()
        yield
        plane.start()
        self.own(plane.process)
        eventually('agent back', lambda: (now := plane.agent(agent.name)) and now['connected']
                   and now['lastSeenAt'] > before, within=60)

    def test_a_cut_tail_is_noticed_when_an_agent_comes_back(self):
        plane = self.plane()
        agent = self.agent(plane)
        witness = os.path.join(agent.data, 'witness.pb')
        eventually('a checkpoint', lambda: os.path.exists(witness))
        with self.while_stopped(plane, agent):
            shown = held_sequence(witness)
        _, said = findings(plane)
        self.assertIn(f'the newest of entry {shown}', said['audit witnesses'][0][1])

        # The first checkpoint of this life of the control plane covers the agent's own joining.
        eventually('a newer checkpoint', lambda: held_sequence(witness) >= 4)
        with self.while_stopped(plane, agent):
            held, whole = read(witness), held_sequence(witness)
            cut(plane, whole - 3)
        end = entries(plane)  # the start may have added one
        self.assertLess(end, whole - 1)
        code, said = findings(plane)
        self.assertEqual(code, 1)
        self.assertEqual(said['audit chain'][0][0], 'OK', 'the chain alone does not show it')
        level, message, remedy = said['audit witnesses'][0]
        self.assertEqual(level, 'FAILED')
        self.assertIn(f'agent {agent.name} holds a checkpoint of entry {whole}', message)
        self.assertIn(f'entries {end + 1} to {whole} are missing', message)
        self.assertIn('witness.pb', remedy)
        table = plane.ctl('doctor', check=False)
        self.assertEqual(table.returncode, 1)
        self.assertIn(f'entries {end + 1} to {whole} are missing', table.stdout)
        eventually('metric', lambda: 'muster_audit_contradictions 1\n' in plane.metrics())
        self.assertEqual(plane.process.log().count('the audit chain is not what it was'), 1)

        # The chain grows past the cut, and the evidence stays where it is.
        for name in ('a', 'b', 'c', 'd'):
            plane.ctl('token', 'create', '--agent', name)
        with self.while_stopped(plane, agent):
            self.assertGreater(entries(plane), whole)
        code, said = findings(plane)
        self.assertEqual(code, 1)
        self.assertIn(f'something in entries 1 to {whole} was changed', said['audit witnesses'][0][1])
        self.assertEqual(read(witness), held)

        # Explained, and put away on the host: the agent is a witness of the chain as it is now.
        agent.process.stop()
        os.remove(witness)
        agent.start()
        self.own(agent.process)
        eventually('a checkpoint again', lambda: os.path.exists(witness), within=60)
        eventually('no finding', lambda: findings(plane)[1]['audit witnesses'][0][0] == 'OK')


if __name__ == '__main__':
    main()
