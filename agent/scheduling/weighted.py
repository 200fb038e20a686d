# SPDX-License-Identifier: GPL-2.0-or-later
"""Weighted round robin: in turn, each as often as its weight says."""

from agent.model import Backend, Farm


class Weighted:
    """Each backend weighs what the document says."""

    name = "weighted"
    alone = False

    def weight(self, farm: Farm, backend: Backend) -> int:  # noqa: ARG002 the interface of every scheduler
        """The configured weight."""
        return backend.weight
