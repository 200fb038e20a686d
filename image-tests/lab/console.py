# SPDX-License-Identifier: GPL-2.0-or-later
"""The appliance's serial console: what it has printed so far, waiting for text, and typing."""

import re
import threading
import time
from pathlib import Path

from lab import unix

_ESCAPES = re.compile(r"\x1b(\[[0-9;?!=]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][A-Z0-9]|[=>78cDEHMNOPVWXZ])")


class Console:
    """Reads a character device of QEMU that is connected to a Unix socket."""

    def __init__(self, path: Path, before: str = "") -> None:
        """Connect to the socket at `path`. `before` is what the machine printed in an earlier life."""
        self._socket = unix.connect(path)
        self._raw = before
        self._changed = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._receive, daemon=True, name="console")
        self._thread.start()

    def _receive(self) -> None:
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError:
                data = b""
            with self._changed:
                self._raw += data.decode("utf-8", "replace")
                self._open = bool(data)
                self._changed.notify_all()
            if not data:
                return

    @property
    def raw(self) -> str:
        """Everything printed so far, as it came."""
        with self._changed:
            return self._raw

    @property
    def text(self) -> str:
        """Everything printed so far, without escape sequences and carriage returns."""
        return _ESCAPES.sub("", self.raw).replace("\r", "")

    def mark(self) -> int:
        """A place in the text; hand it to `wait` to look only at what is printed from now on."""
        return len(self.text)

    def wait(self, pattern: str, seconds: float, since: int = 0) -> re.Match[str]:
        """Wait until `pattern` is found in the text and return the match.

        TimeoutError with the last lines after `seconds`, or ConnectionError when the machine ends first.
        """
        compiled = re.compile(pattern, re.MULTILINE)
        end = time.monotonic() + seconds
        with self._changed:
            while True:
                match = compiled.search(_ESCAPES.sub("", self._raw).replace("\r", ""), since)
                if match:
                    return match
                left = end - time.monotonic()
                if not self._open or left <= 0:
                    tail = "\n".join(_ESCAPES.sub("", self._raw).replace("\r", "").splitlines()[-25:])
                    what = f"the console never showed {pattern!r}; its last lines:\n{tail}"
                    raise TimeoutError(what) if self._open else ConnectionError(what)
                self._changed.wait(min(left, 1.0))

    def type(self, text: str) -> None:
        """Send `text` as if typed."""
        self._socket.sendall(text.encode())

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
