"""Requests that two servers in a row could take for different ones, and others that are none.

Each is written as it stands to the edge before four instances, followed by a request for a path
of its own. What counts is how many answers there are and what they say: a second answer where the
edge should have closed would be one to a request that was smuggled in.
"""
import re
import socket
import ssl
import unittest

import inlet

# What follows each request on the same connection, and must not be answered after a refusal.
NEXT = b"GET /healthz HTTP/1.1\r\nHost: next\r\nConnection: close\r\n\r\n"
JSON = b"Content-Type: application/json\r\nX-Auth-Token: " + inlet.TOKEN.encode() + b"\r\n"
POST = b"POST /api/save HTTP/1.1\r\nHost: x\r\n" + JSON
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"

# Refused with 400 and closed: name, and what is sent.
REFUSED = [
    ("length beside chunked", POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"1e\r\n0\r\n\r\n"),
    ("chunked beside length", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"
     b"0\r\n\r\n"),
    ("two lengths that differ", POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    ("a list of lengths", POST + b"Content-Length: 2, 3\r\n\r\n{}"),
    ("a length with a sign", POST + b"Content-Length: +2\r\n\r\n{}"),
    ("a negative length", POST + b"Content-Length: -2\r\n\r\n{}"),
    ("a length in hexadecimal", POST + b"Content-Length: 0x2\r\n\r\n{}"),
    ("a length past 64 bits", POST + b"Content-Length: 18446744073709551618\r\n\r\n{}"),
    ("no digit in a length", POST + b"Content-Length: \r\n\r\n"),
    ("chunked spelt otherwise", POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("chunked and then another", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("chunked twice", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"0\r\n\r\n"),
    ("identity", POST + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}"),
    ("chunked after a tab that is no space", POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n"
     b"0\r\n\r\n"),
    ("a space before the colon", POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("a space before a length's colon", POST + b"Content-Length : 2\r\n\r\n{}"),
    ("a folded header", POST + b"X: 1\r\n Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n"
     b"{}"),
    ("a header before the first name", b"GET /healthz HTTP/1.1\r\n X: 1\r\nHost: x\r\n\r\n"),
    ("a bare carriage return in a value", GET + b"X: 1\rTransfer-Encoding: chunked\r\n\r\n"),
    ("a zero byte in a value", GET + b"X: a\0b\r\n\r\n"),
    ("a zero byte in a name", GET + b"X\0: a\r\n\r\n"),
    ("no name", GET + b": a\r\n\r\n"),
    ("no colon", GET + b"just words\r\n\r\n"),
    ("a name in brackets", GET + b"X[1]: a\r\n\r\n"),
    ("chunked in HTTP/1.0", b"POST /api/save HTTP/1.0\r\nHost: x\r\n" + JSON
     + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("no host", b"GET /healthz HTTP/1.1\r\n\r\n"),
    ("two hosts", b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
    ("a host that is none", b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("a version that is none", b"GET /healthz HTTP/1.2.3\r\nHost: x\r\n\r\n"),
    ("no version", b"GET /healthz\r\nHost: x\r\n\r\n"),
    ("two spaces after the path", b"GET /healthz  HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a space in the path", b"GET /health z HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a method that is no word", b"G@T /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("two paths", b"GET /api/../metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a path that hides its dots", b"GET /api/%2e%2e/metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a path that hides its slash", b"GET /api%2fstreams HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a path that hides a zero", b"GET /healthz%00 HTTP/1.1\r\nHost: x\r\n\r\n"),
]
# A body that is not framed as it says: the rest of the connection is never read as a request.
BROKEN_BODIES = [
    ("no digit in a chunk's size", POST + b"Transfer-Encoding: chunked\r\n\r\nz\r\n{}\r\n0\r\n\r\n"),
    ("a chunk's size with a sign", POST + b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n"
     b"\r\n"),
    ("a chunk's size in the C way", POST + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n"
     b"\r\n"),
    ("a chunk's size past 64 bits", POST + b"Transfer-Encoding: chunked\r\n\r\n"
     b"10000000000000002\r\n{}\r\n0\r\n\r\n"),
    ("a chunk that is longer than it says", POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n"
     b"0\r\n\r\n"),
    ("a chunk that ends in a line feed", POST + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n"),
    ("an extension that ends in a line feed", POST + b"Transfer-Encoding: chunked\r\n\r\n"
     b"2;a=b\n{}\r\n0\r\n\r\n"),
    ("extensions without end", POST + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"a" * 40_000
     + b"\r\n{}\r\n0\r\n\r\n"),
    ("a line feed in a chunk's extension", POST + b"Transfer-Encoding: chunked\r\n\r\n"
     b"2;a\nb\r\n{}\r\n0\r\n\r\n"),
]
# Good requests, with the statuses of both answers.
ANSWERED = [
    ("one after another", GET + b"\r\n", [200, 200]),
    ("a body in chunks", POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
     [202, 200]),
    ("a body in chunks with a trailer", POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
     b"0\r\nX-Trailer: 1\r\n\r\n", [202, 200]),
    ("chunk extensions, which nobody knows", POST + b"Transfer-Encoding: chunked\r\n\r\n"
     b"2;a=b;c=\"d;e\"\r\n{}\r\n0;f\r\n\r\n", [202, 200]),
    ("empty lines before a request", b"\r\n\r\n" + GET + b"\r\n\r\n", [200, 200]),
    ("a check by HTTP/1.0 without a host", b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n"
     b"\r\n", [200, 200]),
    ("headers that are only for one hop", GET + b"Connection: X-Auth-Token, close-not\r\n"
     b"Keep-Alive: 5\r\nTE: trailers\r\n\r\n", [200, 200]),
    ("no upgrade", GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
     b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", [200, 200]),
]


class Malformed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.up = inlet.Up()
        cls.addClassCleanup(cls.up.stop)

    def statuses(self, sent):
        """The statuses of all answers to what is sent, until the edge closes."""
        context = ssl.create_default_context(cafile=self.up.trusted)
        plain = socket.create_connection(self.up.address("https"), timeout=20)
        read = b""
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            try:
                connection.sendall(sent + NEXT)
                while chunk := connection.recv(1 << 16):
                    read += chunk
            except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
                pass
        return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", read)
                if status != b"100"]

    def test_what_is_ambiguous_is_refused_and_nothing_after_it_is_answered(self):
        for name, sent in REFUSED:
            with self.subTest(name):
                # A path that is refused leaves the framing intact; the next request is a request.
                expected = [400, 200] if "path that" in name or name == "two paths" else [400]
                self.assertEqual(self.statuses(sent), expected)

    def test_a_body_that_is_framed_wrong_is_the_end_of_its_connection(self):
        for name, sent in BROKEN_BODIES:
            with self.subTest(name):
                self.assertEqual(self.statuses(sent), [400])

    def test_what_is_good_is_answered_and_so_is_the_next(self):
        for name, sent, expected in ANSWERED:
            with self.subTest(name):
                self.assertEqual(self.statuses(sent), expected)

    def test_a_body_that_looks_like_a_request_is_none(self):
        hidden = b"POST /api/save HTTP/1.1\r\nHost: x\r\n\r\n"
        sent = POST + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden
        self.assertEqual(self.statuses(sent), [400, 200], "it is no JSON, and no more than that")

    def test_a_head_that_is_too_large_is_refused(self):
        large = GET + b"X: " + b"a" * (1 << 20) + b"\r\n\r\n"
        self.assertEqual(self.statuses(large), [431])
        many = GET + b"".join(b"X-%d: a\r\n" % index for index in range(5_000)) + b"\r\n"
        self.assertEqual(self.statuses(many), [431])

    def test_what_a_client_says_of_itself_does_not_get_it_in(self):
        for header in (b"X-Forwarded-For: 127.0.0.1", b"X-Original-URL: /edge/status",
                       b"X-Rewrite-URL: /metrics", b"X-HTTP-Method-Override: DELETE"):
            with self.subTest(header):
                sent = b"GET /api/streams HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n"
                self.assertEqual(self.statuses(sent), [401, 200])


if __name__ == "__main__":
    unittest.main(verbosity=2)
