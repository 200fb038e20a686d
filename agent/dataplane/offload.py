# SPDX-License-Identifier: GPL-2.0-or-later
"""The flowtable: established connections that pass no rule any more. Pure.

It and the rules that lead to it come with the first farm that may use it and go with the last, in the transaction of
everything else. The rules are in the chain `established`; while that is changed, packets pass the rules once more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

AFTER = 16
"""Packets of a connection, both ways, that pass the rules first: one request and its answer are not worth an entry."""
ENDED = 1 << 24
"""Beside a backend's mark, of a connection: it was reset while it was offloaded, which its state may not show."""
REFUSED = "the kernel refuses it: "
_NAMES = ("software", "software_some", "hardware", "hardware_some")


@dataclass(frozen=True)
class Offered:
    """What the kernel and the links offer."""

    links: frozenset[tuple[str, int]] = frozenset()
    """Name and index of the links between which packets may take the short way; none: nothing is offered."""
    hardware: bool = False
    """Whether their network cards do it by themselves."""
    reason: str = "the appliance has no Ethernet link"
    """Why nothing is offered, or no hardware; "" where all is."""

    @property
    def refused(self) -> bool:
        """Whether the kernel cannot do what the links could."""
        return not self.links and self.reason.startswith(REFUSED)


NOTHING_OFFERED = Offered()


@dataclass(frozen=True)
class Offload:
    """A flowtable. Its name and its links' names are all that the kernel needs to tell of it."""

    links: frozenset[tuple[str, int]]
    """Name and index: a link that comes again by its name has left the flowtable."""
    hardware: bool
    some: bool
    """Whether there are backends in the set `slow`, whose packets are to pass the rules."""
    round: int = 0
    """Another one begins empty, so that what may be in it no longer leaves it."""

    @property
    def name(self) -> str:
        """The name of the flowtable."""
        return _NAMES[2 * self.hardware + self.some]

    @property
    def devices(self) -> frozenset[str]:
        """The names of the links."""
        return frozenset(name for name, _index in self.links)


def changes(table: str, held: Mapping[str, frozenset[str]], new: Offload | None, *, again: bool) -> Iterator[str]:
    """The commands of nft, a line each, that lead from the flowtables that are there, with their devices, to another.

    `again`: not to the same one.
    """
    if new and held.keys() == {new.name} and not again:
        if gone := held[new.name] - new.devices:
            yield f"delete flowtable {table} {_with(new, gone)}"
        if come := new.devices - held[new.name]:
            yield f"add flowtable {table} {_with(new, come)}"
        return
    if held:
        yield f"flush chain {table} established"
    for name in sorted(held):
        yield f"delete flowtable {table} {name}"
    if new:
        yield f"add flowtable {table} {_with(new, new.devices)}"
        rules = [
            *(["ct mark @slow return"] if new.some else []),
            # What is offloaded is not in conntrack's sight, which may take its reset for a forged one.
            f"tcp flags & rst != 0 ct mark set ct mark or {ENDED:#x} return",
            f"ct packets > {AFTER} ct mark set ct mark and {ENDED - 1:#x} flow add @{new.name}",
        ]
        yield from (f"add rule {table} established {rule}" for rule in rules)


def probe(offered: Offered) -> str:
    """Commands that the kernel takes if it can do what is offered; to be tried, not done."""
    offload = Offload(offered.links, offered.hardware, some=False)
    table = "inet sluice_probe"
    wanted = changes(table, {}, offload, again=False)
    return "\n".join([f"add table {table}", f"add chain {table} established", *wanted])


def _with(offload: Offload, devices: frozenset[str]) -> str:
    names = ", ".join(f'"{device}"' for device in sorted(devices))
    flags = "flags offload; " if offload.hardware else ""
    return f"{offload.name} {{ hook ingress priority filter; devices = {{ {names} }}; {flags}counter; }}"
