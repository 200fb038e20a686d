# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests' side of the control line: run a command as root in the appliance."""

import json
import subprocess
from pathlib import Path
from typing import Any

from lab import unix


class Control:
    """One connection to the lab's process in the appliance (inside/control.py)."""

    def __init__(self, path: Path) -> None:
        self._socket = unix.connect(path)
        self._stream = self._socket.makefile("rb")

    def run(self, *argv: str, text: str = "", check: bool = True, seconds: float = 60) -> str:
        """Run `argv` with `text` as its input and return what it printed.

        CalledProcessError if it failed and `check` is set; TimeoutError when nothing answers within `seconds`.
        """
        self._socket.settimeout(seconds)
        self._socket.sendall(json.dumps({"argv": argv, "input": text}).encode() + b"\n")
        line = self._stream.readline()
        if not line:
            raise ConnectionError("the machine has ended")
        answer: dict[str, Any] = json.loads(line)
        if check and answer["code"] != 0:
            raise subprocess.CalledProcessError(answer["code"], argv, answer["out"], answer["err"])
        return str(answer["out"])

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()
