# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel is to hold, as values: immutable, comparable, and free of I/O."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter

from agent.dataplane.assignment import Assignment, Side, SideNumbers
from agent.dataplane.limits import PolicyChain
from agent.dataplane.offload import NOTHING_OFFERED, Offered, Offload
from agent.dataplane.persistence import Persistence
from agent.dataplane.pool import HashPicker, Picker, is_exact
from agent.dataplane.quality import Marking, Stage
from agent.dataplane.screening import Listed, NetworkSet, Sieve
from agent.dataplane.sources import SourcePool
from agent.dataplane.tables import IngressChain
from agent.model import Family, Farm
from agent.model.state import OffloadKind, Role
from agent.model.types import Address

Element = tuple[str, str]
"""What belongs to a key of a set: the value ("" in a set that is no map) and the comment ("" for none)."""
Elements = Mapping[str, Mapping[str, Element]]
"""Elements by set and key, all in the notation of nft."""
Chain = HashPicker | Persistence | PolicyChain | Stage | Marking | Sieve | NetworkSet | SourcePool | IngressChain
"""A chain, or a set, that is not of the skeleton: it comes with the first who wants it and goes with the last."""


def body_of(chain: Chain) -> str:
    """What stands between its braces, in one line."""
    return chain.body if isinstance(chain, IngressChain) else "; ".join(filter(None, (chain.declaration, *chain.rules)))


@dataclass(frozen=True)
class Reach:
    """How a side lies among the links: the backends of one that is forwarded at ingress, and its addresses."""

    exits: Mapping[str, int] = field(default_factory=dict)
    """The index of the link that each is on, by name; one that is on none is missing."""
    own: frozenset[Address] = frozenset()
    """Virtual addresses of the side that are a link's own: what comes for them is the appliance's, at ingress; and
    answers to the appliance come there. Only of sides to which that makes a difference."""


NOWHERE = Reach()


@dataclass(frozen=True)
class Part:
    """The part of the ruleset of one side of a farm, with all that it was made from."""

    farm: Farm
    weights: Mapping[str, int]
    roles: Mapping[str, Role]
    numbers: SideNumbers
    elements: Elements
    failed: frozenset[int]
    """The marks of backends that are not to be waited for: UDP flows and unanswered connections leave them."""
    cut: frozenset[int]
    """The marks of those that lose all their connections."""
    shares: Mapping[str, float]
    reach: Reach = NOWHERE
    chains: frozenset[Chain] = frozenset()
    """The chains that it wants and that are not of the skeleton."""


@dataclass(frozen=True)
class Whole:
    """What a farm has for both its sides together, and what it was made from."""

    farm: Farm
    numbers: tuple[SideNumbers, ...]
    elements: Elements


@dataclass(frozen=True)
class Ruleset:
    """The whole contents of our tables for one document and its effective weights."""

    parts: Mapping[Side, Part]
    """Only farms that are enabled."""
    common: Elements
    """The elements that belong to no single farm."""
    assignment: Assignment
    chains: frozenset[Chain] = frozenset()
    """The chains that are not of the skeleton: they come and go with those who want them."""
    links: tuple[tuple[int, str], ...] = ()
    """Index and name of each link that packets can come in by."""
    wholes: Mapping[str, Whole] = field(default_factory=dict)
    """What farms have for both their sides together, by farm; only those that have something."""
    lists: Mapping[str, Listed] = field(default_factory=dict)
    """The elements of network lists that farms use, by the name of the set."""
    offered: Offered = NOTHING_OFFERED
    """What could be offloaded to."""
    offload: Offload | None = None
    """The flowtable; None where no farm may use it, or nothing is offered."""
    _marks: dict[int, tuple[str, str]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _turns: frozenset[Picker] | None = field(default=None, init=False, repr=False, compare=False)
    _name: object = field(default_factory=object, init=False, repr=False, compare=False)
    _origin: tuple[object, frozenset[Side]] | None = field(default=None, init=False, repr=False, compare=False)
    """The `_name` of the ruleset that this one was reweighed from, and the sides that were: to compare them quickly."""

    def exact_turn(self, farm: str) -> bool:
        """Whether the backends of `farm` get connections in exact turn, undisturbed by other farms' traffic.

        False also for a farm that is not in the ruleset, or none of whose backends takes connections.
        """
        parts = [part for _, part in self.sides(farm) if part.weights]
        return bool(parts) and all(
            part.numbers.picker and is_exact(part.numbers.picker, part.weights.values()) for part in parts
        )

    def offloading(self) -> tuple[OffloadKind, str]:
        """How connections of farms that may be offloaded are, and why not better ("" where nothing is better)."""
        if not self.offered.links:
            return "none", self.offered.reason
        return "hardware" if self.offered.hardware else "software", self.offered.reason

    def share(self, farm: str, backend: str) -> float:
        """The part of new connections of its IP family, 0..1, that the buckets give to `backend`.

        0 for what is not in the ruleset.
        """
        return max((part.shares.get(backend, 0.0) for _, part in self.sides(farm)), default=0.0)

    def marks(self) -> Mapping[int, tuple[str, str]]:
        """The connection mark of every backend -> (farm, backend)."""
        if not self._marks:
            for side, part in self.parts.items():
                self._marks.update((mark, (side.farm, key[0])) for key, mark in part.numbers.backends.items())
        return self._marks

    def failed(self) -> set[int]:
        """The marks of all backends that are not to be waited for."""
        return set().union(*(part.failed for part in self.parts.values()))

    def cut(self) -> set[int]:
        """The marks of all backends that lose all their connections."""
        return set().union(*(part.cut for part in self.parts.values()))

    def turns(self) -> frozenset[Picker]:
        """The pickers that farms have to themselves."""
        if self._turns is None:
            pickers = (part.numbers.picker for part in self.parts.values())
            turns = _turns(pickers)
            object.__setattr__(self, "_turns", turns)
            return turns
        return self._turns

    def reweighed(self, parts: Mapping[Side, Part], chains: frozenset[Chain]) -> "Ruleset":
        """The ruleset with other parts for some of its sides, whose backends have the marks they had."""
        before = [self.parts[side].numbers for side in parts]
        after = {side: part.numbers for side, part in parts.items()}
        sides = {**self.assignment.sides, **after}
        assignment = replace(self.assignment, sides=sides)
        result = Ruleset(
            {**self.parts, **parts},
            self.common,
            assignment,
            chains,
            self.links,
            self.wholes,
            self.lists,
            self.offered,
            self.offload,
        )
        left = self.turns() - {each.picker for each in before}
        turns = [*left, *(each.picker for each in after.values())]
        known = {
            "_marks": self._marks,  # the same dictionary, whether it was filled by now or not
            "_turns": _turns(turns),
            "_origin": (self._name, frozenset(parts)),
        }
        for name, value in known.items():
            object.__setattr__(result, name, value)
        return result

    def pieces(self) -> Iterator[tuple[str | None, Elements]]:
        """The elements piece by piece: what is common (None), then by farm, in the order of names twice."""
        yield None, self.common
        for side in sorted(self.parts):
            yield side.farm, self.parts[side].elements
        for _, listed in sorted(self.lists.items(), key=itemgetter(0)):
            yield None, listed.elements
        for farm, whole in sorted(self.wholes.items(), key=itemgetter(0)):
            yield farm, whole.elements

    def sides(self, farm: str) -> Iterator[tuple[Side, Part]]:
        """The sides of a farm and their parts, IPv4 first; none for what is not in the ruleset."""
        families: tuple[Family, ...] = (4, 6)
        for family in families:
            side = Side(farm, family)
            if side in self.parts:
                yield side, self.parts[side]


Changed = tuple[Side, Part | None, Part | None]
"""A side with its parts before and after; None where it is not."""


def changed(old: Ruleset, new: Ruleset) -> list[Changed]:
    """The sides whose parts are not the same object, in the order of names."""
    before, after = old.parts, new.parts
    origin, touched = new._origin or (None, ())  # noqa: SLF001 - of the same class, and here is its home
    if origin is old._name:  # noqa: SLF001 - as above
        return [(side, before[side], after[side]) for side in sorted(touched)]
    found: list[Changed] = [
        (side, before.get(side), part) for side, part in after.items() if before.get(side) is not part
    ]
    found += [(side, before[side], None) for side in before.keys() - after.keys()]
    return sorted(found, key=itemgetter(0))


def _turns(pickers: Iterable[Picker | HashPicker | None]) -> frozenset[Picker]:
    return frozenset(picker for picker in pickers if isinstance(picker, Picker) and not picker.shared)
