"""Agents with checks of the bed itself, and what is asked of the control plane for them."""
import json
import os
import string
import subprocess

from bed.errors import BedError
from bed.part import Health, Part
from bed.settings import TEMPLATES, write_private

CTL_WITHIN = '5s'


class Ctl:
    """musterctl with the bed's context."""

    def __init__(self, bed):
        self.bed = bed

    def run(self, *argv, stdin=''):
        return subprocess.run([self.bed.settings.program('musterctl'), '--context', self.bed.context,
                               '--timeout', CTL_WITHIN, '--no-input', *argv],
                              input=stdin, capture_output=True, text=True, check=False, timeout=60)

    def __call__(self, *argv, stdin=''):
        ran = self.run(*argv, stdin=stdin)
        if ran.returncode != 0:
            raise BedError(f'musterctl {" ".join(argv)}: exit {ran.returncode}: {ran.stderr.strip()}',
                           remedy='`ha status` tells who is not well')
        return ran.stdout

    def agents(self):
        """{name: item}; None if nobody answers."""
        ran = self.run('get', 'agents', '-o', 'json')
        return {item['name']: item for item in json.loads(ran.stdout)['items']} if ran.returncode == 0 else None


class Agent(Part):
    role = 'agent'

    def argv(self):
        return [self.settings.program('muster-agent'), 'run', '--data', self.folder, '--policy',
                self.settings.path('policy.yaml')]

    def prepare(self):
        write_private(self.settings.path('policy.yaml'), policy(self.bed))
        if os.path.exists(self.folder + '/identity.pem'):
            return
        self.bed.balancers[0].await_well()  # the replica that was started last may not be in yet
        token = self.bed.ctl('token', 'create', '--agent', self.name, '--label', 'bed=ha')
        server = f'127.0.0.1:{self.bed.balancers[0].enrol}'
        ran = subprocess.run([self.settings.program('muster-agent'), 'join', '--data', self.folder, '--server', server,
                              '--token-file', '-'], input=token, capture_output=True, text=True, check=False, timeout=60)
        if ran.returncode != 0:
            raise BedError(f'{self.name}: muster-agent join: exit {ran.returncode}: {ran.stderr.strip()}',
                           remedy='`up` again tries it with another token')

    def health(self):
        known = self.bed.known_agents()
        if known is None:
            return Health(False, detail='nobody answers musterctl')
        item = known.get(self.name, {})
        connected = bool(item.get('connected'))
        gaps = len(item.get('gaps', []))
        detail = f'{item.get("committedSeq", 0)} records stored' + (f', {gaps} gaps' if gaps else '')
        return Health(connected and not gaps, detail=detail if connected else 'not connected')

    def serves(self):
        return self.state() == 'running'


def policy(bed):
    return ('# What the bed\'s checks need: loopback, and two secrets.\n'
            'probes: [http, tcp, postgres, redis]\nnetworks: [127.0.0.0/8]\n'
            f'paths: ["{bed.secrets.folder}"]\n')


def apply_checks(bed):
    """The checks of templates/checks.yaml: the bed watches itself."""
    bed.secrets.write('muster.dsn', f'host=127.0.0.1 port={bed.balancers[0].postgres} user=muster dbname=muster '
                                    f'password={bed.secrets.of("muster")}')
    with open(os.path.join(TEMPLATES, 'checks.yaml'), encoding='utf-8') as file:
        text = string.Template(file.read()).substitute(
            every=bed.settings.every, secrets=bed.secrets.folder, redis=bed.balancers[0].redis,
            ready=bed.replicas[0].http, agents=bed.balancers[0].agents, rest=bed.postgres[0].rest)
    bed.ctl('apply', '-f', '-', stdin=text)
