"""Passwords of a bed: drawn once, kept in files of mode 0600, never in a command line or the environment."""
import os
import secrets

from bed.settings import write_private

USERS = {'superuser': 'postgres', 'replication': 'replicator', 'rewind': 'rewinder'}


class Secrets:
    def __init__(self, settings):
        self.settings = settings
        self.folder = settings.path('secrets')

    def path(self, name):
        return os.path.join(self.folder, name)

    def of(self, name):
        """The password of that name; drawn when it is asked for the first time."""
        path = self.path(name + '.password')
        if not os.path.exists(path):
            self.write(name + '.password', secrets.token_urlsafe(24))
        with open(path, encoding='utf-8') as file:
            return file.read().strip()

    def write(self, name, text):
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        write_private(self.path(name), text + '\n')
        return self.path(name)

    def postgres(self):
        """What the template of Patroni's file is filled with."""
        return {f'{kind}_password': self.of(kind) for kind in (*USERS, 'rest')}

    def passfile(self):
        """For libpq: signs the control plane in, whatever host and port it goes through."""
        return self.write('pgpass', f'*:*:muster:muster:{self.of("muster")}')

    def admin_passfile(self):
        return self.write('pgpass.admin', f'*:*:*:postgres:{self.of("superuser")}')
