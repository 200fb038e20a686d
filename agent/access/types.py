# SPDX-License-Identifier: GPL-2.0-or-later
"""What access answers with."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

ADMIN = "admin"
"""The one user."""


@dataclass(frozen=True)
class Identity:
    """Who a request comes from."""

    name: str
    """The user's or the API token's name."""
    kind: Literal["session", "token"]

    @property
    def author(self) -> str:
        """How snapshots and the audit log call it: `admin`, `token NAME`."""
        return self.name if self.kind == "session" else f"token {self.name}"


@dataclass(frozen=True)
class NewSession:
    """A session that has begun. `token` is told once and stored nowhere."""

    token: str
    user: str
    expires: datetime
    """It ends then (UTC) at the latest, and 12 hours after its last use."""
