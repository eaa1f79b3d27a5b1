"""A part of the bed: one process that `ha` starts, how it is asked how it does, and how it is ended."""
import os
import signal
import string
import time
from dataclasses import dataclass

from bed import ask, process
from bed.errors import BedError
from bed.settings import TEMPLATES, write_private

START_WITHIN = 60.0


@dataclass
class Health:
    well: bool
    mark: str = ''
    detail: str = ''


class Part:
    role = ''
    packages = ''
    stop_within = 15.0

    def __init__(self, bed, name):
        self.bed, self.settings, self.name = bed, bed.settings, name
        self.folder = self.settings.path(name)
        self.log = self.settings.path('log', name + '.log')
        self.launched = process.Launched(self.settings.path('run', name + '.json'), self.log)

    # What each kind of part says of itself.

    def ports(self):
        """The ports that it listens on, the one that others use first."""
        return []

    def argv(self):
        raise NotImplementedError

    def prepare(self):
        """Makes its folder and files. Is called before each start."""

    def health(self):
        raise NotImplementedError

    def serves(self):
        """Whether what is started after it may count on it."""
        return self.health().well

    user = None
    environment = None

    # What holds for every part.

    def state(self):
        return self.launched.state()

    def pid(self):
        identity = self.launched.identity()
        return identity.pid if identity and process.state(identity) != 'gone' else None

    def processes(self):
        """Everything that belongs to it, itself first."""
        identity = self.launched.identity()
        if identity is None or process.state(identity) == 'gone':
            return []
        return [identity, *process.descendants(identity)]

    def half(self, which):
        raise BedError(f'{self.name} has no {which} of its own', remedy='--only is for PostgreSQL nodes')

    def look(self):
        """Its health, or that it does not run."""
        state = self.state()
        if state == 'paused':
            return Health(False, detail='paused')
        if state == 'gone':
            return Health(False, detail='does not run')
        return self.health()

    def start(self):
        """Starts it unless it runs; wakes it if it is paused."""
        if self.paused():
            self.signal(signal.SIGCONT)
        if self.state() != 'gone':
            return False
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self.prepare()
        self.refuse_taken_ports()
        try:
            self.launched.start(self.argv(), self.folder, self.environment, self.user)
        except FileNotFoundError as error:
            raise BedError(f'{self.name}: there is no program {error.filename}',
                           remedy=f'`scripts/install-deps ha` installs it ({self.packages})') from error
        return True

    def paused(self):
        """Whether any of its processes is."""
        return any(process.state(one) == 'paused' for one in self.processes())

    def ports_to_take(self):
        return self.ports()

    def refuse_taken_ports(self):
        for port in self.ports_to_take():
            if ask.listens(port):
                raise BedError(f'{self.name}: port {port} is taken by another program',
                               remedy='end that one, or make a bed elsewhere: `up --data DIR --port FIRST`')

    def await_serving(self, within=START_WITHIN):
        self.wait_for(self.serves, within)

    def await_well(self, within=START_WITHIN):
        self.wait_for(lambda: self.look().well, within)

    def wait_for(self, holds, within):
        deadline = time.monotonic() + within
        while not holds():
            if self.state() == 'gone':
                raise BedError(f'{self.name} has ended', self.log, 'mend what its log says, then `up` again')
            if time.monotonic() > deadline:
                raise BedError(f'{self.name} is not well after {within:.0f} s: {self.look().detail}', self.log,
                               'a slow machine may need a second `up`; `ha status` tells who is not well')
            time.sleep(0.1)

    def signal(self, number, only=None):
        """Sends it to every process of this part, or of one half of it; how many there were."""
        return sum(process.send(one, number) for one in (self.half(only) if only else self.processes()))

    def ask_to_end(self):
        """SIGTERM to itself; what is below follows. A paused one is woken, else it would not hear."""
        for one in self.processes()[:1]:
            process.send(one, signal.SIGTERM)
        self.signal(signal.SIGCONT)

    def end(self, asked):
        """Waits for those that were there when it was asked to end; the ones that do not go are killed."""
        for one in process.await_end(asked, self.stop_within):
            process.send(one, signal.SIGKILL)
        left = process.await_end(asked, 5)
        if left:
            raise BedError(f'{self.name}: pid {left[0].pid} does not end', remedy='look at it: `ps -o stat,wchan -p PID`')
        self.launched.forget()

    def fill(self, template, target, **values):
        """Writes a file from templates/."""
        with open(os.path.join(TEMPLATES, template), encoding='utf-8') as file:
            text = string.Template(file.read()).substitute(values)
        write_private(os.path.join(self.folder, target), text, self.user)
