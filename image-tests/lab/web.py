# SPDX-License-Identifier: GPL-2.0-or-later
"""Real web servers for the backends' segment: each answers with its own name and remembers who asked."""

import socket
import threading
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


class WebServer:
    """A web server on a host of the lab; a context manager that stops it."""

    def __init__(self, host: Host, port: int = 80, *, name: str = "") -> None:
        self.host = host
        self.port = port
        self.name = name or host.name
        self._seen: list[Seen] = []
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """The address it listens on."""
        return self.host.address

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
        """Open the port and answer; nothing happens when it is running already."""
        if self._server is not None:
            return
        with self.host.entered():
            listening = socket.create_server((self.host.address, self.port), backlog=128)
        self._server = _Server(listening, self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port: whoever connects from now on is refused."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server = self._thread = None
