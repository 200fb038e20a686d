# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers and clients that talk through the balancer of `kernel_net`, with real sockets."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Self

from kernel_namespaces import Namespace

PLENTY = 10.0
"""Seconds that no step takes, not even emulated; where something is refused it is refused at once."""


class Connection:
    """A TCP connection to a `Server`, which says first who it is and whom it sees, and then echoes."""

    def __init__(self, sock: socket.socket, address: str, port: int) -> None:
        self._socket = sock
        try:
            sock.settimeout(PLENTY)
            sock.connect((address, port))
            self._file = sock.makefile("rwb", buffering=0)
            self.port = sock.getsockname()[1]
            self.server, self.peer = self._file.readline().decode().split()
        except BaseException:
            sock.close()
            raise

    def alive(self) -> bool:
        """Whether a line comes back."""
        self.say()
        return self.heard()

    def say(self) -> None:
        """Send a line, which may take its time."""
        self._file.write(b"still there?\n")

    def heard(self) -> bool:
        """Whether a line that was sent comes back."""
        return self._file.readline() == b"still there?\n"

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Load:
    """Clients in a process of their own, in the namespace of the thread that makes it."""

    def __init__(self, address: str, port: int, clients: int) -> None:
        program = [sys.executable, str(Path(__file__).with_name("kernel_load.py")), address, str(port), str(clients)]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "going\n"

    def stop(self) -> tuple[int, list[str]]:
        """End it: how many connections were served, and what failed."""
        answer = json.loads(self._process.communicate(timeout=2 * PLENTY)[0])
        return answer["served"], answer["failures"]

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


class Server:
    """A backend: over TCP says "ADDRESS PEER", then echoes lines; over UDP answers each datagram with the same."""

    def __init__(
        self, namespace: Namespace, address: str, port: int, *, sctp: bool = False, name: str | None = None
    ) -> None:
        self.address, self.port, self._sctp, self.name = address, port, sctp, name or address
        self.seen: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        ready = threading.Event()
        self._thread = namespace.spawn(lambda: self._loop.run_until_complete(self._serve(ready)))
        if not ready.wait(PLENTY):
            raise TimeoutError(f"no server at {address}")

    async def _serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._answer, self.address, self.port, backlog=1000)
        transport, _ = await self._loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(self.address, self.port)
        )
        servers = [server, await self._associations()] if self._sctp else [server]
        ready.set()
        await self._stop.wait()
        transport.close()
        for each in servers:
            each.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)  # gives the cancelled tasks their turn

    async def _associations(self) -> asyncio.Server:
        # One to one (RFC 6458, section 4), these look like TCP's sockets.
        kind = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        listener = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
        listener.bind((self.address, self.port))
        return await asyncio.start_server(self._answer, sock=listener)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[0]
        self.seen[peer] += 1
        try:
            writer.write(f"{self.name} {peer}\n".encode())
            while line := await reader.readline():
                writer.write(line)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort() if self._stop.is_set() else writer.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, _data: bytes, peer: Any) -> None:
        self._server.seen[peer[0]] += 1
        self._transport.sendto(f"{self._server.name} {peer[0]}".encode(), peer)
