# SPDX-License-Identifier: GPL-2.0-or-later
"""Source hash: the same client to the same backend."""

from agent.model import Backend, Farm


class SourceHash:
    """Each backend weighs what the document says; who gets whom is the data plane's."""

    name = "source-hash"
    alone = False

    def weight(self, farm: Farm, backend: Backend) -> int:  # noqa: ARG002 the interface of every scheduler
        """The configured weight."""
        return backend.weight
