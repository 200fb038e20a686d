# SPDX-License-Identifier: GPL-2.0-or-later
"""Effective weights of a farm's backends, and the farm's status that follows from them."""

from collections.abc import Mapping

from agent.model import Farm
from agent.model.state import FarmStatus, Health
from agent.scheduling.table import SCHEDULERS


def weights(farm: Farm, health: Mapping[str, Health]) -> dict[str, int]:
    """The effective weight of every backend of `farm`, by name; 0 takes no new connections.

    `health` is by backend name; a backend that it does not name is unknown. A backend takes connections when its
    state is enabled and it is not unhealthy: unknown takes them, since no verdict is no reason to refuse clients.
    """
    scheduler = SCHEDULERS[farm.scheduler]
    return {
        name: scheduler.weight(farm, backend)
        if backend.state == "enabled" and health.get(name, "unknown") != "unhealthy"
        else 0
        for name, backend in farm.backends.items()
    }


def status(farm: Farm, effective: Mapping[str, int]) -> FarmStatus:
    """How a farm with these effective weights stands.

    disabled: the farm is not enabled. down: no backend takes connections (or there is none). up: every backend whose
    state is enabled takes them; one that drains is out on purpose and no fault. degraded: some take them, some do not.
    """
    if not farm.enabled:
        return "disabled"
    if not any(effective.values()):
        return "down"
    if all(effective.get(name, 0) > 0 for name, backend in farm.backends.items() if backend.state == "enabled"):
        return "up"
    return "degraded"
