#!/usr/bin/python3
"""A mail server for tests, on aiosmtpd.

    smtp_server.py --port N --record FILE [--certificate FILE] [--key FILE]
                   [--user NAME --password TEXT] [--defer N] [--refuse] [--hang]

Each accepted message becomes a JSON line in the record: from, to, tls, user, message. With a certificate it
offers STARTTLS, with a user it asks for AUTH (and takes it without TLS too, so that a client's own care is
what is tested: passwords that it saw are in the record, as {"login": …}). --defer N answers 451 to the
first N messages, --refuse answers 550 to all, --hang never answers a message.
"""
import argparse
import asyncio
import json
import signal
import ssl
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--record", required=True)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--defer", type=int, default=0)
    parser.add_argument("--refuse", action="store_true")
    parser.add_argument("--hang", action="store_true")
    arguments = parser.parse_args()

    def record(entry):
        with open(arguments.record, "a", encoding="utf-8") as out:
            out.write(json.dumps(entry) + "\n")

    def authenticate(_server, session, _envelope, mechanism, data):
        user, password = data.login.decode(), data.password.decode()
        right = user == arguments.user and password == arguments.password
        record({"login": user, "right": right, "tls": session.ssl is not None, "mechanism": mechanism})
        return AuthResult(success=right, handled=False, auth_data=user if right else None)

    class Mailbox:
        def __init__(self):
            self.defer = arguments.defer

        async def handle_DATA(self, _server, session, envelope):
            if arguments.hang:
                await asyncio.sleep(3600)
            if arguments.refuse:
                return "550 5.7.1 not wanted here"
            if self.defer > 0:
                self.defer -= 1
                return "451 4.3.0 come back later"
            record({
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "tls": session.ssl is not None,
                "user": session.auth_data or "",
                "message": envelope.content.decode("utf-8", "replace"),
            })
            return "250 OK"

    context = None
    if arguments.certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(arguments.certificate, arguments.key)

    class Server(Controller):
        def factory(self):
            needs = {}
            if arguments.user:
                needs = {"authenticator": authenticate, "auth_required": True, "auth_require_tls": False}
            return SMTP(self.handler, hostname="localhost", tls_context=context, **needs)

    server = Server(Mailbox(), hostname="127.0.0.1", port=arguments.port)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    server.start()
    stopped.wait()
    server.stop(no_assert=True)


if __name__ == "__main__":
    main()
