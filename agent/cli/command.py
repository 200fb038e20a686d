# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command is, and what commands read."""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.client.connection import Connection

Hidden = Callable[[str], str]
"""Prints its argument and returns the line that is typed, without showing it. Raises CannotRead."""

Run = Callable[[argparse.Namespace, Connection], Any]
Show = Callable[[argparse.Namespace, Any], Iterator[str]]


@dataclass(frozen=True)
class Command:
    """A command: `run` asks the agent for what `--json` prints, `show` makes text of that."""

    name: str
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Run
    show: Show
    on_console: bool = True
    """Whether the console has it, too; it has no files."""
    asks: bool = False
    """Whether it asks for secrets, by `arguments.hidden`."""


class CannotRead(Exception):
    """A file that a command names, or what it asks for, can't be read; the message says which and why."""


def read_file(name: str) -> bytes:
    """The contents of a file, of standard input for "-". Raises CannotRead."""
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise CannotRead(f"can't read {name}: {error.strerror or error}") from None


def typed_twice(hidden: Hidden, noun: str) -> str:
    """What is typed, not shown, twice. Raises CannotRead."""
    first = hidden(f"New {noun}: ")
    if hidden(f"Repeat the new {noun}: ") != first:
        raise CannotRead(f"the two new {noun}s differ; nothing has changed")
    return intact(first)


def intact(typed: str) -> str:
    """What was typed, if the terminal has sent all of it. Raises CannotRead."""
    if "\ufffd" in typed:
        # What stands for bytes that are no UTF-8: any other letters would do in their place, here and nowhere else.
        raise CannotRead("the terminal does not send UTF-8; use ASCII characters, or another terminal")
    return typed
