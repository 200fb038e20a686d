# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures of the appliance as it runs: version, uptime, memory, load, disk, conntrack."""

import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PRODUCT = "Sluice"


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    total: int
    available: int


@dataclass(frozen=True)
class Space:
    """Bytes of a file system; `available` is what an unprivileged program may still write."""

    total: int
    available: int


@dataclass(frozen=True)
class Conntrack:
    """Connections that the kernel tracks now, and how many it can; zeros where it tracks none."""

    count: int
    limit: int


def version() -> str:
    """The software's version; "unpackaged" from a checkout that was not installed."""
    try:
        return metadata.version("sluice")
    except metadata.PackageNotFoundError:
        return "unpackaged"


def uptime() -> float:
    """Seconds since the kernel started."""
    return float(Path("/proc/uptime").read_text().split()[0])


def memory() -> Memory:
    """The machine's memory, from /proc/meminfo (kibibytes there)."""
    values: dict[str, int] = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    return Memory(values["MemTotal"], values["MemAvailable"])


def load() -> tuple[float, float, float]:
    """Load averages over 1, 5 and 15 minutes."""
    return os.getloadavg()


def data_partition(data: Path = Path("/data")) -> Space | None:
    """The size of the data partition; None when nothing is mounted at `data`."""
    try:
        if not data.is_mount():
            return None
        found = os.statvfs(data)
    except OSError:
        return None
    return Space(found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail)


def conntrack() -> Conntrack:
    """How full the kernel's connection table is."""
    return Conntrack(_number("nf_conntrack_count"), _number("nf_conntrack_max"))


def _number(name: str) -> int:
    try:
        return int(Path("/proc/sys/net/netfilter", name).read_text())
    except (OSError, ValueError):
        return 0
