"""A link between two network namespaces that takes its time.

    wire.py NAMESPACE_A ADDRESS_A NAMESPACE_B ADDRESS_B DELAY_MS

Makes a device `wire0` in each, with these addresses (as in 10.0.0.1/24), and carries packets from
one to the other, each DELAY_MS after it was sent, until standard input is closed. The kernel's own
`netem` does this too, where it was built with it; this needs only `/dev/net/tun` and root.
"""
import collections
import fcntl
import os
import selectors
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_BYTES_MAX = 1 << 16
# What waits on the link; more is dropped, as a router would.
PACKETS_MAX = 10_000


def device(namespace, address, name):
    """A device in a namespace, and the file by which its packets come and go."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI))
    run = lambda *words: subprocess.run(["ip", *words], check=True)
    run("link", "set", name, "netns", namespace)
    run("-n", namespace, "link", "set", name, "name", "wire0")
    run("-n", namespace, "address", "add", address, "dev", "wire0")
    run("-n", namespace, "link", "set", "wire0", "up")
    return file


def carry(one, other, delay_s):
    waiting = {one: collections.deque(), other: collections.deque()}
    selector = selectors.DefaultSelector()
    for file in (one, other, sys.stdin.fileno()):
        selector.register(file, selectors.EVENT_READ)
    while True:
        due = min((queue[0][0] for queue in waiting.values() if queue), default=None)
        wait_s = None if due is None else max(0, due - time.monotonic())
        for key, _ in selector.select(wait_s):
            if key.fd == sys.stdin.fileno():
                return
            queue = waiting[other if key.fd == one else one]
            try:
                packet = os.read(key.fd, PACKET_BYTES_MAX)
            except BlockingIOError:
                continue
            if len(queue) < PACKETS_MAX:
                queue.append((time.monotonic() + delay_s, packet))
        now = time.monotonic()
        for file, queue in waiting.items():
            while queue and queue[0][0] <= now:
                try:
                    os.write(file, queue.popleft()[1])
                except OSError:
                    # A device that is down, or has no room, loses packets.
                    pass


def main():
    namespace_a, address_a, namespace_b, address_b, delay_ms = sys.argv[1:]
    one = device(namespace_a, address_a, f"inlet-a{os.getpid() % 10_000}")
    other = device(namespace_b, address_b, f"inlet-b{os.getpid() % 10_000}")
    print("carries", flush=True)
    carry(one, other, float(delay_ms) / 1000)


if __name__ == "__main__":
    main()
