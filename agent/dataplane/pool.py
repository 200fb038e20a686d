# SPDX-License-Identifier: GPL-2.0-or-later
"""The pickers: one-rule chains that choose a bucket. They are never changed while a farm has them.

A `turn` picker has a counter (`numgen inc`) and serves one farm at a time, so that no other farm's traffic disturbs
the turn. There are several for each small number of buckets, one or a few for the larger. Where they are used up,
farms get a `random` picker (`numgen random`), which any number of them share: their shares hold on average, and do so
even when one farm's connections follow another's in a pattern, which a shared counter would turn into a bias.

A `hash` picker chooses by the client's address. Any number of farms share it; since there are more ways to hash than
any appliance needs, such a chain comes with the first farm that wants it and goes with the last.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from agent.dataplane import buckets
from agent.model import Family


@dataclass(frozen=True)
class Picker:
    """One picker of the pool: chooses among `size` buckets. `number` tells pickers of a size apart."""

    kind: Literal["turn", "random"]
    size: int
    number: int = 0

    @property
    def name(self) -> str:
        """The name of its chain."""
        return f"{self.kind}_{self.size}_{self.number}" if self.kind == "turn" else f"{self.kind}_{self.size}"

    @property
    def buckets(self) -> str:
        """The map that its farms' buckets are in.

        Each rule that looks into a map makes every addition to it dearer, and with many farms most are on a random
        picker: with the 273 turn pickers on the same map, 10 000 farms take a second longer to load.
        """
        return "buckets" if self.kind == "turn" else "shared"

    @property
    def rules(self) -> tuple[str, ...]:
        """The rule of its chain."""
        how = "inc" if self.kind == "turn" else "random"
        return (f"ct mark set meta mark . numgen {how} mod {self.size} map @{self.buckets}",)

    @property
    def shared(self) -> bool:
        """Whether several farms may have it at a time. One bucket needs no turn."""
        return self.kind == "random" or self.size == 1


_SEED = 0x5155_1CE5
"""The hash is the same on every appliance and after every start: so a client keeps its backend."""

_HASH_NAME = re.compile(r"hash([46])_([0-9]{1,5})_([0-9]{1,3})(_port)?")


@dataclass(frozen=True)
class HashPicker:
    """Chooses among `size` buckets by the first `prefix` bits of the client's address, and its port if `port`."""

    family: Family
    size: int
    prefix: int
    port: bool

    @property
    def name(self) -> str:
        """The name of its chain."""
        return f"hash{self.family}_{self.size}_{self.prefix}{'_port' if self.port else ''}"

    @property
    def buckets(self) -> str:
        """The map that its farms' buckets are in."""
        return "buckets"

    declaration = ""
    """No hook leads to its chain."""
    rank = 0

    @property
    def rules(self) -> tuple[str, ...]:
        """The rule of its chain."""
        source = masked(self.family, self.prefix) + (" . th sport" if self.port else "")
        return (f"ct mark set meta mark . jhash {source} mod {self.size} seed {_SEED:#x} map @buckets",)


def masked(family: Family, prefix: int) -> str:
    """The first `prefix` bits of the client's address, as an expression of nft."""
    source, bits, address = ("ip saddr", 32, IPv4Address) if family == 4 else ("ip6 saddr", 128, IPv6Address)
    return source if prefix == bits else f"{source} and {address((1 << bits) - (1 << bits - prefix))}"


def picker_of(chain: str) -> "Picker | HashPicker | None":
    """The picker whose chain has this name; None for any other name."""
    match = _HASH_NAME.fullmatch(chain)
    if match:
        return HashPicker(4 if match[1] == "4" else 6, int(match[2]), int(match[3]), bool(match[4]))
    return BY_NAME.get(chain)


# How many farms can have a turn of their own, by number of buckets. A size also serves its divisors.
_TURNS = {
    1: 1, 2: 24, 3: 20, 4: 20, 5: 12, 6: 16, 7: 8, 8: 16, 9: 6, 10: 8, 11: 4, 12: 12, 13: 4, 14: 4, 15: 4, 16: 8,
    **dict.fromkeys(range(17, 65), 1), 20: 3, 24: 4, 30: 3, 32: 3, 36: 2, 40: 2, 48: 2, 60: 3, 64: 2,
    **dict.fromkeys((72, 80, 84, 90, 96, 100, 108, 112, 120, 128, 132, 140, 144, 160, 168, 180, 192, 200), 1),
    **dict.fromkeys((210, 216, 240, 252, 256, 300, 360, 420, 480, 500, 512, 720, 840, 1000), 1),
    1024: 4, 4096: 4, 16384: 2, 65536: 1,
}  # fmt: skip
_RANDOMS = (*range(2, 65), 72, 80, 90, 96, 100, 120, 128, 144, 160, 180, 192, 200, 240, 256, *buckets.COARSE_SIZES)

TURNS = {size: [Picker("turn", size, number) for number in range(count)] for size, count in _TURNS.items()}
"""The turn pickers by size."""
RANDOMS = {size: Picker("random", size) for size in _RANDOMS}
"""The random picker of each size that has one."""
BY_NAME = {picker.name: picker for picker in (*(p for ps in TURNS.values() for p in ps), *RANDOMS.values())}
"""Every picker by its chain's name, in the order in which the table has them."""


@lru_cache(maxsize=4096)
def _turn_sizes(length: int) -> list[int]:
    return buckets.exact_sizes(length, TURNS)


class Pool:
    """Which turn pickers are free. Mutable, for the time of one assignment."""

    def __init__(self, taken: Iterable[Picker]) -> None:
        used = {picker for picker in taken if not picker.shared}
        self._free = {size: [p for p in pickers if p not in used] for size, pickers in TURNS.items()}
        self._none_left: set[int] = set()

    def choose(self, weights: Collection[int]) -> Picker:
        """Take a picker for these weights (all positive): a turn of its own, else a shared random one."""
        return self.turn(weights) or RANDOMS[buckets.size_for(weights, RANDOMS)]

    def turn(self, weights: Collection[int]) -> Picker | None:
        """Take a picker that gives these weights (all positive) a turn of their own; None where none is left."""
        length = buckets.cycle(weights)
        if length in self._none_left:
            return None
        sizes = _turn_sizes(length)
        for size in sizes or [buckets.coarse_size(weights)]:
            for picker in self._free[size]:
                if not picker.shared:
                    self._free[size].remove(picker)
                return picker
        if sizes:
            self._none_left.add(length)
        return None


def fits(picker: Picker, weights: Iterable[int]) -> bool:
    """Whether a farm may keep `picker` with these weights: as exact as they can be, at a sensible cost."""
    positive = [weight for weight in weights if weight > 0]
    sizes = buckets.exact_sizes(buckets.cycle(positive), TURNS if picker.kind == "turn" else RANDOMS)
    return picker.size in sizes if sizes else picker.size == buckets.coarse_size(positive)


def is_exact(picker: Picker | HashPicker, weights: Iterable[int]) -> bool:
    """Whether `picker` gives these weights undisturbed by other farms: in exact turn, or by hash."""
    if isinstance(picker, HashPicker):
        return True
    length = buckets.cycle(weights)
    return length == 1 or (picker.kind == "turn" and length > 0 and picker.size % length == 0)


def chains() -> Iterator[tuple[str, str]]:
    """Name and rule of every picker's chain."""
    for picker in BY_NAME.values():
        yield picker.name, picker.rules[0]
