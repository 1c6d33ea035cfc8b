"""Instances by name, with a resolver that hangs, fails and changes its answers.

The cases are in `names.py`. They run in namespaces of their own, where /etc/resolv.conf names a
resolver of theirs. Needs root.
"""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path


class Names(unittest.TestCase):
    def test_names_that_hang_fail_and_change(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as resolv:
            resolv.write("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
            resolv.flush()
            inside = 'mount --bind "$1" /etc/resolv.conf && exec "$2" -m unittest -v names'
            words = ["unshare", "--net", "--mount", "sh", "-c", inside, "sh", resolv.name,
                     sys.executable]
            done = subprocess.run(words, cwd=Path(__file__).parent, timeout=600)
        self.assertEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main()
