"""What a person is told when something does not work: what, the end of its log, and the remedy."""


class BedError(Exception):
    def __init__(self, what, log=None, remedy=None):
        super().__init__(what)
        self.what, self.log, self.remedy = what, log, remedy

    def text(self):
        lines = [f'ha: {self.what}']
        tail = last_lines(self.log, 8) if self.log else []
        if tail:
            lines += [f'  the end of {self.log}:'] + [f'    {line}' for line in tail]
        if self.remedy:
            lines.append(f'  {self.remedy}')
        return '\n'.join(lines)


def last_lines(path, count):
    try:
        with open(path, 'rb') as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 65536))
            return file.read().decode('utf-8', 'replace').splitlines()[-count:]
    except OSError:
        return []
