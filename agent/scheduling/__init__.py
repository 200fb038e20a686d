# SPDX-License-Identifier: GPL-2.0-or-later
"""How much each backend of a farm gets: from the farm and what is observed to effective weights. Pure, no I/O."""

from agent.scheduling.effective import constant, roles, status, weights
from agent.scheduling.table import SCHEDULERS, Scheduler
from agent.scheduling.times import STEPS, Times

__all__ = ["SCHEDULERS", "STEPS", "Scheduler", "Times", "constant", "roles", "status", "weights"]
