"""Clients that are slow on purpose, as slowhttptest makes them: they are closed in their time, and
whoever is not slow notices nothing of them."""
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import http2
import inlet

CONNECTIONS = 300
# How long the tool would go on, in seconds, if all of its connections were not closed before.
LENGTH_S = 120
# The deadlines are in `inlet_server::Deadlines`; a sweep is late by half a second, and the
# connections are opened over CONNECTIONS / 100 seconds and more where the machine is busy.
SLACK_S = 8
FILE_BYTES = 16 << 20
STREAMS = 100


class SlowClients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="inlet-slow-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        (cls.folder / "static").mkdir()
        (cls.folder / "static" / "large.bin").write_bytes(bytes(FILE_BYTES))
        cls.up = inlet.Up("--static", cls.folder / "static")
        cls.addClassCleanup(cls.up.stop)
        cls.port = cls.up.address("https")[1]

    def attack(self, name, path, *words):
        """Attacks, while a well-behaved client asks, and returns the seconds until the edge had
        closed the last of the slow connections.

        That is asked of the edge: a client whose window is shut may not notice a reset.
        """
        begun = time.monotonic()
        with inlet.WellBehaved(self.up) as client:
            attacker = subprocess.Popen(
                ["slowhttptest", "-c", str(CONNECTIONS), "-r", "100", "-l", str(LENGTH_S), "-p",
                 "3", "-u", f"https://127.0.0.1:{self.port}{path}", *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            try:
                opened = lambda: self.up.status()["connections_open"]
                inlet.until("all are open", lambda: opened() >= CONNECTIONS, every=0.2)
                # Those that are not slow are open, too.
                inlet.until("all are closed", lambda: opened() <= 4, every=0.2)
                took_s = time.monotonic() - begun
            finally:
                attacker.kill()
                attacker.wait()
        client.check(self)
        return took_s

    def test_heads_that_come_slowly_are_closed_after_ten_seconds(self):
        took_s = self.attack("headers", "/", "-H", "-i", "1", "-x", "24")
        self.assertLessEqual(took_s, 10 + SLACK_S)

    def test_bodies_that_come_slowly_are_closed_after_thirty_seconds(self):
        took_s = self.attack("body", "/api/save", "-B", "-i", "2", "-s", "8192", "-x", "10", "-f",
                             "application/json")
        self.assertLessEqual(took_s, 30 + SLACK_S)

    def test_answers_that_nobody_takes_are_reset_after_thirty_seconds(self):
        took_s = self.attack("read", "/static/large.bin", "-X", "-w", "512", "-y", "1024", "-n",
                             "5", "-z", "32")
        self.assertLessEqual(took_s, 30 + SLACK_S)

    def test_answers_over_http2_whose_windows_are_shut_are_reset_after_thirty_seconds(self):
        with inlet.WellBehaved(self.up) as client, http2.Attacker(self.up) as attacker:
            begun = time.monotonic()
            attacker.shut_windows()
            for stream in range(1, 2 * STREAMS, 2):
                attacker.get(stream, b"/static/large.bin")
            attacker.answer_pings_until_closed(LENGTH_S)
            took_s = time.monotonic() - begun
        client.check(self)
        self.assertGreater(took_s, 25, "the deadline is thirty")
        self.assertLessEqual(took_s, 30 + SLACK_S)


if __name__ == "__main__":
    unittest.main(verbosity=2)
