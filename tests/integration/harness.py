"""A control plane, agents and servers of one test: real programs on loopback, in a folder of their own.

Every process started here is ended here, by its id.
"""
import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get('MUSTER_BIN_DIR', os.path.join(ROOT, 'build', 'bin'))
SUPPORT = os.path.join(ROOT, 'tests', 'support')
PYTHON = '/usr/bin/python3'

_ports = iter(range(30000 + (os.getpid() * 37) % 2000, 32700))


def free_port():
    for port in _ports:
        with contextlib.closing(socket.socket()) as sock:
            try:
                sock.bind(('127.0.0.1', port))
                return port
            except OSError:
                continue
    raise RuntimeError('no free port')


def eventually(what, holds, within=30.0, every=0.05):
    """Waits until holds() is true and returns its value; fails the test, naming `what`, if it never is."""
    deadline = time.monotonic() + within
    last = None
    while time.monotonic() < deadline:
        last = holds()
        if last:
            return last
        time.sleep(every)
    raise AssertionError(f'{what}: not within {within} s; last seen: {last!r}')


class Process:
    """A program in the background; its output goes to a file."""

    def __init__(self, argv, log, env=None, stdin=None):
        self.argv, self.log_path = argv, log
        self.log_file = open(log, 'ab')
        self.process = subprocess.Popen(argv, stdout=self.log_file, stderr=self.log_file,
                                        stdin=stdin or subprocess.DEVNULL, env={**os.environ, **(env or {})})

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process.poll() is None

    def kill(self):
        if self.running():
            self.process.kill()
        self.process.wait()
        self.log_file.close()

    def stop(self, within=15):
        """SIGTERM; the exit code."""
        if self.running():
            self.process.terminate()
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f'{self.argv[0]} did not end within {within} s of SIGTERM')
        finally:
            self.log_file.close()
        return code

    def end(self):
        """At the end of a test: at once, or in order where coverage is counted as programs end."""
        if self.running() and os.environ.get('MUSTER_END_IN_ORDER'):
            self.stop()
        elif self.running():
            self.kill()

    def log(self):
        with open(self.log_path, encoding='utf-8', errors='replace') as file:
            return file.read()


def run(*argv, stdin='', env=None, timeout=60):
    return subprocess.run(list(argv), input=stdin, capture_output=True, text=True, check=False, timeout=timeout,
                          env={**os.environ, **(env or {})})


class Plane:
    """muster-control, with the embedded store unless it is told another."""
    address = '127.0.0.1'
    listen = '127.0.0.1'

    def __init__(self, folder, name='plane', store=None):
        self.data = os.path.join(folder, name)
        self.port, self.enroll_port, self.http_port = free_port(), free_port(), free_port()
        self.log_path = os.path.join(folder, name + '.log')
        self.process = None
        made = run(f'{BIN}/muster-control', 'init', '--data', self.data, '--advertise', f'127.0.0.1:{self.port}',
                   *(['--store', store] if store else []))
        assert made.returncode == 0, made.stderr
        self.context = os.path.join(self.data, 'admin.context')

    def start(self, wait=True, prefix=(), env=None):
        self.process = Process([*prefix, f'{BIN}/muster-control', 'run', '--data', self.data,
                                '--listen', f'{self.listen}:{self.port}',
                                '--enroll-listen', f'127.0.0.1:{self.enroll_port}',
                                '--http-listen', f'127.0.0.1:{self.http_port}'], self.log_path, env)
        if wait:
            eventually('control plane ready', self.ready)
        return self

    def ready(self):
        if not self.process.running():
            raise AssertionError('muster-control ended:\n' + self.process.log()[-3000:])
        return http_status(self.http_port, '/-/ready', self.address) == 200

    def metrics(self):
        return http_get(self.http_port, '/metrics', self.address)

    def ctl(self, *argv, check=True, stdin='', timeout=60):
        ran = run(f'{BIN}/musterctl', '--context', self.context, *argv, stdin=stdin, timeout=timeout)
        if check and ran.returncode != 0:
            raise AssertionError(f'musterctl {" ".join(argv)}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}')
        return ran

    def items(self, *argv):
        return json.loads(self.ctl(*argv, '-o', 'json').stdout)['items']

    def stream(self, *argv):
        return [json.loads(line) for line in self.ctl(*argv, '-o', 'json', timeout=120).stdout.splitlines()]

    def apply(self, text):
        return self.ctl('apply', '-f', '-', stdin=text)

    def state(self, check, agent):
        for item in self.items('get', 'states'):
            if item['check'] == check and item['agent'] == agent:
                return item
        return None

    def alerts(self, **want):
        return [item for item in self.items('get', 'alerts')
                if all(item.get(key) == value for key, value in want.items())]

    def agent(self, name):
        for item in self.items('get', 'agents'):
            if item['name'] == name:
                return item
        return None


class Agent:
    def __init__(self, plane, folder, name, labels=(), config=None, prefix=()):
        self.plane, self.name = plane, name
        self.data = os.path.join(folder, 'agent-' + name)
        self.log_path = self.data + '.log'
        self.config = None
        self.process = None
        if config is not None:
            self.config = self.data + '.yaml'
            with open(self.config, 'w', encoding='utf-8') as file:
                file.write(config)
        token = plane.ctl('token', 'create', '--agent', name,
                          *[part for label in labels for part in ('--label', label)]).stdout
        joined = run(*prefix, f'{BIN}/muster-agent', 'join', '--data', self.data, '--server',
                     f'{plane.address}:{plane.enroll_port}', '--token-file', '-', stdin=token)
        assert joined.returncode == 0, joined.stderr

    def start(self, prefix=()):
        extra = ['--config', self.config] if self.config else []
        self.process = Process([*prefix, f'{BIN}/muster-agent', 'run', '--data', self.data, *extra],
                               self.log_path)
        return self

    def connected(self):
        found = self.plane.agent(self.name)
        return bool(found and found['connected'])


def http_status(port, path, address='127.0.0.1'):
    try:
        return _http(port, path, address)[0]
    except OSError:
        return 0


def http_get(port, path, address='127.0.0.1'):
    return _http(port, path, address)[1]


def _http(port, path, address):
    with socket.create_connection((address, port), timeout=5) as sock:
        sock.sendall(f'GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'.encode())
        answer = b''
        while True:
            got = sock.recv(65536)
            if not got:
                break
            answer += got
    head, _, body = answer.partition(b'\r\n\r\n')
    if b'chunked' in head.lower():
        text, rest = b'', body
        while rest:
            size, _, rest = rest.partition(b'\r\n')
            count = int(size, 16)
            text, rest = text + rest[:count], rest[count + 2:]
            if count == 0:
                break
        body = text
    return int(head.split()[1]), body.decode('utf-8', 'replace')


class CountingServer:
    """An HTTP server that notes when each request came, and can be told to fail."""

    def __init__(self, address='127.0.0.1'):
        self.times, self.status = [], 200
        self.lock = threading.Lock()
        self.sock = socket.create_server((address, 0), backlog=256)
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(conn,), daemon=True).start()

    def _answer(self, conn):
        with conn:
            conn.settimeout(5)
            try:
                data = b''
                while b'\r\n\r\n' not in data:
                    got = conn.recv(4096)
                    if not got:
                        return
                    data += got
                with self.lock:
                    self.times.append(time.time())
                    status = self.status
                conn.sendall(f'HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok'.encode())
            except OSError:
                return

    def count(self):
        with self.lock:
            return len(self.times)

    def close(self):
        self.sock.close()


class Case(unittest.TestCase):
    """A test with a folder; what it starts through `own` is ended when it ends."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='muster-it-')
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def own(self, process):
        self.addCleanup(lambda: process.end() if process else None)
        return process

    def plane(self, name='plane', store=None, **options):
        plane = Plane(self.folder, name, store)
        plane.start(**options)
        self.addCleanup(lambda: plane.process.end())
        return plane

    def agent(self, plane, name='host-1', labels=(), config=None):
        agent = Agent(plane, self.folder, name, labels, config)
        agent.start()
        self.addCleanup(lambda: agent.process.end())
        eventually('agent connected', agent.connected)
        return agent

    def run(self, result=None):
        outcome = super().run(result)
        return outcome


def main():
    seed = int(os.environ.get('MUSTER_SEED', '20261123'))
    random.seed(seed)
    print(f'seed {seed}', file=sys.stderr)
    unittest.main(verbosity=2)
