# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel is to hold, as values: immutable, comparable, and free of I/O."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Assignment:
    """Which numbers farms and backends have. Opaque to others: take it from a Ruleset or Kernel.adopt, hand it on."""


@dataclass(frozen=True)
class Ruleset:
    """The whole contents of `table inet sluice` for one document and its effective weights."""

    assignment: Assignment

    def exact_turn(self, farm: str) -> bool:
        """Whether the backends of `farm` get connections in exact turn, undisturbed by other farms' traffic."""
        raise NotImplementedError

    def share(self, farm: str, backend: str) -> float:
        """The part of new connections, 0..1, that the buckets give to `backend`; 0 for what is not in the ruleset."""
        raise NotImplementedError

    def marks(self) -> Mapping[int, tuple[str, str]]:
        """The connection mark of every backend -> (farm, backend)."""
        raise NotImplementedError
