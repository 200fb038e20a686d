# SPDX-License-Identifier: GPL-2.0-or-later
"""The appliance's journal: reading what the lab got of it, and telling what must not be in it."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ERROR = 3
"""The syslog priority from which on (downwards) an entry fails a test, unless it is expected."""


@dataclass(frozen=True)
class Expected:
    """Entries that are no fault: which ones (unit or identifier, and text, both regular expressions), and why."""

    source: str
    message: str
    reason: str

    def matches(self, entry: "Entry") -> bool:
        """Whether `entry` is one of them."""
        return bool(re.search(self.source, entry.source) and re.search(self.message, entry.message))


@dataclass(frozen=True)
class Entry:
    """One line of the journal."""

    priority: int
    source: str
    message: str
    microseconds: int

    def __str__(self) -> str:
        return f"<{self.priority}> {self.source}: {self.message}"


def read(path: Path) -> list[Entry]:
    """The entries in a file of JSON lines, in order. A last line that was cut off is left out."""
    entries = []
    text = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            raw = json.loads(line)
        except ValueError:
            continue
        entries.append(
            Entry(
                priority=int(raw.get("PRIORITY", 6)),
                source=str(raw.get("_SYSTEMD_UNIT") or raw.get("SYSLOG_IDENTIFIER") or "?"),
                message=_text(raw.get("MESSAGE")),
                microseconds=int(raw.get("__MONOTONIC_TIMESTAMP", 0)),
            )
        )
    return entries


def _text(value: object) -> str:
    # journalctl writes what is not valid UTF-8 as a list of bytes.
    if isinstance(value, list):
        return bytes(value).decode("utf-8", "replace")
    return str(value)


def faults(entries: Iterable[Entry], expected: Iterable[Expected]) -> list[Entry]:
    """The entries of priority err and worse that nobody expects."""
    known = list(expected)
    return [entry for entry in entries if entry.priority <= ERROR and not any(one.matches(entry) for one in known)]


def as_text(entries: Iterable[Entry]) -> str:
    """The entries for people: seconds since boot, priority, source, message."""
    return "".join(f"{entry.microseconds / 1e6:10.3f} {entry}\n" for entry in entries)
