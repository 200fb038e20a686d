# SPDX-License-Identifier: GPL-2.0-or-later
"""Real clients: each request is a new connection, and its outcome is a word."""

import http.client
import socket
from collections import Counter
from contextlib import closing

from lab.namespaces import Host

REFUSED = "refused"
TIMEOUT = "timeout"
UNREACHABLE = "unreachable"


class Client:
    """Makes connections from a host of the lab."""

    def __init__(self, host: Host) -> None:
        self.host = host

    @property
    def address(self) -> str:
        """The address its connections come from."""
        return self.host.address

    def get(self, address: str, port: int = 80, *, timeout: float = 10.0) -> str:
        """Open one connection, ask for "/", and return what was answered: a backend's name.

        Without an answer: "refused" (a reset), "timeout" after `timeout` seconds, or "unreachable".
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.host.entered():
            connection = socket.socket(family, socket.SOCK_STREAM)
        with connection:
            connection.settimeout(timeout)
            try:
                connection.connect((address, port))
                connection.sendall(f"GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                with connection.makefile("rb") as stream:
                    return _body(stream.read())
            except (ConnectionRefusedError, ConnectionResetError):
                return REFUSED
            except TimeoutError:
                return TIMEOUT
            except OSError:
                return UNREACHABLE

    def stay(self, address: str, port: int = 80, *, timeout: float = 10.0) -> "closing[http.client.HTTPConnection]":
        """Open one connection for many requests, a context manager that closes it; OSError if it cannot be."""
        with self.host.entered():
            connection = http.client.HTTPConnection(address, port, timeout=timeout)
            connection.connect()
        return closing(connection)

    def ask(self, address: str, port: int = 80, *, timeout: float = 10.0) -> str:
        """Send one datagram from a new port, and return what was answered: a name, "refused" or "timeout"."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.host.entered():
            datagram = socket.socket(family, socket.SOCK_DGRAM)
        with datagram:
            datagram.settimeout(timeout)
            datagram.connect((address, port))
            try:
                datagram.send(b"who?")
                return datagram.recv(100).decode()
            except ConnectionRefusedError:
                return REFUSED
            except TimeoutError:
                return TIMEOUT

    def turns(self, count: int, address: str, port: int = 80) -> list[str]:
        """Make `count` connections, one after the other, and return who answered each."""
        return [self.get(address, port) for _ in range(count)]

    def tally(self, count: int, address: str, port: int = 80) -> Counter[str]:
        """How many of `count` connections each backend answered."""
        return Counter(self.turns(count, address, port))


def _body(answer: bytes) -> str:
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"HTTP/1.1 200"):
        return f"no HTTP answer: {answer[:80]!r}"
    return body.decode().strip()
