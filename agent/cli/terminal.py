# SPDX-License-Identifier: GPL-2.0-or-later
"""A terminal read line by line with time limits: a screen, or a serial line with a dumb terminal at its other end.

The kernel's line discipline does the editing (backspace, erasing the line), so that nothing is asked of the terminal.
"""

import os
import select
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

MAX_LINE = 4096
"""Bytes of a line that are read; the kernel takes no longer ones in this mode."""


class Hangup(Exception):
    """The terminal is gone."""


class TimeIsUp(Exception):
    """Nobody finished a line in time."""


class Terminal:
    """Standard input and output of this process.

    Keys that would end or stop the process (Ctrl-C, Ctrl-Z, Ctrl-D) are ordinary characters here: whoever sits
    at the console can't take it down.
    """

    def __init__(self, source: int = 0, out: TextIO | None = None) -> None:
        self._source = source
        self._out = out or sys.stdout
        self._is_terminal = os.isatty(source)
        self._change(_prepare)

    def write(self, text: str) -> None:
        """Print text as it is."""
        try:
            self._out.write(text)
            self._out.flush()
        except OSError:
            raise Hangup from None

    def echo(self, *, on: bool) -> None:
        """Whether what is typed is shown."""

        def change(modes: list[Any]) -> None:
            modes[3] = modes[3] | termios.ECHO if on else modes[3] & ~termios.ECHO

        self._change(change)

    def discard(self) -> None:
        """Forget what was typed and not read."""
        if self._is_terminal:
            with _hangup_for_errors():
                termios.tcflush(self._source, termios.TCIFLUSH)

    def line(self, seconds: float) -> str:
        """The next line without its end. Raises TimeIsUp after `seconds`, Hangup."""
        if not select.select([self._source], [], [], seconds)[0]:
            raise TimeIsUp
        try:
            given = os.read(self._source, MAX_LINE)
        except OSError:
            raise Hangup from None
        if not given:
            raise Hangup
        return given.decode(errors="replace").rstrip("\r\n")

    def ask(self, words: str, seconds: float, *, hidden: bool = False) -> str:
        """Print `words` and read the answer; `hidden` does not show what is typed."""
        self.echo(on=not hidden)
        self.write(words)
        try:
            return self.line(seconds)
        finally:
            self.echo(on=False)
            if hidden:
                self.write("\n")

    def _change(self, change: Callable[[list[Any]], None]) -> None:
        if self._is_terminal:
            with _hangup_for_errors():
                modes = termios.tcgetattr(self._source)
                change(modes)
                termios.tcsetattr(self._source, termios.TCSANOW, modes)


def _prepare(modes: list[Any]) -> None:
    modes[0] |= termios.ICRNL
    modes[3] = (modes[3] | termios.ICANON) & ~termios.ISIG
    modes[6][termios.VEOF] = b"\0"  # _POSIX_VDISABLE: no key


@contextmanager
def _hangup_for_errors() -> Iterator[None]:
    try:
        yield
    except termios.error:
        raise Hangup from None
