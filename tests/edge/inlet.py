"""Inlet as its users run it: real processes on a new directory, ended with the test."""
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
INLET = Path(os.environ.get("INLET_BIN", TARGET / "debug" / "inlet"))
TOKEN = "inlet_test_token"
PATIENCE_S = 60


def until(what, condition, seconds=PATIENCE_S, every=0.02):
    """Waits for what a condition returns once it is not false."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = condition()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def clean_env():
    return {name: value for name, value in os.environ.items() if not name.startswith("INLET_")}


class Running:
    """A role of Inlet that listens, in its own directory or in one that it shares."""

    def __init__(self, role, data, *flags, before=()):
        self.data = Path(data)
        words = [*before, INLET, role, "--data", data, "--log-level", "warn", *flags]
        self.child = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, cwd=self.data.parent,
                                      env={**clean_env(), "INLET_TOKEN": TOKEN})
        self.running = None

    def wait(self):
        """Waits until it says where it listens."""
        self.running = until("it listens", self._announced)
        return self

    def _announced(self):
        if self.child.poll() is not None:
            raise AssertionError(f"it ended with {self.child.returncode}")
        try:
            found = json.loads((self.data / "run.json").read_text())
        except (OSError, ValueError):
            return None
        return found if found["pid"] == self.child.pid else None

    def address(self, door):
        """The host and the port of `https`, `http` or `plain`."""
        host, port = self.running[door].rsplit(":", 1)
        return host, int(port)

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Up(Running):
    """`inlet up` with two instances in each of two zones, and HTTPS in front."""

    def __init__(self, *flags, trusted=None):
        self.folder = tempfile.mkdtemp(prefix="inlet-edge-")
        self.trusted = trusted or Path(self.folder) / "data" / "tls" / "cert.pem"
        doors = ["--https", "127.0.0.1:0", "--http", "127.0.0.1:0", "--plain", "off"]
        super().__init__("up", Path(self.folder) / "data", "--instances", 2, "--zones", 2, *doors,
                         *flags)
        try:
            self.wait()
            until("all instances are up", lambda: self.standing() == ["up"] * 4)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        super().stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self, timeout=PATIENCE_S):
        """A connection of HTTP/1.1 over TLS that trusts this server only."""
        context = ssl.create_default_context(cafile=self.trusted)
        return http.client.HTTPSConnection(*self.address("https"), timeout=timeout,
                                           context=context)

    def get(self, path):
        client = self.client()
        client.request("GET", path, headers={"X-Auth-Token": TOKEN})
        answer = client.getresponse()
        body = answer.read()
        client.close()
        return answer, body

    def status(self):
        return json.loads(self.get("/edge/status")[1])

    def standing(self):
        """What the edge believes of each instance; one that is new to it has a share that grows."""
        backends = self.status()["backends"]
        return ["up" if one["health"] == "slow-start" else one["health"] for one in backends]


class WellBehaved:
    """A client that asks for the page at `/`, on a new connection each time, until it is told to
    stop. It keeps how long each answer took, and what went wrong."""

    def __init__(self, up, pause_s=0.1):
        self.up, self.pause_s = up, pause_s
        self.took_s, self.faults = [], []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self):
        while not self._over.wait(self.pause_s):
            begun = time.monotonic()
            try:
                answer, _ = self.up.get("/")
                if answer.status != 200:
                    self.faults.append(f"{answer.status}")
            except OSError as error:
                self.faults.append(repr(error))
            except http.client.HTTPException as error:
                self.faults.append(repr(error))
            self.took_s.append(time.monotonic() - begun)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(PATIENCE_S)

    def check(self, test, slowest_s=2.0):
        """All were answered, and none late."""
        test.assertEqual(self.faults, [])
        test.assertGreater(len(self.took_s), 5)
        test.assertLess(max(self.took_s), slowest_s, "the slowest of a well-behaved client, in s")
