"""Real nginx, PostgreSQL, Redis and SMTP: break each, see CRITICAL and the messages; mend it, see the resolve."""
import email
import email.policy
import http.server
import json
import os
import pwd
import ssl
import subprocess
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, SMTP

from harness import Case, Process, eventually, free_port, main, run

POSTGRES = '/usr/lib/postgresql/15/bin'


def as_postgres():
    return ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups'] if os.geteuid() == 0 else []


class Nginx:
    def __init__(self, folder):
        self.port, self.folder = free_port(), os.path.join(folder, 'nginx')
        os.makedirs(self.folder)
        self.config = os.path.join(self.folder, 'nginx.conf')
        with open(self.config, 'w', encoding='utf-8') as file:
            file.write(f'''daemon off; pid {self.folder}/pid; error_log {self.folder}/error.log; events {{}}
http {{ access_log off; client_body_temp_path {self.folder}/body; proxy_temp_path {self.folder}/proxy;
fastcgi_temp_path {self.folder}/f; uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s;
server {{ listen 127.0.0.1:{self.port}; location / {{ return 200 "{{\\"db\\": \\"ok\\"}}"; }} }} }}''')
        self.process = None
        self.start()

    def start(self):
        self.process = Process(['/usr/sbin/nginx', '-c', self.config, '-p', self.folder], self.folder + '/log')

    def stop(self):
        self.process.stop()


class Postgres:
    def __init__(self, folder):
        self.port, self.folder = free_port(), os.path.join(folder, 'postgres')
        os.makedirs(self.folder)
        if os.geteuid() == 0:
            os.chmod(folder, 0o711)
            user = pwd.getpwnam('postgres')
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        made = run(*as_postgres(), f'{POSTGRES}/initdb', '-D', self.folder + '/data', '-A', 'trust', '-U', 'postgres',
                   '--no-sync')
        assert made.returncode == 0, made.stderr
        self.start()

    def start(self):
        options = f'-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off -c unix_socket_directories={self.folder}'
        started = subprocess.run([*as_postgres(), f'{POSTGRES}/pg_ctl', '-D', self.folder + '/data', '-w', '-l',
                                  self.folder + '/log', '-o', options, 'start'], check=False, stdout=subprocess.DEVNULL)
        assert started.returncode == 0

    def stop(self):
        subprocess.run([*as_postgres(), f'{POSTGRES}/pg_ctl', '-D', self.folder + '/data', '-m', 'fast', '-w', 'stop'],
                       check=False, stdout=subprocess.DEVNULL)


class Redis:
    def __init__(self, folder):
        self.port, self.folder = free_port(), folder
        self.start()

    def start(self):
        self.process = Process(['redis-server', '--port', str(self.port), '--bind', '127.0.0.1', '--save', '',
                                '--appendonly', 'no'], self.folder + '/redis.log')

    def stop(self):
        self.process.stop()


class Sink(http.server.ThreadingHTTPServer):
    """Takes POSTs; answers as Slack does on /slack."""
    daemon_threads = True

    def __init__(self):
        self.requests = []
        super().__init__(('127.0.0.1', 0), Sink.Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers['Content-Length']))
            self.server.requests.append((self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'ok')

        def log_message(self, *args):
            pass

    def of(self, path):
        return [body for where, body in self.requests if where == path]


class Mail:
    """An SMTP server that insists on STARTTLS and a password."""

    def __init__(self, folder):
        self.messages, self.port = [], free_port()
        self.certificate, key = os.path.join(folder, 'smtp.pem'), os.path.join(folder, 'smtp.key')
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
                        '-keyout', key, '-out', self.certificate, '-days', '2', '-subj', '/CN=localhost',
                        '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'], check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.certificate, key)
        outer = self

        class Handler:
            async def handle_DATA(self, server, session, envelope):
                outer.messages.append((envelope, session.ssl is not None, session.authenticated))
                return '250 taken'

        def authenticate(server, session, envelope, mechanism, data):
            good = data.login == b'muster' and data.password == b'hunter2'
            return AuthResult(success=good, handled=good)

        class Server(Controller):
            def factory(self):
                return SMTP(Handler(), tls_context=tls, require_starttls=True, auth_required=True,
                            authenticator=authenticate, hostname='localhost')

        self.controller = Server(Handler(), hostname='127.0.0.1', port=self.port)
        self.controller.start()

    def subjects(self):
        return [str(email.message_from_bytes(envelope.content, policy=email.policy.default)['Subject'])
                for envelope, _, _ in self.messages]

    def texts(self):
        return [envelope.content.decode('utf-8', 'replace') for envelope, _, _ in self.messages]


SPECS = '''
apiVersion: muster/v1
kind: Check
metadata: {{name: web}}
spec:
  every: 500ms
  timeout: 400ms
  confirm: {{failures: 2, retryEvery: 200ms}}
  description: The shop's front door.
  probe: {{http: {{url: "http://127.0.0.1:{web}/", expect: {{status: [200], json: {{/db: ok}}}}}}}}
---
apiVersion: muster/v1
kind: Check
metadata: {{name: orders-db}}
spec:
  every: 500ms
  timeout: 400ms
  probe: {{postgres: {{dsn: "host=127.0.0.1 port={db} user=postgres dbname=postgres", query: {{sql: "select 1", equals: "1"}}}}}}
---
apiVersion: muster/v1
kind: Check
metadata: {{name: cache}}
spec:
  every: 500ms
  timeout: 400ms
  probe: {{redis: {{address: "127.0.0.1:{redis}", role: master}}}}
---
apiVersion: muster/v1
kind: Receiver
metadata: {{name: hook}}
spec: {{webhook: {{url: "http://127.0.0.1:{sink}/hook"}}}}
---
apiVersion: muster/v1
kind: Receiver
metadata: {{name: slack}}
spec: {{slack: {{urlFrom: {{secret: "file:{folder}/slack.url"}}}}}}
---
apiVersion: muster/v1
kind: Receiver
metadata: {{name: mail}}
spec:
  email: {{server: "localhost:{mail}", from: muster@example.org, to: [oncall@example.org], username: muster,
          password: {{secret: "file:{folder}/smtp.password"}}, caFile: "{certificate}"}}
'''


class BreakAndMend(Case):
    def test_each_server_is_missed_and_its_return_is_told(self):
        web, database, cache = Nginx(self.folder), Postgres(self.folder), Redis(self.folder)
        self.addCleanup(database.stop)
        self.addCleanup(lambda: web.process.kill())
        self.addCleanup(lambda: cache.process.kill())
        sink, mail = Sink(), Mail(self.folder)
        self.addCleanup(sink.shutdown)
        self.addCleanup(mail.controller.stop)
        self.secret('slack.url', f'http://127.0.0.1:{sink.server_port}/slack')
        self.secret('smtp.password', 'hunter2')
        plane = self.plane()
        self.agent(plane, 'db-1')
        plane.apply(SPECS.format(web=web.port, db=database.port, redis=cache.port, sink=sink.server_port,
                                 mail=mail.port, folder=self.folder, certificate=mail.certificate))
        for check in ('web', 'orders-db', 'cache'):
            eventually(f'{check} OK', lambda: (s := plane.state(check, 'db-1')) and s['state'] == 'OK')
        self.assertEqual(sink.requests, [], 'nobody is told that all is well')

        for check, server, reason in (('web', web, 'refused'), ('orders-db', database, 'refused'),
                                      ('cache', cache, 'refused')):
            with self.subTest(check):
                server.stop()
                state = eventually(f'{check} CRITICAL', lambda: (s := plane.state(check, 'db-1'))
                                   and s['state'] == 'CRITICAL' and s['hard'] and s)
                self.assertIn(reason, state['summary'])
                self.told(sink, mail, check, 'raised')
                server.start()
                eventually(f'{check} OK', lambda: plane.state(check, 'db-1')['state'] == 'OK')
                self.told(sink, mail, check, 'resolved')
        envelope, encrypted, authenticated = mail.messages[0]
        self.assertTrue(encrypted and authenticated)
        self.assertEqual(envelope.rcpt_tos, ['oncall@example.org'])
        logs = plane.process.log() + ''.join(mail.texts())
        self.assertNotIn('hunter2', logs)

    def told(self, sink, mail, check, event):
        def hook():
            return [b for b in sink.of('/hook') if b['event'] == event and b['alert']['check'] == check]
        body = eventually(f'webhook {check} {event}', hook)
        self.assertEqual(len(body), 1, 'told once')
        self.assertEqual(body[0]['dedupKey'], body[0]['alert']['id'])
        word = '[RESOLVED]' if event == 'resolved' else '[CRITICAL]'
        slack = eventually(f'Slack {check} {event}', lambda: [b for b in sink.of('/slack') if check in b['text']
                                                              and word in b['text'].upper()])
        self.assertEqual(len(slack), 1, slack)
        self.assertTrue(slack[0]['blocks'])
        mails = eventually(f'email {check} {event}', lambda: [s for s in mail.subjects() if check in s
                                                              and word in s.upper()])
        self.assertEqual(len(mails), 1, mails)

    def secret(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text + '\n')
        os.chmod(path, 0o600)


if __name__ == '__main__':
    main()
