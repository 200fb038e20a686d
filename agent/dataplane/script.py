# SPDX-License-Identifier: GPL-2.0-or-later
"""Rulesets and their differences as text for nftables."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from agent.dataplane.assignment import tunnel_name
from agent.dataplane.ingress import rank_of
from agent.dataplane.layout import is_network_set
from agent.dataplane.limits import Meter, meters_named, meters_of
from agent.dataplane.offload import Offload, changes
from agent.dataplane.persistence import OwnMap, own_maps
from agent.dataplane.quality import GRADE, QUALITY
from agent.dataplane.readback import TARGETS
from agent.dataplane.ruleset import Chain, Element, Elements, Ruleset, body_of, changed
from agent.dataplane.screening import STAGES
from agent.dataplane.skeleton import SKELETON
from agent.dataplane.tables import INGRESS, INGRESS_CHAINS, TABLE, IngressChain, table_of

CHAINS = "chains"
"""The chains that come and go, where elements are told by set."""
METERS = "meters"
"""The sets that come and go with them."""
MAPS = "maps"
"""The maps that do."""
INGRESS_MAPS = "in_maps"
"""Those of `table netdev sluice`."""
CHAIN_SETS = {TABLE: CHAINS, INGRESS: INGRESS_CHAINS}
"""Where the chains of each table stand."""
_KINDS = {METERS: "set", MAPS: "map", INGRESS_MAPS: "map"}
"""What is no chain."""
_OF_NETWORKS = ("static4", "static6", "in_static4", "in_static6", "near4", "near6")
"""The sets whose keys end with a network."""
OFFLOAD = "offload"
"""The flowtables, likewise; their devices, with commas between them, are the value."""


@dataclass(frozen=True, slots=True)
class Command:
    """Elements that a set gets or loses, and which farm (None: none, or unknown) they are of.

    What the sets `chains` and `in_chains` get or lose is a chain with its rules as the value (or the set of a network
    list); the sets `meters`, `maps` and `in_maps`, a set or map, with its declaration. The elements of `offload` are
    commands of nft.
    """

    verb: Literal["add", "delete"]
    set_name: str
    elements: Mapping[str, Element]
    farm: str | None

    @property
    def text(self) -> str:
        """One line for nft."""
        if self.set_name == OFFLOAD:
            return "; ".join(self.elements)
        if self.structural:
            table, kind = table_of(self.set_name), _KINDS.get(self.set_name, "chain")
            return "; ".join(
                _made(self.verb, f"{'set' if is_network_set(name) else kind} {table}", name, what)
                for name, (what, _comment) in self.elements.items()
            )
        keys = [_with_length(key) if self.set_name in _OF_NETWORKS else key for key in self.elements]
        if self.verb == "add":
            keys = [_element(*each) for each in zip(keys, self.elements.values(), strict=True)]
        words = ", ".join(keys)
        return f"{self.verb} element {table_of(self.set_name)} {self.set_name} {{ {words} }}"

    @property
    def structural(self) -> bool:
        """Whether it is about chains, sets or flowtables and not about elements."""
        return self.set_name in (CHAINS, INGRESS_CHAINS, OFFLOAD) or self.set_name in _KINDS

    @property
    def blocked(self) -> bool:
        """Whether its text is a block of a table with one thing in it."""
        return self.verb == "add" and self.structural and self.set_name != OFFLOAD and len(self.elements) == 1


def script(ruleset: Ruleset) -> str:
    """A script for `nft -f`: the kernel then holds this ruleset, whatever our tables held before."""
    lines = ["# What Sluice has the kernel hold. Load it with: nft -f FILE", SKELETON]
    for address, index in sorted(ruleset.assignment.tunnels.items()):
        lines.append(f"# Beside it, the tunnel {tunnel_name(index)} (link {index}) to {address}")
    structure = (*_come(ruleset.chains, _sets_of(ruleset.chains)), *_offload({}, ruleset.offload))
    lines.extend(command.text for command in structure)
    for farm, elements in ruleset.pieces():
        lines.append(f"# farm {farm}" if farm else "# all farms")
        lines.extend(command.text for command in _adds(farm, elements))
    return "\n".join(lines) + "\n"


def fresh(ruleset: Ruleset) -> list[Command]:
    """The commands that fill an empty table."""
    elements = (command for farm, elements in ruleset.pieces() for command in _adds(farm, elements))
    return [*_come(ruleset.chains, _sets_of(ruleset.chains)), *_offload({}, ruleset.offload), *elements]


def delta(old: Ruleset, new: Ruleset, flowtables: Mapping[str, frozenset[str]] | None = None) -> list[Command]:
    """The commands that lead from one ruleset to another. Parts that both share cost nothing.

    `flowtables`: those that are there, with their devices, where that may be others than `old` has.
    """
    deletions: list[Command] = []
    additions: list[Command] = []
    pieces: list[tuple[str | None, Elements, Elements]] = [(None, old.common, new.common)]
    for side, before, after in changed(old, new):
        pieces.append((side.farm, before.elements if before else {}, after.elements if after else {}))
    if old.wholes is not new.wholes:
        for name in sorted(old.wholes.keys() | new.wholes.keys()):
            one, other = old.wholes.get(name), new.wholes.get(name)
            if one is not other:
                pieces.append((name, one.elements if one else {}, other.elements if other else {}))
    for name in sorted(old.lists.keys() | new.lists.keys()):
        had, has = old.lists.get(name), new.lists.get(name)
        # The set itself goes with its last user, and its elements with it.
        if has and had is not has:
            pieces.append((None, had.elements if had else {}, has.elements))
    for farm, before_elements, after_elements in pieces:
        fewer, more = _difference(before_elements, after_elements)
        deletions.extend(_deletes(farm, fewer))
        additions.extend(_adds(farm, more))
    # All deletions first: an address and port may move from one farm to another. No chain goes while it is referred to.
    before_sets, after_sets = _sets_of(old.chains), _sets_of(new.chains)
    come = _come(new.chains - old.chains, after_sets - before_sets)
    gone = _go(map(_place, old.chains - new.chains), before_sets - after_sets)
    offload: list[Command] = []
    if old.offload != new.offload:
        held = {old.offload.name: old.offload.devices} if old.offload else {}
        again = bool(old.offload and new.offload and old.offload.round != new.offload.round)
        offload = _offload(held if flowtables is None else flowtables, new.offload, again=again)
    return [*come, *offload, *deletions, *additions, *gone]


def delta_from(held: Elements, new: Ruleset) -> list[Command]:
    """The commands that lead from elements that were found in the kernel to a ruleset.

    What `held` has as the sets `chains` and `in_chains` are the chains that come and go, as `offload` the flowtables.
    """
    chains = {_place(chain): chain for chain in new.chains}
    found = {(set_name, name) for set_name in CHAIN_SETS.values() for name in held.get(set_name, {})}
    before_sets: set[Meter | OwnMap] = {*meters_named(held.get(CHAINS, {}))}
    for set_name, ingress in ((CHAINS, False), (INGRESS_CHAINS, True)):
        told = (OwnMap.of_chain(name, ingress=ingress) for name in held.get(set_name, ()))
        before_sets |= {own for own in told if own}
    after_sets = _sets_of(new.chains)
    come_first = _come([chain for place, chain in chains.items() if place not in found], after_sets - before_sets)
    gone_last = _go(found - chains.keys(), before_sets - after_sets)
    additions: list[Command] = []
    left = {name: dict(each) for name, each in held.items() if name not in (*CHAIN_SETS.values(), OFFLOAD)}
    flowtables = {
        name: frozenset(filter(None, devices.split(","))) for name, (devices, _) in held.get(OFFLOAD, {}).items()
    }
    gone: dict[str, dict[str, Element]] = {}
    # What is left out now and was there may be in the flowtable.
    slow = {key for _farm, wanted in new.pieces() for key in wanted.get("slow", ()) if key not in held.get("slow", {})}
    again = any(key in held.get(set_name, {}) for key in slow for set_name in TARGETS)
    for farm, wanted in new.pieces():
        here = {
            name: {key: left[name].pop(key) for key in keys if key in left.get(name, {})}
            for name, keys in wanted.items()
        }
        replaced, come = _difference(here, wanted)
        for set_name, elements in replaced.items():
            gone.setdefault(set_name, {}).update(elements)
        additions.extend(_adds(farm, come))
    for set_name, elements in left.items():
        if not is_network_set(set_name) or (CHAINS, set_name) in chains:
            gone.setdefault(set_name, {}).update(elements)
    return [*come_first, *_offload(flowtables, new.offload, again=again), *_deletes(None, gone), *additions, *gone_last]


def text(commands: Iterable[Command]) -> str:
    """The commands as one transaction; line n is the n-th command."""
    return "\n".join(command.text for command in commands)


def compact(commands: Iterable[Command]) -> str:
    """The same transaction in less of libnftables' memory; line n is the n-th command here, too.

    It takes half a megabyte for each block of a table, so chains and sets that come one after the other share one.
    """
    lines: list[str] = []
    opened = ""
    for command in commands:
        block = f"table {table_of(command.set_name)} {{ " if command.blocked else ""
        line = command.text
        if opened and block == opened:
            lines[-1] = lines[-1].removesuffix(" }")
            line = line.removeprefix(block)
        lines.append(line)
        opened = block
    return "\n".join(lines)


def _place(chain: Chain) -> tuple[str, str]:
    """The set that a chain stands in, and its name."""
    return INGRESS_CHAINS if isinstance(chain, IngressChain) else CHAINS, chain.name


def _order(place: tuple[str, str]) -> tuple[int, str, str]:
    """Who leads to others comes after them."""
    set_name, name = place
    if set_name == INGRESS_CHAINS:
        return rank_of(name), set_name, name
    rank = next((stage.rank for stage in (QUALITY, GRADE, *STAGES) if stage.name == name), 0)
    return -1 if is_network_set(name) else rank, set_name, name


def _sets_of(chains: Iterable[Chain]) -> frozenset[Meter | OwnMap]:
    return frozenset({*meters_of(chains), *own_maps(chains)})


def _kept_as(one: Meter | OwnMap) -> str:
    if isinstance(one, OwnMap):
        return INGRESS_MAPS if one.ingress else MAPS
    return METERS


def _name(one: Meter | OwnMap) -> str:
    return one.name


def _come(chains: Iterable[Chain], sets: Iterable[Meter | OwnMap]) -> list[Command]:
    come = [
        Command("add", _kept_as(each), {each.name: (each.declaration, "")}, None) for each in sorted(sets, key=_name)
    ]
    places = {_place(chain): chain for chain in chains}
    return come + [
        Command("add", set_name, {name: (body_of(places[set_name, name]), "")}, None)
        for set_name, name in sorted(places, key=_order)
    ]


def _go(chains: Iterable[tuple[str, str]], sets: Iterable[Meter | OwnMap]) -> list[Command]:
    places = sorted(chains, key=_order, reverse=True)
    gone = [Command("delete", set_name, {name: ("", "")}, None) for set_name, name in places]
    return gone + [Command("delete", _kept_as(each), {each.name: ("", "")}, None) for each in sorted(sets, key=_name)]


def _offload(held: Mapping[str, frozenset[str]], new: Offload | None, *, again: bool = False) -> list[Command]:
    return [Command("add", OFFLOAD, {line: ("", "")}, None) for line in changes(TABLE, held, new, again=again)]


def _made(verb: str, place: str, name: str, what: str) -> str:
    """Make or delete a chain or set; `place` is what it is, and of which table."""
    # One line: a chain with its rules is there whole, or not at all.
    kind, table = place.split(maxsplit=1)
    return f"table {table} {{ {kind} {name} {{ {what}; }}; }}" if verb == "add" else f"delete {place} {name}"


def _difference(before: Elements, after: Elements) -> tuple[Elements, Elements]:
    gone: dict[str, Mapping[str, Element]] = {}
    come: dict[str, Mapping[str, Element]] = {}
    for set_name in [*before, *(name for name in after if name not in before)]:
        old: Mapping[str, Element] = before.get(set_name, {})
        new: Mapping[str, Element] = after.get(set_name, {})
        if not old:
            come[set_name] = new
        elif not new:
            gone[set_name] = old
        elif old is not new and old != new:
            gone[set_name] = {key: element for key, element in old.items() if new.get(key) != element}
            come[set_name] = {key: element for key, element in new.items() if old.get(key) != element}
    return gone, come


def _adds(farm: str | None, elements: Elements) -> Iterator[Command]:
    for set_name, content in elements.items():
        if content:
            yield Command("add", set_name, content, farm)


def _deletes(farm: str | None, elements: Elements) -> Iterator[Command]:
    for set_name, content in elements.items():
        if content:
            yield Command("delete", set_name, content, farm)


def _with_length(key: str) -> str:
    """A key that ends with one address, with the length of its prefix: without it nft 1.0.6 does not find it again."""
    return key if "/" in key else f"{key}/{128 if ':' in key else 32}"


def _element(key: str, element: Element) -> str:
    value, comment = element
    # Names are checked by the model; a quote or a backslash could not be written in nft's notation at all.
    note = ' comment "' + "".join(c for c in comment if c.isprintable() and c not in '"\\') + '"' if comment else ""
    if value.startswith("limit "):
        return f"{key} {value} counter{note}"
    return f"{key}{note} : {value}" if value else f"{key}{note}"
