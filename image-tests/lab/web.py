# SPDX-License-Identifier: GPL-2.0-or-later
"""Real servers for the backends' segment: each answers with its own name, to HTTP and to datagrams."""

import socket
import socketserver
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from lab.namespaces import Host


@dataclass(frozen=True)
class Seen:
    """One request: from which address it came, and what was asked for."""

    client: str
    path: str


class _Server(ThreadingHTTPServer):
    """An HTTP server on a socket that was opened in another network namespace."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, listening: socket.socket, web: "WebServer") -> None:
        super().__init__(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.web = web

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no news, and no reason to print a traceback."""


class _Handler(BaseHTTPRequestHandler):
    """Answers every GET with the server's name."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.web.note(Seen(self.client_address[0], self.path))
        body = f"{self.server.web.name}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's signature
        """Requests are kept in `seen`, not printed."""


class _Datagrams(socketserver.UDPServer):
    """Answers every datagram with the server's name, on a socket that was opened in another network namespace."""

    def __init__(self, bound: socket.socket, name: str) -> None:
        super().__init__(bound.getsockname()[:2], _Named, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.name = name.encode()


class _Named(socketserver.BaseRequestHandler):
    server: _Datagrams

    def handle(self) -> None:
        self.request[1].sendto(self.server.name, self.client_address)


class WebServer:
    """A web server on a host of the lab, IPv4 and IPv6, and UDP on the same port; a context manager that stops it."""

    def __init__(self, host: Host, port: int = 80, *, name: str = "", also: Sequence[str] = ()) -> None:
        """`also`: addresses beside the host's own that it listens on."""
        self.host = host
        self._also = tuple(also)
        self.port = port
        self.name = name or host.name
        self._seen: list[Seen] = []
        self._lock = threading.Lock()
        self._running: list[tuple[socketserver.BaseServer, threading.Thread]] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """The IPv4 address it listens on."""
        return self.host.address

    @property
    def address6(self) -> str:
        """The IPv6 address it listens on."""
        return self.host.address6

    @property
    def seen(self) -> list[Seen]:
        """All requests so far, oldest first. The appliance's checks only connect and so leave none."""
        with self._lock:
            return list(self._seen)

    def forget(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._seen.clear()

    def note(self, seen: Seen) -> None:
        """Remember one request."""
        with self._lock:
            self._seen.append(seen)

    def start(self) -> None:
        """Open the ports and answer; nothing happens when it is running already."""
        if self._running:
            return
        for address in (self.address, self.address6, *self._also):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with self.host.entered():
                listening = socket.create_server((address, self.port), family=family, backlog=128)
                bound = socket.socket(family, socket.SOCK_DGRAM)
                bound.bind((address, self.port))
            for server in (_Server(listening, self), _Datagrams(bound, self.name)):
                thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
                thread.start()
                self._running.append((server, thread))

    def stop(self) -> None:
        """Close the ports: whoever connects from now on is refused."""
        for server, _ in self._running:
            server.shutdown()
            server.server_close()
        for _, thread in self._running:
            thread.join()
        self._running.clear()
