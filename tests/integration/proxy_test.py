"""The proxy of the partition tests holds back what it is told to, loses nothing of it, and tells neither end."""
import socket
import sys
import unittest

from harness import SUPPORT, main

sys.path.insert(0, SUPPORT)
from tcp_proxy import DOWN, UP, TcpProxy  # noqa: E402  pylint: disable=wrong-import-position

SOON, SURELY = 0.2, 10.0


class Hold(unittest.TestCase):
    def setUp(self):
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(self.listener.close)
        self.proxy = TcpProxy(self.listener.getsockname()[1])
        self.addCleanup(self.proxy.close)
        self.client = socket.create_connection(('127.0.0.1', self.proxy.port))
        self.addCleanup(self.client.close)
        self.server, _ = self.listener.accept()
        self.addCleanup(self.server.close)

    def expect(self, sock, data):
        sock.settimeout(SURELY)
        self.assertEqual(sock.recv(100), data)

    def expect_nothing(self, sock):
        sock.settimeout(SOON)
        with self.assertRaises(socket.timeout):
            sock.recv(100)

    def test_one_direction_waits_while_the_other_passes(self):
        self.proxy.hold(UP)
        self.client.sendall(b'request')
        self.server.sendall(b'news')
        self.expect(self.client, b'news')
        self.expect_nothing(self.server)
        self.proxy.mend()
        self.expect(self.server, b'request')

    def test_both_wait_and_nothing_is_lost(self):
        self.proxy.hold()
        self.client.sendall(b'request')
        self.server.sendall(b'news')
        self.expect_nothing(self.client)
        self.expect_nothing(self.server)
        self.proxy.mend()
        self.expect(self.server, b'request')
        self.expect(self.client, b'news')

    def test_that_one_end_hung_up_waits_too(self):
        for direction in (UP, DOWN):
            with self.subTest(direction):
                self.setUp()
                self.proxy.hold(direction)
                self.client.close()
                self.expect_nothing(self.server)
                self.proxy.mend()
                self.expect(self.server, b'')

    def test_what_is_held_is_gone_with_its_connection(self):
        self.proxy.hold()
        self.client.sendall(b'request')
        self.expect_nothing(self.server)
        self.proxy.cut()
        self.expect(self.server, b'')
        self.proxy.mend()
        again = socket.create_connection(('127.0.0.1', self.proxy.port))
        self.addCleanup(again.close)
        server, _ = self.listener.accept()
        self.addCleanup(server.close)
        again.sendall(b'anew')
        self.expect(server, b'anew')


if __name__ == '__main__':
    main()
