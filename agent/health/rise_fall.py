# SPDX-License-Identifier: GPL-2.0-or-later
"""Rise and fall: how many tries in a row change a verdict. A pure state machine, no clock."""

from dataclasses import dataclass

from agent.model.state import Health


@dataclass
class RiseFall:
    """From results of tries to a health.

    unknown -> healthy at the first success: the backend answers, and nothing speaks against it.
    unknown -> unhealthy after `fall` failures in a row: until then it takes connections.
    healthy -> unhealthy after `fall` failures in a row.
    unhealthy -> healthy after `rise` successes in a row.
    """

    rise: int
    fall: int
    health: Health = "unknown"
    run: int = 0
    """Results in a row that speak against the present health."""

    @property
    def turning(self) -> bool:
        """Whether the last result speaks against the present health, and did not change it yet."""
        return self.run > 0

    def result(self, *, ok: bool) -> bool:
        """Take the result of a try. Says whether the health changed."""
        if ok == (self.health == "healthy") and self.health != "unknown":
            self.run = 0
            return False
        if ok and self.health == "unknown":
            self.health, self.run = "healthy", 0
            return True
        self.run += 1
        if self.run < (self.rise if ok else self.fall):
            return False
        self.health, self.run = ("healthy" if ok else "unhealthy"), 0
        return True
