# SPDX-License-Identifier: GPL-2.0-or-later
"""Looking into a disk that is switched off, and damaging it."""

import uuid
from dataclasses import dataclass
from pathlib import Path

from lab import tools
from lab.qemu import Disks

_SECTOR = 512


@dataclass(frozen=True)
class Partition:
    """An entry of the partition table; place and size in bytes."""

    label: str
    start: int
    size: int


def partitions(raw: Path) -> list[Partition]:
    """The partitions of the raw disk image, from its GPT (UEFI specification 2.10, 5.3)."""
    with raw.open("rb") as disk:
        disk.seek(_SECTOR)
        header = disk.read(92)
        if header[:8] != b"EFI PART":
            raise ValueError(f"{raw} has no GPT")
        first = int.from_bytes(header[72:80], "little")
        count = int.from_bytes(header[80:84], "little")
        size = int.from_bytes(header[84:88], "little")
        disk.seek(first * _SECTOR)
        entries = [disk.read(size) for _ in range(count)]
    found = []
    for entry in entries:
        if uuid.UUID(bytes_le=entry[:16]).int == 0:
            continue
        start, end = (int.from_bytes(entry[at : at + 8], "little") for at in (32, 40))
        label = entry[56:128].decode("utf-16-le").rstrip("\0")
        found.append(Partition(label, start * _SECTOR, (end - start + 1) * _SECTOR))
    return found


def partition(raw: Path, label: str) -> Partition:
    """The partition with this label; LookupError, naming those that are there, if none has it."""
    found = partitions(raw)
    for one in found:
        if one.label == label:
            return one
    raise LookupError(f"{raw} has no partition {label}, only {[one.label for one in found]}")


def as_raw(disks: Disks, raw: Path) -> Path:
    """Write the disk (of a machine that is off) as a raw image, in which offsets are those of the disk."""
    tools.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(disks.disk), str(raw))
    return raw


def from_raw(raw: Path, disks: Disks) -> None:
    """Put the contents of `raw` in the place of the disk."""
    tools.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disks.disk))
    raw.unlink()


def overwrite(raw: Path, at: Partition, offset: int, length: int) -> None:
    """Write garbage over `length` bytes of a partition, from `offset` on."""
    with raw.open("r+b") as disk:
        disk.seek(at.start + offset)
        disk.write(b"\xa5" * min(length, at.size - offset))
