# SPDX-License-Identifier: GPL-2.0-or-later
"""One of each chain, set and map that comes on demand, in each of its forms: with them the skeleton's version changes.

What the kernel holds is known again by name. So a rule that is written in another way must not be met under its name.
"""

from collections.abc import Iterator

from agent.dataplane import ingress
from agent.dataplane.limits import COUNTERS, LINES, Away, Limits, Log, Meter, ResetGate, Resets, meters_of
from agent.dataplane.persistence import OwnMap, Persistence, at_ingress, own_maps
from agent.dataplane.pool import HashPicker
from agent.dataplane.quality import GRADE, QUALITY, Marking
from agent.dataplane.ruleset import Chain, body_of
from agent.dataplane.screening import STAGES, NetworkSet, Sieve
from agent.dataplane.sources import MASQUERADE, POOLS, SourcePool


def samples() -> Iterator[Chain]:
    """One of each chain; the others of ingress are in its own version."""
    yield from (QUALITY, GRADE, MASQUERADE, POOLS, *STAGES, ResetGate(), Marking(8))
    yield from (Away(reason, reject) for reason in COUNTERS for reject in (False, True))
    yield from (Log(line, 10, "log") for line in LINES)
    for family in ingress.FAMILIES:
        for port in (False, True):
            yield HashPicker(family, 509, 24, port)
            for forwarded in (False, True):
                given = Persistence(family, 24, port, 60, static=True, ingress=forwarded)
                own = Persistence(family, 24, port, 60, static=False, size=1000, mark=1, ingress=forwarded)
                yield from map(at_ingress, (given, own)) if forwarded else (given, own)
        for log in (False, True):
            yield Resets(family, 24, 10, log)
            yield from (Limits(family, 24, 10, 20, 30, reject, strict=True, log=log) for reject in (False, True))
        yield Sieve(family, ("one",), ("two",))
        yield NetworkSet("one", family)
        yield from (SourcePool(family, addresses) for addresses in (("one",), ("one", "two")))


def version() -> str:
    """What changes with any of them."""
    chains = list(samples())
    declared: list[Meter | OwnMap] = [*meters_of(chains), *own_maps(chains)]
    # Both tables have chains of the same name.
    said = [(each.name, body_of(each)) for each in chains] + [(each.name, each.declaration) for each in declared]
    return f"{sorted(said)}{ingress.version()}"
