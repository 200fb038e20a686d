# SPDX-License-Identifier: GPL-2.0-or-later
"""Rulesets and their differences as text for nftables."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from agent.dataplane.limits import Limits, Meter, meters_of
from agent.dataplane.ruleset import Chain, Element, Elements, Ruleset, changed
from agent.dataplane.skeleton import SKELETON, TABLE

CHAINS = "chains"
"""The chains that come and go, where elements are told by set."""
METERS = "meters"
"""The sets that come and go with them."""


@dataclass(frozen=True, slots=True)
class Command:
    """Elements that a set gets or loses, and which farm (None: none, or unknown) they are of.

    What the set `chains` gets or loses is a chain, with its rules as the value; the set `meters`, a set, with its
    declaration.
    """

    verb: Literal["add", "delete"]
    set_name: str
    elements: Mapping[str, Element]
    farm: str | None

    @property
    def text(self) -> str:
        """One line for nft."""
        if self.structural:
            kind = "chain" if self.set_name == CHAINS else "set"
            return "; ".join(_made(self.verb, kind, name, what) for name, (what, _comment) in self.elements.items())
        if self.verb == "add":
            words = ", ".join(_element(key, element) for key, element in self.elements.items())
        else:
            words = ", ".join(self.elements)
        return f"{self.verb} element {TABLE} {self.set_name} {{ {words} }}"

    @property
    def structural(self) -> bool:
        """Whether it is about chains or sets and not about elements."""
        return self.set_name in (CHAINS, METERS)


def script(ruleset: Ruleset) -> str:
    """A script for `nft -f`: the kernel then holds this ruleset, whatever `table inet sluice` held before."""
    lines = ["# What Sluice has the kernel hold. Load it with: nft -f FILE", SKELETON]
    lines.extend(command.text for command in _come(ruleset.chains, meters_of(ruleset.chains)))
    for farm, elements in ruleset.pieces():
        lines.append(f"# farm {farm}" if farm else "# all farms")
        lines.extend(command.text for command in _adds(farm, elements))
    return "\n".join(lines) + "\n"


def fresh(ruleset: Ruleset) -> list[Command]:
    """The commands that fill an empty table."""
    elements = (command for farm, elements in ruleset.pieces() for command in _adds(farm, elements))
    return [*_come(ruleset.chains, meters_of(ruleset.chains)), *elements]


def delta(old: Ruleset, new: Ruleset) -> list[Command]:
    """The commands that lead from one ruleset to another. Parts that both share cost nothing."""
    deletions: list[Command] = []
    additions: list[Command] = []
    pieces: list[tuple[str | None, Elements, Elements]] = [(None, old.common, new.common)]
    for side, before, after in changed(old, new):
        pieces.append((side.farm, before.elements if before else {}, after.elements if after else {}))
    for farm, before_elements, after_elements in pieces:
        fewer, more = _difference(before_elements, after_elements)
        deletions.extend(_deletes(farm, fewer))
        additions.extend(_adds(farm, more))
    # All deletions first: an address and port may move from one farm to another. No chain goes while it is referred to.
    before_meters, after_meters = meters_of(old.chains), meters_of(new.chains)
    come = _come(new.chains - old.chains, after_meters - before_meters)
    gone = _go((chain.name for chain in old.chains - new.chains), before_meters - after_meters)
    return [*come, *deletions, *additions, *gone]


def delta_from(held: Elements, new: Ruleset) -> list[Command]:
    """The commands that lead from elements that were found in the kernel to a ruleset.

    What `held` has as the set `chains` are the chains that come and go.
    """
    chains = {chain.name: chain for chain in new.chains}
    found = held.get(CHAINS, {})
    before_meters, after_meters = meters_of(map(Limits.named, found)), meters_of(new.chains)
    come_first = _come([chain for name, chain in chains.items() if name not in found], after_meters - before_meters)
    gone_last = _go(found.keys() - chains.keys(), before_meters - after_meters)
    additions: list[Command] = []
    left = {set_name: dict(elements) for set_name, elements in held.items() if set_name != CHAINS}
    gone: dict[str, dict[str, Element]] = {}
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
        gone.setdefault(set_name, {}).update(elements)
    return [*come_first, *_deletes(None, gone), *additions, *gone_last]


def text(commands: Iterable[Command]) -> str:
    """The commands as one transaction; line n is the n-th command."""
    return "\n".join(command.text for command in commands)


def _name(chain: Chain) -> str:
    return chain.name


def _come(chains: Iterable[Chain], meters: Iterable[Meter]) -> list[Command]:
    sets = [Command("add", METERS, {each.name: (each.declaration, "")}, None) for each in sorted(meters)]
    return sets + [
        Command("add", CHAINS, {each.name: ("; ".join(each.rules), "")}, None) for each in sorted(chains, key=_name)
    ]


def _go(chains: Iterable[str], meters: Iterable[Meter]) -> list[Command]:
    gone = [Command("delete", CHAINS, {name: ("", "")}, None) for name in sorted(chains)]
    return gone + [Command("delete", METERS, {each.name: ("", "")}, None) for each in sorted(meters)]


def _made(verb: str, kind: str, name: str, what: str) -> str:
    # One line: a chain with its rules is there whole, or not at all.
    return f"table {TABLE} {{ {kind} {name} {{ {what}; }}; }}" if verb == "add" else f"delete {kind} {TABLE} {name}"


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


def _element(key: str, element: Element) -> str:
    value, comment = element
    # Names are checked by the model; a quote or a backslash could not be written in nft's notation at all.
    note = ' comment "' + "".join(c for c in comment if c.isprintable() and c not in '"\\') + '"' if comment else ""
    return f"{key}{note} : {value}" if value else f"{key}{note}"
