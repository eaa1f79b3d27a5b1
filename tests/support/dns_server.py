#!/usr/bin/env python3
"""A small DNS server for tests: dns_server.py PORT. Answers over UDP on 127.0.0.1 for names under
example.test, NXDOMAIN for missing.example.test, SERVFAIL for broken.example.test, and nothing at all
for silent.example.test."""
import socket
import struct
import sys


def name_bytes(name):
    return b''.join(bytes([len(part)]) + part.encode() for part in name.split('.')) + b'\0'


RECORDS = {
    ('www.example.test', 1): [socket.inet_aton('192.0.2.1'), socket.inet_aton('192.0.2.2')],
    ('www.example.test', 28): [socket.inet_pton(socket.AF_INET6, '2001:db8::1')],
    ('alias.example.test', 5): [name_bytes('www.example.test')],
    ('example.test', 15): [struct.pack('>H', 10) + name_bytes('mail.example.test')],
    ('example.test', 16): [b'\x07v=spf1 \x04-all'],
    ('example.test', 2): [name_bytes('ns1.example.test')],
}


def answer(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    name, kind = '.'.join(labels), struct.unpack('>H', query[at + 1:at + 3])[0]
    if name.startswith('silent.'):
        return None
    code = 3 if name.startswith('missing.') else 2 if name.startswith('broken.') else 0
    records = RECORDS.get((name, kind), [])
    head = query[:2] + struct.pack('>HHHHH', 0x8180 | code, 1, len(records), 0, 0)
    body = b''.join(b'\xc0\x0c' + struct.pack('>HHIH', kind, 1, 60, len(data)) + data for data in records)
    return head + query[12:at + 5] + body


def main():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(('127.0.0.1', int(sys.argv[1])))
    print('ready', flush=True)
    while True:
        query, peer = server.recvfrom(4096)
        reply = answer(query)
        if reply is not None:
            server.sendto(reply, peer)


main()
