"""The spine, as its user would use it: init, run, join, apply, look; and what must not happen."""
import json
import os
import pathlib
import shutil
import signal
import time

from harness import BIN, Agent, Case, CountingServer, eventually, main, run

CHECK = '''
apiVersion: muster/v1
kind: Check
metadata: {{name: {name}}}
spec:
  every: {every}
  timeout: 100ms
  probe: {{http: {{url: "http://127.0.0.1:{port}/"}}}}
'''


def watched(case):
    """A control plane, a server that answers, and the agent of the host that finds it OK."""
    plane = case.plane()
    server = CountingServer()
    agent = case.agent(plane)
    plane.apply(CHECK.format(name='api', every='200ms', port=server.port))
    eventually('OK', lambda: (s := plane.state('api', 'host-1')) and s['state'] == 'OK')
    return plane, server, agent


class Spine(Case):
    def test_a_host_joins_reports_and_is_shown(self):
        plane = self.plane()
        server = CountingServer()
        self.agent(plane, 'db-1', ['role=db'])
        applied = plane.apply(CHECK.format(name='api', every='200ms', port=server.port))
        self.assertIn('check/api created', applied.stdout)
        self.assertIn('unchanged', plane.apply(CHECK.format(name='api', every='200ms', port=server.port)).stdout)
        state = eventually('state OK', lambda: (s := plane.state('api', 'db-1')) and s['state'] == 'OK' and s)
        for key in ('check', 'agent', 'state', 'hard', 'since', 'observedAt', 'summary'):
            self.assertIn(key, state)
        agent = plane.agent('db-1')
        for key in ('name', 'labels', 'connected', 'lastSeenAt', 'version', 'logEpoch', 'committedSeq', 'gaps'):
            self.assertIn(key, agent)
        self.assertEqual(agent['labels'].get('role'), 'db')
        eventually('committed', lambda: plane.agent('db-1')['committedSeq'] >= 5)
        history = plane.stream('history', 'api', '--agent', 'db-1', '--since', '1h')
        self.assertGreaterEqual(len(history), 3)
        for key in ('seq', 'observedAt', 'state', 'latency', 'summary'):
            self.assertIn(key, history[0])
        seqs = [entry['seq'] for entry in history]
        self.assertEqual(seqs, sorted(set(seqs)))

    def test_the_control_plane_gives_memory_back_by_itself(self):
        process = f'/proc/{self.plane().process.pid}'
        if 'san.so' in pathlib.Path(process, 'maps').read_text(encoding='utf-8'):
            self.skipTest('a sanitizer brings a malloc of its own')
        threads = [path.read_text(encoding='utf-8').strip() for path in pathlib.Path(process, 'task').glob('*/comm')]
        self.assertIn('jemalloc_bg_thd', threads)

    def test_a_failure_fires_and_its_mending_resolves(self):
        plane, server, _ = watched(self)
        server.status = 503
        state = eventually('CRITICAL', lambda: (s := plane.state('api', 'host-1')) and s['state'] == 'CRITICAL' and s)
        self.assertIn('503', state['summary'])
        alert = eventually('alert', lambda: plane.alerts(state='FIRING', check='api'))[0]
        for key in ('id', 'name', 'severity', 'state', 'check', 'agent', 'startedAt', 'resolvedAt'):
            self.assertIn(key, alert)
        self.assertIsNone(alert['resolvedAt'])
        server.status = 200
        resolved = eventually('resolve', lambda: plane.alerts(state='RESOLVED', check='api'))[0]
        self.assertEqual(resolved['id'], alert['id'])

    def test_an_agent_that_is_off_is_no_data_and_an_alert_of_its_own(self):
        plane, _, agent = watched(self)
        agent.process.kill()
        eventually('disconnected', lambda: not plane.agent('host-1')['connected'], within=20)
        eventually('NO_DATA', lambda: plane.state('api', 'host-1')['state'] == 'NO_DATA', within=60)
        eventually('absence', lambda: [a for a in plane.alerts(state='FIRING') if a['check'] == ''], within=60)
        self.assertEqual(plane.alerts(state='FIRING', check='api'), [])
        agent.start()
        eventually('back', lambda: plane.state('api', 'host-1')['state'] == 'OK')
        eventually('resolved', lambda: not plane.alerts(state='FIRING'))

    def test_it_takes_as_many_connections_as_it_may_open(self):
        few = self.plane('few', prefix=('prlimit', '--nofile=100:3000'))
        eventually('bounded', lambda: '\nmuster_connections_limit 1500\n' in few.metrics())
        self.assertNotIn('raise LimitNOFILE', few.process.log())
        few.process.stop()
        with open(os.path.join(few.data, 'control.yaml'), 'a', encoding='utf-8') as file:
            file.write('maxConnections: 4000\n')
        few.start(prefix=('prlimit', '--nofile=100:3000'))
        self.own(few.process)
        eventually('as told', lambda: '\nmuster_connections_limit 4000\n' in few.metrics())
        self.assertIn('raise LimitNOFILE', few.process.log())

    def test_an_agent_that_is_frozen_is_silent_until_it_wakes(self):
        plane, _, agent = watched(self)
        frozen = time.time()
        agent.process.process.send_signal(signal.SIGSTOP)
        eventually('disconnected', lambda: not plane.agent('host-1')['connected'])
        eventually('counted', lambda: '\nmuster_connections_silent_total 1\n' in plane.metrics())
        self.assertIn('its peer answers no more', plane.process.log())
        eventually('NO_DATA', lambda: plane.state('api', 'host-1')['state'] == 'NO_DATA')
        # It was silent before its session ended, and that counts.
        self.assertLess(stamp(plane.agent('host-1')['lastSeenAt']) - frozen, 7, 'pings are no further apart')
        agent.process.process.send_signal(signal.SIGCONT)
        eventually('OK again', lambda: plane.state('api', 'host-1')['state'] == 'OK')

    def test_a_control_plane_that_wakes_finds_its_sessions(self):
        plane = self.plane()
        names = [f'host-{number}' for number in range(5)]
        for name in names:
            self.agent(plane, name)
        eventually('connected', lambda: all(plane.agent(name)['connected'] for name in names))
        plane.process.process.send_signal(signal.SIGSTOP)
        time.sleep(12)
        plane.process.process.send_signal(signal.SIGCONT)
        time.sleep(8)  # each has asked again since, later than it would have
        self.assertIn(f'\nmuster_sessions_opened_total {len(names)}\n', plane.metrics())
        self.assertIn('\nmuster_connections_silent_total 0\n', plane.metrics())

    def test_a_store_restored_from_an_older_copy_is_filled_again(self):
        plane = self.plane()
        server = CountingServer()
        self.agent(plane)
        plane.apply(CHECK.format(name='api', every='200ms', port=server.port))
        eventually('stored', lambda: plane.agent('host-1')['committedSeq'] >= 5)
        plane.process.stop()
        database = os.path.join(plane.data, 'muster.db')
        shutil.copy(database, database + '.copy')
        plane.start()
        self.own(plane.process)
        eventually('stored more', lambda: plane.agent('host-1')['committedSeq'] >= 30)
        before = plane.stream('history', 'api', '--agent', 'host-1', '--since', '1h')
        plane.process.stop()
        for left in ('-wal', '-shm'):
            if os.path.exists(database + left):
                os.remove(database + left)
        os.replace(database + '.copy', database)
        plane.start()
        self.own(plane.process)
        eventually('filled again', lambda: plane.agent('host-1')['committedSeq'] >= before[-1]['seq'])
        after = plane.stream('history', 'api', '--agent', 'host-1', '--since', '1h')
        self.assertEqual([(e['seq'], e['observedAt']) for e in after[:len(before)]],
                         [(e['seq'], e['observedAt']) for e in before])
        self.assertEqual(plane.agent('host-1')['gaps'], [])

    def test_late_results_keep_their_time(self):
        plane, server, _ = watched(self)
        plane.process.kill()
        away_from = time.time()
        before = server.count()
        time.sleep(4)
        away_until = time.time()
        self.assertGreater(server.count() - before, 10, 'the agent goes on checking while the plane is away')
        plane.start()
        agent = eventually('drained', lambda: (a := plane.agent('host-1')) and a['connected'] and a)
        target = server.count()
        eventually('all stored', lambda: len(plane.stream('history', 'api', '--agent', 'host-1')) >= target)
        history = plane.stream('history', 'api', '--agent', 'host-1')
        during = [e for e in history if away_from < stamp(e['observedAt']) < away_until]
        self.assertGreater(len(during), 10)
        self.assertEqual(agent['gaps'], [])

    def test_sigterm_ends_both_cleanly(self):
        plane = self.plane()
        agent = self.agent(plane)
        self.assertEqual(agent.process.stop(5), 0, agent.process.log()[-2000:])
        self.assertEqual(plane.process.stop(10), 0, plane.process.log()[-2000:])

    def test_revocation_cuts_the_live_connection(self):
        plane = self.plane()
        agent = self.agent(plane)
        plane.ctl('agent', 'revoke', 'host-1', '--yes')
        eventually('cut', lambda: not plane.agent('host-1')['connected'], within=5)
        time.sleep(3)
        self.assertFalse(plane.agent('host-1')['connected'], 'a revoked agent stays out')
        self.assertTrue(agent.process.running(), 'and keeps its log')


class BadInput(Case):
    def test_init_refuses_to_overwrite(self):
        plane = self.plane()
        again = run(f'{BIN}/muster-control', 'init', '--data', plane.data)
        self.assertEqual(again.returncode, 5, again.stderr)

    def test_a_wrong_spec_names_the_place_and_changes_nothing(self):
        plane = self.plane()
        good = CHECK.format(name='good', every='10s', port=1)
        bad = CHECK.format(name='bad', every='10s', port=1).replace('http:', 'htpp:')
        path = os.path.join(self.folder, 'specs.yaml')
        with open(path, 'w', encoding='utf-8') as file:
            file.write(good + '---' + bad)
        refused = plane.ctl('apply', '-f', path, check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertRegex(refused.stderr, r'specs\.yaml:\d+:\d+: .*htpp')
        self.assertEqual(plane.items('get', 'checks'), [])

    def test_exit_codes(self):
        plane = self.plane()
        self.assertEqual(plane.ctl('get', 'nonsense', check=False).returncode, 2)
        self.assertEqual(plane.ctl('describe', 'check', 'none', check=False).returncode, 3)
        self.assertEqual(plane.ctl('delete', 'check', 'none', '--yes', check=False).returncode, 3)
        self.assertEqual(plane.ctl('--server', '127.0.0.1:1', 'get', 'agents', check=False).returncode, 6)
        self.assertEqual(run(f'{BIN}/musterctl', '--context', '/none', 'get', 'agents').returncode, 2)
        path = os.path.join(self.folder, 'check.yaml')
        with open(path, 'w', encoding='utf-8') as file:
            file.write(CHECK.format(name='api', every='10s', port=1))
        self.assertEqual(plane.ctl('diff', '-f', path, check=False).returncode, 1)
        plane.ctl('apply', '-f', path)
        self.assertEqual(plane.ctl('diff', '-f', path, check=False).returncode, 0)
        plane.ctl('delete', 'check', 'api', '--yes')
        self.assertEqual(plane.items('get', 'checks'), [])

    def test_a_context_is_looked_for_at_home(self):
        plane = self.plane()
        home = {'HOME': self.folder, 'XDG_CONFIG_HOME': '', 'MUSTER_CONTEXT': ''}
        absent = run(f'{BIN}/musterctl', 'get', 'agents', env=home)
        self.assertEqual(absent.returncode, 2)
        self.assertIn(f'{self.folder}/.config/muster/context.yaml', absent.stderr)
        os.makedirs(f'{self.folder}/.config/muster')
        shutil.copy(plane.context, f'{self.folder}/.config/muster/context.yaml')
        there = run(f'{BIN}/musterctl', 'get', 'agents', env=home)
        self.assertEqual(there.returncode, 0, there.stderr)

    def test_a_join_string_is_good_once(self):
        plane = self.plane()
        token = plane.ctl('token', 'create', '--agent', 'a-1').stdout
        self.assertEqual(len(token.split()), 1, 'the join string and nothing else')
        first = run(f'{BIN}/muster-agent', 'join', '--data', self.folder + '/one', '--server',
                    f'127.0.0.1:{plane.enroll_port}', '--token-file', '-', stdin=token)
        self.assertEqual(first.returncode, 0, first.stderr)
        second = run(f'{BIN}/muster-agent', 'join', '--data', self.folder + '/two', '--server',
                     f'127.0.0.1:{plane.enroll_port}', '--token-file', '-', stdin=token)
        self.assertEqual(second.returncode, 4, second.stderr)
        other = self.plane('other')
        token = plane.ctl('token', 'create', '--agent', 'a-2').stdout
        elsewhere = run(f'{BIN}/muster-agent', 'join', '--data', self.folder + '/three', '--server',
                        f'127.0.0.1:{other.enroll_port}', '--token-file', '-', stdin=token)
        self.assertNotEqual(elsewhere.returncode, 0, 'the pin does not match')
        good = run(f'{BIN}/muster-agent', 'join', '--data', self.folder + '/four', '--server',
                   f'127.0.0.1:{plane.enroll_port}', '--token-file', '-', stdin=token)
        self.assertEqual(good.returncode, 0, 'the token was not sent to the wrong plane: ' + good.stderr)

    def test_a_damaged_database_is_refused_with_what_to_do(self):
        plane = self.plane()
        plane.process.stop()
        path = os.path.join(plane.data, 'muster.db')
        with open(path, 'r+b') as file:
            file.seek(0)
            file.write(b'\0' * 8192)
        plane.start(wait=False)
        eventually('refusal', lambda: not plane.process.running(), within=10)
        self.assertNotEqual(plane.process.process.returncode, 0)
        self.assertIn('muster.db', plane.process.log())
        self.assertRegex(plane.process.log(), 'restore|backup')


class Rendering(Case):
    def test_metrics_are_what_promtool_accepts(self):
        plane = self.plane()
        checked = run('promtool', 'check', 'metrics', stdin=plane.metrics())
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        self.assertIn('muster_results_stored_total', plane.metrics())

    def test_watch_gives_json_lines_off_a_terminal(self):
        plane, server, _ = watched(self)
        out = os.path.join(self.folder, 'watch')
        from harness import Process
        watch = self.own(Process([f'{BIN}/musterctl', '--context', plane.context, 'watch'], out))
        eventually('first state', lambda: '"api"' in open(out, encoding='utf-8').read())
        server.status = 500
        eventually('change', lambda: 'CRITICAL' in open(out, encoding='utf-8').read())
        for line in open(out, encoding='utf-8').read().splitlines():
            json.loads(line)
        watch.process.send_signal(signal.SIGINT)
        self.assertEqual(watch.process.wait(10), 130)

    def test_version_and_doctor(self):
        plane = self.plane()
        self.assertRegex(plane.ctl('version').stdout, r'\d+\.\d+\.\d+')
        self.assertIn(plane.ctl('doctor', check=False).returncode, (0, 1))


def stamp(text):
    import datetime
    return datetime.datetime.fromisoformat(text.replace('Z', '+00:00')).timestamp()


if __name__ == '__main__':
    main()
