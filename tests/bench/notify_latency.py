#!/usr/bin/python3
"""From a server's first failing answer to the webhook that accepted the notification.

The check runs each 200 ms and asks for no confirmation, so up to 200 ms of each figure is the wait for the next
probe. MUSTER_BENCH_ROUNDS says how often (default 30).
"""
import http.server
import json
import os
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'integration'))
from harness import Agent, CountingServer, Plane, eventually  # noqa: E402

SPECS = '''
apiVersion: muster/v1
kind: Check
metadata: {{name: api}}
spec: {{every: 200ms, timeout: 150ms, probe: {{http: {{url: "http://127.0.0.1:{port}/"}}}}}}
---
apiVersion: muster/v1
kind: Receiver
metadata: {{name: hook}}
spec: {{webhook: {{url: "http://127.0.0.1:{sink}/"}}}}
'''


def main():
    rounds = int(os.environ.get('MUSTER_BENCH_ROUNDS', '30'))
    told = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
            told.append((time.monotonic(), body['event']))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    sink = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    took = []
    with tempfile.TemporaryDirectory(prefix='muster-bench-') as folder:
        server, plane = CountingServer(), Plane(folder).start()
        agent = Agent(plane, folder, 'host-1').start()
        try:
            plane.apply(SPECS.format(port=server.port, sink=sink.server_port))
            eventually('OK', lambda: (s := plane.state('api', 'host-1')) and s['state'] == 'OK')
            for _ in range(rounds):
                for status, event in ((503, 'raised'), (200, 'resolved')):
                    count, began = len(told), time.monotonic()
                    server.status = status
                    eventually(event, lambda: len(told) > count and told[-1][1] == event, every=0.002)
                    took.append(told[-1][0] - began)
        finally:
            agent.process.stop()
            plane.process.stop()
    took.sort()
    p50, p99 = took[len(took) // 2], took[min(len(took) - 1, int(len(took) * 0.99))]
    print(f'failure or mending → notification accepted, {len(took)} times: p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms '
          f'({p99 / 1.0:.2f} of the reach of 1 s), most {took[-1] * 1000:.0f} ms')


if __name__ == '__main__':
    main()
