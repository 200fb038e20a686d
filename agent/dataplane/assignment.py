# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers: which mark a side of a farm and a backend have, and which picker a side has. Pure and stable.

What has a number keeps it; what is new gets the next one that is free, in a circle, so that a number is not used again
while a connection of its last owner may still be known to the kernel. A backend whose address or port changes is
another server and gets another number.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.dataplane.pool import HashPicker, Picker, Pool, fits
from agent.model import Configuration, Family, Farm, SorryServer

LAST_MARK = 0xFFFFFF
"""Marks are 1 to this; the upper 8 bits of a packet's or connection's mark are kept for other uses."""

FIRST_TUNNEL = 0x1000000
"""The index of tunnel 0: the kernel numbers other devices from 1 on, one by one."""

BackendKey = tuple[str, str, int | None]
"""Name, address and port of a backend within its farm. Sorry servers are, too, by names that no backend can have."""


class Side(NamedTuple):
    """A farm's virtual addresses and backends of one IP family: what is balanced by itself."""

    farm: str
    family: Family

    def __str__(self) -> str:
        return f"{self.farm}/{self.family}"


def sides(config: Configuration) -> dict[Side, Farm]:
    """The sides of every enabled farm."""
    return {Side(name, family): farm for name, farm in config.farms.items() if farm.enabled for family in farm.families}


@dataclass(frozen=True)
class SideNumbers:
    """The numbers of one side of a farm. `picker` is None while no backend was ever usable."""

    mark: int
    picker: Picker | HashPicker | None
    backends: Mapping[BackendKey, int]


@dataclass(frozen=True)
class Assignment:
    """Which numbers farms and backends have. Opaque to others: take it from a Ruleset or Kernel.adopt, hand it on."""

    sides: Mapping[Side, SideNumbers] = field(default_factory=dict)
    next_farm: int = 1
    next_backend: int = 1
    tunnels: Mapping[str, int] = field(default_factory=dict)
    """The network device that leads to each server with the forwarding `tunnel`, by its address."""


def assign(
    farms: Mapping[Side, Farm],
    weights: Mapping[Side, Mapping[str, int]],
    previous: Assignment,
    unchanged: Collection[Side],
) -> Assignment:
    """Numbers for `farms`, the sides of the enabled ones; `weights` has for each its positive weights.

    `unchanged` names sides whose numbers in `previous` are known to fit still. Of the others those that fit are kept.
    A side that shares a random picker gets a turn of its own as soon as one is free.
    """
    farm_marks = _Marks(previous.next_farm, (numbers.mark for numbers in previous.sides.values()))
    backend_marks: _Marks | None = None
    kept: dict[Side, Picker] = {}
    for side in sorted(farms):
        numbers = previous.sides.get(side)
        held = numbers.picker if numbers else None
        if isinstance(held, Picker) and farms[side].scheduler != "source-hash":
            usable = weights[side].values()
            if side in unchanged or not usable or fits(held, usable):
                kept[side] = held
    pool = Pool(kept.values())
    result: dict[Side, SideNumbers] = {}
    for side in sorted(farms):
        before = previous.sides.get(side)
        picker = _picker(side, farms[side], weights[side].values(), kept.get(side), pool)
        if before and side in unchanged:
            result[side] = before if picker == before.picker else SideNumbers(before.mark, picker, before.backends)
            continue
        if backend_marks is None:
            backend_marks = _Marks(
                previous.next_backend,
                (mark for numbers in previous.sides.values() for mark in numbers.backends.values()),
            )
        marks = _backends(side, farms[side], before, backend_marks)
        mark = before.mark if before else farm_marks.new()
        same = before and before.picker == picker and before.backends == marks
        result[side] = before if before and same else SideNumbers(mark, picker, marks)
    next_backend = backend_marks.next if backend_marks else previous.next_backend
    return Assignment(result, farm_marks.next, next_backend)


def _picker(
    side: Side, farm: Farm, usable: Collection[int], kept: Picker | None, pool: Pool
) -> Picker | HashPicker | None:
    if farm.scheduler == "source-hash":
        prefix = farm.hash_prefix4 if side.family == 4 else farm.hash_prefix6
        return HashPicker(side.family, farm.hash_buckets, prefix, farm.hash_port)
    if usable and (kept is None or kept.kind == "random"):
        return (kept and pool.turn(usable)) or kept or pool.choose(usable)
    return kept


def _backends(side: Side, farm: Farm, before: SideNumbers | None, marks: "_Marks") -> dict[BackendKey, int]:
    known = before.backends if before else {}
    return {key: known.get(key) or marks.new() for key in backend_keys(side, farm)}


def backend_keys(side: Side, farm: Farm) -> Iterator[BackendKey]:
    """The keys of the backends of one side of `farm`, in the order of names, and that of its sorry server."""
    for name, backend in sorted(farm.backends.items()):
        if backend.address.version == side.family:
            yield name, str(backend.address), None if farm.keeps_ports else backend.port
    server = farm.sorry_server(side.family)
    if server:
        yield sorry_name(server), str(server.address), None if farm.keeps_ports else server.port


def sorry_name(server: SorryServer) -> str:
    """What a sorry server is called among its farm's backends: one of each family has a name of its own."""
    return f"!{server.address.version}"


def tunnel_name(index: int) -> str:
    """What a tunnel is called."""
    return f"sluice{index - FIRST_TUNNEL}"


def tunnel_indexes(addresses: Collection[str], before: Mapping[str, int]) -> dict[str, int]:
    """The index of the tunnel to each of `addresses`.

    What had one keeps it; others get the lowest that nobody had, since both devices are there while one takes over.
    """
    taken = set(before.values())
    kept = {address: before[address] for address in addresses if address in before}
    index = FIRST_TUNNEL
    for address in sorted(addresses - kept.keys()):
        while index in taken:
            index += 1
        kept[address] = index
        taken.add(index)
    return kept


class _Marks:
    def __init__(self, start: int, used: Iterator[int]) -> None:
        self.next = start
        self._used = set(used)

    def new(self) -> int:
        while self.next in self._used or not 1 <= self.next <= LAST_MARK:
            self.next = self.next + 1 if self.next < LAST_MARK else 1
        mark = self.next
        self._used.add(mark)
        self.next = mark + 1 if mark < LAST_MARK else 1
        return mark
