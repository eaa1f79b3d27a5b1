#!/usr/bin/env python3
"""Plants one offence of each kind in a tree of its own, and expects each to be found."""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LAYERS = 'lib/base:\nlib/net: lib/base\nlib/decide: lib/base\npure: lib/decide\n'
OFFENCES = {
    'layers': ('lib/base/a.cc', '#include "lib/net/b.h"\n'),
    'purity': ('lib/decide/a.cc', '#include <thread>\n'),
    'threads': ('lib/net/a.cc', 'std::thread t;\n'),
    'clocks': ('lib/net/b.cc', 'auto t = absl::Now();\n'),
    'unfinished': ('lib/net/c.cc', '// TO' + 'DO: finish\n'),
    'headers': ('lib/net/d.h', 'int x;\n'),
}


def findings(files, check):
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), 'w', encoding='utf-8') as file:
                file.write(text)
        ran = subprocess.run([sys.executable, os.path.join(HERE, 'check_style.py'), root, check],
                             capture_output=True, text=True, check=False)
        return ran.stdout


def main():
    clean = {'docs/layers.txt': LAYERS, 'lib/net/ok.h': '// What it is.\n#pragma once\n',
             'lib/base/ok.cc': 'mkdtemp("/tmp/x-XXXXXX"); std::thread::id id;\n'}
    for check, (path, text) in OFFENCES.items():
        assert findings(clean, check) == '', (check, findings(clean, check))
        assert path in findings({**clean, path: text}, check), check
    return 0


if __name__ == '__main__':
    sys.exit(main())
