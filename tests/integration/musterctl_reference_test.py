"""docs/reference/musterctl.md names each command and flag of the program, and no others."""
import os
import pathlib
import re
import subprocess
import unittest

PROGRAM = pathlib.Path(os.environ["MUSTER_BIN_DIR"]) / "musterctl"
PAGE = pathlib.Path(__file__).parents[2] / "docs/reference/musterctl.md"


def help_of(*command):
    return subprocess.run([PROGRAM, *command, "--help"], check=True, capture_output=True, text=True, timeout=30).stdout


def section(text, title):
    found = re.search(rf"^{title}:\n((?:  .*\n)+)", text, re.M)
    return found.group(1) if found else ""


def flags_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--help"}


def walk(command=()):
    """Each command with its own flags."""
    text = help_of(*command)
    yield " ".join(command), flags_in(section(text, "Options"))
    for name in re.findall(r"^  ([a-z]+) ", section(text, "Subcommands"), re.M):
        yield from walk((*command, name))


class Reference(unittest.TestCase):
    def test_page_and_program_agree(self):
        parts = re.split(r"^##+ (.*)\n", PAGE.read_text(), flags=re.M)
        told = {title: set() for title in parts[1::2]}
        for title, body in zip(parts[1::2], parts[2::2]):
            told[title] = flags_in("".join(re.findall(r"^\| `(?:.*?)` \|", body, re.M)))
        real = {name or "Global flags": flags for name, flags in walk()}
        self.assertEqual(told.keys(), real.keys())
        for name, flags in real.items():
            self.assertEqual(told[name], flags, name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
