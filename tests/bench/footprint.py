#!/usr/bin/python3
"""What an agent costs at rest: 50 http checks each 10 s. Prints resident memory and share of a core.

MUSTER_BENCH_SECONDS says how long to measure (default 60).
"""
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'integration'))
from harness import Agent, CountingServer, Plane, eventually  # noqa: E402

CHECK = '''---
apiVersion: muster/v1
kind: Check
metadata: {{name: c-{i}}}
spec: {{every: 10s, timeout: 2s, probe: {{http: {{url: "http://127.0.0.1:{port}/{i}"}}}}}}
'''


def memory(pid):
    """Resident and proportional MiB."""
    with open(f'/proc/{pid}/smaps_rollup', encoding='utf-8') as file:
        sizes = {line.split(':')[0]: int(line.split()[1]) for line in file if line.endswith('kB\n')}
    return sizes['Rss'] / 1024, sizes['Pss'] / 1024


def cpu_seconds(pid):
    with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
        parts = file.read().rsplit(')', 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf('SC_CLK_TCK')


def main():
    seconds = int(os.environ.get('MUSTER_BENCH_SECONDS', '60'))
    with tempfile.TemporaryDirectory(prefix='muster-bench-') as folder:
        server, plane = CountingServer(), Plane(folder).start()
        agent = Agent(plane, folder, 'host-1').start()
        try:
            plane.apply(''.join(CHECK.format(i=i, port=server.port) for i in range(50)))
            eventually('every check has reported', lambda: len(plane.items('get', 'states')) == 50, within=40)
            before, began = cpu_seconds(agent.process.pid), time.monotonic()
            time.sleep(seconds)
            share = (cpu_seconds(agent.process.pid) - before) / (time.monotonic() - began)
            resident, proportional = memory(agent.process.pid)
            stored = plane.metrics()
        finally:
            agent.process.stop()
            plane.process.stop()
    del stored
    print(f'agent with 50 http checks each 10 s: {resident:.1f} MiB resident ({resident / 20:.2f} of the reach of 20), '
          f'{proportional:.1f} proportional; {share * 100:.2f} % of a core ({share / 0.005:.2f} of the reach of 0.5)')


if __name__ == '__main__':
    main()
