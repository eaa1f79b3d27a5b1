"""A network of one test: hosts in network namespaces of their own, around a router, which is the namespace that the
test itself moves into. Each direction between two hosts can be cut: packets then vanish without a word. All of it ends
with the processes that hold it. Needs root, and iproute2.

    why = network.enter()                 # before any thread starts; None, or why there can be none
    host = network.Host(3)                # 10.77.3.2; the router is 10.77.3.1 to it
    subprocess.run([*host.inside, 'ping', other.address])
    network.cut(host, other); network.mend()
"""
import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000
ANY = 10  # of the rules' priorities: before those that route


def ip(*argv):
    subprocess.run(['ip', *argv], check=True, capture_output=True, text=True)


def enter():
    if os.geteuid() != 0:
        return 'network namespaces need root'
    if not all(os.access(path, os.X_OK) for path in ('/usr/bin/nsenter', '/usr/bin/unshare')):
        return 'nsenter and unshare are not installed; `scripts/install-deps test`'
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        return f'no network namespace: {os.strerror(ctypes.get_errno())}'
    try:
        ip('link', 'set', 'lo', 'up')
        with open('/proc/sys/net/ipv4/ip_forward', 'w', encoding='ascii') as file:
            file.write('1')
    except (OSError, subprocess.CalledProcessError) as error:
        return f'no network in the namespace: {error}'
    return None


class Host:
    def __init__(self, number):
        self.address, self.router = f'10.77.{number}.2', f'10.77.{number}.1'
        self.holder = subprocess.Popen(['unshare', '--net', 'sh', '-c', 'echo up; exec sleep infinity'],
                                       stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        self.inside = ('nsenter', '-t', str(self.holder.pid), '-n', '--')
        self.link = f'host{number}'
        ip('link', 'add', self.link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', str(self.holder.pid))
        ip('addr', 'add', f'{self.router}/24', 'dev', self.link)
        ip('link', 'set', self.link, 'up')
        for argv in (('link', 'set', 'lo', 'up'), ('addr', 'add', f'{self.address}/24', 'dev', 'eth0'),
                     ('link', 'set', 'eth0', 'up'), ('route', 'add', 'default', 'via', self.router)):
            subprocess.run([*self.inside, 'ip', *argv], check=True, capture_output=True)

    def vanish(self):
        """Without a word: what it sends is dropped before it leaves. It is not seen again."""
        subprocess.run([*self.inside, 'ip', 'rule', 'add', 'priority', str(ANY), 'blackhole'], check=True)

    def end(self):
        """Its programs must have ended before."""
        subprocess.run(['ip', 'link', 'del', self.link], check=False, capture_output=True)
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


_cuts = []


def cut(source, target):
    """What `source` sends to `target` vanishes; the other direction is as it was."""
    rule = ('from', source.address, 'to', target.address, 'priority', str(ANY), 'blackhole')
    ip('rule', 'add', *rule)
    _cuts.append(rule)


def mend():
    while _cuts:
        ip('rule', 'del', *_cuts.pop())
