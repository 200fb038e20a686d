# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections from the user's own browser into the lab: each is passed on as one from a host inside."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

from lab.namespaces import Host


class Relay:
    """Passes on what arrives at a socket that was opened outside (enter.listening_sockets). A context manager."""

    def __init__(self, listening: socket.socket, target: tuple[str, int], via: Host | None = None) -> None:
        """`target` is an address and port in the lab; connections to it come from host `via`, or from `mgmt`."""
        self._listening = listening
        self._target = target
        self._via = via
        self._started = threading.Event()
        self._ended = asyncio.Event()
        # The loop itself holds its tasks weakly.
        self._serving: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True, name="relay")

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            runner.run(self._relay())

    async def _relay(self) -> None:
        self._listening.setblocking(False)
        server = await asyncio.start_server(self._serve, sock=self._listening)
        self._started.set()
        await self._ended.wait()
        server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._pass(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection(sock=await self._connect())
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        writer.close()

    async def _connect(self) -> socket.socket:
        with self._via.entered() if self._via else contextlib.nullcontext():
            connection = socket.socket()
        connection.setblocking(False)
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(connection, self._target), 10)
        except OSError:
            connection.close()
            raise
        return connection


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the one side is done, and tell the other."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


class Traffic:
    """Calls `action` twice a second in a thread of its own, so that there is something to see. A context manager."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="traffic")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(0.5):
            self._action()
