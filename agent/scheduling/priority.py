# SPDX-License-Identifier: GPL-2.0-or-later
"""Priority: the first backend that can takes everything."""

from agent.model import Backend, Farm


class Priority:
    """One backend takes connections; the others stand by."""

    name = "priority"
    alone = True

    def weight(self, farm: Farm, backend: Backend) -> int:  # noqa: ARG002 the interface of every scheduler
        """Always 1: there is nobody to share with."""
        return 1
