"""Where a bed lives and how it was asked to be: DIR/ha.json, written by the first `up`."""
import json
import os
from dataclasses import asdict, dataclass

from bed.errors import BedError

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
TEMPLATES = os.path.join(CHECKOUT, 'deploy', 'ha', 'templates')
DEFAULT_DATA = os.path.join(CHECKOUT, '.muster-ha')
DEFAULT_BIN = os.path.join(CHECKOUT, 'build', 'bin')
SPAN = 100  # ports that a bed takes, from its first one


@dataclass
class Settings:
    data: str
    bin: str = DEFAULT_BIN
    port: int = 17400
    etcd: int = 3
    agents: int = 5
    replication: str = 'sync'
    redis: bool = True
    every: str = '1s'

    def path(self, *parts):
        return os.path.join(self.data, *parts)

    def program(self, name):
        path = os.path.join(self.bin, name)
        if not os.access(path, os.X_OK):
            raise BedError(f'there is no program {path}', remedy='`make build`, or say where it is: `up --bin DIR`')
        return path

    @property
    def file(self):
        return self.path('ha.json')

    def save(self):
        write_private(self.file, json.dumps(asdict(self), indent=2) + '\n')


def load(data):
    """The settings of the bed in `data`; None if there is none."""
    path = os.path.join(data, 'ha.json')
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding='utf-8') as file:
            return Settings(**{**json.load(file), 'data': data})
    except (ValueError, TypeError) as error:
        raise BedError(f'{path} cannot be read: {error}', remedy=f'`down --data {data}`, then move the folder away')


def write_private(path, text, owner=None):
    """Replaces a file as a whole; nobody else may read it."""
    made = path + '.new'
    with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w', encoding='utf-8') as file:
        file.write(text)
    if owner:
        os.chown(made, owner.pw_uid, owner.pw_gid)
    os.replace(made, path)
