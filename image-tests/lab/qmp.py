# SPDX-License-Identifier: GPL-2.0-or-later
"""A client for QEMU's control socket (QMP), as much as the lab needs of it."""

import json
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from lab import unix
from lab.waiting import Deadline


class QmpError(RuntimeError):
    """QEMU refused a command."""


class Qmp:
    """A connection to one QEMU. Commands are answered in turn; events are kept until somebody waits for them."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._stream = connection.makefile("rb")
        self._events: list[dict[str, Any]] = []
        self._read()  # the greeting
        self.execute("qmp_capabilities")

    @classmethod
    def connect(cls, path: Path, process: subprocess.Popen[bytes], seconds: float = 20) -> Self:
        """Connect to the socket at `path` as soon as QEMU has made it; ConnectionError if `process` ends first."""

        def attempt() -> socket.socket | None:
            if process.poll() is not None:
                raise ConnectionError("QEMU has ended")
            try:
                return unix.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                return None

        return cls(Deadline(seconds).poll(attempt, f"QEMU's control socket {path}"))

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run one command and return its answer; QmpError if QEMU refuses, ConnectionError if it is gone.

        Underscores in argument names stand for QMP's hyphens.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": command, "arguments": named}).encode() + b"\n")
        while True:
            message = self._read()
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise QmpError(f"{command}: {message['error'].get('desc')}")
            self._events.append(message)

    def wait_event(self, name: str, seconds: float, **data: Any) -> Mapping[str, Any]:
        """Wait for the event `name` whose data has these values and return its data; TimeoutError after `seconds`."""
        deadline = Deadline(seconds)
        while True:
            for event in self._events:
                found = event.get("data", {})
                if event.get("event") == name and all(found.get(key) == value for key, value in data.items()):
                    self._events.remove(event)
                    return dict(found)
            self._socket.settimeout(deadline.left(f"QEMU's event {name}"))
            try:
                self._events.append(self._read())
            finally:
                self._socket.settimeout(None)

    def _read(self) -> dict[str, Any]:
        line = self._stream.readline()
        if not line:
            raise ConnectionError("QEMU has ended")
        message: dict[str, Any] = json.loads(line)
        return message
