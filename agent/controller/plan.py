# SPDX-License-Identifier: GPL-2.0-or-later
"""From the document, the checks and the clock to what the kernel is to hold; and back, where it does not take it."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from time import monotonic

from agent.controller.observe import Full, all_health, full_of
from agent.dataplane import Assignment, Kernel, KernelRefused, Offered, Ruleset, compile_ruleset, reweigh
from agent.health import Checker
from agent.model import MAX_BYTES, Configuration, Farm, Fault, pointer
from agent.model.state import Health, Role
from agent.scheduling import Times, constant, roles, weights
from agent.system.links import SystemLink, near, own_addresses, placed_addresses

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What the kernel is to hold and since when what is, as they were at `moment` by the monotonic clock."""

    ruleset: Ruleset
    times: Times
    moment: float

    def due(self, config: Configuration) -> float | None:
        """Seconds from now until the clock alone asks for another plan; negative: it does already; None: never.

        Counted from `moment`, so that what came due since then is not missed.
        """
        wait = self.times.wait(config, self.moment)
        return None if wait is None else self.moment + wait - monotonic()


def adopted(kernel: Kernel) -> Assignment | None:
    """What the kernel holds from an earlier run, to go on with it; None: nothing that can be used. Blocks."""
    try:
        return kernel.adopt()
    except (KernelRefused, OSError) as error:
        _log.warning("what the kernel holds cannot be adopted: %s", error)
        return None


def plan_for(
    config: Configuration,
    checker: Checker,
    times: Times,
    links: Collection[SystemLink],
    previous: Ruleset | Assignment | None,
    *,
    offered: Offered,
    full: Full = frozenset(),
) -> Plan:
    """The plan for a document. `times` are those of the plan before; `previous`, `offered` as in compile_ruleset.

    `full` are the backends with as many connections as they may have, with their farms.
    """
    now, health = monotonic(), all_health(config.farms, checker)
    times = times.after(config.farms, health, now)
    before = previous if isinstance(previous, Ruleset) else None
    effective, known = _decided(config.farms, health, times, now, full, before=before)
    own, placed = own_addresses(links), placed_addresses(links)
    ruleset = compile_ruleset(config, effective, own, previous, known, near=near(links), placed=placed, offered=offered)
    return Plan(ruleset, times, now)


def plan_after(
    ruleset: Ruleset, farms: Mapping[str, Farm], checker: Checker, times: Times, full: Full = frozenset()
) -> Plan:
    """The plan where no more than verdicts on backends of `farms` and who is full changed; what it costs is theirs."""
    now, health = monotonic(), all_health(farms, checker)
    times = times.after_some(farms, health, now)
    effective, known = _decided(farms, health, times, now, full)
    return Plan(reweigh(ruleset, effective, known), times, now)


def kernel_fault(refused: KernelRefused) -> Fault:
    """What the kernel refuses, as a fault of the document."""
    where = ""
    if refused.farm:
        where = pointer("farms", refused.farm, *([refused.field] if refused.field else []))
    elif refused.network_list:
        where = pointer("network_lists", refused.network_list, "networks")
    return Fault(where, f"the kernel refuses it: {refused.message}")


def size_fault(size: int) -> Fault | None:
    """The fault of a document whose canonical form has so many bytes, if it is one: what the API gives it must take."""
    if size <= MAX_BYTES:
        return None
    return Fault("", f"takes {size} bytes with every field; the appliance takes {MAX_BYTES}: use fewer farms")


def _decided(
    farms: Mapping[str, Farm],
    health: Mapping[str, Mapping[str, Health]],
    times: Times,
    now: float,
    full: Full,
    *,
    before: Ruleset | None = None,
) -> tuple[dict[str, Mapping[str, int]], dict[str, Mapping[str, Role]]]:
    """Effective weights and roles of the farms that are enabled; `before` is what they may be taken from."""
    effective: dict[str, Mapping[str, int]] = {}
    known: dict[str, Mapping[str, Role]] = {}
    for name, farm in farms.items():
        held = [part for _, part in before.sides(name)] if before else []
        if len(held) == 1 and held[0].farm is farm and constant(farm):
            effective[name], known[name] = held[0].weights, held[0].roles
        elif farm.enabled:
            known[name] = roles(farm, health.get(name, {}), times.drained(name, farm, now), full_of(name, full))
            effective[name] = weights(farm, known[name], times.steps(name, farm, now))
    return effective, known
