"""A full disk under the spool or the store shows, loses nothing silently, and heals without a restart."""
import os
import subprocess
import time
import unittest

from harness import Agent, Case, CountingServer, Plane, eventually, main

CHECK = '''
apiVersion: muster/v1
kind: Check
metadata: {{name: api}}
spec:
  every: 100ms
  timeout: 100ms
  probe: {{http: {{url: "http://127.0.0.1:{port}/"}}}}
'''


def mountable(folder):
    os.makedirs(folder)
    return subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=3m,mode=0700', 'tmpfs', folder], check=False,
                          capture_output=True).returncode == 0


def fill(folder):
    path = os.path.join(folder, 'filler')
    with open(path, 'wb', buffering=0) as file:
        for size in (65536, 4096, 512):
            try:
                while True:
                    file.write(b'x' * size)
            except OSError:
                continue
    return path


@unittest.skipUnless(os.geteuid() == 0, 'needs to mount a small file system')
class DiskFull(Case):
    def small_disk(self, name):
        folder = os.path.join(self.folder, name)
        if not mountable(folder):
            self.skipTest('this machine lets nobody mount a file system')
        self.addCleanup(subprocess.run, ['umount', '-l', folder], check=False)
        return folder

    def test_under_the_spool(self):
        disk = self.small_disk('spool')
        plane, server = self.plane(), CountingServer()
        agent = Agent(plane, disk, 'host-1').start()
        self.own(agent.process)
        plane.apply(CHECK.format(port=server.port))
        eventually('OK', lambda: (s := plane.state('api', 'host-1')) and s['state'] == 'OK')
        filler = fill(disk)
        time.sleep(4)
        self.assertTrue(agent.process.running(), agent.process.log()[-1000:])
        os.unlink(filler)
        stored = plane.agent('host-1')['committedSeq']
        eventually('records again', lambda: plane.agent('host-1')['committedSeq'] > stored + 10)
        history = plane.stream('history', 'api', '--agent', 'host-1')
        seqs = [entry['seq'] for entry in history if not entry.get('gap')]
        self.assertEqual(len(seqs), len(set(seqs)))
        gaps = plane.agent('host-1')['gaps']
        self.assertTrue(gaps, 'what was not written is named')
        self.assertIn('DISK_FULL', gaps[0]['reason'])

    def test_under_the_store(self):
        disk = self.small_disk('store')
        plane, server = Plane(disk), CountingServer()
        plane.start()
        self.own(plane.process)
        agent = Agent(plane, self.folder, 'host-1').start()
        self.own(agent.process)
        plane.apply(CHECK.format(port=server.port))
        eventually('OK', lambda: (s := plane.state('api', 'host-1')) and s['state'] == 'OK')
        filler = fill(disk)
        eventually('it says so', lambda: 'takes no results' in plane.process.log(), within=60)
        self.assertTrue(plane.process.running(), plane.process.log()[-1000:])
        os.unlink(filler)
        target = server.count()
        eventually('everything is stored', lambda: len(plane.stream('history', 'api', '--agent', 'host-1')) >= target - 5,
                   within=60)
        self.assertEqual(plane.agent('host-1')['gaps'], [])


if __name__ == '__main__':
    main()
