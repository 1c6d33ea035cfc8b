"""HTTP/2: many streams at once, and the attacks that are made of well-formed frames."""
import json
import re
import struct
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import inlet
from http2 import (CONTINUATION, END_HEADERS, END_STREAM, GET, HEADERS, PING, RST_STREAM, SETTINGS,
                   Attacker, frame)

# `ENHANCE_YOUR_CALM` of RFC 9113.
CALM = 11


class Http2(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="inlet-http2-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.up = inlet.Up()
        cls.addClassCleanup(cls.up.stop)
        host, port = cls.up.address("https")
        cls.url = f"https://{host}:{port}"

    def h2load(self, requests, *words):
        done = subprocess.run(["h2load", "-n", str(requests), *map(str, words)], check=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                              timeout=120)
        self.assertIn("Application protocol: h2", done.stdout)
        counted = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx",
                            done.stdout)
        self.assertEqual(tuple(map(int, counted.groups())), (requests, 0, 0, 0), done.stdout)
        failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
        self.assertEqual(tuple(map(int, failed.groups())), (0, 0, 0), done.stdout)

    def test_every_request_on_many_streams_is_answered(self):
        self.h2load(5_000, "-c", 10, "-m", 100, f"{self.url}/healthz", f"{self.url}/")

    def test_every_document_on_many_streams_is_taken_and_stored_once(self):
        body = self.folder / "body.json"
        body.write_text(json.dumps({"text": "x" * 240}))
        stored = lambda: json.loads(self.up.get("/")[1])["store"]["documents"]
        before = stored()
        self.h2load(3_000, "-c", 8, "-m", 64, "-d", body, "-H", "content-type: application/json",
                    "-H", f"x-auth-token: {inlet.TOKEN}", f"{self.url}/api/save")
        inlet.until("all are stored", lambda: stored() == before + 3_000)

    def test_large_answers_on_many_streams_come_whole_over_small_windows(self):
        self.h2load(400, "-c", 4, "-m", 50, "-w", 10, "-W", 16, f"{self.url}/openapi.json")

    def attacked(self, pieces):
        with inlet.WellBehaved(self.up, pause_s=0.02) as client:
            with Attacker(self.up) as attacker:
                outcome = attacker.flood(pieces)
            inlet.until("others are asked meanwhile", lambda: len(client.took_s) > 5)
        client.check(self)
        return outcome

    def test_streams_that_are_opened_and_reset_at_once_end_the_connection(self):
        def pieces():
            for index in range(50_000):
                stream = 2 * index + 1
                yield (frame(HEADERS, END_STREAM | END_HEADERS, stream, GET)
                       + frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
        sent, code = self.attacked(pieces())
        self.assertLess(sent, 50_000, "it was let go on")
        self.assertIn(code, (CALM, None))

    def test_a_head_without_end_ends_the_connection(self):
        def pieces():
            yield frame(HEADERS, END_STREAM, 1, GET)
            # A literal header that is not indexed, again and again.
            field = b"\x00\x04evil" + b"\x7f\x81\x07" + b"x" * 1024
            for _ in range(20_000):
                yield frame(CONTINUATION, 0, 1, field)
        sent, _ = self.attacked(pieces())
        self.assertLess(sent, 20_000, "it was let go on")

    def test_pings_and_settings_that_nobody_reads_the_answers_of_take_no_memory(self):
        def pieces():
            for _ in range(20_000):
                yield frame(PING, 0, 0, b"12345678") * 20 + frame(SETTINGS, 0, 0) * 20
        begun = time.monotonic()
        with inlet.WellBehaved(self.up, pause_s=0.02) as client, Attacker(self.up) as attacker:
            attacker.socket.settimeout(3)
            attacker.flood(pieces())
            inlet.until("others are asked meanwhile", lambda: len(client.took_s) > 5)
        client.check(self)
        self.assertLess(time.monotonic() - begun, 60)
        status = Path(f"/proc/{self.up.child.pid}/status").read_text()
        resident_kib = int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1))
        self.assertLess(resident_kib, 256 << 10, "KiB resident at most")


if __name__ == "__main__":
    unittest.main(verbosity=2)
