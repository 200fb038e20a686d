# SPDX-License-Identifier: GPL-2.0-or-later
"""Round robin: every backend in turn."""

from agent.model import Backend, Farm


class RoundRobin:
    """Each backend weighs 1, whatever its configured weight."""

    name = "round-robin"
    alone = False

    def weight(self, farm: Farm, backend: Backend) -> int:  # noqa: ARG002 the interface of every scheduler
        """Always 1."""
        return 1
