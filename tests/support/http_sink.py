#!/usr/bin/python3
"""An HTTP receiver for tests.

    http_sink.py --port N --record FILE [--script FILE]

Each request becomes a JSON line in the record: method, path, headers, body. The script holds one JSON
object a line, each the answer to one request, in order: {"status": 429, "headers": {"Retry-After": "7"},
"body": "…", "hang": seconds}. When it is used up, or without one, the answer is 200 "ok".
"""
import argparse
import http.server
import json
import threading
import time


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--record", required=True)
    parser.add_argument("--script")
    arguments = parser.parse_args()
    lock = threading.Lock()
    answers = []
    if arguments.script:
        with open(arguments.script, encoding="utf-8") as script:
            answers = [json.loads(line) for line in script if line.strip()]

    class Sink(http.server.BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            line = json.dumps({
                "method": self.command,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": body.decode("utf-8", "replace"),
            })
            with lock:
                with open(arguments.record, "a", encoding="utf-8") as record:
                    record.write(line + "\n")
                planned = answers.pop(0) if answers else {}
            time.sleep(planned.get("hang", 0))
            self.send_response(planned.get("status", 200))
            content = planned.get("body", "ok").encode()
            for name, value in planned.get("headers", {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer.daemon_threads = True
    http.server.ThreadingHTTPServer(("127.0.0.1", arguments.port), Sink).serve_forever()


if __name__ == "__main__":
    main()
