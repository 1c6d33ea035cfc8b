"""The part `edge` of scripts/bench: the edge beside nginx and HAProxy, before the same backend.

Needs nginx, haproxy and wrk, as Debian has them. All of them have two threads (or processes) and
run on the same cores as the load and the backend, in turn, round by round.
"""
import http.client
import json
import os
import re
import resource
import socket
import ssl
import statistics
import subprocess
import time
from pathlib import Path

MIB = 1 << 20
THREADS = 2
IDLE_CONNECTIONS = 10_000
FILES = 65_536
KILLS = 10
HANGS = 5

BACKEND = """
worker_processes {threads}; daemon off; error_log stderr crit; pid {folder}/backend.pid;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600; default_type application/json;
  client_body_temp_path {folder}/body;
  server {{
    listen 127.0.0.1:{backend} backlog=4096;
    location = /api/save {{ return 202 '{small}'; }}
    location / {{ return 200 '{large}'; }}
  }}
}}
"""
NGINX = """
worker_processes {threads}; daemon off; error_log stderr crit; pid {folder}/front.pid;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxied;
  upstream instances {{ server 127.0.0.1:{backend}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{front} ssl backlog=4096;
    ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://instances; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Request-Id $request_id;
    }}
  }}
}}
"""
HAPROXY = """
global
  nbthread {threads}
  maxconn 8192
defaults
  mode http
  timeout connect 1s
  timeout client 600s
  timeout server 30s
  option forwardfor
  http-reuse always
frontend front
  bind 127.0.0.1:{front} ssl crt {folder}/both.pem ssl-min-ver TLSv1.2 alpn http/1.1
  unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  http-request set-header X-Request-Id %[unique-id]
  http-request set-header X-Forwarded-Proto https
  default_backend instances
backend instances
  option httpchk GET /readyz
  server one 127.0.0.1:{backend} check inter 400ms pool-max-conn -1
"""
POST = """
wrk.method = "POST"
wrk.path = "/api/save"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-Auth-Token"] = "{token}"
wrk.body = '{body}'
"""
GET = """
wrk.path = "/api/documents/0123456789abcdef0123456789abcdef"
wrk.headers["X-Auth-Token"] = "{token}"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Edge:
    """`inlet edge` before backends, with the certificate of this part."""

    def __init__(self, bench, data, backends, flags=()):
        words = [f"--backend=127.0.0.1:{port},zone=z{number},id=b{number}"
                 for number, port in enumerate(backends)]
        self.bench, self.data = bench, Path(data)
        self.process = bench.Process(bench.INLET, "edge", "--https", "127.0.0.1:0", "--http", "off", "--plain", "off",
                                     "--log-level", "warn", "--data", data, *words, *flags)

    def __enter__(self):
        self.process.__enter__()
        running = self.bench.wait_for("the edge", self.running)
        self.port = int(running["https"].rsplit(":", 1)[1])
        return self

    def __exit__(self, *parts):
        self.process.__exit__(*parts)

    def running(self):
        if self.process.child.poll() is not None:
            raise SystemExit(f"the edge ended with {self.process.child.returncode}")
        try:
            found = json.loads((self.data / "run.json").read_text())
        except (OSError, ValueError):
            return None
        return found if found["pid"] == self.process.child.pid else None

    def client(self):
        context = ssl._create_unverified_context()
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)

    def health(self, client=None):
        client = client or self.client()
        client.request("GET", "/edge/status")
        return [one["health"] for one in json.loads(client.getresponse().read())["backends"]]

    def wait_until_up(self):
        self.bench.wait_for("all backends to be up", lambda: set(self.health()) == {"up"})


def cpu_us(pid):
    """Microseconds of processor time of a process and its children."""
    hertz = 1e6 / os.sysconf("SC_CLK_TCK")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) * hertz
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(cpu_us(child) for child in children)


def wrk(port, script, connections, seconds):
    done = subprocess.run(["wrk", "-t", str(THREADS), "-c", str(connections), "-d", f"{seconds:g}s", "--latency",
                           "--timeout", "10s", "-s", str(script), f"https://127.0.0.1:{port}/"],
                          stdout=subprocess.PIPE, text=True, check=True)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(f"not all was answered well:\n{done.stdout}")
    unit = {"us": 1, "ms": 1e3, "s": 1e6}
    number, word = re.search(r"99%\s+([0-9.]+)(us|ms|s)", done.stdout).groups()
    rate = float(re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout).group(1))
    requests = int(re.search(r"([0-9]+) requests in", done.stdout).group(1))
    return rate, float(number) * unit[word], requests


def throughput(args, front, scripts):
    """All designs in turn, round by round; the medians."""
    lines = ["| requests | connections | design | a second | to the better | p99 ms | to the lower "
             "| processor time µs a request |",
             "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |"]
    for (name, script), connections in [(each, count) for each in scripts.items() for count in (64, 256)]:
        rows = {design: [] for design in front}
        for design, (port, _) in front.items():
            wrk(port, script, connections, 1)
        for _ in range(max(args.rounds, 5)):
            for design, (port, process) in front.items():
                before = cpu_us(process.child.pid)
                rate, p99, requests = wrk(port, script, connections, args.seconds)
                rows[design].append((rate, p99, (cpu_us(process.child.pid) - before) / requests))
        medians = {design: [statistics.median(column) for column in zip(*row)] for design, row in rows.items()}
        others = [median for design, median in medians.items() if design != "edge"]
        best, lowest = max(other[0] for other in others), min(other[1] for other in others)
        for design, (rate, p99, cpu) in medians.items():
            lines.append(f"| {name} | {connections} | {design} | {rate:,.0f} | {rate / best:.2f} | {p99 / 1e3:.1f} "
                         f"| {p99 / lowest:.2f} | {cpu:.1f} |")
        print("\n".join(lines[-len(front):]), flush=True)
    return "\n".join(lines) + "\n"


def idle_memory(bench, edge):
    """Resident bytes with many connections over TLS, of which each made a request."""
    before = edge.process.memory("VmRSS")
    context = ssl._create_unverified_context()
    # The edge keeps as many files for instances as for clients, and 256 for the rest.
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    sockets = []
    for number in range(min(IDLE_CONNECTIONS, (files - 256) // 2 - 16)):
        # A client address may have 2,000.
        source = (f"127.0.1.{number // 1_000 + 1}", 0)
        one = context.wrap_socket(socket.create_connection(("127.0.0.1", edge.port), source_address=source))
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        if not one.recv(4096).startswith(b"HTTP/1.1 2"):
            raise SystemExit("a connection was not answered")
        sockets.append(one)
    at_once = edge.process.memory("VmRSS")
    # Connections that are silent for three seconds give their buffers back.
    ends = time.monotonic() + 10
    lowest = at_once
    while time.monotonic() < ends:
        lowest = min(lowest, edge.process.memory("VmRSS"))
        time.sleep(0.5)
    for one in sockets:
        one.close()
    return len(sockets), before, at_once, lowest


def ask(client):
    begun = time.perf_counter()
    client.request("GET", "/")
    answer = client.getresponse()
    answer.read()
    return answer.status, (time.perf_counter() - begun) * 1000


def failover(bench, folder):
    """Milliseconds of the slowest of the first four requests after a backend is killed, and until a backend that
    hangs is out."""
    after_kill, until_out = [], []
    ports = [free_port(), free_port()]
    start = lambda port: bench.Process(bench.BARE, port).__enter__()
    backends = [start(port) for port in ports]
    try:
        for port in ports:
            bench.wait_for("a backend", lambda: answers(port))
        # No slow start, so that both are asked alike.
        with Edge(bench, folder / "failover", ports) as edge:
            client, status = edge.client(), edge.client()
            for turn in range(KILLS):
                bench.wait_for("both to be up", lambda: edge.health(status) == ["up", "up"])
                for _ in range(50):
                    ask(client)
                killed = turn % 2
                backends[killed].child.kill()
                backends[killed].child.wait()
                took = [ask(client) for _ in range(4)]
                if any(code != 202 for code, _ in took):
                    raise SystemExit(f"a request failed after a kill: {took}")
                after_kill.append(max(milliseconds for _, milliseconds in took))
                backends[killed] = start(ports[killed])
            for turn in range(HANGS):
                bench.wait_for("both to be up", lambda: edge.health(status) == ["up", "up"])
                hung = backends[turn % 2].child
                begun = time.perf_counter()
                hung.send_signal(19)
                bench.wait_for("it to be out", lambda: edge.health(status)[turn % 2] == "down")
                until_out.append((time.perf_counter() - begun) * 1000)
                hung.send_signal(18)
    finally:
        for backend in backends:
            backend.child.kill()
            backend.child.wait()
    return after_kill, until_out


def raise_file_limit():
    """Lets this process and its children have 65,536 files open, where the system allows that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(hard, FILES)))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def part(bench, args):
    raise_file_limit()
    with bench.scratch() as scratch:
        folder = Path(scratch)
        with bench.Inlet(folder / "certificate", "serve", True):
            pass
        tls = folder / "certificate" / "tls"
        (folder / "both.pem").write_text((tls / "cert.pem").read_text() + (tls / "key.pem").read_text())
        words = {"threads": THREADS, "folder": folder, "certificate": tls / "cert.pem", "key": tls / "key.pem",
                 "backend": free_port(), "token": bench.TOKEN, "small": json.dumps({"id": "0" * 32, "status": "accepted"}),
                 "large": json.dumps({"text": "x" * (2048 - 12)}), "body": json.dumps({"text": "x" * (256 - 12)})}
        nginx_port, haproxy_port = free_port(), free_port()
        write = lambda name, text, **more: (folder / name).write_text(text.format(**words, **more))
        write("backend.conf", BACKEND)
        write("nginx.conf", NGINX, front=nginx_port)
        write("haproxy.cfg", HAPROXY, front=haproxy_port)
        write("post.lua", POST)
        write("get.lua", GET)
        scripts = {"256-byte POST": folder / "post.lua", "2-KiB GET": folder / "get.lua"}
        nginx = lambda name: bench.Process("nginx", "-e", "stderr", "-p", folder, "-c", folder / name)
        haproxy = bench.Process("haproxy", "-f", folder / "haproxy.cfg")
        with nginx("backend.conf"), nginx("nginx.conf") as nginx_front, haproxy, \
                Edge(bench, folder / "edge", [words["backend"]], args.flags) as edge:
            for port in (words["backend"], nginx_port, haproxy_port):
                bench.wait_for(f"port {port}", lambda: answers(port))
            edge.wait_until_up()
            table = throughput(args, {"edge": (edge.port, edge.process), "nginx": (nginx_port, nginx_front),
                                      "HAProxy": (haproxy_port, haproxy)}, scripts)
        lines = ["### The edge, nginx and HAProxy before the same backend, TLS 1.3", "", table]
        with nginx("backend.conf"):
            with Edge(bench, folder / "idle", [words["backend"]], args.flags) as edge:
                bench.wait_for("the backend", lambda: answers(words["backend"]))
                edge.wait_until_up()
                count, before, at_once, lowest = idle_memory(bench, edge)
        lines.append(f"{count:,} idle connections over TLS that each made a request: {lowest / MIB:.0f} MiB resident "
                     f"(bound: 150), {at_once / MIB:.0f} MiB right after the last of them, {before / MIB:.0f} MiB "
                     "before the first.\n")
        after_kill, until_out = failover(bench, folder)
    lines.append(f"The slowest of the first four requests after a backend was killed: {statistics.median(after_kill):.1f} "
                 f"ms, {max(after_kill):.1f} ms at most in {KILLS} kills (bound: 50). None failed.\n")
    lines.append(f"A backend that hangs is out after {statistics.median(until_out):,.0f} ms, {max(until_out):,.0f} ms at "
                 f"most in {HANGS} times (bound: 2,000).\n")
    return "\n".join(lines)
