"""A TCP proxy that can be slow, hold back what comes, be cut, and come back. For 127.0.0.1 only.

    proxy = TcpProxy(target_port, delay=0.25)   # each direction, for each piece that comes
    proxy.hold()                                 # nothing passes; connections stand, new ones are taken
    proxy.hold(UP)                               # only towards the target; DOWN: only towards who connected
    proxy.cut()                                  # connections end, new ones are refused
    proxy.mend()                                 # what was held goes on
"""
import socket
import threading
import time

UP, DOWN = 'up', 'down'


class TcpProxy:
    def __init__(self, target, delay=0.0, port=0):
        self.target, self.delay = target, delay
        self.lock, self.live, self.whole, self.closed = threading.Lock(), set(), True, False
        self.held, self.changed = frozenset(), threading.Condition(self.lock)
        self.listener = socket.create_server(('127.0.0.1', port), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, *directions):
        with self.lock:
            self.held = frozenset(directions or (UP, DOWN))

    def cut(self):
        with self.lock:
            self.whole = False
            ends, self.live = self.live, set()
            self.changed.notify_all()
        for end in ends:
            self._end(end)

    def mend(self):
        with self.lock:
            self.whole, self.held = True, frozenset()
            self.changed.notify_all()

    def close(self):
        self.closed = True
        self.listener.close()
        self.cut()

    @staticmethod
    def _end(sock):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        sock.close()

    def _accept(self):
        while not self.closed:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                whole = self.whole
            try:
                server = socket.create_connection(('127.0.0.1', self.target), timeout=5) if whole else None
            except OSError:
                server = None
            if server is None:
                self._end(client)
                continue
            server.settimeout(None)
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.live |= {client, server}
            for pair in ((client, server, UP), (server, client, DOWN)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, sink, direction):
        try:
            while data := source.recv(1 << 16):
                if self.delay:
                    time.sleep(self.delay)
                if not self._pass({direction}, sink):
                    break
                sink.sendall(data)
        except OSError:
            pass
        # That one end has hung up is news too, and passes no way that is held.
        self._pass({UP, DOWN}, sink)
        with self.lock:
            self.live -= {source, sink}
        for sock in (source, sink):
            self._end(sock)

    def _pass(self, directions, sock):
        """Waits while one of them is held. False if the connection was cut meanwhile."""
        with self.lock:
            self.changed.wait_for(lambda: not self.held & directions or sock not in self.live)
            return sock in self.live
