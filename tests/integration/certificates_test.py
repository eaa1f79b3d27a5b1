"""Certificates end and are renewed while everything goes on: the control plane's, an agent's, and one that slept too long."""
import os
import socket
import ssl
import threading
import time

from harness import BIN, Case, CountingServer, eventually, free_port, main, run
from spine_test import CHECK

SHORT = 'agentCertificate: 12s\ncontrolCertificate: 12s\nexpiredAgentGrace: 1h\n'


def shown(port):
    """The certificate that a port shows, as PEM; the enrolment port asks for none of ours."""
    return ssl.get_server_certificate(('127.0.0.1', port))


def leaf(agent):
    with open(os.path.join(agent.data, 'identity.pem'), encoding='utf-8') as file:
        return file.read()


class Certificates(Case):
    def short_lived_plane(self):
        plane = self.plane()
        plane.process.stop()
        with open(os.path.join(plane.data, 'control.yaml'), 'a', encoding='utf-8') as file:
            file.write(SHORT)
        plane.start()
        self.addCleanup(lambda: plane.process.end())
        return plane

    def test_they_are_renewed_while_everything_goes_on(self):
        plane, server = self.short_lived_plane(), CountingServer()
        agent = self.agent(plane)
        plane.apply(CHECK.format(name='api', every='500ms', port=server.port))
        control, host = shown(plane.enroll_port), leaf(agent)
        eventually('the control plane shows another certificate', lambda: shown(plane.enroll_port) != control)
        eventually('the agent holds another certificate', lambda: leaf(agent) != host)
        time.sleep(15)  # by now every certificate of the beginning has expired
        self.assertTrue(agent.connected())
        self.assertEqual(plane.state('api', 'host-1')['state'], 'OK')
        history = plane.stream('history', 'api', '--agent', 'host-1', '--since', '10s')
        self.assertGreaterEqual(len(history), 10)
        self.assertEqual(plane.agent('host-1')['gaps'], [])

    def test_an_agent_that_slept_past_its_end_comes_back_by_itself(self):
        plane = self.short_lived_plane()
        agent = self.agent(plane)
        agent.process.stop()
        time.sleep(14)
        agent.start()
        eventually('back', agent.connected, within=60)
        self.assertIn('agent.readmit', plane.ctl('get', 'audit', '-o', 'json').stdout)

    def test_a_revoked_agent_that_slept_does_not(self):
        plane = self.short_lived_plane()
        agent = self.agent(plane)
        agent.process.stop()
        plane.ctl('agent', 'revoke', 'host-1', '--yes')
        time.sleep(14)
        agent.start()
        eventually('told why', lambda: 'was revoked' in agent.process.log(), within=60)
        self.assertIn('join again', agent.process.log())
        self.assertFalse(agent.connected())

    def test_a_join_that_failed_is_done_again_with_the_same_token(self):
        plane = self.plane()
        token = plane.ctl('token', 'create', '--agent', 'host-9').stdout
        data = os.path.join(self.folder, 'agent')
        nobody = run(f'{BIN}/muster-agent', 'join', '--data', data, '--server', f'127.0.0.1:{free_port()}',
                     '--token-file', '-', stdin=token)
        self.assertEqual(nobody.returncode, 6, nobody.stderr)
        self.assertFalse(os.path.exists(os.path.join(data, 'identity.pem')))
        joined = run(f'{BIN}/muster-agent', 'join', '--data', data, '--server',
                     f'127.0.0.1:{plane.enroll_port}', '--token-file', '-', stdin=token)
        self.assertEqual(joined.returncode, 0, joined.stderr)
        self.assertFalse(os.path.exists(os.path.join(data, 'joining.key')))

    def test_a_join_at_a_server_that_hangs_up_is_told_so(self):
        plane = self.plane()
        token = plane.ctl('token', 'create', '--agent', 'host-9').stdout
        with socket.create_server(('127.0.0.1', 0)) as server:
            threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
            ran = run(f'{BIN}/muster-agent', 'join', '--data', os.path.join(self.folder, 'agent'), '--server',
                      f'127.0.0.1:{server.getsockname()[1]}', '--token-file', '-', stdin=token)
        self.assertEqual(ran.returncode, 6, ran.stderr)
        self.assertIn('muster-agent:', ran.stderr)


if __name__ == '__main__':
    main()
