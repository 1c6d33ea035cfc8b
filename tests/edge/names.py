"""The cases of `test_names.py`, which runs them in namespaces of their own."""
import json
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import unittest
import urllib.request
from pathlib import Path

import inlet

START_WITHIN_S = 10


class Resolver:
    """A server of names on 127.0.0.1:53. A name has addresses, `None` for no answer at all, or is
    not there."""

    def __init__(self):
        self.names, self.asked = {}, {}
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            query, client = self.socket.recvfrom(512)
            answer = self._answer(query)
            if answer:
                self.socket.sendto(answer, client)

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, (kind, _) = ".".join(labels), struct.unpack(">HH", query[at + 1:at + 5])
        self.asked[name] = self.asked.get(name, 0) + 1
        addresses = self.names.get(name, ())
        if addresses is None:
            return None
        found = [socket.inet_aton(address) for address in addresses if kind == 1]
        code = 0 if addresses else 3
        head = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(found), 0, 0)
        records = [b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + address for address in found]
        return head + query[12:at + 5] + b"".join(records)


class Names(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        cls.resolver = Resolver()

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="inlet-names-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.resolver.names.clear()
        # All on one port, each on an address of its own, as hosts are.
        for number in (1, 2, 3):
            self.run_role("serve", self.folder / "data", "--instance", f"i{number}", "--https",
                          "off", "--plain", f"127.0.0.{number}:8090").wait()

    def run_role(self, role, data, *flags):
        running = inlet.Running(role, data, *flags)
        self.addCleanup(running.stop)
        return running

    def edge(self, *backends):
        flags = [f"--backend={backend}" for backend in backends]
        edge = self.run_role("edge", self.folder / "edge", "--https", "off", "--plain",
                             "127.0.0.1:0", *flags)
        self.running = inlet.until("the edge is up", edge._announced, START_WITHIN_S)
        return edge

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.running['plain']}{path}") as answer:
            return json.load(answer)

    def addresses(self):
        return {one["address"] for one in self.get("/edge/status")["backends"]}

    def test_a_name_whose_look_up_hangs_holds_up_neither_the_start_nor_the_others(self):
        self.resolver.names.update({"good.test": ["127.0.0.1"], "slow.test": None})
        edge = self.edge("slow.test:8090,id=slow", "good.test:8090,id=good")
        inlet.until("the good one answers", lambda: self.get("/")["instance"] == "i1")
        self.resolver.names["good.test"] = ["127.0.0.2"]
        inlet.until("the good one is followed", lambda: self.addresses() == {"127.0.0.2:8090"})
        edge.child.terminate()
        self.assertEqual(edge.child.wait(10), 0, "it stops although the look-up hangs")

    def test_a_name_that_is_gone_keeps_the_addresses_it_had_until_it_is_back(self):
        self.resolver.names.update({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.2"]})
        self.edge("a.test:8090,id=a", "b.test:8090,id=b")
        inlet.until("both are known", lambda: len(self.addresses()) == 2)
        del self.resolver.names["a.test"]
        self.resolver.names["b.test"] = ["127.0.0.2", "127.0.0.3"]
        inlet.until("the other is followed", lambda: self.addresses() == {
            "127.0.0.1:8090", "127.0.0.2:8090", "127.0.0.3:8090"})
        self.resolver.names["a.test"] = ["127.0.0.3"]
        inlet.until("it is followed again", lambda: self.addresses() == {
            "127.0.0.2:8090", "127.0.0.3:8090"})

    def test_a_name_that_is_not_there_at_the_start_is_taken_up_when_it_is(self):
        self.edge("later.test:8090,id=later")
        self.assertEqual(self.addresses(), set())
        self.resolver.names["later.test"] = ["127.0.0.3"]
        inlet.until("it answers", lambda: self.addresses() == {"127.0.0.3:8090"})
        inlet.until("it is asked", lambda: self.get("/")["instance"] == "i3")
