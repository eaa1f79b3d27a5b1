"""A webhook receiver that keeps a journal of what it is told, in the order in which it came.

    sink = ToldSink({'/quick': 0.0, '/slow': 0.1})   # seconds that it takes over each answer
    sink.told()                                       # [{'n', 'at', 'receiver', 'key', 'event', 'dedup'}]
"""
import http.server
import json
import threading
import time


class ToldSink(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, delays, address='127.0.0.1'):
        self.delays, self.lock, self.journal = delays, threading.Lock(), []
        super().__init__((address, 0), ToldSink.Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def told(self):
        with self.lock:
            return list(self.journal)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
            sink = self.server
            with sink.lock:
                sink.journal.append({
                    'n': len(sink.journal), 'at': time.time(), 'receiver': self.path.lstrip('/'),
                    'key': self.headers['Idempotency-Key'], 'event': body['event'], 'dedup': body['dedupKey']})
            time.sleep(sink.delays.get(self.path, 0))
            try:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'ok')
            except OSError:
                pass  # who told was killed; it will be told again

        def log_message(self, *args):
            pass
