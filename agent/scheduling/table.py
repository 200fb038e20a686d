# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of schedulers: a scheduler is a file with one class and one row here."""

from typing import Protocol

from agent.model import Backend, Farm
from agent.scheduling.priority import Priority
from agent.scheduling.round_robin import RoundRobin
from agent.scheduling.source_hash import SourceHash
from agent.scheduling.weighted import Weighted


class Scheduler(Protocol):
    """What decides the weight of a backend that takes connections."""

    name: str
    """The word that a farm's `scheduler` names it by."""

    alone: bool
    """Whether only the first backend that can, by tier and name, takes connections."""

    def weight(self, farm: Farm, backend: Backend) -> int:
        """The weight of `backend` of `farm`, at least 1; asked for backends only that take connections."""


SCHEDULERS: dict[str, Scheduler] = {
    scheduler.name: scheduler for scheduler in (RoundRobin(), SourceHash(), Weighted(), Priority())
}
"""Every scheduler by the name that documents use."""
