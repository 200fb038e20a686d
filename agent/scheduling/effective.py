# SPDX-License-Identifier: GPL-2.0-or-later
"""What each backend of a farm does, the weight that follows from it, and the farm's status."""

from collections.abc import Collection, Mapping

from agent.model import Backend, Farm
from agent.model.state import FarmStatus, Health, Role
from agent.scheduling.table import SCHEDULERS
from agent.scheduling.times import STEPS


def roles(
    farm: Farm, health: Mapping[str, Health], drained: Collection[str] = (), full: Collection[str] = ()
) -> dict[str, Role]:
    """What every backend of `farm` does, by name.

    `health` is by backend name; a backend that it does not name is unknown. `drained` are the backends whose drain has
    come to its deadline, `full` those with as many connections as they may have. A backend can take connections when
    its state is enabled and it is neither unhealthy nor full: unknown can, since no verdict is no reason to refuse
    clients. Of these, those of the tiers that are open do, the others stand by:
    tiers are opened in their order until at least `minimum_active` backends take connections, in each IP family by
    itself. By a scheduler for one, only the first by tier and name does.
    """
    if not farm.enabled:
        return dict.fromkeys(farm.backends, "disabled")
    found = {
        name: _role(backend, health.get(name, "unknown"), name in drained) for name, backend in farm.backends.items()
    }
    # A limit that the document has no more ends with it, whatever was counted before.
    limited = (name for name in full if name in found and farm.backends[name].max_connections is not None)
    found |= dict.fromkeys((name for name in limited if found[name] == "active"), "full")
    if SCHEDULERS[farm.scheduler].alone or any(backend.tier > 1 for backend in farm.backends.values()):
        able = [name for name, role in found.items() if role == "active"]
        for name in set(able) - _opened(farm, able):
            found[name] = "standby"
    return found


def constant(farm: Farm) -> bool:
    """Whether roles and weights follow from `farm` alone: nothing of it is checked, timed or counted."""
    return (
        not farm.checks
        and farm.slow_start is None
        and farm.drain_timeout is None
        and all(backend.max_connections is None for backend in farm.backends.values())
    )


def _role(backend: Backend, health: Health, drained: bool) -> Role:
    if backend.state == "disabled":
        return "disabled"
    if drained:
        return "drained"
    if health == "unhealthy":
        return "failed"
    return "draining" if backend.state == "drain" else "active"


def _opened(farm: Farm, able: Collection[str]) -> set[str]:
    """Those of the backends that can take connections that do. Each IP family has its own: it is balanced by itself."""
    families = {farm.backends[name].address.version for name in able}
    if len(families) > 1:
        parts = ([name for name in able if farm.backends[name].address.version == family] for family in families)
        return set().union(*(_opened(farm, part) for part in parts))
    if SCHEDULERS[farm.scheduler].alone:
        return set(sorted(able, key=lambda name: (farm.backends[name].tier, name))[:1])
    opened: set[str] = set()
    for tier in sorted({farm.backends[name].tier for name in able}):
        if len(opened) >= farm.minimum_active:
            break
        opened.update(name for name in able if farm.backends[name].tier == tier)
    return opened


def weights(farm: Farm, known: Mapping[str, Role], steps: Mapping[str, int] | None = None) -> dict[str, int]:
    """The effective weight of every backend of `farm` in these roles, by name; 0 takes no new connections.

    `steps` names those that start slowly. While there are any, all weights are STEPS times as much.
    """
    scheduler = SCHEDULERS[farm.scheduler]
    found = {
        name: scheduler.weight(farm, backend) if known[name] == "active" else 0
        for name, backend in farm.backends.items()
    }
    return {name: weight * steps.get(name, STEPS) for name, weight in found.items()} if steps else found


def status(farm: Farm, known: Mapping[str, Role]) -> FarmStatus:
    """How a farm whose backends have these roles stands.

    disabled: the farm is not enabled. down: no backend takes connections (or there is none). degraded: some take
    them, but one whose state is enabled has failed or is full, or one of a tier does that would stand by if all could.
    up: none of that; one that drains or is disabled is out on purpose and no fault.
    """
    if not farm.enabled:
        return "disabled"
    if "active" not in known.values():
        return "down"
    if any(known[name] in ("failed", "full") and backend.state == "enabled" for name, backend in farm.backends.items()):
        return "degraded"
    last: dict[int, int] = {}
    for name in _opened(farm, farm.backends):
        backend = farm.backends[name]
        last[backend.address.version] = max(backend.tier, last.get(backend.address.version, 1))
    backup = any(
        known[name] == "active" and backend.tier > last[backend.address.version]
        for name, backend in farm.backends.items()
    )
    return "degraded" if backup else "up"
