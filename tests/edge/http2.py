"""A client of HTTP/2 that writes frames as they come to mind."""
import socket
import ssl
import struct
import time

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
INITIAL_WINDOW_SIZE = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# `:method: GET`, `:scheme: https`, `:path: /` of the static table, and `:authority: x`.
GET = b"\x82\x87\x84\x01\x01x"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Attacker:
    """A client that writes frames as they come to mind."""

    def __init__(self, up):
        context = ssl.create_default_context(cafile=up.trusted)
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(up.address("https"), timeout=20)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0))

    def flood(self, pieces):
        """Sends piece after piece while they are taken; how many were, and why it was ended: the
        code of GOAWAY, or None where the connection just closed."""
        sent = 0
        try:
            for piece in pieces:
                self.socket.sendall(piece)
                sent += 1
        except TimeoutError:
            # Nothing more is taken, as nobody takes the answers: that holds it up, too.
            self.socket.close()
            return sent, None
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass
        return sent, self._goaway()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def shut_windows(self):
        """From here on nothing of a body may be sent on a new stream."""
        self.socket.sendall(frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 0)))

    def get(self, stream, path):
        head = b"\x82\x87\x04" + bytes([len(path)]) + path + b"\x01\x01x"
        self.socket.sendall(frame(HEADERS, END_STREAM | END_HEADERS, stream, head))

    def answer_pings_until_closed(self, seconds):
        """Reads, and answers pings as a client does that is there, until the connection ends."""
        ends, read = time.monotonic() + seconds, b""
        self.socket.settimeout(seconds)
        while time.monotonic() < ends:
            try:
                chunk = self.socket.recv(1 << 16)
            except (ConnectionResetError, ssl.SSLError):
                return
            if not chunk:
                return
            read += chunk
            while len(read) >= 9 and len(read) >= 9 + int.from_bytes(read[:3], "big"):
                length, kind, flags = int.from_bytes(read[:3], "big"), read[3], read[4]
                payload, read = read[9:9 + length], read[9 + length:]
                if kind == PING and not flags & ACK:
                    self.socket.sendall(frame(PING, ACK, 0, payload))
        raise AssertionError(f"it is still open after {seconds} s")

    def _goaway(self):
        read = b""
        try:
            while chunk := self.socket.recv(1 << 16):
                read += chunk
        except (OSError, ssl.SSLError):
            pass
        self.socket.close()
        while len(read) >= 9:
            length, kind = int.from_bytes(read[:3], "big"), read[3]
            payload, read = read[9:9 + length], read[9 + length:]
            if kind == GOAWAY and len(payload) >= 8:
                code = struct.unpack(">I", payload[4:8])[0]
                if code:
                    return code
        return None
