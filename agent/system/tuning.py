# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel settings: what the image says they should be, what the kernel has, and the size of the connection table.

The image's file of settings (sysctl.d(5)) is the one place where they are; docs/kernel.md gives the reasons at length.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.model.state import KernelSetting, Trouble
from agent.system import facts

STATIC = Path("/usr/lib/sysctl.d/50-sluice.conf")
"""The settings that every appliance has."""

BY_MEMORY = Path("/run/sluice-kernel/memory.conf")
"""Those that follow from the machine's memory; `main` writes it at every start."""

PROC = Path("/proc/sys")

BYTES_FOR_EACH = 4096
"""Of the machine's memory, for one connection that can be tracked. An entry with its extensions takes 384 bytes (Linux
6.12 and 6.18, x86-64) and 8 in the table of hashes: the full table takes a tenth of the memory."""

LEAST, MOST, STEP = 65_536, 8_388_608, 4096
"""Bounds of the table, and what its size is a multiple of: the kernel rounds tables of hashes up to pages."""

_NAMED = 5
"""So many settings are named in a trouble; a page lists them all."""


@dataclass(frozen=True)
class Wanted:
    """A setting of a file."""

    name: str
    value: str
    purpose: str
    """The comment above the setting, or above the group that it is in."""


def by_memory(memory: int) -> dict[str, str]:
    """The settings that follow from `memory` in bytes, in the order in which they are to be set.

    As many hash chains as connections: each is in the table twice, once for each direction, so that a chain of the full
    table has two entries on average (Documentation/networking/nf_conntrack-sysctl.rst).
    """
    size = min(max(memory // BYTES_FOR_EACH // STEP * STEP, LEAST), MOST)
    return {"net.netfilter.nf_conntrack_buckets": str(size), "net.netfilter.nf_conntrack_max": str(size)}


def parse(text: str) -> Iterator[Wanted]:
    """The settings in the text of a file: lines `name = value`, comments, empty lines."""
    comment: list[str] = []
    complete = False
    for line in text.splitlines():
        word = line.strip()
        if word.startswith("#"):
            if complete:
                comment, complete = [], False
            comment += [] if "SPDX" in word else [word.lstrip("# ")]
            continue
        complete = True
        name, equals, value = word.partition("=")
        if equals:
            yield Wanted(name.strip(), " ".join(value.split()), " ".join(comment))
        else:
            comment = []


class KernelSettings:
    """What files say that the kernel's settings should be, beside what they are."""

    def __init__(self, files: Sequence[Path] = (), proc: Path = PROC) -> None:
        """`files`: sysctl.d(5); where the first is missing, settings are not ours on this machine, and none is told."""
        self._files = files
        self._proc = proc

    @classmethod
    def from_environment(cls) -> "KernelSettings":
        """Those of this machine; SLUICE_SYSCTL names other files, with colons between them."""
        given = os.environ.get("SLUICE_SYSCTL", "")
        return cls([Path(name) for name in given.split(":")] if given else [STATIC, BY_MEMORY])

    def now(self) -> list[KernelSetting]:
        """Every setting as it is and as it should be. Blocks for a millisecond."""
        if not self._files or not self._files[0].exists():
            return []
        return [
            KernelSetting(
                name=wanted.name, value=_read(self._proc, wanted.name), wanted=wanted.value, purpose=wanted.purpose
            )
            for file in self._files
            if file.exists()
            for wanted in parse(file.read_text(encoding="utf-8"))
        ]

    def troubles(self) -> Iterator[Trouble]:
        """What of it is not as it should be."""
        found = self.now()
        wrong = [setting for setting in found if not setting.right]
        if wrong:
            words = ", ".join(
                f"{setting.name} is {'not there' if setting.value is None else setting.value or 'empty'} "
                f"instead of {setting.wanted}"
                for setting in wrong[:_NAMED]
            )
            more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
            yield Trouble(
                code="kernel-settings",
                message=f"Kernel settings are not as they should be: {words}{more}. Restart the appliance.",
            )
        missing = [str(file) for file in self._files[1:] if found and not file.exists()]
        if missing:
            yield Trouble(
                code="kernel-untuned",
                message="The connection table has not been sized by the machine's memory: sluice-kernel.service has "
                "failed, and its journal says why. Restart the appliance.",
            )


def size_table(memory: int, file: Path, proc: Path = PROC) -> list[str]:
    """Write the settings that follow from `memory` to `file`, and set them. Returns what failed, in words."""
    wanted = by_memory(memory)
    failed = []
    try:
        lines = ["# The connection table: a tenth of the memory when it is full; as many hash chains as connections."]
        file.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in wanted.items())]) + "\n")
    except OSError as error:
        failed.append(f"{file}: {error.strerror or error}")
    for name, value in wanted.items():
        try:
            if _read(proc, name) != value:
                _path(proc, name).write_text(value)
        except OSError as error:
            failed.append(f"{name} = {value}: {error.strerror or error}")
    return failed


def main() -> int:
    """Size the connection table of this machine; the exit status."""
    failed = size_table(facts.memory().total, BY_MEMORY)
    for words in failed:
        print(words, file=sys.stderr)
    return 1 if failed else 0


def _read(proc: Path, name: str) -> str | None:
    try:
        return " ".join(_path(proc, name).read_text().split())
    except OSError:
        return None


def _path(proc: Path, name: str) -> Path:
    return proc / name.replace(".", "/")
